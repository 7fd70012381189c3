"""Found events as the evaluators of the field read them: ActivityNet's results, and UnAV's dialect of them."""

import json
import os
from collections.abc import Iterator
from typing import Any

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.parsing import read_annotation_json
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.files import replacing


def scan_activitynet_results(reading: AnnotationReading) -> Annotations:
    """Gather results in the layout of ActivityNet (Evaluation/eval_detection.py of activitynet/ActivityNet).

    `{"version", "results": {ID: [{"label", "score", "segment": [start, end]}]}, "external_data"}`, in seconds; the
    first and the last are left.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has another layout altogether.
    """
    for video_id, start, end, event in _scan_results(reading, "results", "score"):
        reading.add_event(video_id, start, end, event.get("label"), event["score"])
    return reading.annotations()


def scan_unav_results(reading: AnnotationReading) -> Annotations:
    """Gather results in the layout of UnAV (load_pred_seg_from_json in libs/utils/metrics.py, commit 1609deb).

    `{"database": {ID: [{"segment": [start, end], "label_id": class id, "scores": score}]}}`, in seconds. Classes have
    no names in it: `reading.label2id` gives them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has another layout altogether, or `reading.label2id` is None.
    """
    if reading.label2id is None:
        raise ValueError(
            f"{reading.source} gives classes by number, without their names. Give `label2id` (`--labels FILE`, an "
            "annotation file with these classes)."
        )
    labels = {class_id: label for label, class_id in reading.label2id.items()}
    for video_id, start, end, event in _scan_results(reading, "database", "scores"):
        label_id = event.get("label_id")
        if isinstance(label_id, int) and not isinstance(label_id, bool) and label_id in labels:
            reading.add_event(video_id, start, end, labels[label_id], event["scores"])
        else:
            what = f'"label_id" is {label_id!r}, not one of the {len(labels)} known: 0 ... {len(labels) - 1}'
            reading.add_problem("bad label id", what, video_id)
    return reading.annotations()


def _scan_results(
    reading: AnnotationReading, key: str, score_key: str
) -> Iterator[tuple[str, Any, Any, dict[str, Any]]]:
    """(video id, start, end, event) of all events that have a segment and a score, whatever these are."""
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


def write_activitynet_results(annotations: Annotations, path: str | os.PathLike) -> None:
    """Write results that `scan_activitynet_results` gives back; an existing file is replaced in one step.

    Durations and splits are not held.

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


def write_unav_results(annotations: Annotations, path: str | os.PathLike) -> None:
    """Write results that UnAV's evaluator reads, and `scan_unav_results`; an existing file is replaced in one step.

    Class ids are those of `annotations`, which are to be those of the ground truth. Names, durations and splits are not
    held.

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


def _check_scored(annotations: Annotations, path: str | os.PathLike) -> None:
    for video in annotations.videos.values():
        if any(event.score is None for event in video.events):
            raise ValueError(
                f"{path} would hold results, and results have scores; an event of video {video.video_id!r} has none. "
                "Write true events in another format."
            )
