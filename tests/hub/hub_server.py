"""A Hub for tests: a local server with the HTTP interface of huggingface.co, of the standard library alone.

    with HubServer(folder, users={"hf_secret": "user"}) as hub:
        ...  # run a process with HF_ENDPOINT=hub.endpoint, HF_TOKEN=hf_secret and HF_HUB_DISABLE_XET=1

It has repositories of models, datasets and spaces with their branches, tags, pull requests and history, and large files
by git LFS in one part or several. Files are in `folder`, named by their sha256; the rest is in memory (`hub_storage`).

It is strict: an unknown request, or one with a missing or an extra field, is answered with 501 and recorded in
`hub.unknown`, so that a test can fail for it. `hub.fail` orders faults.

The requests are those of huggingface_hub 2.4.0 (`hf_api.py`, `_commit_api.py`, `lfs.py`, `file_download.py`). Xet
storage is not implemented; clients must disable it.
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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_storage import Fault, File, Hub, Refusal, Repository, Upload, entry, with_folders

URL_PREFIXES = {"model": "", "dataset": "datasets/", "space": "spaces/"}
# From the .gitattributes that huggingface.co gives a new repository; large files of other names are LFS files too.
LFS_SUFFIXES = (".arrow", ".bin", ".npy", ".npz", ".parquet", ".pt", ".pth", ".safetensors", ".zip")
LARGE_FILE = 10 * 2**20  # bytes


Answer = dict[str, Any] | list[dict[str, Any]] | None  # JSON; None if the method has sent its answer itself


class HubServer(Hub):
    """The server; a context manager. Arguments are those of [`Hub`]."""

    def __init__(self, folder: Path, users: dict[str, str], part_size: int = 2**30):
        super().__init__(folder, users, part_size)
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.hub = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Server(ThreadingHTTPServer):
    """HTTP server of one Hub."""

    hub: Hub


ROUTES: list[tuple[str, re.Pattern[str], set[str], Callable[..., Answer]]] = []


def route(method: str, path: str, query: str = "") -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Decorator: the method of `Handler` that answers requests for `path`, with the parameters in `query` allowed.

    A `{name}` in the path is an argument of the method: `{kind}` is a kind of repository, `{repo}` an owner and a name,
    `{path}` the rest of the path; others are one part of the path.
    """
    parts = {"kind": "model|dataset|space", "repo": "[^/]+/[^/]+", "prefix": "datasets/|spaces/|", "path": ".*"}
    pattern = re.sub(r"{(\w+)}", lambda name: f"(?P<{name[1]}>{parts.get(name[1], '[^/]+')})", path.replace(".", r"\."))

    def add(answer: Callable[..., Answer]) -> Callable[..., Answer]:
        ROUTES.append((method, re.compile(pattern), set(query.split()), answer))
        return answer

    return add


class Handler(BaseHTTPRequestHandler):
    """Handler of the requests of one connection. Methods with a `route` return the JSON of the answer."""

    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds
    fault: Fault | None
    body: bytes
    query: dict[str, list[str]]

    # Users and repositories.

    @route("GET", "/api/agent-harnesses")
    def agents(self) -> Answer:
        raise Refusal(404, "There are none.")

    @route("GET", "/api/whoami-v2")
    def whoami(self) -> Answer:
        return {"type": "user", "name": self.writer(), "fullname": self.writer(), "orgs": [], "auth": {}}

    @route("POST", "/api/repos/create")
    def create(self) -> Answer:
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
    def delete(self) -> Answer:
        unwanted = self.fields("name", organization=None, type="model")
        repo_id = f"{unwanted['organization'] or self.writer()}/{unwanted['name']}"
        self.repository(unwanted["type"], repo_id, write=True)
        del self.hub.repositories[unwanted["type"], repo_id]
        return {}

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> Answer:
        content = self.fields("content", "repoType")["content"]
        if not content.startswith("---\n"):
            return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
        if not re.match(r"---\n.*?^---$", content, re.DOTALL | re.MULTILINE):
            raise Refusal(400, "Invalid YAML", errors=[{"message": "the metadata has no end"}], warnings=[])
        return {"errors": [], "warnings": []}

    # Reading.

    @route("GET", "/api/{kind}s/{repo}", "blobs expand securityStatus")
    @route("GET", "/api/{kind}s/{repo}/revision/{revision}", "blobs expand securityStatus")
    def info(self, kind: str, repo: str, revision: str = "main") -> Answer:
        repository = self.repository(kind, repo)
        commit = self.hub.commit(repository, revision)
        siblings = []
        for path, file in sorted(commit.files.items()):
            siblings.append({"rfilename": path})
            if "blobs" in self.query:
                listed = entry(path, file)
                siblings[-1] |= {"blobId": listed["oid"], "size": listed["size"]}
                siblings[-1] |= {"lfs": listed["lfs"] | {"sha256": file.sha256}} if file.is_lfs else {}
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
    def tree(self, kind: str, repo: str, revision: str, path: str = "") -> Answer:
        commit = self.hub.commit(self.repository(kind, repo), revision)
        folder = f"{path}/" if path else ""
        inside = {name for name in with_folders(commit.files) if name.startswith(folder)}
        if path and not inside:
            raise Refusal(404, f"{path} does not exist on {revision!r}", "EntryNotFound")
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            inside = {name for name in inside if "/" not in name.removeprefix(folder)}
        return [entry(name, commit.files.get(name)) for name in sorted(inside)]

    @route("POST", "/api/{kind}s/{repo}/paths-info/{revision}")
    def paths_info(self, kind: str, repo: str, revision: str) -> Answer:
        files = self.hub.commit(self.repository(kind, repo), revision).files
        wanted = parse_qs(self.body.decode(), strict_parsing=True)
        names = with_folders(files)
        return [entry(path, files.get(path)) for path in wanted["paths"] if path in names]

    @route("GET", "/api/{kind}s/{repo}/refs", "include_prs")
    def refs(self, kind: str, repo: str) -> Answer:
        repository = self.repository(kind, repo)
        listed: dict[str, Any] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        for ref, commit in repository.refs.items():
            group = {"heads": "branches", "tags": "tags", "pr": "pullRequests"}[ref.split("/")[1]]
            listed[group].append({"name": ref.split("/", 2)[2], "ref": ref, "targetCommit": commit})
        return listed

    @route("GET", "/api/{kind}s/{repo}/commits/{revision}", "expand[]")
    def commits(self, kind: str, repo: str, revision: str) -> Answer:
        self.hub.commit(self.repository(kind, repo), revision)
        return [
            {"id": c.oid, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
            for c in self.hub.history(kind, repo, revision)
        ]

    @route("GET", "/{prefix}{repo}/resolve/{revision}/{path}")
    @route("HEAD", "/{prefix}{repo}/resolve/{revision}/{path}")
    def resolve(self, prefix: str, repo: str, revision: str, path: str) -> None:
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
            first, last = wanted.removeprefix("bytes=").split("-")
            start = int(first) if first else max(file.size - int(last), 0)
            end = min(int(last) + 1, file.size) if first and last else file.size
            if start >= end:
                raise Refusal(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{file.size}"})
            content, status = content[start:end], 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        self.send(status, headers, content)

    # Writing.

    @route("POST", "/api/{kind}s/{repo}/branch/{branch}")
    def create_branch(self, kind: str, repo: str, branch: str) -> None:
        start = self.fields(startingPoint="main")["startingPoint"]
        self.create_ref(kind, repo, f"refs/heads/{branch}", start)

    @route("POST", "/api/{kind}s/{repo}/tag/{revision}")
    def create_tag(self, kind: str, repo: str, revision: str) -> None:
        tag = self.fields("tag", message="")["tag"]
        self.create_ref(kind, repo, f"refs/tags/{tag}", revision)

    @route("DELETE", "/api/{kind}s/{repo}/branch/{branch}")
    def delete_branch(self, kind: str, repo: str, branch: str) -> None:
        self.delete_ref(kind, repo, f"refs/heads/{branch}")

    @route("DELETE", "/api/{kind}s/{repo}/tag/{tag}")
    def delete_tag(self, kind: str, repo: str, tag: str) -> None:
        self.delete_ref(kind, repo, f"refs/tags/{tag}")

    @route("POST", "/api/{kind}s/{repo}/preupload/{revision}", "create_pr")
    def preupload(self, kind: str, repo: str, revision: str) -> Answer:
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
    def lfs_batch(self, prefix: str, repo: str) -> Answer:
        wanted = self.fields("operation", "transfers", "objects", "hash_algo", ref=None)
        if (wanted["operation"], wanted["hash_algo"]) != ("upload", "sha256") or "basic" not in wanted["transfers"]:
            raise ValueError(f"not an upload: {wanted}")
        kind = next(kind for kind, its in URL_PREFIXES.items() if its == prefix)
        self.repository(kind, repo, write=wanted["ref"] is not None)  # without a ref it is for a pull request
        self.writer()
        multipart = "multipart" in wanted["transfers"]
        objects = [self.lfs_object(announced["oid"], announced["size"], multipart) for announced in wanted["objects"]]
        return {"transfer": "basic", "objects": objects}

    def lfs_object(self, oid: str, size: int, multipart: bool) -> dict[str, Any]:
        """The answer for one object of a batch: the upload that it needs, if any."""
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
    def lfs_put(self, ticket: str, number: str) -> None:
        if "Authorization" in self.headers:
            raise ValueError("the access token was sent to the storage, which is another party")
        upload = self.hub.uploads[ticket]
        upload.parts[int(number)] = self.body
        if upload.part_size is None:
            self.lfs_store(upload)
        self.send(200, {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'}, b"")

    @route("POST", "/lfs/{ticket}/complete")
    def lfs_complete(self, ticket: str) -> Answer:
        upload, sent = self.hub.uploads[ticket], self.fields("oid", "parts")
        etags = {number: f'"{hashlib.md5(part).hexdigest()}"' for number, part in upload.parts.items()}
        if sent["oid"] != upload.oid or {part["partNumber"]: part["etag"] for part in sent["parts"]} != etags:
            raise Refusal(422, "These are not the parts that arrived.")
        self.lfs_store(upload)
        return {}

    def lfs_store(self, upload: Upload) -> None:
        """Store the content of an upload after checking size and sha256."""
        content = b"".join(upload.parts[number] for number in sorted(upload.parts))
        if hashlib.sha256(content).hexdigest() != upload.oid or len(content) != upload.size:
            raise Refusal(422, f"{len(content)} bytes arrived that are not the {upload.size} of {upload.oid}.")
        self.hub.store(content, is_lfs=True)

    @route("POST", "/lfs/{ticket}/verify")
    def lfs_verify(self, ticket: str) -> Answer:
        upload, sent = self.hub.uploads[ticket], self.fields("oid", "size")
        self.writer()
        path = self.hub.folder / upload.oid
        if sent != {"oid": upload.oid, "size": upload.size} or not path.exists() or path.stat().st_size != sent["size"]:
            raise Refusal(422, f"{sent} is not what arrived.")
        self.hub.verified.add(upload.oid)
        return {}

    @route("POST", "/api/{kind}s/{repo}/commit/{revision}", "create_pr")
    def create_commit(self, kind: str, repo: str, revision: str) -> Answer:
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

    def apply(self, key: str, value: dict[str, Any], files: dict[str, File]) -> None:
        """Apply one operation of a commit to `files`."""
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
        """Create a branch or tag at the commit of `start`."""
        repository = self.repository(kind, repo, write=True)
        commit = self.hub.commit(repository, start)
        if ref in repository.refs:
            raise Refusal(409, f"Reference {ref} already exists")
        repository.refs[ref] = commit.oid
        self.send(201, {}, b"")

    def delete_ref(self, kind: str, repo: str, ref: str) -> None:
        """Delete a branch or a tag."""
        repository = self.repository(kind, repo, write=True)
        if repository.refs.pop(ref, None) is None:
            raise Refusal(404, f"{ref} does not exist", "RevisionNotFound")
        self.send(200, {}, b"")

    # Parts of the answers.

    @property
    def hub(self) -> Hub:
        """The server that this connection belongs to."""
        assert isinstance(self.server, Server)
        return self.server.hub

    def user(self) -> str | None:
        """The user of the access token; None if none was sent."""
        sent = self.headers.get("Authorization")
        if sent is None:
            return None
        user = {f"Bearer {token}": user for token, user in self.hub.users.items()}.get(sent)
        if user is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return user

    def writer(self) -> str:
        """The user of the access token, which is required."""
        user = self.user()
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        return user

    def repository(self, kind: str, repo: str, write: bool = False) -> Repository:
        """A repository that the user may read, or write if `write`."""
        user, owner = self.user(), repo.partition("/")[0]
        repository = self.hub.repositories.get((kind, repo))
        if repository is None or (repository.private and user != owner):
            raise Refusal(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if write and self.writer() != owner:
            raise Refusal(403, f"You don't have the rights to write to {repo}")
        return repository

    def fields(self, *required: str, **optional: Any) -> dict[str, Any]:
        """The JSON of the request, which must have the required fields and no unknown ones."""
        sent = json.loads(self.body)
        if set(required) - sent.keys() or sent.keys() - set(required) - optional.keys():
            raise ValueError(f"sent {sorted(sent)}, expected {required} and perhaps {tuple(optional)}")
        return {**optional, **sent}

    # From a request to its answer.

    def serve(self) -> None:
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
            if self.fault and isinstance(self.fault.answer, int):
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

    def answer(self, path: str) -> Answer:
        """The answer of the method with a route for `path`."""
        for method, pattern, parameters, answer in ROUTES:
            if method == self.command and (match := pattern.fullmatch(path)):
                if self.query.keys() - parameters:
                    raise ValueError(f"parameters other than {sorted(parameters)}")
                return answer(self, **{name: unquote(value) for name, value in match.groupdict().items()})
        raise LookupError("no such request is known")

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Send an answer, or half of its body if the fault is `truncate`."""
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

    def log_message(self, *_: object) -> None:
        """No log; `hub.requests` has all requests."""
