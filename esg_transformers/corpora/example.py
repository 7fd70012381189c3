"""One training example, the data sets that yield them, and checks of feature arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np

from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid, FeatureSpec


class Example(TypedDict):
    """One video as the model is trained on it: what every data set of this package yields.

    Features are `(T, channels)`, of the same T in both streams and in the precision they are stored with; a stream is
    None when the video has no picture or no sound. `segments` are float64 `(N, 2)` in seconds, `labels` are int64
    `(N,)` class ids; N may be 0.
    """

    video_id: str
    duration: float
    visual_features: np.ndarray | None
    audio_features: np.ndarray | None
    segments: np.ndarray
    labels: np.ndarray


@runtime_checkable
class VideoDataset(Protocol):
    """A map-style data set of examples, as training, evaluation and `write_corpus` take it.

    `torch.utils.data.DataLoader` reads it as it is; it may subclass `torch.utils.data.Dataset`.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names by id."""
        ...

    @property
    def feature_spec(self) -> FeatureSpec:
        """What the features are."""
        ...

    @property
    def video_ids(self) -> tuple[str, ...]:
        """The id of each example, known without reading it."""
        ...

    @property
    def durations(self) -> tuple[float, ...]:
        """Seconds of each video, known without reading it."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@runtime_checkable
class Resumable(Protocol):
    """A data set whose examples can be told apart without reading them, so that a corpus build can resume."""

    def fingerprint(self, index: int) -> str:
        """A string that differs whenever the example does."""
        ...


@dataclass(frozen=True)
class ExampleList:
    """A `VideoDataset` of examples that are in memory.

    Args:
        examples: the examples.
        labels: class names by id.
        feature_spec: what their features are.

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
        """The id of each example."""
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

    The number of steps may differ from `grid.num_steps(duration)` by 10 % and two steps: annotated durations are
    rounded (6,890 of UnAV-100's 10,790 to whole seconds), extractors pad or drop the last window, and sound and
    picture of one file differ in length (162 and 165 steps in v-iashin/video_features#66). From 10 s on, the length
    of UnAV-100's shortest video, that tells its two published grids apart.

    Raises:
        ValueError: unless it is `(T, size)`, of floats, finite, and of a possible length.

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
    """Whether no value is NaN or infinite.

    >>> are_finite(np.array([1.0, -65504.0], np.float16)), are_finite(np.array([1.0, np.nan], np.float16))
    (True, False)
    """
    if features.dtype == np.float16:
        # The exponents' bits say it twenty times as fast as `np.isfinite`, which converts half floats one by one.
        return not ((features.view(np.uint16) & 0x7C00) == 0x7C00).any()
    return bool(np.isfinite(features).all())
