"""Rules for single values in annotations: video ids, labels, times, scores; and for whole events."""

import re
from collections.abc import Sequence
from typing import Any

from esg_transformers.annotations.events import Event

DURATION_TOLERANCE = 0.01  # s; durations of the published file have two decimals at most, and no event ends after them
DUPLICATE_TOLERANCE = 1e-3  # s; events of one class this close count once, as in UnAV's evaluator (commit 1609deb)


def is_safe_video_id(video_id: object) -> bool:
    r"""Whether files can be named after a video id: a string that stays in its folder on every system.

    >>> [is_safe_video_id(name) for name in ("-YZ5bDlUlug", "site 3.mp4", "../other", "a\\b", "C:x", "..", "", 7)]
    [True, True, False, False, False, False, False, False]
    """
    if not isinstance(video_id, str) or video_id in (".", "..") or len(video_id) > 200:
        return False
    return re.fullmatch(r"[^/\\:\x00-\x1f\x7f\ud800-\udfff]+", video_id) is not None


def is_label(label: object) -> bool:
    r"""Whether something can be the name of a class: text, not blank, without control characters.

    >>> [is_label(label) for label in ("dog barking", "Hund, laut", " ", "a\tb", None)]
    [True, True, False, False, False]
    """
    return isinstance(label, str) and re.fullmatch(r"(?=.*\S)[^\x00-\x1f\x7f\ud800-\udfff]+", label) is not None


def event_problem(start: Any, end: Any, label: Any, score: Any, duration: float | None) -> tuple[str, str] | None:
    """What is wrong with an event of a video of `duration` seconds, as kind and message; or None."""
    if not (is_number(start) and is_number(end)):
        return "bad event", "is not timed in seconds"
    if not is_label(label):
        return "bad label", "has no class name that can be used: text without control characters"
    if end == start:
        return "event without length", "needs 0 <= start < end; it has no length"
    if start < 0 or end < start:
        return "bad event", "needs 0 <= start < end"
    if duration is not None and (end > duration + DURATION_TOLERANCE or start >= duration):
        return "event outside the video", f"is not within the video, which has {duration} s"
    if not (score is None or is_number(score)):
        return "bad event", f"has score {score!r}, which is not a number"
    return None


def repeated_events(events: Sequence[Event]) -> list[Event]:
    """True events that repeat an earlier one of their class, both ends within `DUPLICATE_TOLERANCE`."""
    repeats = []
    kept: dict[tuple[str, int, int], Event] = {}  # by class and by the cell, one tolerance wide, of both ends
    for event in events:
        start, end = int(event.start // DUPLICATE_TOLERANCE), int(event.end // DUPLICATE_TOLERANCE)
        near = [kept.get((event.label, start + i, end + j)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        is_repeat = any(
            other is not None
            and abs(other.start - event.start) <= DUPLICATE_TOLERANCE
            and abs(other.end - event.end) <= DUPLICATE_TOLERANCE
            for other in near
        )
        if event.score is None and is_repeat:
            repeats.append(event)
        elif event.score is None:
            kept.setdefault((event.label, start, end), event)
    return repeats


def is_number(value: Any) -> bool:
    """Whether a time or score is a number, of a size that float64 counts one by one; NaN is below nothing."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53
