"""The server behind the Unix socket beside a TCP port. It takes connections that were offered it, and nothing else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import grpc

from broker.connection.near import Offers
from broker.connection.private_socket import PrivateSocket, remove_leftovers
from broker.connection.workers import run_aside

_log = logging.getLogger("broker")


class NearServer:
    """A gRPC server on a private Unix socket, made when the first client would use it.

    Every method may be called from any thread.
    """

    def __init__(self, port: int, make: Callable[[], grpc.Server]) -> None:
        """`make` gives a server that has its handlers and was not started."""
        self.port = port
        """The TCP port that it stands beside."""
        self.offers = Offers()
        self._make = make
        self._lock = threading.Lock()
        self._socket: PrivateSocket | None = None
        self._server: grpc.Server | None = None
        self._closed = False

    def path(self, on_start: Callable[[grpc.Server], None]) -> str | None:
        """The path of the socket; None if there can be none. `on_start` gets the server when it has started."""
        with self._lock:
            if not self._closed and self._server is None:
                self._start(on_start)
            return self._socket.path if self._socket is not None else None

    def _start(self, on_start: Callable[[grpc.Server], None]) -> None:
        private = None
        try:
            private = PrivateSocket()
            server = self._make()
            server.add_insecure_port(f"unix:{private.path}")
            private.protect()
            server.start()
        except Exception as error:  # whatever it is, the client has a connection that works
            self._give_up(error, private)
            return
        self._socket, self._server = private, server
        on_start(server)
        run_aside(remove_leftovers)

    def _give_up(self, error: Exception, private: PrivateSocket | None) -> None:
        self._closed = True
        if private is not None:
            private.remove()
        run_aside(lambda: _log.debug("there is no Unix socket beside port %d: %s", self.port, error))

    def stop(self, grace: float) -> threading.Event:
        """Ends the server. The event is set when it has ended."""
        with self._lock:
            self._closed = True
            server, private = self._server, self._socket
            self._server = self._socket = None
        if server is None:
            ended = threading.Event()
            ended.set()
            return ended
        if private is not None:
            private.remove()
        return server.stop(grace)
