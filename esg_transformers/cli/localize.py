"""Find the events of videos, or of a split of a corpus.

An interrupted run with --output FILE.jsonl goes on when the same command is given again.
"""

import argparse
import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm.auto import tqdm
from transformers import pipeline
from transformers.utils import logging

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.formats import FORMATS
from esg_transformers.annotations.values import is_safe_video_id
from esg_transformers.cli.sources import add_source_arguments, is_given, open_model, open_model_and_split
from esg_transformers.cli.tables import check_folder_of, event_table, write_predictions
from esg_transformers.encoders.hub_encoder import HubEncoder
from esg_transformers.localization.dataset import localize_dataset
from esg_transformers.localization.files import files_to_localize, localize_files
from esg_transformers.localization.pipeline import TASK, AudioVisualEventLocalizationPipeline
from esg_transformers.localization.trace import evidence_of
from esg_transformers.media.audio import waveform_peaks
from esg_transformers.visualization.page import MAX_VIDEO_BYTES, save_timeline_html
from esg_transformers.visualization.timeline import save_timeline_png

logger = logging.get_logger(__name__)

# What --to can name, and the suffix of its files.
FORMAT_NAMES = {"json": "activitynet-results", "csv": "csv", "vtt": "webvtt", "srt": "srt", "audacity": "audacity"}
SUFFIXES = {name: FORMATS[format].suffix for name, format in FORMAT_NAMES.items()} | {"html": ".html", "png": ".png"}
VIDEO_OPTIONS = (
    "visual_model",
    "audio_model",
    "top_k",
    "merge_gap",
    "min_duration",
    "to",
    "output_dir",
    "lanes",
    "num_workers",
)
LANES = ("semantic", "router")  # fields of `Evidence`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "videos", nargs="*", metavar="VIDEO_OR_FOLDER", help="video and sound files, and folders of them"
    )
    parser.add_argument("--model", required=True, metavar="DIR_OR_REPO", help="a trained model")
    parser.add_argument(
        "--threshold", type=float, help="score that an event needs (default: those of `calibrate`, or else 0.3)"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write the events of all videos here: a .json in the layout of ActivityNet's results, or a .jsonl of one "
        "line a video, which an interrupted run goes on with",
    )
    group = parser.add_argument_group("videos")
    for stream, kind in (("visual", "image or video"), ("audio", "audio")):
        group.add_argument(
            f"--{stream}-model",
            metavar="DIR_OR_REPO",
            help=f"the {kind} model of transformers that the corpus was encoded with (`corpus build --encoder hub`)",
        )
    group.add_argument("--top-k", type=int, metavar="K", help="the most events of one video (default: all)")
    group.add_argument(
        "--merge-gap",
        type=seconds_of_classes,
        metavar="SECONDS",
        help="make one event of two of a class with no more than this between them; "
        "for some classes: 'alarm=0.5,door slamming=1'",
    )
    group.add_argument(
        "--min-duration",
        type=seconds_of_classes,
        metavar="SECONDS",
        help="leave out events that are shorter; for some classes as --merge-gap",
    )
    group.add_argument(
        "--to",
        type=partial(_names, known=SUFFIXES),
        default=[],
        metavar="FORMAT,...",
        help=f"write a file for each video in each of these formats: {', '.join(SUFFIXES)}; what is there is replaced",
    )
    group.add_argument(
        "--output-dir", metavar="DIR", help="where --to writes; made if missing (default: the present folder)"
    )
    group.add_argument(
        "--lanes",
        type=partial(_names, known=LANES),
        default=[],
        metavar="LANE,...",
        help=f"show in the html what the model made of every step: {', '.join(LANES)}",
    )
    group.add_argument(
        "--num-workers", type=int, default=0, metavar="N", help="processes to localize in (default: 0, in this one)"
    )
    add_source_arguments(parser)
    parser.add_argument("--split", default="test", help="the split of the corpus (default: test)")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    if bool(arguments.videos) == is_given(arguments):
        raise ValueError(
            "Give either video files, or a corpus (--corpus, or --annotations, --features, --feature-set)."
        )
    check_folder_of(arguments.output)
    if arguments.output and Path(arguments.output).suffix not in (".json", ".jsonl"):
        raise ValueError(f"--output writes a .json or a .jsonl; got {arguments.output}.")
    if arguments.videos:
        _localize_videos(arguments)
        return
    given = [f"--{name.replace('_', '-')}" for name in VIDEO_OPTIONS if vars(arguments)[name]]
    if arguments.output and arguments.output.endswith(".jsonl"):
        given.append("--output FILE.jsonl")
    if given:
        raise ValueError(f"For video files, not for a corpus: {', '.join(given)}.")
    _localize_split(arguments)


def seconds_of_classes(text: str) -> float | dict[str, float]:
    """Seconds for all classes, or for each of some; the names of classes may hold spaces and commas.

    >>> seconds_of_classes("0.5")
    0.5
    >>> seconds_of_classes("alarm=0.5,bell ringing, church=1")
    {'alarm': 0.5, 'bell ringing, church': 1.0}
    """
    try:
        if "=" not in text:
            return float(text)
        parts = re.split(r"(=[^=,]*)(?:,|$)", text)  # name, "=seconds", name, "=seconds", ..., ""
        if parts.pop() or "" in parts[::2]:
            raise ValueError("a class without seconds, or seconds without a class")
        return {name.strip(): float(seconds[1:]) for name, seconds in zip(parts[::2], parts[1::2], strict=True)}
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of seconds nor such a list as 'alarm=0.5,door slamming=1'"
        ) from error


def _names(text: str, known: Any) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
    return names


def _localize_videos(arguments: argparse.Namespace) -> None:
    if (arguments.lanes and "html" not in arguments.to) or (arguments.output_dir and not arguments.to):
        raise ValueError("--lanes goes with --to html, and --output-dir with --to.")
    videos = {video.name: video for video in files_to_localize(arguments.videos)}
    if arguments.to and (unsafe := [video.stem for video in videos.values() if not is_safe_video_id(video.stem)]):
        raise ValueError(f"No file can be named after {unsafe[0]!r}: rename it, without / \\ : and control characters.")
    model, processor = open_model(arguments.model)
    encoder = None
    if arguments.visual_model or arguments.audio_model:
        encoder = HubEncoder(arguments.visual_model, arguments.audio_model, processor.feature_grid)
    localizer = pipeline(TASK, model=model, processor=processor, encoder=encoder)
    folder = Path(arguments.output_dir or ".")
    if arguments.to:
        folder.mkdir(parents=True, exist_ok=True)
    lines = arguments.output if arguments.output and Path(arguments.output).suffix == ".jsonl" else None

    def write_files(result: dict[str, Any], overwrite: bool) -> None:
        for name in arguments.to:
            path = folder / (Path(result["video"]).stem + SUFFIXES[name])
            if overwrite or not path.exists():
                _write_file(name, path, videos[result["video"]], result, localizer, arguments.lanes)

    def show(result: dict[str, Any]) -> None:
        if "error" in result:
            return
        write_files(result, overwrite=True)
        if not arguments.to and not arguments.output:
            tqdm.write("\n".join(_table(Path(result["video"]).stem, result["events"])))

    try:
        results = localize_files(
            model.name_or_path,
            arguments.videos,
            lines,
            encoder=encoder,
            num_workers=arguments.num_workers,
            on_result=show,
            threshold=arguments.threshold,
            top_k=arguments.top_k,
            merge_gap=arguments.merge_gap,
            min_duration=arguments.min_duration,
        )
    except KeyboardInterrupt:
        if lines:
            print(f"What is done is in {lines}; give the same command again to go on.", file=sys.stderr)
        raise
    found = [result for result in results if "error" not in result]
    for result in found:
        write_files(result, overwrite=False)  # those of videos that an earlier run localized
    if arguments.output and found and not lines:
        stems = [Path(result["video"]).stem for result in found]
        write_predictions(arguments.output, stems, [result["events"] for result in found])
    counted = f"{sum(len(result['events']) for result in found)} events of {len(found)} videos"
    if arguments.output and (found or lines):
        print(f"Wrote {counted} to {arguments.output}.")
    if arguments.to and found:
        print(f"Wrote {counted} to {folder}: {', '.join(arguments.to)}.")
    _refuse_failed(results)


def _refuse_failed(results: list[dict[str, Any]]) -> None:
    """End the command with an error that lists the videos that failed, if there are any."""
    if failed := [result for result in results if "error" in result]:
        if len(results) == 1:
            raise ValueError(failed[0]["error"])
        listed = "\n".join(f"- {result['video']}: {result['error']}" for result in failed)
        raise ValueError(f"{len(failed)} of {len(results)} videos could not be localized.\n{listed}")


def _table(video_id: str, events: list[dict[str, Any]]) -> list[str]:
    return [f"{video_id}: {len(events)} events", *([event_table(events)] if events else [])]


def _write_file(
    name: str,
    path: Path,
    video: Path,
    result: dict[str, Any],
    localizer: AudioVisualEventLocalizationPipeline,
    lanes: list[str],
) -> None:
    """Write the result of a video in one of the formats of --to, in one step."""
    if name == "html":
        _write_page(path, video, result, localizer, lanes)
    elif name == "png":
        save_timeline_png(path, result["events"], duration=result["duration"], title=video.name)
    else:
        events = tuple(Event(**event) for event in sorted(result["events"], key=lambda event: event["start"]))
        annotated = AnnotatedVideo(video.stem, result["duration"], "test", events)
        labels = dict.fromkeys(event.label for event in events)
        FORMATS[FORMAT_NAMES[name]].write(Annotations({video.stem: annotated}, tuple(labels)), path)


def _write_page(
    path: Path,
    video: Path,
    result: dict[str, Any],
    localizer: AudioVisualEventLocalizationPipeline,
    lanes: list[str],
) -> None:
    size = video.stat().st_size
    if size > MAX_VIDEO_BYTES:
        logger.warning(
            f"{path} is without the video: it has {size >> 20} MiB, and a page {MAX_VIDEO_BYTES >> 20} at most."
        )
    evidence = None
    if lanes:
        evidence = evidence_of(localizer, video)
        evidence = replace(
            evidence,
            semantic=evidence.semantic if "semantic" in lanes else None,
            router=evidence.router if "router" in lanes else None,
        )
    save_timeline_html(
        path,
        result["events"],
        duration=result["duration"],
        video=video if size <= MAX_VIDEO_BYTES else None,
        title=video.name,
        waveform=waveform_peaks(video) if "audio" in result["streams"] else None,
        evidence=evidence,
    )


def _localize_split(arguments: argparse.Namespace) -> None:
    model, processor, dataset = open_model_and_split(arguments)
    accelerator = Accelerator()
    model = model.to(accelerator.device)
    given = arguments.threshold
    threshold = processor.score_thresholds(model.config.id2label) if given is None else given
    localized = localize_dataset(model, processor, dataset, accelerator, threshold=threshold)
    if arguments.output:
        write_predictions(arguments.output, localized.video_ids, localized.found)
        num_events = sum(map(len, localized.found))
        print(f"Wrote {num_events} events of {len(localized.video_ids)} videos to {arguments.output}.")
    else:
        for video_id, events in zip(localized.video_ids, localized.found, strict=True):
            print(*_table(video_id, events), sep="\n")
