"""Losses for event localization: target assignment, focal, centre-DIoU, semantic guidance and router balance.

The point and boundary losses and their normalizer are those of UnAV (commit 1609deb); both networks use them. ESG-Net
adds a classification loss at every stage of the early semantic interaction (abstract of arXiv 2507.09945) and the
balance loss, which is this package's, as are the weights.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def assign_targets(
    points: Tensor, segment_labels: Tensor, class_labels: Tensor, num_levels: int
) -> tuple[Tensor, Tensor]:
    """Assign points to events, with the distances from each point to the boundaries.

    A point is positive for an event if it lies strictly inside and its larger distance to a boundary lies in the range
    of its level: (0, 4), (4, 8), (8, 16), ... grid cells, both ends included, the last level without an upper end.
    There is no centre sampling, as in UnAV (libs/datasets/unav100.py, commit 1609deb). If a point is inside two events
    of one class, the shorter event is its target (upstream: the one listed later).

    Args:
        points (`Tensor` of shape `(P, 2)`): position and stride, in grid cells.
        segment_labels (`Tensor` of shape `(B, N, 2)`): (start, end) in grid positions.
        class_labels (`Tensor` of shape `(B, N)`, int64): class ids; -100 is padding.
        num_levels (`int`): levels of the pyramid.

    Returns:
        `positive` `(B, P, N)`, bool, and `targets` `(B, P, N, 2)`: distances to start and end in strides of the point.
    """
    positions, strides = points[None, :, None, 0], points[None, :, None, 1]
    start, end = segment_labels[:, None, :, 0], segment_labels[:, None, :, 1]
    distances = torch.stack([positions - start, end - positions], dim=-1)  # (B, P, N, 2)
    farthest = distances.amax(dim=-1)
    lower = torch.where(strides == 1, 0.0, 2 * strides)
    upper = torch.where(strides == 2 ** (num_levels - 1), torch.inf, 4 * strides)
    positive = (distances.amin(dim=-1) > 0) & (farthest >= lower) & (farthest <= upper)
    positive &= (class_labels != -100)[:, None]

    length = segment_labels[..., 1] - segment_labels[..., 0]  # (B, N)
    order = torch.arange(length.shape[1], device=length.device)
    shorter = (length[:, :, None] < length[:, None, :]) | (
        (length[:, :, None] == length[:, None, :]) & (order[:, None] < order)
    )
    shorter &= class_labels[:, :, None] == class_labels[:, None, :]
    taken = torch.einsum("bpm,bmn->bpn", positive.float(), shorter.float()) > 0
    return positive & ~taken, distances / strides[..., None]


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss (Lin et al., 2017) of each logit, same shape as `logits`.

    >>> sigmoid_focal_loss(torch.tensor([0.0]), torch.tensor([1.0]), alpha=0.25, gamma=2.0)  # 0.25 x 0.5^2 x ln 2
    tensor([0.0433])
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = logits.sigmoid()
    error = probability + targets - 2 * probability * targets
    return (alpha * targets + (1 - alpha) * (1 - targets)) * error**gamma * cross_entropy


def center_diou_loss(offsets: Tensor, targets: Tensor, eps: float = 1e-8) -> Tensor:
    """Distance-IoU loss (Zheng et al., 2020) of segments around one point each.

    Args:
        offsets: `(..., 2)`, predicted distances to start and end, >= 0.
        targets: `(..., 2)`, true distances in the same unit, > 0.

    Returns:
        `(...,)`: `1 - iou + (distance of the centres / length of the segment that encloses both)**2`.

    >>> center_diou_loss(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))  # 1 - 2/4 + (1/4)^2
    tensor(0.5625)
    """
    overlap = torch.minimum(offsets, targets).sum(-1)
    enclosing = torch.maximum(offsets, targets).sum(-1)
    union = offsets.sum(-1) + targets.sum(-1) - overlap
    shift = 0.5 * ((offsets[..., 1] - offsets[..., 0]) - (targets[..., 1] - targets[..., 0]))
    return 1 - overlap / union.clamp(min=eps) + (shift / enclosing.clamp(min=eps)) ** 2


def step_targets(num_steps: int, segment_labels: Tensor, class_labels: Tensor, num_classes: int) -> Tensor:
    """Active classes at each step, `(B, T, C)`: 1 from the start to the end of an event, and at its middle step."""
    steps = torch.arange(num_steps, device=segment_labels.device)[None, :, None]
    start, end = segment_labels[:, None, :, 0], segment_labels[:, None, :, 1]
    # At least half a cell to each side of the middle, so that an event shorter than a cell has a step.
    half = ((end - start) / 2).clamp(min=0.5)
    on = (steps - (start + end) / 2).abs() <= half  # (B, T, N)
    return _to_classes(on, class_labels, num_classes)


def semantic_guidance_loss(
    semantic_logits: tuple[Tensor, ...], targets: Tensor, attention_mask: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Focal loss of the classes of steps, per positive (step, class) pair; the mean over stages and streams.

    Args:
        semantic_logits: of each stage `(B, 3, T, C)`, in the order visual, audio, fused stream.
        targets: `(B, T, C)`, see `step_targets`.
        attention_mask: `(B, T)`, 1 = real.
    """
    weight = attention_mask[:, None, :, None].to(targets.dtype)
    count = reduce_mean((targets * weight[:, 0]).sum()).clamp(min=1)
    loss = targets.new_zeros(())
    for logits in semantic_logits:
        focal = sigmoid_focal_loss(logits.float(), targets[:, None].expand_as(logits), alpha, gamma)
        loss = loss + (focal * weight).sum() / (logits.shape[1] * count)
    return loss / len(semantic_logits)


def router_balance_loss(router_weights: tuple[Tensor, ...], point_mask: Tensor) -> Tensor:
    """Mean over layers of `E * sum(mean weight of each expert ** 2) - 1`: 0 for equal use, E - 1 for a single expert.

    Mean weights are over the videos of all processes.

    Args:
        router_weights: one `(B, P, E)` for each layer.
        point_mask: `(B, P)`, 1 = real.
    """
    mask = point_mask[..., None].float()
    loss = mask.new_zeros(())
    for weights in router_weights:
        share = reduce_sum((weights.float() * mask).sum(dim=(0, 1))) / reduce_sum(mask.sum()).clamp(min=1)
        loss = loss + weights.shape[-1] * share.square().sum() - 1
    return loss / len(router_weights)


def localization_loss(
    config: Any,
    logits: Tensor,
    offsets: Tensor,
    points: Tensor,
    point_mask: Tensor,
    segment_labels: Tensor,
    class_labels: Tensor,
    *,
    normalizer: Tensor,
    training: bool,
) -> dict[str, Tensor]:
    """Classification and boundary loss, divided by a running count of positive points.

    Args:
        config: with `pyramid_levels`, `focal_alpha`, `focal_gamma` and `loss_normalizer_momentum`.
        logits: `(B, P, C)`.
        offsets: `(B, P, C, 2)`, in strides, >= 0.
        points: `(P, 2)`, position and stride in grid cells.
        point_mask: `(B, P)`, 1 = real.
        segment_labels: `(B, N, 2)` in grid positions.
        class_labels: `(B, N)`, -100 = padding.
        normalizer: the running count, a scalar buffer of the model; updated in place if `training`.
        training: True to add this batch to the running count.

    Returns:
        `classification` and `boundary`, scalars without their weights.
    """
    classification, boundary, num_positive = localization_losses(
        logits,
        offsets,
        points,
        point_mask,
        segment_labels.float(),
        class_labels,
        config.pyramid_levels,
        config.focal_alpha,
        config.focal_gamma,
    )
    if training:
        momentum = config.loss_normalizer_momentum
        count = reduce_mean(num_positive.float()) * num_processes()
        normalizer.mul_(momentum).add_((1 - momentum) * count.clamp(min=1))
    # Each process holds its share of the sum, and gradients are averaged over processes.
    share = normalizer / num_processes()
    return {"classification": classification / share, "boundary": boundary / share}


def localization_losses(
    logits: Tensor,
    offsets: Tensor,
    points: Tensor,
    point_mask: Tensor,
    segment_labels: Tensor,
    class_labels: Tensor,
    num_levels: int,
    alpha: float,
    gamma: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of the focal loss over points and of the centre-DIoU loss over positive (point, class) pairs.

    Args:
        logits: `(B, P, C)`.
        offsets: `(B, P, C, 2)`, in strides, >= 0.
        points: `(P, 2)`, position and stride in grid cells.
        point_mask: `(B, P)`, 1 = real.
        segment_labels: `(B, N, 2)` in grid positions.
        class_labels: `(B, N)`, -100 = padding.

    Returns:
        Both sums, and the number of positive points (not pairs), all scalars.
    """
    positive, distances = assign_targets(points, segment_labels, class_labels, num_levels)
    positive &= point_mask.bool()[..., None]
    targets = _to_classes(positive, class_labels, logits.shape[-1])
    focal = sigmoid_focal_loss(logits.float(), targets, alpha, gamma)
    classification = (focal * point_mask[..., None]).sum()
    video, point, event = positive.nonzero(as_tuple=True)
    predicted = offsets[video, point, class_labels[video, event]].float()
    boundary = center_diou_loss(predicted, distances[video, point, event]).sum()
    return classification, boundary, positive.any(dim=-1).sum()


def reduce_mean(value: Tensor) -> Tensor:
    """Mean of a scalar over all processes of a distributed run; the value itself in a single process."""
    if num_processes() == 1:
        return value
    value = value.detach().clone()
    torch.distributed.all_reduce(value)
    return value / num_processes()


def reduce_sum(value: Tensor) -> Tensor:
    """Sum over all processes, differentiable with respect to this process's own share.

    The gradient is scaled by the number of processes, since gradients are averaged over them.
    """
    if num_processes() == 1:
        return value
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    scaled = value * num_processes()
    return scaled + (total - scaled).detach()


def num_processes() -> int:
    """Number of processes of a distributed run; 1 if there is none."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def _to_classes(positive: Tensor, class_labels: Tensor, num_classes: int) -> Tensor:
    """Multi-hot classes `(B, X, C)`, float, of points or steps assigned to events by `positive` `(B, X, N)`."""
    # Padding (-100) maps to class 0 with weight 0.
    onto = F.one_hot(class_labels.clamp(min=0), num_classes).float() * (class_labels != -100)[..., None]
    return (positive.float() @ onto).clamp(max=1)
