import json

import pytest

from esg_transformers.cli.tables import (
    check_folder_of,
    class_table,
    event_table,
    metric_table,
    training_summary,
    write_predictions,
)
from esg_transformers.training.loop import TrainingProgress


def test_metrics_stand_in_columns_in_percent():
    columns = {
        "model": {"average_map": 0.5, "mAP@0.1": 0.753, "mAP@0.5": 0.247, "per_class": {}, "ignored_predictions": 0},
        "shuffled labels": {"average_map": 0.05, "mAP@0.1": 0.1, "mAP@0.5": 0.0, "per_class": {}},
    }
    assert metric_table(columns).splitlines() == [
        "                          model  shuffled labels",
        "mAP@0.1                    75.3             10.0",
        "mAP@0.5                    24.7              0.0",
        "average mAP                50.0              5.0",
    ]


def test_classes_stand_in_a_table_in_percent():
    assert (
        class_table({"per_class": {"alarm": 1.0, "door slamming": 0.034}})
        == "alarm          100.0\ndoor slamming    3.4"
    )


def test_events_stand_in_the_order_of_time():
    events = [
        {"start": 62.5, "end": 118.25, "label": "speech", "score": 0.914},
        {"start": 0.0, "end": 4.5, "label": "dog barking", "score": 0.3},
    ]
    assert event_table(events).splitlines() == [
        "   start       end  score  label",
        "    0.00      4.50   0.30  dog barking",
        "   62.50    118.25   0.91  speech",
    ]


def test_a_run_is_summed_up_by_its_best_epoch():
    summary = training_summary(TrainingProgress(epoch=9, best_epoch=7, best_map=0.4321), "out")
    assert summary == (
        "Epoch 7 of 9 was the best: average mAP 43.2 on the validation split. Its averaged weights are in out."
    )


def test_predictions_are_written_in_the_layout_of_activitynet_in_one_step(tmp_path):
    path = tmp_path / "found.json"
    path.write_text("an older result")
    write_predictions(path, ["a", "b"], [[{"start": 0.5, "end": 2.0, "label": "alarm", "score": 0.75}], []])
    assert json.loads(path.read_text()) == {
        "version": "esg-transformers",
        "results": {"a": [{"label": "alarm", "score": 0.75, "segment": [0.5, 2.0]}], "b": []},
        "external_data": {},
    }
    assert list(tmp_path.iterdir()) == [path]


def test_predictions_that_cannot_be_written_leave_the_older_ones(tmp_path):
    path = tmp_path / "found.json"
    path.write_text("an older result")
    with pytest.raises(TypeError):
        write_predictions(path, ["a"], [[{"start": 0.5, "end": 2.0, "label": "alarm", "score": object()}]])
    assert path.read_text() == "an older result"
    assert list(tmp_path.iterdir()) == [path]


def test_a_result_file_needs_a_folder_that_exists(tmp_path):
    check_folder_of(None)
    check_folder_of("found.json")
    check_folder_of(str(tmp_path / "found.json"))
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere. Make it first"):
        check_folder_of(str(tmp_path / "nowhere" / "found.json"))
