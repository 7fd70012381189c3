import re

import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Event
from esg_transformers.annotations.reading import AnnotationReading


def reading_of(*events, duration=10.0, split="train", video_id="a", default_split="train", **options):
    """A reading of one video, with (start, end), (start, end, label) or (start, end, label, score) as events."""
    reading = AnnotationReading("events.json", "annotation file", split=default_split, **options)
    reading.add_video(video_id, duration, split)
    for start, end, *others in events:
        reading.add_event(video_id, start, end, *(others or ["dog barking"]))
    return reading


def kinds(reading):
    return [(problem.severity, problem.kind) for problem in reading.problems]


def test_an_event_may_end_a_hundredth_of_a_second_late_and_is_clamped():
    reading = reading_of((9.0, 10.009), (9.0, 10.02))
    assert reading.annotations().videos["a"].events == (Event(9.0, 10.0, "dog barking"),)
    assert kinds(reading) == [("error", "event outside the video")]
    assert "10.0 s" in reading.problems[0].message


@pytest.mark.parametrize("times", [(2.0, 2.0), (3.0, 2.0), (-0.5, 2.0)])
def test_an_event_must_start_in_the_video_and_before_it_ends(times):
    reading = reading_of(times)
    assert reading.annotations().videos["a"].events == ()
    assert "0 <= start < end" in reading.problems[0].message


@pytest.mark.parametrize("duration", [0, -1.0, float("nan"), float("inf"), "10", True])
def test_a_duration_that_is_not_a_positive_number_is_a_problem(duration):
    reading = reading_of((1.0, 2.0), duration=duration)
    assert reading.annotations().videos["a"].duration is None
    assert kinds(reading) == [("error", "bad duration")]
    assert repr(duration) in reading.problems[0].message


def test_a_duration_and_a_split_that_the_file_does_not_state_may_be_given():
    reading = reading_of((1.0, 2.0), duration=None, split=None, durations={"a": 7.5}, default_split="test")
    video = AnnotatedVideo("a", 7.5, "test", (Event(1.0, 2.0, "dog barking"),))
    assert reading.annotations().videos == {"a": video}
    reading = reading_of((1.0, 2.0), duration=None, durations={"a": 1.5})
    assert reading.annotations().videos["a"].events == ()
    assert "1.5 s" in reading.problems[0].message


@pytest.mark.parametrize("split", ["", "all", "my split", 3])
def test_a_split_is_named_with_letters_digits_and_underscores_and_is_not_all(split):
    reading = reading_of(split=split)
    assert reading.annotations().videos["a"].split == "train"
    assert kinds(reading) == [("error", "bad split")]


def test_a_video_with_two_durations_or_splits_is_a_problem():
    reading = reading_of(duration=10.0, split="train")
    reading.add_video("a", 10.0, "train")
    assert reading.problems == []
    reading.add_video("a", 11.0, "test")
    assert kinds(reading) == [("error", "bad duration"), ("error", "video in two splits")]


def test_an_event_given_twice_is_kept_with_a_warning():
    events = ((1.0, 2.0), (1.0005, 2.0005), (1.0, 2.002), (1.0, 2.0, "speech"), (1.0, 2.0, "dog barking", 0.5))
    reading = reading_of(*events)
    assert len(reading.annotations().videos["a"].events) == 5
    assert kinds(reading) == [("warning", "duplicate event")]


def test_the_valid_part_is_read_and_every_problem_has_its_kind():
    reading = reading_of(
        (1.0, 2.0), (3.0, 3.0), (8.0, 11.0), (1.0, 2.0, 7), ("1", 2.0), (1.0, 2.0, "speech", float("nan"))
    )
    assert reading.annotations().videos["a"].events == (Event(1.0, 2.0, "dog barking"),)
    assert kinds(reading) == [
        ("error", "event without length"),
        ("error", "event outside the video"),
        ("error", "bad label"),
        ("error", "bad event"),
        ("error", "bad event"),
    ]


@pytest.mark.parametrize("video_id", ["../a", "/etc/passwd", "a/b", "a\\b", "a\0", "..", "", "C:a", 7, None])
def test_a_video_id_that_is_not_a_file_name_is_a_problem(video_id):
    reading = reading_of((1.0, 2.0), video_id=video_id)
    assert reading.annotations().videos == {}
    assert kinds(reading) == [("error", "unsafe video id")] * 2  # of the video and of its event


def test_a_label_outside_the_fixed_classes_is_refused_with_the_nearest_known():
    reading = reading_of((1.0, 2.0, "dog bark"), label2id={"machine": 1, "dog barking": 0})
    assert reading.annotations().labels == ("dog barking", "machine")
    assert kinds(reading) == [("error", "unknown label")]
    assert re.search("'dog bark' .*2 known.*'dog barking'", reading.problems[0].message)
    with pytest.raises(ValueError, match=r"`label2id` .*\[1\]"):
        AnnotationReading("events.json", "annotation file", {"dog bark": 1})


def test_all_problems_are_counted_and_the_first_ten_listed():
    reading = reading_of(*[(2.0, 1.0)] * 12, split="")
    reading.annotations()
    with pytest.raises(ValueError, match=r"events\.json .*annotation file\. Problems found: 13\.") as refusal:
        reading.raise_for_errors()
    assert str(refusal.value).count("\n- ") == 10
    assert "and 3 more." in str(refusal.value)


def test_warnings_alone_are_logged_and_not_raised(caplog):
    reading = reading_of((1.0, 2.0), (1.0, 2.0))
    reading.annotations()
    reading.raise_for_errors()
    assert re.search(r"events\.json: 1 warnings.*'a'", caplog.text)


def test_ten_thousand_unknown_labels_are_named_in_no_time():
    events = [(1.0, 2.0, f"class {index}") for index in range(10_000)]
    reading = reading_of(*events, label2id={"dog barking": 0})
    reading.annotations()
    assert kinds(reading) == [("error", "unknown label")] * 10_000


def test_a_million_events_of_one_video_are_one_problem():
    reading = reading_of(*[(1.0, 2.0)] * 1_000_000)
    assert reading.annotations().videos["a"].events == ()
    assert kinds(reading) == [("error", "too many events")]
    assert re.search("1,000,000 events.*100,000", reading.problems[0].message)
