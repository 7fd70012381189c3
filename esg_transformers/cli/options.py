"""Options that several commands share: one name for one thing.

Nothing here imports a heavy library, since every call of `esg-transformers` declares the options of all commands, the
help and a mistake of use included. That is why names that live in heavy modules are repeated below; a test compares.
"""

import argparse
import re
from collections.abc import Collection
from functools import partial

from esg_transformers.annotations import FORMATS

READABLE_FORMATS = tuple(name for name, form in FORMATS.items() if form.scan is not None)
SIZES = ("tiny", "small", "base")  # of `models.esg_net.configuration_esg_net`
FEATURE_SETS = ("i3d-vggish", "one-peace")  # of `corpora.feature_sets`
# What `localize --to` can name, and the format that it stands for; pages and pictures are no formats of annotations.
RESULT_FORMATS = {"json": "activitynet-results", "csv": "csv", "vtt": "webvtt", "srt": "srt", "audacity": "audacity"}
SUFFIXES = {name: FORMATS[form].suffix for name, form in RESULT_FORMATS.items()} | {"html": ".html", "png": ".png"}
LANES = ("semantic", "router")  # of `localization.trace.Evidence`


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """`--corpus`, or `--annotations` with `--features` and `--feature-set`; see `sources.open_source`."""
    group = parser.add_argument_group("features and events", "Give --corpus, or the three others.")
    group.add_argument("--corpus", metavar="DIR", help="a corpus folder, as `esg-transformers corpus build` writes it")
    group.add_argument("--annotations", metavar="FILE", help="an annotation file, of any format by its suffix")
    group.add_argument("--features", metavar="DIR", help="a folder of .npy feature files")
    add_feature_set_option(group)


def add_annotation_options(parser: argparse._ActionsContainer) -> None:
    """`--annotation-format` and `--annotation-frame-rate`."""
    parser.add_argument("--annotation-format", choices=READABLE_FORMATS, help="by default told by the suffix")
    parser.add_argument(
        "--annotation-frame-rate", type=float, metavar="HZ", help="frames per second, where the format counts frames"
    )


def add_feature_set_option(parser: argparse._ActionsContainer) -> None:
    """`--feature-set`; see `sources.named_feature_set`."""
    parser.add_argument(
        "--feature-set",
        metavar="NAME_OR_JSON",
        help=f"kind of the feature files: {' or '.join(FEATURE_SETS)}, or a JSON file that describes it",
    )


def add_hub_encoder_options(parser: argparse._ActionsContainer, help: str) -> None:
    """`--visual-model` and `--audio-model`.

    Args:
        help: with `{}` in place of the kind of model.
    """
    for stream, kind in (("visual", "image or video"), ("audio", "audio")):
        parser.add_argument(f"--{stream}-model", metavar="DIR_OR_REPO", help=help.format(kind))


def add_push_options(parser: argparse.ArgumentParser, what: str) -> None:
    """`OWNER/NAME`, `--private`, and where in the repository to push to.

    Args:
        what: kind of repository, such as "dataset".
    """
    parser.add_argument("repo_id", metavar="OWNER/NAME", help=f"the {what}; created if missing")
    parser.add_argument("--private", action="store_true", default=None, help=f"only its owner may see the {what}")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--revision", metavar="BRANCH", help="the branch; created if missing (default: main)")
    where.add_argument("--create-pr", action="store_true", help="propose the push as a pull request")


def numbers_of_grid(text: str) -> tuple[float, int, int]:
    """Frame rate, stride and window that `FRAME_RATE,STRIDE,WINDOW` gives.

    >>> numbers_of_grid("25,8,24")
    (25.0, 8, 24)
    """
    try:
        frame_rate, stride, window = text.split(",")
        return float(frame_rate), int(stride), int(window)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a grid such as 25,8,24: {error}") from error


def seconds_of_classes(text: str) -> float | dict[str, float]:
    """Seconds for all classes, or for each of some; the names of classes may hold spaces and commas.

    >>> seconds_of_classes("0.5")
    0.5
    >>> seconds_of_classes("alarm=0.5,bell ringing, church=1")
    {'alarm': 0.5, 'bell ringing, church': 1.0}
    """
    try:
        if "=" not in text:
            return float(text)
        parts = re.split(r"(=[^=,]*)(?:,|$)", text)  # name, "=seconds", name, "=seconds", ..., ""
        if parts.pop() or "" in parts[::2]:
            raise ValueError("a class without seconds, or seconds without a class")
        return {name.strip(): float(seconds[1:]) for name, seconds in zip(parts[::2], parts[1::2], strict=True)}
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of seconds nor such a list as 'alarm=0.5,door slamming=1'"
        ) from error


def _names(text: str, known: Collection[str]) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
    return names


names_of_files = partial(_names, known=SUFFIXES)
names_of_lanes = partial(_names, known=LANES)
