"""Optimizer steps of a training run: losses, gradients, learning rate, averaged weights."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import BatchFeature, PreTrainedModel
from transformers.utils import logging

from esg_transformers.training.arguments import LocalizationTrainingArguments
from esg_transformers.training.ema import AveragedWeights
from esg_transformers.training.model import class_parameters

logger = logging.get_logger(__name__)


class TrainingSteps:
    """Takes the optimizer steps of a run and sums up the losses of an epoch.

    Args:
        accelerator: the one that prepared `model` and `optimizer`.
        model: the model in training, prepared by `accelerator`.
        optimizer: the prepared optimizer, with the groups of [`parameter_groups`].
        average: running average of the model's weights; updated by each step.
        arguments: settings of the run.
        steps_per_epoch: optimizer steps of one epoch.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: AveragedWeights,
        arguments: LocalizationTrainingArguments,
        steps_per_epoch: int,
    ):
        self.accelerator, self.model, self.optimizer, self.average = accelerator, model, optimizer, average
        self.arguments, self.steps_per_epoch = arguments, steps_per_epoch
        self.losses: dict[str, Tensor] = {}  # sums over the batches of this process in this epoch
        self.is_seen = torch.zeros(accelerator.unwrap_model(model).config.num_labels, device=accelerator.device)

    def start_epoch(self, sums: list[dict[str, float]]) -> None:
        """Begin an epoch, or resume one.

        Args:
            sums: `loss_sums` of an interrupted epoch; empty for a new one.
        """
        mine = sums[self.accelerator.process_index] if sums else {}
        self.losses = {name: torch.tensor(value, device=self.accelerator.device) for name, value in mine.items()}
        self.model.train()

    def take(self, step: int, batches: Iterator[BatchFeature]) -> None:
        """Take one optimizer step.

        Args:
            step: its number in the run, from 0 on.
            batches: iterator from which the batches of one step are read.

        Raises:
            ValueError: if the loss or the gradients are not finite.
        """
        accumulation = self.accelerator.gradient_accumulation_steps
        # All random numbers of a step follow from its number, so no state of a generator has to be saved.
        torch.manual_seed(_mixed(self.arguments.seed, step, self.accelerator.process_index))
        self._set_learning_rate(step)
        for part in range(accumulation):
            batch = next(batches).to(self.accelerator.device, non_blocking=True)
            if part + 1 < accumulation:
                with self.accelerator.no_sync(self.model):
                    self._backward(batch)
            else:
                self._backward(batch)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.arguments.max_grad_norm)
        if self.accelerator.scaler is None and not torch.isfinite(norm):
            raise ValueError(
                f"The gradients of step {step + 1} have norm {norm.item()}; expected a finite number. Lower "
                "`learning_rate`, or lengthen `warmup_epochs`. The last checkpoint is from before this step."
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update()

    def _backward(self, batch: BatchFeature) -> None:
        outputs = self.model(**batch)
        if not torch.isfinite(outputs.loss):
            parts = {name: value.item() for name, value in outputs.loss_dict.items()}
            raise ValueError(
                f"The loss is {outputs.loss.item()} ({parts}); expected a finite number. Lower `learning_rate`, or "
                "train without fp16."
            )
        self.accelerator.backward(outputs.loss)
        for name, value in {"loss": outputs.loss, **outputs.loss_dict}.items():
            self.losses[name] = self.losses.get(name, 0) + value.detach().float()
        labels = batch["class_labels"]
        self.is_seen[labels[labels >= 0]] = 1

    def _set_learning_rate(self, step: int) -> None:
        warmup = self.arguments.warmup_epochs * self.steps_per_epoch
        self.factor = learning_rate_factor(step, warmup, self.arguments.epochs * self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.factor * group["highest_lr"]

    def loss_sums(self) -> dict[str, float]:
        """Sums of this process's losses in the current epoch."""
        return {name: value.item() for name, value in self.losses.items()}

    def mean_losses(self) -> dict[str, float]:
        """Mean losses of the epoch, over its batches and all processes, and its last learning rate."""
        count = self.steps_per_epoch * self.accelerator.gradient_accumulation_steps
        means = self.accelerator.reduce({name: value / count for name, value in self.losses.items()}, reduction="mean")
        rate = self.arguments.learning_rate * self.factor
        return {name: value.item() for name, value in means.items()} | {"learning_rate": rate}

    def warn_of_unseen_classes(self) -> None:
        """Log the classes of which no training video so far had an event."""
        id2label = self.accelerator.unwrap_model(self.model).config.id2label
        is_seen = self.accelerator.reduce(self.is_seen, reduction="sum")
        unseen = [id2label[index] for index in (is_seen == 0).nonzero()[:, 0].tolist()]
        if unseen and self.accelerator.is_main_process:
            logger.warning(
                f"No training video has an event of {len(unseen)} of {len(id2label)} classes: {', '.join(unseen[:10])}"
                f"{', ...' if len(unseen) > 10 else ''}. The model will hardly find them; add videos of them."
            )


def learning_rate_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Learning rate of a step as a share of the highest: linear warm-up from 0, then half a cosine down to 0.

    >>> [round(learning_rate_factor(step, 2, 6), 3) for step in range(6)]
    [0.0, 0.5, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup_steps:
        return step / warmup_steps
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup_steps) / max(total_steps - warmup_steps, 1))


def parameter_groups(model: PreTrainedModel, arguments: LocalizationTrainingArguments) -> list[dict[str, Any]]:
    """Groups of the trained parameters for AdamW, by weight decay and highest learning rate.

    Only weights of linear and convolution layers decay, as in UnAV (libs/utils/train_utils.py, commit 1609deb). The
    body is the model without its heads and its class weights; it learns at `body_learning_rate_scale` times
    `learning_rate`.
    """
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv1d))}
    of_classes = class_parameters(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = arguments.weight_decay if id(parameter) in decayed else 0.0
            is_body = name.startswith(f"{model.base_model_prefix}.") and name not in of_classes
            scale = arguments.body_learning_rate_scale if is_body else 1.0
            groups.setdefault((decay, scale), []).append(parameter)
    return [
        {"params": params, "weight_decay": decay, "highest_lr": scale * arguments.learning_rate}
        for (decay, scale), params in groups.items()
    ]


def _mixed(*numbers: int) -> int:
    """A seed made of several numbers, in which every bit of each counts."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
