"""Hits, misses and false alarms of a detector at its score thresholds.

A predicted event is a hit if it is matched to a true event of its video and class that an `Overlap` or a `Collar`
accepts. Matching is one-to-one and maximises the number of hits. With a `Collar` the figures equal the event-based
figures of sed_eval 0.2.1 (`EventBasedMetrics` in sed_eval/sound_event.py, "optimal" matching and
`empty_system_output_handling="zero_score"`, as the DCASE baselines for DESED call it), with one exception: true events
that repeat another within 1 ms count once, as in `mean_average_precision`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from esg_transformers.evaluation.event_localization_map.average_precision import (
    Events,
    pairs_within_videos,
    read_events,
    temporal_iou,
    without_duplicates,
)


@dataclass(frozen=True)
class Overlap:
    """Hit criterion by temporal overlap.

    Args:
        tiou: the smallest intersection over union of predicted and true event, in (0, 1].

    >>> Overlap(0.5).accepts(np.array([[0.0, 3.0], [0.0, 1.0]]), np.array([[0.0, 4.0], [0.0, 4.0]]))  # 3/4 and 1/4
    array([ True, False])
    """

    tiou: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.tiou <= 1:
            raise ValueError(f"`tiou`, the overlap that a hit needs, must be in (0, 1]; got {self.tiou}.")

    def accepts(self, found: np.ndarray, true: np.ndarray) -> np.ndarray:
        """True for each of P segments `found` that hits its segment of `true`; `(P, 2)` seconds each, `(P,)` bool."""
        accepted: np.ndarray = temporal_iou(found, true) >= self.tiou
        return accepted


@dataclass(frozen=True)
class Collar:
    """Hit criterion by the distance of starts and of ends; the defaults are those of DESED.

    Args:
        onset: largest difference of the starts, in seconds.
        offset: largest difference of the ends, in seconds.
        offset_share: the ends may also differ by this share of the true event's length, if that is more.

    >>> true = np.array([[0.0, 5.0]])  # the end may be 1 s off: a fifth of the length
    >>> Collar().accepts(np.array([[0.2, 5.9], [0.2, 6.1], [0.3, 5.0]]), true)
    array([ True, False, False])
    """

    onset: float = 0.2
    offset: float = 0.2
    offset_share: float = 0.2

    def __post_init__(self) -> None:
        if not all(math.isfinite(part) and part >= 0 for part in (self.onset, self.offset, self.offset_share)):
            raise ValueError(f"`onset`, `offset` and `offset_share` must be finite numbers >= 0; got {self}.")

    def accepts(self, found: np.ndarray, true: np.ndarray) -> np.ndarray:
        """True for each of P segments `found` that hits its segment of `true`; `(P, 2)` seconds each, `(P,)` bool."""
        onset_error, offset_error = np.abs(found - true).T
        allowed = np.maximum(self.offset, self.offset_share * (true[:, 1] - true[:, 0]))
        accepted: np.ndarray = (onset_error <= self.onset) & (offset_error <= allowed)
        return accepted


Criterion = Overlap | Collar
HALF_OVERLAP = Overlap(0.5)


@dataclass(frozen=True)
class Counts:
    """Numbers of hits, misses and false alarms, and the figures that follow from them.

    Divisions by zero are resolved as in sed_eval: precision is 0 if there is no prediction; recall and F1 are None if
    there is no true event.

    >>> counts = Counts(hits=3, misses=1, false_alarms=3)
    >>> counts.precision, counts.recall, counts.f1
    (0.5, 0.75, 0.6)
    >>> Counts(hits=0, misses=0, false_alarms=2).recall is None
    True
    """

    hits: int
    misses: int
    false_alarms: int

    @property
    def precision(self) -> float:
        """Share of predicted events that are hits."""
        return self.hits / max(self.hits + self.false_alarms, 1)

    @property
    def recall(self) -> float | None:
        """Share of true events that are hit."""
        num_true = self.hits + self.misses
        return self.hits / num_true if num_true else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall."""
        if self.recall is None:
            return None
        return 2 * self.hits / (2 * self.hits + self.misses + self.false_alarms)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.hits + other.hits, self.misses + other.misses, self.false_alarms + other.false_alarms)


def detection_report(
    predictions: Sequence[Sequence[dict[str, Any]]],
    references: Sequence[Sequence[dict[str, Any]]],
    durations: Sequence[float],
    criterion: Criterion = HALF_OVERLAP,
    thresholds: float | Mapping[Any, float] | None = None,
) -> dict[str, Any]:
    """Hits, misses, false alarms and derived figures: per class, and of all classes together.

    Classes are those of the references and of the kept predictions.

    Args:
        predictions: one list per video of events `{"start", "end", "label", "score"}`, see `mean_average_precision`.
        references: one list per video, in the order of `predictions`, of events `{"start", "end", "label"}`.
        durations: seconds of each video.
        criterion: the rule that makes a predicted event a hit.
        thresholds: a prediction is kept if its score exceeds the threshold, as in the pipeline: one number, or one for
            each predicted label. By default all predictions are kept.

    Returns:
        `"per_class"`: label to figures, sorted by label; `"micro"`: the same figures of all classes together ("overall"
        in sed_eval); `"macro"`: the means over classes of precision, recall and F1 ("class-wise average"), each over
        the classes in which it is defined; `"hours"`: total duration of the videos. Figures are `"hits"`, `"misses"`,
        `"false_alarms"`, `"precision"`, `"recall"`, `"f1"`, `"false_alarms_per_hour"`, and `"onset_error"` and
        `"offset_error"`, the mean absolute errors of the hits in seconds. Undefined figures are None, see `Counts`.

    Raises:
        ValueError: if `mean_average_precision` refuses the events, a duration is not a positive number, or a label has
            no threshold.

    >>> references = [[{"start": 0.0, "end": 4.0, "label": "alarm"}]]
    >>> predictions = [[{"start": 0.5, "end": 4.0, "label": "alarm", "score": score} for score in (0.9, 0.2)]]
    >>> report = detection_report(predictions, references, durations=[60.0])["per_class"]["alarm"]
    >>> report["precision"], report["recall"], report["false_alarms_per_hour"], report["onset_error"]
    (0.5, 1.0, 60.0, 0.5)
    """
    found, true = read_events(predictions, references)
    hours = hours_of(durations, len(references))
    if thresholds is not None:
        found = _above(thresholds, found)
    matched = match_events(found, true, criterion)
    counts = [matched.counts_of(class_id) for class_id in range(len(matched.labels))]
    rows = [
        _figures(of_class, hours, matched.errors[matched.classes == class_id])
        for class_id, of_class in enumerate(counts)
    ]
    return {
        "per_class": dict(zip(matched.labels, rows, strict=True)),
        "micro": _figures(sum(counts, Counts(0, 0, 0)), hours, matched.errors),
        "macro": {name: _mean([row[name] for row in rows]) for name in ("precision", "recall", "f1")},
        "hours": hours,
    }


class MatchedEvents(NamedTuple):
    """N predictions of C classes, sorted by falling score, and their matches with true events.

    For every k, the first k predictions have as many hits as any matching of these k alone could have.
    """

    labels: list[Any]  # C, sorted
    num_true: np.ndarray  # (C,) int64, true events of each class
    classes: np.ndarray  # (N,) int64, positions in `labels`
    scores: np.ndarray  # (N,) float64
    is_hit: np.ndarray  # (N,) bool
    errors: np.ndarray  # (N, 2) float64, absolute errors of onset and offset in seconds; NaN without a hit

    def counts_of(self, class_id: int) -> Counts:
        """Counts of all predictions of a class."""
        is_hit = self.is_hit[self.classes == class_id]
        hits = int(is_hit.sum())
        return Counts(hits, int(self.num_true[class_id]) - hits, len(is_hit) - hits)


def match_events(found: Events, true: Events, criterion: Criterion) -> MatchedEvents:
    """Match predictions, by falling score, to the true events of their video and class; see `maximum_matching`.

    Each prediction tries its possible true events in the order of distance (sum of onset and offset errors).
    """
    labels: list[Any] = sorted({*found.labels, *true.labels})
    class_ids = {label: class_id for class_id, label in enumerate(labels)}
    best_first = np.argsort(-found.scores, kind="stable")
    segments = found.segments[best_first]
    classes = np.array([class_ids[label] for label in found.labels], dtype=np.int64)[best_first]
    true_classes = np.array([class_ids[label] for label in true.labels], dtype=np.int64)
    # One number per class and video: only events of one group can be matched.
    groups = found.videos[best_first] * len(labels) + classes
    true_groups, true_segments = without_duplicates(true.videos * len(labels) + true_classes, true.segments)

    pairs = np.stack(pairs_within_videos(groups, true_groups))  # (2, P)
    pairs = pairs[:, criterion.accepts(segments[pairs[0]], true_segments[pairs[1]])]
    distance = np.abs(segments[pairs[0]] - true_segments[pairs[1]]).sum(axis=1)
    pairs = pairs[:, np.lexsort((distance, pairs[0]))]
    partners = maximum_matching(pairs[0], pairs[1], len(segments), len(true_segments))
    is_hit = partners >= 0
    errors = np.full((len(segments), 2), np.nan)
    errors[is_hit] = np.abs(segments[is_hit] - true_segments[partners[is_hit]])
    num_true = np.bincount(true_groups % max(len(labels), 1), minlength=len(labels))
    return MatchedEvents(labels, num_true, classes, found.scores[best_first], is_hit, errors)


def maximum_matching(found: np.ndarray, true: np.ndarray, num_found: int, num_true: int) -> np.ndarray:
    """One-to-one matching of predictions and true events, with the most matches among the first k, for every k.

    Predictions are added in their order. Each one that can be matched is matched, if necessary by moving earlier ones
    to other true events (Kuhn's augmenting paths), and stays matched. So the first k predictions have as many matches
    as a maximum matching of these k alone.

    Args:
        found: `(P,)` int, positions of predictions in the P pairs that may be matched, ascending.
        true: `(P,)` int, positions of true events in these pairs; a prediction tries its pairs in their order.
        num_found: N predictions.
        num_true: M true events.

    Returns:
        `(N,)` int64, the true event of each prediction; -1 for none.

    >>> maximum_matching(np.array([0, 0, 1, 2]), np.array([0, 1, 0, 0]), 3, 2)  # the first makes way for the second
    array([ 1,  0, -1])
    """
    candidates, first = np.unique(found, return_index=True)
    options = dict(zip(candidates.tolist(), (part.tolist() for part in np.split(true, first[1:])), strict=False))
    partners, taken_by = [-1] * num_found, [-1] * num_true
    exhausted = bytearray(num_true)  # 1 for true events from which no path leads to a free one, now or later
    for prediction in options:
        reached_by: dict[int, int] = {}
        queue = [prediction]
        for i in queue:  # breadth first: the queue grows
            free = -1
            for j in options[i]:
                if exhausted[j] or j in reached_by:
                    continue
                reached_by[j] = i
                if taken_by[j] < 0:
                    free = j
                    break
                queue.append(taken_by[j])
            if free >= 0:
                while free >= 0:  # along the path, each prediction takes the event it reached and frees its own
                    i = reached_by[free]
                    taken_by[free], partners[i], free = i, free, partners[i]
                break
        else:
            for j in reached_by:
                exhausted[j] = 1
    return np.array(partners, dtype=np.int64)


def hours_of(durations: Sequence[float], num_videos: int) -> float:
    """Total duration of the videos in hours.

    Raises:
        ValueError: if the number of durations is not `num_videos`, or one is not a positive number of seconds.
    """
    if len(durations) != num_videos:
        raise ValueError(f"Got {len(durations)} `durations` for {num_videos} videos. Pass the seconds of each video.")
    for i, duration in enumerate(durations):
        if not (math.isfinite(duration) and duration > 0):
            raise ValueError(f"`durations[{i}]` is {duration!r}. Expected a positive number of seconds.")
    return math.fsum(durations) / 3600


def _above(thresholds: float | Mapping[Any, float], found: Events) -> Events:
    """Events whose score exceeds the threshold, or the threshold of their label."""
    if isinstance(thresholds, Mapping):
        missing = sorted(set(found.labels) - set(thresholds))
        if missing:
            raise ValueError(
                f"`thresholds` lacks {len(missing)} of the predicted labels, such as {missing[0]!r}. "
                "Pass one threshold for each label."
            )
        kept = found.scores > np.array([thresholds[label] for label in found.labels], dtype=np.float64)
    else:
        kept = found.scores > thresholds
    labels = [label for label, is_kept in zip(found.labels, kept.tolist(), strict=True) if is_kept]
    return Events(found.videos[kept], found.segments[kept], labels, found.scores[kept])


def _figures(counts: Counts, hours: float, errors: np.ndarray) -> dict[str, Any]:
    """The figures of `detection_report`; `errors` is `(N, 2)`, NaN for predictions without hit."""
    errors = errors[~np.isnan(errors[:, 0])]
    onset_error, offset_error = errors.mean(axis=0).tolist() if len(errors) else (None, None)
    return {
        "hits": counts.hits,
        "misses": counts.misses,
        "false_alarms": counts.false_alarms,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
        "false_alarms_per_hour": counts.false_alarms / hours if hours else None,
        "onset_error": onset_error,
        "offset_error": offset_error,
    }


def _mean(values: list[float | None]) -> float | None:
    """Mean of the defined values; None if there is none."""
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None
