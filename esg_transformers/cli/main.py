"""The command `esg-transformers`: one sub-command a file."""

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType

from huggingface_hub.errors import HTTPError, StrictDataclassError
from transformers.utils import logging

from esg_transformers.cli import (
    annotations_convert,
    calibrate,
    corpus_build,
    corpus_describe,
    corpus_push,
    corpus_simulate,
    corpus_validate,
    demo,
    evaluate,
    finetune,
    localize,
    metric_push,
    train,
)

logger = logging.get_logger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: what it gives or 0, 1 for the user's errors, 130 when interrupted.

    Args:
        argv: the words after `esg-transformers`; those of the process by default.
    """
    parser = argparse.ArgumentParser(
        prog="esg-transformers",
        description="Find every event that is both seen and heard in a video: train, evaluate and use ESG-Net.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (demo, train, finetune, calibrate, evaluate, localize):
        _add_command(commands, command, command.__name__.rpartition(".")[2])
    for group, summary, members in (
        (
            "corpus",
            "Make, check and share a corpus.",
            (corpus_build, corpus_validate, corpus_describe, corpus_simulate, corpus_push),
        ),
        ("annotations", "Convert annotations and found events between formats.", (annotations_convert,)),
        ("metric", "Share the metric.", (metric_push,)),
    ):
        subparser = commands.add_parser(group, help=summary, description=summary)
        subcommands = subparser.add_subparsers(title="commands", required=True, metavar="COMMAND")
        for command in members:
            _add_command(subcommands, command, command.__name__.rpartition("_")[2])
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except (ValueError, OSError, ImportError, StrictDataclassError, HTTPError) as error:
        logger.debug("The error was raised here:", exc_info=True)  # shown with TRANSFORMERS_VERBOSITY=debug
        print(f"esg-transformers: error: {_message(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("esg-transformers: interrupted.", file=sys.stderr)
        return 130


def _add_command(commands, command: ModuleType, name: str) -> None:
    """A parser for one command: a module with a docstring, `add_arguments(parser)` and `run(arguments)`."""
    summary = (command.__doc__ or "").strip()
    subparser = commands.add_parser(name, help=summary.splitlines()[0], description=summary)
    command.add_arguments(subparser)
    subparser.set_defaults(run=command.run)


def _message(error: Exception) -> str:
    """What an error says, without the traceback that a worker of a `DataLoader` puts before it."""
    message = str(error)
    if "in DataLoader worker process" in message:
        return message.rpartition(f"\n{type(error).__name__}: ")[2].rstrip()
    return message
