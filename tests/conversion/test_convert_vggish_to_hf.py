"""The conversion of VGGish, from the names and shapes of torchvggish to the outputs it gives.

tests/encoders/fixtures/README.md describes how the reference was made.
"""

import os
import re
from pathlib import Path

import convert_vggish_to_hf as script
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from esg_transformers import VggishModel, VggishProcessor

pytestmark = pytest.mark.slow  # the network has 72 million parameters, whatever is tested

ROOT = Path(__file__).parents[2]

REFERENCE = np.load(ROOT / "tests" / "encoders" / "fixtures" / "vggish.npz", allow_pickle=False)


@pytest.fixture(scope="module")
def weights():
    """The weights of the reference."""
    random = np.random.default_rng(0)
    tensors = {}
    for name, sizes in zip(REFERENCE["names"], REFERENCE["shapes"], strict=True):
        shape = tuple(map(int, sizes.split(",")))
        tensors[str(name)] = torch.from_numpy(
            random.normal(0, (2 / max(np.prod(shape[1:]), 200)) ** 0.5, shape)
        ).float()
    return tensors


@pytest.fixture(scope="module")
def converted(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vggish")
    torch.save(weights, folder / "vggish.pth")
    assert script.main([str(folder / "vggish.pth"), str(folder / "vggish"), "--verify"]) == 0
    return folder / "vggish"


def test_features_are_those_of_torchvggish(converted):
    model, processor = VggishModel.from_pretrained(converted), VggishProcessor.from_pretrained(converted)
    waveform = np.random.default_rng(2).uniform(-1, 1, 40_000) * np.linspace(0, 1, 40_000)
    with torch.inference_mode():
        features = model(**processor(waveform, 16_000)).pooler_output
    np.testing.assert_allclose(features, REFERENCE["features"], atol=1e-4)


def test_every_number_is_in_the_model_once(weights, converted):
    def numbers(tensors):
        return torch.cat([tensor.flatten() for tensor in tensors.values()]).sort().values

    assert torch.equal(numbers(load_file(converted / "model.safetensors")), numbers(weights))


def test_the_example_of_the_model_card_runs(converted, monkeypatch):
    card = (converted / "README.md").read_text()
    monkeypatch.chdir(converted.parent)
    names = {}
    example = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    exec(example.replace("model(**processor(", "outputs = model(**processor(").replace(".pooler_output", ""), names)
    assert names["outputs"].pooler_output.shape == (4, 128)  # (32000 - 15600) // 5120 + 1 patches


def test_the_pca_of_a_whole_torchvggish_is_not_dropped_silently(weights, tmp_path, capsys):
    torch.save(weights | {"pproc.pca_means": torch.zeros(128, 1)}, tmp_path / "vggish.pth")
    assert script.main([str(tmp_path / "vggish.pth"), str(tmp_path / "model")]) == 1
    assert "unknown `pproc.pca_means`" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_file_that_holds_something_else_is_refused(tmp_path, capsys):
    torch.save({"embeddings.0.bias": torch.zeros(4)}, tmp_path / "vggish.pth")
    assert script.main([str(tmp_path / "vggish.pth"), str(tmp_path / "model")]) == 1
    assert "embeddings.4.bias" in capsys.readouterr().err


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    torch.save({"embeddings.0.bias": Malicious(str(tmp_path / "harm"))}, tmp_path / "vggish.pth")
    assert script.main([str(tmp_path / "vggish.pth"), str(tmp_path / "model")]) == 1
    assert "code, which is not run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["vggish.pth"]
