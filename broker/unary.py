"""Invoke and Lookup: the calls that any gRPC client makes, brought into the same dispatch as all others."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import NoReturn

import grpc
from google.protobuf.struct_pb2 import Struct, Value

from broker._pb import broker_pb2 as wire
from broker.codecs import Edge, Encoded, JsonCodec, codec
from broker.codecs.encoder import NO_WAY_BACK
from broker.codecs.exceptions import message_of
from broker.connection import chains
from broker.connection.calls import CallRequest, ItemSink, Metadata, metadata_from_wire, put_metadata
from broker.connection.refusals import Reason, Refused
from broker.connection.statuses import abort
from broker.context import Client
from broker.dispatch import Dispatcher
from broker.errors import AccessDenied, CodecError, MessageTooLargeError, ProtocolError
from broker.objects import ObjectTable
from broker.security import Identification

MAX_REQUEST_SIZE = 64 << 20
"""gRPC holds a whole unary message before we see it, so its limit is lower than that of a connection."""
MAX_UNDER_WAY = 1_024
"""Each unary call holds a thread until it is answered; beyond this many they are refused."""
MAX_RESPONSES = 16
"""Items of one stream that gRPC has not taken: the generator waits then."""
_json = JsonCodec()


class UnaryCall:
    """A unary call on its way through the dispatcher. The gRPC thread that brought it waits for its answer."""

    def __init__(
        self, request: CallRequest, peer: str, message: wire.InvokeRequest | None = None, *, takes_items: bool = False
    ) -> None:
        self.request = request
        self.peer = peer
        self.items = ResponseStream(self) if takes_items else None
        """Where items go, for a caller who takes more than one response."""
        self.refused: Refused | None = None
        self.description = b""
        self.response = wire.InvokeResponse()
        self._message = message
        self._done = threading.Event()  # there is an answer, or the first item may come
        self._over = False
        self._lock = threading.Lock()
        self._cancelled: str | None = None
        self._on_cancel: Callable[[str], None] | None = None

    @property
    def _is_plain(self) -> bool:
        return self._message is not None and not self._message.HasField("encoded")

    def arguments(self, edge: Edge) -> tuple[tuple[object, ...], dict[str, object]]:
        if not self._is_plain:
            return codec(self.request.arguments.codec).decode_call(self.request.arguments, edge)
        assert self._message is not None
        args = [_json.from_plain(_structure(v), edge, f"args[{i}]") for i, v in enumerate(self._message.args.values)]
        fields = self._message.kwargs.fields
        kwargs = {name: _json.from_plain(_structure(v), edge, f"kwargs[{name!r}]") for name, v in fields.items()}
        return tuple(args), kwargs

    def answer(self, value: object, edge: Edge, *, raised: bool, kept: bool, metadata: Metadata) -> None:
        self.response = self.respond(value, edge, "result", raised=raised, metadata=metadata)
        self.end()

    def end(self) -> None:
        """Nothing more is to come."""
        self._over = True
        if self.items is not None:
            self.items.stop()
        self._done.set()

    def respond(
        self, value: object, edge: Edge, what: str, *, raised: bool = False, metadata: Metadata = MappingProxyType({})
    ) -> wire.InvokeResponse:
        """The response with that result or item. Raises CodecError and MessageTooLargeError."""
        response = wire.InvokeResponse()
        if raised:
            assert isinstance(value, BaseException)
            response.exception.CopyFrom(_exception(value, edge))
        if not self._is_plain:
            _put_encoded(response, codec(self.request.arguments.codec).encode(value, edge, what))
        elif not raised:
            plain = self._message is not None and self._message.plain
            response.result.CopyFrom(_value(_json.to_plain(value, edge, what, plain=plain)))
        return _complete(response, metadata, what)

    def reply(self, value: Encoded, raised: bool, kept: bool, metadata: Metadata) -> None:
        response = wire.InvokeResponse()
        _put_encoded(response, value)
        self.response = _complete(response, metadata, "result")
        self.end()

    def answer_bytes(self, data: bytes) -> None:
        self.description = data
        self.end()

    def answer_stream(self, *, kept: bool, metadata: Metadata) -> ItemSink:
        if self.items is None:
            raise ProtocolError(f"{self.request.member!r} returns a stream of items: call it by InvokeStream")
        self.items.begin(metadata)
        self._done.set()
        return self.items

    def started(self) -> None: ...

    def refuse(self, refused: Refused, *, ran: bool = False, kept: bool = False) -> None:
        self.refused = refused
        self.end()

    def on_cancel(self, function: Callable[[str], None]) -> None:
        with self._lock:
            if self._cancelled is None:
                self._on_cancel = function
                return
        function(self._cancelled)

    def over(self) -> None:
        self._on_cancel = None

    def cancel(self, reason: str) -> None:
        """The caller gave up or is lost; also called, harmlessly, when the call is over."""
        with self._lock:
            self._cancelled = reason
            function = self._on_cancel
        if function is not None and not self._over:
            function(reason)
        if self.items is not None:
            self.items.stop()

    def wait(self) -> None:
        self._done.wait()


class ResponseStream:
    """The items of a call that is answered by many responses: what was put, and gRPC's thread has not taken."""

    has_deadline = True

    def __init__(self, call: UnaryCall) -> None:
        self.begun = False
        self._call = call
        self._metadata: Metadata = {}
        self._condition = threading.Condition()
        self._responses: deque[wire.InvokeResponse] = deque()  # this and the rest under the condition
        self._stopped = False
        self._on_room: Callable[[], None] | None = None

    def begin(self, metadata: Metadata) -> None:
        """Items will follow; the first response brings the metadata."""
        self._metadata = metadata
        self.begun = True

    def put(self, item: object, edge: Edge) -> bool:
        return self._put(self._call.respond(item, edge, "item"))

    def _put(self, response: wire.InvokeResponse) -> bool:
        put_metadata(response, self._metadata)
        self._metadata = {}
        with self._condition:
            if not self._stopped:
                self._responses.append(response)
                self._condition.notify()
            return len(self._responses) < MAX_RESPONSES

    def when_room(self, job: Callable[[], None]) -> bool:
        with self._condition:
            if self._stopped or len(self._responses) < MAX_RESPONSES:
                return False
            self._on_room = job
            return True

    def end(self, value: object, edge: Edge, *, raised: bool) -> None:
        if raised:
            self._put(self._call.respond(value, edge, "what it raised", raised=True))
        self._call.end()

    def fail(self, refused: Refused) -> None:
        self._call.refuse(refused)

    def stop(self) -> None:
        """No further item comes, or is taken."""
        with self._condition:
            self._stopped = True
            self._condition.notify()

    def responses(self) -> Iterator[wire.InvokeResponse]:
        """The responses; waits for each."""
        while (response := self._next()) is not None:
            yield response

    def _next(self) -> wire.InvokeResponse | None:
        with self._condition:
            self._condition.wait_for(lambda: self._responses or self._stopped)
            response = self._responses.popleft() if self._responses else None
            job, self._on_room = self._on_room, None
        if job is not None:
            job()
        return response


class UnaryService:
    """The unary methods of ObjectBroker."""

    def __init__(
        self,
        objects: ObjectTable,
        dispatcher: Dispatcher,
        max_message_size: int,
        identification: Identification,
    ) -> None:
        self._objects = objects
        self._dispatcher = dispatcher
        self._identification = identification
        self._max_size = min(MAX_REQUEST_SIZE, max_message_size)
        self._places = threading.Semaphore(MAX_UNDER_WAY)

    def invoke(self, message: wire.InvokeRequest, context: grpc.ServicerContext) -> wire.InvokeResponse:
        call = self._call(message, context, takes_items=False)
        with self._place(context):
            self._carry_out(call, context)
        return call.response

    def invoke_stream(
        self, message: wire.InvokeRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.InvokeResponse]:
        """Holds gRPC's thread until the last item is taken."""
        call = self._call(message, context, takes_items=True)
        assert call.items is not None
        with self._place(context):
            try:
                self._carry_out(call, context)
                if not call.items.begun:
                    yield call.response
                    return
                yield from call.items.responses()
            finally:
                call.cancel("the caller takes no further items")
            if call.refused is not None:
                _abort(context, call.refused)

    def _call(self, message: wire.InvokeRequest, context: grpc.ServicerContext, *, takes_items: bool) -> UnaryCall:
        if message.ByteSize() > self._max_size:
            what = f"the request takes {message.ByteSize()} bytes and a unary call holds {self._max_size}"
            self._turn_away(context, Refused(Reason.MESSAGE_TOO_LARGE, what))
        encoded = message.encoded
        arguments = Encoded(encoded.codec, encoded.payload, tuple(encoded.buffers))
        if not message.HasField("encoded"):
            arguments = Encoded("json", b"")
        kind = self._kind(message)
        request = _request(
            message.object, message.method, kind, arguments, context, metadata_from_wire(message.metadata)
        )
        return UnaryCall(request, context.peer(), message, takes_items=takes_items)

    def lookup(self, message: wire.LookupRequest, context: grpc.ServicerContext) -> wire.Description:
        request = _request(message.object, "", wire.Call.DESCRIBE, Encoded("json", b""), context, {})
        call = UnaryCall(request, context.peer())
        with self._place(context):
            self._carry_out(call, context)
        return wire.Description.FromString(call.description)

    def _kind(self, message: wire.InvokeRequest) -> wire.Call.Kind:
        """A caller from outside writes the name of a property as it writes that of a method."""
        if message.access == wire.InvokeRequest.SET:
            return wire.Call.SET
        registration = self._objects.find(message.object)
        member = registration.table.members.get(message.method) if registration is not None else None
        return wire.Call.GET if member is not None and member.kind == "property" else wire.Call.METHOD

    def _turn_away(self, context: grpc.ServicerContext, refused: Refused) -> NoReturn:
        self._dispatcher.turned_away(refused)
        _abort(context, refused)

    @contextmanager
    def _place(self, context: grpc.ServicerContext) -> Iterator[None]:
        """One of the calls that may be under way."""
        if not self._places.acquire(blocking=False):
            what = f"{MAX_UNDER_WAY} unary calls are under way: call again later"
            self._turn_away(context, Refused(Reason.OVERLOADED, what))
        try:
            yield
        finally:
            self._places.release()

    def _carry_out(self, call: UnaryCall, context: grpc.ServicerContext) -> None:
        """Waits for the answer, or until items are to come."""
        client = self._client(call, context)
        if not context.add_callback(lambda: call.cancel("the caller gave up")):
            call.cancel("the caller gave up")
        self._dispatcher.dispatch(call, client, None)
        call.wait()
        if call.refused is not None and (call.items is None or not call.items.begun):
            _abort(context, call.refused)

    def _client(self, call: UnaryCall, context: grpc.ServicerContext) -> Client:
        try:
            identity = self._identification.of(context)
        except AccessDenied as error:
            self._turn_away(context, Refused(Reason.UNAUTHENTICATED, str(error)))
        return Client(call.peer, codec=call.request.arguments.codec, identity=identity)


def _abort(context: grpc.ServicerContext, refused: Refused) -> NoReturn:
    abort(context, refused.code, refused.reason, refused.message)


def _request(
    object_id: str,
    member: str,
    kind: wire.Call.Kind,
    arguments: Encoded,
    context: grpc.ServicerContext,
    metadata: Metadata,
) -> CallRequest:
    remaining: float | None = context.time_remaining()  # the stub forgets the None of a call without a deadline
    return CallRequest(
        object=object_id,
        member=member,
        kind=kind,
        arguments=arguments,
        chain=chains.new_chain(),
        deadline=None if remaining is None else time.monotonic() + min(remaining, threading.TIMEOUT_MAX),
        metadata=metadata,
    )


def _exception(error: BaseException, edge: Edge) -> wire.RemoteException:
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    return wire.RemoteException(type=name, message=message_of(error), traceback=edge.traceback(error))


def _complete(response: wire.InvokeResponse, metadata: Metadata, what: str) -> wire.InvokeResponse:
    """Raises MessageTooLargeError."""
    put_metadata(response, metadata)
    size = response.ByteSize()
    if size > MAX_REQUEST_SIZE:
        raise MessageTooLargeError(f"the {what} takes {size} bytes and a response holds {MAX_REQUEST_SIZE}")
    return response


def _put_encoded(response: wire.InvokeResponse, value: Encoded) -> None:
    if value.references:
        raise CodecError(f"result: {NO_WAY_BACK}")
    message = wire.Encoded(codec=value.codec, payload=bytes(value.payload), buffers=map(bytes, value.buffers))
    response.encoded.CopyFrom(message)


def _structure(value: Value) -> object:
    """The JSON structure in a protobuf Value, its numbers as they are: floats."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return [_structure(item) for item in value.list_value.values]
    if kind == "struct_value":
        return {name: _structure(item) for name, item in value.struct_value.fields.items()}
    return None if kind in (None, "null_value") else getattr(value, kind)


def _value(structure: object) -> Value:
    holder = Struct()
    holder.update({"value": structure})  # type: ignore[dict-item]  # nested lists and dicts, as JSON has them
    return holder.fields["value"]
