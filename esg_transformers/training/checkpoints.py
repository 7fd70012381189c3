"""Checkpoints of a training run: safetensors and JSON, complete or absent, verified before use."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from transformers.utils import logging

from esg_transformers.files import new_folder, sha256_of
from esg_transformers.training.ema import AveragedWeights

logger = logging.get_logger(__name__)

WEIGHTS, AVERAGE, OPTIMIZER, STATE = "model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json"
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)  # on the main process; empty on the others


class Checkpoints:
    """The checkpoints of one run: `step-00000012` and so on in one folder.

    A checkpoint holds the weights, their average, the optimizer's state and, as JSON, the progress of the run with the
    size and sha256 of each file. It holds no state of random generators: the random numbers of a step follow from the
    seed and the number of the step.

    Args:
        folder: folder of the checkpoints; created with the first.
        run: settings that identify the run, of types that JSON has; checkpoints with other settings are not used.
        keep: number of checkpoints to keep.
        accelerator: the one that prepared `model` and `optimizer`.
        model: the prepared model.
        optimizer: the prepared optimizer.
        average: running average of the model's weights.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, Any],
        keep: int,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: AveragedWeights,
    ):
        self.folder, self.run, self.keep = folder, json.loads(json.dumps(run)), keep
        self.accelerator, self.model, self.average = accelerator, model, average
        self.optimizer = getattr(optimizer, "optimizer", optimizer)  # torch does not take Accelerate's wrapper
        self.last_saved = -1

    def save(self, step: int, progress: Mapping[str, Any]) -> None:
        """Write a checkpoint to a temporary folder, rename it when it is complete, and remove the oldest ones.

        Raises:
            OSError: if it cannot be written, e.g. because the disk is full; earlier checkpoints stay.
        """
        if step == self.last_saved:
            return
        weights = whole_state_dict(self.model)
        with self.average.in_place():
            averages = whole_state_dict(self.model)
        optimizer_state: dict[str, Any] = dict(get_optimizer_state_dict(self.model, self.optimizer, options=WHOLE))
        optimizer = _flat(optimizer_state.get("state", {}))
        failure = None
        if self.accelerator.is_main_process:
            state = {"step": step, "num_updates": self.average.num_updates, "progress": progress, "run": self.run}
            if self.accelerator.scaler is not None:
                state["scaler"] = self.accelerator.scaler.state_dict()
            try:
                self._write(step, {WEIGHTS: weights, AVERAGE: averages, OPTIMIZER: optimizer}, state)
            except (OSError, SafetensorError) as error:
                failure = f"The checkpoint of step {step} cannot be written to {self.folder}: {error}."
        failure = broadcast_object_list([failure])[0]
        if failure:
            raise OSError(f"{failure} The one before stays; free some space and run again to resume from it.")
        self.last_saved = step

    def resume(self) -> dict[str, Any] | None:
        """Load the last checkpoint that is undamaged and of this run.

        Returns:
            The `progress` that it was saved with; None if there are no checkpoints.

        Raises:
            ValueError: if there are checkpoints, but none can be used; names the last one and its fault.
        """
        found: list[Any] = [None, None]
        if self.accelerator.is_main_process:
            try:
                found[0] = self._last_usable()
            except ValueError as error:
                found[1] = str(error)
        path, refusal = broadcast_object_list(found)
        if refusal:
            raise ValueError(refusal)
        if path is None:
            return None
        folder, state = path
        self._load(folder, state)
        self.last_saved = state["step"]
        logger.info(f"Training resumes from {folder}.")
        progress: dict[str, Any] = state["progress"]
        return progress

    def _load(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Set weights, average, optimizer and gradient scaler to those of a checkpoint."""
        several = self.accelerator.num_processes > 1
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=several)

        def load(name: str) -> dict[str, Any]:
            return load_file(folder / name) if self.accelerator.is_main_process else {}

        set_model_state_dict(self.model, load(AVERAGE), options=options)
        self.average.take(state["num_updates"])
        set_model_state_dict(self.model, load(WEIGHTS), options=options)
        # Parameter groups come from the new optimizer, the state of each parameter from the file.
        optimizer: dict[str, Any] = dict(get_optimizer_state_dict(self.model, self.optimizer, options=WHOLE))
        if self.accelerator.is_main_process:
            optimizer["state"] = _nested(load(OPTIMIZER))
        set_optimizer_state_dict(self.model, self.optimizer, optimizer, options=options)
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _write(self, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".step-*"):  # incomplete, left by a process that was killed
            shutil.rmtree(left)
        place = self.folder / f"step-{step:08d}"
        if place.exists():  # damaged
            shutil.rmtree(place)
        with new_folder(place) as partial:
            state["files"] = {}
            for name, content in tensors.items():
                save_file({key: value.contiguous() for key, value in content.items()}, partial / name)
                state["files"][name] = {"size": (partial / name).stat().st_size, "sha256": sha256_of(partial / name)}
            (partial / STATE).write_text(json.dumps(state), encoding="utf-8")
            for path in partial.iterdir():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        for old in sorted(self.folder.glob("step-*"))[: -self.keep]:
            shutil.rmtree(old)

    def _last_usable(self) -> tuple[Path, dict[str, Any]] | None:
        problems = []
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                return folder, self._verified(folder)
            except (OSError, ValueError, KeyError, TypeError) as error:
                message = str(error) if isinstance(error, (OSError, ValueError)) else f"its {STATE} lacks {error}."
                problems.append(f"{folder} cannot be used: {message}")
                logger.warning(f"{problems[-1]} Trying the one before.")
        if problems:
            raise ValueError(
                f"{problems[0]} Of {len(problems)} checkpoints none can be used. Give another output folder, or the "
                "settings that the run was started with."
            )
        return None

    def _verified(self, folder: Path) -> dict[str, Any]:
        """State of a checkpoint, from its JSON file.

        Raises:
            ValueError: if it is of another run, or a file is missing or changed.
        """
        state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        differing = [
            key for key in sorted(self.run.keys() | state["run"].keys()) if self.run.get(key) != state["run"].get(key)
        ]
        if differing:
            changes = "; ".join(f"{key} was {state['run'].get(key)} and is {self.run.get(key)}" for key in differing)
            raise ValueError(f"it is of another run: {changes}.")
        for name, file in state["files"].items():
            path = folder / name
            if name not in (WEIGHTS, AVERAGE, OPTIMIZER) or not path.is_file():
                raise ValueError(f"its file {name} is missing.")
            if path.stat().st_size != file["size"] or sha256_of(path) != file["sha256"]:
                raise ValueError(f"its file {name} was truncated or changed after it was written.")
        return state


def whole_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Copy of the weights and buffers of a model in training, unsharded, on the CPU of the main process.

    All processes must call it; on the others it is empty.
    """
    # On the CPU torch returns the parameters themselves, which training changes.
    weights: dict[str, Any] = get_model_state_dict(model, options=WHOLE)
    return {name: value.clone() for name, value in weights.items()}


def _flat(states: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """Tensors of the optimizer's state by `parameter/key`."""
    return {
        f"{parameter}/{key}": torch.as_tensor(value)
        for parameter, state in states.items()
        for key, value in state.items()
    }


def _nested(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Inverse of `_flat`."""
    states: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        parameter, _, key = name.rpartition("/")
        states.setdefault(parameter, {})[key] = value
    return states
