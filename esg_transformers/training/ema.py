"""The running average of the weights, which is what is evaluated and saved."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class AveragedWeights:
    """Follows the trained parameters of a model: `average += (1 - decay) * (weight - average)` at each update.

    The first update copies the weights. The decay of update n, counted from 0, is at most `(1 + n) / (10 + n)`, so that
    a short run does not keep its random start; after 9,000 updates 0.999 is 0.999. UnAV uses 0.999 from the first step
    on (libs/utils/train_utils.py, commit 1609deb). Buffers and frozen parameters have no average: they are the model's.

    Args:
        model: the model to follow, as it is trained: prepared by Accelerate, its parameters sharded or whole.
        decay: in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.num_updates = 0
        self._weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._averages = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Follow one step of the optimizer."""
        n = self.num_updates
        decay = min(self.decay, (1 + n) / (10 + n)) if n else 0.0
        torch._foreach_lerp_(self._averages, [weight.detach() for weight in self._weights], 1 - decay)
        self.num_updates += 1

    @torch.no_grad()
    def take(self, num_updates: int) -> None:
        """Take the model's present weights for the average after so many updates: what a checkpoint gives back."""
        for average, weight in zip(self._averages, self._weights, strict=True):
            average.copy_(weight)
        self.num_updates = num_updates

    @contextmanager
    @torch.no_grad()
    def in_place(self) -> Iterator[None]:
        """The model has the averaged weights inside, and its own again after, bit by bit."""
        own = [weight.detach().clone() for weight in self._weights]
        for weight, average in zip(self._weights, self._averages, strict=True):
            weight.copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, kept in zip(self._weights, own, strict=True):
                    weight.copy_(kept)
