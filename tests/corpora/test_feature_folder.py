import os
import pickle
from dataclasses import replace

import numpy as np
import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.corpora.feature_folder import FeatureFolder
from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec

I3D = FEATURE_SETS["i3d-vggish"]
STEPS = 29  # 10 s at 25 frames/s are 250 frames: windows of 24 start at frames 0, 8, ..., 224
ANNOTATIONS = Annotations(
    {
        "a": AnnotatedVideo("a", 10.0, "train", (Event(1.0, 2.5, "speech"), Event(0.0, 10.0, "dog barking"))),
        "b": AnnotatedVideo("b", 10.0, "train", ()),
        "c": AnnotatedVideo("c", 10.0, "test", ()),
    },
    ("dog barking", "speech"),
)


@pytest.fixture
def features_dir(tmp_path):
    for video_id in ("a", "b"):
        np.save(tmp_path / f"{video_id}_rgb.npy", np.full((STEPS, 1024), 1, np.float16))
        np.save(tmp_path / f"{video_id}_flow.npy", np.full((STEPS - 2, 1024), 2, np.float16))
        np.save(tmp_path / f"{video_id}_vggish.npy", np.full((STEPS + 1, 128), 3, np.float32))
    return tmp_path


def test_streams_are_put_together_cut_to_the_shortest_and_kept_in_their_precision(features_dir):
    example = FeatureFolder(ANNOTATIONS, features_dir, I3D, "train")[0]
    assert example["visual_features"].shape == (27, 2048)
    assert example["visual_features"].dtype == np.float16
    assert example["visual_features"][:, :1024].max() == 1  # rgb first, then flow
    assert example["visual_features"][:, 1024:].min() == 2
    assert example["audio_features"].shape == (27, 128)
    assert example["audio_features"].dtype == np.float32


def test_events_become_segments_in_seconds_and_class_ids(features_dir):
    with_events, without = FeatureFolder(ANNOTATIONS, features_dir, I3D, "train")
    np.testing.assert_array_equal(with_events["segments"], np.array([[1.0, 2.5], [0.0, 10.0]]))
    np.testing.assert_array_equal(with_events["labels"], [1, 0])
    assert (without["segments"].shape, without["segments"].dtype) == ((0, 2), np.float64)
    assert (without["labels"].shape, without["labels"].dtype) == ((0,), np.int64)


def test_spec_ids_and_labels_are_known_without_reading_features(features_dir):
    folder = FeatureFolder(ANNOTATIONS, features_dir, I3D, "train")
    assert (len(folder), folder.video_ids, folder.labels) == (2, ("a", "b"), ("dog barking", "speech"))
    assert folder.feature_spec == FeatureSpec(I3D.grid, 2048, 128, EncoderId("i3d-vggish", "unav100"))


def test_missing_files_are_counted_and_named_before_training(features_dir):
    (features_dir / "b_flow.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 6 i3d-vggish .*'train': b_flow\.npy\."):
        FeatureFolder(ANNOTATIONS, features_dir, I3D, "train")
    with pytest.raises(FileNotFoundError, match="No feature folder at"):
        FeatureFolder(ANNOTATIONS, features_dir / "elsewhere", I3D, "train")
    with pytest.raises(ValueError, match="'validation'.*'train'"):
        FeatureFolder(ANNOTATIONS, features_dir, I3D, "validation")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((STEPS, 64), np.float16), r"float16 \(29, 64\).*\(steps, 128\)"),
        (np.zeros(STEPS * 128, np.float16), r"float16 \(3712,\).*\(steps, 128\)"),
        (np.zeros((STEPS, 128), np.int64), "int64 .*floats"),
        (np.zeros((0, 128), np.float16), " 0 steps"),
        (np.full((STEPS, 128), np.nan, np.float16), " 3712 values .*NaN"),
        (np.full((STEPS, 128), np.inf, np.float32), " 3712 values .*infinite"),
        (np.zeros((37, 128), np.float16), r" 37 steps.* 10 s .* 29 at 25 frames/s"),  # 16 frames/s, 4
    ],
)
def test_a_file_that_is_not_of_the_feature_set_is_named(features_dir, array, message):
    np.save(features_dir / "a_vggish.npy", array)
    with pytest.raises(ValueError, match=message) as refusal:
        FeatureFolder(ANNOTATIONS, features_dir, I3D, "train")[0]
    assert str(features_dir / "a_vggish.npy") in str(refusal.value)


def test_pickles_object_arrays_and_truncated_files_are_refused(features_dir):
    path = features_dir / "a_vggish.npy"
    folder = FeatureFolder(ANNOTATIONS, features_dir, I3D, "train")
    whole = path.read_bytes()
    np.save(path, np.array([{}, None], object), allow_pickle=True)
    pickled_array = path.read_bytes()
    for content in (whole[:-1], whole[:4], b"", pickle.dumps(np.zeros(3)), pickled_array):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a_vggish\.npy .*i3d-vggish"):
            folder[0]


def test_streams_on_two_clocks_are_refused_unless_they_are_resampled(features_dir):
    own_clock = replace(I3D, audio_grid=FeatureGrid(10.0, 5, 10))
    with pytest.raises(ValueError, match=r"25 frames/s, stride 8, .* 10 frames/s, stride 5, .*`resample_to`.*--grid"):
        FeatureFolder(ANNOTATIONS, features_dir, own_clock, "train")
    # 10 s are 100 frames: windows of 10 start at 0, 5, ..., 90, and are centred at 0.5, 1.0, ..., 9.5 s.
    for video_id in ("a", "b"):
        times = np.arange(0.5, 10, 0.5)
        np.save(features_dir / f"{video_id}_vggish.npy", np.repeat(times[:, None], 128, axis=1).astype(np.float16))
    folder = FeatureFolder(ANNOTATIONS, features_dir, own_clock, "train", resample_to=FeatureGrid(1.0, 1, 1))
    example = folder[0]
    assert folder.feature_spec.grid == FeatureGrid(1.0, 1, 1)
    assert example["visual_features"].shape == (10, 2048)
    assert example["audio_features"][:, 0].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5]
    assert example["audio_features"].dtype == np.float16


def test_the_fingerprint_of_an_example_changes_with_its_files_and_its_annotation_only(features_dir):
    folder = FeatureFolder(ANNOTATIONS, features_dir, I3D, "train")
    before = [folder.fingerprint(index) for index in range(2)]
    os.utime(features_dir / "b_flow.npy", ns=(0, 0))
    assert folder.fingerprint(0) == before[0]
    assert folder.fingerprint(1) != before[1]
    videos = ANNOTATIONS.videos | {"a": replace(ANNOTATIONS.videos["a"], events=())}
    changed = FeatureFolder(replace(ANNOTATIONS, videos=videos), features_dir, I3D, "train")
    assert changed.fingerprint(0) != before[0]
