"""Shapes and loading of VGGish; the tests of the conversion compare its outputs with the public implementation."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModel

from esg_transformers import VggishConfig, VggishModel


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VggishModel(VggishConfig(intermediate_size=16, hidden_size=8)).eval()


def test_each_patch_gives_a_feature_of_its_own_that_is_not_negative(model):
    patches = torch.randn(3, 96, 64)
    with torch.inference_mode():
        outputs = model(patches)
        alone = model(patches[1:2])
    assert outputs.last_hidden_state.shape == (3, 512, 6, 4)
    assert outputs.pooler_output.shape == (3, 8)
    assert outputs.pooler_output.min() >= 0
    torch.testing.assert_close(outputs.pooler_output[1:2], alone.pooler_output)


def test_the_published_sizes_are_the_defaults():
    with torch.device("meta"):
        published = VggishModel(VggishConfig())
    # 4.5 M in the convolutions; 12288 x 4096 + 4096 x 4096 + 4096 x 128 and biases behind them
    assert sum(parameter.numel() for parameter in published.parameters()) == 72_141_184


@pytest.mark.parametrize("shape", [(3, 64, 96), (96, 64), (3, 1, 96, 64)])
def test_patches_of_another_shape_are_refused(shape, model):
    with pytest.raises(ValueError, match=r"expected \(patches, 96, 64\)"):
        model(torch.zeros(shape))


@pytest.mark.parametrize("given", [{"hidden_size": 0}, {"intermediate_size": -1}, {"hidden_size": "128"}])
def test_a_config_that_cannot_be_built_is_refused(given):
    with pytest.raises(StrictDataclassError):
        VggishConfig(**given)


def test_a_saved_model_is_the_same_after_loading(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is VggishModel
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())
