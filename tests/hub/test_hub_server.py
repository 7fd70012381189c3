import json
import urllib.error
import urllib.request

import pytest


def ask(hub, method, path, body=b"", token="hf_token_of_user", **headers):
    """Status, headers and body of the answer to a plain request."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(hub.endpoint + path, content or None, headers, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def create(hub, name, **options):
    assert ask(hub, "POST", "/api/repos/create", {"name": name, "organization": "user", **options})[0] == 200


def commit(hub, name, *operations, **header):
    lines = [{"key": "header", "value": {"summary": "change", "description": "", **header}}, *operations]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return ask(hub, "POST", f"/api/models/user/{name}/commit/main", body, **{"Content-Type": "application/x-ndjson"})


def announce(hub, name, oid, size):
    """URLs that an LFS object is put to, and verified at."""
    body = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": size}]}
    status, _, answer = ask(hub, "POST", f"/user/{name}.git/info/lfs/objects/batch", body | {"hash_algo": "sha256"})
    assert status == 200
    actions = json.loads(answer)["objects"][0]["actions"]
    return [actions[action]["href"].removeprefix(hub.endpoint) for action in ("upload", "verify")]


UP_AND_DOWN = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi
api, (kind, folder) = HfApi(), sys.argv[1:]
repo_id = api.create_repo("user/everything", repo_type=kind, space_sdk="static", exist_ok=True).repo_id
commits = [api.upload_folder(repo_id=repo_id, folder_path=folder, repo_type=kind).oid for _ in range(2)]
local = Path(api.snapshot_download(repo_id, repo_type=kind))
files = {path.relative_to(local).as_posix(): path.read_bytes().hex() for path in local.rglob("*") if path.is_file()}
print(json.dumps([commits, api.repo_info(repo_id, repo_type=kind, files_metadata=True).sha, files]))
"""


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_a_folder_comes_back_byte_for_byte_and_is_committed_once(hub, python, tmp_path, kind):
    contents = {
        "README.md": b"---\nlicense: apache-2.0\n---\n",
        "empty.txt": b"",
        "data/train 0%.parquet": bytes(range(256)) * 5,
        "data/täglich.txt": b"text",
        "picture": b"\x89PNG\0",
    }
    for path, content in contents.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    commits, head, downloaded = python(hub, UP_AND_DOWN, kind, tmp_path)
    attributes = downloaded.pop(".gitattributes")
    assert downloaded == {path: content.hex() for path, content in contents.items()}
    assert hub.files(kind, "user/everything") == contents | {".gitattributes": bytes.fromhex(attributes)}
    assert commits == [head, head]
    assert [commit.title for commit in hub.history(kind, "user/everything")] == [
        "Upload folder using huggingface_hub",
        "initial commit",
    ]


def test_a_file_of_several_parts_is_put_together(start_hub, python, tmp_path):
    content = bytes(range(250))
    (tmp_path / "model.safetensors").write_bytes(content)
    with start_hub(part_size=100) as hub:
        python(hub, UP_AND_DOWN, "model", tmp_path)
        assert not hub.unknown
        assert sum(request.startswith("PUT") for request in hub.requests) == 3
        assert hub.files("model", "user/everything")["model.safetensors"] == content


REFERENCES = """
import json
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RevisionNotFoundError, RemoteEntryNotFoundError, RepositoryNotFoundError
api = HfApi()
def missing(error, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except error:
        return True
repo = api.create_repo("named").repo_id
api.create_branch(repo, branch="a/b")
api.create_branch(repo, branch="a/b", exist_ok=True)
api.create_tag(repo, tag="v1")
api.upload_file(path_or_fileobj=b"1", path_in_repo="x/y.txt", repo_id=repo, revision="a/b")
proposed = api.create_commit(repo, [CommitOperationAdd("z.txt", b"2")], commit_message="Propose", create_pr=True)
api.create_commit(repo, [CommitOperationDelete("x/")], commit_message="Remove", revision="a/b")
refs = api.list_repo_refs(repo, include_pull_requests=True)
seen = {
    "repo": repo,
    "refs": sorted(ref.ref for refs in (refs.branches, refs.tags, refs.pull_requests) for ref in refs),
    "proposed": [proposed.pr_revision, api.list_repo_files(repo, revision=proposed.pr_revision)],
    "main": api.list_repo_files(repo),
    "titles": [commit.title for commit in api.list_repo_commits(repo, revision="a/b")],
    "paths": [info.path for info in api.get_paths_info(repo, ["z.txt", "none"], revision="refs/pr/1")],
    "missing": [
        missing(RevisionNotFoundError, api.list_repo_files, repo, revision="v2"),
        missing(RemoteEntryNotFoundError, api.hf_hub_download, repo, "none.txt"),
        missing(RepositoryNotFoundError, api.model_info, "user/none"),
    ],
}
api.delete_tag(repo, tag="v1")
api.delete_branch(repo, branch="a/b")
seen["left"] = [ref.ref for ref in api.list_repo_refs(repo).branches]
api.delete_repo(repo)
print(json.dumps(seen | {"who": api.whoami()["name"], "exists": api.repo_exists(repo)}))
"""


def test_branches_tags_and_pull_requests_have_histories_of_their_own(hub, python):
    assert python(hub, REFERENCES) == {
        "repo": "user/named",
        "refs": ["refs/heads/a/b", "refs/heads/main", "refs/pr/1", "refs/tags/v1"],
        "proposed": ["refs/pr/1", [".gitattributes", "z.txt"]],
        "main": [".gitattributes"],
        "titles": ["Remove", "Upload x/y.txt with huggingface_hub", "initial commit"],
        "paths": ["z.txt"],
        "missing": [True, True, True],
        "left": ["refs/heads/main"],
        "who": "user",
        "exists": False,
    }


def test_a_part_of_a_file_can_be_asked_for(hub):
    create(hub, "ranges")
    operation = {"key": "file", "value": {"path": "ten.txt", "content": "MDEyMzQ1Njc4OQ==", "encoding": "base64"}}
    assert commit(hub, "ranges", operation)[0] == 200

    def part(wanted):
        status, headers, body = ask(hub, "GET", "/user/ranges/resolve/main/ten.txt", Range=wanted)
        return status, headers["Content-Range"], body

    assert part("bytes=2-4") == (206, "bytes 2-4/10", b"234")
    assert part("bytes=7-") == (206, "bytes 7-9/10", b"789")
    assert part("bytes=-2") == (206, "bytes 8-9/10", b"89")
    assert part("bytes=10-")[:2] == (416, "bytes */10")
    status, headers, body = ask(hub, "HEAD", "/user/ranges/resolve/main/ten.txt")
    assert (status, headers["Content-Length"], body) == (200, "10", b"")
    assert headers["X-Repo-Commit"] == hub.history("model", "user/ranges")[0].oid


def test_only_the_owner_writes_and_only_the_owner_sees_what_is_private(hub):
    create(hub, "open")
    create(hub, "closed", visibility="private")
    statuses = {}
    for token in ("hf_token_of_user", "hf_token_of_other", "hf_wrong", None):
        statuses[token] = [
            ask(hub, "GET", "/api/models/user/open", token=token)[0],
            ask(hub, "GET", "/api/models/user/closed", token=token)[0],
            ask(hub, "POST", "/api/models/user/open/branch/of%20mine", {}, token=token)[0],
            ask(hub, "POST", "/api/repos/create", {"name": "open", "organization": "user"}, token=token)[0],
        ]
    assert statuses == {
        "hf_token_of_user": [200, 200, 201, 409],
        "hf_token_of_other": [200, 404, 403, 403],
        "hf_wrong": [401, 401, 401, 401],
        None: [200, 401, 401, 401],
    }


def test_an_object_that_is_not_what_was_announced_is_refused(hub):
    create(hub, "objects")
    oid = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # printf hello | sha256sum
    pointer = {"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": oid, "size": 5}}
    put, verify = announce(hub, "objects", oid, 5)
    assert ask(hub, "PUT", put, b"jello", token=None)[0] == 422
    assert ask(hub, "POST", verify, {"oid": oid, "size": 5})[0] == 422
    assert commit(hub, "objects", pointer)[0] == 400
    assert ask(hub, "PUT", put, b"hello", token=None)[0] == 200
    assert ask(hub, "POST", verify, {"oid": oid, "size": 6})[0] == 422
    assert ask(hub, "POST", verify, {"oid": oid, "size": 5})[0] == 200
    assert commit(hub, "objects", pointer)[0] == 200
    assert hub.files("model", "user/objects")["a.bin"] == b"hello"


def test_a_commit_on_a_parent_that_is_no_longer_the_last_is_refused(hub):
    create(hub, "race")
    parent = hub.history("model", "user/race")[0].oid
    operation = {"key": "file", "value": {"path": "a", "content": "", "encoding": "base64"}}
    assert commit(hub, "race", operation, parentCommit=parent)[0] == 200
    assert commit(hub, "race", operation, parentCommit=parent)[0] == 412
    assert len(hub.history("model", "user/race")) == 2


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/models/user/strict/secrets", b""),
        ("GET", "/api/models/user/strict?fields=all", b""),
        ("POST", "/api/repos/create", {"name": "a", "colour": "red"}),
        ("POST", "/api/models/user/strict/preupload/main", b"not JSON"),
        ("PUT", "/lfs/0/1", b"the token does not belong here"),
    ],
)
def test_a_request_that_no_client_sends_is_answered_with_501_and_noted(hub, method, path, body):
    if ("model", "user/strict") not in hub.repositories:
        create(hub, "strict")
    assert ask(hub, method, path, body)[0] == 501
    (noted,) = hub.unknown
    assert noted.startswith(f"{method} {path.partition('?')[0]}?")
    hub.unknown.clear()


DOWNLOAD = """
import json, sys, time
from huggingface_hub import hf_hub_download
waits = []
time.sleep = waits.append
print(json.dumps([open(hf_hub_download("user/faulty", "a.txt"), "rb").read().hex(), waits]))
"""


def test_the_hub_fails_as_often_as_it_was_told_and_clients_recover(hub, python):
    create(hub, "faulty")
    operation = {"key": "file", "value": {"path": "a.txt", "content": "MDEyMzQ1Njc4OQ==", "encoding": "base64"}}
    assert commit(hub, "faulty", operation)[0] == 200
    hub.fail("GET", "/resolve/", 429, retry_after=7)
    hub.fail("GET", "/resolve/", "truncate")
    hub.requests.clear()
    content, waits = python(hub, DOWNLOAD)
    assert bytes.fromhex(content) == b"0123456789"
    assert waits[0] == 8  # huggingface_hub adds a second to Retry-After
    assert hub.requests.count("GET /user/faulty/resolve/main/a.txt") >= 3
    hub.fail("GET", "/api/whoami", 503, after=1)
    assert [ask(hub, "GET", "/api/whoami-v2")[0] for _ in range(3)] == [200, 503, 200]
