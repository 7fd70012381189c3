import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esg_transformers.evaluation import TIOU_THRESHOLDS, average_precision, mean_average_precision


def event(start, end, label="dog", score=None):
    return {"start": start, "end": end, "label": label} | ({} if score is None else {"score": score})


def random_videos(seed, num_videos=12, num_labels=4):
    """Predictions near and far from the true events, with tied scores, exact hits, empty videos and duplicates."""
    rng = np.random.default_rng(seed)
    predictions, references = [], []
    for _ in range(num_videos):
        true = []
        for _ in range(rng.integers(0, 6)):
            start = float(rng.integers(0, 20))
            true.append(event(start, start + float(rng.integers(0, 8)), f"class {rng.integers(num_labels)}"))
            if rng.random() < 0.2:
                true.append({**true[-1], "end": true[-1]["end"] + 0.0005})
        found = []
        for _ in range(rng.integers(0, 15)):
            label = f"class {rng.integers(num_labels + 1)}"
            start = float(rng.integers(0, 20))
            end = start + float(rng.integers(0, 8))
            if true and rng.random() < 0.6:
                target = true[rng.integers(len(true))]
                start, label = target["start"] + float(rng.integers(-1, 2)), target["label"]
                end = max(start, target["end"] + float(rng.integers(-1, 2)))
            found.append(event(start, end, label, float(rng.integers(0, 10)) / 10))
        predictions.append(found)
        references.append(true)
    references[0].append(event(0.0, 5.0, "class 0"))
    return predictions, references


def slow_average_precision(predictions, references, label, threshold):
    """The rules one by one, without numpy and without regard to speed."""
    true = []  # [video, start, end, taken]
    for video, events in enumerate(references):
        for e in events:
            repeats = any(
                v == video and abs(s - e["start"]) <= 1e-3 and abs(t - e["end"]) <= 1e-3 for v, s, t, _ in true
            )
            if e["label"] == label and not repeats:
                true.append([video, e["start"], e["end"], False])
    found = [(video, e) for video, events in enumerate(predictions) for e in events if e["label"] == label]
    points, num_right = [], 0  # (recall, precision) after each prediction
    for rank, (video, e) in enumerate(sorted(found, key=lambda item: -item[1]["score"]), start=1):
        best, best_iou = None, 0.0
        for candidate in true:
            shared = max(min(e["end"], candidate[2]) - max(e["start"], candidate[1]), 0.0)
            covered = (e["end"] - e["start"]) + (candidate[2] - candidate[1]) - shared
            iou = shared / covered if covered > 0 else 0.0
            if candidate[0] == video and not candidate[3] and iou >= threshold and iou > best_iou:
                best, best_iou = candidate, iou
        if best:
            best[3] = True
            num_right += 1
        points.append((num_right / len(true), num_right / rank))
    area, last_recall = 0.0, 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - last_recall) * max(precision for _, precision in points[i:])
        last_recall = recall
    return area


def test_one_prediction_that_covers_three_quarters_is_right_up_to_a_threshold_of_seven_tenths():
    result = mean_average_precision([[event(0.0, 3.0, score=0.9)]], [[event(0.0, 4.0)]])  # 3 s shared, 4 s covered
    assert [result[f"mAP@0.{k}"] for k in range(1, 10)] == [1, 1, 1, 1, 1, 1, 1, 0, 0]
    assert result["average_map"] == pytest.approx(7 / 9)
    assert result["per_class"] == {"dog": pytest.approx(7 / 9)}


def test_an_overlap_equal_to_the_threshold_counts_as_found():
    result = mean_average_precision([[event(0.0, 3.0, score=0.9)]], [[event(0.0, 10.0)]], (0.3, 0.31))
    assert (result["mAP@0.3"], result["mAP@0.31"]) == (1.0, 0.0)


def test_a_wrong_prediction_before_two_right_ones_is_interpolated_to_two_thirds():
    # Precision after each prediction: 0, 1/2, 2/3; the envelope lifts the point 1/2 to 2/3. Both true events are found.
    predictions = [[event(50.0, 51.0, score=0.9), event(0.0, 1.0, score=0.8)], [event(5.0, 6.0, score=0.7)]]
    references = [[event(0.0, 1.0)], [event(5.0, 6.0)]]
    assert mean_average_precision(predictions, references)["average_map"] == pytest.approx(2 / 3)


def test_a_second_prediction_of_a_taken_event_is_wrong():
    # Right, wrong (the event is taken), right: precision 1, 1/2, 2/3 and area 1/2 * 1 + 1/2 * 2/3.
    predictions = [[event(0.0, 4.0, score=0.9), event(0.0, 4.0, score=0.8), event(10.0, 12.0, score=0.7)]]
    references = [[event(0.0, 4.0), event(10.0, 12.0)]]
    assert mean_average_precision(predictions, references)["average_map"] == pytest.approx(5 / 6)


def test_a_prediction_whose_best_event_is_taken_falls_back_to_the_next_best():
    # Both predictions overlap [0, 10] most; the second then takes [2, 12], which it overlaps by 8 of 12 s.
    predictions = [[event(0.0, 10.0, score=0.9), event(0.0, 10.0, score=0.8)]]
    references = [[event(0.0, 10.0), event(2.0, 12.0)]]
    result = mean_average_precision(predictions, references, (0.6, 0.7))
    assert result["mAP@0.6"] == 1.0
    assert result["mAP@0.7"] == 0.5  # one of two found, at precision 1


def test_an_event_of_another_video_or_class_is_not_found():
    predictions = [[event(0.0, 1.0, "dog", 0.9)], [event(0.0, 1.0, "cat", 0.9)]]
    references = [[event(0.0, 1.0, "cat")], [event(0.0, 1.0, "dog")]]
    assert mean_average_precision(predictions, references)["average_map"] == 0.0


def test_true_events_within_a_millisecond_count_once():
    references = [[event(1.0, 2.0), event(1.0009, 1.9991), event(1.0, 2.002)]]  # the third is 2 ms longer: it stays
    result = mean_average_precision([[event(1.0, 2.0, score=0.9)]], references)
    assert result["average_map"] == 0.5


def test_the_same_times_in_two_videos_or_classes_are_no_duplicates():
    references = [[event(0.0, 1.0, "dog"), event(0.0, 1.0, "cat")], [event(0.0, 1.0, "dog")]]
    result = mean_average_precision([[event(0.0, 1.0, "dog", 0.9)], []], references)
    assert result["per_class"] == {"cat": 0.0, "dog": 0.5}
    assert result["average_map"] == 0.25


def test_classes_without_true_events_are_ignored_and_counted():
    predictions = [[event(0.0, 1.0, "dog", 0.5), event(0.0, 1.0, "whale", 0.9), event(2.0, 3.0, "whale", 0.8)]]
    result = mean_average_precision(predictions, [[event(0.0, 1.0, "dog")]])
    assert result["average_map"] == 1.0
    assert result["per_class"] == {"dog": 1.0}
    assert result["ignored_predictions"] == 2


def test_equal_scores_keep_the_order_in_which_they_came():
    right, wrong = event(0.0, 1.0, score=0.5), event(5.0, 6.0, score=0.5)
    references = [[event(0.0, 1.0)]]
    assert mean_average_precision([[right, wrong]], references)["average_map"] == 1.0
    assert mean_average_precision([[wrong, right]], references)["average_map"] == 0.5


def test_of_equally_overlapped_events_the_first_is_taken():
    # [1, 3] overlaps [0, 2] and [2, 4] by 1/3 each. It takes [0, 2], so that the second prediction finds [2, 4].
    predictions = [[event(1.0, 3.0, score=0.9), event(2.0, 4.0, score=0.8)]]
    result = mean_average_precision(predictions, [[event(0.0, 2.0), event(2.0, 4.0)]], (0.3,))
    assert result["average_map"] == 1.0
    result = mean_average_precision(predictions, [[event(2.0, 4.0), event(0.0, 2.0)]], (0.3,))
    assert result["average_map"] == 0.5


def test_segments_of_no_length_overlap_nothing():
    result = mean_average_precision([[event(1.0, 1.0, score=0.9)]], [[event(1.0, 1.0)]])
    assert result["average_map"] == 0.0


def test_no_predictions_score_zero():
    assert mean_average_precision([[], []], [[event(0.0, 1.0)], []])["average_map"] == 0.0


def test_integer_labels_and_numpy_numbers_are_accepted():
    found = [{"start": np.float32(0), "end": np.float64(1), "label": np.int64(7), "score": np.float32(0.5)}]
    assert mean_average_precision([found], [[event(0, 1, 7)]])["per_class"] == {7: 1.0}


def test_one_class_needs_no_labels():
    precision = average_precision(
        np.array([3, 3]),
        np.array([[0.0, 4.0], [9.0, 10.0]]),
        np.array([1.0, 2.0]),
        np.array([3]),
        np.array([[0.0, 5.0]]),
    )
    # The second prediction scores higher and is wrong; the first covers 4 of 5 s.
    np.testing.assert_allclose(precision, [0.5] * 8 + [0.0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_result_is_that_of_the_rules_applied_one_by_one(seed):
    predictions, references = random_videos(seed)
    result = mean_average_precision(predictions, references)
    labels = sorted({e["label"] for events in references for e in events})
    expected = {
        threshold: [slow_average_precision(predictions, references, label, threshold) for label in labels]
        for threshold in TIOU_THRESHOLDS
    }
    for threshold, values in expected.items():
        assert result[f"mAP@{threshold}"] == pytest.approx(np.mean(values), abs=1e-12)
    per_class = np.mean(list(expected.values()), axis=0)
    assert result["per_class"] == pytest.approx(dict(zip(labels, per_class, strict=True)), abs=1e-12)
    assert result["average_map"] == pytest.approx(per_class.mean(), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_the_order_of_videos_does_not_matter_when_no_scores_are_equal(seed, random):
    predictions, references = random_videos(seed)
    for rank, found in enumerate(found for events in predictions for found in events):
        found["score"] += rank * 1e-6
    order = random.sample(range(len(predictions)), len(predictions))
    moved = mean_average_precision([predictions[i] for i in order], [references[i] for i in order])
    # pytest.approx does not look into nested dicts.
    expected = mean_average_precision(predictions, references)
    assert moved.pop("per_class") == pytest.approx(expected.pop("per_class"))
    assert moved == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_true_events_as_predictions_score_one(seed):
    _, references = random_videos(seed)
    references = [[e for e in events if e["end"] > e["start"]] for events in references]
    predictions = [[{**e, "score": 0.5} for e in events] for events in references]
    seen = set()  # a copy of a true event within 1 ms would be a false positive, so each is predicted once
    for video, events in enumerate(predictions):
        events[:] = [
            e
            for e in events
            if (key := (video, e["label"], e["start"], round(e["end"], 2))) not in seen and not seen.add(key)
        ]
    assert mean_average_precision(predictions, references)["average_map"] == pytest.approx(1.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_wrong_prediction_below_all_others_lowers_nothing_and_one_above_all_never_helps(seed):
    predictions, references = random_videos(seed)
    before = mean_average_precision(predictions, references)["average_map"]
    below = [[*predictions[0], event(900.0, 901.0, "class 0", -1.0)], *predictions[1:]]
    above = [[event(900.0, 901.0, "class 0", 2.0), *predictions[0]], *predictions[1:]]
    assert mean_average_precision(below, references)["average_map"] == pytest.approx(before)
    assert mean_average_precision(above, references)["average_map"] <= before + 1e-12


def test_time_in_other_units_or_from_another_start_gives_the_same_result():
    predictions, references = random_videos(seed=3)
    # Without near-duplicates, whose tolerance is in seconds. Powers of two and whole numbers keep the sums exact.
    references = [[e for e in events if e["end"] == int(e["end"])] for events in references]
    expected = mean_average_precision(predictions, references)

    def moved(videos):
        return [[{**e, "start": 4 * e["start"] + 32, "end": 4 * e["end"] + 32} for e in events] for events in videos]

    assert mean_average_precision(moved(predictions), moved(references)) == expected


@pytest.mark.parametrize("field", ["start", "end", "score"])
@pytest.mark.parametrize("value", [math.nan, math.inf, None, "1.0"])
def test_a_value_that_is_no_finite_number_is_refused_by_its_place(field, value):
    predictions = [[], [event(0.0, 1.0, score=0.5), event(0.0, 1.0, score=0.5) | {field: value}]]
    with pytest.raises(ValueError, match=rf"`predictions\[1\]\[1\]` has {field} {value!r}"):
        mean_average_precision(predictions, [[event(0.0, 1.0)], []])


def test_bad_input_is_refused_with_its_reason():
    found, true = [[event(0.0, 1.0, score=0.5)]], [[event(0.0, 1.0)]]
    with pytest.raises(ValueError, match="2 videos and `references` 1"):
        mean_average_precision([*found, []], true)
    with pytest.raises(ValueError, match="no event"):
        mean_average_precision(found, [[]])
    with pytest.raises(ValueError, match="no event"):
        mean_average_precision([], [])
    with pytest.raises(ValueError, match=r"`predictions\[0\]\[0\]` is .*with start, end, label, score"):
        mean_average_precision(true, true)
    with pytest.raises(ValueError, match=r"`references\[0\]\[0\]` is 'start'"):
        mean_average_precision(found, true[0])  # the events of one video, not in a list of videos
    with pytest.raises(ValueError, match=r"`references\[0\]\[0\]` starts at 2.0 s and ends at 1.0 s"):
        mean_average_precision(found, [[event(2.0, 1.0)]])
    with pytest.raises(ValueError, match="label None"):
        mean_average_precision(found, [[event(0.0, 1.0, None)]])
    with pytest.raises(ValueError, match="`str` and `int`"):
        mean_average_precision(found, [[event(0.0, 1.0, 3)]])
    for thresholds in [(), (0.0, 0.5), (1.5,), (0.5, 0.5), (math.nan,)]:
        with pytest.raises(ValueError, match="tiou_thresholds"):
            mean_average_precision(found, true, thresholds)
