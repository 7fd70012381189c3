"""Evaluation of found events: average precision, detection counts, score thresholds, confidence and errors.

* `mean_average_precision`: the field's metric; `evaluate.load(METRIC_PATH)` loads it as an `evaluate.Metric`, offline.
* `detection_report`: hits, misses and false alarms at given score thresholds.
* `choose_thresholds`: a score threshold for each class, for a target such as a precision.
* `bootstrap_map`, `compare_map`, `compare_runs`: confidence intervals and paired comparisons.
* `error_analysis`: kinds of false positives, and recall by kind of event.
"""

from pathlib import Path

from esg_transformers.evaluation.detections import Collar, Counts, Criterion, Overlap, detection_report
from esg_transformers.evaluation.error_analysis import error_analysis, plot_error_analysis
from esg_transformers.evaluation.event_localization_map.average_precision import (
    TIOU_THRESHOLDS,
    average_precision,
    mean_average_precision,
)
from esg_transformers.evaluation.operating_points import (
    AlarmsPerHour,
    BestF1,
    LowestCost,
    OperatingPoint,
    PrecisionAtLeast,
    RecallAtLeast,
    Target,
    choose_thresholds,
)
from esg_transformers.evaluation.uncertainty import bootstrap_map, compare_map, compare_runs

METRIC_PATH = str(Path(__file__).parent / "event_localization_map")

__all__ = [
    "METRIC_PATH",
    "TIOU_THRESHOLDS",
    "AlarmsPerHour",
    "BestF1",
    "Collar",
    "Counts",
    "Criterion",
    "LowestCost",
    "OperatingPoint",
    "Overlap",
    "PrecisionAtLeast",
    "RecallAtLeast",
    "Target",
    "average_precision",
    "bootstrap_map",
    "choose_thresholds",
    "compare_map",
    "compare_runs",
    "detection_report",
    "error_analysis",
    "mean_average_precision",
    "plot_error_analysis",
]
