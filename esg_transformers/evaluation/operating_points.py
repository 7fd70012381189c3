"""The score that each class needs: chosen on a validation split, so that a site gets the precision or recall it wants.

What can be chosen for a class is how many of its predictions are kept, the surest first; equal scores are kept or left
together. The threshold lies halfway between the lowest score that is kept and the next lower one, with 1 above the
highest and 0 below the lowest. Of choices that are equally good the one with the highest threshold is taken.
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
    """What S thresholds of one class would give on the split, the highest first: that one keeps nothing."""

    thresholds: np.ndarray  # (S,) float64, in [0, 1]; kept is what scores more
    hits: np.ndarray  # (S,) int64, never less at a lower threshold
    false_alarms: np.ndarray  # (S,) int64, likewise
    num_true: int

    @property
    def precision(self) -> np.ndarray:
        """`(S,)`; 0 where nothing is kept."""
        return self.hits / np.maximum(self.hits + self.false_alarms, 1)

    def counts(self, choice: int) -> Counts:
        """At one of the thresholds."""
        hits = int(self.hits[choice])
        return Counts(hits, self.num_true - hits, int(self.false_alarms[choice]))


@dataclass(frozen=True)
class PrecisionAtLeast:
    """The highest recall with at least this precision; where no threshold has it, the highest precision.

    Args:
        precision: the share of found events that must be right, in (0, 1].
    """

    precision: float

    def __post_init__(self):
        _check_share("precision", self.precision)

    def choose(self, curve: OperatingCurve) -> tuple[int, bool]:
        """The position of the threshold on the curve, and whether the target is reached there."""
        enough = curve.precision >= self.precision
        if enough.any():
            return int(np.argmax(np.where(enough, curve.hits, -1))), True
        return int(np.lexsort((-curve.hits, -curve.precision))[0]), False


@dataclass(frozen=True)
class RecallAtLeast:
    """The highest precision with at least this recall; where no threshold has it, the highest recall.

    Args:
        recall: the share of true events that must be found, in (0, 1].
    """

    recall: float

    def __post_init__(self):
        _check_share("recall", self.recall)

    def choose(self, curve: OperatingCurve) -> tuple[int, bool]:
        """The position of the threshold on the curve, and whether the target is reached there."""
        enough = curve.hits / max(curve.num_true, 1) >= self.recall
        if enough.any():
            return int(np.argmax(np.where(enough, curve.precision, -1.0))), True
        return int(np.argmax(curve.hits)), False


@dataclass(frozen=True)
class BestF1:
    """The highest F1, the harmonic mean of precision and recall."""

    def choose(self, curve: OperatingCurve) -> tuple[int, bool]:
        """The position of the threshold on the curve; this target is always reached."""
        return int(np.argmax(2 * curve.hits / np.maximum(curve.hits + curve.false_alarms + curve.num_true, 1))), True


@dataclass(frozen=True)
class LowestCost:
    """The lowest cost of misses and false alarms together.

    Args:
        miss: cost of a true event that is not found, > 0.
        false_alarm: cost of a found event that is none, > 0, in the same unit.
    """

    miss: float
    false_alarm: float

    def __post_init__(self):
        if not all(math.isfinite(cost) and cost > 0 for cost in (self.miss, self.false_alarm)):
            raise ValueError(f"The costs of a miss and of a false alarm must be above 0; got {self}.")

    def choose(self, curve: OperatingCurve) -> tuple[int, bool]:
        """The position of the threshold on the curve; this target is always reached."""
        return int(np.argmin(self.miss * (curve.num_true - curve.hits) + self.false_alarm * curve.false_alarms)), True


@dataclass(frozen=True)
class AlarmsPerHour:
    """The most hits, of all classes together, with no more false alarms per hour than this, of all classes together.

    Alarms are spent one step after the other where they gain the most hits per alarm, until no step is left that gains
    a hit and that can still be paid. A class without true events gains nothing, and so gets none.

    Args:
        limit: false alarms per hour of video, >= 0.
    """

    limit: float

    def __post_init__(self):
        if not (math.isfinite(self.limit) and self.limit >= 0):
            raise ValueError(f"The false alarms per hour must be a number from 0 on; got {self.limit}.")

    def choose_together(self, curves: Sequence[OperatingCurve], hours: float) -> list[int]:
        """The position of the threshold on each of the curves."""
        budget = math.floor(self.limit * hours + 1e-9)  # 0.7 / h x 10 h are 7 alarms, whatever the rounding
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
    """What was chosen for a class, and what it gives on the split that it was chosen on.

    Args:
        threshold: the score that an event of the class must exceed, in [0, 1].
        counts: hits, misses and false alarms.
        false_alarms_per_hour: of video.
        reached: whether the target is; never for a class that has no true event or no prediction in the split.
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
    """The score that each class needs, for a target on the split that the events are of.

    The figures of a point are those of this very split, so those of other videos will be worse on average. A class
    without true events keeps none of its predictions; one without predictions gets the threshold 0.5.

    Args:
        predictions: one list per video of events `{"start", "end", "label", "score"}`, with scores in [0, 1], and all
            the events that the model can find (a threshold of 0).
        references: one list per video, in the order of `predictions`, of events `{"start", "end", "label"}`.
        durations: seconds of each video.
        target: what to choose for.
        criterion: what makes a predicted event a hit.

    Returns:
        Label to point, for all labels of predictions and references, sorted.

    Raises:
        ValueError: for events that `mean_average_precision` refuses, a score out of [0, 1], a duration that is not a
            positive number, or no videos.

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
            f"Scores lie between {found.scores.min()} and {found.scores.max()}; thresholds are chosen for scores in "
            "[0, 1], such as probabilities."
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
    """All thresholds of a class that keep different predictions, and what they give."""
    of_class = (matched.classes == class_id) & (matched.scores > 0)  # no threshold in [0, 1] is below a score of 0
    scores, is_hit = matched.scores[of_class], matched.is_hit[of_class]
    last = np.flatnonzero(np.diff(scores, append=-1.0))  # of those with the same score
    kept = np.append(0, last + 1)
    hits = np.append(0, is_hit.cumsum())[kept]
    bounds = np.concatenate([[1.0], scores[last], [0.0]])
    middle = (bounds[:-1] + bounds[1:]) / 2
    # Between neighbouring floats there is no middle; it must not be rounded up to the score that is kept.
    thresholds = np.where(middle < bounds[:-1], middle, bounds[1:])
    return OperatingCurve(thresholds, hits, kept - hits, int(matched.num_true[class_id]))


def _best_step(curve: OperatingCurve, choice: int, budget: int) -> tuple[float, int, int]:
    """The step down from a position that gains the most hits per alarm within a budget: (gain, alarms, position)."""
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
