"""Iterators as arguments, and anywhere in a value: the other side takes their items."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import broker

SOON = 40.0


@dataclasses.dataclass
class Order:
    item: str
    count: int


class Desk:
    """Takes iterators."""

    def __init__(self) -> None:
        self.kept: Any = None
        self.types: list[str] = []

    def total(self, numbers: Iterator[int]) -> int:
        return sum(numbers)

    def orders(self, orders: Iterator[Order]) -> int:
        total = 0
        for order in orders:
            self.types.append(type(order).__name__)
            total += order.count
        return total

    def first(self, numbers: Iterator[int]) -> int:
        return next(numbers)

    def twice(self, one: Iterator[int], other: Iterator[int]) -> list[int]:
        assert one is other
        return [next(one), next(other), next(one)]

    def inside(self, value: dict[str, Any]) -> list[int]:
        return [*value["numbers"][0], *value["numbers"][1]]

    def keep(self, numbers: Iterator[int]) -> None:
        self.kept = numbers

    def next_kept(self) -> int:
        return next(self.kept)  # type: ignore[no-any-return]

    def drop(self) -> None:
        self.kept = None

    def none_of(self, numbers: Iterator[int]) -> None:
        pass

    def back(self, numbers: Iterator[int]) -> dict[str, Any]:
        return {"yours": numbers}

    def doubled(self, numbers: Iterator[int]) -> Iterator[int]:
        for number in numbers:
            yield 2 * number

    def two_streams(self, n: int) -> dict[str, Any]:
        return {"up": iter(range(n)), "down": iter(range(n, 0, -1))}

    async def total_later(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    async def waits(self, numbers: AsyncIterator[int]) -> str:
        try:
            async with asyncio.timeout(20):
                await anext(numbers)
        except TimeoutError:
            return "nothing came"
        return "something came"


class Source:
    """A generator that tells what happens to it."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.threads: set[str] = set()
        self.made = 0

    def numbers(self, n: int) -> Iterator[int]:
        try:
            for number in range(n):
                self.threads.add(threading.current_thread().name)
                self.made += 1
                yield number
        finally:
            self.closed.set()

    def failing(self) -> Iterator[int]:
        yield 1
        raise LookupError("sold out")

    async def ticks(self, n: int) -> AsyncIterator[int]:
        try:
            for number in range(n):
                yield number
        finally:
            self.closed.set()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(params=[True, False], ids=["same process", "socket"])
def proxy(request: pytest.FixtureRequest, desk: Desk) -> Iterator[Any]:
    with broker.Daemon() as daemon:
        yield broker.Proxy(daemon.register(desk), local=request.param)


def soon(condition: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + SOON
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.01)
    return condition()


def test_an_iterator_is_an_argument(proxy: Any, source: Source) -> None:
    assert proxy.total(source.numbers(5000)) == sum(range(5000))
    assert source.threads == {threading.current_thread().name}, "the thread that waits for the call steps it"
    assert proxy.total(iter([1, 2, 3])) == 6
    assert proxy.total(map(abs, [-1, -2])) == 3
    assert proxy.total(n for n in range(4)) == 6


def test_the_items_are_of_the_types_in_the_hints(proxy: Any, desk: Desk) -> None:
    assert proxy.orders(Order("couch", n) for n in range(3)) == 3
    assert desk.types == ["Order"] * 3


def test_iterators_lie_anywhere_in_a_value(proxy: Any) -> None:
    assert proxy.inside({"numbers": [iter([1, 2]), iter((3,))]}) == [1, 2, 3]


def test_the_same_iterator_arrives_as_the_same(proxy: Any) -> None:
    numbers = iter(range(100))
    assert proxy.twice(numbers, numbers) == [0, 1, 2]


def test_it_comes_back_as_itself(proxy: Any, source: Source) -> None:
    numbers = source.numbers(10)
    assert proxy.back(numbers)["yours"] is numbers


def test_a_generator_that_is_read_in_part_is_closed(proxy: Any, source: Source) -> None:
    assert proxy.first(source.numbers(10**9)) == 0
    gc.collect()
    assert source.closed.wait(SOON)
    assert source.made <= 64


def test_a_generator_that_nobody_reads_makes_nothing(proxy: Any, source: Source) -> None:
    proxy.none_of(source.numbers(10))
    assert source.made == 0


def test_it_can_be_read_after_the_call(proxy: Any, source: Source) -> None:
    proxy.keep(source.numbers(10**9))
    assert [proxy.next_kept() for _ in range(3)] == [0, 1, 2]
    proxy.drop()
    assert source.closed.wait(SOON)


def test_streams_go_both_ways_at_once(proxy: Any, source: Source) -> None:
    doubled = proxy.doubled(source.numbers(3000))
    assert list(doubled) == [2 * number for number in range(3000)]
    endless = proxy.doubled(source.numbers(10**9))
    assert next(endless) == 0
    del endless
    assert source.closed.wait(SOON)


def test_what_it_raises_is_raised_in_the_method_and_comes_back(proxy: Any, source: Source) -> None:
    with pytest.raises(LookupError, match="sold out"):
        proxy.total(source.failing())


def test_iterators_inside_a_result(proxy: Any) -> None:
    found = proxy.two_streams(100)
    assert list(zip(found["up"], found["down"], strict=True)) == list(zip(range(100), range(100, 0, -1), strict=True))


def test_an_async_iterator_is_an_argument(proxy: Any, source: Source) -> None:
    assert proxy.total(source.ticks(1000)) == sum(range(1000))
    assert proxy.total_later(source.ticks(1000)) == sum(range(1000))
    assert proxy.total_later(source.numbers(1000)) == sum(range(1000))
    assert proxy.waits(iter([1])) == "something came"


def test_an_async_proxy_passes_them_too(proxy: Any, source: Source) -> None:
    async def main() -> None:
        asynchronous: Any = broker.AsyncProxy(proxy._broker.uri, local=proxy._broker.local)
        loop = asyncio.get_running_loop()
        where: list[bool] = []

        async def here() -> AsyncIterator[int]:
            for number in range(100):
                where.append(asyncio.get_running_loop() is loop)
                yield number

        assert await asynchronous.total(here()) == sum(range(100))
        assert where == [True] * 100
        assert await asynchronous.total(source.numbers(100)) == sum(range(100))
        found = await asynchronous.two_streams(10)
        assert [number async for number in found["up"]] == list(range(10))

    asyncio.run(asyncio.wait_for(main(), 30))


def test_futures_and_oneways_pass_them_too(proxy: Any, source: Source) -> None:
    assert proxy.total.future(source.numbers(100)).result(SOON) == sum(range(100))
    proxy.keep.oneway(source.numbers(10**9))
    assert proxy.next_kept() == 0
    proxy.drop()
    assert source.closed.wait(SOON)


def test_it_cannot_be_passed_on_to_a_third(proxy: Any, source: Source) -> None:
    class Between:
        def hand_over(self, numbers: Iterator[int]) -> None:
            proxy.total(numbers)

    with broker.Daemon() as daemon:
        between: Any = broker.Proxy(daemon.register(Between()), local=False)
        with pytest.raises(broker.errors.RemoteError, match="passed back"):
            between.hand_over(source.numbers(3))


def test_many_of_them_leave_nothing_behind(desk: Desk) -> None:
    with broker.Daemon() as daemon:
        proxy: Any = broker.Proxy(daemon.register(desk), local=False)
        for _ in range(300):
            proxy.first(iter(range(100)))
        gc.collect()
        assert soon(lambda: daemon.stats().exports == 0)
        assert soon(lambda: daemon.stats().under_way == 0)


def test_a_connection_that_breaks_raises_in_the_method(run_program: Callable[..., Any], desk: Desk) -> None:
    code = """
        import sys
        import threading
        import broker

        def numbers():
            yield 1
            print("asked", flush=True)
            broker.current_context.wait_cancelled(60)
            yield 2

        desk = broker.Proxy(sys.argv[1])
        desk.keep(numbers())
        print("kept", flush=True)
        threading.Event().wait()
    """

    with broker.Daemon() as daemon:
        client = run_program(code, str(daemon.register(desk)))
        client.line("kept")
        assert desk.next_kept() == 1
        client.line("asked")
        client.process.kill()
        with pytest.raises(broker.errors.ConnectionClosedError):
            desk.next_kept()
