"""How many streams of items each connection has open."""

from __future__ import annotations

import threading

from broker.connection.engine import Connection
from broker.connection.refusals import Reason, Refused
from broker.dispatch.job import Job

MAX_STREAMS = 4_096


class OpenStreams:
    """The streams of all connections of one daemon. For any thread.

    Those of other gRPC clients are calls, and counted as such.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._counts: dict[Connection, int] = {}

    def enter(self, job: Job) -> Refused | None:
        """Counts the stream that a call becomes; or says why it becomes none."""
        caller = job.caller
        if caller is not None:
            with self._lock:
                count = self._counts.get(caller, 0)
                if count >= self._most:
                    what = f"the connection has {count} streams open, and no more are taken of one connection "
                    what += "(max_streams_per_connection): take one to its end, or close it"
                    return Refused(Reason.OVERLOADED, what, "max_streams_per_connection")
                self._counts[caller] = count + 1
        job.streams = True
        return None

    def leave(self, job: Job) -> None:
        """Its stream is over."""
        caller = job.caller
        if caller is None:
            return
        with self._lock:
            self._counts[caller] -= 1
            if not self._counts[caller]:
                del self._counts[caller]
