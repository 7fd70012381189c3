"""Sound from a media file, on the clock of its pictures."""

import os
from collections.abc import Iterator
from fractions import Fraction
from itertools import groupby

import av
import numpy as np

from esg_transformers.media.video import decode, find_stream, open_media

MAX_JITTER = (
    0.05  # seconds; timestamps that differ less from the count of samples are rounding, more is a gap in the sound
)


def read_waveform(path: str | os.PathLike, sampling_rate: int) -> np.ndarray:
    """The sound of a media file, mono.

    Sample `s` is heard at `s / sampling_rate` seconds of the clock that `read_frames` counts on: where sound starts
    late, or stops and starts again, there is silence. Channels are averaged with equal weights, as in VGGish
    (tensorflow/models, research/audioset/vggish/vggish_input.py).

    Args:
        path: a media file.
        sampling_rate: samples per second to give, >= 1.

    Returns:
        float32 `(S,)` in [-1, 1].

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not a media file, or if it has no sound that decodes.
    """
    if not sampling_rate >= 1:
        raise ValueError(f"`sampling_rate` is {sampling_rate}; samples per second must be at least 1.")
    pieces: list[np.ndarray] = []
    length = 0
    with open_media(path) as container:
        stream = find_stream(container, "audio")
        if stream is None:
            raise ValueError(f"{path} has no audio stream. `probe` tells what a file holds.")
        for start, samples in _resampled(container, stream, sampling_rate):
            # The first piece lies exactly where its time says; later ones join on, unless the sound was interrupted.
            shift = start - length
            if length and abs(shift) <= MAX_JITTER * sampling_rate:
                shift = 0
            silence, surplus = max(shift, 0), max(-shift, 0)
            pieces += [np.zeros(silence, np.float32), samples[surplus:]]
            length += silence + len(samples[surplus:])
    if length == 0:
        raise ValueError(f"{path} has no sound that can be decoded. Check that the file is complete.")
    waveform = np.concatenate(pieces)
    return np.clip(waveform, -1.0, 1.0, out=waveform)


def _resampled(
    container: av.container.InputContainer, stream: av.stream.Stream, sampling_rate: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, samples) of each stretch of a stream, mono, at another sampling rate."""
    # A broadcast may change its sampling rate on the way; a resampler knows one.
    for rate, decoded in groupby(decode(container, stream), key=lambda span: span[2].sample_rate):
        resampler = av.AudioResampler("flt", "mono", sampling_rate)
        for start, _, frame in decoded:
            mono = av.AudioFrame.from_ndarray(_mono(frame)[None], format="flt", layout="mono")
            mono.sample_rate, mono.time_base, mono.pts = rate, Fraction(1, rate), round(start * rate)
            for piece in resampler.resample(mono):
                yield piece.pts, piece.to_ndarray()[0]
        for piece in resampler.resample(None):
            if piece is not None:  # where there was nothing to resample
                yield piece.pts, piece.to_ndarray()[0]


def _mono(frame: av.AudioFrame) -> np.ndarray:
    """float32 `(S,)` in [-1, 1], the average of the channels."""
    samples = frame.to_ndarray()  # planar: (channels, S); packed: (1, S * channels)
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    mono = samples.mean(axis=0, dtype=np.float32)
    if samples.dtype.kind == "u":  # 8 bit: 128 is silence
        return (mono - 128) / 128
    if samples.dtype.kind == "i":
        return mono / 2.0 ** (8 * samples.itemsize - 1)
    return mono
