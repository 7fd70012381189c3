"""Collection and checks of the annotations in a file, shared by all readers, and the problems found."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.values import event_problem, is_number, is_safe_video_id, repeated_events

logger = logging.getLogger(__name__)
MAX_EVENTS = 100_000  # of one video: one a second for more than a day

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """A problem of annotations or features.

    Args:
        severity: `"error"` for data that cannot be used, `"warning"` for usable data that is probably a mistake.
        kind: the class of problem in a few words, such as `"unknown label"`.
        message: what came, what was expected, what to do.
        video_id: the video concerned, if it is one.
    """

    severity: Severity
    kind: str
    message: str
    video_id: str | None = None

    def __str__(self) -> str:
        return self.message if self.video_id is None else f"video {self.video_id!r}: {self.message}"


@dataclass
class _Draft:
    """A video as read from its file, before any check."""

    duration: Any = None
    split: Any = None
    events: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)  # start, end, label, score


class AnnotationReading:
    """Videos and events collected from a file so far, and the problems found in them.

    Readers of all formats add videos and events as they meet them, with values of any type. All checks are made here,
    and problems are collected, so that one error (or one report) lists them together.

    Args:
        source: the file or folder, for messages.
        layout: its expected format, for messages, such as `"DESED TSV file"`.
        label2id: class ids `0 ... C - 1` by label, if they are fixed by a model or another file. By default the labels
            are those of the events, sorted.
        durations: seconds of videos by id, used if the file states none.
        split: split of the videos for which the file states none.

    Raises:
        ValueError: if `label2id` does not map its labels to `0 ... C - 1`.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        layout: str,
        label2id: Mapping[str, int] | None = None,
        durations: Mapping[str, float] | None = None,
        split: str = "train",
    ) -> None:
        if label2id is not None and sorted(label2id.values()) != list(range(len(label2id))):
            raise ValueError(
                f"`label2id` must map C labels to 0 ... C - 1, each id once; got ids {sorted(label2id.values())}."
            )
        self.source = Path(source)
        self.layout = layout
        self.label2id = label2id
        self.durations = durations or {}
        self.default_split = split
        self.problems: list[Problem] = []
        self._drafts: dict[str, _Draft] = {}
        self._suggestions: dict[str, str] = {}

    def add_problem(self, kind: str, message: str, video_id: str | None = None, severity: Severity = "error") -> None:
        """Record a problem; see `Problem`."""
        self.problems.append(Problem(severity, kind, message, video_id))

    def add_video(self, video_id: Any, duration: Any = None, split: Any = None) -> bool:
        """Record a video, or the duration and split of a known one. False if its id is unusable."""
        if not is_safe_video_id(video_id):
            self.add_problem(
                "unsafe video id",
                "no file can be named after this id: expected text without / \\ : and control characters",
                repr(video_id) if not isinstance(video_id, str) else video_id,
            )
            return False
        draft = self._drafts.setdefault(video_id, _Draft())
        for name, value in (("duration", duration), ("split", split)):
            known = getattr(draft, name)
            if value is not None and known is not None and value != known:
                kind = "video in two splits" if name == "split" else "bad duration"
                self.add_problem(kind, f"its {name} is {value!r} here and {known!r} before", video_id)
            elif value is not None:
                setattr(draft, name, value)
        return True

    def add_event(self, video_id: Any, start: Any, end: Any, label: Any, score: Any = None) -> None:
        """Record an event, in seconds, and its video if that is new."""
        if video_id in self._drafts or self.add_video(video_id):
            self._drafts[video_id].events.append((start, end, label, score))

    def annotations(self, labels: Sequence[str] | None = None) -> Annotations:
        """All valid videos and events; the others become `problems`.

        Args:
            labels: class names in the order of their ids, if the file states them; `label2id` takes precedence.
        """
        if self.label2id is not None:
            labels = sorted(self.label2id, key=self.label2id.__getitem__)
        known = None if labels is None else set(labels)
        videos = {video_id: self._checked_video(video_id, draft, known) for video_id, draft in self._drafts.items()}
        self._drafts = {}
        used = {event.label for video in videos.values() for event in video.events}
        return Annotations(videos, tuple(sorted(used) if labels is None else labels))

    def raise_for_errors(self) -> None:
        """Raise an error if the file has any; log a warning if it has only warnings.

        Raises:
            ValueError: with the number of errors and the first ten.
        """
        errors = [problem for problem in self.problems if problem.severity == "error"]
        if errors:
            listed = "\n".join(f"- {shortened(str(problem))}" for problem in errors[:10])
            more = f"\nand {len(errors) - 10} more." if len(errors) > 10 else ""
            raise ValueError(
                f"{self.source} is not a valid {self.layout}. Problems found: {len(errors)}.\n{listed}{more}"
            )
        if self.problems:
            logger.warning(f"{self.source}: {len(self.problems)} warnings; first: {shortened(str(self.problems[0]))}")

    def _checked_video(self, video_id: str, draft: _Draft, labels: set[str] | None) -> AnnotatedVideo:
        duration = self._checked_duration(video_id, draft.duration)
        split = self._checked_split(video_id, draft.split)
        if len(draft.events) > MAX_EVENTS:
            self.add_problem(
                "too many events", f"it has {len(draft.events):,} events; the limit is {MAX_EVENTS:,}", video_id
            )
            draft.events = []
        events: list[Event] = []
        for start, end, label, score in draft.events:
            problem = event_problem(start, end, label, score, duration)
            if problem is None and labels is not None and label not in labels:
                suggestion = self._nearest_labels(label, labels)
                problem = "unknown label", f"has a label that is not among the {len(labels)} known{suggestion}"
            if problem is not None:
                kind, what = problem
                self.add_problem(kind, f"event {label!r} from {start!r} to {end!r} s {what}", video_id)
                continue
            end = end if duration is None else min(end, duration)
            events.append(Event(float(start), float(end), label, None if score is None else float(score)))
        for event in repeated_events(events):
            what = f"event {event.label!r} from {event.start:g} to {event.end:g} s occurs twice"
            self.add_problem("duplicate event", what, video_id, "warning")
        return AnnotatedVideo(video_id, duration, split, tuple(events))

    def _checked_duration(self, video_id: str, duration: Any) -> float | None:
        if duration is None:
            duration = self.durations.get(video_id)
        if duration is None:
            return None
        if not is_number(duration) or duration <= 0:
            self.add_problem("bad duration", f'"duration" is {duration!r}, not a positive number of seconds', video_id)
            return None
        return float(duration)

    def _checked_split(self, video_id: str, split: Any) -> str:
        if split is None:
            split = self.default_split
        if isinstance(split, str) and re.fullmatch(r"[A-Za-z0-9_]+", split) and split != "all":
            return split
        what = f'"subset" is {split!r}: a split is named with letters, digits and _, and is not `all`'
        self.add_problem("bad split", what, video_id)
        return self.default_split

    def _nearest_labels(self, label: str, known: set[str]) -> str:
        """Known labels similar to a misspelt one; searched once a label, and for the first ten labels only."""
        if label not in self._suggestions and len(self._suggestions) < 10:
            nearest = get_close_matches(label[:100], known, n=3) or sorted(known)[:3]
            self._suggestions[label] = "; the nearest known labels are " + ", ".join(map(repr, nearest))
        return self._suggestions.get(label, "")


def shortened(text: str) -> str:
    """The first 300 characters of a text."""
    return text if len(text) <= 300 else f"{text[:300]} ..."
