import json

import numpy as np
import pytest

from esg_transformers.evaluation import error_analysis, mean_average_precision, plot_error_analysis
from esg_transformers.evaluation.error_analysis import FALSE_KINDS, RIGHT


def event(start, end, label="dog", score=None):
    return {"start": start, "end": end, "label": label} | ({} if score is None else {"score": score})


def kinds_of(found, true, **kwargs):
    """The kind of each prediction of one video, by falling score, if each class has one true event."""
    analysis = error_analysis([found], [true], [100.0], **kwargs)
    return [kind for best in analysis["profile"] for kind, number in best.items() for _ in range(number)]


def random_videos(seed, num_videos=15):
    """Predictions near and far from true events of three classes that overlap in time."""
    rng = np.random.default_rng(seed)
    predictions, references = [], []
    for _ in range(num_videos):
        true = [
            event(start, start + float(rng.uniform(1, 30)), f"class {rng.integers(3)}")
            for start in rng.uniform(0, 60, size=rng.integers(0, 5)).tolist()
        ]
        found = []
        for _ in range(rng.integers(0, 15)):
            start = float(rng.uniform(0, 60))
            end = start + float(rng.uniform(1, 30))
            if true and rng.random() < 0.7:
                target = true[rng.integers(len(true))]
                start, end = target["start"] + float(rng.uniform(0, 1)), target["end"] + float(rng.uniform(0, 5))
            found.append(event(start, end, f"class {rng.integers(3)}", float(rng.random())))
        predictions.append(found)
        references.append(true)
    references[0] += [event(0.0, 5.0, f"class {label}") for label in range(3)]
    return predictions, references, [100.0] * num_videos


def slow_kinds(predictions, references, tiou):
    """Number of predictions of each kind, by the rules of DETAD one by one after the matching of the metric."""

    def overlap(a, b):
        shared = max(min(a["end"], b["end"]) - max(a["start"], b["start"]), 0.0)
        return shared / (a["end"] - a["start"] + b["end"] - b["start"] - shared)

    counts = dict.fromkeys((RIGHT, *FALSE_KINDS), 0)
    taken = set()
    for found, video in sorted(
        ((e, video) for video, events in enumerate(predictions) for e in events), key=lambda x: -x[0]["score"]
    ):
        true = references[video]
        own = [i for i, e in enumerate(true) if e["label"] == found["label"] and (video, i) not in taken]
        best = max(own, key=lambda i: overlap(found, true[i]), default=None)
        if best is not None and overlap(found, true[best]) >= tiou:
            taken.add((video, best))
            counts[RIGHT] += 1
            continue
        nearest = max(true, key=lambda e: overlap(found, e), default=None)
        most = 0.0 if nearest is None else overlap(found, nearest)
        if most < 0.1:
            counts["background"] += 1
        elif nearest["label"] == found["label"]:
            counts["double detection" if most >= tiou else "localization"] += 1
        else:
            counts["wrong label" if most >= tiou else "confusion"] += 1
    return counts


def test_a_prediction_is_judged_by_the_event_that_it_overlaps_most():
    true = [event(0.0, 10.0, "dog"), event(40.0, 50.0, "cat")]
    dog = [(0.0, 10.0), (0.0, 9.0), (0.0, 4.0), (40.0, 47.0), (40.0, 43.0), (40.0, 40.9)]
    found = [event(*segment, "dog", 1 - i / 10) for i, segment in enumerate(dog)]
    # Overlaps 1; 0.9 of a taken event; 0.4; 0.7 and 0.3 of another class; 0.09.
    assert kinds_of(found, true) == [
        "true positive",
        "double detection",
        "localization",
        "wrong label",
        "confusion",
        "background",
    ]


def test_an_overlap_equal_to_a_limit_is_enough():
    true = [event(0.0, 10.0, "dog"), event(40.0, 50.0, "cat")]
    found = [event(40.0, 45.0, "dog", 0.9), event(40.0, 41.0, "dog", 0.8)]
    assert kinds_of(found, true) == ["wrong label", "confusion"]
    assert kinds_of(found, true, tiou=0.51) == ["confusion", "confusion"]


def test_of_events_that_are_overlapped_equally_its_own_class_comes_first():
    for true in (
        [event(0.0, 10.0, "dog"), event(0.0, 10.0, "ant")],
        [event(0.0, 10.0, "zoo"), event(0.0, 10.0, "dog")],
    ):
        found = [event(0.0, 10.0, "dog", 0.9), event(0.0, 10.0, "dog", 0.8), event(0.0, 4.0, "dog", 0.7)]
        assert kinds_of(found, true) == ["true positive", "double detection", "localization"]


def test_a_prediction_in_a_video_without_events_is_background():
    analysis = error_analysis([[], [event(0.0, 4.0, score=0.5)]], [[event(0.0, 4.0)], []], [10.0, 10.0])
    assert analysis["profile"][0]["background"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_kinds_are_those_of_the_rules_applied_one_by_one(seed):
    predictions, references, durations = random_videos(seed)
    expected = slow_kinds(predictions, references, 0.5)
    found = error_analysis(predictions, references, durations)["profile"]
    num_predictions = sum(map(len, predictions))
    # All predictions are within ten times the true events of their class: the profile holds them all.
    assert sum(sum(numbers.values()) for numbers in found) == num_predictions
    assert {kind: sum(numbers[kind] for numbers in found) for kind in expected} == expected


def test_each_range_of_the_profile_has_as_many_predictions_as_the_class_has_true_events():
    true = [[event(0.0, 4.0), event(10.0, 14.0), event(20.0, 24.0, "cat")]]
    found = [[event(50.0, 54.0, "dog", 0.9 - i / 100) for i in range(25)] + [event(20.0, 24.0, "cat", 0.1)]]
    profile = error_analysis(found, true, [100.0])["profile"]
    assert [numbers["background"] for numbers in profile] == [2] * 10  # the last five dogs are beyond 10 G
    assert [numbers["true positive"] for numbers in profile] == [1] + [0] * 9


@pytest.mark.parametrize("seed", range(3))
def test_the_gain_of_a_kind_is_the_map_without_its_predictions(seed):
    predictions, references, durations = random_videos(seed)
    analysis = error_analysis(predictions, references, durations)
    assert analysis["map"] == pytest.approx(mean_average_precision(predictions, references, (0.5,))["mAP@0.5"])
    assert all(gain >= 0 for gain in analysis["gain"].values())
    # Background predictions overlap no event by a tenth.
    near = [
        [e for e in found if kinds_of([e], [*true, event(500.0, 501.0, e["label"])]) != ["background"]]
        for found, true in zip(predictions, references, strict=True)
    ]
    without = mean_average_precision(near, references, (0.5,))["mAP@0.5"]
    assert analysis["gain"]["background"] == pytest.approx(without - analysis["map"])


def test_true_events_are_grouped_by_length_coverage_instances_and_overlap():
    # Lengths 2, 5, 40 and 1 s of 50 s; three dogs and a cat; the cat overlaps one dog, which overlaps the cat.
    true = [[event(0.0, 2.0), event(3.0, 8.0), event(10.0, 50.0), event(20.0, 21.0, "cat")]]
    found = [[event(3.0, 8.0, "dog", 0.9), event(20.0, 21.0, "cat", 0.8)]]
    recall = error_analysis(found, true, [50.0])["recall"]

    def filled(name):
        return {group: (n["events"], n["recall"]) for group, n in recall[name].items() if n["events"]}

    assert filled("length") == {"XS: <= 2 s": (2, 0.5), "S: <= 5 s": (1, 1.0), "XL: > 30 s": (1, 0.0)}
    assert filled("coverage") == {"XS: <= 0.2": (3, pytest.approx(2 / 3)), "L: <= 0.8": (1, 0.0)}
    assert filled("instances") == {"1": (1, 1.0), "2-4": (3, pytest.approx(1 / 3))}
    assert filled("others at once") == {"0": (2, 0.5), "1": (2, 0.5)}
    assert filled("class") == {"cat": (1, 1.0), "dog": (3, pytest.approx(1 / 3))}
    assert recall["length"]["M: <= 10 s"] == {"events": 0, "recall": None}


def test_an_event_found_after_too_many_false_positives_does_not_count_as_found():
    # One class with one event: with F false positives before it the precision is 1 / (1 + F), and 1 / 20 is too low.
    for num_false, recall in ((18, 1.0), (19, 0.0)):
        found = [event(50.0, 51.0, score=1 - i / 100) for i in range(num_false)] + [event(0.0, 4.0, score=0.1)]
        assert error_analysis([found], [[event(0.0, 4.0)]], [100.0])["recall"]["class"]["dog"]["recall"] == recall


def test_classes_with_few_and_with_many_events_are_measured_alike():
    # Six dogs, two cats: 4 on average. The dog found after f false positives has R N = 4 / 6: 4 / 6 / (4 / 6 + 12) is
    # above 0.05, and with 13 below, although its plain precision is 1 of 13.
    true = [
        [event(10.0 * i, 10.0 * i + 4) for i in range(6)] + [event(70.0 + 10 * i, 74.0 + 10 * i, "cat") for i in (0, 1)]
    ]
    for num_false, recall in ((12, 1 / 6), (13, 0.0)):
        found = [event(95.0, 96.0, score=1 - i / 100) for i in range(num_false)] + [event(0.0, 4.0, score=0.1)]
        analysis = error_analysis([found], true, [100.0])
        assert analysis["recall"]["class"]["dog"]["recall"] == pytest.approx(recall)


def test_no_predictions_are_analysed_as_nothing_found():
    analysis = error_analysis([[], []], [[event(0.0, 4.0)], []], [10.0, 10.0])
    assert analysis["map"] == 0 and set(analysis["gain"].values()) == {0.0}
    assert analysis["recall"]["class"] == {"dog": {"events": 1, "recall": 0.0}}
    assert not any(sum(numbers.values()) for numbers in analysis["profile"])
    assert plot_error_analysis(analysis).axes


def test_an_analysis_can_be_written_as_json():
    analysis = error_analysis(*random_videos(0))
    assert json.loads(json.dumps(analysis, allow_nan=False)) == analysis


def test_the_figure_shows_the_measured_numbers(tmp_path):
    analysis = error_analysis(*random_videos(0))
    profile, gain, recall = plot_error_analysis(analysis).axes
    best = analysis["profile"][0]
    assert profile.containers[0][0].get_height() == pytest.approx(100 * best[RIGHT] / sum(best.values()))
    assert [bar.get_width() for bar in gain.patches] == pytest.approx(
        [100 * analysis["gain"][kind] for kind in FALSE_KINDS]
    )
    groups = [analysis["recall"][name] for name in ("length", "coverage", "instances", "others at once")]
    assert [label.get_text() for label in recall.get_yticklabels()] == [group for part in groups for group in part]


def test_bad_input_is_refused_with_its_reason():
    found, true = [[event(0.0, 1.0, score=0.5)]], [[event(0.0, 1.0)]]
    for durations in ([], [0.0], [float("nan")], [1.0, 2.0]):
        with pytest.raises(ValueError, match=r"`durations` .* 1 videos"):
            error_analysis(found, true, durations)
    for tiou in (0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"`tiou` .*\(0\.1, 1\]"):
            error_analysis(found, true, [1.0], tiou)
    with pytest.raises(ValueError, match="no event"):
        error_analysis(found, [[]], [1.0])
