import json
from argparse import Namespace
from dataclasses import asdict, replace

import numpy as np
import pytest

from esg_transformers.annotations.formats import write_annotations
from esg_transformers.annotations.unav import read_unav_annotations
from esg_transformers.cli.sources import open_source
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.feature_folder import FeatureFolder
from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.training.model import new_model


@pytest.fixture
def source(write_features):
    options = write_features("one-peace")
    unset = {"corpus": None, "annotation_format": None, "frame_rate": None}
    return Namespace(**unset, **{key.strip("-").replace("-", "_"): str(value) for key, value in options.items()})


def test_features_of_ones_own_with_annotations_in_any_format_are_read_as_published_ones_are(source, tmp_path):
    expected = open_source(source, "train")
    assert isinstance(expected, FeatureFolder)
    ours = replace(FEATURE_SETS["one-peace"], name="ours", version="3")
    (tmp_path / "ours.json").write_text(json.dumps({k: v for k, v in asdict(ours).items() if v is not None}))
    write_annotations(read_unav_annotations(source.annotations), tmp_path / "events.csv")
    source.feature_set, source.annotations = str(tmp_path / "ours.json"), str(tmp_path / "events.csv")
    dataset = open_source(source, "train")
    assert str(dataset.feature_spec.encoder) == "ours 3"
    assert (dataset.labels, dataset.video_ids) == (expected.labels, expected.video_ids)
    for example, published in zip(dataset, expected, strict=True):
        np.testing.assert_array_equal(example["visual_features"], published["visual_features"])
        assert sorted(example["segments"].tolist()) == sorted(published["segments"].tolist())


def test_a_feature_set_that_is_neither_published_nor_a_file_is_named(source):
    source.feature_set = "two-peace"
    with pytest.raises(FileNotFoundError, match="'two-peace' is neither a published feature set"):
        open_source(source, "train")


def test_a_corpus_on_another_grid_is_refused_with_the_command_that_builds_one_on_the_models(refused, corpus, tmp_path):
    dataset = EventCorpus(corpus, "test")
    dataset.feature_spec = replace(dataset.feature_spec, grid=FeatureGrid(29.97, 8, 24))
    model, processor = new_model(dataset, "tiny")
    model.save_pretrained(tmp_path), processor.save_pretrained(tmp_path)
    message = refused("evaluate", "--corpus", corpus, "--model", tmp_path)
    assert "is on a feature grid of 10 frames/s, stride 2, window 4; expected 29.97 frames/s" in message
    assert "`esg-transformers corpus build --grid 29.97,8,24` builds a corpus on that grid." in message
