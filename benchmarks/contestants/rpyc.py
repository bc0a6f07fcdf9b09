"""RPyC, with its defaults; its server needs to be told that public methods are remote.

Methods are looked up once: `root.add(3, 4)` would be two round trips, one for the method and one for the call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import rpyc
import rpyc.utils.server

from benchmarks.contestants.client import Call, Client, Ready, add_all
from benchmarks.target import Target

_CONFIG = {"allow_public_attrs": True}


class TargetService(rpyc.Service, Target):  # type: ignore[misc]
    def same(self, value: Any) -> Any:
        import numpy

        return numpy.frombuffer(value).tobytes()


def serve(_variant: str, ready: Ready) -> None:
    server = rpyc.utils.server.ThreadedServer(TargetService(), hostname="127.0.0.1", port=0, protocol_config=_CONFIG)
    ready(f"127.0.0.1:{server.port}")
    server.start()


class RpycClient(Client):
    def __init__(self, variant: str, address: str) -> None:
        super().__init__(variant, address)
        host, _, port = address.rpartition(":")
        self.connection = rpyc.connect(host, int(port), config=_CONFIG)

    def caller(self) -> Call:
        # Threads may share a connection, and are several times slower then.
        if threading.current_thread() is not threading.main_thread():
            return _caller(type(self)(self.variant, self.address).connection)
        return _caller(self.connection)

    def length(self) -> Callable[[bytes], int]:
        length: Callable[[bytes], int] = self.connection.root.length
        return length

    def futures(self, count: int) -> None:
        add = rpyc.async_(self.connection.root.add)
        add_all(result.value for result in [add(3, 4) for _ in range(count)])

    def numbers(self, count: int) -> Iterable[int]:
        numbers: Iterable[int] = self.connection.root.numbers(count)
        return numbers

    def same(self) -> Callable[[Any], Any]:
        import numpy

        same = self.connection.root.same
        return lambda array: numpy.frombuffer(same(array.tobytes()))

    def fail(self) -> Call:
        fail: Call = self.connection.root.fail
        return fail

    def call_back(self) -> Call:
        call_back, target = self.connection.root.call_back, Target()
        return lambda: call_back(target)

    def connections(self, count: int) -> list[Call]:
        return [RpycClient(self.variant, self.address).caller() for _ in range(count)]

    def pending(self, count: int) -> list[Any]:
        block = rpyc.async_(self.connection.root.block)
        return [block() for _ in range(count)]


def _caller(connection: Any) -> Call:
    add = connection.root.add
    return lambda: add(3, 4)


CLIENT = RpycClient
