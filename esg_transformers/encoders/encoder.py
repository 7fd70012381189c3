"""What every encoder gives, and what it takes to be one."""

import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid


@dataclass(frozen=True)
class AudioVisualFeatures:
    """The two feature sequences of a video, on one clock.

    Args:
        visual (`np.ndarray` of shape `(T, Dv)`, float32): what is seen; `None` for a file without pictures.
        audio (`np.ndarray` of shape `(T, Da)`, float32): what is heard; `None` for a file without sound.
        grid (`FeatureGrid`): the clock of both.
        duration (`float`): seconds of the whole file.

    Raises:
        ValueError: if both streams are missing, one is not 2-D, or they differ in length.

    >>> grid = FeatureGrid(frame_rate=10, stride=2, window=4)
    >>> AudioVisualFeatures(np.zeros((9, 3)), np.zeros((8, 2)), grid, duration=2.0)
    Traceback (most recent call last):
    ...
    ValueError: `visual` has 9 steps and `audio` has 8. Encode both on one grid, or cut the longer one first.
    """

    visual: np.ndarray | None
    audio: np.ndarray | None
    grid: FeatureGrid
    duration: float

    def __post_init__(self):
        if self.visual is None and self.audio is None:
            raise ValueError("`visual` and `audio` are both None. Features need at least one of the two.")
        for name, stream in (("visual", self.visual), ("audio", self.audio)):
            if stream is not None and stream.ndim != 2:
                raise ValueError(f"`{name}` has shape {stream.shape}; expected (steps, features).")
        if self.visual is not None and self.audio is not None and len(self.visual) != len(self.audio):
            raise ValueError(
                f"`visual` has {len(self.visual)} steps and `audio` has {len(self.audio)}. "
                "Encode both on one grid, or cut the longer one first."
            )


class AudioVisualEncoder(Protocol):
    """Anything that turns a media file into features.

    Attributes:
        name (`str`): written with what was encoded, so that features of two encoders are never mixed.
        version (`str`): changes whenever the features of the same file do.
        grid (`FeatureGrid`): the clock of the features.
        visual_size (`int`): features per step of what is seen, Dv.
        audio_size (`int`): features per step of what is heard, Da.
    """

    name: str
    version: str
    grid: FeatureGrid
    visual_size: int
    audio_size: int

    def __call__(self, path: str | os.PathLike) -> AudioVisualFeatures:
        """Features of a media file, float32, `grid.num_steps(duration)` steps in each stream that the file has.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if the file holds neither pictures nor sound that can be decoded.
        """
        ...
