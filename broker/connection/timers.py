"""The one thread of a process that does things later: deadlines, lingering connections, slow peers.

What it runs must be short and must not block: it is shared by everything in the process.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable

_log = logging.getLogger("broker")
_SMALL = 64  # timers; below that many the cancelled ones are left in the queue


class Timer:
    """A function that will be called once; `cancel` forgets it."""

    __slots__ = ("_function", "at")

    def __init__(self, at: float, function: Callable[[], None]) -> None:
        self.at = at
        self._function: Callable[[], None] | None = function

    def cancel(self) -> None:
        self._function = None

    def fire(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            function()

    @property
    def is_cancelled(self) -> bool:
        return self._function is None


class Timers:
    """A queue of timers and its thread, which starts with the first timer."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._queue: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._sweep_at = _SMALL

    def call_at(self, at: float, function: Callable[[], None]) -> Timer:
        """Calls the function at a time of `time.monotonic`, on the timer thread. From any thread."""
        timer = Timer(at, function)
        with self._condition:
            if len(self._queue) >= self._sweep_at:
                self._sweep()
            heapq.heappush(self._queue, (at, next(self._order), timer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="broker-timers", daemon=True)
                self._thread.start()
            elif self._queue[0][2] is timer:
                self._condition.notify()
        return timer

    def call_later(self, seconds: float, function: Callable[[], None]) -> Timer:
        return self.call_at(time.monotonic() + seconds, function)

    def __len__(self) -> int:
        """How many timers are queued, those included that were cancelled and not swept out yet."""
        return len(self._queue)

    def _sweep(self) -> None:
        """Forgets cancelled timers. Most are cancelled long before their time: each call with a deadline has one."""
        self._queue = [entry for entry in self._queue if not entry[2].is_cancelled]
        heapq.heapify(self._queue)
        self._sweep_at = max(_SMALL, 2 * len(self._queue))

    def _run(self) -> None:
        while True:
            timer = self._next()
            try:
                timer.fire()
            except BaseException:  # the thread is shared by everything in the process
                _log.exception("a timer failed")
            del timer

    def _next(self) -> Timer:
        with self._condition:
            while True:
                while self._queue and self._queue[0][2].is_cancelled:
                    heapq.heappop(self._queue)
                if not self._queue:
                    self._condition.wait()
                    continue
                remaining = self._queue[0][0] - time.monotonic()
                if remaining <= 0:
                    return heapq.heappop(self._queue)[2]
                self._condition.wait(min(remaining, threading.TIMEOUT_MAX))


timers = Timers()


def _after_fork() -> None:
    timers.__init__()  # type: ignore[misc]  # the thread is not in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
