"""How far the figures of a model would move on other videos, and whether one model is better than another.

Both by the bootstrap over videos (B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993): V videos are
drawn from the V of the data set, with replacement, and the figures computed of them as of a data set, again and again.
A video that is drawn twice counts as two videos. What is right in a video does not depend on others, so predictions are
matched once and weighted by how often their video was drawn.

The average precision of a weak detector is higher in a resample, where copies of a right prediction stand together and
lift the envelope of precision: so much that all resamples may lie above the figure itself. So resamples are shifted to
have the figure as their mean, and an interval is the percentile interval (section 13.3) of these: it holds the figure
to expect from as many other videos.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from esg_transformers.evaluation.event_localization_map.average_precision import (
    TIOU_THRESHOLDS,
    ClassMatches,
    map_names,
    match_classes,
)

RESAMPLES_AT_ONCE = 50  # bounds memory: 16 bytes for each of them and each prediction of a class

Videos = Sequence[Sequence[dict[str, Any]]]


def bootstrap_map(
    predictions: Videos,
    references: Videos,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    tiou_thresholds: Sequence[float] = TIOU_THRESHOLDS,
) -> dict[str, Any]:
    """Confidence intervals of the figures of `mean_average_precision` over resampled videos.

    A class of which a resample holds no true event is left out of its means, as in the metric; a resample without any
    true event is left out.

    Args:
        predictions, references, tiou_thresholds: as in `mean_average_precision`.
        num_resamples: how many data sets are drawn; at least one must be expected beyond either end of the interval.
        confidence: share of resamples within the interval, in (0, 1).
        seed: of the draws; equal seeds draw equal videos.

    Returns:
        `[low, high]` in place of each number: `"average_map"`, `"mAP@0.1"`, ..., and of each label in `"per_class"`.

    Raises:
        ValueError: if `mean_average_precision` refuses the events, or for too few resamples.

    >>> references = [[{"start": 0.0, "end": 1.0, "label": "alarm"}] for _ in range(20)]
    >>> predictions = [[{**event, "score": 0.5} for event in events] for events in references[:10]] + [[]] * 10
    >>> low, high = bootstrap_map(predictions, references)["average_map"]  # 10 of 20 found: binomial, 0.5 +- 0.22
    >>> round(low, 1), round(high, 1)
    (0.3, 0.7)
    """
    names, tails = map_names(tiou_thresholds), interval_tails(num_resamples, confidence)
    classes = match_classes(predictions, references, tiou_thresholds)
    [(per_class, at_overlap)] = _resample([classes], len(references), num_resamples, seed)

    def intervals(figures: np.ndarray) -> list[list[float]]:
        return np.nanquantile(figures, tails, axis=1).clip(0, 1).T.tolist()

    return {
        "average_map": intervals(at_overlap.mean(axis=0, keepdims=True))[0],
        **dict(zip(names, intervals(at_overlap), strict=True)),
        "per_class": dict(zip([matches.label for matches in classes], intervals(per_class), strict=True)),
    }


def compare_map(
    predictions: Videos,
    others: Videos,
    references: Videos,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    tiou_thresholds: Sequence[float] = TIOU_THRESHOLDS,
) -> dict[str, dict[str, Any]]:
    """How much better one model is than another on the same videos: a paired bootstrap, each resample drawn for both.

    The two-sided p-value is the level at which the interval just reaches 0 (Efron and Tibshirani, section 15.4): twice
    the smaller of the shares of resamples in which the difference is <= 0 and in which it is >= 0. The data set itself
    counts as one more resample on either side (A. C. Davison and D. V. Hinkley, Bootstrap Methods and their
    Application, 1997, equation 4.11), so that it is never 0: `min(1, 2 * (1 + number) / (1 + num_resamples))`.

    Args:
        predictions: of the one model, as in `mean_average_precision`.
        others: of the other model, for the same videos in the same order.
        references, num_resamples, confidence, seed, tiou_thresholds: as in `bootstrap_map`.

    Returns:
        For `"average_map"`, `"mAP@0.1"`, ...: `"difference"`, > 0 where the one model is better; its `"interval"`,
        `[low, high]`; and `"p_value"`, of this figure alone.

    Raises:
        ValueError: as in `bootstrap_map`.

    >>> references = [[{"start": 0.0, "end": 1.0, "label": "alarm"}] for _ in range(20)]
    >>> found = [[{**event, "score": 0.5} for event in events] for events in references]
    >>> comparison = compare_map(found, found[:10] + [[]] * 10, references)["average_map"]  # 20 found against 10
    >>> round(comparison["difference"], 3), round(comparison["p_value"], 3)  # 2 / 1001
    (0.5, 0.002)
    """
    return compare_runs(
        [(predictions, others, references)], num_resamples, confidence, seed, tiou_thresholds=tiou_thresholds
    )


def compare_runs(
    runs: Sequence[tuple[Videos, Videos, Videos]],
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    tiou_thresholds: Sequence[float] = TIOU_THRESHOLDS,
) -> dict[str, dict[str, Any]]:
    """As `compare_map`, of two models that were trained several times: the mean over runs of the difference.

    Each resample draws videos anew for every run; where runs have the same references, the same videos for all.

    Args:
        runs: of each run `predictions`, `others` and `references` of `compare_map`; at least one.
        num_resamples, confidence, seed, tiou_thresholds: as in `bootstrap_map`.

    Returns:
        As `compare_map`.

    Raises:
        ValueError: as in `bootstrap_map`, or without a run.

    >>> references = [[{"start": 0.0, "end": 1.0, "label": "alarm"}] for _ in range(20)]
    >>> found = [[{**event, "score": 0.5} for event in events] for events in references]
    >>> runs = [(found, found[:10] + [[]] * 10, references), (found, found, references)]  # 20 against 10, and 20
    >>> round(compare_runs(runs)["average_map"]["difference"], 3)
    0.25
    """
    if not runs:
        raise ValueError("There are no runs to compare; give at least one.")
    names, tails = map_names(tiou_thresholds), interval_tails(num_resamples, confidence)
    differences: list[np.ndarray] = []
    seen: list[Videos] = []
    for predictions, others, references in runs:
        if references not in seen:
            seen.append(references)
        models = [match_classes(events, references, tiou_thresholds) for events in (predictions, others)]
        stream = seed + seen.index(references)
        (_, ours), (_, theirs) = _resample(models, len(references), num_resamples, stream)
        differences.append(ours - theirs)  # (K, R)
    # A resample without a true event has no figures, so that one run may have fewer than another.
    least = min(difference.shape[1] for difference in differences)
    resampled = np.mean([difference[:, :least] for difference in differences], axis=0)

    def comparison(resampled: np.ndarray) -> dict[str, Any]:
        fewer = min((resampled <= 0).sum(), (resampled >= 0).sum())
        return {
            "difference": float(resampled.mean()),  # that of the data sets, as resamples are shifted to it
            "interval": np.quantile(resampled, tails).clip(-1, 1).tolist(),
            "p_value": min(2 * (1 + int(fewer)) / (1 + len(resampled)), 1.0),
        }

    return {
        "average_map": comparison(resampled.mean(axis=0)),
        **dict(zip(names, map(comparison, resampled), strict=True)),
    }


def interval_tails(num_resamples: int, confidence: float = 0.95) -> tuple[float, float]:
    """The shares of resamples below the two ends of an interval.

    Raises:
        ValueError: if `confidence` is not in (0, 1), or there are too few resamples for one to lie beyond either end.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be in (0, 1), such as 0.95; got {confidence}.")
    fewest = round(2 / (1 - confidence))
    if num_resamples < fewest:
        raise ValueError(
            f"{num_resamples} resamples say nothing of an interval of {confidence:.0%}: draw at least {fewest}, so "
            "that one can lie beyond either end; 1000 are common."
        )
    return (1 - confidence) / 2, (1 + confidence) / 2


def _resample(
    models: Sequence[Sequence[ClassMatches]], num_videos: int, num_resamples: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`figures_of_resamples` of each model, the same videos drawn for all; shifted to the figures of the data set."""
    generator = np.random.default_rng(seed)
    has_event = np.zeros(num_videos, dtype=bool)
    for matches in models[0]:
        has_event[matches.true_videos] = True
    drawn_once = np.ones((num_videos, 1), dtype=np.int64)
    parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in models]
    with tqdm(total=num_resamples, desc="Resampling videos", unit=" resamples", leave=False) as progress:
        for first in range(0, num_resamples, RESAMPLES_AT_ONCE):
            size = min(RESAMPLES_AT_ONCE, num_resamples - first)
            drawn = generator.multinomial(num_videos, np.full(num_videos, 1 / num_videos), size).T  # (V, R)
            drawn = np.ascontiguousarray(drawn[:, drawn[has_event].any(axis=0)])
            for figures, classes in zip(parts, models, strict=True):
                figures.append(figures_of_resamples(classes, drawn))
            progress.update(size)
    shifted = []
    for figures, classes in zip(parts, models, strict=True):
        per_class, at_overlap = (np.concatenate(part, axis=1) for part in zip(*figures, strict=True))
        class_figures, overlap_figures = figures_of_resamples(classes, drawn_once)
        shifted.append((_shifted(per_class, class_figures), _shifted(at_overlap, overlap_figures)))
    return shifted


def _shifted(resampled: np.ndarray, figures: np.ndarray) -> np.ndarray:
    """`resampled` (N, R) moved so that the mean of each row is its one of `figures` (N, 1); NaN stays."""
    return resampled - np.nanmean(resampled, axis=1, keepdims=True) + figures


def figures_of_resamples(classes: Sequence[ClassMatches], drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The figures of R resamples: those of `mean_average_precision` of the drawn videos, each copy being a video.

    Args:
        classes: the matches of a model at K overlaps.
        drawn: `(V, R)` int, how often each resample has drawn each of V videos.

    Returns:
        `(C, R)`, the mean over overlaps of each class, NaN where a resample has no true event of it; and `(K, R)`, the
        mean over the other classes at each overlap.
    """
    precision = np.stack([_average_precision(matches, drawn) for matches in classes])  # (C, K, R)
    return precision.mean(axis=1), np.nanmean(precision, axis=0)


def _average_precision(matches: ClassMatches, drawn: np.ndarray) -> np.ndarray:
    """Average precision of one class at K overlaps in R resamples, `(K, R)`; NaN where there is no true event.

    As `area_under_precision` of the drawn videos in a row, where copies of a prediction follow each other. They are all
    right or all wrong, so that precision is highest behind the last right one of them, and only there can it matter.
    """
    of_prediction = drawn[matches.videos]  # (N, R)
    rank = of_prediction.cumsum(axis=0)  # of the last copy
    area = np.empty((len(matches.taken), drawn.shape[1]))
    for row, taken in zip(area, matches.taken, strict=True):
        right = np.flatnonzero(taken >= 0)
        copies = of_prediction[right]
        precision = copies.cumsum(axis=0) / np.maximum(rank[right], 1)
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        row[:] = (envelope * copies).sum(axis=0)
    num_true = drawn[matches.true_videos].sum(axis=0)
    return np.divide(area, num_true, out=np.full_like(area, np.nan), where=num_true > 0)
