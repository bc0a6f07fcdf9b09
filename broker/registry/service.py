"""NameRegistry on a gRPC server: each method puts one question to the names and writes the answer down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message

from broker._pb import registry_pb2 as pb
from broker.connection.statuses import abort
from broker.context import Client
from broker.errors import AccessDenied, BrokerError, NameNotFound, NameTaken, NamingError, Overloaded
from broker.registry import OWN_NAME, wire
from broker.registry.names import Names
from broker.registry.store import Entry, Selection, StoreError
from broker.security import Authorize, Identification, Unidentified, is_allowed, log_refusal
from broker.uri import InvalidURI

__all__ = ["Door", "audited", "generic_handler"]

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)


class Door:
    """Who may ask what: before a name server looks at a question."""

    def __init__(self, identification: Identification, authorize: Authorize | None = None) -> None:
        """`authorize` is asked as about methods of the object `Broker.NameServer`."""
        self._identification = identification
        self._authorize = authorize

    def let_in(self, context: grpc.ServicerContext, member: str) -> Client:
        """Who asks. Raises AccessDenied."""
        client = Client(context.peer(), identity=self._identification.of(context))
        if self._authorize is not None and not is_allowed(self._authorize, client, OWN_NAME, member):
            log_refusal(client, OWN_NAME, member, "ACCESS_DENIED")
            raise AccessDenied(f"{client} may not call {member!r} of {OWN_NAME!r}")
        return client


@contextmanager
def audited(names: Names, client: Client, member: str, name: str = "") -> Iterator[None]:
    """Logs a refusal where somebody asks for what belongs to others, or is kept for them."""
    try:
        yield
    except (AccessDenied, NameTaken) as error:
        if isinstance(error, AccessDenied) or names.is_of_another(name, client.identity):
            log_refusal(client, OWN_NAME, member, "ACCESS_DENIED")
        raise


def generic_handler(names: Names, door: Door) -> grpc.GenericRpcHandler:
    """The service over `names`, for a server whose pool has no bound: each watcher occupies one thread."""
    service = _NameRegistry(names)
    # Each method, and as what method of the object `authorize` knows it.
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        wire.REGISTER.name: _unary(wire.REGISTER, service.register, names, door, "register"),
        wire.REMOVE.name: _unary(wire.REMOVE, service.remove, names, door, "remove"),
        wire.LOOKUP.name: _unary(wire.LOOKUP, service.lookup, names, door, "lookup"),
        wire.LIST.name: _unary(wire.LIST, service.list, names, door, "list"),
        wire.SET_TAGS.name: _unary(wire.SET_TAGS, service.set_tags, names, door, "set_tags"),
        wire.COUNT.name: _unary(wire.COUNT, service.count, names, door, "count"),
        wire.PING.name: _unary(wire.PING, service.ping, names, door, "ping"),
        wire.KEEP_ALIVE.name: _unary(wire.KEEP_ALIVE, service.keep_alive, names, door, "register"),
        wire.WATCH.name: grpc.unary_stream_rpc_method_handler(
            lambda request, context: service.watch(request, context, door),
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
    method: wire.Method[_Request, _Response],
    answer: Callable[[_Request, str | None], _Response],
    names: Names,
    door: Door,
    member: str,
) -> grpc.RpcMethodHandler[_Request, _Response]:
    def handle(request: _Request, context: grpc.ServicerContext) -> _Response:
        try:
            client = door.let_in(context, member)
            with audited(names, client, member, getattr(request, "name", "")):
                return answer(request, client.identity)
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

    def register(self, request: pb.RegisterRequest, identity: str | None) -> pb.RegisterResponse:
        registration = self._names.register(
            request.name,
            request.uri,
            tags=request.tags,
            replace=request.replace,
            lease=request.lease,
            ttl=request.ttl,
            registration=request.registration,
            again=request.again,
            identity=identity,
        )
        return pb.RegisterResponse(registration=registration, epoch=self._names.epoch, lease_ttl=self._names.lease_ttl)

    def remove(self, request: pb.RemoveRequest, identity: str | None) -> pb.RemoveResponse:
        removed = self._removed(request, identity)
        return pb.RemoveResponse(removed=len(removed), names=removed)

    def _removed(self, request: pb.RemoveRequest, identity: str | None) -> list[str]:
        match request.WhichOneof("which"):
            case "name":
                return self._names.remove(name=request.name, registration=request.registration, identity=identity)
            case "lease" if request.lease:
                return self._names.remove(lease=request.lease)
            case "prefix":
                return self._names.remove(selection=Selection.of(prefix=request.prefix), identity=identity)
            case "regex":
                return self._names.remove(selection=Selection.of(regex=request.regex), identity=identity)
            case _:
                raise NamingError("say what to remove: a name, a prefix, a regex or a lease")

    def lookup(self, request: pb.LookupNameRequest, identity: str | None) -> pb.Entry:
        return _entry(self._names.lookup(request.name))

    def list(self, request: pb.ListRequest, identity: str | None) -> pb.ListResponse:
        selection = Selection.of(
            request.prefix if request.HasField("prefix") else None,
            request.regex if request.HasField("regex") else None,
            request.tags_all,
            request.tags_any,
        )
        entries = self._names.select(selection)
        return pb.ListResponse(entries=map(_entry, entries), returning=self._names.returning())

    def set_tags(self, request: pb.SetTagsRequest, identity: str | None) -> pb.Entry:
        return _entry(self._names.set_tags(request.name, request.tags, identity=identity))

    def count(self, request: pb.CountRequest, identity: str | None) -> pb.CountResponse:
        return pb.CountResponse(count=self._names.count())

    def ping(self, request: pb.PingRequest, identity: str | None) -> pb.PingResponse:
        return pb.PingResponse(epoch=self._names.epoch)

    def keep_alive(self, request: pb.KeepAliveRequest, identity: str | None) -> pb.KeepAliveResponse:
        kept = self._names.keep_alive(request.lease)
        held = (pb.Held(name=e.name, registration=e.registration, tags=sorted(e.tags)) for e in kept.held)
        return pb.KeepAliveResponse(
            epoch=self._names.epoch, lease_ttl=self._names.lease_ttl, held=held, known=kept.known
        )

    def watch(self, request: pb.WatchRequest, context: grpc.ServicerContext, door: Door) -> Iterator[pb.WatchEvent]:
        try:
            door.let_in(context, "list")
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
