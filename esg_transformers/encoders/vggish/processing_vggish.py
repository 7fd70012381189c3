"""Preprocessing of sound for VGGish: log-mel patches.

The rules are those of torchvggish (torchvggish/mel_features.py, vggish_input.py and vggish_params.py, commit f3f9096).
Only the hop between patches differs, see [`VggishProcessor`].
"""

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from transformers import BatchFeature, ProcessorMixin

from esg_transformers.models.esg_net.sharing_esg_net import CodeOnPush

SAMPLING_RATE = 16_000  # Hz
WINDOW = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
FFT_SIZE = 512  # samples
NUM_BANDS = 64
LOWEST, HIGHEST = 125.0, 7500.0  # Hz, ends of the mel bands
LOG_OFFSET = 0.01  # added to the magnitude of a band before the logarithm
PATCH_LENGTH = 96  # spectra


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """Log magnitudes of the mel bands, every 10 ms.

    Args:
        waveform: `(S,)` in [-1, 1], 16 kHz, mono; at least 400 samples.

    Returns:
        float64 `(spectra, 64)`; spectrum `n` is that of samples `160 n` to `160 n + 399`.

    >>> log_mel(np.zeros(560)).shape
    (2, 64)
    """
    # A periodic Hann window: its last sample is not 0.
    window = 0.5 - 0.5 * np.cos(2 * np.pi / WINDOW * np.arange(WINDOW))
    frames = sliding_window_view(np.asarray(waveform, np.float64), WINDOW)[::HOP]
    magnitudes: np.ndarray = np.abs(np.fft.rfft(frames * window, FFT_SIZE)) @ mel_filters()
    return np.log(magnitudes + LOG_OFFSET)


def mel_filters() -> np.ndarray:
    """Filters `(257, 64)`: triangles of peak 1, linear on the mel scale of HTK, not in hertz. 0 Hz has weight 0."""
    frequencies = _mel(np.linspace(0, SAMPLING_RATE / 2, FFT_SIZE // 2 + 1))[:, None]  # (257, 1)
    edges = np.linspace(_mel(LOWEST), _mel(HIGHEST), NUM_BANDS + 2)
    low, center, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequencies - low) / (center - low), (high - frequencies) / (high - center)
    filters: np.ndarray = np.maximum(np.minimum(rising, falling), 0)
    filters[0] = 0
    return filters


class VggishProcessor(ProcessorMixin, CodeOnPush):
    r"""
    Processor that cuts sound into log-mel patches of 0.96 s for a [`VggishModel`].

    Args:
        hop_seconds (`float`, *optional*, defaults to 0.32):
            Seconds from a patch to the next, a multiple of 0.01. VGGish was published with 0.96. The features of
            UnAV-100 have 0.32, the stride of its I3D features, so that both streams have one grid (its author in
            github.com/ttgeng233/UnAV/issues/7).

    Raises:
        ValueError: if `hop_seconds` is not a positive multiple of 0.01.
    """

    auto_class = "AutoProcessor"

    def __init__(self, hop_seconds: float = 0.32):
        self.hop_seconds = float(hop_seconds)
        spectra = self.hop_seconds * SAMPLING_RATE / HOP
        if not (0.5 < spectra < float("inf") and abs(spectra - round(spectra)) < 1e-6):
            raise ValueError(f"`hop_seconds` must be a positive multiple of 0.01; got {hop_seconds}.")
        super().__init__()  # type: ignore[no-untyped-call]  # of transformers

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors that `__call__` returns."""
        return ["input_features"]

    @property
    def hop(self) -> int:
        """Samples from a patch to the next."""
        return round(self.hop_seconds * SAMPLING_RATE)

    def num_samples(self, num_patches: int) -> int:
        """Number of samples in a number of patches.

        >>> VggishProcessor().num_samples(1) / 16000  # 95 hops of 10 ms and one spectrum of 25 ms
        0.975
        """
        return (num_patches - 1) * self.hop + (PATCH_LENGTH - 1) * HOP + WINDOW

    def __call__(self, waveform: np.ndarray, sampling_rate: int) -> BatchFeature:
        """
        Args:
            waveform: `(S,)` in [-1, 1], mono.
            sampling_rate: samples per second; 16000.

        Returns:
            `input_features`, float32 `(T, 96, 64)`: patch `t` starts at `t * hop_seconds`. Sound at the end that is
            too short for a patch is dropped, as in torchvggish.

        Raises:
            ValueError: if the sound has another sampling rate, is not mono, or does not fill one patch.
        """
        waveform = np.asarray(waveform)
        if sampling_rate != SAMPLING_RATE:
            raise ValueError(f"The sound has {sampling_rate} samples per second; resample it to {SAMPLING_RATE} first.")
        if waveform.ndim != 1:
            raise ValueError(f"The sound has shape {waveform.shape}; expected (samples,), one channel.")
        if len(waveform) < self.num_samples(1):
            raise ValueError(
                f"The sound has {len(waveform)} samples and a patch takes {self.num_samples(1)}. Append silence."
            )
        spectra = log_mel(waveform).astype(np.float32)
        patches = sliding_window_view(spectra, PATCH_LENGTH, axis=0)[:: self.hop // HOP]  # (T, 64, 96)
        return BatchFeature({"input_features": torch.from_numpy(patches.transpose(0, 2, 1).copy())})


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    return np.asarray(1127 * np.log1p(np.asarray(hertz) / 700))


__all__ = ["VggishProcessor"]
