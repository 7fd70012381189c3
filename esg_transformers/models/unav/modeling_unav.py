"""UnAV (Geng et al., CVPR 2023, arXiv 2303.12930), the published baseline, in the order of its forward pass.

With a converted checkpoint (conversion/convert_unav_to_hf.py) the outputs are those of the authors' code
(github.com/ttgeng233/UnAV, commit 1609deb) for one video at a time. Here the outputs of a video do not depend on the
rest of its batch; in the authors' code the dependency block mixes up the masks of videos of unequal lengths.

The letters of the shapes: B videos, T steps, P points on all pyramid levels, C classes, D hidden size, E channels of a
class in the dependency block.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import PreTrainedModel
from transformers.utils.generic import can_return_tuple

from esg_transformers.models.esg_net.checks_esg_net import check_feature_shapes, check_labels
from esg_transformers.models.esg_net.layers_esg_net import DropPath, attend, attention_mask_for
from esg_transformers.models.esg_net.loss_esg_net import localization_loss
from esg_transformers.models.esg_net.outputs_esg_net import EventLocalizationOutput
from esg_transformers.models.esg_net.segments_esg_net import TemporalPoints
from esg_transformers.models.esg_net.sharing_esg_net import TASK, CodeOnPush

from .configuration_unav import UnavConfig

# ---------------------------------------------------------------------------------------------------------------
# padding


class UnavMask(NamedTuple):
    """Masks of the real steps of a sequence and of its frame, the steps to which UnAV pads it.

    UnAV pads a video to `max_seq_len` steps, and a longer one to the next multiple of the coarsest stride. On padded
    steps inside the frame, convolutions read the bias of LayerNorm; beyond the frame they read 0. So the frame has to
    be known, although only one padded step after the last real step has to be computed.

    Args:
        real (`Tensor` of shape `(B, T)`, bool): real steps.
        frame (`Tensor` of shape `(B, T)`, bool): steps inside the frame.
    """

    real: Tensor
    frame: Tensor

    def every(self, stride: int) -> "UnavMask":
        """The mask of every `stride`-th step."""
        return UnavMask(self.real[:, ::stride], self.frame[:, ::stride])


def zero_outside(steps: Tensor, hidden_states: Tensor) -> Tensor:
    """`hidden_states` (B, T, X) where `steps` (B, T) is true, 0 elsewhere."""
    return hidden_states.masked_fill(~steps[..., None], 0.0)


def frame_length(num_steps: Tensor, max_seq_len: int, coarsest_stride: int) -> Tensor:
    """Steps to which UnAV pads a video of `num_steps` (libs/modeling/multimodal_meta_archs.py, commit 1609deb).

    >>> frame_length(torch.tensor([100, 224, 225]), max_seq_len=224, coarsest_stride=32)
    tensor([224, 224, 256])
    """
    return ((num_steps + coarsest_stride - 1) // coarsest_stride * coarsest_stride).clamp(min=max_seq_len)


def sinusoid_positions(frame: Tensor, num_steps: int, max_seq_len: int, hidden_size: int) -> Tensor:
    """Position of each step, `(B, num_steps, hidden_size)`, from a table of sines and cosines.

    Row `t` of the table holds, alternating, sin and cos of `t / 10000 ** (2 i / hidden_size)`, divided by the square
    root of `hidden_size`. For a frame longer than `max_seq_len` the table is interpolated linearly, as by
    `F.interpolate(..., align_corners=False)` (libs/modeling/multimodal_backbones.py, UnAV commit 1609deb). There all
    videos of a batch share a frame; here each video has its own.

    Args:
        frame (`Tensor` of shape `(B,)`): lengths of the frames, see `frame_length`.
        num_steps (`int`): steps to give positions for.
        max_seq_len (`int`): rows of the table.
        hidden_size (`int`): even.
    """
    rows = torch.arange(max_seq_len, device=frame.device, dtype=torch.float32)
    pairs = torch.arange(0, hidden_size, 2, device=frame.device, dtype=torch.float32)
    angles = rows[:, None] * 10000 ** (-pairs / hidden_size)
    table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1) / hidden_size**0.5  # (max_seq_len, D)

    steps = torch.arange(num_steps, device=frame.device, dtype=torch.float32)
    row = ((steps + 0.5) * (max_seq_len / frame[:, None]) - 0.5).clamp(0, max_seq_len - 1)  # (B, num_steps)
    above = row.long()
    below = (above + 1).clamp(max=max_seq_len - 1)
    return table[above].lerp(table[below], (row - above)[..., None])


# ---------------------------------------------------------------------------------------------------------------
# building blocks


class UnavMaskedConv(nn.Module):
    """Convolution over time, 0 on padded steps of its output: (B, T, X) -> (B, T / stride, X')."""

    def __init__(self, in_size: int, out_size: int, stride: int = 1, groups: int = 1, bias: bool = False):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv1d(in_size, out_size, 3, stride=stride, padding=1, groups=groups, bias=bias)

    def forward(self, hidden_states: Tensor, mask: UnavMask) -> Tensor:
        hidden_states = zero_outside(mask.frame, hidden_states)
        hidden_states = self.conv(hidden_states.transpose(1, 2)).transpose(1, 2)
        return zero_outside(mask.every(self.stride).real, hidden_states)


class UnavConvLayer(nn.Module):
    """[masked convolution, LayerNorm, ReLU]: the layer of the embeddings and of the heads."""

    def __init__(self, in_size: int, out_size: int):
        super().__init__()
        self.conv = UnavMaskedConv(in_size, out_size)
        self.norm = nn.LayerNorm(out_size)

    def forward(self, hidden_states: Tensor, mask: UnavMask) -> Tensor:
        return F.relu(self.norm(self.conv(hidden_states, mask)))


class UnavScaledDropPath(nn.Module):
    """Residual branch times a learned scale per channel (LayerScale), skipped at random in training."""

    def __init__(self, size: int, rate: float):
        super().__init__()
        self.scale = nn.Parameter(torch.empty(size))
        self.drop_path = DropPath(rate)

    def forward(self, branch: Tensor) -> Tensor:
        return self.drop_path(self.scale * branch)


class UnavProjection(nn.Module):
    """[depthwise masked convolution, LayerNorm, linear]: projection to queries, keys or values."""

    def __init__(self, size: int, stride: int):
        super().__init__()
        self.conv = UnavMaskedConv(size, size, stride, groups=size)
        self.norm = nn.LayerNorm(size)
        self.linear = nn.Linear(size, size)

    def forward(self, hidden_states: Tensor, mask: UnavMask) -> Tensor:
        return self.linear(self.norm(self.conv(hidden_states, mask)))


class UnavAttention(nn.Module):
    """Multi-head attention of one sequence to another on the same feature grid, at full or half rate."""

    def __init__(self, config: UnavConfig, size: int, num_heads: int, stride: int):
        super().__init__()
        self.config = config
        self.num_heads = num_heads
        self.stride = stride
        self.is_causal = False
        self.query = UnavProjection(size, stride)
        self.key = UnavProjection(size, stride)
        self.value = UnavProjection(size, stride)
        self.output = nn.Linear(size, size)

    def forward(self, key_value_states: Tensor, query_states: Tensor, mask: UnavMask) -> Tensor:
        query = self.query(query_states, mask)
        key, value = self.key(key_value_states, mask), self.value(key_value_states, mask)
        real = mask.every(self.stride).real
        keys = attention_mask_for(self.config, query, key, real)
        query, key, value = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
        output, _ = attend(self, self.config, query, key, value, keys)
        return zero_outside(real, self.output(output.flatten(2)))


class UnavBlock(GradientCheckpointingLayer):
    """x + attention(y to x), then x + MLP(x), pre-norm: stream x gives keys, values and the residual, y the queries.

    With stride 2 the output has half the rate, and the residual is the maximum of three steps, with 0 on padding. With
    y = x it is self-attention.
    """

    def __init__(self, config: UnavConfig, size: int, num_heads: int, intermediate_size: int, stride: int = 1):
        super().__init__()
        self.stride = stride
        self.key_value_norm = nn.LayerNorm(size)
        self.query_norm = nn.LayerNorm(size)
        self.attention = UnavAttention(config, size, num_heads, stride)
        self.attention_drop_path = UnavScaledDropPath(size, config.drop_path_rate)
        self.norm = nn.LayerNorm(size)
        self.up_proj = nn.Linear(size, intermediate_size)
        self.down_proj = nn.Linear(intermediate_size, size)
        self.feed_forward_drop_path = UnavScaledDropPath(size, config.drop_path_rate)

    def forward(self, hidden_states: Tensor, query_states: Tensor, mask: UnavMask) -> Tensor:
        update = self.attention(self.key_value_norm(hidden_states), self.query_norm(query_states), mask)
        if self.stride > 1:
            pooled = F.max_pool1d(hidden_states.transpose(1, 2), 3, stride=self.stride, padding=1)
            hidden_states = pooled.transpose(1, 2)
        real = mask.every(self.stride).real
        hidden_states = zero_outside(real, hidden_states) + self.attention_drop_path(update)
        update = self.down_proj(F.gelu(self.up_proj(self.norm(hidden_states))))
        return hidden_states + self.feed_forward_drop_path(zero_outside(real, update))


# ---------------------------------------------------------------------------------------------------------------
# backbone


class UnavStream(nn.Module):
    """A stream before the streams meet: masked convolutions to D channels, positions, self-attention."""

    def __init__(self, config: UnavConfig, in_size: int):
        super().__init__()
        sizes = [in_size] + [config.hidden_size] * config.num_embedding_layers
        self.embeddings = nn.ModuleList(UnavConvLayer(*pair) for pair in pairwise(sizes))
        self.blocks = nn.ModuleList(
            UnavBlock(config, config.hidden_size, config.num_attention_heads, config.intermediate_size)
            for _ in range(config.num_stem_layers)
        )

    def forward(self, features: Tensor, positions: Tensor, mask: UnavMask) -> Tensor:
        hidden_states = features
        for layer in self.embeddings:
            hidden_states = layer(hidden_states, mask)
        # Not masked, as upstream: LayerNorm's bias stays on padded steps and enters the first residual.
        hidden_states = hidden_states + zero_outside(mask.real, positions)
        for block in self.blocks:
            hidden_states = block(hidden_states, hidden_states, mask)
        return hidden_states


class UnavCrossLevel(nn.Module):
    """Cross-attention both ways, at full rate or to the next coarser level of the pyramid."""

    def __init__(self, config: UnavConfig, stride: int):
        super().__init__()
        sizes = (config.hidden_size, config.num_attention_heads, config.intermediate_size, stride)
        self.visual = UnavBlock(config, *sizes)
        self.audio = UnavBlock(config, *sizes)

    def forward(self, visual: Tensor, audio: Tensor, mask: UnavMask) -> tuple[Tensor, Tensor]:
        return self.visual(visual, audio, mask), self.audio(audio, visual, mask)


class UnavDependencyBlock(nn.Module):
    """Each point as C classes of E channels, related over time within a class and over the classes of a point.

    It has no residual connection: its output replaces the features (B, T, 2 D) of a level.
    """

    def __init__(self, config: UnavConfig):
        super().__init__()
        self.shape = (config.num_labels, config.dependency_size)
        size, expanded = 2 * config.hidden_size, config.num_labels * config.dependency_size
        self.expand = UnavMaskedConv(size, expanded)
        self.temporal = UnavBlock(config, config.dependency_size, 1, config.dependency_size)
        self.cooccurrence = UnavBlock(config, config.dependency_size, 1, config.dependency_size)
        self.squeeze = UnavMaskedConv(expanded, size)

    def forward(self, hidden_states: Tensor, mask: UnavMask) -> Tensor:
        classes = F.relu(self.expand(hidden_states, mask)).unflatten(-1, self.shape)  # (B, T, C, E)
        over_time = classes.transpose(1, 2).flatten(0, 1)  # (B * C, T, E)
        time_mask = UnavMask(*(steps.repeat_interleave(self.shape[0], dim=0) for steps in mask))
        temporal = self.temporal(over_time, over_time, time_mask).unflatten(0, (-1, self.shape[0])).transpose(1, 2)
        over_classes = classes.flatten(0, 1)  # (B * T, C, E)
        everything = torch.ones_like(over_classes[..., 0], dtype=torch.bool)
        cooccurrence = self.cooccurrence(over_classes, over_classes, UnavMask(everything, everything))
        related = temporal + cooccurrence.unflatten(0, classes.shape[:2])
        return self.squeeze(zero_outside(mask.real, related.flatten(2)), mask)


class UnavHead(nn.Module):
    """Convolutions shared by the levels, (B, T, 2 D) -> (B, T, outputs)."""

    def __init__(self, config: UnavConfig, num_outputs: int):
        super().__init__()
        sizes = [2 * config.hidden_size] + [config.head_size] * config.num_head_layers
        self.layers = nn.ModuleList(UnavConvLayer(*pair) for pair in pairwise(sizes))
        self.output = UnavMaskedConv(config.head_size, num_outputs, bias=True)

    def forward(self, hidden_states: Tensor, mask: UnavMask) -> Tensor:
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask)
        return self.output(hidden_states, mask)


# ---------------------------------------------------------------------------------------------------------------
# models


class UnavPreTrainedModel(PreTrainedModel, CodeOnPush):
    """Weights, loading and saving of the UnAV baseline."""

    config: UnavConfig
    auto_class = "AutoModel"
    task = TASK
    base_model_prefix = "model"
    main_input_name = "visual_features"
    input_modalities = ["video", "audio"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _can_compile_fullgraph = True
    _no_split_modules = ["UnavBlock"]
    _keep_in_fp32_modules_strict = ["loss_normalizer"]

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        # transformers searches this module's source for the attention interface, which `layers_esg_net` calls.
        return True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            # PyTorch's own default for weights, biases 0.
            init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, UnavScaledDropPath):
            init.constant_(module.scale, 1e-4)
        elif isinstance(module, UnavForEventLocalization):
            prior, bias = torch.tensor(self.config.prior_probability), module.classification_head.output.conv.bias
            assert bias is not None
            init.constant_(bias, prior.logit().item())
            for scale in module.level_scale:
                init.ones_(scale)
            init.constant_(module.loss_normalizer, self.config.loss_normalizer_init)
        else:
            super()._init_weights(module)


class UnavForEventLocalization(UnavPreTrainedModel):
    """UnAV for dense audio-visual event localization: class logits and boundaries at every point of the pyramid."""

    loss_normalizer: Tensor

    def __init__(self, config: UnavConfig):
        super().__init__(config)
        self.visual_stream = UnavStream(config, config.visual_size)
        self.audio_stream = UnavStream(config, config.audio_size)
        self.pyramid = nn.ModuleList(
            UnavCrossLevel(config, stride=1 if level == 0 else 2) for level in range(config.pyramid_levels)
        )
        self.dependency_block = UnavDependencyBlock(config) if config.use_dependency else None
        self.classification_head = UnavHead(config, config.num_labels)
        self.boundary_head = UnavHead(config, 2 * config.num_labels)
        self.level_scale = nn.ParameterList(torch.empty(()) for _ in range(config.pyramid_levels))
        # Running count of positive points; a buffer, so that a resumed training continues with it.
        self.register_buffer("loss_normalizer", torch.tensor(float(config.loss_normalizer_init)))
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        visual_features: Tensor,
        audio_features: Tensor,
        attention_mask: Tensor | None = None,
        visual_mask: Tensor | None = None,
        audio_mask: Tensor | None = None,
        segment_labels: Tensor | None = None,
        class_labels: Tensor | None = None,
    ) -> EventLocalizationOutput:
        """
        Args:
            visual_features (`torch.FloatTensor` of shape `(B, T, visual_size)`):
                Visual features; values on padded steps are ignored. T is any length: the padding that upstream needs
                is added here.
            audio_features (`torch.FloatTensor` of shape `(B, T, audio_size)`):
                Audio features on the same feature grid.
            attention_mask (`torch.Tensor` of shape `(B, T)`, *optional*):
                1 for real steps, 0 for padding after them. By default all steps are real.
            visual_mask, audio_mask (`torch.Tensor` of shape `(B, T)`, *optional*):
                1 for steps with a picture, or with sound; by default all real steps. UnAV has no rule for an absent
                stream: its features are zeros.
            segment_labels (`torch.FloatTensor` of shape `(B, N, 2)`, *optional*):
                True events as (start, end) in grid positions, see `FeatureGrid.to_positions`.
            class_labels (`torch.LongTensor` of shape `(B, N)`, *optional*):
                Class ids of these events, -100 for padding. With both labels the loss is returned.

        Raises:
            ValueError: if the features' shapes do not fit the config or each other, or only one of the labels is given.
        """
        check_feature_shapes(self.config, visual_features, audio_features)
        check_labels(segment_labels, class_labels)
        batch_size, num_steps = visual_features.shape[:2]
        if attention_mask is None:
            attention_mask = visual_features.new_ones(batch_size, num_steps)
        real = attention_mask.bool()
        visual = zero_outside(real if visual_mask is None else real & visual_mask.bool(), visual_features)
        audio = zero_outside(real if audio_mask is None else real & audio_mask.bool(), audio_features)

        visual, audio, positions, mask = self._pad(visual, audio, real)
        visual, audio = self.visual_stream(visual, positions, mask), self.audio_stream(audio, positions, mask)
        level_logits, level_offsets, level_mask = [], [], []
        for level, (cross_level, scale) in enumerate(zip(self.pyramid, self.level_scale, strict=True)):
            visual, audio = cross_level(visual, audio, mask)
            mask = mask if level == 0 else mask.every(2)
            hidden_states = torch.cat([visual, audio], dim=-1)  # (B, T / 2**level, 2 D)
            if self.dependency_block is not None:
                hidden_states = self.dependency_block(hidden_states, mask)
            num_points = -(-num_steps // 2**level)
            level_logits.append(self.classification_head(hidden_states, mask)[:, :num_points])
            level_offsets.append(F.relu(self.boundary_head(hidden_states, mask) * scale)[:, :num_points])
            level_mask.append(mask.real[:, :num_points])
        logits = torch.cat(level_logits, dim=1)
        offsets = torch.cat(level_offsets, dim=1).unflatten(-1, (-1, 2))
        point_mask = torch.cat(level_mask, dim=1).long()
        pyramid_points = TemporalPoints.for_pyramid(num_steps, self.config.pyramid_levels, device=real.device)
        points = torch.stack([pyramid_points.positions, pyramid_points.strides], dim=-1).repeat(batch_size, 1, 1)

        loss, loss_dict = None, None
        if segment_labels is not None and class_labels is not None:
            loss_dict = localization_loss(
                self.config,
                logits,
                offsets,
                points[0],
                point_mask,
                segment_labels,
                class_labels,
                normalizer=self.loss_normalizer,
                training=self.training,
            )
            loss = loss_dict["classification"] + self.config.boundary_loss_weight * loss_dict["boundary"]
        return EventLocalizationOutput(
            loss=loss, loss_dict=loss_dict, logits=logits, offsets=offsets, points=points, point_mask=point_mask
        )

    def _pad(self, visual: Tensor, audio: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor, UnavMask]:
        """Both streams with at least one padded step on every level, their positions and their mask."""
        config = self.config
        coarsest = 2 ** (config.pyramid_levels - 1)
        num_steps = real.shape[1]
        whole = -(-num_steps // coarsest) * coarsest
        padding = min(whole + coarsest, max(whole, config.max_seq_len)) - num_steps
        steps = torch.arange(num_steps + padding, device=real.device)
        last = (real * (steps[:num_steps] + 1)).amax(dim=1)  # (B,): steps up to the last real one
        frame = frame_length(last, config.max_seq_len, coarsest)
        positions = sinusoid_positions(frame, len(steps), config.max_seq_len, config.hidden_size).to(visual.dtype)
        visual, audio = (F.pad(features, (0, 0, 0, padding)) for features in (visual, audio))
        return visual, audio, positions, UnavMask(F.pad(real, (0, padding)), steps < frame[:, None])


__all__ = ["UnavForEventLocalization", "UnavPreTrainedModel"]
