"""A Hub for tests: speaks the HTTP of huggingface.co to real clients, on this machine, with the standard library alone.

    with HubServer(folder, users={"hf_secret": "user"}) as hub:
        ...  # run a process with HF_ENDPOINT=hub.endpoint, HF_TOKEN=hf_secret and HF_HUB_DISABLE_XET=1

It has repositories of models, datasets and spaces with their branches, tags, pull requests and history, and large files
by git LFS in one part or several. Files lie in `folder`, named after their sha256; the rest is in memory.

It is strict: a request that it does not know, or that lacks or adds a field, is answered with 501 and noted in
`hub.unknown`, so that a test can fail for it. `hub.fail` makes it misbehave on demand.

The requests are those of huggingface_hub 2.4.0 (`hf_api.py`, `_commit_api.py`, `lfs.py`, `file_download.py`). Xet
storage is not spoken, which is why clients must be told so.
"""

import base64
import hashlib
import json
import re
import secrets
import socket
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

URL_PREFIXES = {"model": "", "dataset": "datasets/", "space": "spaces/"}
# From the .gitattributes that huggingface.co gives a new repository; large files of other names are LFS files too.
LFS_SUFFIXES = (".arrow", ".bin", ".npy", ".npz", ".parquet", ".pt", ".pth", ".safetensors", ".zip")
LARGE_FILE = 10 * 2**20  # bytes


@dataclass(frozen=True)
class File:
    """A file of a commit; its bytes are `folder / sha256`."""

    sha256: str
    size: int
    git_oid: str  # of the content, or of the pointer if it is an LFS file
    is_lfs: bool


@dataclass(frozen=True)
class Commit:
    """A state of a repository."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    files: dict[str, File]
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"))


@dataclass
class Repository:
    """Commits by oid, and what points to them: `refs/heads/main`, `refs/tags/v1`, `refs/pr/1`."""

    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def add(self, ref: str, parent: str | None, files: dict[str, File], author: str, title: str, message="") -> Commit:
        """Commit `files` and let `ref` point to them."""
        oid = secrets.token_hex(20)
        self.commits[oid] = Commit(oid, parent, title, message, author, files)
        self.refs[ref] = oid
        return self.commits[oid]


@dataclass
class Upload:
    """An LFS object that was announced: its parts arrive one by one; `part_size` is None for one part only."""

    oid: str
    size: int
    part_size: int | None
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Fault:
    """What `HubServer.fail` asked for."""

    method: str
    path: re.Pattern
    answer: int | str
    after: int
    times: int
    headers: dict[str, str]


class Refusal(Exception):
    """An answer that is not 200: what the Hub says in its body and its `X-Error-*` headers."""

    def __init__(self, status: int, message: str, code: str | None = None, headers=None, **body):
        self.status = status
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self.body = {"error": message, **body}


class HubServer:
    """The server; a context manager.

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
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.hub = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fail(self, method: str, path: str, answer: int | str, *, after=0, times=1, retry_after=None) -> None:
        """Misbehave for the next requests of a method whose path matches a regular expression.

        Args:
            method: `"GET"`, `"PUT"`, ...
            path: searched for in the path of the request, as it was sent: a branch `a/b` is `a%2Fb`.
            answer: an HTTP status; `"close"` hangs up in the middle of the body that is being sent to the server,
                `"truncate"` in the middle of the one that the server sends.
            after: matching requests to serve well first.
            times: matching requests to fail then.
            retry_after: seconds, for the header `Retry-After`.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self.faults.append(Fault(method, re.compile(path), answer, after, times, headers))

    def files(self, kind: str, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """The content of every file of a repository."""
        files = self.commit(self.repositories[kind, repo_id], revision).files
        return {path: (self.folder / file.sha256).read_bytes() for path, file in files.items()}

    def commit(self, repository: Repository, revision: str) -> Commit:
        """What a branch, a tag, a full ref or a commit's oid points to."""
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
        """Keep bytes."""
        sha256 = hashlib.sha256(content).hexdigest()
        (self.folder / sha256).write_bytes(content)
        blob = lfs_pointer(sha256, len(content)) if is_lfs else content
        git_oid = hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()
        return File(sha256, len(content), git_oid, is_lfs)

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, counting it."""
        for fault in self.faults:
            if fault.method == method and fault.path.search(path):
                if fault.after:
                    fault.after -= 1
                elif fault.times:
                    fault.times -= 1
                    return fault
        return None


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The text that git has in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


ROUTES: list[tuple[str, re.Pattern, set[str], Callable]] = []


def route(method: str, path: str, query: str = ""):
    """Let a method of `Handler` answer requests for `path`, which may have the parameters named in `query`.

    A `{name}` in the path is an argument of the method: `{kind}` a kind of repository, `{repo}` an owner and a name,
    `{path}` the rest of the path, and any other one part of it.
    """
    parts = {"kind": "model|dataset|space", "repo": "[^/]+/[^/]+", "prefix": "datasets/|spaces/|", "path": ".*"}
    pattern = re.sub(r"{(\w+)}", lambda name: f"(?P<{name[1]}>{parts.get(name[1], '[^/]+')})", path.replace(".", r"\."))

    def add(answer: Callable) -> Callable:
        ROUTES.append((method, re.compile(pattern), set(query.split()), answer))
        return answer

    return add


class Handler(BaseHTTPRequestHandler):
    """One request after the other of one connection.

    The methods with a `route` give the JSON of the answer, or None if they have sent it themselves.
    """

    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds

    # Who is asking, and for what.

    @route("GET", "/api/agent-harnesses")
    def agents(self):
        raise Refusal(404, "There are none.")

    @route("GET", "/api/whoami-v2")
    def whoami(self):
        return {"type": "user", "name": self.writer(), "fullname": self.writer(), "orgs": [], "auth": {}}

    @route("POST", "/api/repos/create")
    def create(self):
        wanted = self.fields("name", organization=None, type="model", visibility=None, private=False, sdk=None)
        owner = wanted["organization"] or self.writer()
        repo_id = f"{owner}/{wanted['name']}"
        url = f"{self.hub.endpoint}/{URL_PREFIXES[wanted['type']]}{repo_id}"
        if owner != self.writer():
            raise Refusal(403, f"You don't have the rights to create a {wanted['type']} under the namespace {owner!r}")
        if (wanted["type"], repo_id) in self.hub.repositories:
            raise Refusal(409, f"You already created this {wanted['type']} repo", url=url)
        repository = Repository(private=wanted["private"] or wanted["visibility"] == "private")
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        first = {".gitattributes": self.hub.store(attributes.encode(), is_lfs=False)}
        repository.add("refs/heads/main", None, first, owner, "initial commit")
        self.hub.repositories[wanted["type"], repo_id] = repository
        return {"url": url, "name": repo_id, "id": secrets.token_hex(12)}

    @route("DELETE", "/api/repos/delete")
    def delete(self):
        unwanted = self.fields("name", organization=None, type="model")
        repo_id = f"{unwanted['organization'] or self.writer()}/{unwanted['name']}"
        self.repository(unwanted["type"], repo_id, write=True)
        del self.hub.repositories[unwanted["type"], repo_id]
        return {}

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self):
        content = self.fields("content", "repoType")["content"]
        if not content.startswith("---\n"):
            return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
        if not re.match(r"---\n.*?^---$", content, re.DOTALL | re.MULTILINE):
            raise Refusal(400, "Invalid YAML", errors=[{"message": "the metadata has no end"}], warnings=[])
        return {"errors": [], "warnings": []}

    # Reading.

    @route("GET", "/api/{kind}s/{repo}", "blobs expand securityStatus")
    @route("GET", "/api/{kind}s/{repo}/revision/{revision}", "blobs expand securityStatus")
    def info(self, kind, repo, revision="main"):
        repository = self.repository(kind, repo)
        commit = self.hub.commit(repository, revision)
        siblings = []
        for path, file in sorted(commit.files.items()):
            siblings.append({"rfilename": path})
            if "blobs" in self.query:
                entry = self.entry(path, file)
                siblings[-1] |= {"blobId": entry["oid"], "size": entry["size"]}
                siblings[-1] |= {"lfs": entry["lfs"] | {"sha256": file.sha256}} if file.is_lfs else {}
        return {
            "_id": hashlib.sha1(repo.encode()).hexdigest()[:24],
            "id": repo,
            "author": repo.partition("/")[0],
            "sha": commit.oid,
            "lastModified": commit.date,
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "tags": [],
            "siblings": siblings,
        }

    @route("GET", "/api/{kind}s/{repo}/tree/{revision}", "recursive expand limit")
    @route("GET", "/api/{kind}s/{repo}/tree/{revision}/{path}", "recursive expand limit")
    def tree(self, kind, repo, revision, path=""):
        commit = self.hub.commit(self.repository(kind, repo), revision)
        folder = f"{path}/" if path else ""
        inside = {name for name in self.with_folders(commit.files) if name.startswith(folder)}
        if path and not inside:
            raise Refusal(404, f"{path} does not exist on {revision!r}", "EntryNotFound")
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            inside = {name for name in inside if "/" not in name.removeprefix(folder)}
        return [self.entry(name, commit.files.get(name)) for name in sorted(inside)]

    @route("POST", "/api/{kind}s/{repo}/paths-info/{revision}")
    def paths_info(self, kind, repo, revision):
        files = self.hub.commit(self.repository(kind, repo), revision).files
        wanted = parse_qs(self.body.decode(), strict_parsing=True)
        names = self.with_folders(files)
        return [self.entry(path, files.get(path)) for path in wanted["paths"] if path in names]

    @route("GET", "/api/{kind}s/{repo}/refs", "include_prs")
    def refs(self, kind, repo):
        repository = self.repository(kind, repo)
        listed = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        for ref, commit in repository.refs.items():
            group = {"heads": "branches", "tags": "tags", "pr": "pullRequests"}[ref.split("/")[1]]
            listed[group].append({"name": ref.split("/", 2)[2], "ref": ref, "targetCommit": commit})
        return listed

    @route("GET", "/api/{kind}s/{repo}/commits/{revision}", "expand[]")
    def commits(self, kind, repo, revision):
        self.hub.commit(self.repository(kind, repo), revision)
        return [
            {"id": c.oid, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
            for c in self.hub.history(kind, repo, revision)
        ]

    @route("GET", "/{prefix}{repo}/resolve/{revision}/{path}")
    @route("HEAD", "/{prefix}{repo}/resolve/{revision}/{path}")
    def resolve(self, prefix, repo, revision, path):
        kind = next(kind for kind, its in URL_PREFIXES.items() if its == prefix)
        commit = self.hub.commit(self.repository(kind, repo), revision)
        headers = {"X-Repo-Commit": commit.oid}
        if path not in commit.files:
            raise Refusal(404, "Entry not found", "EntryNotFound", headers)
        file = commit.files[path]
        etag = f'"{file.sha256 if file.is_lfs else file.git_oid}"'
        headers |= {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if file.is_lfs:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(file.size)}
        content, status = (self.hub.folder / file.sha256).read_bytes(), 200
        if wanted := self.headers.get("Range"):
            first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted).groups()
            start = int(first) if first else max(file.size - int(last), 0)
            end = min(int(last) + 1, file.size) if first and last else file.size
            if start >= end:
                raise Refusal(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{file.size}"})
            content, status = content[start:end], 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        self.send(status, headers, content)

    # Writing.

    @route("POST", "/api/{kind}s/{repo}/branch/{branch}")
    def create_branch(self, kind, repo, branch):
        start = self.fields(startingPoint="main")["startingPoint"]
        self.create_ref(kind, repo, f"refs/heads/{branch}", start)

    @route("POST", "/api/{kind}s/{repo}/tag/{revision}")
    def create_tag(self, kind, repo, revision):
        tag = self.fields("tag", message="")["tag"]
        self.create_ref(kind, repo, f"refs/tags/{tag}", revision)

    @route("DELETE", "/api/{kind}s/{repo}/branch/{branch}")
    def delete_branch(self, kind, repo, branch):
        self.delete_ref(kind, repo, f"refs/heads/{branch}")

    @route("DELETE", "/api/{kind}s/{repo}/tag/{tag}")
    def delete_tag(self, kind, repo, tag):
        self.delete_ref(kind, repo, f"refs/tags/{tag}")

    @route("POST", "/api/{kind}s/{repo}/preupload/{revision}", "create_pr")
    def preupload(self, kind, repo, revision):
        repository = self.repository(kind, repo, write="create_pr" not in self.query)
        self.writer()
        files = self.hub.commit(repository, revision).files
        answers = []
        for wanted in self.fields("files", gitIgnore=None)["files"]:
            path, sample, size = wanted["path"], base64.b64decode(wanted["sample"], validate=True), wanted["size"]
            if len(sample) != min(size, 512):
                raise ValueError(f"a sample of {len(sample)} bytes for a file of {size}")
            is_lfs = path.endswith(LFS_SUFFIXES) or size > LARGE_FILE or b"\0" in sample
            answers.append({"path": path, "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False})
            if present := files.get(path):
                answers[-1]["oid"] = present.sha256 if present.is_lfs else present.git_oid
        return {"files": answers}

    @route("POST", "/{prefix}{repo}.git/info/lfs/objects/batch")
    def lfs_batch(self, prefix, repo):
        wanted = self.fields("operation", "transfers", "objects", "hash_algo", ref=None)
        if (wanted["operation"], wanted["hash_algo"]) != ("upload", "sha256") or "basic" not in wanted["transfers"]:
            raise ValueError(f"not an upload: {wanted}")
        kind = next(kind for kind, its in URL_PREFIXES.items() if its == prefix)
        self.repository(kind, repo, write=wanted["ref"] is not None)  # without a ref it is for a pull request
        self.writer()
        multipart = "multipart" in wanted["transfers"]
        objects = [self.lfs_object(announced["oid"], announced["size"], multipart) for announced in wanted["objects"]]
        return {"transfer": "basic", "objects": objects}

    def lfs_object(self, oid: str, size: int, multipart: bool) -> dict:
        """What is to be done to bring one object here."""
        if oid in self.hub.verified:
            return {"oid": oid, "size": size}
        ticket = secrets.token_hex(8)
        part_size = self.hub.part_size if multipart and size > self.hub.part_size else None
        self.hub.uploads[ticket] = Upload(oid, size, part_size)
        url, header = f"{self.hub.endpoint}/lfs/{ticket}", {}
        if part_size is not None:
            header = {str(number): f"{url}/{number}" for number in range(1, -(-size // part_size) + 1)}
            header["chunk_size"] = str(part_size)
        upload = {"href": f"{url}/complete" if part_size else f"{url}/1", "header": header}
        return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": {"href": f"{url}/verify"}}}

    @route("PUT", "/lfs/{ticket}/{number}")
    def lfs_put(self, ticket, number):
        if "Authorization" in self.headers:
            raise ValueError("the access token was sent to the storage, which is another party")
        upload = self.hub.uploads[ticket]
        upload.parts[int(number)] = self.body
        if upload.part_size is None:
            self.lfs_store(upload)
        self.send(200, {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'}, b"")

    @route("POST", "/lfs/{ticket}/complete")
    def lfs_complete(self, ticket):
        upload, sent = self.hub.uploads[ticket], self.fields("oid", "parts")
        etags = {number: f'"{hashlib.md5(part).hexdigest()}"' for number, part in upload.parts.items()}
        if sent["oid"] != upload.oid or {part["partNumber"]: part["etag"] for part in sent["parts"]} != etags:
            raise Refusal(422, "These are not the parts that arrived.")
        self.lfs_store(upload)
        return {}

    def lfs_store(self, upload: Upload) -> None:
        """Keep the bytes of an upload, if they are what was announced."""
        content = b"".join(upload.parts[number] for number in sorted(upload.parts))
        if hashlib.sha256(content).hexdigest() != upload.oid or len(content) != upload.size:
            raise Refusal(422, f"{len(content)} bytes arrived that are not the {upload.size} of {upload.oid}.")
        self.hub.store(content, is_lfs=True)

    @route("POST", "/lfs/{ticket}/verify")
    def lfs_verify(self, ticket):
        upload, sent = self.hub.uploads[ticket], self.fields("oid", "size")
        self.writer()
        path = self.hub.folder / upload.oid
        if sent != {"oid": upload.oid, "size": upload.size} or not path.exists() or path.stat().st_size != sent["size"]:
            raise Refusal(422, f"{sent} is not what arrived.")
        self.hub.verified.add(upload.oid)
        return {}

    @route("POST", "/api/{kind}s/{repo}/commit/{revision}", "create_pr")
    def create_commit(self, kind, repo, revision):
        as_pull_request = "create_pr" in self.query
        repository = self.repository(kind, repo, write=not as_pull_request)
        author, parent = self.writer(), self.hub.commit(repository, revision)
        if self.headers["Content-Type"] != "application/x-ndjson":
            raise ValueError("a commit is application/x-ndjson")
        header, *operations = [json.loads(line) for line in self.body.splitlines()]
        if header["key"] != "header" or header["value"].keys() - {"summary", "description", "parentCommit"}:
            raise ValueError(f"not the header of a commit: {header}")
        if header["value"].get("parentCommit", parent.oid) != parent.oid:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(parent.files)
        for operation in operations:
            self.apply(operation["key"], operation["value"], files)
        number = sum(ref.startswith("refs/pr/") for ref in repository.refs) + 1
        ref = revision if revision.startswith("refs/pr/") else f"refs/heads/{revision}"
        if ref not in repository.refs:
            raise Refusal(400, f"{revision} is not a branch")
        ref = f"refs/pr/{number}" if as_pull_request else ref
        commit = repository.add(
            ref, parent.oid, files, author, header["value"]["summary"], header["value"]["description"]
        )
        url = f"{self.hub.endpoint}/{URL_PREFIXES[kind]}{repo}"
        answer = {"success": True, "commitOid": commit.oid, "commitUrl": f"{url}/commit/{commit.oid}"}
        return answer | ({"pullRequestUrl": f"{url}/discussions/{number}"} if as_pull_request else {})

    def apply(self, key: str, value: dict, files: dict[str, File]) -> None:
        """Do one operation of a commit to `files`."""
        path = value["path"]
        if path.startswith("/") or {"", ".", ".."} & set(path.rstrip("/").split("/")):
            raise Refusal(400, f"{path} is not the path of a file")
        if key == "file" and value["encoding"] == "base64":
            files[path] = self.hub.store(base64.b64decode(value["content"], validate=True), is_lfs=False)
        elif key == "lfsFile" and value["algo"] == "sha256":
            if value["oid"] not in self.hub.verified:
                raise Refusal(400, f"The LFS file {path} was not uploaded.")
            files[path] = self.hub.store((self.hub.folder / value["oid"]).read_bytes(), is_lfs=True)
            if value.get("size", files[path].size) != files[path].size:
                raise Refusal(400, f"The LFS file {path} has {files[path].size} bytes, not {value['size']}.")
        elif key in ("deletedFile", "deletedFolder"):
            folder = f"{path.rstrip('/')}/"
            deleted = [name for name in files if name == path or (key == "deletedFolder" and name.startswith(folder))]
            if not deleted:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            for name in deleted:
                del files[name]
        else:
            raise ValueError(f"not an operation of a commit: {key} with {value.keys()}")

    def create_ref(self, kind: str, repo: str, ref: str, start: str) -> None:
        """Let a new branch or tag point to what `start` points to."""
        repository = self.repository(kind, repo, write=True)
        commit = self.hub.commit(repository, start)
        if ref in repository.refs:
            raise Refusal(409, f"Reference {ref} already exists")
        repository.refs[ref] = commit.oid
        self.send(201, {}, b"")

    def delete_ref(self, kind: str, repo: str, ref: str) -> None:
        """Forget a branch or a tag."""
        repository = self.repository(kind, repo, write=True)
        if repository.refs.pop(ref, None) is None:
            raise Refusal(404, f"{ref} does not exist", "RevisionNotFound")
        self.send(200, {}, b"")

    # What the answers above are made of.

    @property
    def hub(self) -> HubServer:
        """The server that this connection belongs to."""
        return self.server.hub

    def user(self) -> str | None:
        """Who sent the access token; None if none was sent."""
        sent = self.headers.get("Authorization")
        if sent is None:
            return None
        user = {f"Bearer {token}": user for token, user in self.hub.users.items()}.get(sent)
        if user is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return user

    def writer(self) -> str:
        """The user, who must have sent an access token."""
        user = self.user()
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        return user

    def repository(self, kind: str, repo: str, write: bool = False) -> Repository:
        """A repository that the user may see, and write to if asked."""
        user, owner = self.user(), repo.partition("/")[0]
        repository = self.hub.repositories.get((kind, repo))
        if repository is None or (repository.private and user != owner):
            raise Refusal(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if write and self.writer() != owner:
            raise Refusal(403, f"You don't have the rights to write to {repo}")
        return repository

    def fields(self, *required: str, **optional) -> dict:
        """The JSON that was sent, which must have these fields and no others."""
        sent = json.loads(self.body)
        if set(required) - sent.keys() or sent.keys() - set(required) - optional.keys():
            raise ValueError(f"sent {sorted(sent)}, expected {required} and perhaps {tuple(optional)}")
        return optional | sent

    @staticmethod
    def with_folders(files: dict[str, File]) -> set[str]:
        """The paths of files and of the folders that they are in."""
        folders = {str(parent) for path in files for parent in Path(path).parents}
        return files.keys() | folders - {"."}

    @staticmethod
    def entry(path: str, file: File | None) -> dict:
        """How a file, or a folder, is listed."""
        if file is None:
            return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}
        listed = {"type": "file", "oid": file.git_oid, "size": file.size, "path": path}
        if file.is_lfs:
            pointer = lfs_pointer(file.sha256, file.size)
            listed["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(pointer)}
        return listed

    # How a request becomes an answer.

    def serve(self):
        """Answer one request."""
        url = urlsplit(self.path)
        asked = f"{self.command} {unquote(url.path)}"
        with self.hub.lock:
            self.hub.requests.append(asked)
            self.fault = self.hub.fault(self.command, url.path)
        size = int(self.headers.get("Content-Length", 0))
        if self.fault and self.fault.answer == "close":
            self.rfile.read(size // 2)
            self.hang_up()
            return
        self.body = self.rfile.read(size)
        self.query = parse_qs(url.query, keep_blank_values=True)
        try:
            if "Transfer-Encoding" in self.headers:
                raise ValueError("a body must say its length")
            if self.fault and self.fault.answer != "truncate":
                self.send(self.fault.answer, {"Content-Type": "text/plain", **self.fault.headers}, b"on demand")
                return
            with self.hub.lock:
                answer = self.answer(url.path)
            if answer is not None:
                self.send(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())
        except Refusal as refusal:
            headers = {"Content-Type": "application/json", **refusal.headers}
            self.send(refusal.status, headers, json.dumps(refusal.body).encode())
        except Exception:  # the request is not what a client of the Hub sends, or the server does not know it yet
            self.hub.unknown.append(f"{asked}?{url.query}: {traceback.format_exc()}")
            self.send(501, {}, b"")  # clients try again after a 500

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def answer(self, path: str):
        """What the one method with a route for `path` says."""
        for method, pattern, parameters, answer in ROUTES:
            if method == self.command and (match := pattern.fullmatch(path)):
                if self.query.keys() - parameters:
                    raise ValueError(f"parameters other than {sorted(parameters)}")
                return answer(self, **{name: unquote(value) for name, value in match.groupdict().items()})
        raise LookupError("no such request is known")

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Send an answer, or half of its body if that was asked for."""
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault and self.fault.answer == "truncate":
            self.wfile.write(body[: len(body) // 2])
            self.hang_up()
            return
        self.wfile.write(body)

    def hang_up(self) -> None:
        """Close the connection at once."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_):
        """Say nothing; `hub.requests` knows."""
