"""Pyro5, with its defaults; the variant is its serializer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import Pyro5.api
import Pyro5.server

from benchmarks.contestants.client import Call, CannotDo, Client, Ready, add_all
from benchmarks.target import Target


def serve(variant: str, ready: Ready) -> None:
    Pyro5.config.SERIALIZER = variant
    daemon = Pyro5.api.Daemon(host="127.0.0.1")
    ready(str(daemon.register(ExposedTarget(), "target")))
    daemon.requestLoop()


@Pyro5.api.expose
class ExposedTarget(Target):
    """Only what is defined here is remote for Pyro."""

    add = Target.add
    length = Target.length
    numbers = Target.numbers
    fail = Target.fail
    call_back = Target.call_back

    def same(self, value: Any) -> Any:
        import numpy

        return numpy.frombuffer(value).tobytes()


class PyroClient(Client):
    def __init__(self, variant: str, address: str) -> None:
        super().__init__(variant, address)
        Pyro5.config.SERIALIZER = variant
        self.proxy: Any = Pyro5.api.Proxy(address)

    def caller(self) -> Call:
        # A proxy belongs to one thread.
        if threading.current_thread() is not threading.main_thread():
            return _caller(Pyro5.api.Proxy(self.address))
        return _caller(self.proxy)

    def length(self) -> Callable[[bytes], int]:
        self._needs_bytes()
        proxy = self.proxy
        return lambda data: proxy.length(data)

    def batch(self, count: int) -> None:
        batch = Pyro5.api.BatchProxy(self.proxy)
        for _ in range(count):
            batch.add(3, 4)
        add_all(batch())

    def numbers(self, count: int) -> Iterable[int]:
        numbers: Iterable[int] = self.proxy.numbers(count)
        return numbers

    def same(self) -> Callable[[Any], Any]:
        self._needs_bytes()
        import numpy

        proxy = self.proxy
        return lambda array: numpy.frombuffer(proxy.same(array.tobytes()))

    def fail(self) -> Call:
        proxy = self.proxy
        return lambda: proxy.fail()

    def call_back(self) -> Call:
        daemon = Pyro5.api.Daemon(host="127.0.0.1")
        target = ExposedTarget()
        daemon.register(target)
        threading.Thread(target=daemon.requestLoop, daemon=True).start()
        proxy = self.proxy
        return lambda: proxy.call_back(target)

    def connections(self, count: int) -> list[Call]:
        return [_caller(Pyro5.api.Proxy(self.address)) for _ in range(count)]

    def proxies(self, count: int) -> list[Call]:
        return self.connections(count)  # there is one for each proxy

    def _needs_bytes(self) -> None:
        if self.variant == "serpent":
            raise CannotDo("bytes in serpent: they arrive as base64 text")


def _caller(proxy: Any) -> Call:
    return lambda: proxy.add(3, 4)


CLIENT = PyroClient
