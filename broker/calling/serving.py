"""What a process serves over the connections that it opened: the objects that it exports."""

from __future__ import annotations

import os
import threading
from weakref import WeakValueDictionary

from broker.calling.edge import ServingEdge
from broker.config import Config
from broker.connection.calls import IncomingCall
from broker.connection.channels import ChannelSecurity
from broker.connection.client import pool
from broker.connection.engine import Connection
from broker.connection.groups import CallGroup
from broker.connection.refusals import Refused
from broker.connection.workers import Workers
from broker.dispatch import Arrivals, Dispatcher
from broker.exports import EXPORTED_TYPES
from broker.loop import LoopThread
from broker.objects import ObjectTable, Sessions


class _Threads:
    """On which exported objects are called: the same for all connections. Made with the first call."""

    def __init__(self) -> None:
        self.workers = Workers(Config.max_workers.pick(None), "broker-callback")
        self.loop = LoopThread()


class Callbacks:
    """Serves what arrives on connections that were opened with the same credentials, as long as one of them is there.

    Proxies that arrive have these credentials, too: who calls back may name any place, and is no better believed there.
    """

    def __init__(self, credentials: ChannelSecurity | None) -> None:
        self._credentials = credentials
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

    def _arrivals(self) -> Arrivals:
        with self._lock:
            if self._made is None:
                self._made = Arrivals(_dispatcher(self._credentials))
            return self._made


def _dispatcher(credentials: ChannelSecurity | None) -> Dispatcher:
    threads = _known.threads()
    place = f"process {os.getpid()}, which registers no objects"
    dispatcher = Dispatcher(
        ObjectTable(place, require_expose=False, types=EXPORTED_TYPES),
        Sessions(),
        threads.workers,
        ServingEdge(EXPORTED_TYPES, Config.tracebacks.pick(Config.tracebacks.unset), credentials),
        codecs=pool.settings.codecs,
        loop=threads.loop.get,
    )
    dispatcher.start()
    return dispatcher


class _Known:
    """Who serves, by credentials."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: _Threads | None = None
        self._callbacks: WeakValueDictionary[ChannelSecurity | None, Callbacks] = WeakValueDictionary()

    def callbacks(self, credentials: ChannelSecurity | None) -> Callbacks:
        with self._lock:
            return self._callbacks.setdefault(credentials, Callbacks(credentials))

    def threads(self) -> _Threads:
        with self._lock:
            self._threads = self._threads or _Threads()
            return self._threads

    def forget_after_fork(self) -> None:
        """In a child process: its threads are not there."""
        self.__init__()  # type: ignore[misc]


_known = _Known()
pool.handler_of = _known.callbacks
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_known.forget_after_fork)
