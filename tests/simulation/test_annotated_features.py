"""Features of annotated videos, compared with those of the script that RESULTS.md was first measured with."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.corpora.example import VideoDataset, check_features
from esg_transformers.corpora.feature_folder import FeatureFolder
from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.simulation.annotated_features import (
    AUDIO,
    VISUAL,
    AnnotatedFeatures,
    select_videos,
    write_feature_files,
)

SMALL = {
    "i3d-vggish": replace(FEATURE_SETS["i3d-vggish"], visual_size=300, audio_size=16),
    "one-peace": replace(FEATURE_SETS["one-peace"], visual_size=24, audio_size=24),
}
LABELS = tuple(f"class {index}" for index in range(6))


def annotations() -> Annotations:
    """24 videos of 10 to 40 s in three splits, with one to five events of six classes."""
    rng = np.random.default_rng(12)
    videos = {}
    for index in range(24):
        duration = round(float(rng.uniform(10, 40)), 2)
        events = []
        for _ in range(rng.integers(1, 6)):
            start = round(float(rng.uniform(0, duration - 3)), 2)
            end = round(start + float(rng.uniform(0.5, 3)), 2)
            events.append(Event(start, end, LABELS[rng.integers(6)]))
        split = ("train", "train", "validation", "test")[index % 4]
        videos[f"video {index:02d}"] = AnnotatedVideo(f"video {index:02d}", duration, split, tuple(events))
    return Annotations(videos, LABELS)


def text_embeddings() -> dict[str, np.ndarray]:
    return dict(zip(LABELS, np.random.default_rng(13).standard_normal((6, 24)).astype(np.float32), strict=True))


def simulated(name: str, split: str = "test", videos: Annotations | None = None, **changes) -> AnnotatedFeatures:
    text = text_embeddings() if name == "one-peace" else None
    return AnnotatedFeatures(videos or annotations(), split, SMALL[name], text, **{"seed": 5} | changes)


# Arrays of the script that made the features of RESULTS.md (simulate_features.py, sha256 8ec3d2a9...), of the
# annotations above and with the channels of SMALL in its SPECS:
#     SimCorpus(database, kind, text, seed=5, difficulty=Difficulty().scaled(difficulty)).features(video_id)
# Every 8th step is stored, and every 25th of 300 channels or every 4th of fewer. On the machine that stored them all
# arrays were equal bit for bit; another BLAS may round a product of matrices differently.
EXPECTED = np.load(Path(__file__).with_name("annotated_features.npz"))


@pytest.mark.parametrize("difficulty", ["1", "1.5"])
@pytest.mark.parametrize("name", SMALL)
def test_features_are_those_of_the_script_that_results_were_measured_with(name, difficulty):
    videos = simulated(name, difficulty=float(difficulty))
    for video_id in videos.video_ids[:2]:
        for stream, features in zip(("visual", "audio"), videos.streams(video_id), strict=True):
            key = f"{name}/{difficulty}/{video_id}/{stream}"
            assert features.dtype == np.float32
            assert features.shape == tuple(EXPECTED[f"{key}/shape"])
            step = 25 if features.shape[1] == 300 else 4
            np.testing.assert_allclose(features[::8, ::step], EXPECTED[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("difficulty", ["1", "1.5"])
@pytest.mark.parametrize("name", SMALL)
def test_occurrences_are_those_of_the_script_in_either_feature_set(name, difficulty):
    videos = simulated(name, difficulty=float(difficulty))
    for video_id in videos.video_ids[:2]:
        occurrences = [(o.label, o.stream, *o.interval, o.strength, o.annotated) for o in videos.occurrences(video_id)]
        np.testing.assert_allclose(occurrences, EXPECTED[f"occurrences/{difficulty}/{video_id}"], rtol=1e-12)


def test_the_videos_selected_are_those_that_the_script_selected():
    # `select(database, classes=4, counts={"train": 2, "test": 3}, seed=5)` of the same script.
    selected = select_videos(annotations(), {"train": 2, "test": 3}, num_classes=4, seed=5)
    assert sorted(selected.videos) == ["video 07", "video 09", "video 11", "video 15", "video 20"]
    assert selected.labels == ("class 0", "class 1", "class 2", "class 5")


def test_selected_videos_have_events_of_the_most_frequent_classes_only():
    selected = select_videos(annotations(), {"train": 100, "validation": 100, "test": 100}, num_classes=3)
    assert len(selected.labels) == 3 and selected.videos
    assert {video.split for video in selected.videos.values()} <= {"train", "validation", "test"}
    for video_id, video in selected.videos.items():
        assert video == annotations().videos[video_id]
        assert {event.label for event in video.events} <= set(selected.labels)


def test_the_videos_of_a_split_do_not_depend_on_how_many_others_are_selected():
    few, many = (select_videos(annotations(), {"train": count, "test": 2}, seed=1) for count in (1, 9))
    assert few.split("test") == many.split("test")
    assert set(few.split("train").videos) < set(many.split("train").videos)


def test_a_video_follows_from_the_world_its_id_and_its_annotation():
    whole = pickle.loads(pickle.dumps(simulated("i3d-vggish", "train")))
    reordered = Annotations(dict(reversed(annotations().videos.items())), LABELS)
    other = simulated("i3d-vggish", "train", reordered)
    for video_id in whole.video_ids[:3]:
        for features, again in zip(whole.streams(video_id), other.streams(video_id), strict=True):
            np.testing.assert_array_equal(features, again)
    another_seed = simulated("i3d-vggish", "train", seed=6)
    assert not np.array_equal(whole[0]["audio_features"], another_seed[0]["audio_features"])
    assert whole.fingerprint(0) == other.fingerprint(len(other) - 1) != another_seed.fingerprint(0)
    assert whole.feature_spec.encoder != another_seed.feature_spec.encoder


@pytest.mark.parametrize("name", SMALL)
def test_examples_have_the_annotated_events_and_both_streams_of_one_length(name):
    videos = simulated(name, "validation")
    assert isinstance(videos, VideoDataset)
    assert len(videos) == len(videos.video_ids) == len(videos.durations) == 6
    spec = videos.feature_spec
    for index in range(len(videos)):
        example, video = videos[index], annotations().videos[videos.video_ids[index]]
        assert (example["video_id"], example["duration"]) == (video.video_id, video.duration)
        assert example["segments"].tolist() == [[event.start, event.end] for event in video.events]
        assert [videos.labels[label] for label in example["labels"]] == [event.label for event in video.events]
        assert len(example["visual_features"]) == len(example["audio_features"])
        check_features(example["visual_features"], spec.visual_size, spec.grid, video.duration)
        check_features(example["audio_features"], spec.audio_size, spec.grid, video.duration)


def test_every_event_is_seen_and_heard_and_a_distractor_stays_away_from_its_class():
    videos = simulated("i3d-vggish", "train")
    num_distractors = 0
    for video_id in videos.video_ids:
        occurrences = videos.occurrences(video_id)
        events, distractors = ([o for o in occurrences if o.annotated is annotated] for annotated in (True, False))
        assert [o.stream for o in events] == [VISUAL, AUDIO] * len(annotations().videos[video_id].events)
        num_distractors += len(distractors)
        for distractor in distractors:
            for other in occurrences:
                if other is not distractor and other.label == distractor.label:
                    later, earlier = sorted((distractor.interval, other.interval), reverse=True)
                    assert later.start - earlier.end > 0.6
    assert num_distractors >= 6


def test_without_difficulty_there_are_no_distractors_and_all_strengths_are_one():
    videos = simulated("i3d-vggish", "train", difficulty=0.0)
    occurrences = [o for video_id in videos.video_ids for o in videos.occurrences(video_id)]
    assert all(o.annotated and o.strength == 1.0 for o in occurrences)


@pytest.mark.parametrize("name", SMALL)
def test_feature_files_hold_the_features_in_the_published_layout(name, tmp_path):
    videos = simulated(name)
    write_feature_files(videos, tmp_path / "features")
    folder = FeatureFolder(annotations(), tmp_path / "features", SMALL[name], "test")
    assert folder.video_ids == videos.video_ids
    for stored, example in zip((folder[i] for i in range(6)), (videos[i] for i in range(6)), strict=True):
        for stream in ("visual_features", "audio_features"):
            assert stored[stream].dtype == np.float32
            np.testing.assert_array_equal(stored[stream], example[stream])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "`seed` is -1"),
        ({"difficulty": float("nan")}, "`difficulty` is nan"),
        ({"split": "night"}, "'night'"),
        ({"text_embeddings": {}}, "6 of 6 labels"),
        ({"feature_set": SMALL["one-peace"]}, "one-peace .* `text_embeddings`"),
        ({"text_embeddings": text_embeddings()}, "300 visual and 16 audio channels"),
    ],
)
def test_arguments_that_cannot_be_simulated_are_refused(changes, message):
    arguments = {"annotations": annotations(), "split": "test", "feature_set": SMALL["i3d-vggish"]} | changes
    with pytest.raises(ValueError, match=message):
        AnnotatedFeatures(**arguments)


def test_annotations_of_one_class_are_refused():
    video = AnnotatedVideo("only", 10.0, "test", (Event(1.0, 2.0, "class 0"),))
    with pytest.raises(ValueError, match="2 or more"):
        AnnotatedFeatures(Annotations({"only": video}, LABELS), "test")
