import json
from pathlib import Path

import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.annotations.unav import read_unav_annotations, scan_unav_annotations, write_unav_annotations

UNAV100 = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "unav100_annotations.json"


def event(start=1.0, end=2.0, label="dog barking", label_id=0):
    return {"segment": [start, end], "label": label, "label_id": label_id}


def write(path, *events, duration=10.0, video_id="a", subset="train"):
    entry = {"duration": duration, "subset": subset, "annotations": list(events)}
    path.write_text(json.dumps({"version": "unav100", "database": {video_id: entry}}))
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "annotations.json"


def test_labels_come_in_the_order_of_their_ids(path):
    write(path, event(label="speech", label_id=1), event(3, 4, label="dog barking", label_id=0))
    annotations = read_unav_annotations(path)
    assert annotations.labels == ("dog barking", "speech")
    assert annotations.videos["a"] == AnnotatedVideo(
        "a", 10.0, "train", (Event(1.0, 2.0, "speech"), Event(3.0, 4.0, "dog barking"))
    )


def test_annotations_survive_writing_and_reading(path):
    videos = {
        "a": AnnotatedVideo("a", 10.25, "train", (Event(0.1, 10.25, "speech"), Event(1.0, 2.0, "dog barking", 0.5))),
        "b": AnnotatedVideo("b", 3.0, "test", ()),
    }
    annotations = Annotations(videos, ("dog barking", "speech"))
    write_unav_annotations(annotations, path)
    assert read_unav_annotations(path) == annotations


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path):
    path.write_text("old")
    video = AnnotatedVideo("a", float("nan"), "train", ())
    with pytest.raises(ValueError, match="JSON compliant"):
        write_unav_annotations(Annotations({"a": video}, ()), path)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_split_keeps_all_labels_and_an_unknown_split_lists_those_there_are():
    videos = {
        "a": AnnotatedVideo("a", 10.0, "train", (Event(0.0, 1.0, "speech"),)),
        "b": AnnotatedVideo("b", 10.0, "test", ()),
    }
    annotations = Annotations(videos, ("speech",))
    assert list(annotations.split("test").videos) == ["b"]
    assert annotations.split("test").labels == ("speech",)
    with pytest.raises(ValueError, match=r"'val'.*'train' \(1 videos\), 'test' \(1 videos\)"):
        annotations.split("val")


def test_an_event_may_end_a_hundredth_of_a_second_late_and_is_clamped(path):
    assert read_unav_annotations(write(path, event(9.0, 10.009))).videos["a"].events[0].end == 10.0
    with pytest.raises(ValueError, match=r"not within the video, which has 10\.0 s"):
        read_unav_annotations(write(path, event(9.0, 10.02)))


@pytest.mark.parametrize("duration", [0, -1.0, float("nan"), float("inf"), "10", True])
def test_a_duration_that_is_not_a_positive_number_is_refused(path, duration):
    with pytest.raises(ValueError, match='"duration" is'):
        read_unav_annotations(write(path, event(), duration=duration))


def test_a_duration_may_be_unknown_until_it_is_needed_or_given(path):
    write(path, event(), duration=None)
    annotations = read_unav_annotations(path)
    assert annotations.videos["a"].duration is None
    with pytest.raises(ValueError, match="The duration of 1 of 1 videos is not known"):
        annotations.durations()
    with pytest.raises(ValueError, match="The duration of 1 of 1 videos is not known"):
        write_unav_annotations(annotations, path)
    assert read_unav_annotations(path, durations={"a": 7.5}).durations() == {"a": 7.5}
    with pytest.raises(
        ValueError, match="event 'dog barking' from 1.0 to 2.0 s is not within the video, which has 1.5"
    ):
        read_unav_annotations(path, durations={"a": 1.5})


def test_activitynet_s_own_files_have_no_label_ids_and_give_labels_in_alphabetical_order(path):
    write(path, event(label="speech", label_id=None), event(label="dog barking", label_id=None))
    assert read_unav_annotations(path).labels == ("dog barking", "speech")


def test_an_event_given_twice_is_kept_and_noted(path):
    write(path, event(1.0, 2.0), event(1.0005, 2.0005), event(1.0, 2.002), event(1.0, 2.0, "speech", 1))
    reading = AnnotationReading(path, "annotation file")
    annotations = scan_unav_annotations(reading)
    assert [(x.severity, x.kind) for x in reading.problems] == [("warning", "duplicate event")]
    assert len(annotations.videos["a"].events) == 4


def test_what_is_sound_is_read_beside_what_is_not(path):
    write(path, event(1.0, 2.0), event(3.0, 3.0), event(8.0, 11.0), event(label=7), event(label_id="0"))
    reading = AnnotationReading(path, "annotation file")
    annotations = scan_unav_annotations(reading)
    assert [x.kind for x in reading.problems if x.severity == "error"] == [
        "bad label id",
        "event without length",
        "event outside the video",
        "bad label",
    ]
    assert annotations.videos["a"].events[0] == Event(1.0, 2.0, "dog barking")


def test_ten_thousand_unknown_labels_are_named_in_no_time_and_a_million_events_of_one_video_refused(path):
    write(path, *(event(label=f"class {index}", label_id=index) for index in range(10_000)))
    with pytest.raises(ValueError, match=r"Problems found: 10000\."):
        read_unav_annotations(path, {"dog barking": 0})
    one = json.dumps(event())
    entry = f'{{"duration": 10, "subset": "train", "annotations": [{", ".join([one] * 1_000_000)}]}}'
    path.write_text(f'{{"database": {{"a": {entry}}}}}')
    with pytest.raises(ValueError, match="it has 1,000,000 events; 100,000 are the most"):
        read_unav_annotations(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe{}", "not UTF-8 text: byte 0 is 0xff"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"database": ' + b"9" * 5000 + b"}", "not a JSON file"),
    ],
)
def test_text_that_is_no_annotation_file_gives_one_clear_error(path, content, message):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_unav_annotations(path)


@pytest.mark.parametrize("segment", [[2.0, 2.0], [3.0, 2.0], [-0.5, 2.0]])
def test_an_event_must_start_in_the_video_and_before_it_ends(path, segment):
    with pytest.raises(ValueError, match="0 <= start < end"):
        read_unav_annotations(write(path, event(*segment)))


@pytest.mark.parametrize("video_id", ["../a", "/etc/passwd", "a/b", "a\\b", "a\0", "..", "", "C:a"])
def test_a_video_id_that_is_not_a_file_name_is_refused(path, video_id):
    with pytest.raises(ValueError, match="files cannot be named after this id"):
        read_unav_annotations(write(path, event(), video_id=video_id))


def test_a_label_with_two_ids_and_an_id_with_two_labels_are_refused(path):
    with pytest.raises(ValueError, match="'dog barking' has label_id 1 here and 0 before"):
        read_unav_annotations(write(path, event(), event(label_id=1)))
    with pytest.raises(ValueError, match="label_id 0 is 'speech' here and 'dog barking' before"):
        read_unav_annotations(write(path, event(), event(label="speech")))


def test_a_fixed_label_map_decides_over_the_ids_of_the_file(path):
    write(path, event(label="speech", label_id=0))
    assert read_unav_annotations(path, {"dog barking": 0, "speech": 1}).labels == ("dog barking", "speech")


def test_a_label_outside_the_fixed_map_is_refused_with_the_nearest_known(path):
    write(path, event(label="dog bark"))
    with pytest.raises(
        ValueError, match="a label that is not among the 2 known; the nearest known labels are 'dog barking'"
    ):
        read_unav_annotations(path, {"dog barking": 0, "machine": 1})
    with pytest.raises(ValueError, match=r"`label2id` must map C labels to 0 ... C - 1"):
        read_unav_annotations(path, {"dog bark": 1})


def test_all_problems_are_counted_and_the_first_ten_listed(path):
    write(path, *[event(2.0, 1.0)] * 12, subset="")
    with pytest.raises(ValueError, match=r"Problems found: 13\.") as refusal:
        read_unav_annotations(path)
    assert str(refusal.value).count("\n- ") == 10
    assert "and 3 more." in str(refusal.value)


def test_a_video_given_twice_is_refused(path):
    entry = '{"duration": 1, "subset": "train", "annotations": []}'
    path.write_text(f'{{"database": {{"a": {entry}, "a": {entry}}}}}')
    with pytest.raises(ValueError, match="'a' is given more than once"):
        read_unav_annotations(path)


def test_what_is_not_an_annotation_file_is_named_so(path):
    with pytest.raises(FileNotFoundError, match=r"No annotation file at .*annotations\.json"):
        read_unav_annotations(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="not a JSON file"):
        read_unav_annotations(path)
    path.write_text('{"results": {}}')
    with pytest.raises(ValueError, match='no "database"'):
        read_unav_annotations(path)
    path.write_text('{"database": {"a": [], "b": {"duration": 1, "subset": "x", "annotations": [3]}}}')
    with pytest.raises(ValueError, match="Problems found: 3"):  # no annotations, no subset, no event
        read_unav_annotations(path)


def test_an_event_with_a_label_that_is_not_listed_cannot_be_annotated():
    with pytest.raises(ValueError, match="speech"):
        Annotations({"a": AnnotatedVideo("a", 10.0, "train", (Event(0.0, 1.0, "speech"),))}, ("dog barking",))


@pytest.mark.skipif(not UNAV100.is_file(), reason="the UnAV-100 annotation file is not beside the repository")
def test_the_published_file_is_read_whole_and_written_as_it_was(path):
    annotations = read_unav_annotations(UNAV100)
    assert len(annotations.videos) == 10_790
    assert sum(len(video.events) for video in annotations.videos.values()) == 30_059
    assert len(annotations.labels) == 100
    write_unav_annotations(annotations, path)
    assert json.loads(path.read_text()) == json.loads(UNAV100.read_text())
