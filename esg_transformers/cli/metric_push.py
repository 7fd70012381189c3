"""Push the metric to the Hub as a Space, for `evaluate.load("OWNER/NAME")`.

Nothing leaves the machine unless this command is run. The access token is that of `hf auth login`, or HF_TOKEN.
"""

import argparse

from esg_transformers.evaluation.sharing import push_metric


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("repo_id", metavar="OWNER/NAME", help="the Space, which is made if there is none")
    parser.add_argument("--private", action="store_true", default=None, help="only its owner may see the Space")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--revision", metavar="BRANCH", help="the branch, made if there is none (default: main)")
    where.add_argument("--create-pr", action="store_true", help="propose the push as a pull request")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    url = push_metric(
        arguments.repo_id, private=arguments.private, revision=arguments.revision, create_pr=arguments.create_pr
    )
    print(f"The metric is at {url}")
