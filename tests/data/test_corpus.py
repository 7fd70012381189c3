import json
import os
import shutil

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from esg_transformers.data.corpus import EventCorpus, verify_corpus, write_corpus
from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid

GRID = FeatureGrid(frame_rate=10.0, stride=5, window=10)  # 10 s hold 19 steps
DESCRIPTION = {
    "labels": ("dog barking", "speech"),
    "grid": GRID,
    "encoder": {"name": "test", "version": "1"},
    "visual_size": 6,
    "audio_size": 4,
}


@pytest.fixture(autouse=True)
def cache_of_datasets(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def make_example(video_id="a", seed=0, **changes):
    random = np.random.default_rng(seed)
    return {
        "video_id": video_id,
        "duration": 10.0,
        "visual_features": random.normal(size=(19, 6)).astype(np.float16),
        "audio_features": random.normal(size=(19, 4)).astype(np.float16),
        "segments": np.array([[0.1, 2.3], [5.0, 10.0]], np.float64),
        "labels": np.array([1, 0]),
    } | changes


def no_events():
    return {"segments": np.zeros((0, 2), np.float64), "labels": np.zeros(0, np.int64)}


def assert_same(example, other):
    assert example.keys() == other.keys()
    assert (example["video_id"], example["duration"]) == (other["video_id"], other["duration"])
    for name in ("visual_features", "audio_features", "segments", "labels"):
        assert (example[name] is None) == (other[name] is None)
        if example[name] is not None:
            assert example[name].dtype == other[name].dtype
            np.testing.assert_array_equal(example[name], other[name])


def test_examples_come_back_as_they_were_written(tmp_path):
    examples = [
        make_example("a"),
        make_example("b", 1, **no_events()),
        make_example("c", 2, visual_features=None),
        make_example("d", 3, audio_features=None),
    ]
    write_corpus(tmp_path / "corpus", {"train": iter(examples)}, **DESCRIPTION)
    corpus = EventCorpus(tmp_path / "corpus", "train")
    assert len(corpus) == 4
    for example, expected in zip(corpus, examples, strict=True):
        assert_same(example, expected)
    assert corpus[0]["visual_features"].flags.writeable


def test_a_corpus_says_what_its_features_are(tmp_path):
    write_corpus(tmp_path / "corpus", {"test": [make_example("a"), make_example("b")]}, **DESCRIPTION)
    corpus = EventCorpus(tmp_path / "corpus", "test")
    assert corpus.video_ids == ("a", "b")
    assert {name: getattr(corpus, name) for name in DESCRIPTION} == DESCRIPTION
    shard = tmp_path / "corpus" / "data" / "test-00000-of-00001.parquet"
    assert json.loads(pq.read_schema(shard).metadata[b"esg_transformers"])["feature_grid"] == GRID.to_dict()


def test_shards_hold_no_more_than_their_size_and_keep_the_order(tmp_path):
    examples = [make_example(str(index), index) for index in range(5)]
    size = 2 * 19 * (6 + 4) * 2  # the features of two examples in float16
    write_corpus(tmp_path / "corpus", {"train": examples}, **DESCRIPTION, shard_size=size)
    files = sorted(path.name for path in (tmp_path / "corpus" / "data").iterdir())
    assert files == [f"train-{index:05d}-of-00003.parquet" for index in range(3)]
    assert EventCorpus(tmp_path / "corpus", "train").video_ids == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize("streaming", [False, True])
def test_plain_datasets_loads_the_folder_with_its_splits_and_features(tmp_path, streaming):
    splits = {"train": [make_example("a")], "train_extra": [make_example("b")], "test": [make_example("c")]}
    write_corpus(tmp_path / "corpus", splits, **DESCRIPTION)
    loaded = datasets.load_dataset(str(tmp_path / "corpus"), streaming=streaming)
    assert {split: [row["video_id"] for row in rows] for split, rows in loaded.items()} == {
        "train": ["a"],
        "train_extra": ["b"],
        "test": ["c"],
    }
    row = next(iter(loaded["train"]))
    assert loaded["train"].features["events"].feature["label"].names == ["dog barking", "speech"]
    assert [event["label"] for event in row["events"]] == [1, 0]
    np.testing.assert_array_equal(np.array(row["visual_features"]), make_example()["visual_features"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visual_features": np.full((19, 6), np.nan, np.float16)}, "as `visual_features`, it holds 114 values"),
        ({"audio_features": np.full((19, 4), 1e5, np.float64)}, r"`audio_features` reach 100000, and float16 ends at"),
        ({"audio_features": np.zeros((19, 5), np.float16)}, r"expected floats of shape \(steps, 4\)"),
        ({"audio_features": np.zeros((18, 4), np.float16)}, r"both of one length; got \[18, 19\] steps"),
        ({"visual_features": None, "audio_features": None}, r"got \[\] steps"),
        ({"duration": 5.0}, "it has 19 steps; a video of 5 s has 9"),
        ({"duration": float("nan")}, "its duration is nan s"),
        ({"labels": np.array([0, 2])}, "label 2, of 2 classes"),
        ({"labels": np.array([-100, 0])}, "label -100, of 2 classes"),
        ({"labels": np.array([0])}, r"its segments are \(2, 2\) and its labels \(1,\)"),
        ({"segments": np.array([[0.0, 1.0], [5.0, 10.5]])}, "event from 5.0 s to 10.5 s is not within its 10.0 s"),
        ({"segments": np.array([[0.0, 1.0], [5.0, np.nan]])}, "is not within its 10.0 s"),
        ({"segments": np.array([[0.0, 1.0], [5.0, 5.0]])}, "is not within its 10.0 s"),
        ({"video_id": "../b"}, "files cannot be named after its id"),
        ({"video_id": "a"}, "'a' of split 'train' is already in split 'test'"),
    ],
)
def test_an_example_that_is_not_sound_is_named_and_no_corpus_is_left(tmp_path, changes, message):
    splits = {"test": [make_example("a")], "train": [make_example("b") | changes]}
    with pytest.raises(ValueError, match=message) as refusal:
        write_corpus(tmp_path / "corpus", splits, **DESCRIPTION)
    assert repr(changes.get("video_id", "b")) in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_build_keeps_the_old_corpus(tmp_path):
    def interrupted():
        yield make_example("b")
        raise KeyboardInterrupt

    write_corpus(tmp_path / "corpus", {"train": [make_example("a")]}, **DESCRIPTION)
    with pytest.raises(KeyboardInterrupt):
        write_corpus(tmp_path / "corpus", {"train": interrupted()}, **DESCRIPTION, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    assert EventCorpus(tmp_path / "corpus", "train").video_ids == ("a",)


def test_a_corpus_is_replaced_only_when_asked_and_only_if_it_is_nothing_else(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_corpus(folder, {"train": [make_example("a")]}, **DESCRIPTION)  # an empty folder may become a corpus
    with pytest.raises(ValueError, match="give `overwrite=True`"):
        write_corpus(folder, {"train": [make_example("b")]}, **DESCRIPTION)
    (folder / "data" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"not of the corpus, such as data/notes\.txt"):
        write_corpus(folder, {"train": [make_example("b")]}, **DESCRIPTION, overwrite=True)
    (folder / "data" / "notes.txt").unlink()
    write_corpus(folder, {"train": [make_example("b")]}, **DESCRIPTION, overwrite=True)
    assert EventCorpus(folder, "train").video_ids == ("b",)
    (folder / "corpus.json").unlink()
    with pytest.raises(ValueError, match="exists and is not a corpus"):
        write_corpus(folder, {"train": [make_example("c")]}, **DESCRIPTION, overwrite=True)


def test_a_changed_corpus_is_not_served_from_the_cache(tmp_path):
    folder, shard = tmp_path / "corpus", "data/train-00000-of-00001.parquet"
    write_corpus(folder, {"train": [make_example("a", 0)]}, **DESCRIPTION)
    before = EventCorpus(folder, "train")[0]
    times = (folder / shard).stat()
    write_corpus(folder, {"train": [make_example("a", 1)]}, **DESCRIPTION, overwrite=True)
    os.utime(folder / shard, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy that keeps times would
    after = EventCorpus(folder, "train")[0]
    assert not np.array_equal(before["visual_features"], after["visual_features"])
    assert_same(after, make_example("a", 1))


def test_a_folder_whose_name_has_wildcards_is_read(tmp_path):
    write_corpus(tmp_path / "corpus [1]*", {"train": [make_example("a")]}, **DESCRIPTION)
    assert EventCorpus(tmp_path / "corpus [1]*", "train").video_ids == ("a",)


def test_what_is_not_a_whole_corpus_is_refused(tmp_path):
    folder = tmp_path / "corpus"
    with pytest.raises(FileNotFoundError, match=r"not a corpus: it has no corpus\.json"):
        EventCorpus(folder, "train")
    write_corpus(folder, {"train": [make_example("a")], "test": [make_example("b")]}, **DESCRIPTION)
    with pytest.raises(ValueError, match="no split 'validation'; it has train, test"):
        EventCorpus(folder, "validation")

    shard = folder / "data" / "train-00000-of-00001.parquet"
    content = bytearray(shard.read_bytes())
    shard.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=rf"has {len(content) - 1} bytes, and corpus\.json says {len(content)}"):
        EventCorpus(folder, "train")
    shard.unlink()
    with pytest.raises(FileNotFoundError, match="lacks its shard data/train-00000-of-00001"):
        EventCorpus(folder, "train")
    shard.write_bytes(bytes(len(content)))
    with pytest.raises(ValueError, match=r"train-00000-of-00001\.parquet cannot be read"):
        EventCorpus(folder, "train")


def test_a_flipped_byte_is_found_by_verify_corpus_only(tmp_path):
    write_corpus(tmp_path / "corpus", {"train": [make_example("a")]}, **DESCRIPTION)
    verify_corpus(tmp_path / "corpus")
    shard = tmp_path / "corpus" / "data" / "train-00000-of-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match="has another sha256"):
        verify_corpus(tmp_path / "corpus")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_grid": {"frame_rate": 25.0, "stride": 8, "window": 24}}, r"differ in feature_grid"),
        ({"feature_grid": {"frame_rate": 25.0}}, r"corpus\.json is not that of a corpus"),
        ({"feature_grid": {"frame_rate": 25.0, "stride": 0, "window": 24}}, "A feature grid needs"),
        ({"labels": ["speech", "dog barking"]}, "differ in labels"),
        ({"format_version": 2}, "expected .*'format_version': 1"),
        (
            {"splits": {"train": [{"file": "../a", "num_examples": 1, "size": 1, "sha256": ""}]}},
            "'../a' is not the name",
        ),
    ],
)
def test_an_edited_corpus_json_is_refused(tmp_path, change, message):
    write_corpus(tmp_path / "corpus", {"train": [make_example("a")]}, **DESCRIPTION)
    path = tmp_path / "corpus" / "corpus.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        EventCorpus(tmp_path / "corpus", "train")


def test_a_copied_corpus_is_the_same_corpus(tmp_path):
    write_corpus(tmp_path / "corpus", {"train": [make_example("a")]}, **DESCRIPTION)
    shutil.copytree(tmp_path / "corpus", tmp_path / "copy")
    assert_same(EventCorpus(tmp_path / "copy", "train")[0], make_example("a"))


@pytest.mark.parametrize("split", ["all", "train-1", "../train", ""])
def test_a_split_name_that_datasets_would_not_read_is_refused(tmp_path, split):
    with pytest.raises(ValueError, match="A split is named with letters, digits and _"):
        write_corpus(tmp_path / "corpus", {split: [make_example("a")]}, **DESCRIPTION)


def test_a_corpus_without_examples_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Split 'train' has no examples"):
        write_corpus(tmp_path / "corpus", {"train": []}, **DESCRIPTION)
    with pytest.raises(ValueError, match="at least one split"):
        write_corpus(tmp_path / "corpus", {}, **DESCRIPTION)
