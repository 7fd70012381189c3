"""Features from one clock to another."""

import numpy as np
import torch

from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid


def resample_features(features: np.ndarray, grid: FeatureGrid, to: FeatureGrid, num_steps: int) -> np.ndarray:
    """Features at the centre times of another grid, by linear interpolation in time.

    Before the first and after the last centre of `grid`, the first and the last feature are held. Nothing is averaged:
    on a grid that is much coarser, a feature is still that of the two steps next to its centre.

    Args:
        features: floats `(T, channels)`, T >= 1.
        grid: their clock.
        to: the clock to have.
        num_steps: steps to give, >= 0; `to.num_steps(duration)` fit in a video.

    Returns:
        `(num_steps, channels)`, of the dtype of `features`.

    >>> slow, fast = FeatureGrid(frame_rate=1.0, stride=2, window=2), FeatureGrid(frame_rate=1.0, stride=1, window=2)
    >>> features = np.array([[0.0], [4.0]])  # at 1 s and 3 s
    >>> resample_features(features, slow, fast, num_steps=4).tolist()  # at 1, 2, 3 and 4 s
    [[0.0], [2.0], [4.0], [4.0]]
    """
    positions = grid.to_positions(to.to_seconds(torch.arange(num_steps, dtype=torch.float64))).numpy()
    positions = positions.round(9).clip(0, len(features) - 1)  # so that a grid gives itself exactly
    before = np.floor(positions).astype(np.int64)
    after = np.minimum(before + 1, len(features) - 1)
    precision = np.promote_types(features.dtype, np.float32)
    weight = (positions - before).astype(precision)[:, None]
    return (features[before] * (1 - weight) + features[after] * weight).astype(features.dtype)
