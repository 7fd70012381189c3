import pytest
import torch
from torch import nn

from esg_transformers.training.ema import exponential_moving_average


def averages(decay, weights):
    """The average of a layer's only weight after each update, and what it follows."""
    layer = nn.Linear(1, 1, bias=False)
    average = exponential_moving_average(layer, decay)
    values = []
    for weight in weights:
        nn.init.constant_(layer.weight, weight)
        average.update_parameters(layer)
        values.append(average.module.weight.item())
    return values


def test_the_average_of_a_short_run_does_not_keep_its_start():
    # The first update copies. Then the decay is (1 + n) / (10 + n) = 2/11, 3/12:
    # 2/11 * 4 + 9/11 * 15 = 13; 1/4 * 13 + 3/4 * 17 = 16.
    assert averages(0.999, [4.0, 15.0, 17.0]) == pytest.approx([4.0, 13.0, 16.0])


def test_the_decay_is_never_above_the_one_asked_for():
    # 0.1 is below 2/11: 0.1 * 4 + 0.9 * 14 = 13; 0.1 * 13 + 0.9 * 13 = 13.
    assert averages(0.1, [4.0, 14.0, 13.0]) == pytest.approx([4.0, 13.0, 13.0])
    assert averages(0.0, [4.0, 14.0, 13.0]) == [4.0, 14.0, 13.0]


def test_a_long_run_ends_at_the_decay_asked_for():
    layer = nn.Linear(1, 1, bias=False)
    average = exponential_moving_average(layer, 0.999)
    nn.init.constant_(average.module.weight, 0.0)
    nn.init.constant_(layer.weight, 1.0)
    average.n_averaged.fill_(9000)  # 9001 / 9010 is just above 0.999
    average.update_parameters(layer)
    assert average.module.weight.item() == pytest.approx(0.001)


def test_buffers_are_copied_and_the_average_is_not_trained():
    layer = nn.BatchNorm1d(2)
    average = exponential_moving_average(layer, 0.9)
    layer.running_mean.fill_(5.0)
    average.update_parameters(layer)
    average.update_parameters(layer)
    torch.testing.assert_close(average.module.running_mean, torch.tensor([5.0, 5.0]))
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in layer.parameters())
