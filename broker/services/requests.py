"""Requests of gRPC clients that have begun and have not come: each holds a thread, and may never come.

gRPC waits for the one message of a unary call on a thread of its pool, without a limit of time or number. Here every
method takes a stream, which on the wire is the same, and waits for its first message itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import grpc

from broker.connection.refusals import Reason, Refused
from broker.connection.statuses import break_cycle, refuse
from broker.connection.timers import timers

T = TypeVar("T")
Behaviour = Callable[[Any, grpc.ServicerContext], Any]

_SWEEP_SECONDS = 1.0
_SOON_SECONDS = 1.0
"""A request that is younger does not have to make room for others: bursts of calls are nobody's fault."""


class Requests:
    """Those of one daemon. Every method may be called from any thread.

    What takes too long is cancelled: gRPC lets no other thread end a call with a status.
    """

    def __init__(self, timeout: float, most: int, on_limit: Callable[[str], None]) -> None:
        """A request has `timeout` seconds; where more than `most` are on their way, those that have had a second make
        room, the oldest first. `on_limit` counts what the setting of that name has ended."""
        self._timeout = timeout
        self._most = most
        self._on_limit = on_limit
        self._lock = threading.Lock()
        self._awaited: dict[grpc.ServicerContext, float] = {}  # since when, the oldest first
        self._sweeping = False

    def __len__(self) -> int:
        """How many have begun and have not come."""
        return len(self._awaited)

    def receive(self, receive: Callable[[], T], context: grpc.ServicerContext) -> T:
        """What `receive` returns, which waits for the first message of a call. Aborts a call whose caller is gone."""
        with self._lock:
            self._awaited[context] = time.monotonic()
            if not self._sweeping:
                self._sweeping = True
                timers.call_later(_SWEEP_SECONDS, self.sweep)
        try:
            return receive()
        except grpc.RpcError as gone:
            break_cycle(gone)
            context.abort(grpc.StatusCode.CANCELLED, "the caller gave up")
        finally:
            with self._lock:
                self._awaited.pop(context, None)

    def method(self, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """The same method, if it takes one message, with that received here."""
        if handler.request_streaming:
            return handler
        if handler.response_streaming:
            make, take, behaviour = grpc.stream_stream_rpc_method_handler, self._answer_many, handler.unary_stream
        else:
            make, take, behaviour = grpc.stream_unary_rpc_method_handler, self._answer, handler.unary_unary
        assert behaviour is not None
        return make(partial(take, behaviour), handler.request_deserializer, handler.response_serializer)

    def _answer(self, behaviour: Behaviour, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        return behaviour(self._only(requests, context), context)

    def _answer_many(
        self, behaviour: Behaviour, requests: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        yield from behaviour(self._only(requests, context), context)

    def _only(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        request = self.receive(lambda: next(requests, None), context)
        if request is None:
            refuse(context, Refused(Reason.UNIMPLEMENTED, "the method takes one message, and none came"))
        return request

    def sweep(self) -> None:
        """Ends what has waited for too long. Once a second, while any wait."""
        now = time.monotonic()
        late: list[tuple[grpc.ServicerContext, str]] = []
        with self._lock:
            too_many = len(self._awaited) - self._most
            for context, since in self._awaited.items():
                if now - since >= self._timeout:
                    late.append((context, "request_timeout"))
                elif len(late) < too_many and now - since >= _SOON_SECONDS:
                    late.append((context, "max_unary_calls"))
                else:
                    break
            for context, _ in late:
                del self._awaited[context]
            self._sweeping = bool(self._awaited)
            if self._sweeping:
                timers.call_later(_SWEEP_SECONDS, self.sweep)
        for context, setting in late:
            self._on_limit(setting)
            context.cancel()
