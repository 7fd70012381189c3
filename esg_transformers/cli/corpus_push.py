"""`esg-transformers corpus push`."""

import argparse

from esg_transformers.corpora.sharing import push_corpus


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    url = push_corpus(
        arguments.corpus,
        arguments.repo_id,
        private=arguments.private,
        revision=arguments.revision,
        create_pr=arguments.create_pr,
    )
    print(f"{arguments.corpus} is at {url}")
