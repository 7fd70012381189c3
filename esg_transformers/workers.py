"""Worker processes: started by spawning, untouched by Ctrl-C, and ended with their parent."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Processes that are started here stay untouched by Ctrl-C, which reaches their parent too."""
    if threading.current_thread() is not threading.main_thread():  # others may not
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
