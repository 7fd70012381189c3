import os

import pytest
import torch
from accelerate import Accelerator

from esg_transformers.cli.devices import device_of, use_device

ABSENT = f"cuda:{torch.cuda.device_count()}"  # one more than there are


def test_a_device_is_named_as_torch_names_it_and_none_stays_none():
    assert device_of("cpu") == torch.device("cpu")
    assert device_of(None) is None


@pytest.mark.parametrize("name", [ABSENT, "meta", "gpu", ""])
def test_a_device_that_cannot_compute_here_is_refused_with_those_that_can(name):
    with pytest.raises(ValueError, match=f"--device is '{name}'; torch has cpu"):
        device_of(name)


def test_accelerators_run_on_the_device_and_the_environment_stays(monkeypatch):
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE", raising=False)
    use_device("cpu")
    assert Accelerator().device == torch.device("cpu")
    assert "ACCELERATE_TORCH_DEVICE" not in os.environ
    use_device(None)


def test_a_device_is_refused_where_accelerate_gives_each_process_one(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="--device is 'cpu', but Accelerate assigns"):
        use_device("cpu")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--corpus", "c", "--output", "o"],
        ["finetune", "--model", "m", "--corpus", "c", "--output", "o"],
        ["evaluate", "--model", "m", "--corpus", "c"],
        ["localize", "--model", "m", "--corpus", "c"],
        ["demo", "--output", "o"],
    ],
)
def test_a_device_that_is_not_there_is_refused_before_the_work(refused, words):
    assert refused(*words, "--device", ABSENT).startswith(f"--device is '{ABSENT}'; torch has cpu")
