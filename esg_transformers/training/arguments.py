"""Training settings; also the options of `train` and `finetune`. No heavy library is imported here.

`transformers.HfArgumentParser` also makes options from a dataclass, but is not used: its import alone takes longer than
`--help` may take, and its options always hold default values, so given options could not override a settings file.
"""

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml

TRACKERS = ("auto", "none", "tensorboard", "wandb", "trackio")
PRECISIONS = ("auto", "no", "fp16", "bf16")
# Lowest values of settings; 1 where none is given.
LOWEST = {
    "warmup_epochs": 0,
    "patience": 0,
    "learning_rate": 1e-12,
    "body_learning_rate_scale": 0,
    "weight_decay": 0,
    "max_grad_norm": 1e-12,
    "ema_decay": 0,
    "stretch": 0,
    "num_workers": 0,
    "seed": 0,
}
T = TypeVar("T")


def _option(default: T, help: str) -> T:
    return field(default=default, metadata={"help": help})


@dataclass
class LocalizationTrainingArguments:
    """Settings of a training run; each field's meaning is in its metadata and in `esg-transformers train --help`.

    The defaults are the published UnAV recipe (configs/avel_unav100.yaml, commit 1609deb), except for `stretch`, which
    this package adds: `stretch=0` gives that recipe.

    Raises:
        ValueError: if a value is out of range or of the wrong type.
    """

    warmup_epochs: int = _option(5, "epochs in which the learning rate rises linearly from 0")
    epochs: int = _option(45, "epochs in all, warm-up included; after warm-up the rate falls to 0 as a cosine")
    min_epoch_steps: int = _option(1, "least optimizer steps in an epoch; a small set is repeated to reach them")
    patience: int = _option(0, "epochs without a better score after which training stops; 0: never")
    learning_rate: float = _option(1e-4, "highest learning rate of AdamW")
    body_learning_rate_scale: float = _option(1.0, "factor on the learning rate, but for heads and class weights")
    weight_decay: float = _option(1e-4, "weight decay of the weights of linear and convolution layers")
    batch_size: int = _option(16, "videos per batch and process")
    gradient_accumulation_steps: int = _option(1, "batches per optimizer step")
    max_grad_norm: float = _option(1.0, "largest norm of the gradients; longer ones are scaled down to it")
    ema_decay: float = _option(0.999, "decay of the averaged weights, which are evaluated and saved")
    max_steps: int = _option(224, "feature steps of the longest training crop; longer videos are cropped at random")
    stretch: float = _option(0.25, "random time stretch of training videos; 0.25: by 0.8 to 1.25; 0: off")
    eval_batch_size: int = _option(16, "videos per batch and process in evaluation")
    num_workers: int = _option(0, "processes that read the corpus, for each training process")
    mixed_precision: str = _option("auto", "no, fp16 or bf16; auto: the setting of `accelerate launch`, or else no")
    gradient_checkpointing: bool = _option(False, "recompute activations in the backward pass, to save memory")
    checkpoint_steps: int = _option(500, "optimizer steps between two checkpoints; each epoch ends with one as well")
    keep_checkpoints: int = _option(2, "checkpoints to keep")
    tracker: str = _option("auto", f"{', '.join(TRACKERS[1:])}; auto: tensorboard if it is installed")
    seed: int = _option(0, "seed of all random numbers")

    def __post_init__(self) -> None:
        for setting in fields(self):
            value: Any = getattr(self, setting.name)
            wanted: Any = setting.type
            if wanted is float and type(value) is int:
                setattr(self, setting.name, float(value))
            elif type(value) is not wanted:
                raise ValueError(f"`{setting.name}` must be {wanted.__name__}; got {value!r}.")
        for name, value in asdict(self).items():
            if type(value) in (int, float) and not value >= LOWEST.get(name, 1):
                raise ValueError(f"`{name}` must be at least {LOWEST.get(name, 1)}; got {value}.")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"`warmup_epochs` ({self.warmup_epochs}) must be less than `epochs` ({self.epochs}), the total."
            )
        if self.ema_decay >= 1:
            raise ValueError(f"`ema_decay` must be below 1; got {self.ema_decay}.")
        for name, choices in (("mixed_precision", PRECISIONS), ("tracker", TRACKERS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}; got {getattr(self, name)!r}.")

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        given: Mapping[str, Any] | None = None,
        defaults: "LocalizationTrainingArguments | None" = None,
    ) -> "LocalizationTrainingArguments":
        """Settings from a YAML or JSON file of `name: value`.

        Args:
            path: path of the file.
            given: settings that override those of the file.
            defaults: settings that neither of them names.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not such a file, names an unknown setting, or a value is out of range.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"No settings file at {path}.")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a YAML or JSON file: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds {type(content).__name__}; expected settings as `name: value`.")
        names = [setting.name for setting in fields(cls)]
        for name in content:
            if name not in names:
                near = get_close_matches(str(name), names, n=1) or names
                raise ValueError(f"{path} has an unknown setting {name!r}; did you mean {near[0]!r}?")
        for setting in fields(cls):
            value = content.get(setting.name)
            if (
                setting.type is float
                and isinstance(value, str)
                and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value)
            ):
                content[setting.name] = float(value)  # YAML 1.1 reads 1e-4 as text
        try:
            return cls(**(asdict(defaults or cls()) | content | dict(given or {})))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


# Default settings of `finetune`.
FINETUNING = LocalizationTrainingArguments(
    epochs=30, warmup_epochs=2, min_epoch_steps=20, patience=10, learning_rate=1e-3, batch_size=8, ema_decay=0.99
)


def add_settings(parser: argparse.ArgumentParser, defaults: LocalizationTrainingArguments) -> None:
    """Add an option for each training setting, and `--config` for a file of settings."""
    group = parser.add_argument_group("training")
    group.add_argument("--config", metavar="FILE", help="settings in YAML or JSON; options given here override it")
    for setting in fields(defaults):
        default = getattr(defaults, setting.name)
        group.add_argument(
            f"--{setting.name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=f"{setting.metadata['help']} (default: {default})",
            **({"action": argparse.BooleanOptionalAction} if setting.type is bool else {"type": setting.type}),
        )


def read_settings(
    arguments: argparse.Namespace, defaults: LocalizationTrainingArguments
) -> LocalizationTrainingArguments:
    """Settings from the given options, else from the file of `--config`, else from the defaults."""
    given = {setting.name: vars(arguments)[setting.name] for setting in fields(defaults) if setting.name in arguments}
    if arguments.config is None:
        return LocalizationTrainingArguments(**(vars(defaults) | given))
    return LocalizationTrainingArguments.from_file(arguments.config, given, defaults)
