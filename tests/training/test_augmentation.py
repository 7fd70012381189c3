from types import SimpleNamespace

import numpy as np
import pytest

from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.training.augmentation import random_crop, random_stretch

GRID = FeatureGrid(frame_rate=1.0, stride=1, window=2)  # step g is at g + 1 seconds


def make_example(num_steps, segments, audio=True):
    """Features that hold their own step, so that a crop shows where it was taken."""
    steps = np.arange(num_steps, dtype=np.float16)[:, None]
    return {
        "video_id": "a",
        "duration": num_steps + 1.0,
        "visual_features": np.tile(steps, 3),
        "audio_features": np.tile(steps, 2) if audio else None,
        "segments": np.array(segments, np.float32).reshape(-1, 2),
        "labels": np.arange(len(segments)),
    }


def test_a_long_example_gives_a_window_of_max_steps_from_both_streams():
    crop = random_crop(make_example(50, []), GRID, 10, np.random.default_rng(0))
    first = int(crop["visual_features"][0, 0])
    np.testing.assert_array_equal(crop["visual_features"][:, 0], np.arange(first, first + 10))
    np.testing.assert_array_equal(crop["audio_features"][:, 0], np.arange(first, first + 10))


def test_every_window_is_drawn_and_no_other():
    generator = np.random.default_rng(0)
    firsts = {int(random_crop(make_example(8, []), GRID, 5, generator)["visual_features"][0, 0]) for _ in range(200)}
    assert firsts == {0, 1, 2, 3}


def test_a_short_example_keeps_nine_tenths_or_more():
    generator = np.random.default_rng(0)
    lengths = {len(random_crop(make_example(20, []), GRID, 30, generator)["visual_features"]) for _ in range(100)}
    assert lengths == {18, 19, 20}


def test_an_event_that_the_window_holds_moves_with_the_features():
    crop = random_crop(make_example(50, [[21.0, 22.0]]), GRID, 10, np.random.default_rng(0))
    # Seconds 21 and 22 are grid positions 20 and 21; features hold their position.
    position = 20 - float(crop["visual_features"][0, 0])
    np.testing.assert_array_equal(crop["segments"], [[position + 1, position + 2]])
    np.testing.assert_array_equal(crop["labels"], [0])


def test_an_event_stays_if_half_of_it_is_left_and_is_clipped():
    # Ten steps of which the window takes eight: it starts at position 0, 1 or 2, which is second 1, 2 or 3.
    # Event 0 lies in 1 s to 5 s: all, 3/4 and 1/2 of it are left. Event 1 ends 1/8 s earlier, so that at last
    # less than half is left: 1.875 s of 3.875 s.
    generator = np.random.default_rng(0)
    seen = {}
    for _ in range(50):
        crop = random_crop(make_example(10, [[1.0, 5.0], [1.0, 4.875]]), GRID, 8, generator)
        seen[int(crop["visual_features"][0, 0])] = (crop["segments"].tolist(), crop["labels"].tolist())
    assert seen == {
        0: ([[1.0, 5.0], [1.0, 4.875]], [0, 1]),
        1: ([[1.0, 4.0], [1.0, 3.875]], [0, 1]),
        2: ([[1.0, 3.0]], [0]),
    }


def test_windows_are_drawn_until_one_keeps_an_event():
    generator = np.random.default_rng(0)
    for _ in range(20):
        assert len(random_crop(make_example(100, [[50.0, 51.0]]), GRID, 20, generator)["labels"]) == 1


def test_an_event_longer_than_any_window_leaves_a_crop_without_events():
    crop = random_crop(make_example(100, [[1.0, 90.0]]), GRID, 10, np.random.default_rng(0))
    assert crop["segments"].shape == (0, 2)
    assert len(crop["visual_features"]) == 10


@pytest.mark.parametrize("grid", [FeatureGrid(25.0, 8, 24), FeatureGrid(16.0, 4, 16), FeatureGrid(10.0, 10, 1), GRID])
def test_the_duration_of_a_crop_has_its_steps_and_holds_its_events(grid):
    generator = np.random.default_rng(0)
    example = make_example(60, [[0.0, 3.0], [2.0, 60 * grid.step]])
    for max_steps in (1, 7, 59, 80):
        crop = random_crop(example | {"duration": 60 * grid.step + 3.0}, grid, max_steps, generator)
        if len(crop["visual_features"]) < 60:
            assert grid.num_steps(crop["duration"]) == len(crop["visual_features"])
        assert (crop["segments"] <= crop["duration"] + 1e-5).all()


def test_a_missing_stream_stays_missing():
    assert random_crop(make_example(50, [], audio=False), GRID, 10, np.random.default_rng(0))["audio_features"] is None


def test_the_same_generator_gives_the_same_crop():
    crops = [random_crop(make_example(50, []), GRID, 10, np.random.default_rng(7)) for _ in range(2)]
    np.testing.assert_array_equal(crops[0]["visual_features"], crops[1]["visual_features"])


@pytest.mark.parametrize("wrong", [{"max_steps": 0}, {"trials": 0}, {"keep_ratio": 0.0}, {"crop_ratio": (0.9, 1.1)}])
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="max_steps >= 1.*got"):
        random_crop(make_example(50, []), GRID, **{"max_steps": 10, "generator": np.random.default_rng(0)} | wrong)


SLOWEST = SimpleNamespace(uniform=lambda low, high: high)
FASTEST = SimpleNamespace(uniform=lambda low, high: low)


def test_a_video_of_half_the_speed_is_read_off_between_its_features():
    example = make_example(10, [[1.0, 5.0], [9.5, 11.0]])
    slow = random_stretch(example, GRID, 1.0, SLOWEST)
    # Step g is at g + 1 s, which was (g + 1) / 2 s: position (g + 1) / 2 - 1, and never before the first. The last
    # feature, at 10 s, is now at 20 s, where step 19 is.
    expected = [0.0, *np.arange(0, 9.5, 0.5)]
    assert slow["visual_features"].dtype == np.float16
    np.testing.assert_allclose(slow["visual_features"], np.tile(np.array(expected)[:, None], 3))
    np.testing.assert_allclose(slow["audio_features"], np.tile(np.array(expected)[:, None], 2))
    np.testing.assert_allclose(slow["segments"], [[2.0, 10.0], [19.0, 22.0]])
    assert slow["duration"] == 22.0
    np.testing.assert_array_equal(slow["labels"], [0, 1])


def test_a_video_of_twice_the_speed_has_every_second_feature():
    fast = random_stretch(make_example(10, [[1.0, 5.0]], audio=False), GRID, 1.0, FASTEST)
    np.testing.assert_array_equal(fast["visual_features"][:, 0], [1, 3, 5, 7, 9])  # at 1 s what was at 2 s, and so on
    assert fast["audio_features"] is None
    np.testing.assert_allclose(fast["segments"], [[0.5, 2.5]])
    assert fast["duration"] == 5.5


def test_a_single_feature_stays_one():
    for generator in (SLOWEST, FASTEST):
        assert random_stretch(make_example(1, []), GRID, 0.2, generator)["visual_features"].shape == (1, 3)


def test_every_speed_is_drawn_slower_as_often_as_faster():
    generator = np.random.default_rng(0)
    factors = [random_stretch(make_example(2, []), GRID, 0.25, generator)["duration"] / 3 for _ in range(1000)]
    assert 0.8 <= min(factors) < 0.81 and 1.24 < max(factors) <= 1.25
    assert 460 < sum(factor > 1 for factor in factors) < 540  # 500 +- 2.5 standard deviations


def test_a_negative_stretch_is_refused():
    with pytest.raises(ValueError, match=r"`stretch` .*at least 0; got -0\.1"):
        random_stretch(make_example(5, []), GRID, -0.1, np.random.default_rng(0))
