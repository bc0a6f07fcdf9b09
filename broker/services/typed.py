"""Every object as a gRPC service of its own: its methods are called by their names, with messages made of its hints."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NoReturn

import grpc

from broker._pb.broker_pb2 import Call
from broker.codecs import Edge, Encoded
from broker.connection.calls import NO_METADATA, ItemSink, Metadata
from broker.connection.refusals import Reason, Refused
from broker.connection.statuses import RpcStatus
from broker.dispatch import TYPED
from broker.errors import MessageTooLargeError
from broker.schema import Method
from broker.services.calls import MAX_REQUEST_SIZE, Calls, GrpcCall, request_of
from broker.services.headers import headers_of, metadata_of
from broker.services.objects import Target, TypedObjects
from broker.services.raised import status_of
from broker.services.requests import Requests
from broker.services.uploads import Upload

_KINDS = {"call": Call.METHOD, "get": Call.GET, "set": Call.SET}
_NO_ARGUMENTS = Encoded(TYPED, b"")


class TypedCall(GrpcCall[bytes]):
    """A call of a typed service. What the method raises is a status."""

    no_stream = "its hint does not say so; say -> Iterator[...], or call it by broker.v1.ObjectBroker/InvokeStream"

    def __init__(
        self, target: Target, method: Method, data: bytes, context: grpc.ServicerContext, upload: Upload | None
    ) -> None:
        """`data` is the request, or the first one of an upload."""
        metadata = metadata_of(context.invocation_metadata() or ())
        request = request_of(target.name, method.member, _KINDS[method.access], _NO_ARGUMENTS, context, metadata)
        super().__init__(request, context.peer(), takes_items=method.server_streaming)
        self._method = method
        self._data = data
        self._upload = upload
        self._drops_result = target.is_oneway(method.member)

    def arguments(self, edge: Edge) -> tuple[tuple[object, ...], dict[str, object]]:
        data, self._data = self._data, b""
        if self._upload is None:
            return self._method.decode_request(data, edge)
        return self._method.decode_request(data, edge, items=self._upload.begin(edge))

    def respond(self, value: object, edge: Edge, what: str, metadata: Metadata) -> bytes:
        data = self._method.encode_reply(None if self._drops_result else value, edge)
        if len(data) > MAX_REQUEST_SIZE:
            raise MessageTooLargeError(f"the {what} takes {len(data)} bytes and a response holds {MAX_REQUEST_SIZE}")
        if metadata:
            self.headers = headers_of(metadata)
        return data

    def failure(self, error: BaseException, edge: Edge, metadata: Metadata) -> RpcStatus:
        if metadata:
            self.headers = headers_of(metadata)
        if self._upload is not None and error is self._upload.fault:
            return RpcStatus.of_refusal(Refused(Reason.CODEC, str(error)))
        return status_of(error, edge.traceback(error))

    def answer_stream(self, *, kept: bool, metadata: Metadata) -> ItemSink:
        headers = headers_of(metadata)
        sink = super().answer_stream(kept=kept, metadata=NO_METADATA)
        self.headers = headers
        return sink

    def cancel(self, reason: str) -> None:
        if self._upload is not None:
            self._upload.lose(reason)
        super().cancel(reason)


class TypedServices:
    """The typed services of one daemon. Every method may be called from any thread."""

    def __init__(self, objects: TypedObjects, calls: Calls, requests: Requests) -> None:
        self._objects = objects
        self._calls = calls
        self._requests = requests

    def method(self, path: str) -> grpc.RpcMethodHandler[bytes, bytes]:
        """What serves `/service/method`. gRPC's thread asks for it, which must not wait."""
        service, _, name = path.removeprefix("/").rpartition("/")
        target = self._objects.known(service)
        method = target.schema.methods.get(name) if target is not None else None
        if target is None or method is None:
            return grpc.stream_stream_rpc_method_handler(partial(self._of_any_kind, service, name))
        if method.client_streaming and method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(partial(self._stream_stream, target, method))
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(partial(self._stream_unary, target, method))
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(partial(self._unary_stream, target, method))
        return grpc.unary_unary_rpc_method_handler(partial(self._unary_unary, target, method))

    def _of_any_kind(
        self, service: str, name: str, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """A call of a service that is not known yet, or not there. On the wire, one message is a stream of one."""
        target = self._objects.find(service)
        method = target.schema.methods.get(name) if target is not None else None
        if target is None or method is None:
            self._refuse(service, target, name, context)
        elif method.client_streaming and method.server_streaming:
            yield from self._stream_stream(target, method, requests, context)
        elif method.client_streaming:
            yield self._stream_unary(target, method, requests, context)
        elif method.server_streaming:
            yield from self._unary_stream(target, method, self._first(requests, context), context)
        else:
            yield self._unary_unary(target, method, self._first(requests, context), context)

    def _first(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return self._requests.receive(lambda: next(requests, b""), context)

    def _refuse(self, service: str, target: Target | None, name: str, context: grpc.ServicerContext) -> NoReturn:
        """Says what is there in place of the method; to those who may know."""
        client = self._calls.client(context)
        asked = target.name if target is not None else service
        if not self._objects.may_see(asked, client):
            refused = Refused(Reason.ACCESS_DENIED, f"{client} may not call {name!r} of {asked!r}")
        elif target is None:
            refused = Refused(Reason.UNIMPLEMENTED, self._objects.no_service(service))
        else:
            refused = Refused(Reason.MEMBER_NOT_FOUND, target.lacks(name, self._objects.members_for(target, client)))
        self._calls.turn_away(context, refused)

    def _unary_unary(self, target: Target, method: Method, data: bytes, context: grpc.ServicerContext) -> bytes:
        return self._calls.unary(lambda: self._call(target, method, data, context), context)

    def _unary_stream(
        self, target: Target, method: Method, data: bytes, context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        return self._calls.stream(lambda: self._call(target, method, data, context), context)

    def _stream_unary(
        self, target: Target, method: Method, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> bytes:
        upload, first = self._begin_upload(method, requests, context)
        try:
            return self._calls.unary(lambda: self._call(target, method, first, context, upload), context)
        finally:
            upload.close()

    def _stream_stream(
        self, target: Target, method: Method, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        upload, first = self._begin_upload(method, requests, context)
        try:
            yield from self._calls.stream(lambda: self._call(target, method, first, context, upload), context)
        finally:
            upload.close()

    def _begin_upload(
        self, method: Method, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> tuple[Upload, bytes]:
        """The upload, and its first message. A method that takes items alone begins without one."""
        upload = Upload(method, requests, self._calls.max_size)
        return upload, self._requests.receive(upload.first, context) if method.has_first_message else b""

    def _call(
        self, target: Target, method: Method, data: bytes, context: grpc.ServicerContext, upload: Upload | None = None
    ) -> TypedCall:
        self._calls.check_size(len(data), context)
        return TypedCall(target, method, data, context, upload)
