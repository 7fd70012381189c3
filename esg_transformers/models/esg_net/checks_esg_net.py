"""Checks of configurations and model inputs; each raises a ValueError that names what came and what was expected."""

from typing import Any

from torch import Tensor


def check_class_names(config: Any) -> None:
    """Refuse class ids other than 0, 1, 2, ... and names that stand for two classes."""
    ids = list(range(len(config.id2label)))
    if sorted(config.id2label) != ids or len(config.label2id) != len(ids):
        raise ValueError(
            f"`id2label` must name the classes 0, 1, 2, ... once each, all names different; got {config.id2label}."
        )


def check_at_least(least: int, config: Any, *names: str) -> None:
    """Refuse fields of a configuration that are less than `least`."""
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"`{name}` must be at least {least}; got {getattr(config, name)}.")


def check_rates(config: Any, *names: str) -> None:
    """Refuse fields outside [0, 1); `None` is allowed."""
    for name in names:
        if getattr(config, name) is not None and not 0 <= getattr(config, name) < 1:
            raise ValueError(f"`{name}` must lie in [0, 1); got {getattr(config, name)}.")


def check_loss_settings(config: Any) -> None:
    """Refuse a prior, focal weight or normalizer of `localization_loss` that is out of range."""
    for name in ("prior_probability", "focal_alpha"):
        if not 0 < getattr(config, name) < 1:
            raise ValueError(f"`{name}` must lie in (0, 1); got {getattr(config, name)}.")
    if config.loss_normalizer_init <= 0:
        raise ValueError(f"`loss_normalizer_init` must be positive; got {config.loss_normalizer_init}.")
    check_rates(config, "loss_normalizer_momentum")


def check_feature_shapes(config: Any, visual_features: Tensor, audio_features: Tensor) -> None:
    """Refuse features that are not `(B, T, visual_size)` and `(B, T, audio_size)` of the config, T >= 1."""
    for name, features in (("visual", visual_features), ("audio", audio_features)):
        size = getattr(config, f"{name}_size")
        if features.dim() != 3 or features.shape[-1] != size or features.shape[1] == 0:
            raise ValueError(
                f"`{name}_features` has shape {tuple(features.shape)}; this model takes (videos, steps, {size}) with "
                "at least one step. Use the features it was trained on, or a model made for these: "
                f"`{type(config).__name__}({name}_size={features.shape[-1]})`."
            )
    if visual_features.shape[:2] != audio_features.shape[:2]:
        raise ValueError(
            f"`visual_features` has {tuple(visual_features.shape[:2])} videos and steps and `audio_features` "
            f"{tuple(audio_features.shape[:2])}. Encode both on one feature grid, or batch them with `EsgNetProcessor`."
        )


def check_labels(segment_labels: Tensor | None, class_labels: Tensor | None) -> None:
    """Refuse one half of the labels without the other."""
    if (segment_labels is None) != (class_labels is None):
        raise ValueError("Give both `segment_labels` and `class_labels` for a loss, or neither.")
