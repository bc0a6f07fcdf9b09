"""Plain grpcio: bytes there and back, no codec, no dispatch. One unary RPC a call, or one bidirectional stream."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from benchmarks.contestants.client import Call, CannotDo, Client, Ready

_SERVICE = "benchmarks.Echo"
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]
_REQUEST = b"add(3, 4)"


def serve(_variant: str, ready: Ready) -> None:
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
        "Length": grpc.unary_unary_rpc_method_handler(lambda request, _: b"%d" % len(request)),
        "Block": grpc.unary_unary_rpc_method_handler(lambda request, _: threading.Event().wait(600) and request),
        "Numbers": grpc.unary_stream_rpc_method_handler(_numbers),
        "Stream": grpc.stream_stream_rpc_method_handler(lambda requests, _: requests),
    }
    server = grpc.server(ThreadPoolExecutor(32), options=_OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ready(f"127.0.0.1:{port}")
    server.wait_for_termination()


def _numbers(request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


class GrpcClient(Client):
    def __init__(self, variant: str, address: str) -> None:
        super().__init__(variant, address)
        self.channel = grpc.insecure_channel(address, options=_OPTIONS)

    def caller(self) -> Call:
        if self.variant == "stream":
            if threading.current_thread() is not threading.main_thread():
                raise CannotDo("threads that share a stream, without an engine to sort the answers")
            return self._over_a_stream()
        echo: Any = self.channel.unary_unary(f"/{_SERVICE}/Echo")
        return lambda: echo(_REQUEST)

    def _over_a_stream(self) -> Call:
        requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        stream: Any = self.channel.stream_stream(f"/{_SERVICE}/Stream")
        answers = stream(iter(requests.get, None))

        def call() -> object:
            requests.put(_REQUEST)
            return next(answers)

        return call

    def length(self) -> Callable[[bytes], int]:
        length: Any = self._unary("Length")
        return lambda data: int(length(data))

    def futures(self, count: int) -> None:
        echo = self._unary("Echo")
        for future in [echo.future(_REQUEST) for _ in range(count)]:
            future.result()

    def numbers(self, count: int) -> Iterable[int]:
        self._unary("Numbers")
        numbers: Any = self.channel.unary_stream(f"/{_SERVICE}/Numbers")
        return map(int, numbers(b"%d" % count))

    def same(self) -> Callable[[Any], Any]:
        import numpy

        echo = self._unary("Echo")
        return lambda array: numpy.frombuffer(echo(array.tobytes()))

    def connections(self, count: int) -> list[Call]:
        if self.variant == "stream":
            raise CannotDo("many streams with this server: each holds a thread of its pool")
        return [GrpcClient(self.variant, self.address).caller() for _ in range(count)]

    def pending(self, count: int) -> list[Any]:
        block = self._unary("Block")
        return [block.future(_REQUEST) for _ in range(count)]

    def _unary(self, method: str) -> Any:
        if self.variant == "stream":
            raise CannotDo("more than one call after another: see the unary form")
        return self.channel.unary_unary(f"/{_SERVICE}/{method}")


CLIENT = GrpcClient
