"""All gRPC services of a daemon: what is asked for by its path finds its method here, while services come and go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from broker.connection.refusals import Reason, Refused
from broker.connection.statuses import refuse
from broker.context import Client
from broker.errors import AccessDenied
from broker.objects import ObjectTable
from broker.security import Identification
from broker.services.catalog import Files, file_of_service
from broker.services.health import HEALTH, Health
from broker.services.reflection import V1, V1ALPHA, Reflection, Shown, v1_file

Methods: TypeAlias = "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"


class Services(grpc.GenericRpcHandler):
    """The services of one daemon. gRPC asks it about every call, on any thread."""

    def __init__(self, objects: ObjectTable, identification: Identification) -> None:
        self._objects = objects
        self._identification = identification
        self._methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._others: list[grpc.GenericRpcHandler] = []
        self._names: set[str] = set()
        self._files = Files()
        self._health = Health(self._knows, self._check_may_ask, objects.location)
        self._reflection = Reflection(self._shown, objects.location)
        self._files.add(v1_file())
        self._files.add_known(error_details_pb2.DESCRIPTOR)  # what statuses have in their details
        self._add_methods(V1, self._reflection.methods())
        self._add_methods(V1ALPHA, self._reflection.methods())
        self._add_methods(HEALTH, self._health.methods())
        for name in (V1ALPHA, HEALTH):
            self._files.add_known(file_of_service(name))
        self._names |= {V1, V1ALPHA, HEALTH}

    def _add_methods(self, service: str, methods: Methods) -> None:
        self._methods |= {f"/{service}/{name}": method for name, method in methods.items()}

    def add(self, service: str, handler: grpc.GenericRpcHandler) -> None:
        """Serves a service, whose file is in the pool of this process, and shows it."""
        self._others.append(handler)
        self._files.add_known(file_of_service(service))
        self._names.add(service)
        self._health.changed()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = self._methods.get(handler_call_details.method)
        if method is not None:
            return method
        for handler in self._others:
            method = handler.service(handler_call_details)
            if method is not None:
                return method
        return None

    # ---- what changes

    def objects_changed(self) -> None:
        """An object came or went, or a name of one."""
        self._health.changed()

    def serving(self, serving: bool) -> None:
        """Says that the daemon takes calls, or takes none any more."""
        self._health.serving(serving)

    def close(self) -> None:
        """Ends the streams that would go on for ever."""
        self._health.close()
        self._reflection.close()

    # ---- what there is

    def _knows(self, name: str) -> bool:
        return name in self._names or self._objects.find(name) is not None

    def _check_may_ask(self, name: str, context: grpc.ServicerContext) -> None:
        """Services are no secret, for probes have no identity. Of objects only those learn whom the daemon knows."""
        if name and name not in self._names:
            self._client(context)

    def _shown(self, context: grpc.ServicerContext) -> Shown:
        self._client(context)
        return self

    def _client(self, context: grpc.ServicerContext) -> Client:
        """Who calls; ends the call of a caller whom the daemon has to know and does not."""
        try:
            identity = self._identification.of(context)
        except AccessDenied as error:
            refuse(context, Refused(Reason.UNAUTHENTICATED, str(error)))
        return Client(context.peer(), identity=identity)

    def services(self) -> list[str]:
        return sorted(self._names)

    def with_symbol(self, symbol: str) -> list[bytes]:
        return self._files.with_symbol(symbol)

    def with_name(self, name: str) -> list[bytes]:
        return self._files.with_name(name)
