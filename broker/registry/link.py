"""One gRPC channel to a name server, with patience: it is asked again while it restarts."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Final

import grpc

from broker.connection.channels import ChannelSecurity, open_channel, shown_by
from broker.connection.forks import forks
from broker.connection.probe import describe_peer
from broker.errors import NamingError
from broker.registry import wire
from broker.security import Credentials, InvalidCredentials
from broker.uri import join_host_port

__all__ = ["PATIENCE", "Link", "NoNameServer"]

PATIENCE: Final = 5.0
"""Seconds after which a question to a name server gives up."""
_LOG = logging.getLogger("broker")
_PAUSE = 0.1
_RESTARTING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED)  # gone; back, but not yet complete
_RETURNING_PAUSE = 0.2


class NoNameServer(NamingError):
    """No name server answers at a place, for the reason given."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"no name server answers at {place}: {reason}")
        self.reason = reason


class Link:
    """Shared by threads; in a forked child it connects anew.

    A place that never answered fails at once when nothing listens there; one that did answer is restarting, and is
    asked again until the patience ends.
    """

    def __init__(
        self, host: str, port: int, credentials: ChannelSecurity | None = None, patience: float = PATIENCE
    ) -> None:
        self.patience = patience
        self.host = host
        self.port = port
        self.credentials = credentials
        self._answered = False
        self._closed = False
        self._channel: tuple[int, grpc.Channel] | None = None
        self._opened_with: object = None  # the state of the files that the credentials are in
        self._inherited: list[object] = []  # channels of the parent process, which a child must not even destroy

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)

    def call(
        self,
        method: wire.Method[wire.Request, wire.Response],
        request: wire.Request,
        *,
        repeat: wire.Request | None = None,
        patience: float | None = None,
    ) -> wire.Response:
        """Asks, and returns the answer; `repeat` is what to send when the request may have arrived before.

        `patience` is for this question, in seconds; None: that of the link.

        Raises what the name server refused with (NameNotFound, NameTaken, InvalidURI, NamingError), and NamingError
        if no name server answers.
        """
        patience = self.patience if patience is None else patience
        deadline = time.monotonic() + patience
        while True:
            left = max(deadline - time.monotonic(), 0.001)
            try:
                with forks.under_way():
                    answer = self._send(method, request, left)
            except grpc.RpcError as error:
                pause = self._pause_after(error, patience, deadline - time.monotonic())
                request = repeat or request
                time.sleep(pause)
            else:
                self._answered = True
                return answer

    def close(self) -> None:
        """Ends calls under way, and every later one, with NamingError."""
        self._closed = True
        if self._channel is not None and self._channel[0] == os.getpid():
            self._channel[1].close()

    @property
    def closed(self) -> bool:
        return self._closed

    def channel(self) -> grpc.Channel:
        """The channel of this process. Raises NamingError after `close`."""
        if self._closed:
            raise NamingError(f"this connection to the name server at {self} is closed: locate_ns() gives another")
        current = self._channel
        if current is None or current[0] != os.getpid():
            if current is not None:
                self._inherited.append(current)
            return self._open()
        if isinstance(self.credentials, Credentials) and self.credentials.stamp != self._opened_with:
            return self._open_again(current[1], self.credentials.stamp)
        return current[1]

    def _open(self) -> grpc.Channel:
        if isinstance(self.credentials, Credentials):
            self._opened_with = self.credentials.stamp
        channel = open_channel(self.host, self.port, credentials=self.credentials)
        self._channel = (os.getpid(), channel)
        return channel

    def _open_again(self, current: grpc.Channel, stamp: object) -> grpc.Channel:
        """The certificates were replaced. Calls under way end on the channel that they have."""
        try:
            return self._open()
        except InvalidCredentials as error:
            _LOG.warning("the connection to the name server at %s keeps the certificate of before: %s", self, error)
            self._opened_with = stamp
            return current

    def _send(
        self,
        method: wire.Method[wire.Request, wire.Response],
        request: wire.Request,
        timeout: float,
    ) -> wire.Response:
        stub = self.channel().unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        try:
            return stub(request, timeout=timeout, metadata=shown_by(self.credentials, self.host, self.port))
        except ValueError:  # grpcio's word for a channel that another thread has just closed
            self.channel()
            raise

    def _pause_after(self, error: grpc.RpcError, patience: float, left: float) -> float:
        """How long to wait before asking again; raises where that is of no use."""
        refusal = wire.refusal_of(error)
        if refusal is not None:
            self._answered = True
            if refusal.returning > 0 and left > 0:
                return min(_RETURNING_PAUSE, refusal.returning, left)
            raise refusal.kind(f"{refusal.message} (name server at {self})") from None
        call = wire.call_of(error)
        if call is None:
            raise error
        if self._answered and call.code() in _RESTARTING and left > _PAUSE and not self._closed:
            return _PAUSE
        raise self._no_answer(call.code(), call.details() or "", patience) from None

    def _no_answer(self, code: grpc.StatusCode, details: str, patience: float) -> NamingError:
        if self._closed:
            return NamingError(f"this connection to the name server at {self} was closed while it was asked")
        return NoNameServer(str(self), self._reason(code, details, patience))

    def _reason(self, code: grpc.StatusCode, details: str, patience: float) -> str:
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return "what listens there speaks gRPC but is no name server (is it the port of a daemon?)"
        failure = self._connect_failure()
        if failure is not None:
            return failure
        found = describe_peer(self.host, self.port, credentials=self.credentials)
        if found is not None:
            return f"what listens there {found}"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer within {patience:g} seconds"
        return details or code.name

    def _connect_failure(self) -> str | None:
        """What plain TCP says, which is clearer than what gRPC made of it; None if it connects."""
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except socket.gaierror:
            return f"the host {self.host!r} is not known"
        except ConnectionRefusedError:
            return "nothing listens there (connection refused)"
        except OSError as error:
            return str(error)
        return None
