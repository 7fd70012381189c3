"""VIA 3, the VGG Image Annotator for video: the temporal segments of a project."""

import json
import os
from pathlib import PureWindowsPath
from typing import Any

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.parsing import read_annotation_json
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.files import replacing

TEMPORAL_SEGMENT = "FILE1_Z2_XY0"  # the anchor of attributes of segments: one file, two times, no place in the picture
CHECKBOX, SELECT = 2, 4  # types of attributes, _via_attribute.js
IMAGE, VIDEO = 2, 4  # types of files, _via_file.js
LOCAL = 1  # location of a file that is chosen with the browser, _via_file.js


def scan_via(reading: AnnotationReading) -> Annotations:
    """The temporal segments of a VIA 3 project (VIA's via-3.x.y/CodeDoc.md, commit 4842217 of ox-vgg/via).

    `{"file": {FID: {"fname", "type"}}, "view": {VID: {"fid_list": [FID]}}, "attribute": {AID: {"type", "options"}},
    "metadata": {ID: {"vid": VID, "z": [start, end], "xy": [], "av": {AID: value}}}}`, times in seconds.

    A value of an attribute with options is the id of an option (of several, between commas, for checkboxes), and the
    option's name is the label; without options the value is the label. A segment with values of several attributes is
    an event of each; an empty value is none. The video id is the name of the file that the view shows, without folder
    and suffix. Regions in the picture, still moments and values of whole files are left out, with a warning.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has another layout altogether.
    """
    project, repeated = read_annotation_json(reading.source)
    keys = ("file", "view", "attribute", "metadata")
    if not isinstance(project, dict) or not all(isinstance(project.get(key), dict) for key in keys):
        raise ValueError(
            f'{reading.source} is without one of "file", "view", "attribute" and "metadata", so it is not a project of '
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
            reading.add_problem("bad event", f"segment {segment_id!r} is not of a view of a video")
        else:
            for label in _labels_of(values if isinstance(values, dict) else {}, project["attribute"]):
                reading.add_event(video_ids[str(view_id)], times[0], times[1], label)
    if num_others:
        what = f"{num_others} regions that are not segments of time are left out"
        reading.add_problem("other regions", what, severity="warning")
    return reading.annotations()


def write_via(annotations: Annotations, path: str | os.PathLike) -> None:
    """Write a project that VIA 3 opens; an existing file is replaced in one step.

    Labels are the options of one attribute. VIA asks for the video files, named ID and `.mp4`, as they are viewed.
    Projects hold no scores, durations and splits.

    Raises:
        ValueError: if a number is not finite.
    """
    files, views, metadata = {}, {}, {}
    label2id = annotations.label2id
    for number, video in enumerate(annotations.videos.values(), start=1):
        key = str(number)
        files[key] = {"fid": key, "fname": f"{video.video_id}.mp4", "type": VIDEO, "loc": LOCAL, "src": ""}
        views[key] = {"fid_list": [key]}
        for event_number, event in enumerate(video.events, start=1):
            metadata[f"{key}_{event_number}"] = {
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
    # The placeholders are what VIA itself writes into a project that is not shared (_via_data.js).
    project = {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
            "pname": "Events",
            "data_format_version": "3.1.1",
            "creator": "esg_transformers",
            "created": 0,
            "vid_list": list(views),
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
        "attribute": {"1": attribute},
        "file": files,
        "view": views,
        "metadata": metadata,
    }
    with replacing(path) as file:
        file.write(json.dumps(project, allow_nan=False))


def _scan_views(reading: AnnotationReading, files: dict, views: dict) -> dict[str, str]:
    """Gather the videos of a project; returns their ids by view."""
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
            reading.add_problem("repeated video", f"a view before {view_id!r} shows it, or one of its name", video_id)
        elif reading.add_video(video_id):
            video_ids[view_id] = video_id
        seen.add(video_id)
    return video_ids


def _labels_of(values: dict, attributes: dict) -> list[Any]:
    """What a segment is labelled with, at least one label: `""` for none, and for an option that is not there."""
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
