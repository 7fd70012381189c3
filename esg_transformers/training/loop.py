"""Training of ESG-Net, with Accelerate: any configuration that `accelerate launch` takes."""

import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, set_seed
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup
from transformers.utils import logging

from esg_transformers.data.annotations import Example
from esg_transformers.data.collator import EventLocalizationCollator
from esg_transformers.data.cropping import random_crop
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid
from esg_transformers.training.arguments import LocalizationTrainingArguments
from esg_transformers.training.ema import exponential_moving_average
from esg_transformers.training.inference import evaluate_dataset
from esg_transformers.training.model import check_dataset

logger = logging.get_logger(__name__)

LOG_FILE = "training_log.jsonl"
CHECKPOINTS = "checkpoints"
AVERAGE_FILE = "average.safetensors"
PROGRESS_FILE = "progress.json"


@dataclass
class TrainingProgress:
    """How far a run is; saved with every checkpoint.

    Args:
        epoch: epochs that are complete.
        best_epoch: the epoch whose averaged weights scored best on the validation split, from 1 on; 0 before the first.
        best_map: their average mAP.
        log: one record of each epoch, as written to `training_log.jsonl`.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_map: float = -1.0
    log: list[dict[str, Any]] = field(default_factory=list)


class TrainingCrops(Dataset):
    """A data set's examples, each cropped at random (see `random_crop`): another crop in every epoch.

    What is drawn depends on the seed, the epoch and the index alone, not on the process or the order.

    Args:
        dataset: of examples.
        grid: their clock.
        max_steps: steps of the longest crop.
        seed: of the crops.
    """

    def __init__(self, dataset: Dataset, grid: FeatureGrid, max_steps: int, seed: int):
        self.dataset, self.grid, self.max_steps, self.seed = dataset, grid, max_steps, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Example:
        generator = np.random.default_rng([self.seed, self.epoch, index])
        return random_crop(self.dataset[index], self.grid, self.max_steps, generator)


def train(
    model: PreTrainedModel,
    processor: EsgNetProcessor,
    train_set: Dataset,
    validation_set: Dataset,
    output_dir: str | os.PathLike,
    arguments: LocalizationTrainingArguments | None = None,
    resume: bool = False,
) -> TrainingProgress:
    """Train a model, score its averaged weights after every epoch, and keep the best ones in `output_dir`.

    `output_dir` then holds the best model and its processor as `from_pretrained` loads them, `training_log.jsonl` with
    one record per epoch, and `checkpoints/` to go on from.

    Args:
        model: with the labels of the data sets.
        processor: for their features.
        train_set: examples to learn from; see `Example`.
        validation_set: examples that the best epoch is chosen on.
        output_dir: made if it is missing.
        arguments: settings of the run.
        resume: go on from the last checkpoint in `output_dir`; without one the run starts anew.

    Returns:
        The progress at the end.

    Raises:
        ValueError: if a data set does not fit the processor or the model's labels, if `output_dir` is a file or holds
            another run and `resume` is not set, or if the loss is no longer finite.
    """
    arguments = arguments or LocalizationTrainingArguments()
    output_dir = Path(output_dir)
    if output_dir.is_file():
        raise ValueError(f"{output_dir} is a file; give a folder for the trained model.")
    for name, dataset in (("training", train_set), ("validation", validation_set)):
        check_dataset(f"The {name} set", dataset, model, processor)
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
        step_scheduler_with_optimizer=False,
    )
    if (output_dir / CHECKPOINTS).exists() and not resume:
        raise ValueError(
            f"{output_dir} holds the checkpoints of another run. Resume it, or give another output folder."
        )
    set_seed(arguments.seed)
    crops = TrainingCrops(train_set, processor.feature_grid, arguments.max_steps, arguments.seed)
    num_videos = len(crops)
    loader = DataLoader(
        crops,
        batch_size=arguments.batch_size,
        shuffle=True,
        # As published, but for a set that is smaller than a step.
        drop_last=num_videos >= arguments.batch_size * accelerator.num_processes,
        num_workers=arguments.num_workers,
        collate_fn=EventLocalizationCollator(processor),
    )
    optimizer = torch.optim.AdamW(_parameter_groups(model, arguments.weight_decay), lr=arguments.learning_rate)
    average = exponential_moving_average(model.to(accelerator.device), arguments.ema_decay)
    averaged_model = cast(PreTrainedModel, average.module)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    steps_per_epoch = -(-len(loader) // arguments.gradient_accumulation_steps)
    scheduler = get_cosine_schedule_with_warmup(
        optimizer, arguments.warmup_epochs * steps_per_epoch, arguments.epochs * steps_per_epoch
    )
    scheduler = accelerator.prepare(scheduler)
    progress = TrainingProgress()
    last = _last_checkpoint(output_dir)
    if resume and last is not None:
        try:
            accelerator.load_state(str(last))
            average.load_state_dict(load_file(last / AVERAGE_FILE))
            progress = TrainingProgress(**json.loads((last / PROGRESS_FILE).read_text(encoding="utf-8")))
        except (RuntimeError, OSError, ValueError, TypeError, SafetensorError) as error:
            raise ValueError(
                f"{last} is a checkpoint of another model, or damaged: {str(error).splitlines()[0]} Resume with the "
                "settings the run was started with, or give another output folder."
            ) from error
        logger.info(f"Resumed from {last}.")

    with tqdm(
        total=arguments.epochs * steps_per_epoch,
        initial=progress.epoch * steps_per_epoch,
        desc="Training",
        unit=" steps",
        disable=not accelerator.is_main_process,
    ) as bar:
        while progress.epoch < arguments.epochs:
            crops.epoch = progress.epoch
            loader.set_epoch(progress.epoch)
            record = _train_epoch(
                accelerator, model, optimizer, scheduler, loader, average, arguments.max_grad_norm, bar
            )
            metrics = evaluate_dataset(
                averaged_model, processor, validation_set, accelerator, arguments.eval_batch_size
            )
            progress.epoch += 1
            record = {"epoch": progress.epoch, **record, **{k: v for k, v in metrics.items() if k != "per_class"}}
            progress.log.append(record)
            if metrics["average_map"] > progress.best_map:
                progress.best_map, progress.best_epoch = metrics["average_map"], progress.epoch
                if accelerator.is_main_process:
                    _save_model(averaged_model, processor, output_dir)
            _save_checkpoint(accelerator, output_dir, average, progress, arguments.keep_checkpoints)
            if accelerator.is_main_process:
                _write_log(progress.log, output_dir)
            bar.set_postfix(loss=f"{record['loss']:.3f}", mAP=f"{100 * record['average_map']:.1f}")
    return progress


def _train_epoch(accelerator, model, optimizer, scheduler, loader, average, max_grad_norm, bar) -> dict[str, float]:
    """One pass over the training set; means of the losses, of all processes."""
    model.train()
    sums: dict[str, torch.Tensor] = {}
    for batch in loader:
        with accelerator.accumulate(model):
            outputs = model(**batch)
            if not torch.isfinite(outputs.loss):
                parts = {name: value.item() for name, value in outputs.loss_dict.items()}
                raise ValueError(
                    f"The loss is {outputs.loss.item()} ({parts}). Lower `learning_rate`, or train without fp16."
                )
            accelerator.backward(outputs.loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)
            optimizer.step()
            if accelerator.sync_gradients:
                scheduler.step()
            optimizer.zero_grad()
        for name, value in {"loss": outputs.loss, **outputs.loss_dict}.items():
            sums[name] = sums.get(name, 0) + value.detach()
        if accelerator.sync_gradients:
            average.update_parameters(accelerator.unwrap_model(model))
            bar.update()
    means = {name: value / len(loader) for name, value in sums.items()}
    means = accelerator.reduce(means, reduction="mean")
    return {name: value.item() for name, value in means.items()} | {"learning_rate": scheduler.get_last_lr()[0]}


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay for the weights of linear and convolution layers only, as in UnAV (libs/utils/train_utils.py, 1609deb)."""
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv1d))}
    return [
        {"params": [p for p in model.parameters() if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in model.parameters() if id(p) not in decayed], "weight_decay": 0.0},
    ]


def _last_checkpoint(output_dir: Path) -> Path | None:
    return max((output_dir / CHECKPOINTS).glob("epoch-*"), default=None)


def _save_checkpoint(
    accelerator: Accelerator, output_dir: Path, average: AveragedModel, progress: TrainingProgress, keep: int
) -> None:
    """Write a checkpoint beside its place, rename it when it is whole, and remove the oldest."""
    folder = output_dir / CHECKPOINTS
    partial = folder / f".epoch-{progress.epoch:04d}"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        # Not through Accelerate, which would pickle them and run what a pickle holds when it is read.
        save_file(average.state_dict(), partial / AVERAGE_FILE)
        (partial / PROGRESS_FILE).write_text(json.dumps(asdict(progress)), encoding="utf-8")
        partial.rename(folder / f"epoch-{progress.epoch:04d}")
        for old in sorted(folder.glob("epoch-*"))[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def _save_model(model: PreTrainedModel, processor: EsgNetProcessor, output_dir: Path) -> None:
    """Save a model and its processor; a file of an earlier epoch is replaced in one step, when the new one is whole."""
    output_dir.mkdir(parents=True, exist_ok=True)
    partial = output_dir / f".{uuid.uuid4().hex[:8]}"
    try:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        for path in partial.iterdir():
            path.replace(output_dir / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_log(log: list[dict[str, Any]], output_dir: Path) -> None:
    partial = output_dir / f".{LOG_FILE}"
    partial.write_text("".join(json.dumps(record) + "\n" for record in log), encoding="utf-8")
    partial.replace(output_dir / LOG_FILE)
