"""Options that several commands share: one name for one thing.

Every call of `esg-transformers` declares the options of all commands, so nothing here imports a heavy library. Names
from heavy modules are repeated below; a test compares them.
"""

import argparse
import re
import sys
from collections.abc import Collection
from functools import partial
from typing import Any

from esg_transformers.annotations import FORMATS

READABLE_FORMATS = tuple(name for name, form in FORMATS.items() if form.scan is not None)
SIZES = ("tiny", "small", "base")  # of `models.esg_net.configuration_esg_net`
FEATURE_SETS = ("i3d-vggish", "one-peace")  # of `corpora.feature_sets`
# Annotation formats that `localize --to` can write; it writes pages and pictures, too.
RESULT_FORMATS = {"json": "activitynet-results", "csv": "csv", "vtt": "webvtt", "srt": "srt", "audacity": "audacity"}
SUFFIXES = {name: FORMATS[form].suffix for name, form in RESULT_FORMATS.items()} | {"html": ".html", "png": ".png"}
LANES = ("semantic", "router")  # of `localization.trace.Trace`
# Encoders, and the options that name their networks.
MODELS_OF_ENCODER = {
    "spectral": (),
    "hub": ("visual_model", "audio_model"),
    "i3d-vggish": ("i3d_rgb_model", "i3d_flow_model", "vggish_model"),
}


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """`--corpus`, or `--annotations` with `--features` and `--feature-set`; see `sources.open_source`."""
    group = parser.add_argument_group(
        "features and events", "Give --corpus, or --annotations, --features and --feature-set."
    )
    group.add_argument("--corpus", metavar="DIR", help="corpus folder, as `esg-transformers corpus build` writes it")
    group.add_argument("--annotations", metavar="FILE", help="true events, in any annotation format")
    add_annotation_options(group)
    group.add_argument("--features", metavar="DIR", help="folder of .npy feature files")
    add_feature_set_option(group)


def add_annotation_options(parser: argparse._ActionsContainer) -> tuple[argparse.Action, argparse.Action]:
    """`--annotation-format` and `--frame-rate`; returns both."""
    annotation_format = parser.add_argument(
        "--annotation-format",
        choices=READABLE_FORMATS,
        metavar="FORMAT",
        help=f"format of the annotations (default: by suffix and content): {', '.join(READABLE_FORMATS)}",
    )
    frame_rate = parser.add_argument(
        "--frame-rate",
        type=float,
        metavar="FPS",
        help="frames per second of the videos, for annotations that count frames (Label Studio)",
    )
    return annotation_format, frame_rate


def add_feature_set_option(parser: argparse._ActionsContainer) -> None:
    """`--feature-set`; see `sources.named_feature_set`."""
    parser.add_argument(
        "--feature-set",
        metavar="NAME_OR_JSON",
        help=f"kind of the feature files: {' or '.join(FEATURE_SETS)}, or a JSON file that describes it",
    )


def add_encoder_options(parser: argparse._ActionsContainer, default: str) -> None:
    """`--encoder`, and an option for each network of an encoder; see `encoders.open_encoder`.

    Args:
        default: the encoder without these options, for the help.
    """
    parser.add_argument(
        "--encoder",
        choices=tuple(MODELS_OF_ENCODER),
        help=f"encoder of videos (default: the one of the models given here, or else {default})",
    )
    kinds = {
        "visual_model": "hub: image or video model of transformers",
        "audio_model": "hub: audio model of transformers",
        "i3d_rgb_model": "i3d-vggish: I3D for pictures",
        "i3d_flow_model": "i3d-vggish: I3D for optical flow (default: no flow; needs torchvision)",
        "vggish_model": "i3d-vggish: VGGish",
    }
    for name, kind in kinds.items():
        parser.add_argument(spelling_of(name), metavar="DIR_OR_REPO", help=f"for --encoder {kind}")


def add_device_option(parser: argparse._ActionsContainer, default: str = "a GPU if there is one") -> None:
    """`--device`; see `devices`.

    Args:
        default: device without this option, for the help.
    """
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help=f"device of the networks, as torch names it: cpu, cuda, cuda:1, mps (default: {default})",
    )


def add_report_option(parser: argparse.ArgumentParser, content: str) -> argparse.Action:
    """`--report`."""
    return parser.add_argument("--report", metavar="FILE.json", help=f"write {content} here")


def add_old_spelling(parser: argparse._ActionsContainer, old: str, option: argparse.Action) -> None:
    """A name of 0.1 for an option: hidden, sets the option and prints its new name. To be removed in 0.3."""
    parser.add_argument(
        old,
        dest=option.dest,
        action=_OldSpelling,
        new=option.option_strings[0],
        type=option.type or str,
        choices=option.choices,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )


class _OldSpelling(argparse.Action):
    def __init__(self, *, new: str, **settings: Any):
        super().__init__(**settings)
        self.new = new

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        print(f"{parser.prog}: {option_string} is now {self.new}; the old name works until 0.3.", file=sys.stderr)
        setattr(namespace, self.dest, values)


def spelling_of(name: str) -> str:
    """Option that sets an attribute of the arguments.

    >>> spelling_of("visual_model")
    '--visual-model'
    """
    return f"--{name.replace('_', '-')}"


def add_push_options(parser: argparse.ArgumentParser, what: str) -> None:
    """`OWNER/NAME`, `--private`, `--revision` and `--create-pr`.

    Args:
        what: kind of the repository, such as "dataset".
    """
    parser.add_argument("repo_id", metavar="OWNER/NAME", help=f"{what}; created if missing")
    parser.add_argument(
        "--private", action="store_true", default=None, help=f"make a new {what} visible to its owner only"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--revision", metavar="BRANCH", help="branch; created if missing (default: main)")
    where.add_argument("--create-pr", action="store_true", help="propose the push as a pull request")


def numbers_of_grid(text: str) -> tuple[float, int, int]:
    """Frame rate, stride and window of `FRAME_RATE,STRIDE,WINDOW`.

    >>> numbers_of_grid("25,8,24")
    (25.0, 8, 24)
    """
    try:
        frame_rate, stride, window = text.split(",")
        return float(frame_rate), int(stride), int(window)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a grid such as 25,8,24: {error}") from error


def seconds_of_classes(text: str) -> float | dict[str, float]:
    """Seconds for all classes, or by class; class names may contain spaces and commas.

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
            f"{text!r} is neither a number of seconds nor a list such as 'alarm=0.5,door slamming=1'"
        ) from error


def _names(text: str, known: Collection[str]) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
    return names


names_of_files = partial(_names, known=SUFFIXES)
names_of_lanes = partial(_names, known=LANES)
