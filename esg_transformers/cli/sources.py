"""Where features and events come from: a corpus folder, or annotations with a folder of feature files."""

import argparse

from esg_transformers.data.annotations import read_unav_annotations
from esg_transformers.data.corpus import EventCorpus
from esg_transformers.data.unav100 import FEATURE_SETS, FeatureFolder


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """`--corpus`, or `--annotations` with `--features` and `--feature-set`."""
    group = parser.add_argument_group("where the features are", "Give --corpus, or the three others.")
    group.add_argument("--corpus", metavar="DIR", help="a corpus folder, as `esg-transformers encode` writes it")
    group.add_argument("--annotations", metavar="FILE", help="an annotation file in the layout of UnAV-100")
    group.add_argument("--features", metavar="DIR", help="a folder of the published .npy feature files")
    group.add_argument("--feature-set", choices=sorted(FEATURE_SETS), help="which of the published features they are")


def is_given(arguments: argparse.Namespace) -> bool:
    """Whether any of the options was used."""
    return any((arguments.corpus, arguments.annotations, arguments.features, arguments.feature_set))


def open_source(
    arguments: argparse.Namespace, split: str, label2id: dict[str, int] | None = None
) -> EventCorpus | FeatureFolder:
    """The examples of one split.

    Args:
        arguments: with the options of `add_source_arguments`.
        split: its name.
        label2id: the classes of a model to be used on them; by default those of the source.

    Raises:
        ValueError: if the options do not name one source.
    """
    folder = (arguments.annotations, arguments.features, arguments.feature_set)
    if arguments.corpus and not any(folder):
        return EventCorpus(arguments.corpus, split)
    if all(folder) and not arguments.corpus:
        annotations = read_unav_annotations(arguments.annotations, label2id)
        return FeatureFolder(annotations, arguments.features, FEATURE_SETS[arguments.feature_set], split)
    raise ValueError("Give either --corpus, or all of --annotations, --features and --feature-set.")
