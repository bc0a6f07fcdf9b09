"""Results that are iterators, over a real connection."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pytest

import broker

SOON = 40.0


class Source:
    """Streams of all sorts."""

    def __init__(self) -> None:
        self._made = 0
        self._closed = threading.Event()

    def count(self, n: int) -> Iterator[int]:
        try:
            for number in range(n):
                self._made = number + 1
                yield number
        finally:
            self._closed.set()

    def gone(self) -> bool:
        return self._closed.wait(SOON)

    def made(self) -> int:
        return self._made

    async def ticks(self, n: int) -> AsyncIterator[tuple[int, str]]:
        try:
            for number in range(n):
                yield number, str(number)
        finally:
            self._closed.set()

    async def later(self, n: int) -> Iterator[int]:
        return iter(range(n))

    @property
    def letters(self) -> Iterator[str]:
        return iter("abc")

    def with_value(self) -> Generator[int, None, str]:
        yield 1
        return "the value"

    def failing(self) -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    def not_encodable(self) -> Iterator[object]:
        yield 1
        yield object()

    def paced(self, n: int) -> Iterator[int]:
        for number in range(n):
            time.sleep(0.05)
            yield number

    def blocks(self, n: int) -> Iterator[list[str]]:
        for number in range(n):
            yield [f"text {number}"] * 200_000

    def slow(self) -> Iterator[int]:
        yield 1
        broker.current_context.wait_cancelled(60)
        self._closed.set()

    def who(self) -> Iterator[str]:
        for _ in range(40):
            context = broker.current_context
            yield f"{context.member} {context.remaining}"

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2, 3])


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


@pytest.fixture
def proxy(daemon: broker.Daemon, source: Source) -> Any:
    return broker.Proxy(daemon.register(source))


def test_the_items_of_a_generator_arrive(proxy: Any) -> None:
    assert list(proxy.count(1000)) == list(range(1000))
    assert list(proxy.count(0)) == []
    assert list(proxy.ticks(100)) == [(n, str(n)) for n in range(100)]
    assert list(proxy.later(3)) == [0, 1, 2]
    assert list(proxy.letters) == ["a", "b", "c"]
    assert list(proxy) == [1, 2, 3]
    assert 2 in proxy


def test_the_call_runs_when_it_is_made_and_a_little_ahead(proxy: Any, source: Source) -> None:
    numbers = proxy.count(1_000_000)
    deadline = time.monotonic() + SOON
    while proxy.made() < 16 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert next(numbers) == 0
    assert 16 <= source.made() <= 32


def test_what_a_generator_returns(proxy: Any) -> None:
    def through() -> Iterator[int]:
        value: str = yield from proxy.with_value()
        assert value == "the value"

    numbers: Any = proxy.with_value()
    values = [numbers.value, *numbers, numbers.value]
    assert values == [None, 1, "the value"]
    assert list(through()) == [1]
    assert list(numbers) == [], "it is over"


def test_what_a_generator_raises_comes_at_its_place(proxy: Any) -> None:
    items = proxy.failing()
    assert next(items) == 1
    with pytest.raises(LookupError, match="no more") as raised:
        next(items)
    assert "in failing" in broker.errors.get_remote_traceback(raised.value)
    assert raised.value.__context__ is None
    with pytest.raises(StopIteration):
        next(items)


def test_an_item_that_cannot_be_encoded_comes_at_its_place(proxy: Any) -> None:
    items = proxy.not_encodable()
    assert next(items) == 1
    with pytest.raises(broker.errors.CodecError, match="an item of it cannot be encoded by the server"):
        next(items)


@pytest.mark.parametrize("method", ["count", "ticks"])
@pytest.mark.parametrize("how", ["close", "with", "break", "collect"])
def test_a_stream_that_is_left_early_stops_its_generator(proxy: Any, method: str, how: str) -> None:
    items = getattr(proxy, method)(10**9)
    next(items)
    if how == "close":
        items.close()
        assert list(items) == []
        items.close()
    elif how == "with":
        with items:
            pass
    elif how == "break":
        for _ in items:
            break
    del items
    gc.collect()
    assert proxy.gone()


def test_the_session_is_held_by_the_stream(daemon: broker.Daemon, source: Source) -> None:
    numbers = iter(broker.Proxy(daemon.register(source)).count(50_000))
    gc.collect()
    time.sleep(1.5)  # sessions that nobody holds are closed once a second
    assert sum(1 for _ in numbers) == 50_000


def test_closing_the_proxy_ends_its_streams(proxy: Any) -> None:
    numbers = proxy.count(10**9)
    next(numbers)
    proxy._broker.close()
    with pytest.raises(broker.errors.ConnectionClosedError, match="its session is over"):
        for _ in numbers:
            pass
    assert proxy.gone()


def test_the_timeout_is_for_each_wait(daemon: broker.Daemon, source: Source) -> None:
    proxy: Any = broker.Proxy(daemon.register(source), timeout=1.5)
    for item in proxy.who():
        assert item == "who None"
        time.sleep(0.05)  # longer than the timeout, all together
    items = proxy.slow()
    assert next(items) == 1
    with pytest.raises(broker.errors.CallTimeout, match=r"'slow' of .* gave no further item within 1\.5 s"):
        next(items)
    assert list(items) == []
    assert proxy.gone()


def test_threads_share_an_iterator(proxy: Any) -> None:
    numbers = proxy.count(20_000)
    found: list[list[int]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=into.extend, args=(numbers,)) for into in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert sorted(chain.from_iterable(found)) == list(range(20_000))


def test_many_streams_interleave_with_calls_on_one_connection(proxy: Any) -> None:
    streams = [proxy.count(50 + number) for number in range(200)]
    totals = [0] * len(streams)
    for round_ in range(50):
        for number, stream in enumerate(streams):
            totals[number] += next(stream) == round_
        assert proxy.made() > 0
    assert totals == [50] * 200
    assert [len(list(stream)) for stream in streams] == list(range(200))


def test_streams_do_not_hold_threads(source: Source) -> None:
    with broker.Daemon(max_workers=2) as daemon:
        proxy: Any = broker.Proxy(daemon.register(source))
        streams = [proxy.count(1000) for _ in range(50)]
        assert proxy.made() >= 0, "there is a thread for it"
        assert [sum(1 for _ in stream) for stream in streams] == [1000] * 50


# ---- on an event loop


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run


@on_a_loop
async def test_async_for_takes_the_items(daemon: broker.Daemon, source: Source) -> None:
    proxy: Any = broker.AsyncProxy(daemon.register(source))
    assert [number async for number in proxy.count(5000)] == list(range(5000))
    assert [number async for number in proxy.ticks(10)] == [(n, str(n)) for n in range(10)]
    assert [number async for number in proxy] == [1, 2, 3]
    assert [letter async for letter in await proxy.letters] == ["a", "b", "c"]
    items = await proxy.with_value()
    assert [item async for item in items] == [1]
    assert items.value == "the value"


@on_a_loop
async def test_what_a_generator_raises_reaches_a_coroutine_at_its_place(daemon: broker.Daemon, source: Source) -> None:
    proxy: Any = broker.AsyncProxy(daemon.register(source))
    items = await proxy.failing()
    assert await anext(items) == 1
    with pytest.raises(LookupError, match="no more"):
        await anext(items)
    with pytest.raises(StopAsyncIteration):
        await anext(items)


@pytest.mark.parametrize("how", ["aclose", "with", "break", "collect"])
@on_a_loop
async def test_a_stream_that_a_coroutine_leaves_early_stops(daemon: broker.Daemon, source: Source, how: str) -> None:
    proxy: Any = broker.AsyncProxy(daemon.register(source))
    if how == "break":
        async for _ in proxy.count(10**9):
            break
    else:
        items = await proxy.count(10**9)
        await anext(items)
        if how == "aclose":
            await items.aclose()
            assert [item async for item in items] == []
        elif how == "with":
            async with items:
                pass
        del items
    assert await asyncio.to_thread(source.gone)


@on_a_loop
async def test_a_cancelled_task_loses_no_item(daemon: broker.Daemon, source: Source) -> None:
    proxy: Any = broker.AsyncProxy(daemon.register(source))
    items = await proxy.paced(5)
    found: list[int] = []
    while len(found) < 5:
        try:
            async with asyncio.timeout(0.02):
                found.append(await anext(items))
        except TimeoutError:
            pass
    assert found == list(range(5))


@on_a_loop
async def test_the_timeout_of_an_async_proxy_is_for_each_wait(daemon: broker.Daemon, source: Source) -> None:
    proxy: Any = broker.AsyncProxy(daemon.register(source), timeout=0.5)
    items = await proxy.slow()
    assert await anext(items) == 1
    with pytest.raises(broker.errors.CallTimeout, match="gave no further item within"):
        await anext(items)
    assert await asyncio.to_thread(source.gone)


@on_a_loop
async def test_big_items_do_not_stop_the_loop(daemon: broker.Daemon, source: Source) -> None:
    proxy: Any = broker.AsyncProxy(daemon.register(source))
    assert [(len(texts), texts[0]) async for texts in proxy.blocks(4)] == [(200_000, f"text {n}") for n in range(4)]


@on_a_loop
async def test_many_streams_on_one_loop(daemon: broker.Daemon, source: Source) -> None:
    proxy: Any = broker.AsyncProxy(daemon.register(source))

    async def total(n: int) -> int:
        return sum([number async for number in proxy.count(n)])

    assert await asyncio.gather(*map(total, range(300))) == [sum(range(n)) for n in range(300)]


def test_futures_of_streams(proxy: Any) -> None:
    futures = [proxy.count.future(100) for _ in range(20)]
    assert [list(future.result()) for future in futures] == [list(range(100))] * 20


def test_a_future_that_is_dropped_stops_its_generator(proxy: Any, source: Source) -> None:
    future = proxy.count.future(10**9)
    concurrent.futures.wait([future])
    del future
    gc.collect()
    assert source.gone()


# ---- and the rest


def test_a_oneway_call_of_a_generator_makes_no_item(proxy: Any) -> None:
    proxy.count.oneway(100)
    assert proxy.made() == 0


def test_a_stream_is_relayed(daemon: broker.Daemon, proxy: Any) -> None:
    class Relay:
        def all(self, n: int) -> Iterator[int]:
            return proxy.count(n)  # type: ignore[no-any-return]

    relay: Any = broker.Proxy(daemon.register(Relay()))
    assert list(relay.all(5000)) == list(range(5000))
    items = relay.all(10**9)
    next(items)
    del items
    assert proxy.gone()


def test_max_concurrency_holds_for_the_steps(daemon: broker.Daemon) -> None:
    class Alone:
        def __init__(self) -> None:
            self._inside = 0

        def numbers(self, n: int) -> Iterator[int]:
            for number in range(n):
                self._inside += 1
                time.sleep(0.001)
                assert self._inside == 1
                self._inside -= 1
                yield number

        async def ticks(self, n: int) -> AsyncIterator[int]:
            for number in self.numbers(n):
                yield number

    proxy: Any = broker.Proxy(daemon.register(Alone(), max_concurrency=1))
    streams = [proxy.numbers(100), proxy.numbers(100), proxy.ticks(100), proxy.ticks(100)]
    found: list[list[int]] = [[] for _ in streams]
    threads = [
        threading.Thread(target=into.extend, args=(stream,)) for into, stream in zip(found, streams, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [list(range(100))] * 4
    assert list(proxy.numbers(3)) == [0, 1, 2], "the gate is open"


def test_a_stream_steps_on_the_threads_of_its_executor(daemon: broker.Daemon) -> None:
    class Driver:
        def threads(self, n: int) -> Iterator[str]:
            for _ in range(n):
                yield threading.current_thread().name

        def ping(self) -> str:
            return "pong"

    with ThreadPoolExecutor(1, thread_name_prefix="driver") as executor:
        proxy: Any = broker.Proxy(daemon.register(Driver(), executor=executor))
        endless = proxy.threads(10**9)
        assert proxy.ping() == "pong"
        assert set(proxy.threads(5000)) == {"driver_0"}
        endless.close()
    with pytest.raises(broker.errors.BrokerError, match="the executor of the object"):
        list(proxy.threads(5000))


def test_a_fast_stream_lets_others_go_first(source: Source) -> None:
    with broker.Daemon(max_workers=1) as daemon:
        proxy: Any = broker.Proxy(daemon.register(source), timeout=SOON)
        numbers = proxy.count(10**9)
        stop = threading.Event()

        def consume() -> None:
            for _ in numbers:
                if stop.is_set():
                    return

        consumer = threading.Thread(target=consume)
        consumer.start()
        for _ in range(20):
            proxy.made()
        stop.set()
        consumer.join(SOON)
        numbers.close()


def test_a_nested_call_runs_on_the_thread_that_waits_for_an_item(daemon: broker.Daemon) -> None:
    class Caller:
        def __init__(self) -> None:
            self._lock = threading.RLock()

        def use(self, other: Any) -> list[str]:
            with self._lock:
                return list(other.items(self))

        def ask(self) -> str:
            assert self._lock.acquire(timeout=SOON)
            self._lock.release()
            return threading.current_thread().name

    class Callee:
        def items(self, caller: Any) -> Iterator[str]:
            time.sleep(0.1)
            yield caller.ask()

    caller, callee = broker.Proxy(daemon.register(Caller())), broker.Proxy(daemon.register(Callee()))
    assert len(caller.use(callee)) == 1


def test_pickled_items(source: Source) -> None:
    with broker.Daemon(codecs=("pickle",)) as daemon:
        proxy: Any = broker.Proxy(daemon.register(source), codec="pickle")
        assert list(proxy.count(1000)) == list(range(1000))
        assert list(proxy.ticks(100)) == [(n, str(n)) for n in range(100)]


def test_arrays_and_big_items(daemon: broker.Daemon) -> None:
    class Images:
        def rows(self, n: int) -> Iterator[bytes | bytearray]:
            block = bytearray(300_000)
            for number in range(n):
                block[0] = number
                yield bytes(block) if number % 2 else block

    proxy: Any = broker.Proxy(daemon.register(Images()))
    assert [(len(row), row[0]) for row in proxy.rows(50)] == [(300_000, n) for n in range(50)]


def test_items_may_be_references(daemon: broker.Daemon) -> None:
    class Clerk:
        def __init__(self, name: str) -> None:
            self._name = name

        def name(self) -> str:
            return self._name

    class Office:
        def clerks(self) -> Iterator[Any]:
            for name in ("Janet", "Henry"):
                clerk = Clerk(name)
                daemon.register(clerk)
                yield clerk

        def exported(self, n: int) -> Iterator[Any]:
            for number in range(n):
                yield [broker.export(Clerk(f"clerk {number}")), number]

    office: Any = broker.Proxy(daemon.register(Office()), local=False)
    assert [clerk.name() for clerk in office.clerks()] == ["Janet", "Henry"]
    assert [clerk.name() for clerk, _ in office.exported(50)] == [f"clerk {number}" for number in range(50)]
    left = office.exported(1000)
    next(left)
    del left
    gc.collect()
    give_up = time.monotonic() + SOON
    while daemon.stats().exports and time.monotonic() < give_up:
        time.sleep(0.01)
    assert daemon.stats().exports == 0


def test_shutdown_ends_streams(source: Source) -> None:
    daemon = broker.Daemon()
    daemon.start()
    proxy: Any = broker.Proxy(daemon.register(source))
    numbers = proxy.count(10**9)
    next(numbers)
    daemon.shutdown(grace=0.1)
    with pytest.raises(broker.errors.ConnectionClosedError):
        for _ in numbers:
            pass
    assert source.gone()
