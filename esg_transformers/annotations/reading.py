"""Checks that every annotation reader shares, and the problems that they find."""

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


@dataclass(frozen=True)
class Problem:
    """Something wrong with annotations or features.

    Args:
        severity: `"error"` for what cannot be used, `"warning"` for what can, though it is hardly meant.
        kind: what it is in a few words, the same for all problems of its kind, such as `"unknown label"`.
        message: what came, what was expected, what to do.
        video_id: the video it is about, if it is about one.
    """

    severity: Literal["error", "warning"]
    kind: str
    message: str
    video_id: str | None = None

    def __str__(self) -> str:
        return self.message if self.video_id is None else f"video {self.video_id!r}: {self.message}"


@dataclass
class _Draft:
    """A video while its file is being read."""

    duration: Any = None
    split: Any = None
    events: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)  # start, end, label, score


class AnnotationReading:
    """What a reader has gathered from a file so far, and everything that is wrong with it.

    A reader tells it of videos and events as it comes to them, in whatever form they are; all checks are here, and
    problems are gathered, so that one error (or one report) names them together.

    Args:
        source: the file or folder, for messages.
        layout: what it should be, for messages, such as `"DESED TSV file"`.
        label2id: class ids `0 ... C - 1` by name, where they are fixed already (by a model, by a larger file). Without
            it the labels are those of the events, sorted.
        durations: seconds of videos by id, where the file does not say them.
        split: the split of videos whose split the file does not say.

    Raises:
        ValueError: if `label2id` is not such a mapping.
    """

    def __init__(
        self,
        source: str | os.PathLike,
        layout: str,
        label2id: Mapping[str, int] | None = None,
        durations: Mapping[str, float] | None = None,
        split: str = "train",
    ):
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

    def add_problem(
        self, kind: str, message: str, video_id: str | None = None, severity: Literal["error", "warning"] = "error"
    ) -> None:
        """Note something that is wrong."""
        self.problems.append(Problem(severity, kind, message, video_id))

    def add_video(self, video_id: Any, duration: Any = None, split: Any = None) -> bool:
        """Note a video, or more about one: seconds and split if they are said here. False if its id cannot be used."""
        if not is_safe_video_id(video_id):
            self.add_problem(
                "unsafe video id",
                "files cannot be named after this id; it must be without / \\ : and control characters",
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
        """Note an event, in seconds; a video that was not noted before is noted by it."""
        if video_id in self._drafts or self.add_video(video_id):
            self._drafts[video_id].events.append((start, end, label, score))

    def annotations(self, labels: Sequence[str] | None = None) -> Annotations:
        """All that is sound; what is not is in `problems`, and left out.

        Args:
            labels: class names in the order of their ids, where the file says so.
        """
        if self.label2id is not None:
            labels = sorted(self.label2id, key=self.label2id.__getitem__)
        known = None if labels is None else set(labels)
        videos = {video_id: self._checked_video(video_id, draft, known) for video_id, draft in self._drafts.items()}
        self._drafts = {}
        used = {event.label for video in videos.values() for event in video.events}
        return Annotations(videos, tuple(sorted(used) if labels is None else labels))

    def raise_for_errors(self) -> None:
        """Refuse the file if an error was found in it; warnings are logged.

        Raises:
            ValueError: naming the first errors and how many there are.
        """
        errors = [problem for problem in self.problems if problem.severity == "error"]
        if errors:
            listed = "\n".join(f"- {shortened(str(problem))}" for problem in errors[:10])
            more = f"\nand {len(errors) - 10} more." if len(errors) > 10 else ""
            raise ValueError(
                f"{self.source} is not a sound {self.layout}. Problems found: {len(errors)}.\n{listed}{more}"
            )
        if self.problems:
            logger.warning(
                f"{self.source}: {len(self.problems)} things to look at; the first: {shortened(str(self.problems[0]))}"
            )

    def _checked_video(self, video_id: str, draft: _Draft, labels: set[str] | None) -> AnnotatedVideo:
        duration, split = draft.duration, draft.split
        if duration is None:
            duration = self.durations.get(video_id)
        if duration is not None and (not is_number(duration) or duration <= 0):
            self.add_problem("bad duration", f'"duration" is {duration!r}, not a positive number of seconds', video_id)
            duration = None
        if split is None:
            split = self.default_split
        if not isinstance(split, str) or not re.fullmatch(r"[A-Za-z0-9_]+", split) or split == "all":
            self.add_problem(
                "bad split",
                f'"subset" is {split!r}, not the name of a split: letters, digits and _, and not `all`',
                video_id,
            )
            split = self.default_split
        if len(draft.events) > MAX_EVENTS:
            self.add_problem(
                "too many events", f"it has {len(draft.events):,} events; {MAX_EVENTS:,} are the most", video_id
            )
            draft.events = []
        events: list[Event] = []
        for start, end, label, score in draft.events:
            found = event_problem(start, end, label, score, duration)
            if found is None and labels is not None and label not in labels:
                found = (
                    "unknown label",
                    f"has a label that is not among the {len(labels)} known{self._nearest(label, labels)}",
                )
            if found is not None:
                kind, what = found
                self.add_problem(kind, f"event {label!r} from {start!r} to {end!r} s {what}", video_id)
                continue
            end = end if duration is None else min(end, duration)
            events.append(Event(float(start), float(end), label, None if score is None else float(score)))
        for event in repeated_events(events):
            self.add_problem(
                "duplicate event",
                f"event {event.label!r} from {event.start:g} to {event.end:g} s is there twice",
                video_id,
                "warning",
            )
        return AnnotatedVideo(video_id, None if duration is None else float(duration), split, tuple(events))

    def _nearest(self, label: str, known: set[str]) -> str:
        """The known labels that a misspelt one may stand for; they are looked for once a label, and for ten labels."""
        if label not in self._suggestions and len(self._suggestions) < 10:
            nearest = get_close_matches(label[:100], known, n=3) or sorted(known)[:3]
            self._suggestions[label] = "; the nearest known labels are " + ", ".join(map(repr, nearest))
        return self._suggestions.get(label, "")


def shortened(text: str) -> str:
    """The text, cut to 300 characters for a message."""
    return text if len(text) <= 300 else f"{text[:300]} ..."
