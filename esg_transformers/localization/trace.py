"""What the parts of ESG-Net say step by step: the classes at each semantic stage, and the weights of the experts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

if TYPE_CHECKING:
    from esg_transformers.localization.pipeline import AudioVisualEventLocalizationPipeline

STREAMS = ("visual", "audio", "fused")


@dataclass(frozen=True)
class Evidence:
    """Of one video of T steps; a model with S semantic stages, N layers of MoDE and E experts.

    Args:
        grid (`FeatureGrid`): the clock: step `t` is centred at `grid.to_seconds(t)`.
        labels (`tuple[str, ...]`): the C class names by id.
        semantic (`np.ndarray` of shape `(S, 3, T, C)`, float16):
            Probability of each class, by stage and stream (see `STREAMS`); `None` without ESI.
        router (`np.ndarray` of shape `(N, T, E)`, float16):
            How much each expert counts, by layer, on the finest level of the pyramid; `None` without MoDE.
    """

    grid: FeatureGrid
    labels: tuple[str, ...]
    semantic: np.ndarray | None
    router: np.ndarray | None


@torch.inference_mode()
def evidence_of(localizer: "AudioVisualEventLocalizationPipeline", video: Any) -> Evidence:
    """The evidence behind the events that a pipeline finds in a video; long videos go window by window as there.

    Args:
        localizer: a pipeline whose model is ESG-Net.
        video: what the pipeline takes, one video.

    Raises:
        ValueError: if the model gives neither semantic logits nor router weights, or the pipeline refuses the video.
    """
    config = localizer.model.config
    semantic: list[Tensor] = []
    router: list[Tensor] = []
    for inputs in localizer.preprocess(video):
        span = inputs["span"]
        mine = slice(span.answers_from - span.first, span.answers_to - span.first)
        tensors = {name: value.to(localizer.device) for name, value in inputs.items() if isinstance(value, Tensor)}
        outputs = localizer.model(**tensors)
        if outputs.get("semantic_logits") is not None:
            stages = torch.stack(outputs.semantic_logits)[:, 0]  # (S, 3, T, C)
            semantic.append(stages[:, :, mine].sigmoid().half().cpu())
        if outputs.get("router_weights") is not None:
            layers = torch.stack(outputs.router_weights)[:, 0]  # (N, P, E), the finest level first
            router.append(layers[:, mine].half().cpu())
    if not semantic and not router:
        raise ValueError(
            f"The model, a {type(localizer.model).__name__}, has no semantic stages and no experts to show. Use an "
            "ESG-Net with `use_semantic_interaction`, or with `num_dependency_layers` above 0."
        )
    return Evidence(
        grid=config.feature_grid,
        labels=tuple(config.id2label[index] for index in range(config.num_labels)),
        semantic=torch.cat(semantic, dim=2).numpy() if semantic else None,
        router=torch.cat(router, dim=1).numpy() if router else None,
    )
