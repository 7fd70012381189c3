"""Label Studio tasks: the regions of timeline labels, in annotations or predictions."""

import json
import math
import os
import re
from itertools import chain
from pathlib import PureWindowsPath
from typing import Any, TypeGuard
from urllib.parse import quote, unquote

from esg_transformers.annotations.events import Annotations, Event
from esg_transformers.annotations.parsing import read_annotation_json
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.annotations.values import is_integer
from esg_transformers.files import replacing


def scan_label_studio(reading: AnnotationReading, frame_rate: float | None) -> Annotations:
    """Read the timeline labels of a Label Studio export, `JSON` or `JSON_MIN`.

    `JSON` is a list of tasks, `{"data": {"video": URL}, "annotations": [{"result": [REGION, ...]}], "predictions":
    [...]}`, where a REGION is `{"type": "timelinelabels", "value": {"ranges": [{"start", "end"}], "timelinelabels":
    [label]}}`, with a `"score"` in predictions (label-studio, web/libs/editor/src/regions/TimelineRegion.js, commit
    09110df). `JSON_MIN` is a list of `{"video": URL, NAME: [VALUE, ...]}`, where NAME is that of the labels' tag.

    * Frames count from 1 and the last one belongs to the region, as in Label Studio's own ML backend
      (label-studio-ml-backend, label_studio_ml/examples/yolo/utils/converter.py, commit 5c12977): frames a ... b
      are the seconds `(a - 1) / frame_rate` to `b / frame_rate`. An end less than one frame after a known duration is
      set to the duration.
    * A region with several labels becomes one event per label.
    * Cancelled annotations are ignored. Of several annotations, the one marked as ground truth is read. A prediction
      is read only if there is no annotation; its events have the scores of their regions. A task with neither is
      ignored with a warning. An annotation without regions is a video without events.
    * The video id is the last component of the URL, without suffix, and without the 8 hexadecimal digits and the dash
      that Label Studio puts before the name of an upload (label-studio, label_studio/data_import/models.py, commit
      707223a).
    * Regions of other types are ignored with a warning, and so are the copies of rectangles that Label Studio
      exports as timeline labels without ranges (label-studio issue 9744).

    Args:
        reading: names the file and collects its videos, events and problems.
        frame_rate: frames per second of Label Studio's time line: `framerate` of the `<Video>` tag of the project,
            24 if the tag has none. It may differ from that of the video file.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file has another layout, or `frame_rate` is not a positive number.
    """
    frame_rate = _checked_frame_rate(frame_rate, reading.source)
    tasks, repeated = read_annotation_json(reading.source)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ValueError(
            f"{reading.source} is not a list of tasks, so it is not a Label Studio export. Export the project as JSON "
            "or JSON-MIN."
        )
    for key in repeated:
        reading.add_problem("repeated key", f"{key!r} is given more than once in one object")
    task_of: dict[str, int] = {}
    num_others = 0
    for number, task in enumerate(tasks, start=1):
        data = task.get("data", task)
        video = data.get("video") if isinstance(data, dict) else None
        if not isinstance(video, str):
            reading.add_problem("bad task", f'task {number} has no "video", the URL or path of its video')
            continue
        video_id = _video_id_of(video)
        if task_of.setdefault(video_id, number) != number:
            what = f"tasks {task_of[video_id]} and {number} both show this video; keep one of them"
            reading.add_problem("repeated video", what, video_id)
            continue
        regions = _regions_of(reading, video_id, task)
        if regions is None or not reading.add_video(video_id):
            continue
        for value, score in regions:
            if value is None:
                num_others += 1
            else:
                _add_region(reading, video_id, value, score, frame_rate)
    if num_others:
        what = f"{num_others} regions that are not timeline labels are ignored"
        reading.add_problem("other regions", what, severity="warning")
    return reading.annotations()


def write_label_studio(annotations: Annotations, path: str | os.PathLike[str], frame_rate: float | None) -> None:
    """Write tasks that Label Studio imports; replaces an existing file in one step.

    They fit a project with `<TimelineLabels name="videoLabels" toName="video">` and `<Video name="video"
    value="$video" framerate="...">`. `"video"` is `ID.mp4`: prefix it with the URL of the folder on your server.
    Events become annotations, or predictions if any of them has a score. Times are rounded to the nearest frame, and
    an event lasts at least one. The format holds no durations and splits.

    Args:
        annotations: videos and events.
        path: the JSON file to write.
        frame_rate: frames per second of Label Studio's time line, see `scan_label_studio`.

    Raises:
        ValueError: if `frame_rate` is not a positive number, or a score is not finite.
    """
    frame_rate = _checked_frame_rate(frame_rate, path)
    is_scored = any(event.score is not None for video in annotations.videos.values() for event in video.events)
    tasks = []
    for video in annotations.videos.values():
        results = [_result(number, event, frame_rate) for number, event in enumerate(video.events, start=1)]
        origin = "predictions" if is_scored else "annotations"
        tasks.append({"data": {"video": f"{quote(video.video_id)}.mp4"}, origin: [{"result": results}]})
    with replacing(path) as file:
        file.write(json.dumps(tasks, allow_nan=False))


def _checked_frame_rate(frame_rate: float | None, path: str | os.PathLike[str]) -> float:
    if frame_rate is None or not 0 < frame_rate < math.inf:
        raise ValueError(
            f"{path}: Label Studio counts time in frames, so `frame_rate` (frames per second) must be a positive "
            f"number; got {frame_rate}. Pass the `framerate` of the project's <Video> tag, 24 if the tag has none "
            "(command line: `--frame-rate`)."
        )
    return float(frame_rate)


def _video_id_of(url: str) -> str:
    """The video id that the URL of a task's video stands for.

    >>> [_video_id_of(url) for url in ("/data/upload/7/0a1b2c3d-gate.mp4", "s3://site/0a1b2c3d-gate.mp4")]
    ['gate', '0a1b2c3d-gate']
    >>> [_video_id_of(url) for url in ("/data/local-files/?d=site/gate%203.mp4", "https://site/gate.mp4?key=a/b")]
    ['gate 3', 'gate']
    """
    address, _, query = url.partition("?")
    name = unquote(query.removeprefix("d=") if query.startswith("d=") else address)
    name = re.sub(r"(^|.*/)upload/\d+/[0-9a-f]{8}-(?=[^/]+$)", "", name)
    return PureWindowsPath(name).stem  # the last component after any / or \


def _regions_of(
    reading: AnnotationReading, video_id: str, task: dict[str, Any]
) -> list[tuple[dict[str, Any] | None, Any]] | None:
    """Value and score of each region of a task; the value is None for other types. None if the task is unusable."""
    if "data" not in task:
        lists = (values for values in task.values() if isinstance(values, list))
        return [(_timeline_value(value), None) for value in chain.from_iterable(lists) if _has_timeline_labels(value)]
    annotations, predictions = _entries(task, "annotations"), _entries(task, "predictions")
    done = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
    chosen = [annotation for annotation in done if annotation.get("ground_truth")] or done or predictions
    if not chosen:
        what = "it has no annotation and no prediction, so it is ignored"
        reading.add_problem("not annotated", what, video_id, severity="warning")
        return None
    if len(chosen) > 1:
        what = f"it has {len(chosen)} annotations or predictions; mark one as ground truth or delete the others"
        reading.add_problem("several annotations", what, video_id)
        return None
    results = chosen[0].get("result")
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        reading.add_problem("bad task", 'its "result" is not a list of regions', video_id)
        return None
    return [
        (
            _timeline_value(result.get("value")) if result.get("type") == "timelinelabels" else None,
            None if done else result.get("score"),
        )
        for result in results
    ]


def _entries(task: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = task.get(key)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _has_timeline_labels(value: Any) -> bool:
    return isinstance(value, dict) and "timelinelabels" in value


def _timeline_value(value: Any) -> dict[str, Any] | None:
    """The value of a region of timeline labels; None for the copy of a rectangle."""
    value = value if isinstance(value, dict) else {}
    return None if "sequence" in value and "ranges" not in value else value


def _add_region(
    reading: AnnotationReading, video_id: str, value: dict[str, Any], score: Any, frame_rate: float
) -> None:
    """Add the events of one region to the reading."""
    labels, ranges = value.get("timelinelabels"), value.get("ranges")
    # Label Studio writes one range per region; many labels times many ranges would make a small file huge.
    if not (isinstance(labels, list) and isinstance(ranges, list) and 1 in (len(labels), len(ranges))) or not labels:
        what = 'a region is not {"ranges": [{"start", "end"}], "timelinelabels": [label, ...]}'
        reading.add_problem("bad event", what, video_id)
        return
    duration = reading.durations.get(video_id)
    for frames in ranges:
        first, last = (frames.get("start"), frames.get("end")) if isinstance(frames, dict) else (None, None)
        if not (_is_frame(first) and _is_frame(last)):
            what = f"a region needs an integer start and end frame, counted from 1: {str(frames)[:100]}"
            reading.add_problem("bad event", what, video_id)
            continue
        start, end = (first - 1) / frame_rate, last / frame_rate
        if duration is not None and start < duration < end < duration + 1 / frame_rate:
            end = duration
        for label in labels:
            reading.add_event(video_id, start, end, label, score)


def _is_frame(value: Any) -> TypeGuard[int]:
    return is_integer(value) and 1 <= value < 2**53


def _result(number: int, event: Event, frame_rate: float) -> dict[str, Any]:
    """A region of at least one frame; its start is moved back rather than its end past the video."""
    before = min(round(event.start * frame_rate), math.ceil(event.end * frame_rate) - 1)
    last = max(round(event.end * frame_rate), before + 1)
    region = {
        "id": str(number),
        "type": "timelinelabels",
        "from_name": "videoLabels",
        "to_name": "video",
        "value": {"ranges": [{"start": before + 1, "end": last}], "timelinelabels": [event.label]},
    }
    return region if event.score is None else region | {"score": event.score}
