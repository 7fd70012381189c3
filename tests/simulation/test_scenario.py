from itertools import pairwise

import numpy as np
import pytest

from esg_transformers.annotations.events import Event
from esg_transformers.simulation.scenario import (
    GAP,
    LABELS,
    REOPENING,
    Interval,
    Occurrence,
    Scenario,
    draw_scenario,
    labelled_events,
)


@pytest.fixture(scope="module")
def scenarios() -> list[Scenario]:
    return [draw_scenario(np.random.default_rng(seed), 16.0) for seed in range(200)]


def test_an_event_lasts_while_it_is_both_seen_and_heard():
    picture_first = Occurrence("alarm", seen=Interval(5.0, 8.0), heard=Interval(5.3, 8.2))
    sound_around = Occurrence("person speaking", seen=Interval(2.0, 3.0), heard=Interval(1.8, 3.1))
    assert labelled_events(Scenario(16.0, (picture_first, sound_around))) == (
        Event(2.0, 3.0, "person speaking"),
        Event(5.3, 8.0, "alarm"),
    )


def test_what_is_only_seen_or_only_heard_or_heard_after_it_was_seen_is_no_event():
    occurrences = (
        Occurrence("alarm", seen=Interval(1.0, 3.0), heard=None),
        Occurrence("machine running", seen=None, heard=Interval(1.0, 3.0)),
        Occurrence("door slamming", seen=Interval(5.0, 6.0), heard=Interval(6.0, 7.0)),
    )
    assert labelled_events(Scenario(16.0, occurrences)) == ()


def test_a_clip_has_two_to_six_events_of_one_to_eight_seconds_that_lie_within_it(scenarios):
    for scenario in scenarios:
        events = labelled_events(scenario)
        assert 2 <= len(events) <= 6
        for event in events:
            assert 0 < event.start < event.end < 16
            assert 0.99 <= event.end - event.start <= 8.01  # bounds are rounded to 0.01 s


def test_what_happens_in_one_class_never_meets_in_time_in_either_stream(scenarios):
    for scenario in scenarios:
        for label in LABELS:
            extents = sorted(
                (min(stream.start for stream in streams), max(stream.end for stream in streams))
                for occurrence in scenario.occurrences
                if occurrence.label == label
                for streams in [[stream for stream in (occurrence.seen, occurrence.heard) if stream is not None]]
            )
            gap = REOPENING if label == "door slamming" else GAP
            for (_, end), (start, _) in pairwise(extents):
                assert start - end >= gap - 1e-9


def test_every_class_appears_and_repeats_and_events_of_different_classes_overlap(scenarios):
    clips = [labelled_events(scenario) for scenario in scenarios]
    assert {event.label for clip in clips for event in clip} == set(LABELS)
    repeating = [clip for clip in clips if len({event.label for event in clip}) < len(clip)]
    overlapping = [
        clip
        for clip in clips
        if any(a.start < b.start < a.end or b.start < a.start < b.end for a in clip for b in clip if a.label != b.label)
    ]
    assert len(repeating) >= 50
    assert len(overlapping) >= 50


@pytest.mark.parametrize("stream", ["seen", "heard"])
@pytest.mark.parametrize("label", LABELS)
def test_either_stream_alone_misleads_in_every_class(scenarios, label, stream):
    perceived = [
        occurrence
        for scenario in scenarios
        for occurrence in scenario.occurrences
        if occurrence.label == label and getattr(occurrence, stream) is not None
    ]
    events = [occurrence for occurrence in perceived if occurrence.seen is not None and occurrence.heard is not None]
    # As many events as distractors at most, half as many at least: 1 / 2 to 2 / 3, and what chance adds.
    assert 0.45 < len(events) / len(perceived) < 0.72


def test_a_clip_too_short_for_its_events_is_refused():
    with pytest.raises(ValueError, match=r"`duration` is 3\.0 seconds.* 4 or more"):
        draw_scenario(np.random.default_rng(0), 3.0)
