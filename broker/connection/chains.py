"""Who waits in this process, by chain: a nested call runs on the thread that waits for its chain.

Every root call gets a random chain id that travels, with its depth, into all nested calls across any number of
processes. Without this rule a pool of N workers deadlocks at depth N, and a lock that a method holds would be held by
another thread than the one that the nested call runs on.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable

from broker.connection.bells import Bell, own_bell

MAX_DEPTH = 64
"""How deep calls may nest; deeper ones are refused, so that runaway recursion ends as an error."""

Job = Callable[[], None]


_CHAIN_SIZE = 16


class _Random:
    """Random bytes, asked of the system many at a time."""

    def __init__(self) -> None:
        self.ids: deque[bytes] = deque()

    def next(self) -> bytes:
        while True:
            try:
                return self.ids.popleft()
            except IndexError:
                many = os.urandom(256 * _CHAIN_SIZE)
                self.ids.extend(many[i : i + _CHAIN_SIZE] for i in range(0, len(many), _CHAIN_SIZE))


_random = _Random()


new_chain = _random.next
"""The id of a new chain. Random, so that no stranger gets onto a waiting thread."""


def too_deep(object_id: str, member: str, chain: bytes) -> str:
    """The refusal of runaway recursion."""
    return (
        f"the call of {object_id!r}.{member} would be more than {MAX_DEPTH} calls deep in chain {chain.hex()}: "
        "methods call each other in circles"
    )


class Waiter:
    """One thread that waits, or is about to wait, for one call, and runs the nested calls of its chain meanwhile.

    It is registered before the call is sent: a nested call may arrive before the thread has come to wait.
    """

    done = False
    _bell: Bell | None = None  # that of the thread, once it has come to wait
    _registered = False  # this and the next three under _lock
    _ready = False  # no job was given to it that it has not run
    _owner: object = None  # of the job that was given to it last and is not over
    _jobs: deque[tuple[int, Job]] | None = None  # with the depth of the calls
    _depth_of_job = 0  # of the one that runs

    def __init__(self, chain: bytes, depth: int, *, alone: bool = False) -> None:
        """`alone` registers it, of a chain that nobody else knows."""
        self.chain = chain
        self.depth = depth
        if alone:
            self._registered = self._ready = True
            _waiting[chain] = [self]

    def register(self) -> None:
        """Takes nested calls from now on. `wait` or `leave` has to follow."""
        with _lock:
            if not self._registered:
                self._registered = self._ready = True
                _waiting.setdefault(self.chain, []).append(self)

    def finish(self) -> None:
        """What is waited for has come. From any thread."""
        self.done = True
        bell = self._bell
        if bell is not None:
            bell.ring()
        else:  # perhaps nobody ever comes
            with _lock:
                if self._registered:
                    self._unregister()

    def wait(self, deadline: float | None, run_elsewhere: Callable[[Job], None]) -> bool:
        """Waits until `finish`, running nested calls; False if the deadline (time.monotonic) comes first.

        What a nested call raises comes out of here. Nested calls that came too late for this thread are given to
        `run_elsewhere`.
        """
        bell = self._bell = own_bell()
        try:
            while not self.done:  # what makes it ring is looked at before: it may have rung for another waiter
                seconds = None if deadline is None else deadline - time.monotonic()
                if seconds is not None and seconds <= 0:
                    return self.done
                if self._jobs:
                    self._run_jobs()
                elif not bell.wait(seconds):
                    return self.done
            return True
        finally:
            with _lock:
                if self._registered:
                    self._unregister()
            if self._jobs:
                self.leave(run_elsewhere)

    def leave(self, run_elsewhere: Callable[[Job], None]) -> None:
        """Takes no further nested calls. From any thread, any number of times."""
        with _lock:
            if self._registered:
                self._unregister()
        while self._jobs:
            try:
                _, job = self._jobs.popleft()
            except IndexError:
                return
            run_elsewhere(job)

    def _run_jobs(self) -> None:
        jobs = self._jobs
        before, _running.waiter = _running.waiter, self
        try:
            while jobs:
                self._depth_of_job, job = jobs.popleft()
                job()
        finally:
            _running.waiter = before
        with _lock:
            self._ready, self._owner = self._registered, None

    def _unregister(self) -> None:
        """Under _lock."""
        self._registered = self._ready = False
        waiters = _waiting.get(self.chain)
        if waiters == [self]:
            del _waiting[self.chain]
        elif waiters is not None and self in waiters:  # else this is a child process, which has forgotten
            waiters.remove(self)

    def _offer(self, depth: int, job: Job, owner: object) -> bool:
        """Takes the job if this thread waits for it, or runs one of the same owner; under _lock."""
        if not self._registered or self.depth >= depth or self.done:
            return False
        if not self._ready and (owner is None or owner is not self._owner):
            return False
        self._ready, self._owner = False, owner
        if self._jobs is None:
            self._jobs = deque()
        self._jobs.append((depth, job))
        return True


class _Running(threading.local):
    waiter: Waiter | None = None  # whose jobs this thread runs


_running = _Running()
_lock = threading.Lock()
_waiting: dict[bytes, list[Waiter]] = {}  # the innermost waiter of a chain last
expected: dict[bytes, int] = {}
"""How many calls of a chain are under way that no thread waits for. Who alone has a chain may set it and remove it."""


def is_waiting(chain: bytes) -> bool:
    """Whether this process waits for a call of the chain: a thread, a future or a task."""
    return chain in _waiting or chain in expected


def expect(chain: bytes, *, alone: bool) -> None:
    """A call of the chain is under way that no thread waits for. `alone` says that there is no other in the chain."""
    if alone:
        expected[chain] = 1
        return
    with _lock:
        expected[chain] = expected.get(chain, 0) + 1


def no_longer_expect(chain: bytes, *, alone: bool) -> None:
    """The call is over."""
    if alone:
        expected.pop(chain, None)
        return
    with _lock:
        left = expected.pop(chain, 0) - 1
        if left > 0:
            expected[chain] = left


def run_nested(chain: bytes, depth: int, job: Job, owner: object = None) -> bool:
    """Gives a nested call to the thread of this process that waits for its chain; False if none is free for it.

    A job with an owner may also follow, on the same thread, one of the same owner that is still running there.
    """
    with _lock:
        takers = (waiter for waiter in reversed(_waiting.get(chain, ())) if waiter._offer(depth, job, owner))
        taker = next(takers, None)
    if taker is not None and taker._bell is not None:
        taker._bell.ring()
    return taker is not None


def answering(chain: bytes, depth: int) -> None:
    """A call is being answered. If this thread runs it as a nested one, it takes the next one from now on: that may
    arrive before the thread is back from sending the answer."""
    waiter = _running.waiter
    if waiter is not None and waiter.chain == chain and waiter._depth_of_job == depth:
        with _lock:
            waiter._ready = waiter._registered


def _after_fork() -> None:
    """In a child process: the threads that waited are not there."""
    global _lock
    _lock = threading.Lock()
    _waiting.clear()
    expected.clear()
    _random.ids.clear()  # the parent goes on with the same


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
