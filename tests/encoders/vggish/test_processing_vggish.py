from pathlib import Path

import numpy as np
import pytest
from transformers import AutoProcessor

from esg_transformers import VggishProcessor
from esg_transformers.encoders.vggish.processing_vggish import log_mel, mel_filters

FIXTURES = Path(__file__).parents[1] / "fixtures"


def mel(hertz):
    return 1127 * np.log(1 + hertz / 700)


def test_patches_are_those_of_the_public_implementation():
    reference = np.load(FIXTURES / "vggish.npz", allow_pickle=False)
    waveform = np.random.default_rng(2).uniform(-1, 1, 40_000) * np.linspace(0, 1, 40_000)  # as in fixtures/README.md
    np.testing.assert_allclose(VggishProcessor()(waveform, 16_000)["input_features"], reference["patches"], atol=1e-4)


def test_silence_is_the_logarithm_of_a_hundredth():
    np.testing.assert_allclose(log_mel(np.zeros(400)), np.log(0.01))


def test_a_tone_has_its_magnitude_in_the_band_around_it():
    # 1 kHz is bin 32 of 31.25 Hz, where a cosine under a Hann window of 400 has the magnitude 400 / 4.
    time = np.arange(400) / 16_000
    [spectrum] = log_mel(np.cos(2 * np.pi * 1000 * time))
    band = np.abs(mel(1000) - np.linspace(mel(125), mel(7500), 66)[1:-1]).argmin()
    assert spectrum.argmax() == band
    other_bins = np.exp(spectrum[band]) - 0.01 - 100 * mel_filters()[32, band]
    assert 0 < other_bins < 100  # two or three bins beside it, each with part of its magnitude


def test_bands_are_triangles_in_mel_from_125_to_7500_hz_and_leave_out_0_hz():
    filters = mel_filters()
    assert filters.shape == (257, 64)
    frequencies = np.linspace(0, 8000, 257)
    covered = frequencies[filters.sum(axis=1) > 0]
    assert covered.min() > 125 and covered.max() < 7500
    # Between two centres one band falls as the next one rises: they add up to 1.
    edges = np.linspace(mel(125), mel(7500), 66)
    inside = (mel(frequencies) > edges[1]) & (mel(frequencies) < edges[-2])
    np.testing.assert_allclose(filters[inside].sum(axis=1), 1)


def test_patches_begin_every_0_32_seconds():
    waveform = np.zeros(32_000)
    waveform[16_000:16_400] = 1.0  # at 1.0 s, one spectrum and parts of its neighbours
    loud = (VggishProcessor()(waveform, 16_000)["input_features"] > np.log(0.1)).any(dim=2)  # (T, 96)
    assert len(loud) == 4  # (32000 - 15600) // 5120 + 1
    for patch in range(4):
        # At 1.0 s stands spectrum 100 of all, 100 - 32 x patch of this one; patch 0 ends before it.
        assert loud[patch].any() == (patch > 0)
        if patch:
            assert loud[patch, 100 - 32 * patch]


def test_the_published_hop_leaves_no_overlap():
    waveform = np.random.default_rng(0).uniform(-1, 1, 48_000)
    wide, dense = VggishProcessor(0.96), VggishProcessor(0.32)
    patches = wide(waveform, 16_000)["input_features"]
    assert len(patches) == 3
    np.testing.assert_array_equal(patches, dense(waveform, 16_000)["input_features"][::3])


@pytest.mark.parametrize("num_patches", [1, 7])
def test_the_samples_that_patches_take_give_these_patches_and_one_less_does_not(num_patches):
    processor = VggishProcessor()
    num_samples = processor.num_samples(num_patches)
    assert len(processor(np.zeros(num_samples), 16_000)["input_features"]) == num_patches
    if num_patches > 1:
        assert len(processor(np.zeros(num_samples - 1), 16_000)["input_features"]) == num_patches - 1


@pytest.mark.parametrize(
    ("waveform", "sampling_rate", "message"),
    [
        (np.zeros(48_000), 48_000, "48000 samples per second; resample"),
        (np.zeros((2, 16_000)), 16_000, r"shape \(2, 16000\)"),
        (np.zeros(15_599), 16_000, "15599 samples and a patch takes 15600"),
    ],
)
def test_sound_that_does_not_fit_is_refused(waveform, sampling_rate, message):
    with pytest.raises(ValueError, match=message):
        VggishProcessor()(waveform, sampling_rate)


@pytest.mark.parametrize("hop_seconds", [0, -0.32, 0.325, float("nan"), float("inf")])
def test_a_hop_that_is_no_number_of_spectra_is_refused(hop_seconds):
    with pytest.raises(ValueError, match=r"multiple of 0\.01"):
        VggishProcessor(hop_seconds)


def test_a_saved_processor_is_the_same_after_loading(tmp_path):
    VggishProcessor(0.96).save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is VggishProcessor
    assert processor.hop_seconds == 0.96
