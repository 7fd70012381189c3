"""The clock of a feature sequence.

Seconds are used everywhere outside `models/esg_net`, grid positions inside it. A grid position counts features:
position 2.5 lies halfway between the third and the fourth feature of a stream. Both conversions stand in `FeatureGrid`.
"""

from dataclasses import asdict, dataclass

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
