"""The Hugging Face Hub: download a model, push files in one commit, and explain errors.

`huggingface_hub` is imported when the Hub is used, so that importing this module costs nothing.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

# Files that the Hub itself creates; the last two in a static Space.
FILES_OF_A_NEW_REPOSITORY = {".gitattributes", "README.md", "index.html", "style.css"}


def downloaded_model(model: str, patterns: Sequence[str] = ("*.json", "*.safetensors")) -> Path:
    """Folder of a model: `model` itself, or the cached download of the Hub repository of that name.

    Args:
        model: an existing folder, which is returned without using the network, or a repository `OWNER/NAME`.
        patterns: glob patterns of the files to download.

    Raises:
        FileNotFoundError: if `model` is neither a folder nor the name of a repository.
        OSError: if it cannot be downloaded, with the reason and what to do.
    """
    if Path(model).is_dir():
        return Path(model)
    # Only names that a repository can have go to the Hub: a mistyped path is not looked for there.
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", model):
        raise FileNotFoundError(f"No folder at {model}, and not a Hub repository either: their names are OWNER/NAME.")
    from huggingface_hub import HfApi

    api = HfApi()
    with errors_of_hub(f"The model {model} could not be downloaded", api.endpoint, "model"):
        return Path(api.snapshot_download(model, allow_patterns=list(patterns)))


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
    """Push files to a repository in one commit; no commit is made if it holds the same files already.

    Args:
        files: local files by their paths in the repository.
        repo_id: `owner/name`; created if missing.
        repo_type: `"model"`, `"dataset"` or `"space"`; a space is created as a static one.
        what: name of the content in messages, e.g. `"corpus"`.
        marker: path of the file that identifies a repository of this kind. A repository that holds other files and
            lacks this one is refused.
        owned: regular expression of the paths that a push owns; such files of an earlier push are deleted.
        private: visibility of a repository that is created; by default that of the owner's settings.
        revision: branch to push to, created from `main` if missing; `main` by default.
        create_pr: propose the push as a pull request to `main`.
        token: access token; by default that of `hf auth login` or of the environment variable `HF_TOKEN`.

    Returns:
        The URL of the commit, or of the pull request.

    Raises:
        ValueError: if the repository must not be pushed to.
        OSError: if the Hub cannot be reached or refuses, with the reason and what to do.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    if create_pr and revision not in (None, "main"):
        raise ValueError(
            f"A pull request goes to `main`, so `create_pr` excludes `revision` ({revision!r}). Give only one of them."
        )
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
        raise ValueError(f"{repo_id} exists and is public. Make it private first, or choose another name.")
    if marker not in present and present - FILES_OF_A_NEW_REPOSITORY:
        raise ValueError(f"{repo_id} holds files but no {marker}, so it is not a {what}. Choose another name.")
    stale = {file for file in present if re.fullmatch(owned, file)} - files.keys()
    with errors_of_hub(failure, api.endpoint, repo_type):
        # Not `upload_folder`, which splits a large folder into several commits when Xet is installed.
        commit = api.create_commit(
            repo_id,
            [CommitOperationDelete(file) for file in sorted(stale)]
            + [CommitOperationAdd(file, path) for file, path in files.items()],
            commit_message=f"Push {what}",
            repo_type=repo_type,
            revision=revision,
            create_pr=create_pr,
            parent_commit=there.sha,  # refuses the commit if someone else pushes meanwhile; no stale file is left
        )
    return commit.pr_url or commit.commit_url


@contextmanager
def errors_of_hub(failure: str, endpoint: str, repo_type: str) -> Iterator[None]:
    """Context manager: errors of `huggingface_hub` become an OSError of one line that says what to do.

    Args:
        failure: beginning of the line: what could not be done.
        endpoint: URL of the Hub.
        repo_type: `"model"`, `"dataset"` or `"space"`.

    Raises:
        OSError: with the reason.
        HFValidationError: unchanged; it is a ValueError that names the flaw in the repository's name.
    """
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]  # from httpx

    try:
        yield
    except HFValidationError:
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise OSError(f"{failure}: {_reason(error, endpoint, repo_type)}") from error


def _reason(error: BaseException, endpoint: str, repo_type: str) -> str:
    """The reason for an error, and what to do about it."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]  # from httpx

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, HTTPError):  # often wrapped in other errors
        cause = cause.__cause__
    if isinstance(cause, HfHubHTTPError):
        return _reason_of_status(cause, repo_type)
    if cause is not None:
        return f"the connection to {endpoint} failed ({cause}). Check the network and try again."
    if isinstance(error, json.JSONDecodeError):
        return f"{endpoint} did not answer like the Hub. Check HF_ENDPOINT and try again later."
    return " ".join(str(error).split())


def _reason_of_status(error: "HfHubHTTPError", repo_type: str) -> str:
    status = error.response.status_code
    if status == 401:
        return (
            "the Hub got no access token, or does not accept it (401). Run `hf auth login`, or set HF_TOKEN. If the "
            f"{repo_type} should be public, check its name: none of that name may exist."
        )
    if status == 403:
        return (
            "the access token does not allow it (403). Use another token. To propose a push to someone else's "
            "repository, give `create_pr=True` (`--create-pr`)."
        )
    if status == 404:
        return (
            f"the Hub has no {repo_type} or branch of that name, or does not show it to you (404). Check the name and "
            "the token."
        )
    if status in (409, 412):
        return f"someone else changed it at the same time ({status}). Try again."
    if status == 429:
        wait = error.response.headers.get("Retry-After", "")
        return f"too many requests (429). Try again in {f'{wait} s' if wait.isdigit() else 'a while'}."
    if status >= 500:
        return f"the Hub failed ({status}). Try again later; files that have arrived are not sent again."
    return f"the Hub refused ({status}): {' '.join((error.server_message or str(error)).split())}"
