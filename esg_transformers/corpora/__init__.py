"""Corpora of features and events: data sets to read, folders to write, check, describe and push.

A name is imported when first used, so that `esg_transformers.corpora.feature_sets` loads neither torch nor datasets.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esg_transformers.corpora.dataset import EventCorpus
    from esg_transformers.corpora.description import describe, plot_description
    from esg_transformers.corpora.example import Example, ExampleList, Resumable, VideoDataset
    from esg_transformers.corpora.feature_folder import FeatureFolder
    from esg_transformers.corpora.feature_sets import FEATURE_SETS, FeatureSet, read_feature_set
    from esg_transformers.corpora.manifest import Manifest, verify_corpus
    from esg_transformers.corpora.reading import read_corpus_annotations
    from esg_transformers.corpora.resampling import resample_features
    from esg_transformers.corpora.sharing import push_corpus
    from esg_transformers.corpora.validation import (
        validate_corpus,
        validate_features,
        validate_splits,
        validate_videos,
    )
    from esg_transformers.corpora.video_folder import VideoFolder
    from esg_transformers.corpora.writing import write_corpus

_MODULES = {
    "FEATURE_SETS": "feature_sets",
    "EventCorpus": "dataset",
    "Example": "example",
    "ExampleList": "example",
    "FeatureFolder": "feature_folder",
    "FeatureSet": "feature_sets",
    "Manifest": "manifest",
    "Resumable": "example",
    "VideoDataset": "example",
    "VideoFolder": "video_folder",
    "describe": "description",
    "plot_description": "description",
    "push_corpus": "sharing",
    "read_corpus_annotations": "reading",
    "read_feature_set": "feature_sets",
    "resample_features": "resampling",
    "validate_corpus": "validation",
    "validate_features": "validation",
    "validate_splits": "validation",
    "validate_videos": "validation",
    "verify_corpus": "manifest",
    "write_corpus": "writing",
}

__all__ = [
    "FEATURE_SETS",
    "EventCorpus",
    "Example",
    "ExampleList",
    "FeatureFolder",
    "FeatureSet",
    "Manifest",
    "Resumable",
    "VideoDataset",
    "VideoFolder",
    "describe",
    "plot_description",
    "push_corpus",
    "read_corpus_annotations",
    "read_feature_set",
    "resample_features",
    "validate_corpus",
    "validate_features",
    "validate_splits",
    "validate_videos",
    "verify_corpus",
    "write_corpus",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value  # so that this function is not called again
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
