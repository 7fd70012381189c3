"""State of a Hub for tests: repositories with their commits, stored files, uploads, and faults on demand."""

import hashlib
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class File:
    """A file of a commit; its bytes are `folder / sha256`."""

    sha256: str
    size: int
    git_oid: str  # of the content, or of the pointer if it is an LFS file
    is_lfs: bool


@dataclass(frozen=True)
class Commit:
    """A commit and all files of the repository at it."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    files: dict[str, File]
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"))


@dataclass
class Repository:
    """Commits by oid, and oids by ref: `refs/heads/main`, `refs/tags/v1`, `refs/pr/1`."""

    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def add(
        self, ref: str, parent: str | None, files: dict[str, File], author: str, title: str, message: str = ""
    ) -> Commit:
        """Commit `files` and let `ref` point to them."""
        oid = secrets.token_hex(20)
        self.commits[oid] = Commit(oid, parent, title, message, author, files)
        self.refs[ref] = oid
        return self.commits[oid]


@dataclass
class Upload:
    """An announced LFS object, whose parts arrive one by one; `part_size` is None if it is sent in one part."""

    oid: str
    size: int
    part_size: int | None
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Fault:
    """A fault that `Hub.fail` orders."""

    method: str
    path: re.Pattern[str]
    answer: int | str
    after: int
    times: int
    headers: dict[str, str]


class Refusal(Exception):
    """An answer other than 200, with the body and the `X-Error-*` headers of the Hub."""

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None, **body: Any
    ):
        self.status = status
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self.body = {"error": message, **body}


class Hub:
    """Repositories, files and faults of a Hub.

    Args:
        folder: where files are stored.
        users: user names by access token.
        part_size: bytes from which on an LFS file is asked for in parts of this size.
    """

    def __init__(self, folder: Path, users: dict[str, str], part_size: int = 2**30):
        self.folder, self.users, self.part_size = Path(folder), users, part_size
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.uploads: dict[str, Upload] = {}
        self.verified: set[str] = set()
        self.faults: list[Fault] = []
        self.requests: list[str] = []  # "GET /api/whoami-v2"
        self.unknown: list[str] = []
        self.lock = threading.Lock()
        self.endpoint = ""  # URL

    def fail(
        self,
        method: str,
        path: str,
        answer: int | str,
        *,
        after: int = 0,
        times: int = 1,
        retry_after: int | None = None,
    ) -> None:
        """Answer the next requests of a method whose path matches a regular expression with a fault.

        Args:
            method: `"GET"`, `"PUT"`, ...
            path: regular expression, searched in the path as it was sent: a branch `a/b` is `a%2Fb`.
            answer: an HTTP status; or `"close"`, the connection ends in the middle of the client's body; or
                `"truncate"`, it ends in the middle of the server's body.
            after: number of matching requests to serve correctly first.
            times: number of matching requests to fail after that.
            retry_after: seconds, for the header `Retry-After`.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self.faults.append(Fault(method, re.compile(path), answer, after, times, headers))

    def files(self, kind: str, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """The content of every file of a repository."""
        files = self.commit(self.repositories[kind, repo_id], revision).files
        return {path: (self.folder / file.sha256).read_bytes() for path, file in files.items()}

    def commit(self, repository: Repository, revision: str) -> Commit:
        """The commit of a branch, a tag, a full ref or an oid."""
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in repository.refs:
                return repository.commits[repository.refs[ref]]
        if revision not in repository.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repository.commits[revision]

    def history(self, kind: str, repo_id: str, revision: str = "main") -> list[Commit]:
        """The commits of a revision, newest first."""
        repository = self.repositories[kind, repo_id]
        commits = [self.commit(repository, revision)]
        while commits[-1].parent is not None:
            commits.append(repository.commits[commits[-1].parent])
        return commits

    def store(self, content: bytes, is_lfs: bool) -> File:
        """Store the content of a file."""
        sha256 = hashlib.sha256(content).hexdigest()
        (self.folder / sha256).write_bytes(content)
        blob = lfs_pointer(sha256, len(content)) if is_lfs else content
        git_oid = hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()
        return File(sha256, len(content), git_oid, is_lfs)

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault for this request, if any; it is counted."""
        for fault in self.faults:
            if fault.method == method and fault.path.search(path):
                if fault.after:
                    fault.after -= 1
                elif fault.times:
                    fault.times -= 1
                    return fault
        return None


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The text that git stores for an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def with_folders(files: dict[str, File]) -> set[str]:
    """The paths of files and of the folders that they are in."""
    folders = {str(parent) for path in files for parent in Path(path).parents}
    return files.keys() | folders - {"."}


def entry(path: str, file: File | None) -> dict[str, Any]:
    """The entry of a file or a folder in a listing."""
    if file is None:
        return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}
    listed = {"type": "file", "oid": file.git_oid, "size": file.size, "path": path}
    if file.is_lfs:
        pointer = lfs_pointer(file.sha256, file.size)
        listed["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(pointer)}
    return listed
