"""The encoder that needs no weights: statistics of picture cells and of mel bands.

The features are ours, after common practice; no paper prescribes them. They keep what a small network needs to tell
which thing in a fixed scene moves, lights up or sounds: where in the picture, and in which band.
"""

import os
from collections.abc import Iterable

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from esg_transformers.encoders.encoder import AudioVisualFeatures
from esg_transformers.media.audio import read_waveform
from esg_transformers.media.video import probe, read_frames
from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid

GRID = FeatureGrid(frame_rate=10, stride=2, window=4)  # a feature every 0.2 s that sees 0.4 s

FRAME_SIZE = (96, 64)  # pixels, (width, height)
CELLS = (6, 4)  # cells of the picture, (columns, rows); each is 16 x 16 pixels
STATISTICS_PER_CELL = 7

SAMPLING_RATE = 16_000  # Hz
FFT_SIZE = 1024  # samples, 64 ms: the hum of a motor at 50 Hz stands apart from its harmonics
HOP = 160  # samples, 10 ms
NUM_MEL_BANDS = 64
STATISTICS_PER_BAND = 3
FLOOR = 1e-8  # power relative to a full-scale sine: -80 dB, above what lossy codecs leave of silence


class SpectralEncoder:
    """Colour, edge and motion statistics for the picture, log-mel statistics for the sound.

    Feature `g` sees the frames and the samples of its window, `[g * stride, g * stride + window) / frame_rate` seconds,
    and nothing else.

    Picture, 7 statistics of each of 24 cells and of the whole: mean red, green, blue, edges and motion; standard
    deviation of the motion; change of the brightness from the first to the second half of the window.

    Sound, 3 statistics of each of 64 mel bands and of their sum: mean and standard deviation of the log power; its
    change from the first to the second half of the window.

    Args:
        grid (`FeatureGrid`, *optional*): the clock of the features; by default one feature every 0.2 s that sees 0.4 s.

    Raises:
        ValueError: if a window of the grid holds fewer than 2 frames or is too short for a spectrum (0.1 s).

    >>> encoder = SpectralEncoder()
    >>> encoder.visual_size, encoder.audio_size
    (175, 195)
    """

    name = "spectral"
    version = "1"
    visual_size = STATISTICS_PER_CELL * (CELLS[0] * CELLS[1] + 1)
    audio_size = STATISTICS_PER_BAND * (NUM_MEL_BANDS + 1)

    def __init__(self, grid: FeatureGrid = GRID):
        seconds = grid.window / grid.frame_rate
        if grid.window < 2 or seconds < 0.1:
            raise ValueError(
                f"A window of the grid has {grid.window} frames and lasts {seconds:g} s; motion needs 2 frames and a "
                "spectrum 0.1 s. Choose a longer window."
            )
        self.grid = grid

    def __call__(self, path: str | os.PathLike) -> AudioVisualFeatures:
        """Features of a media file; a file without sound has no `audio`, one without pictures no `visual`.

        Where one of the two is shorter than the file, its last picture stays, or silence follows.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if it is not a media file, or if it has neither pictures nor sound that decode.
        """
        info = probe(path)
        num_steps = self.grid.num_steps(info.duration)
        visual, audio = None, None
        if info.has_video:
            visual = picture_features(read_frames(path, self.grid.frame_rate, FRAME_SIZE), self.grid, num_steps)
        if info.has_audio:
            audio = sound_features(read_waveform(path, SAMPLING_RATE), self.grid, num_steps)
        return AudioVisualFeatures(visual, audio, self.grid, info.duration)


def picture_features(frames: Iterable[np.ndarray], grid: FeatureGrid, num_steps: int) -> np.ndarray:
    """Statistics of the picture cells.

    Args:
        frames: uint8 `(64, 96, 3)` RGB pictures at `grid.frame_rate`, at least one; they are read once, and not kept.
        grid: the clock of the features; its window holds at least 2 frames.
        num_steps: features to give, T; the last picture is repeated where they need more.

    Returns:
        float32 `(T, 175)`, within about [-3, 5], in the order of `SpectralEncoder`: statistic by statistic, the cells
        row by row and after them the whole picture.
    """
    looks, motions = [], []  # per frame (cells, 4), red, green, blue and edges; per frame (cells,)
    previous = None
    for frame in frames:
        picture = frame.astype(np.float32) * (2 / 255) - 1
        brightness = picture.mean(axis=-1)
        edges = np.zeros_like(brightness)
        edges[:, 1:] += np.abs(np.diff(brightness, axis=1))
        edges[1:] += np.abs(np.diff(brightness, axis=0))
        looks.append(_cell_means(np.dstack([picture, np.log1p(10 * edges)])))
        change = np.zeros_like(brightness) if previous is None else np.abs(picture - previous).mean(axis=-1)
        motions.append(_cell_means(change[..., None])[:, 0])
        previous = picture

    num_frames = (num_steps - 1) * grid.stride + grid.window
    missing = max(num_frames - len(looks), 0)
    look = np.pad(np.stack(looks)[:num_frames], ((0, missing), (0, 0), (0, 0)), mode="edge")
    # Camera noise (0.01) gives 0.4, a mouth in a cell 1 to 2, a lamp that goes on 4.
    motion = np.log1p(50 * np.pad(np.stack(motions)[:num_frames], ((0, missing), (0, 0))))

    look = sliding_window_view(look, grid.window, axis=0)[:: grid.stride]  # (T, cells, 4, window)
    # The motion of a window's first frame began in the frame before it, which this window has not seen.
    motion = sliding_window_view(motion, grid.window, axis=0)[:: grid.stride, :, 1:]  # (T, cells, window - 1)
    brightness = look[:, :, :3].mean(axis=2)  # (T, cells, window)
    half = grid.window // 2
    brightness_change = brightness[..., -half:].mean(axis=-1) - brightness[..., :half].mean(axis=-1)
    statistics = [
        *np.moveaxis(look.mean(axis=-1), -1, 0),
        motion.mean(axis=-1),
        motion.std(axis=-1),
        np.arcsinh(10 * brightness_change),  # what log1p is to the motion, for either sign
    ]
    return np.concatenate(statistics, axis=1, dtype=np.float32)


def sound_features(waveform: np.ndarray, grid: FeatureGrid, num_steps: int) -> np.ndarray:
    """Statistics of the mel bands.

    Args:
        waveform: float32 `(S,)` in [-1, 1], 16 kHz, mono.
        grid: the clock of the features; its window lasts 0.1 s or longer.
        num_steps: features to give, T; silence follows where they need more sound.

    Returns:
        float32 `(T, 195)`, within about [-4, 4], in the order of `SpectralEncoder`: statistic by statistic, the bands
        from low to high and after them their sum.
    """
    starts = np.arange(num_steps) * grid.stride / grid.frame_rate * SAMPLING_RATE  # samples
    ends = starts + grid.window / grid.frame_rate * SAMPLING_RATE
    num_samples = int(np.ceil(ends[-1]))
    waveform = np.pad(waveform[:num_samples], (0, max(num_samples - len(waveform), 0)))

    log_power = _log_mel(waveform)  # (spectra, bands), a spectrum every HOP samples
    # The spectra wholly inside each window: from `first` to before `last`. Rounded, so that 20.0000001 counts as 20.
    first = np.ceil(np.round(starts / HOP, 6)).astype(int)
    last = np.floor(np.round((ends - FFT_SIZE) / HOP, 6)).astype(int) + 1
    middle = (first + last) // 2
    mean = _span_means(log_power, first, last)
    variance = _span_means(np.square(log_power, dtype=np.float64), first, last) - mean**2
    statistics = [
        mean,
        np.sqrt(np.maximum(variance, 0)),
        _span_means(log_power, middle, last) - _span_means(log_power, first, middle),
    ]
    return np.concatenate(statistics, axis=1).astype(np.float32)


def _cell_means(values: np.ndarray) -> np.ndarray:
    """Means of `(64, 96, K)` over each cell, row by row, and over the whole picture: `(25, K)`."""
    (columns, rows), (height, width, channels) = CELLS, values.shape
    cells = values.reshape(rows, height // rows, columns, width // columns, channels).mean(axis=(1, 3))
    cells = cells.reshape(rows * columns, channels)
    return np.concatenate([cells, cells.mean(axis=0, keepdims=True)])


def _log_mel(waveform: np.ndarray) -> np.ndarray:
    """Log power of the mel bands and of their sum, `(spectra, 65)`: 2 at full scale, 0 at -40 dB, -2 at -80 dB."""
    window = torch.hann_window(FFT_SIZE)
    filters = torch.from_numpy(_mel_filters()).float()  # (frequencies, bands)
    spans = torch.from_numpy(waveform).unfold(0, FFT_SIZE, HOP)  # (spectra, FFT_SIZE), a view
    blocks = []
    for block in spans.split(4096):  # 41 s each, to keep memory flat
        power = torch.fft.rfft(block * window).abs().square() / (window.sum() / 2) ** 2
        mel = power @ filters
        mel = torch.cat([mel, mel.sum(dim=1, keepdim=True)], dim=1)
        blocks.append((mel.clamp(min=FLOOR).log10() + 4) / 2)
    return torch.cat(blocks).numpy()


def _span_means(values: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Means of rows `begins[i]` to before `ends[i]` of `(N, K)` values: float64 `(spans, K)`; spans may overlap."""
    values = np.pad(values, ((0, 1), (0, 0)))  # as `reduceat` takes no index behind the last row
    borders = np.stack([begins, ends], axis=1).ravel()
    sums = np.add.reduceat(values, borders, axis=0, dtype=np.float64)
    return sums[::2] / (ends - begins)[:, None]  # every other sum runs from an end to the next begin


def _mel_filters() -> np.ndarray:
    """Triangular filters of peak 1, equally wide on Slaney's mel scale from 30 Hz to 8 kHz, `(513, 64)`."""
    try:
        # Imported here, as the import fails where torchaudio was built for another torch, used or not.
        from transformers.audio_utils import mel_filter_bank
    except OSError as error:
        raise ImportError(
            "transformers.audio_utils cannot be imported, most often because torchaudio was built for another torch. "
            "`pip uninstall torchaudio`, or install the one that goes with your torch."
        ) from error
    return mel_filter_bank(
        num_frequency_bins=FFT_SIZE // 2 + 1,
        num_mel_filters=NUM_MEL_BANDS,
        min_frequency=30.0,
        max_frequency=SAMPLING_RATE / 2,
        sampling_rate=SAMPLING_RATE,
        mel_scale="slaney",
    )
