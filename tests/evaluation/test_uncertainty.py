import numpy as np
import pytest

from esg_transformers.evaluation import bootstrap_map, compare_map, compare_runs, mean_average_precision
from esg_transformers.evaluation.event_localization_map.average_precision import match_classes
from esg_transformers.evaluation.uncertainty import figures_of_resamples

OVERLAPS = (0.3, 0.5, 0.7)
NAMES = [f"mAP@{overlap}" for overlap in OVERLAPS]


@pytest.fixture(autouse=True)
def no_progress_bars(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


def event(start, end, label="dog", score=None):
    return {"start": start, "end": end, "label": label} | ({} if score is None else {"score": score})


def simulated(rng, num_videos, num_classes=3, skill=1.0, hit_rate=0.7):
    """Videos with a detector that finds 70 percent of the true events, some loosely, and as many false positives.

    Correct predictions score `skill` standard deviations higher on average; no two scores are equal.
    """
    predictions, references = [], []
    for _ in range(num_videos):
        true, found = [], []
        for label in rng.choice(num_classes, size=rng.integers(0, 3), replace=False):
            true.append(event(10.0 * label, 10.0 * label + 4, f"class {label}"))
            if rng.random() < hit_rate:
                found.append(event(10.0 * label, 10.0 * label + rng.uniform(1, 4), f"class {label}", rng.normal(skill)))
        for _ in range(rng.integers(0, 4)):
            found.append(event(90.0, 95.0, f"class {rng.integers(num_classes)}", rng.normal()))
        predictions.append(found)
        references.append(true)
    references[0].append(event(0.0, 4.0, "class 0"))
    return predictions, references


@pytest.mark.parametrize("seed", range(5))
def test_the_figures_of_a_resample_are_those_of_its_videos_in_a_list(seed):
    rng = np.random.default_rng(seed)
    predictions, references = simulated(rng, num_videos=15, num_classes=4)
    drawn = rng.multinomial(15, np.full(15, 1 / 15), size=20).T
    classes = match_classes(predictions, references, OVERLAPS)
    per_class, at_overlap = figures_of_resamples(classes, drawn)
    for resample in range(20):
        videos = np.repeat(np.arange(15), drawn[:, resample])
        if not any(references[video] for video in videos):
            continue
        expected = mean_average_precision(
            [predictions[video] for video in videos], [references[video] for video in videos], OVERLAPS
        )
        np.testing.assert_allclose(at_overlap[:, resample], [expected[name] for name in NAMES], atol=1e-12)
        by_label = dict(zip([matches.label for matches in classes], per_class[:, resample], strict=True))
        present = {label: value for label, value in by_label.items() if not np.isnan(value)}
        assert present == pytest.approx(expected["per_class"], abs=1e-12)


def test_an_interval_holds_the_figure_and_every_figure_has_one():
    predictions, references = simulated(np.random.default_rng(0), 60)
    figures, intervals = (
        mean_average_precision(predictions, references, OVERLAPS),
        bootstrap_map(predictions, references, 200, tiou_thresholds=OVERLAPS),
    )
    assert list(intervals) == ["average_map", *NAMES, "per_class"]
    assert list(intervals["per_class"]) == list(figures["per_class"])
    for name in ("average_map", *NAMES):
        low, high = intervals[name]
        assert 0 <= low < figures[name] < high <= 1
    for label, (low, high) in intervals["per_class"].items():
        assert 0 <= low < figures["per_class"][label] < high <= 1


def test_intervals_of_95_percent_hold_the_figure_to_expect_that_often():
    # Skill 0.5 is a weak detector, whose plain percentile intervals lie too high. Of 100 intervals that each hold with
    # 95 percent, 88 or more do with a probability of 99.9 percent.
    rng, figures, intervals = np.random.default_rng(0), [], []
    for seed in range(100):
        videos = simulated(rng, 60, skill=0.5)
        figures.append(mean_average_precision(*videos, (0.5,))["average_map"])
        intervals.append(bootstrap_map(*videos, 100, seed=seed, tiou_thresholds=(0.5,))["average_map"])
    low, high = np.array(intervals).T
    assert ((low <= np.mean(figures)) & (np.mean(figures) <= high)).sum() >= 88
    assert np.mean(high - low) < 4 * 1.3 * np.std(figures)  # not too wide: the expected width is 4 standard deviations


def test_an_interval_of_less_confidence_lies_within():
    predictions, references = simulated(np.random.default_rng(0), 30)
    low, high = bootstrap_map(predictions, references, 200, tiou_thresholds=(0.5,))["average_map"]
    lower, higher = bootstrap_map(predictions, references, 200, 0.5, tiou_thresholds=(0.5,))["average_map"]
    assert low < lower < higher < high


def test_equal_seeds_give_equal_intervals_however_many_are_drawn_at_once(monkeypatch):
    predictions, references = simulated(np.random.default_rng(0), 30)
    expected = bootstrap_map(predictions, references, 60, seed=3)
    assert bootstrap_map(predictions, references, 60, seed=4) != expected
    monkeypatch.setattr("esg_transformers.evaluation.uncertainty.RESAMPLES_AT_ONCE", 7)
    assert bootstrap_map(predictions, references, 60, seed=3) == expected


def test_one_video_has_intervals_without_width():
    found, true = [[event(0.0, 3.0, score=0.5)]], [[event(0.0, 4.0)]]
    assert bootstrap_map(found, true, 40, tiou_thresholds=(0.5, 0.9)) == {
        "average_map": [0.5, 0.5],
        "mAP@0.5": [1.0, 1.0],
        "mAP@0.9": [0.0, 0.0],
        "per_class": {"dog": [0.5, 0.5]},
    }


def test_videos_without_events_and_resamples_of_them_alone_are_no_obstacle():
    found, true = [[event(0.0, 4.0, score=0.5)], [], []], [[event(0.0, 4.0)], [], []]
    assert bootstrap_map(found, true, 100)["average_map"] == [1.0, 1.0]
    assert bootstrap_map([[], [], []], true, 100)["average_map"] == [0.0, 0.0]


def test_a_model_does_not_differ_from_itself():
    predictions, references = simulated(np.random.default_rng(0), 30)
    for figures in compare_map(predictions, predictions, references, 100).values():
        assert figures == {"difference": 0.0, "interval": [0.0, 0.0], "p_value": 1.0}


def test_a_better_model_is_distinguished_from_a_worse_one_in_both_directions():
    better, references = simulated(np.random.default_rng(0), 80, skill=2.0)
    worse = [[e | {"score": -e["score"]} for e in events] for events in better]  # the highest scores are wrong
    comparison = compare_map(better, worse, references, 200, tiou_thresholds=OVERLAPS)
    reverse = compare_map(worse, better, references, 200, tiou_thresholds=OVERLAPS)
    maps = [mean_average_precision(events, references, OVERLAPS) for events in (better, worse)]
    assert list(comparison) == ["average_map", *NAMES]
    for name, figures in comparison.items():
        low, high = figures["interval"]
        assert figures["difference"] == pytest.approx(maps[0][name] - maps[1][name])
        assert 0 < low < figures["difference"] < high
        assert figures["p_value"] == pytest.approx(2 / 201)  # the smallest value with 200 resamples
        assert reverse[name]["difference"] == pytest.approx(-figures["difference"])
        assert reverse[name]["interval"] == pytest.approx([-high, -low])
        assert reverse[name]["p_value"] == figures["p_value"]


def test_models_of_equal_skill_seldom_differ_significantly():
    # Two detectors of one kind on the same true events: a p-value below 0.05 in 5 percent of trials, in 8 of 60 or more
    # with a probability of 1 percent.
    rng, p_values = np.random.default_rng(0), []
    for seed in range(60):
        predictions, references = simulated(rng, 50)
        others = [
            [e | {"score": rng.normal(1.0 if e["start"] < 90 else 0.0)} for e in events] for events in predictions
        ]
        comparison = compare_map(predictions, others, references, 100, seed=seed, tiou_thresholds=(0.5,))
        p_values.append(comparison["average_map"]["p_value"])
    assert sum(p_value < 0.05 for p_value in p_values) < 8
    assert max(p_values) > 0.5


def test_the_difference_over_runs_is_the_mean_of_theirs():
    rng = np.random.default_rng(0)
    runs = []
    for skill in (1.0, 2.0):
        better, references = simulated(rng, 40, skill=skill)
        runs.append(([*better], [[e | {"score": -e["score"]} for e in events] for events in better], references))
    alone = [compare_map(*run, 100)["average_map"]["difference"] for run in runs]
    assert compare_runs(runs, 100)["average_map"]["difference"] == pytest.approx(sum(alone) / 2)


def test_a_run_that_is_given_twice_gives_the_result_of_one():
    better, references = simulated(np.random.default_rng(0), 40, skill=2.0)
    run = (better, [[e | {"score": -e["score"]} for e in events] for events in better], references)
    assert compare_runs([run, run], 100) == compare_map(*run, 100)


def test_runs_on_other_videos_make_the_interval_narrower():
    rng, runs = np.random.default_rng(0), []
    for _ in range(4):
        better, references = simulated(rng, 40, skill=2.0)
        runs.append((better, [[e | {"score": -e["score"]} for e in events] for events in better], references))
    widths = [np.ptp(compare_map(*run, 400)["average_map"]["interval"]) for run in runs]
    # Expected for the mean of four independent runs: half the width; 0.3 to 0.7 leaves room for chance.
    assert 0.3 < np.ptp(compare_runs(runs, 400)["average_map"]["interval"]) / np.mean(widths) < 0.7


def test_bad_input_is_refused_with_its_reason():
    found, true = [[event(0.0, 1.0, score=0.5)]], [[event(0.0, 1.0)]]
    with pytest.raises(ValueError, match="39 resamples .*95%.*40"):
        bootstrap_map(found, true, 39)
    with pytest.raises(ValueError, match=r"`confidence` .*\(0, 1\).*95"):
        bootstrap_map(found, true, confidence=95)
    with pytest.raises(ValueError, match="no event"):
        bootstrap_map(found, [[]])
    with pytest.raises(ValueError, match="2 videos and `references` 1"):
        compare_map(found, [*found, []], true)
    with pytest.raises(ValueError, match="tiou_thresholds"):
        compare_map(found, found, true, tiou_thresholds=())
    with pytest.raises(ValueError, match="no runs"):
        compare_runs([])
