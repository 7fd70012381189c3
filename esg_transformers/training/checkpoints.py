"""Checkpoints of a training run: safetensors and JSON, whole or not there, verified before they are used."""

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
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)  # on the main process; nothing on the others


class Checkpoints:
    """The checkpoints of one run, `step-00000012` and so on in one folder.

    A checkpoint holds the weights, their average, the optimizer's state and, as JSON, where the run stands, with the
    size and sha256 of each file. No state of chance is in it: what a step draws follows from the seed and its number.

    Args:
        folder: of the checkpoints; made with the first.
        run: what makes a run the same run, as JSON: a checkpoint of another is not used.
        keep: how many to keep.
        accelerator: that prepared the next two.
        model: as it is trained.
        optimizer: as prepared.
        average: of the model's weights.
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
        self.optimizer = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper hides what torch asks for
        self.last_saved = -1

    def save(self, step: int, progress: Mapping[str, Any]) -> None:
        """Write a checkpoint beside its place, rename it when it is whole, and remove the oldest.

        Raises:
            OSError: if it cannot be written, by a full disk for one; what was there before stays.
        """
        if step == self.last_saved:
            return
        weights = whole_state_dict(self.model)
        with self.average.in_place():
            averages = whole_state_dict(self.model)
        learnt: dict[str, Any] = dict(get_optimizer_state_dict(self.model, self.optimizer, options=WHOLE))
        optimizer = _flat(learnt.get("state", {}))
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
            raise OSError(f"{failure} The one before stays; make room and start again to go on from it.")
        self.last_saved = step

    def resume(self) -> dict[str, Any] | None:
        """Load the last checkpoint that is whole and of this run; None if there are none at all.

        Returns:
            The `progress` it was saved with.

        Raises:
            ValueError: if there are checkpoints, and none can be used: names the last and what is wrong with it.
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
        several = self.accelerator.num_processes > 1
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=several)

        def load(name: str) -> dict[str, Any]:
            return load_file(folder / name) if self.accelerator.is_main_process else {}

        set_model_state_dict(self.model, load(AVERAGE), options=options)
        self.average.take(state["num_updates"])
        set_model_state_dict(self.model, load(WEIGHTS), options=options)
        # The fresh optimizer tells its groups; the file holds what it had learnt.
        learnt: dict[str, Any] = dict(get_optimizer_state_dict(self.model, self.optimizer, options=WHOLE))
        if self.accelerator.is_main_process:
            learnt["state"] = _nested(load(OPTIMIZER))
        set_optimizer_state_dict(self.model, self.optimizer, learnt, options=options)
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.last_saved = state["step"]
        logger.info(f"Going on from {folder}.")
        return state["progress"]

    def _write(self, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".step-*"):  # what a kill left half written
            shutil.rmtree(left)
        place = self.folder / f"step-{step:08d}"
        if place.exists():  # one that was found damaged
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
                logger.warning(f"{problems[-1]} The one before is tried.")
        if problems:
            raise ValueError(
                f"{problems[0]} Of {len(problems)} checkpoints none can be used: give another output folder, or the "
                "settings that the run was started with."
            )
        return None

    def _verified(self, folder: Path) -> dict[str, Any]:
        """What a checkpoint's JSON says, if it is of this run and its files are what was written."""
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        differing = [
            key for key in sorted(self.run.keys() | state["run"].keys()) if self.run.get(key) != state["run"].get(key)
        ]
        if differing:
            told = "; ".join(f"{key} was {state['run'].get(key)} and is {self.run.get(key)}" for key in differing)
            raise ValueError(f"it is of another run: {told}.")
        for name, file in state["files"].items():
            path = folder / name
            if name not in (WEIGHTS, AVERAGE, OPTIMIZER) or not path.is_file():
                raise ValueError(f"its file {name} is missing.")
            if path.stat().st_size != file["size"] or sha256_of(path) != file["sha256"]:
                raise ValueError(f"its file {name} is not what was written: it was truncated, or changed.")
        return state


def whole_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights and buffers of a model in training, unsharded, on the main process's CPU.

    On other processes it is empty, if there are any; all have to call it.
    """
    # On the CPU torch returns the parameters themselves, which go on changing.
    weights: dict[str, Any] = get_model_state_dict(model, options=WHOLE)
    return {name: value.clone() for name, value in weights.items()}


def _flat(states: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """The optimizer's tensors by `name of parameter/name of state`."""
    return {
        f"{parameter}/{key}": torch.as_tensor(value)
        for parameter, state in states.items()
        for key, value in state.items()
    }


def _nested(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The reverse of `_flat`."""
    states: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        parameter, _, key = name.rpartition("/")
        states.setdefault(parameter, {})[key] = value
    return states
