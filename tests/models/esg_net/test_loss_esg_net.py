import math

import pytest
import torch

from esg_transformers.models.esg_net.loss_esg_net import (
    assign_targets,
    center_diou_loss,
    localization_losses,
    router_balance_loss,
    semantic_guidance_loss,
    sigmoid_focal_loss,
    step_targets,
)
from esg_transformers.models.esg_net.segments_esg_net import TemporalPoints

LEVELS = 3


def points_of(num_steps, num_levels=LEVELS):
    points = TemporalPoints.for_pyramid(num_steps, num_levels)
    return torch.stack([points.positions, points.strides], -1)


def positives(events, labels, num_steps=32):
    """{(position, stride)} of the positive points of each event."""
    points = points_of(num_steps)
    positive, _ = assign_targets(points, torch.tensor([events]), torch.tensor([labels]), LEVELS)
    return [{tuple(point) for point in points[positive[0, :, n]].tolist()} for n in range(len(events))]


def test_a_short_event_is_answered_by_the_finest_level_only():
    # 2.5..5.5: inside lie 3, 4, 5 with farthest boundary 2.5, 1.5, 2.5, all within (0, 4)
    assert positives([[2.5, 5.5]], [0]) == [{(3, 1), (4, 1), (5, 1)}]


def test_a_longer_event_is_answered_by_the_level_whose_range_holds_its_farthest_boundary():
    # 2..14: at point t the farthest boundary is max(t - 2, 14 - t), 6 in the middle (t = 8) and more elsewhere.
    # Level 0 (0..4): none. Level 1 (4..8, even points): 6, 8, 10 (farthest 8, 6, 8).
    # Level 2 (8 and more, points 0, 4, 8, 12): 4 and 12 (farthest 10); 8 has 6.
    assert positives([[2.0, 14.0]], [0]) == [{(6, 2), (8, 2), (10, 2), (4, 4), (12, 4)}]


def test_a_point_on_the_boundary_is_not_inside():
    assert (3.0, 1.0) not in positives([[3.0, 6.0]], [0])[0]


def test_a_farthest_distance_on_the_edge_of_two_ranges_is_positive_on_both_levels():
    # 4..12: point 8 is 4 cells from both ends, the end of level 0's range and the start of level 1's.
    found = positives([[4.0, 12.0]], [0])[0]
    assert (8, 1) in found and (8, 2) in found


def test_targets_are_distances_in_strides_of_the_point():
    points = points_of(32)
    _, targets = assign_targets(points, torch.tensor([[[2.0, 14.0]]]), torch.tensor([[0]]), LEVELS)
    row = points.tolist().index([8.0, 2.0])
    assert targets[0, row, 0].tolist() == [3.0, 3.0]  # 6 cells each way at stride 2


def test_where_two_events_of_a_class_overlap_the_shorter_is_the_target():
    outer, inner = positives([[2.0, 8.0], [4.0, 7.0]], [0, 0])
    assert {(5, 1), (6, 1)} <= inner
    assert not outer & inner
    other_class = positives([[2.0, 8.0], [4.0, 7.0]], [0, 1])
    assert {(5, 1), (6, 1)} <= other_class[0] & other_class[1]


def test_padding_is_never_positive():
    assert positives([[2.0, 8.0]], [-100]) == [set()]


def test_focal_loss_of_an_even_guess_is_a_quarter_of_the_weighted_cross_entropy():
    loss = sigmoid_focal_loss(torch.zeros(2), torch.tensor([1.0, 0.0]), alpha=0.25, gamma=2.0)
    torch.testing.assert_close(loss, torch.tensor([0.25, 0.75]) * 0.25 * math.log(2))


def test_diou_of_a_perfect_prediction_is_zero():
    assert center_diou_loss(torch.tensor([2.0, 3.0]), torch.tensor([2.0, 3.0])).item() == pytest.approx(0)


def test_diou_keeps_a_gradient_for_an_offset_of_zero():
    offsets = torch.tensor([0.0, 0.0], requires_grad=True)
    center_diou_loss(offsets, torch.tensor([1.0, 3.0])).backward()
    assert torch.isfinite(offsets.grad).all() and offsets.grad.abs().sum() > 0


def test_steps_are_on_from_start_to_end_and_a_short_event_keeps_its_nearest_step():
    targets = step_targets(8, torch.tensor([[[1.5, 4.0], [5.9, 6.1]]]), torch.tensor([[0, 1]]), num_classes=2)
    assert targets[0, :, 0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0]
    assert targets[0, :, 1].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]


def test_overlapping_events_of_one_class_count_a_step_once():
    targets = step_targets(4, torch.tensor([[[0.0, 3.0], [1.0, 2.0]]]), torch.tensor([[0, 0]]), num_classes=1)
    assert targets.max() == 1


def test_semantic_loss_ignores_padded_steps():
    targets = torch.zeros(1, 4, 2)
    targets[0, 0, 0] = 1
    mask = torch.tensor([[1, 1, 0, 0]])
    logits = torch.randn(1, 3, 4, 2)
    changed = logits.clone()
    changed[:, :, 2:] += 5
    first, second = (semantic_guidance_loss((x,), targets, mask, 0.25, 2.0) for x in (logits, changed))
    assert first == second


def test_router_loss_is_zero_when_experts_share_and_at_its_largest_when_one_does_all():
    mask = torch.ones(2, 5)
    even = torch.full((2, 5, 4), 0.25)
    one = torch.zeros(2, 5, 4)
    one[..., 1] = 1
    assert router_balance_loss((even, even), mask).item() == pytest.approx(0)
    assert router_balance_loss((one,), mask).item() == pytest.approx(3)


def test_losses_sum_over_real_points_and_count_positive_points_not_pairs():
    points = points_of(8, num_levels=1)
    mask = torch.ones(1, 8)
    mask[0, 7] = 0
    logits, offsets = torch.zeros(1, 8, 2), torch.ones(1, 8, 2, 2)
    # One level has no upper end. Both classes on points 2, 3, 4 (1.5..4.5): 3 points, 6 pairs.
    segments, classes = torch.tensor([[[1.5, 4.5], [1.5, 4.5]]]), torch.tensor([[0, 1]])
    classification, boundary, count = localization_losses(
        logits, offsets, points, mask, segments, classes, 1, alpha=0.25, gamma=2.0
    )
    assert count == 3
    # 7 real points x 2 classes: 6 pairs on (weight 0.25), 8 off (0.75), each 0.25 ln 2
    assert classification.item() == pytest.approx((6 * 0.25 + 8 * 0.75) * 0.25 * math.log(2))
    # per class: point 2 has (0.5, 2.5): overlap 1.5, union 3.5, centres 1 apart, enclosing 3.5; point 4 mirrors it;
    # point 3 has (1.5, 1.5): overlap 2, union 3, same centre.
    edge = 1 - 1.5 / 3.5 + (1 / 3.5) ** 2
    assert boundary.item() == pytest.approx(2 * (2 * edge + 1 / 3), rel=1e-5)


def test_videos_without_events_cost_only_their_background():
    points = points_of(4, num_levels=1)
    classification, boundary, count = localization_losses(
        torch.zeros(1, 4, 1),
        torch.ones(1, 4, 1, 2),
        points,
        torch.ones(1, 4),
        torch.zeros(1, 1, 2),
        torch.tensor([[-100]]),
        1,
        0.25,
        2.0,
    )
    assert count == 0 and boundary == 0
    assert classification.item() == pytest.approx(4 * 0.75 * 0.25 * math.log(2))
