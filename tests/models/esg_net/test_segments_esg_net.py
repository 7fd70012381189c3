import pytest
import torch

from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.models.esg_net.segments_esg_net import TemporalPoints, temporal_iou

I3D = FeatureGrid(frame_rate=25.0, stride=8, window=24)
ONE_PEACE = FeatureGrid(frame_rate=16.0, stride=4, window=16)


@pytest.mark.parametrize(
    ("grid", "position", "seconds"),
    [
        (I3D, 0, 0.48),  # 12 of 25 frames/s
        (I3D, 10, 3.68),  # (80 + 12) / 25
        (ONE_PEACE, 0, 0.5),  # 8 / 16
        (ONE_PEACE, 6, 2.0),  # (24 + 8) / 16
    ],
)
def test_a_position_is_the_centre_of_its_window_in_seconds(grid, position, seconds):
    assert grid.to_seconds(torch.tensor(float(position))).item() == pytest.approx(seconds)
    assert grid.to_positions(torch.tensor(seconds)).item() == pytest.approx(position, abs=1e-5)


def test_ten_seconds_at_25_frames_have_29_windows_of_24_frames():
    assert I3D.num_steps(10.0) == 29  # 250 frames; the last window starts at frame 224 and ends at 248


def test_a_video_shorter_than_a_window_has_one_step():
    assert I3D.num_steps(0.5) == 1


def test_a_duration_that_is_a_whole_number_of_frames_is_not_rounded_down():
    assert FeatureGrid(10, 2, 4).num_steps(0.1 + 0.2 + 0.1) == 1  # 4 frames, as 0.4000000000000001 s
    assert FeatureGrid(25, 8, 24).num_steps(3.2 - 1e-9) == 8  # 80 frames: 0, 8, ..., 56


@pytest.mark.parametrize("values", [(0, 8, 24), (25, 0, 24), (25, 8, 0), (-1, 8, 24)])
def test_a_grid_without_extent_is_refused(values):
    with pytest.raises(ValueError, match="feature grid needs"):
        FeatureGrid(*values)


def test_a_grid_from_json_equals_the_grid_that_was_written():
    assert FeatureGrid(**{"frame_rate": 25, "stride": 8.0, "window": 24}) == I3D


def test_points_of_a_level_stand_on_every_second_point_of_the_level_below():
    points = TemporalPoints.for_pyramid(num_steps=5, num_levels=3)
    assert points.positions.tolist() == [0, 1, 2, 3, 4, 0, 2, 4, 0, 4]
    assert points.strides.tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 4, 4]


def test_offsets_are_counted_in_strides_of_their_point():
    points = TemporalPoints(positions=torch.tensor([4.0, 8.0]), strides=torch.tensor([1.0, 4.0]))
    segments = points.decode(torch.tensor([[[1.0, 2.0]], [[1.0, 2.0]]]))  # (P=2, C=1, 2)
    assert segments.tolist() == [[[3.0, 6.0]], [[4.0, 16.0]]]


def test_temporal_iou_of_half_overlapping_segments_is_one_third():
    iou = temporal_iou(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0]]))  # 1 s shared, 3 s covered
    torch.testing.assert_close(iou, torch.tensor([1 / 3]))


def test_temporal_iou_of_segments_apart_or_without_length_is_zero():
    apart = temporal_iou(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0]))
    empty = temporal_iou(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.0]))
    assert apart.item() == 0 and empty.item() == 0
