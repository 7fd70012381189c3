"""One training example, the data sets that yield them, and checks of feature arrays."""

from typing import TypedDict

import numpy as np

from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid


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
