"""`esg-transformers metric push`."""

import argparse

from esg_transformers.evaluation.sharing import push_metric


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    url = push_metric(
        arguments.repo_id, private=arguments.private, revision=arguments.revision, create_pr=arguments.create_pr
    )
    print(f"The metric is at {url}")
