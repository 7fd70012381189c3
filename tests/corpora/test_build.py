import hashlib
import os
import resource
import signal

import numpy as np
import pytest

from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.manifest import verify_corpus
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec


class Folder:
    """Seven examples, each identified by the time of a file: a data set that is `Resumable`."""

    labels = ("dog barking", "speech")
    feature_spec = FeatureSpec(FeatureGrid(10.0, stride=5, window=10), 6, 4, EncoderId("test", "1"))
    video_ids = tuple(f"video {index}" for index in range(7))
    durations = (10.0,) * 7

    def __init__(self, folder, fail_at=None, failure=KeyboardInterrupt):
        self.fail_at, self.failure = fail_at, failure
        self.read = []
        self._folder = folder
        for path in (folder / str(index) for index in range(7)):
            if not path.exists():
                path.touch()

    def __len__(self):
        return 7

    def __getitem__(self, index):
        if index == self.fail_at:
            raise self.failure
        self.read.append(index)
        random = np.random.default_rng(index)
        return {
            "video_id": self.video_ids[index],
            "duration": 10.0,
            "visual_features": random.normal(size=(19, 6)).astype(np.float16),
            "audio_features": random.normal(size=(19, 4)).astype(np.float16),
            "segments": np.array([[0.1, 2.3], [5.0, 10.0]]),
            "labels": np.array([1, 0]),
        }

    def fingerprint(self, index):
        return f"{self.video_ids[index]} {(self._folder / str(index)).stat().st_mtime_ns}"


class KilledReader(Folder):
    def __getitem__(self, index):
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


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


def test_an_interrupted_build_resumes_with_the_missing_shards_and_gives_the_same_bytes(tmp_path, source):
    (tmp_path / "other").mkdir()
    build(tmp_path / "other" / "corpus", Folder(source))
    interrupted_build(tmp_path / "corpus", source)
    assert not (tmp_path / "corpus").exists()
    examples = Folder(source)
    build(tmp_path / "corpus", examples)
    assert examples.read == [4, 5, 6]
    assert hashes(tmp_path / "corpus") == hashes(tmp_path / "other" / "corpus")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "other", "source"]


def test_shards_of_changed_videos_and_damaged_shards_are_built_again(tmp_path, source):
    interrupted_build(tmp_path / "corpus", source)
    os.utime(source / "1", ns=(0, 0))
    shard = tmp_path / ".corpus.partial" / "corpus" / "data" / "train-00001-of-00004.parquet"
    shard.write_bytes(bytes(shard.stat().st_size))
    examples = Folder(source)
    build(tmp_path / "corpus", examples)
    assert examples.read == [0, 1, 2, 3, 4, 5, 6]
    verify_corpus(tmp_path / "corpus")


def test_a_build_with_other_shards_uses_nothing_of_an_interrupted_one(tmp_path, source):
    interrupted_build(tmp_path / "corpus", source)
    examples = Folder(source)
    build(tmp_path / "corpus", examples, videos_per_shard=4)
    assert examples.read == list(range(7))
    files = {f"data/train-{index:05d}-of-00002.parquet" for index in range(2)}
    assert hashes(tmp_path / "corpus").keys() == {"corpus.json", "README.md"} | files


def test_an_interrupted_build_keeps_the_old_corpus(tmp_path, source, make_example, write):
    write(tmp_path / "corpus", {"train": [make_example("a")]})
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "corpus", Folder(source, fail_at=5), overwrite=True)
    assert EventCorpus(tmp_path / "corpus", "train").video_ids == ("a",)
    build(tmp_path / "corpus", Folder(source), overwrite=True)
    assert len(EventCorpus(tmp_path / "corpus", "train")) == 7


def test_shards_of_a_data_set_that_is_not_resumable_are_not_kept(tmp_path, make_example, write):
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
    with pytest.raises(ValueError, match="'video 5' of split 'train' .*no picture"):
        build(tmp_path / "corpus", Folder(source, fail_at=5, failure=failure))
    assert not (tmp_path / "corpus").exists()


@pytest.mark.slow
def test_worker_processes_give_the_same_bytes_as_one_process(tmp_path, source):
    for folder, num_workers in (("here", 0), ("workers", 2)):
        (tmp_path / folder).mkdir()
        build(tmp_path / folder / "corpus", Folder(source), num_workers=num_workers)
    assert hashes(tmp_path / "workers" / "corpus") == hashes(tmp_path / "here" / "corpus")


@pytest.mark.slow
def test_a_killed_worker_is_an_error_and_finished_shards_are_kept(tmp_path, source):
    with pytest.raises(ChildProcessError, match="killed.*num_workers"):
        build(tmp_path / "corpus", KilledReader(source), num_workers=1)
    examples = Folder(source)
    build(tmp_path / "corpus", examples)
    assert examples.read == [4, 5, 6]


def test_a_full_disk_is_an_error_and_leaves_no_corpus(tmp_path, source):
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, largest[1]))  # bytes of a file
    try:
        with pytest.raises(OSError, match=r"\.corpus\.partial cannot be written: .*space"):
            build(tmp_path / "corpus", Folder(source))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, largest)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
