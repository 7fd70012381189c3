"""A very small ESG-Net with all its parts, for tests."""

from typing import Any

import torch

from esg_transformers import EsgNetConfig, EsgNetForEventLocalization

TINY = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_embedding_layers": 1,
    "semantic_size": 8,
    "pyramid_levels": 2,
    "num_dependency_layers": 1,
    "num_experts": 3,
    "num_event_slots": 2,
    "event_slot_size": 4,
    "head_size": 12,
    "num_head_layers": 1,
}


def tiny_esg_net(seed: int = 0, **fields: Any) -> EsgNetForEventLocalization:
    """A tiny model in evaluation mode.

    Args:
        seed: seed of its weights.
        fields: fields of its config in place of, or besides, those of `TINY`.
    """
    torch.manual_seed(seed)
    settings: dict[str, Any] = {**TINY, **fields}
    model = EsgNetForEventLocalization(EsgNetConfig(**settings))
    model.train(False)
    return model
