import json
import os
import signal
from itertools import pairwise
from multiprocessing import get_context

import av
import numpy as np
import pytest

from esg_transformers.annotations.events import Event
from esg_transformers.annotations.unav import read_unav_annotations
from esg_transformers.simulation.workshop import (
    ALARM_BAND,
    FRAME_RATE,
    GAP,
    HEIGHT,
    LABELS,
    REOPENING,
    SAMPLING_RATE,
    WIDTH,
    Interval,
    Occurrence,
    Scenario,
    draw_scenario,
    labelled_events,
    make_workshop_clips,
    render_picture,
    render_sound,
    write_clip,
)

NOTHING = Scenario(4.0, ())
ALARM = Scenario(4.0, (Occurrence("alarm", seen=Interval(1.0, 3.0), heard=Interval(1.5, 3.5)),))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def scenarios() -> list[Scenario]:
    return [draw_scenario(np.random.default_rng(seed), 16.0) for seed in range(200)]


# What happens


def test_an_event_lasts_while_it_is_both_seen_and_heard():
    picture_first = Occurrence("alarm", seen=Interval(5.0, 8.0), heard=Interval(5.3, 8.2))
    sound_around = Occurrence("person speaking", seen=Interval(2.0, 3.0), heard=Interval(1.8, 3.1))
    assert labelled_events(Scenario(16.0, (picture_first, sound_around))) == (
        Event(2.0, 3.0, "person speaking"),
        Event(5.3, 8.0, "alarm"),
    )


def test_what_is_only_seen_or_only_heard_or_heard_after_it_was_seen_is_no_event():
    occurrences = (
        Occurrence("alarm", seen=Interval(1.0, 3.0), heard=None),
        Occurrence("machine running", seen=None, heard=Interval(1.0, 3.0)),
        Occurrence("door slamming", seen=Interval(5.0, 6.0), heard=Interval(6.0, 7.0)),
    )
    assert labelled_events(Scenario(16.0, occurrences)) == ()


def test_a_clip_has_two_to_six_events_of_one_to_eight_seconds_that_lie_within_it(scenarios):
    for scenario in scenarios:
        events = labelled_events(scenario)
        assert 2 <= len(events) <= 6
        for event in events:
            assert 0 < event.start < event.end < 16
            assert 0.99 <= event.end - event.start <= 8.01  # bounds are rounded to 0.01 s


def test_what_happens_in_one_class_never_meets_in_time_in_either_stream(scenarios):
    for scenario in scenarios:
        for label in LABELS:
            extents = sorted(
                (min(stream.start for stream in streams), max(stream.end for stream in streams))
                for occurrence in scenario.occurrences
                if occurrence.label == label
                for streams in [[stream for stream in (occurrence.seen, occurrence.heard) if stream is not None]]
            )
            gap = REOPENING if label == "door slamming" else GAP
            for (_, end), (start, _) in pairwise(extents):
                assert start - end >= gap - 1e-9


def test_every_class_appears_and_repeats_and_events_of_different_classes_overlap(scenarios):
    clips = [labelled_events(scenario) for scenario in scenarios]
    assert {event.label for clip in clips for event in clip} == set(LABELS)
    repeating = [clip for clip in clips if len({event.label for event in clip}) < len(clip)]
    overlapping = [
        clip
        for clip in clips
        if any(a.start < b.start < a.end or b.start < a.start < b.end for a in clip for b in clip if a.label != b.label)
    ]
    assert len(repeating) >= 50
    assert len(overlapping) >= 50


@pytest.mark.parametrize("stream", ["seen", "heard"])
@pytest.mark.parametrize("label", LABELS)
def test_either_stream_alone_misleads_in_every_class(scenarios, label, stream):
    perceived = [
        occurrence
        for scenario in scenarios
        for occurrence in scenario.occurrences
        if occurrence.label == label and getattr(occurrence, stream) is not None
    ]
    events = [occurrence for occurrence in perceived if occurrence.seen is not None and occurrence.heard is not None]
    # As many events as distractors at most, half as many at least: 1 / 2 to 2 / 3, and what chance adds.
    assert 0.45 < len(events) / len(perceived) < 0.72


def test_a_clip_too_short_for_its_events_is_refused():
    with pytest.raises(ValueError, match=r"`duration` is 3\.0 seconds; a clip needs 4 or more"):
        draw_scenario(rng(), 3.0)


# The picture and the sound


def test_the_lamp_flashes_only_while_the_alarm_is_seen():
    dark = np.stack(list(render_picture(NOTHING, rng()))).astype(int)
    flashing = np.stack(list(render_picture(ALARM, rng()))).astype(int)
    assert dark.shape == (4 * FRAME_RATE, HEIGHT, WIDTH, 3)
    added = (flashing - dark)[..., 0].max(axis=(1, 2))  # red, in the pixel that changes most
    assert not (flashing != dark)[: 1 * FRAME_RATE].any()
    assert not (flashing != dark)[3 * FRAME_RATE :].any()
    flashes = np.diff((added > 50).astype(int)) == 1
    assert flashes.sum() == 5  # 2 s at 2.5 flashes per second


@pytest.mark.parametrize("label", ["door slamming", "machine running", "person speaking"])
def test_the_picture_moves_while_a_thing_is_seen_and_is_unmoved_when_it_is_only_heard(label):
    still = np.stack(list(render_picture(NOTHING, rng()))).astype(int)
    heard = Scenario(4.0, (Occurrence(label, None, Interval(0.5, 1.7)),))
    seen = Scenario(4.0, (Occurrence(label, Interval(0.5, 1.7), None),))
    assert not (np.stack(list(render_picture(heard, rng()))) != still).any()

    changed = np.abs(np.stack(list(render_picture(seen, rng()))) - still).max(axis=(1, 2, 3)) > 30
    rest = 1.7 + (REOPENING if label == "door slamming" else 0)  # seconds
    assert not changed[: int(0.5 * FRAME_RATE)].any()
    assert not changed[int(rest * FRAME_RATE) + 1 :].any()
    assert changed[int(0.5 * FRAME_RATE) : int(1.7 * FRAME_RATE)].mean() > 0.75


def test_the_alarm_band_is_loud_only_while_the_alarm_is_heard():
    waveform = render_sound(ALARM, rng())
    assert waveform.dtype == np.float32 and waveform.shape == (4 * SAMPLING_RATE,)
    power = [_alarm_power(waveform, start) for start in np.arange(0, 4, 0.5)]
    assert min(power[3:7]) > 20 * max(power[:3] + power[7:])  # heard from 1.5 to 3.5 s


@pytest.mark.parametrize("label", LABELS)
def test_a_sound_begins_and_ends_with_its_interval_and_what_is_only_seen_makes_none(label):
    background = render_sound(NOTHING, rng())
    seen = Scenario(4.0, (Occurrence(label, Interval(1.0, 2.3), None),))
    heard = Scenario(4.0, (Occurrence(label, None, Interval(1.0, 2.3)),))
    np.testing.assert_array_equal(render_sound(seen, rng()), background)

    added = np.flatnonzero(np.abs(render_sound(heard, rng()) - background) > 1e-3) / SAMPLING_RATE  # seconds
    assert 1.0 <= added[0] < 1.2
    assert 1.9 < added[-1] < 2.3


# The files


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
