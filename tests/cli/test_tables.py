from esg_transformers.cli.tables import (
    class_table,
    comparison_table,
    detection_table,
    error_tables,
    event_table,
    metric_table,
    training_summary,
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


def test_intervals_stand_beside_the_figures():
    metrics = {"average_map": 0.5, "mAP@0.5": 0.247, "per_class": {"alarm": 1.0, "door": 0.034}}
    intervals = {
        "average_map": [0.45, 0.553],
        "mAP@0.5": [0.2, 0.3],
        "per_class": {"alarm": [0.9, 1.0], "door": [0, 0.1]},
    }
    assert metric_table({"test": metrics}, intervals).splitlines() == [
        "                        test   95 % interval",
        "mAP@0.5                 24.7  [ 20.0,  30.0]",
        "average mAP             50.0  [ 45.0,  55.3]",
    ]
    assert class_table(metrics, intervals).splitlines() == [
        "alarm  100.0  [ 90.0, 100.0]",
        "door     3.4  [  0.0,  10.0]",
    ]


def test_a_comparison_stands_in_points():
    comparison = {
        "average_map": {"difference": 0.021, "interval": [0.004, 0.04], "p_value": 0.018},
        "mAP@0.5": {"difference": -0.1, "interval": [-0.2, 0.01], "p_value": 0.1},
    }
    assert comparison_table(comparison).splitlines() == [
        "                difference   95 % interval  p-value",
        "mAP@0.5              -10.0  [-20.0,   1.0]    0.100",
        "average mAP           +2.1  [  0.4,   4.0]    0.018",
    ]


def test_detections_stand_by_class_and_in_total():
    def figures(precision, recall, f1, alarms):
        return {"precision": precision, "recall": recall, "f1": f1, "false_alarms_per_hour": alarms}

    report = {
        "per_class": {"alarm": figures(0.5, 1.0, 2 / 3, 12.25), "door": figures(0.0, None, None, 60.0)},
        "micro": figures(0.25, 1.0, 0.4, 72.25),
    }
    assert detection_table(report).splitlines() == [
        "             precision  recall     F1  false alarms/h",
        "alarm             50.0   100.0   66.7            12.2",
        "door               0.0       -      -            60.0",
        "all classes       25.0   100.0   40.0            72.2",
    ]


def test_errors_stand_by_kind_and_misses_by_group():
    analysis = {
        "profile": [{"true positive": 3, "background": 1}, {"true positive": 0, "background": 4}],
        "gain": {"background": 0.123},
        "recall": {"length": {"short": {"events": 4, "recall": 0.25}, "long": {"events": 0, "recall": None}}},
    }
    assert error_tables(analysis).splitlines() == [
        "predictions         best G, %  best 2 G, %  gain without, points",
        "true positive            75.0          37.5",
        "background               25.0          62.5                  12.3",
        "",
        "length  events  recall, %",
        "short        4       25.0",
        "long         0          -",
    ]


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
