"""Standard server reflection and health: what any gRPC tool can learn about a daemon while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health, health_pb2  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection, reflection_pb2  # type: ignore[import-untyped]

from broker.connection.refusals import Reason, Refused
from broker.connection.statuses import abort
from broker.errors import AccessDenied
from broker.security import Identification

HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


class _Pool:
    """The default pool, which also knows a method by its name: protobuf's own finds every kind of symbol but that."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802  # as in protobuf
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            file = self._pool.FindFileContainingSymbol(service)
            if method not in self._pool.FindServiceByName(service).methods_by_name:
                raise
            return file


class Inspection(grpc.GenericRpcHandler):
    """The two services. Services of the daemon may be added while it runs.

    Health answers everybody, because probes have no identity and learn nothing else; reflection whom the server knows.
    """

    def __init__(self, services: Iterable[str], identification: Identification) -> None:
        self._identification = identification
        self._services = {HEALTH, REFLECTION, *services}
        self._health = health.HealthServicer()
        self._reflection = reflection.ReflectionServicer(self._services, _Pool())
        for name in ("", *services):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._methods = {
            f"/{HEALTH}/Check": grpc.unary_unary_rpc_method_handler(
                self._health.Check,
                health_pb2.HealthCheckRequest.FromString,
                health_pb2.HealthCheckResponse.SerializeToString,
            ),
            f"/{HEALTH}/Watch": grpc.unary_stream_rpc_method_handler(
                self._health.Watch,
                health_pb2.HealthCheckRequest.FromString,
                health_pb2.HealthCheckResponse.SerializeToString,
            ),
            f"/{REFLECTION}/ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                self._reflect,
                reflection_pb2.ServerReflectionRequest.FromString,
                reflection_pb2.ServerReflectionResponse.SerializeToString,
            ),
        }

    def _reflect(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            self._identification.of(context)
        except AccessDenied as error:
            refused = Refused(Reason.UNAUTHENTICATED, str(error))
            abort(context, refused.code, refused.reason, refused.message)
        answers: Iterator[Any] = self._reflection.ServerReflectionInfo(requests, context)
        return answers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._methods.get(handler_call_details.method)

    def add(self, service: str) -> None:
        """Shows a service from now on."""
        self._services.add(service)
        self._reflection = reflection.ReflectionServicer(self._services, _Pool())
        self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def not_serving(self) -> None:
        """Says that no further call is taken."""
        self._health.enter_graceful_shutdown()
