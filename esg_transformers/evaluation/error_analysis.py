"""Error analysis of a detector: kinds of false positives, the mAP that each costs, and recall by kind of event.

In the manner of DETAD (H. Alwassel et al., Diagnosing Error in Temporal Action Detectors, ECCV 2018). Rules marked
[DETAD] are those of src/action_detector_diagnosis.py and src/false_positive_analysis.py in HumamAlwassel/DETAD, commit
24f7d95. Two rules differ:

* Precision is that of the field's metric, so that gains add to the reported mAP; DETAD normalizes it by the number of
  events of a class and uses the best 10 G predictions only.
* If a prediction overlaps events of several classes equally, as simultaneous events often do, its own class comes
  first; DETAD takes any of them.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from esg_transformers.evaluation.event_localization_map.average_precision import (
    ClassMatches,
    area_under_precision,
    match_classes,
    pairs_within_videos,
    temporal_iou,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOSE_TIOU = 0.1  # a smaller overlap counts as none: `min_tiou_thr` [DETAD]
NUM_RANGES = 10  # of the false positive profile: `limit_factor` [DETAD]
LOWEST_PRECISION = 0.05  # `minimum_normalized_precision_threshold_for_detection` of false_negative_analysis.py [DETAD]

RIGHT = "true positive"
FALSE_KINDS = ("double detection", "wrong label", "localization", "confusion", "background")

# Upper ends (inclusive) of all groups but the last [DETAD]. Lengths are near the quintiles of the 5,900 events of
# UnAV-100's test split (1.9, 4.4, 10.6 and 28.3 s), whose videos last 42 s on average; the others are DETAD's.
SIZES = ("XS", "S", "M", "L", "XL")
LENGTHS = (2.0, 5.0, 10.0, 30.0)  # seconds
COVERAGES = (0.2, 0.4, 0.6, 0.8)  # of the video
INSTANCES = (1, 4, 8)  # events of the same class in the video, the event itself included
OTHERS = (0, 1, 2)  # events of other classes that overlap the event in time

# Okabe and Ito's colours, chosen for colour-blind readers: true positives, then the kinds as in `FALSE_KINDS`.
COLORS = ("#009e73", "#f0e442", "#0072b2", "#56b4e9", "#d55e00", "#999999")


def error_analysis(
    predictions: Sequence[Sequence[dict[str, Any]]],
    references: Sequence[Sequence[dict[str, Any]]],
    durations: Sequence[float],
    tiou: float = 0.5,
) -> dict[str, Any]:
    """Kinds of false positives, the mAP that each costs, and the recall of groups of events.

    A prediction without a matched true event is classified by the true event of its video, of any class, that it
    overlaps most [DETAD]. If that overlap is at least `tiou`, it is a "double detection" (same class) or a "wrong
    label" (another class); if at least 0.1, a "localization" error (same) or "confusion" (another); else "background".

    Args:
        predictions: one list per video of events `{"start", "end", "label", "score"}`, see `mean_average_precision`.
            Predictions of classes that no reference has are ignored.
        references: one list per video, in the order of `predictions`, of events `{"start", "end", "label"}`.
        durations: seconds of each video.
        tiou: the smallest overlap of a correct prediction, in (0.1, 1].

    Returns:
        Numbers and text that JSON can hold:

        * `"tiou"`; `"map"`: the mAP at this overlap.
        * `"profile"`: the number of predictions of each kind, `"true positive"` first, in ten ranges: the best G
          predictions of every class, the next G, and so on to 10 G, where G is the class's number of true events
          [DETAD].
        * `"gain"`: the rise of the mAP if all predictions of one kind are removed and the others kept [DETAD].
        * `"recall"`: for `"length"`, `"coverage"`, `"instances"`, `"others at once"` and `"class"`, the groups of true
          events as `{"events", "recall"}`; recall is None for a group without events. An event counts as found if the
          normalized precision of its class still exceeds 0.05 at its prediction [DETAD]; without this limit,
          100 predictions per video would find nearly everything.

    Raises:
        ValueError: if `mean_average_precision` refuses the events, `durations` is not one positive number for each
            video, or `tiou` is out of range.

    >>> references = [[{"start": 0.0, "end": 4.0, "label": "alarm"}]]
    >>> found = [(0.0, 4.0, "alarm", 0.7), (0.0, 1.0, "alarm", 0.8), (9.0, 9.5, "alarm", 0.9)]
    >>> predictions = [[dict(zip(("start", "end", "label", "score"), event)) for event in found]]
    >>> analysis = error_analysis(predictions, references, [10.0])
    >>> [next(kind for kind, number in best.items() if number) for best in analysis["profile"][:3]]
    ['background', 'localization', 'true positive']
    >>> round(analysis["map"], 3), {kind: round(gain, 3) for kind, gain in analysis["gain"].items() if gain}
    (0.333, {'localization': 0.167, 'background': 0.167})
    """
    if not LOOSE_TIOU < tiou <= 1:
        raise ValueError(f"`tiou` must be in ({LOOSE_TIOU}, 1]; got {tiou}.")
    if len(durations) != len(references) or not all(math.isfinite(x) and x > 0 for x in durations):
        raise ValueError(
            f"`durations` must be the seconds (> 0) of each of the {len(references)} videos; got {len(durations)} "
            f"values, the smallest {min(durations, default=None)}."
        )
    classes = match_classes(predictions, references, (tiou,))
    kinds = _kinds(classes, tiou)
    precision = np.array([_map_of(of_class, np.full(len(of_class.videos), True)) for of_class in classes])
    return {
        "tiou": tiou,
        "map": float(precision.mean()),
        "profile": _profile(classes, kinds),
        "gain": {
            name: float(
                np.mean([_map_of(matches, of_class != kind) for matches, of_class in zip(classes, kinds, strict=True)])
                - precision.mean()
            )
            for kind, name in enumerate(FALSE_KINDS, start=1)
        },
        "recall": _recall(classes, durations),
    }


def plot_error_analysis(analysis: dict[str, Any]) -> "Figure":
    """Plot of the result of `error_analysis`: false positive profile, gains, and recall of groups of events.

    >>> event = {"start": 0.0, "end": 4.0, "label": "alarm", "score": 0.7}
    >>> figure = plot_error_analysis(error_analysis([[event]], [[event]], [10.0]))
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['False positive profile', 'Gain without', 'Recall']
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5.2), layout="constrained")
    profile, gain, recall = figure.subplots(1, 3, width_ratios=(5, 4, 5))
    _draw_profile(profile, analysis["profile"])
    _draw_gain(gain, analysis)
    _draw_recall(recall, analysis["recall"])
    for axes, title in ((profile, "False positive profile"), (gain, "Gain without"), (recall, "Recall")):
        axes.set_title(title, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_profile(axes: "Axes", profile: list[dict[str, int]]) -> None:
    names, ranks = (RIGHT, *FALSE_KINDS), np.arange(1, 1 + len(profile))
    counts = np.array([[numbers[name] for name in names] for numbers in profile])  # (ranges, kinds)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for kind, (name, color) in enumerate(zip(names, COLORS, strict=True)):
        axes.bar(ranks, shares[:, kind], bottom=shares[:, :kind].sum(axis=1), color=color, label=name, width=0.85)
    axes.set_xticks(ranks, [f"{rank}G" for rank in ranks])
    axes.set_xlabel("predictions of a class with G true events, best first")
    axes.set_ylabel("% of predictions")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, frameon=False)


def _draw_gain(axes: "Axes", analysis: dict[str, Any]) -> None:
    gains = [100 * analysis["gain"][name] for name in FALSE_KINDS]
    bars = axes.barh(FALSE_KINDS, gains, color=COLORS[1:])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlim(0, 1.15 * max(*gains, 1))
    axes.invert_yaxis()
    axes.set_xlabel(f"points of mAP@{analysis['tiou']:g}, which is {100 * analysis['map']:.1f}")


def _draw_recall(axes: "Axes", recall: dict[str, dict[Any, dict[str, Any]]]) -> None:
    row = 0
    rows: list[int] = []
    names_of_rows: list[str] = []
    for name, groups in recall.items():
        if name == "class":
            continue  # too many to draw
        here = range(row + 1, row + 1 + len(groups))
        bars = axes.barh(here, [100 * (numbers["recall"] or 0) for numbers in groups.values()], color=COLORS[0])
        axes.bar_label(bars, [f"{numbers['events']:,}" for numbers in groups.values()], padding=3, fontsize=8)
        axes.text(0, row + 0.1, name, va="center", fontweight="bold", fontsize=9)
        rows += here
        names_of_rows += groups
        row += len(groups) + 1
    axes.set_yticks(rows, names_of_rows, fontsize=9)
    axes.set_ylim(row, -0.7)
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("% of the true events found; labels: number of true events")


def _kinds(classes: list[ClassMatches], tiou: float) -> list[np.ndarray]:
    """Kind of each of the N predictions of each class, `(N,)` int: 0 = correct, else 1 + position in `FALSE_KINDS`."""
    true_videos = np.concatenate([matches.true_videos for matches in classes])
    true_segments = np.concatenate([matches.true_segments for matches in classes])
    true_classes = np.repeat(np.arange(len(classes)), [len(matches.true_videos) for matches in classes])
    kinds = []
    for class_id, matches in enumerate(classes):
        found, true = pairs_within_videos(matches.videos, true_videos)
        overlap = temporal_iou(matches.segments[found], true_segments[true])
        is_own = true_classes[true] == class_id
        order = np.lexsort((~is_own, -overlap, found))  # per prediction, largest overlap first; if equal, its own class
        found, overlap, is_own = found[order], overlap[order], is_own[order]
        first = np.unique(found, return_index=True)[1]
        found, overlap, is_own = found[first], overlap[first], is_own[first]
        of_class = np.full(len(matches.videos), 5)
        of_class[found[overlap >= LOOSE_TIOU]] = np.where(is_own, 3, 4)[overlap >= LOOSE_TIOU]
        of_class[found[overlap >= tiou]] = np.where(is_own, 1, 2)[overlap >= tiou]
        of_class[matches.taken[0] >= 0] = 0
        kinds.append(of_class)
    return kinds


def _map_of(matches: ClassMatches, kept: np.ndarray) -> float:
    """Average precision of a class with some predictions removed; `kept`, `(N,)` bool, includes all correct ones."""
    return float(area_under_precision(matches.taken[:, kept] >= 0, len(matches.true_videos))[0])


def _profile(classes: list[ClassMatches], kinds: list[np.ndarray]) -> list[dict[str, int]]:
    """Number of predictions of each kind in each range of G predictions, summed over classes."""
    counts = np.zeros((NUM_RANGES, 1 + len(FALSE_KINDS)), dtype=np.int64)
    for matches, of_class in zip(classes, kinds, strict=True):
        ranges = np.arange(len(of_class)) // len(matches.true_videos)
        np.add.at(counts, (ranges[ranges < NUM_RANGES], of_class[ranges < NUM_RANGES]), 1)
    return [dict(zip((RIGHT, *FALSE_KINDS), row, strict=True)) for row in counts.tolist()]


def _recall(classes: list[ClassMatches], durations: Sequence[float]) -> dict[str, dict[Any, dict[str, Any]]]:
    """Number of events and recall of each group of true events."""
    videos = np.concatenate([matches.true_videos for matches in classes])
    segments = np.concatenate([matches.true_segments for matches in classes])
    labels = np.repeat(np.arange(len(classes)), [len(matches.true_videos) for matches in classes])
    is_found = np.concatenate([_is_found(matches, len(videos) / len(classes)) for matches in classes])

    events, others = pairs_within_videos(videos, videos)
    same = labels[events] == labels[others]
    shared = np.minimum(segments[events, 1], segments[others, 1]) > np.maximum(segments[events, 0], segments[others, 0])
    num_instances = np.bincount(events[same], minlength=len(videos))
    num_others = np.bincount(events[shared & ~same], minlength=len(videos))
    lengths = segments[:, 1] - segments[:, 0]
    coverages = lengths / np.array(durations, dtype=np.float64)[videos]

    def grouped(values: np.ndarray, upper_ends: Sequence[float], names: Sequence[Any]) -> dict[Any, dict[str, Any]]:
        of_group = np.searchsorted(upper_ends, values)
        sums = np.bincount(of_group, weights=is_found, minlength=len(names))
        sizes = np.bincount(of_group, minlength=len(names))
        return {
            name: {"events": size, "recall": found / size if size else None}
            for name, size, found in zip(names, sizes.tolist(), sums.tolist(), strict=True)
        }

    return {
        "length": grouped(lengths, LENGTHS, _range_names(LENGTHS, " s")),
        "coverage": grouped(coverages, COVERAGES, _range_names(COVERAGES)),
        "instances": grouped(num_instances, INSTANCES, ("1", "2-4", "5-8", "> 8")),
        "others at once": grouped(num_others, OTHERS, ("0", "1", "2", "> 2")),
        "class": grouped(labels, range(len(classes) - 1), [matches.label for matches in classes]),
    }


def _range_names(upper_ends: Sequence[float], unit: str = "") -> list[str]:
    """Names of the groups, from XS to XL, with the range of values of each.

    >>> _range_names((2.0, 5.0, 10.0, 30.0), " s")
    ['XS: <= 2 s', 'S: <= 5 s', 'M: <= 10 s', 'L: <= 30 s', 'XL: > 30 s']
    """
    ends = [f"<= {end:g}{unit}" for end in upper_ends] + [f"> {upper_ends[-1]:g}{unit}"]
    return [f"{size}: {end}" for size, end in zip(SIZES, ends, strict=True)]


def _is_found(matches: ClassMatches, mean_true: float) -> np.ndarray:
    """True for each of the M true events of a class that is found with enough normalized precision, `(M,)` bool.

    A prediction with recall R and F false positives down to it has the normalized precision R N / (R N + F), where N
    is the mean number of true events per class (`mean_true`). It does not depend on how frequent the class is.
    """
    taken = matches.taken[0]
    expected = (taken >= 0).cumsum() / len(matches.true_videos) * mean_true
    normalized = expected / np.maximum(expected + (taken < 0).cumsum(), np.finfo(float).tiny)
    is_found = np.zeros(len(matches.true_videos), dtype=bool)
    is_found[taken[(taken >= 0) & (normalized > LOWEST_PRECISION)]] = True
    return is_found
