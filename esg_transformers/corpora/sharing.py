"""Push a corpus to the Hub."""

import json
import os
from pathlib import Path

from esg_transformers.corpora.manifest import verify_corpus
from esg_transformers.hub import push_files


def push_corpus(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
) -> str:
    """Push a corpus to the Hub as a dataset, in one commit: whoever loads it finds the old one or the new one, whole.

    README.md, corpus.json and the shards that it names are sent, and nothing else of the folder. Shards of an earlier
    push that the corpus no longer has are deleted. A corpus that is there already makes no commit.

    Args:
        folder: the corpus; its shards are verified first.
        repo_id: `owner/name` of the dataset, which is made if there is none.
        private: whether a dataset that is made can be seen by its owner only; by default as the owner's settings say.
        revision: the branch to push to, which is made from `main` if there is none; `main` by default.
        create_pr: propose the push as a pull request to `main`.
        token: access token; by default that of `hf auth login` or of the environment variable `HF_TOKEN`.

    Returns:
        The URL of the commit, or of the pull request.

    Raises:
        FileNotFoundError: if `folder` is not a corpus, or lacks a file.
        ValueError: if the corpus does not verify, or the dataset is not one to push it to.
        OSError: if the Hub cannot be reached or refuses; says why and what to do.
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
    """The files of a verified corpus, by their names within it."""
    verify_corpus(folder)
    if not (folder / "README.md").is_file():
        raise FileNotFoundError(f"{folder} has no README.md, which tells `datasets` the splits; write it again.")
    splits = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))["splits"]
    shards = [shard["file"] for listed in splits.values() for shard in listed]
    return {file: folder / file for file in ("README.md", "corpus.json", *shards)}
