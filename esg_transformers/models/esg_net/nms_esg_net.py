"""Non-maximum suppression of overlapping segments, class by class, for a batch of videos at once; pure torch."""

import torch
from torch import Tensor

from .segments_esg_net import temporal_iou


def suppress_overlapping_segments(
    segments: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    max_events: int,
    method: str = "soft",
    sigma: float = 0.4,
    iou_threshold: float = 0.7,
    min_score: float = 0.001,
) -> tuple[Tensor, Tensor, Tensor]:
    """The `max_events` best events of each video after suppression within each class.

    Again and again the best segment left is taken, and the scores of the others of its class are lowered by their
    overlap with it: times `exp(-iou**2 / sigma)` for `method="soft"` (Gaussian soft-NMS), times 0 at `iou >=
    iou_threshold` for
    `"hard"`. Segments of the class that then score below `min_score` are dropped, so the first of a class always stays.
    The rule is that of UnAV's C++ operator (libs/utils/csrc/nms_cpu.cpp, commit 1609deb), lengths + 1e-6 included.
    There each class is run to its end and the best of all classes are kept; since scores only fall, taking the best of
    all classes each time gives the same events in `max_events` steps.

    Args:
        segments (`Tensor` of shape `(B, N, 2)`): candidates as (start, end), any unit.
        scores (`Tensor` of shape `(B, N)`): > 0 for a candidate, 0 for padding.
        labels (`Tensor` of shape `(B, N)`, int64): class ids.
        max_events (`int`): the most events kept in one video.
        method (`str`): `"soft"` or `"hard"`.
        sigma (`float`): width of the Gaussian.
        iou_threshold (`float`): overlap from which `"hard"` removes a segment.
        min_score (`float`): score below which a suppressed segment is dropped.

    Returns:
        Segments `(B, K, 2)`, scores `(B, K)` in falling order and labels `(B, K)`, K <= `max_events`; score 0 is
        padding.

    Raises:
        ValueError: for an unknown `method`.
    """
    if method not in ("soft", "hard"):
        raise ValueError(f'`method` must be "soft" or "hard"; got {method!r}.')
    segments, scores, labels = _group_by_class(segments, scores, labels)  # (B, G, M, 2), (B, G, M), (B, G)
    videos = torch.arange(scores.shape[0], device=scores.device)
    kept_segments, kept_scores, kept_labels = [], [], []
    best_of_class, best_index = scores.max(dim=2)  # (B, G)
    for _ in range(min(max_events, scores.shape[1] * scores.shape[2])):
        score, group = best_of_class.max(dim=1)  # (B,)
        if not score.any():
            break
        row, row_segments = scores[videos, group], segments[videos, group]  # (B, M), (B, M, 2)
        index = best_index[videos, group]
        taken = row_segments[videos, index]  # (B, 2)
        kept_segments.append(taken)
        kept_scores.append(score)
        kept_labels.append(labels[videos, group])
        iou = temporal_iou(taken[:, None], row_segments, eps=1e-6)
        row = row * torch.exp(-iou.square() / sigma) if method == "soft" else row * (iou < iou_threshold)
        row = torch.where(row < min_score, 0.0, row)
        row[videos, index] = 0.0
        scores[videos, group] = row
        best_of_class[videos, group], best_index[videos, group] = row.max(dim=1)
    if not kept_scores:
        return segments.new_zeros(len(videos), 0, 2), scores.new_zeros(len(videos), 0), labels.new_zeros(len(videos), 0)
    return torch.stack(kept_segments, 1), torch.stack(kept_scores, 1), torch.stack(kept_labels, 1)


def vote_boundaries(kept: Tensor, segments: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Each kept segment moved to the score-weighted mean of the candidates that overlap it (box voting).

    Args:
        kept (`Tensor` of shape `(K, 2)`): segments after suppression.
        segments (`Tensor` of shape `(N, 2)`): all candidates of the same class, the kept ones among them.
        scores (`Tensor` of shape `(N,)`): their scores before suppression.
        iou_threshold (`float`): overlap from which a candidate has a vote.

    Returns:
        `(K, 2)`. The rule of ActionFormer's `seg_voting` (libs/utils/nms.py, UnAV commit 1609deb), without its unused
        score offset.

    >>> segments, scores = torch.tensor([[0.0, 10.0], [1.0, 11.0], [20.0, 30.0]]), torch.tensor([0.6, 0.2, 0.9])
    >>> vote_boundaries(segments[:1], segments, scores, iou_threshold=0.5)  # (0.6 x 0 + 0.2 x 1) / 0.8
    tensor([[ 0.2500, 10.2500]])
    """
    votes = (temporal_iou(kept[:, None], segments) >= iou_threshold) * scores  # (K, N)
    return (votes @ segments) / votes.sum(dim=1, keepdim=True)


def _group_by_class(segments: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Candidates as rows of one class each: (B, G, M, 2), (B, G, M) padded with score 0, the rows' labels (B, G)."""
    classes, group = labels.unique(return_inverse=True)
    batch_size, num_groups = len(scores), max(len(classes), 1)
    # Padding goes to the end of its row; candidates keep their order, so that equal scores are taken first come first.
    order = (group * 2 + (scores <= 0)).argsort(dim=1, stable=True)
    group, scores = group.gather(1, order), scores.gather(1, order)
    segments = segments.gather(1, order[..., None].expand(-1, -1, 2))
    members = torch.zeros(batch_size, num_groups, dtype=torch.long, device=scores.device)
    members.scatter_add_(1, group, torch.ones_like(group))
    first = members.cumsum(dim=1) - members
    column = torch.arange(scores.shape[1], device=scores.device) - first.gather(1, group)
    width = max(int((column + 1).where(scores > 0, 0).max()), 1) if scores.numel() else 1
    # What lies beyond the width is padding: it is written to a spare column that is cut off.
    slot = group * (width + 1) + column.clamp(max=width)
    rows = scores.new_zeros(batch_size, num_groups * (width + 1)).scatter(1, slot, scores)
    row_segments = segments.new_zeros(batch_size, num_groups * (width + 1), 2)
    row_segments.scatter_(1, slot[..., None].expand(-1, -1, 2), segments)
    labels = classes if len(classes) else labels.new_zeros(1)
    return (
        row_segments.view(batch_size, num_groups, width + 1, 2)[:, :, :width],
        rows.view(batch_size, num_groups, width + 1)[:, :, :width].contiguous(),
        labels.expand(batch_size, -1),
    )
