"""Choose the score that each class needs, on a validation split."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    raise NotImplementedError
