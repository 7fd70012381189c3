import json
import os
import signal
from multiprocessing import get_context

import av
import numpy as np
import pytest

from esg_transformers.annotations.unav import read_unav_annotations
from esg_transformers.simulation.clips import make_workshop_clips, write_clip
from esg_transformers.simulation.picture import FRAME_RATE, HEIGHT, WIDTH, render_picture
from esg_transformers.simulation.scenario import Interval, Occurrence, Scenario
from esg_transformers.simulation.sound import ALARM_BAND, SAMPLING_RATE, render_sound

pytestmark = pytest.mark.slow

NOTHING = Scenario(4.0, ())
ALARM = Scenario(4.0, (Occurrence("alarm", seen=Interval(1.0, 3.0), heard=Interval(1.5, 3.5)),))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_clip_decodes_with_picture_and_sound_in_step(tmp_path):
    write_clip(tmp_path / "clip.mp4", render_picture(ALARM, rng()), render_sound(ALARM, rng()))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        picture = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        container.seek(0)
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert container.streams.audio[0].codec_context.sample_rate == SAMPLING_RATE
        assert container.duration == 4_000_000  # microseconds
    assert len(picture) == 4 * FRAME_RATE and picture[0].shape == (HEIGHT, WIDTH, 3)
    assert 0 <= len(sound) - 4 * SAMPLING_RATE < 1024  # AAC comes in blocks of 1024 samples

    flash = 1 * FRAME_RATE + 5  # the first is brightest 0.2 s after its start, and starts at 1 s
    assert (picture[flash] - picture[flash - 6])[..., 0].max() > 50
    # The onset is heard at 1.5 s: a window of 20 ms just after the fade is loud, the one before it is not.
    assert _alarm_power(sound, 1.53, 0.02) > 20 * _alarm_power(sound, 1.47, 0.02)


def test_a_clip_can_be_played_before_all_of_it_is_loaded(tmp_path):
    write_clip(tmp_path / "clip.mp4", render_picture(NOTHING, rng()), render_sound(NOTHING, rng()))
    content = (tmp_path / "clip.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_a_failed_write_leaves_no_file_and_keeps_the_one_that_was_there(tmp_path):
    def frames():
        yield np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        raise RuntimeError("the camera fell")

    (tmp_path / "old.mp4").write_bytes(b"complete")
    for name in ("old.mp4", "new.mp4"):
        with pytest.raises(RuntimeError, match="the camera fell"):
            write_clip(tmp_path / name, frames(), np.zeros(SAMPLING_RATE, np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]
    assert (tmp_path / "old.mp4").read_bytes() == b"complete"


def test_a_killed_write_leaves_no_mp4(tmp_path):
    def frames():
        for _ in range(50):
            yield np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        os.kill(os.getpid(), signal.SIGKILL)

    waveform = np.zeros(4 * SAMPLING_RATE, np.float32)
    # Forked, so that the child has no package to import.
    writer = get_context("fork").Process(target=write_clip, args=(tmp_path / "clip.mp4", frames(), waveform))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL
    assert not list(tmp_path.glob("*.mp4"))


def test_clips_are_the_same_bytes_whatever_the_workers_and_the_counts(tmp_path):
    make_workshop_clips(tmp_path / "one", {"train": 2, "test": 1}, seed=3, duration=5.0, num_workers=1)
    make_workshop_clips(tmp_path / "two", {"train": 3, "test": 1}, seed=3, duration=5.0, num_workers=2)
    names = {path.name for path in (tmp_path / "one" / "videos").iterdir()}
    assert names == {"workshop_train_0000.mp4", "workshop_train_0001.mp4", "workshop_test_0000.mp4"}
    one, two = (json.loads((tmp_path / run / "annotations.json").read_text()) for run in ("one", "two"))
    for name in names:
        video, other = (tmp_path / run / "videos" / name for run in ("one", "two"))
        assert video.read_bytes() == other.read_bytes()
        assert one["database"][video.stem] == two["database"][video.stem]


def test_clips_of_another_seed_another_number_or_another_subset_differ(tmp_path):
    make_workshop_clips(tmp_path / "3", {"train": 2, "test": 1}, seed=3, duration=4.0, num_workers=1)
    make_workshop_clips(tmp_path / "4", {"train": 1}, seed=4, duration=4.0, num_workers=1)
    assert len({path.read_bytes() for path in tmp_path.glob("*/videos/*.mp4")}) == 4


def test_the_annotations_are_the_labelled_events_in_the_layout_of_unav(tmp_path):
    path = make_workshop_clips(tmp_path, {"validation": 1, "test": 2}, seed=5, duration=6.0, num_workers=1)
    assert path == tmp_path / "annotations.json"
    label2id = {"alarm": 0, "door slamming": 1, "machine running": 2, "person speaking": 3}
    annotations = read_unav_annotations(path, label2id)
    assert list(annotations.videos) == ["workshop_validation_0000", "workshop_test_0000", "workshop_test_0001"]
    for video_id, video in annotations.videos.items():
        assert (video.duration, video.split) == (6.0, video_id.split("_")[1])
        assert video.events
        assert (tmp_path / "videos" / f"{video_id}.mp4").is_file()
    entry = json.loads(path.read_text())["database"]["workshop_test_0000"]["annotations"][0]
    assert label2id[entry["label"]] == entry["label_id"]


@pytest.mark.parametrize("counts", [{"train": 1, "dev": 2}, {"train": -1}])
def test_an_unknown_subset_or_a_negative_count_is_refused_before_anything_is_written(tmp_path, counts):
    with pytest.raises(ValueError, match="`counts` has .*; give 0 or more clips for any of"):
        make_workshop_clips(tmp_path / "clips", counts)
    assert not (tmp_path / "clips").exists()


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`seed` is -1; it must be 0 or more"):
        make_workshop_clips(tmp_path, {"train": 1}, seed=-1)


def _alarm_power(waveform: np.ndarray, start: float, seconds: float = 0.5) -> float:
    """Power in the band of the alarm, from `start` seconds on."""
    part = waveform[round(start * SAMPLING_RATE) : round((start + seconds) * SAMPLING_RATE)]
    frequency = np.fft.rfftfreq(len(part), 1 / SAMPLING_RATE)
    low, high = ALARM_BAND
    return float(np.square(np.abs(np.fft.rfft(part)))[(frequency >= low) & (frequency <= high)].sum())
