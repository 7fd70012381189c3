import pytest

from esg_transformers import corpora


def test_every_public_name_is_there():
    assert all(hasattr(corpora, name) for name in corpora.__all__)
    assert set(corpora.__all__) <= set(dir(corpora))
    with pytest.raises(AttributeError, match="'Corpus'"):
        corpora.Corpus  # noqa: B018
