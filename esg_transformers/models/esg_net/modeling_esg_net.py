"""ESG-Net (arXiv 2507.09945), in the order of its forward pass.

Embeddings, early semantic interaction (ESI), pyramid, heads, mixture of dependency experts (MoDE).

The letters of the shapes: B videos, T steps, P points on all pyramid levels, C classes, D hidden size, S semantic
stages, L levels, E experts, K event slots of a video.

This network is a reading of the paper's abstracts (v1 and v2), from which the authors' network may differ. The
abstracts say: ESI fuses audio and video in several early stages, each with classification losses of its own; MoDE is a
series of mixtures of experts with adaptive weights that extract the dependencies between concurrent events. Everything
beyond these sentences is this package's design.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import PreTrainedModel
from transformers.utils.generic import ModelOutput, TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .checks_esg_net import check_feature_shapes, check_labels
from .configuration_esg_net import EsgNetConfig
from .layers_esg_net import DropPath, attend, attention_mask_for
from .loss_esg_net import localization_loss, router_balance_loss, semantic_guidance_loss, step_targets
from .outputs_esg_net import EventLocalizationOutput
from .segments_esg_net import TemporalPoints
from .sharing_esg_net import TASK, CodeOnPush

Rotary = tuple[Tensor, Tensor]


@dataclass
class EsgNetModelOutput(ModelOutput):
    """
    Output of [`EsgNetModel`].

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(B, P, D)`):
            Features of all points, level after level.
        points (`torch.FloatTensor` of shape `(B, P, 2)`):
            Position and stride of each point, in grid cells; the same for every video.
        point_mask (`torch.LongTensor` of shape `(B, P)`):
            1 for points on real steps, 0 on padding.
        semantic_logits (`tuple(torch.FloatTensor)`):
            For each stage `(B, 3, T, C)`, in the order visual, audio, fused stream. `None` without ESI.
        hidden_states (`tuple(torch.FloatTensor)`, returned with `output_hidden_states=True`):
            For each stage `(B, T, D)`: the fused stream after it. Empty without ESI.
        attentions (`tuple(torch.FloatTensor)`, returned with `output_attentions=True` and
        `attn_implementation="eager"`):
            For each stage `(B, heads, T, T)`: the visual stream's self-attention.
    """

    last_hidden_state: Tensor | None = None
    points: Tensor | None = None
    point_mask: Tensor | None = None
    semantic_logits: tuple[Tensor, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class EsgNetEventLocalizationOutput(EventLocalizationOutput):
    """
    Output of [`EsgNetForEventLocalization`]: an [`EventLocalizationOutput`] and the outputs of ESI and MoDE.

    With ESI the logits include the semantic evidence for the point's segment against the rest of the video. The parts
    of the loss are `classification`, `boundary`, `semantic` and `router`.

    Args:
        router_weights (`tuple(torch.FloatTensor)`):
            For each layer of MoDE `(B, P, E)`: weights of the experts at each point, the mean of its event slots.
            `None` without MoDE.
        semantic_logits, last_hidden_state, hidden_states, attentions:
            See [`EsgNetModelOutput`].
    """

    router_weights: tuple[Tensor, ...] | None = None
    semantic_logits: tuple[Tensor, ...] | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


# ---------------------------------------------------------------------------------------------------------------
# building blocks


class EsgNetMaskedConv(nn.Module):
    """Convolution over time, 0 on padded steps of its input: (B, T, X), mask (B, T) -> (B, ceil(T / stride), X')."""

    def __init__(self, in_size: int, out_size: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(in_size, out_size, 3, stride=stride, padding=1, groups=groups, bias=False)

    def forward(self, hidden_states: Tensor, mask: Tensor) -> Tensor:
        hidden_states = hidden_states * mask[..., None].to(hidden_states.dtype)
        return self.conv(hidden_states.transpose(1, 2)).transpose(1, 2)


class EsgNetConvLayer(nn.Module):
    """[masked convolution k3, LayerNorm, ReLU]: the layer of the embeddings and of the head towers."""

    def __init__(self, in_size: int, out_size: int):
        super().__init__()
        self.conv = EsgNetMaskedConv(in_size, out_size)
        self.norm = nn.LayerNorm(out_size)

    def forward(self, hidden_states: Tensor, mask: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(hidden_states, mask)))


def rotary_positions(num_steps: int, head_size: int, theta: float, like: Tensor) -> Rotary:
    """Cosine and sine of rotary positions 0, 1, 2, ..., `(num_steps, head_size)` each."""
    channels = torch.arange(0, head_size, 2, device=like.device, dtype=torch.float32)
    steps = torch.arange(num_steps, device=like.device, dtype=torch.float32)
    angles = steps[:, None] * theta ** (-channels / head_size)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate(states: Tensor, rotary: Rotary) -> Tensor:
    """Rotate pairs of channels of `(B, heads, T, head_size)` by their positions (Su et al., 2021)."""
    cos, sin = rotary
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat([-second, first], dim=-1) * sin


class EsgNetAttention(nn.Module):
    """Multi-head attention with rotary positions, of a sequence to itself or to another on the same feature grid."""

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.is_causal = False
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden_states: Tensor,
        key_value_states: Tensor,
        attention_mask: Tensor | None,
        rotary: Rotary,
        key_rotary: Rotary | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        query = rotate(self._split_heads(self.q_proj(hidden_states)), rotary)
        key = rotate(self._split_heads(self.k_proj(key_value_states)), rotary if key_rotary is None else key_rotary)
        value = self._split_heads(self.v_proj(key_value_states))
        output, weights = attend(self, self.config, query, key, value, attention_mask)
        return self.o_proj(output.flatten(2)), weights

    def _split_heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class EsgNetSelfAttentionLayer(nn.Module):
    """x + attention(x), pre-norm; a depthwise convolution first mixes neighbouring steps, as in ActionFormer."""

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.neighbours = EsgNetMaskedConv(config.hidden_size, config.hidden_size, groups=config.hidden_size)
        self.attention = EsgNetAttention(config)
        self.drop_path = DropPath(config.drop_path_rate)

    def forward(self, hidden_states: Tensor, mask: Tensor, attention_mask: Tensor | None, rotary: Rotary) -> Tensor:
        normed = self.norm(hidden_states)
        normed = normed + self.neighbours(normed, mask)
        return hidden_states + self.drop_path(self.attention(normed, normed, attention_mask, rotary)[0])


class EsgNetCrossAttentionLayer(nn.Module):
    """x + attention(x to another stream), pre-norm; x unchanged for videos whose other stream is absent."""

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.key_value_norm = nn.LayerNorm(config.hidden_size)
        self.attention = EsgNetAttention(config)
        self.drop_path = DropPath(config.drop_path_rate)

    def forward(
        self,
        hidden_states: Tensor,
        other: Tensor,
        other_mask: Tensor,
        attention_mask: Tensor | None,
        rotary: Rotary,
        key_rotary: Rotary | None = None,
    ) -> Tensor:
        update, _ = self.attention(
            self.norm(hidden_states), self.key_value_norm(other), attention_mask, rotary, key_rotary
        )
        present = other_mask.any(dim=1)[:, None, None].to(update.dtype)
        return hidden_states + self.drop_path(update * present)


class EsgNetFeedForward(nn.Module):
    """x + MLP(x), pre-norm."""

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)
        self.drop_path = DropPath(config.drop_path_rate)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return hidden_states + self.drop_path(self.down_proj(F.gelu(self.up_proj(self.norm(hidden_states)))))


# ---------------------------------------------------------------------------------------------------------------
# embeddings


class EsgNetEmbeddings(nn.Module):
    """Both streams at one width by masked convolutions; positions enter in the attentions."""

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.visual = self._stream(config, config.visual_size)
        self.audio = self._stream(config, config.audio_size)

    @staticmethod
    def _stream(config: EsgNetConfig, in_size: int) -> nn.ModuleList:
        sizes = [in_size] + [config.hidden_size] * config.num_embedding_layers
        return nn.ModuleList(EsgNetConvLayer(*pair) for pair in pairwise(sizes))

    def forward(
        self, visual_features: Tensor, audio_features: Tensor, visual_mask: Tensor, audio_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        visual, audio = visual_features, audio_features
        for layer in self.visual:
            visual = layer(visual, visual_mask)
        for layer in self.audio:
            audio = layer(audio, audio_mask)
        return visual, audio


# ---------------------------------------------------------------------------------------------------------------
# early semantic interaction


class EsgNetStem(GradientCheckpointingLayer):
    """Part of a stage that computes no class logits: self-attention, cross-attention both ways, feed-forward."""

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.visual_attention = EsgNetSelfAttentionLayer(config)
        self.audio_attention = EsgNetSelfAttentionLayer(config)
        self.audio_to_visual = EsgNetCrossAttentionLayer(config)
        self.visual_to_audio = EsgNetCrossAttentionLayer(config)
        self.visual_feed_forward = EsgNetFeedForward(config)
        self.audio_feed_forward = EsgNetFeedForward(config)

    def forward(
        self,
        visual: Tensor,
        audio: Tensor,
        visual_mask: Tensor,
        audio_mask: Tensor,
        visual_keys: Tensor | None,
        audio_keys: Tensor | None,
        rotary: Rotary,
    ) -> tuple[Tensor, Tensor]:
        visual = self.visual_attention(visual, visual_mask, visual_keys, rotary)
        audio = self.audio_attention(audio, audio_mask, audio_keys, rotary)
        visual, audio = (
            self.audio_to_visual(visual, audio, audio_mask, audio_keys, rotary),
            self.visual_to_audio(audio, visual, visual_mask, visual_keys, rotary),
        )
        return self.visual_feed_forward(visual), self.audio_feed_forward(audio)


class EsgNetFusion(nn.Module):
    """Fused features of a stage, from both streams and their product: an event is both seen and heard."""

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.visual_norm = nn.LayerNorm(config.hidden_size)
        self.audio_norm = nn.LayerNorm(config.hidden_size)
        self.projection = nn.Linear(3 * config.hidden_size, config.hidden_size)

    def forward(self, visual: Tensor, audio: Tensor, visual_mask: Tensor, audio_mask: Tensor) -> Tensor:
        visual = self.visual_norm(visual) * visual_mask[..., None].to(visual.dtype)
        audio = self.audio_norm(audio) * audio_mask[..., None].to(audio.dtype)
        return self.projection(torch.cat([visual, audio, visual * audio], dim=-1))


class EsgNetFeatureSemantics(nn.Module):
    """Semantic vector of each step from its own features: LayerNorm, dropout, linear map to the semantic space.

    Its logits are added to those of the stages, which see context. It starts from zero, so that training starts with
    the logits of the stages alone. With many features it would overfit few videos, hence the high dropout in training.
    """

    def __init__(self, config: EsgNetConfig, in_size: int):
        super().__init__()
        self.norm = nn.LayerNorm(in_size)
        default = max(0.0, 1 - 6 / math.sqrt(in_size))
        self.dropout = nn.Dropout(default if config.feature_dropout is None else config.feature_dropout)
        self.projection = nn.Linear(in_size, config.semantic_size, bias=False)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return self.projection(self.dropout(self.norm(features))).masked_fill(~mask[..., None], 0.0)


class EsgNetSemanticClassifier(nn.Module):
    """Multi-label logits of each step: scaled cosine to the class prototypes, which streams and stages share."""

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.projection = nn.Linear(config.hidden_size, config.semantic_size)
        self.log_scale = nn.Parameter(torch.empty(1))  # FSDP shards no scalars
        self.bias = nn.Parameter(torch.empty(config.num_labels))

    def forward(self, hidden_states: Tensor, prototypes: Tensor) -> Tensor:
        semantic = F.normalize(self.projection(self.norm(hidden_states)), dim=-1)
        return self.log_scale.exp() * (semantic @ prototypes.T) + self.bias


class EsgNetSemanticInteractionStage(GradientCheckpointingLayer):
    """A stage of ESI: interaction of both streams, fusion, semantic logits of the visual, audio and fused stream."""

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.stem = EsgNetStem(config)
        self.fusion = EsgNetFusion(config)
        self.classifiers = nn.ModuleList(EsgNetSemanticClassifier(config) for _ in range(3))

    def forward(
        self,
        fused: Tensor,
        visual: Tensor,
        audio: Tensor,
        prototypes: Tensor,
        feature_logits: Tensor,
        visual_mask: Tensor,
        audio_mask: Tensor,
        visual_keys: Tensor | None,
        audio_keys: Tensor | None,
        rotary: Rotary,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        visual, audio = self.stem(visual, audio, visual_mask, audio_mask, visual_keys, audio_keys, rotary)
        fused = fused + self.fusion(visual, audio, visual_mask, audio_mask)
        streams = (visual, audio, fused)
        logits = [classifier(x, prototypes) for classifier, x in zip(self.classifiers, streams, strict=True)]
        semantic_logits = torch.stack(logits, dim=1) + feature_logits  # (B, 3, T, C)
        return fused, visual, audio, semantic_logits


class EsgNetSemanticInteraction(nn.Module):
    """ESI: S stages at full rate with shared class prototypes; plain stems if ESI is switched off."""

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.config = config
        if config.use_semantic_interaction:
            self.prototypes = nn.Parameter(torch.empty(config.num_labels, config.semantic_size))
            self.visual_semantics = EsgNetFeatureSemantics(config, config.visual_size)
            self.audio_semantics = EsgNetFeatureSemantics(config, config.audio_size)
            self.stages = nn.ModuleList(
                EsgNetSemanticInteractionStage(config) for _ in range(config.num_semantic_stages)
            )
        else:
            self.stages = nn.ModuleList(EsgNetStem(config) for _ in range(config.num_semantic_stages))
            self.fusion = EsgNetFusion(config)

    def forward(
        self,
        visual: Tensor,
        audio: Tensor,
        visual_features: Tensor,
        audio_features: Tensor,
        visual_mask: Tensor,
        audio_mask: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...] | None]:
        """Fused, visual and audio stream (B, T, D), and the semantic logits of each stage (B, 3, T, C)."""
        config = self.config
        rotary = rotary_positions(
            visual.shape[1], config.hidden_size // config.num_attention_heads, config.rope_theta, visual
        )
        visual_keys = attention_mask_for(config, visual, visual, visual_mask)
        audio_keys = attention_mask_for(config, audio, audio, audio_mask)
        context = (visual_mask, audio_mask, visual_keys, audio_keys, rotary)
        if not config.use_semantic_interaction:
            for stage in self.stages:
                visual, audio = stage(visual, audio, *context)
            return self.fusion(visual, audio, visual_mask, audio_mask), visual, audio, None
        prototypes = F.normalize(self.prototypes, dim=-1)
        seen = self.visual_semantics(visual_features, visual_mask)
        heard = self.audio_semantics(audio_features, audio_mask)
        feature_logits = torch.stack([seen, heard, seen + heard], dim=1) @ prototypes.T
        fused, semantic_logits = torch.zeros_like(visual), []
        for stage in self.stages:
            fused, visual, audio, logits = stage(fused, visual, audio, prototypes, feature_logits, *context)
            semantic_logits.append(logits)
        return fused, visual, audio, tuple(semantic_logits)


# ---------------------------------------------------------------------------------------------------------------
# pyramid


def downsample_mean(hidden_states: Tensor, mask: Tensor) -> Tensor:
    """Mean of the real steps among three, at every second step: (B, T, X) -> (B, ceil(T / 2), X)."""
    weight = mask[:, None].to(hidden_states.dtype)
    total = F.avg_pool1d(hidden_states.transpose(1, 2) * weight, 3, stride=2, padding=1)
    count = F.avg_pool1d(weight, 3, stride=2, padding=1)
    return (total / count.clamp(min=1e-6)).transpose(1, 2)


def downsample_max(hidden_states: Tensor, mask: Tensor) -> Tensor:
    """Maximum of the real steps among three, at every second step; 0 on padding: (B, T, X) -> (B, ceil(T / 2), X)."""
    lowest = torch.finfo(hidden_states.dtype).min
    real = hidden_states.masked_fill(~mask[..., None], lowest)
    pooled = F.max_pool1d(real.transpose(1, 2), 3, stride=2, padding=1).transpose(1, 2)
    return pooled.masked_fill(~mask[:, ::2, None], 0.0)


class EsgNetPyramidLevel(GradientCheckpointingLayer):
    """Next coarser level: fused features at half the rate attend to themselves and to both streams."""

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.config = config
        self.downsample = EsgNetMaskedConv(config.hidden_size, config.hidden_size, stride=2, groups=config.hidden_size)
        self.self_attention = EsgNetSelfAttentionLayer(config)
        self.cross_attention = EsgNetCrossAttentionLayer(config)
        self.feed_forward = EsgNetFeedForward(config)

    def forward(
        self, fused: Tensor, visual: Tensor, audio: Tensor, mask: Tensor, visual_mask: Tensor, audio_mask: Tensor
    ) -> Tensor:
        """`fused` (B, T, D) and `mask` (B, T) at the finer rate; both streams and their masks at ceil(T / 2) steps."""
        config = self.config
        fused = downsample_max(fused, mask) + self.downsample(fused, mask)
        mask = mask[:, ::2]
        streams, stream_mask = torch.cat([visual, audio], dim=1), torch.cat([visual_mask, audio_mask], dim=1)
        head_size = config.hidden_size // config.num_attention_heads
        cos, sin = rotary = rotary_positions(fused.shape[1], head_size, config.rope_theta, fused)
        fused = self.self_attention(fused, mask, attention_mask_for(config, fused, fused, mask), rotary)
        fused = self.cross_attention(
            fused,
            streams,
            stream_mask,
            attention_mask_for(config, fused, streams, stream_mask),
            rotary,
            (torch.cat([cos, cos]), torch.cat([sin, sin])),
        )
        return self.feed_forward(fused)


class EsgNetPyramid(nn.Module):
    """Fused features at L temporal resolutions, each half the one before; each level attends to both streams."""

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.levels = nn.ModuleList(EsgNetPyramidLevel(config) for _ in range(config.pyramid_levels - 1))

    def forward(
        self, fused: Tensor, visual: Tensor, audio: Tensor, mask: Tensor, visual_mask: Tensor, audio_mask: Tensor
    ) -> list[Tensor]:
        pyramid = [fused]
        for level in self.levels:
            visual, audio = downsample_max(visual, visual_mask), downsample_max(audio, audio_mask)
            visual_mask, audio_mask = visual_mask[:, ::2], audio_mask[:, ::2]
            pyramid.append(level(pyramid[-1], visual, audio, mask, visual_mask, audio_mask))
            mask = mask[:, ::2]
        return pyramid


# ---------------------------------------------------------------------------------------------------------------
# heads


class EsgNetTower(nn.Module):
    """Convolutions shared by the levels, then a linear output: (B, P, D) -> (B, P, outputs)."""

    def __init__(self, config: EsgNetConfig, num_outputs: int):
        super().__init__()
        sizes = [config.hidden_size] + [config.head_size] * config.num_head_layers
        self.layers = nn.ModuleList(EsgNetConvLayer(*pair) for pair in pairwise(sizes))
        self.output = nn.Linear(config.head_size, num_outputs)

    def forward(self, hidden_states: Tensor, level_masks: list[Tensor]) -> Tensor:
        lengths = [mask.shape[1] for mask in level_masks]
        # One convolution over all levels in a row; a masked step between two levels keeps them apart.
        row = torch.cat([F.pad(x, (0, 0, 0, 1)) for x in hidden_states.split(lengths, dim=1)], dim=1)
        row_mask = torch.cat([F.pad(mask, (0, 1)) for mask in level_masks], dim=1)
        for layer in self.layers:
            row = layer(row, row_mask)
        levels = row.split([length + 1 for length in lengths], dim=1)
        return self.output(torch.cat([x[:, :-1] for x in levels], dim=1))


def segment_evidence(step_logits: Tensor, mask: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Mean semantic logit of a class in four regions: a segment, just before it, just after it, and the rest.

    A step covers half a cell to each side. The regions before and after are a quarter of the segment long, and at least
    one cell. Means ignore padding. A region of less than one real step is scaled down by its size, to 0 outside the
    video; the rest is scaled down the same way while it is shorter than the segment.

    Args:
        step_logits: `(B, T, C)`, relative to the prior: 0 is no evidence.
        mask: `(B, T)`, 1 = real.
        start, end: `(B, P, C)` in grid positions, `start <= end`.

    Returns:
        `(B, P, C, 4)`: segment, before, after, rest.

    >>> logits = torch.tensor([0.0, 0.0, 4.0, 4.0, 4.0, 4.0, 1.0, 1.0])[None, :, None]
    >>> start, end = torch.tensor([[[1.5]]]), torch.tensor([[[5.5]]])
    >>> segment_evidence(logits, torch.ones(1, 8, dtype=torch.bool), start, end)
    tensor([[[[4.0000, 0.0000, 1.0000, 0.5000]]]])
    """
    num_steps, weight = step_logits.shape[1], mask[..., None].to(step_logits.dtype)
    # Sums of logits and of steps up to each edge of a step: (2, B, T + 1, C).
    sums = torch.stack([step_logits * weight, weight.expand_as(step_logits)]).cumsum(dim=2)
    sums = F.pad(sums, (0, 0, 1, 0))

    def up_to(positions: Tensor) -> Tensor:
        # Positions are NaN where half precision has overflowed; an index must be a number.
        edges = (positions + 0.5).nan_to_num(0.0).clamp(0, num_steps)
        below = edges.floor().clamp(max=num_steps - 1).long().expand(2, -1, -1, -1)
        return sums.gather(2, below).lerp(sums.gather(2, below + 1), edges - below)

    quarter = ((end - start) / 4).clamp(min=1)
    earliest, first, last, latest = (up_to(x) for x in (start - quarter, start, end, end + quarter))
    totals, counts = zip(last - first, first - earliest, latest - last, sums[:, :, -1:] - (last - first), strict=True)
    counts = (*counts[:3], counts[3].maximum(counts[0]))
    return torch.stack(totals, dim=-1) / torch.stack(counts, dim=-1).clamp(min=1)


# ---------------------------------------------------------------------------------------------------------------
# mixture of dependency experts


class EsgNetDependencyExperts(GradientCheckpointingLayer):
    """Mixture of E dependency experts: x + sum over experts of router weight times expert(x), for every event slot.

    An expert relates the event slots of a video in two branches, as UnAV's dependency block relates its classes:
    **temporal** attention over the points of a level within a slot, and **co-occurrence** attention over the slots of a
    point. No weight belongs to a class. All experts run and the router weighs them (a dense mixture); their matrices
    are stacked, so that one product serves all.
    """

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.config = config
        self.is_causal = False
        self.num_experts, size = config.num_experts, config.event_slot_size
        self.norm = nn.LayerNorm(size)
        self.router = nn.Linear(size, config.num_experts)
        self.slots = nn.Linear(size, config.num_experts * size)
        self.slot_norm = nn.LayerNorm(size)
        self.temporal = nn.Parameter(torch.empty(config.num_experts, size, 3 * size))
        self.cooccurrence = nn.Parameter(torch.empty_like(self.temporal))
        self.output = nn.Linear(config.num_experts * size, size)
        self.drop_path = DropPath(config.drop_path_rate)

    def forward(self, slots: Tensor, level_masks: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Slots (B, P, K, slot size) -> slots of the same shape and router weights (B, P, K, E)."""
        normed = self.norm(slots)
        weights = self.router(normed).softmax(dim=-1)
        states = self.slots(normed).unflatten(-1, (self.num_experts, -1)).transpose(2, 3)  # (B, P, E, K, slot size)
        normed_states = self.slot_norm(states)
        related = states + self._temporal(normed_states, level_masks) + self._cooccurrence(normed_states)
        update = self.output((F.gelu(related).transpose(2, 3) * weights[..., None]).flatten(3))
        return slots + self.drop_path(update), weights

    def _temporal(self, slots: Tensor, level_masks: list[Tensor]) -> Tensor:
        query, key, value = torch.einsum("bpeki,eij->bpekj", slots, self.temporal).flatten(2, 3).chunk(3, dim=-1)
        lengths = [mask.shape[1] for mask in level_masks]
        output = []
        for mask, q, k, v in zip(level_masks, *(x.split(lengths, dim=1) for x in (query, key, value)), strict=True):
            rotary = rotary_positions(mask.shape[1], q.shape[-1], self.config.rope_theta, q)
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, E * K, T / 2**l, slot size)
            keys = attention_mask_for(self.config, q[:, 0], k[:, 0], mask)
            output.append(attend(self, self.config, rotate(q, rotary), rotate(k, rotary), v, keys)[0])
        return torch.cat(output, dim=1).unflatten(2, slots.shape[2:4])

    def _cooccurrence(self, slots: Tensor) -> Tensor:
        states = torch.einsum("bpeki,eij->bpekj", slots, self.cooccurrence).flatten(0, 1)
        query, key, value = states.chunk(3, dim=-1)  # (B * P, E, K, slot size): experts as heads, slots as sequence
        related = attend(self, self.config, query, key, value, None)[0].transpose(1, 2)
        return related.unflatten(0, slots.shape[:2])


class EsgNetDependencyMixture(nn.Module):
    """MoDE: corrections of the heads' predictions from the other events of a video.

    A video has an event slot for each of its K classes with the highest logit anywhere. At every point, a slot's input
    is the heads' prediction for its class and the semantic evidence of all three streams in and around the predicted
    segment. A series of mixtures of dependency experts relates the slots, with weights shared by levels and classes;
    the result corrects the class logit and the offsets.

    Slot inputs are detached, so MoDE's loss does not train the heads or ESI. The output layer is zero-initialised:
    training starts from the heads' predictions.
    """

    def __init__(self, config: EsgNetConfig):
        super().__init__()
        self.config = config
        # Logit, both offsets, and for each stream the evidence in four regions and at the point.
        num_inputs = 1 + 2 + (3 * (4 + 1) if config.use_semantic_interaction else 0)
        self.slots = nn.Linear(num_inputs, config.event_slot_size)
        self.layers = nn.ModuleList(EsgNetDependencyExperts(config) for _ in range(config.num_dependency_layers))
        self.norm = nn.LayerNorm(config.event_slot_size)
        self.correction = nn.Linear(config.event_slot_size, 3)

    def forward(
        self,
        logits: Tensor,
        offsets: Tensor,
        step_logits: Tensor | None,
        points: Tensor,
        level_masks: list[Tensor],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """
        Args:
            logits: `(B, P, C)`, of the classification head, relative to the prior.
            offsets: `(B, P, C, 2)`, of the boundary head, in strides, >= 0.
            step_logits: `(B, 3, T, C)`, of the last semantic stage, relative to the prior, or `None` without ESI.
            points: `(B, P, 2)`.
            level_masks: of each level `(B, T / 2**l)`.

        Returns:
            The correction `(B, P, C, 3)` of the class logit and of both offsets before softplus, 0 for classes without
            a slot; and the router weights of each layer `(B, P, E)`, the mean of the slots.
        """
        class_logits = logits if step_logits is None else step_logits[:, 2]
        mask = torch.cat(level_masks, dim=1) if step_logits is None else level_masks[0]
        highest = class_logits.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)  # (B, C)
        classes = highest.topk(min(self.config.num_event_slots, highest.shape[-1])).indices  # (B, K)
        of_slots = classes[:, None].expand(-1, logits.shape[1], -1)  # (B, P, K)
        of_pairs = of_slots[..., None].expand(-1, -1, -1, 2)
        offsets = offsets.gather(2, of_pairs)
        inputs = [logits.gather(2, of_slots)[..., None] / 4, offsets.log1p()]
        if step_logits is not None:
            inputs += self._evidence(step_logits, classes, offsets, points, level_masks)
        slots = self.slots(torch.cat(inputs, dim=-1).to(self.slots.weight.dtype))
        router_weights = []
        for layer in self.layers:
            slots, weights = layer(slots, level_masks)
            router_weights.append(weights.mean(dim=2))
        correction = self.correction(self.norm(slots))
        of_slots = of_slots[..., None].expand(-1, -1, -1, 3)
        whole = correction.new_zeros(*logits.shape, 3).scatter(2, of_slots, correction)
        return whole, tuple(router_weights)

    def _evidence(
        self, step_logits: Tensor, classes: Tensor, offsets: Tensor, points: Tensor, level_masks: list[Tensor]
    ) -> list[Tensor]:
        """Semantic evidence of each stream in four regions, `(B, P, K, 4)` each, and at the point, `(B, P, K, 3)`."""
        of_steps = classes[:, None, None].expand(-1, *step_logits.shape[1:3], -1)
        step_logits = step_logits.gather(3, of_steps)  # (B, 3, T, K)
        if self.training and self.config.slot_noise:
            # On training videos ESI is overconfident about which classes occur; noise keeps MoDE from relying on it.
            noise = torch.randn_like(step_logits[:, :2, :1]) * self.config.slot_noise / math.sqrt(2)
            step_logits = step_logits + torch.cat([noise, noise.sum(dim=1, keepdim=True)], dim=1)
        positions, strides = points[..., None, :].unbind(-1)  # (B, P, 1) each
        before, after = (offsets * strides[..., None]).unbind(-1)
        start, end = positions - before, positions + after
        evidence = [segment_evidence(logits, level_masks[0], start, end) / 4 for logits in step_logits.unbind(dim=1)]
        pooled = [step_logits.transpose(1, 2).flatten(2)]  # (B, T, 3 * K)
        for mask in level_masks[:-1]:
            pooled.append(downsample_mean(pooled[-1], mask))
        at_points = torch.cat(pooled, dim=1).unflatten(-1, (3, -1)).transpose(2, 3) / 4  # (B, P, K, 3)
        return [*evidence, at_points]


# ---------------------------------------------------------------------------------------------------------------
# models


class EsgNetPreTrainedModel(PreTrainedModel, CodeOnPush):
    """Weights, loading and saving of the ESG-Net models."""

    config: EsgNetConfig
    auto_class = "AutoModel"
    base_model_prefix = "model"
    main_input_name = "visual_features"
    input_modalities = ["video", "audio"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _can_compile_fullgraph = True
    _no_split_modules = [
        "EsgNetSemanticInteractionStage",
        "EsgNetStem",
        "EsgNetPyramidLevel",
        "EsgNetDependencyExperts",
    ]
    _can_record_outputs = {
        # Not recorded before the first stage, where the fused stream is zero.
        "hidden_states": OutputRecorder(EsgNetSemanticInteractionStage, capture_initial_hidden_state=False),
        "attentions": OutputRecorder(EsgNetAttention, index=1, layer_name="visual_attention"),
    }

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        # transformers searches this module's source for the attention interface, which `layers_esg_net` calls.
        return True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            # PyTorch's own default for weights, which follows the width; biases 0, as in UnAV.
            init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, EsgNetSemanticInteraction):
            # transformers calls `_init_weights` only on modules that own parameters when they come from outside the
            # library; children of the others are initialised by their parent here.
            if self.config.use_semantic_interaction:
                init.normal_(module.prototypes)
                init.zeros_(module.visual_semantics.projection.weight)
                init.zeros_(module.audio_semantics.projection.weight)
        elif isinstance(module, EsgNetSemanticClassifier):
            init.constant_(module.log_scale, torch.tensor(10.0).log().item())
            init.constant_(module.bias, self._prior_bias)
        elif isinstance(module, EsgNetDependencyExperts):
            bound = self.config.event_slot_size**-0.5
            init.uniform_(module.temporal, -bound, bound)
            init.uniform_(module.cooccurrence, -bound, bound)
        elif isinstance(module, EsgNetForEventLocalization):
            if module.dependency_mixture is not None:
                init.zeros_(module.dependency_mixture.correction.weight)
            init.constant_(module.classification_head.output.bias, self._prior_bias)
            init.ones_(module.level_scale)
            if module.evidence_weight is not None:
                init.copy_(module.evidence_weight, torch.tensor([0.5, -0.05, -0.05, -0.25]))
            init.constant_(module.loss_normalizer, self.config.loss_normalizer_init)
        else:
            super()._init_weights(module)

    def get_input_embeddings(self) -> None:  # type: ignore[override]  # transformers expects a module
        """`None`: ESG-Net reads features and has no embedding table. Quantizers and adapters call this."""
        return

    @property
    def _prior_bias(self) -> float:
        prior = self.config.prior_probability
        return float(torch.tensor(prior / (1 - prior)).log())


class EsgNetModel(EsgNetPreTrainedModel):
    """ESG-Net without heads: two feature streams to the features of all points of the temporal pyramid."""

    def __init__(self, config: EsgNetConfig):
        super().__init__(config)
        self.embeddings = EsgNetEmbeddings(config)
        self.semantic_interaction = EsgNetSemanticInteraction(config)
        self.pyramid = EsgNetPyramid(config)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        visual_features: Tensor,
        audio_features: Tensor,
        attention_mask: Tensor | None = None,
        visual_mask: Tensor | None = None,
        audio_mask: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> EsgNetModelOutput:
        """
        Args:
            visual_features (`torch.FloatTensor` of shape `(B, T, visual_size)`):
                Visual features; values on padded steps are ignored.
            audio_features (`torch.FloatTensor` of shape `(B, T, audio_size)`):
                Audio features on the same feature grid.
            attention_mask (`torch.Tensor` of shape `(B, T)`, *optional*):
                1 for real steps, 0 for padding. By default all steps are real.
            visual_mask, audio_mask (`torch.Tensor` of shape `(B, T)`, *optional*):
                1 for steps with a picture, or with sound; by default all real steps. 0 throughout for an absent stream.

        Raises:
            ValueError: if the features' shapes do not fit the config or each other.
        """
        check_feature_shapes(self.config, visual_features, audio_features)
        batch_size, num_steps = visual_features.shape[:2]
        if attention_mask is None:
            attention_mask = visual_features.new_ones(batch_size, num_steps)
        mask = attention_mask.bool()
        visual_mask = mask if visual_mask is None else mask & visual_mask.bool()
        audio_mask = mask if audio_mask is None else mask & audio_mask.bool()

        # Features are float32 whatever the precision of the weights.
        visual_features, audio_features = visual_features.to(self.dtype), audio_features.to(self.dtype)
        visual, audio = self.embeddings(visual_features, audio_features, visual_mask, audio_mask)
        fused, visual, audio, semantic_logits = self.semantic_interaction(
            visual, audio, visual_features, audio_features, visual_mask, audio_mask
        )
        pyramid = self.pyramid(fused, visual, audio, mask, visual_mask, audio_mask)

        points = TemporalPoints.for_pyramid(num_steps, self.config.pyramid_levels, device=mask.device)
        point_mask = torch.cat([mask[:, :: 2**level] for level in range(self.config.pyramid_levels)], dim=1)
        return EsgNetModelOutput(
            last_hidden_state=self.norm(torch.cat(pyramid, dim=1)),
            points=torch.stack([points.positions, points.strides], dim=-1).repeat(batch_size, 1, 1),
            point_mask=point_mask.long(),
            semantic_logits=semantic_logits,
        )


class EsgNetForEventLocalization(EsgNetPreTrainedModel):
    """ESG-Net for dense audio-visual event localization: class logits and boundaries at every point of the pyramid."""

    task = TASK
    loss_normalizer: Tensor
    # Half precision would round away the updates of a running count.
    _keep_in_fp32_modules_strict = ["loss_normalizer"]

    def __init__(self, config: EsgNetConfig):
        super().__init__(config)
        self.model = EsgNetModel(config)
        self.classification_head = EsgNetTower(config, config.num_labels)
        self.boundary_head = EsgNetTower(config, 2 * config.num_labels)
        self.level_scale = nn.Parameter(torch.empty(config.pyramid_levels))
        self.dependency_mixture = EsgNetDependencyMixture(config) if config.num_dependency_layers else None
        # Weights of the semantic evidence in a segment, before it, after it and in the rest of the video.
        self.evidence_weight = nn.Parameter(torch.empty(4)) if config.use_semantic_interaction else None
        # Running count of positive points; a buffer, so that a resumed training continues with it.
        self.register_buffer("loss_normalizer", torch.tensor(config.loss_normalizer_init, dtype=torch.float32))
        self.post_init()

    @merge_with_config_defaults
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
        **kwargs: Unpack[TransformersKwargs],
    ) -> EsgNetEventLocalizationOutput:
        """
        Args:
            visual_features (`torch.FloatTensor` of shape `(B, T, visual_size)`):
                Visual features; values on padded steps are ignored.
            audio_features (`torch.FloatTensor` of shape `(B, T, audio_size)`):
                Audio features on the same feature grid.
            attention_mask (`torch.Tensor` of shape `(B, T)`, *optional*):
                1 for real steps, 0 for padding. By default all steps are real.
            visual_mask, audio_mask (`torch.Tensor` of shape `(B, T)`, *optional*):
                1 for steps with a picture, or with sound; by default all real steps. 0 throughout for an absent stream.
            segment_labels (`torch.FloatTensor` of shape `(B, N, 2)`, *optional*):
                True events as (start, end) in grid positions, see `FeatureGrid.to_positions`.
            class_labels (`torch.LongTensor` of shape `(B, N)`, *optional*):
                Class ids of these events, -100 for padding. With both labels the loss is returned.

        Raises:
            ValueError: if the features' shapes do not fit the config or each other, or only one kind of label is given.
        """
        check_labels(segment_labels, class_labels)
        outputs = self.model(visual_features, audio_features, attention_mask, visual_mask, audio_mask, **kwargs)
        lengths = [-(-visual_features.shape[1] // 2**level) for level in range(self.config.pyramid_levels)]
        level_masks = list(outputs.point_mask.bool().split(lengths, dim=1))

        logits = self.classification_head(outputs.last_hidden_state, level_masks)
        scale = self.level_scale.repeat_interleave(
            torch.tensor(lengths, device=logits.device), output_size=sum(lengths)
        )
        distances = self.boundary_head(outputs.last_hidden_state, level_masks).unflatten(-1, (-1, 2))
        distances = distances * scale[:, None, None]
        router_weights = None
        if self.dependency_mixture is not None:
            step_logits = None if outputs.semantic_logits is None else outputs.semantic_logits[-1]
            correction, router_weights = self.dependency_mixture(
                logits.detach().float() - self._prior_bias,
                F.softplus(distances.detach().float()),
                None if step_logits is None else step_logits.detach().float() - self._prior_bias,
                outputs.points,
                level_masks,
            )
            logits, distances = logits + correction[..., 0], distances + correction[..., 1:]
        offsets = F.softplus(distances)
        if outputs.semantic_logits is not None:
            logits = logits + self._segment_logits(offsets, outputs).to(logits.dtype)

        loss, loss_dict = None, None
        if segment_labels is not None and class_labels is not None:
            loss, loss_dict = self._loss(logits, offsets, outputs, router_weights, segment_labels, class_labels)
        return EsgNetEventLocalizationOutput(
            loss=loss,
            loss_dict=loss_dict,
            logits=logits,
            offsets=offsets,
            points=outputs.points,
            point_mask=outputs.point_mask,
            router_weights=router_weights,
            semantic_logits=outputs.semantic_logits,
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _segment_logits(self, offsets: Tensor, outputs: EsgNetModelOutput) -> Tensor:
        """Weighted semantic evidence for the segment of each point and class, `(B, P, C)`.

        The evidence is that of the last stage's fused stream. Its initial weights contrast the segment with the rest of
        the video, since a scene can raise the logit of a class throughout. For a segment that fills the video only the
        inside counts.
        """
        assert outputs.points is not None and outputs.point_mask is not None
        assert outputs.semantic_logits is not None and self.evidence_weight is not None
        positions, strides = outputs.points[..., None, :].unbind(-1)  # (B, P, 1) each
        # Detached, so that the classification loss does not move the boundaries.
        before, after = (offsets.detach().float() * strides[..., None]).unbind(-1)  # (B, P, C) each
        step_logits = outputs.semantic_logits[-1][:, 2].float() - self._prior_bias
        mask = outputs.point_mask[:, : step_logits.shape[1]]
        evidence = segment_evidence(step_logits, mask, positions - before, positions + after)
        return evidence @ self.evidence_weight.float()

    def _loss(
        self,
        logits: Tensor,
        offsets: Tensor,
        outputs: EsgNetModelOutput,
        router_weights: tuple[Tensor, ...] | None,
        segment_labels: Tensor,
        class_labels: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        config = self.config
        assert outputs.points is not None and outputs.point_mask is not None
        loss_dict = localization_loss(
            config,
            logits,
            offsets,
            outputs.points[0],
            outputs.point_mask,
            segment_labels,
            class_labels,
            normalizer=self.loss_normalizer,
            training=self.training,
        )
        loss = loss_dict["classification"] + config.boundary_loss_weight * loss_dict["boundary"]
        if outputs.semantic_logits is not None:
            num_steps = outputs.semantic_logits[0].shape[2]
            targets = step_targets(num_steps, segment_labels.float(), class_labels, config.num_labels)
            loss_dict["semantic"] = semantic_guidance_loss(
                outputs.semantic_logits,
                targets,
                outputs.point_mask[:, :num_steps],
                config.focal_alpha,
                config.focal_gamma,
            )
            loss = loss + config.semantic_loss_weight * loss_dict["semantic"]
        if router_weights is not None:
            loss_dict["router"] = router_balance_loss(router_weights, outputs.point_mask)
            loss = loss + config.router_loss_weight * loss_dict["router"]
        return loss, loss_dict


__all__ = ["EsgNetForEventLocalization", "EsgNetModel", "EsgNetPreTrainedModel"]
