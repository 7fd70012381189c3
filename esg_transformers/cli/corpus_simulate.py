"""`esg-transformers corpus simulate`."""

import argparse

from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.simulation.features import simulate_splits


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    num_videos = {split: getattr(arguments, split) for split in ("train", "validation", "test")}
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
