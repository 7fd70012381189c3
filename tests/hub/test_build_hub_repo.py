"""Pushing what conversion/build_hub_repo.py builds, and loading it back."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_server import Repository
from transformers import AutoConfig, AutoModel, AutoProcessor

import esg_transformers  # noqa: F401 (registers the models)

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "conversion" / "build_hub_repo.py"
HUB_CONFIG = ROOT / "hub_configs" / "esg-net-tiny-workshop"


@pytest.fixture(scope="module")
def first_push(hub_of_module, environment, tmp_path_factory):
    """The command line as people run it, with random weights: what it printed, and the folder it built and pushed."""
    folder = tmp_path_factory.mktemp("first")
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.from_pretrained(HUB_CONFIG)).save_pretrained(folder / "weights")
    AutoProcessor.from_pretrained(HUB_CONFIG).save_pretrained(folder / "weights")
    words = [SCRIPT, folder / "weights", HUB_CONFIG, folder / "built", "--push", "user/tiny", "--private"]
    done = subprocess.run(
        [sys.executable, *map(str, words)], env=environment(hub_of_module), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, folder / "built"


PUSH = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from build_hub_repo import push
answers = []
for folder, repo_id, options in json.loads(sys.argv[2]):
    try:
        answers.append(push(Path(folder), repo_id, **options))
    except (ValueError, OSError) as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def push(hub_of_module, python):
    """`push([FOLDER, NAME, OPTIONS], ...)`: a URL or an error for each of these pushes of one fresh process."""

    def run(*pushes):
        words = json.dumps([[str(folder), repo_id, options] for folder, repo_id, options in pushes])
        return python(hub_of_module, PUSH, SCRIPT.parent, words)

    return run


def pushed(hub, repo_id, revision="main"):
    files = hub.files("model", repo_id, revision)
    del files[".gitattributes"]
    return files


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


LOAD = """
import hashlib, json, sys
package = sys.argv[1]
if package == "without":
    sys.modules["esg_transformers"] = None  # importing it fails
else:
    import esg_transformers
import torch
from transformers import AutoModel, AutoProcessor
trusted = {"trust_remote_code": True} if package == "without" else {}
model = AutoModel.from_pretrained("user/tiny", **trusted).eval()
processor = AutoProcessor.from_pretrained("user/tiny", **trusted)
generator = torch.Generator().manual_seed(0)
sizes = (processor.visual_size, processor.audio_size)
with torch.inference_mode():
    outputs = model(**processor(*(torch.randn(40, size, generator=generator) for size in sizes)))
[events] = processor.post_process_event_localization(outputs)
tensors = {**model.state_dict(), **events, "logits": outputs.logits, "offsets": outputs.offsets}
digests = {name: hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest() for name, tensor in tensors.items()}
print(json.dumps([type(model).__module__.partition(".")[0], digests]))
"""


def test_what_is_built_is_pushed_in_one_commit_and_loads_with_the_package_and_without(hub, first_push, python):
    printed, built = first_push
    head, start = hub.history("model", "user/tiny")
    assert printed.splitlines()[1] == f"{built} is at {hub.endpoint}/user/tiny/commit/{head.oid}"
    assert start.files.keys() == {".gitattributes"}
    assert pushed(hub, "user/tiny") == contents(built)
    assert hub.repositories["model", "user/tiny"].private
    (alone, without), (installed, with_it) = python(hub, LOAD, "without"), python(hub, LOAD, "with")
    assert (alone, installed) == ("transformers_modules", "esg_transformers")
    assert without == with_it


def test_later_pushes_change_what_differs_and_nothing_else(hub, first_push, push, tmp_path):
    built = first_push[1]
    newer = shutil.copytree(built, tmp_path / "newer")
    (newer / "model.safetensors").rename(newer / "model-00001-of-00001.safetensors")
    (newer / "model.safetensors.index.json").write_text("{}")
    (newer / "nms_esg_net.py").unlink()
    (newer / "README.md").write_text("another card")
    same, branch, again, changed, proposed = push(
        [built, "user/later", {}],
        [built, "user/later", {"revision": "draft"}],
        [built, "user/later", {}],
        [newer, "user/later", {"revision": "draft"}],
        [newer, "user/later", {"create_pr": True}],
    )
    assert len(hub.history("model", "user/later")) == 2  # the Hub's own first, and one push
    assert same == again == branch
    assert pushed(hub, "user/later") == contents(built)
    assert re.search("/commit/", changed) and len(hub.history("model", "user/later", "draft")) == 3
    assert pushed(hub, "user/later", "draft") == contents(newer)
    assert proposed == f"{hub.endpoint}/user/later/discussions/1"
    assert pushed(hub, "user/later", "refs/pr/1") == contents(newer)


def test_files_of_others_stay_and_repositories_of_others_are_left_alone(hub, first_push, push):
    built = first_push[1]
    mine = hub.store(b"mine", is_lfs=False)
    earlier = ("SHA256SUMS", "config.json", "modeling_i3d.py", "model-00001-of-00002.safetensors")
    for repo_id, names in (
        ("user/shared", (*earlier, "handler.py", "notes.txt")),
        ("user/other", ("config.json", "model.safetensors")),
    ):
        repository = hub.repositories["model", repo_id] = Repository(private=False)
        repository.add("refs/heads/main", None, dict.fromkeys((".gitattributes", *names), mine), "user", "mine")
    hub.fail("POST", "user/faulty/commit/", 412)
    shared, other, foreign, faulty, private = push(
        [built, "user/shared", {}],
        [built, "user/other", {}],
        [built, "other/tiny", {}],
        [built, "user/faulty", {}],
        [built, "user/shared", {"private": True}],
    )
    assert "/commit/" in shared
    assert pushed(hub, "user/shared") == contents(built) | {"handler.py": b"mine", "notes.txt": b"mine"}
    assert re.match("user/other holds files .*SHA256SUMS.* not a built model", other)
    assert foreign.startswith("The built model could not be pushed to other/tiny: ")
    assert faulty.startswith("The built model could not be pushed to user/faulty: ") and "changed it" in faulty
    assert pushed(hub, "user/faulty") == {}
    assert "user/shared exists and is public" in private
