"""I3D (arXiv 1705.07750), in the order of its forward pass; layers have the names of the paper's figure 3.

Letters in shapes: B windows, F frames of a window, C channels of a frame, D = 1024 channels of a feature.

Layers and widths are those of google-deepmind/kinetics-i3d, as ported in v-iashin/video_features
(models/i3d/i3d_src/i3d_net.py, commit a2f61b7), which made the features of UnAV-100.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention
from transformers.modeling_utils import PreTrainedModel
from transformers.utils.generic import can_return_tuple

from esg_transformers.models.esg_net.sharing_esg_net import CodeOnPush

from .configuration_i3d import I3dConfig

Size = tuple[int, ...]  # frames, rows, columns
WINDOW: Size = (2, 7, 7)  # of the average pooling before the classifier

# Layers after the stem. Pooling: kernel; the stride is 2 in all dimensions. Mixed blocks: widths of branch 0; branch 1,
# before and after its 3 x 3 x 3 convolution; branch 2, likewise; branch 3.
INCEPTION = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "pool_4a_3x3": (3, 3, 3),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "pool_5a_2x2": (2, 2, 2),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}


def pad_same(hidden_states: Tensor, kernel: Size, stride: Size) -> Tensor:
    """Pad the last three dimensions with zeros, as "SAME" of TensorFlow: `ceil(size / stride)` outputs in each.

    An odd zero goes to the end. The PyTorch ports pad `kernel - stride` for any size (video_features a2f61b7). That is
    the same if the stride divides the size, as in all layers for 24 x 224 x 224, and shifted otherwise.

    >>> pad_same(torch.ones(1, 1, 5, 4, 3), kernel=(1, 3, 3), stride=(1, 2, 2)).shape  # 4 needs 1 zero, 3 needs 2
    torch.Size([1, 1, 5, 5, 5])
    """
    padding: list[int] = []
    for size, width, step in zip(hidden_states.shape[-3:], kernel, stride, strict=True):
        zeros = max((-(-size // step) - 1) * step + width - size, 0)
        padding = [zeros // 2, zeros - zeros // 2, *padding]  # F.pad wants the last dimension first
    return F.pad(hidden_states, padding)


class I3dConv(nn.Module):
    """[convolution, batch norm, ReLU] with "SAME" padding."""

    def __init__(self, config: I3dConfig, in_size: int, out_size: int, width: int = 1, stride: int = 1):
        super().__init__()
        self.kernel, self.stride = (width,) * 3, (stride,) * 3
        self.conv = nn.Conv3d(in_size, out_size, width, stride=stride, bias=False)
        self.norm = nn.BatchNorm3d(out_size, eps=config.batch_norm_eps)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(pad_same(hidden_states, self.kernel, self.stride))))


class I3dMaxPool(nn.Module):
    """Max pooling with "SAME" padding."""

    def __init__(self, kernel: Size, stride: Size):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, hidden_states: Tensor) -> Tensor:
        # The zeros never exceed their neighbours, which are 0 or more after a ReLU.
        return F.max_pool3d(pad_same(hidden_states, self.kernel, self.stride), self.kernel, self.stride)


class I3dMixed(nn.Module):
    """The Inception block: four branches side by side, their channels concatenated."""

    def __init__(self, config: I3dConfig, in_size: int, widths: tuple[int, ...]):
        super().__init__()
        point, reduced_1, wide_1, reduced_2, wide_2, pooled = widths
        self.branch_0 = I3dConv(config, in_size, point)
        self.branch_1 = nn.Sequential(I3dConv(config, in_size, reduced_1), I3dConv(config, reduced_1, wide_1, width=3))
        self.branch_2 = nn.Sequential(I3dConv(config, in_size, reduced_2), I3dConv(config, reduced_2, wide_2, width=3))
        self.branch_3 = nn.Sequential(I3dMaxPool((3, 3, 3), (1, 1, 1)), I3dConv(config, in_size, pooled))
        self.out_size = point + wide_1 + wide_2 + pooled

    def forward(self, hidden_states: Tensor) -> Tensor:
        branches = (self.branch_0, self.branch_1, self.branch_2, self.branch_3)
        return torch.cat([branch(hidden_states) for branch in branches], dim=1)


class I3dModel(PreTrainedModel, CodeOnPush):
    """I3D up to its features, without the classifier."""

    config: I3dConfig
    auto_class = "AutoModel"
    base_model_prefix = "i3d"
    main_input_name = "pixel_values"
    input_modalities = ["video"]
    _can_compile_fullgraph = True

    def __init__(self, config: I3dConfig):
        super().__init__(config)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv_1a_7x7=I3dConv(config, config.num_channels, 64, width=7, stride=2),
            pool_2a_3x3=I3dMaxPool((1, 3, 3), (1, 2, 2)),
            conv_2b_1x1=I3dConv(config, 64, 64),
            conv_2c_3x3=I3dConv(config, 64, 192, width=3),
            pool_3a_3x3=I3dMaxPool((1, 3, 3), (1, 2, 2)),
        )
        size = 192
        for name, sizes in INCEPTION.items():
            if name.startswith("pool"):
                layers[name] = I3dMaxPool(sizes, (2, 2, 2))
            else:
                layers[name] = mixed = I3dMixed(config, size, sizes)
                size = mixed.out_size
        self.layers = nn.Sequential(layers)
        self.post_init()  # type: ignore[no-untyped-call]  # of transformers

    @can_return_tuple  # type: ignore[untyped-decorator]  # of transformers
    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithPoolingAndNoAttention:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(B, F, C, H, W)`):
                Frames in [-1, 1], see [`I3dProcessor`]; 9 frames or more, 193 pixels or more each way.

        Returns:
            `last_hidden_state`, `(B, D, F / 8, H / 32, W / 32)`, divisions rounded up, and `pooler_output`, `(B, D)`,
            the feature of each window.

        Raises:
            ValueError: if the shape of the frames does not fit.
        """
        shape = tuple(pixel_values.shape)
        if len(shape) != 5 or shape[2] != self.config.num_channels or shape[1] < 9 or min(shape[3:]) < 193:
            raise ValueError(
                f"`pixel_values` has shape {shape}; expected (windows, frames, {self.config.num_channels}, height, "
                "width) with 9 frames or more of 193 pixels or more each way, as `I3dProcessor` makes them."
            )
        hidden_states = self.layers(pixel_values.transpose(1, 2))
        # Means of pairs of steps, then of all: both end steps have half the weight, as when the classifier was trained.
        features = F.avg_pool3d(hidden_states, WINDOW, stride=1).mean(dim=(2, 3, 4))
        return BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=hidden_states, pooler_output=features)


__all__ = ["I3dModel"]
