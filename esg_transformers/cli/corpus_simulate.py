"""Write a corpus of simulated features, for first steps and tests."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    raise NotImplementedError
