"""`esg-transformers localize`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm.auto import tqdm
from transformers import pipeline
from transformers.utils import logging

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.formats import FORMATS
from esg_transformers.annotations.values import is_safe_video_id
from esg_transformers.cli.devices import device_of, use_device
from esg_transformers.cli.encoders import open_encoder_of_model
from esg_transformers.cli.options import RESULT_FORMATS, SUFFIXES
from esg_transformers.cli.sources import open_model_and_split
from esg_transformers.cli.tables import event_table, write_predictions
from esg_transformers.localization.dataset import localize_dataset
from esg_transformers.localization.files import files_to_localize, localize_files
from esg_transformers.localization.model import open_model
from esg_transformers.localization.pipeline import TASK, AudioVisualEventLocalizationPipeline
from esg_transformers.localization.trace import evidence_of
from esg_transformers.media.audio import waveform_peaks
from esg_transformers.visualization.page import MAX_VIDEO_BYTES, save_timeline_html
from esg_transformers.visualization.timeline import save_timeline_png

logger = logging.get_logger(__name__)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    if arguments.videos:
        _localize_videos(arguments)
    else:
        _localize_split(arguments)


def _localize_videos(arguments: argparse.Namespace) -> None:
    videos = {video.name: video for video in files_to_localize(arguments.videos)}
    if arguments.to and (unsafe := [video.stem for video in videos.values() if not is_safe_video_id(video.stem)]):
        raise ValueError(f"No file can be named after {unsafe[0]!r}: rename it, without / \\ : and control characters.")
    model, processor = open_model(arguments.model)
    spec = processor.feature_spec
    device = device_of(arguments.device)
    encoder = open_encoder_of_model(arguments, spec.encoder, spec.grid, device)
    localizer = pipeline(TASK, model=model, processor=processor, encoder=encoder, device=device)
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
        FORMATS[RESULT_FORMATS[name]].write(Annotations({video.stem: annotated}, tuple(labels)), path)


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
    use_device(arguments.device)
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
