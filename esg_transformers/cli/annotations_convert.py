"""Convert annotations or found events from one format to another."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    raise NotImplementedError
