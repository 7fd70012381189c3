"""The command `esg-transformers`."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from esg_transformers.cli.commands import COMMANDS, GROUPS


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. Without a command, print the help.

    Args:
        argv: words after `esg-transformers`; by default those of the process.

    Returns:
        0, or the value that the command returns; 1 for an error that the user can correct; 130 when interrupted.

    Raises:
        SystemExit: from argparse, with 0 after `--help` and 2 for usage errors.
    """
    arguments = _parser().parse_args(argv)
    if arguments.version:
        print(f"esg-transformers {version('esg-transformers')}")
        return 0
    if arguments.command is None:
        arguments.parser.print_help()
        return 0
    try:
        COMMANDS[arguments.command].check(arguments)
        module = import_module(f"esg_transformers.cli.{arguments.command.replace(' ', '_')}")
        return module.run(arguments) or 0
    except KeyboardInterrupt:
        print("esg-transformers: interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        if not _is_of_the_user(error):
            raise
        if os.environ.get("TRANSFORMERS_VERBOSITY") == "debug":
            traceback.print_exc()
        print(f"esg-transformers: error: {_message(error)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    """Parser of all commands. It sets `command` to the name of the command, and without one `parser` for the help."""
    parser = argparse.ArgumentParser(
        prog="esg-transformers",
        description="Find every event that is both seen and heard in a video: train, evaluate and use ESG-Net.",
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    parser.set_defaults(command=None, parser=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    commands_of = {"": commands}
    for name, command in COMMANDS.items():
        group, _, last = name.rpartition(" ")
        if group not in commands_of:
            parser_of_group = commands.add_parser(group, help=GROUPS[group], description=GROUPS[group])
            parser_of_group.set_defaults(parser=parser_of_group)
            commands_of[group] = parser_of_group.add_subparsers(title="commands", metavar="COMMAND")
        parser_of_command = commands_of[group].add_parser(
            last, help=command.description.splitlines()[0], description=command.description
        )
        command.add_options(parser_of_command)
        parser_of_command.set_defaults(command=name)
    return parser


def _is_of_the_user(error: Exception) -> bool:
    """True for an error that the user can correct. It is shown in one line, without a traceback."""
    if isinstance(error, ValueError | OSError | ImportError):
        return True
    # HTTPError belongs to the HTTP client that huggingface_hub uses.
    from huggingface_hub.errors import HTTPError, StrictDataclassError  # type: ignore[attr-defined]

    return isinstance(error, StrictDataclassError | HTTPError)


def _message(error: Exception) -> str:
    """Message of an error, without the traceback that a `DataLoader` worker puts before it."""
    message = str(error)
    if "in DataLoader worker process" in message:
        return message.rpartition(f"\n{type(error).__name__}: ")[2].rstrip()
    return message
