"""multiprocessing.managers: pickle over a socket, a thread for each connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from multiprocessing.managers import BaseManager, IteratorProxy  # type: ignore[attr-defined]
from typing import Any

from benchmarks.contestants.client import Call, CannotDo, Client, Ready
from benchmarks.target import Target

_KEY = b"benchmarks"
_the_target = Target()


class Manager(BaseManager):
    target: Any


Manager.register("Numbers", proxytype=IteratorProxy, create_method=False)
Manager.register("target", callable=lambda: _the_target, method_to_typeid={"numbers": "Numbers"})


def serve(_variant: str, ready: Ready) -> None:
    server: Any = Manager(("127.0.0.1", 0), _KEY).get_server()
    ready(f"127.0.0.1:{server.address[1]}")
    server.serve_forever()


class ManagerClient(Client):
    def __init__(self, variant: str, address: str) -> None:
        super().__init__(variant, address)
        host, _, port = address.rpartition(":")
        self.manager = Manager((host, int(port)), _KEY)
        self.manager.connect()
        self.proxy = self.manager.target()

    def caller(self) -> Call:
        return _caller(self.proxy)

    def length(self) -> Callable[[bytes], int]:
        proxy = self.proxy
        return lambda data: proxy.length(data)

    def numbers(self, count: int) -> Iterable[int]:
        numbers: Iterable[int] = self.proxy.numbers(count)
        return numbers

    def same(self) -> Callable[[Any], Any]:
        proxy = self.proxy
        return lambda array: proxy.same(array)

    def fail(self) -> Call:
        proxy = self.proxy
        return lambda: proxy.fail()

    def proxies(self, count: int) -> list[Call]:
        raise CannotDo("thousands of proxies: making one takes several connections")


def _caller(proxy: Any) -> Call:
    return lambda: proxy.add(3, 4)


CLIENT = ManagerClient
