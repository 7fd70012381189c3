"""Output of a network for event localization; `EsgNetProcessor` turns it into events."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils.generic import ModelOutput


@dataclass
class EventLocalizationOutput(ModelOutput):
    """
    Class logits and boundaries at every point of a temporal pyramid: B videos, P points on all levels, C classes.

    Args:
        loss (`torch.FloatTensor` of shape `()`, returned with labels):
            Weighted sum of the parts in `loss_dict`.
        loss_dict (`dict[str, torch.FloatTensor]`, returned with labels):
            `classification` and `boundary`, each without its weight, and the losses of the network's own parts.
        logits (`torch.FloatTensor` of shape `(B, P, C)`):
            Class logits of each point; a sigmoid each, since events overlap.
        offsets (`torch.FloatTensor` of shape `(B, P, C, 2)`):
            For each class, distances from the point to the event's start and end, in strides of the point, >= 0.
        points (`torch.FloatTensor` of shape `(B, P, 2)`):
            Position and stride of each point, in grid cells; the same for every video.
        point_mask (`torch.LongTensor` of shape `(B, P)`):
            1 for points on real steps, 0 on padding.
    """

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    logits: Tensor | None = None
    offsets: Tensor | None = None
    points: Tensor | None = None
    point_mask: Tensor | None = None
