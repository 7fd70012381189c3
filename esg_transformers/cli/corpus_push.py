"""Push a corpus to the Hub as a dataset.

Nothing leaves the machine unless this command is run. The access token is that of `hf auth login`, or HF_TOKEN.
"""

import argparse

from esg_transformers.corpora.sharing import push_corpus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("corpus", metavar="DIR", help="the corpus folder")
    parser.add_argument("repo_id", metavar="OWNER/NAME", help="the dataset, which is made if there is none")
    parser.add_argument("--private", action="store_true", default=None, help="only its owner may see the dataset")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--revision", metavar="BRANCH", help="the branch, made if there is none (default: main)")
    where.add_argument("--create-pr", action="store_true", help="propose the push as a pull request")


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
