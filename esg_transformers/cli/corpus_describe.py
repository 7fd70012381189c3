"""Describe a corpus: counts, durations, overlap, event lengths, with a picture."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    raise NotImplementedError
