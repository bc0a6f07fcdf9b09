"""Connections on which nothing is done: those that never say who they are, and those that nobody uses any more."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from broker.connection.timers import timers

if TYPE_CHECKING:
    from broker.connection.engine import Connection

_LOOKS = 4  # in the time after which a connection is idle

OnLimit = Callable[[str], None]
"""Counts that a setting of that name had to be kept to."""


def expect_introduction(connection: Connection, seconds: float, on_limit: OnLimit) -> None:
    """Ends the connection unless the other side has introduced itself within that time."""
    timers.call_later(seconds, partial(_end_if_silent, weakref.ref(connection), seconds, on_limit))


def _end_if_silent(held: weakref.ref[Connection], seconds: float, on_limit: OnLimit) -> None:
    connection = held()
    if connection is None or connection.peer is not None or connection.ended_because is not None:
        return
    on_limit("handshake_timeout")
    connection.end(f"no introduction came within {seconds:g} s (handshake_timeout)")


class Idling:
    """Ends the connections of a daemon on which nothing was called for a while, and for which nothing is kept.

    Nothing is done for it as calls are made: it looks at how many there were, now and then.
    """

    def __init__(
        self,
        seconds: float,
        connections: Callable[[], Iterable[Connection]],
        in_use: Callable[[Connection], bool],
        on_limit: OnLimit,
    ) -> None:
        """`in_use` says whether something is kept for a connection, apart from what it knows of itself."""
        self._seconds = seconds
        self._connections = connections
        self._in_use = in_use
        self._on_limit = on_limit
        self._seen: dict[Connection, tuple[int, float]] = {}  # by the timer thread: its activity, and since when
        self._look_later()

    def _look_later(self) -> None:
        timers.call_later(self._seconds / _LOOKS, partial(_look, weakref.ref(self)))

    def look(self) -> None:
        """Ends those whose time is over. By one thread at a time."""
        now = time.monotonic()
        seen: dict[Connection, tuple[int, float]] = {}
        for connection in self._connections():
            activity, since = connection.activity, now
            before = self._seen.get(connection)
            if before is not None and before[0] == activity and not connection.busy and not self._in_use(connection):
                since = before[1]
            if now - since >= self._seconds:
                self._on_limit("idle_timeout")
                connection.close(f"nothing was done on the connection for {self._seconds:g} s (idle_timeout)")
            else:
                seen[connection] = (activity, since)
        self._seen = seen
        self._look_later()


def _look(held: weakref.ref[Idling]) -> None:
    idling = held()
    if idling is not None:
        idling.look()
