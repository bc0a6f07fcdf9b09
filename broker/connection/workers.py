"""The threads that run methods: daemon threads of our own, as many as needed up to a limit.

Not a ThreadPoolExecutor: its threads are joined at interpreter exit, so one method that hangs would hold the exit up.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

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


class Workers:
    """Runs jobs in the order given, on at most `limit` threads. Every method may be called from any thread."""

    def __init__(self, limit: int, name: str) -> None:
        self.limit = limit
        self._name = name
        self._jobs: deque[Job] = deque()
        self._condition = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._closed = False

    def submit(self, job: Job) -> None:
        """Queues a job. It must not raise; what it raises all the same is logged.

        Raises Overloaded if there is no thread and none can be started.
        """
        with self._condition:
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._condition.notify()
                return
            if self._threads >= self.limit:
                return
            self._threads += 1
            number = self._threads
        try:
            threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True).start()
        except RuntimeError as error:  # the system's limit, or the interpreter is ending
            self._give_up(job, error)

    def _give_up(self, job: Job, error: RuntimeError) -> None:
        with self._condition:
            self._threads -= 1
            if self._threads or job not in self._jobs:
                return  # another thread takes it, or has
            self._jobs.remove(job)
        raise Overloaded(f"no thread can be started: {error}") from error

    def close(self) -> None:
        """Lets the threads end as they become idle; queued jobs still run."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def saturated(self) -> bool:
        """Whether what is submitted now has to wait until a job is over."""
        return self._threads >= self.limit and not self._idle

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return self._threads

    def _work(self) -> None:
        while (job := self._next()) is not None:
            run_safely(job)
            del job

    def _next(self) -> Job | None:
        with self._condition:
            give_up = time.monotonic() + IDLE_SECONDS
            while not self._jobs:
                remaining = give_up - time.monotonic()
                if self._closed or remaining <= 0:
                    self._threads -= 1
                    return None
                self._idle += 1
                try:
                    self._condition.wait(remaining)
                finally:
                    self._idle -= 1
            return self._jobs.popleft()


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
    _aside.__init__(_aside.limit, "broker-aside")  # type: ignore[misc]  # its threads are not in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
