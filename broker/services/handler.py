"""All gRPC services of a daemon: what is asked for by its path finds its method here, while services come and go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import grpc
from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from broker.dispatch import Dispatcher
from broker.objects import ObjectTable
from broker.security import Identification
from broker.services.calls import Calls
from broker.services.catalog import Files, file_of_service
from broker.services.health import HEALTH, Health
from broker.services.invoke import InvokeService
from broker.services.objects import TypedObjects
from broker.services.reflection import V1, V1ALPHA, Reflection, v1_file
from broker.services.requests import Requests
from broker.services.typed import TypedServices
from broker.services.visible import Visible
from broker.uri import URI

Methods: TypeAlias = "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"

# What files of typed services import, and what statuses have in their details.
_FILES = (
    duration_pb2.DESCRIPTOR, struct_pb2.DESCRIPTOR, timestamp_pb2.DESCRIPTOR,
    error_details_pb2.DESCRIPTOR, status_pb2.DESCRIPTOR,
)  # fmt: skip


class Services(grpc.GenericRpcHandler):
    """The services of one daemon. gRPC asks it about every call, on any thread."""

    def __init__(
        self,
        objects: ObjectTable,
        dispatcher: Dispatcher,
        identification: Identification,
        *,
        names: Callable[[], Mapping[str, URI]],
        max_message_size: int,
        max_unary_calls: int,
        request_timeout: float,
    ) -> None:
        """`names` has what this daemon has entered in name servers."""
        self._table = objects
        self._methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._own: set[str] = set()
        self._others: list[grpc.GenericRpcHandler] = []
        self._files = Files()
        self._requests = Requests(request_timeout, max_unary_calls, dispatcher.limit_met)
        self._calls = Calls(dispatcher, identification, max_message_size, max_unary_calls)
        self._objects = TypedObjects(objects, names, dispatcher.allows, self._own)
        self._typed = TypedServices(self._objects, self._calls, self._requests)
        self._health = Health(self._knows, self._check_may_ask, objects.location)
        self._reflection = Reflection(self._shown, objects.location)
        for file in _FILES:
            self._files.add_known(file)
        self._files.add(v1_file())
        self._add_methods(V1, self._reflection.methods())
        self.add(V1ALPHA, self._reflection.methods())
        self.add(HEALTH, self._health.methods())

    # ---- services that are there from the start

    def add(self, service: str, methods: Methods) -> None:
        """Serves a service whose file is in the pool of this process, and shows it."""
        self._files.add_known(file_of_service(service))
        self._add_methods(service, methods)

    def add_handler(self, service: str, handler: grpc.GenericRpcHandler) -> None:
        """The same for a service that finds its methods itself."""
        self._others.append(handler)
        self.add(service, {})

    def remove_handler(self, service: str, handler: grpc.GenericRpcHandler) -> None:
        """That service is over; calls of it go on."""
        self._others = [other for other in self._others if other is not handler]
        self._own.discard(service)
        self._health.changed()

    def add_object_broker(self, service: str, connect: grpc.RpcMethodHandler[Any, Any]) -> None:
        """The generic calls, beside the stream on which proxies call."""
        self.add(service, {"Connect": connect, **InvokeService(self._table, self._calls).methods()})

    def _add_methods(self, service: str, methods: Methods) -> None:
        self._methods |= {f"/{service}/{name}": self._requests.method(method) for name, method in methods.items()}
        self._own.add(service)

    # ---- calls

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        path = handler_call_details.method
        method = self._methods.get(path)
        if method is not None:
            return method
        for handler in self._others:  # the list is replaced, never changed, by who removes one
            method = handler.service(handler_call_details)
            if method is not None:
                return self._requests.method(method)
        if path.removeprefix("/").rpartition("/")[0] in self._own:
            return None  # one of ours, which has no such method
        return self._requests.method(self._typed.method(path))

    # ---- what changes

    def objects_changed(self) -> None:
        """An object came or went, or a name of one."""
        self._objects.changed()
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
        return name in self._own or self._objects.answers_to(name)

    def _check_may_ask(self, name: str, context: grpc.ServicerContext) -> None:
        """Services are no secret, for probes have no identity. Of objects only those learn whom the daemon knows."""
        if name and name not in self._own:
            self._calls.client(context)

    def _shown(self, context: grpc.ServicerContext) -> Visible:
        return Visible(self._own, self._files, self._objects, self._calls.client(context))
