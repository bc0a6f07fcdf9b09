"""The end that is connected to: the Connect stream of the gRPC service.

On the public API of grpcio a streaming method has a thread of the server's pool for as long as the stream lives, so a
pool of a fixed size is a limit on connections, and one of ThreadPoolExecutor's threads would be joined at exit. The
pool here makes a daemon thread for each.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import grpc

from broker._pb.broker_pb2 import Hello
from broker.connection import completion, local
from broker.connection.engine import Connection, Handler, Introduce, Settings
from broker.connection.forks import forks
from broker.connection.idling import Idling, OnLimit, expect_introduction
from broker.connection.leading import Leading
from broker.connection.line import write_aside
from broker.connection.near_server import NearServer
from broker.connection.occupancy import Occupancy
from broker.connection.refusals import Reason, Refused
from broker.connection.sockets import ServerSocket
from broker.connection.statuses import break_cycle, refuse
from broker.connection.timers import timers
from broker.connection.watch import Watch
from broker.connection.workers import Workers, run_aside
from broker.context import Client
from broker.security import Identification, Unidentified, log_refusal, wants_refusal

_LAST_WORDS_SECONDS = 1.0
_SERVES = "that serves objects (on a release of grpcio whose threads cannot be held up meanwhile)"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many connections a daemon has, and how long each may do nothing. The settings of these names."""

    place: str
    """What messages call the daemon."""
    max_connections: int
    max_connections_per_identity: int
    handshake_timeout: float
    idle_timeout: float | None
    in_use: Callable[[Connection], bool]
    """Whether something is kept for a connection that does nothing."""
    on_limit: OnLimit


class ConnectService:
    """Serves the Connect stream: an engine for each connection."""

    def __init__(
        self,
        settings: Settings,
        handler: Handler,
        leading: Leading,
        identification: Identification,
        limits: ConnectionLimits,
        near_port: int | None = None,
    ) -> None:
        """`near_port` is the TCP port beside which there may be a Unix socket."""
        self._settings = settings
        self._limits = limits
        self._occupancy = Occupancy(limits.max_connections, limits.max_connections_per_identity)
        self._handler = handler
        self._leading = leading
        self._identification = identification
        self._near = NearServer(near_port, leading, self._accept_near) if near_port is not None else None
        self._lock = threading.Lock()
        self._connections: dict[Connection, str | None] = {}  # with the account that each is counted under
        self._closing: str | None = None
        self._hinders_forks = False
        if limits.idle_timeout is not None:
            self._idling = Idling(limits.idle_timeout, lambda: self.connections, limits.in_use, limits.on_limit)

    def start(self, server: grpc.Server) -> None:
        """Starts the server that the stream is a method of."""
        if completion.is_available:
            completion.Pollers(server, self._leading)
        else:
            self._hinders_forks = True
            forks.hinder(_SERVES)
            server.start()

    def stopped(self) -> None:
        """The server has stopped, and no thread is inside it."""
        if self._hinders_forks:
            forks.hinder_no_more(_SERVES)

    def method(self) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The streaming method of the gRPC service."""
        connect: Any
        if completion.is_available:
            connect = partial(self._connect_without_thread)  # takes an attribute, as a method does not
            connect.experimental_non_blocking = True
        else:
            connect = self._connect
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
        identity = self._identity(context)
        account = self._occupancy.enter(self._limits.place, context.peer(), identity)
        if isinstance(account, Refused):
            self._turn_away(context, account, identity)
        connection = self._new_connection(context.peer(), self._welcome, account)
        connection.identity = identity
        connection.transport = "unix" if connection.peer_name.startswith("unix:") else "tcp"
        connection.on_end = lambda connection: self._ended(connection, partial(_cancel, context))
        context.add_callback(lambda: connection.transport_ended(f"{connection.peer_name} is gone"))
        return connection

    def _identity(self, context: grpc.ServicerContext) -> str | None:
        """Who connects; ends the call of who is not let in."""
        try:
            return self._identification.of(context)
        except Unidentified as error:
            refused = Refused(Reason.UNAUTHENTICATED, str(error), error.limit)
            self._handler.turned_away(refused)
            refuse(context, refused)

    def _turn_away(self, context: grpc.ServicerContext, refused: Refused, identity: str | None) -> NoReturn:
        self._handler.turned_away(refused)
        client = Client(context.peer(), identity=identity)
        if wants_refusal(refused.reason):
            run_aside(lambda: log_refusal(client, "", "", refused.reason))
        refuse(context, refused)

    def _accept_near(self, end: socket.socket, watch: Watch) -> ServerSocket:
        connection = self._new_connection("unix:", self._prove)
        connection.transport = "unix"
        stream = ServerSocket(end, connection, self._leading, watch)
        connection.on_end = lambda connection: self._ended(connection, stream.cancel)
        connection.hand_to(stream, write_aside)
        return stream

    def accept(self, client: Connection) -> None:
        """Takes in a client of the same process."""
        connection = self._new_connection(local.peer_name(), None)
        connection.transport = "process"
        connection.on_end = self._forget
        local.join(client, connection, self._leading)

    def _new_connection(self, peer_name: str, introduce: Introduce | None, account: str | None = None) -> Connection:
        connection = Connection(self._settings, self._handler, accepts=True, peer_name=peer_name, introduce=introduce)
        with self._lock:
            self._connections[connection] = account
            closing = self._closing
        if introduce is not None:
            expect_introduction(connection, self._limits.handshake_timeout, self._limits.on_limit)
        if closing is not None:
            connection.close(closing)
        return connection

    def _welcome(self, connection: Connection, hello: Hello | None) -> Hello:
        """A client of the same host gets an offer, if it came straight to the port: what lies between is to stay."""
        welcome = self._settings.to_wire()
        near = self._near
        if near is not None and hello is not None and hello.port == near.port:
            path = near.path()
            if path is not None:
                welcome.offer.CopyFrom(near.offers.make(path, connection))
        return welcome

    def _prove(self, connection: Connection, hello: Hello | None) -> Hello:
        """The introduction behind the near socket: whom it was offered to, and nobody else."""
        assert self._near is not None
        assert hello is not None
        welcome = self._settings.to_wire()
        earlier, proof = self._near.offers.take_up(hello.proof)
        connection.take_over(earlier)
        with self._lock:  # it counts once; the earlier one ends soon
            if connection in self._connections and earlier in self._connections:
                self._connections[connection], self._connections[earlier] = self._connections[earlier], None
        welcome.proof.CopyFrom(proof)
        return welcome

    @property
    def connections(self) -> list[Connection]:
        with self._lock:
            return list(self._connections)

    def go_away(self, reason: str) -> None:
        """Tells all peers that no further call is taken, but nested ones, of chains that are under way."""
        with self._lock:
            self._closing = reason
        for connection in self.connections:
            connection.go_away(reason, takes_nested=True)

    def close(self, reason: str) -> None:
        """Ends all connections in order."""
        for connection in self.connections:
            connection.close(reason)

    def stop_near(self, grace: float) -> threading.Event:
        """Ends the server beside the TCP port. The event is set when it has ended."""
        if self._near is not None:
            return self._near.stop(grace)
        ended = threading.Event()
        ended.set()
        return ended

    def _ended(self, connection: Connection, cancel: Callable[[], None]) -> None:
        self._forget(connection)
        # A peer that takes nothing in would hold the thread that sends; the others get the last words before that.
        timers.call_later(_LAST_WORDS_SECONDS, cancel)

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            account = self._connections.pop(connection, None)
        if account is not None:
            self._occupancy.leave(account)
        if self._near is not None:
            self._near.offers.withdraw(connection)


def _cancel(context: grpc.ServicerContext) -> None:
    context.cancel()


def _read(connection: Connection, requests: Iterator[bytes]) -> None:
    reason = f"{connection.peer_name} closed the connection"
    try:
        for message in requests:
            connection.receive(message)
    except grpc.RpcError as gone:
        break_cycle(gone)
        reason = f"{connection.peer_name} is gone"
    finally:
        connection.transport_ended(reason)
