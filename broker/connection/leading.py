"""The thread that brought calls runs them itself, while that is quick.

Handing a call to another thread costs more than most calls do. So one of the threads that read, the leader, runs what
it has brought, and what the others bring meanwhile, one call after another; the others go on reading. If a call takes
long, the watchdog gives what waits behind it to the workers, and somebody else may lead.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Protocol

from broker.connection.fairness import FairQueue
from broker.connection.workers import Job, Workers, owner_of, run_safely
from broker.errors import Overloaded

PATIENCE = 0.002
"""Seconds that a call may wait behind another before the workers get it."""
HOLD = 0.0003
"""Seconds that an answer may wait for those of the calls behind it, beside the time that one call takes."""
_QUIET = 25  # looks at nothing before the watchdog goes to sleep


class Splitting(Protocol):
    """A job of many calls: while one of them takes long, the others can go on elsewhere."""

    def push(self) -> None:
        """Sends the answers that are there. From any thread."""

    def split(self) -> list[Job]:
        """What lets the calls go on that have not begun. From any thread."""


class Turn:
    """One thread's time as the leader. What it answers while further calls wait goes out together."""

    held_since = 0.0
    released = False  # the watchdog sends them, and nothing is held during this job any more
    group: Splitting | None = None  # the job that it runs, if that is many calls
    read_on: Job | None = None  # lets others read on meanwhile; under the lock of Leading

    def __init__(self, leading: Leading) -> None:
        self.leading = leading
        self.since = time.monotonic()  # when the job that it runs began
        self.held: list[Pushed] = []  # lines with answers that have not been sent

    def begin_group(self, group: Splitting) -> None:
        """The job that runs is many calls: says in `since` when each begins, and holds its answers by itself."""
        self.group = group
        if not self.leading.is_watched:
            self.leading.watch()

    def end_group(self) -> None:
        self.group = None

    def let_read(self) -> None:
        """Others read on, though there is more to do for this thread. From any thread."""
        read_on = self.leading.take_read_on(self)
        if read_on is not None:
            read_on()

    @property
    def has_more(self) -> bool:
        """Whether calls wait for the thread."""
        return bool(self.leading.ready or self.leading.brought)

    def release(self) -> None:
        """Sends what is held. From any thread."""
        held, self.held = self.held, []
        for line in held:
            line.push()


class _Local(threading.local):
    jobs: list[Job] | deque[Job] | None = None  # where quick jobs of this thread go
    turn: Turn | None = None  # while this thread leads, and holds answers back


_local = _Local()


@contextmanager
def apart() -> Iterator[None]:
    """What this thread brings meanwhile goes to workers, and what it sends goes out: it is somebody else's business
    that a thread which leads does in between."""
    before = _local.jobs, _local.turn
    _local.jobs = _local.turn = None
    try:
        yield
    finally:
        _local.jobs, _local.turn = before


def this_turn() -> Turn | None:
    """The turn of this thread, if it leads."""
    return _local.turn


class Pushed(Protocol):
    """A line, as far as it matters here."""

    def push(self) -> None:
        """Sends what is ready, if the line is free."""


def hold(line: Pushed) -> bool:
    """Whether an answer of this thread waits for those behind it: then the line is pushed as they are ready."""
    turn = _local.turn
    if turn is None or not (turn.leading.ready or turn.leading.brought):
        return False
    if not turn.held:
        turn.held_since = turn.since
    if line not in turn.held:
        turn.held.append(line)
    return not turn.released  # else the watchdog came by, perhaps just before


class Leading:
    """Runs jobs on the threads that bring them, or on workers. Every method may be called from any thread."""

    def __init__(self, workers: Workers) -> None:
        self.on_stuck: list[Callable[[], None]] = []
        """Called when the leader is found to take long: one reader fewer is there, until it is done."""
        self.stuck = 0
        """How many readers are held up by a call that takes long."""
        self._workers = workers
        self._lock = threading.Lock()
        self.ready: deque[Job] = deque()  # what the leader brought; this and the rest under the lock, it only appends
        self.brought: FairQueue[Job] = FairQueue()  # what others brought meanwhile
        self._others_next = False
        self._turn: Turn | None = None
        self._watch = threading.Lock()  # a binary semaphore: released to wake the watchdog
        self._watch.acquire()
        self.is_watched = False
        self._has_watchdog = False

    @property
    def is_wanted(self) -> bool:
        """Whether jobs wait for a worker, or for the leader."""
        return bool(self.ready) or self._workers.is_wanted

    def submit(self, job: Job, *, quick: bool) -> None:
        """Runs a job: if it is quick, on the thread that reads (if this is one), else on a worker.

        Raises Overloaded if there is no thread for it.
        """
        jobs = _local.jobs if quick else None
        if jobs is None:
            self._workers.submit(job)
        else:
            jobs.append(job)
            if jobs is self.ready:  # behind the job that this thread is running
                self.watch()

    @property
    def has_more(self) -> bool:
        """Whether jobs wait for the leader."""
        return bool(self.ready or self.brought)

    def collect(self) -> None:
        """From now on quick jobs of this thread wait for `lead`."""
        _local.jobs = []

    def hand_over(self) -> None:
        """Instead of `lead`: gives what was collected to the workers."""
        jobs, _local.jobs = _local.jobs, None
        for job in jobs or ():
            self._submit_late(job)

    def lead(self, read_on: Job | None = None) -> bool:
        """Runs what was collected, unless another thread leads, which then does.

        `read_on` lets another thread read on where these came from. Many jobs are run before that, unless one takes
        long; then it was not called, and this returns True: it is for the caller to read on.
        """
        jobs, _local.jobs = _local.jobs, None
        if not jobs:
            if read_on is not None:
                read_on()
            return False
        turn = Turn(self)
        with self._lock:
            follows = self._turn is not None
            leads = not follows and self._workers.enter()
            if leads:
                if len(jobs) > 1 or getattr(jobs[0], "is_many", False):
                    turn.read_on, read_on = read_on, None
                if len(jobs) > 1:
                    self.ready.extend(islice(jobs, 1, None))
                self._turn, self._others_next = turn, True
            elif follows:
                for job in jobs:
                    self.brought.put(owner_of(job), job)
            else:  # as many calls run as may
                jobs = [*self._take_all_locked(), *jobs]
        if read_on is not None:
            read_on()
        if leads:
            try:
                self._take_turn(turn, jobs[0])
            finally:
                self._workers.leave()
        elif follows:
            self.watch()
        else:
            for job in jobs:
                self._submit_late(job)
        return self.take_read_on(turn) is not None

    def take_read_on(self, turn: Turn) -> Job | None:
        """What lets others read on, for one to call."""
        if turn.read_on is None:
            return None
        with self._lock:
            read_on, turn.read_on = turn.read_on, None
        return read_on

    def lead_with(self, job: Job) -> None:
        """Runs a job on this thread, which is one of the workers, as the leader; or leaves it to the one that leads."""
        turn = Turn(self)
        with self._lock:
            leads = self._turn is None
            if leads:
                self._turn = turn
            else:
                self.brought.put(owner_of(job), job)
        if leads:
            self._take_turn(turn, job)
        else:
            self.watch()

    def _take_turn(self, turn: Turn, first: Job) -> None:
        _local.jobs = self.ready
        _local.turn = turn
        job: Job | None = first
        try:
            while job is not None:
                if self.ready or self.brought or turn.read_on is not None:
                    self.watch()
                turn.released = False
                run_safely(job)
                if turn.held and (not self.has_more or turn.since - turn.held_since > HOLD):
                    turn.release()
                job = self._next(turn)
        finally:
            _local.jobs = _local.turn = None
            if turn.held:
                turn.release()

    def _next(self, turn: Turn) -> Job | None:
        with self._lock:
            if self._turn is not turn:
                self.stuck -= 1
                return None
            if not self.ready and not self.brought:
                self._turn = None
                return None
            turn.since = time.monotonic()
            return self._next_locked()

    def _next_locked(self) -> Job:
        """One of the leader's own and one of the others' in turn: who asks much does not hold up who asks little."""
        if self.brought and (self._others_next or not self.ready):
            self._others_next = False
            return self.brought.take()
        self._others_next = True
        return self.ready.popleft()

    def _take_all_locked(self) -> list[Job]:
        jobs = list(self.ready)
        self.ready.clear()
        while self.brought:
            jobs.append(self.brought.take())
        return jobs

    def _submit_late(self, job: Job) -> None:
        """Gives a job to the workers that was accepted already."""
        try:
            self._workers.submit(job)
        except Overloaded:  # no thread but this one can be had
            run_safely(job)

    # ---- the watchdog

    def watch(self) -> None:
        """Has the watchdog look after the leader."""
        if self.is_watched:
            return
        with self._lock:
            start, self._has_watchdog = not self._has_watchdog, True
            wake, self.is_watched = not self.is_watched, True
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
                self.is_watched = self._is_to_be_watched_locked(self._turn)
                if self.is_watched:
                    self._watch.release()

    def _is_to_be_watched_locked(self, turn: Turn | None) -> bool:
        """Whether anybody waits for the leader."""
        if self.ready or self.brought:
            return True
        return turn is not None and (bool(turn.held) or turn.group is not None or turn.read_on is not None)

    def _look(self) -> bool:
        """Replaces a leader that takes long; returns whether nothing waits."""
        with self._lock:
            turn = self._turn
            if not self._is_to_be_watched_locked(turn):
                return True
            if turn is not None and time.monotonic() - turn.since < PATIENCE:
                return False
            group = turn.group if turn is not None else None
            waiting = bool(self.ready or self.brought)
            jobs = [*(group.split() if group is not None else ()), *self._take_all_locked()]
            if turn is not None and (waiting or jobs):
                waiting = True
                self._turn = None
                self.stuck += 1
        if group is not None:
            group.push()
        if turn is not None:
            turn.released = True
            turn.release()
            turn.let_read()
        if turn is not None and waiting:  # else they came from a job of a former leader
            for function in self.on_stuck:
                function()
        for job in jobs:
            self._submit_late(job)
        return False
