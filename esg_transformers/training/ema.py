"""Running average of the weights; evaluated and saved in place of the weights themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class AveragedWeights:
    """Exponential moving average of the trained parameters: `average += (1 - decay) * (weight - average)`.

    The first update copies the weights. The decay of update n, from 0 on, is at most `(1 + n) / (10 + n)`, so that the
    random start of a short run is forgotten; a decay of 0.999 is reached after 9,000 updates. UnAV uses 0.999 from the
    first step on (libs/utils/train_utils.py, commit 1609deb). Buffers and frozen parameters are not averaged.

    Args:
        model: the model in training, prepared by Accelerate; its parameters may be sharded.
        decay: in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.num_updates = 0
        self._weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._averages = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Update the average after an optimizer step."""
        n = self.num_updates
        decay = min(self.decay, (1 + n) / (10 + n)) if n else 0.0
        torch._foreach_lerp_(self._averages, [weight.detach() for weight in self._weights], 1 - decay)
        self.num_updates += 1

    @torch.no_grad()
    def take(self, num_updates: int) -> None:
        """Set the average to the model's current weights, as after `num_updates` updates; used to resume."""
        for average, weight in zip(self._averages, self._weights, strict=True):
            average.copy_(weight)
        self.num_updates = num_updates

    @contextmanager
    @torch.no_grad()
    def in_place(self) -> Iterator[None]:
        """Context manager: averaged weights inside, original weights restored on exit, bit by bit."""
        own = [weight.detach().clone() for weight in self._weights]
        for weight, average in zip(self._weights, self._averages, strict=True):
            weight.copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, kept in zip(self._weights, own, strict=True):
                    weight.copy_(kept)
