"""Write a corpus of simulated features, for first steps and tests."""

import argparse

from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.simulation.features import simulate_splits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--output", required=True, metavar="DIR", help="the corpus folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace a corpus that is there already")
    parser.add_argument("--classes", type=int, default=20, metavar="N", help="classes of events (default: 20)")
    for split, number in (("train", 300), ("validation", 100), ("test", 100)):
        parser.add_argument(
            f"--{split}", type=int, default=number, metavar="N", help=f"videos of this split (default: {number})"
        )
    parser.add_argument(
        "--feature-set",
        choices=sorted(FEATURE_SETS),
        default="i3d-vggish",
        help="whose clock and channels to have (default: i3d-vggish)",
    )
    parser.add_argument("--difficulty", type=float, default=1.0, help="factor on all that misleads (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another world (default: 0)")
    parser.add_argument(
        "--num-workers", type=int, default=0, metavar="N", help="processes that build beside this one (default: 0)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    num_videos = {split: getattr(arguments, split) for split in ("train", "validation", "test")}
    if min(num_videos.values()) < 0 or not any(num_videos.values()):
        raise ValueError(f"Give 0 or more videos for each split, and any for one; got {num_videos}.")
    splits = simulate_splits(
        {split: number for split, number in num_videos.items() if number},
        arguments.classes,
        arguments.seed,
        arguments.difficulty,
        FEATURE_SETS[arguments.feature_set],
    )
    write_corpus(
        arguments.output,
        splits,
        num_workers=arguments.num_workers,
        overwrite=arguments.overwrite,
    )
    print(f"Wrote {sum(num_videos.values())} simulated videos to {arguments.output}.")
