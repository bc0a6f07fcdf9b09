"""Clients that know nothing but an address: tools, and one in Python that asks for descriptors and calls with JSON."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import DebugInfo, ErrorInfo  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2 as messages  # type: ignore[import-untyped]
from grpc_status import rpc_status

import broker

ROOT = Path(__file__).parents[2]
NODE_MODULES = ROOT / "examples" / "typed-service" / "node_modules"
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
    "NODE_PATH": str(NODE_MODULES),
}


def run(*command: str, code: int | None = 0, cwd: Path = ROOT) -> str:
    """What a program printed, to stdout and stderr. `code` None: it failed."""
    ran = subprocess.run(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False,
        cwd=cwd,
    )  # fmt: skip
    assert ran.returncode == code if code is not None else ran.returncode != 0, ran.stdout
    return ran.stdout


class Failure(Exception):
    """A status, with what is in its details."""

    def __init__(self, error: Any) -> None:
        self.code: grpc.StatusCode = error.code()
        self.message: str = error.details()
        super().__init__(f"{self.code.name}: {self.message}")
        self.headers = dict(error.initial_metadata() or ())
        self.info, self.debug = ErrorInfo(), DebugInfo()
        status = rpc_status.from_call(error)
        for detail in status.details if status is not None else ():
            assert detail.Unpack(self.info) or detail.Unpack(self.debug)


class Stranger:
    """A gRPC client of a daemon."""

    def __init__(self, daemon: broker.Daemon) -> None:
        self.daemon = daemon
        self.channel = grpc.insecure_channel(f"127.0.0.1:{daemon.address[1]}")
        self._reflect = self.channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            messages.ServerReflectionRequest.SerializeToString,
            messages.ServerReflectionResponse.FromString,
        )

    def ask(self, **what: Any) -> Any:
        (response,) = self._reflect(iter([messages.ServerReflectionRequest(**what)]), timeout=20)
        return response

    def services(self) -> list[str]:
        """The services that reflection lists, without those of every daemon."""
        names = [service.name for service in self.ask(list_services="*").list_services_response.service]
        return [name for name in names if not name.startswith(("broker.v1.", "grpc."))]

    def pool(self, symbol: str) -> DescriptorPool:
        response = self.ask(file_containing_symbol=symbol)
        if response.HasField("error_response"):
            raise LookupError(response.error_response.error_message)
        pool = DescriptorPool()
        for data in reversed(response.file_descriptor_response.file_descriptor_proto):
            pool.Add(FileDescriptorProto.FromString(data))
        return pool

    def method(self, path: str) -> Method:
        """`example.shop/buy`."""
        service, _, name = path.rpartition("/")
        return Method(self.channel, path, self.pool(service).FindServiceByName(service).methods_by_name[name])

    def call(self, path: str, /, *requests: Any, timeout: float = 20, **request: Any) -> Any:
        """Calls with a request of these fields, or several; the replies as JSON, without the `result` around them."""
        return self.method(path)(*requests, timeout=timeout, **request)


class Method:
    """One method, which takes requests as JSON and gives replies as JSON."""

    def __init__(self, channel: grpc.Channel, path: str, descriptor: Any) -> None:
        kind = f"{'stream' if descriptor.client_streaming else 'unary'}_"
        kind += "stream" if descriptor.server_streaming else "unary"
        self.request, reply = map(GetMessageClass, (descriptor.input_type, descriptor.output_type))
        self.start: Any = getattr(channel, kind)(
            f"/{path}", lambda message: message.SerializeToString(), reply.FromString
        )
        self.takes_many, self.gives_many = descriptor.client_streaming, descriptor.server_streaming

    def message(self, fields: Any) -> Any:
        return json_format.ParseDict(fields, self.request())

    def __call__(self, *requests: Any, timeout: float = 20, metadata: Any = (), **request: Any) -> Any:
        given: Any = map(self.message, requests) if self.takes_many else self.message(request)
        try:
            replies = self.start(given, timeout=timeout, metadata=metadata)
            return [result_of(reply) for reply in replies] if self.gives_many else result_of(replies)
        except grpc.RpcError as error:
            raise Failure(error) from error


def result_of(reply: Any) -> Any:
    return json_format.MessageToDict(reply, always_print_fields_with_no_presence=True).get("result")
