"""The running average of the weights, which is what is evaluated and saved."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def exponential_moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of a model whose weights follow it: `average += (1 - decay) * (weight - average)` at each update.

    The decay of update n is at most `(1 + n) / (10 + n)`, so that a short run does not keep its random start; after
    9,000 updates 0.999 is 0.999. UnAV uses 0.999 from the first step on (libs/utils/train_utils.py, commit 1609deb).

    Args:
        model: the model to follow, not wrapped for distribution.
        decay: in [0, 1).

    Returns:
        The average; `.module` is the model to evaluate, `.update_parameters(model)` follows one step. Buffers are
        copied.
    """

    def follow(averages: Tensors, weights: Tensors, num_updates: Tensor | int) -> None:
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + float(num_updates)) / (10 + float(num_updates))))

    average = AveragedModel(model, multi_avg_fn=follow)
    average.requires_grad_(False)
    return average
