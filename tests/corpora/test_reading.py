from dataclasses import replace

import numpy as np
import pytest

from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.corpora.reading import read_corpus_annotations
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.simulation.features import simulate_splits


def test_the_annotations_of_a_corpus_are_read_without_its_features(tmp_path):
    feature_set = replace(FEATURE_SETS["i3d-vggish"], visual_size=4, audio_size=2)
    splits = simulate_splits({"train": 5, "test": 3}, 3, feature_set=feature_set)
    train = splits["train"]
    write_corpus(tmp_path / "corpus", splits)
    annotations, grid = read_corpus_annotations(tmp_path / "corpus")
    assert (annotations.labels, grid) == (train.labels, train.feature_spec.grid)
    assert {split: len(annotations.split(split).videos) for split in splits} == {"train": 5, "test": 3}
    for split, videos in splits.items():
        for example, video in zip(videos, annotations.split(split).videos.values(), strict=True):
            assert (video.video_id, video.duration) == (example["video_id"], example["duration"])
            segments, labels = annotations.targets_of(video)
            np.testing.assert_array_equal(segments, example["segments"])
            np.testing.assert_array_equal(labels, example["labels"])


def test_a_missing_shard_is_an_error(tmp_path, make_example, write):
    write(tmp_path / "corpus", {"train": [make_example("a")]})
    (tmp_path / "corpus" / "data" / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="data/train-00000-of-00001"):
        read_corpus_annotations(tmp_path / "corpus")
