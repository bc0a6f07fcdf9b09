"""grpc.health.v1: whether a daemon takes calls, and whether an object is there.

Of grpcio-health-checking only the messages are used: its servicer keeps a table of names that can grow and not shrink,
while here objects come and go.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse  # type: ignore[import-untyped]

from broker.connection.refusals import Reason, Refused
from broker.connection.statuses import refuse

HEALTH = "grpc.health.v1.Health"
MAX_WATCHERS = 1_024
"""Each holds a thread."""

_SERVING: int = HealthCheckResponse.SERVING
_NOT_SERVING: int = HealthCheckResponse.NOT_SERVING
_UNKNOWN: int = HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """The service of one daemon. Every method may be called from any thread."""

    def __init__(
        self, knows: Callable[[str], bool], check_may_ask: Callable[[str, grpc.ServicerContext], None], location: str
    ) -> None:
        """`knows` says whether the daemon has a service or an object of that name; `check_may_ask` ends the call of a
        caller who is not to learn that."""
        self._check_may_ask = check_may_ask
        self._knows = knows
        self._location = location
        self._changed = threading.Condition()
        self._serving = False
        self._closed = False  # this and the rest under the condition
        self._watchers = 0

    def serving(self, serving: bool) -> None:
        """The daemon takes calls from now on, or takes none any more."""
        with self._changed:
            self._serving = serving
            self._changed.notify_all()

    def changed(self) -> None:
        """An object came or went, or a name of one."""
        with self._changed:
            if self._watchers:
                self._changed.notify_all()

    def close(self) -> None:
        """Ends what the watchers watch."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def check(self, request: HealthCheckRequest, context: grpc.ServicerContext) -> HealthCheckResponse:
        """The status of a service or object; that of the daemon for the empty name."""
        self._check_may_ask(request.service, context)
        status = self._status(request.service)
        if status == _UNKNOWN:
            refuse(context, Refused(Reason.OBJECT_NOT_FOUND, f"{request.service!r} is not at {self._location}"))
        return HealthCheckResponse(status=status)

    def watch(self, request: HealthCheckRequest, context: grpc.ServicerContext) -> Iterator[HealthCheckResponse]:
        """The status, and each that follows it. Names that are not known yet can be watched as well."""
        self._check_may_ask(request.service, context)
        left = threading.Event()

        def leave() -> None:
            left.set()
            with self._changed:
                self._changed.notify_all()

        if not self._enter():
            what = f"{MAX_WATCHERS} clients watch the health of {self._location}, which takes no more"
            refuse(context, Refused(Reason.OVERLOADED, what))
        try:
            if context.add_callback(leave):
                yield from self._statuses(request.service, left)
        finally:
            with self._changed:
                self._watchers -= 1
        if not left.is_set():
            refuse(context, Refused(Reason.DRAINING, f"the daemon at {self._location} is shut down"))

    def _enter(self) -> bool:
        with self._changed:
            if self._watchers >= MAX_WATCHERS:
                return False
            self._watchers += 1
            return True

    def _statuses(self, name: str, left: threading.Event) -> Iterator[HealthCheckResponse]:
        told: int | None = None

        def is_over() -> bool:
            return left.is_set() or self._closed or self._status(name) != told

        while True:
            with self._changed:
                self._changed.wait_for(is_over)
                status = self._status(name)
            if left.is_set() or status == told:
                return
            told = status
            yield HealthCheckResponse(status=status)

    def _status(self, name: str) -> int:
        if name and not self._knows(name):
            return _UNKNOWN
        return _SERVING if self._serving else _NOT_SERVING

    def methods(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The methods by name."""
        serialize = HealthCheckResponse.SerializeToString
        return {
            "Check": grpc.unary_unary_rpc_method_handler(self.check, HealthCheckRequest.FromString, serialize),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, HealthCheckRequest.FromString, serialize),
        }
