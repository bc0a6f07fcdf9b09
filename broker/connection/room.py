"""How many calls of one connection may be unanswered: who makes more waits, and what they hold stays bounded."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MOST_UNANSWERED = 4_000
"""Calls of one connection that nobody waits for. Below the number of nested calls that the other side takes."""

WakeUp = Callable[[], None]


class Room:
    """Who waits until fewer calls are unanswered. Any thread may use it; the lock is held for moments only."""

    __slots__ = ("_lock", "_promised", "_unanswered", "_waiting")

    def __init__(self, unanswered: Callable[[], int]) -> None:
        self._unanswered = unanswered
        self._lock = threading.Lock()
        self._waiting: OrderedDict[object, WakeUp] = OrderedDict()
        self._promised = 0  # places of those who were woken and have not come yet

    @property
    def is_full(self) -> bool:
        """Whether who wants to make a call has to queue."""
        return bool(self._waiting) or self._unanswered() + self._promised >= MOST_UNANSWERED

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits until it is not full."""
        return bool(self._waiting)

    def wait(self, deadline: float | None) -> bool:
        """Waits until a call may be made; False if the deadline (time.monotonic) comes first."""
        woken = threading.Lock()
        woken.acquire()
        place = self.queue(woken.release)
        timeout = -1.0 if deadline is None else min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
        calls = False
        try:
            calls = woken.acquire(timeout=timeout)
        finally:  # Ctrl-C may come here
            self.leave(place, calls=calls)
        return calls

    def queue(self, wake_up: WakeUp) -> object:
        """Calls the function once when a call may be made: in the thread that reads, say, or at once.

        Returns a place in the queue, with which `leave` has to be called.
        """
        place = object()
        with self._lock:
            self._waiting[place] = wake_up
        self.answered()  # perhaps since a moment
        return place

    def leave(self, place: object, *, calls: bool) -> None:
        """Who had that place makes its call now, or has given up: then another one may call."""
        with self._lock:
            if self._waiting.pop(place, None) is None:
                self._promised -= 1
        if not calls:
            self.answered()

    def answered(self) -> None:
        """Fewer calls are unanswered. Half of the room is let become free, so that not each answer wakes a thread."""
        if not self._waiting:
            return
        with self._lock:
            free = MOST_UNANSWERED - self._unanswered() - self._promised
            if free < MOST_UNANSWERED // 2:
                return
            woken = [self._waiting.popitem(last=False)[1] for _ in range(min(free, len(self._waiting)))]
            self._promised += len(woken)
        for wake_up in woken:
            wake_up()
