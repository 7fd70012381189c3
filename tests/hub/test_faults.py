import json
import re
import subprocess
import sys

import numpy as np
import pytest
from tiny_models import tiny_esg_net

from esg_transformers import EsgNetProcessor
from esg_transformers.corpora.example import ExampleList
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec

GRID = FeatureGrid(frame_rate=10.0, stride=5, window=10)  # 10 s hold 19 steps
LABELS = ("dog", "speech")
FEATURES = {
    "frame_rate": GRID.frame_rate,
    "feature_stride": GRID.stride,
    "feature_window": GRID.window,
    "visual_size": 6,
    "audio_size": 4,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("written") / "corpus", np.random.default_rng(0)

    def example(video_id):
        return {
            "video_id": video_id,
            "duration": 10.0,
            "visual_features": random.normal(size=(19, 6)).astype(np.float16),
            "audio_features": random.normal(size=(19, 4)).astype(np.float16),
            "segments": np.array([[0.1, 2.3], [5.0, 10.0]]),
            "labels": np.array([1, 0]),
        }

    spec = FeatureSpec(GRID, 6, 4, EncoderId("test", "1"))
    splits = {
        split: ExampleList([example(f"{split}-{i}") for i in (0, 1)], LABELS, spec)
        for split in ("train", "validation", "test")
    }
    write_corpus(folder, splits)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two models that differ in their weights only."""
    folders = [tmp_path_factory.mktemp("model") for _ in (0, 1)]
    for seed, folder in enumerate(folders):
        tiny_esg_net(seed, **FEATURES, id2label=dict(enumerate(LABELS))).save_pretrained(folder)
        EsgNetProcessor(**FEATURES, encoder={"name": "test", "version": "1"}).save_pretrained(folder)
    return folders


PROCESS = """
import contextlib, hashlib, io, json, os, resource, shutil, sys, time
from huggingface_hub import constants
from transformers import AutoModel, AutoProcessor
from esg_transformers.cli.main import main
waits = []
time.sleep = waits.append  # what a client waits before it tries again is noted, and not waited for

def run(*words):
    return main(words)

def push(folder, repo_id):
    AutoModel.from_pretrained(folder).push_to_hub(repo_id)

def load(name):
    AutoProcessor.from_pretrained(name)
    weights = AutoModel.from_pretrained(name).state_dict()
    return hashlib.sha256(b"".join(weights[key].numpy().tobytes() for key in sorted(weights))).hexdigest()

def forget():
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)

for line in sys.stdin:
    action, words, token, largest_file = json.loads(line)
    os.environ["HF_TOKEN"] = token
    waits.clear()
    output, errors = io.StringIO(), io.StringIO()
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file or most, most))
        try:
            answer = globals()[action](*words)
        except Exception as error:
            answer = [[cls.__name__ for cls in type(error).__mro__], str(error)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    print(json.dumps([answer, output.getvalue(), errors.getvalue(), waits]), flush=True)
"""


@pytest.fixture(scope="module")
def process(hub_of_module, environment, tmp_path_factory):
    """`process(action, *words)`: result, output, errors and waits of an action of `PROCESS`.

    The actions run one after the other in one process of a user of the Hub; the time goes into its start.
    """
    log = tmp_path_factory.mktemp("process") / "log"
    with log.open("w") as file:
        running = subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            env=environment(hub_of_module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )

        def ask(action, *words, token="hf_token_of_user", largest_file=None):
            running.stdin.write(json.dumps([action, [str(word) for word in words], token, largest_file]) + "\n")
            running.stdin.flush()
            answer = running.stdout.readline()
            assert answer, log.read_text()
            assert "hf_token" not in answer
            return json.loads(answer)

        yield ask
        running.communicate()


@pytest.fixture(scope="module")
def first_commit(hub_of_module, process, models):
    """The commit of `user/model` that has the first model."""
    assert process("push", models[0], "user/model")[0] is None
    [commit, _] = hub_of_module.history("model", "user/model")
    config = (models[0] / "processor_config.json").read_bytes()
    commit.files["processor_config.json"] = hub_of_module.store(config, is_lfs=False)
    return commit


@pytest.fixture
def repository(hub, process, first_commit):
    """`user/model` holds the first model; the cache is empty, and no other push has happened."""
    hub.repositories["model", "user/model"].refs["refs/heads/main"] = first_commit.oid
    hub.repositories["model", "user/model"].private = False
    process("forget")
    return hub.files("model", "user/model")


def refusal(answer):
    """The error of a command that failed, which is one line."""
    code, output, errors, _ = answer
    assert (code, output) == (1, "")
    (line,) = [line for line in errors.splitlines() if line.startswith("esg-transformers: error: ")]
    assert errors.endswith(f"{line}\n")
    assert "Traceback" not in errors
    return line.removeprefix("esg-transformers: error: ")


# up


@pytest.mark.parametrize(
    ("method", "path", "fault", "message"),
    [
        ("POST", "/preupload/", 401, "401"),
        ("POST", "/preupload/", 404, "404"),
        ("POST", "/preupload/", 500, "500"),
        ("POST", "/objects/batch", 403, "403"),
        ("PUT", "/lfs/", "close", "while uploading 'model.safetensors'"),
        ("PUT", "/lfs/", 503, "while uploading 'model.safetensors'"),
        ("POST", "/commit/", 409, "409"),
        ("POST", "/commit/", 429, "429"),
        ("POST", "/commit/", "close", "disconnected|reset|closed|Broken pipe"),
    ],
)
def test_a_failed_push_of_a_model_leaves_the_old_one_whole_and_the_next_one_replaces_it(
    hub, process, models, repository, method, path, fault, message
):
    hub.verified.clear()  # as on a Hub that never saw the weights
    before = hub.history("model", "user/model")
    hub.fail(method, path, fault, times=100, retry_after=30)
    kinds, told = process("push", models[1], "user/model")[0]
    assert {"OSError", "HTTPError", "RuntimeError"} & set(kinds), kinds
    assert re.search(message, told)
    assert hub.history("model", "user/model") == before
    assert hub.files("model", "user/model") == repository
    hub.faults.clear()
    assert process("push", models[1], "user/model")[0] is None
    assert hub.files("model", "user/model")["model.safetensors"] == (models[1] / "model.safetensors").read_bytes()


def test_a_push_waits_for_as_long_as_the_hub_says_and_sends_again_what_was_cut(hub, process, models, repository):
    hub.verified.clear()
    hub.fail("POST", "/preupload/", 429, retry_after=4)
    hub.fail("PUT", "/lfs/", "close")
    answer, _, _, waits = process("push", models[1], "user/model")
    assert (answer, sorted(waits)) == (None, [1, 5])  # huggingface_hub adds a second to Retry-After
    assert hub.files("model", "user/model")["model.safetensors"] == (models[1] / "model.safetensors").read_bytes()


# down

DOWNLOADS = [
    ("GET", "/api/models/", 401, r"access token.*\(401\)\. Run `hf auth login`.*check its name"),
    ("GET", "/api/models/", 403, r"does not allow it \(403\)\. Use another token"),
    ("GET", "/api/models/", 404, r"no model.*\(404\)\. Check the name"),
    ("GET", "/api/models/", 409, r"\(409\)\. Try again"),
    ("GET", "/api/models/", 429, r"too many requests \(429\)\. Try again in 30 s"),
    ("GET", "/api/models/", 503, r"the Hub failed \(503\)\. Try again later"),
    ("GET", "/api/models/", "close", r"the connection to http://127\.0\.0\.1:\d+ failed .*Check the network"),
    ("HEAD", "/resolve/", 403, r"does not allow it \(403\)"),
    ("HEAD", "/resolve/", 502, r"the Hub failed \(502\)"),
    ("GET", "safetensors", 403, r"does not allow it \(403\)"),
    ("GET", "safetensors", 429, r"too many requests \(429\)\. Try again in 30 s"),
    ("GET", "safetensors", 500, r"the Hub failed \(500\)"),
    ("GET", "safetensors", "close", r"the connection to http://127\.0\.0\.1:\d+ failed"),
    ("GET", "safetensors", "truncate", r"the connection to http://127\.0\.0\.1:\d+ failed"),
]


@pytest.mark.parametrize(("method", "path", "fault", "message"), DOWNLOADS)
def test_a_failed_download_says_why_in_one_line_and_the_next_one_is_whole(
    hub, process, models, corpus, repository, method, path, fault, message
):
    words = ("run", "localize", "--model", "user/model", "--corpus", corpus)
    hub.fail(method, path, fault, times=1000, retry_after=30)
    told = refusal(process(*words))
    assert re.search(f"^The model user/model could not be downloaded: .*{message}", told)
    hub.faults.clear()
    code, output, _, _ = process(*words)
    assert code == 0
    assert output.startswith("test-0: ")
    assert process("load", "user/model")[0] == process("load", models[0])[0]


@pytest.mark.parametrize(("method", "path", "fault", "_"), DOWNLOADS[7:])
def test_a_model_that_python_could_not_download_is_downloaded_whole_by_the_next_call(
    hub, process, models, repository, method, path, fault, _
):
    hub.fail(method, path, fault, times=1000, retry_after=30)
    kinds, _ = process("load", "user/model")[0]
    assert {"OSError", "HTTPError"} & set(kinds), kinds
    hub.faults.clear()
    assert process("load", "user/model")[0] == process("load", models[0])[0]


@pytest.mark.parametrize("command", ["localize", "evaluate", "finetune"])
def test_every_command_with_a_model_tells_what_the_hub_refused(hub, process, corpus, repository, command, tmp_path):
    hub.repositories["model", "user/model"].private = True
    options = ("--output", tmp_path / "model") if command == "finetune" else ()
    words = ("run", command, "--model", "user/model", "--corpus", corpus, *options)
    assert re.search(r"no model.*\(404\)", refusal(process(*words, token="hf_token_of_other")))
    assert re.search(r"no access token.*\(401\)\. Run `hf auth login`", refusal(process(*words, token="")))
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_was_cut_once_goes_on(hub, process, models, repository):
    hub.fail("GET", "safetensors", "truncate")
    assert process("load", "user/model")[0] == process("load", models[0])[0]


def test_a_full_disk_is_told_and_the_download_goes_on_when_there_is_room(hub, process, models, corpus, repository):
    words = ("run", "localize", "--model", "user/model", "--corpus", corpus)
    told = refusal(process(*words, largest_file=20_000))  # bytes, less than the weights; as a disk that is full by then
    assert re.search(r"^The model user/model could not be downloaded: .*File too large", told)
    kinds, _ = process("load", "user/model", largest_file=20_000)[0]
    assert "OSError" in kinds
    assert process(*words)[0] == 0
    assert process("load", "user/model")[0] == process("load", models[0])[0]


def test_a_model_that_is_in_the_cache_is_used_when_the_hub_fails(hub, process, corpus, repository):
    words = ("run", "localize", "--model", "user/model", "--corpus", corpus)
    expected = process(*words)[:2]
    hub.fail("GET", "", 503, times=1000)
    hub.fail("HEAD", "", 503, times=1000)
    assert process(*words)[:2] == expected
