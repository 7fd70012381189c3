"""The device of `--device`, for torch and for Accelerate."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import PartialState


def device_of(name: str | None) -> torch.device | None:
    """Device of a name such as "cpu" or "cuda:1"; None for None.

    Raises:
        ValueError: if torch cannot compute on it here.

    >>> device_of("cpu")
    device(type='cpu')
    """
    if name is None:
        return None
    try:
        device = torch.device(name)
        torch.empty(
            1, device=device
        ).tolist()  # fails on a device that is not there, and on "meta", which holds no data
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device is {name!r}; torch has {', '.join(_devices())} here.") from error
    return device


def _devices() -> list[str]:
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        return ["cpu"]
    return ["cpu", *(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count()))]


def use_device(name: str | None) -> None:
    """Make every `Accelerator` of this process use a device.

    Args:
        name: as `--device` gives it; None leaves the choice to Accelerate.

    Raises:
        ValueError: if torch cannot compute on it here, if this is one of several processes, to which Accelerate assigns
            devices, or if Accelerate uses another device in this process already.
    """
    device = device_of(name)
    if device is None:
        return
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError(
            f"--device is {name!r}, but Accelerate assigns a device to each of several processes. Leave the option out."
        )
    if device.index is not None:
        torch.accelerator.set_device_index(device.index)
    # PartialState holds the device of every Accelerator; the first one of a process reads this variable.
    with _environment("ACCELERATE_TORCH_DEVICE", str(device)):
        chosen = PartialState().device
    if chosen != device:
        raise ValueError(f"--device is {name!r}, but Accelerate uses {chosen} in this process already.")


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
