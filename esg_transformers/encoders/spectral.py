"""Encoder without weights: statistics of picture cells and of mel bands.

The features are this package's, after common practice; no paper prescribes them. In a fixed scene they show where in
the picture something moves or lights up, and in which frequency band something sounds.
"""

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, count, islice, repeat

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from esg_transformers.encoders.encoder import AudioVisualFeatures
from esg_transformers.encoders.streaming import encode_in_blocks
from esg_transformers.media.container import MediaSource
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec

ENCODER = EncoderId("spectral", "1")
GRID = FeatureGrid(frame_rate=10, stride=2, window=4)  # a feature every 0.2 s that covers 0.4 s

FRAME_SIZE = (96, 64)  # pixels, (width, height)
CELLS = (6, 4)  # cells of the picture, (columns, rows); each is 16 x 16 pixels
STATISTICS_PER_CELL = 7
TO_PICTURE = 2 / 255  # from steps of 8 bits to the range [-1, 1] of the features

SAMPLING_RATE = 16_000  # Hz
FFT_SIZE = 1024  # samples, 64 ms: separates the hum of a motor at 50 Hz from its harmonics
HOP = 160  # samples, 10 ms
NUM_MEL_BANDS = 64
STATISTICS_PER_BAND = 3
FLOOR = 1e-8  # power relative to a full-scale sine: -80 dB, above what lossy codecs leave of silence

# Batches are counted from the start of the file, so that no feature depends on the number of steps in a block.
FRAMES_AT_ONCE = 32
SPECTRA_AT_ONCE = 128
STEPS_AT_ONCE = 64


class SpectralEncoder:
    """Encoder: colour, edge and motion statistics of the picture, log-mel statistics of the sound.

    Feature `g` depends only on the frames and samples of its window, `[g * stride, g * stride + window) / frame_rate`
    seconds.

    Picture, 7 statistics of each of 24 cells and of the whole: mean red, green, blue, edges and motion; standard
    deviation of the motion; change of the brightness from the first to the second half of the window.

    Sound, 3 statistics of each of 64 mel bands and of their sum: mean and standard deviation of the log power; its
    change from the first to the second half of the window.

    Args:
        grid (`FeatureGrid`, *optional*): by default a feature every 0.2 s that covers 0.4 s.

    Raises:
        ValueError: if a window of the grid holds fewer than 2 frames or is too short for a spectrum (0.1 s).

    >>> spec = SpectralEncoder().feature_spec
    >>> str(spec.encoder), spec.visual_size, spec.audio_size
    ('spectral 1', 175, 195)
    """

    def __init__(self, grid: FeatureGrid = GRID):
        seconds = grid.window / grid.frame_rate
        if grid.window < 2 or seconds < 0.1:
            raise ValueError(
                f"A window of the grid has {grid.window} frames and lasts {seconds:g} s; motion needs 2 frames and a "
                "spectrum 0.1 s. Choose a longer window."
            )
        visual_size = STATISTICS_PER_CELL * (CELLS[0] * CELLS[1] + 1)
        self.feature_spec = FeatureSpec(grid, visual_size, STATISTICS_PER_BAND * (NUM_MEL_BANDS + 1), ENCODER)

    def __call__(self, source: MediaSource) -> AudioVisualFeatures:
        """Features of a media file: no `audio` if it has no sound, no `visual` if it has no pictures.

        A stream that ends before the file is continued: the last picture is repeated, sound is followed by silence.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if it is not a media file, or neither pictures nor sound can be decoded.
        """
        [features] = self.blocks(source, sys.maxsize)
        return features

    def blocks(self, source: MediaSource, num_steps: int) -> Iterator[AudioVisualFeatures]:
        """Generator of the same features, `num_steps` steps at a time, in memory that does not grow with the file.

        Errors are raised when the first block is asked for.
        """
        grid = self.feature_spec.grid
        see, hear = partial(picture_features, grid=grid), partial(sound_features, grid=grid)
        return encode_in_blocks(source, grid, num_steps, see, hear, SAMPLING_RATE, FRAME_SIZE)


def picture_features(frames: Iterable[np.ndarray], num_steps: int, grid: FeatureGrid) -> Iterator[np.ndarray]:
    """Generator of the statistics of the picture cells.

    Args:
        frames: uint8 `(64, 96, 3)` RGB pictures at `grid.frame_rate`, at least one; each is read once, when needed. The
            last one is repeated at the end.
        num_steps: number of features.
        grid: time grid of the features; its window holds at least 2 frames.

    Yields:
        float32 `(175,)` for each step, within about [-3, 5], in the order of `SpectralEncoder`: statistic by statistic,
        the cells row by row and after them the whole picture.
    """
    measured = _Tape(_frame_statistics(frames))
    for steps in _step_ranges(num_steps):
        rows = measured.rows(steps[0] * grid.stride, steps[-1] * grid.stride + grid.window)
        windows = sliding_window_view(rows, grid.window, axis=0)[:: grid.stride]  # (T, cells, 5, window)
        look = windows[:, :, :4]  # red, green, blue and edges
        # The motion of a window's first frame is left out: it depends on the frame before the window.
        # Camera noise (0.01) gives 0.4, a mouth in a cell 1 to 2, a lamp that is switched on 4.
        motion = np.log1p(50 * windows[:, :, 4, 1:])  # (T, cells, window - 1)
        brightness = look[:, :, :3].mean(axis=2)  # (T, cells, window)
        half = grid.window // 2
        brightness_change = brightness[..., -half:].mean(axis=-1) - brightness[..., :half].mean(axis=-1)
        statistics = [
            *np.moveaxis(look.mean(axis=-1), -1, 0),
            motion.mean(axis=-1),
            motion.std(axis=-1),
            np.arcsinh(10 * brightness_change),  # compresses like the log1p of the motion, for both signs
        ]
        yield from np.concatenate(statistics, axis=1).astype(np.float32)


def sound_features(pieces: Iterable[np.ndarray], num_steps: int, grid: FeatureGrid) -> Iterator[np.ndarray]:
    """Generator of the statistics of the mel bands.

    Args:
        pieces: consecutive float32 `(S,)` in [-1, 1], 16 kHz, mono; each is read once, when needed. Silence follows.
        num_steps: number of features.
        grid: time grid of the features; its window lasts 0.1 s or longer.

    Yields:
        float32 `(195,)` for each step, within about [-4, 4], in the order of `SpectralEncoder`: statistic by statistic,
        the bands from low to high and after them their sum.
    """
    spectra = _Tape(_log_mel(pieces))
    for steps in _step_ranges(num_steps):
        starts = np.array(steps) * grid.stride / grid.frame_rate * SAMPLING_RATE  # samples
        ends = starts + grid.window / grid.frame_rate * SAMPLING_RATE
        # The spectra wholly inside each window, from `first` to before `last`; rounded, as 20.0000001 counts as 20.
        first = np.ceil(np.round(starts / HOP, 6)).astype(int)
        last = np.floor(np.round((ends - FFT_SIZE) / HOP, 6)).astype(int) + 1
        log_power = spectra.rows(first[0], last[-1])  # (spectra, bands)
        first, last = first - first[0], last - first[0]
        middle = (first + last) // 2
        mean = _interval_means(log_power, first, last)
        variance = _interval_means(np.square(log_power, dtype=np.float64), first, last) - mean**2
        statistics = [
            mean,
            np.sqrt(np.maximum(variance, 0)),
            _interval_means(log_power, middle, last) - _interval_means(log_power, first, middle),
        ]
        yield from np.concatenate(statistics, axis=1).astype(np.float32)


def _step_ranges(num_steps: int) -> Iterator[range]:
    """The steps from 0 to before `num_steps`, `STEPS_AT_ONCE` at a time."""
    for first in range(0, num_steps, STEPS_AT_ONCE):
        yield range(first, min(first + STEPS_AT_ONCE, num_steps))


class _Tape:
    """Sliding buffer of the rows of an endless sequence that comes in pieces."""

    def __init__(self, pieces: Iterator[np.ndarray]):
        self._pieces = pieces
        self._held = next(pieces)
        self._begin = 0  # number of the first row held

    def rows(self, first: int, last: int) -> np.ndarray:
        """Rows `first` to before `last`; rows before `first` are dropped."""
        parts = [self._held]
        end = self._begin + len(self._held)
        while end < last:
            parts.append(next(self._pieces))
            end += len(parts[-1])
        self._held = np.concatenate(parts)[first - self._begin :]
        self._begin = first
        return self._held[: last - first]


def _frame_statistics(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Red, green, blue, edges and motion of each cell, float64 `(FRAMES_AT_ONCE, 25, 5)`, without end."""
    staying = _with_last_repeated(frames)
    previous = None
    while True:
        batch = np.stack(list(islice(staying, FRAMES_AT_ONCE)))  # (N, 64, 96, 3)
        brightness = batch[..., 0].astype(np.int16) + batch[..., 1] + batch[..., 2]
        edges = np.zeros_like(brightness)
        edges[:, :, 1:] += np.abs(np.diff(brightness, axis=2))
        edges[:, 1:] += np.abs(np.diff(brightness, axis=1))
        before = np.concatenate([batch[:1] if previous is None else previous, batch[:-1]])
        change = np.maximum(batch, before) - np.minimum(batch, before)  # stays uint8
        yield np.concatenate(
            [
                _cell_means(batch) * TO_PICTURE - 1,
                _cell_means(np.log1p(edges[..., None] * np.float32(10 * TO_PICTURE / 3))),
                _cell_means(change).mean(axis=-1, keepdims=True) * TO_PICTURE,
            ],
            axis=-1,
        )
        previous = batch[-1:]


def _with_last_repeated(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for frame in frames:
        yield frame
    yield from repeat(frame)


def _cell_means(values: np.ndarray) -> np.ndarray:
    """Means of `(N, 64, 96, K)` over each cell, row by row, and over the whole picture: float64 `(N, 25, K)`."""
    (columns, rows), (num_frames, height, width, channels) = CELLS, values.shape
    # Two sums: the first one, over rows of pixels, reads memory in order. Sums of whole numbers are exact.
    sums = values.reshape(num_frames, rows, height // rows, width * channels).sum(axis=2, dtype=np.float32)
    sums = sums.reshape(num_frames, rows * columns, width // columns, channels).sum(axis=2, dtype=np.float64)
    cells = sums * (rows * columns / (height * width))
    return np.concatenate([cells, cells.mean(axis=1, keepdims=True)], axis=1)


def _log_mel(pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Log power of the mel bands and of their sum, float32 `(SPECTRA_AT_ONCE, 65)`, without end.

    One spectrum every `HOP` samples. Full scale is 2, -40 dB is 0, -80 dB is -2.
    """
    window = torch.hann_window(FFT_SIZE)
    filters = torch.from_numpy(_mel_filters()).float()  # (frequencies, bands)
    sound = _Tape(chain(pieces, repeat(np.zeros(SAMPLING_RATE, np.float32))))
    for first in count(0, SPECTRA_AT_ONCE):
        samples = sound.rows(first * HOP, (first + SPECTRA_AT_ONCE - 1) * HOP + FFT_SIZE)
        frames = torch.from_numpy(samples).unfold(0, FFT_SIZE, HOP)  # (spectra, FFT_SIZE), a view
        power = torch.fft.rfft(frames * window).abs().square() / (window.sum() / 2) ** 2
        mel = power @ filters
        mel = torch.cat([mel, mel.sum(dim=1, keepdim=True)], dim=1)
        yield ((mel.clamp(min=FLOOR).log10() + 4) / 2).numpy()


def _interval_means(values: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Means of rows `begins[i]` to before `ends[i]` of `(N, K)` values: float64 `(intervals, K)`; they may overlap."""
    values = np.pad(values, ((0, 1), (0, 0)))  # `reduceat` needs a row at every index, also behind the last one
    borders = np.stack([begins, ends], axis=1).ravel()
    sums = np.add.reduceat(values, borders, axis=0, dtype=np.float64)
    return np.asarray(sums[::2] / (ends - begins)[:, None])  # every other sum runs from an end to the next begin


def _mel_filters() -> np.ndarray:
    """Triangular filters of peak 1, equally wide on Slaney's mel scale from 30 Hz to 8 kHz, `(513, 64)`."""
    try:
        # Imported here: the import fails if torchaudio was built for another torch, even if torchaudio is not used.
        from transformers.audio_utils import mel_filter_bank
    except OSError as error:
        raise ImportError(
            "transformers.audio_utils cannot be imported, most often because torchaudio was built for another torch. "
            "`pip uninstall torchaudio`, or install the one that goes with your torch."
        ) from error
    filters: np.ndarray = mel_filter_bank(
        num_frequency_bins=FFT_SIZE // 2 + 1,
        num_mel_filters=NUM_MEL_BANDS,
        min_frequency=30.0,
        max_frequency=SAMPLING_RATE / 2,
        sampling_rate=SAMPLING_RATE,
        mel_scale="slaney",
    )
    return filters
