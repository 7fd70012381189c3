"""The interface of encoders: the protocol, the features it returns, and encoding in blocks."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from esg_transformers.media.container import MediaSource
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid, FeatureSpec


@dataclass(frozen=True)
class AudioVisualFeatures:
    """Visual and audio features of a media file, or of a part of it, on one grid.

    Args:
        visual (`np.ndarray` of shape `(T, Dv)`, float32): `None` for a file without pictures.
        audio (`np.ndarray` of shape `(T, Da)`, float32): `None` for a file without sound.
        grid (`FeatureGrid`): time grid of both.
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

    def __post_init__(self) -> None:
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
    """Callable that turns a media file into features; any class with these two members is one.

    `encoders/README.md` shows how to write one. An encoder may also have a method `blocks(source, num_steps)`, which
    yields the features of `encoder(source)` in order, `num_steps` steps at a time (fewer in the last block), each block
    with the duration of the whole file. With it, memory does not grow with the length of the file. [`feature_blocks`]
    uses it, and cuts the features of the whole file if it is missing.

    Attributes:
        feature_spec (`FeatureSpec`):
            Grid, channels per step (Dv and Da), and name and version of the encoder. It is stored with the features, so
            that those of two encoders are never mixed. Change the version whenever the features of a file change.
    """

    feature_spec: FeatureSpec

    def __call__(self, source: MediaSource) -> AudioVisualFeatures:
        """Features of a media file, float32, `feature_spec.grid.num_steps(duration)` steps in each stream.

        Args:
            source: path of the file, or its content. Give it to `probe`, `read_frames` and `read_sound` as it is: a
                [`MediaFile`] is then probed once and decoded once.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if neither pictures nor sound can be decoded.
        """
        ...


def feature_blocks(encoder: AudioVisualEncoder, source: MediaSource, num_steps: int) -> Iterator[AudioVisualFeatures]:
    """Generator of the features of `encoder(source)` from start to end, in blocks.

    An encoder with a method `blocks` encodes each block when it is asked for, in memory that does not grow with the
    length of the file. Any other encoder encodes the whole file first.

    Args:
        encoder: encoder of the file.
        source: path of a media file, or its content.
        num_steps: steps of a block, >= 1; the last block may have fewer.

    Yields:
        features on the grid of the encoder; `duration` is that of the whole file.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if `num_steps` is below 1, or the file cannot be encoded. Raised when a block is asked for.

    >>> from esg_transformers.models.esg_net.grid_esg_net import EncoderId
    >>> class OneNumberPerSecond:
    ...     feature_spec = FeatureSpec(FeatureGrid(1, 1, 1), 1, 1, EncoderId("ones", "1"))
    ...     def __call__(self, source):
    ...         return AudioVisualFeatures(None, np.ones((5, 1), np.float32), self.feature_spec.grid, duration=5.0)
    >>> [len(block.audio) for block in feature_blocks(OneNumberPerSecond(), "five_seconds.wav", num_steps=2)]
    [2, 2, 1]
    """
    if num_steps < 1:
        raise ValueError(f"`num_steps` is {num_steps}; a block has at least 1 step.")
    if hasattr(encoder, "blocks"):
        yield from encoder.blocks(source, num_steps)
        return
    whole = encoder(source)
    visual, audio = whole.visual, whole.audio
    for first in range(0, max(len(stream) for stream in (visual, audio) if stream is not None), num_steps):
        steps = slice(first, first + num_steps)
        yield replace(
            whole,
            visual=None if visual is None else visual[steps],
            audio=None if audio is None else audio[steps],
        )
