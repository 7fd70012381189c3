"""Find the events of videos, or of a split of a corpus."""

import argparse
from collections import Counter
from pathlib import Path

from accelerate import Accelerator
from tqdm.auto import tqdm
from transformers import pipeline

from esg_transformers.cli.sources import add_source_arguments, is_given, open_model, open_model_and_split
from esg_transformers.cli.tables import check_folder_of, event_table, write_predictions
from esg_transformers.media.video import probe
from esg_transformers.pipeline import TASK
from esg_transformers.training.inference import localize_dataset
from esg_transformers.visualization import save_timeline_html, save_timeline_png


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("videos", nargs="*", metavar="VIDEO", help="video files")
    parser.add_argument("--model", required=True, metavar="DIR_OR_REPO", help="a trained model")
    parser.add_argument(
        "--threshold", type=float, help="score that an event needs (default: those of `calibrate`, or else 0.3)"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write the events here, in the layout of ActivityNet's results"
    )
    parser.add_argument("--timeline", metavar="FILE", help="draw the events of one video: a .png or an .html")
    add_source_arguments(parser)
    parser.add_argument("--split", default="test", help="the split of the corpus (default: test)")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    if bool(arguments.videos) == is_given(arguments):
        raise ValueError(
            "Give either video files, or a corpus (--corpus, or --annotations, --features, --feature-set)."
        )
    if arguments.timeline and len(arguments.videos) != 1:
        raise ValueError(f"--timeline draws one video; got {len(arguments.videos)}.")
    if arguments.timeline and Path(arguments.timeline).suffix not in (".png", ".html"):
        raise ValueError(f"--timeline writes a .png or an .html; got {arguments.timeline}.")
    stems = Counter(Path(video).stem for video in arguments.videos)
    if repeated := [stem for stem, count in stems.items() if count > 1]:
        raise ValueError(f"Events are told apart by the name of their file; {repeated[0]!r} is given more than once.")
    for path in (arguments.output, arguments.timeline):
        check_folder_of(path)
    video_ids, found = _localize_videos(arguments) if arguments.videos else _localize_split(arguments)
    if arguments.output:
        write_predictions(arguments.output, video_ids, found)
        print(f"Wrote {sum(map(len, found))} events of {len(video_ids)} videos to {arguments.output}.")
    else:
        for video_id, events in zip(video_ids, found, strict=True):
            print(f"{video_id}: {len(events)} events", *([event_table(events)] if events else []), sep="\n")
    if arguments.timeline:
        [video], [events] = arguments.videos, found
        if Path(arguments.timeline).suffix == ".png":
            save_timeline_png(arguments.timeline, events, duration=probe(video).duration, title=Path(video).name)
        else:
            save_timeline_html(arguments.timeline, events, duration=probe(video).duration, video=video)


def _localize_videos(arguments: argparse.Namespace) -> tuple[list[str], list[list[dict]]]:
    model, processor = open_model(arguments.model)
    localizer = pipeline(TASK, model=model, processor=processor)
    with tqdm(arguments.videos, desc="Localizing", unit=" videos", disable=len(arguments.videos) == 1) as videos:
        found = [localizer(video, threshold=arguments.threshold) for video in videos]
    return [Path(video).stem for video in arguments.videos], found


def _localize_split(arguments: argparse.Namespace) -> tuple[list[str], list[list[dict]]]:
    model, processor, dataset = open_model_and_split(arguments)
    accelerator = Accelerator()
    model = model.to(accelerator.device)
    given = arguments.threshold
    threshold = processor.score_thresholds(model.config.id2label) if given is None else given
    localized = localize_dataset(model, processor, dataset, accelerator, threshold=threshold)
    return localized.video_ids, localized.found
