"""The command `esg-transformers`: one sub-command a file."""

import argparse
import sys
from collections.abc import Sequence

from huggingface_hub.errors import StrictDataclassError
from transformers.utils import logging

from esg_transformers.cli import demo, encode, evaluate, localize, train

logger = logging.get_logger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 for an error that the user can mend, 130 when interrupted.

    Args:
        argv: the words after `esg-transformers`; those of the process by default.
    """
    parser = argparse.ArgumentParser(
        prog="esg-transformers",
        description="Find every event that is both seen and heard in a video: train, evaluate and use ESG-Net.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (demo, encode, train, evaluate, localize):
        name = command.__name__.rpartition(".")[2]
        summary = (command.__doc__ or "").strip()
        subparser = commands.add_parser(name, help=summary.splitlines()[0], description=summary)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, OSError, ImportError, StrictDataclassError) as error:
        logger.debug("The error was raised here:", exc_info=True)  # shown with TRANSFORMERS_VERBOSITY=debug
        print(f"esg-transformers: error: {_message(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("esg-transformers: interrupted.", file=sys.stderr)
        return 130
    return 0


def _message(error: Exception) -> str:
    """What an error says, without the traceback that a worker of a `DataLoader` puts before it."""
    message = str(error)
    if "in DataLoader worker process" in message:
        return message.rpartition(f"\n{type(error).__name__}: ")[2].rstrip()
    return message
