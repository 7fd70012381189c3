"""Time: the feature grid, the points of the temporal pyramid, and segments on both.

Seconds are used everywhere outside `models/esg_net`, grid positions inside it. A grid position counts features:
position 2.5 lies halfway between the third and the fourth feature of a stream. Both conversions stand in `FeatureGrid`.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureGrid:
    """The clock of a feature sequence: which frames each feature has seen.

    Feature `g` covers `window` frames from frame `g * stride` on and is centred at
    `(g * stride + window / 2) / frame_rate` seconds, the rule of UnAV (libs/datasets/unav100.py, commit 1609deb).

    Args:
        frame_rate (`float`): frames per second of the decoded video, > 0.
        stride (`int`): frames from one feature to the next, >= 1.
        window (`int`): frames one feature covers, >= 1.

    Raises:
        ValueError: if a value is out of range.

    >>> grid = FeatureGrid(frame_rate=25.0, stride=8, window=24)
    >>> grid.to_seconds(torch.tensor([0.0, 10.0]))
    tensor([0.4800, 3.6800])
    >>> grid.to_positions(torch.tensor([0.48, 3.68]))
    tensor([ 0., 10.])
    """

    frame_rate: float
    stride: int
    window: int

    def __post_init__(self):
        whole = self.stride % 1 == 0 and self.window % 1 == 0
        if not (0 < self.frame_rate < float("inf") and self.stride >= 1 and self.window >= 1 and whole):
            raise ValueError(
                "A feature grid needs a finite frame_rate > 0 and whole frames, stride >= 1 and window >= 1; got "
                f"{self.frame_rate} frames/s, stride {self.stride} and window {self.window}."
            )
        # One representation of one clock, so that a grid read from JSON equals the grid that was written.
        object.__setattr__(self, "frame_rate", float(self.frame_rate))
        object.__setattr__(self, "stride", int(self.stride))
        object.__setattr__(self, "window", int(self.window))

    def to_seconds(self, positions: Tensor) -> Tensor:
        """Time in seconds of grid positions (any shape; fractions allowed)."""
        return (positions * self.stride + self.window / 2) / self.frame_rate

    def to_positions(self, seconds: Tensor) -> Tensor:
        """Grid positions of times in seconds (any shape); the inverse of `to_seconds`."""
        return (seconds * self.frame_rate - self.window / 2) / self.stride

    @property
    def step(self) -> float:
        """Seconds from one feature to the next."""
        return self.stride / self.frame_rate

    def num_steps(self, duration: float) -> int:
        """Features that fit in `duration` seconds: those whose window lies inside the video, and at least one.

        >>> FeatureGrid(25.0, 8, 24).num_steps(10.0)  # 250 frames: windows start at frames 0, 8, ..., 224
        29
        """
        # Rounded first, so that 3.2 s x 25 frames/s counts 80 frames and not 79.999.
        frames = round(duration * self.frame_rate, 6)
        return max(int((frames - self.window) // self.stride) + 1, 1)

    def to_dict(self) -> dict[str, float | int]:
        """`{"frame_rate", "stride", "window"}`, as written with every corpus, processor and checkpoint."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.frame_rate:g} frames/s, stride {self.stride}, window {self.window}"


@dataclass(frozen=True)
class TemporalPoints:
    """The points of a temporal pyramid, level after level.

    Args:
        positions (`Tensor` of shape `(P,)`, float32): grid positions.
        strides (`Tensor` of shape `(P,)`, float32): grid cells from a point to the next of its level.
    """

    positions: Tensor
    strides: Tensor

    @classmethod
    def for_pyramid(cls, num_steps: int, num_levels: int, device: torch.device | None = None) -> "TemporalPoints":
        """Points of `num_levels` levels over `num_steps` features; level `l` has one every `2**l` steps, from step 0
        on.

        The first point of every level is at step 0, without a half-stride offset, as in UnAV
        (libs/modeling/loc_generators.py, commit 1609deb).

        >>> TemporalPoints.for_pyramid(num_steps=5, num_levels=2).positions
        tensor([0., 1., 2., 3., 4., 0., 2., 4.])
        """
        positions = [torch.arange(0, num_steps, 2**level, device=device) for level in range(num_levels)]
        strides = [torch.full_like(p, 2**level) for level, p in enumerate(positions)]
        return cls(torch.cat(positions).float(), torch.cat(strides).float())

    def decode(self, offsets: Tensor) -> Tensor:
        """Segments of boundary offsets.

        Args:
            offsets: `(..., P, C, 2)`, distances from each point to the start and to the end, in strides of the point,
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
        `(...,)`, in [0, 1]; 0 for two segments of no length.

    >>> temporal_iou(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0]))  # 1 shared, 3 covered
    tensor(0.3333)
    """
    overlap = torch.minimum(segments[..., 1], others[..., 1]) - torch.maximum(segments[..., 0], others[..., 0])
    overlap = overlap.clamp(min=0)
    lengths = (segments[..., 1] - segments[..., 0] + eps) + (others[..., 1] - others[..., 0] + eps)
    return overlap / (lengths - overlap).clamp(min=torch.finfo(lengths.dtype).tiny)
