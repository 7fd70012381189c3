"""Encoding of media files of any length, decoded step by step."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, repeat
from multiprocessing import parent_process

import numpy as np
from tqdm import tqdm

from esg_transformers.encoders.encoder import AudioVisualFeatures
from esg_transformers.media.audio import read_sound
from esg_transformers.media.container import MediaSource, probe
from esg_transformers.media.video import read_frames
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

StepByStep = Callable[[Iterable[np.ndarray], int], Iterator[np.ndarray]]


def encode_in_blocks(
    source: MediaSource,
    grid: FeatureGrid,
    num_steps: int,
    see: StepByStep | None,
    hear: StepByStep | None,
    sampling_rate: int,
    frame_size: tuple[int, int] | None = None,
) -> Iterator[AudioVisualFeatures]:
    """Generator of the features of a media file in blocks: the method `blocks` of an `AudioVisualEncoder`.

    The file is opened once to probe it, unless it is a [`MediaFile`] that has been probed, and once for each stream,
    which is decoded to its end. Memory holds only what `see` and `hear` keep.

    Args:
        source: path of a media file, or its content.
        grid: time grid of the features.
        num_steps: steps of a block, >= 1; the last block may have fewer.
        see: visual network: takes pictures, uint8 `(H, W, 3)` at the frame rate of the grid, and the number of steps;
            yields float32 `(Dv,)` for each step. `None` if the encoder has no visual network.
        hear: audio network: takes consecutive pieces of sound, float32 `(S,)`, and the number of steps; yields float32
            `(Da,)` for each step. `None` if the encoder has no audio network.
        sampling_rate: samples per second of the sound that `hear` takes.
        frame_size: (width, height) in pixels of the pictures that `see` takes; by default that of the file.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not a media file, or has no stream that can be decoded and encoded. Raised when the first
            block is asked for.
    """
    info = probe(source)
    total = grid.num_steps(info.duration)
    pictures: Iterable[np.ndarray] = ()
    sound: Iterable[np.ndarray] = ()
    visual: Iterable[np.ndarray | None] = repeat(None, total)
    audio: Iterable[np.ndarray | None] = repeat(None, total)
    if info.has_video and see:
        pictures = read_frames(source, grid.frame_rate, frame_size)
        visual = see(pictures, total)
    if info.has_audio and hear:
        sound = read_sound(source, sampling_rate)
        audio = hear(sound, total)
    if not (pictures or sound):
        name = "<bytes>" if isinstance(source, bytes) else source
        missing, model = ("pictures", "audio") if see else ("sound", "visual")
        raise ValueError(f"{name} has no {missing}, and the encoder has no {model} model. Give it both.")

    steps: Iterator[tuple[np.ndarray | None, np.ndarray | None]] = zip(visual, audio, strict=True)
    if parent_process() is None:  # worker processes share one bar, their parent's
        steps = iter(tqdm(steps, "Features", total, leave=False, unit="step"))
    while block := list(islice(steps, num_steps)):
        seen, heard = (None if stream[0] is None else np.stack(stream) for stream in zip(*block, strict=True))
        yield AudioVisualFeatures(seen, heard, grid, info.duration)
    # Read to the end: there the decoder warns of damaged packets, and a `MediaFile` gets its peaks.
    deque(chain(pictures, sound), maxlen=0)
