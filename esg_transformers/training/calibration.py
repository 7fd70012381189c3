"""Score thresholds that are kept with a trained model."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from transformers.utils import PROCESSOR_NAME

from esg_transformers.evaluation import OperatingPoint
from esg_transformers.files import replacing


def save_thresholds(model: str | os.PathLike[str], points: Mapping[str, OperatingPoint]) -> None:
    """Write the threshold of each class into the processor of a model folder; everything else in it stays.

    Args:
        model: the folder.
        points: operating points by class, as `choose_thresholds` returns them.

    Raises:
        FileNotFoundError: if the folder holds no processor.
    """
    path = processor_file(model)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["thresholds"] = {label: point.threshold for label, point in points.items()}
    with replacing(path) as file:
        file.write(json.dumps(content, indent=2, sort_keys=True) + "\n")


def processor_file(model: str | os.PathLike[str]) -> Path:
    """The processor's file in a model folder.

    Raises:
        FileNotFoundError: if there is none.
    """
    path = Path(model) / PROCESSOR_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}, which thresholds are written to. Give the folder of a model, not its name on the "
            "Hub (`hf download` makes a folder of it)."
        )
    return path
