"""Events of annotated videos: class, start and end in seconds."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Event:
    """An event that is both seen and heard.

    Args:
        start: in seconds from the start of the video.
        end: in seconds, after `start`.
        label: class name.
        score: confidence of a found event; None in ground truth.
    """

    start: float
    end: float
    label: str
    score: float | None = None


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video and its events.

    Args:
        video_id: name of the video, unique in its annotations.
        duration: in seconds; None if unknown.
        split: name of the split, such as `"train"`.
        events: in any order; a video without events is a valid negative.
    """

    video_id: str
    duration: float | None
    split: str
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Annotations:
    """Annotated videos and their classes.

    Args:
        videos: the videos by id.
        labels: class names in the order of their ids.

    Raises:
        ValueError: if a label is listed twice, or an event has a label that is not listed.
    """

    videos: dict[str, AnnotatedVideo]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        used = {event.label for video in self.videos.values() for event in video.events}
        unlisted = sorted(used - set(self.labels))
        repeated = sorted(label for label, count in Counter(self.labels).items() if count > 1)
        if unlisted or repeated:
            raise ValueError(
                "`labels` must list every label of the events exactly once. "
                f"Missing: {unlisted}; repeated: {repeated}; `labels` is {self.labels}."
            )

    @property
    def label2id(self) -> dict[str, int]:
        """Class ids by label."""
        return {label: index for index, label in enumerate(self.labels)}

    def targets_of(self, video: AnnotatedVideo) -> "tuple[np.ndarray, np.ndarray]":
        """Segments, float64 `(N, 2)` in seconds, and class ids, int64 `(N,)`, of the N events of a video."""
        import numpy as np  # here, so that reading annotations and `esg-transformers --help` do without

        label2id = self.label2id
        segments = np.array([(event.start, event.end) for event in video.events], dtype=np.float64).reshape(-1, 2)
        return segments, np.array([label2id[event.label] for event in video.events], dtype=np.int64)

    def split(self, name: str) -> "Annotations":
        """The videos of one split, in their order, with all labels.

        Raises:
            ValueError: if the split has no video; lists the splits that have.
        """
        videos = {video_id: video for video_id, video in self.videos.items() if video.split == name}
        if not videos:
            sizes = Counter(video.split for video in self.videos.values())
            there_are = ", ".join(f"{split!r} ({size} videos)" for split, size in sizes.items()) or "none"
            raise ValueError(f"No video is in split {name!r}. Splits of these annotations: {there_are}.")
        return Annotations(videos, self.labels)

    def durations(self) -> dict[str, float]:
        """Duration of every video in seconds, by id.

        Raises:
            ValueError: if the duration of a video is unknown.
        """
        known = {key: video.duration for key, video in self.videos.items() if video.duration is not None}
        if len(known) < len(self.videos):
            first = next(video_id for video_id in self.videos if video_id not in known)
            raise ValueError(
                f"The duration of {len(self.videos) - len(known)} of {len(self.videos)} videos is not known (first: "
                f"{first!r}), because their annotation file does not state it. Pass `durations` when reading the file, "
                "or measure the videos of a folder: `esg-transformers annotations convert --videos DIR`."
            )
        return {video_id: float(duration) for video_id, duration in known.items()}
