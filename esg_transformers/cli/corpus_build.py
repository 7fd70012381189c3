"""Build a corpus from feature files or videos, with their annotations."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    raise NotImplementedError
