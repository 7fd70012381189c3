"""VIA 3, the VGG Image Annotator for video: the temporal segments of a project file."""

import json
import os
from pathlib import PureWindowsPath
from typing import Any

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.parsing import read_annotation_json
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.files import replacing

TEMPORAL_SEGMENT = "FILE1_Z2_XY0"  # anchor of attributes of temporal segments: one file, two times, no image region
CHECKBOX, SELECT = 2, 4  # types of attributes, _via_attribute.js
IMAGE, VIDEO = 2, 4  # types of files, _via_file.js
LOCAL = 1  # location of a file that is chosen in the browser, _via_file.js


def scan_via(reading: AnnotationReading) -> Annotations:
    """Read the temporal segments of a VIA 3 project (VIA's via-3.x.y/CodeDoc.md, commit 4842217 of ox-vgg/via).

    `{"file": {FID: {"fname", "type"}}, "view": {VID: {"fid_list": [FID]}}, "attribute": {AID: {"type", "options"}},
    "metadata": {ID: {"vid": VID, "z": [start, end], "xy": [], "av": {AID: value}}}}`, times in seconds.

    If an attribute has options, its value is the id of an option (for checkboxes, several ids between commas), and
    the label is the option's name; otherwise the value is the label. A segment with values of several attributes is
    one event for each; an empty value is ignored. The video id is the name of the file that the view shows, without
    folder and suffix. Image regions, still moments and values of whole files are ignored with a warning.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file has another layout.
    """
    project, repeated = read_annotation_json(reading.source)
    keys = ("file", "view", "attribute", "metadata")
    if not isinstance(project, dict) or not all(isinstance(project.get(key), dict) for key in keys):
        raise ValueError(
            f'{reading.source} lacks one of "file", "view", "attribute" and "metadata", so it is not a project of '
            "VIA 3. (Projects of VIA 2 have no times.)"
        )
    for key in repeated:
        reading.add_problem("repeated key", f"{key!r} is given more than once in one object")
    video_ids = _scan_views(reading, project["file"], project["view"])
    num_others = 0
    for segment_id, segment in project["metadata"].items():
        segment = segment if isinstance(segment, dict) else {}
        view_id, times, values = (segment.get(key) for key in ("vid", "z", "av"))
        if not isinstance(times, list) or len(times) != 2 or segment.get("xy"):
            num_others += 1
        elif not isinstance(view_id, str | int) or str(view_id) not in video_ids:
            reading.add_problem("bad event", f"segment {segment_id!r} belongs to no view of a video")
        else:
            for label in _labels_of(values if isinstance(values, dict) else {}, project["attribute"]):
                reading.add_event(video_ids[str(view_id)], times[0], times[1], label)
    if num_others:
        what = f"{num_others} regions that are not temporal segments are ignored"
        reading.add_problem("other regions", what, severity="warning")
    return reading.annotations()


def write_via(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    """Write a project that VIA 3 opens; replaces an existing file in one step.

    Labels are the options of one attribute. VIA asks for each video file, named `ID.mp4`, when it is first viewed.
    The format holds no scores, durations and splits.

    Raises:
        ValueError: if a number is not finite.
    """
    files, views, segments = {}, {}, {}
    label2id = annotations.label2id
    for number, video in enumerate(annotations.videos.values(), start=1):
        key = str(number)
        files[key] = {"fid": key, "fname": f"{video.video_id}.mp4", "type": VIDEO, "loc": LOCAL, "src": ""}
        views[key] = {"fid_list": [key]}
        for event_number, event in enumerate(video.events, start=1):
            segments[f"{key}_{event_number}"] = {
                "vid": key,
                "flg": 0,
                "z": [event.start, event.end],
                "xy": [],
                "av": {"1": str(label2id[event.label])},
            }
    attribute = {
        "aname": "event",
        "anchor_id": TEMPORAL_SEGMENT,
        "type": SELECT,
        "desc": "What is seen and heard",
        "options": {str(index): label for label, index in label2id.items()},
        "default_option_id": "",
    }
    project = {
        **_project_settings(list(views)),
        "attribute": {"1": attribute},
        "file": files,
        "view": views,
        "metadata": segments,
    }
    with replacing(path) as file:
        file.write(json.dumps(project, allow_nan=False))


def _project_settings(view_ids: list[str]) -> dict[str, Any]:
    """The parts of a project that hold no annotations."""
    # The placeholders are what VIA itself writes into a project that is not shared (_via_data.js).
    return {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
            "pname": "Events",
            "data_format_version": "3.1.1",
            "creator": "esg_transformers",
            "created": 0,
            "vid_list": view_ids,
        },
        "config": {
            "file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}},
            "ui": {
                "file_content_align": "center",
                "file_metadata_editor_visible": True,
                "spatial_metadata_editor_visible": True,
                "temporal_segment_metadata_editor_visible": True,
                "spatial_region_label_attribute_id": "",
                "gtimeline_visible_row_count": "4",
            },
        },
    }


def _scan_views(reading: AnnotationReading, files: dict[str, Any], views: dict[str, Any]) -> dict[str, str]:
    """Add the videos of a project to the reading; returns their ids by view id."""
    video_ids: dict[str, str] = {}
    seen: set[str] = set()
    for view_id, view in views.items():
        file_ids = view.get("fid_list") if isinstance(view, dict) else None
        file_id = file_ids[0] if isinstance(file_ids, list) and len(file_ids) == 1 else None
        file = files.get(str(file_id)) if isinstance(file_id, str | int) else None
        if not isinstance(file, dict) or not isinstance(file.get("fname"), str):
            reading.add_problem("bad view", f"view {view_id!r} does not show one file with a name")
            continue
        if file.get("type") == IMAGE:
            continue
        video_id = PureWindowsPath(file["fname"]).stem  # the last component after any / or \
        if video_id in seen:
            what = f"view {view_id!r} and an earlier one both show a file of this name"
            reading.add_problem("repeated video", what, video_id)
        elif reading.add_video(video_id):
            video_ids[view_id] = video_id
        seen.add(video_id)
    return video_ids


def _labels_of(values: dict[str, Any], attributes: dict[str, Any]) -> list[Any]:
    """The labels of a segment, at least one: `""` stands for no label, and for an option that does not exist."""
    labels: list[Any] = []
    for attribute_id, value in values.items():
        attribute = attributes.get(attribute_id)
        attribute = attribute if isinstance(attribute, dict) else {}
        options = attribute.get("options")
        if value == "":
            continue
        if isinstance(options, dict) and options and isinstance(value, str | int):
            chosen = str(value).split(",") if attribute.get("type") == CHECKBOX else [str(value)]
            labels.extend(options.get(option_id, "") for option_id in chosen)
        else:
            labels.append(value)
    return labels or [""]
