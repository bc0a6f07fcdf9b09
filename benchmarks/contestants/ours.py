"""broker, with its defaults."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import broker
from benchmarks.contestants.client import Call, Client, Ready, add_all
from benchmarks.target import Target


def serve(variant: str, ready: Ready) -> None:
    # A process has one connection to a daemon. Where every address of 127.0.0.0/8 leads to it, it has many.
    wide: dict[str, Any] = {"host": "0.0.0.0", "advertise": "127.0.0.1", "insecure": True}
    with broker.Daemon(**wide if variant == "wide" else {}) as daemon:
        ready(str(daemon.register(Target(), "target")))
        threading.Event().wait()


class OurClient(Client):
    def __init__(self, variant: str, address: str) -> None:
        super().__init__(variant, address)
        self.proxy: Any = broker.Proxy(address)

    def caller(self) -> Call:
        return _caller(self.proxy)

    def length(self) -> Callable[[bytes], int]:
        proxy = self.proxy
        return lambda data: proxy.length(data)

    def futures(self, count: int) -> None:
        proxy = self.proxy
        add_all(future.result() for future in [proxy.add.future(3, 4) for _ in range(count)])

    def batch(self, count: int) -> None:
        batch = broker.Batch(self.proxy)
        for _ in range(count):
            batch.add(3, 4)
        add_all(batch())

    def numbers(self, count: int) -> Iterable[int]:
        numbers: Iterable[int] = self.proxy.numbers(count)
        return numbers

    def same(self) -> Callable[[Any], Any]:
        proxy = self.proxy
        return lambda array: proxy.same(array)

    def fail(self) -> Call:
        proxy = self.proxy
        return lambda: proxy.fail()

    def call_back(self) -> Call:
        proxy, target = self.proxy, broker.export(Target())
        return lambda: proxy.call_back(target)

    def connections(self, count: int) -> list[Call]:
        object_id, port = self.address.partition("@")[0], self.address.rpartition(":")[2]
        places = (f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count))
        return [_caller(broker.Proxy(f"{object_id}@{place}:{port}")) for place in places]

    def proxies(self, count: int) -> list[Call]:
        return [_caller(broker.Proxy(self.address)) for _ in range(count)]

    def pending(self, count: int) -> list[Any]:
        return [self.proxy.block.future() for _ in range(count)]


def _caller(proxy: Any) -> Call:
    return lambda: proxy.add(3, 4)


CLIENT = OurClient
