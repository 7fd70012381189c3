import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.annotations.via import scan_via, write_via


def project(**metadata):
    """The example of via-3.x.y/CodeDoc.md, ox-vgg/via commit 4842217, reduced to the parts that are read."""
    return {
        "project": {"pid": "__VIA_PROJECT_ID__", "pname": "VIA3 Sample Project", "vid_list": ["1", "2"]},
        "attribute": {
            "1": {
                "aname": "Activity",
                "anchor_id": "FILE1_Z2_XY0",
                "type": 4,
                "options": {"1": "Break Egg", "2": "Pour Liquid", "3": "Cut Garlic", "4": "Mix"},
            },
            "2": {"aname": "Object", "anchor_id": "FILE1_Z1_XY1", "type": 1, "options": {}},
        },
        "file": {
            "1": {"fid": 1, "fname": "Alioli.ogv", "type": 4, "loc": 2, "src": "https://site.example/Alioli.ogv"},
            "2": {"fid": 2, "fname": "mouse.mp4", "type": 4, "loc": 3, "src": "/home/tlm/data/svt/mouse.mp4"},
        },
        "view": {"1": {"fid_list": [1]}, "2": {"fid_list": [2]}},
        "metadata": metadata,
    }


def segment(*times, vid="1", xy=(), **av):
    return {"vid": vid, "flg": 0, "z": list(times), "xy": list(xy), "av": {key[1:]: value for key, value in av.items()}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "project.json"


def scan(path, content):
    path.write_text(json.dumps(content))
    reading = AnnotationReading(path, "VIA 3 project")
    return scan_via(reading), reading.problems


def kinds(problems):
    return [(problem.severity, problem.kind) for problem in problems]


def test_options_are_labels_and_files_without_segments_are_videos_without_events(path):
    annotations, problems = scan(path, project(a=segment(2, 6.5, _1="1"), b=segment(9, 20, _1="2")))
    assert annotations.labels == ("Break Egg", "Pour Liquid")
    assert annotations.videos["Alioli"].events == (Event(2.0, 6.5, "Break Egg"), Event(9.0, 20.0, "Pour Liquid"))
    assert annotations.videos["mouse"].events == ()
    assert problems == []


def test_regions_and_still_moments_are_counted_and_ignored(path):
    box = segment(0.917, xy=[2, 263, 184, 17, 13], _2="Egg")
    moving_box = segment(1, 2, xy=[2, 263, 184, 17, 13], _2="Egg")
    annotations, problems = scan(path, project(a=box, b=moving_box, c=segment(_1="1"), d=segment(1, 2, _1="4")))
    assert annotations.videos["Alioli"].events == (Event(1.0, 2.0, "Mix"),)
    assert kinds(problems) == [("warning", "other regions")]
    assert problems[0].message.startswith("3 regions")


def test_text_is_a_label_and_every_attribute_with_a_value_is_an_event(path):
    annotations, _ = scan(path, project(a=segment(1, 2, _1="4", _2="Egg"), b=segment(3, 4, _1="4", _2="")))
    assert annotations.videos["Alioli"].events == (
        Event(1.0, 2.0, "Mix"),
        Event(1.0, 2.0, "Egg"),
        Event(3.0, 4.0, "Mix"),
    )


def test_every_ticked_checkbox_is_an_event(path):
    content = project(a=segment(1, 2, _1="1,3"))
    content["attribute"]["1"]["type"] = 2
    annotations, _ = scan(path, content)
    assert [event.label for event in annotations.videos["Alioli"].events] == ["Break Egg", "Cut Garlic"]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (segment(1, 2), "bad label"),
        (segment(1, 2, _1="7"), "bad label"),  # no such option
        (segment(1, 2, _1=["1"]), "bad label"),
        (segment(1, 2, _2=""), "bad label"),
        (segment(1, 2, vid="9", _1="1"), "bad event"),
        (segment(1, 2, vid=[1], _1="1"), "bad event"),
        (segment(2, 1, _1="1"), "bad event"),
        (segment("1", "2", _1="1"), "bad event"),
        (segment(1, 10**400, _1="1"), "bad event"),
        (segment(2, 2, _1="1"), "event without length"),
    ],
)
def test_invalid_segments_are_problems(path, bad, kind):
    annotations, problems = scan(path, project(a=bad))
    assert kinds(problems) == [("error", kind)]
    assert annotations.videos["Alioli"].events == ()


@pytest.mark.parametrize(
    ("part", "value", "kind"),
    [
        ("view", {"1": {"fid_list": [1, 2]}}, "bad view"),
        ("view", {"1": {"fid_list": [3]}}, "bad view"),
        ("view", {"1": {"fid_list": [[1]]}}, "bad view"),
        ("view", {"1": None}, "bad view"),
        ("view", {"1": {"fid_list": [1]}, "2": {"fid_list": ["1"]}}, "repeated video"),
        ("file", {"1": {"fname": "a/.."}, "2": {"fname": "b.mp4"}}, "unsafe video id"),
    ],
)
def test_invalid_views_are_problems(path, part, value, kind):
    _, problems = scan(path, project() | {part: value})
    assert kinds(problems) == [("error", kind)]


def test_folders_of_a_file_name_are_no_part_of_the_id_and_images_are_no_videos(path):
    content = project()
    content["file"]["1"]["fname"] = "C:\\site\\Alioli.2.ogv"
    content["file"]["2"] = {"fname": "mouse.png", "type": 2}
    annotations, problems = scan(path, content)
    assert list(annotations.videos) == ["Alioli.2"]
    assert problems == []


@pytest.mark.parametrize("content", [[], {}, {"file": {}, "view": {}, "metadata": {}}, project() | {"view": []}, 7])
def test_another_layout_is_refused(path, content):
    with pytest.raises(ValueError, match=r"project\.json .*\"metadata\".* VIA 3"):
        scan(path, content)


def test_a_project_has_the_parts_that_via_reads(path):
    # _via_data.prototype._init_default_project and file_get_uri of via-3.x.y/src/js/_via_data.js
    video = AnnotatedVideo("site 3", None, "train", (Event(1.0, 2.5, "alarm"),))
    write_via(Annotations({"site 3": video}, ("alarm",)), path)
    written = json.loads(path.read_text())
    assert list(written) == ["project", "config", "attribute", "file", "view", "metadata"]
    assert written["config"]["file"] == {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}
    assert written["project"]["vid_list"] == ["1"]
    assert written["view"] == {"1": {"fid_list": ["1"]}}
    assert written["file"] == {"1": {"fid": "1", "fname": "site 3.mp4", "type": 4, "loc": 1, "src": ""}}
    assert written["attribute"]["1"]["anchor_id"] == "FILE1_Z2_XY0"
    assert written["attribute"]["1"]["options"] == {"0": "alarm"}
    assert written["metadata"] == {"1_1": {"vid": "1", "flg": 0, "z": [1.0, 2.5], "xy": [], "av": {"1": "0"}}}


IDS = st.text(st.characters(exclude_categories=["C"], exclude_characters="/\\:"), min_size=1, max_size=9).filter(
    lambda name: name not in (".", "..")
)
LABELS = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=9).filter(str.strip)
TIMES = st.floats(0, 1e5)
EVENTS = st.builds(Event, TIMES, TIMES, LABELS).filter(lambda event: event.start < event.end)


@settings(max_examples=60, deadline=None)
@given(content=st.dictionaries(IDS, st.lists(EVENTS, max_size=4), max_size=3))
def test_events_survive_writing_and_reading(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("projects") / "project.json"
    videos = {name: AnnotatedVideo(name, None, "train", tuple(events)) for name, events in content.items()}
    labels = sorted({event.label for events in content.values() for event in events})
    annotations = Annotations(videos, tuple(labels))
    write_via(annotations, path)
    assert scan(path, json.loads(path.read_text()))[0] == annotations
