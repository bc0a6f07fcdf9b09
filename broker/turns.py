"""What lets calls start in turn: an object's gate, and the lanes of callers' threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable

from broker.connection.workers import run_safely


class Gate:
    """Lets at most `limit` jobs run at a time, in order of arrival.

    No job is started under the lock, nor from within the start of another: a thousand jobs that end at once as they
    start need no deeper stack than one.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._running = 0  # this and all below under the lock
        self._waiting: deque[Callable[[], None]] = deque()
        self._passing_on = False  # a thread is in _pass_on

    @property
    def is_open(self) -> bool:
        """Whether there is no limit: then nobody need enter."""
        return self.limit is None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a place."""
        return bool(self._waiting)

    def enter(self, start: Callable[[], None]) -> None:
        """Calls `start` when there is a place; each is followed by one `leave`."""
        if self.limit is not None:
            with self._lock:
                if self._waiting or self._running >= self.limit:
                    self._waiting.append(start)
                    return
                self._running += 1
        start()

    def leave(self) -> None:
        if self.limit is None:
            return
        with self._lock:
            self._running -= 1
            if self._passing_on or not self._waiting:
                return  # the thread that is passing on sees the place
            self._passing_on = True
        self._pass_on(self.limit)

    def _pass_on(self, limit: int) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._running >= limit:
                    self._passing_on = False
                    return
                self._running += 1
                start = self._waiting.popleft()
            run_safely(start)


class Lanes:
    """Calls of one thread through one proxy: they start in order, and oneways run one after another.

    A lane is there only while a call is in it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lanes: dict[Hashable, tuple[Gate, int]] = {}  # with the number of calls in it

    def enter(self, key: Hashable, start: Callable[[], None]) -> None:
        """Calls `start` once every call that entered before has left; each is followed by one `leave`."""
        with self._lock:
            gate, calls = self._lanes.get(key) or (Gate(1), 0)
            self._lanes[key] = (gate, calls + 1)
        gate.enter(start)

    def leave(self, key: Hashable) -> None:
        with self._lock:
            gate, calls = self._lanes[key]
            if calls > 1:
                self._lanes[key] = (gate, calls - 1)
            else:
                del self._lanes[key]
        gate.leave()

    def __len__(self) -> int:
        return len(self._lanes)
