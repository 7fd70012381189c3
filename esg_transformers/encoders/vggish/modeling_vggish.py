"""VGGish (arXiv 1609.09430): from a log-mel patch of 0.96 s to a feature.

Layers are those of torchvggish (torchvggish/vggish.py, commit f3f9096), the PyTorch port of TensorFlow's
research/audioset/vggish. A feature is the output of the last ReLU, not the PCA-whitened 8-bit embedding of AudioSet and
YouTube-8M. v-iashin/video_features, which made the features of UnAV-100 (github.com/ttgeng233/UnAV/issues/7), contains
that last step but does not apply it (models/vggish/vggish_src/vggish_slim.py, commit a2f61b7).
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention
from transformers.modeling_utils import PreTrainedModel
from transformers.utils.generic import can_return_tuple

from esg_transformers.models.esg_net.sharing_esg_net import CodeOnPush

from .configuration_vggish import VggishConfig

PATCH = (96, 64)  # spectra of 10 ms, mel bands
BLOCKS = ((1, 64), (64, 128), (128, 256, 256), (256, 512, 512))  # channels into, between and out of the convolutions


class VggishBlock(nn.Module):
    """One or two convolutions with ReLU, then max pooling: (B, X, H, W) -> (B, X', H / 2, W / 2)."""

    def __init__(self, sizes: tuple[int, ...]):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(in_size, out_size, 3, padding=1) for in_size, out_size in pairwise(sizes))

    def forward(self, hidden_states: Tensor) -> Tensor:
        for conv in self.convs:
            hidden_states = F.relu(conv(hidden_states))
        return F.max_pool2d(hidden_states, 2)


class VggishModel(PreTrainedModel, CodeOnPush):
    """VGGish up to its features."""

    config: VggishConfig
    auto_class = "AutoModel"
    base_model_prefix = "vggish"
    main_input_name = "input_features"
    input_modalities = ["audio"]
    _can_compile_fullgraph = True

    def __init__(self, config: VggishConfig):
        super().__init__(config)
        self.blocks = nn.Sequential(*(VggishBlock(sizes) for sizes in BLOCKS))
        sizes = (512 * 6 * 4, config.intermediate_size, config.intermediate_size, config.hidden_size)
        self.dense = nn.ModuleList(nn.Linear(in_size, out_size) for in_size, out_size in pairwise(sizes))
        self.post_init()  # type: ignore[no-untyped-call]  # of transformers

    @can_return_tuple  # type: ignore[untyped-decorator]  # of transformers
    def forward(self, input_features: Tensor) -> BaseModelOutputWithPoolingAndNoAttention:
        """
        Args:
            input_features (`torch.FloatTensor` of shape `(B, 96, 64)`):
                Log-mel patches, see [`VggishProcessor`].

        Returns:
            `last_hidden_state`, `(B, 512, 6, 4)`, and `pooler_output`, `(B, hidden_size)`, 0 or more, the feature of
            each patch.

        Raises:
            ValueError: if the patches have another shape.
        """
        if input_features.dim() != 3 or tuple(input_features.shape[1:]) != PATCH:
            raise ValueError(
                f"`input_features` has shape {tuple(input_features.shape)}; expected (patches, 96, 64), as "
                "`VggishProcessor` makes them."
            )
        hidden_states = self.blocks(input_features[:, None])
        features = hidden_states.permute(0, 2, 3, 1).flatten(1)  # channels last, as TensorFlow flattens
        for layer in self.dense:
            features = F.relu(layer(features))
        return BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=hidden_states, pooler_output=features)


__all__ = ["VggishModel"]
