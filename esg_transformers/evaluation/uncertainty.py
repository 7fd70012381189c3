"""Confidence intervals of average precision, and paired comparisons of models, by the bootstrap over videos.

The bootstrap (B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993) repeatedly draws V videos with
replacement from the V videos of the data set and computes the figures of each draw. A video that is drawn twice counts
as two videos. A match in one video does not depend on other videos, so predictions are matched once and weighted by the
number of times that their video was drawn.

Resampling raises the average precision of a weak detector: copies of a correct prediction follow each other and lift
the envelope of precision, so that all resamples may lie above the measured figure. Therefore resamples are shifted to
have the measured figure as their mean. The interval is the percentile interval (section 13.3) of the shifted resamples.
It estimates the range of the figure on other data sets of V videos.
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

RESAMPLES_AT_ONCE = 50  # limits memory: 16 bytes for each resample and each prediction of a class

Videos = Sequence[Sequence[dict[str, Any]]]


def bootstrap_map(
    predictions: Videos,
    references: Videos,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    tiou_thresholds: Sequence[float] = TIOU_THRESHOLDS,
) -> dict[str, Any]:
    """Confidence intervals of the figures of `mean_average_precision`, by resampling videos.

    A class without true events in a resample is ignored in its means, as in the metric; a resample without any true
    event is ignored.

    Args:
        predictions, references, tiou_thresholds: as in `mean_average_precision`.
        num_resamples: number of draws; large enough that one is expected beyond either end of the interval.
        confidence: share of resamples within the interval, in (0, 1).
        seed: seed of the draws; equal seeds draw equal videos.

    Returns:
        `[low, high]` in place of each number: `"average_map"`, `"mAP@0.1"`, ..., and of each label in `"per_class"`.

    Raises:
        ValueError: if `mean_average_precision` refuses the events, or `num_resamples` is too small.

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
        ends: list[list[float]] = np.nanquantile(figures, tails, axis=1).clip(0, 1).T.tolist()
        return ends

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
    """Difference in average precision of two models on the same videos, by a paired bootstrap.

    Each resample draws the same videos for both models. The two-sided p-value is the level at which the interval just
    reaches 0 (Efron and Tibshirani, section 15.4): twice the smaller of the shares of resamples with a difference <= 0
    and >= 0. The data set itself counts as one more resample on either side (A. C. Davison and D. V. Hinkley, Bootstrap
    Methods and their Application, 1997, equation 4.11), so the p-value is never 0:
    `min(1, 2 * (1 + number) / (1 + num_resamples))`.

    Args:
        predictions: those of the first model, as in `mean_average_precision`.
        others: those of the second model, for the same videos in the same order.
        references, num_resamples, confidence, seed, tiou_thresholds: as in `bootstrap_map`.

    Returns:
        For `"average_map"`, `"mAP@0.1"`, ...: `"difference"`, > 0 if the first model is better; its `"interval"`,
        `[low, high]`; and `"p_value"`, without correction for the number of figures.

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
    """Mean difference of two models that were trained several times; see `compare_map`.

    Each resample draws videos for every run independently, except that runs with equal references share their draw.

    Args:
        runs: `predictions`, `others` and `references` of `compare_map` for each run; at least one run.
        num_resamples, confidence, seed, tiou_thresholds: as in `bootstrap_map`.

    Returns:
        The same figures as `compare_map`.

    Raises:
        ValueError: as in `bootstrap_map`, or if there is no run.

    >>> references = [[{"start": 0.0, "end": 1.0, "label": "alarm"}] for _ in range(20)]
    >>> found = [[{**event, "score": 0.5} for event in events] for events in references]
    >>> runs = [(found, found[:10] + [[]] * 10, references), (found, found, references)]  # 20 against 10, and 20
    >>> round(compare_runs(runs)["average_map"]["difference"], 3)
    0.25
    """
    if not runs:
        raise ValueError("There are no runs to compare. Pass at least one.")
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
    # A resample without a true event has no figures, so runs may differ in their number of resamples.
    least = min(difference.shape[1] for difference in differences)
    resampled = np.mean([difference[:, :least] for difference in differences], axis=0)

    def comparison(resampled: np.ndarray) -> dict[str, Any]:
        fewer = min((resampled <= 0).sum(), (resampled >= 0).sum())
        return {
            "difference": float(resampled.mean()),  # equals the measured difference: resamples are shifted to it
            "interval": np.quantile(resampled, tails).clip(-1, 1).tolist(),
            "p_value": min(2 * (1 + int(fewer)) / (1 + len(resampled)), 1.0),
        }

    return {
        "average_map": comparison(resampled.mean(axis=0)),
        **dict(zip(names, map(comparison, resampled), strict=True)),
    }


def interval_tails(num_resamples: int, confidence: float = 0.95) -> tuple[float, float]:
    """The shares of resamples below the lower and the upper end of an interval.

    Raises:
        ValueError: if `confidence` is not in (0, 1), or `num_resamples` is so small that none is expected beyond
            either end.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be in (0, 1), such as 0.95; got {confidence}.")
    fewest = round(2 / (1 - confidence))
    if num_resamples < fewest:
        raise ValueError(
            f"{num_resamples} resamples are too few for an interval of {confidence:.0%}: draw at least {fewest}, so "
            "that one can lie beyond either end. 1000 are common."
        )
    return (1 - confidence) / 2, (1 + confidence) / 2


def _resample(
    models: Sequence[Sequence[ClassMatches]], num_videos: int, num_resamples: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`figures_of_resamples` of each model, with the same draws, shifted to the figures of the data set."""
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
    """`resampled` (N, R), shifted so that the mean of each row is its value in `figures` (N, 1); NaN is ignored."""
    shifted: np.ndarray = resampled - np.nanmean(resampled, axis=1, keepdims=True) + figures
    return shifted


def figures_of_resamples(classes: Sequence[ClassMatches], drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Figures of `mean_average_precision` for R resamples of the videos, in which each copy of a video counts.

    Args:
        classes: matches of a model, C classes at K overlaps.
        drawn: `(V, R)` int, the number of times that each resample has drawn each of V videos.

    Returns:
        `(C, R)`, the mean over overlaps for each class, NaN if a resample has no true event of it; and `(K, R)`, the
        mean at each overlap over the classes that have true events.
    """
    precision = np.stack([_average_precision(matches, drawn) for matches in classes])  # (C, K, R)
    return precision.mean(axis=1), np.nanmean(precision, axis=0)


def _average_precision(matches: ClassMatches, drawn: np.ndarray) -> np.ndarray:
    """Average precision of one class at K overlaps in R resamples, `(K, R)`; NaN without a true event.

    Equals `area_under_precision` of the drawn videos in a row, where copies of a prediction follow each other. They are
    all correct or all wrong, so precision within a group of copies is highest after the last one, and only this value
    can lift the envelope.
    """
    of_prediction = drawn[matches.videos]  # (N, R)
    rank = of_prediction.cumsum(axis=0)  # of the last copy of each prediction
    area = np.empty((len(matches.taken), drawn.shape[1]))
    for row, taken in zip(area, matches.taken, strict=True):
        right = np.flatnonzero(taken >= 0)
        copies = of_prediction[right]
        precision = copies.cumsum(axis=0) / np.maximum(rank[right], 1)
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        row[:] = (envelope * copies).sum(axis=0)
    num_true = drawn[matches.true_videos].sum(axis=0)
    precision_of_class: np.ndarray = np.divide(area, num_true, out=np.full_like(area, np.nan), where=num_true > 0)
    return precision_of_class
