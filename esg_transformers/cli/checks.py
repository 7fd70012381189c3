"""Checks of options before any heavy import: combinations, suffixes, and the folders of files to write."""

import argparse
from collections.abc import Collection
from pathlib import Path

from esg_transformers.cli.options import MODELS_OF_ENCODER, spelling_of
from esg_transformers.files import check_folder_of
from esg_transformers.training.arguments import FINETUNING, LocalizationTrainingArguments, read_settings

SOURCE = ("corpus", "annotations", "features", "feature_set")
MODELS = tuple(name for names in MODELS_OF_ENCODER.values() for name in names)
# Options of `localize` that do not apply to a corpus.
VIDEO_OPTIONS = (
    "encoder",
    *MODELS,
    "top_k",
    "merge_gap",
    "min_duration",
    "to",
    "output_dir",
    "lanes",
    "num_workers",
)
PICTURES = (".png", ".svg", ".pdf")
TARGETS = {"precision": 1, "recall": 1, "f1": 0, "cost": 2, "alarms-per-hour": 1}  # number of values of each target


def check_source(arguments: argparse.Namespace) -> None:
    """Check that the options name one source of features and events.

    Raises:
        ValueError: if they name none or two.
    """
    given = [bool(vars(arguments)[name]) for name in SOURCE]
    if given not in ([True, False, False, False], [False, True, True, True]):
        raise ValueError("Give either --corpus, or all of --annotations, --features and --feature-set.")
    check_annotation_options(arguments)


def check_annotation_options(arguments: argparse.Namespace) -> None:
    """Check that `--annotation-format` and `--frame-rate` have annotations to apply to.

    Raises:
        ValueError: if they have none.
    """
    if (arguments.annotation_format or arguments.frame_rate) and not arguments.annotations:
        raise ValueError("--annotation-format and --frame-rate apply to --annotations, which is not given.")


def check_encoder(arguments: argparse.Namespace) -> None:
    """Check that the models are those of the encoder, and that it has the ones that it needs.

    Raises:
        ValueError: naming the options.
    """
    given = {name for name in MODELS if vars(arguments)[name]}
    encoder = arguments.encoder or encoder_of_models(arguments)
    if strangers := given - set(MODELS_OF_ENCODER.get(encoder or "", ())):
        raise ValueError(
            f"--encoder {encoder} takes {_listed(MODELS_OF_ENCODER[encoder or '']) or 'no models'}; got "
            f"{_listed(strangers)}."
        )
    if encoder == "hub" and not given:
        raise ValueError("--encoder hub needs --visual-model, --audio-model, or both.")
    if encoder == "i3d-vggish" and not {"i3d_rgb_model", "vggish_model"} <= given:
        raise ValueError("--encoder i3d-vggish needs --i3d-rgb-model and --vggish-model; --i3d-flow-model adds flow.")


def encoder_of_models(arguments: argparse.Namespace) -> str | None:
    """Encoder of the given models; None if no model is given."""
    for encoder, models in MODELS_OF_ENCODER.items():
        if any(vars(arguments)[model] for model in models):
            return encoder
    return None


def _listed(names: Collection[str]) -> str:
    return ", ".join(spelling_of(name) for name in MODELS if name in names)


def check_train(arguments: argparse.Namespace) -> None:
    """Check the settings and the source of `train`."""
    read_settings(arguments, LocalizationTrainingArguments())
    check_source(arguments)


def check_finetune(arguments: argparse.Namespace) -> None:
    """Check the settings of `finetune`."""
    read_settings(arguments, FINETUNING)


def check_calibrate(arguments: argparse.Namespace) -> None:
    """Check the target and the source of `calibrate`."""
    parse_target(arguments.target)
    check_source(arguments)


def parse_target(text: str) -> tuple[str, list[float]]:
    """Name and numbers of a target of `--target`.

    Raises:
        ValueError: if it is not a target.

    >>> parse_target("cost=5:1")
    ('cost', [5.0, 1.0])
    """
    name, equals, value = text.partition("=")
    try:
        numbers = [float(number) for number in value.split(":")] if equals else []
    except ValueError:
        numbers = []
    if len(numbers) != TARGETS.get(name) or (equals and not numbers):
        raise ValueError(
            f"--target is {text!r}; expected precision=0.9, recall=0.8, f1, cost=5:1 or alarms-per-hour=2, with "
            "your own numbers."
        )
    return name, numbers


def check_evaluate(arguments: argparse.Namespace) -> None:
    """Check the files and the source of `evaluate`."""
    _check_folders(arguments.output, arguments.errors, arguments.report)
    if arguments.errors and Path(arguments.errors).suffix != ".png":
        raise ValueError(f"--errors is {arguments.errors}; its suffix must be .png.")
    check_source(arguments)


def check_localize(arguments: argparse.Namespace) -> None:
    """Check the files of `localize`, and that its options apply to its source."""
    if bool(arguments.videos) == any(vars(arguments)[name] for name in SOURCE):
        raise ValueError(
            "Give either video files, or a corpus (--corpus, or --annotations, --features, --feature-set)."
        )
    _check_folders(arguments.output)
    suffix = Path(arguments.output or "").suffix
    if arguments.output and suffix not in (".json", ".jsonl"):
        raise ValueError(f"--output is {arguments.output}; its suffix must be .json or .jsonl.")
    if arguments.videos:
        if (arguments.lanes and "html" not in arguments.to) or (arguments.output_dir and not arguments.to):
            raise ValueError("--lanes needs --to html, and --output-dir needs --to.")
        check_encoder(arguments)
        return
    given = [spelling_of(name) for name in VIDEO_OPTIONS if vars(arguments)[name]]
    if suffix == ".jsonl":
        given.append("--output FILE.jsonl")
    if given:
        raise ValueError(f"These options apply to video files, not to a corpus: {', '.join(given)}.")
    check_source(arguments)


def check_corpus_build(arguments: argparse.Namespace) -> None:
    """Check the source and the encoder of `corpus build`."""
    given = [bool(option) for option in (arguments.videos, arguments.features, arguments.feature_set)]
    if given not in ([True, False, False], [False, True, True]):
        raise ValueError("Give either --videos, or both of --features and --feature-set.")
    if arguments.features and (arguments.encoder or encoder_of_models(arguments)):
        raise ValueError("--encoder and its models apply to --videos: feature files are encoded already.")
    check_encoder(arguments)


def check_corpus_validate(arguments: argparse.Namespace) -> None:
    """Check the source and the file of `corpus validate`."""
    _check_folders(arguments.report)
    has_features = (bool(arguments.features), bool(arguments.feature_set))
    beside_annotations = any((arguments.annotations, *has_features, arguments.videos))
    of_annotations = arguments.annotations and has_features in ((False, False), (True, True))
    if beside_annotations if arguments.corpus else not of_annotations:
        raise ValueError(
            "Give either --corpus, or --annotations, alone or with --features and --feature-set or with --videos."
        )
    check_annotation_options(arguments)


def check_corpus_describe(arguments: argparse.Namespace) -> None:
    """Check the source and the files of `corpus describe`."""
    _check_folders(arguments.picture, arguments.report)
    if arguments.picture and Path(arguments.picture).suffix.lower() not in PICTURES:
        raise ValueError(f"--picture is {arguments.picture}; its suffix must be one of {', '.join(PICTURES)}.")
    if bool(arguments.corpus) == bool(arguments.annotations) or (arguments.corpus and arguments.feature_set):
        raise ValueError("Give either --corpus, or --annotations and, for the reach of a pyramid, --feature-set.")
    check_annotation_options(arguments)


def check_corpus_simulate(arguments: argparse.Namespace) -> None:
    """Check the numbers of videos of `corpus simulate`."""
    num_videos = {split: getattr(arguments, split) for split in ("train", "validation", "test")}
    if min(num_videos.values()) < 0 or not any(num_videos.values()):
        raise ValueError(f"Each split needs 0 or more videos, and at least one split needs 1; got {num_videos}.")


def check_annotations_convert(arguments: argparse.Namespace) -> None:
    """Check the file of `annotations convert`."""
    _check_folders(arguments.output)


def _check_folders(*paths: str | None) -> None:
    for path in paths:
        if path is not None:
            check_folder_of(path)
