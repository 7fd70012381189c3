"""Rules for values in annotations: video ids, labels and numbers, and the times of an event."""

import re
from collections.abc import Iterable
from typing import Any, TypeGuard

from esg_transformers.annotations.events import Event

# s that an event may end after its video, for rounding: durations in UnAV-100's file have at most two decimals.
DURATION_TOLERANCE = 0.01
DUPLICATE_TOLERANCE = 1e-3  # s; events of one class this close count once, as in UnAV's evaluator (commit 1609deb)


def is_safe_video_id(video_id: object) -> TypeGuard[str]:
    r"""True if a file can be named after a video id without leaving its folder, on every operating system.

    >>> [is_safe_video_id(name) for name in ("-YZ5bDlUlug", "site 3.mp4", "../other", "a\\b", "C:x", "..", "", 7)]
    [True, True, False, False, False, False, False, False]
    """
    if not isinstance(video_id, str) or video_id in (".", "..") or len(video_id) > 200:
        return False
    return re.fullmatch(r"[^/\\:\x00-\x1f\x7f\ud800-\udfff]+", video_id) is not None


def is_label(label: object) -> TypeGuard[str]:
    r"""True if a value can be a class name: text that is not blank and has no control characters.

    >>> [is_label(label) for label in ("dog barking", "Hund, laut", " ", "a\tb", None)]
    [True, True, False, False, False]
    """
    return isinstance(label, str) and re.fullmatch(r"(?=.*\S)[^\x00-\x1f\x7f\ud800-\udfff]+", label) is not None


def is_number(value: object) -> TypeGuard[int | float]:
    """True if a value is a number of absolute value below 2**53, up to which float64 holds integers exactly.

    >>> [is_number(value) for value in (1.5, -3, True, float("nan"), 2**53, "1")]
    [True, True, False, False, False, False]
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53


def is_integer(value: object) -> TypeGuard[int]:
    """True if a value is an `int` and not a `bool`."""
    return isinstance(value, int) and not isinstance(value, bool)


def event_problem(start: Any, end: Any, label: Any, score: Any, duration: float | None) -> tuple[str, str] | None:
    """The first rule that an event breaks, as kind and message of a `Problem`; None for a valid event.

    Args:
        start, end, label, score: of any type, as read from the file.
        duration: seconds of the video; None if unknown.

    >>> event_problem(3.0, 2.0, "alarm", None, duration=10.0)
    ('bad event', 'needs 0 <= start < end')
    """
    if not (is_number(start) and is_number(end)):
        return "bad event", "has no start and end that are numbers of seconds"
    if not is_label(label):
        return "bad label", "has no usable class name: expected text without control characters, not blank"
    if end == start:
        return "event without length", "needs 0 <= start < end; its length is 0"
    if start < 0 or end < start:
        return "bad event", "needs 0 <= start < end"
    if duration is not None and (end > duration + DURATION_TOLERANCE or start >= duration):
        return "event outside the video", f"is not within the video, which lasts {duration} s"
    if not (score is None or is_number(score)):
        return "bad event", f"has score {score!r}, which is not a number"
    return None


def repeated_events(events: Iterable[Event]) -> list[Event]:
    """True events that repeat an earlier one of their class, with start and end within `DUPLICATE_TOLERANCE`."""
    repeats = []
    kept: dict[tuple[str, int, int], Event] = {}  # by label and by the cell, one tolerance wide, of start and end
    for event in events:
        if event.score is not None:
            continue
        start, end = int(event.start // DUPLICATE_TOLERANCE), int(event.end // DUPLICATE_TOLERANCE)
        near = [kept.get((event.label, start + i, end + j)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        if any(
            other is not None
            and abs(other.start - event.start) <= DUPLICATE_TOLERANCE
            and abs(other.end - event.end) <= DUPLICATE_TOLERANCE
            for other in near
        ):
            repeats.append(event)
        else:
            kept.setdefault((event.label, start, end), event)
    return repeats
