import numpy as np
import pytest

from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.example import ExampleList, Resumable, VideoDataset, are_finite


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f2"])
def test_any_value_that_is_not_finite_is_found(dtype):
    features = np.full((3, 4), np.finfo(np.float16).max, dtype)
    features[0, 0], features[1, 1] = -features[0, 0], 2.0**-24  # the least subnormal half float
    assert are_finite(features)
    for value in (np.nan, np.inf, -np.inf):
        wrong = features.copy()
        wrong[2, 3] = value
        assert not are_finite(wrong)


def test_data_sets_fit_the_protocol(tmp_path, make_example, write, spec):
    write(tmp_path / "corpus", {"train": [make_example("a")]})
    corpus = EventCorpus(tmp_path / "corpus", "train")
    examples = ExampleList([make_example("a")], ("dog barking", "speech"), spec)
    assert isinstance(corpus, VideoDataset)
    assert isinstance(examples, VideoDataset)
    assert not isinstance(examples, Resumable)
    assert not isinstance([make_example("a")], VideoDataset)
