"""Results of event detection: the layout of ActivityNet's evaluator, and that of UnAV's."""

import json
import os
from collections.abc import Iterator
from typing import Any

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.parsing import read_annotation_json
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.annotations.values import is_integer
from esg_transformers.files import replacing


def scan_activitynet_results(reading: AnnotationReading) -> Annotations:
    """Read results in the layout of ActivityNet (Evaluation/eval_detection.py of activitynet/ActivityNet).

    `{"version", "results": {ID: [{"label", "score", "segment": [start, end]}]}, "external_data"}`, in seconds;
    `"version"` and `"external_data"` are ignored.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file has another layout.
    """
    for video_id, start, end, event in _scan_results(reading, "results", "score"):
        reading.add_event(video_id, start, end, event.get("label"), event["score"])
    return reading.annotations()


def scan_unav_results(reading: AnnotationReading) -> Annotations:
    """Read results in the layout of UnAV (load_pred_seg_from_json in libs/utils/metrics.py, commit 1609deb).

    `{"database": {ID: [{"segment": [start, end], "label_id": class id, "scores": score}]}}`, in seconds. The layout
    has no class names: `reading.label2id` provides them.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file has another layout, or `reading.label2id` is None.
    """
    if reading.label2id is None:
        raise ValueError(
            f"{reading.source} has class ids without class names. Pass `label2id`, or write a file with names: "
            "`esg-transformers annotations convert --labels FILE`, with an annotation file of these classes."
        )
    labels = {class_id: label for label, class_id in reading.label2id.items()}
    for video_id, start, end, event in _scan_results(reading, "database", "scores"):
        label_id = event.get("label_id")
        if is_integer(label_id) and label_id in labels:
            reading.add_event(video_id, start, end, labels[label_id], event["scores"])
        else:
            what = f'"label_id" is {label_id!r}, not one of the {len(labels)} known: 0 ... {len(labels) - 1}'
            reading.add_problem("bad label id", what, video_id)
    return reading.annotations()


def _scan_results(
    reading: AnnotationReading, key: str, score_key: str
) -> Iterator[tuple[str, Any, Any, dict[str, Any]]]:
    """(video id, start, end, event) of every event that has a segment and a score, of any type."""
    content, repeated = read_annotation_json(reading.source)
    if not isinstance(content, dict) or not isinstance(content.get(key), dict):
        raise ValueError(f'{reading.source} has no "{key}" of videos, so it is not a {reading.layout}.')
    for name in repeated:
        reading.add_problem("repeated video", f"{name!r} is given more than once")
    for video_id, events in content[key].items():
        if not reading.add_video(video_id):
            continue
        if not isinstance(events, list):
            reading.add_problem("bad event", f"its events are {events!r:.100}, not a list", video_id)
            continue
        for event in events:
            segment = event.get("segment") if isinstance(event, dict) else None
            if not isinstance(segment, list) or len(segment) != 2 or event.get(score_key) is None:
                what = f'event {event!r:.200} has no "segment" of [start, end] in seconds, or no "{score_key}"'
                reading.add_problem("bad event", what, video_id)
            else:
                yield video_id, *segment, event


def write_activitynet_results(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    """Write results in the layout that `scan_activitynet_results` reads; replaces an existing file in one step.

    The layout holds no durations and splits.

    Raises:
        ValueError: if an event has no score, or a number is not finite.
    """
    _check_scored(annotations, path)
    results = {
        video_id: [
            {"label": event.label, "score": event.score, "segment": [event.start, event.end]} for event in video.events
        ]
        for video_id, video in annotations.videos.items()
    }
    with replacing(path) as file:
        content = {"version": "esg-transformers", "results": results, "external_data": {}}
        file.write(json.dumps(content, allow_nan=False))


def write_unav_results(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    """Write results in the layout that UnAV's evaluator and `scan_unav_results` read; replaces a file in one step.

    Class ids are those of `annotations` and must equal those of the ground truth. The layout holds no class names,
    durations and splits.

    Raises:
        ValueError: if an event has no score, or a number is not finite.
    """
    _check_scored(annotations, path)
    label2id = annotations.label2id
    database = {
        video_id: [
            {"segment": [event.start, event.end], "label_id": label2id[event.label], "scores": event.score}
            for event in video.events
        ]
        for video_id, video in annotations.videos.items()
    }
    with replacing(path) as file:
        file.write(json.dumps({"database": database}, allow_nan=False))


def _check_scored(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    for video in annotations.videos.values():
        if any(event.score is None for event in video.events):
            raise ValueError(
                f"{path} was not written: results need scores, and an event of video {video.video_id!r} has none. "
                "Write true events in another format."
            )
