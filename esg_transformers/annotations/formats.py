"""All annotation formats: the table of their readers and writers, and one function each to read and write them."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from esg_transformers.annotations.activitynet import (
    scan_activitynet_results,
    scan_unav_results,
    write_activitynet_results,
    write_unav_results,
)
from esg_transformers.annotations.audacity import scan_audacity, write_audacity
from esg_transformers.annotations.elan import scan_elan, write_elan
from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.label_studio import scan_label_studio, write_label_studio
from esg_transformers.annotations.parsing import read_annotation_json
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.annotations.rttm import scan_rttm, write_rttm
from esg_transformers.annotations.subtitles import write_srt, write_webvtt
from esg_transformers.annotations.tables import scan_csv, scan_desed, write_csv, write_desed
from esg_transformers.annotations.unav import scan_unav_annotations, write_unav_annotations
from esg_transformers.annotations.via import scan_via, write_via

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Format:
    """Reader and writer of an annotation format.

    Args:
        layout: name of its files in messages.
        suffix: suffix of its files; formats with one suffix are distinguished by the content of the file.
        scan: reads a file into an `AnnotationReading` and returns the valid part; None if the format is only written.
        write: writes `Annotations` to a path.
        loses: contents that it cannot hold, of `"scores"`, `"durations"` and `"splits"`.
        in_frames: True if it counts time in frames, so that both functions take a `frame_rate`.
    """

    layout: str
    suffix: str
    scan: Callable[..., Annotations] | None
    write: Callable[..., None]
    loses: tuple[str, ...] = ()
    in_frames: bool = False


_NO_VIDEO, _EVENTS_ONLY = ("durations", "splits"), ("scores", "durations", "splits")

# By name. A new file gets the first format with its suffix.
FORMATS = {
    "unav": Format("UnAV-100 annotation file", ".json", scan_unav_annotations, write_unav_annotations),
    "activitynet-results": Format(
        "ActivityNet result file", ".json", scan_activitynet_results, write_activitynet_results, _NO_VIDEO
    ),
    "unav-results": Format("UnAV result file", ".json", scan_unav_results, write_unav_results, _NO_VIDEO),
    "label-studio": Format(
        "Label Studio file", ".json", scan_label_studio, write_label_studio, _NO_VIDEO, in_frames=True
    ),
    "via": Format("VIA 3 project", ".json", scan_via, write_via, _EVENTS_ONLY),
    "csv": Format("CSV file", ".csv", scan_csv, write_csv),
    "desed": Format("DESED TSV file", ".tsv", scan_desed, write_desed, _EVENTS_ONLY),
    "rttm": Format("RTTM file", ".rttm", scan_rttm, write_rttm, _NO_VIDEO),
    "audacity": Format("set of Audacity labels", ".txt", scan_audacity, write_audacity, _EVENTS_ONLY),
    "elan": Format("set of ELAN documents", ".eaf", scan_elan, write_elan, _EVENTS_ONLY),
    "webvtt": Format("WebVTT file", ".vtt", None, write_webvtt, _NO_VIDEO),
    "srt": Format("SRT file", ".srt", None, write_srt, _NO_VIDEO),
}


def read_annotations(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    label2id: Mapping[str, int] | None = None,
    durations: Mapping[str, float] | None = None,
    split: str = "train",
    frame_rate: float | None = None,
) -> Annotations:
    """Read annotations or found events in any of `FORMATS`; all times are converted to seconds.

    Args:
        path: the file, or a folder of files for a format with one file per video (Audacity, ELAN).
        format: a name in `FORMATS`; by default the result of `format_of`.
        label2id: class ids `0 ... C - 1` by label, if they are fixed by a model or another file; UnAV's results need
            it. By default the labels are those of the file, in the order of their ids, or sorted if it has no ids.
        durations: seconds of videos by id, used if the file states none.
        split: split of the videos for which the file states none.
        frame_rate: frames per second, for a format that counts frames (Label Studio).

    Raises:
        FileNotFoundError: if `path` does not exist.
        ValueError: if the file is invalid; lists the first problems and their number.

    >>> import tempfile
    >>> from esg_transformers.annotations.events import AnnotatedVideo, Event
    >>> video = AnnotatedVideo("site 3", 9.5, "train", (Event(0.5, 2.0, "dog barking"),))
    >>> annotations = Annotations({"site 3": video}, ("dog barking",))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_annotations(annotations, f"{folder}/events.csv")
    ...     read_annotations(f"{folder}/events.csv") == annotations
    True
    """
    reading, annotations = scan_annotations(
        path, format, label2id=label2id, durations=durations, split=split, frame_rate=frame_rate
    )
    reading.raise_for_errors()
    return annotations


def scan_annotations(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    label2id: Mapping[str, int] | None = None,
    durations: Mapping[str, float] | None = None,
    split: str = "train",
    frame_rate: float | None = None,
) -> tuple[AnnotationReading, Annotations]:
    """Reading of a file, with all its problems in `problems`, and the valid part of the annotations.

    See `read_annotations` for the arguments.

    Raises:
        FileNotFoundError: if `path` does not exist.
        ValueError: if the file has another layout.
    """
    name = format_of(path) if format is None else format
    form = _format(name)
    if form.scan is None:
        raise ValueError(f"{path} cannot be read: format {name!r} is only written. {_listed(readable=True)}")
    reading = AnnotationReading(path, form.layout, label2id, durations, split)
    return reading, form.scan(reading, frame_rate) if form.in_frames else form.scan(reading)


def write_annotations(
    annotations: Annotations,
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    frame_rate: float | None = None,
) -> None:
    """Write annotations or found events in any of `FORMATS`; a warning names contents that the format cannot hold.

    Reading the file gives the same times, except for formats that round them: Label Studio to frames, ELAN, WebVTT
    and SRT to milliseconds. It gives the same class ids for `unav` if every class has an event, and for other formats
    if `label2id` is passed when reading.

    Args:
        annotations: videos and events.
        path: the file to write. For a format with one file per video (Audacity, ELAN, WebVTT, SRT) a folder, or a file
            if there is one video and `path` has the suffix. An existing file is replaced in one step.
        format: a name in `FORMATS`; by default the first with the suffix of `path` (`unav` for `.json`).
        frame_rate: frames per second, for a format that counts frames (Label Studio).

    Raises:
        FileNotFoundError: if the parent folder of `path` does not exist.
        ValueError: if the format cannot hold these annotations, or they are invalid, so that no reader would accept
            them.
    """
    name = format_for(path) if format is None else format
    form = _format(name)
    check = AnnotationReading(path, form.layout)
    for video in annotations.videos.values():
        check.add_video(video.video_id, video.duration, video.split)
        for event in video.events:
            check.add_event(video.video_id, event.start, event.end, event.label, event.score)
    check.annotations()
    errors = [problem for problem in check.problems if problem.severity == "error"]
    if errors:
        raise ValueError(
            f"{path} was not written because no reader would accept it: {errors[0]} ({len(errors)} such problems)."
        )
    lost = [content for content in _optional_contents(annotations) if content in form.loses]
    if lost:
        logger.warning(f"{path} has no {' and '.join(lost)}: format {name!r} cannot hold them.")
    if form.in_frames:
        form.write(annotations, path, frame_rate)
    else:
        form.write(annotations, path)


def _optional_contents(annotations: Annotations) -> Iterator[str]:
    """Contents of annotations that some formats cannot hold: scores, durations, splits."""
    videos = annotations.videos.values()
    if any(event.score is not None for video in videos for event in video.events):
        yield "scores"
    if any(video.duration is not None for video in videos):
        yield "durations"
    if any(video.split != "train" for video in videos):  # "train" is the default of readers
        yield "splits"


def format_of(path: str | os.PathLike[str]) -> str:
    """The format of an existing file or folder: by suffix, or by content for a `.json` file or a folder.

    Raises:
        FileNotFoundError: if `path` does not exist.
        ValueError: if the format is not recognized.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No annotations at {path}.")
    if path.is_dir():
        suffixes = {file.suffix.lower() for file in path.iterdir()}
        names = [name for name in ("audacity", "elan") if FORMATS[name].suffix in suffixes]
        if len(names) == 1:
            return names[0]
        found = f"both {' and '.join(names)} files" if names else "neither .txt (audacity) nor .eaf (elan) files"
        raise ValueError(f"{path} is a folder with {found}. Give one file, or the format. {_listed(readable=True)}")
    return _format_of_json(path) if path.suffix.lower() == ".json" else format_for(path)


def _format_of_json(path: Path) -> str:
    content, _ = read_annotation_json(path)
    if isinstance(content, list):
        return "label-studio"
    keys = content if isinstance(content, dict) else {}
    if "database" in keys:
        videos = content["database"]
        is_result = isinstance(videos, dict) and any(isinstance(video, list) for video in videos.values())
        return "unav-results" if is_result else "unav"
    if "results" in keys:
        return "activitynet-results"
    if "metadata" in keys and "file" in keys:
        return "via"
    raise ValueError(
        f"{path} is JSON of an unknown format: neither a list of tasks (label-studio), nor an object with "
        '"database" (unav, unav-results), "results" (activitynet-results), or "metadata" and "file" (via).'
    )


def format_for(path: str | os.PathLike[str]) -> str:
    """The first format with the suffix of `path`; `unav` for `.json`.

    Raises:
        ValueError: if no format has that suffix.
    """
    suffix = Path(path).suffix.lower()
    for name, form in FORMATS.items():
        if form.suffix == suffix:
            return name
    raise ValueError(f"The suffix of {path} belongs to no format. Give the format. {_listed()}")


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise ValueError(f"Unknown format {name!r}. {_listed()}")
    return FORMATS[name]


def _listed(readable: bool = False) -> str:
    names = [name for name, form in FORMATS.items() if form.scan is not None or not readable]
    return f"{'Readable formats' if readable else 'Formats'}: {', '.join(names)}."
