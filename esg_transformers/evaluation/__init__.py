"""How good found events are: average precision over temporal overlaps, as a function and as an `evaluate` metric.

`mean_average_precision` needs numpy only. `evaluate.load(METRIC_PATH)` loads the same rules as an `evaluate.Metric`,
without a network.
"""

from pathlib import Path

from esg_transformers.evaluation.event_localization_map.average_precision import (
    TIOU_THRESHOLDS,
    average_precision,
    mean_average_precision,
)

METRIC_PATH = str(Path(__file__).parent / "event_localization_map")

__all__ = ["METRIC_PATH", "TIOU_THRESHOLDS", "average_precision", "mean_average_precision"]
