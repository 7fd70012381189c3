"""Commands on local folders make no connection, even without HF_HUB_OFFLINE; in fresh processes."""

import os
import subprocess
import sys

import pytest

from esg_transformers.localization.pipeline import TASK
from esg_transformers.simulation.clips import make_workshop_clips

# Python runs this at its start, in child processes too. Sockets between processes of one machine are left alone.
SITECUSTOMIZE = """
import os, sys, traceback

def refuse(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname") or (
        event in ("socket.connect", "socket.sendto") and not isinstance(arguments[1], (str, bytes))
    ):
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{event} {arguments}\\n{''.join(traceback.format_stack())}")
        raise OSError("There is no network.")

sys.addaudithook(refuse)
"""


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """`offline(code, *arguments)`: the output of a fresh process, which had no network and did not look for it."""
    folder = tmp_path_factory.mktemp("offline")
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    attempts = folder / "attempts"
    attempts.touch()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = inherited | {
        "ATTEMPTS": str(attempts),
        "HF_HOME": str(folder / "hf_home"),
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }

    def run(code, *arguments):
        words = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        assert attempts.read_text() == ""
        return done.stdout

    run.attempts = attempts
    run.environment = environment
    return run


def test_an_attempt_to_connect_is_refused_and_counted(offline):
    code = "import urllib.request; urllib.request.urlopen('http://huggingface.co', timeout=1)"
    done = subprocess.run([sys.executable, "-c", code], env=offline.environment, capture_output=True, text=True)
    assert "There is no network" in done.stderr
    assert offline.attempts.read_text().startswith("socket.")
    offline.attempts.write_text("")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Video files of 6 s: `videos/` and `annotations.json`."""
    folder = tmp_path_factory.mktemp("clips")
    make_workshop_clips(folder, {"train": 2, "validation": 2, "test": 2}, duration=6.0, num_workers=1)
    return folder


COMMANDS = """
import sys
from esg_transformers.cli.main import main
for line in sys.argv[1].splitlines():
    assert main(line.split()) == 0, line
"""
LINES = """\
corpus build --videos videos --annotations annotations.json --output corpus --num-workers 0
corpus validate --corpus corpus
corpus describe --corpus corpus --picture corpus.png
corpus simulate --train 2 --validation 1 --test 1 --output simulated
annotations convert annotations.json annotations.csv
train --corpus corpus --size tiny --epochs 1 --warmup-epochs 0 --batch-size 2 --output model
finetune --model model --corpus corpus --epochs 1 --warmup-epochs 0 --batch-size 2 --output finetuned
calibrate --model model --corpus corpus --target f1
evaluate --model model --corpus corpus --errors errors.png
localize --model model --corpus corpus --output found.json
localize --model model videos/workshop_test_0000.mp4 --to html"""

LOADERS = """
import datasets, evaluate
from transformers import AutoModel, AutoProcessor, pipeline
import esg_transformers
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.manifest import verify_corpus
from esg_transformers.evaluation import METRIC_PATH, mean_average_precision
from esg_transformers.models.esg_net.sharing_esg_net import add_code
task = sys.argv[2]
found = pipeline(task, model="model")("videos/workshop_test_0000.mp4", threshold=0.0)
AutoModel.from_pretrained("model"), AutoProcessor.from_pretrained("model")
localizer = pipeline(task, model="model")
localizer.save_pretrained("saved")
for part in (localizer.model, localizer.processor):
    add_code(part, "saved")
verify_corpus("corpus")
rows = datasets.load_dataset("corpus", split="test")
assert len(EventCorpus("corpus", "test")) == len(rows) == 2
true = [[{"start": 0.0, "end": 3.0, "label": found[0]["label"]}]]
figures = evaluate.load(METRIC_PATH).compute(predictions=[found], references=true)
assert figures == mean_average_precision([found], true)
"""
WITHOUT_THE_PACKAGE = """
import sys
sys.modules["esg_transformers"] = None  # importing it fails
import numpy as np
from transformers import pipeline
localizer = pipeline(sys.argv[1], model="saved", trust_remote_code=True)
features = {"visual_features": np.zeros((20, 175)), "audio_features": np.zeros((20, 195)), "duration": 4.2}
assert isinstance(localizer(features), list)
"""


def test_local_folders_are_made_and_used_without_asking_for_the_network(offline, clips, monkeypatch):
    monkeypatch.chdir(clips)
    offline(COMMANDS + LOADERS, LINES, TASK)
    offline(WITHOUT_THE_PACKAGE, TASK)
    made = {"corpus", "simulated", "annotations.csv", "model", "finetuned", "saved"}
    made |= {"found.json", "workshop_test_0000.html"}
    assert made <= {path.name for path in clips.iterdir()}
