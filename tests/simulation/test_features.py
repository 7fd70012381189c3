import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest

from esg_transformers.corpora.example import check_features
from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.simulation.features import SimulatedVideos, simulate_splits

SMALL = replace(FEATURE_SETS["i3d-vggish"], visual_size=32, audio_size=16)
IDS = [f"video {index}" for index in range(60)]


def small_videos(**changes):
    return SimulatedVideos(IDS, **{"num_classes": 8, "feature_set": SMALL} | changes)


def assert_same(example, other):
    assert (example["video_id"], example["duration"]) == (other["video_id"], other["duration"])
    for name in ("visual_features", "audio_features", "segments", "labels"):
        np.testing.assert_array_equal(example[name], other[name])


def test_a_video_follows_from_the_seed_and_its_id_alone():
    alone = SimulatedVideos(["video 7"], 8, feature_set=SMALL)[0]
    among_others = pickle.loads(pickle.dumps(small_videos()))[7]
    assert_same(alone, among_others)
    another_world = SimulatedVideos(["video 7"], 8, seed=1, feature_set=SMALL)[0]
    assert another_world["duration"] != alone["duration"]
    assert not np.array_equal(small_videos()[8]["visual_features"][:20], alone["visual_features"][:20])


def test_both_published_feature_sets_tell_the_same_story_on_their_own_clocks():
    for name, steps_a_second in (("i3d-vggish", 25 / 8), ("one-peace", 16 / 4)):
        feature_set = FEATURE_SETS[name]
        videos = SimulatedVideos(IDS[:2], 8, feature_set=feature_set)
        example = videos[0]
        assert abs(len(example["visual_features"]) - example["duration"] * steps_a_second) < 5
        for stream, size in (("visual_features", feature_set.visual_size), ("audio_features", feature_set.audio_size)):
            assert example[stream].dtype == np.float32
            check_features(example[stream], size, feature_set.grid, example["duration"])
        np.testing.assert_array_equal(example["segments"], small_videos()[0]["segments"])


def test_events_are_what_is_both_seen_and_heard():
    videos = small_videos()
    num_lagging = num_single = 0
    for index, video_id in enumerate(videos.video_ids):
        example, scenario = videos[index], videos.scenario(video_id)
        assert scenario.duration == example["duration"] == videos.durations[index]
        both = [occurrence for occurrence in scenario.occurrences if occurrence.seen and occurrence.heard]
        num_single += len(scenario.occurrences) - len(both)
        assert [occurrence.label for occurrence in both] == [videos.labels[label] for label in example["labels"]]
        for occurrence, (start, end) in zip(both, example["segments"].tolist(), strict=True):
            seen, heard = occurrence.seen, occurrence.heard
            assert (start, end) == (max(seen.start, heard.start), min(seen.end, heard.end))
            num_lagging += seen != heard
    assert num_single > 20
    assert num_lagging > 50


def test_no_stream_of_a_class_is_on_twice_at_once_so_that_no_event_goes_unannotated():
    videos = small_videos(difficulty=2.0)
    for video_id in videos.video_ids:
        occurrences = videos.scenario(video_id).occurrences
        for label in {occurrence.label for occurrence in occurrences}:
            of_class = [occurrence for occurrence in occurrences if occurrence.label == label]
            for first, second in itertools.pairwise(of_class):
                ends = [interval.end for interval in (first.seen, first.heard) if interval]
                starts = [interval.start for interval in (second.seen, second.heard) if interval]
                assert max(ends) <= min(starts) + 1e-9


def test_segments_lie_in_the_video_and_some_of_different_classes_overlap():
    num_overlapping = 0
    for example in small_videos():
        start, end = example["segments"].T
        assert (start >= 0).all() and (start < end).all() and (end <= example["duration"]).all()
        meet = (start[:, None] < end) & (start < end[:, None])
        num_overlapping += int((meet.sum(axis=1) > 1).sum())
    assert num_overlapping > 20


def test_without_difficulty_features_of_a_class_are_alike_wherever_it_is_on():
    videos = SimulatedVideos(IDS, 1, difficulty=0.0, feature_set=FEATURE_SETS["i3d-vggish"])
    steps = []
    for example in (videos[index] for index in range(5)):
        times = (np.arange(len(example["visual_features"])) * 8 + 12) / 25  # s, at the middle of each window
        start, end = example["segments"].T
        inside = ((times[:, None] > start + 0.48) & (times[:, None] < end - 0.48)).any(axis=1)
        outside = ((times[:, None] < start - 0.48) | (times[:, None] > end + 0.48)).all(axis=1)
        energy = np.square(example["visual_features"]).mean(axis=1)
        assert energy[inside].min() > 2 * energy[outside].max()
        steps.append(example["visual_features"][inside])
    steps = np.concatenate(steps)
    assert np.corrcoef(steps[0], steps[-1])[0, 1] > 0.7


def test_splits_are_of_one_world_and_share_no_video():
    splits = simulate_splits({"train": 3, "test": 2}, 4, feature_set=SMALL)
    assert splits["train"].labels == splits["test"].labels == ("class 0", "class 1", "class 2", "class 3")
    assert splits["train"].feature_spec == splits["test"].feature_spec
    assert not set(splits["train"].video_ids) & set(splits["test"].video_ids)
    assert simulate_splits({"train": 1}, 4, seed=1)["train"].feature_spec != splits["train"].feature_spec


def test_a_linear_model_of_the_steps_knows_classes_it_was_trained_on_and_is_worse_with_one_stream():
    splits = simulate_splits({"train": 60, "test": 30}, 4, feature_set=SMALL)

    def steps_of(videos):
        features, classes = [], []
        for example in videos:
            times = (np.arange(len(example["visual_features"])) * 8 + 12) / 25
            features.append(np.concatenate([example["visual_features"], example["audio_features"]], axis=1))
            on = (times[:, None] >= example["segments"][:, 0]) & (times[:, None] <= example["segments"][:, 1])
            classes.append((on[:, :, None] * np.eye(4)[example["labels"]]).max(axis=1, initial=0))
        return np.concatenate(features), np.concatenate(classes)

    (features, classes), (test_features, test_classes) = steps_of(splits["train"]), steps_of(splits["test"])

    def correlation(channels, truth):
        """Correlation of a least-squares fit with the truth on held-out videos, mean over classes."""
        weights, *_ = np.linalg.lstsq(
            np.pad(features[:, channels], ((0, 0), (0, 1)), constant_values=1), truth, rcond=None
        )
        found = np.pad(test_features[:, channels], ((0, 0), (0, 1)), constant_values=1) @ weights
        return np.mean([np.corrcoef(found[:, c], test_classes[:, c])[0, 1] for c in range(4)])

    shuffled = np.roll(classes, len(classes) // 2, axis=0)
    both, seen, heard = (correlation(channels, classes) for channels in (slice(None), slice(32), slice(32, None)))
    assert both > 0.4
    assert both > seen + 0.03 and both > heard + 0.03
    assert abs(correlation(slice(None), shuffled)) < 0.15


@pytest.mark.parametrize(
    "changes", [{"num_classes": 0}, {"seed": -1}, {"difficulty": -0.1}, {"difficulty": float("nan")}]
)
def test_values_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match="num_classes >= 1, seed >= 0 and a finite difficulty >= 0"):
        small_videos(**changes)
