"""The calls that a daemon has taken and not answered: held until it starts, counted, waited for as it ends.

A call counts toward the limits until its answer is about to go out, for who has the answer may call again; the end of
the daemon waits until it has gone out.

A session that ends leaves something behind as long as one of its calls is under way: what such a call still tracks, or
makes, goes with the last of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

from broker.connection.engine import Connection
from broker.connection.timers import timers
from broker.connection.workers import run_aside
from broker.dispatch.job import Job, Session
from broker.objects import Sessions, SessionState

_log = logging.getLogger("broker")


class UnderWay:
    """The calls of one daemon that are under way. Every method may be called from any thread.

    `_lock` guards all that changes in here, but for `answering` and `answering_some`, which take no lock. Nothing of a
    user runs under it: sessions are closed aside.
    """

    def __init__(self, sessions: Sessions, location: str, *, few: int, most: int) -> None:
        """At most `most` calls may be under way. While fewer than `few` are, no other limit is reached either."""
        self.draining = False
        self._most = most
        self._over = False  # it has drained: nothing is taken any more
        self._few = few
        self._sessions = sessions
        self.callers_with_sessions = sessions.of_connections
        """For whom `keeps` may say yes."""
        self._location = location
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._held: list[Job] | None = []  # until the daemon starts
        self._jobs: set[Job] = set()
        self._counted: set[Job] = set()  # jobs of one call that count toward the limits
        self._in_groups = 0  # calls of the other jobs that do
        self._answered: deque[tuple[Job, int]] = deque()  # so many of those do no longer
        self._ended: dict[Session, set[Job]] = {}  # sessions that ended with calls under way

    def is_full(self) -> bool:
        """Whether as many calls are under way as may be. Nested ones do not count."""
        if len(self._counted) + self._in_groups < self._most:
            return False
        with self._lock:
            return self._count_locked() >= self._most

    def _count_locked(self) -> int:
        self._settle_locked()
        return len(self._counted) + self._in_groups

    def _count_in_locked(self, job: Job) -> None:
        if job.is_many:
            self._in_groups += job.weight
        else:
            self._counted.add(job)

    def _settle_locked(self) -> None:
        while self._answered:
            job, count = self._answered.popleft()
            count = min(count, job.weight)  # none is left of a job that is over
            job.weight -= count
            self._in_groups -= count

    def count(self) -> tuple[int, int, int]:
        """How many calls there are, how many of them have not started, and how many send items."""
        with self._lock:
            self._settle_locked()
            jobs = list(self._jobs)
        return sum(job.weight for job in jobs), sum(job.waiting for job in jobs), sum(job.streams for job in jobs)

    # ---- calls

    def add(self, job: Job) -> bool:
        """Takes a call; False if it is held until `release`."""
        with self._lock:
            self._jobs.add(job)
            if not job.call.request.is_nested:
                self._count_in_locked(job)
            if self._held is None:
                return True
            self._held.append(job)
            if len(self._held) == 1:
                timers.call_later(1.0, self._tell_that_calls_wait)
            return False

    def add_running(self, job: Job) -> bool:
        """Takes a job that may run at once; False if none may, or limits have to be asked about."""
        with self._lock:
            if self._held is not None or self.draining:
                return False
            room = self._few - job.weight
            if len(self._counted) + self._in_groups > room and self._count_locked() > room:
                return False
            self._jobs.add(job)
            if job.is_many:
                self._in_groups += job.weight
            else:
                self._counted.add(job)
            return True

    def add_part(self, part: Job, group: Job) -> None:
        """Calls of a job that is many are a job of their own from now on."""
        with self._lock:
            self._settle_locked()
            self._jobs.add(part)
            self._count_in_locked(part)  # first: who looks without the lock finds too many rather than too few
            moved = min(part.weight, group.weight)
            group.weight -= moved
            self._in_groups -= moved

    def answering(self, job: Job) -> None:
        """The answer of a call is about to go out: it counts toward the limits no longer."""
        self._counted.discard(job)

    def answering_some(self, group: Job, count: int) -> None:
        """The answers of so many calls of a job are about to go out."""
        self._answered.append((group, count))

    def _tell_that_calls_wait(self) -> None:
        held, location = len(self._held or ()), self._location
        if held:
            run_aside(
                lambda: _log.warning(
                    "%s at %s: the daemon has not been started (start() or request_loop())",
                    "1 call waits" if held == 1 else f"{held} calls wait",
                    location,
                )
            )

    def release(self) -> Iterator[Job]:
        """The calls that were held, in order, and those that arrive meanwhile; none is held any more."""
        while True:
            with self._lock:
                if not self._held:
                    self._held = None
                    return
                held, self._held = self._held, []  # what arrives meanwhile keeps its place behind these
            yield from held

    def drain(self) -> list[Job]:
        """From now on the daemon is draining. Returns the calls that were held."""
        with self._lock:
            self.draining = True
            held, self._held = self._held or [], None
            return held

    def streams(self) -> list[Job]:
        """The calls that send items."""
        with self._lock:
            return [job for job in self._jobs if job.streams]

    def wait(self, deadline: float) -> list[Job]:
        """Waits until no call is under way, or for the deadline (time.monotonic); returns those that are left."""
        with self._lock:
            self._idle.wait_for(lambda: not self._jobs, max(0.0, deadline - time.monotonic()))
            self._over = True
            return list(self._jobs)

    def waits_for(self, job: Job) -> bool:
        """Whether a call that was added while the daemon drains is nested in one that is under way."""
        request = job.call.request
        if not request.is_nested:
            return False
        with self._lock:
            return not self._over and any(other.carries_out(request.chain) for other in self._jobs if other is not job)

    def remove(self, job: Job) -> None:
        """The answer of the call has gone out."""
        with self._lock:
            if self._answered:
                self._settle_locked()
            self._counted.discard(job)
            if job in self._jobs:
                self._jobs.remove(job)
                if job.is_many:
                    self._in_groups -= job.weight
                    job.weight = 0
            if self.draining and not self._jobs:
                self._idle.notify_all()
            over = self._sessions_over_locked(job) if self._ended else []
        for session in over:
            self._close(self._sessions.take(*session))

    def _sessions_over_locked(self, job: Job) -> list[Session]:
        """The sessions that ended before, and whose last call this was."""
        over = [session for session, jobs in self._ended.items() if jobs <= {job}]
        for jobs in self._ended.values():
            jobs.discard(job)
        for session in over:
            del self._ended[session]
        return over

    # ---- sessions

    def keeps(self, job: Job) -> bool:
        """Whether something is kept for the session of the call."""
        caller = job.caller
        return caller is not None and self._sessions.find(caller, job.call.request.session) is not None

    def session_of(self, job: Job) -> SessionState | None:
        """What is kept for the session of the call, made if there is nothing; None for a unary caller."""
        if job.caller is None:
            return None
        state = self._sessions.open(job.caller, job.call.request.session)
        if job.caller.ended_because is not None:  # what is kept from now on would be kept for ever
            self.connection_ended(job.caller)
        return state

    def session_closed(self, connection: Connection, number: int) -> None:
        """A session is over: its streams end, what is kept for it goes, and what calls under way still leave behind."""
        session = (connection, number)
        with self._lock:
            under_way = {job for job in self._jobs if job.session == session}
            if under_way:
                self._ended[session] = set(under_way)
        for job in under_way:
            if job.streams:
                job.cancel("its session is over")
        self._close(self._sessions.take(connection, number))

    def connection_ended(self, connection: Connection) -> None:
        """All sessions of a connection are over."""
        self._close(self._sessions.take_all(connection))

    def _close(self, states: Iterable[SessionState]) -> None:
        for state in states:
            run_aside(state.close)
