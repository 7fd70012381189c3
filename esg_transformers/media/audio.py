"""Sound from a media file, on the clock of its pictures."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import groupby

import av
import numpy as np

from esg_transformers.media.video import MediaSource, decode, find_stream, open_media, probe

MAX_JITTER = 0.05  # seconds; a time that is off the count of samples by less is rounded, by more it tells of a gap


def read_waveform(source: MediaSource, sampling_rate: int) -> np.ndarray:
    """The sound of a media file, mono, float32 `(S,)` in [-1, 1]: all that `read_sound` gives, in one piece."""
    return np.concatenate(list(read_sound(source, sampling_rate)))


def read_sound(source: MediaSource, sampling_rate: int) -> Iterator[np.ndarray]:
    """The sound of a media file, mono, second after second, in memory that does not grow with its length.

    Sample `s` is heard at `s / sampling_rate` seconds of the clock that `read_frames` counts on: where sound starts
    late, or stops and starts again, there is silence. Channels are averaged with equal weights, as in VGGish
    (tensorflow/models, research/audioset/vggish/vggish_input.py).

    Args:
        source: the path of a media file, or its bytes.
        sampling_rate: samples per second to give, >= 1.

    Yields:
        float32 `(sampling_rate,)` in [-1, 1], one second of sound; the last one is as long as what is left.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not a media file, or if it has no sound that decodes. As this is a generator, errors come
            when the first second is asked for.
    """
    if not sampling_rate >= 1:
        raise ValueError(f"`sampling_rate` is {sampling_rate}; samples per second must be at least 1.")
    with open_media(source) as container:
        stream = find_stream(container, "audio")
        if stream is None:
            raise ValueError(f"There is no audio stream in {container.name}. `probe` tells what a file holds.")
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
    """Samples from 0 on, of (first sample, samples): silence where nothing is heard, at most a second at a time."""
    position = 0
    for start, samples in pieces:
        # The first piece lies exactly where its time says; later ones join on, unless the sound was interrupted.
        shift = start - position
        if position and abs(shift) <= MAX_JITTER * sampling_rate:
            shift = 0
        for begin in range(0, shift, sampling_rate):
            yield np.zeros(min(sampling_rate, shift - begin), np.float32)
        samples = samples[max(-shift, 0) :]
        yield samples
        position += max(shift, 0) + len(samples)


def _resampled(
    container: av.container.InputContainer, stream: av.stream.Stream, sampling_rate: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, samples) of each stretch of a stream, mono, at another sampling rate."""
    # A broadcast may change its sampling rate or its channels on the way; a resampler knows one kind of sound.
    for _, decoded in groupby(decode(container, stream), key=lambda span: _kind(span[2])):
        # Not by the frame's own `to_ndarray`, which in PyAV 18.1 reads past the end of more than 8 planes.
        interleaver = av.AudioResampler("flt")
        resampler = av.AudioResampler("flt", "mono", sampling_rate)
        for start, _, frame in decoded:
            rate = frame.sample_rate
            for interleaved in interleaver.resample(frame):
                samples = interleaved.to_ndarray().reshape(-1, frame.layout.nb_channels).mean(axis=1)
                # A damaged float sample must not reach those around it when they are resampled.
                samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
                mono = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
                mono.sample_rate, mono.time_base, mono.pts = rate, Fraction(1, rate), round(start * rate)
                for piece in resampler.resample(mono):
                    yield piece.pts, piece.to_ndarray()[0]
        for piece in resampler.resample(None):
            if piece is not None:  # where there was nothing to resample
                yield piece.pts, piece.to_ndarray()[0]


def _kind(frame: av.AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name


def waveform_peaks(source: MediaSource, num_peaks: int = 2000) -> np.ndarray:
    """The outline of the sound of a media file, for `save_timeline_html`. Memory does not grow with its length.

    Args:
        source: a media file, or its bytes.
        num_peaks: equal parts to cut the duration of the file into, >= 1.

    Returns:
        float32 (num_peaks, 2): the least and the greatest sample of each part, in [-1, 1]; 0 where there is no sound.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if `num_peaks` is below 1, or if it is not a media file, or if it has no sound that decodes.
    """
    if num_peaks < 1:
        raise ValueError(f"`num_peaks` is {num_peaks}; the parts of a waveform must be at least 1.")
    duration = probe(source).duration
    sampling_rate = max(8000, math.ceil(num_peaks / duration))  # so that every part has a sample
    num_samples = round(sampling_rate * duration)
    peaks = np.full((num_peaks, 2), [np.inf, -np.inf], np.float32)
    first = 0  # sample of the stretch
    for samples in read_sound(source, sampling_rate):
        parts = np.minimum(np.arange(first, first + len(samples)) * num_peaks // num_samples, num_peaks - 1)
        starts = np.flatnonzero(np.diff(parts, prepend=-1))
        touched = parts[starts]
        peaks[touched, 0] = np.minimum(peaks[touched, 0], np.minimum.reduceat(samples, starts))
        peaks[touched, 1] = np.maximum(peaks[touched, 1], np.maximum.reduceat(samples, starts))
        first += len(samples)
    peaks[np.isinf(peaks)] = 0
    return peaks
