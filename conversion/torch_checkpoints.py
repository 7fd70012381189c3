"""Reading `.pth.tar` checkpoints of the UnAV code family without running code in them, and fitting them to a model.

The family (UnAV, CCNet and others) saves `{"epoch", "state_dict", "state_dict_ema"}`, where every key of both state
dicts begins with `module.` (train.py, github.com/ttgeng233/UnAV, commit 1609deb).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from heapq import nlargest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Regular expressions and their replacements, applied to a key in this order.
Renames = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]

# The one tensor of the models that the family does not save, the running count of positive points.
NOT_IN_CHECKPOINT = {"loss_normalizer"}


def load_checkpoint(source: Path, averaged: bool) -> tuple[dict[str, Tensor], int | None]:
    """Weights of a `.pth.tar` file by name, and its epoch, or `None` if it has none.

    Args:
        source: the file.
        averaged: the moving average of the weights (`state_dict_ema`), or the raw ones (`state_dict`).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a checkpoint of the family, or cannot be loaded without running code.
    """
    checkpoint = load_without_code(source)
    name = "state_dict_ema" if averaged else "state_dict"
    weights = checkpoint.get(name) if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
    ):
        found = sorted(map(str, checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise ValueError(
            f"{source} has no tensors under {name!r}; it holds {found}. A checkpoint of the UnAV code family holds "
            "'epoch', 'state_dict' (raw weights) and 'state_dict_ema' (averaged ones)."
        )
    epoch = checkpoint.get("epoch")
    return weights, epoch if isinstance(epoch, int) else None


def load_without_code(source: Path) -> Any:
    """Content of a file of `torch.save` that holds only tensors and plain values; no code in it is run.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds anything else, or is broken.
    """
    if not source.is_file():
        raise FileNotFoundError(f"No checkpoint at {source}.")
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can raise any error in torch.load
        raise ValueError(
            f"{source} cannot be read as a PyTorch checkpoint of tensors and plain values: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'} "
            "It may be truncated (download it again) or hold code, which is not run."
        ) from error


def renamed(keys: Iterable[str], renames: Renames) -> dict[str, str]:
    """Keys of a checkpoint by their new names; a key that no rule matches keeps its name.

    Raises:
        ValueError: if two keys get the same name.

    >>> renamed(["module.head.scale.0.scale"], [(r"^module\\.", ""), (r"scale\\.(\\d+)\\.scale$", r"scale.\\1")])
    {'head.scale.0': 'module.head.scale.0.scale'}
    """
    keys_by_name: dict[str, str] = {}
    for key in keys:
        name = key
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        if name in keys_by_name:
            raise ValueError(f"The checkpoint holds `{name}` twice, as `{keys_by_name[name]}` and as `{key}`.")
        keys_by_name[name] = key
    return keys_by_name


def fit(weights: Mapping[str, Tensor], keys: Mapping[str, str], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a checkpoint with the names, shapes and types of a model's tensors.

    All tensors of the checkpoint are used, and all of the model are filled except `NOT_IN_CHECKPOINT`. The family keeps
    (batch, channels, steps), so a tensor that is (512,) or (512, 512) here has a shape such as (1, 512, 1) or
    (512, 512, 1) there: only dimensions of size 1 may differ.

    Args:
        weights: tensors of the checkpoint.
        keys: its keys by their new names; see `renamed`.
        targets: tensors of the model; only their shapes and types matter.

    Raises:
        ValueError: with a line for each tensor that is unknown, missing or of another shape, and the most similar names
            of its shape.
    """
    unknown = {name: weights[key] for name, key in keys.items() if name not in targets}
    missing = {name: target for name, target in targets.items() if name not in keys.keys() | NOT_IN_CHECKPOINT}
    problems = []
    for kind, left, others in (("unknown", unknown, missing), ("missing", missing, unknown)):
        for name, tensor in left.items():
            nearest = [f"`{keys.get(other, other)}`" for other in _nearest(name, tensor, others)]
            shown = f"{kind} `{keys.get(name, name)}` {tuple(tensor.shape)}"
            problems.append(f"{shown}, nearest of this shape: {', '.join(nearest) or 'none'}")
    problems += [
        f"`{keys[name]}` has shape {tuple(weights[keys[name]].shape)} for {tuple(target.shape)}"
        for name, target in targets.items()
        if name in keys and _without_ones(weights[keys[name]]) != _without_ones(target)
    ]
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise ValueError(
            f"The checkpoint does not fit the model; nothing was written. {len(problems)} tensors:{listed}"
        )
    return {name: weights[key].reshape(targets[name].shape).to(targets[name].dtype) for name, key in keys.items()}


def _nearest(name: str, tensor: Tensor, others: Mapping[str, Tensor]) -> list[str]:
    """Names most similar to `name` among the tensors of its shape."""
    parts = set(re.split(r"[._]", name))
    of_its_shape = [other for other, its in others.items() if _without_ones(its) == _without_ones(tensor)]
    # First by common parts: comparing all names with each other letter by letter takes a minute.
    alike = nlargest(8, of_its_shape, key=lambda other: len(parts.intersection(re.split(r"[._]", other))))
    return get_close_matches(name, alike, n=3, cutoff=0.0)


def _without_ones(tensor: Tensor) -> list[int]:
    return [size for size in tensor.shape if size != 1]
