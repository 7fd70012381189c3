"""`esg-transformers localize`."""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm.auto import tqdm
from transformers.utils import logging

from esg_transformers.annotations.formats import FORMATS
from esg_transformers.annotations.values import is_safe_video_id
from esg_transformers.cli.devices import device_of, use_device
from esg_transformers.cli.encoders import open_encoder_of_model
from esg_transformers.cli.options import RESULT_FORMATS, SUFFIXES
from esg_transformers.cli.sources import open_model_and_split
from esg_transformers.cli.tables import event_table
from esg_transformers.localization.dataset import localize_dataset
from esg_transformers.localization.files import files_to_localize, localize_files
from esg_transformers.localization.model import open_model
from esg_transformers.localization.pipeline import AudioVisualEventLocalizationPipeline, open_localizer
from esg_transformers.localization.results import annotations_of_results, write_predictions
from esg_transformers.localization.trace import Trace
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
        raise ValueError(f"No file can be named after {unsafe[0]!r}. Rename it, without / \\ : and control characters.")
    localizer = _open_localizer(arguments)
    files = _FilesOfVideos(Path(arguments.output_dir or "."), arguments.to, arguments.lanes, videos, localizer)
    if arguments.to:
        files.folder.mkdir(parents=True, exist_ok=True)
    lines = arguments.output if arguments.output and Path(arguments.output).suffix == ".jsonl" else None

    def show(result: dict[str, Any]) -> None:
        if "error" in result:
            return
        files.write(result, overwrite=True)
        if not arguments.to and not arguments.output:
            tqdm.write("\n".join(_table(Path(result["video"]).stem, result["events"])))

    try:
        results = localize_files(
            localizer,
            arguments.videos,
            lines,
            num_workers=arguments.num_workers,
            on_result=show,
            details=files.details,
            threshold=arguments.threshold,
            top_k=arguments.top_k,
            merge_gap=arguments.merge_gap,
            min_duration=arguments.min_duration,
        )
    except KeyboardInterrupt:
        if lines:
            print(f"Finished results are in {lines}; run the same command again to continue.", file=sys.stderr)
        raise
    found = [result for result in results if "error" not in result]
    for result in found:
        files.write(result, overwrite=False)  # files of videos that an earlier run localized
    if arguments.output and found and not lines:
        stems = [Path(result["video"]).stem for result in found]
        write_predictions(arguments.output, stems, [result["events"] for result in found])
    counted = f"{sum(len(result['events']) for result in found)} events of {len(found)} videos"
    if arguments.output and (found or lines):
        print(f"Wrote {counted} to {arguments.output}.")
    if arguments.to and found:
        print(f"Wrote {counted} to {files.folder}: {', '.join(arguments.to)}.")
    _refuse_failed(results)


def _open_localizer(arguments: argparse.Namespace) -> AudioVisualEventLocalizationPipeline:
    model, processor = open_model(arguments.model)
    spec = processor.feature_spec
    device = device_of(arguments.device)
    encoder = open_encoder_of_model(arguments, spec.encoder, spec.grid, device)
    return open_localizer(model, processor, encoder, device)


def _refuse_failed(results: list[dict[str, Any]]) -> None:
    """Raise an error that lists the videos that failed, if there are any."""
    if failed := [result for result in results if "error" in result]:
        if len(results) == 1:
            raise ValueError(failed[0]["error"])
        listed = "\n".join(f"- {result['video']}: {result['error']}" for result in failed)
        raise ValueError(f"{len(failed)} of {len(results)} videos could not be localized.\n{listed}")


def _table(video_id: str, events: list[dict[str, Any]]) -> list[str]:
    return [f"{video_id}: {len(events)} events", *([event_table(events)] if events else [])]


@dataclass(frozen=True)
class _FilesOfVideos:
    """Files that `--to` asks for, one for each video and format.

    Args:
        folder: existing folder to write to.
        formats: keys of `SUFFIXES`.
        lanes: fields of `Trace` that a page shows.
        videos: paths by file name.
        localizer: for the details of videos whose results come from an earlier run.
    """

    folder: Path
    formats: list[str]
    lanes: list[str]
    videos: dict[str, Path]
    localizer: AudioVisualEventLocalizationPipeline

    @property
    def details(self) -> list[str]:
        """Details that pages show besides the events, for `localize_files`."""
        if "html" not in self.formats:
            return []
        return ["trace", "waveform"] if self.lanes else ["waveform"]

    def write(self, result: dict[str, Any], overwrite: bool) -> None:
        """Write the files of one video; without `overwrite`, only those that do not exist."""
        video = self.videos[result["video"]]
        for name in self.formats:
            path = self.folder / (video.stem + SUFFIXES[name])
            if not overwrite and path.exists():
                continue
            if name == "html" and not result.keys() >= set(self.details):
                wanted = {f"with_{detail}": True for detail in self.details}
                again = self.localizer.localize(video, **wanted)
                result = result | {detail: getattr(again, detail) for detail in self.details}
            _write_file(name, path, video, result, self.lanes)


def _write_file(name: str, path: Path, video: Path, result: dict[str, Any], lanes: list[str]) -> None:
    """Write the result of a video in one of the formats of --to, whole or not at all."""
    if name == "html":
        _write_page(path, video, result, lanes)
    elif name == "png":
        save_timeline_png(path, result["events"], duration=result["duration"], title=video.name)
    else:
        events = sorted(result["events"], key=lambda event: event["start"])
        FORMATS[RESULT_FORMATS[name]].write(annotations_of_results([video.stem], [events], [result["duration"]]), path)


def _write_page(path: Path, video: Path, result: dict[str, Any], lanes: list[str]) -> None:
    size = video.stat().st_size
    if size > MAX_VIDEO_BYTES:
        logger.warning(
            f"{path} does not contain the video: it has {size >> 20} MiB; a page holds at most "
            f"{MAX_VIDEO_BYTES >> 20} MiB."
        )
    trace: Trace | None = result.get("trace")
    if trace is not None:
        trace = replace(
            trace,
            semantic=trace.semantic if "semantic" in lanes else None,
            router=trace.router if "router" in lanes else None,
        )
    save_timeline_html(
        path,
        result["events"],
        duration=result["duration"],
        video=video if size <= MAX_VIDEO_BYTES else None,
        title=video.name,
        waveform=result["waveform"],
        trace=trace,
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
