from itertools import product

import numpy as np
import pytest

from esg_transformers.evaluation import (
    AlarmsPerHour,
    BestF1,
    Collar,
    Counts,
    LowestCost,
    PrecisionAtLeast,
    RecallAtLeast,
    choose_thresholds,
    detection_report,
)

HOUR = [3600.0]


def events_of(pattern, label="alarm"):
    """Predictions and true events of a video, by falling score: `"x..x"` is a hit, two false alarms and a hit.

    Scores are 0.9, 0.8, 0.7, ...; each `o` is a true event that no prediction hits.
    """
    found, true = [], []
    for position, kind in enumerate(pattern):
        segment = {"start": 10.0 * position, "end": 10.0 * position + 4, "label": label}
        if kind in "x.":
            found.append({**segment, "score": (9 - len(found)) / 10})
        if kind in "xo":
            true.append(segment)
    return [found], [true]


def choose(pattern, target, label="alarm"):
    return choose_thresholds(*events_of(pattern, label), HOUR, target)[label]


@pytest.mark.parametrize(
    ("pattern", "target", "threshold", "counts", "reached"),
    [
        # Precision after each prediction of "xx.x..": 1, 1, 2/3, 3/4, 3/5, 1/2.
        ("xx.x..", PrecisionAtLeast(0.75), 0.55, (3, 0, 1), True),
        ("xx.x..", PrecisionAtLeast(0.76), 0.75, (2, 1, 0), True),
        ("..x..", PrecisionAtLeast(0.5), 0.65, (1, 0, 2), False),  # 1/3 is the best precision
        (
            ".x.x",
            PrecisionAtLeast(0.9),
            0.3,
            (2, 0, 2),
            False,
        ),  # 1/2 twice: the one with more hits, from 0.6 and 0
        ("xx.xoo", RecallAtLeast(0.4), 0.75, (2, 3, 0), True),
        ("xx.xoo", RecallAtLeast(0.6), 0.3, (3, 2, 1), True),
        (
            "xx.x.oo",
            RecallAtLeast(0.7),
            0.55,
            (3, 2, 1),
            False,
        ),  # 3/5 is the highest; 0.55 has the fewest alarms
        ("x.x...", BestF1(), 0.65, (2, 0, 1), True),  # 2/3, 1/2, 4/5, 2/3, ...
        ("x....x", LowestCost(5, 1), 0.2, (2, 0, 4), True),  # 4 alarms for 4, or a miss for 5
        ("x....x", LowestCost(3, 1), 0.85, (1, 1, 0), True),
        ("x..x.x", AlarmsPerHour(2), 0.55, (2, 1, 2), True),
        ("x..x.x", AlarmsPerHour(1.9), 0.85, (1, 2, 0), True),
        (".x", AlarmsPerHour(0), 0.95, (0, 1, 0), True),
    ],
)
def test_the_threshold_lies_between_kept_and_dropped_scores(pattern, target, threshold, counts, reached):
    point = choose(pattern, target)
    assert point.threshold == pytest.approx(threshold)
    assert point.counts == Counts(*counts)
    assert point.false_alarms_per_hour == counts[2]
    assert point.reached is reached


@pytest.mark.parametrize(
    "target", [PrecisionAtLeast(0.5), RecallAtLeast(0.5), BestF1(), LowestCost(1, 1), AlarmsPerHour(5)]
)
def test_a_class_without_true_events_or_predictions_does_not_reach_its_target(target):
    assert (choose("..", target).threshold, choose("..", target).reached) == (pytest.approx(0.95), False)
    assert (choose("oo", target).threshold, choose("oo", target).reached) == (0.5, False)


def test_equal_scores_are_kept_or_dropped_together():
    predictions, references = events_of("x.x")
    for event in predictions[0][1:]:
        event["score"] = 0.5
    point = choose_thresholds(predictions, references, HOUR, PrecisionAtLeast(0.75))["alarm"]
    assert (point.threshold, point.counts) == (pytest.approx(0.7), Counts(1, 1, 0))
    point = choose_thresholds(predictions, references, HOUR, RecallAtLeast(0.75))["alarm"]
    assert (point.threshold, point.counts) == (0.25, Counts(2, 0, 1))


@pytest.mark.parametrize("scores", [(1.0, 0.5), (np.nextafter(0.5, 1), 0.5), (5e-324, 0.0)])
def test_scores_at_the_limits_are_distinguished(scores):
    predictions, references = events_of("x.")
    for event, score in zip(predictions[0], scores, strict=True):
        event["score"] = float(score)
    [(label, point)] = choose_thresholds(predictions, references, HOUR, PrecisionAtLeast(1.0)).items()
    assert point.counts == Counts(1, 0, 0)
    report = detection_report(predictions, references, HOUR, thresholds={label: point.threshold})
    assert (report["micro"]["hits"], report["micro"]["false_alarms"]) == (1, 0)


def test_a_score_of_nothing_is_never_kept():
    predictions, references = events_of("x")
    predictions[0][0]["score"] = 0.0
    point = choose_thresholds(predictions, references, HOUR, RecallAtLeast(1.0))["alarm"]
    assert (point.counts, point.reached) == (Counts(0, 1, 0), False)


def test_alarms_are_spent_where_they_find_the_most():
    siren, speech = events_of(".xx", "siren"), events_of(".x.x", "speech")
    predictions, references = [siren[0][0] + speech[0][0]], [siren[1][0] + speech[1][0]]

    def hits(limit):
        points = choose_thresholds(predictions, references, HOUR, AlarmsPerHour(limit))
        return points["siren"].counts.hits, points["speech"].counts.hits

    assert [hits(limit) for limit in range(4)] == [(0, 0), (2, 0), (2, 1), (2, 2)]


def test_the_rest_of_the_budget_goes_to_an_affordable_step():
    # The best step of the first class, 3 hits for 2 alarms, exceeds the budget of 1; the second class has 1 hit for 1.
    siren, speech = events_of("..xxx", "siren"), events_of(".x", "speech")
    points = choose_thresholds([siren[0][0] + speech[0][0]], [siren[1][0] + speech[1][0]], HOUR, AlarmsPerHour(1))
    assert (points["siren"].counts.hits, points["speech"].counts.hits) == (0, 1)


def random_events(seed, num_videos=6):
    rng = np.random.default_rng(seed)
    predictions, references = [], []
    for _ in range(num_videos):
        true = [
            {"start": float(start), "end": float(start + rng.integers(1, 6)), "label": f"class {rng.integers(3)}"}
            for start in rng.integers(0, 20, rng.integers(0, 5))
        ]
        found = []
        for _ in range(rng.integers(0, 10)):
            start = float(rng.integers(0, 20))
            segment = {"start": start, "end": start + float(rng.integers(1, 6)), "label": f"class {rng.integers(3)}"}
            if true and rng.random() < 0.6:
                segment = dict(true[rng.integers(len(true))])
                segment["end"] += float(rng.integers(0, 2))
            found.append({**segment, "score": float(rng.integers(1, 9)) / 10})
        predictions.append(found)
        references.append(true)
    return predictions, references


@pytest.mark.parametrize("criterion", [None, Collar()])
@pytest.mark.parametrize("target", [PrecisionAtLeast(0.6), RecallAtLeast(0.5), BestF1(), LowestCost(2, 1)])
def test_no_other_threshold_of_a_class_serves_the_target_better(target, criterion):
    options = {} if criterion is None else {"criterion": criterion}
    tried = 0
    for seed in range(10):
        predictions, references = random_events(seed)
        durations = [600.0] * len(references)
        points = choose_thresholds(predictions, references, durations, target, **options)
        thresholds = {label: point.threshold for label, point in points.items()}
        chosen = detection_report(predictions, references, durations, thresholds=thresholds, **options)
        for label, point in points.items():
            if not (point.counts.hits + point.counts.misses):
                continue
            # The threshold gives the promised figures.
            figures = chosen["per_class"][label]
            assert point.counts == Counts(figures["hits"], figures["misses"], figures["false_alarms"])
            assert point.false_alarms_per_hour == pytest.approx(figures["false_alarms_per_hour"])
            for other in np.arange(0.05, 1, 0.1):
                report = detection_report(predictions, references, durations, thresholds=float(other), **options)
                assert not serves_better(target, report["per_class"][label], figures)
                tried += 1
    assert tried > 100


def serves_better(target, figures, chosen):
    match target:
        case PrecisionAtLeast(precision):
            reached, chosen_reached = figures["precision"] >= precision, chosen["precision"] >= precision
            better = figures["recall"] > chosen["recall"] if reached else figures["precision"] > chosen["precision"]
        case RecallAtLeast(recall):
            reached, chosen_reached = figures["recall"] >= recall, chosen["recall"] >= recall
            better = figures["precision"] > chosen["precision"] if reached else figures["recall"] > chosen["recall"]
        case BestF1():
            return figures["f1"] > chosen["f1"] + 1e-12
        case LowestCost(miss, false_alarm):
            costs = [miss * x["misses"] + false_alarm * x["false_alarms"] for x in (figures, chosen)]
            return costs[0] < costs[1]
    return reached > chosen_reached or (reached == chosen_reached and better)


def test_the_alarms_of_all_classes_together_stay_within_the_limit_and_mostly_find_the_most():
    best_of_all, found = 0, 0
    for seed, limit in product(range(10), (6, 12)):
        predictions, references = random_events(seed)
        durations = [300.0] * len(references)  # half an hour: 3 and 6 alarms
        points = choose_thresholds(predictions, references, durations, AlarmsPerHour(limit))
        assert sum(point.false_alarms_per_hour for point in points.values()) <= limit
        hits = sum(point.counts.hits for point in points.values())
        steps = np.arange(0.05, 1, 0.1)
        curves = [
            [
                (report["per_class"][label]["hits"], report["per_class"][label]["false_alarms"])
                for report in (detection_report(predictions, references, durations, thresholds=x) for x in steps)
                if label in report["per_class"]
            ]
            for label in points
        ]
        affordable = [
            sum(x[0] for x in choice) for choice in product(*curves) if sum(x[1] for x in choice) <= limit / 2
        ]
        assert hits <= max(affordable)
        best_of_all, found = best_of_all + max(affordable), found + hits
    assert found >= 0.95 * best_of_all  # greedy: not always the maximum


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PrecisionAtLeast(0), r"precision .*\(0, 1\]; got 0"),
        (lambda: RecallAtLeast(1.1), r"recall .*\(0, 1\]; got 1\.1"),
        (lambda: LowestCost(0, 1), "> 0; got .*miss=0"),
        (lambda: LowestCost(1, float("nan")), "> 0; got .*nan"),
        (lambda: AlarmsPerHour(-1), ">= 0; got -1"),
    ],
)
def test_a_target_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_scores_that_are_no_probabilities_are_refused():
    predictions, references = events_of("x")
    predictions[0][0]["score"] = 3.5
    with pytest.raises(ValueError, match=r"3\.5 and 3\.5.* \[0, 1\]"):
        choose_thresholds(predictions, references, HOUR, BestF1())


def test_no_videos_are_refused():
    with pytest.raises(ValueError, match="no videos"):
        choose_thresholds([], [], [], BestF1())


def test_videos_without_any_event_have_no_points():
    assert choose_thresholds([[]], [[]], HOUR, AlarmsPerHour(1)) == {}
