"""The threads that run methods: daemon threads of our own, as many as needed up to a limit.

Not a ThreadPoolExecutor: its threads are joined at interpreter exit, so one method that hangs would hold the exit up.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Hashable, Iterable

from broker.connection.fairness import FairQueue
from broker.errors import Overloaded

Job = Callable[[], None]

IDLE_SECONDS = 10.0
"""How long a thread stays without work before it ends."""

_log = logging.getLogger("broker")


def start_thread(job: Job, name: str) -> None:
    """Runs a job on a daemon thread of its own. Raises Overloaded if the process can have no further thread."""
    try:
        threading.Thread(target=run_safely, args=(job,), name=name, daemon=True).start()
    except RuntimeError as error:  # the system's limit, or the interpreter is ending
        raise Overloaded(f"no thread can be started: {error}") from error


def owner_of(job: Job) -> Hashable:
    return getattr(job, "owner", None)


class _Seat:
    """Where a thread finds its next job, and waits for it while it is idle."""

    __slots__ = ("job", "woken")

    def __init__(self) -> None:
        self.job: Job | None = None
        self.woken = threading.Lock()
        self.woken.acquire()

    def take(self) -> Job | None:
        """The job; what it holds is not held here as well."""
        job, self.job = self.job, None
        return job


class Workers:
    """Runs jobs in the order given, at most `limit` at a time. Every method may be called from any thread.

    Where more jobs wait, those who own them get the threads in turn: an `owner` that a job has as an attribute, however
    many jobs it has. Those without are one owner's.

    A job is handed to the thread that became idle last, by a lock that only this thread waits for: whoever hands over
    wakes one thread, once.
    """

    def __init__(self, limit: int, name: str) -> None:
        self.limit = limit
        self.name = name
        self._lock = threading.Lock()
        self._jobs: FairQueue[Job] = FairQueue()  # those that wait because `limit` are running
        self._idle: list[_Seat] = []
        self._threads = 0
        self._guests = 0  # threads of others that run jobs of ours
        self._closed = False

    def submit(self, job: Job) -> None:
        """Runs a job, or queues it. It must not raise; what it raises all the same is logged.

        Raises Overloaded if there is no thread and none can be started.
        """
        with self._lock:
            if self._is_full:
                self._jobs.put(owner_of(job), job)
                return
            seat = self._place_locked(job)
        self._set_going(seat, job)

    def enter(self) -> bool:
        """A thread of somebody else is going to run jobs in the place of one of ours; False if all places are taken."""
        with self._lock:
            if self._threads - len(self._idle) + self._guests >= self.limit:
                return False
            self._guests += 1
            return True

    def leave(self) -> None:
        """The thread that had entered runs no further jobs."""
        with self._lock:
            self._guests -= 1
            if not self._jobs or self._is_full:
                return
            job = self._jobs.take()
            seat = self._place_locked(job)
        self._set_going(seat, job)

    @property
    def _is_full(self) -> bool:
        return self._threads - len(self._idle) + self._guests >= self.limit

    def _place_locked(self, job: Job) -> _Seat | None:
        """The seat of the idle thread that is to run the job; None for a new thread."""
        if self._idle:
            seat = self._idle.pop()
            seat.job = job
            return seat
        self._threads += 1
        return None

    def _set_going(self, seat: _Seat | None, job: Job) -> None:
        if seat is not None:
            seat.woken.release()
            return
        seat = _Seat()
        seat.job = job
        try:
            threading.Thread(target=self._work, args=(seat,), name=f"{self.name}-{self._threads}", daemon=True).start()
        except RuntimeError as error:  # the system's limit, or the interpreter is ending
            self._give_up(job, error)

    def _give_up(self, job: Job, error: RuntimeError) -> None:
        with self._lock:
            self._threads -= 1
            if self._threads > len(self._idle):  # another thread takes it when it is done
                self._jobs.put_first(owner_of(job), job)
                return
        raise Overloaded(f"no thread can be started: {error}") from error

    def close(self) -> None:
        """Lets the threads end as they become idle; queued jobs still run."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._threads -= len(idle)
        for seat in idle:
            seat.woken.release()

    @property
    def is_wanted(self) -> bool:
        """Whether jobs wait for a thread."""
        return bool(self._jobs)

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return self._threads

    def _work(self, seat: _Seat) -> None:
        job = seat.take()
        while job is not None:
            run_safely(job)
            del job  # what it holds is not held by an idle thread
            job = self._next(seat)

    def _next(self, seat: _Seat) -> Job | None:
        with self._lock:
            if self._jobs and self._threads - len(self._idle) + self._guests <= self.limit:
                return self._jobs.take()
            if self._closed:
                self._threads -= 1
                return None
            self._idle.append(seat)
        if not seat.woken.acquire(timeout=IDLE_SECONDS):
            with self._lock:
                if seat in self._idle:
                    self._idle.remove(seat)
                    self._threads -= 1
                    return None
            seat.woken.acquire()  # it was given a job just now
        return seat.take()


def run_safely(job: Job) -> None:
    """Runs a job; what it raises is logged."""
    try:
        job()
    except BaseException:  # a worker survives whatever a method does: SystemExit ends a call, never a worker
        _log.exception("a job failed")


def run_all(jobs: Iterable[Job]) -> None:
    """Runs one job after the other; what they raise is logged."""
    for job in jobs:
        run_safely(job)


connecting = Workers(limit=256, name="broker-connecting")
"""The threads that connect, for calls that no thread waits for."""
_aside = Workers(limit=1_024, name="broker-aside")


def run_aside(job: Job) -> None:
    """Runs what a reader or the timer thread must not wait for: callbacks, close() of resources, log handlers.

    Such code may block, or call back over the very connection whose reader came by it.
    """
    try:
        _aside.submit(job)
    except Overloaded:
        pass  # there is no thread to run it, nor anything else


def run_nested_late(job: Job) -> None:
    """Runs a nested call for which no thread waits any more: it must not queue, and must not be lost either."""
    try:
        start_thread(job, "broker-nested")
    except Overloaded:
        run_aside(job)


def _after_fork() -> None:
    for workers in (_aside, connecting):  # their threads are not in the child
        workers.__init__(workers.limit, workers.name)  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
