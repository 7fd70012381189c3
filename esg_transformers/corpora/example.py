"""Training examples, the protocol of data sets that yield them, and checks of feature arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np

from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid, FeatureSpec


class Example(TypedDict):
    """One video with its features and events, as every data set of this package yields it.

    Keys:
        video_id: the id of the video.
        duration: seconds.
        visual_features: floats `(T, visual channels)` in the precision of their storage; None without picture.
        audio_features: floats `(T, audio channels)`, with the same T; None without sound.
        segments: float `(N, 2)`, start and end of each event in seconds; N may be 0.
        labels: int64 `(N,)`, class ids.
    """

    video_id: str
    duration: float
    visual_features: np.ndarray | None
    audio_features: np.ndarray | None
    segments: np.ndarray
    labels: np.ndarray


@runtime_checkable
class VideoDataset(Protocol):
    """A map-style data set of examples, the input of training, evaluation and `write_corpus`.

    `torch.utils.data.DataLoader` takes it directly; it may subclass `torch.utils.data.Dataset`.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names by id."""
        ...

    @property
    def feature_spec(self) -> FeatureSpec:
        """Time grid, channels and encoder of the features."""
        ...

    @property
    def video_ids(self) -> tuple[str, ...]:
        """The id of each video, without reading features."""
        ...

    @property
    def durations(self) -> tuple[float, ...]:
        """Seconds of each video, without reading features."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@runtime_checkable
class Resumable(Protocol):
    """A data set that identifies its examples without reading them, so that `write_corpus` can resume."""

    def fingerprint(self, index: int) -> str:
        """A string that changes whenever the example changes."""
        ...


@dataclass(frozen=True)
class ExampleList:
    """A `VideoDataset` of examples in memory.

    Args:
        examples: the examples.
        labels: class names by id.
        feature_spec: time grid, channels and encoder of their features.

    >>> spec = FeatureSpec(FeatureGrid(2.0, 1, 1), visual_size=3, audio_size=2)
    >>> features = {"visual_features": np.zeros((8, 3)), "audio_features": None}
    >>> events = {"segments": np.array([[0.5, 2.0]]), "labels": np.array([0])}
    >>> videos = ExampleList([{"video_id": "first", "duration": 4.0, **features, **events}], ("alarm",), spec)
    >>> len(videos), videos.video_ids, videos.durations
    (1, ('first',), (4.0,))
    """

    examples: Sequence[Example]
    labels: tuple[str, ...]
    feature_spec: FeatureSpec

    @property
    def video_ids(self) -> tuple[str, ...]:
        """The id of each video."""
        return tuple(example["video_id"] for example in self.examples)

    @property
    def durations(self) -> tuple[float, ...]:
        """Seconds of each video."""
        return tuple(example["duration"] for example in self.examples)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


def check_features(features: np.ndarray, size: int, grid: FeatureGrid, duration: float) -> None:
    """Refuse an array that cannot be the features of a video of `duration` seconds on `grid`.

    The number of steps may differ from `grid.num_steps(duration)` by 10 % plus two steps: annotated durations are
    rounded (6,890 of UnAV-100's 10,790 to whole seconds), extractors pad or drop the last window, and sound and
    picture of one file differ in length (162 and 165 steps in v-iashin/video_features#66). For videos of 10 s and
    longer (UnAV-100's shortest), this margin still separates the two published grids of UnAV-100.

    Args:
        features: the array.
        size: expected channels.
        grid: expected time grid.
        duration: seconds of the video.

    Raises:
        ValueError: if it is not `(T, size)`, not of floats or not finite, or if T does not fit the duration.

    >>> check_features(np.zeros((37, 8), np.float16), 8, FeatureGrid(25.0, 8, 24), duration=10.0)
    Traceback (most recent call last):
    ValueError: it has 37 steps; a video of 10 s has 29 at 25 frames/s, stride 8, window 24. ...
    """
    if features.ndim != 2 or features.shape[1] != size or features.dtype.kind != "f":
        raise ValueError(f"it holds {features.dtype} {features.shape}; expected floats of shape (steps, {size}).")
    expected = grid.num_steps(duration)
    if len(features) == 0 or abs(len(features) - expected) > 0.1 * expected + 2:
        raise ValueError(
            f"it has {len(features)} steps; a video of {duration:g} s has {expected} at {grid}. "
            "Check the duration, and that the features were made on this grid."
        )
    if not are_finite(features):
        raise ValueError(f"it holds {np.count_nonzero(~np.isfinite(features))} values that are NaN or infinite.")


def are_finite(features: np.ndarray) -> bool:
    """True if no value is NaN or infinite.

    >>> are_finite(np.array([1.0, -65504.0], np.float16)), are_finite(np.array([1.0, np.nan], np.float16))
    (True, False)
    """
    if features.dtype == np.float16:
        # Twenty times as fast as `np.isfinite`, which converts half floats one by one: all exponent bits are set.
        return not ((features.view(np.uint16) & 0x7C00) == 0x7C00).any()
    return bool(np.isfinite(features).all())
