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


def test_a_duration_may_be_unknown_until_it_is_needed_or_given(path):
    write(path, event(), duration=None)
    annotations = read_unav_annotations(path)
    assert annotations.videos["a"].duration is None
    with pytest.raises(ValueError, match="duration of 1 of 1 videos .*'a'"):
        write_unav_annotations(annotations, path)
    assert read_unav_annotations(path, durations={"a": 7.5}).durations() == {"a": 7.5}
    with pytest.raises(ValueError, match=r"event 'dog barking' from 1\.0 to 2\.0 s .*1\.5 s"):
        read_unav_annotations(path, durations={"a": 1.5})


def test_activitynet_s_own_files_have_no_label_ids_and_give_labels_in_alphabetical_order(path):
    write(path, event(label="speech", label_id=None), event(label="dog barking", label_id=None))
    assert read_unav_annotations(path).labels == ("dog barking", "speech")


def test_the_valid_part_is_read_and_the_rest_becomes_problems(path):
    write(path, event(1.0, 2.0), event(3.0, 3.0), event(8.0, 11.0), event(label=7), event(3.0, 4.0, label_id="0"))
    reading = AnnotationReading(path, "annotation file")
    annotations = scan_unav_annotations(reading)
    assert [problem.kind for problem in reading.problems] == [
        "bad label id",
        "event without length",
        "event outside the video",
        "bad label",
    ]
    assert annotations.videos["a"].events == (Event(1.0, 2.0, "dog barking"), Event(3.0, 4.0, "dog barking"))


def test_a_label_with_two_ids_and_an_id_with_two_labels_are_refused(path):
    with pytest.raises(ValueError, match="'dog barking' has label_id 1 here and 0 before"):
        read_unav_annotations(write(path, event(), event(label_id=1)))
    with pytest.raises(ValueError, match="label_id 0 is 'speech' here and 'dog barking' before"):
        read_unav_annotations(write(path, event(), event(label="speech")))


def test_fixed_classes_decide_over_the_ids_of_the_file(path):
    write(path, event(label="speech", label_id=0))
    assert read_unav_annotations(path, {"dog barking": 0, "speech": 1}).labels == ("dog barking", "speech")


def test_ids_with_gaps_become_class_ids_in_their_order_with_a_warning(path, caplog):
    write(path, event(label="speech", label_id=7), event(3, 4, label="dog barking", label_id=2))
    assert read_unav_annotations(path).labels == ("dog barking", "speech")
    assert "annotations.json are not 0 ... 1" in caplog.text


def test_a_video_given_twice_is_refused(path):
    entry = '{"duration": 1, "subset": "train", "annotations": []}'
    path.write_text(f'{{"database": {{"a": {entry}, "a": {entry}}}}}')
    with pytest.raises(ValueError, match="'a' "):
        read_unav_annotations(path)


def test_other_files_are_refused(path):
    with pytest.raises(FileNotFoundError, match=r"annotations\.json"):
        read_unav_annotations(path)
    path.write_text('{"results": {}}')
    with pytest.raises(ValueError, match='no "database"'):
        read_unav_annotations(path)
    path.write_text('{"database": {"a": [], "b": {"duration": 1, "subset": "x", "annotations": [3]}}}')
    with pytest.raises(ValueError, match="Problems found: 3"):  # no annotations, no subset, no event
        read_unav_annotations(path)


@pytest.mark.slow
@pytest.mark.skipif(not UNAV100.is_file(), reason="the UnAV-100 annotation file is not beside the repository")
def test_the_published_file_is_read_whole_and_written_as_it_was(path):
    annotations = read_unav_annotations(UNAV100)
    assert len(annotations.videos) == 10_790
    assert sum(len(video.events) for video in annotations.videos.values()) == 30_059
    assert len(annotations.labels) == 100
    write_unav_annotations(annotations, path)
    assert json.loads(path.read_text()) == json.loads(UNAV100.read_text())
