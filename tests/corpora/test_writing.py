import hashlib
import json
import os
import resource
import shutil
import signal

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.example import ExampleList
from esg_transformers.corpora.manifest import verify_corpus
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec

GRID = FeatureGrid(frame_rate=10.0, stride=5, window=10)  # 10 s hold 19 steps
LABELS = ("dog barking", "speech")
SPEC = FeatureSpec(GRID, visual_size=6, audio_size=4, encoder=EncoderId("test", "1"))


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


def write(folder, splits, **options):
    write_corpus(folder, {split: ExampleList(examples, LABELS, SPEC) for split, examples in splits.items()}, **options)


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
    write(tmp_path / "corpus", {"train": examples})
    corpus = EventCorpus(tmp_path / "corpus", "train")
    assert len(corpus) == 4
    for example, expected in zip(corpus, examples, strict=True):
        assert_same(example, expected)
    assert corpus[0]["visual_features"].flags.writeable


def test_a_corpus_says_what_its_features_are(tmp_path):
    write(tmp_path / "corpus", {"test": [make_example("a"), make_example("b")]})
    corpus = EventCorpus(tmp_path / "corpus", "test")
    assert corpus.video_ids == ("a", "b")
    assert (corpus.labels, corpus.feature_spec) == (LABELS, SPEC)
    shard = tmp_path / "corpus" / "data" / "test-00000-of-00001.parquet"
    assert json.loads(pq.read_schema(shard).metadata[b"esg_transformers"])["feature_grid"] == GRID.to_dict()


def test_a_shard_holds_as_many_videos_as_are_asked_for_in_their_order(tmp_path):
    examples = [make_example(str(index), index) for index in range(5)]
    write(tmp_path / "corpus", {"train": examples}, videos_per_shard=2)
    files = sorted(path.name for path in (tmp_path / "corpus" / "data").iterdir())
    assert files == [f"train-{index:05d}-of-00003.parquet" for index in range(3)]
    assert EventCorpus(tmp_path / "corpus", "train").video_ids == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize("streaming", [False, True])
def test_plain_datasets_loads_the_folder_with_its_splits_and_features(tmp_path, streaming):
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
        write(tmp_path / "corpus", splits)
    assert repr(changes.get("video_id", "b")) in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


class Folder:
    """Examples in files, as a data set that says what each follows from."""

    labels, feature_spec = LABELS, SPEC

    def __init__(self, folder, num_examples=7, fail_at=None, failure=KeyboardInterrupt):
        self.video_ids = tuple(f"video {index}" for index in range(num_examples))
        self.durations = (10.0,) * num_examples
        self.fail_at, self.failure = fail_at, failure
        self.read = []
        self._folder = folder
        for path in (folder / str(index) for index in range(num_examples)):
            if not path.exists():
                path.touch()

    def __len__(self):
        return len(self.video_ids)

    def __getitem__(self, index):
        if index == self.fail_at:
            raise self.failure
        self.read.append(index)
        return make_example(self.video_ids[index], index)

    def fingerprint(self, index):
        return f"{self.video_ids[index]} {(self._folder / str(index)).stat().st_mtime_ns}"


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def build(folder, examples, **options):
    write_corpus(folder, {"train": examples}, **{"videos_per_shard": 2} | options)


def interrupted_build(folder, source):
    """A build that ends in its third shard, at the sixth video."""
    with pytest.raises(KeyboardInterrupt):
        build(folder, Folder(source, fail_at=5))


def test_an_interrupted_build_goes_on_with_what_is_missing_and_gives_the_same_bytes(tmp_path, source):
    (tmp_path / "other").mkdir()
    build(tmp_path / "other" / "corpus", Folder(source))
    interrupted_build(tmp_path / "corpus", source)
    assert not (tmp_path / "corpus").exists()
    examples = Folder(source)
    build(tmp_path / "corpus", examples)
    assert examples.read == [4, 5, 6]
    assert hashes(tmp_path / "corpus") == hashes(tmp_path / "other" / "corpus")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "other", "source"]


def test_shards_of_changed_videos_and_damaged_ones_are_made_again(tmp_path, source):
    interrupted_build(tmp_path / "corpus", source)
    os.utime(source / "1", ns=(0, 0))
    shard = tmp_path / ".corpus.partial" / "corpus" / "data" / "train-00001-of-00004.parquet"
    shard.write_bytes(bytes(shard.stat().st_size))
    examples = Folder(source)
    build(tmp_path / "corpus", examples)
    assert examples.read == [0, 1, 2, 3, 4, 5, 6]
    verify_corpus(tmp_path / "corpus")


def test_another_build_uses_nothing_of_an_interrupted_one(tmp_path, source):
    interrupted_build(tmp_path / "corpus", source)
    examples = Folder(source)
    build(tmp_path / "corpus", examples, videos_per_shard=4)
    assert examples.read == list(range(7))
    files = {f"data/train-{index:05d}-of-00002.parquet" for index in range(2)}
    assert hashes(tmp_path / "corpus").keys() == {"corpus.json", "README.md"} | files


def test_an_interrupted_build_keeps_the_old_corpus(tmp_path, source):
    write(tmp_path / "corpus", {"train": [make_example("a")]})
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "corpus", Folder(source, fail_at=5), overwrite=True)
    assert EventCorpus(tmp_path / "corpus", "train").video_ids == ("a",)
    build(tmp_path / "corpus", Folder(source), overwrite=True)
    assert len(EventCorpus(tmp_path / "corpus", "train")) == 7


def test_a_corpus_that_was_moved_away_and_not_replaced_is_put_back(tmp_path):
    write(tmp_path / "corpus", {"train": [make_example("a")]})
    (tmp_path / ".corpus.partial").mkdir()
    (tmp_path / "corpus").rename(tmp_path / ".corpus.partial" / "replaced")  # as by `kill -9` between two renames
    with pytest.raises(ValueError, match="give `overwrite=True`"):
        write(tmp_path / "corpus", {"train": [make_example("b")]})
    assert EventCorpus(tmp_path / "corpus", "train").video_ids == ("a",)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_what_an_interrupted_build_of_examples_without_a_fingerprint_made_is_not_kept(tmp_path):
    with pytest.raises(ValueError, match="'b' of split 'train'"):
        write(tmp_path / "corpus", {"train": [make_example("a"), make_example("b", duration=0.0)]}, videos_per_shard=1)
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_is_built_by_one_process_at_a_time(tmp_path, source):
    class Meanwhile(Folder):
        def __getitem__(self, index):
            with pytest.raises(OSError, match="Another process is building"):
                build(tmp_path / "corpus", Folder(source))
            return super().__getitem__(index)

    build(tmp_path / "corpus", Meanwhile(source))
    assert len(EventCorpus(tmp_path / "corpus", "train")) == 7


@pytest.mark.parametrize("failure", [ValueError("no picture"), RuntimeError("no picture"), OSError("no picture")])
def test_a_video_that_cannot_be_read_is_named(tmp_path, source, failure):
    with pytest.raises(ValueError, match="Video 'video 5' of split 'train' cannot be stored: no picture"):
        build(tmp_path / "corpus", Folder(source, fail_at=5, failure=failure))
    assert not (tmp_path / "corpus").exists()


class KilledReader(Folder):
    def __getitem__(self, index):
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_killed_worker_is_an_error_and_what_is_finished_is_kept(tmp_path, source):
    with pytest.raises(ChildProcessError, match="ended abruptly"):
        build(tmp_path / "corpus", KilledReader(source), num_workers=1)
    examples = Folder(source)
    build(tmp_path / "corpus", examples)
    assert examples.read == [4, 5, 6]


def test_want_of_room_is_told_and_leaves_no_corpus(tmp_path, source):
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, largest[1]))  # bytes of a file
    try:
        with pytest.raises(OSError, match=r"\.corpus\.partial cannot be written: .*Make room there"):
            build(tmp_path / "corpus", Folder(source))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, largest)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_corpus_of_an_earlier_version_is_read(tmp_path):
    """Which had the bounds of events in float32, and shards of any number of videos."""
    folder = tmp_path / "corpus"
    write(folder, {"train": [make_example("a"), make_example("b")]})
    shard = folder / "data" / "train-00000-of-00001.parquet"
    table = pq.read_table(shard)
    bounds = datasets.Value("float32")
    events = datasets.List(
        {"start": bounds, "end": bounds, "label": datasets.ClassLabel(names=["dog barking", "speech"])}
    )
    features = datasets.Features.from_arrow_schema(table.schema) | {"events": events}
    schema = datasets.Features(features).arrow_schema
    metadata = {**table.schema.metadata, **schema.metadata}
    index = table.schema.get_field_index("events")
    table = table.set_column(index, schema.field(index), table.column(index).cast(schema.field(index).type))
    pq.write_table(table.replace_schema_metadata(metadata), shard)
    manifest = json.loads((folder / "corpus.json").read_text())
    manifest["splits"]["train"][0] |= {
        "size": shard.stat().st_size,
        "sha256": hashlib.sha256(shard.read_bytes()).hexdigest(),
    }
    (folder / "corpus.json").write_text(json.dumps(manifest))
    verify_corpus(folder)
    example = EventCorpus(folder, "train")[1]
    assert_same(example | {"segments": None}, make_example("b") | {"segments": None})
    np.testing.assert_array_equal(example["segments"], np.array([[0.1, 2.3], [5.0, 10.0]], np.float32))
    assert example["segments"].dtype == np.float64


def test_a_corpus_is_replaced_only_when_asked_and_only_if_it_is_nothing_else(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    write(folder, {"train": [make_example("a")]})  # an empty folder may become a corpus
    with pytest.raises(ValueError, match="give `overwrite=True`"):
        write(folder, {"train": [make_example("b")]})
    (folder / "data" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"not of the corpus, such as data/notes\.txt"):
        write(folder, {"train": [make_example("b")]}, overwrite=True)
    (folder / "data" / "notes.txt").unlink()
    write(folder, {"train": [make_example("b")]}, overwrite=True)
    assert EventCorpus(folder, "train").video_ids == ("b",)
    (folder / "corpus.json").unlink()
    with pytest.raises(ValueError, match="exists and is not a corpus"):
        write(folder, {"train": [make_example("c")]}, overwrite=True)


def test_a_changed_corpus_is_not_served_from_the_cache(tmp_path):
    folder, shard = tmp_path / "corpus", "data/train-00000-of-00001.parquet"
    write(folder, {"train": [make_example("a", 0)]})
    before = EventCorpus(folder, "train")[0]
    times = (folder / shard).stat()
    write(folder, {"train": [make_example("a", 1)]}, overwrite=True)
    os.utime(folder / shard, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy that keeps times would
    after = EventCorpus(folder, "train")[0]
    assert not np.array_equal(before["visual_features"], after["visual_features"])
    assert_same(after, make_example("a", 1))


def test_a_folder_whose_name_has_wildcards_is_read(tmp_path):
    write(tmp_path / "corpus [1]*", {"train": [make_example("a")]})
    assert EventCorpus(tmp_path / "corpus [1]*", "train").video_ids == ("a",)


def test_what_is_not_a_whole_corpus_is_refused(tmp_path):
    folder = tmp_path / "corpus"
    with pytest.raises(FileNotFoundError, match=r"not a corpus: it has no corpus\.json"):
        EventCorpus(folder, "train")
    write(folder, {"train": [make_example("a")], "test": [make_example("b")]})
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
    write(tmp_path / "corpus", {"train": [make_example("a")]})
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
    write(tmp_path / "corpus", {"train": [make_example("a")]})
    path = tmp_path / "corpus" / "corpus.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        EventCorpus(tmp_path / "corpus", "train")


def test_a_copied_corpus_is_the_same_corpus(tmp_path):
    write(tmp_path / "corpus", {"train": [make_example("a")]})
    shutil.copytree(tmp_path / "corpus", tmp_path / "copy")
    assert_same(EventCorpus(tmp_path / "copy", "train")[0], make_example("a"))


@pytest.mark.parametrize("split", ["all", "train-1", "../train", ""])
def test_a_split_name_that_datasets_would_not_read_is_refused(tmp_path, split):
    with pytest.raises(ValueError, match="A split is named with letters, digits and _"):
        write(tmp_path / "corpus", {split: [make_example("a")]})


def test_a_corpus_without_examples_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Split 'train' has no examples"):
        write(tmp_path / "corpus", {"train": []})
    with pytest.raises(ValueError, match="at least one split"):
        write(tmp_path / "corpus", {})


def test_durations_are_known_without_reading_features(tmp_path):
    write(tmp_path / "corpus", {"train": [make_example("a"), make_example("b")]})
    assert EventCorpus(tmp_path / "corpus", "train").durations == (10.0, 10.0)
