"""`esg-transformers calibrate`."""

import argparse
from collections.abc import Callable, Mapping, Sequence

from accelerate import Accelerator
from transformers.utils import logging

from esg_transformers.cli.checks import parse_target
from esg_transformers.cli.devices import use_device
from esg_transformers.cli.sources import label2id_of, open_model_and_split
from esg_transformers.evaluation import (
    AlarmsPerHour,
    BestF1,
    Collar,
    Counts,
    LowestCost,
    OperatingPoint,
    Overlap,
    PrecisionAtLeast,
    RecallAtLeast,
    Target,
    choose_thresholds,
)
from esg_transformers.localization.dataset import localize_dataset
from esg_transformers.models.esg_net.processing_esg_net import DEFAULT_THRESHOLD
from esg_transformers.training.calibration import processor_file, save_thresholds

logger = logging.get_logger(__name__)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    target = target_of(*parse_target(arguments.target))
    criterion = Overlap(arguments.tiou) if arguments.collar is None else Collar(arguments.collar, arguments.collar)
    config = processor_file(arguments.model)
    if arguments.split == "train":
        logger.warning("Scores on videos that the model was trained on are too high. Use others: --split validation.")
    use_device(arguments.device)
    model, processor, dataset = open_model_and_split(arguments)
    accelerator = Accelerator()
    model = model.to(accelerator.device)
    localized = localize_dataset(model, processor, dataset, accelerator, arguments.batch_size)
    if not accelerator.is_main_process:
        return
    if not any(localized.true):
        raise ValueError(
            f"No video of the {arguments.split} split has an event to choose thresholds by. Give another split."
        )
    hours = sum(localized.durations) / 3600
    if isinstance(target, AlarmsPerHour) and target.limit * hours < 1:
        logger.warning(
            f"{target.limit:g} false alarms per hour are {target.limit * hours:.2f} in the {hours:.3f} hours of the "
            f"{arguments.split} split, so none is allowed. Choose on more video, or allow more."
        )
    points = choose_thresholds(localized.found, localized.true, localized.durations, target, criterion)
    save_thresholds(arguments.model, points)
    print(f"{len(localized.video_ids)} videos, {sum(map(len, localized.true))} events\n")
    print(operating_point_table(points))
    if not all(point.reached for point in points.values()):
        print("\n* Target not reached on this split; the threshold is the one that comes nearest to it.")
    if unknown := sorted(set(label2id_of(model)) - set(points)):
        print(
            f"\nClasses without a true or found event in this split keep the threshold {DEFAULT_THRESHOLD}: "
            f"{', '.join(unknown)}."
        )
    print(f"\nWrote the thresholds to {config}.")


def target_of(name: str, numbers: Sequence[float]) -> Target:
    """Target of this name, as `parse_target` splits it.

    >>> target_of("cost", [5.0, 1.0])
    LowestCost(miss=5.0, false_alarm=1.0)
    """
    targets: dict[str, Callable[..., Target]] = {
        "precision": PrecisionAtLeast,
        "recall": RecallAtLeast,
        "f1": BestF1,
        "cost": LowestCost,
        "alarms-per-hour": AlarmsPerHour,
    }
    return targets[name](*numbers)


def operating_point_table(points: Mapping[str, OperatingPoint]) -> str:
    """Threshold and figures of each class; a star where the target is not reached."""
    width = max(len("all classes"), *map(len, points))
    lines = [f"{'':<{width}}    threshold  precision  recall  false alarms/h  true events"]
    for label, point in points.items():
        star = " " if point.reached else "*"
        lines.append(
            f"{label:<{width}} {star}  {point.threshold:>9.3f}{_figures(point.counts, point.false_alarms_per_hour)}"
        )
    total = sum((point.counts for point in points.values()), Counts(0, 0, 0))
    alarms = sum(point.false_alarms_per_hour for point in points.values())
    return "\n".join([*lines, f"{'all classes':<{width}}    {'':>9}{_figures(total, alarms)}"])


def _figures(counts: Counts, alarms_per_hour: float) -> str:
    recall = "-" if counts.recall is None else f"{counts.recall:.3f}"
    return f"  {counts.precision:>9.3f}  {recall:>6}  {alarms_per_hour:>14.2f}  {counts.hits + counts.misses:>11}"
