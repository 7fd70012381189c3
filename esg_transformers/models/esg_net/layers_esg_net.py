"""Building blocks that networks for event localization share: attention and stochastic depth.

The letters of the shapes: B videos, T steps.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


class DropPath(nn.Module):
    """Stochastic depth: in training, a residual branch is skipped for a random share of the videos."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """The branch `(B, ...)`, scaled up by the share that is kept; 0 for videos that skip it."""
        if self.rate == 0 or not self.training:
            return branch
        kept = torch.rand(len(branch), *[1] * (branch.dim() - 1), device=branch.device) >= self.rate
        return branch * kept.to(branch.dtype) / (1 - self.rate)


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention written out: (B, heads, T, head_size) -> (B, T, heads, head_size) and the weights (B, heads, T, T)."""
    weights = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = weights.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2), weights


def attend(
    module: nn.Module, config: PreTrainedConfig, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention by the implementation that the config names; see `eager_attention_forward`."""
    attention: Callable[..., tuple[Tensor, Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(
        config._attn_implementation, eager_attention_forward
    )
    return attention(module, query, key, value, mask, scaling=query.shape[-1] ** -0.5, dropout=0.0, is_causal=False)


def attention_mask_for(config: PreTrainedConfig, queries: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor | None:
    """Mask in the form that the config's attention takes, from the keys' mask `(B, T)`; `None` if all keys are real.

    A video without a single real key attends to all, since its softmax would be 0/0; callers discard the result.
    """
    key_mask = key_mask | ~key_mask.any(dim=1, keepdim=True)
    mask = create_bidirectional_mask(
        config=config, inputs_embeds=queries, attention_mask=key_mask, encoder_hidden_states=keys
    )
    return cast("Tensor | None", mask)  # only flex attention, which is not supported, has another type of mask
