"""The end that is connected to: the Connect stream of the gRPC service.

On the public API of grpcio a streaming method has a thread of the server's pool for as long as the stream lives, so a
pool of a fixed size is a limit on connections, and one of ThreadPoolExecutor's threads would be joined at exit. The
pool here makes a daemon thread for each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from functools import partial
from typing import Any

import grpc

from broker.connection import completion, local
from broker.connection.engine import Connection, Handler, Settings
from broker.connection.leading import Leading
from broker.connection.timers import timers
from broker.connection.workers import Workers

_LAST_WORDS_SECONDS = 1.0


class DaemonThreads(futures.Executor):
    """An executor for grpc.server: a daemon thread for each job, reused for a while when it is idle."""

    def __init__(self, name: str) -> None:
        self._workers = Workers(limit=1 << 30, name=name)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()
        self._workers.submit(lambda: _run(future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._workers.close()


def _run(future: futures.Future[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


class ConnectService:
    """Serves the Connect stream: an engine for each connection."""

    def __init__(self, settings: Settings, handler: Handler, leading: Leading) -> None:
        self._settings = settings
        self._handler = handler
        self._leading = leading
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._closing: str | None = None

    def started(self, server: grpc.Server) -> None:
        """The server that the stream is a method of has started."""
        if completion.is_available:
            completion.Pollers(server, self._leading)

    def method(self) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The streaming method of the gRPC service."""
        if not completion.is_available:
            return grpc.stream_stream_rpc_method_handler(self._connect)
        connect: Any = partial(self._connect_without_thread)
        connect.experimental_non_blocking = True
        return grpc.stream_stream_rpc_method_handler(connect)

    def _connect(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterable[bytes]:
        """The method on the public API: its thread sends, another one of ours reads."""
        connection = self._connected(context)
        threading.Thread(target=_read, args=(connection, requests), name="broker-reader", daemon=True).start()
        return iter(connection.next_message, None)

    def _connect_without_thread(
        self, requests: Iterator[bytes], context: grpc.ServicerContext, send: Callable[[bytes | None], None]
    ) -> None:
        connection = self._connected(context)
        stream = completion.ServerStream(context, send, connection, self._leading)
        connection.hand_to(stream)
        stream.receive()

    def _connected(self, context: grpc.ServicerContext) -> Connection:
        connection = self._new_connection(context.peer())
        connection.transport = "unix" if connection.peer_name.startswith("unix:") else "tcp"
        connection.on_end = lambda connection: self._ended(connection, context)
        context.add_callback(lambda: connection.transport_ended(f"{connection.peer_name} is gone"))
        return connection

    def accept(self, client: Connection) -> None:
        """Takes in a client of the same process."""
        connection = self._new_connection(local.peer_name())
        connection.transport = "process"
        connection.on_end = self._forget
        local.join(client, connection, self._leading)

    def _new_connection(self, peer_name: str) -> Connection:
        connection = Connection(self._settings, self._handler, accepts=True, peer_name=peer_name)
        with self._lock:
            self._connections.add(connection)
            closing = self._closing
        if closing is not None:
            connection.close(closing)
        return connection

    @property
    def connections(self) -> list[Connection]:
        with self._lock:
            return list(self._connections)

    def go_away(self, reason: str) -> None:
        """Tells all peers that no further call is taken."""
        with self._lock:
            self._closing = reason
        for connection in self.connections:
            connection.go_away(reason)

    def close(self, reason: str) -> None:
        """Ends all connections in order."""
        for connection in self.connections:
            connection.close(reason)

    def _ended(self, connection: Connection, context: grpc.ServicerContext) -> None:
        self._forget(connection)
        # A peer that takes nothing in would hold the thread that sends; the others get the last words before that.
        timers.call_later(_LAST_WORDS_SECONDS, lambda: _end(context))

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)


def _end(context: grpc.ServicerContext) -> None:
    context.cancel()


def _read(connection: Connection, requests: Iterator[bytes]) -> None:
    reason = f"{connection.peer_name} closed the connection"
    try:
        for message in requests:
            connection.receive(message)
    except grpc.RpcError:
        reason = f"{connection.peer_name} is gone"
    finally:
        connection.transport_ended(reason)
