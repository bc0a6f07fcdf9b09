"""The thread that brought calls runs them itself, while that is quick.

Handing a call to another thread costs more than most calls do. So one of the threads that read, the leader, runs what
it has brought, and what the others bring meanwhile, one call after another; the others go on reading. If a call takes
long, the watchdog gives what waits behind it to the workers, and somebody else may lead.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from broker.connection.fairness import FairQueue
from broker.connection.workers import Job, Workers, owner_of, run_safely
from broker.errors import Overloaded

PATIENCE = 0.002
"""Seconds that a call may wait behind another before the workers get it."""
_QUIET = 25  # looks at nothing before the watchdog goes to sleep


class _Local(threading.local):
    jobs: list[Job] | deque[Job] | None = None  # where quick jobs of this thread go


class _Turn:
    """One thread's time as the leader."""

    __slots__ = ("since",)

    def __init__(self) -> None:
        self.since = time.monotonic()  # when the job that it runs began


class Leading:
    """Runs jobs on the threads that bring them, or on workers. Every method may be called from any thread."""

    def __init__(self, workers: Workers) -> None:
        self.on_stuck: Callable[[], None] = lambda: None
        """Called when the leader is found to take long: one reader fewer is there, until it is done."""
        self.stuck = 0
        """How many readers are held up by a call that takes long."""
        self._workers = workers
        self._local = _Local()
        self._lock = threading.Lock()
        self._ready: deque[Job] = deque()  # what the leader brought; this and the rest under the lock, it only appends
        self._brought: FairQueue[Job] = FairQueue()  # what others brought meanwhile
        self._others_next = False
        self._turn: _Turn | None = None
        self._watch = threading.Lock()  # a binary semaphore: released to wake the watchdog
        self._watch.acquire()
        self._watched = False
        self._has_watchdog = False

    @property
    def is_wanted(self) -> bool:
        """Whether jobs wait for a worker, or for the leader."""
        return bool(self._ready) or self._workers.is_wanted

    def submit(self, job: Job, *, quick: bool) -> None:
        """Runs a job: if it is quick, on the thread that reads (if this is one), else on a worker.

        Raises Overloaded if there is no thread for it.
        """
        jobs = self._local.jobs if quick else None
        if jobs is None:
            self._workers.submit(job)
        else:
            jobs.append(job)
            if jobs is self._ready:  # behind the job that this thread is running
                self._watch_leader()

    def collect(self) -> None:
        """From now on quick jobs of this thread wait for `lead`."""
        self._local.jobs = []

    def hand_over(self) -> None:
        """Instead of `lead`: gives what was collected to the workers."""
        jobs, self._local.jobs = self._local.jobs, None
        for job in jobs or ():
            self._submit_late(job)

    def lead(self) -> None:
        """Runs what was collected, unless another thread leads, which then does."""
        jobs, self._local.jobs = self._local.jobs, None
        if not jobs:
            return
        turn = _Turn()
        with self._lock:
            follows = self._turn is not None
            leads = not follows and self._workers.enter()
            if leads:
                self._ready.extend(jobs)
                self._turn = turn
            elif follows:
                for job in jobs:
                    self._brought.put(owner_of(job), job)
            else:  # as many calls run as may
                jobs = [*self._take_all_locked(), *jobs]
        if leads:
            self._take_turn(turn)
        elif follows:
            self._watch_leader()
        else:
            for job in jobs:
                self._submit_late(job)

    def _take_turn(self, turn: _Turn) -> None:
        self._local.jobs = self._ready
        try:
            while (job := self._next(turn)) is not None:
                if self._ready or self._brought:
                    self._watch_leader()
                run_safely(job)
        finally:
            self._local.jobs = None
            self._workers.leave()

    def _next(self, turn: _Turn) -> Job | None:
        with self._lock:
            if self._turn is not turn:
                self.stuck -= 1
                return None
            job = self._next_locked()
            if job is None:
                self._turn = None
            else:
                turn.since = time.monotonic()
            return job

    def _next_locked(self) -> Job | None:
        """One of the leader's own and one of the others' in turn: who asks much does not hold up who asks little."""
        if self._brought and (self._others_next or not self._ready):
            self._others_next = False
            return self._brought.take()
        self._others_next = True
        return self._ready.popleft() if self._ready else None

    def _take_all_locked(self) -> list[Job]:
        jobs = list(self._ready)
        self._ready.clear()
        while self._brought:
            jobs.append(self._brought.take())
        return jobs

    def _submit_late(self, job: Job) -> None:
        """Gives a job to the workers that was accepted already."""
        try:
            self._workers.submit(job)
        except Overloaded:  # no thread but this one can be had
            run_safely(job)

    # ---- the watchdog

    def _watch_leader(self) -> None:
        if self._watched:
            return
        with self._lock:
            start, self._has_watchdog = not self._has_watchdog, True
            wake, self._watched = not self._watched, True
        if not wake:
            return
        if start:
            threading.Thread(target=self._guard, name="broker-watchdog", daemon=True).start()
        self._watch.release()

    def _guard(self) -> None:
        while True:
            self._watch.acquire()
            quiet = 0
            while quiet < _QUIET:
                time.sleep(PATIENCE / 2)
                quiet = quiet + 1 if self._look() else 0
            with self._lock:
                self._watched = bool(self._ready or self._brought)
                if self._watched:
                    self._watch.release()

    def _look(self) -> bool:
        """Replaces a leader that takes long; returns whether nothing waits."""
        with self._lock:
            if not (self._ready or self._brought):
                return True
            turn = self._turn
            if turn is not None and time.monotonic() - turn.since < PATIENCE:
                return False
            jobs = self._take_all_locked()
            if turn is not None:
                self._turn = None
                self.stuck += 1
        if turn is not None:  # else they came from a job of a former leader
            self.on_stuck()
        for job in jobs:
            self._submit_late(job)
        return False
