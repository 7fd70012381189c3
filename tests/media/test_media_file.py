from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.media import container as container_module
from esg_transformers.media.audio import read_sound, waveform_peaks
from esg_transformers.media.container import MediaFile, probe
from esg_transformers.media.video import read_frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """4 s of grey pictures at 10 per second, and 4 s of sound: silence, then a half-loud rising ramp from 2 s on."""
    path = tmp_path_factory.mktemp("clips") / "clip.mkv"
    with av.open(str(path), "w") as container:
        video, audio = (
            container.add_stream("ffv1", rate=10),
            container.add_stream("pcm_f32le", rate=16_000, layout="mono"),
        )
        video.width, video.height, video.pix_fmt = 32, 32, "bgr0"
        for index in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 100, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        samples = np.concatenate([np.zeros(32_000), np.linspace(0, 0.5, 32_000)]).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
        container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return path


@pytest.fixture
def openings(monkeypatch):
    """The names of the files that have been opened, in order."""
    opened, av_open = [], av.open

    def counting(file, *args, **kwargs):
        opened.append(Path(file.name).name)
        return av_open(file, *args, **kwargs)

    monkeypatch.setattr(container_module.av, "open", counting)
    return opened


def test_a_probe_is_one_opening(clip, openings):
    info = probe(clip)
    assert (info.duration, info.has_video, info.has_audio) == (pytest.approx(4.0, abs=0.01), True, True)
    assert (info.width, info.height, info.frame_rate, info.sampling_rate) == (32, 32, 10.0, 16_000)
    assert openings == ["clip.mkv"]


def test_a_media_file_is_probed_once(clip, openings):
    file = MediaFile(clip)
    assert probe(file) is probe(file) is file.info
    assert probe(file) == probe(str(clip))
    assert len(openings) == 2  # one of each


def test_encoding_opens_a_file_once_to_probe_it_and_once_for_each_stream(clip, openings):
    SpectralEncoder()(clip)
    assert len(openings) == 3


def test_probe_encoding_and_waveform_of_a_media_file_are_three_openings(clip, openings):
    file = MediaFile(clip, num_peaks=40)
    assert probe(file).has_audio
    features = SpectralEncoder()(file)
    peaks = waveform_peaks(file, 40)
    assert len(openings) == 3
    # Silence for 2 s; then parts of 0.1 s, each 0.025 higher than the one before.
    np.testing.assert_allclose(peaks[:20], 0, atol=1e-3)
    np.testing.assert_allclose(peaks[20:, 1], 0.025 * np.arange(1, 21), atol=2e-3)
    whole = SpectralEncoder()(clip)
    np.testing.assert_array_equal(features.visual, whole.visual)
    np.testing.assert_array_equal(features.audio, whole.audio)


def test_peaks_kept_while_reading_are_those_of_the_waveform(clip):
    file = MediaFile(clip, num_peaks=100)
    assert file.peaks is None
    for _ in read_sound(file, 8000):
        assert file.peaks is None  # until the end
    np.testing.assert_array_equal(file.peaks, waveform_peaks(clip, 100))


def test_a_waveform_of_another_number_of_peaks_is_decoded(clip, openings):
    file = MediaFile(clip, num_peaks=100)
    list(read_sound(file, 8000))
    np.testing.assert_array_equal(waveform_peaks(file, 50), waveform_peaks(clip, 50))


def test_no_peaks_are_kept_if_not_asked_for_or_if_samples_are_fewer(clip):
    for file, sampling_rate in ((MediaFile(clip), 8000), (MediaFile(clip, num_peaks=100), 20)):
        list(read_sound(file, sampling_rate))  # 80 samples of 4 s at 20 Hz
        assert file.peaks is None
    assert waveform_peaks(file, 100).shape == (100, 2)


def test_a_media_file_is_a_path(clip):
    file = MediaFile(clip)
    assert Path(file) == clip
    assert len(list(read_frames(file, 5))) == 20
    assert repr(file) == f"MediaFile('{clip}')"


def test_a_media_file_that_is_missing_is_named_when_it_is_used(tmp_path):
    file = MediaFile(tmp_path / "gone.mp4")
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4"):
        probe(file)


def test_a_media_file_reads_as_its_path(clip):
    assert str(MediaFile(clip)) == str(Path(MediaFile(clip))) == str(clip)
