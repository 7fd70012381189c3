"""Training of ESG-Net, with Accelerate: any configuration that `accelerate launch` takes."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, is_tensorboard_available, is_trackio_available, is_wandb_available
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedModel
from transformers.utils import logging

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
from esg_transformers.training.model import check_dataset, class_parameters

logger = logging.get_logger(__name__)

LOG_FILE = "training_log.jsonl"
CHECKPOINTS = "checkpoints"
# What may change when a run is started again: it decides neither what is learnt nor what is kept.
FREE_SETTINGS = ("num_workers", "eval_batch_size", "checkpoint_steps", "keep_checkpoints", "tracker", "patience")


@dataclass
class TrainingProgress:
    """How far a run is; saved with every checkpoint.

    Args:
        step: steps that are complete.
        epoch: epochs that are complete, their evaluation included.
        best_epoch: the epoch whose averaged weights scored best on the validation split, from 1 on; 0 before the first.
        best_map: their average mAP.
        log: one record of each epoch, as written to `training_log.jsonl`.
        sums: of the present epoch's losses so far, for each process.
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
    output_dir: str | os.PathLike,
    arguments: LocalizationTrainingArguments | None = None,
) -> TrainingProgress:
    """Train a model, score its averaged weights after every epoch, and keep the best ones in `output_dir`.

    `output_dir` then holds the best model and its processor as `from_pretrained` loads them, `training_log.jsonl` with
    one record per epoch, and `checkpoints/`. A run that was ended, by whatever means, goes on from its last whole
    checkpoint when it is started again in the same way, and ends with the weights it would have had: on the CPU bit by
    bit, since all that is drawn follows from the seed and the number of the step.

    Args:
        model: with the labels of the data sets. Parameters that do not require gradients stay as they are.
        processor: for their features. Its `window_steps` follows the crops, see `window_steps_for`.
        train_set: examples to learn from; see `Example`. With an attribute `durations`, seconds of each video, those
            of similar length share a batch.
        validation_set: examples that the best epoch is chosen on.
        output_dir: made if it is missing.
        arguments: settings of the run.

    Returns:
        The progress at the end.

    Raises:
        ValueError: if a data set does not fit the processor or the model's labels, if `output_dir` is a file or holds
            another run, or if the loss or its gradients are no longer finite.
        OSError: if a checkpoint cannot be written.
    """
    arguments = arguments or LocalizationTrainingArguments()
    output_dir = Path(output_dir)
    if output_dir.is_file():
        raise ValueError(f"{output_dir} is a file; give a folder for the trained model.")
    for name, dataset in (("training", train_set), ("validation", validation_set)):
        check_dataset(f"The {name} set", dataset, model, processor)
    if not any(len(validation_set[index]["labels"]) for index in range(len(validation_set))):
        raise ValueError("No video of the validation set has an event, so no epoch could be chosen on it. Add some.")
    accelerator = Accelerator(
        mixed_precision=None if arguments.mixed_precision == "auto" else arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        log_with=_tracker(arguments.tracker),
        project_dir=output_dir,
    )
    num_videos = len(train_set)
    least = arguments.min_epoch_steps * arguments.batch_size * accelerator.gradient_accumulation_steps
    repeats = -(-least * accelerator.num_processes // max(num_videos, 1)) if arguments.min_epoch_steps > 1 else 1
    crops = TrainingCrops(
        train_set, processor.feature_grid, arguments.max_steps, arguments.seed, arguments.stretch, max(repeats, 1)
    )
    lengths = lengths_of(train_set, processor.feature_grid, arguments.max_steps)
    batches = TrainingBatches(
        None if lengths is None else np.tile(lengths, crops.repeats),
        len(crops),
        arguments.batch_size,
        accelerator.gradient_accumulation_steps,
        arguments.seed,
        accelerator.num_processes,
        accelerator.process_index,
    )
    longest = int(max([] if lengths is None else lengths, default=arguments.max_steps))
    processor.window_steps = window_steps_for(longest, model.config.pyramid_levels)
    loader = DataLoader(
        crops,
        batch_sampler=batches,
        num_workers=arguments.num_workers,
        collate_fn=EventLocalizationCollator(processor),
        pin_memory=accelerator.device.type == "cuda",
    )
    if arguments.gradient_checkpointing:
        model.activation_checkpointing_enable()
    run = _identity(arguments, model, train_set, accelerator)
    optimizer = torch.optim.AdamW(parameter_groups(model, arguments), lr=arguments.learning_rate)
    model, optimizer = accelerator.prepare(model, optimizer)
    average = AveragedWeights(model, arguments.ema_decay)
    checkpoints = Checkpoints(
        output_dir / CHECKPOINTS, run, arguments.keep_checkpoints, accelerator, model, optimizer, average
    )
    progress = TrainingProgress(**(checkpoints.resume() or {}))

    epoch_steps = batches.steps_per_epoch
    trainer = _Trainer(accelerator, model, optimizer, average, arguments, epoch_steps)
    with tqdm(
        total=arguments.epochs * epoch_steps,
        initial=progress.step,
        desc="Training",
        unit=" steps",
        disable=not accelerator.is_main_process,
    ) as bar:
        while progress.epoch < arguments.epochs and not _is_stopped(progress, arguments.patience):
            crops.epoch = progress.epoch
            batches.start(progress.epoch, progress.step - progress.epoch * epoch_steps)
            losses = trainer.sums_from(progress)
            for _ in trainer.steps(loader, progress.step, losses):
                progress.step += 1
                bar.update()
                if progress.step % arguments.checkpoint_steps == 0 and progress.step % epoch_steps:
                    progress.sums = gather_object([{name: value.item() for name, value in losses.items()}])
                    checkpoints.save(progress.step, asdict(progress))
            record = trainer.means(losses)
            if progress.epoch == 0:
                trainer.warn_of_unseen_classes(accelerator.unwrap_model(model).config.id2label)
            with average.in_place():
                unwrapped = accelerator.unwrap_model(model)
                metrics = evaluate_dataset(unwrapped, processor, validation_set, accelerator, arguments.eval_batch_size)
                is_best = metrics["average_map"] > progress.best_map
                weights = whole_state_dict(model) if is_best else {}
            progress.epoch += 1
            progress.sums = []
            record = {"epoch": progress.epoch, **record, **{k: v for k, v in metrics.items() if k != "per_class"}}
            progress.log.append(record)
            if is_best:
                progress.best_map, progress.best_epoch = metrics["average_map"], progress.epoch
            if accelerator.is_main_process:
                if is_best:
                    _save_model(unwrapped, weights, processor, output_dir)
                _write_log(progress.log, output_dir)
            checkpoints.save(progress.step, asdict(progress))
            if accelerator.log_with:
                if not accelerator.trackers:  # not before there is something to track: a refused run leaves nothing
                    accelerator.init_trackers("runs", config=asdict(arguments))
                accelerator.log(record, step=progress.step)
            bar.set_postfix(loss=f"{record['loss']:.3f}", mAP=f"{100 * record['average_map']:.1f}")
    if accelerator.trackers:
        accelerator.end_training()
    return progress


class _Trainer:
    """What the steps of one run share."""

    def __init__(
        self, accelerator, model, optimizer, average, arguments: LocalizationTrainingArguments, epoch_steps: int
    ):
        self.accelerator, self.model, self.optimizer, self.average = accelerator, model, optimizer, average
        self.arguments, self.epoch_steps = arguments, epoch_steps
        self.is_seen = torch.zeros(accelerator.unwrap_model(model).config.num_labels, device=accelerator.device)

    def steps(self, loader: DataLoader, first: int, losses: dict[str, Tensor]) -> Iterator[None]:
        """The steps of the rest of an epoch, adding to the sums of its losses."""
        self.model.train()
        accumulation = self.accelerator.gradient_accumulation_steps
        batches = iter(loader)
        for step in range(first, first + len(loader) // accumulation):
            # Whatever is drawn in a step follows from its number, so that no state of chance has to be kept.
            torch.manual_seed(_mixed(self.arguments.seed, step, self.accelerator.process_index))
            self._set_learning_rate(step)
            for part in range(accumulation):
                batch = next(batches).to(self.accelerator.device, non_blocking=True)
                if part + 1 < accumulation:
                    with self.accelerator.no_sync(self.model):
                        self._backward(batch, losses)
                else:
                    self._backward(batch, losses)
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.arguments.max_grad_norm)
            if self.accelerator.scaler is None and not torch.isfinite(norm):
                raise ValueError(
                    f"The gradients of step {step + 1} have norm {norm.item()}. Lower `learning_rate`, or lengthen "
                    "`warmup_epochs`; the last checkpoint is from before this step."
                )
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.average.update()
            yield

    def _backward(self, batch, losses: dict[str, Tensor]) -> None:
        outputs = self.model(**batch)
        if not torch.isfinite(outputs.loss):
            parts = {name: value.item() for name, value in outputs.loss_dict.items()}
            raise ValueError(
                f"The loss is {outputs.loss.item()} ({parts}). Lower `learning_rate`, or train without fp16."
            )
        self.accelerator.backward(outputs.loss)
        for name, value in {"loss": outputs.loss, **outputs.loss_dict}.items():
            losses[name] = losses.get(name, 0) + value.detach().float()
        labels = batch["class_labels"]
        self.is_seen[labels[labels >= 0]] = 1

    def _set_learning_rate(self, step: int) -> None:
        warmup = self.arguments.warmup_epochs * self.epoch_steps
        self.factor = learning_rate_factor(step, warmup, self.arguments.epochs * self.epoch_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.factor * group["highest_lr"]

    def sums_from(self, progress: TrainingProgress) -> dict[str, Tensor]:
        """The losses so far of an epoch that is gone on with."""
        if not progress.sums:
            return {}
        mine = progress.sums[self.accelerator.process_index]
        return {name: torch.tensor(value, device=self.accelerator.device) for name, value in mine.items()}

    def means(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Means over the batches of an epoch and all processes, and its last learning rate."""
        count = self.epoch_steps * self.accelerator.gradient_accumulation_steps
        means = self.accelerator.reduce({name: value / count for name, value in losses.items()}, reduction="mean")
        rate = self.arguments.learning_rate * self.factor
        return {name: value.item() for name, value in means.items()} | {"learning_rate": rate}

    def warn_of_unseen_classes(self, id2label: dict[int, str]) -> None:
        """Name the classes that no video of the first epoch had an event of."""
        is_seen = self.accelerator.reduce(self.is_seen, reduction="sum")
        unseen = [id2label[index] for index in (is_seen == 0).nonzero()[:, 0].tolist()]
        if unseen and self.accelerator.is_main_process:
            logger.warning(
                f"No training video has an event of {len(unseen)} of {len(id2label)} classes, which will hardly be "
                f"found: {', '.join(unseen[:10])}{', ...' if len(unseen) > 10 else ''}."
            )


def window_steps_for(longest_crop: int, pyramid_levels: int) -> int:
    """Features to give at once to a model that has learnt from crops of up to `longest_crop`: hardly more than that.

    A whole number of steps between the points of the coarsest level, and at least one more than the crop has. On
    simulated clips joined to one video (`tests/benchmarks/localization.py`), windows of six times the length of the
    crops found as much after one training and two points less after another, and the whole video at once a fifth less.

    >>> window_steps_for(224, pyramid_levels=6), window_steps_for(79, pyramid_levels=6)
    (256, 128)
    """
    coarsest = 2 ** (pyramid_levels - 1)
    return -(-(longest_crop + coarsest) // coarsest) * coarsest


def learning_rate_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """What share of the highest learning rate a step has: a line up from 0, then half a cosine down.

    >>> [round(learning_rate_factor(step, 2, 6), 3) for step in range(6)]
    [0.0, 0.5, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup_steps:
        return step / warmup_steps
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup_steps) / max(total_steps - warmup_steps, 1))


def parameter_groups(model: PreTrainedModel, arguments: LocalizationTrainingArguments) -> list[dict[str, Any]]:
    """What is trained, by weight decay and learning rate.

    Decay is for the weights of linear and convolution layers only, as in UnAV (libs/utils/train_utils.py, 1609deb). The
    body is the model without its heads and without what it has of each class; it learns at
    `body_learning_rate_scale` times the rate.
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


def _identity(
    arguments: LocalizationTrainingArguments, model: PreTrainedModel, train_set: VideoDataset, accelerator: Accelerator
) -> dict[str, Any]:
    """What must be the same for a run to be gone on with, by the names that a refusal gives."""
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


def _is_stopped(progress: TrainingProgress, patience: int) -> bool:
    return 0 < patience <= progress.epoch - progress.best_epoch and progress.epoch > 0


def _tracker(name: str) -> str | None:
    """The tracker to give to Accelerate, which leaves out in silence what is not installed."""
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


def _mixed(*numbers: int) -> int:
    """One number out of several, in which every bit of each counts."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _save_model(
    model: PreTrainedModel, weights: dict[str, Tensor], processor: EsgNetProcessor, output_dir: Path
) -> None:
    """Save a model and its processor; a file of an earlier epoch is replaced in one step, when the new one is whole."""
    with replacing_files(output_dir) as partial:
        model.save_pretrained(partial, state_dict=merged_state_dict(model, weights))
        processor.save_pretrained(partial)


def _write_log(log: list[dict[str, Any]], output_dir: Path) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    with replacing(output_dir / LOG_FILE) as file:
        file.writelines(json.dumps(record) + "\n" for record in log)
