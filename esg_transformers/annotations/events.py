"""Events of annotated videos: class, start and end in seconds."""

from collections import Counter
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Event:
    """Something both seen and heard from `start` to `end` (seconds); `score` is None in ground truth."""

    start: float
    end: float
    label: str
    score: float | None = None


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video, its duration in seconds (None if not known), its split, and its events, of which there may be none."""

    video_id: str
    duration: float | None
    split: str
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Annotations:
    """Annotated videos by id, and the class names in the order of their ids.

    Raises:
        ValueError: if a label is given twice, or an event has a label that is not given.
    """

    videos: dict[str, AnnotatedVideo]
    labels: tuple[str, ...]

    def __post_init__(self):
        used = {event.label for video in self.videos.values() for event in video.events}
        if len(set(self.labels)) != len(self.labels) or not used <= set(self.labels):
            unknown = sorted(used - set(self.labels))
            raise ValueError(
                f"`labels` must hold every label once; events have {unknown}, and `labels` is {self.labels}."
            )

    @property
    def label2id(self) -> dict[str, int]:
        """Class ids by name."""
        return {label: index for index, label in enumerate(self.labels)}

    def targets_of(self, video: AnnotatedVideo) -> tuple[np.ndarray, np.ndarray]:
        """Segments, float64 `(N, 2)` in seconds, and class ids, int64 `(N,)`, of a video's events."""
        label2id = self.label2id
        segments = np.array([(event.start, event.end) for event in video.events], dtype=np.float64).reshape(-1, 2)
        return segments, np.array([label2id[event.label] for event in video.events], dtype=np.int64)

    def split(self, name: str) -> "Annotations":
        """The videos of one split, in their order, with all labels.

        Raises:
            ValueError: if no video is in that split; lists the splits there are.
        """
        videos = {video_id: video for video_id, video in self.videos.items() if video.split == name}
        if not videos:
            sizes = Counter(video.split for video in self.videos.values())
            there_are = ", ".join(f"{split!r} ({size} videos)" for split, size in sizes.items()) or "none"
            raise ValueError(f"No video is in split {name!r}. Splits of these annotations: {there_are}.")
        return Annotations(videos, self.labels)

    def durations(self) -> dict[str, float]:
        """Seconds of every video, by id.

        Raises:
            ValueError: if that of a video is not known.
        """
        unknown = [video.video_id for video in self.videos.values() if video.duration is None]
        if unknown:
            raise ValueError(
                f"The duration of {len(unknown)} of {len(self.videos)} videos is not known (the first is "
                f"{unknown[0]!r}): their annotations do not say it. Give `durations` when reading them; "
                "`esg-transformers annotations convert --media DIR` measures those of the videos in a folder."
            )
        return {video_id: float(video.duration) for video_id, video in self.videos.items()}  # type: ignore[arg-type]
