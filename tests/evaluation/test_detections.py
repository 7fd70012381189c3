import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esg_transformers.evaluation import Collar, Counts, Overlap, detection_report
from esg_transformers.evaluation.detections import maximum_matching


def event(start, end, label="alarm", score=None):
    return {"start": start, "end": end, "label": label} | ({} if score is None else {"score": score})


def counts_of(figures):
    return figures["hits"], figures["misses"], figures["false_alarms"]


def test_a_hit_a_miss_and_two_false_alarms_in_half_an_hour():
    references = [[event(0.0, 4.0), event(10.0, 12.0)], []]
    predictions = [[event(0.5, 3.75, score=0.9), event(20.0, 21.0, score=0.5)], [event(0.0, 4.0, score=0.8)]]
    report = detection_report(predictions, references, durations=[600.0, 1200.0])
    alarm = report["per_class"]["alarm"]
    assert counts_of(alarm) == (1, 1, 2)
    assert (alarm["precision"], alarm["recall"], alarm["f1"]) == (1 / 3, 1 / 2, 2 / 5)
    assert (report["hours"], alarm["false_alarms_per_hour"]) == (0.5, 4.0)
    assert (alarm["onset_error"], alarm["offset_error"]) == (0.5, 0.25)
    assert report["micro"] == alarm


def test_a_prediction_of_another_class_or_of_another_video_is_no_hit():
    report = detection_report([[event(0, 4, "speech", 0.9)], [event(0, 4, score=0.9)]], [[event(0, 4)], []], [60, 60])
    assert counts_of(report["per_class"]["alarm"]) == (0, 1, 1)
    assert counts_of(report["per_class"]["speech"]) == (0, 0, 1)
    assert counts_of(report["micro"]) == (0, 1, 2)


def test_the_prediction_with_the_higher_score_makes_way_so_that_both_are_hits():
    # The first prediction is nearest to the only true event that the second can be matched to.
    references = [[event(0.0, 10.0), event(2.0, 12.0)]]
    predictions = [[event(1.75, 12.0, score=0.9), event(4.0, 14.0, score=0.8)]]
    assert counts_of(detection_report(predictions, references, [60.0])["micro"]) == (2, 0, 0)
    assert counts_of(detection_report(predictions[:1], references, [60.0], thresholds=0.85)["micro"]) == (1, 1, 0)


def test_a_true_event_is_hit_once():
    predictions = [[event(0.0, 4.0, score=0.9), event(0.0, 4.0, score=0.8)]]
    assert counts_of(detection_report(predictions, [[event(0.0, 4.0)]], [60.0])["micro"]) == (1, 0, 1)


def test_a_true_event_that_repeats_another_within_a_millisecond_counts_once():
    references = [[event(0.0, 4.0), event(0.0005, 4.0)]]
    assert counts_of(detection_report([[event(0.0, 4.0, score=0.9)]], references, [60.0])["micro"]) == (1, 0, 0)


@pytest.mark.parametrize(("found", "is_hit"), [((0.0, 2.0), True), ((0.0, 1.99), False), ((2.0, 4.0), True)])
def test_an_overlap_of_half_needs_half_of_four_seconds(found, is_hit):
    report = detection_report([[event(*found, score=0.9)]], [[event(0.0, 4.0)]], [60.0], Overlap(0.5))
    assert report["micro"]["hits"] == is_hit


@pytest.mark.parametrize(
    ("true", "found", "is_hit"),
    [
        ((1.0, 1.5), (1.1875, 1.6875), True),  # 0.1875 s off: within 0.2 s
        ((1.0, 1.5), (1.25, 1.5), False),
        ((1.0, 1.5), (1.0, 1.75), False),
        ((1.0, 9.0), (1.0, 10.5), True),  # a fifth of 8 s is 1.6 s
        ((1.0, 9.0), (1.0, 7.25), False),
        ((1.0, 9.0), (1.25, 9.0), False),  # the onset's collar does not grow with the length
    ],
)
def test_a_collar_allows_two_tenths_of_a_second_and_a_fifth_of_the_length_at_the_end(true, found, is_hit):
    report = detection_report([[event(*found, score=0.9)]], [[event(*true)]], [60.0], Collar())
    assert report["micro"]["hits"] == is_hit


def test_a_prediction_must_score_more_than_the_threshold_of_its_class():
    references = [[event(0.0, 4.0), event(0.0, 4.0, "speech")]]
    predictions = [[event(0.0, 4.0, score=0.5), event(0.0, 4.0, "speech", 0.5)]]
    report = detection_report(predictions, references, [60.0], thresholds={"alarm": 0.5, "speech": 0.25, "rain": 0.1})
    assert counts_of(report["per_class"]["alarm"]) == (0, 1, 0)
    assert counts_of(report["per_class"]["speech"]) == (1, 0, 0)
    assert report["macro"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}


def test_undefined_figures_are_none_and_can_be_written_as_json():
    report = detection_report([[event(0, 1, "rain", 0.9)], []], [[], [event(0, 4)]], [60, 60])
    rain, alarm = report["per_class"]["rain"], report["per_class"]["alarm"]
    assert (rain["precision"], rain["recall"], rain["f1"], rain["onset_error"]) == (0, None, None, None)  # none is true
    assert (alarm["precision"], alarm["recall"], alarm["f1"]) == (0, 0, 0)  # no prediction
    assert report["macro"] == {"precision": 0, "recall": 0, "f1": 0}  # recall and F1 of the alarm only
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_no_video_has_no_figures():
    report = detection_report([], [], [])
    assert counts_of(report["micro"]) == (0, 0, 0)
    assert (report["per_class"], report["hours"], report["micro"]["false_alarms_per_hour"]) == ({}, 0.0, None)
    assert report["macro"] == {"precision": None, "recall": None, "f1": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"durations": [60.0, 60.0]}, "2 `durations` for 1 videos"),
        ({"durations": [0.0]}, r"`durations\[0\]` is 0\.0.*positive"),
        ({"durations": [float("nan")]}, r"`durations\[0\]` is nan.*positive"),
        ({"thresholds": {"speech": 0.5}}, "`thresholds` .* 1 of .*'alarm'"),
        ({"predictions": [[event(0, 4, score=float("nan"))]]}, "score nan"),
        ({"references": []}, "`predictions` .*1 videos.* `references` 0"),
    ],
)
def test_invalid_input_is_refused(arguments, message):
    defaults = {"predictions": [[event(0, 4, score=0.9)]], "references": [[event(0, 4)]], "durations": [60.0]}
    with pytest.raises(ValueError, match=message):
        detection_report(**defaults | arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Overlap(0), r"in \(0, 1\]; got 0"),
        (lambda: Overlap(1.5), r"in \(0, 1\]; got 1.5"),
        (lambda: Collar(onset=-0.1), ">= 0; got .*onset=-0.1"),
        (lambda: Collar(offset=float("inf")), ">= 0; got .*offset=inf"),
    ],
)
def test_a_criterion_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Made by sed_eval 0.2.1 with numpy 2.4.6, one `EventBasedMetrics(labels, t_collar=0.2, percentage_of_length=0.2,
# event_matching_type="optimal", empty_system_output_handling="zero_score")` per case, `labels` those of its events, and
# its `results_overall_metrics`, `results_class_wise_average_metrics`, `class_wise_f_measure` and `class_wise` (Ntp,
# Nref, Nsys). Eleven of 398 random cases, which all agree; NaN is written as null. Two where greedy matching finds
# less, one without true events, one without predictions, four with classes that lack one of them, and three large ones.
SED_EVAL_CASES = json.loads((Path(__file__).parent / "sed_eval_cases.json").read_text())


@pytest.mark.parametrize("case", SED_EVAL_CASES)
def test_event_based_figures_are_those_of_sed_eval(case):
    references = [[event(*row) for row in file["true"]] for file in case["files"]]
    predictions = [[event(*row, score=0.5) for row in file["found"]] for file in case["files"]]
    report = detection_report(predictions, references, [10.0] * len(references), Collar())
    expected = case["sed_eval"]

    def figures(row):
        return {"f_measure": row["f1"], "precision": row["precision"], "recall": row["recall"]}

    assert figures(report["micro"]) == pytest.approx(expected["overall"], abs=1e-12)
    assert figures(report["macro"]) == pytest.approx(expected["class_wise_average"], abs=1e-12)
    assert report["per_class"].keys() == expected["counts"].keys()
    for label, row in report["per_class"].items():
        hits, misses, false_alarms = counts_of(row)
        assert [hits, hits + misses, hits + false_alarms] == expected["counts"][label]
        assert figures(row) == pytest.approx(expected["class_wise"][label], abs=1e-12)


@given(st.lists(st.lists(st.integers(0, 4), unique=True, max_size=5), max_size=5))
def test_the_first_k_have_as_many_matches_as_any_assignment_gives_them(options):
    found = np.array([i for i, row in enumerate(options) for _ in row], dtype=np.int64)
    true = np.array([j for row in options for j in row], dtype=np.int64)
    partners = maximum_matching(found, true, len(options), 5)
    taken = [int(j) for j in partners if j >= 0]
    assert len(taken) == len(set(taken))
    assert all(j in options[i] for i, j in enumerate(partners) if j >= 0)
    for k in range(len(options) + 1):
        most = max(
            sum(j in row for row, j in zip(options[:k], order, strict=False)) for order in permutations(range(5))
        )
        assert (partners[:k] >= 0).sum() == most


def test_a_long_chain_of_events_that_all_must_move_is_matched():
    # Prediction i may have events i and i + 1 and prefers i + 1; the last may have only the last event.
    n = 5000
    found = np.append(np.repeat(np.arange(n - 1), 2), n - 1)
    true = np.append(np.stack([np.arange(1, n), np.arange(n - 1)], axis=1).ravel(), n - 1)
    assert maximum_matching(found, true, n, n).tolist() == list(range(n))


def test_counts_add_up():
    assert Counts(1, 2, 3) + Counts(4, 5, 6) == Counts(5, 7, 9)
