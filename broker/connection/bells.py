"""What wakes a thread that waits for an answer: each thread has a bell of its own.

Who rings lets go of the interpreter meanwhile, and so the thread that is woken finds it free. Where a lock of Python is
released, the other thread wakes up, finds the interpreter taken by who released it, and goes to sleep once more: with
32 threads on one core that costs a quarter of the calls.
"""

from __future__ import annotations

import math
import os
import select
import threading
from typing import Protocol
from weakref import WeakSet

_LOOK_SECONDS = 1.0
"""How often the main thread, while it waits, looks whether there was a signal: CPython sees one that arrives just as
the thread begins to wait when it next looks."""
_MOST_DESCRIPTORS = 128
"""Of one process; the threads beyond do with locks."""
_LONGEST_MS = 2**31 - 1

is_available: bool = hasattr(os, "eventfd")
"""Whether this system has what does not hold the interpreter."""


class Bell(Protocol):
    """Wakes one thread."""

    def ring(self) -> None:
        """Wakes the thread, or keeps it from going to sleep. From any thread, any number of times."""

    def wait(self, seconds: float | None) -> bool:
        """Sleeps until it rings; False if so many seconds pass first. It may ring for what is over: look again."""


class LockBell:
    """Of what every system has."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a binary semaphore: released by ring()
        self._lock.acquire()

    def ring(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it has rung already, and the thread has not looked yet

    def wait(self, seconds: float | None) -> bool:
        if seconds is not None:
            return self._lock.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
        if threading.get_ident() != threading.main_thread().ident:
            return self._lock.acquire()
        while not self._lock.acquire(timeout=_LOOK_SECONDS):
            pass
        return True


class EventBell:
    """Of an eventfd. Its thread alone may wait."""

    def __init__(self) -> None:
        """Raises OSError if the process has no descriptor left."""
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._is_main = threading.current_thread() is threading.main_thread()
        _bells.add(self)

    def ring(self) -> None:
        if self._descriptor >= 0:
            os.eventfd_write(self._descriptor, 1)

    def wait(self, seconds: float | None) -> bool:
        if seconds is not None:
            milliseconds = min(math.ceil(seconds * 1000), _LONGEST_MS)
            if not self._poll.poll(milliseconds):
                return milliseconds == _LONGEST_MS
        elif self._is_main:
            while not self._poll.poll(_LOOK_SECONDS * 1000):
                pass
        try:
            os.eventfd_read(self._descriptor)
        except InterruptedError:
            pass  # by a signal: then the one who waits looks, and waits again
        return True

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close


_bells: WeakSet[EventBell] = WeakSet()


class _Own(threading.local):
    bell: Bell | None = None


_own = _Own()


def own_bell() -> Bell:
    """That of the running thread."""
    bell = _own.bell
    if bell is None:
        bell = _own.bell = _new()
    return bell


def _new() -> Bell:
    if is_available and len(_bells) < _MOST_DESCRIPTORS:
        try:
            return EventBell()
        except OSError:  # there are not even so many
            pass
    return LockBell()


def _after_fork() -> None:
    """In a child process: the parent waits at its own."""
    _own.bell = None
    for bell in list(_bells):
        bell.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
