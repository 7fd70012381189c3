"""Sources that options name: a corpus folder, or annotations with feature files; and the model to use on them."""

import argparse
from pathlib import Path

from esg_transformers.annotations.formats import read_annotations
from esg_transformers.cli.checks import check_source
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.feature_folder import FeatureFolder
from esg_transformers.corpora.feature_sets import FEATURE_SETS, FeatureSet, read_feature_set
from esg_transformers.localization.model import LocalizationModel, open_model
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
from esg_transformers.training.model import check_dataset


def open_source(
    arguments: argparse.Namespace, split: str, label2id: dict[str, int] | None = None
) -> EventCorpus | FeatureFolder:
    """Examples of one split.

    Args:
        arguments: options of `add_source_options`.
        split: name of the split.
        label2id: class ids of the model to use; by default those of the source.

    Raises:
        ValueError: if the options name no source or two, or the source cannot be used.
    """
    check_source(arguments)
    if arguments.corpus:
        return EventCorpus(arguments.corpus, split)
    feature_set = named_feature_set(arguments.feature_set)
    annotations = read_annotations(
        arguments.annotations, arguments.annotation_format, label2id=label2id, frame_rate=arguments.frame_rate
    )
    return FeatureFolder(annotations, arguments.features, feature_set, split)


def named_feature_set(name: str) -> FeatureSet:
    """Published feature set of this name, or the one of a JSON file (see `read_feature_set`).

    Raises:
        FileNotFoundError: if it is neither.
        ValueError: if the file does not describe a feature set.
    """
    if name in FEATURE_SETS:
        return FEATURE_SETS[name]
    if not Path(name).is_file():
        raise FileNotFoundError(
            f"{name!r} is neither a published feature set ({', '.join(sorted(FEATURE_SETS))}) nor a JSON file that "
            "describes one."
        )
    return read_feature_set(name)


def open_model_and_split(
    arguments: argparse.Namespace,
) -> tuple[LocalizationModel, EsgNetProcessor, EventCorpus | FeatureFolder]:
    """Model and processor of `--model`, and the examples of `--split` with the classes of the model.

    Raises:
        ValueError: if it is not a model of this package, or the examples do not fit it.
    """
    model, processor = open_model(arguments.model)
    dataset = open_source(arguments, arguments.split, label2id_of(model))
    try:
        check_dataset(f"The {arguments.split} split", dataset, model, processor)
    except ValueError as error:
        if dataset.feature_spec.grid == processor.feature_grid:
            raise
        frame_rate, stride, window = processor.feature_grid.to_dict().values()
        raise ValueError(
            f"{error} `esg-transformers corpus build --grid {frame_rate:g},{stride},{window}` builds a corpus on that "
            "grid."
        ) from error
    return model, processor, dataset


def label2id_of(model: LocalizationModel) -> dict[str, int]:
    """Class ids of a model by label."""
    return {str(label): int(index) for index, label in (model.config.id2label or {}).items()}
