"""Worker processes: spawned, unaffected by Ctrl-C, and ended with their parent."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.context import SpawnContext


def spawn_context() -> SpawnContext:
    """The `multiprocessing` context for worker processes.

    They are spawned, not forked: the parent may hold threads (torch, FFmpeg, Arrow) that do not survive a fork.
    """
    return get_context("spawn")


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Context manager: processes started inside ignore Ctrl-C, which the terminal sends to parent and workers alike.

    The parent then decides how they end. Outside the main thread, where signal handlers cannot be set, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def end_with_parent() -> None:
    """End this worker process, with exit code 1, as soon as its parent has ended, even by `kill -9`.

    To be called once, at the start of the worker; it returns at once.
    """
    parent = parent_process()
    assert parent is not None, "only worker processes have a parent to end with"

    def wait() -> None:
        parent.join()
        os._exit(1)  # whatever the main thread is doing

    threading.Thread(target=wait, daemon=True).start()
