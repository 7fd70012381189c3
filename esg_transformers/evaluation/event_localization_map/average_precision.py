"""Mean average precision of dense event localization, by the rules of the UnAV and ActivityNet evaluators.

Source of the rules: `ANETdetection` in libs/utils/metrics.py of UnAV, commit 1609deb, which follows eval_detection.py
of ActivityNet. Cases that are undefined or arbitrary in that code have a fixed rule here:

* Predictions with equal scores keep their order in the input, video after video; upstream sorts unstably and reverses.
* Of true events with equal overlap, the first in the list is matched.
* The overlap of two segments of length 0 is 0; upstream divides 0 by 0.
* Predictions of a class without true events are ignored and counted; upstream may count them for another class.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

TIOU_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
DUPLICATE_TOLERANCE = 1e-3  # s, of starts and of ends


def mean_average_precision(
    predictions: Sequence[Sequence[dict[str, Any]]],
    references: Sequence[Sequence[dict[str, Any]]],
    tiou_thresholds: Sequence[float] = TIOU_THRESHOLDS,
) -> dict[str, Any]:
    """Mean average precision at several temporal overlaps (tIoU), and its mean over the overlaps.

    True events of one video and class whose starts and ends both lie within 1 ms of an earlier one count once. Classes
    are those of the references; a class without predictions has average precision 0.

    Args:
        predictions: one list per video of events `{"start", "end", "label", "score"}`: times in seconds, `str` or
            `int` as label, and any finite number as score, higher for more confident predictions.
        references: one list per video, in the order of `predictions`, of events `{"start", "end", "label"}`.
        tiou_thresholds: the smallest overlaps of correct predictions, each in (0, 1].

    Returns:
        `"average_map"`: the mean over thresholds; `"mAP@0.1"`, `"mAP@0.2"`, ...: the mean over classes at one
        threshold; `"per_class"`: label to mean over thresholds, sorted by label; all in [0, 1].
        `"ignored_predictions"`: number of predictions with a label that no reference has.

    Raises:
        ValueError: if the lists differ in length, the references have no event at all, an event lacks a field, a
            number is not finite, an event ends before it starts, labels are of mixed types, or a threshold is out of
            range or given twice.

    >>> references = [[{"start": 0.0, "end": 4.0, "label": "dog barking"}]]
    >>> predictions = [[{"start": 0.0, "end": 3.0, "label": "dog barking", "score": 0.9}]]  # 3 s shared, 4 s covered
    >>> result = mean_average_precision(predictions, references)
    >>> result["mAP@0.7"], result["mAP@0.8"], round(result["average_map"], 4)
    (1.0, 0.0, 0.7778)
    """
    names = map_names(tiou_thresholds)
    classes = match_classes(predictions, references, tiou_thresholds)
    precision = np.array([area_under_precision(matches.taken >= 0, len(matches.true_videos)) for matches in classes])
    labels = [matches.label for matches in classes]
    return {
        "average_map": float(precision.mean()),
        **dict(zip(names, precision.mean(axis=0).tolist(), strict=True)),
        "per_class": dict(zip(labels, precision.mean(axis=1).tolist(), strict=True)),
        "ignored_predictions": sum(map(len, predictions)) - sum(len(matches.videos) for matches in classes),
    }


def map_names(tiou_thresholds: Sequence[float]) -> list[str]:
    """Names of the figures at these overlaps: `"mAP@0.1"`, `"mAP@0.2"`, ...

    Raises:
        ValueError: if a threshold is outside (0, 1] or given twice, or there is none.
    """
    names = [f"mAP@{threshold:g}" for threshold in tiou_thresholds]
    if not names or len(set(names)) < len(names) or not all(0 < threshold <= 1 for threshold in tiou_thresholds):
        raise ValueError(f"`tiou_thresholds` must be one or more distinct numbers in (0, 1]; got {tiou_thresholds}.")
    return names


def average_precision(
    videos: np.ndarray,
    segments: np.ndarray,
    scores: np.ndarray,
    true_videos: np.ndarray,
    true_segments: np.ndarray,
    tiou_thresholds: Sequence[float] = TIOU_THRESHOLDS,
) -> np.ndarray:
    """Average precision of one class at each overlap: the area under the envelope of precision over recall (VOC 2011).

    Predictions are matched from the highest score to the lowest. Each is correct if a true event of its video that no
    earlier prediction has taken overlaps it enough; it takes the one with the largest overlap.

    Args:
        videos: `(N,)` int, the video of each prediction.
        segments: `(N, 2)` float, start and end in seconds.
        scores: `(N,)` float.
        true_videos: `(M,)` int, M >= 1.
        true_segments: `(M, 2)` float, in seconds.
        tiou_thresholds: K overlaps in (0, 1].

    Returns:
        `(K,)` float64 in [0, 1].

    >>> one, two = np.array([[0.0, 1.0]]), np.array([[5.0, 6.0], [0.0, 1.0]])  # the first of two predictions is wrong
    >>> average_precision(np.array([0, 0]), two, np.array([0.9, 0.8]), np.array([0]), one, (0.5,))
    array([0.5])
    """
    best_first = np.argsort(-scores, kind="stable")
    taken = _match(videos[best_first], segments[best_first], true_videos, true_segments, tiou_thresholds)
    return area_under_precision(taken >= 0, len(true_videos))


def area_under_precision(right: np.ndarray, num_true: int) -> np.ndarray:
    """The area under the envelope of precision over recall.

    Args:
        right: `(K, N)` bool, True for each of N predictions of a class, best first, that is correct at each of K
            overlaps.
        num_true: number of true events of the class, >= 1.

    Returns:
        `(K,)` float64 in [0, 1].
    """
    precision = right.cumsum(axis=1) / np.arange(1, right.shape[1] + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Recall rises by 1 / num_true at each correct prediction and nowhere else.
    area: np.ndarray = (envelope * right).sum(axis=1) / num_true
    return area


class ClassMatches(NamedTuple):
    """The N predictions of one class, best first, its M true events, and their matches."""

    label: Any
    videos: np.ndarray  # (N,) int64, positions in the list of videos
    segments: np.ndarray  # (N, 2) float64, seconds
    taken: np.ndarray  # (K, N) int64, the true event of each prediction at each of K overlaps; -1 for a wrong one
    true_videos: np.ndarray  # (M,) int64
    true_segments: np.ndarray  # (M, 2) float64, seconds, without duplicates


def match_classes(
    predictions: Sequence[Sequence[dict[str, Any]]],
    references: Sequence[Sequence[dict[str, Any]]],
    tiou_thresholds: Sequence[float],
) -> list[ClassMatches]:
    """Matches of predictions and true events at each overlap, for each class of the references, sorted by label.

    Matches in one video do not depend on other videos. See `mean_average_precision` for the arguments, and
    `average_precision` for the rule.

    Raises:
        ValueError: if `mean_average_precision` refuses the events.
    """
    found, true = read_events(predictions, references)
    if not true.labels:
        raise ValueError(
            "`references` has no event, so there is no class to score. Pass the true events of at least one video."
        )
    class_ids: dict[Any, int] = {label: class_id for class_id, label in enumerate(sorted(set(true.labels)))}
    found_classes = np.array([class_ids.get(label, -1) for label in found.labels], dtype=np.int64)
    true_classes = np.array([class_ids[label] for label in true.labels], dtype=np.int64)
    best_first = np.argsort(-found.scores, kind="stable")
    classes = []
    for label, class_id in class_ids.items():
        of_found, of_true = best_first[found_classes[best_first] == class_id], true_classes == class_id
        videos, segments = found.videos[of_found], found.segments[of_found]
        true_videos, true_segments = without_duplicates(true.videos[of_true], true.segments[of_true])
        taken = _match(videos, segments, true_videos, true_segments, tiou_thresholds)
        classes.append(ClassMatches(label, videos, segments, taken, true_videos, true_segments))
    return classes


def _match(
    videos: np.ndarray,
    segments: np.ndarray,
    true_videos: np.ndarray,
    true_segments: np.ndarray,
    tiou_thresholds: Sequence[float],
) -> np.ndarray:
    """The true event of each of N predictions, best first, at each of K thresholds, or -1: `(K, N)` int64."""
    found, true = pairs_within_videos(videos, true_videos)
    tiou = temporal_iou(segments[found], true_segments[true])

    order = np.lexsort((-tiou, found))  # best prediction first, and for each its largest overlap first
    found, true, tiou = found[order], true[order], tiou[order]
    taken = np.full((len(tiou_thresholds), len(videos)), -1)
    for row, threshold in zip(taken, tiou_thresholds, strict=True):
        enough = tiou >= threshold
        is_right, is_taken = bytearray(len(videos)), bytearray(len(true_videos))
        for i, j in zip(found[enough].tolist(), true[enough].tolist(), strict=True):
            if not (is_right[i] or is_taken[j]):
                is_right[i] = is_taken[j] = 1
                row[i] = j
    return taken


def pairs_within_videos(videos: np.ndarray, true_videos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of a prediction and a true event of the same video, prediction by prediction.

    Args:
        videos: `(N,)` int, the video of each prediction.
        true_videos: `(M,)` int, the video of each true event.

    Returns:
        Positions of the prediction and of the true event of each of the P pairs, each `(P,)` int64.

    >>> pairs_within_videos(np.array([7, 5, 7]), np.array([7, 7, 6]))
    (array([0, 0, 2, 2]), array([0, 1, 0, 1]))
    """
    by_video = np.argsort(true_videos, kind="stable")
    first = np.searchsorted(true_videos[by_video], videos, side="left")
    count = np.searchsorted(true_videos[by_video], videos, side="right") - first
    found = np.repeat(np.arange(len(videos)), count)
    return found, by_video[np.arange(len(found)) + np.repeat(first - (count.cumsum() - count), count)]


def temporal_iou(segments: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of segments `(N, 2)`, row by row: `(N,)`; 0 if both have length 0."""
    shared = np.minimum(segments[:, 1], others[:, 1]) - np.maximum(segments[:, 0], others[:, 0])
    shared = shared.clip(min=0)
    covered = (segments[:, 1] - segments[:, 0]) + (others[:, 1] - others[:, 0]) - shared
    iou: np.ndarray = np.divide(shared, covered, out=np.zeros_like(shared), where=covered > 0)
    return iou


def without_duplicates(videos: np.ndarray, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Videos and segments of one class without segments that repeat an earlier one of their video within 1 ms."""
    kept: dict[int, list[list[float]]] = {}
    is_kept = []
    for video, (start, end) in zip(videos.tolist(), segments.tolist(), strict=True):
        earlier = kept.setdefault(video, [])
        repeats = any(abs(start - s) <= DUPLICATE_TOLERANCE and abs(end - e) <= DUPLICATE_TOLERANCE for s, e in earlier)
        if not repeats:
            earlier.append([start, end])
        is_kept.append(not repeats)
    return videos[is_kept], segments[is_kept]


class Events(NamedTuple):
    """The N events of all videos as columns, in the order of the input."""

    videos: np.ndarray  # (N,) int64, positions in the list of videos
    segments: np.ndarray  # (N, 2) float64, seconds
    labels: list[str | int]
    scores: np.ndarray  # (N,) float64; empty for references


def read_events(
    predictions: Sequence[Sequence[dict[str, Any]]], references: Sequence[Sequence[dict[str, Any]]]
) -> tuple[Events, Events]:
    """Predictions and references as columns, checked; see `mean_average_precision`.

    Raises:
        ValueError: if the lists differ in length, an event lacks a field, a number is not finite, an event ends before
            it starts, or labels are of mixed types.
    """
    if len(predictions) != len(references):
        raise ValueError(
            f"`predictions` covers {len(predictions)} videos and `references` {len(references)}. "
            "Pass one list of events per video in both, in the same order, empty for a video without events."
        )
    found = _read_columns("predictions", predictions, ("start", "end", "label", "score"))
    true = _read_columns("references", references, ("start", "end", "label"))
    if len({isinstance(label, str) for label in found.labels + true.labels}) > 1:
        raise ValueError("The labels of `predictions` and `references` mix `str` and `int`. Use one of the two.")
    return found, true


def _read_columns(name: str, videos: Sequence[Sequence[dict[str, Any]]], fields: tuple[str, ...]) -> Events:
    """Columns of the lists of events called `name`; a ValueError names the place of the first invalid event."""
    events = [event for video in videos for event in video]
    of_video = np.repeat(np.arange(len(videos)), np.array([len(video) for video in videos], dtype=np.int64))

    def place(i: int) -> str:
        return f"`{name}[{of_video[i]}][{i - np.searchsorted(of_video, of_video[i])}]`"

    for i, event in enumerate(events):
        if not isinstance(event, dict) or any(field not in event for field in fields):
            wanted = ", ".join(fields)
            raise ValueError(f"{place(i)} is {event!r}. Pass one list per video of events, each a dict with {wanted}.")

    columns = {field: [event[field] for event in events] for field in fields}
    labels = columns.pop("label")
    for i, label in enumerate(labels):
        if not isinstance(label, str | Integral):
            raise ValueError(f"{place(i)} has label {label!r}. Expected a `str` or an `int`.")
    for field, values in columns.items():
        for i, value in enumerate(values):
            if not (isinstance(value, Real) and math.isfinite(value)):
                raise ValueError(f"{place(i)} has {field} {value!r}. Expected a finite number.")
    segments = np.array([columns["start"], columns["end"]], dtype=np.float64).T
    backwards = segments[:, 1] < segments[:, 0]
    if backwards.any():
        i = int(backwards.argmax())
        raise ValueError(
            f"{place(i)} starts at {segments[i, 0]} s and ends at {segments[i, 1]} s. Expected start <= end."
        )
    return Events(of_video, segments, labels, np.array(columns.get("score", ()), dtype=np.float64))
