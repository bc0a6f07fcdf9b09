"""How a connection comes about: to a daemon of this process, over TCP, or over a Unix socket.

Over TCP the daemon may offer the Unix socket beside its port. If that is as it should be, the connection goes on there,
before anything is called; if not, or if anything goes wrong with it, it stays where it is and nobody hears of it.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import grpc

from broker._pb.broker_pb2 import Hello, SocketOffer
from broker.connection import completion, sockets
from broker.connection.calls import IncomingCall
from broker.connection.channels import ChannelSecurity, is_loopback, open_channel, shown_by
from broker.connection.engine import Connection, Handler, Introduce, Settings
from broker.connection.forks import forks
from broker.connection.frames import MESSAGE_LIMIT
from broker.connection.groups import CallGroup
from broker.connection.line import write_aside
from broker.connection.local import Entrance, entrances
from broker.connection.near import Claim, distrust
from broker.connection.probe import describe_peer
from broker.connection.refusals import Reason, Refused
from broker.connection.timers import timers
from broker.errors import AccessDenied, CannotConnect, CommunicationError, Overloaded
from broker.security import Credentials
from broker.uri import URI, join_host_port

CONNECT_METHOD = "/broker.v1.ObjectBroker/Connect"
ROOT = 0  # who may have made a socket for this user
_OVERTIME_SECONDS = 0.1
_LAST_WORDS_SECONDS = 1.0  # what the other side has for taking in why a connection ends
_MOVE_SECONDS = 1.0  # for connecting over a Unix socket to a daemon that has just answered over TCP

_PUBLIC_STREAMS = "that had connections open (on a release of grpcio whose threads cannot be held up meanwhile)"

_log = logging.getLogger("broker")

StreamMetadata = tuple[tuple[str, str], ...]


class Place(NamedTuple):
    """Where a daemon is, and as whom it is approached: the key of a connection."""

    host: str
    port: int
    socket_path: str | None
    credentials: ChannelSecurity | None
    local: bool = False
    """Whether short cuts may be taken: within the process, and within the host."""

    def __str__(self) -> str:
        return f"./u:{self.socket_path}" if self.socket_path is not None else join_host_port(self.host, self.port)

    @classmethod
    def of(cls, uri: URI, credentials: ChannelSecurity | None = None, *, local: bool = False) -> Place:
        """The place in a BROKER URI. Raises CommunicationError for that of an exported object."""
        if uri.connection is not None:
            raise CommunicationError(
                f"{uri} leads to an exported object, and only the proxy that arrived for it knows the way: use that, "
                "or register the object with a daemon"
            )
        return cls(uri.host or "", uri.port or 0, uri.socket_path, credentials, local)

    @property
    def is_trusted(self) -> bool:
        """Whether who answers there is of this machine, or proves by TLS who it is."""
        if isinstance(self.credentials, grpc.ChannelCredentials) or (self.credentials and self.credentials.encrypts):
            return True
        return self.socket_path is not None or is_loopback(self.host)

    def entrance(self) -> Entrance | None:
        """The daemon of this process that is there, if the socket may be left out.

        With credentials the socket is part of what was asked for: who answers has to prove who it is.
        """
        if not self.local or self.credentials is not None:
            return None
        return entrances.find(self.host, self.port, self.socket_path)


class Stream(Protocol):
    """The stream that carries a connection, as this end sees it."""

    code: grpc.StatusCode | None
    details: str

    def read(self) -> None:
        """Takes in what arrives until the end; then `code` and `details` say how it ended. In a thread of its own."""

    def cancel(self) -> None:
        """Ends the stream at once. From any thread."""

    def close(self) -> None:
        """Lets go of what carried it, once `read` is done."""


class _PublicStream:
    """A stream on the public API of grpcio, which has a thread of its own for what is sent."""

    def __init__(self, channel: grpc.Channel, engine: Connection, metadata: StreamMetadata) -> None:
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self._engine = engine
        self._channel = channel
        method: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(CONNECT_METHOD)
        forks.hinder(_PUBLIC_STREAMS)
        self._call: Any = method(iter(engine.next_message, None), metadata=metadata)

    def read(self) -> None:
        try:
            for message in self._call:
                self._engine.receive(message)
        except grpc.RpcError:
            pass  # the code says it
        forks.hinder_no_more(_PUBLIC_STREAMS)
        self.code, self.details = self._call.code(), self._call.details()

    def cancel(self) -> None:
        self._call.cancel()

    def close(self) -> None:
        with forks.under_way():
            self._channel.close()


def _over_grpc(place: Place, engine: Connection) -> Stream:
    host, port, path, credentials, _ = place
    limit = MESSAGE_LIMIT + (1 << 20)
    shown = shown_by(credentials, host, port, unix_socket=path)
    with forks.under_way():
        channel = open_channel(host, port, unix_socket=path, credentials=credentials, max_message_size=limit)
        if not completion.is_available:
            return _PublicStream(channel, engine, shown)
        stream = completion.ClientStream(channel, CONNECT_METHOD, engine, shown)
        engine.hand_to(stream)
        return stream


def _over_socket(path: str, patience: float, engine: Connection) -> Stream:
    """Raises OSError if there is nobody of this user."""
    stream = sockets.ClientSocket(sockets.connect(path, patience), engine)
    engine.hand_to(stream, write_aside, reader_pushes=True)
    return stream


class Opening:
    """One connection on its way to its daemon."""

    def __init__(self, place: Place, settings: Settings, handler: Handler | None, on_end: Callable[[], None]) -> None:
        """`on_end` is called when the connection has ended. Without a handler calls of the other side are refused."""
        self._place = place
        self._settings = settings
        self._handler = handler or _NothingServed()
        self._on_end = on_end
        self._failure: grpc.StatusCode | None = None
        self._details = ""
        self.engine = self._new_engine(self._hello)
        """The end of this side; another one once the connection has moved."""
        self.engine.transport = "tcp" if place.socket_path is None else "unix"

    def open(self, timeout: float | None) -> Connection:
        """Connects and introduces itself. Raises CannotConnect, or ProtocolError for another version."""
        entrance = self._place.entrance()
        if entrance is not None:
            self._enter(entrance, timeout)
            return self.engine
        until = math.inf if timeout is None else time.monotonic() + timeout
        if self._place.socket_path is not None and self._place.credentials is None:
            _check_owner(self._place.socket_path)
        stream = _over_grpc(self._place, self.engine)
        self._carry(self.engine, stream)
        self._wait_opened(timeout, stream.cancel)
        offer = self.engine.peer.offer if self.engine.peer is not None else SocketOffer()
        if offer.path and sockets.is_available and self._place.local:
            self._move(offer, stream, min(_MOVE_SECONDS, max(0.0, until - time.monotonic())))
        if self.engine.draining_because is not None:  # as it was welcomed: it takes no call any more
            self.engine.close("it takes no calls")
            raise self._cannot_connect(self.engine.draining_because)
        return self.engine

    def _new_engine(self, introduce: Introduce) -> Connection:
        name = str(self._place)
        engine = Connection(self._settings, self._handler, accepts=False, peer_name=name, introduce=introduce)
        engine.is_trusted = self._place.is_trusted
        return engine

    def _hello(self, connection: Connection, hello: Hello | None) -> Hello:
        hello = self._settings.to_wire()
        if sockets.is_available and self._place.local and self._place.socket_path is None:
            hello.port = self._place.port
        return hello

    # ---- within the process

    def _enter(self, entrance: Entrance, timeout: float | None) -> None:
        self.engine.transport = "process"
        self.engine.on_end = lambda _: self._on_end()
        entrance.accept(self.engine)
        self._wait_opened(timeout, lambda: self.engine.lost("the attempt to connect was given up"))

    # ---- over a stream

    def _carry(self, engine: Connection, stream: Stream) -> None:
        """Has a thread read the stream that an engine is on."""
        name = f"broker-{self._place}"
        engine.on_end = lambda ended: self._stream_ended(ended, stream)
        threading.Thread(target=self._read, args=(stream, engine), name=name, daemon=True).start()

    def _read(self, stream: Stream, engine: Connection) -> None:
        try:
            stream.read()
        except BaseException as error:  # a fault of ours must not look like an open connection
            engine.lost(f"an internal error ended the connection ({type(error).__name__})")
            raise
        reason = f"{self._place} closed the connection"
        if stream.code is not grpc.StatusCode.OK:
            self._failure, self._details = stream.code, stream.details
            reason = stream.details
        engine.lost(engine.draining_because or f"the connection to {self._place} was lost ({reason})")
        stream.close()

    def _stream_ended(self, ended: Connection, stream: Stream) -> None:
        if ended is self.engine:
            self._on_end()
        timers.call_later(_LAST_WORDS_SECONDS, stream.cancel)

    def _wait_opened(self, timeout: float | None, give_up: Callable[[], object]) -> None:
        try:
            opened = self.engine.opened.wait(timeout)
        except BaseException:  # Ctrl-C
            give_up()
            raise
        if self.engine.peer is None or self.engine.ended_because is not None:
            reason = self.engine.ended_because if opened else f"no answer within {timeout:g} s"
            self.engine.lost(f"{reason}")
            give_up()
            if self._failure is grpc.StatusCode.UNAUTHENTICATED:
                raise AccessDenied(f"{self._place} does not let this process in: {self._details}")
            if self._failure is grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise Overloaded(f"{self._place} does not let this process in: {self._details}")
            draining = self.engine.draining_because
            raise self._cannot_connect(draining or self._explain(reason or "no answer", opened))

    def _cannot_connect(self, why: str) -> CannotConnect:
        return CannotConnect(f"cannot connect to {self._place}: {why}")

    # ---- from TCP to the Unix socket beside it

    def _move(self, offer: SocketOffer, stream: Stream, patience: float) -> None:
        """Goes on over the socket that the daemon offered; stays on TCP if that is not possible."""
        distrusted = distrust(offer.path)
        if distrusted is not None:
            _log.debug("the socket %s that %s offered is not used: %s", offer.path, self._place, distrusted)
            return
        claim = Claim(offer)
        engine = self._new_engine(lambda connection, hello: self._claiming(claim))
        engine.transport = "unix"
        try:
            near = _over_socket(offer.path, patience, engine)
        except OSError as error:
            _log.debug("the socket %s that %s offered is not used: %s", offer.path, self._place, error)
            return
        self._carry(engine, near)
        try:
            engine.opened.wait(patience)
        except BaseException:  # Ctrl-C
            near.cancel()
            stream.cancel()
            raise
        if engine.peer is None or not claim.is_met_by(engine.peer.proof):
            why = engine.ended_because or "who listens there did not prove in time to be the daemon"
            _log.debug("the connection to %s stays on TCP: %s", self._place, why)
            engine.lost(why)
            near.cancel()
            return
        over_tcp, self.engine = self.engine, engine
        over_tcp.close("the connection goes on over a Unix socket")

    def _claiming(self, claim: Claim) -> Hello:
        hello = self._settings.to_wire()
        hello.proof.CopyFrom(claim.proof)
        return hello

    # ---- what went wrong

    def _explain(self, reason: str, in_time: bool) -> str:
        """Why a connection did not come about, in words that help. What already took its time is not asked for long."""
        if self._failure is grpc.StatusCode.UNIMPLEMENTED:
            return "a gRPC server answers there that is no broker"
        if "Connection refused" in reason or "No such file" in reason:
            return "nothing listens there (connection refused). Is the daemon running?"
        if "DNS" in reason or "not known" in reason or "resolution" in reason:
            return f"the host {self._place.host!r} is not known"
        if self.engine.transport == "tcp":
            host, port, _, credentials, _ = self._place
            peer = describe_peer(host, port, 1.0 if in_time else _OVERTIME_SECONDS, credentials)
            if peer is not None:
                is_tls = "TLS" in peer or isinstance(credentials, Credentials)
                return f"what listens there {peer}" if is_tls else f"what listens there is no broker: it {peer}"
        return reason


def _check_owner(path: str) -> None:
    """Refuses a socket that another user has put there, before he is told anything. Raises AccessDenied."""
    try:
        owner = Path(path).stat().st_uid
    except OSError:  # what is wrong with it, connecting says
        return
    if owner not in (os.geteuid(), ROOT):
        raise AccessDenied(
            f"the Unix socket {path} is of another user (uid {owner}), who could be anybody: give the proxy "
            "credentials by which the daemon proves who it is"
        )


class _NothingServed:
    """There is nothing that the other side could call."""

    def incoming(self, call: IncomingCall) -> None:
        what = f"{call.request.object!r} was asked of a process that exports no such object"
        call.refuse(Refused(Reason.OBJECT_NOT_FOUND, what))

    def incoming_group(self, group: CallGroup) -> None:
        for call in group.singles():
            self.incoming(call)

    def turned_away(self, refused: Refused) -> None: ...

    def session_closed(self, connection: Connection, session: int) -> None: ...

    def connection_ended(self, connection: Connection) -> None: ...
