"""How many calls of one connection may be unanswered: who makes more waits, and what they hold stays bounded."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

MOST_UNANSWERED = 4_000
"""Calls of one connection that nobody waits for. Below the number of nested calls that the other side takes."""


class Room:
    """Who waits until fewer calls are unanswered. Any thread may use it; it takes no lock.

    Whoever is called back makes one call. Deques are appended to and popped under the GIL, so that the thread that
    reads an answer need not wait here.
    """

    __slots__ = ("_unanswered", "_waiting")

    def __init__(self, unanswered: Callable[[], int]) -> None:
        self._unanswered = unanswered
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def is_full(self) -> bool:
        return self._unanswered() >= MOST_UNANSWERED

    def wait(self, deadline: float | None) -> bool:
        """Waits until a call may be made; False if the deadline (time.monotonic) comes first."""
        woken = threading.Lock()
        woken.acquire()
        self.call_back(woken.release)
        timeout = -1.0 if deadline is None else min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
        try:
            return woken.acquire(timeout=timeout)
        except BaseException:  # Ctrl-C: the place is another's
            self.answered()
            raise

    def call_back(self, function: Callable[[], None]) -> None:
        """Calls the function once when a call may be made: in the thread that reads, or at once."""
        self._waiting.append(function)
        self.answered()  # perhaps since a moment

    def answered(self) -> None:
        """Fewer calls are unanswered: half of the room is let become free, so that not each answer wakes a thread."""
        waiting = self._waiting
        if not waiting:
            return
        free = MOST_UNANSWERED - self._unanswered()
        if free < MOST_UNANSWERED // 2:
            return
        for _ in range(free):
            try:
                function = waiting.popleft()
            except IndexError:
                return
            function()
