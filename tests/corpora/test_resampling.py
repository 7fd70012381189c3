import numpy as np
import pytest

from esg_transformers.corpora.resampling import resample_features
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

I3D = FeatureGrid(25.0, 8, 24)  # steps at 0.48, 0.80, 1.12, ... s
ONE_PEACE = FeatureGrid(16.0, 4, 16)  # steps at 0.50, 0.75, 1.00, ... s


def test_a_step_is_weighted_by_how_near_its_neighbours_are_in_time():
    features = np.array([[0.0, 8.0], [32.0, 8.0], [0.0, 8.0]])
    resampled = resample_features(features, I3D, ONE_PEACE, num_steps=3)
    # From 0.48 to 0.80 s, 0.50 s is 1/16 of the way and 0.75 s 27/32; from 0.80 to 1.12 s, 1.00 s is 5/8 of it.
    np.testing.assert_allclose(resampled, [[2.0, 8.0], [27.0, 8.0], [12.0, 8.0]], atol=1e-12)


def test_what_is_linear_in_time_stays_so():
    times = 0.48 + 0.32 * np.arange(40)
    resampled = resample_features((3 * times - 1)[:, None], I3D, ONE_PEACE, num_steps=45)
    np.testing.assert_allclose(resampled[:, 0], 3 * (0.5 + 0.25 * np.arange(45)) - 1, atol=1e-9)


def test_both_ends_are_held():
    late, early = FeatureGrid(1.0, 1, 5), FeatureGrid(1.0, 1, 1)  # steps at 2.5, 3.5, ... s and at 0.5, 1.5, ... s
    resampled = resample_features(np.array([[5.0], [7.0]]), late, early, num_steps=6)
    assert resampled[:, 0].tolist() == [5.0, 5.0, 5.0, 7.0, 7.0, 7.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("grid", [I3D, ONE_PEACE, FeatureGrid(29.97, 7, 13)])
def test_a_grid_gives_itself_exactly_in_any_precision(grid, dtype):
    features = np.random.default_rng(0).normal(size=(500, 3)).astype(dtype)
    resampled = resample_features(features, grid, grid, num_steps=500)
    assert resampled.dtype == dtype
    np.testing.assert_array_equal(resampled, features)


def test_a_video_of_one_step_is_that_step_throughout_and_no_steps_are_no_steps():
    features = np.array([[4.0]], np.float32)
    assert resample_features(features, I3D, ONE_PEACE, num_steps=3).tolist() == [[4.0], [4.0], [4.0]]
    assert resample_features(features, I3D, ONE_PEACE, num_steps=0).shape == (0, 1)
