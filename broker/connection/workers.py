"""The threads that run methods: daemon threads of our own, as many as needed up to a limit.

Not a ThreadPoolExecutor: its threads are joined at interpreter exit, so one method that hangs would hold the exit up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]

IDLE_SECONDS = 10.0
"""How long a thread stays without work before it ends."""

_log = logging.getLogger("broker")


def start_thread(job: Job, name: str) -> None:
    """Runs a job on a daemon thread of its own."""
    threading.Thread(target=_run_safely, args=(job,), name=name, daemon=True).start()


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
        """Queues a job. It must not raise; what it raises all the same is logged."""
        with self._condition:
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._condition.notify()
                return
            if self._threads >= self.limit:
                return
            self._threads += 1
            number = self._threads
        threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True).start()

    def close(self) -> None:
        """Lets the threads end as they become idle; queued jobs still run."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return self._threads

    def _work(self) -> None:
        while (job := self._next()) is not None:
            _run_safely(job)
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


def _run_safely(job: Job) -> None:
    try:
        job()
    except BaseException:  # a worker survives whatever a method does: SystemExit ends a call, never a worker
        _log.exception("a job failed")
