"""Intermediate outputs of ESG-Net over a whole video: class probabilities of the semantic stages, expert weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.models.esg_net.pipeline_esg_net import WindowTrace

if TYPE_CHECKING:
    from esg_transformers.localization.pipeline import AudioVisualEventLocalizationPipeline, VideoInput

STREAMS = ("visual", "audio", "fused")


@dataclass(frozen=True)
class Trace:
    """Intermediate outputs for one video of T steps; a model with S semantic stages, N layers of MoDE and E experts.

    Args:
        grid (`FeatureGrid`): time grid of the steps: step `t` is centred at `grid.to_seconds(t)`.
        labels (`tuple[str, ...]`): the C class names by id.
        semantic (`np.ndarray` of shape `(S, 3, T, C)`, float16):
            Probability of each class, by stage and stream (see `STREAMS`); `None` without ESI.
        router (`np.ndarray` of shape `(N, T, E)`, float16):
            Weight of each expert, by layer, on the finest level of the pyramid; `None` without MoDE.
    """

    grid: FeatureGrid
    labels: tuple[str, ...]
    semantic: np.ndarray | None
    router: np.ndarray | None


def trace_of(localizer: "AudioVisualEventLocalizationPipeline", video: "VideoInput") -> Trace:
    """Trace of a video; [`AudioVisualEventLocalizationPipeline.localize`] gives it together with the events.

    Args:
        localizer: a pipeline whose model is ESG-Net.
        video: one video, as the pipeline takes it.

    Raises:
        ValueError: if the model has no semantic stages and no experts, or the pipeline refuses the video.
    """
    trace = localizer.localize(video, with_trace=True).trace
    assert trace is not None
    return trace


def check_traceable(model: Any) -> None:
    """Refuse a model that has nothing to trace.

    Raises:
        ValueError: if it has no semantic stages and no experts.
    """
    config = model.config
    has_experts = getattr(config, "num_dependency_layers", 0) > 0
    if not (getattr(config, "use_semantic_interaction", False) or has_experts):
        raise ValueError(
            f"The model, a {type(model).__name__}, has no semantic stages and no experts to show. Use an ESG-Net with "
            "`use_semantic_interaction`, or with `num_dependency_layers` above 0."
        )


def joined_trace(windows: Sequence[WindowTrace], config: Any) -> Trace:
    """Trace of a video from those of its windows, in order; each step comes from the window that owns it."""
    return Trace(
        grid=config.feature_grid,
        labels=tuple(config.id2label[index] for index in range(config.num_labels)),
        semantic=_joined([window.semantic for window in windows], dim=2),
        router=_joined([window.router for window in windows], dim=1),
    )


def _joined(parts: Sequence[Tensor | None], dim: int) -> np.ndarray | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present, dim=dim).numpy() if present else None
