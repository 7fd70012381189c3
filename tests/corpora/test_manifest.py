import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.manifest import Manifest, Shard, verify_corpus

SHARD = "data/train-00000-of-00001.parquet"
# The bytes of 0.1, which every later version has to read and write.
METADATA = (
    '{"feature_grid": {"frame_rate": 10.0, "stride": 5, "window": 10}, "encoder": {"name": "test", "version": "1"}, '
    '"visual_size": 6, "audio_size": 4, "labels": ["dog barking", "speech"]}'
)
CORPUS_JSON = """{
  "format": "esg_transformers.corpus",
  "format_version": 1,
  "feature_grid": {
    "frame_rate": 10.0,
    "stride": 5,
    "window": 10
  },
  "encoder": {
    "name": "test",
    "version": "1"
  },
  "visual_size": 6,
  "audio_size": 4,
  "labels": [
    "dog barking",
    "speech"
  ],
  "splits": {
    "train": [
      {
        "file": "data/train-00000-of-00001.parquet",
        "num_examples": 2,
        "size": 5000,
        "sha256": "5d41"
      }
    ]
  }
}"""


@pytest.fixture
def folder(tmp_path, make_example, write):
    """A corpus of one video."""
    write(tmp_path / "corpus", {"train": [make_example("a")]})
    return tmp_path / "corpus"


def test_corpus_json_is_written_and_read_as_in_0_1(tmp_path, spec):
    manifest = Manifest(spec, ("dog barking", "speech"), {"train": (Shard(SHARD, 2, 5000, "5d41"),)})
    manifest.write(tmp_path)
    assert (tmp_path / "corpus.json").read_text() == CORPUS_JSON
    assert Manifest.read(tmp_path) == manifest


def test_a_shard_describes_its_features_and_labels_as_in_0_1(folder):
    assert pq.read_schema(folder / SHARD).metadata[b"esg_transformers"].decode() == METADATA


def test_a_manifest_counts_videos_and_lists_files(spec):
    train = (Shard("data/train-00000-of-00002.parquet", 3, 1, ""), Shard("data/train-00001-of-00002.parquet", 2, 1, ""))
    manifest = Manifest(
        spec, ("speech",), {"train": train, "test": (Shard("data/test-00000-of-00001.parquet", 4, 1, ""),)}
    )
    assert (manifest.num_examples("train"), manifest.num_examples("test"), manifest.num_examples()) == (5, 4, 9)
    assert set(manifest.files) == {"README.md", "corpus.json"} | {shard.file for _, shard in manifest.shards}


def test_features_of_an_unknown_encoder_and_repeated_labels_are_refused(spec):
    with pytest.raises(ValueError, match="no encoder.*EncoderId"):
        Manifest(replace(spec, encoder=None), ("speech",), {})
    for labels in ((), ("speech", "speech")):
        with pytest.raises(ValueError, match="`labels`"):
            Manifest(spec, labels, {})


def test_a_flipped_byte_is_found_by_verify_corpus(folder):
    verify_corpus(folder)
    content = bytearray((folder / SHARD).read_bytes())
    content[40] ^= 1
    (folder / SHARD).write_bytes(content)
    with pytest.raises(ValueError, match=f"{SHARD} .*sha256"):
        verify_corpus(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_grid": {"frame_rate": 25.0, "stride": 8, "window": 24}}, "differ in feature_grid"),
        ({"feature_grid": {"frame_rate": 25.0}}, r"corpus\.json is not .*stride"),
        ({"feature_grid": {"frame_rate": 25.0, "stride": 0, "window": 24}}, "stride 0"),
        ({"encoder": {"name": "test", "version": "2"}}, "differ in encoder"),
        ({"encoder": {"name": "test"}}, r"corpus\.json is not .*version"),
        ({"visual_size": 7}, "differ in visual_size"),
        ({"visual_size": 0}, "visual_size"),
        ({"labels": ["speech", "dog barking"]}, "differ in labels"),
        ({"labels": []}, "labels"),
        ({"format_version": 2}, "expected .*'format_version': 1"),
        ({"splits": {"train": [{"file": "../a", "num_examples": 1, "size": 1, "sha256": ""}]}}, "'../a'"),
        ({"splits": {"train": [{"file": SHARD}]}}, r"corpus\.json is not .*num_examples"),
    ],
)
def test_an_edited_corpus_json_is_refused(folder, change, message):
    path = folder / "corpus.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        EventCorpus(folder, "train")


def test_a_shard_of_another_writer_is_refused(folder):
    manifest = Manifest.read(folder)
    pq.write_table(pq.read_table(folder / SHARD).replace_schema_metadata({}), folder / SHARD)
    with pytest.raises(ValueError, match=f"{SHARD} has no description .*`write_corpus`"):
        manifest.check_shard(folder / SHARD)
