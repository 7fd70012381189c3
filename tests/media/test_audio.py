import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest

from esg_transformers.media.audio import read_sound, read_waveform


def write_sound(path, samples, rate, layout="mono", codec="pcm_s16le", starts=(0.0,), with_video=False):
    """`samples` (channels, S) float in [-1, 1], cut in as many equal parts as there are `starts`, in seconds."""
    packed = {"pcm_s16le": "s16", "pcm_u8": "u8", "pcm_f32le": "flt"}
    with av.open(str(path), "w") as container:
        if with_video:
            picture = container.add_stream("libx264", rate=25)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout=layout)
        container.start_encoding()
        if with_video:
            for index in range(75):  # 3 s
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(picture.encode(frame))
            container.mux(picture.encode())
        for part, start in zip(np.split(samples, len(starts), axis=1), starts, strict=True):
            for first in range(0, part.shape[1], 1024):
                block = part[:, first : first + 1024]
                if codec == "pcm_s16le":
                    block = np.round(block * 32767).astype(np.int16)
                elif codec == "pcm_u8":
                    block = np.round(block * 127 + 128).astype(np.uint8)
                if codec in packed:
                    block = block.T.reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(block), format=packed.get(codec, "fltp"), layout=layout
                )
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = round(start * rate) + first
                container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


def tone(hertz, rate, seconds=1.0, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)[None]


def heard(waveform, rate):
    """(first, last) second at which something is heard."""
    loud = np.flatnonzero(np.abs(waveform) > 0.05)
    return loud[0] / rate, loud[-1] / rate


def test_samples_at_the_rate_of_the_file_are_its_own(tmp_path):
    path = write_sound(tmp_path / "s.wav", np.array([[0.0, 0.5, -1.0, 1.0]], np.float32), 8000)
    waveform = read_waveform(path, 8000)
    assert waveform.dtype == np.float32
    # 0.5 x 32767 is rounded to 16384; 16 bit full scale is 32768.
    np.testing.assert_array_equal(waveform, np.float32([0, 16384, -32767, 32767]) / 32768)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_a_tone_keeps_its_pitch_loudness_and_length_when_resampled(tmp_path, rate):
    path = write_sound(tmp_path / "s.wav", tone(1000, rate), rate)
    waveform = read_waveform(path, 16000)
    assert len(waveform) == pytest.approx(16000, abs=2)
    spectrum = np.abs(np.fft.rfft(waveform[:16000]))
    assert spectrum.argmax() == 1000  # 1 Hz a bin
    assert np.abs(waveform[1000:15000]).max() == pytest.approx(0.5, abs=0.01)


def test_channels_are_averaged(tmp_path):
    channels = np.zeros((6, 8000), np.float32)
    channels[2] = 0.6  # front centre of 5.1
    path = write_sound(tmp_path / "s.wav", channels, 8000, "5.1")
    np.testing.assert_allclose(read_waveform(path, 8000), 0.1, atol=1e-4)


def test_loud_stereo_is_not_made_louder(tmp_path):
    path = write_sound(
        tmp_path / "s.mp4", np.repeat(tone(440, 44100, amplitude=0.9), 2, axis=0), 44100, "stereo", "aac"
    )
    assert np.abs(read_waveform(path, 16000)[2000:14000]).max() == pytest.approx(0.9, abs=0.05)


def test_eight_bit_silence_is_silent(tmp_path):
    path = write_sound(tmp_path / "s.wav", np.zeros((1, 8000), np.float32), 8000, codec="pcm_u8")
    np.testing.assert_array_equal(read_waveform(path, 16000), 0)


def test_float_samples_beyond_full_scale_are_clipped(tmp_path):
    path = write_sound(tmp_path / "s.wav", np.array([[0.25, 3.0, -3.0]], np.float32), 8000, codec="pcm_f32le")
    np.testing.assert_array_equal(read_waveform(path, 8000), np.float32([0.25, 1, -1]))


@pytest.mark.parametrize(
    ("suffix", "codec", "tolerance"), [(".mkv", "pcm_s16le", 0.002), (".mkv", "aac", 0.03), (".mp4", "aac", 0.03)]
)
def test_sound_that_starts_late_is_padded_with_silence(tmp_path, suffix, codec, tolerance):
    path = write_sound(tmp_path / f"v{suffix}", tone(1000, 44100), 44100, codec=codec, starts=[1.2], with_video=True)
    assert heard(read_waveform(path, 16000), 16000) == pytest.approx((1.2, 2.2), abs=tolerance)


def test_a_gap_in_the_sound_is_silence_and_what_follows_keeps_its_time(tmp_path):
    path = write_sound(tmp_path / "v.mkv", tone(1000, 16000), 16000, starts=[0.0, 2.0], with_video=True)
    waveform = read_waveform(path, 16000)
    assert np.abs(waveform[8100:31900]).max() == 0
    assert heard(waveform[8100:], 16000)[0] + 8100 / 16000 == pytest.approx(2.0, abs=0.002)


def test_sound_comes_second_by_second_and_joins_to_the_waveform(tmp_path):
    path = write_sound(tmp_path / "v.mkv", tone(1000, 44100, 2.5), 44100, codec="aac", starts=[0.3], with_video=True)
    seconds = list(read_sound(path, 16000))
    assert [len(second) for second in seconds[:-1]] == [16000] * 2
    assert 0 < len(seconds[-1]) <= 16000
    np.testing.assert_array_equal(np.concatenate(seconds), read_waveform(path.read_bytes(), 16000))


def test_memory_does_not_grow_with_the_length_of_the_sound_or_of_a_gap_in_it(tmp_path):
    # 3 minutes, of which the first and the last second are heard: 12 MB in one piece.
    gap = write_sound(tmp_path / "gap.mkv", tone(1000, 16000, 2.0), 16000, starts=[0.0, 179.0], with_video=True)
    sound = write_sound(tmp_path / "s.wav", tone(1000, 16000, 180.0), 16000)
    for path in (gap, sound):
        tracemalloc.start()
        num_samples = sum(len(second) for second in read_sound(path, 16000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert num_samples == pytest.approx(180 * 16000, abs=100)
        assert peak < 2e6


def test_more_than_eight_channels_are_averaged_too(tmp_path):
    path = tmp_path / "s.mka"
    channels = 0.5 * np.ones((8000, 10)) * (np.arange(10) < 4)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=48000, layout="10 channels", options={"mapping_family": "255"})
        samples = np.round(32767 * np.repeat(channels, 6, axis=0)).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="10 channels")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    # Opus lets no constant pass, but the beginning of one: 4 of 10 channels at 0.5.
    assert read_waveform(path, 48000)[:400].max() == pytest.approx(0.2, abs=0.05)


def test_samples_that_are_no_numbers_do_not_spread(tmp_path):
    samples = np.full((1, 8000), 0.25, np.float32)
    samples[0, 4000:4002] = np.nan, np.inf
    waveform = read_waveform(write_sound(tmp_path / "s.wav", samples, 8000, codec="pcm_f32le"), 16000)
    assert np.isfinite(waveform).all()
    np.testing.assert_allclose(waveform[1000:7900], 0.25, atol=0.01)
    np.testing.assert_allclose(waveform[8100:15000], 0.25, atol=0.01)


def test_times_rounded_to_milliseconds_leave_no_clicks(tmp_path):
    path = write_sound(tmp_path / "v.mkv", tone(100, 44100), 44100, with_video=True)
    waveform = read_waveform(path, 44100)
    # A 100 Hz sine of amplitude 0.5 moves by at most 2 pi 100 / 44100 x 0.5 = 0.007 a sample.
    assert np.abs(np.diff(waveform)).max() < 0.008


def test_truncated_sound_gives_what_it_has(tmp_path):
    path = write_sound(tmp_path / "s.wav", tone(1000, 8000), 8000)
    path.write_bytes(path.read_bytes()[:8044])  # 44 or more bytes of header, 2 bytes a sample
    assert len(read_waveform(path, 8000)) == pytest.approx(4000, abs=30)


@pytest.mark.parametrize("content", [b"", b"not a sound"], ids=["empty file", "text"])
def test_a_file_that_is_no_sound_is_one_plain_value_error_that_names_it(tmp_path, content):
    path = tmp_path / "s.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"s\.wav") as error:
        read_waveform(path, 16000)
    assert type(error.value) is ValueError  # PyAV's own errors are ValueErrors too


def test_a_sound_file_without_samples_is_refused(tmp_path):
    path = write_sound(tmp_path / "s.wav", np.zeros((1, 0), np.float32), 8000)
    with pytest.raises(ValueError, match=r"s\.wav"):
        read_waveform(path, 16000)


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        read_waveform(tmp_path / "gone.wav", 16000)


def test_a_video_without_sound_is_refused(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("ffv1", rate=25)
        picture.width, picture.height, picture.pix_fmt = 48, 32, "bgr0"
        container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8), format="rgb24")))
        container.mux(picture.encode())
    with pytest.raises(ValueError, match="no audio stream"):
        read_waveform(path, 16000)


def test_a_sampling_rate_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        read_waveform(tmp_path / "s.wav", 0)
