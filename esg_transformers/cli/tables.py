"""Results as text."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from esg_transformers.training.loop import TrainingProgress


def metric_table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """mAP at each overlap and their mean, in percent, one column for each named result of `mean_average_precision`."""
    first = next(iter(columns.values()))
    rows = [name for name in first if name.startswith("mAP@")] + ["average_map"]
    width = max(12, *(len(name) for name in columns))
    lines = [f"{'':<14}" + "".join(f"{name:>{width + 2}}" for name in columns)]
    for row in rows:
        name = "average mAP" if row == "average_map" else row
        lines.append(f"{name:<14}" + "".join(f"{100 * column[row]:>{width + 2}.1f}" for column in columns.values()))
    return "\n".join(lines)


def class_table(metrics: Mapping[str, Any]) -> str:
    """Average precision of each class, mean over overlaps, in percent."""
    width = max(len(str(label)) for label in metrics["per_class"])
    return "\n".join(f"{label:<{width}}  {100 * value:5.1f}" for label, value in metrics["per_class"].items())


def event_table(events: Sequence[Mapping[str, Any]]) -> str:
    """Events in the order of time: start and end in seconds, label and score."""
    lines = [f"{'start':>8}  {'end':>8}  {'score':>5}  label"]
    for event in sorted(events, key=lambda x: (x["start"], x["end"])):
        lines.append(f"{event['start']:>8.2f}  {event['end']:>8.2f}  {event['score']:>5.2f}  {event['label']}")
    return "\n".join(lines)


def training_summary(progress: TrainingProgress, output: str) -> str:
    """What came of a training run, in a sentence."""
    return (
        f"Epoch {progress.best_epoch} of {progress.epoch} was the best: average mAP "
        f"{100 * progress.best_map:.1f} on the validation split. Its averaged weights are in {output}."
    )


def check_folder_of(path: str | None) -> None:
    """Refuse a result file in a folder that does not exist: before the work, not after it.

    Raises:
        FileNotFoundError: naming the folder.
    """
    if path is not None and not Path(path).parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {Path(path).parent}. Make it first.")


def write_predictions(
    path: str | os.PathLike, video_ids: Iterable[str], events: Iterable[Sequence[Mapping[str, Any]]]
) -> None:
    """Write found events in the layout of ActivityNet's results (Evaluation/eval_detection.py); in one step.

    `{"version", "results": {ID: [{"label", "score", "segment": [start, end]}]}, "external_data": {}}`, seconds.
    """
    results = {
        video_id: [
            {"label": event["label"], "score": event["score"], "segment": [event["start"], event["end"]]}
            for event in found
        ]
        for video_id, found in zip(video_ids, events, strict=True)
    }
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps({"version": "esg-transformers", "results": results, "external_data": {}}))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
