import hashlib
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from esg_transformers.corpora.example import ExampleList
from esg_transformers.corpora.sharing import push_corpus
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec

GRID = FeatureGrid(frame_rate=10.0, stride=5, window=10)  # 10 s hold 19 steps
SHARD = "data/train-00000-of-00002.parquet"


def make_example(video_id, seed, **changes):
    random = np.random.default_rng(seed)
    return {
        "video_id": video_id,
        "duration": 10.0,
        "visual_features": random.normal(size=(19, 6)).astype(np.float16),
        "audio_features": random.normal(size=(19, 4)).astype(np.float16),
        "segments": np.array([[0.1, 2.3], [5.0, 10.0]]),
        "labels": np.array([1, 0]),
    } | changes


EXAMPLES = {
    "train": [
        make_example("-a_1", 0),
        make_example("unheard", 1, audio_features=None),
        make_example("unseen", 2, visual_features=None, segments=np.zeros((0, 2)), labels=np.zeros(0, np.int64)),
        make_example("d", 3),
    ],
    "test": [make_example("ä", 4)],
}


def make_corpus(folder, splits=EXAMPLES):
    """A corpus of two examples a shard."""
    spec = FeatureSpec(GRID, 6, 4, EncoderId("test", "1"))
    lists = {split: ExampleList(examples, ("dog", "speech"), spec) for split, examples in splits.items()}
    write_corpus(folder, lists, videos_per_shard=2)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("written") / "corpus")


def contents(folder):
    """The files that a push of a corpus puts into a dataset."""
    files = [folder / "README.md", folder / "corpus.json", *(folder / "data").iterdir()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def pushed(hub, repo_id, revision="main"):
    """The files of a dataset, without the one that the Hub creates."""
    files = hub.files("dataset", repo_id, revision)
    del files[".gitattributes"]
    return files


COMMAND_LINE = """
import contextlib, io, json, os, sys, time
from esg_transformers.cli.main import main
waits = []
time.sleep = waits.append  # what a client waits before it tries again is noted, and not waited for
for line in sys.stdin:
    words, token = json.loads(line)
    os.environ["HF_TOKEN"] = token
    waits.clear()
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main(["corpus", "push", *words])
    print(json.dumps([code, output.getvalue(), errors.getvalue(), waits]), flush=True)
"""


@pytest.fixture(scope="module")
def push(hub_of_module, environment, tmp_path_factory):
    """`push(DIR, "OWNER/NAME", ...)`: exit code, output, errors and waits of `esg-transformers corpus push`.

    The commands run one after the other in one process of a user of the Hub; the time goes into its start.
    """
    log = tmp_path_factory.mktemp("push") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND_LINE],
            env=environment(hub_of_module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )

        def run(*words, token="hf_token_of_user"):
            process.stdin.write(json.dumps([[str(word) for word in words], token]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, log.read_text()
            assert "hf_token" not in answer
            return json.loads(answer)

        yield run
        process.communicate()
    assert "hf_token" not in log.read_text()


def url_of(output):
    return output.split()[-1]


def refusal(answer):
    """The error of a command that failed, which is one line."""
    code, output, errors, _ = answer
    assert (code, output) == (1, "")
    (line,) = [line for line in errors.splitlines() if line.startswith("esg-transformers: error: ")]
    assert errors.endswith(f"{line}\n")
    assert "Traceback" not in errors
    return line.removeprefix("esg-transformers: error: ")


LOAD_WITHOUT_THE_PACKAGE = """
import json, sys
sys.modules["esg_transformers"] = None  # importing it fails
import datasets, hashlib, numpy as np
def told(row):
    streams = {name: np.array(row[name], np.float16).tobytes().hex() for name in ("visual_features", "audio_features")}
    return {**row, **{name: hashlib.sha256(bytes.fromhex(content)).hexdigest() for name, content in streams.items()}}
loaded = datasets.load_dataset("user/loaded")
streamed = datasets.load_dataset("user/loaded", streaming=True)
print(json.dumps([
    {split: [told(row) for row in rows] for split, rows in loaded.items()},
    {split: [told(row) for row in rows] for split, rows in streamed.items()},
    loaded["train"].features["events"].feature["label"].names,
    str(loaded["train"].features["visual_features"].dtype),
]))
"""


def test_a_pushed_corpus_loads_and_streams_without_this_package_bit_for_bit(hub, push, python, corpus):
    code, output, errors, _ = push(corpus, "user/loaded")
    assert code == 0, errors
    head = hub.history("dataset", "user/loaded")[0]
    assert output == f"{corpus} is at {hub.endpoint}/datasets/user/loaded/commit/{head.oid}\n"
    assert pushed(hub, "user/loaded") == contents(corpus)
    loaded, streamed, labels, dtype = python(hub, LOAD_WITHOUT_THE_PACKAGE)

    def told(example):
        row = {"video_id": example["video_id"], "duration": 10.0}
        for name, size in (("visual", 6), ("audio", 4)):
            features = example[f"{name}_features"]
            row[f"has_{name}"] = features is not None
            stored = np.zeros((19, size), np.float16) if features is None else features
            row[f"{name}_features"] = hashlib.sha256(stored.tobytes()).hexdigest()
        times = zip(example["segments"].tolist(), example["labels"].tolist(), strict=True)
        return row | {"events": [{"start": start, "end": end, "label": label} for (start, end), label in times]}

    assert loaded == streamed == {split: [told(e) for e in examples] for split, examples in EXAMPLES.items()}
    assert (labels, dtype) == (["dog", "speech"], "float16")


LOAD_WITH_THE_PACKAGE = """
import hashlib, json
from huggingface_hub import snapshot_download
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.manifest import verify_corpus
folder = snapshot_download("user/again", repo_type="dataset")
verify_corpus(folder)
def told(value):
    return value if not hasattr(value, "dtype") else [str(value.dtype), value.shape, value.tobytes().hex()]
corpora = {split: EventCorpus(folder, split) for split in ("train", "test")}
print(json.dumps([
    {split: [{key: told(value) for key, value in example.items()} for example in corpus]
     for split, corpus in corpora.items()},
    corpora["train"].feature_spec.grid.to_dict(),
]))
"""


def test_a_pushed_corpus_is_the_same_corpus_when_it_is_downloaded(hub, push, python, corpus):
    assert push(corpus, "user/again")[0] == 0
    examples, grid = python(hub, LOAD_WITH_THE_PACKAGE)

    def told(value):
        return value if not hasattr(value, "dtype") else [str(value.dtype), list(value.shape), value.tobytes().hex()]

    expected = {
        split: [{key: told(value) for key, value in example.items()} for example in examples]
        for split, examples in EXAMPLES.items()
    }
    assert examples == expected
    assert grid == GRID.to_dict()


def test_pushing_what_is_there_already_makes_no_commit_and_sends_no_shard(hub, push, corpus):
    first, second = push(corpus, "user/twice"), push(corpus, "user/twice")
    assert first[:2] == second[:2]
    assert len(hub.history("dataset", "user/twice")) == 2  # the Hub's own first, and the push


def test_a_push_replaces_the_earlier_corpus_in_one_commit_and_leaves_other_files(hub, push, corpus, tmp_path):
    assert push(corpus, "user/newer")[0] == 0
    before = hub.history("dataset", "user/newer")[0]
    licence = hub.store(b"CC0", is_lfs=False)
    before.files["LICENSE"] = licence
    newer = make_corpus(tmp_path / "newer", {"train": EXAMPLES["train"][:1]})
    assert push(newer, "user/newer")[0] == 0
    assert pushed(hub, "user/newer") == contents(newer) | {"LICENSE": b"CC0"}
    assert len(contents(newer)) == 3  # README.md, corpus.json and one shard of the four that were there
    assert hub.history("dataset", "user/newer")[1] is before


def test_only_the_files_of_the_corpus_are_sent(hub, push, corpus, tmp_path):
    folder = shutil.copytree(corpus, tmp_path / "corpus")
    for name in ("secret.txt", "data/notes.txt", "data/train-00007-of-00008.parquet", ".env"):
        (folder / name).write_bytes(b"not for others")
    assert push(folder, "user/only")[0] == 0
    assert pushed(hub, "user/only") == contents(corpus)


def test_a_push_can_go_to_a_branch_and_leave_main_alone(hub, push, corpus):
    assert push(corpus, "user/branched", "--revision", "v2/draft")[0] == 0
    assert pushed(hub, "user/branched", "v2/draft") == contents(corpus)
    assert pushed(hub, "user/branched") == {}
    assert push(corpus, "user/branched", "--revision", "v2/draft")[0] == 0
    assert len(hub.history("dataset", "user/branched", "v2/draft")) == 2


def test_someone_else_can_propose_a_push_but_not_make_it(hub, push, corpus, tmp_path):
    assert push(corpus, "user/proposed")[0] == 0
    newer = make_corpus(tmp_path / "newer", {"test": EXAMPLES["test"]})
    assert re.search(
        r"does not allow it \(403\).*--create-pr", refusal(push(newer, "user/proposed", token="hf_token_of_other"))
    )
    code, output, _, _ = push(newer, "user/proposed", "--create-pr", token="hf_token_of_other")
    assert (code, url_of(output)) == (0, f"{hub.endpoint}/datasets/user/proposed/discussions/1")
    assert pushed(hub, "user/proposed", "refs/pr/1") == contents(newer)
    assert pushed(hub, "user/proposed") == contents(corpus)


def test_what_is_pushed_as_private_is_never_public(hub, push, corpus):
    assert push(corpus, "user/closed", "--private")[0] == 0
    assert hub.repositories["dataset", "user/closed"].private
    assert push(corpus, "user/open")[0] == 0
    assert not hub.repositories["dataset", "user/open"].private
    message = refusal(push(corpus, "user/open", "--private"))
    assert "user/open exists and is public" in message


def test_a_dataset_that_is_not_a_corpus_is_never_replaced(hub, push, corpus):
    assert push(corpus, "user/others")[0] == 0
    files = hub.history("dataset", "user/others")[0].files
    del files["corpus.json"]
    assert "not a corpus" in refusal(push(corpus, "user/others"))
    assert len(hub.history("dataset", "user/others")) == 2


def test_nothing_is_sent_of_a_folder_that_is_not_a_whole_corpus(hub, push, corpus, tmp_path):
    changed = shutil.copytree(corpus, tmp_path / "changed")
    shard = bytearray((changed / SHARD).read_bytes())
    shard[100] ^= 1
    (changed / SHARD).write_bytes(shard)
    lacking = shutil.copytree(corpus, tmp_path / "lacking")
    (lacking / "data/test-00000-of-00001.parquet").unlink()
    undescribed = shutil.copytree(corpus, tmp_path / "undescribed")
    (undescribed / "README.md").unlink()
    assert "another sha256" in refusal(push(changed, "user/none"))
    assert "lacks its shard" in refusal(push(lacking, "user/none"))
    assert "has no README.md" in refusal(push(undescribed, "user/none"))
    assert "is not a corpus" in refusal(push(tmp_path, "user/none"))
    assert hub.requests == []


def test_a_name_that_the_hub_cannot_have_is_refused_by_name(hub, push, corpus):
    assert "'a/b/c'" in refusal(push(corpus, "a/b/c"))
    assert hub.requests == []


@pytest.mark.parametrize(
    ("method", "path", "fault", "message"),
    [
        ("POST", "/api/repos/create", 503, r"the Hub failed \(503\)\. Try again later"),
        ("POST", "/api/repos/create", "close", r"the connection to http://127\.0\.0\.1:\d+ failed .*Check the network"),
        ("GET", "/revision/|/datasets/user/faulty$", 404, r"no dataset or branch.*\(404\)\. Check the name"),
        ("POST", "/api/validate-yaml", 502, r"did not answer like the Hub\. Check HF_ENDPOINT"),
        ("POST", "/preupload/", 401, r"access token.*\(401\)\. Run `hf auth login`"),
        ("POST", "/preupload/", 500, r"the Hub failed \(500\)"),
        ("POST", "/objects/batch", 403, r"does not allow it \(403\)"),
        ("PUT", "/lfs/", 503, r"the Hub failed \(503\)"),
        ("PUT", "/lfs/", "close", r"the connection to http://127\.0\.0\.1:\d+ failed"),
        ("POST", "/verify", 422, r"the Hub refused \(422\): on demand"),
        ("POST", "/commit/", 409, r"changed it at the same time \(409\)\. Try again"),
        ("POST", "/commit/", 412, r"changed it at the same time \(412\)\. Try again"),
        ("POST", "/commit/", 429, r"too many requests \(429\)\. Try again in 30 s"),
    ],
)
def test_a_failed_push_says_why_and_the_next_one_makes_the_dataset_whole(
    hub, push, corpus, method, path, fault, message
):
    hub.repositories.pop(("dataset", "user/faulty"), None)
    hub.verified.clear()  # as on a Hub that never saw the shards
    hub.fail(method, path, fault, times=100, retry_after=30)
    assert re.search(
        f"^The corpus could not be pushed to user/faulty: .*{message}", refusal(push(corpus, "user/faulty"))
    )
    if ("dataset", "user/faulty") in hub.repositories:
        assert pushed(hub, "user/faulty") == {}
    hub.faults.clear()
    assert push(corpus, "user/faulty")[0] == 0
    assert pushed(hub, "user/faulty") == contents(corpus)


def test_what_passes_is_waited_for_as_long_as_the_hub_says(hub, push, corpus):
    hub.verified.clear()
    hub.fail("POST", "/preupload/", 429, retry_after=4)
    hub.fail("PUT", "/lfs/", "close")
    code, _, _, waits = push(corpus, "user/patient")
    assert (code, sorted(waits)) == (0, [1, 5])  # huggingface_hub adds a second to Retry-After
    assert pushed(hub, "user/patient") == contents(corpus)


def test_without_a_token_the_way_to_one_is_told(hub, push, corpus):
    assert "Run `hf auth login`, or set HF_TOKEN" in refusal(push(corpus, "user/new", token=""))
    assert "Run `hf auth login`, or set HF_TOKEN" in refusal(push(corpus, "user/new", token="hf_wrong"))
    assert ("dataset", "user/new") not in hub.repositories


def test_offline_a_push_says_so_and_a_pull_request_to_a_branch_is_refused(corpus):
    with pytest.raises(OSError, match="offline mode is enabled"):
        push_corpus(corpus, "user/offline")
    with pytest.raises(ValueError, match=r"`create_pr` .*`revision` \('draft'\)"):
        push_corpus(corpus, "user/offline", revision="draft", create_pr=True)
