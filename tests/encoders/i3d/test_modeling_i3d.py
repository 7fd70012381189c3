"""Parts of I3D; the tests of the conversion compare its outputs with the public implementations."""

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModel

from esg_transformers import I3dConfig, I3dModel
from esg_transformers.encoders.i3d.modeling_i3d import I3dMaxPool, pad_same

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return I3dModel(I3dConfig()).eval()


def row(*values):
    """A row of pixels of one frame, (1, 1, 1, 1, W)."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, 1, -1)


# TensorFlow's rule: ceil(size / stride) outputs; zeros = (outputs - 1) x stride + kernel - size, the odd one behind.
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "before", "behind"),
    [
        (4, 3, 2, 0, 1),  # 2 outputs, 2 + 3 - 4 = 1 zero
        (5, 3, 2, 1, 1),  # 3 outputs, 4 + 3 - 5 = 2
        (224, 7, 2, 2, 3),  # 112 outputs, 222 + 7 - 224 = 5
        (225, 7, 2, 3, 3),  # 113 outputs, 224 + 7 - 225 = 6
        (3, 2, 2, 0, 1),  # 2 outputs, 2 + 2 - 3 = 1
        (6, 2, 2, 0, 0),
        (9, 3, 1, 1, 1),
        (4, 1, 1, 0, 0),
    ],
)
def test_padding_is_that_of_tensorflow_for_even_and_odd_sizes(size, kernel, stride, before, behind):
    padded = pad_same(torch.ones(1, 1, 1, 1, size), (1, 1, kernel), (1, 1, stride))
    assert padded.flatten().tolist() == [0.0] * before + [1.0] * size + [0.0] * behind


def test_frames_rows_and_columns_are_padded_each_on_their_own():
    padded = pad_same(torch.ones(1, 1, 5, 4, 3), (3, 3, 2), (2, 2, 2))
    assert padded.shape == (1, 1, 7, 5, 4)
    assert torch.equal(padded, F.pad(torch.ones(1, 1, 5, 4, 3), (0, 1, 0, 1, 1, 1)))


@pytest.mark.parametrize(
    ("pixels", "pooled"),
    [
        ((5, 1, 2, 4), (5, 4)),  # [5 1 2], [2 4 0]
        ((5, 1, 2, 4, 3), (5, 4, 4)),  # [0 5 1], [1 2 4], [4 3 0]
    ],
)
def test_max_pooling_begins_where_tensorflow_does(pixels, pooled):
    assert torch.equal(I3dMaxPool((1, 1, 3), (1, 1, 2))(row(*pixels)), row(*pooled))


def test_a_feature_counts_the_steps_at_both_ends_half(model):
    with torch.inference_mode():
        outputs = model(torch.rand(1, 24, 3, 193, 193) * 2 - 1)
    assert outputs.last_hidden_state.shape == (1, 1024, 3, 7, 7)
    first, middle, last = outputs.last_hidden_state.mean(dim=(0, 3, 4)).unbind(1)
    torch.testing.assert_close(outputs.pooler_output[0], first / 4 + middle / 2 + last / 4)


def test_windows_of_a_batch_do_not_see_each_other(model):
    windows = torch.rand(2, 9, 3, 193, 193) * 2 - 1
    with torch.inference_mode():
        together = model(windows).pooler_output
        alone = model(windows[1:]).pooler_output
    torch.testing.assert_close(together[1:], alone)


@pytest.mark.parametrize("shape", [(1, 24, 2, 224, 224), (1, 8, 3, 224, 224), (1, 24, 3, 224, 192), (24, 3, 224, 224)])
def test_frames_that_do_not_fit_are_refused(shape, model):
    with pytest.raises(ValueError, match="9 frames or more of 193 pixels or more"):
        model(torch.zeros(shape))


@pytest.mark.parametrize("given", [{"num_channels": 0}, {"batch_norm_eps": 0.0}, {"num_channels": 3.0}])
def test_a_config_that_cannot_be_built_is_refused(given):
    with pytest.raises(StrictDataclassError):
        I3dConfig(**given)


def test_a_saved_model_is_the_same_after_loading(tmp_path):
    saved = I3dModel(I3dConfig(num_channels=2))
    saved.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is I3dModel
    assert all(torch.equal(tensor, saved.state_dict()[name]) for name, tensor in loaded.state_dict().items())
