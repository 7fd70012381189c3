"""Annotated videos: what happens when, in seconds; what every reader of annotations shares; UnAV-100's own layout."""

import json
import os
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any, Literal, TypedDict

import numpy as np
from transformers.utils import logging

logger = logging.get_logger(__name__)

DURATION_TOLERANCE = 0.01  # s; durations of the published file have two decimals at most, and no event ends after them
DUPLICATE_TOLERANCE = 1e-3  # s; events of one class this close count once, as in UnAV's evaluator (commit 1609deb)
MAX_FILE_SIZE = 256 * 2**20  # bytes of an annotation file
MAX_EVENTS = 100_000  # of one video: one a second for more than a day


class Example(TypedDict):
    """One video as the model is trained on it: what every data set of this package yields.

    Features are `(T, channels)`, of the same T in both streams and in the precision they are stored with; a stream is
    None when the video has no picture or no sound. `segments` are float64 `(N, 2)` in seconds, `labels` are int64
    `(N,)` class ids; N may be 0.
    """

    video_id: str
    duration: float
    visual_features: np.ndarray | None
    audio_features: np.ndarray | None
    segments: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Event:
    """Something both seen and heard from `start` to `end` (seconds); `score` is None in ground truth."""

    start: float
    end: float
    label: str
    score: float | None = None


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video, its duration in seconds (None if not known), its split, and its events, of which there may be none."""

    video_id: str
    duration: float | None
    split: str
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Annotations:
    """Annotated videos by id, and the class names in the order of their ids.

    Raises:
        ValueError: if a label is given twice, or an event has a label that is not given.
    """

    videos: dict[str, AnnotatedVideo]
    labels: tuple[str, ...]

    def __post_init__(self):
        used = {event.label for video in self.videos.values() for event in video.events}
        if len(set(self.labels)) != len(self.labels) or not used <= set(self.labels):
            unknown = sorted(used - set(self.labels))
            raise ValueError(
                f"`labels` must hold every label once; events have {unknown}, and `labels` is {self.labels}."
            )

    @property
    def label2id(self) -> dict[str, int]:
        """Class ids by name."""
        return {label: index for index, label in enumerate(self.labels)}

    def targets_of(self, video: AnnotatedVideo) -> tuple[np.ndarray, np.ndarray]:
        """Segments, float64 `(N, 2)` in seconds, and class ids, int64 `(N,)`, of a video's events."""
        label2id = self.label2id
        segments = np.array([(event.start, event.end) for event in video.events], dtype=np.float64).reshape(-1, 2)
        return segments, np.array([label2id[event.label] for event in video.events], dtype=np.int64)

    def split(self, name: str) -> "Annotations":
        """The videos of one split, in their order, with all labels.

        Raises:
            ValueError: if no video is in that split; lists the splits there are.
        """
        videos = {video_id: video for video_id, video in self.videos.items() if video.split == name}
        if not videos:
            sizes = Counter(video.split for video in self.videos.values())
            there_are = ", ".join(f"{split!r} ({size} videos)" for split, size in sizes.items()) or "none"
            raise ValueError(f"No video is in split {name!r}. Splits of these annotations: {there_are}.")
        return Annotations(videos, self.labels)

    def durations(self) -> dict[str, float]:
        """Seconds of every video, by id.

        Raises:
            ValueError: if that of a video is not known.
        """
        unknown = [video.video_id for video in self.videos.values() if video.duration is None]
        if unknown:
            raise ValueError(
                f"The duration of {len(unknown)} of {len(self.videos)} videos is not known (the first is "
                f"{unknown[0]!r}): their annotations do not say it. Give `durations` when reading them; "
                "`esg-transformers annotations convert --media DIR` measures those of the videos in a folder."
            )
        return {video_id: float(video.duration) for video_id, video in self.videos.items()}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Problem:
    """Something wrong with annotations or features.

    Args:
        severity: `"error"` for what cannot be used, `"warning"` for what can, though it is hardly meant.
        kind: what it is in a few words, the same for all problems of its kind, such as `"unknown label"`.
        message: what came, what was expected, what to do.
        video_id: the video it is about, if it is about one.
    """

    severity: Literal["error", "warning"]
    kind: str
    message: str
    video_id: str | None = None

    def __str__(self) -> str:
        return self.message if self.video_id is None else f"video {self.video_id!r}: {self.message}"


@dataclass
class _Draft:
    """A video while its file is being read."""

    duration: Any = None
    split: Any = None
    events: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)  # start, end, label, score


class AnnotationReading:
    """What a reader has gathered from a file so far, and everything that is wrong with it.

    A reader tells it of videos and events as it comes to them, in whatever form they are; all checks are here, and
    problems are gathered, so that one error (or one report) names them together.

    Args:
        source: the file or folder, for messages.
        layout: what it should be, for messages, such as `"DESED TSV file"`.
        label2id: class ids `0 ... C - 1` by name, where they are fixed already (by a model, by a larger file). Without
            it the labels are those of the events, sorted.
        durations: seconds of videos by id, where the file does not say them.
        split: the split of videos whose split the file does not say.

    Raises:
        ValueError: if `label2id` is not such a mapping.
    """

    def __init__(
        self,
        source: str | os.PathLike,
        layout: str,
        label2id: Mapping[str, int] | None = None,
        durations: Mapping[str, float] | None = None,
        split: str = "train",
    ):
        if label2id is not None and sorted(label2id.values()) != list(range(len(label2id))):
            raise ValueError(
                f"`label2id` must map C labels to 0 ... C - 1, each id once; got ids {sorted(label2id.values())}."
            )
        self.source = Path(source)
        self.layout = layout
        self.label2id = label2id
        self.durations = durations or {}
        self.default_split = split
        self.problems: list[Problem] = []
        self._drafts: dict[str, _Draft] = {}
        self._suggestions: dict[str, str] = {}

    def add_problem(
        self, kind: str, message: str, video_id: str | None = None, severity: Literal["error", "warning"] = "error"
    ) -> None:
        """Note something that is wrong."""
        self.problems.append(Problem(severity, kind, message, video_id))

    def add_video(self, video_id: Any, duration: Any = None, split: Any = None) -> bool:
        """Note a video, or more about one: seconds and split if they are said here. False if its id cannot be used."""
        if not is_safe_video_id(video_id):
            self.add_problem(
                "unsafe video id",
                "files cannot be named after this id; it must be without / \\ : and control characters",
                repr(video_id) if not isinstance(video_id, str) else video_id,
            )
            return False
        draft = self._drafts.setdefault(video_id, _Draft())
        for name, value in (("duration", duration), ("split", split)):
            known = getattr(draft, name)
            if value is not None and known is not None and value != known:
                kind = "video in two splits" if name == "split" else "bad duration"
                self.add_problem(kind, f"its {name} is {value!r} here and {known!r} before", video_id)
            elif value is not None:
                setattr(draft, name, value)
        return True

    def add_event(self, video_id: Any, start: Any, end: Any, label: Any, score: Any = None) -> None:
        """Note an event, in seconds; a video that was not noted before is noted by it."""
        if video_id in self._drafts or self.add_video(video_id):
            self._drafts[video_id].events.append((start, end, label, score))

    def annotations(self, labels: Sequence[str] | None = None) -> Annotations:
        """All that is sound; what is not is in `problems`, and left out.

        Args:
            labels: class names in the order of their ids, where the file says so.
        """
        if self.label2id is not None:
            labels = sorted(self.label2id, key=self.label2id.__getitem__)
        known = None if labels is None else set(labels)
        videos = {video_id: self._checked_video(video_id, draft, known) for video_id, draft in self._drafts.items()}
        self._drafts = {}
        used = {event.label for video in videos.values() for event in video.events}
        return Annotations(videos, tuple(sorted(used) if labels is None else labels))

    def raise_for_errors(self) -> None:
        """Refuse the file if an error was found in it; warnings are logged.

        Raises:
            ValueError: naming the first errors and how many there are.
        """
        errors = [problem for problem in self.problems if problem.severity == "error"]
        if errors:
            listed = "\n".join(f"- {_shortened(str(problem))}" for problem in errors[:10])
            more = f"\nand {len(errors) - 10} more." if len(errors) > 10 else ""
            raise ValueError(
                f"{self.source} is not a sound {self.layout}. Problems found: {len(errors)}.\n{listed}{more}"
            )
        if self.problems:
            logger.warning(
                f"{self.source}: {len(self.problems)} things to look at; the first: {_shortened(str(self.problems[0]))}"
            )

    def _checked_video(self, video_id: str, draft: _Draft, labels: set[str] | None) -> AnnotatedVideo:
        duration, split = draft.duration, draft.split
        if duration is None:
            duration = self.durations.get(video_id)
        if duration is not None and (not _is_number(duration) or duration <= 0):
            self.add_problem("bad duration", f'"duration" is {duration!r}, not a positive number of seconds', video_id)
            duration = None
        if split is None:
            split = self.default_split
        if not isinstance(split, str) or not re.fullmatch(r"[A-Za-z0-9_]+", split) or split == "all":
            self.add_problem(
                "bad split",
                f'"subset" is {split!r}, not the name of a split: letters, digits and _, and not `all`',
                video_id,
            )
            split = self.default_split
        if len(draft.events) > MAX_EVENTS:
            self.add_problem(
                "too many events", f"it has {len(draft.events):,} events; {MAX_EVENTS:,} are the most", video_id
            )
            draft.events = []
        events: list[Event] = []
        for start, end, label, score in draft.events:
            found = _event_problem(start, end, label, score, duration)
            if found is None and labels is not None and label not in labels:
                found = (
                    "unknown label",
                    f"has a label that is not among the {len(labels)} known{self._nearest(label, labels)}",
                )
            if found is not None:
                kind, what = found
                self.add_problem(kind, f"event {label!r} from {start!r} to {end!r} s {what}", video_id)
                continue
            end = end if duration is None else min(end, duration)
            events.append(Event(float(start), float(end), label, None if score is None else float(score)))
        for event in _duplicates(events):
            self.add_problem(
                "duplicate event",
                f"event {event.label!r} from {event.start:g} to {event.end:g} s is there twice",
                video_id,
                "warning",
            )
        return AnnotatedVideo(video_id, None if duration is None else float(duration), split, tuple(events))

    def _nearest(self, label: str, known: set[str]) -> str:
        """The known labels that a misspelt one may stand for; they are looked for once a label, and for ten labels."""
        if label not in self._suggestions and len(self._suggestions) < 10:
            nearest = get_close_matches(label[:100], known, n=3) or sorted(known)[:3]
            self._suggestions[label] = "; the nearest known labels are " + ", ".join(map(repr, nearest))
        return self._suggestions.get(label, "")


def is_safe_video_id(video_id: object) -> bool:
    r"""Whether files can be named after a video id: a string that stays in its folder on every system.

    >>> [is_safe_video_id(name) for name in ("-YZ5bDlUlug", "site 3.mp4", "../other", "a\\b", "C:x", "..", "", 7)]
    [True, True, False, False, False, False, False, False]
    """
    if not isinstance(video_id, str) or video_id in (".", "..") or len(video_id) > 200:
        return False
    return re.fullmatch(r"[^/\\:\x00-\x1f\x7f\ud800-\udfff]+", video_id) is not None


def is_label(label: object) -> bool:
    r"""Whether something can be the name of a class: text, not blank, without control characters.

    >>> [is_label(label) for label in ("dog barking", "Hund, laut", " ", "a\tb", None)]
    [True, True, False, False, False]
    """
    return isinstance(label, str) and re.fullmatch(r"(?=.*\S)[^\x00-\x1f\x7f\ud800-\udfff]+", label) is not None


def read_annotation_text(path: str | os.PathLike) -> str:
    """The text of an annotation file: UTF-8, with or without a byte order mark.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is larger than `MAX_FILE_SIZE`, or not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No annotation file at {path}.")
    if path.stat().st_size > MAX_FILE_SIZE:
        raise ValueError(
            f"{path} has {path.stat().st_size / 2**20:,.0f} MiB; annotation files of up to {MAX_FILE_SIZE >> 20} MiB "
            "are read. Split it by videos."
        )
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}. Save it as UTF-8."
        ) from error


def read_annotation_json(path: str | os.PathLike) -> tuple[Any, list[str]]:
    """The content of a JSON file, and keys that one of its objects gives twice, of which JSON keeps the last only.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as JSON.
    """
    repeated: list[str] = []

    def without_repeats(pairs):
        result = dict(pairs)
        if len(result) < len(pairs):
            repeated.extend(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        return result

    text = read_annotation_text(path)
    try:
        return json.loads(text, object_pairs_hook=without_repeats), repeated
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}.") from error
    except RecursionError as error:
        raise ValueError(f"{path} is not an annotation file: its JSON is nested too deeply to be read.") from error


def seconds_of(text: str) -> float | str:
    """The number that a text file gives for a time, a score or a duration; the text itself if it is none.

    >>> [seconds_of(text) for text in ("1.25", " 3e-2 ", "0x1", "1_0", "nan", "12,5")]
    [1.25, 0.03, '0x1', '1_0', 'nan', '12,5']
    """
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text.strip(), re.ASCII):
        return float(text)
    return text


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[IO[str]]:
    """A UTF-8 text file to write that takes the place of `path` when it is whole; on an error all stays as it was."""
    path = Path(path)
    partial = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_unav_annotations(
    path: str | os.PathLike, label2id: Mapping[str, int] | None = None, durations: Mapping[str, float] | None = None
) -> Annotations:
    """Read an annotation file in the layout of UnAV-100 (data/unav100_annotations.json, UnAV commit 60144ed).

    `{"database": {ID: {"duration": seconds, "subset": split, "annotations": [EVENT, ...]}}}`, an EVENT being
    `{"segment": [start, end], "label": name, "label_id": class id}`, with a `"score"` if it has one; other keys are
    left. ActivityNet's own files lack `label_id`: without it in any event, labels are in alphabetical order. An end
    that exceeds the duration by 0.01 s or less, a matter of rounding, becomes the duration. Videos without events
    stay, as negatives.

    Args:
        path: the JSON file.
        label2id: class ids `0 ... C - 1` by name, where they are fixed already (by a model, by a larger file). Names
            decide then, though the file's own ids must be consistent. Without it the labels are those of the file, in
            the order of `label_id`.
        durations: seconds of videos by id, for those whose `"duration"` the file does not say.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a file, naming the first problems and how many there are.
    """
    reading = AnnotationReading(path, "UnAV-100 annotation file", label2id, durations)
    annotations = scan_unav_annotations(reading)
    reading.raise_for_errors()
    return annotations


def scan_unav_annotations(reading: AnnotationReading) -> Annotations:
    """As `read_unav_annotations`: what is sound, and in `reading` what is not.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has another layout altogether.
    """
    path = reading.source
    content, repeated = read_annotation_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("database"), dict):
        raise ValueError(
            f'{path} has no "database" of videos, so it is not an annotation file in the layout of UnAV-100: '
            '{"database": {ID: {"duration", "subset", "annotations"}}}.'
        )
    for key in repeated:
        reading.add_problem("repeated video", f"{key!r} is given more than once")
    label_ids: dict[str, int] = {}
    labels_by_id: dict[int, str] = {}
    for video_id, entry in content["database"].items():
        for label, label_id in _scan_unav_video(reading, video_id, entry):
            if label_ids.setdefault(label, label_id) != label_id:
                what = f"{label!r} has label_id {label_id} here and {label_ids[label]} before"
                reading.add_problem("bad label id", what, video_id)
            elif labels_by_id.setdefault(label_id, label) != label:
                what = f"label_id {label_id} is {label!r} here and {labels_by_id[label_id]!r} before"
                reading.add_problem("bad label id", what, video_id)
    labels = sorted(label_ids, key=label_ids.__getitem__)
    annotations = reading.annotations(labels if labels else None)
    if reading.label2id is None and any(label_ids[label] != index for index, label in enumerate(labels)):
        logger.warning(
            f"The label ids of {path} are not 0 ... {len(labels) - 1}: the class id of a label is now the rank of its "
            "label_id. Give `label2id` to read the file against a fixed set of classes."
        )
    return annotations


def _scan_unav_video(reading: AnnotationReading, video_id: str, entry: Any) -> list[tuple[str, int]]:
    """Gather one video; returns its labels with the ids that they are given."""
    entry = entry if isinstance(entry, dict) else {}
    split, annotations = entry.get("subset"), entry.get("annotations")
    if not reading.add_video(video_id, entry.get("duration"), "" if split is None else split):
        return []
    if not isinstance(annotations, list):
        reading.add_problem("bad event", f'"annotations" is {_shortened(repr(annotations))}, not a list', video_id)
        return []
    label_ids = []
    for annotation in annotations:
        segment = annotation.get("segment") if isinstance(annotation, dict) else None
        if not isinstance(segment, list) or len(segment) != 2:
            what = f'event {_shortened(repr(annotation))}: "segment" is not [start, end] in seconds'
            reading.add_problem("bad event", what, video_id)
            continue
        label, label_id = annotation.get("label"), annotation.get("label_id")
        reading.add_event(video_id, segment[0], segment[1], label, annotation.get("score"))
        if isinstance(label_id, int) and not isinstance(label_id, bool) and label_id >= 0:
            if is_label(label):
                label_ids.append((label, label_id))
        elif label_id is not None:
            what = f'"label_id" of {label!r} is {label_id!r}, not an integer >= 0'
            reading.add_problem("bad label id", what, video_id)
    return label_ids


def write_unav_annotations(annotations: Annotations, path: str | os.PathLike) -> None:
    """Write annotations in the layout that `read_unav_annotations` reads; an existing file is replaced in one step.

    Raises:
        ValueError: if the duration of a video is not known, or a number is not finite.
    """
    label2id, durations = annotations.label2id, annotations.durations()
    database = {}
    for video_id, video in annotations.videos.items():
        entries: list[dict[str, Any]] = []
        for event in video.events:
            entry = {"segment": [event.start, event.end], "label": event.label, "label_id": label2id[event.label]}
            entries.append(entry if event.score is None else entry | {"score": event.score})
        database[video_id] = {"duration": durations[video_id], "subset": video.split, "annotations": entries}
    with replacing(path) as file:
        file.write(json.dumps({"version": "unav100", "database": database}, allow_nan=False))


def _event_problem(start: Any, end: Any, label: Any, score: Any, duration: float | None) -> tuple[str, str] | None:
    """What is wrong with an event of a video of `duration` seconds, as kind and message; or None."""
    if not (_is_number(start) and _is_number(end)):
        return "bad event", "is not timed in seconds"
    if not is_label(label):
        return "bad label", "has no class name that can be used: text without control characters"
    if end == start:
        return "event without length", "needs 0 <= start < end; it has no length"
    if start < 0 or end < start:
        return "bad event", "needs 0 <= start < end"
    if duration is not None and (end > duration + DURATION_TOLERANCE or start >= duration):
        return "event outside the video", f"is not within the video, which has {duration} s"
    if not (score is None or _is_number(score)):
        return "bad event", f"has score {score!r}, which is not a number"
    return None


def _duplicates(events: Sequence[Event]) -> list[Event]:
    """True events that repeat an earlier one of their class, both ends within `DUPLICATE_TOLERANCE`."""
    repeats = []
    kept: dict[tuple[str, int, int], Event] = {}  # by class and by the cell, one tolerance wide, of both ends
    for event in events:
        start, end = int(event.start // DUPLICATE_TOLERANCE), int(event.end // DUPLICATE_TOLERANCE)
        near = [kept.get((event.label, start + i, end + j)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        is_repeat = any(
            other is not None
            and abs(other.start - event.start) <= DUPLICATE_TOLERANCE
            and abs(other.end - event.end) <= DUPLICATE_TOLERANCE
            for other in near
        )
        if event.score is None and is_repeat:
            repeats.append(event)
        elif event.score is None:
            kept.setdefault((event.label, start, end), event)
    return repeats


def _is_number(value: Any) -> bool:
    """Whether a time or score is a number, of a size that float64 counts one by one; NaN is below nothing."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53


def _shortened(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]} ..."
