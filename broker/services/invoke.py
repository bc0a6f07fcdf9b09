"""Invoke and Lookup: the calls that any gRPC client makes of any object, with values as JSON or in a codec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct, Value

from broker._pb import broker_pb2 as wire
from broker.codecs import Edge, Encoded, JsonCodec, bytes_of, codec
from broker.codecs.encoder import NO_WAY_BACK
from broker.codecs.exceptions import message_of
from broker.connection.calls import NO_METADATA, Metadata, metadata_from_wire, put_metadata
from broker.connection.refusals import Reason, Refused
from broker.connection.statuses import RpcStatus
from broker.errors import CodecError, MessageTooLargeError
from broker.objects import ObjectTable
from broker.services.calls import MAX_REQUEST_SIZE, Calls, GrpcCall, request_of

_json = JsonCodec()


class InvokeCall(GrpcCall[wire.InvokeResponse]):
    """A call by Invoke or InvokeStream. What the method raises is a response, too."""

    def __init__(
        self, message: wire.InvokeRequest, kind: wire.Call.Kind, context: grpc.ServicerContext, *, takes_items: bool
    ) -> None:
        encoded = message.encoded
        self._is_plain = not message.HasField("encoded")
        arguments = Encoded(encoded.codec, encoded.payload, tuple(encoded.buffers))
        if self._is_plain:
            arguments = Encoded("json", b"")
        metadata = metadata_from_wire(message.metadata)
        request = request_of(message.object, message.method, kind, arguments, context, metadata)
        super().__init__(request, context.peer(), takes_items=takes_items)
        self._message = message

    def arguments(self, edge: Edge) -> tuple[tuple[object, ...], dict[str, object]]:
        if not self._is_plain:
            return codec(self.request.arguments.codec).decode_call(self.request.arguments, edge)
        args = [_json.from_plain(_structure(v), edge, f"args[{i}]") for i, v in enumerate(self._message.args.values)]
        fields = self._message.kwargs.fields
        kwargs = {name: _json.from_plain(_structure(v), edge, f"kwargs[{name!r}]") for name, v in fields.items()}
        return tuple(args), kwargs

    def respond(self, value: object, edge: Edge, what: str, metadata: Metadata) -> wire.InvokeResponse:
        response = wire.InvokeResponse()
        if self._is_plain:
            response.result.CopyFrom(_value(_json.to_plain(value, edge, what, plain=self._message.plain)))
        else:
            _put_encoded(response, codec(self.request.arguments.codec).encode(value, edge, what))
        return _complete(response, metadata, what)

    def failure(self, error: BaseException, edge: Edge, metadata: Metadata) -> wire.InvokeResponse:
        response = wire.InvokeResponse(exception=_exception(error, edge))
        if not self._is_plain:
            _put_encoded(response, codec(self.request.arguments.codec).encode(error, edge, "what it raised"))
        return _complete(response, metadata, "what it raised")


class LookupCall(GrpcCall[wire.Description]):
    """A call that asks for a description."""

    def arguments(self, edge: Edge) -> tuple[tuple[object, ...], dict[str, object]]:
        return (), {}

    def respond(self, value: object, edge: Edge, what: str, metadata: Metadata) -> wire.Description:
        raise CodecError(f"{type(value).__name__} is no description")

    def failure(self, error: BaseException, edge: Edge, metadata: Metadata) -> RpcStatus:
        return RpcStatus.of_refusal(Refused(Reason.INTERNAL, message_of(error)))

    def answer_bytes(self, data: bytes) -> None:
        self.response = wire.Description.FromString(data)
        self.end()


class InvokeService:
    """The unary methods of ObjectBroker."""

    def __init__(self, objects: ObjectTable, calls: Calls) -> None:
        self._objects = objects
        self._calls = calls

    def invoke(self, data: bytes, context: grpc.ServicerContext) -> wire.InvokeResponse:
        return self._calls.unary(lambda: self._call(data, context, takes_items=False), context)

    def invoke_stream(self, data: bytes, context: grpc.ServicerContext) -> Iterator[wire.InvokeResponse]:
        return self._calls.stream(lambda: self._call(data, context, takes_items=True), context)

    def lookup(self, message: wire.LookupRequest, context: grpc.ServicerContext) -> wire.Description:
        request = request_of(message.object, "", wire.Call.DESCRIBE, Encoded("json", b""), context, NO_METADATA)
        return self._calls.unary(lambda: LookupCall(request, context.peer()), context)

    def _call(self, data: bytes, context: grpc.ServicerContext, *, takes_items: bool) -> InvokeCall:
        """Reads the request, which gRPC was not to do: by now it is known who calls."""
        self._calls.check_size(len(data), context)
        try:
            message = wire.InvokeRequest.FromString(data)
        except DecodeError:
            what = f"a request of {len(data)} bytes arrived that is no InvokeRequest"
            self._calls.turn_away(context, Refused(Reason.CODEC, what))
        return InvokeCall(message, self._kind(message), context, takes_items=takes_items)

    def _kind(self, message: wire.InvokeRequest) -> wire.Call.Kind:
        """A caller from outside writes the name of a property as it writes that of a method."""
        if message.access == wire.InvokeRequest.SET:
            return wire.Call.SET
        registration = self._objects.find(message.object)
        member = registration.table.members.get(message.method) if registration is not None else None
        return wire.Call.GET if member is not None and member.kind == "property" else wire.Call.METHOD

    def methods(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The methods by name."""
        response = wire.InvokeResponse.SerializeToString
        return {
            "Invoke": grpc.unary_unary_rpc_method_handler(self.invoke, None, response),
            "InvokeStream": grpc.unary_stream_rpc_method_handler(self.invoke_stream, None, response),
            "Lookup": grpc.unary_unary_rpc_method_handler(
                self.lookup, wire.LookupRequest.FromString, wire.Description.SerializeToString
            ),
        }


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
    message = wire.Encoded(codec=value.codec, payload=bytes(value.payload), buffers=map(bytes_of, value.buffers))
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
