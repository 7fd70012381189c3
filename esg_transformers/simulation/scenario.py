"""Workshop scenarios: when each thing is seen and when it is heard, and the events that follow.

A class is often only seen (the lamp flashes in silence) or only heard (an alarm in the next room). Neither is an event,
so one stream alone misleads.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from esg_transformers.annotations.events import Event

LABELS = ("alarm", "door slamming", "machine running", "person speaking")
GAP = 0.6  # s, shortest gap between two occurrences of a class
SWING = 0.7  # s from the start of a slam, seen or heard, until the door meets its frame
REOPENING = 2.0  # s in which the door opens again; also the shortest gap between two slams


class Interval(NamedTuple):
    """An interval of time, in seconds from the start of the clip."""

    start: float
    end: float


@dataclass(frozen=True)
class Occurrence:
    """One occurrence of a class: when it is seen and when it is heard; `None` for a stream that it is not in."""

    label: str
    seen: Interval | None
    heard: Interval | None


@dataclass(frozen=True)
class Scenario:
    """All occurrences in a clip of `duration` seconds."""

    duration: float
    occurrences: tuple[Occurrence, ...]


def draw_scenario(rng: np.random.Generator, duration: float) -> Scenario:
    """Draw 2 to 6 events and, for each stream, half as many to equally many distractors.

    A distractor is an occurrence that is only seen or only heard. Occurrences that do not fit are left out. Occurrences
    of different classes may overlap. Occurrences of one class, distractors included, are at least `GAP` seconds apart,
    so the sound of one never coincides with the picture of another and makes an unlabelled event.

    Args:
        rng: source of all random draws.
        duration: seconds of the clip, >= 4.

    Raises:
        ValueError: if `duration` is below 4 seconds.
    """
    if not duration >= 4:
        raise ValueError(f"`duration` is {duration} seconds; a clip needs 4 or more to hold its events.")
    num_events = int(rng.integers(2, 7))
    num_seen, num_heard = rng.integers((num_events + 1) // 2, num_events + 1, size=2)
    occurrences = []
    taken: dict[str, list[Interval]] = {label: [] for label in LABELS}
    # In random order: later occurrences get shorter gaps, and length must not distinguish events from distractors.
    for streams in rng.permutation(["both"] * num_events + ["seen"] * num_seen + ["heard"] * num_heard):
        for _ in range(50):  # tries
            label = LABELS[rng.integers(len(LABELS))]
            gap = REOPENING if label == "door slamming" else GAP
            seen, heard = _draw_intervals(rng, duration, label)
            start, end = min(seen.start, heard.start), max(seen.end, heard.end)
            if all(start - other.end >= gap or other.start - end >= gap for other in taken[label]):
                taken[label].append(Interval(start, end))
                occurrences.append(
                    Occurrence(label, None if streams == "heard" else seen, None if streams == "seen" else heard)
                )
                break
    return Scenario(duration, tuple(occurrences))


def _draw_intervals(rng: np.random.Generator, duration: float, label: str) -> tuple[Interval, Interval]:
    """Draw when a class is seen and when it is heard: 1 to 8 s shared; one stream is a little longer at each end."""
    if label == "door slamming":
        length, asynchrony = rng.uniform(1.1, 1.4), 0.1
    else:
        length, asynchrony = math.exp(rng.uniform(0, math.log(min(8.0, duration / 2)))), 0.4
    start = rng.uniform(0.5, duration - 0.5 - length)
    lead, lag = rng.uniform(-asynchrony, asynchrony, size=2)  # positive: of the sound; negative: of the picture
    seen = Interval(round(start + min(lead, 0), 2), round(start + length - min(lag, 0), 2))
    heard = Interval(round(start - max(lead, 0), 2), round(start + length + max(lag, 0), 2))
    return seen, heard


def labelled_events(scenario: Scenario) -> tuple[Event, ...]:
    """Events of a scenario, by start time: the interval in which an occurrence is both seen and heard.

    >>> alarm = Occurrence("alarm", seen=Interval(2.0, 5.0), heard=Interval(1.5, 4.5))
    >>> flash = Occurrence("alarm", seen=Interval(7.0, 9.0), heard=None)
    >>> labelled_events(Scenario(16.0, (flash, alarm)))
    (Event(start=2.0, end=4.5, label='alarm', score=None),)
    """
    events = []
    for occurrence in scenario.occurrences:
        if occurrence.seen is not None and occurrence.heard is not None:
            start = max(occurrence.seen.start, occurrence.heard.start)
            end = min(occurrence.seen.end, occurrence.heard.end)
            if start < end:
                events.append(Event(start, end, occurrence.label))
    return tuple(sorted(events, key=lambda event: (event.start, event.end)))
