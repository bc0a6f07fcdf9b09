"""The server behind the Unix socket beside a TCP port. It takes connections that were offered it, and nothing else."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from weakref import WeakSet

from broker.connection.leading import Leading
from broker.connection.near import Offers
from broker.connection.private_socket import PrivateSocket, remove_leftovers
from broker.connection.sockets import ServerSocket, is_available, user_of_peer
from broker.connection.timers import timers
from broker.connection.watch import READABLE, Watch
from broker.connection.workers import run_aside

_THREADS = 2  # while one runs what it has read, the other reads
_BACKLOG = 1_024
_PAUSE_SECONDS = 0.1  # before clients are let in again, where the process has no descriptor left for one

_log = logging.getLogger("broker")

Accept = Callable[[socket.socket, Watch], ServerSocket]
"""Makes a connection of who has connected."""


class NearServer:
    """Listens on a private Unix socket, made when the first client would use it. For any thread."""

    def __init__(self, port: int, leading: Leading, accept: Accept) -> None:
        self.port = port
        """The TCP port that it stands beside."""
        self.offers = Offers()
        self._leading = leading
        self._accept = accept
        self._lock = threading.Lock()
        self._private: PrivateSocket | None = None
        self._listener: socket.socket | None = None
        self._watch: Watch | None = None
        self._ends: set[ServerSocket] = set()
        self._closed = not is_available
        self._ended = threading.Event()

    def path(self) -> str | None:
        """The path of the socket; None if there can be none."""
        with self._lock:
            if not self._closed and self._private is None:
                self._start_locked()
            return self._private.path if self._private is not None else None

    def _start_locked(self) -> None:
        private = listener = None
        try:
            private = PrivateSocket()
            listener = _listen(private)
            watch = Watch("broker-near", _THREADS, lambda: self._leading.stuck)
            watch.add(listener.fileno(), READABLE, lambda: self._let_in(listener, watch))
        except Exception as error:  # whatever it is, the client has a connection that works
            self._give_up(error, private, listener)
            return
        self._private, self._listener, self._watch = private, listener, watch
        self._leading.on_stuck.append(watch.begin)
        run_aside(remove_leftovers)

    def _give_up(self, error: Exception, private: PrivateSocket | None, listener: socket.socket | None) -> None:
        self._closed = True
        if listener is not None:
            listener.close()
        if private is not None:
            private.remove()
        run_aside(lambda: _log.debug("there is no Unix socket beside port %d: %s", self.port, error))

    # ---- clients

    def _let_in(self, listener: socket.socket, watch: Watch) -> None:
        again: Callable[[], None] = lambda: self._arm(listener, watch)  # noqa: E731
        try:
            end, _ = listener.accept()
        except BlockingIOError:  # it has gone again
            again()
            return
        except OSError as error:
            if not self._closed:
                _log.warning("no client is let in on the Unix socket beside port %d for now: %s", self.port, error)
                timers.call_later(_PAUSE_SECONDS, again)
            return
        again()
        self._begin(end, watch)

    def _arm(self, listener: socket.socket, watch: Watch) -> None:
        with self._lock:
            if not self._closed:
                watch.arm(listener.fileno(), READABLE)

    def _begin(self, end: socket.socket, watch: Watch) -> None:
        if user_of_peer(end) != os.geteuid():  # the directory lets nobody else in; root gets everywhere
            end.close()
            return
        stream = self._accept(end, watch)
        stream.on_closed = lambda: self._left(stream, watch)
        with self._lock:
            closed = self._closed
            self._ends.add(stream)
        stream.begin()
        if closed:
            stream.cancel()

    # ---- the end

    def stop(self, grace: float) -> threading.Event:
        """Lets nobody in any more, and ends the connections that are left after `grace` seconds.

        The event is set when it has ended.
        """
        with self._lock:
            self._closed = True
            private, listener, watch = self._private, self._listener, self._watch
            self._private = self._listener = self._watch = None
        if private is None or listener is None or watch is None:
            self._ended.set()
            return self._ended
        watch.remove(listener.fileno())
        listener.close()
        private.remove()
        timers.call_later(grace, self._cancel_all)
        self._end_if_left(watch)
        return self._ended

    def _cancel_all(self) -> None:
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            end.cancel()

    def _left(self, end: ServerSocket, watch: Watch) -> None:
        with self._lock:
            self._ends.discard(end)
        self._end_if_left(watch)

    def _end_if_left(self, watch: Watch) -> None:
        with self._lock:
            if self._ends or not self._closed:
                return
        watch.close()
        self._ended.set()


def _listen(private: PrivateSocket) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(private.path)
        private.protect()
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    _listeners.add(listener)
    return listener


_listeners: WeakSet[socket.socket] = WeakSet()


def _after_fork() -> None:
    for listener in list(_listeners):  # else clients would go on connecting when the parent is gone
        listener.close()
    _listeners.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
