"""The threads that run what users have given to `add_done_callback`."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Protocol

from broker.connection.timers import timers
from broker.connection.workers import run_aside

_PATIENCE = 0.02  # seconds that one callback may hold up the others before a further thread helps


class HasCallbacks(Protocol):
    def run_callbacks(self) -> None:
        """Runs the callbacks; raises nothing."""


class CallbackThreads:
    """Runs callbacks in the order in which their futures were done, on one thread as long as none of them takes long.

    `put` may be called by any thread, readers included: it hands over many with one wake-up.
    """

    def __init__(self) -> None:
        self._done: deque[HasCallbacks] = deque()
        self._lock = threading.Lock()
        self._running = 0  # threads; under the lock
        self._began = 0.0  # when a thread last began a callback
        self._watching = False

    def put(self, future: HasCallbacks) -> None:
        self._done.append(future)
        if not self._running:
            self._help(0)

    def _help(self, running: int) -> None:
        """Takes a further thread, if there are no more than so many."""
        with self._lock:
            if self._running > running or not self._done:
                return
            self._running += 1
        run_aside(self._run)

    def _run(self) -> None:
        if not self._watching:
            self._watching = True
            timers.call_later(_PATIENCE, self._watch)
        while True:
            try:
                future = self._done.popleft()
            except IndexError:
                with self._lock:
                    if self._done:  # since a moment, and `put` saw this thread
                        continue
                    self._running -= 1
                return
            self._began = time.monotonic()
            future.run_callbacks()

    def _watch(self) -> None:
        """Lets another thread help where callbacks wait for one that takes long."""
        running = self._running
        if not running:
            self._watching = False
            return
        if self._done and time.monotonic() - self._began > _PATIENCE:
            self._help(running)
        timers.call_later(_PATIENCE, self._watch)


callback_threads = CallbackThreads()


def _after_fork() -> None:
    callback_threads.__init__()  # type: ignore[misc]  # its threads are not in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
