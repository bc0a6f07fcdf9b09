"""The end that connects: one connection to each daemon, shared by all proxies of the process."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet, WeakValueDictionary

from broker.connection.channels import ChannelSecurity
from broker.connection.engine import Connection, Handler, Settings
from broker.connection.forks import forks
from broker.connection.item_receiver import ItemReceiver
from broker.connection.opening import Opening, Place
from broker.connection.room import Room
from broker.connection.timers import timers
from broker.errors import CannotConnect, ConnectionClosedError

LINGER_SECONDS = 10.0
"""How long a connection that nobody uses stays open."""
EXIT_SECONDS = 1.0
"""How long the end of a process waits until what is queued has gone out."""
_SWEEP_SECONDS = 1.0


class Watcher(Protocol):
    """Whom it concerns that a connection is lost."""

    def connected(self, route: Route, *, anew: bool) -> None:
        """The session is on this connection now; `anew`: in place of one that was lost. Must not wait."""

    def lost(self) -> None:
        """The connection that it watches is gone. Called once for each, by any thread: must not wait."""


class Route:
    """Where the calls of proxies go, with what these know about the other side."""

    def __init__(self, engine: Connection, place: object, descriptions: dict[str, Any] | None = None) -> None:
        """`place` is what messages call the other side; `descriptions`, where other routes know the same."""
        self.engine = engine
        self.place = place
        self.descriptions: dict[str, Any] = {} if descriptions is None else descriptions
        """What the other side said about objects, by object; a stale one is refreshed by the proxy that notices."""

    @property
    def usable(self) -> bool:
        """Whether calls can be made on it."""
        return self.engine.usable

    def takes(self, *, nested: bool) -> bool:
        """Whether calls can be made on it; nested ones can be for longer, while the other side drains."""
        return self.engine.usable or (nested and self.engine.takes_nested)

    @property
    def room(self) -> Room:
        """How many calls may be unanswered."""
        return self.engine.room

    def begin_session(self) -> int:
        """The number of a new session; 0 where all calls are of one that lasts as long as the connection."""
        return 0

    def end_session(self, number: int) -> None:
        """The session is over. Called by finalizers too: takes no lock."""

    def watch(self, watcher: Watcher) -> None:
        """Tells the watcher, which is known weakly, when the connection is lost that can be made anew."""


class ClientConnection(Route):
    """A connection that this process opened."""

    place: Place

    def __init__(self, place: Place, settings: Settings, handler: Handler | None = None) -> None:
        """`handler` serves the calls of the other side; without one they are refused."""
        self._opening = Opening(place, settings, handler, self._ended)
        super().__init__(self._opening.engine, place)
        self.before: ClientConnection | None = None  # to the same place, for nested calls; under _Pool.lock
        self.users = 0  # sessions; under _Pool.lock
        self.idle_since = time.monotonic()
        self._sessions = 0
        self._watchers: WeakSet[Watcher] = WeakSet()  # under _Pool.lock

    def open(self, timeout: float | None) -> None:
        """Connects and introduces itself. Raises CannotConnect, or ProtocolError for another version."""
        self.engine = self._opening.open(timeout)

    def _ended(self) -> None:
        pool.forget(self)
        with pool.lock:
            watchers = [] if pool.closed else list(self._watchers)
            self._watchers.clear()
        for watcher in watchers:
            watcher.lost()

    def begin_session(self) -> int:
        with pool.lock:
            self.users += 1
            self._sessions += 1
            return self._sessions

    def end_session(self, number: int) -> None:
        pool.detach_later(self, number)

    def watch(self, watcher: Watcher) -> None:
        with pool.lock:
            ended = self.engine.ended_because is not None
            if not ended:
                self._watchers.add(watcher)
        if ended:
            watcher.lost()


class _Pool:
    """The connections of this process, by place."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.settings = Settings()
        self.handler_of: Callable[[ChannelSecurity | None], Handler | None] = lambda credentials: None
        """Who serves the calls that come over the connections of this process, by the credentials of these."""
        self.closed = False
        """The process ends."""
        self._connections: dict[Place, ClientConnection] = {}
        # A lock is there as long as somebody holds it or waits for it.
        self._connecting: WeakValueDictionary[Place, threading.Lock] = WeakValueDictionary()
        self._sweeping = False
        self._ended: deque[tuple[ClientConnection, int]] = deque()  # sessions whose proxies were collected

    def find(self, place: Place, *, nested: bool = False) -> ClientConnection | None:
        """The connection to a place, if there is one that takes calls; `nested` asks about nested ones."""
        connection = self._connections.get(place)
        while connection is not None and not connection.takes(nested=nested):
            connection = connection.before if nested else None
        return connection

    def get(self, place: Place, timeout: float | None, *, nested: bool = False) -> ClientConnection:
        """The connection to a place; connects if there is none. Threads that ask at once share one attempt.

        One that takes nested calls only will do with `nested`.
        """
        forks.check()
        connection = self.find(place, nested=nested)
        if connection is not None:
            return connection
        with self.lock:
            connecting = self._connecting.setdefault(place, threading.Lock())
        timeout = None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        if not connecting.acquire(timeout=-1 if timeout is None else timeout):
            raise CannotConnect(f"cannot connect to {place}: no answer within {timeout:g} s")
        try:
            return self.find(place, nested=nested) or self._connect(place, timeout)
        finally:
            connecting.release()

    def _connect(self, place: Place, timeout: float | None) -> ClientConnection:
        connection = ClientConnection(place, self.settings, self.handler_of(place.credentials))
        connection.open(timeout)
        with self.lock:
            connection.before = self._connections.get(place)  # its daemon may be ending, and still take nested calls
            self._connections[place] = connection
            if not self._sweeping:
                self._sweeping = True
                timers.call_later(_SWEEP_SECONDS, self._sweep)
        if not connection.engine.usable and connection.engine.ended_because is not None:
            self.forget(connection)
        return connection

    def forget(self, connection: ClientConnection) -> None:
        """The connection has ended."""
        with self.lock:
            latest = self._connections.get(connection.place)
            if latest is connection and connection.before is not None:
                self._connections[connection.place] = connection.before
            elif latest is connection:
                del self._connections[connection.place]
            while latest is not None:
                if latest.before is connection:
                    latest.before = connection.before
                latest = latest.before

    def detach_later(self, connection: ClientConnection, session: int) -> None:
        """A session is over. Called by finalizers too: takes no lock."""
        self._ended.append((connection, session))

    def end_sessions(self) -> None:
        """Tells the other sides which sessions are over. Takes locks: nothing for finalizers."""
        while True:
            try:
                connection, session = self._ended.popleft()
            except IndexError:
                return
            with self.lock:
                connection.users -= 1
            connection.engine.close_session(session)

    def _sweep(self) -> None:
        """Ends sessions whose proxies are gone, and connections that nobody has used for a while."""
        self.end_sessions()
        now = time.monotonic()
        idle = []
        with self.lock:
            for connection in self._connections.values():
                if connection.users or connection.engine.busy:
                    connection.idle_since = now
                elif now - connection.idle_since > LINGER_SECONDS:
                    idle.append(connection)
            for connection in idle:
                del self._connections[connection.place]
            self._sweeping = bool(self._connections)
            if self._sweeping:
                timers.call_later(_SWEEP_SECONDS, self._sweep)
        for connection in idle:
            connection.engine.close("nobody uses the connection")

    def close_all(self) -> None:
        """Ends every connection in order; at interpreter exit. What was queued, oneway calls say, still goes out."""
        with self.lock:
            self.closed = True
            # Those within the process end with it: telling its threads that wait would have them print.
            connections = [known for known in self._connections.values() if known.engine.transport != "process"]
            self._connections.clear()
        for connection in connections:
            connection.engine.close("the process ends")
        give_up = time.monotonic() + EXIT_SECONDS
        for connection in connections:
            connection.engine.flushed.wait(max(0.0, give_up - time.monotonic()))

    def forget_after_fork(self) -> None:
        handler_of = self.handler_of
        self.__init__()  # type: ignore[misc]
        self.handler_of = handler_of


# Guards what changes in sessions, which is seldom: one for all, because a child process has to make it anew.
_sessions_lock = threading.RLock()


def _after_fork() -> None:
    global _sessions_lock
    _sessions_lock = threading.RLock()
    pool.forget_after_fork()


pool = _Pool()
atexit.register(pool.close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Session:
    """What one proxy has at one daemon. It is a number on the connection that was used last.

    State that the server keeps for it is never lost in silence: after the loss of the connection the next use raises
    ConnectionClosedError once, and the use after that starts anew. Where somebody watches, he is told instead.
    """

    __slots__ = ("__weakref__", "_kept", "_lost", "_streams", "_watcher", "connection", "number", "reception")

    def __init__(self) -> None:
        self._watcher: Watcher | None = None
        self._lost = False  # the connection before was lost, and nobody was told yet
        self.connection: Route | None = None
        """The connection that it was used on last, and its number there. Only `on` and `close` change them."""
        self.number = 0
        self.reception: Any = None
        """What came of the greeting with which it was begun, if it was."""
        self._kept = False
        self._streams: WeakSet[ItemReceiver] | None = None  # open ones; if they are lost nobody was told yet

    def on(self, connection: Route, greet: Callable[[Route, int], object] | None = None) -> int:
        """The number of the session on this connection. Raises ConnectionClosedError once where its state is gone.

        `greet` sends what has to come before all calls of a session with this number, without waiting for an answer.
        """
        if connection is self.connection:
            return self.number
        with _sessions_lock:
            if connection is self.connection:
                return self.number
            # What a call says that was under way as the session was closed is about that one.
            kept = self.connection is not None and (self._kept or bool(self._streams))
            watcher = self._watcher
            self._lost = self._lost or self.connection is not None
            self._end()
            if kept and watcher is None:
                error = ConnectionClosedError(
                    f"the state that {connection.place} kept for this proxy was lost with its connection; "
                    "the next call starts a new session"
                )
                error.may_have_run = False
                raise error
            number = self.number = self._begin(connection, greet)
            self.connection = connection
            anew, self._lost = self._lost, False
        if watcher is not None:
            watcher.connected(connection, anew=anew)
        return number

    def _begin(self, connection: Route, greet: Callable[[Route, int], object] | None) -> int:
        number = connection.begin_session()
        self.reception = None
        if greet is not None:
            try:
                self.reception = greet(connection, number)
            except BaseException:
                connection.end_session(number)
                raise
        return number

    def kept(self) -> None:
        """The server keeps something for this session."""
        self._kept = True

    def begin_stream(self, stream: ItemReceiver) -> None:
        """The server keeps an iterator for it, until `end_stream`."""
        with _sessions_lock:
            if self._streams is None:
                self._streams = WeakSet()
            self._streams.add(stream)

    def end_stream(self, stream: ItemReceiver) -> None:
        """The stream is over, and its consumer knows."""
        with _sessions_lock:
            if self._streams is not None:
                self._streams.discard(stream)

    @property
    def is_open(self) -> bool:
        """Whether it was begun and not closed, on a connection that is still there or one that was lost."""
        return self.connection is not None or self._lost

    def watch(self, make: Callable[[], Watcher]) -> Watcher:
        """Who watches the connections of this session; made if nobody does."""
        with _sessions_lock:
            watcher, connection = self._watcher, self.connection
            if watcher is None:
                watcher = self._watcher = make()
            else:
                connection = None
        if connection is not None:
            watcher.connected(connection, anew=False)
        return watcher

    def close(self) -> bool:
        """Ends the session, at once; the next use starts a new one. True if there was one."""
        with _sessions_lock:
            self._lost = False
            ended = self._end()
        if ended:
            pool.end_sessions()
        return ended

    def _end(self) -> bool:
        self._kept = False
        self._streams = None
        connection, self.connection = self.connection, None
        if connection is None:
            return False
        connection.end_session(self.number)
        return True

    def __del__(self) -> None:
        if self.connection is not None:
            self.connection.end_session(self.number)
