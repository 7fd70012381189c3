import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from esg_transformers.workers import ignoring_interrupts, spawn_context

pytestmark = pytest.mark.slow

# A worker that would sleep for a minute; its parent prints the worker's process id.
PARENT = """
import time
from esg_transformers.workers import end_with_parent, ignoring_interrupts, spawn_context

def work(ready):
    end_with_parent()
    ready.send(None)
    time.sleep(60)

if __name__ == "__main__":
    context = spawn_context()
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,))
    with ignoring_interrupts():
        process.start()
    ours.recv()
    print(process.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def parent(tmp_path):
    """A process with one worker, and the id of the worker."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as process:
        yield process, int(process.stdout.readline())
        process.kill()


def is_running(pid: int, seconds: float) -> bool:
    """True if a process still runs after so many seconds."""
    for _ in range(round(seconds / 0.05)):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def test_a_worker_ends_when_its_parent_is_killed(parent):
    process, worker = parent
    process.kill()
    assert not is_running(worker, seconds=20)


def test_a_worker_goes_on_after_an_interrupt(parent):
    _, worker = parent
    os.kill(worker, signal.SIGINT)
    assert is_running(worker, seconds=0.5)


def test_an_interrupt_is_ignored_inside_and_handled_again_outside():
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), ignoring_interrupts():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) == handler


def test_another_thread_leaves_the_handler_of_interrupts_as_it_is():
    handler, seen = signal.getsignal(signal.SIGINT), []

    def start():
        with ignoring_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert seen == [handler]


def test_workers_are_spawned():
    assert spawn_context().get_start_method() == "spawn"


@pytest.mark.parametrize("module", ["files", "workers", "hub"])
def test_a_module_of_the_ground_floor_imports_no_heavy_package(module):
    code = f"""if True:
        import importlib.util, sys
        spec = importlib.util.find_spec("esg_transformers")
        path = spec.submodule_search_locations[0] + "/{module}.py"
        spec = importlib.util.spec_from_file_location("{module}", path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        print(*{{"torch", "numpy", "matplotlib", "transformers", "huggingface_hub", "av"}} & sys.modules.keys())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split() == [], done.stderr
