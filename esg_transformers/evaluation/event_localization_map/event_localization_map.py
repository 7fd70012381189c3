"""`evaluate` metric: mean average precision of dense event localization over temporal overlaps."""

from typing import Any

import datasets
import evaluate

from .average_precision import TIOU_THRESHOLDS, mean_average_precision

_DESCRIPTION = """\
Mean average precision of dense event localization at temporal overlaps (tIoU) of 0.1 to 0.9, and its mean, by the rules
of the UnAV and ActivityNet evaluators. A predicted event is correct if it overlaps a true event of its video and class
enough and no prediction with a higher score has taken that event. The area under interpolated precision over recall is
averaged over the classes of the references.
"""

_INPUTS_DESCRIPTION = """\
Args:
    predictions: one list per video of events {"start": seconds, "end": seconds, "label": str, "score": float}.
    references: one list per video, in the same order, of events {"start": seconds, "end": seconds, "label": str}.
    tiou_thresholds: the smallest overlaps of correct predictions, each in (0, 1]. Defaults to 0.1, 0.2, ..., 0.9.

Returns:
    "average_map": the mean over thresholds.
    "mAP@0.1", "mAP@0.2", ...: the mean over classes at one threshold.
    "per_class": label to mean over thresholds.
    "ignored_predictions": number of predictions with a label that no reference has.

Example:
    >>> metric = evaluate.load("event_localization_map")
    >>> metric.compute(
    ...     predictions=[[{"start": 0.0, "end": 3.0, "label": "dog barking", "score": 0.9}]],
    ...     references=[[{"start": 0.0, "end": 4.0, "label": "dog barking"}]],
    ... )["mAP@0.7"]
    1.0
"""

_CITATION = """\
@inproceedings{geng2023dense,
  title={Dense-Localizing Audio-Visual Events in Untrimmed Videos: A Large-Scale Benchmark and Baseline},
  author={Geng, Tiantian and Wang, Teng and Duan, Jinming and Cong, Runmin and Zheng, Feng},
  booktitle={Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2023}
}
"""

# float64, because rounding to float32 can change the order of scores, or move an overlap across a threshold.
_SEGMENT = {
    "start": datasets.Value("float64"),
    "end": datasets.Value("float64"),
    "label": datasets.Value("string"),
}


class EventLocalizationMap(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped here
    """`mean_average_precision` behind `compute`, `add` and `add_batch`; load it with `evaluate.load(METRIC_PATH)`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.List({**_SEGMENT, "score": datasets.Value("float64")}),
                    "references": datasets.List(_SEGMENT),
                }
            ),
        )

    def _compute(
        self,
        predictions: list[list[dict[str, Any]]],
        references: list[list[dict[str, Any]]],
        tiou_thresholds: tuple[float, ...] = TIOU_THRESHOLDS,
    ) -> dict[str, Any]:
        return mean_average_precision(predictions, references, tiou_thresholds)
