"""Segments in time: points of the temporal pyramid, decoding of offsets, temporal IoU."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TemporalPoints:
    """Points of a temporal pyramid, level after level.

    Args:
        positions (`Tensor` of shape `(P,)`, float32): grid positions.
        strides (`Tensor` of shape `(P,)`, float32): grid cells from a point to the next of its level.
    """

    positions: Tensor
    strides: Tensor

    @classmethod
    def for_pyramid(cls, num_steps: int, num_levels: int, device: torch.device | None = None) -> "TemporalPoints":
        """Points of `num_levels` levels over `num_steps` features.

        Level `l` has a point every `2**l` steps. The first is at step 0, without a half-stride offset, as in UnAV
        (libs/modeling/loc_generators.py, commit 1609deb).

        >>> TemporalPoints.for_pyramid(num_steps=5, num_levels=2).positions
        tensor([0., 1., 2., 3., 4., 0., 2., 4.])
        """
        positions = [torch.arange(0, num_steps, 2**level, device=device) for level in range(num_levels)]
        strides = [torch.full_like(p, 2**level) for level, p in enumerate(positions)]
        return cls(torch.cat(positions).float(), torch.cat(strides).float())

    def decode(self, offsets: Tensor) -> Tensor:
        """Segments from boundary offsets.

        Args:
            offsets: `(..., P, C, 2)`, distances from each point to the start and the end, in strides of the point,
                >= 0.

        Returns:
            `(..., P, C, 2)`, (start, end) in grid positions.
        """
        distances = offsets * self.strides[:, None, None]
        return self.positions[:, None, None] + distances * distances.new_tensor([-1.0, 1.0])


def temporal_iou(segments: Tensor, others: Tensor, eps: float = 0.0) -> Tensor:
    """Intersection over union of segments, element by element (shapes broadcast).

    Args:
        segments: `(..., 2)`, (start, end), any unit.
        others: `(..., 2)`, in the same unit.
        eps: added to each length; the upstream C++ soft-NMS uses 1e-6 (libs/utils/csrc/nms_cpu.cpp, UnAV 1609deb).

    Returns:
        `(...,)`, in [0, 1]; 0 for two segments of zero length.

    >>> temporal_iou(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0]))  # 1 shared, 3 covered
    tensor(0.3333)
    """
    overlap = torch.minimum(segments[..., 1], others[..., 1]) - torch.maximum(segments[..., 0], others[..., 0])
    overlap = overlap.clamp(min=0)
    lengths = (segments[..., 1] - segments[..., 0] + eps) + (others[..., 1] - others[..., 0] + eps)
    return overlap / (lengths - overlap).clamp(min=torch.finfo(lengths.dtype).tiny)
