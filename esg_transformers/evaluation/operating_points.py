"""Score thresholds per class, chosen on a validation split for a target such as a precision or a recall.

A threshold keeps the predictions of a class with the highest scores; predictions with equal scores are kept or dropped
together. It lies halfway between the lowest kept score and the highest dropped one; 1 bounds the scores from above
and 0 from below. If several thresholds serve the target equally well, the highest is chosen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from esg_transformers.evaluation.detections import (
    HALF_OVERLAP,
    Counts,
    Criterion,
    MatchedEvents,
    hours_of,
    match_events,
)
from esg_transformers.evaluation.event_localization_map.average_precision import read_events


class OperatingCurve(NamedTuple):
    """Hits and false alarms of one class at S thresholds, highest first; the first threshold keeps no prediction."""

    thresholds: np.ndarray  # (S,) float64, in [0, 1]; predictions with higher scores are kept
    hits: np.ndarray  # (S,) int64, not falling
    false_alarms: np.ndarray  # (S,) int64, not falling
    num_true: int

    @property
    def precision(self) -> np.ndarray:
        """`(S,)` float64; 0 if no prediction is kept."""
        precision: np.ndarray = self.hits / np.maximum(self.hits + self.false_alarms, 1)
        return precision

    def counts(self, choice: int) -> Counts:
        """Counts at the threshold with position `choice`."""
        hits = int(self.hits[choice])
        return Counts(hits, self.num_true - hits, int(self.false_alarms[choice]))


@dataclass(frozen=True)
class PrecisionAtLeast:
    """The highest recall with at least this precision; if no threshold reaches it, the highest precision.

    Args:
        precision: share of predicted events that must be hits, in (0, 1].
    """

    precision: float

    def __post_init__(self) -> None:
        _check_share("precision", self.precision)

    def choose(self, curve: OperatingCurve) -> tuple[int, bool]:
        """Position of the chosen threshold on the curve; True if it reaches the target."""
        enough = curve.precision >= self.precision
        if enough.any():
            return int(np.argmax(np.where(enough, curve.hits, -1))), True
        return int(np.lexsort((-curve.hits, -curve.precision))[0]), False


@dataclass(frozen=True)
class RecallAtLeast:
    """The highest precision with at least this recall; if no threshold reaches it, the highest recall.

    Args:
        recall: share of true events that must be hit, in (0, 1].
    """

    recall: float

    def __post_init__(self) -> None:
        _check_share("recall", self.recall)

    def choose(self, curve: OperatingCurve) -> tuple[int, bool]:
        """Position of the chosen threshold on the curve; True if it reaches the target."""
        enough = curve.hits / max(curve.num_true, 1) >= self.recall
        if enough.any():
            return int(np.argmax(np.where(enough, curve.precision, -1.0))), True
        return int(np.argmax(curve.hits)), False


@dataclass(frozen=True)
class BestF1:
    """The highest F1, the harmonic mean of precision and recall."""

    def choose(self, curve: OperatingCurve) -> tuple[int, bool]:
        """Position of the chosen threshold on the curve; True, as this target is always reached."""
        return int(np.argmax(2 * curve.hits / np.maximum(curve.hits + curve.false_alarms + curve.num_true, 1))), True


@dataclass(frozen=True)
class LowestCost:
    """The lowest total cost of misses and false alarms.

    Args:
        miss: cost of a missed true event, > 0.
        false_alarm: cost of a false alarm, > 0, in the same unit.
    """

    miss: float
    false_alarm: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(cost) and cost > 0 for cost in (self.miss, self.false_alarm)):
            raise ValueError(f"The costs `miss` and `false_alarm` must be finite numbers > 0; got {self}.")

    def choose(self, curve: OperatingCurve) -> tuple[int, bool]:
        """Position of the chosen threshold on the curve; True, as this target is always reached."""
        return int(np.argmin(self.miss * (curve.num_true - curve.hits) + self.false_alarm * curve.false_alarms)), True


@dataclass(frozen=True)
class AlarmsPerHour:
    """Many hits within a budget of false alarms per hour of video, both summed over classes.

    Greedy: thresholds are lowered step by step, each time that of the class with the most additional hits per false
    alarm, until no affordable step adds a hit. A class without true events adds none, so all its predictions are
    dropped. The result is not always the largest possible number of hits.

    Args:
        limit: false alarms per hour of video, >= 0.
    """

    limit: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit) and self.limit >= 0):
            raise ValueError(f"`limit`, the false alarms per hour, must be a finite number >= 0; got {self.limit}.")

    def choose_together(self, curves: Sequence[OperatingCurve], hours: float) -> list[int]:
        """Position of the chosen threshold on each curve."""
        budget = math.floor(self.limit * hours + 1e-9)  # 0.7 / h x 10 h are 7 alarms, in spite of rounding
        choices = [0] * len(curves)
        steps = [_best_step(curve, 0, budget) for curve in curves]
        while any(gain > 0 for gain, _, _ in steps):
            best = max(range(len(steps)), key=lambda index: steps[index][0])
            _, spent, choices[best] = steps[best]
            budget -= spent
            for index, (_, alarms, _) in enumerate(steps):
                if index == best or alarms > budget:
                    steps[index] = _best_step(curves[index], choices[index], budget)
        return choices


Target = PrecisionAtLeast | RecallAtLeast | BestF1 | LowestCost | AlarmsPerHour


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold of a class, and its figures on the split on which it was chosen.

    Args:
        threshold: the score that an event of the class must exceed, in [0, 1].
        counts: hits, misses and false alarms at the threshold.
        false_alarms_per_hour: false alarms per hour of video.
        reached: True if the target is reached; False for a class without true events or without predictions.
    """

    threshold: float
    counts: Counts
    false_alarms_per_hour: float
    reached: bool


def choose_thresholds(
    predictions: Sequence[Sequence[dict[str, Any]]],
    references: Sequence[Sequence[dict[str, Any]]],
    durations: Sequence[float],
    target: Target,
    criterion: Criterion = HALF_OVERLAP,
) -> dict[Any, OperatingPoint]:
    """A score threshold for each class that serves a target on the given videos.

    The figures of each point are measured on the same videos, so those on other videos will be worse on average. A
    class without true events keeps none of its predictions; a class without predictions gets the threshold 0.5.

    Args:
        predictions: one list per video of events `{"start", "end", "label", "score"}`, with scores in [0, 1]; all
            events that the model finds with a threshold of 0.
        references: one list per video, in the order of `predictions`, of events `{"start", "end", "label"}`.
        durations: seconds of each video.
        target: the figure to reach or to optimise.
        criterion: the rule that makes a predicted event a hit.

    Returns:
        Label to point, for all labels of predictions and references, sorted.

    Raises:
        ValueError: if `mean_average_precision` refuses the events, a score is outside [0, 1], a duration is not a
            positive number, or there are no videos.

    >>> references = [[{"start": 0.0, "end": 4.0, "label": "alarm"}]]
    >>> predictions = [[{"start": 0.0, "end": 4.0, "label": "alarm", "score": 0.75},
    ...                 {"start": 7.0, "end": 9.0, "label": "alarm", "score": 0.25}]]
    >>> point = choose_thresholds(predictions, references, [60.0], PrecisionAtLeast(0.9))["alarm"]
    >>> point.threshold, point.counts, point.reached
    (0.5, Counts(hits=1, misses=0, false_alarms=0), True)
    """
    found, true = read_events(predictions, references)
    hours = hours_of(durations, len(references))
    if not hours:
        raise ValueError("There are no videos to choose thresholds on. Pass those of a validation split.")
    if len(found.scores) and not (found.scores.min() >= 0 and found.scores.max() <= 1):
        raise ValueError(
            f"Scores lie between {found.scores.min()} and {found.scores.max()}. Expected scores in [0, 1], such as "
            "probabilities."
        )
    matched = match_events(found, true, criterion)
    curves = [operating_curve(matched, class_id) for class_id in range(len(matched.labels))]
    if isinstance(target, AlarmsPerHour):
        chosen = [(choice, True) for choice in target.choose_together(curves, hours)]
    else:
        chosen = [target.choose(curve) for curve in curves]
    points = {}
    for label, curve, (choice, reached) in zip(matched.labels, curves, chosen, strict=True):
        counts = curve.counts(choice)
        points[label] = OperatingPoint(
            threshold=float(curve.thresholds[choice]),
            counts=counts,
            false_alarms_per_hour=counts.false_alarms / hours,
            reached=reached and curve.num_true > 0 and len(curve.thresholds) > 1,
        )
    return points


def operating_curve(matched: MatchedEvents, class_id: int) -> OperatingCurve:
    """The curve of a class, with one threshold for each set of predictions that can be kept."""
    of_class = (matched.classes == class_id) & (matched.scores > 0)  # no threshold in [0, 1] keeps a score of 0
    scores, is_hit = matched.scores[of_class], matched.is_hit[of_class]
    last = np.flatnonzero(np.diff(scores, append=-1.0))  # position of the last prediction with each score
    kept = np.append(0, last + 1)
    hits = np.append(0, is_hit.cumsum())[kept]
    bounds = np.concatenate([[1.0], scores[last], [0.0]])
    middle = (bounds[:-1] + bounds[1:]) / 2
    # Between neighbouring floats there is no middle; the threshold must not be rounded up to the kept score.
    thresholds = np.where(middle < bounds[:-1], middle, bounds[1:])
    return OperatingCurve(thresholds, hits, kept - hits, int(matched.num_true[class_id]))


def _best_step(curve: OperatingCurve, choice: int, budget: int) -> tuple[float, int, int]:
    """The affordable step down with the most hits per false alarm: (hits per alarm, alarms, new position)."""
    hits = curve.hits[choice:] - curve.hits[choice]
    alarms = curve.false_alarms[choice:] - curve.false_alarms[choice]
    affordable = int(np.searchsorted(alarms, budget, side="right"))
    hits, alarms = hits[:affordable], alarms[:affordable]
    gain = np.divide(hits, alarms, out=np.where(hits > 0, np.inf, 0.0), where=alarms > 0)
    best = int(np.argmax(gain))
    return float(gain[best]), int(alarms[best]), choice + best


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"The {name} to reach must be in (0, 1]; got {value}.")
