"""NameRegistry on a gRPC server: each method puts one question to the names and writes the answer down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message

from broker._pb import registry_pb2 as pb
from broker.connection.statuses import abort
from broker.errors import AccessDenied, BrokerError, NameNotFound, NameTaken, NamingError, Overloaded
from broker.registry import wire
from broker.registry.names import Names
from broker.registry.store import Entry, Selection, StoreError
from broker.security import Identification, Unidentified
from broker.uri import InvalidURI

__all__ = ["generic_handler"]

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)


def generic_handler(names: Names, identification: Identification) -> grpc.GenericRpcHandler:
    """The service over `names`, for a server whose pool has no bound: each watcher occupies one thread."""
    service = _NameRegistry(names)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        wire.REGISTER.name: _unary(identification, wire.REGISTER, service.register, names),
        wire.REMOVE.name: _unary(identification, wire.REMOVE, service.remove, names),
        wire.LOOKUP.name: _unary(identification, wire.LOOKUP, service.lookup, names),
        wire.LIST.name: _unary(identification, wire.LIST, service.list, names),
        wire.SET_TAGS.name: _unary(identification, wire.SET_TAGS, service.set_tags, names),
        wire.COUNT.name: _unary(identification, wire.COUNT, service.count, names),
        wire.PING.name: _unary(identification, wire.PING, service.ping, names),
        wire.KEEP_ALIVE.name: _unary(identification, wire.KEEP_ALIVE, service.keep_alive, names),
        wire.WATCH.name: grpc.unary_stream_rpc_method_handler(
            lambda request, context: service.watch(request, context, identification),
            request_deserializer=pb.WatchRequest.FromString,
            response_serializer=pb.WatchEvent.SerializeToString,
        ),
    }
    return grpc.method_handlers_generic_handler(wire.SERVICE, handlers)


# The most special class comes first, each with its google.rpc.Code.
_CODES: tuple[tuple[type[BrokerError], int], ...] = (
    (Unidentified, 16),
    (AccessDenied, 7),
    (NameNotFound, 5),
    (NameTaken, 6),
    (StoreError, 13),
    (NamingError, 3),
    (InvalidURI, 3),
    (Overloaded, 8),
    (BrokerError, 13),
)


def _abort(context: grpc.ServicerContext, error: BrokerError, extra: Mapping[str, str]) -> NoReturn:
    """Ends a call with the status of a refusal, its class and `extra` in the ErrorInfo."""
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    reason = AccessDenied if isinstance(error, AccessDenied) else type(error)
    abort(context, code, reason.__name__, str(error), extra)


def _unary(
    identification: Identification,
    method: wire.Method[_Request, _Response],
    answer: Callable[[_Request], _Response],
    names: Names,
) -> grpc.RpcMethodHandler[_Request, _Response]:
    def handle(request: _Request, context: grpc.ServicerContext) -> _Response:
        try:
            identification.of(context)
            return answer(request)
        except BrokerError as error:
            returning = names.returning() if isinstance(error, NameNotFound) else 0.0
            _abort(context, error, {wire.RETURNING: f"{returning:.3f}"} if returning else {})

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=method.request.FromString,
        response_serializer=method.response.SerializeToString,
    )


class _NameRegistry:
    def __init__(self, names: Names) -> None:
        self._names = names

    def register(self, request: pb.RegisterRequest) -> pb.RegisterResponse:
        registration = self._names.register(
            request.name,
            request.uri,
            tags=request.tags,
            replace=request.replace,
            lease=request.lease,
            ttl=request.ttl,
            registration=request.registration,
            again=request.again,
        )
        return pb.RegisterResponse(registration=registration, epoch=self._names.epoch, lease_ttl=self._names.lease_ttl)

    def remove(self, request: pb.RemoveRequest) -> pb.RemoveResponse:
        removed = self._removed(request)
        return pb.RemoveResponse(removed=len(removed), names=removed)

    def _removed(self, request: pb.RemoveRequest) -> list[str]:
        match request.WhichOneof("which"):
            case "name":
                return self._names.remove(name=request.name, registration=request.registration)
            case "lease" if request.lease:
                return self._names.remove(lease=request.lease)
            case "prefix":
                return self._names.remove(selection=Selection.of(prefix=request.prefix))
            case "regex":
                return self._names.remove(selection=Selection.of(regex=request.regex))
            case _:
                raise NamingError("say what to remove: a name, a prefix, a regex or a lease")

    def lookup(self, request: pb.LookupNameRequest) -> pb.Entry:
        return _entry(self._names.lookup(request.name))

    def list(self, request: pb.ListRequest) -> pb.ListResponse:
        selection = Selection.of(
            request.prefix if request.HasField("prefix") else None,
            request.regex if request.HasField("regex") else None,
            request.tags_all,
            request.tags_any,
        )
        entries = self._names.select(selection)
        return pb.ListResponse(entries=map(_entry, entries), returning=self._names.returning())

    def set_tags(self, request: pb.SetTagsRequest) -> pb.Entry:
        return _entry(self._names.set_tags(request.name, request.tags))

    def count(self, request: pb.CountRequest) -> pb.CountResponse:
        return pb.CountResponse(count=self._names.count())

    def ping(self, request: pb.PingRequest) -> pb.PingResponse:
        return pb.PingResponse(epoch=self._names.epoch)

    def keep_alive(self, request: pb.KeepAliveRequest) -> pb.KeepAliveResponse:
        kept = self._names.keep_alive(request.lease)
        held = (pb.Held(name=e.name, registration=e.registration, tags=sorted(e.tags)) for e in kept.held)
        return pb.KeepAliveResponse(
            epoch=self._names.epoch, lease_ttl=self._names.lease_ttl, held=held, known=kept.known
        )

    def watch(
        self, request: pb.WatchRequest, context: grpc.ServicerContext, identification: Identification
    ) -> Iterator[pb.WatchEvent]:
        try:
            identification.of(context)
            watcher = self._names.watch(request.prefix)
            if not context.add_callback(watcher.close):
                watcher.close()  # the caller went before we began
            context.send_initial_metadata(())  # tells the caller that from now on nothing is missed
            while (change := watcher.next()) is not None:
                kind = pb.WatchEvent.Kind.Name(change.kind)
                yield pb.WatchEvent(kind=kind, entry=_entry(change.entry))
        except BrokerError as error:
            _abort(context, error, {})


def _entry(entry: Entry) -> pb.Entry:
    return pb.Entry(name=entry.name, uri=entry.uri, tags=sorted(entry.tags))
