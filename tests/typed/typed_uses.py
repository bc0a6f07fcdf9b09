"""Typed uses, right and wrong. It is never run: checkers are held to find an error in each line that ends in `# wrong`,
and in no other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar, assert_type, overload

import broker
from broker.calling.results import BatchResults

T = TypeVar("T")
URI = "BROKERNAME:example.warehouse"


class Warehouse:
    def take(self, name: str, item: str = "couch", *, hurry: bool = False) -> int:
        return len(name + item) + hurry

    async def ring(self, times: int) -> str:
        return "ding " * times

    def watch(self, callback: Callable[[int], None]) -> None:
        broker.send(callback, 3)
        broker.send(callback, "three")  # wrong

    @property
    def price(self) -> float:
        return 1.5

    @price.setter
    def price(self, price: float) -> None:
        raise NotImplementedError

    @property
    def size(self) -> int:
        return 3

    def quotes(self) -> Iterator[float]:
        yield 1.5

    @overload
    def find(self, key: str) -> str: ...
    @overload
    def find(self, key: int) -> int: ...
    def find(self, key: str | int) -> str | int:
        return key

    def __len__(self) -> int:
        return 0

    def __getitem__(self, key: str) -> bytes:
        return key.encode()


class Bell(ABC):
    @abstractmethod
    async def ring(self, times: int) -> str: ...

    @abstractmethod
    def ticks(self) -> AsyncIterator[int]: ...

    @property
    @abstractmethod
    async def volume(self) -> int: ...


class Priced(Protocol):
    price: float

    def take(self, name: str, item: str = ..., *, hurry: bool = ...) -> int: ...


class Store(Generic[T]):
    def get(self, key: str) -> T:
        raise NotImplementedError

    async def later(self, value: T) -> list[T]:
        return [value]


def connecting() -> None:
    w = broker.connect(URI, Warehouse)
    assert_type(w, Warehouse)
    assert_type(broker.connect(broker.URI(URI), Bell, timeout=3, metadata={"who": "Janet"}), Bell)
    assert_type(broker.connect(URI, Priced), Priced)
    assert_type(broker.connect(URI, Store[int]), Store[int])
    broker.connect(URI, Warehouse, retry=3)  # wrong
    broker.connect(URI, Warehouse, retries="3")  # wrong
    broker.connect(URI, "Warehouse")  # wrong
    broker.connect(Warehouse, URI)  # wrong
    broker.connect(URI)  # wrong


def calling() -> None:
    w = broker.connect(URI, Warehouse)
    assert_type(w.take("Janet"), int)
    assert_type(w.take("Janet", item="lamp", hurry=True), int)
    assert_type(w.price, float)
    assert_type(w["lamp"], bytes)
    assert_type(len(w), int)
    assert_type(w.find("lamp"), str)
    assert_type(w.find(3), int)
    for quote in w.quotes():
        assert_type(quote, float)
    w.price = 3
    w.take(3)  # wrong
    w.take("Janet", colour="red")  # wrong
    w.fly()  # wrong
    w.price = "much"  # wrong
    w.size = 4  # wrong
    w[3]  # wrong
    text: str = w.take("Janet")  # wrong
    print(text)


def submitting() -> None:
    w = broker.connect(URI, Warehouse)
    assert_type(broker.submit(w.take, "Janet", "lamp", hurry=True), Future[int])
    assert_type(broker.submit(w.take, name="Janet").result(), int)
    assert_type(broker.submit(w.ring, 3), Future[str])
    assert_type(broker.submit(broker.connect(URI, Store[int]).get, "lamp"), Future[int])
    assert_type(broker.submit(broker.connect(URI, Store[int]).later, 3), Future[list[int]])
    assert_type(broker.submit(w.quotes), Future[Iterator[float]])
    broker.submit(w.take)  # wrong
    broker.submit(w.take, 3)  # wrong
    broker.submit(w.take, "Janet", colour="red")  # wrong
    broker.submit(w.price)  # wrong
    broker.submit(w.take("Janet"))  # wrong
    wrong: Future[str] = broker.submit(w.take, "Janet")  # wrong
    print(wrong)


def sending() -> None:
    w = broker.connect(URI, Warehouse)
    broker.send(w.take, "Janet", hurry=True)
    broker.send(w.ring, 3)
    broker.send(w.take, 3)  # wrong
    broker.send(w.take, "Janet", "lamp", "more")  # wrong
    broker.send("take", "Janet")  # wrong


def with_options() -> None:
    w = broker.connect(URI, Warehouse)
    assert_type(broker.options(w, timeout=2, retries=3, metadata={"who": b"Janet"}), Warehouse)
    assert_type(broker.options(broker.Proxy(URI), timeout=None), broker.Proxy)
    assert_type(broker.options(w, timeout=2).take("Janet"), int)
    broker.options(w, timeout="2")  # wrong
    broker.options(w, colour="red")  # wrong
    broker.options(w, 2)  # wrong
    broker.close(w)
    broker.close()  # wrong


async def in_coroutines() -> None:
    bell = await broker.connect_async(URI, Bell, timeout=3)
    assert_type(bell, Bell)
    assert_type(await bell.ring(2), str)
    assert_type(await bell.volume, int)
    async for tick in bell.ticks():
        assert_type(tick, int)
    assert_type(broker.submit(bell.ring, 2), Future[str])
    assert_type(await broker.options(bell, timeout=1).ring(2), str)
    broker.send(bell.ring, 2)
    await bell.ring("twice")  # wrong
    len(bell.ring(2))  # wrong
    for _ in bell.ticks():  # wrong
        pass
    w = await broker.connect_async(URI, Warehouse)
    await w.take("Janet")  # wrong


# ---- batches


async def batches(warehouse: Warehouse, proxy: broker.Proxy, asynchronous: broker.AsyncProxy) -> None:
    for _ in broker.Batch(proxy)():
        pass
    for _ in broker.Batch(warehouse)():
        pass
    for _ in broker.Batch(asynchronous)():  # wrong
        pass
    for _ in await broker.Batch(asynchronous)():
        pass
    assert_type(broker.Batch(asynchronous)(future=True).result(), BatchResults)
    assert_type(broker.Batch(proxy, stop_on_error=False)(future=True), Future[BatchResults])
    await broker.Batch(proxy)()  # wrong
    broker.Batch(proxy)(oneway=True, future=True)  # wrong
    broker.Batch(proxy, 3)  # wrong
