import hashlib
import json
import os
import shutil

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.manifest import verify_corpus

SHARD = "data/train-00000-of-00001.parquet"


def test_examples_come_back_as_they_were_written(tmp_path, make_example, write, assert_same):
    examples = [
        make_example("a"),
        make_example("b", 1, segments=np.zeros((0, 2), np.float64), labels=np.zeros(0, np.int64)),
        make_example("c", 2, visual_features=None),
        make_example("d", 3, audio_features=None),
    ]
    write(tmp_path / "corpus", {"train": examples})
    corpus = EventCorpus(tmp_path / "corpus", "train")
    assert len(corpus) == 4
    for example, expected in zip(corpus, examples, strict=True):
        assert_same(example, expected)
    assert corpus[0]["visual_features"].flags.writeable


def test_labels_spec_ids_and_durations_are_known_without_reading_features(tmp_path, make_example, write, spec):
    write(tmp_path / "corpus", {"test": [make_example("a"), make_example("b")]})
    corpus = EventCorpus(tmp_path / "corpus", "test")
    assert (corpus.labels, corpus.feature_spec) == (("dog barking", "speech"), spec)
    assert (corpus.video_ids, corpus.durations) == (("a", "b"), (10.0, 10.0))


def test_a_corpus_of_an_earlier_version_is_read(tmp_path, make_example, write, assert_same):
    """Earlier versions stored the bounds of events in float32."""
    folder = tmp_path / "corpus"
    write(folder, {"train": [make_example("a"), make_example("b")]})
    table = pq.read_table(folder / SHARD)
    bounds = datasets.Value("float32")
    events = datasets.List(
        {"start": bounds, "end": bounds, "label": datasets.ClassLabel(names=["dog barking", "speech"])}
    )
    features = datasets.Features.from_arrow_schema(table.schema) | {"events": events}
    schema = datasets.Features(features).arrow_schema
    metadata = {**table.schema.metadata, **schema.metadata}
    index = table.schema.get_field_index("events")
    table = table.set_column(index, schema.field(index), table.column(index).cast(schema.field(index).type))
    pq.write_table(table.replace_schema_metadata(metadata), folder / SHARD)
    content = json.loads((folder / "corpus.json").read_text())
    content["splits"]["train"][0] |= {
        "size": (folder / SHARD).stat().st_size,
        "sha256": hashlib.sha256((folder / SHARD).read_bytes()).hexdigest(),
    }
    (folder / "corpus.json").write_text(json.dumps(content))
    verify_corpus(folder)
    example = EventCorpus(folder, "train")[1]
    assert_same(example | {"segments": None}, make_example("b") | {"segments": None})
    np.testing.assert_array_equal(example["segments"], np.array([[0.1, 2.3], [5.0, 10.0]], np.float32))
    assert example["segments"].dtype == np.float64


def test_a_changed_corpus_is_not_served_from_the_cache(tmp_path, make_example, write, assert_same):
    folder = tmp_path / "corpus"
    write(folder, {"train": [make_example("a", 0)]})
    before = EventCorpus(folder, "train")[0]
    times = (folder / SHARD).stat()
    write(folder, {"train": [make_example("a", 1)]}, overwrite=True)
    os.utime(folder / SHARD, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy that keeps times would
    after = EventCorpus(folder, "train")[0]
    assert not np.array_equal(before["visual_features"], after["visual_features"])
    assert_same(after, make_example("a", 1))


def test_a_folder_whose_name_has_wildcards_is_read(tmp_path, make_example, write):
    write(tmp_path / "corpus [1]*", {"train": [make_example("a")]})
    assert EventCorpus(tmp_path / "corpus [1]*", "train").video_ids == ("a",)


def test_a_copied_corpus_is_the_same_corpus(tmp_path, make_example, write, assert_same):
    write(tmp_path / "corpus", {"train": [make_example("a")]})
    shutil.copytree(tmp_path / "corpus", tmp_path / "copy")
    assert_same(EventCorpus(tmp_path / "copy", "train")[0], make_example("a"))


def test_an_incomplete_corpus_is_refused(tmp_path, make_example, write):
    folder = tmp_path / "corpus"
    with pytest.raises(FileNotFoundError, match=r"no corpus\.json"):
        EventCorpus(folder, "train")
    write(folder, {"train": [make_example("a")], "test": [make_example("b")]})
    with pytest.raises(ValueError, match="'validation'.* train, test"):
        EventCorpus(folder, "validation")

    size = (folder / SHARD).stat().st_size
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{size - 1} bytes, .*corpus\.json.* {size}"):
        EventCorpus(folder, "train")
    (folder / SHARD).unlink()
    with pytest.raises(FileNotFoundError, match=f"shard {SHARD}"):
        EventCorpus(folder, "train")
    (folder / SHARD).write_bytes(bytes(size))
    with pytest.raises(ValueError, match=rf"{SHARD} cannot be read"):
        EventCorpus(folder, "train")
