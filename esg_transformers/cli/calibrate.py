"""Choose the score that each class needs, on a validation split.

The scores are written into the processor of the model, where `localize` and the pipeline take them from. Choose them on
videos that the model was not trained on; report figures on videos of a third split.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator
from transformers.utils import PROCESSOR_NAME, logging

from esg_transformers.cli.sources import add_source_arguments, open_model_and_split
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", required=True, metavar="DIR", help="the folder of a trained model")
    add_source_arguments(parser)
    parser.add_argument("--split", default="validation", help="the split to choose on (default: validation)")
    parser.add_argument(
        "--target",
        required=True,
        help="what each class is to reach: precision=0.9, recall=0.8, f1, cost=5:1 (a miss costs 5 times a false "
        "alarm), or alarms-per-hour=2 (of all classes together)",
    )
    criterion = parser.add_mutually_exclusive_group()
    criterion.add_argument(
        "--tiou", type=float, default=0.5, help="overlap with a true event that makes a hit (default: 0.5)"
    )
    criterion.add_argument(
        "--collar",
        type=float,
        metavar="SECONDS",
        help="instead: how far start and end may be off; the end by a fifth of the event's length too, as in DESED",
    )
    parser.add_argument("--batch-size", type=int, default=16, help="videos of one forward pass (default: 16)")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    target = parse_target(arguments.target)
    criterion = Overlap(arguments.tiou) if arguments.collar is None else Collar(arguments.collar, arguments.collar)
    config = Path(arguments.model) / PROCESSOR_NAME
    if not config.is_file():
        raise FileNotFoundError(
            f"There is no {config}. The thresholds are written there: give the folder of a model, not its name on the "
            "Hub (`hf download` makes one)."
        )
    if arguments.split == "train":
        logger.warning("A model scores too well on the videos it was trained on. Choose on others: --split validation.")
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


def parse_target(text: str) -> Target:
    """The target that `--target` names.

    Raises:
        ValueError: if it names none.

    >>> parse_target("cost=5:1")
    LowestCost(miss=5.0, false_alarm=1.0)
    """
    name, _, value = text.partition("=")
    try:
        numbers = [float(number) for number in value.split(":")] if value else []
    except ValueError:
        numbers = []
    match name, numbers:
        case "precision", [precision]:
            return PrecisionAtLeast(precision)
        case "recall", [recall]:
            return RecallAtLeast(recall)
        case "f1", [] if text == "f1":
            return BestF1()
        case "cost", [miss, false_alarm]:
            return LowestCost(miss, false_alarm)
        case "alarms-per-hour", [limit]:
            return AlarmsPerHour(limit)
    raise ValueError(
        f"--target is {text!r}; expected precision=0.9, recall=0.8, f1, cost=5:1 or alarms-per-hour=2, with numbers of "
        "your own."
    )


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
