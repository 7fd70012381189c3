"""Long videos: overlapping windows of features in, the candidates of all windows out, as if the network had seen all.

Ours; the papers work on videos of a minute. A network that has learnt from crops of some length is given windows of
about that length, each half of which is also in the next. A window answers for the points in its middle, so that every
point of the video has one answer, from a window that sees some way to both sides of it. What is longer than a window is
cut by its edges, and joined where two windows agree that it goes on.

All positions count steps of the feature grid from the start of the video. V windows, N candidates
of one.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .nms_esg_net import suppress_overlapping_segments, suppression_factor
from .segments_esg_net import temporal_iou

AGREEMENT = 0.5  # overlap from which two windows mean the same event where both see it; as far may their scores differ
EDGE = 0.1  # share of its length by which an event may miss the window's edge and still count as cut by it
POOLS_AT_ONCE = 16  # windows whose candidates are suppressed together


@dataclass(frozen=True)
class Span:
    """Where a window lies in its video, in steps: from `first` to before `last`.

    Args:
        first, last (`int`): what the window holds.
        answers_from, answers_to (`int`): the points that it answers for.
        is_last (`bool`): whether the video ends with it.
    """

    first: int
    last: int
    answers_from: int
    answers_to: int
    is_last: bool

    @property
    def seen(self) -> tuple[float, float]:
        """The positions between which an event may lie: without end where the video begins or ends."""
        return (self.first or -math.inf, math.inf if self.is_last else self.last)

    @property
    def centres(self) -> tuple[float, float]:
        """The positions between which the events are centred that this window gives."""
        return (self.answers_from or -math.inf, math.inf if self.is_last else self.answers_to)


@dataclass(frozen=True)
class WindowCandidates:
    """Candidates of one window, before suppression.

    Args:
        span (`Span`): of the window.
        segments (`Tensor` of shape `(N, 2)`): (start, end).
        scores (`Tensor` of shape `(N,)`): > 0.
        labels (`Tensor` of shape `(N,)`, int64): class ids.
    """

    span: Span
    segments: Tensor
    scores: Tensor
    labels: Tensor


def hop_of(window_steps: int, pyramid_levels: int) -> int:
    """Steps from one window to the next: half a window, so rounded that the points of all windows lie on one grid.

    >>> hop_of(window_steps=224, pyramid_levels=6)  # the coarsest points lie 32 steps apart
    96
    """
    half, coarsest = window_steps // 2, 2 ** (pyramid_levels - 1)
    return half // coarsest * coarsest or half


def feature_windows(
    blocks: Iterable[Mapping[str, Any]], window_steps: int, pyramid_levels: int
) -> Iterator[tuple[Span, np.ndarray | None, np.ndarray | None]]:
    """Overlapping windows of a video's features, which come in blocks of any length; two windows are held at most.

    Args:
        blocks: in order, `visual_features` `(t, Dv)` and `audio_features` `(t, Da)`; `None` for an absent stream,
            which is absent from all.
        window_steps: steps of a window, >= 2; the last one may be shorter, though longer than the overlap.
        pyramid_levels: of the model; see `hop_of`.

    Yields:
        where the window lies, and its visual and audio features.
    """
    hop = hop_of(window_steps, pyramid_levels)
    margin = (window_steps - hop) // 2
    first = 0
    held: list[Any] = [None, None]
    for block in blocks:
        new = block["visual_features"], block["audio_features"]
        held = [part if old is None else np.concatenate([old, part]) for old, part in zip(held, new, strict=True)]
        # Not before there is more than one window: the last one takes what is left.
        while _num_steps(held) > window_steps:
            answers_from = first + margin if first else 0
            span = Span(first, first + window_steps, answers_from, first + hop + margin, is_last=False)
            visual, audio = (None if part is None else part[:window_steps] for part in held)
            yield span, visual, audio
            held = [None if part is None else part[hop:] for part in held]
            first += hop
    last = first + _num_steps(held)
    yield Span(first, last, first + margin if first else 0, last, is_last=True), held[0], held[1]


def _num_steps(streams: Sequence[Any]) -> int:
    # Of unequal streams the processor complains.
    return max((len(stream) for stream in streams if stream is not None), default=0)


def suppress_windows(
    windows: Sequence[WindowCandidates],
    *,
    max_events: int,
    method: str,
    sigma: float,
    iou_threshold: float,
    min_score: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The events of a video from the candidates of its windows; of one window alone those of plain suppression.

    Cut events are joined first. An event is then suppressed together with all candidates of the window whose points it
    is centred among, and of the windows before and after it.

    Args:
        windows: V >= 1, in order.
        max_events: the most events of a window.
        method, sigma, iou_threshold, min_score: see `suppress_overlapping_segments`.

    Returns:
        Segments `(K, 2)`, scores `(K,)` in falling order and labels `(K,)`.
    """
    if len(windows) > 1:
        windows = join_cut_events(
            windows, partial(suppression_factor, method=method, sigma=sigma, iou_threshold=iou_threshold)
        )
    found: list[list[Tensor]] = [[], [], []]
    for begin in range(0, len(windows), POOLS_AT_ONCE):
        owners = windows[begin : begin + POOLS_AT_ONCE]
        pools = [windows[max(index - 1, 0) : index + 2] for index in range(begin, begin + len(owners))]
        segments, scores, labels = suppress_overlapping_segments(
            _padded([[window.segments for window in pool] for pool in pools]),
            _padded([[window.scores for window in pool] for pool in pools]),
            _padded([[window.labels for window in pool] for pool in pools]),
            max_events=max_events * max(len(pool) for pool in pools),
            method=method,
            sigma=sigma,
            iou_threshold=iou_threshold,
            min_score=min_score,
        )
        is_mine = scores > 0
        if len(windows) > 1:
            centres = segments.mean(dim=-1)  # (windows, K)
            bounds = torch.tensor([window.span.centres for window in owners], dtype=centres.dtype)
            is_mine &= (centres >= bounds[:, :1]) & (centres < bounds[:, 1:])
        for values, kept in zip(found, (segments, scores, labels), strict=True):
            values.append(kept[is_mine])
    segments, scores, labels = (torch.cat(values) for values in found)
    order = scores.argsort(descending=True, stable=True)[: max_events * len(windows)]
    return segments[order], scores[order], labels[order]


def _padded(pools: list[list[Tensor]]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.cat(pool) for pool in pools], batch_first=True)


def join_cut_events(
    windows: Sequence[WindowCandidates], factor_of: Callable[[Tensor], Tensor]
) -> list[WindowCandidates]:
    """Candidates that the edges of windows have cut, joined to whole ones.

    Of each class, the best candidate that ends where its window ends, and one of the next window, are one event if they
    agree where both windows see it (`AGREEMENT`) and score alike; likewise the best candidate that begins where its
    window begins, and one of the window before. The union of all that is one event, with the highest score, takes
    their place, in the window that its centre belongs to; what overlaps a part in its window is lowered as by
    suppression.

    Args:
        windows: V >= 2, in order.
        factor_of: what suppression multiplies scores by, from the overlap with a better segment.
    """
    wholes, parts = _wholes(windows)
    joined = []
    for index, window in enumerate(windows):
        span, scores = window.span, window.scores.clone()
        for part in parts[index]:
            iou = temporal_iou(window.segments[part], window.segments)
            scores *= torch.where(window.labels == window.labels[part], factor_of(iou), 1.0)
        scores[list(parts[index])] = 0.0
        first, last = span.centres
        mine = [whole for whole in wholes if first <= (whole[0] + whole[1]) / 2 < last]
        kept = scores > 0
        segments = window.segments.new_tensor([whole[:2] for whole in mine]).reshape(-1, 2)
        joined.append(
            WindowCandidates(
                span,
                torch.cat([window.segments[kept], segments]),
                torch.cat([scores[kept], scores.new_tensor([whole[2] for whole in mine])]),
                torch.cat([window.labels[kept], window.labels.new_tensor([whole[3] for whole in mine])]),
            )
        )
    return joined


def _wholes(windows: Sequence[WindowCandidates]) -> tuple[list[tuple[float, float, float, int]], list[list[int]]]:
    """Unions (start, end, score, class) of candidates that windows have cut, and those candidates of each window."""
    links = [link for index in range(len(windows) - 1) for link in _links_across(windows, index)]
    parts: list[list[int]] = [[] for _ in windows]
    for index, part in sorted({part for link in links for part in link}):
        parts[index].append(part)
    # What is linked to the window before and what is linked to the one after may be two candidates for one event.
    for index, window in enumerate(windows):
        labels = window.labels.tolist()
        for left, right in combinations(parts[index], 2):
            # Most pairs are of two classes, and are passed over without computing an overlap.
            if labels[left] != labels[right]:
                continue
            if temporal_iou(window.segments[left], window.segments[right]) >= AGREEMENT:
                links.append(((index, left), (index, right)))

    groups = {part: [part] for link in links for part in link}  # every part of a group has the same list
    for one, other in links:
        if groups[one] is not groups[other]:
            smaller, larger = sorted((groups[one], groups[other]), key=len)
            larger += smaller
            groups |= dict.fromkeys(smaller, larger)
    wholes = []
    for group in {id(group): group for group in groups.values()}.values():
        segments = torch.stack([windows[index].segments[part] for index, part in group])
        score = max(windows[index].scores[part].item() for index, part in group)
        label = int(windows[group[0][0]].labels[group[0][1]])
        wholes.append((segments[:, 0].min().item(), segments[:, 1].max().item(), score, label))
    return wholes, parts


def _links_across(windows: Sequence[WindowCandidates], index: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Candidates of a window and of the next that are one event, as (window, candidate), where an edge cuts one."""
    window, following = windows[index], windows[index + 1]
    both_see = (following.span.first, window.span.last)
    for part in _best_cut(window, side=1):
        other = _counterpart(window, part, following, both_see)
        if other is not None:
            yield (index, part), (index + 1, other)
    for part in _best_cut(following, side=0):
        other = _counterpart(following, part, window, both_see)
        if other is not None:
            yield (index, other), (index + 1, part)


def _best_cut(window: WindowCandidates, side: int) -> list[int]:
    """Of each class, the best candidate that the beginning (`side` 0) or the end (1) of the window cuts."""
    edge = window.span.last if side else window.span.first
    length = window.segments[:, 1] - window.segments[:, 0]
    is_cut = (window.segments[:, side] - edge).abs() <= 1 + EDGE * length
    best: dict[int, int] = {}
    for part in is_cut.nonzero()[:, 0].tolist():
        label = int(window.labels[part])
        if label not in best or window.scores[part] > window.scores[best[label]]:
            best[label] = part
    return list(best.values())


def _counterpart(window: WindowCandidates, part: int, other: WindowCandidates, both_see: tuple[int, int]) -> int | None:
    """The best candidate of another window that is the same event as far as both windows see it, or none."""
    iou = temporal_iou(window.segments[part].clamp(*both_see), other.segments.clamp(*both_see))
    least, most = AGREEMENT * window.scores[part], window.scores[part] / AGREEMENT
    fits = (other.labels == window.labels[part]) & (iou >= AGREEMENT) & (other.scores >= least) & (other.scores <= most)
    return int((other.scores * fits).argmax()) if fits.any() else None
