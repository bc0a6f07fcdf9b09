"""What a process serves over the connections that it opened: the objects that it exports."""

from __future__ import annotations

import os
import threading

from broker.calling.edge import ServingEdge
from broker.config import Config
from broker.connection.calls import IncomingCall
from broker.connection.client import pool
from broker.connection.engine import Connection
from broker.connection.groups import CallGroup
from broker.connection.refusals import Refused
from broker.connection.workers import Workers
from broker.dispatch import Arrivals, Dispatcher
from broker.exports import EXPORTED_TYPES
from broker.loop import LoopThread
from broker.objects import ObjectTable, Sessions


class Callbacks:
    """Serves what arrives on the connections of this process. One for all of them, made with the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: Arrivals | None = None

    def incoming(self, call: IncomingCall) -> None:
        self._arrivals().incoming(call)

    def incoming_group(self, group: CallGroup) -> None:
        self._arrivals().incoming_group(group)

    def turned_away(self, refused: Refused) -> None:
        if self._made is not None:
            self._made.turned_away(refused)

    def session_closed(self, connection: Connection, session: int) -> None:
        if self._made is not None:
            self._made.session_closed(connection, session)

    def connection_ended(self, connection: Connection) -> None:
        if self._made is not None:
            self._made.connection_ended(connection)

    def forget_after_fork(self) -> None:
        """In a child process: its threads are not there."""
        self.__init__()  # type: ignore[misc]

    def _arrivals(self) -> Arrivals:
        with self._lock:
            if self._made is None:
                self._made = Arrivals(_dispatcher())
            return self._made


def _dispatcher() -> Dispatcher:
    place = f"process {os.getpid()}, which registers no objects"
    dispatcher = Dispatcher(
        ObjectTable(place, require_expose=False, types=EXPORTED_TYPES),
        Sessions(),
        Workers(Config.max_workers.pick(None), "broker-callback"),
        ServingEdge(EXPORTED_TYPES, Config.tracebacks.pick(Config.tracebacks.unset)),
        codecs=pool.settings.codecs,
        loop=LoopThread().get,
    )
    dispatcher.start()
    return dispatcher


callbacks = Callbacks()
pool.handler = callbacks
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=callbacks.forget_after_fork)
