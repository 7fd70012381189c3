"""`esg-transformers evaluate`."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from transformers.utils import logging

from esg_transformers.annotations.formats import read_annotations
from esg_transformers.cli.devices import use_device
from esg_transformers.cli.sources import label2id_of, open_model_and_split
from esg_transformers.cli.tables import class_table, comparison_table, detection_table, error_tables, metric_table
from esg_transformers.evaluation import Overlap, detection_report, mean_average_precision
from esg_transformers.evaluation.error_analysis import error_analysis, plot_error_analysis
from esg_transformers.evaluation.uncertainty import bootstrap_map, compare_map, interval_tails
from esg_transformers.files import replacing, save_figure
from esg_transformers.localization.dataset import localize_dataset
from esg_transformers.localization.results import write_predictions

logger = logging.get_logger(__name__)

COMPARISON_RESAMPLES = 1000  # of --against without --bootstrap


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    num_resamples = arguments.bootstrap or COMPARISON_RESAMPLES
    interval_tails(num_resamples)  # raises an error for too few of them, before any work
    use_device(arguments.device)
    model, processor, dataset = open_model_and_split(arguments)
    others = None
    if arguments.against:
        others = read_found(arguments.against, label2id_of(model), dataset.video_ids)
    accelerator = Accelerator()
    model = model.to(accelerator.device)
    localized = localize_dataset(model, processor, dataset, accelerator, arguments.batch_size)
    if not accelerator.is_main_process:
        return
    found, true = localized.found, localized.true
    if arguments.output:
        write_predictions(arguments.output, localized.video_ids, found)
    metrics = mean_average_precision(found, true)
    intervals = bootstrap_map(found, true, num_resamples) if arguments.bootstrap else None
    id2label = model.config.id2label
    thresholds = {id2label[i]: threshold for i, threshold in enumerate(processor.score_thresholds(id2label))}
    detections = detection_report(found, true, localized.durations, Overlap(0.5), thresholds)
    report: dict[str, Any] = {
        "split": arguments.split,
        "videos": len(localized.video_ids),
        "events": sum(map(len, true)),
        "metrics": metrics,
        "intervals": intervals,
        "thresholds": thresholds,
        "detections": detections,
    }
    print(f"{report['videos']} videos, {report['events']} events, percent\n")
    print(metric_table({arguments.split: metrics}, intervals), class_table(metrics, intervals), sep="\n\n")
    print(f"\nAt the thresholds of the pipeline, tIoU 0.5:\n\n{detection_table(detections)}")
    if others is not None:
        report["comparison"] = compare_map(found, others, true, num_resamples)
        print(f"\nDifference to {arguments.against}, in percentage points:\n\n{comparison_table(report['comparison'])}")
    if arguments.errors:
        report["errors"] = error_analysis(found, true, localized.durations)
        save_figure(arguments.errors, plot_error_analysis(report["errors"]))
        print(f"\n{error_tables(report['errors'])}")
    if arguments.report:
        with replacing(arguments.report) as file:
            file.write(json.dumps(report, indent=2, allow_nan=False) + "\n")


def read_found(path: str, label2id: dict[str, int], video_ids: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Found events of the videos of a split, from an ActivityNet result file.

    Args:
        path: the file.
        label2id: class ids by label; other classes are refused.
        video_ids: ids of the videos of the split.

    Returns:
        For each video, events `{"start", "end", "label", "score"}`, times in seconds.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a result file, has other classes, or lacks a video.
    """
    videos = read_annotations(path, "activitynet-results", label2id=label2id).videos
    missing = [video_id for video_id in video_ids if video_id not in videos]
    if missing:
        raise ValueError(
            f"{path} lacks {len(missing)} of the {len(video_ids)} videos of the split; the first is {missing[0]!r}. "
            "Give a file that `evaluate --output` wrote for the same split."
        )
    if len(videos) > len(video_ids):
        logger.warning(f"{len(videos) - len(video_ids)} videos of {path} are not in the split and are ignored.")
    return [
        [{"start": e.start, "end": e.end, "label": e.label, "score": e.score} for e in videos[video_id].events]
        for video_id in video_ids
    ]
