"""Training of a model with Accelerate, in any configuration that `accelerate launch` takes."""

import json
import os
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, is_tensorboard_available, is_trackio_available, is_wandb_available
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from esg_transformers.corpora.example import VideoDataset
from esg_transformers.files import replacing, replacing_files
from esg_transformers.localization.collator import EventLocalizationCollator
from esg_transformers.localization.dataset import evaluate_dataset
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
from esg_transformers.training.arguments import LocalizationTrainingArguments
from esg_transformers.training.augmentation import TrainingCrops
from esg_transformers.training.batches import TrainingBatches, lengths_of
from esg_transformers.training.checkpoints import Checkpoints, whole_state_dict
from esg_transformers.training.ema import AveragedWeights
from esg_transformers.training.lora import merged_state_dict
from esg_transformers.training.model import check_dataset
from esg_transformers.training.steps import TrainingSteps, parameter_groups

LOG_FILE = "training_log.jsonl"
CHECKPOINTS = "checkpoints"
# Settings that may change between runs that share checkpoints.
FREE_SETTINGS = ("num_workers", "eval_batch_size", "checkpoint_steps", "keep_checkpoints", "tracker", "patience")


@dataclass
class TrainingProgress:
    """State of a run; saved with every checkpoint.

    Args:
        step: completed optimizer steps.
        epoch: completed epochs, evaluation included.
        best_epoch: epoch, from 1 on, whose averaged weights scored best on the validation split; 0 before the first.
        best_map: their average mAP.
        log: one record of each epoch, as written to `training_log.jsonl`.
        sums: sums of the losses of an incomplete epoch, one dict for each process.
    """

    step: int = 0
    epoch: int = 0
    best_epoch: int = 0
    best_map: float = -1.0
    log: list[dict[str, Any]] = field(default_factory=list)
    sums: list[dict[str, float]] = field(default_factory=list)


def train(
    model: PreTrainedModel,
    processor: EsgNetProcessor,
    train_set: VideoDataset,
    validation_set: VideoDataset,
    output_dir: str | os.PathLike[str],
    arguments: LocalizationTrainingArguments | None = None,
) -> TrainingProgress:
    """Train a model, score its averaged weights after every epoch, and keep the best ones in `output_dir`.

    `output_dir` then holds the best model and its processor as `from_pretrained` loads them, `training_log.jsonl` with
    one record per epoch, and `checkpoints/`. An interrupted run resumes from its last complete checkpoint when it is
    started again in the same way. It ends with the weights of an uninterrupted run, bit by bit on the CPU, since all
    random numbers follow from the seed and the number of the step.

    Args:
        model: with the labels of the data sets. Parameters that do not require gradients are not trained.
        processor: for their features. Its `window_steps` is set to fit the crops, see `window_steps_for`.
        train_set: examples to train on. Videos of similar duration share a batch.
        validation_set: examples that the best epoch is chosen on.
        output_dir: created if missing.
        arguments: settings of the run.

    Returns:
        The progress at the end.

    Raises:
        ValueError: if a data set does not fit the processor or the model's labels, if `output_dir` is a file or holds
            another run, or if the loss or its gradients are no longer finite.
        OSError: if a checkpoint cannot be written.
    """
    output_dir = Path(output_dir)
    if output_dir.is_file():
        raise ValueError(f"{output_dir} is a file; give a folder for the trained model.")
    for name, dataset in (("training", train_set), ("validation", validation_set)):
        check_dataset(f"The {name} set", dataset, model, processor)
    if not any(len(validation_set[index]["labels"]) for index in range(len(validation_set))):
        raise ValueError("No video of the validation set has an event, so no epoch could be chosen on it. Add some.")
    run = _Run(model, processor, train_set, validation_set, output_dir, arguments or LocalizationTrainingArguments())
    return run.to_end()


class _Run:
    """One training run: its data, model, optimizer, checkpoints and progress. Arguments as in [`train`]."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: EsgNetProcessor,
        train_set: VideoDataset,
        validation_set: VideoDataset,
        output_dir: Path,
        arguments: LocalizationTrainingArguments,
    ):
        self.processor, self.validation_set = processor, validation_set
        self.output_dir, self.arguments = output_dir, arguments
        self.accelerator = Accelerator(
            mixed_precision=None if arguments.mixed_precision == "auto" else arguments.mixed_precision,
            gradient_accumulation_steps=arguments.gradient_accumulation_steps,
            log_with=_tracker(arguments.tracker),
            project_dir=output_dir,
        )
        self.crops, self.batches = _crops_and_batches(train_set, arguments, self.accelerator)
        processor.window_steps = window_steps_for(int(self.batches.lengths.max()), model.config.pyramid_levels)
        self.loader = DataLoader(
            self.crops,
            batch_sampler=self.batches,
            num_workers=arguments.num_workers,
            collate_fn=EventLocalizationCollator(processor),
            pin_memory=self.accelerator.device.type == "cuda",
        )
        if arguments.gradient_checkpointing:
            model.activation_checkpointing_enable()
        identity = _identity(arguments, model, train_set, self.accelerator)
        optimizer = torch.optim.AdamW(parameter_groups(model, arguments), lr=arguments.learning_rate)
        self.model, optimizer = self.accelerator.prepare(model, optimizer)
        self.average = AveragedWeights(self.model, arguments.ema_decay)
        self.checkpoints = Checkpoints(
            output_dir / CHECKPOINTS, identity, arguments.keep_checkpoints, self.accelerator, self.model, optimizer,
            self.average,
        )  # fmt: skip
        self.progress = TrainingProgress(**(self.checkpoints.resume() or {}))
        self.steps = TrainingSteps(
            self.accelerator, self.model, optimizer, self.average, arguments, self.batches.steps_per_epoch
        )

    def to_end(self) -> TrainingProgress:
        """Train until the last epoch, or until `patience` runs out."""
        total = self.arguments.epochs * self.batches.steps_per_epoch
        hidden = not self.accelerator.is_main_process
        with tqdm(total=total, initial=self.progress.step, desc="Training", unit=" steps", disable=hidden) as bar:
            while self.progress.epoch < self.arguments.epochs and not self._is_out_of_patience():
                losses = self.epoch(bar)
                with self.average.in_place():
                    metrics = self.evaluate()
                    self.keep_best(metrics["average_map"])
                self.end_epoch(losses | metrics)
                bar.set_postfix(loss=f"{losses['loss']:.3f}", mAP=f"{100 * metrics['average_map']:.1f}")
        if self.accelerator.trackers:
            self.accelerator.end_training()
        return self.progress

    def epoch(self, bar: "tqdm[Any]") -> dict[str, float]:
        """Train until the end of the current epoch; returns its mean losses and its last learning rate."""
        progress, per_epoch = self.progress, self.batches.steps_per_epoch
        first = progress.step - progress.epoch * per_epoch
        self.crops.epoch = progress.epoch
        self.batches.start(progress.epoch, first)
        self.steps.start_epoch(progress.sums)
        batches = iter(self.loader)
        for _ in range(first, per_epoch):
            self.steps.take(progress.step, batches)
            progress.step += 1
            bar.update()
            if progress.step % self.arguments.checkpoint_steps == 0 and progress.step % per_epoch:
                progress.sums = gather_object([self.steps.loss_sums()])
                self.checkpoints.save(progress.step, asdict(progress))
        losses = self.steps.mean_losses()
        if progress.epoch == 0:
            self.steps.warn_of_unseen_classes()
        return losses

    def evaluate(self) -> dict[str, float]:
        """Score the model on the validation set."""
        model = self.accelerator.unwrap_model(self.model)
        size = self.arguments.eval_batch_size
        metrics = evaluate_dataset(model, self.processor, self.validation_set, self.accelerator, size)
        return {name: value for name, value in metrics.items() if name != "per_class"}

    def keep_best(self, average_map: float) -> None:
        """Save the model if it scores higher than every model saved before."""
        if not average_map > self.progress.best_map:
            return
        self.progress.best_map, self.progress.best_epoch = average_map, self.progress.epoch + 1
        weights = whole_state_dict(self.model)
        if self.accelerator.is_main_process:
            _save_model(self.accelerator.unwrap_model(self.model), weights, self.processor, self.output_dir)

    def end_epoch(self, figures: dict[str, float]) -> None:
        """Count the epoch; write its record to the log, a checkpoint and the tracker."""
        self.progress.epoch += 1
        self.progress.sums = []
        record = {"epoch": self.progress.epoch, **figures}
        self.progress.log.append(record)
        if self.accelerator.is_main_process:
            _write_log(self.progress.log, self.output_dir)
        self.checkpoints.save(self.progress.step, asdict(self.progress))
        if self.accelerator.log_with:
            if not self.accelerator.trackers:  # started late, so that a refused run leaves nothing
                self.accelerator.init_trackers("runs", config=asdict(self.arguments))
            self.accelerator.log(record, step=self.progress.step)

    def _is_out_of_patience(self) -> bool:
        since_best = self.progress.epoch - self.progress.best_epoch
        return 0 < self.arguments.patience <= since_best


def _crops_and_batches(
    train_set: VideoDataset, arguments: LocalizationTrainingArguments, accelerator: Accelerator
) -> tuple[TrainingCrops, TrainingBatches]:
    """Crops of the training set, and the sampler of their batches."""
    accumulation, num_processes = accelerator.gradient_accumulation_steps, accelerator.num_processes
    repeats = 1
    if arguments.min_epoch_steps > 1:
        num_crops = arguments.min_epoch_steps * arguments.batch_size * accumulation * num_processes
        repeats = max(-(-num_crops // max(len(train_set), 1)), 1)
    grid = train_set.feature_spec.grid
    crops = TrainingCrops(train_set, grid, arguments.max_steps, arguments.seed, arguments.stretch, repeats)
    lengths = np.tile(lengths_of(train_set, arguments.max_steps), repeats)
    batches = TrainingBatches(
        lengths, arguments.batch_size, accumulation, arguments.seed, num_processes, accelerator.process_index
    )
    return crops, batches


def window_steps_for(longest_crop: int, pyramid_levels: int) -> int:
    """Feature steps of an inference window for a model that was trained on crops of up to `longest_crop` steps.

    A multiple of the distance between points of the coarsest level, and at least that distance longer than the crops.
    Much longer windows are no better. On simulated clips joined to one video (`tests/benchmarks/localization.py`),
    windows six times as long as the crops scored the same after one training and two points less after another; the
    whole video in one window scored a fifth less.

    >>> window_steps_for(224, pyramid_levels=6), window_steps_for(79, pyramid_levels=6)
    (256, 128)
    """
    coarsest = 1 << (pyramid_levels - 1)
    return -(-(longest_crop + coarsest) // coarsest) * coarsest


def _identity(
    arguments: LocalizationTrainingArguments, model: PreTrainedModel, train_set: VideoDataset, accelerator: Accelerator
) -> dict[str, Any]:
    """Settings that must match to resume a run; the keys appear in the error message."""
    settings = {name: value for name, value in asdict(arguments).items() if name not in FREE_SETTINGS}
    videos = json.dumps([len(train_set), list(train_set.video_ids)])
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return settings | {
        "the model": sha256(model.config.to_json_string(use_diff=False).encode()).hexdigest()[:12],
        "the trained parameters": sha256(json.dumps(trained).encode()).hexdigest()[:12],
        "the training videos": sha256(videos.encode()).hexdigest()[:12],
        "the number of processes": accelerator.num_processes,
        "gradient_accumulation_steps": accelerator.gradient_accumulation_steps,
        "mixed_precision": accelerator.mixed_precision,
    }


def _tracker(name: str) -> str | None:
    """Name of the tracker for Accelerate, which would silently ignore one that is not installed.

    Raises:
        ImportError: if the tracker is not installed.
    """
    is_installed = {
        "tensorboard": is_tensorboard_available,
        "wandb": is_wandb_available,
        "trackio": is_trackio_available,
    }
    if name == "auto":
        return "tensorboard" if is_tensorboard_available() else None
    if name in is_installed and not is_installed[name]():
        raise ImportError(f"The tracker {name} is not installed: `pip install {name}`, or choose another.")
    return None if name == "none" else name


def _save_model(
    model: PreTrainedModel, weights: dict[str, Tensor], processor: EsgNetProcessor, output_dir: Path
) -> None:
    """Save a model and its processor; each file of an earlier epoch is replaced in one step by a complete one."""
    with replacing_files(output_dir) as partial:
        model.save_pretrained(partial, state_dict=merged_state_dict(model, weights))
        processor.save_pretrained(partial)


def _write_log(log: list[dict[str, Any]], output_dir: Path) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    with replacing(output_dir / LOG_FILE) as file:
        file.writelines(json.dumps(record) + "\n" for record in log)
