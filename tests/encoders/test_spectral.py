import tracemalloc
from fractions import Fraction
from itertools import repeat

import av
import numpy as np
import pytest
from transformers.utils import logging

from esg_transformers.encoders.encoder import feature_blocks
from esg_transformers.encoders.spectral import SAMPLING_RATE, SpectralEncoder, picture_features, sound_features
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

GRID = FeatureGrid(frame_rate=10, stride=2, window=4)  # window g: frames 2g to 2g + 3, seconds 0.2g to 0.2g + 0.4
RED, GREEN, BLUE, EDGES, MOTION, MOTION_SPREAD, BRIGHTNESS_CHANGE = range(7)
LEVEL, SPREAD, CHANGE = range(3)
SECONDS = 4


def write_clip(
    path, picture=True, sound=True, flash=(2.0, 2.4), beep=(1.0, 1.4), picture_seconds=SECONDS, sound_starts=0
):
    """25 fps mp4: black, with the upper left quarter white during `flash`; silent, with a 1 kHz tone during `beep`.

    `sound_starts` (seconds) puts off all the sound.
    """
    with av.open(str(path), "w") as container:
        if picture:
            video = container.add_stream("libx264", rate=25)
            video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        if sound:
            audio = container.add_stream("aac", rate=16000, layout="mono")
        for index in range(25 * picture_seconds if picture else 0):
            image = np.zeros((120, 160, 3), np.uint8)
            image[:60, :80] = 255 * (flash[0] <= index / 25 < flash[1])
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        if picture:
            container.mux(video.encode())
        if sound:
            time = np.arange(SECONDS * 16000) / 16000
            waveform = 0.5 * np.sin(2 * np.pi * 1000 * time) * ((beep[0] <= time) & (time < beep[1]))
            frame = av.AudioFrame.from_ndarray(waveform.astype(np.float32)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, sound_starts * 16000, Fraction(1, 16000)
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


def seen(frames, grid, num_steps):
    return np.stack(list(picture_features(frames, num_steps, grid)))


def heard(waveform, grid, num_steps):
    return np.stack(list(sound_features([waveform], num_steps, grid)))


def by_statistic(features, num_statistics):
    """(T, statistics, cells or bands); the last cell or band is the whole."""
    return features.reshape(len(features), num_statistics, -1)


def steps_where(values, threshold):
    return np.flatnonzero(np.abs(values) > threshold).tolist()


def black(num_frames):
    return np.zeros((num_frames, 64, 96, 3), np.uint8)


def tone(hertz, seconds=SECONDS, amplitude=0.5):
    time = np.arange(int(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    return (amplitude * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def test_features_of_a_video_have_the_sizes_and_the_steps_that_the_encoder_names(tmp_path):
    encoder = SpectralEncoder()
    features = encoder(write_clip(tmp_path / "clip.mp4"))
    assert features.grid == encoder.feature_spec.grid == GRID
    assert features.duration == pytest.approx(SECONDS, abs=0.1)
    num_steps = GRID.num_steps(features.duration)
    assert features.visual.shape == (num_steps, encoder.feature_spec.visual_size)
    assert features.audio.shape == (num_steps, encoder.feature_spec.audio_size)
    assert features.visual.dtype == features.audio.dtype == np.float32


def test_a_flash_is_seen_in_the_windows_and_the_cells_it_falls_in(tmp_path):
    features = SpectralEncoder()(write_clip(tmp_path / "clip.mp4", flash=(2.0, 2.4)))
    visual = by_statistic(features.visual, 7)
    # Windows [1.8, 2.2), [2.0, 2.4) and [2.2, 2.6) s overlap [2.0, 2.4) s; cells 0 to 2 are upper left.
    for cell in (0, 2):
        assert steps_where(visual[:, RED, cell] + 1, 0.1) == [9, 10, 11]
    assert steps_where(visual[:, RED, 3] + 1, 0.1) == []
    assert visual[10, RED, 0] == pytest.approx(1, abs=0.05)
    # The change is inside windows 9 (frames 18 to 21: on at 20) and 11 (frames 22 to 25: off at 24), not in window 10.
    assert steps_where(visual[:, MOTION, 0], 0.5) == [9, 11]
    assert visual[9, BRIGHTNESS_CHANGE, 0] == pytest.approx(np.arcsinh(20), abs=0.1)  # from -1 to 1
    assert visual[11, BRIGHTNESS_CHANGE, 0] == pytest.approx(-np.arcsinh(20), abs=0.1)


def test_a_beep_is_heard_in_the_windows_and_the_band_it_falls_in(tmp_path):
    features = SpectralEncoder()(write_clip(tmp_path / "clip.mp4", beep=(1.0, 1.4)))
    audio = by_statistic(features.audio, 3)
    # The window [0.8, 1.2) s is the first and [1.2, 1.6) s the last that overlaps [1.0, 1.4) s.
    loud = steps_where(audio[:, LEVEL, -1] + 2, 0.5)
    assert loud == [4, 5, 6]
    # 1000 Hz is 15 mel (Slaney). The 64 bands are centred at 0.45 + 44.8 / 65 x (b + 1) mel, so band 20 at 14.92.
    assert audio[5, LEVEL, :-1].argmax() == 20
    assert audio[4, CHANGE, 20] > 1
    assert audio[6, CHANGE, 20] < -1


@pytest.mark.parametrize(("hertz", "band"), [(90, 0), (400, 7), (1000, 20), (4000, 49)])
def test_a_tone_peaks_in_the_band_around_it(hertz, band):
    # Slaney: 3 / 200 mel per Hz up to 1 kHz, above it 15 + 27 ln(f / 1000) / ln(6.4) mel. Band b is at
    # 0.45 + 0.6892 (b + 1): 90 Hz is 1.35 mel and band 0 at 1.14; 4 kHz is 35.16 mel and band 49 at 34.91.
    audio = by_statistic(heard(tone(hertz), GRID, 5), 3)
    assert (audio[:, LEVEL, :-1].argmax(axis=1) == band).all()


def test_a_full_scale_tone_has_level_two_and_one_at_minus_40_db_level_zero():
    for amplitude, level in ((1.0, 2.0), (0.01, 0.0)):
        audio = by_statistic(heard(tone(1000, amplitude=amplitude), GRID, 5), 3)
        # All bands together also catch the two side bins of the Hann window: 10 log10(1.5) = 1.8 dB, 0.09 in level.
        np.testing.assert_allclose(audio[:, LEVEL, -1], level, atol=0.1)
        np.testing.assert_allclose(audio[:, [SPREAD, CHANGE], -1], 0, atol=0.01)


def test_silence_is_the_floor_and_black_is_minus_one_and_nothing_moves():
    audio = by_statistic(heard(np.zeros(64000, np.float32), GRID, 19), 3)
    np.testing.assert_allclose(audio[:, LEVEL], -2, atol=1e-6)
    np.testing.assert_allclose(audio[:, SPREAD:], 0, atol=1e-6)
    visual = by_statistic(seen(black(40), GRID, 19), 7)
    np.testing.assert_array_equal(visual[:, [RED, GREEN, BLUE]], -1)
    np.testing.assert_array_equal(visual[:, EDGES:], 0)


def test_a_picture_feature_sees_its_own_frames_and_no_others():
    frames = black(40)
    frames[20:22, :16, :16] = 255  # the first cell
    visual = by_statistic(seen(frames, GRID, 19), 7)
    # Frames 20 and 21 belong to windows 9 (18 to 21) and 10 (20 to 23); frame 22 goes black again inside window 10.
    np.testing.assert_allclose(visual[:, RED, 0], [0 if step in (9, 10) else -1 for step in range(19)])
    assert steps_where(visual[:, MOTION, 0], 0) == [9, 10]
    assert steps_where(visual[:, MOTION, 2], 0) == []


def test_a_sound_feature_hears_its_own_samples_and_no_others():
    waveform = np.zeros(64000, np.float32)
    waveform[16000:19200] = tone(1000, 0.2)  # 1.0 to 1.2 s: windows 4, [0.8, 1.2) s, and 5, [1.0, 1.4) s
    audio = by_statistic(heard(waveform, GRID, 19), 3)
    assert steps_where(audio[:, LEVEL, -1] + 2, 1e-6) == [4, 5]


def test_motion_of_a_cell_by_hand():
    frames = black(4)
    frames[1:, :16, :16] = 255  # black to white is a change of 2, once in the three steps of the window
    visual = by_statistic(seen(frames, GRID, 1), 7)
    assert visual[0, MOTION, 0] == pytest.approx(np.log1p(100) / 3)
    assert visual[0, MOTION_SPREAD, 0] == pytest.approx(np.log1p(100) * np.sqrt(2) / 3)
    assert visual[0, MOTION, 24] == pytest.approx(np.log1p(100 / 24) / 3)  # the whole picture: one cell of 24


def test_features_move_with_the_clip():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (42, 64, 96, 3), np.uint8)
    now, later = seen(frames, GRID, 20), seen(frames[2:], GRID, 19)
    np.testing.assert_allclose(later, now[1:], atol=1e-5)
    waveform = rng.normal(0, 0.1, 67200).astype(np.float32)
    now, later = heard(waveform, GRID, 20), heard(waveform[3200:], GRID, 19)
    np.testing.assert_allclose(later, now[1:], atol=1e-4)


def test_features_are_of_moderate_scale_for_noise():
    rng = np.random.default_rng(0)
    visual = seen(rng.integers(0, 255, (40, 64, 96, 3), np.uint8), GRID, 19)
    audio = heard(rng.uniform(-1, 1, 64000).astype(np.float32), GRID, 19)
    assert max(np.abs(visual).max(), np.abs(audio).max()) < 6


def test_where_the_picture_ends_early_it_stays_and_nothing_moves(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", picture_seconds=2, flash=(1.0, 9.0))
    features = SpectralEncoder()(path)
    visual = by_statistic(features.visual, 7)
    assert len(visual) == len(features.audio) == GRID.num_steps(features.duration)
    np.testing.assert_allclose(visual[11:, RED, 0], 1, atol=0.05)
    np.testing.assert_allclose(visual[11:, MOTION], 0, atol=1e-6)


def test_where_the_sound_is_shorter_silence_follows():
    audio = by_statistic(heard(tone(1000, seconds=1.0), GRID, 19), 3)
    assert steps_where(audio[:, LEVEL, -1] + 2, 1e-6) == [0, 1, 2, 3, 4]  # windows that begin before 1 s


def test_a_silent_film_has_no_audio_and_a_sound_file_has_no_visual(tmp_path):
    encoder = SpectralEncoder()
    film = encoder(write_clip(tmp_path / "film.mp4", sound=False))
    assert film.audio is None
    assert len(film.visual) == 19
    sound = encoder(write_clip(tmp_path / "sound.mp4", picture=False))
    assert sound.visual is None
    assert len(sound.audio) == GRID.num_steps(sound.duration)


def test_a_clip_shorter_than_a_window_has_one_step():
    assert seen(black(1), GRID, 1).shape == (1, 175)
    assert heard(np.zeros(10, np.float32), GRID, 1).shape == (1, 195)


def test_a_grid_with_fractions_of_samples_gives_all_its_steps():
    grid = FeatureGrid(frame_rate=29.97, stride=5, window=7)
    num_steps = grid.num_steps(4.0)
    assert heard(tone(1000), grid, num_steps).shape == (num_steps, 195)
    assert np.isfinite(heard(tone(1000), grid, num_steps)).all()
    assert seen(black(120), grid, num_steps).shape == (num_steps, 175)


@pytest.mark.parametrize("grid", [FeatureGrid(10, 1, 1), FeatureGrid(25, 1, 2)], ids=["one frame", "80 ms"])
def test_a_window_too_short_for_motion_or_a_spectrum_is_refused(grid):
    with pytest.raises(ValueError, match="longer window"):
        SpectralEncoder(grid)


def test_a_file_that_is_no_media_file_is_refused(tmp_path):
    (tmp_path / "clip.mp4").write_text("not a video")
    with pytest.raises(ValueError, match=r"clip\.mp4"):
        SpectralEncoder()(tmp_path / "clip.mp4")


KINDS = {
    "both": {},
    "picture shorter": {"picture_seconds": 2, "flash": (1.0, 9.0)},
    "sound late": {"sound_starts": 2},
    "no picture": {"picture": False},
    "no sound": {"sound": False},
}
GRIDS = [
    GRID,
    FeatureGrid(25, 8, 24),
    FeatureGrid(10, 1, 6),
    FeatureGrid(10, 5, 5),  # windows side by side
    FeatureGrid(10, 9, 4),  # windows apart
    FeatureGrid(29.97, 5, 7),  # a step of 266.9 spectra
]


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_any_size_are_the_features_of_the_whole(tmp_path, kind):
    path = write_clip(tmp_path / "clip.mp4", **KINDS[kind])
    for grid in GRIDS if kind == "both" else GRIDS[:2]:
        encoder = SpectralEncoder(grid)
        whole = encoder(path)
        total = grid.num_steps(whole.duration)
        for num_steps in (1, 7, 64):
            blocks = list(feature_blocks(encoder, path, num_steps))
            assert all((block.grid, block.duration) == (grid, whole.duration) for block in blocks)
            for stream in ("visual", "audio"):
                parts, expected = [getattr(block, stream) for block in blocks], getattr(whole, stream)
                if expected is None:
                    assert all(part is None for part in parts)
                else:
                    lengths = [min(num_steps, total - first) for first in range(0, total, num_steps)]
                    assert [len(part) for part in parts] == lengths
                    found = np.concatenate(parts)
                    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
                    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_sound_that_starts_late_is_silent_until_then(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", sound_starts=2, beep=(0.0, 0.4))
    audio = by_statistic(SpectralEncoder()(path).audio, 3)
    assert steps_where(audio[:, LEVEL, -1] + 2, 0.5) == [9, 10, 11]  # windows that overlap [2.0, 2.4) s


def test_the_first_steps_need_only_the_start_of_the_file():
    frames, seconds = iter(black(1000)), iter(np.zeros((100, SAMPLING_RATE), np.float32))
    next(picture_features(frames, 498, GRID))
    next(sound_features(seconds, 498, GRID))
    # They are made 64 at a time, which see 63 x 2 + 4 = 130 frames, 13 s.
    assert 130 <= 1000 - len(list(frames)) < 170
    assert 13 <= 100 - len(list(seconds)) < 17


def test_what_a_long_file_holds_in_memory_is_a_few_seconds():
    num_steps = GRID.num_steps(600.0)
    second = np.zeros(SAMPLING_RATE, np.float32)
    tracemalloc.start()
    try:
        for _ in sound_features(repeat(second, 600), num_steps, GRID):
            pass
        sound_peak = tracemalloc.get_traced_memory()[1]
        for _ in picture_features((np.zeros((64, 96, 3), np.uint8) for _ in range(6000)), num_steps, GRID):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sound_peak < 4e6  # bytes; all of the sound takes 38 MB
    assert peak < 20e6  # all pictures take 111 MB


def test_a_damaged_picture_is_told_even_where_the_last_window_ends_before_the_file(tmp_path, caplog):
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for index in range(33):  # the last of 15 windows has the frames 28 to 31
            frame = av.VideoFrame.from_ndarray(black(1)[0], format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            for packet in stream.encode(frame):
                if index == 5:
                    damaged = av.Packet(b"no picture")
                    damaged.stream, damaged.pts, damaged.dts = packet.stream, packet.pts, packet.dts
                    damaged.time_base, packet = packet.time_base, damaged
                container.mux(packet)
    logging.get_logger("esg_transformers").addHandler(caplog.handler)
    assert len(SpectralEncoder()(path).visual) == 15
    assert "1 damaged video packets were left out" in caplog.text
