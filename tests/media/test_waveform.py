import wave

import av
import numpy as np
import pytest

from esg_transformers.media.audio import waveform_peaks


def write_video(path, seconds=2):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10 * seconds):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_wav(path, samples, sampling_rate=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sampling_rate)
        file.writeframes((np.asarray(samples) * 2**15).astype("<i2").tobytes())
    return path


def test_peaks_are_the_least_and_the_greatest_sample_of_each_part(tmp_path):
    loud = np.tile([0.5, -0.25], 8000)  # 2 s
    path = write_wav(tmp_path / "tone.wav", np.concatenate([np.zeros(16000), loud]))
    peaks = waveform_peaks(path, num_peaks=8)  # of half a second each
    assert peaks.dtype == np.float32
    np.testing.assert_allclose(peaks, [[0.0, 0.0]] * 4 + [[-0.25, 0.5]] * 4)
    np.testing.assert_array_equal(waveform_peaks(path.read_bytes(), num_peaks=8), peaks)


def test_a_sound_shorter_than_the_peaks_asked_for_leaves_no_holes(tmp_path):
    path = write_wav(tmp_path / "click.wav", np.full(80, 0.5))  # 10 ms
    assert waveform_peaks(path, num_peaks=400).min() > 0.4


def test_peaks_cover_the_file_also_where_its_sound_has_ended(tmp_path):
    path = tmp_path / "site.mkv"
    with av.open(str(path), "w") as container:
        pictures, sound = container.add_stream("libx264", rate=10), container.add_stream("pcm_s16le", rate=8000)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound.layout = "mono"
        samples = av.AudioFrame.from_ndarray(np.full((1, 8000), 2**14, np.int16), format="s16", layout="mono")  # 1 s
        samples.sample_rate = 8000
        container.mux([*sound.encode(samples), *sound.encode()])
        for _ in range(20):  # 2 s
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
    np.testing.assert_allclose(waveform_peaks(path, num_peaks=4), [[0.5, 0.5], [0.5, 0.5], [0.0, 0.0], [0.0, 0.0]])


def test_a_video_without_sound_has_no_peaks(tmp_path):
    with pytest.raises(ValueError, match="no audio stream"):
        waveform_peaks(write_video(tmp_path / "site.mp4"))
    with pytest.raises(ValueError, match="`num_peaks` is 0"):
        waveform_peaks(tmp_path / "site.mp4", num_peaks=0)
