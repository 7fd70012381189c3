"""The Hugging Face Hub: push files in one commit, download a model, and explain its errors."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

# What the Hub itself puts there; the last two into a static Space.
FILES_OF_A_NEW_REPOSITORY = {".gitattributes", "README.md", "index.html", "style.css"}


def push_files(
    files: Mapping[str, Path],
    repo_id: str,
    *,
    repo_type: str,
    what: str,
    marker: str,
    owned: str,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
) -> str:
    """Push files to a repository in one commit, which is not made if they are all there already.

    Args:
        files: by their paths in the repository.
        repo_id: `owner/name`; made if there is none.
        repo_type: `"model"`, `"dataset"` or `"space"`, which is made as a static one.
        what: they are, for messages: `"corpus"`.
        marker: the file that tells a repository of this kind; one that holds other files and not this is left alone.
        owned: regular expression of the paths that belong to a push: those of an earlier one are deleted.
        private: whether a repository that is made can be seen by its owner only; by default as the owner's settings
            say.
        revision: the branch to push to, which is made from `main` if there is none; `main` by default.
        create_pr: propose the push as a pull request to `main`.
        token: access token; by default that of `hf auth login` or of the environment variable `HF_TOKEN`.

    Returns:
        The URL of the commit, or of the pull request.

    Raises:
        ValueError: if the repository is not one to push them to.
        OSError: if the Hub cannot be reached or refuses; says why and what to do.
    """
    if create_pr and revision not in (None, "main"):
        raise ValueError(f"A pull request is made to `main`; give `create_pr` or `revision` ({revision!r}), not both.")
    api = HfApi(token=token)
    failure = f"The {what} could not be pushed to {repo_id}"
    with errors_of_hub(failure, api.endpoint, repo_type):
        sdk = "static" if repo_type == "space" else None
        made = api.create_repo(repo_id, repo_type=repo_type, private=private, space_sdk=sdk, exist_ok=True)
        repo_id = made.repo_id
        if revision is not None and not revision.startswith("refs/pr/"):
            api.create_branch(repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
        there = api.repo_info(repo_id, revision=revision, repo_type=repo_type)
        present = set(api.list_repo_files(repo_id, revision=there.sha, repo_type=repo_type))
    if private and not there.private:
        raise ValueError(f"{repo_id} is there already and is public; make it private first, or choose another name.")
    if marker not in present and present - FILES_OF_A_NEW_REPOSITORY:
        raise ValueError(f"{repo_id} holds files and no {marker}: it is not a {what}; choose another name.")
    stale = {file for file in present if re.fullmatch(owned, file)} - files.keys()
    with errors_of_hub(failure, api.endpoint, repo_type):
        # Not `upload_folder`, which makes several commits of a large folder when Xet is installed.
        commit = api.create_commit(
            repo_id,
            [CommitOperationDelete(file) for file in sorted(stale)]
            + [CommitOperationAdd(file, path) for file, path in files.items()],
            commit_message=f"Push {what}",
            repo_type=repo_type,
            revision=revision,
            create_pr=create_pr,
            parent_commit=there.sha,  # so that no file is left over that someone pushes at this moment
        )
    return commit.pr_url or commit.commit_url


@contextmanager
def errors_of_hub(failure: str, endpoint: str, repo_type: str) -> Iterator[None]:
    """Turn what `huggingface_hub` raises into an OSError of one line that says what to do.

    Args:
        failure: what could not be done, the beginning of the line.
        endpoint: URL of the Hub.
        repo_type: `"model"`, `"dataset"` or `"space"`.

    Raises:
        OSError: with the reason.
        HFValidationError: as it is: a ValueError that names the flaw of the repository's name.
    """
    try:
        yield
    except HFValidationError:
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise OSError(f"{failure}: {_reason(error, endpoint, repo_type)}") from error


def _reason(error: BaseException, endpoint: str, repo_type: str) -> str:
    """What happened, and what to do about it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, HTTPError):  # which is often wrapped in others
        cause = cause.__cause__
    if isinstance(cause, HfHubHTTPError):
        return _reason_of_status(cause, repo_type)
    if cause is not None:
        return f"the connection to {endpoint} failed ({cause}). Check the network and try again."
    if isinstance(error, json.JSONDecodeError):
        return f"{endpoint} did not answer as the Hub does. Check HF_ENDPOINT and try again later."
    return " ".join(str(error).split())


def _reason_of_status(error: HfHubHTTPError, repo_type: str) -> str:
    status = error.response.status_code
    if status == 401:
        return (
            f"the Hub does not accept the access token, or got none (401). Run `hf auth login`, or set HF_TOKEN; "
            f"where none should be needed, there is no such {repo_type}: check the name."
        )
    if status == 403:
        return (
            "the access token does not allow it (403). Use one that does; a push to someone else can be proposed with "
            "`create_pr=True` (`--create-pr`)."
        )
    if status == 404:
        missing = f"the Hub has no such {repo_type} or branch, or does not show it to you (404)"
        return f"{missing}. Check the name and the token."
    if status in (409, 412):
        return f"it was being changed at the same time ({status}). Try again."
    if status == 429:
        wait = error.response.headers.get("Retry-After", "")
        return f"the Hub got too many requests (429). Try again in {f'{wait} s' if wait.isdigit() else 'a while'}."
    if status >= 500:
        return f"the Hub failed ({status}). Try again later; what has arrived is not sent twice."
    return f"the Hub refused ({status}): {' '.join((error.server_message or str(error)).split())}"
