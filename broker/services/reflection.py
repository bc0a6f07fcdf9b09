"""grpc.reflection.v1 and v1alpha: what any gRPC tool can learn about a daemon while it runs.

grpcio-reflection has the messages and the descriptors of v1alpha, which are those of v1 but for the name of the
package. Its servicer is not used: it serves v1alpha alone, and a list of services that is fixed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as messages  # type: ignore[import-untyped]

from broker.connection.refusals import Reason, Refused
from broker.connection.statuses import break_cycle, refuse

V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
V1 = "grpc.reflection.v1.ServerReflection"
MAX_STREAMS = 256
"""Each holds a thread."""


class Shown(Protocol):
    """What reflection shows to one caller. The files of an answer are those asked for and all that they import."""

    def services(self) -> list[str]:
        """The full names of all services, sorted."""

    def with_symbol(self, symbol: str) -> list[bytes]:
        """The files with a service, method or type. Raises KeyError."""

    def with_name(self, name: str) -> list[bytes]:
        """The file of that name. Raises KeyError."""


class Reflection:
    """Both services of one daemon. Every method may be called from any thread."""

    def __init__(self, shown: Callable[[grpc.ServicerContext], Shown], location: str) -> None:
        """`shown` gives what a caller may see, or ends his call; it is asked once for each stream."""
        self._shown = shown
        self._location = location
        self._lock = threading.Lock()
        self._streams: set[grpc.ServicerContext] = set()
        self._closed = False  # this and the streams under the lock

    def close(self) -> None:
        """Ends all streams, and takes no further one."""
        with self._lock:
            self._closed = True
            streams = list(self._streams)
        for stream in streams:
            stream.cancel()

    def reflect(
        self, requests: Iterator[messages.ServerReflectionRequest], context: grpc.ServicerContext
    ) -> Iterator[messages.ServerReflectionResponse]:
        """Answers the requests of one stream."""
        with self._stream(context):
            shown = self._shown(context)
            try:
                for request in requests:
                    response = messages.ServerReflectionResponse(valid_host=request.host, original_request=request)
                    self._answer(request, shown, response)
                    yield response
            except grpc.RpcError as gone:
                break_cycle(gone)

    @contextmanager
    def _stream(self, context: grpc.ServicerContext) -> Iterator[None]:
        with self._lock:
            refused = self._refusal()
            if refused is None:
                self._streams.add(context)
        if refused is not None:
            refuse(context, refused)
        try:
            yield
        finally:
            with self._lock:
                self._streams.discard(context)

    def _refusal(self) -> Refused | None:
        if self._closed:
            return Refused(Reason.DRAINING, f"the daemon at {self._location} is shut down")
        if len(self._streams) >= MAX_STREAMS:
            what = f"{MAX_STREAMS} reflection streams are open at {self._location}, which takes no more"
            return Refused(Reason.OVERLOADED, what)
        return None

    def _answer(
        self, request: messages.ServerReflectionRequest, shown: Shown, response: messages.ServerReflectionResponse
    ) -> None:
        asked = request.WhichOneof("message_request")
        try:
            if asked == "list_services":
                services = response.list_services_response.service
                services.extend(messages.ServiceResponse(name=name) for name in shown.services())
            elif asked == "file_by_filename":
                _put_files(response, shown.with_name(request.file_by_filename))
            elif asked == "file_containing_symbol":
                _put_files(response, shown.with_symbol(request.file_containing_symbol))
            elif asked == "all_extension_numbers_of_type":
                shown.with_symbol(request.all_extension_numbers_of_type)  # there are no extensions
                name = request.all_extension_numbers_of_type
                response.all_extension_numbers_response.base_type_name = name
            elif asked == "file_containing_extension":
                extension = request.file_containing_extension
                raise KeyError(f"extension {extension.extension_number} of {extension.containing_type}")
            else:
                _put_error(response, grpc.StatusCode.INVALID_ARGUMENT, "the request asks for nothing that is known")
        except KeyError as error:
            what = f"there is no {error.args[0]} at {self._location}"
            _put_error(response, grpc.StatusCode.NOT_FOUND, what)

    def methods(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The methods of either service by name: they have the same messages."""
        method = grpc.stream_stream_rpc_method_handler(
            self.reflect,
            messages.ServerReflectionRequest.FromString,
            messages.ServerReflectionResponse.SerializeToString,
        )
        return {"ServerReflectionInfo": method}


def _put_files(response: messages.ServerReflectionResponse, files: list[bytes]) -> None:
    response.file_descriptor_response.file_descriptor_proto.extend(files)


def _put_error(response: messages.ServerReflectionResponse, code: grpc.StatusCode, message: str) -> None:
    response.error_response.error_code = code.value[0]
    response.error_response.error_message = message


def v1_file() -> FileDescriptorProto:
    """The descriptor of v1. It is in no pool, so that a program may load one of its own."""
    file = FileDescriptorProto()
    messages.DESCRIPTOR.CopyToProto(file)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = "grpc.reflection.v1"
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = _in_v1(field.type_name)
    for service in file.service:
        for method in service.method:
            method.input_type, method.output_type = _in_v1(method.input_type), _in_v1(method.output_type)
    return file


def _in_v1(name: str) -> str:
    return name.replace(".v1alpha.", ".v1.")
