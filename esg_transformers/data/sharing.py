"""Sharing a corpus on the Hub, as a dataset that `datasets.load_dataset` loads without this package."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

from esg_transformers.data.corpus import verify_corpus


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
    files = _files(Path(folder))
    if create_pr and revision not in (None, "main"):
        raise ValueError(f"A pull request is made to `main`; give `create_pr` or `revision` ({revision!r}), not both.")
    api = HfApi(token=token)
    with _errors_of_hub(api, repo_id):
        repo_id = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/pr/"):
            api.create_branch(repo_id, branch=revision, repo_type="dataset", exist_ok=True)
        dataset = api.dataset_info(repo_id, revision=revision)
        present = set(api.list_repo_files(repo_id, revision=dataset.sha, repo_type="dataset"))
    if private and not dataset.private:
        raise ValueError(f"{repo_id} is there already and is public; make it private first, or choose another name.")
    if "corpus.json" not in present and present - {".gitattributes", "README.md"}:
        raise ValueError(f"{repo_id} holds something that is not a corpus; choose another name.")
    stale = {file for file in present if re.fullmatch(r"data/[^/]+\.parquet", file)} - files.keys()
    with _errors_of_hub(api, repo_id):
        # Not `upload_folder`, which makes several commits of a large folder when Xet is installed.
        commit = api.create_commit(
            repo_id,
            [CommitOperationDelete(file) for file in sorted(stale)]
            + [CommitOperationAdd(file, path) for file, path in files.items()],
            commit_message="Push corpus",
            repo_type="dataset",
            revision=revision,
            create_pr=create_pr,
            parent_commit=dataset.sha,  # so that no shard is left over that someone pushes at this moment
        )
    return commit.pr_url or commit.commit_url


def _files(folder: Path) -> dict[str, Path]:
    """The files of a verified corpus, by their names within it."""
    verify_corpus(folder)
    if not (folder / "README.md").is_file():
        raise FileNotFoundError(f"{folder} has no README.md, which tells `datasets` the splits; write it again.")
    splits = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))["splits"]
    shards = [shard["file"] for listed in splits.values() for shard in listed]
    return {file: folder / file for file in ("README.md", "corpus.json", *shards)}


@contextmanager
def _errors_of_hub(api: HfApi, repo_id: str) -> Iterator[None]:
    """Turn what `huggingface_hub` raises into an OSError of one line that says what to do."""
    try:
        yield
    except HFValidationError:  # a ValueError that names the flaw of `repo_id`
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise OSError(f"The corpus could not be pushed to {repo_id}: {_reason(error, api.endpoint)}") from error


def _reason(error: BaseException, endpoint: str) -> str:
    """What happened, and what to do about it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, HTTPError):  # an upload wraps the error of its request
        cause = cause.__cause__
    if isinstance(cause, HfHubHTTPError):
        return _reason_of_status(cause)
    if cause is not None:
        return f"the connection to {endpoint} failed ({cause}). Check the network and push again."
    if isinstance(error, json.JSONDecodeError):
        return f"{endpoint} did not answer as the Hub does. Check HF_ENDPOINT and push again later."
    return " ".join(str(error).split())


def _reason_of_status(error: HfHubHTTPError) -> str:
    status = error.response.status_code
    if status == 401:
        return "the Hub does not accept the access token, or got none (401). Run `hf auth login`, or set HF_TOKEN."
    if status == 403:
        return (
            "the access token may not write there (403). Use one that may, push to a name of your own, or propose the "
            "push with `create_pr=True` (`--create-pr`)."
        )
    if status == 404:
        return "the Hub has no such dataset or branch, or does not show it to you (404). Check the name and the token."
    if status in (409, 412):
        return f"it was being changed at the same time ({status}). Push again."
    if status == 429:
        wait = error.response.headers.get("Retry-After", "")
        return f"the Hub got too many requests (429). Push again in {f'{wait} s' if wait.isdigit() else 'a while'}."
    if status >= 500:
        return f"the Hub failed ({status}). Push again later; what has arrived is not sent twice."
    return f"the Hub refused ({status}): {' '.join((error.server_message or str(error)).split())}"
