"""AsyncProxy, over real sockets: what coroutines do with remote objects."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import pickle
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

import broker
from broker import errors
from broker.connection import chains, room
from broker.connection.client import pool

SOON = 40.0  # seconds that nothing takes


class Shop:
    """A shop, with methods of all kinds."""

    def __init__(self) -> None:
        self._price = 1.5
        self._shelf: dict[str, int] = {"couch": 3}
        self.seen: list[object] = []
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.cancelled = threading.Event()

    @property
    def price(self) -> float:
        return self._price

    @price.setter
    def price(self, price: float) -> None:
        self._price = price

    def add(self, a: int, b: int = 0) -> int:
        """The sum."""
        return a + b

    async def add_later(self, a: int, b: int = 0) -> int:
        await asyncio.sleep(0.001)
        return a + b

    def fail(self) -> None:
        raise ValueError("no")

    def blob(self, size: int) -> bytes:
        return bytes(size)

    def wait(self) -> bool:
        self.entered.release()
        return self.go_on.wait(SOON)

    def hang(self) -> None:
        self.entered.release()
        if broker.current_context.wait_cancelled(SOON):
            self.cancelled.set()

    async def hang_later(self) -> None:
        self.entered.release()
        try:
            await asyncio.sleep(SOON)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def note(self, value: object) -> None:
        self.seen.append(value)

    @broker.oneway
    def note_slowly(self, value: object) -> None:
        time.sleep(0.1)
        self.seen.append(value)

    def make(self) -> Shop:
        return self

    def who(self) -> object:
        return dict(broker.current_context.metadata), broker.current_context.remaining

    def __getitem__(self, key: str) -> int:
        return self._shelf[key]

    def __setitem__(self, key: str, value: int) -> None:
        self._shelf[key] = value

    def __delitem__(self, key: str) -> None:
        del self._shelf[key]

    def __len__(self) -> int:
        return len(self._shelf)

    def __contains__(self, key: object) -> bool:
        return key in self._shelf

    def __call__(self, name: str) -> str:
        return f"hello {name}"


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.go_on.set()


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


@pytest.fixture
def proxy(daemon: broker.Daemon, shop: Shop) -> Any:
    return broker.AsyncProxy(daemon.register(shop, "shop"))


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def in_time() -> Any:
        async with asyncio.timeout(30):
            return await main()

    return asyncio.run(in_time())


async def entered(shop: Shop) -> None:
    assert await asyncio.to_thread(shop.entered.acquire, timeout=SOON)


# ---- what can be done with it


def test_methods_properties_items_and_operators(proxy: Any, shop: Shop) -> None:
    async def main() -> None:
        assert await proxy.add(1, b=2) == 3
        assert await proxy.add_later(1, 2) == 3
        assert await proxy.price == 1.5
        assert await proxy.price.set(2.5) is None
        assert await proxy.price == 2.5
        assert await proxy["couch"] == 3
        await proxy["lamp"].set(7)
        await proxy["couch"].delete()
        assert await proxy["lamp"] == 7
        assert await proxy.__len__() == 1
        assert await proxy.__contains__("lamp")
        assert await proxy("Janet") == "hello Janet"
        assert bool(proxy)

    run(main)
    assert shop._shelf == {"lamp": 7}


def test_exceptions_are_raised_with_their_remote_traceback(proxy: Any) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="no") as raised:
            await proxy.fail()
        assert 'raise ValueError("no")' in errors.get_remote_traceback(raised.value)
        with pytest.raises(AttributeError, match=r"'shop' at localhost:\d+ has no remote member 'fly' \(it has: "):
            await proxy.fly()
        with pytest.raises(AttributeError, match="no remote member 'colour'"):
            await proxy.colour
        with pytest.raises(TypeError, match="argument"):
            await proxy.add()
        with pytest.raises(errors.CodecError, match=r"args\[0\]"):
            await proxy.add(threading.Lock())
        with pytest.raises(KeyError):
            await proxy["table"]

    run(main)


def test_what_nobody_could_await_says_what_to_write_instead(proxy: Any) -> None:
    with pytest.raises(AttributeError, match=r"'price' cannot be assigned to.* Use await proxy.price.set\(value\)"):
        proxy.price = 3
    with pytest.raises(AttributeError, match=r"set options with _broker.set\(name, value\)"):
        proxy._timeout = 3
    with pytest.raises(AttributeError, match="such names are never remote"):
        proxy._private  # noqa: B018
    with pytest.raises(TypeError, match="has no len"):
        len(proxy)
    with pytest.raises(TypeError, match="item assignment"):
        proxy["couch"] = 3


def test_a_call_that_is_not_awaited_is_not_made_and_python_says_so(proxy: Any, shop: Shop) -> None:
    async def main() -> None:
        with pytest.warns(RuntimeWarning, match="coroutine 'note' was never awaited"):
            proxy.note(1)
        await proxy.note(2)

    run(main)
    assert shop.seen == [2]


def test_calls_are_coroutines_to_asyncio(proxy: Any) -> None:
    async def main() -> None:
        assert asyncio.iscoroutine(call := proxy.add(1))
        assert inspect.isawaitable(call)
        assert repr(call).startswith("<call of 'add' of 'shop' at localhost:")
        assert await asyncio.create_task(call) == 1
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(proxy.add(n)) for n in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]
        assert await asyncio.wait_for(proxy.add(4), SOON) == 4
        assert [*await asyncio.gather(proxy.add(5), proxy.add_later(6))] == [5, 6]
        assert await asyncio.shield(proxy.add(7)) == 7
        proxy.add(8).close()

    run(main)
    assert asyncio.run(proxy.add(9)) == 9


def test_it_is_a_value_like_proxy(proxy: Any, daemon: broker.Daemon) -> None:
    blocking = broker.Proxy(proxy._broker.uri)
    assert proxy == blocking
    assert hash(proxy) == hash(blocking)
    assert copy.copy(proxy) == proxy == pickle.loads(pickle.dumps(proxy))
    assert type(pickle.loads(pickle.dumps(proxy))) is broker.AsyncProxy
    assert repr(proxy) == f"<AsyncProxy for {proxy._broker.uri}; not connected>"
    assert repr(proxy.add) == f"<remote member 'add' of 'shop' at {proxy._broker.uri.location}>"

    async def main() -> None:
        assert await proxy.add(1) == 1
        assert "add" in dir(proxy)
        assert str(inspect.signature(proxy.add)) == "(a: 'int', b: 'int' = 0) -> 'int'"
        same = await proxy.make()
        assert type(same) is broker.AsyncProxy
        assert same == proxy
        assert await same.add(2) == 2

    run(main)


def test_its_control(proxy: Any, daemon: broker.Daemon) -> None:
    async def main() -> None:
        assert await proxy._broker.bind()
        assert not await proxy._broker.bind()
        assert proxy._broker.connected
        await proxy._broker.ping()
        assert "add" in (await proxy._broker.description).members
        await proxy._broker.reconnect()
        proxy._broker.set("timeout", 4)
        assert proxy._broker.timeout == 4
        assert 3 < (await proxy.who())[1] <= 4
        async with proxy:
            await proxy.add(1)
        assert not proxy._broker.connected

    run(main)


def test_a_session_ends_with_the_block(daemon: broker.Daemon) -> None:
    closed = threading.Event()

    class Desk:
        def sit(self) -> None:
            broker.current_context.on_close(closed.set)

    async def main() -> None:
        async with broker.AsyncProxy(daemon.register(Desk)) as desk:
            await desk.sit()
        assert await asyncio.to_thread(closed.wait, SOON)

    run(main)


# ---- loops, tasks and threads


def test_it_is_made_without_a_loop_and_used_on_several(proxy: Any) -> None:
    for n in range(3):
        assert run(lambda n=n: proxy.add(n)) == n  # type: ignore[misc]
    results: list[object] = []
    threads = [threading.Thread(target=lambda n=n: results.append(asyncio.run(proxy.add(n)))) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert sorted(results, key=repr) == [0, 1, 2, 3, 4]


def test_thousands_of_calls_at_once_need_no_threads(proxy: Any, daemon: broker.Daemon) -> None:
    uri = daemon.register(Shop, max_concurrency=1)
    fresh = broker.AsyncProxy(uri)

    async def main() -> None:
        before = {thread for thread in threading.enumerate() if not thread.name.startswith("broker-worker")}
        results = await asyncio.gather(*(fresh.add(n) for n in range(3000)))
        after = {thread for thread in threading.enumerate() if not thread.name.startswith("broker-worker")}
        assert results == [*range(3000)]
        assert len(after - before) <= 4  # of the connection
        assert len([place for place in pool._connections if place.port == daemon.address[1]]) == 1

    run(main)


def test_more_calls_than_there_is_room_for_wait(proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0

    async def main() -> None:
        nonlocal most
        assert await proxy.add(0) == 0
        engine = proxy._broker._remote.session.connection.engine
        tasks = [asyncio.create_task(proxy.add(n)) for n in range(500)]
        while not all(task.done() for task in tasks):
            most = max(most, engine.unanswered())
            await asyncio.sleep(0)
        assert [task.result() for task in tasks] == [*range(500)]

    monkeypatch.setattr(room, "MOST_UNANSWERED", 20)
    run(main)
    assert 1 < most <= 20


def test_who_waits_for_room_may_give_up(daemon: broker.Daemon, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = daemon.register(shop)
    proxy, hasty = broker.AsyncProxy(uri), broker.AsyncProxy(uri)

    async def main() -> None:
        await asyncio.gather(proxy.add(0), hasty.add(0))
        hasty._broker.set("timeout", 0.05)
        monkeypatch.setattr(room, "MOST_UNANSWERED", 2)
        running = [asyncio.create_task(proxy.wait()) for _ in range(2)]
        await entered(shop)
        await entered(shop)
        with pytest.raises(errors.CallTimeout, match="it was not sent"):
            await hasty.add(1)
        waiting = asyncio.create_task(proxy.add(1))
        await asyncio.sleep(0)
        waiting.cancel()
        shop.go_on.set()
        assert await asyncio.gather(*running) == [True, True]
        assert await proxy.add(2) == 2
        connection = proxy._broker._remote.session.connection
        assert connection is not None
        assert not connection.room._promised

    run(main)


def test_a_large_result_does_not_stop_the_loop(proxy: Any) -> None:
    async def main() -> None:
        assert await proxy.blob(3 << 20) == bytes(3 << 20)

    run(main)


def test_oneway_calls_keep_their_order_within_a_task(proxy: Any, shop: Shop) -> None:
    async def main() -> None:
        begun = time.monotonic()
        await proxy.note_slowly("first")  # known to be oneway although nothing was known of the object
        assert time.monotonic() - begun < SOON
        assert shop.seen == []
        await proxy.note.oneway("second")
        await proxy.note("third")
        assert shop.seen == ["first", "second", "third"]

    run(main)


def test_tasks_do_not_wait_for_each_others_oneway_calls(proxy: Any, shop: Shop) -> None:
    async def one() -> None:
        await proxy.wait.oneway()
        await entered(shop)

    async def main() -> None:
        await asyncio.create_task(one())
        await proxy.note("other")
        shop.go_on.set()

    run(main)
    assert shop.seen == ["other"]


# ---- cancelling and time


@pytest.mark.parametrize("method", ["hang", "hang_later"])
def test_cancelling_the_task_cancels_the_call(proxy: Any, shop: Shop, method: str) -> None:
    async def main() -> None:
        task = asyncio.create_task(getattr(proxy, method)())
        await entered(shop)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(shop.cancelled.wait, SOON)
        assert await proxy.add(1) == 1

    run(main)
    assert not chains.expected


def test_asyncio_timeout_cancels_the_call(proxy: Any, shop: Shop) -> None:
    async def hang_until_it_has_come() -> None:
        async with asyncio.timeout(SOON) as limit:
            has_come = asyncio.ensure_future(entered(shop))
            has_come.add_done_callback(lambda _: limit.reschedule(asyncio.get_running_loop().time()))
            await proxy.hang()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await hang_until_it_has_come()
        assert await asyncio.to_thread(shop.cancelled.wait, SOON)

    run(main)


def test_the_timeout_of_the_proxy(daemon: broker.Daemon, shop: Shop) -> None:
    proxy = broker.AsyncProxy(daemon.register(shop, "shop"), timeout=0.5)

    async def main() -> None:
        with pytest.raises(errors.CallTimeout, match=r"'hang' of 'shop' at localhost:\d+ took longer than its time"):
            await proxy.hang()
        assert await asyncio.to_thread(shop.cancelled.wait, SOON)

    run(main)


def test_a_loop_that_ends_cancels_its_calls(proxy: Any, shop: Shop) -> None:
    async def main() -> None:
        task = asyncio.create_task(proxy.hang())
        await entered(shop)
        assert not task.done()

    run(main)
    assert shop.cancelled.wait(SOON)


def test_nothing_to_connect_to(daemon: broker.Daemon) -> None:
    async def main() -> None:
        nobody = broker.AsyncProxy("BROKER:nobody@localhost:1")
        results = await asyncio.gather(*(nobody.add(n) for n in range(100)), return_exceptions=True)
        assert {type(result) for result in results} == {errors.CannotConnect}
        stranger = broker.AsyncProxy(f"BROKER:stranger@localhost:{daemon.address[1]}")
        with pytest.raises(errors.ObjectNotFound):
            await stranger.add(1)

    run(main)


def test_a_lost_connection(proxy: Any, shop: Shop) -> None:
    async def main() -> None:
        task = asyncio.create_task(proxy.hang())
        await entered(shop)
        proxy._broker._remote.session.connection.engine.lost("cut")
        with pytest.raises(errors.ConnectionClosedError) as lost:
            await task
        assert lost.value.may_have_run
        assert await proxy.add(1) == 1

    run(main)


# ---- streams


class Source:
    """Streams of all sorts."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def count(self, n: int) -> Iterator[int]:
        try:
            yield from range(n)
        finally:
            self.closed.set()

    async def ticks(self, n: int) -> AsyncIterator[int]:
        try:
            for number in range(n):
                await asyncio.sleep(0)
                yield number
        finally:
            self.closed.set()

    def never(self) -> Iterator[int]:
        yield 1
        broker.current_context.wait_cancelled(SOON)
        self.closed.set()

    def fail(self) -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    def plain(self) -> list[int]:
        return [1, 2]

    @property
    def letters(self) -> Iterator[str]:
        return iter("abc")

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2, 3])


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def streams(daemon: broker.Daemon, source: Source) -> Any:
    return broker.AsyncProxy(daemon.register(source, "source"))


@pytest.mark.parametrize("method", ["count", "ticks"])
def test_a_loop_over_a_call_takes_what_a_generator_gives(streams: Any, method: str) -> None:
    async def main() -> None:
        call = getattr(streams, method)
        assert [number async for number in call(1000)] == [*range(1000)]
        assert [number async for number in await call(3)] == [0, 1, 2]
        assert await anext(aiter(call(3))) == 0

    run(main)


def test_a_loop_over_the_proxy_and_a_property(streams: Any) -> None:
    async def main() -> None:
        assert [number async for number in streams] == [1, 2, 3]
        assert [letter async for letter in await streams.letters] == ["a", "b", "c"]

    run(main)


@pytest.mark.parametrize("method", ["count", "ticks"])
def test_leaving_the_loop_stops_the_generator(streams: Any, source: Source, method: str) -> None:
    async def main() -> None:
        async for number in getattr(streams, method)(1_000_000):
            if number == 3:
                break
        assert await asyncio.to_thread(source.closed.wait, SOON)

    run(main)


def test_what_a_generator_raises_comes_at_its_place(streams: Any) -> None:
    async def main() -> None:
        items = aiter(streams.fail())
        assert await anext(items) == 1
        with pytest.raises(LookupError, match="no more"):
            await anext(items)

    run(main)


def test_a_loop_over_what_is_no_stream_says_so(streams: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=r"'plain' of 'source' at .* returned a list and no stream: `await` it"):
            await anext(aiter(streams.plain()))
        with pytest.raises(AttributeError, match="no remote member 'nothing'"):
            await anext(aiter(streams.nothing()))

    run(main)


def test_cancelling_a_task_in_a_loop_stops_the_generator(streams: Any, source: Source) -> None:
    first = asyncio.Event()

    async def consume() -> None:
        async for _ in streams.never():
            first.set()

    async def main() -> None:
        task = asyncio.create_task(consume())
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(source.closed.wait, SOON)

    run(main)


# ---- functions around


def test_async_functions_around_every_call(daemon: broker.Daemon, shop: Shop) -> None:
    seen: list[object] = []

    async def around(call: broker.Call, next: Any) -> Any:
        await asyncio.sleep(0)
        call.metadata["who"] = "Janet"
        result = await next(call)
        seen.append((call.kind, call.member, result))
        return result

    proxy = broker.AsyncProxy(daemon.register(shop), around=[around])

    async def main() -> None:
        assert (await proxy.who())[0] == {"who": "Janet"}
        await proxy.price
        await proxy.price.set(2)

    run(main)
    assert seen[1:] == [("get", "price", 1.5), ("set", "price", None)]
    with pytest.raises(TypeError, match="around of an AsyncProxy takes `async def` functions"):
        broker.AsyncProxy("BROKER:x@localhost:1", around=[lambda call, next: next(call)])


# ---- serving and calling on one loop


class Relay:
    """Calls others from `async def` methods."""

    def __init__(self) -> None:
        self.loops: list[object] = []
        self.other: Any = None

    async def count(self, n: int) -> list[int]:
        self.loops.append(asyncio.get_running_loop())
        return [n, *await self.other.count(n - 1)] if n else [n]

    async def remaining(self, depth: int) -> float | None:
        if depth:
            remaining: float | None = await self.other.remaining(depth - 1)
            return remaining
        return broker.current_context.remaining


@contextlib.asynccontextmanager
async def relays(**options: Any) -> AsyncIterator[tuple[list[Relay], list[Any]]]:
    pair = [Relay(), Relay()]
    async with broker.Daemon(max_workers=1) as one, broker.Daemon(max_workers=1) as other:
        uris = [one.register(pair[0], max_concurrency=1), other.register(pair[1], max_concurrency=1)]
        pair[0].other, pair[1].other = broker.AsyncProxy(uris[1]), broker.AsyncProxy(uris[0])
        yield pair, [broker.AsyncProxy(uri, **options) for uri in uris]


def test_a_process_serves_and_calls_on_one_loop() -> None:
    async def main() -> None:
        async with relays() as (pair, proxies):
            assert await proxies[0].count(20) == [*range(20, -1, -1)]
            assert {*pair[0].loops, *pair[1].loops} == {asyncio.get_running_loop()}

    run(main)


def test_time_and_depth_travel_through_coroutines() -> None:
    async def main() -> None:
        async with relays(timeout=40) as (_, proxies):
            assert 20 < await proxies[0].remaining(4) < 40
            with pytest.raises(errors.RemoteError, match="circles"):
                await proxies[0].count(100)

    run(main)


def test_many_chains_at_once_on_one_loop() -> None:
    async def main() -> None:
        async with relays() as (_, proxies):
            counted = await asyncio.gather(*(proxies[n % 2].count(5) for n in range(40)))
            assert counted == [[5, 4, 3, 2, 1, 0]] * 40

    run(main)
