from dataclasses import replace

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.example import ExampleList
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid


def test_a_shard_holds_as_many_videos_as_are_asked_for_in_their_order(tmp_path, make_example, write):
    examples = [make_example(str(index), index) for index in range(5)]
    write(tmp_path / "corpus", {"train": examples}, videos_per_shard=2)
    files = sorted((tmp_path / "corpus" / "data").iterdir())
    assert [path.name for path in files] == [f"train-{index:05d}-of-00003.parquet" for index in range(3)]
    assert [pq.read_metadata(path).num_rows for path in files] == [2, 2, 1]
    assert EventCorpus(tmp_path / "corpus", "train").video_ids == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize("streaming", [False, True])
def test_plain_datasets_loads_the_folder_with_its_splits_and_features(tmp_path, make_example, write, streaming):
    splits = {"train": [make_example("a")], "train_extra": [make_example("b")], "test": [make_example("c")]}
    write(tmp_path / "corpus", splits)
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
        ({"duration": float("nan")}, "'b' of split 'train' .*nan s"),
        ({"audio_features": np.zeros((18, 4), np.float16)}, "'b' of split 'train' .*18, 19"),
        ({"video_id": "../b"}, "'../b' of split 'train'"),
        ({"video_id": "a"}, "'a' of split 'train' is already in split 'test'"),
    ],
)
def test_an_example_that_cannot_be_stored_is_named_and_no_corpus_is_left(
    tmp_path, make_example, write, changes, message
):
    splits = {"test": [make_example("a")], "train": [make_example("b") | changes]}
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "corpus", splits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("split", ["all", "train-1", "../train", ""])
def test_a_split_name_that_datasets_would_not_read_is_refused(tmp_path, make_example, write, split):
    with pytest.raises(ValueError, match=rf"letters, digits and _.* {split!r}"):
        write(tmp_path / "corpus", {split: [make_example("a")]})


def test_a_corpus_without_examples_is_refused(tmp_path, write):
    with pytest.raises(ValueError, match="'train' has no examples"):
        write(tmp_path / "corpus", {"train": []})
    with pytest.raises(ValueError, match="at least one split"):
        write(tmp_path / "corpus", {})


def test_splits_of_different_features_or_labels_are_refused(tmp_path, make_example, spec):
    def check(test_spec, test_labels, message):
        train = ExampleList([make_example("a")], ("dog barking", "speech"), spec)
        test = ExampleList([make_example("b")], test_labels, test_spec)
        with pytest.raises(ValueError, match=message):
            write_corpus(tmp_path / "corpus", {"train": train, "test": test})

    check(replace(spec, grid=FeatureGrid(25.0, 8, 24)), ("dog barking", "speech"), "'test' .*stride 8.*stride 5")
    check(replace(spec, audio_size=5), ("dog barking", "speech"), "'test' .* 5 audio")
    check(replace(spec, encoder=EncoderId("test", "2")), ("dog barking", "speech"), "'test' .*test 2")
    check(spec, ("speech", "dog barking"), r"'test' .*\['speech', 'dog barking'\]; split 'train'")


def test_features_of_an_unknown_encoder_are_refused(tmp_path, make_example, spec):
    examples = ExampleList([make_example("a")], ("dog barking", "speech"), replace(spec, encoder=None))
    with pytest.raises(ValueError, match="'train' .*no encoder"):
        write_corpus(tmp_path / "corpus", {"train": examples})


def test_a_corpus_is_replaced_only_when_asked_and_only_if_it_is_nothing_else(tmp_path, make_example, write):
    folder = tmp_path / "corpus"
    folder.mkdir()
    write(folder, {"train": [make_example("a")]})  # an empty folder may become a corpus
    with pytest.raises(ValueError, match="overwrite=True"):
        write(folder, {"train": [make_example("b")]})
    (folder / "data" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"data/notes\.txt"):
        write(folder, {"train": [make_example("b")]}, overwrite=True)
    (folder / "data" / "notes.txt").unlink()
    write(folder, {"train": [make_example("b")]}, overwrite=True)
    assert EventCorpus(folder, "train").video_ids == ("b",)
    (folder / "corpus.json").unlink()
    with pytest.raises(ValueError, match="not a corpus"):
        write(folder, {"train": [make_example("c")]}, overwrite=True)


def test_a_corpus_that_was_moved_away_and_not_replaced_is_put_back(tmp_path, make_example, write):
    write(tmp_path / "corpus", {"train": [make_example("a")]})
    (tmp_path / ".corpus.partial").mkdir()
    (tmp_path / "corpus").rename(tmp_path / ".corpus.partial" / "replaced")  # as by `kill -9` between two renames
    with pytest.raises(ValueError, match="overwrite=True"):
        write(tmp_path / "corpus", {"train": [make_example("b")]})
    assert EventCorpus(tmp_path / "corpus", "train").video_ids == ("a",)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize("options", [{"videos_per_shard": 0}, {"num_workers": -1}])
def test_shards_without_videos_and_a_negative_number_of_workers_are_refused(tmp_path, make_example, write, options):
    with pytest.raises(ValueError, match="videos_per_shard >= 1 and num_workers >= 0"):
        write(tmp_path / "corpus", {"train": [make_example("a")]}, **options)
