"""Non-maximum suppression (NMS) of segments within each class, for a batch of videos at once; pure torch."""

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

    In each class, the best remaining segment is selected repeatedly, and the scores of the others are reduced by their
    overlap with it: multiplied by `exp(-iou**2 / sigma)` for `method="soft"` (Gaussian soft-NMS), by 0 at
    `iou >= iou_threshold` for `"hard"`. Segments whose score falls below `min_score` are dropped; the first of a class
    always stays. The rule is that of UnAV's C++ operator (libs/utils/csrc/nms_cpu.cpp, commit 1609deb), including
    lengths + 1e-6. UnAV finishes each class and then keeps the best of all classes. Here all classes of all videos
    advance together, and a class stops when none of its remaining segments reaches the `max_events` best so far. Since
    scores only fall, the events are the same.

    Args:
        segments (`Tensor` of shape `(B, N, 2)`): candidates as (start, end), any unit.
        scores (`Tensor` of shape `(B, N)`): > 0 for a candidate, 0 for padding.
        labels (`Tensor` of shape `(B, N)`, int64): class ids.
        max_events (`int`): maximum number of events kept in one video.
        method (`str`): `"soft"` or `"hard"`.
        sigma (`float`): width of the Gaussian.
        iou_threshold (`float`): overlap from which `"hard"` removes a segment.
        min_score (`float`): score below which a suppressed segment is dropped.

    Returns:
        Segments `(B, K, 2)`, scores `(B, K)` in descending order and labels `(B, K)`, K <= `max_events`; score 0 is
        padding.

    Raises:
        ValueError: for an unknown `method`.
    """
    if method not in ("soft", "hard"):
        raise ValueError(f'`method` must be "soft" or "hard"; got {method!r}.')
    # One row for each class of each video: R rows of at most M candidates.
    bounds, row_scores, row_videos, row_labels = _rows_of_classes(segments, scores, labels)
    enough = scores.new_zeros(len(scores), max_events)  # best scores of each video so far
    taken: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    best, index = row_scores.max(dim=1) if row_scores.numel() else (row_scores[:, 0], row_labels)  # (R,)
    while len(best):
        best_bounds = bounds.gather(2, index.expand(2, -1)[..., None])  # (2, R, 1)
        taken.append((best_bounds[..., 0].T, best, row_labels, row_videos))
        iou = temporal_iou(best_bounds.permute(1, 2, 0), bounds.permute(1, 2, 0), eps=1e-6)  # (R, M)
        row_scores *= suppression_factor(iou, method, sigma, iou_threshold)
        row_scores.scatter_(1, index[:, None], 0.0)
        row_scores.masked_fill_(row_scores < min_score, 0.0)
        enough = _best_so_far(enough, best, row_videos)
        best, index = row_scores.max(dim=1)
        alive = best > enough[row_videos, -1]
        num_alive = int(alive.sum())
        if 2 * num_alive <= len(alive):  # dropping rows copies the rest, so it waits until half of them have ended
            bounds, row_scores = bounds[:, alive], row_scores[alive]
            row_videos, row_labels, best, index = row_videos[alive], row_labels[alive], best[alive], index[alive]
    return _best_of_videos(taken, len(scores), max_events, like=segments)


def suppression_factor(iou: Tensor, method: str, sigma: float, iou_threshold: float) -> Tensor:
    """Factor for the scores of segments that overlap a better one; see `suppress_overlapping_segments`.

    Overwrites `iou`.
    """
    return iou.square_().div_(-sigma).exp_() if method == "soft" else (iou < iou_threshold).to(iou.dtype)


def _rows_of_classes(segments: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Candidates by video and class: bounds (2, R, M), scores (R, M) padded with 0, videos (R,), labels (R,)."""
    videos, candidates = scores.nonzero(as_tuple=True)  # video by video, candidates in their order
    num_labels = int(labels.max()) + 1 if labels.numel() else 1
    keys, row, counts = (videos * num_labels + labels[videos, candidates]).unique(
        return_inverse=True, return_counts=True
    )
    order = row.argsort(stable=True)  # of equal scores the first stays first
    row, videos, candidates = row[order], videos[order], candidates[order]
    column = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    width = int(counts.max()) if len(counts) else 1
    row_scores = scores.new_zeros(len(keys), width)
    row_scores[row, column] = scores[videos, candidates]
    bounds = segments.new_zeros(2, len(keys), width)
    bounds[:, row, column] = segments[videos, candidates].T
    return bounds, row_scores, keys // num_labels, keys % num_labels


def _best_so_far(enough: Tensor, scores: Tensor, videos: Tensor) -> Tensor:
    """The K best scores of each video, descending, among those so far `(B, K)` and new ones `(R,)` sorted by video."""
    members = torch.bincount(videos, minlength=len(enough))
    column = torch.arange(len(videos), device=videos.device) - (members.cumsum(0) - members)[videos]
    new = enough.new_zeros(len(enough), int(members.max()))
    new[videos, column] = scores
    return torch.cat([enough, new], dim=1).topk(enough.shape[1], dim=1).values


def _best_of_videos(
    taken: list[tuple[Tensor, Tensor, Tensor, Tensor]], num_videos: int, max_events: int, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The `max_events` best of the selected segments of each video, padded to the longest result."""
    empty = like.new_zeros(0, dtype=torch.long)
    columns = zip(*taken, strict=True) if taken else [(like.new_zeros(0, 2),), (like.new_zeros(0),), (empty,), (empty,)]
    segments, scores, labels, videos = (torch.cat(column) for column in columns)
    order = scores.argsort(descending=True, stable=True)
    order = order[videos[order].argsort(stable=True)]
    segments, scores, labels, videos = segments[order], scores[order], labels[order], videos[order]
    members = torch.bincount(videos, minlength=num_videos)
    rank = torch.arange(len(videos), device=videos.device) - (members.cumsum(0) - members)[videos]
    kept = rank < max_events
    most = min(int(members.max()), max_events)
    output = (
        segments.new_zeros(num_videos, most, 2),
        scores.new_zeros(num_videos, most),
        labels.new_zeros(num_videos, most),
    )
    for padded, values in zip(output, (segments, scores, labels), strict=True):
        padded[videos[kept], rank[kept]] = values[kept]
    return output
