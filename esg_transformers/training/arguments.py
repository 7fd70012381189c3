"""What a training run can be told; also the options of `esg-transformers train`."""

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

TRACKERS = ("auto", "none", "tensorboard", "wandb", "trackio")
PRECISIONS = ("auto", "no", "fp16", "bf16")


def _option(default, help: str):
    return field(default=default, metadata={"help": help})


@dataclass
class LocalizationTrainingArguments:
    """Settings of `train`.

    The defaults are the published UnAV recipe (configs/avel_unav100.yaml, commit 1609deb) and `stretch`, which is this
    package's: without it, `stretch=0`, they are that recipe.

    Raises:
        ValueError: if a value is out of range or of another type.
    """

    warmup_epochs: int = _option(5, "epochs in which the learning rate rises from 0")
    epochs: int = _option(45, "epochs in all, warm-up included; after it the learning rate falls to 0 as a cosine")
    min_epoch_steps: int = _option(1, "steps an epoch has at least; a small set is gone over more than once for it")
    patience: int = _option(0, "epochs without a better score after which the run ends early; 0: never")
    learning_rate: float = _option(1e-4, "highest learning rate of AdamW")
    body_learning_rate_scale: float = _option(1.0, "share of it that all but the heads and class weights learn with")
    weight_decay: float = _option(1e-4, "weight decay, on the weights of linear and convolution layers only")
    batch_size: int = _option(16, "videos of one batch, in each process")
    gradient_accumulation_steps: int = _option(1, "batches whose gradients make one step")
    max_grad_norm: float = _option(1.0, "norm that gradients are clipped to")
    ema_decay: float = _option(0.999, "decay of the averaged weights, which are evaluated and saved")
    max_steps: int = _option(224, "feature steps of a training crop; longer videos are cut at random")
    stretch: float = _option(0.25, "training videos run up to this share slower, or faster; 0: all as they are")
    eval_batch_size: int = _option(16, "videos of one batch in evaluation, in each process")
    num_workers: int = _option(0, "processes that read the corpus, for each training process")
    mixed_precision: str = _option("auto", "no, fp16 or bf16; auto: what `accelerate launch` was told, else no")
    gradient_checkpointing: bool = _option(False, "compute activations again in the backward pass, to save memory")
    checkpoint_steps: int = _option(500, "steps from one checkpoint to the next; each epoch ends with one as well")
    keep_checkpoints: int = _option(2, "checkpoints to keep")
    tracker: str = _option("auto", f"{', '.join(TRACKERS[1:])}; auto: tensorboard if it is installed")
    seed: int = _option(0, "seed of everything that is drawn")

    def __post_init__(self):
        for setting in fields(self):
            value: Any = getattr(self, setting.name)
            wanted: Any = setting.type
            if wanted is float and type(value) is int:
                setattr(self, setting.name, float(value))
            elif type(value) is not wanted:
                raise ValueError(f"`{setting.name}` must be {wanted.__name__}; got {value!r}.")
        lowest: dict[str, float] = {"warmup_epochs": 0, "weight_decay": 0, "ema_decay": 0, "num_workers": 0, "seed": 0}
        lowest |= {"learning_rate": 1e-12, "max_grad_norm": 1e-12, "patience": 0, "body_learning_rate_scale": 0}
        lowest["stretch"] = 0
        for name, value in asdict(self).items():
            if type(value) in (int, float) and not value >= lowest.get(name, 1):
                raise ValueError(f"`{name}` must be at least {lowest.get(name, 1)}; got {value}.")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"`warmup_epochs` ({self.warmup_epochs}) must be fewer than `epochs` ({self.epochs}), which count them."
            )
        if self.ema_decay >= 1:
            raise ValueError(f"`ema_decay` must be below 1; got {self.ema_decay}.")
        for name, choices in (("mixed_precision", PRECISIONS), ("tracker", TRACKERS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}; got {getattr(self, name)!r}.")

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike,
        given: Mapping[str, Any] | None = None,
        defaults: "LocalizationTrainingArguments | None" = None,
    ) -> "LocalizationTrainingArguments":
        """Settings from a YAML or JSON file, `name: value`; those of `given` win, and what neither says is a default.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not such a file, or names a setting that there is not.
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
                raise ValueError(f"{path} has a setting {name!r}, which there is not; did you mean {near[0]!r}?")
        for setting in fields(cls):
            value = content.get(setting.name)
            if (
                setting.type is float
                and isinstance(value, str)
                and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value)
            ):
                content[setting.name] = float(value)  # YAML 1.1 takes 1e-4 for text
        try:
            return cls(**(asdict(defaults or cls()) | content | dict(given or {})))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


# Settings of `finetune` where none are given.
FINETUNING = LocalizationTrainingArguments(
    epochs=30, warmup_epochs=2, min_epoch_steps=20, patience=10, learning_rate=1e-3, batch_size=8, ema_decay=0.99
)


def add_settings(parser: argparse.ArgumentParser, defaults: LocalizationTrainingArguments) -> None:
    """An option for each setting of a training run, and `--config` for a file of them."""
    group = parser.add_argument_group("training")
    group.add_argument("--config", metavar="FILE", help="settings in YAML or JSON; options given here win over it")
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
    """The settings of options that were given, over those of the file of `--config`, over the defaults."""
    given = {setting.name: vars(arguments)[setting.name] for setting in fields(defaults) if setting.name in arguments}
    if arguments.config is None:
        return LocalizationTrainingArguments(**(vars(defaults) | given))
    return LocalizationTrainingArguments.from_file(arguments.config, given, defaults)
