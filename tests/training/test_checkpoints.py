import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from esg_transformers.training.arguments import LocalizationTrainingArguments
from esg_transformers.training.loop import train

pytestmark = pytest.mark.slow

ARGUMENTS = LocalizationTrainingArguments(
    epochs=3, warmup_epochs=1, learning_rate=5e-3, batch_size=8, max_steps=32, checkpoint_steps=2, tracker="none"
)

# A process that has everything imported and forks a run for each line that it reads: a run starts at once and can be
# killed alone. "moment" names a function: before its n-th call, the run sends itself the signal "kind".
RUNS = """
import json, os, signal, sys, time
import torch
from esg_transformers.training import checkpoints, loop
from esg_transformers.training.arguments import LocalizationTrainingArguments

sys.path.insert(0, sys.argv[1])
from simulated_videos import SimulatedVideos as videos, small_model

MOMENTS = {"train": (loop.AveragedWeights, "update"), "evaluate": (loop, "evaluate_dataset"),
           "write": (checkpoints, "save_file"), "rename": (checkpoints.Path, "rename"), "save": (loop, "_save_model"),
           "sign": (checkpoints, "sha256_of")}

def run(output, arguments, moment, count, kind):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process started in the background ignores it
    if moment:
        owner, name = MOMENTS[moment]
        function, left = getattr(owner, name), [count]
        def killing(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), kind)
            return function(*args, **kwargs)
        setattr(owner, name, killing)
    sets = videos(32, seed=0), videos(9, seed=1)
    loop.train(*small_model(), *sets, output, LocalizationTrainingArguments(**arguments))

for line in sys.stdin:
    request = json.loads(line)
    pid = os.fork()
    if pid == 0:
        try:
            run(**request)
        except BaseException as error:
            print(type(error), error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """`start(output, arguments, seconds, moment, count, kind)`: exit code of a run, which may be killed.

    It is killed after `seconds`, or by the signal `kind` before the call of that `count` at `moment`.
    """
    script = tmp_path_factory.mktemp("runs") / "runs.py"
    script.write_text(RUNS)
    log = script.with_suffix(".log").open("w")
    server = subprocess.Popen(
        [sys.executable, str(script), str(Path(__file__).parents[1])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip

    def start(output, arguments=ARGUMENTS, seconds=None, moment=None, count=1, kind=signal.SIGKILL):
        request = {"output": str(output), "arguments": vars(arguments), "moment": moment, "count": count, "kind": kind}
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        pid = int(server.stdout.readline())
        if seconds is not None:
            time.sleep(seconds)
            with suppress(ProcessLookupError):  # it has ended
                os.kill(pid, signal.SIGKILL)
        return int(server.stdout.readline())

    yield start
    server.stdin.close()
    server.wait(30)
    log.close()


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """The output of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder) == 0
    return folder


@pytest.fixture(scope="module")
def seconds_of_a_run(start, tmp_path_factory):
    begin = time.perf_counter()
    assert start(tmp_path_factory.mktemp("timed")) == 0
    return time.perf_counter() - begin


def content_of(folder):
    """Contents of all files, by their paths."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_run(folder, other):
    found, expected = content_of(folder), content_of(other)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


@pytest.mark.timeout(900)
def test_a_run_killed_twenty_times_at_random_ends_at_the_same_bits(start, undisturbed, seconds_of_a_run, tmp_path):
    chance, kills, rounds = random.Random(0), 0, 0
    while kills < 20:
        output, rounds = tmp_path / f"{rounds}", rounds + 1
        while (code := start(output, seconds=chance.uniform(0.02, 1.1) * seconds_of_a_run)) != 0:
            assert code == -signal.SIGKILL
            kills += 1
        assert_same_run(output, undisturbed)


@pytest.mark.parametrize(
    ("moment", "count"),
    [
        ("train", 3),
        ("evaluate", 1),
        ("evaluate", 2),
        ("write", 2),
        ("write", 6),
        ("sign", 3),
        ("rename", 2),
        ("save", 1),
    ],
)
def test_a_run_killed_in_a_given_moment_ends_at_the_same_bits(start, undisturbed, tmp_path, moment, count):
    assert start(tmp_path / "run", moment=moment, count=count) == -signal.SIGKILL
    assert start(tmp_path / "run") == 0
    assert_same_run(tmp_path / "run", undisturbed)


@pytest.mark.parametrize(("moment", "count"), [("train", 3), ("write", 5), ("save", 1)])
def test_a_run_that_is_interrupted_leaves_nothing_half_written_and_goes_on(start, undisturbed, tmp_path, moment, count):
    assert start(tmp_path / "run", moment=moment, count=count, kind=signal.SIGINT) == 1
    assert not [path for path in (tmp_path / "run").rglob("*") if path.name.startswith(".")]
    assert start(tmp_path / "run") == 0
    assert_same_run(tmp_path / "run", undisturbed)


def killed_after_two_checkpoints(start, output):
    """Checkpoints of step 2 and step 4, the end of the first epoch."""
    assert start(output, moment="train", count=6) == -signal.SIGKILL
    assert [path.name for path in sorted((output / "checkpoints").glob("step-*"))] == ["step-00000002", "step-00000004"]


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "no state"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(start, undisturbed, tmp_path, damage):
    output = tmp_path / "run"
    killed_after_two_checkpoints(start, output)
    last = output / "checkpoints" / "step-00000004"
    content = (last / "optimizer.safetensors").read_bytes()
    if damage == "truncated":
        (last / "optimizer.safetensors").write_bytes(content[:-1])
    elif damage == "changed":
        (last / "optimizer.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        (last / "average.safetensors").unlink()
    else:
        (last / "state.json").write_text("{")
    assert start(output) == 0
    assert_same_run(output, undisturbed)


def test_checkpoints_of_another_run_are_refused_by_what_differs(tmp_path, simulated, small_model):
    sets = simulated(8), simulated(3)
    arguments = replace(ARGUMENTS, epochs=2)
    train(*small_model(), *sets, tmp_path, arguments)
    for changed, message in (
        (replace(arguments, learning_rate=1e-3), r"learning_rate was 0\.005 and is 0\.001"),
        (replace(arguments, epochs=5, seed=1), "epochs was 2 and is 5; seed was 0 and is 1"),
    ):
        with pytest.raises(ValueError, match=f"step-00000002 .*of another run: {message}") as refusal:
            train(*small_model(), *sets, tmp_path, changed)
        assert "output folder" in str(refusal.value) and "settings" in str(refusal.value)
    with pytest.raises(ValueError, match="of another run: the model was"):
        train(*small_model(hidden_size=16), *sets, tmp_path, arguments)
    with pytest.raises(ValueError, match="of another run: the training videos was"):
        train(*small_model(), simulated(9), simulated(3), tmp_path, arguments)


def test_settings_that_decide_nothing_may_change(tmp_path, simulated, small_model):
    arguments = replace(ARGUMENTS, epochs=2)
    progress = train(*small_model(), simulated(8), simulated(3), tmp_path, arguments)
    changed = replace(arguments, checkpoint_steps=7, keep_checkpoints=5, eval_batch_size=1)
    assert train(*small_model(), simulated(8), simulated(3), tmp_path, changed) == progress


def test_a_full_disk_ends_the_run_and_leaves_the_last_good_checkpoint(tmp_path, simulated, small_model):
    sets = simulated(32), simulated(3)
    train(*small_model(), *sets, tmp_path, replace(ARGUMENTS, checkpoint_steps=100, epochs=2))
    (tmp_path / "checkpoints" / "step-00000008").rename(tmp_path / "later")
    before = content_of(tmp_path / "checkpoints")
    largest = max(path.stat().st_size for path in (tmp_path / "checkpoints").rglob("*"))
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails, as on a disk that is full
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, was[1]))
    try:
        with pytest.raises(OSError, match=r"step \d+ cannot be written to .*checkpoints"):
            train(*small_model(), *sets, tmp_path, replace(ARGUMENTS, checkpoint_steps=3, epochs=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
        signal.signal(signal.SIGXFSZ, handler)
    assert content_of(tmp_path / "checkpoints") == before


def test_a_checkpoint_holds_the_average_beside_the_weights_and_nothing_to_unpickle(undisturbed):
    checkpoint = undisturbed / "checkpoints" / "step-00000012"
    assert {path.name for path in checkpoint.iterdir()} == {
        "model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json",
    }  # fmt: skip
    weights, average = load_file(checkpoint / "model.safetensors"), load_file(checkpoint / "average.safetensors")
    assert weights.keys() == average.keys()
    assert not torch.equal(weights["level_scale"], average["level_scale"])
    assert sorted(path.name for path in (undisturbed / "checkpoints").iterdir()) == ["step-00000010", "step-00000012"]
