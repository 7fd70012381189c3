"""Resampling of features from one time grid to another."""

import numpy as np
import torch

from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid


def resample_features(features: np.ndarray, grid: FeatureGrid, to: FeatureGrid, num_steps: int) -> np.ndarray:
    """Features on another grid, by linear interpolation between centre times.

    Before the first centre of `grid`, and after the last, the first and last feature are repeated. There is no
    averaging: on a much coarser grid, a feature still depends on only the two steps nearest to its centre.

    Args:
        features: floats `(T, channels)`, T >= 1.
        grid: time grid of `features`.
        to: time grid of the result.
        num_steps: steps of the result, >= 0; `to.num_steps(duration)` fit in a video.

    Returns:
        `(num_steps, channels)`, with the dtype of `features`.

    >>> slow, fast = FeatureGrid(frame_rate=1.0, stride=2, window=2), FeatureGrid(frame_rate=1.0, stride=1, window=2)
    >>> features = np.array([[0.0], [4.0]])  # at 1 s and 3 s
    >>> resample_features(features, slow, fast, num_steps=4).tolist()  # at 1, 2, 3 and 4 s
    [[0.0], [2.0], [4.0], [4.0]]
    """
    positions = grid.to_positions(to.to_seconds(torch.arange(num_steps, dtype=torch.float64))).numpy()
    positions = positions.round(9).clip(
        0, len(features) - 1
    )  # rounded, so that resampling to the same grid changes nothing
    before = np.floor(positions).astype(np.int64)
    after = np.minimum(before + 1, len(features) - 1)
    precision = np.promote_types(features.dtype, np.float32)
    weight = (positions - before).astype(precision)[:, None]
    resampled: np.ndarray = features[before] * (1 - weight) + features[after] * weight
    return resampled.astype(features.dtype)
