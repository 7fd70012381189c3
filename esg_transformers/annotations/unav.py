"""UnAV-100 annotation files: one JSON file for all videos."""

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.parsing import read_annotation_json
from esg_transformers.annotations.reading import AnnotationReading, shortened
from esg_transformers.annotations.values import is_integer, is_label
from esg_transformers.files import replacing

logger = logging.getLogger(__name__)


def read_unav_annotations(
    path: str | os.PathLike[str],
    label2id: Mapping[str, int] | None = None,
    durations: Mapping[str, float] | None = None,
) -> Annotations:
    """Read an annotation file in the layout of UnAV-100 (data/unav100_annotations.json, UnAV commit 60144ed).

    `{"database": {ID: {"duration": seconds, "subset": split, "annotations": [EVENT, ...]}}}`, where an EVENT is
    `{"segment": [start, end], "label": name, "label_id": class id}`, with an optional `"score"`. Other keys are
    ignored. ActivityNet's own files have no `label_id`: if no event has one, labels are in alphabetical order. An
    end that exceeds the duration by at most 0.01 s (rounding) is set to the duration. Videos without events are kept
    as negatives.

    Args:
        path: the JSON file.
        label2id: class ids `0 ... C - 1` by label, if they are fixed by a model or another file. They replace the
            ids of the file, which must still be consistent. By default the labels are those of the file, in the order
            of `label_id`.
        durations: seconds of videos by id, used if the file has no `"duration"`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is invalid; lists the first problems and their number.
    """
    reading = AnnotationReading(path, "UnAV-100 annotation file", label2id, durations)
    annotations = scan_unav_annotations(reading)
    reading.raise_for_errors()
    return annotations


def scan_unav_annotations(reading: AnnotationReading) -> Annotations:
    """The valid part of the file that `read_unav_annotations` describes; `reading` collects the problems.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file has another layout.
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
        for label, label_id in _scan_video(reading, video_id, entry):
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
            f"The label ids of {path} are not 0 ... {len(labels) - 1}. Class ids are assigned in the order of "
            "`label_id` instead. Pass `label2id` to read the file with a fixed set of classes."
        )
    return annotations


def _scan_video(reading: AnnotationReading, video_id: str, entry: Any) -> list[tuple[str, int]]:
    """Add one video to the reading; returns the label and label id of each of its events that has both."""
    entry = entry if isinstance(entry, dict) else {}
    split, annotations = entry.get("subset"), entry.get("annotations")
    if not reading.add_video(video_id, entry.get("duration"), "" if split is None else split):
        return []
    if not isinstance(annotations, list):
        reading.add_problem("bad event", f'"annotations" is {shortened(repr(annotations))}, not a list', video_id)
        return []
    label_ids = []
    for annotation in annotations:
        segment = annotation.get("segment") if isinstance(annotation, dict) else None
        if not isinstance(segment, list) or len(segment) != 2:
            what = f'event {shortened(repr(annotation))}: "segment" is not [start, end] in seconds'
            reading.add_problem("bad event", what, video_id)
            continue
        label, label_id = annotation.get("label"), annotation.get("label_id")
        reading.add_event(video_id, segment[0], segment[1], label, annotation.get("score"))
        if is_integer(label_id) and label_id >= 0:
            if is_label(label):
                label_ids.append((label, label_id))
        elif label_id is not None:
            what = f'"label_id" of {label!r} is {label_id!r}, not an integer >= 0'
            reading.add_problem("bad label id", what, video_id)
    return label_ids


def write_unav_annotations(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    """Write annotations in the layout that `read_unav_annotations` reads; replaces an existing file in one step.

    Raises:
        ValueError: if the duration of a video is unknown, or a number is not finite.
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
