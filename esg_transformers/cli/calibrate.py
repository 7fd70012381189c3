"""`esg-transformers calibrate`."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from accelerate import Accelerator
from transformers.utils import PROCESSOR_NAME, logging

from esg_transformers.cli.checks import parse_target
from esg_transformers.cli.devices import use_device
from esg_transformers.cli.sources import open_model_and_split
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
from esg_transformers.files import replacing
from esg_transformers.localization.dataset import localize_dataset
from esg_transformers.models.esg_net.processing_esg_net import DEFAULT_THRESHOLD

logger = logging.get_logger(__name__)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    target = target_of(*parse_target(arguments.target))
    criterion = Overlap(arguments.tiou) if arguments.collar is None else Collar(arguments.collar, arguments.collar)
    config = Path(arguments.model) / PROCESSOR_NAME
    if not config.is_file():
        raise FileNotFoundError(
            f"There is no {config}. The thresholds are written there: give the folder of a model, not its name on the "
            "Hub (`hf download` makes one)."
        )
    if arguments.split == "train":
        logger.warning("A model scores too well on the videos it was trained on. Choose on others: --split validation.")
    use_device(arguments.device)
    model, processor, dataset = open_model_and_split(arguments)
    accelerator = Accelerator()
    model = model.to(accelerator.device)
    localized = localize_dataset(model, processor, dataset, accelerator, arguments.batch_size)
    if not accelerator.is_main_process:
        return
    if not any(localized.true):
        raise ValueError(f"No video of the {arguments.split} split has an event, so there is nothing to choose by.")
    hours = sum(localized.durations) / 3600
    if isinstance(target, AlarmsPerHour) and target.limit * hours < 1:
        logger.warning(
            f"{target.limit:g} false alarms an hour are {target.limit * hours:.2f} in the {hours:.3f} hours of the "
            f"{arguments.split} split, so not one is allowed. Choose on more video, or allow more."
        )
    points = choose_thresholds(localized.found, localized.true, localized.durations, target, criterion)
    save_thresholds(config, points)
    print(f"{len(localized.video_ids)} videos, {sum(map(len, localized.true))} events\n")
    print(operating_point_table(points))
    if not all(point.reached for point in points.values()):
        print("\n* The target is out of reach on this split: the threshold is the one that comes nearest.")
    untold = sorted(set(model.config.label2id) - set(points))
    if untold:
        print(f"\nNeither an event nor a find of {', '.join(untold)}: the threshold stays {DEFAULT_THRESHOLD}.")
    print(f"\nWrote the thresholds to {config}.")


def save_thresholds(config: Path, points: Mapping[str, OperatingPoint]) -> None:
    """Write what was chosen for each class into the configuration of a processor; all else in it stays."""
    content = json.loads(config.read_text(encoding="utf-8"))
    content["thresholds"] = {label: point.threshold for label, point in points.items()}
    with replacing(config) as file:
        file.write(json.dumps(content, indent=2, sort_keys=True) + "\n")


def target_of(name: str, numbers: Sequence[float]) -> Target:
    """The target that `parse_target` gives the name and numbers of.

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
    """What was chosen for each class and what it gives; a star where the target is not reached."""
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
