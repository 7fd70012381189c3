"""Annotation formats: one function to read them all, one to write them."""

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
from esg_transformers.annotations.subtitles import write_srt, write_webvtt
from esg_transformers.annotations.tables import scan_csv, scan_desed, scan_rttm, write_csv, write_desed, write_rttm
from esg_transformers.annotations.unav import scan_unav_annotations, write_unav_annotations
from esg_transformers.annotations.via import scan_via, write_via

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Format:
    """A format of annotations.

    Args:
        layout: what its files are called in messages.
        suffix: of its files; formats that share one are told apart by what is in the file.
        scan: gathers a file in an `AnnotationReading`; None if the format is only written.
        write: writes `Annotations` to a path.
        loses: what it cannot hold, of `"scores"`, `"durations"` and `"splits"`.
        in_frames: whether it counts frames, so that both functions take a `frame_rate`.
    """

    layout: str
    suffix: str
    scan: Callable[..., Annotations] | None
    write: Callable[..., None]
    loses: tuple[str, ...] = ()
    in_frames: bool = False


_NO_VIDEO, _EVENTS_ONLY = ("durations", "splits"), ("scores", "durations", "splits")

# A new file gets the first format of its suffix.
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
    path: str | os.PathLike,
    format: str | None = None,
    *,
    label2id: Mapping[str, int] | None = None,
    durations: Mapping[str, float] | None = None,
    split: str = "train",
    frame_rate: float | None = None,
) -> Annotations:
    """Read annotations or found events in any of `FORMATS`; times are in seconds whatever the file counts in.

    Args:
        path: the file, or a folder of them where there is one per video (Audacity, ELAN).
        format: a name in `FORMATS`; by default what `format_of` finds.
        label2id: class ids `0 ... C - 1` by name, where they are fixed already; UnAV's results need it. Without it the
            labels are those of the file, sorted, or in the order of their ids if the file has ids.
        durations: seconds of videos by id, where the file does not say them.
        split: the split of videos whose split the file does not say.
        frame_rate: frames per second of the videos, for a format that counts frames (Label Studio).

    Raises:
        FileNotFoundError: if nothing is at `path`.
        ValueError: if it is not sound, naming the first problems and how many there are.

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
    path: str | os.PathLike,
    format: str | None = None,
    *,
    label2id: Mapping[str, int] | None = None,
    durations: Mapping[str, float] | None = None,
    split: str = "train",
    frame_rate: float | None = None,
) -> tuple[AnnotationReading, Annotations]:
    """As `read_annotations`: what is sound, and a reading whose `problems` are what is not.

    Raises:
        FileNotFoundError: if nothing is at `path`.
        ValueError: if it has another layout altogether.
    """
    name = format_of(path) if format is None else format
    form = _format(name)
    if form.scan is None:
        raise ValueError(f"{path} is to be read as {name}, which is only written. {_listed(readable=True)}")
    reading = AnnotationReading(path, form.layout, label2id, durations, split)
    return reading, form.scan(reading, frame_rate) if form.in_frames else form.scan(reading)


def write_annotations(
    annotations: Annotations, path: str | os.PathLike, format: str | None = None, *, frame_rate: float | None = None
) -> None:
    """Write annotations or found events in any of `FORMATS`; a warning tells what the format cannot hold.

    Times come back as they were, except from formats that round them: Label Studio to frames, ELAN, WebVTT and SRT to
    milliseconds. Class ids come back as they were from `unav`, if every class has an event; from the others where
    `label2id` is known when reading.

    Args:
        annotations: what to write.
        path: the file; where there is one per video (Audacity, ELAN, WebVTT, SRT), a folder of them unless there is one
            video and `path` has their suffix. A file that exists is replaced in one step.
        format: a name in `FORMATS`; by default that of the suffix, `.json` being UnAV's annotations.
        frame_rate: frames per second of the videos, for a format that counts frames (Label Studio).

    Raises:
        FileNotFoundError: if the folder that `path` should be in does not exist.
        ValueError: if the format cannot hold these annotations, or nothing could read them.
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
            f"{path} was not written, as nothing could read it: {errors[0]} ({len(errors)} such problems)."
        )
    lost = [what for what in _contents(annotations) if what in form.loses]
    if lost:
        logger.warning(f"{path} is without {' and '.join(lost)}: {name} has no place for them.")
    if form.in_frames:
        form.write(annotations, path, frame_rate)
    else:
        form.write(annotations, path)


def _contents(annotations: Annotations) -> Iterator[str]:
    """What annotations have besides events, of that which not all formats hold."""
    videos = annotations.videos.values()
    if any(event.score is not None for video in videos for event in video.events):
        yield "scores"
    if any(video.duration is not None for video in videos):
        yield "durations"
    if any(video.split != "train" for video in videos):  # "train" is what readers say where the file does not
        yield "splits"


def format_of(path: str | os.PathLike) -> str:
    """The format of annotations that are there: by the suffix, or by what is in a `.json` file or in a folder.

    Raises:
        FileNotFoundError: if nothing is at `path`.
        ValueError: if it cannot be told.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No annotations at {path}.")
    if path.is_dir():
        suffixes = {file.suffix.lower() for file in path.iterdir()}
        names = [name for name in ("audacity", "elan") if FORMATS[name].suffix in suffixes]
        if len(names) == 1:
            return names[0]
        found = (
            f"both {' and '.join(names)} files" if names else "neither .txt files of Audacity nor .eaf files of ELAN"
        )
        raise ValueError(f"{path} is a folder with {found}. Give one file, or say the format. {_listed(readable=True)}")
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
        f"{path} is JSON of no format known here: neither a list of tasks (label-studio), nor an object with "
        '"database" (unav, unav-results), "results" (activitynet-results), or "metadata" and "file" (via).'
    )


def format_for(path: str | os.PathLike) -> str:
    """The format of a file by its suffix; `.json` is `unav`.

    Raises:
        ValueError: if no format has that suffix.
    """
    suffix = Path(path).suffix.lower()
    for name, form in FORMATS.items():
        if form.suffix == suffix:
            return name
    raise ValueError(f"{path} has no suffix that tells its format. Say the format. {_listed()}")


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise ValueError(f"There is no format {name!r}. {_listed()}")
    return FORMATS[name]


def _listed(readable: bool = False) -> str:
    names = [name for name, form in FORMATS.items() if form.scan is not None or not readable]
    return f"Formats{' that are read' if readable else ''}: {', '.join(names)}."
