import datasets
import numpy as np
import pytest

from esg_transformers.corpora.example import ExampleList
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec


@pytest.fixture(autouse=True)
def cache_of_datasets(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def spec():
    """Feature spec whose grid has 19 steps in 10 s."""
    return FeatureSpec(
        FeatureGrid(10.0, stride=5, window=10), visual_size=6, audio_size=4, encoder=EncoderId("test", "1")
    )


@pytest.fixture(scope="session")
def make_example():
    """`make_example(video_id, seed, **changes)`: an example of 10 s with two events that fits `spec`."""

    def make(video_id="a", seed=0, **changes):
        random = np.random.default_rng(seed)
        return {
            "video_id": video_id,
            "duration": 10.0,
            "visual_features": random.normal(size=(19, 6)).astype(np.float16),
            "audio_features": random.normal(size=(19, 4)).astype(np.float16),
            "segments": np.array([[0.1, 2.3], [5.0, 10.0]], np.float64),
            "labels": np.array([1, 0]),
        } | changes

    return make


@pytest.fixture(scope="session")
def write(spec):
    """`write(folder, {"train": [example, ...]}, **options)`: a corpus of the classes dog barking and speech."""

    def write(folder, splits, **options):
        lists = {split: ExampleList(examples, ("dog barking", "speech"), spec) for split, examples in splits.items()}
        write_corpus(folder, lists, **options)

    return write


@pytest.fixture(scope="session")
def assert_same():
    """`assert_same(example, other)`: equal values of equal types."""

    def check(example, other):
        assert example.keys() == other.keys()
        assert (example["video_id"], example["duration"]) == (other["video_id"], other["duration"])
        for name in ("visual_features", "audio_features", "segments", "labels"):
            assert (example[name] is None) == (other[name] is None)
            if example[name] is not None:
                assert example[name].dtype == other[name].dtype
                np.testing.assert_array_equal(example[name], other[name])

    return check
