import wave
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from transformers import pipeline
from transformers.utils import logging

from esg_transformers.corpora.example import ExampleList
from esg_transformers.encoders.encoder import AudioVisualFeatures
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.localization.pipeline import TASK, encoder_for
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid
from esg_transformers.models.esg_net.pipeline_esg_net import EsgNetPipeline, merge_events
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
from esg_transformers.training.model import new_model

LABELS = ("alarm", "speech")
ENCODER = SpectralEncoder()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A tiny model with random weights for the features of the default encoder, as `from_pretrained` loads it."""
    folder = tmp_path_factory.mktemp("model")
    source = ExampleList([], LABELS, ENCODER.feature_spec)
    for part in new_model(source, "tiny", seed=0, prior_probability=0.3):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def localizer(model_folder):
    return pipeline(TASK, model=str(model_folder))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return {
        "both": write_video(folder / "both.mp4", 3.0),
        "longer": write_video(folder / "longer.mp4", 5.0),
        "silent": write_video(folder / "silent.mp4", 3.0, sound=False),
        "dark": write_sound(folder / "dark.wav", 3.0),
    }


def write_video(path, seconds, sound=True):
    """A bright square that comes after a second, with a tone."""
    with av.open(str(path), "w") as container:
        picture_stream = container.add_stream("libx264", rate=10, options={"x264-params": "mbtree=0"})
        picture_stream.width, picture_stream.height, picture_stream.pix_fmt = 64, 48, "yuv420p"
        sound_stream = container.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for index in range(round(10 * seconds)):
            picture = np.full((48, 64, 3), 40, np.uint8)
            picture[10:30, 20:40] = 220 if index >= 10 else 40
            container.mux(picture_stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if sound_stream is not None:
                time = (index * 1600 + np.arange(1600)) / 16_000
                tone = np.float32(0.3 * (time >= 1) * np.sin(2 * np.pi * 1000 * time))
                samples = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
                samples.sample_rate, samples.pts, samples.time_base = 16_000, index * 1600, Fraction(1, 16_000)
                container.mux(sound_stream.encode(samples))
        container.mux(picture_stream.encode())
        if sound_stream is not None:
            container.mux(sound_stream.encode())
    return path


def write_sound(path, seconds):
    noise = np.random.default_rng(0).integers(-9000, 9000, round(16_000 * seconds), np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16_000)
        file.writeframes(noise.tobytes())
    return path


def assert_same_events(found, expected):
    assert [event["label"] for event in found] == [event["label"] for event in expected]
    for name in ("start", "end", "score"):
        np.testing.assert_allclose([e[name] for e in found], [e[name] for e in expected], atol=1e-4)


def make_features(seed=0, num_steps=14, **changes):
    random = np.random.default_rng(seed)
    return AudioVisualFeatures(
        **{
            "visual": random.normal(size=(num_steps, ENCODER.feature_spec.visual_size)).astype(np.float32),
            "audio": random.normal(size=(num_steps, ENCODER.feature_spec.audio_size)).astype(np.float32),
            "grid": ENCODER.feature_spec.grid,
            "duration": 3.0,
        }
        | changes
    )


def test_a_video_file_becomes_events_in_seconds_best_first(localizer, videos):
    events = localizer(str(videos["both"]), threshold=0.0)
    assert events
    scores = [event["score"] for event in events]
    assert scores == sorted(scores, reverse=True)
    for event in events:
        assert list(event) == ["start", "end", "label", "score"]
        assert 0 <= event["start"] < event["end"] <= 3.1  # the sound of an AAC file ends a little later
        assert event["label"] in LABELS
        assert 0 < event["score"] < 1


def test_features_give_the_events_of_the_file_they_were_taken_from(localizer, videos):
    assert localizer(ENCODER(videos["both"]), threshold=0.0) == localizer(videos["both"], threshold=0.0)


def test_features_in_a_dict_give_the_events_of_the_same_features(localizer):
    features = make_features()
    example = {"visual_features": features.visual, "audio_features": features.audio, "duration": features.duration}
    assert localizer(example, threshold=0.0) == localizer(features, threshold=0.0)
    with pytest.raises(ValueError, match="dict without 'duration'"):
        localizer({name: stream for name, stream in example.items() if name != "duration"})
    with pytest.raises(ValueError, match="got str. For video files install esg-transformers"):
        next(EsgNetPipeline.feature_blocks(localizer, "video.mp4"))


def test_saving_the_pipeline_saves_all_that_it_was_loaded_from_and_leaves_the_config_alone(localizer, tmp_path):
    features = make_features()
    localizer.save_pretrained(tmp_path)
    assert not hasattr(localizer.model.config, "custom_pipelines")
    assert pipeline(TASK, model=str(tmp_path))(features, threshold=0.0) == localizer(features, threshold=0.0)


def test_the_bytes_of_a_file_give_its_events(localizer, videos):
    assert localizer(videos["both"].read_bytes(), threshold=0.0) == localizer(videos["both"], threshold=0.0)


def test_a_list_gives_the_events_of_each_in_its_order(localizer, videos):
    inputs = [str(videos["longer"]), videos["both"], make_features()]
    assert localizer(inputs, threshold=0.0) == [localizer(video, threshold=0.0) for video in inputs]


def test_a_batch_gives_the_events_of_each_video_alone(localizer, videos):
    inputs = [videos[name] for name in ("both", "longer", "silent", "dark", "both")]
    together = localizer(inputs, threshold=0.0, batch_size=2)
    for found, video in zip(together, inputs, strict=True):
        assert_same_events(found, localizer(video, threshold=0.0))


def test_the_threshold_keeps_the_events_above_it(localizer, videos):
    events = localizer(videos["both"], threshold=0.0)
    threshold = events[len(events) // 2]["score"]
    assert localizer(videos["both"], threshold=threshold) == [e for e in events if e["score"] > threshold]
    assert localizer(videos["both"], threshold=1.0) == []


def test_a_class_needs_the_score_of_the_processor_unless_a_call_says_otherwise(model_folder, videos):
    localizer = pipeline(TASK, model=str(model_folder))
    events = localizer(videos["both"], threshold=0.0)
    alarms = [event["score"] for event in events if event["label"] == "alarm"]
    thresholds = {"alarm": alarms[len(alarms) // 2], "speech": 0.3}
    localizer.processor.thresholds = {"alarm": thresholds["alarm"]}  # a class that it does not name needs 0.3
    expected = [event for event in events if event["score"] > thresholds[event["label"]]]
    assert 0 < len(expected) < len(events)
    assert localizer(videos["both"]) == expected
    assert localizer(videos["both"], threshold=0.0) == events


def test_top_k_keeps_the_best_events(localizer, videos):
    events = localizer(videos["both"], threshold=0.0)
    assert localizer(videos["both"], threshold=0.0, top_k=3) == events[:3]
    assert localizer(videos["both"], threshold=0.0, top_k=10**6) == events


EVENTS = [
    {"start": 4.0, "end": 6.0, "label": "alarm", "score": 0.9},
    {"start": 1.0, "end": 3.0, "label": "alarm", "score": 0.8},
    {"start": 3.5, "end": 3.75, "label": "speech", "score": 0.7},
    {"start": 1.5, "end": 2.0, "label": "alarm", "score": 0.6},
    {"start": 6.5, "end": 7.0, "label": "alarm", "score": 0.5},
]


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (None, EVENTS),
        (0, [*EVENTS[:3], EVENTS[4]]),  # the one within another is part of it
        (0.5, [EVENTS[0] | {"end": 7.0}, *EVENTS[1:3]]),
        (1.0, [EVENTS[0] | {"start": 1.0, "end": 7.0}, EVENTS[2]]),
        ({"speech": 1.0}, EVENTS),
        ({"alarm": 0.5}, [EVENTS[0] | {"end": 7.0}, *EVENTS[1:3]]),
    ],
)
def test_events_of_a_class_that_are_no_further_apart_become_one_with_the_higher_score(gap, expected):
    assert merge_events(EVENTS, gap) == expected


def test_gaps_are_closed_before_short_events_are_left_out(localizer, videos):
    events = localizer(videos["both"], threshold=0.0)
    assert len(events) > 2
    merged = merge_events(events, 0.2)  # both classes from start to end, 3 s
    assert sorted((event["start"], event["label"]) for event in merged) == [(0.0, "alarm"), (0.0, "speech")]
    speech = [event for event in merged if event["label"] == "speech"]
    settings = {"threshold": 0.0, "merge_gap": 0.2}
    assert localizer(videos["both"], **settings, min_duration=2.9) == merged
    assert localizer(videos["both"], **settings, min_duration={"alarm": 3.5}) == speech
    assert localizer(videos["both"], **settings, top_k=1) == merged[:1]


@pytest.mark.parametrize("name", ["merge_gap", "min_duration"])
def test_seconds_that_are_none_and_classes_that_there_are_not_are_refused(localizer, videos, name):
    for wrong in (-1, float("nan"), True, "1"):
        with pytest.raises(ValueError, match=f"`{name}` must be seconds >= 0"):
            localizer(videos["both"], **{name: wrong})
    with pytest.raises(ValueError, match=f"`{name}` names 'alrm', .* alarm, speech"):
        localizer(videos["both"], **{name: {"alrm": 1.0}})


@pytest.fixture
def localizer_of_windows(model_folder):
    """Windows of 10 steps, so that the longer video (24 steps) has 4 of them."""
    localizer = pipeline(TASK, model=str(model_folder))
    localizer.processor.window_steps = 10
    return localizer


def test_a_long_video_goes_through_the_model_in_windows(localizer_of_windows, videos):
    windows = list(localizer_of_windows.preprocess(videos["longer"]))
    assert [(x["span"].first, x["span"].last, x["is_last"]) for x in windows] == [
        (0, 10, False),
        (5, 15, False),
        (10, 20, False),
        (15, 24, True),
    ]
    assert {x["duration"] for x in windows} == {ENCODER(videos["longer"]).duration}
    found = localizer_of_windows(videos["longer"], threshold=0.0)
    assert max(event["end"] for event in found) > 4
    features = ENCODER(videos["longer"])
    assert_same_events(localizer_of_windows(features, threshold=0.0), found)


def test_windows_of_several_videos_share_batches_and_stay_with_their_video(localizer_of_windows, videos):
    inputs = [videos[name] for name in ("longer", "silent", "both", "longer")]
    together = localizer_of_windows(inputs, threshold=0.0, batch_size=3)
    for found, video in zip(together, inputs, strict=True):
        assert_same_events(found, localizer_of_windows(video, threshold=0.0))


def test_everything_about_a_video_comes_with_its_events(localizer_of_windows, videos):
    found = localizer_of_windows.localize(videos["longer"], threshold=0.0, with_trace=True, with_waveform=True)
    assert found.events == localizer_of_windows(videos["longer"], threshold=0.0)
    assert found.duration == ENCODER(videos["longer"]).duration
    assert found.streams == ("visual", "audio")
    assert found.trace.semantic.shape[1:3] == (3, 24)
    assert found.waveform.shape == (2000, 2)
    # The tone begins after a second of about 5, at the sampling rate of the encoder.
    np.testing.assert_allclose(found.waveform[:350], 0, atol=0.05)
    assert found.waveform[500:1500].max() > 0.25
    silent = localizer_of_windows.localize(videos["silent"], with_waveform=True)
    assert (silent.streams, silent.waveform, silent.trace) == (("visual",), None, None)
    features = localizer_of_windows.localize(ENCODER(videos["dark"]), with_waveform=True)
    assert (features.streams, features.waveform) == (("audio",), None)
    of_bytes = localizer_of_windows.localize(videos["dark"].read_bytes(), with_waveform=True)
    assert of_bytes.streams == ("audio",)
    assert of_bytes.waveform.shape == (2000, 2)
    with pytest.raises(TypeError, match="treshold"):
        localizer_of_windows.localize(videos["dark"], treshold=0.5)


def test_an_encoder_that_sees_only_leaves_the_streams_of_the_file_as_they_are(model_folder, videos):
    class Deaf(SpectralEncoder):
        def blocks(self, source, num_steps):
            for block in super().blocks(source, num_steps):
                yield replace(block, audio=None)

    found = pipeline(TASK, model=str(model_folder), encoder=Deaf()).localize(videos["both"])
    assert found.streams == ("visual", "audio")


def test_settings_given_to_the_pipeline_hold_until_a_call_says_otherwise(model_folder, videos):
    localizer = pipeline(TASK, model=str(model_folder), threshold=0.0, top_k=2)
    assert len(localizer(videos["both"])) == 2
    assert len(localizer(videos["both"], top_k=1)) == 1


@pytest.mark.parametrize("name", ["silent", "dark"])
def test_a_video_without_sound_or_without_picture_has_events_and_the_absent_stream_is_masked(localizer, videos, name):
    [inputs] = localizer.preprocess(videos[name])
    assert inputs["visual_mask"].any().item() is (name == "silent")
    assert inputs["audio_mask"].any().item() is (name == "dark")
    assert inputs["attention_mask"].all()
    assert localizer(videos[name], threshold=0.0)


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("silent", "silent.mp4 has no sound"),
        ("dark", "dark.wav has no pictures"),
    ],
)
def test_an_absent_stream_is_said(localizer, videos, caplog, name, warning):
    logging.get_logger("esg_transformers").addHandler(caplog.handler)
    localizer(videos["both"])
    assert not caplog.messages
    localizer(videos[name])
    [message] = set(caplog.messages)
    assert warning in message


def test_features_on_another_grid_are_refused(localizer):
    features = make_features(grid=FeatureGrid(25.0, 8, 24))
    with pytest.raises(ValueError, match="25 frames/s, stride 8, window 24; expected 10 frames/s"):
        localizer(features)


def test_features_of_another_width_are_refused(localizer):
    features = make_features(visual=np.zeros((14, 9), np.float32))
    with pytest.raises(ValueError, match="has 9 visual and 195 audio channels; expected 175 and 195"):
        localizer(features)


def test_features_that_are_not_finite_are_refused(localizer):
    features = make_features(audio=np.full((14, ENCODER.feature_spec.audio_size), np.nan, np.float32))
    with pytest.raises(ValueError, match="audio features .* are NaN or infinite at 14 of 14 steps"):
        localizer(features)


def test_a_model_of_another_encoder_asks_for_it_and_takes_its_features(model_folder, videos):
    localizer = pipeline(TASK, model=str(model_folder))
    localizer.processor.encoder = {"name": "i3d-vggish", "version": "unav100"}
    with pytest.raises(ValueError, match="trained on i3d-vggish unav100, .* Give the pipeline that encoder"):
        localizer(videos["both"])
    assert localizer(make_features(), threshold=0.0)
    encoder = SpectralEncoder()
    encoder.feature_spec = replace(encoder.feature_spec, encoder=EncoderId("frames", "2"))
    given = pipeline(TASK, model=str(model_folder), encoder=encoder)
    given.processor.encoder = {"name": "frames", "version": "2"}
    assert given(videos["both"], threshold=0.0)


def test_the_encoder_of_a_model_is_found_by_its_name_and_version_on_the_grid_of_the_model():
    grid = FeatureGrid(10.0, 1, 6)
    processor = EsgNetProcessor(10.0, 1, 6, 175, 195, encoder={"name": "spectral", "version": "1"})
    assert encoder_for(processor).feature_spec.grid == grid
    for encoder in (None, {"name": "spectral", "version": "0"}):
        with pytest.raises(ValueError, match="which cannot be made here from a video file"):
            encoder_for(EsgNetProcessor(10.0, 1, 6, 175, 195, encoder))


def test_the_encoder_of_a_model_is_told_even_if_the_default_one_could_not_work_on_its_grid():
    processor = EsgNetProcessor(25.0, 1, 1, 8, 8, encoder={"name": "frames", "version": "2"})
    with pytest.raises(ValueError, match="trained on frames 2"):
        encoder_for(processor)


def test_a_missing_file_is_named(localizer, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4"):
        localizer(str(tmp_path / "nowhere.mp4"))


@pytest.mark.parametrize("content", [b"", b"this is not a video\n"], ids=["empty", "text"])
def test_a_file_that_is_no_video_is_named(localizer, tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        localizer(str(path))


def test_a_folder_is_named(localizer, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=tmp_path.name):
        localizer(str(tmp_path))


def test_an_input_of_another_kind_is_refused(localizer):
    with pytest.raises(ValueError, match="a path of a video, its bytes, features, or a list of these; got int"):
        localizer(7)


def test_an_unknown_argument_is_refused(localizer, videos):
    with pytest.raises(TypeError, match="Unknown arguments: treshold"):
        localizer(videos["both"], treshold=0.5)


def test_a_config_and_a_processor_on_different_grids_are_refused(localizer):
    model = deepcopy(localizer.model)
    model.config.frame_rate = 5.0
    with pytest.raises(ValueError, match="The model's config is on a feature grid of 5 frames/s"):
        pipeline(TASK, model=model, processor=localizer.processor)


def test_fewer_than_one_event_cannot_be_asked_for(localizer, videos):
    with pytest.raises(ValueError, match="`top_k` must be at least 1; got -1"):
        localizer(str(videos["both"]), top_k=-1)


def encoder_of_version(version):
    encoder = SpectralEncoder()
    encoder.feature_spec = replace(encoder.feature_spec, encoder=EncoderId("spectral", version))
    return encoder


def test_an_encoder_other_than_the_one_the_model_was_trained_with_is_refused(model_folder, videos):
    localizer = pipeline(TASK, model=str(model_folder), encoder=encoder_of_version("0"))
    with pytest.raises(ValueError, match=r"trained on features of spectral \d, and the encoder is spectral 0\. Give"):
        localizer(videos["both"])


def test_the_encoder_of_a_published_feature_set_is_told_by_its_name_with_a_warning(model_folder, videos, caplog):
    localizer = pipeline(TASK, model=str(model_folder), encoder=encoder_of_version("0"))
    localizer.processor.encoder = {"name": "spectral", "version": "unav100"}
    logging.get_logger("esg_transformers").addHandler(caplog.handler)
    localizer(videos["both"])
    assert "Those of spectral 0 may differ" in caplog.text


def test_a_model_in_training_is_used_as_one_that_is_not(model_folder, videos):
    localizer = pipeline(TASK, model=str(model_folder))
    training = pipeline(TASK, model=deepcopy(localizer.model).train(), processor=localizer.processor)
    for found, expected in zip(training(videos["both"]), localizer(videos["both"]), strict=True):
        assert found.pop("label") == expected.pop("label")
        assert found == pytest.approx(expected, rel=1e-5)
