"""How good found events are: average precision over temporal overlaps, and what is found at the scores of a site.

`mean_average_precision` needs numpy only. `evaluate.load(METRIC_PATH)` loads the same rules as an `evaluate.Metric`,
without a network. `detection_report` counts hits, misses and false alarms; `choose_thresholds` finds the score that
each class needs for them to be as they are wanted. `bootstrap_map` and `compare_map` tell how sure the figures are;
`error_analysis` what goes wrong.
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
