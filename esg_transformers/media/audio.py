"""Sound of a media file, on the clock of its pictures."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import groupby

import av
import numpy as np

from esg_transformers.media.container import MediaFile, MediaSource, decode, find_stream, open_media, probe

MAX_JITTER = 0.05  # seconds; a time may differ from the sample count by less (rounding); more is a gap


def read_waveform(source: MediaSource, sampling_rate: int) -> np.ndarray:
    """The sound of a media file, mono, float32 `(S,)` in [-1, 1]: the pieces of `read_sound` joined."""
    return np.concatenate(list(read_sound(source, sampling_rate)))


def read_sound(source: MediaSource, sampling_rate: int) -> Iterator[np.ndarray]:
    """Generator of the sound of a media file, mono, one second at a time; memory does not grow with its length.

    Sample `s` is at `s / sampling_rate` seconds on the clock of `read_frames`; late starts and pauses are silent.
    Channels are averaged with equal weights, as in VGGish (tensorflow/models,
    research/audioset/vggish/vggish_input.py).

    Args:
        source: path of a media file, or its content. A `MediaFile` with `num_peaks` gets its `peaks` when the sound has
            been read to the end, unless it is so short that a part would have no sample.
        sampling_rate: samples per second to yield, >= 1.

    Yields:
        float32 `(sampling_rate,)` in [-1, 1], one second of sound; the last one is shorter if there is less left.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not a media file, or no sound can be decoded. Raised when the first second is asked for.
    """
    if not sampling_rate >= 1:
        raise ValueError(f"`sampling_rate` is {sampling_rate}; samples per second must be at least 1.")
    outline = None
    if isinstance(source, MediaFile) and 0 < source.num_peaks <= sampling_rate * source.info.duration:
        outline = _Outline(source.num_peaks, round(sampling_rate * source.info.duration))
    for second in _decoded_sound(source, sampling_rate):
        if outline:
            outline.add(second)
        yield second
    if outline and isinstance(source, MediaFile):
        source.peaks = outline.peaks()


def waveform_peaks(source: MediaSource, num_peaks: int = 2000) -> np.ndarray:
    """Outline of the sound of a media file, for `save_timeline_html`. Memory does not grow with its length.

    A `MediaFile` that has `num_peaks` peaks already is not opened.

    Args:
        source: path of a media file, or its content.
        num_peaks: number of equal parts of the duration, >= 1.

    Returns:
        float32 (num_peaks, 2): least and greatest sample of each part, in [-1, 1]; 0 where there is no sound.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if `num_peaks` is below 1, it is not a media file, or no sound can be decoded.
    """
    if num_peaks < 1:
        raise ValueError(f"`num_peaks` is {num_peaks}; the parts of a waveform must be at least 1.")
    if isinstance(source, MediaFile) and source.peaks is not None and len(source.peaks) == num_peaks:
        return source.peaks
    duration = probe(source).duration
    sampling_rate = max(8000, math.ceil(num_peaks / duration))  # at least one sample for each part
    outline = _Outline(num_peaks, round(sampling_rate * duration))
    for samples in _decoded_sound(source, sampling_rate):
        outline.add(samples)
    return outline.peaks()


class _Outline:
    """Least and greatest samples of equal parts of a sound that is given piece by piece.

    Args:
        num_parts: number of parts, at most `num_samples`.
        num_samples: expected length of the sound; samples beyond it count for the last part.
    """

    def __init__(self, num_parts: int, num_samples: int):
        self._num_parts, self._num_samples = num_parts, num_samples
        self._peaks = np.full((num_parts, 2), [np.inf, -np.inf], np.float32)
        self._position = 0  # samples added so far

    def add(self, samples: np.ndarray) -> None:
        """Add the next samples, float32 `(S,)`."""
        positions = np.arange(self._position, self._position + len(samples))
        parts = np.minimum(positions * self._num_parts // self._num_samples, self._num_parts - 1)
        starts = np.flatnonzero(np.diff(parts, prepend=-1))
        touched = parts[starts]
        self._peaks[touched, 0] = np.minimum(self._peaks[touched, 0], np.minimum.reduceat(samples, starts))
        self._peaks[touched, 1] = np.maximum(self._peaks[touched, 1], np.maximum.reduceat(samples, starts))
        self._position += len(samples)

    def peaks(self) -> np.ndarray:
        """float32 (num_parts, 2): least and greatest sample of each part; 0 for parts without samples."""
        return np.where(np.isinf(self._peaks), np.float32(0), self._peaks)


def _decoded_sound(source: MediaSource, sampling_rate: int) -> Iterator[np.ndarray]:
    """The sound of `read_sound`, decoded from the file."""
    with open_media(source) as container:
        stream = find_stream(container, "audio")
        if stream is None:
            raise ValueError(f"There is no audio stream in {container.name}. `probe` lists the streams of a file.")
        held, num_samples = np.empty(0, np.float32), 0
        for samples in _without_gaps(_resampled(container, stream, sampling_rate), sampling_rate):
            held = np.concatenate([held, np.clip(samples, -1.0, 1.0)])
            num_samples += len(samples)
            while len(held) >= sampling_rate:
                yield held[:sampling_rate]
                held = held[sampling_rate:]
        if len(held):
            yield held
        if num_samples == 0:
            raise ValueError(f"No sound can be decoded in {container.name}. Check that the file is complete.")


def _without_gaps(pieces: Iterable[tuple[int, np.ndarray]], sampling_rate: int) -> Iterator[np.ndarray]:
    """Consecutive samples from 0 on, of (first sample, samples); gaps become silence, at most a second at a time."""
    position = 0
    for start, samples in pieces:
        # The first piece lies exactly at its time; later ones join the one before unless the sound was interrupted.
        shift = start - position
        if position and abs(shift) <= MAX_JITTER * sampling_rate:
            shift = 0
        for begin in range(0, shift, sampling_rate):
            yield np.zeros(min(sampling_rate, shift - begin), np.float32)
        samples = samples[max(-shift, 0) :]
        yield samples
        position += max(shift, 0) + len(samples)


def _resampled(
    container: av.container.InputContainer, stream: av.AudioStream, sampling_rate: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, samples) of each decoded piece of a stream, mono, at another sampling rate."""
    # A broadcast may change its sampling rate or its channels; a resampler takes one format only.
    for _, decoded in groupby(decode(container, stream), key=lambda span: _kind(span[2])):
        # Not the frame's own `to_ndarray`: in PyAV 18.1 it reads past the end of more than 8 planes.
        interleaver = av.AudioResampler("flt")
        resampler = av.AudioResampler("flt", "mono", sampling_rate)
        for start, _, frame in decoded:
            rate = frame.sample_rate
            for interleaved in interleaver.resample(frame):
                samples = interleaved.to_ndarray().reshape(-1, frame.layout.nb_channels).mean(axis=1)
                # Resampling would spread a damaged float sample to its neighbours.
                samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
                mono = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
                mono.sample_rate, mono.time_base, mono.pts = rate, Fraction(1, rate), round(start * rate)
                for piece in resampler.resample(mono):
                    yield piece.pts or 0, piece.to_ndarray()[0]
        for piece in resampler.resample(None):
            if piece is not None:  # None if there was nothing to resample
                yield piece.pts or 0, piece.to_ndarray()[0]


def _kind(frame: av.AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name
