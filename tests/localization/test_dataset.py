import numpy as np
import pytest
from accelerate import Accelerator
from transformers import pipeline

from esg_transformers.evaluation import mean_average_precision
from esg_transformers.localization.dataset import evaluate_dataset, localize_dataset
from esg_transformers.localization.pipeline import TASK


@pytest.fixture(scope="module")
def localized(simulated, small_model):
    """Five videos, one of them without events and one without sound, and what an untrained model finds in them."""
    dataset = simulated(5)
    dataset.examples[1] |= {"segments": np.zeros((0, 2), np.float32), "labels": np.zeros(0, np.int64)}
    dataset.examples[3] |= {"audio_features": None}
    model, processor = small_model(prior_probability=0.3)
    return dataset, model, processor, localize_dataset(model, processor, dataset, Accelerator(), batch_size=2)


def test_every_video_comes_once_and_in_the_order_of_the_data_set(localized):
    dataset, _, _, result = localized
    assert result.video_ids == [f"video_{index}" for index in range(5)]
    assert result.durations == [example["duration"] for example in dataset.examples]
    assert [len(events) for events in result.true] == [len(example["labels"]) for example in dataset.examples]
    assert all(result.found)


def test_found_events_are_those_of_people_and_lie_within_the_video(localized):
    dataset, _, _, result = localized
    for example, events in zip(dataset.examples, result.found, strict=True):
        assert [event["score"] for event in events] == sorted((event["score"] for event in events), reverse=True)
        for event in events:
            assert list(event) == ["start", "end", "label", "score"]
            assert 0 <= event["start"] < event["end"] <= np.float32(example["duration"])
            assert event["label"] in dataset.labels


def test_true_events_are_those_of_the_examples(localized):
    dataset, _, _, result = localized
    for example, events in zip(dataset.examples, result.true, strict=True):
        assert [[event["start"], event["end"]] for event in events] == example["segments"].tolist()
        assert [event["label"] for event in events] == [dataset.labels[label] for label in example["labels"]]
        assert not any("score" in event for event in events)
    assert result.true[1] == []


def test_the_batch_size_does_not_change_what_is_found(localized):
    dataset, model, processor, result = localized
    alone = localize_dataset(model, processor, dataset, Accelerator(), batch_size=1)
    for events, expected in zip(alone.found, result.found, strict=True):
        assert [event["label"] for event in events] == [event["label"] for event in expected]
        times = [[(event["start"], event["end"], event["score"]) for event in side] for side in (events, expected)]
        np.testing.assert_allclose(*times, atol=1e-4)


def test_the_threshold_keeps_the_events_above_it(localized):
    dataset, model, processor, result = localized
    threshold = result.found[0][len(result.found[0]) // 2]["score"]
    fewer = localize_dataset(model, processor, dataset, Accelerator(), batch_size=2, threshold=threshold)
    assert fewer.found == [[event for event in events if event["score"] > threshold] for events in result.found]


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_evaluated_without_chance_and_left_in_its_mode(localized, training):
    dataset, model, processor, expected = localized
    model.train(training)
    assert localize_dataset(model, processor, dataset, Accelerator(), batch_size=2) == expected
    assert model.training is training


def test_evaluation_is_the_metric_of_what_is_found(localized):
    dataset, model, processor, result = localized
    metrics = evaluate_dataset(model, processor, dataset, Accelerator(), batch_size=2)
    assert metrics == mean_average_precision(result.found, result.true)


def test_long_videos_are_localized_in_windows_as_by_the_pipeline(simulated, small_model):
    dataset = simulated(3)
    model, processor = small_model(prior_probability=0.3)
    processor.window_steps = 16
    result = localize_dataset(model, processor, dataset, Accelerator(), batch_size=2, threshold=0.2)
    localizer = pipeline(TASK, model=model, processor=processor)
    expected = localizer(dataset.examples, threshold=0.2)
    assert all(expected)
    for events, same in zip(result.found, expected, strict=True):
        assert [event["label"] for event in events] == [event["label"] for event in same]
        times = [[(event["start"], event["end"], event["score"]) for event in side] for side in (events, same)]
        np.testing.assert_allclose(*times, atol=1e-4)
    assert result.found != localize_dataset(*small_model(prior_probability=0.3), dataset, Accelerator(), 2, 0.2).found
