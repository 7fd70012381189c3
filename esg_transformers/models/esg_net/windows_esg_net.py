"""Long videos: overlapping windows of features, and events from the candidates of all windows.

This part is this package's; the papers use videos of at most a minute. A network that was trained on crops is given
windows of about their length, each overlapping the next by half. A window owns the points in its middle, so that every
point of the video is predicted once, with context on both sides. An event longer than a window is cut by its edges, and
joined where two windows agree that it continues.

All positions are steps of the feature grid from the start of the video. V windows, N candidates of a window.
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

# Minimum IoU, in the part that both windows see, of two candidates for one event; also the minimum ratio of scores.
AGREEMENT = 0.5
EDGE = 0.1  # distance to the window's edge, as a share of its length, at which an event still counts as cut
POOLS_AT_ONCE = 16  # windows whose candidates are suppressed together


@dataclass(frozen=True)
class Span:
    """Position of a window in its video, in steps.

    Args:
        first, last (`int`): the steps of the window, from `first` to before `last`.
        answers_from, answers_to (`int`): the points that the window owns, from `answers_from` to before `answers_to`.
        is_last (`bool`): True if the video ends with this window.
    """

    first: int
    last: int
    answers_from: int
    answers_to: int
    is_last: bool

    @property
    def seen(self) -> tuple[float, float]:
        """Range of positions in which events may lie; open where the video begins or ends."""
        return (self.first or -math.inf, math.inf if self.is_last else self.last)

    @property
    def centres(self) -> tuple[float, float]:
        """Range of event centres that this window owns; open where the video begins or ends."""
        return (self.answers_from or -math.inf, math.inf if self.is_last else self.answers_to)


@dataclass(frozen=True)
class WindowCandidates:
    """Candidates of one window, before suppression.

    Args:
        span (`Span`): position of the window.
        segments (`Tensor` of shape `(N, 2)`): (start, end).
        scores (`Tensor` of shape `(N,)`): > 0.
        labels (`Tensor` of shape `(N,)`, int64): class ids.
    """

    span: Span
    segments: Tensor
    scores: Tensor
    labels: Tensor


def hop_of(window_steps: int, pyramid_levels: int) -> int:
    """Steps from one window to the next: half a window, rounded so that the points of all windows lie on one grid.

    >>> hop_of(window_steps=224, pyramid_levels=6)  # the coarsest points lie 32 steps apart
    96
    """
    half, coarsest = window_steps // 2, 2 ** (pyramid_levels - 1)
    return half // coarsest * coarsest or half


def feature_windows(
    blocks: Iterable[Mapping[str, Any]], window_steps: int, pyramid_levels: int
) -> Iterator[tuple[Span, np.ndarray | None, np.ndarray | None]]:
    """Overlapping windows of a video's features, from blocks of any length; holds at most two windows in memory.

    Args:
        blocks: in order, `visual_features` `(t, Dv)` and `audio_features` `(t, Da)`; `None` in every block for an
            absent stream.
        window_steps: steps of a window, >= 2; the last window may be shorter, but is longer than the overlap.
        pyramid_levels: pyramid levels of the model; see `hop_of`.

    Yields:
        The position of a window, and its visual and audio features.
    """
    hop = hop_of(window_steps, pyramid_levels)
    margin = (window_steps - hop) // 2
    first = 0
    held: list[Any] = [None, None]
    for block in blocks:
        new = block["visual_features"], block["audio_features"]
        held = [part if old is None else np.concatenate([old, part]) for old, part in zip(held, new, strict=True)]
        # Only when more than one window is held: the last window takes the remaining steps.
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
    # The processor refuses streams of unequal length.
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
    """Events of a video from the candidates of its windows; for a single window, plain suppression.

    Cut events are joined first. Each window is then suppressed together with the windows before and after it, and keeps
    the events whose centre it owns.

    Args:
        windows: V >= 1 windows of one video, in order.
        max_events: maximum number of events of a window.
        method, sigma, iou_threshold, min_score: see `suppress_overlapping_segments`.

    Returns:
        Segments `(K, 2)`, scores `(K,)` in descending order and labels `(K,)`.
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
    """Windows in which candidates cut by window edges are joined to whole events.

    In each class, the best candidate that ends at the end of its window and one of the next window are one event if
    they overlap enough where both windows see them and have similar scores (`AGREEMENT`); likewise the best candidate
    that begins at the start of its window and one of the window before. The union of all parts of an event, with their
    highest score, replaces them in the window that owns its centre; candidates that overlap a part in its window get
    lower scores, as in suppression.

    Args:
        windows: V >= 2 windows of one video, in order.
        factor_of: factor of suppression from the IoU with a better segment; see `suppression_factor`.
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
    """Unions (start, end, score, class) of candidates cut by window edges, and the indices of these by window."""
    links = [link for index in range(len(windows) - 1) for link in _links_across(windows, index)]
    parts: list[list[int]] = [[] for _ in windows]
    for index, part in sorted({part for link in links for part in link}):
        parts[index].append(part)
    # The candidates linked to the window before and to the window after may be two candidates of one event.
    for index, window in enumerate(windows):
        labels = window.labels.tolist()
        for left, right in combinations(parts[index], 2):
            # Most pairs are of two classes; skipping them saves the IoU.
            if labels[left] != labels[right]:
                continue
            if temporal_iou(window.segments[left], window.segments[right]) >= AGREEMENT:
                links.append(((index, left), (index, right)))

    groups = {part: [part] for link in links for part in link}  # all parts of a group share one list
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
    """Pairs of (window, candidate) of a window and the next that are one event, cut by an edge."""
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
    """Best candidate of each class that is cut by the start (`side` 0) or the end (`side` 1) of the window."""
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
    """Best candidate of another window that is the same event where both windows see it; `None` if there is none."""
    iou = temporal_iou(window.segments[part].clamp(*both_see), other.segments.clamp(*both_see))
    least, most = AGREEMENT * window.scores[part], window.scores[part] / AGREEMENT
    fits = (other.labels == window.labels[part]) & (iou >= AGREEMENT) & (other.scores >= least) & (other.scores <= most)
    return int((other.scores * fits).argmax()) if fits.any() else None
