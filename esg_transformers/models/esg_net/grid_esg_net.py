"""Description of features: their time grid, their sizes, and the encoder that made them.

Times are seconds outside `models/esg_net` and grid positions inside it. A grid position counts features: position 2.5
lies halfway between the third and the fourth feature of a stream. `FeatureGrid` converts both ways.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # this module is imported where torch is not needed, e.g. for the options of a command
    from torch import Tensor


@dataclass(frozen=True)
class FeatureGrid:
    """Time grid of a feature sequence: the frames that each feature covers.

    Feature `g` covers `window` frames from frame `g * stride` on and is centred at
    `(g * stride + window / 2) / frame_rate` seconds, the rule of UnAV (libs/datasets/unav100.py, commit 1609deb).

    Args:
        frame_rate (`float`): frames per second of the decoded video, > 0.
        stride (`int`): frames from one feature to the next, >= 1.
        window (`int`): frames one feature covers, >= 1.

    Raises:
        ValueError: if a value is out of range.

    >>> import torch
    >>> grid = FeatureGrid(frame_rate=25.0, stride=8, window=24)
    >>> grid.to_seconds(torch.tensor([0.0, 10.0]))
    tensor([0.4800, 3.6800])
    >>> grid.to_positions(torch.tensor([0.48, 3.68]))
    tensor([ 0., 10.])
    """

    frame_rate: float
    stride: int
    window: int

    def __post_init__(self) -> None:
        whole = self.stride % 1 == 0 and self.window % 1 == 0
        if not (0 < self.frame_rate < float("inf") and self.stride >= 1 and self.window >= 1 and whole):
            raise ValueError(
                "A feature grid needs a finite frame_rate > 0 and whole frames, stride >= 1 and window >= 1; got "
                f"{self.frame_rate} frames/s, stride {self.stride} and window {self.window}."
            )
        # One type per value, so that a grid read from JSON equals the grid that was written.
        object.__setattr__(self, "frame_rate", float(self.frame_rate))
        object.__setattr__(self, "stride", int(self.stride))
        object.__setattr__(self, "window", int(self.window))

    def to_seconds(self, positions: "Tensor") -> "Tensor":
        """Time in seconds of grid positions (any shape; fractions allowed)."""
        return (positions * self.stride + self.window / 2) / self.frame_rate

    def to_positions(self, seconds: "Tensor") -> "Tensor":
        """Grid positions of times in seconds (any shape); the inverse of `to_seconds`."""
        return (seconds * self.frame_rate - self.window / 2) / self.stride

    @property
    def step(self) -> float:
        """Seconds from one feature to the next."""
        return self.stride / self.frame_rate

    def num_steps(self, duration: float) -> int:
        """Number of features whose window lies inside `duration` seconds of video; at least one.

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
class EncoderId:
    """Name and version of an encoder. The version changes whenever the features of the same file do."""

    name: str
    version: str

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and isinstance(self.version, str)):
            raise ValueError(
                f"An encoder's name and version must be strings; got {self.name!r} and {self.version!r}. "
                'Write them as {"name": "spectral", "version": "1"}.'
            )

    def to_dict(self) -> dict[str, str]:
        """`{"name", "version"}`, as written with every corpus and processor."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class FeatureSpec:
    """Description of the features of a video: time grid, channels of both streams, and encoder.

    Args:
        grid (`FeatureGrid`): time grid of both streams.
        visual_size (`int`): channels of the visual stream, >= 1.
        audio_size (`int`): channels of the audio stream, >= 1.
        encoder (`EncoderId`, *optional*): the encoder that made them; `None` if unknown.

    Raises:
        ValueError: if a size is below 1.

    >>> spec = FeatureSpec(FeatureGrid(5.0, 1, 2), visual_size=175, audio_size=195, encoder=EncoderId("spectral", "1"))
    >>> spec.check(FeatureSpec(FeatureGrid(5.0, 1, 2), visual_size=175, audio_size=128), source="The corpus")
    Traceback (most recent call last):
    ...
    ValueError: The corpus has 175 visual and 128 audio channels; expected 175 and 195. ...
    """

    grid: FeatureGrid
    visual_size: int
    audio_size: int
    encoder: EncoderId | None = None

    def __post_init__(self) -> None:
        if self.visual_size < 1 or self.audio_size < 1:
            raise ValueError(
                "`visual_size` and `audio_size` must be at least 1 channel each; "
                f"got {self.visual_size} and {self.audio_size}."
            )

    def check(self, other: "FeatureSpec", source: str) -> None:
        """Refuse features with another spec. Encoders are compared only if both are known.

        Args:
            other: spec of the features.
            source: where they come from; the beginning of the message.

        Raises:
            ValueError: naming the difference.
        """
        # Compared by value: code from a Hub repository may be loaded twice, each time with a class of its own.
        if other.grid.to_dict() != self.grid.to_dict():
            raise ValueError(
                f"{source} is on a feature grid of {other.grid}; expected {self.grid}. Encode the videos again on the "
                "expected grid, or use a model trained on the other one."
            )
        if (other.visual_size, other.audio_size) != (self.visual_size, self.audio_size):
            raise ValueError(
                f"{source} has {other.visual_size} visual and {other.audio_size} audio channels; expected "
                f"{self.visual_size} and {self.audio_size}. Use the features that the model was trained on."
            )
        if self.encoder and other.encoder and other.encoder.to_dict() != self.encoder.to_dict():
            raise ValueError(
                f"{source} has features of the encoder {other.encoder}; expected those of {self.encoder}. Encode the "
                f"videos again with {self.encoder}, or train a model on features of {other.encoder}."
            )

    def config_fields(self) -> dict[str, Any]:
        """Fields of a model's config, and of a processor, with these values; the encoder is not among them.

        >>> FeatureSpec(FeatureGrid(25.0, 8, 24), visual_size=2048, audio_size=128).config_fields()
        {'visual_size': 2048, 'audio_size': 128, 'frame_rate': 25.0, 'feature_stride': 8, 'feature_window': 24}
        """
        return {
            "visual_size": self.visual_size,
            "audio_size": self.audio_size,
            "frame_rate": self.grid.frame_rate,
            "feature_stride": self.grid.stride,
            "feature_window": self.grid.window,
        }
