import pytest
import torch
from torch import nn

from esg_transformers.training.ema import AveragedWeights


def averages(decay, weights):
    """The average of a layer's only weight after each update, and what it follows."""
    layer = nn.Linear(1, 1, bias=False)
    average = AveragedWeights(layer, decay)
    values = []
    for weight in weights:
        nn.init.constant_(layer.weight, weight)
        average.update()
        with average.in_place():
            values.append(layer.weight.item())
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
    nn.init.constant_(layer.weight, 0.0)
    average = AveragedWeights(layer, 0.999)
    average.take(9000)  # 9001 / 9010 is just above 0.999
    nn.init.constant_(layer.weight, 1.0)
    average.update()
    with average.in_place():
        assert layer.weight.item() == pytest.approx(0.001)


def test_the_model_has_its_own_weights_again_bit_by_bit_even_after_an_error():
    layer = nn.Linear(3, 2)
    average = AveragedWeights(layer, 0.5)
    nn.init.normal_(layer.weight)
    own = layer.weight.detach().clone()
    with pytest.raises(KeyError), average.in_place():
        assert not torch.equal(layer.weight, own)
        raise KeyError
    assert torch.equal(layer.weight, own)


def test_frozen_parameters_and_buffers_are_those_of_the_model():
    layer = nn.BatchNorm1d(2)
    layer.bias.requires_grad_(False)
    average = AveragedWeights(layer, 0.9)
    layer.running_mean.fill_(5.0)
    layer.bias.fill_(3.0)
    nn.init.constant_(layer.weight, 7.0)
    with average.in_place():
        assert layer.weight.tolist() == [1.0, 1.0]
        assert (layer.bias.tolist(), layer.running_mean.tolist()) == ([3.0, 3.0], [5.0, 5.0])
