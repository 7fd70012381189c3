"""Upload of a corpus to the Hub."""

import os
from pathlib import Path

from esg_transformers.corpora.manifest import Manifest, verify_corpus
from esg_transformers.hub import push_files


def push_corpus(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
) -> str:
    """Upload a corpus to the Hub as a dataset, in one commit: readers see the old corpus or the new one, complete.

    Only README.md, corpus.json and the shards listed there are uploaded. Shards of an earlier upload that the corpus no
    longer has are deleted. If the dataset already equals the corpus, there is no commit.

    Args:
        folder: the corpus; its shards are verified first.
        repo_id: `owner/name` of the dataset, created if missing.
        private: create the dataset as private; the default is the setting of its owner.
        revision: branch to push to, created from `main` if missing; `main` by default.
        create_pr: open a pull request to `main` instead of a commit on it.
        token: access token; by default that of `hf auth login` or of the environment variable `HF_TOKEN`.

    Returns:
        The URL of the commit, or of the pull request.

    Raises:
        FileNotFoundError: if `folder` is not a corpus, or lacks a file.
        ValueError: if a shard differs from corpus.json, or the repository holds something else than a corpus.
        OSError: if the Hub cannot be reached or refuses; the message has the reason and what to do.
    """
    return push_files(
        _corpus_files(Path(folder)),
        repo_id,
        repo_type="dataset",
        what="corpus",
        marker="corpus.json",
        owned=r"data/[^/]+\.parquet",
        private=private,
        revision=revision,
        create_pr=create_pr,
        token=token,
    )


def _corpus_files(folder: Path) -> dict[str, Path]:
    """Paths of the files of a corpus, by their names in it, after a check of all shards."""
    verify_corpus(folder)
    if not (folder / "README.md").is_file():
        raise FileNotFoundError(
            f"{folder} has no README.md, from which `datasets` reads the splits; write the corpus again."
        )
    return {file: folder / file for file in Manifest.read(folder).files}
