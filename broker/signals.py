"""SIGTERM in the main thread of a program that serves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNAL_SECONDS = 0.5
"""How long the main thread waits at a time: the system may give a signal to another thread, and then Python handles it
only as this one wakes."""


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM ends what waits in the main thread as Ctrl-C does; the handler is put back. Elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
