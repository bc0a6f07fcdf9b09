"""Calls that wait for a connection, on a thread aside: who makes them does not wait."""

from __future__ import annotations

import copy
import heapq
import itertools
import os
import threading
import time
from collections.abc import Container
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from broker.calling.backoff import RETRY_PAUSE
from broker.connection.client import Route
from broker.connection.timers import timers
from broker.connection.workers import connecting
from broker.errors import CannotConnect, CommunicationError, NamingError, Overloaded
from broker.uri import URI

if TYPE_CHECKING:
    from broker.calling.remote import Remote

MOST_WAITING = 4_000
"""Calls of one proxy that wait for its connection; who makes more waits himself."""


made_calls = itertools.count(1)
"""Numbers of calls in the order made. A call that is sent again keeps its own."""


class Departing(Protocol):
    """What waits for a connection."""

    made: int
    """Its place in the order made. No two have the same."""

    @property
    def remote(self) -> Remote:
        """What it is a call of."""

    needs_description: bool
    """Whether the description of the object has to be there."""

    @property
    def outlasts_drain(self) -> bool:
        """Whether a connection will do that takes nested calls only."""

    @property
    def latest(self) -> float | None:
        """Until when it can wait, a time of `time.monotonic`."""

    def describe(self) -> None:
        """Sees to it that the description is here, as a part of the call that this one is nested in."""

    def depart(self, uri: URI, connection: Route) -> None:
        """There is a connection. Must not raise, nor wait."""

    def stay(self, error: Exception) -> None:
        """There is none. Must not raise, nor wait."""


class Departures:
    """The calls of one proxy that wait for a connection, in the order made. Every method may be called from any thread.

    In the order made, and not in that in which they come: of the calls that a connection loses, or that a daemon
    refuses as it ends, some come only after others were made that find it gone.

    False while none waits: then calls may be sent without coming here. One thread connects, for all that wait. It
    knows the proxy only by the calls that wait, so that both go when nobody has the proxy any more.
    """

    __slots__ = ("__weakref__", "_busy", "_lock", "_patience", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, Departing]] = []  # a heap, by when they were made
        self._busy = False
        self._patience: float | None = None  # how long the running attempts go on; by the thread that connects
        _departures.add(self)

    def __bool__(self) -> bool:
        return self._busy

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING

    def put(self, call: Departing) -> None:
        """Lets a call wait for a connection."""
        with self._lock:
            heapq.heappush(self._waiting, (call.made, call))
            if self._busy:
                return
            self._busy = True
        self._try_again()

    @staticmethod
    def wait(remote: Remote, deadline: float | None) -> bool:
        """Waits until all that was put before has departed; False if the deadline (time.monotonic) comes first."""
        turn = _Turn(remote, deadline)
        remote.put_aside(turn)
        timeout = None if deadline is None else min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
        return turn.come.wait(timeout)

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            waiting = self._all_locked()
            self._waiting.clear()
            self._busy = False
            self._patience = None
        for call in waiting:
            call.stay(copy.copy(error))

    def forget_after_fork(self) -> None:
        """In a child process: what waits is sent by the parent, and the thread that connects is not here."""
        self._lock = threading.Lock()
        self._give_up(CommunicationError("this process was forked, and the call is made by its parent"))

    def _run(self) -> None:
        while True:
            with self._lock:
                waiting = self._all_locked()
                if not waiting:
                    self._busy = False
                    return
            if not self._go_on(waiting):
                return

    def _go_on(self, waiting: list[Departing]) -> bool:
        """One attempt to connect: what comes of it holds for all who waited for it; False if another one follows."""
        remote = waiting[0].remote
        if self._patience is None:
            self._patience = time.monotonic() + remote.options.wait
        try:
            nested = all(call.outlasts_drain for call in waiting)
            uri, connection = remote.connect(_latest(waiting), wait=0, nested=nested)
            describing = next((call for call in waiting if call.needs_description), None)
            if describing is not None:
                (remote if connection.usable else describing).describe()
        except Exception as error:
            if isinstance(error, (CannotConnect, NamingError)) and time.monotonic() < self._patience:
                timers.call_later(RETRY_PAUSE, self._try_again)  # and no thread waits for that
                return False
            self._patience = None
            self._take_out(waiting)
            for call in waiting:
                call.stay(copy.copy(error))
            return True
        self._patience = None
        those = set(waiting)
        while (first := self._take_first(those)) is not None:
            first.depart(uri, connection)
        return True

    def _all_locked(self) -> list[Departing]:
        return [call for _, call in sorted(self._waiting)]

    def _take_out(self, calls: list[Departing]) -> None:
        those = set(calls)
        with self._lock:
            self._waiting = [entry for entry in self._waiting if entry[1] not in those]
            heapq.heapify(self._waiting)

    def _take_first(self, those: Container[Departing]) -> Departing | None:
        """The next that departs, if it is one of those: one that has come meanwhile may have been made before."""
        with self._lock:
            if not self._waiting or self._waiting[0][1] not in those:
                return None
            return heapq.heappop(self._waiting)[1]

    def _try_again(self) -> None:
        try:
            connecting.submit(self._run)
        except Overloaded as error:
            self._give_up(error)


_making = threading.Lock()
_departures: WeakSet[Departures] = WeakSet()


def departures_of(remote: Remote) -> Departures:
    """Where the calls of a proxy wait."""
    if remote.departures is NO_DEPARTURES:
        with _making:
            if remote.departures is NO_DEPARTURES:
                remote.departures = Departures()
    return remote.departures


def _after_fork() -> None:
    global _making
    _making = threading.Lock()
    for departures in list(_departures):
        departures.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

NO_DEPARTURES = Departures()
"""Those of a proxy for which nothing ever waited: most never need their own."""


class _Turn:
    """A thread that waits for its turn."""

    needs_description = outlasts_drain = False

    def __init__(self, remote: Remote, latest: float | None) -> None:
        self.made = next(made_calls)
        self.remote = remote
        self.latest = latest
        self.come = threading.Event()

    def describe(self) -> None: ...

    def depart(self, uri: URI, connection: Route) -> None:
        self.come.set()

    def stay(self, error: Exception) -> None:
        self.come.set()


def _latest(waiting: list[Departing]) -> float | None:
    """The deadline of the most patient: the others are ended by their timers."""
    deadlines = [call.latest for call in waiting]
    return None if None in deadlines else max(deadline for deadline in deadlines if deadline is not None)
