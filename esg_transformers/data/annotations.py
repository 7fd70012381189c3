"""Annotated videos: what happens when, in seconds. Read and written in the layout of UnAV-100's annotation file."""

import json
import math
import os
import re
import uuid
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from transformers.utils import logging

logger = logging.get_logger(__name__)

DURATION_TOLERANCE = 0.01  # s; durations of the published file have two decimals at most, and no event ends after them


class Example(TypedDict):
    """One video as the model is trained on it: what every data set of this package yields.

    Features are `(T, channels)`, of the same T in both streams and in the precision they are stored with; a stream is
    None when the video has no picture or no sound. `segments` are float32 `(N, 2)` in seconds, `labels` are int64
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
    """A video, its duration in seconds, the split it belongs to, and its events, of which there may be none."""

    video_id: str
    duration: float
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
        """Segments, float32 `(N, 2)` in seconds, and class ids, int64 `(N,)`, of a video's events."""
        label2id = self.label2id
        segments = np.array([(event.start, event.end) for event in video.events], dtype=np.float32).reshape(-1, 2)
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


def is_safe_video_id(video_id: object) -> bool:
    r"""Whether files can be named after a video id: a string that stays in its folder on every system.

    >>> [is_safe_video_id(name) for name in ("-YZ5bDlUlug", "site 3.mp4", "../other", "a\\b", "C:x", "..", "", 7)]
    [True, True, False, False, False, False, False, False]
    """
    if not isinstance(video_id, str) or video_id in (".", ".."):
        return False
    return re.fullmatch(r"[^/\\:\x00-\x1f]+", video_id) is not None


def read_unav_annotations(path: str | os.PathLike, label2id: dict[str, int] | None = None) -> Annotations:
    """Read an annotation file in the layout of UnAV-100 (data/unav100_annotations.json, UnAV commit 60144ed).

    `{"database": {ID: {"duration": seconds, "subset": split, "annotations": [EVENT, ...]}}}`, an EVENT being
    `{"segment": [start, end], "label": name, "label_id": class id}`, with a `"score"` if it has one; other keys are
    left. An end that exceeds the duration by 0.01 s or less, a matter of rounding, becomes the duration. Videos
    without events stay, as negatives.

    Args:
        path: the JSON file.
        label2id: class ids `0 ... C - 1` by name, where they are fixed already (by a model, by a larger file). Names
            decide then, though the file's own ids must be consistent. Without it the labels are those of the file, in
            the order of `label_id`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a file, naming the first problems and how many there are.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No annotation file at {path}.")
    if label2id is not None and sorted(label2id.values()) != list(range(len(label2id))):
        raise ValueError(
            f"`label2id` must map C labels to 0 ... C - 1, each id once; got ids {sorted(label2id.values())}."
        )
    problems: list[str] = []
    database = _read_database(path, problems)
    label_of_id: dict[int, str] = {}
    id_of_label: dict[str, int] = {}
    videos = {}
    for video_id, entry in database.items():
        video, found = _read_video(video_id, entry)
        if video is not None:
            videos[video_id] = video
            for annotation in entry["annotations"]:
                label, label_id = annotation["label"], annotation["label_id"]
                if label_of_id.setdefault(label_id, label) != label:
                    found.append(f"label_id {label_id} is {label!r} here and {label_of_id[label_id]!r} before")
                elif id_of_label.setdefault(label, label_id) != label_id:
                    found.append(f"{label!r} has label_id {label_id} here and {id_of_label[label]} before")
        problems += [f"video {video_id!r}: {problem}" for problem in found]
    labels = sorted(id_of_label, key=id_of_label.__getitem__)
    if label2id is not None:
        unknown = [label for label in labels if label not in label2id]
        problems += [
            f"label {label!r} is not among the {len(label2id)} known; {_nearest(label, label2id)}" for label in unknown
        ]
        labels = sorted(label2id, key=label2id.__getitem__)
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems[:10])
        more = f"\nand {len(problems) - 10} more." if len(problems) > 10 else ""
        raise ValueError(
            f"{path} is not a sound UnAV-100 annotation file. Problems found: {len(problems)}.\n{listed}{more}"
        )
    if label2id is None and any(id_of_label[label] != index for index, label in enumerate(labels)):
        logger.warning(
            f"The label ids of {path} are not 0 ... {len(labels) - 1}: the class id of a label is now the rank of its "
            "label_id. Give `label2id` to read the file against a fixed set of classes."
        )
    return Annotations(videos, tuple(labels))


def write_unav_annotations(annotations: Annotations, path: str | os.PathLike) -> None:
    """Write annotations in the layout that `read_unav_annotations` reads; an existing file is replaced in one step."""
    label2id = annotations.label2id
    database = {}
    for video_id, video in annotations.videos.items():
        entries: list[dict[str, Any]] = []
        for event in video.events:
            entry = {"segment": [event.start, event.end], "label": event.label, "label_id": label2id[event.label]}
            entries.append(entry if event.score is None else entry | {"score": event.score})
        database[video_id] = {"duration": video.duration, "subset": video.split, "annotations": entries}
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        partial.write_text(json.dumps({"version": "unav100", "database": database}, allow_nan=False), encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read_database(path: Path, problems: list[str]) -> dict[str, Any]:
    """The `"database"` of an annotation file; keys given twice, of which JSON keeps the last only, go to `problems`."""

    def without_repeats(pairs):
        problems.extend(f"{key!r} is given {n} times" for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=without_repeats)
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("database"), dict):
        raise ValueError(
            f'{path} has no "database" of videos, so it is not an annotation file in the layout of UnAV-100: '
            '{"database": {ID: {"duration", "subset", "annotations"}}}.'
        )
    return content["database"]


def _read_video(video_id: str, entry: Any) -> tuple[AnnotatedVideo | None, list[str]]:
    """The video of one entry, None if there is something wrong with it, and what."""
    problems = []
    if not is_safe_video_id(video_id):
        problems.append("files cannot be named after this id; it must be without / \\ : and control characters")
    entry = entry if isinstance(entry, dict) else {}
    duration = entry.get("duration")
    if not _is_number(duration) or duration <= 0:
        problems.append(f'"duration" is {duration!r}, not a positive number of seconds')
        duration = math.inf
    split = entry.get("subset")
    if not isinstance(split, str) or not split:
        problems.append(f'"subset" is {split!r}, not the name of a split')
    annotations = entry.get("annotations")
    if not isinstance(annotations, list):
        problems.append(f'"annotations" is {annotations!r}, not a list')
        annotations = []
    events = []
    for annotation in annotations:
        problem = _event_problem(annotation, duration)
        if problem:
            problems.append(f"event {annotation!r}: {problem}")
            continue
        start, end = annotation["segment"]
        events.append(Event(float(start), float(min(end, duration)), annotation["label"], annotation.get("score")))
    if problems:
        return None, problems
    return AnnotatedVideo(video_id, float(duration), entry["subset"], tuple(events)), []


def _event_problem(annotation: Any, duration: float) -> str | None:
    """What is wrong with one annotated event of a video of `duration` seconds, or None."""
    if not isinstance(annotation, dict):
        return 'not {"segment", "label", "label_id"}'
    segment, label, label_id = (annotation.get(key) for key in ("segment", "label", "label_id"))
    if not isinstance(segment, list) or len(segment) != 2 or not all(map(_is_number, segment)):
        return '"segment" is not [start, end] in seconds'
    start, end = segment
    if start < 0 or end <= start:
        return "needs 0 <= start < end"
    if end > duration + DURATION_TOLERANCE or start >= duration:
        return f"is not within the video, which has {duration} s"
    if not isinstance(label, str) or not label:
        return '"label" is not a class name'
    if not isinstance(label_id, int) or isinstance(label_id, bool) or label_id < 0:
        return '"label_id" is not an integer >= 0'
    if not (annotation.get("score") is None or _is_number(annotation["score"])):
        return '"score" is not a number'
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _nearest(label: str, known: dict[str, int]) -> str:
    """The known labels that a misspelt one may stand for."""
    nearest = get_close_matches(label, known, n=3) or sorted(known)[:3]
    return "the nearest known labels are " + ", ".join(map(repr, nearest))
