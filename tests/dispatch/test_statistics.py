"""What a daemon has done, in numbers, and the limits beyond which it refuses."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

import broker
from broker._pb.broker_pb2 import Description, InvokeRequest, InvokeResponse, LookupRequest
from broker.dispatch.statistics import MOST_NAMES, Counter, NamedCounters
from broker.errors import Overloaded

SOON = 40.0


def until(condition: Callable[[], object]) -> None:
    """Waits for what happens on other threads and tells nobody."""
    give_up = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


def test_no_count_is_lost_among_threads() -> None:
    counter, names = Counter(), NamedCounters()

    def count(name: str) -> None:
        for _ in range(10_000):
            counter.add()
            names.add(name)

    with ThreadPoolExecutor(8) as threads:
        counting = [threads.submit(count, f"name {number % 2}") for number in range(8)]
        while not all(each.done() for each in counting):
            assert 0 <= counter.value <= 80_000
    assert counter.value == counter.value == 80_000
    assert names.values == {"name 0": 40_000, "name 1": 40_000}


def test_names_without_end_are_counted_together() -> None:
    names = NamedCounters()
    for number in range(MOST_NAMES + 10):
        names.add(f"Error{number}")
    assert len(names.values) == MOST_NAMES + 1
    assert names.values["(others)"] == 10


class OutOfStockError(Exception): ...


class Shop:
    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.leave = threading.Event()
        self.count = 0

    def echo(self, value: Any) -> Any:
        self.count += 1
        return value

    def fail(self, builtin: bool) -> None:
        raise ValueError("no more") if builtin else OutOfStockError

    def stay(self) -> None:
        self.entered.release()
        assert self.leave.wait(SOON)

    async def stay_on_the_loop(self) -> None:
        self.entered.release()
        assert await asyncio.to_thread(self.leave.wait, SOON)

    def call_back(self, other: Any) -> Any:
        return other.echo("nested")

    def count_up(self, end: int) -> Iterator[int]:
        if end < 0:
            raise ValueError(end)
        yield from range(end)

    def track(self) -> None:
        broker.current_context.track(Resource())

    @broker.oneway
    def note(self) -> None: ...

    @property
    def price(self) -> int:
        return 3

    @price.setter
    def price(self, value: int) -> None: ...


class Resource:
    def close(self) -> None: ...


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def daemon(shop: Shop) -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        daemon.register(shop, "shop")
        yield daemon
        shop.leave.set()


@pytest.fixture
def proxy(daemon: broker.Daemon) -> Any:
    return broker.Proxy(daemon.uri_for("shop"), local=False)


def test_calls_are_counted_by_kind(daemon: broker.Daemon, proxy: Any) -> None:
    assert dataclasses.asdict(daemon.stats()) == {
        "calls": {}, "errors": {}, "limits": {}, "refused": {}, "uptime": pytest.approx(0, abs=SOON),
        "oneway": 0, "unary": 0, "under_way": 0, "waiting": 0, "streams": 0,
        "connections": 0, "sessions": 0, "exports": 0,
    }  # fmt: skip
    proxy._broker.bind()
    assert proxy.echo(1) == proxy.echo(1) == 1
    assert proxy.price == 3
    proxy.price = 4
    proxy.note()
    proxy.track()
    stats = daemon.stats()
    described = stats.calls.get("describe", 0)
    assert stats.calls == {"method": 4, "get": 1, "set": 1, "describe": described}
    assert (stats.oneway, stats.unary, stats.connections, stats.sessions) == (1, 0, 1, 1)
    until(lambda: daemon.stats().under_way == 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.oneway = 0  # type: ignore[misc]


def test_unary_calls_are_counted_with_the_others(daemon: broker.Daemon) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{daemon.address[1]}") as channel:
        invoke = channel.unary_unary(
            "/broker.v1.ObjectBroker/Invoke", InvokeRequest.SerializeToString, InvokeResponse.FromString
        )
        lookup = channel.unary_unary(
            "/broker.v1.ObjectBroker/Lookup", LookupRequest.SerializeToString, Description.FromString
        )
        invoke(InvokeRequest(object="shop", method="price"), timeout=SOON)
        lookup(LookupRequest(object="shop"), timeout=SOON)
        with pytest.raises(grpc.RpcError):
            invoke(InvokeRequest(object="shop", method="steal"), timeout=SOON)
    stats = daemon.stats()
    assert (stats.calls, stats.unary, stats.connections) == ({"method": 1, "get": 1, "describe": 1}, 3, 0)
    assert stats.refused == {"MEMBER_NOT_FOUND": 1}
    assert [type(reason) for reason in stats.refused] == [str]


def test_streams_are_counted_while_they_send_items(daemon: broker.Daemon, proxy: Any) -> None:
    assert list(proxy.count_up(2)) == [0, 1]
    items = proxy.count_up(10**9)
    assert next(items) == 0
    assert (daemon.stats().streams, daemon.stats().under_way) == (1, 1)
    items.close()
    until(lambda: daemon.stats().under_way == daemon.stats().streams == 0)
    with pytest.raises(ValueError, match="-1"):
        next(proxy.count_up(-1))
    stats = daemon.stats()
    assert (stats.calls["method"], stats.errors) == (3, {"ValueError": 1})
    assert stats.refused in ({}, {"CANCELLED": 1})


def test_batches_are_counted_with_their_calls(daemon: broker.Daemon, proxy: Any) -> None:
    batch = broker.Batch(proxy, stop_on_error=False)
    batch.echo(1)
    batch.fail(True)
    batch.steal()
    results = batch()
    assert next(results) == 1
    with pytest.raises(ValueError, match="no more"):
        next(results)
    with pytest.raises(AttributeError, match="steal"):
        next(results)
    until(lambda: daemon.stats().under_way == 0)
    stats = daemon.stats()
    assert {kind: count for kind, count in stats.calls.items() if kind != "describe"} == {"batch": 1, "method": 3}
    assert (stats.errors, stats.refused) == ({"ValueError": 1}, {"MEMBER_NOT_FOUND": 1})


def test_errors_are_counted_by_class_and_refusals_by_reason(daemon: broker.Daemon, proxy: Any) -> None:
    for builtin in (True, False, True):
        with pytest.raises((ValueError, broker.errors.RemoteError)):
            proxy.fail(builtin)
    with pytest.raises(TypeError):
        proxy.echo()
    with pytest.raises(broker.errors.CodecError):
        broker.Proxy(proxy._broker.uri, codec="pickle", local=False).echo(1)
    assert daemon.stats().errors == {"ValueError": 2, f"{OutOfStockError.__module__}.OutOfStockError": 1}
    assert daemon.stats().refused == {"WRONG_ARGUMENTS": 1, "CODEC_NOT_ACCEPTED": 1}


def test_what_a_connection_turns_away_is_counted(shop: Shop) -> None:
    with broker.Daemon(max_message_size=1_000) as daemon:
        proxy = broker.Proxy(daemon.register(shop, "shop"), local=False)
        assert proxy.echo(1) == 1
        with grpc.insecure_channel(f"127.0.0.1:{daemon.address[1]}") as channel:
            invoke = channel.unary_unary(
                "/broker.v1.ObjectBroker/Invoke", InvokeRequest.SerializeToString, InvokeResponse.FromString
            )
            with pytest.raises(grpc.RpcError, match="holds 1000"):
                invoke(InvokeRequest(object="shop", method="x" * 1_000), timeout=SOON)
        assert daemon.stats().refused == {"MESSAGE_TOO_LARGE": 1}


def test_what_is_under_way_and_what_waits(shop: Shop) -> None:
    with broker.Daemon(max_workers=2) as daemon, ThreadPoolExecutor(4) as threads:
        proxy: Any = broker.Proxy(daemon.register(shop), local=False)
        calls = [threads.submit(proxy.stay) for _ in range(4)]
        for _ in range(2):
            assert shop.entered.acquire(timeout=SOON)
        until(lambda: daemon.stats().under_way == 4)
        assert daemon.stats().waiting == 2
        shop.leave.set()
        for call in calls:
            call.result(SOON)
        until(lambda: daemon.stats().under_way == 0)


# ---- limits


@pytest.mark.parametrize(("item", "where"), [("max_calls", "at localhost:"), ("max_calls_per_connection", "connect")])
@pytest.mark.parametrize("member", ["stay", "stay_on_the_loop"])
def test_beyond_a_limit_calls_are_refused(item: str, where: str, member: str) -> None:
    shop = Shop()
    with broker.config.override(**{item: 3}), broker.Daemon() as daemon, ThreadPoolExecutor(3) as threads:
        proxy: Any = broker.Proxy(daemon.register(shop), local=False)
        calls = [threads.submit(getattr(proxy, member)) for _ in range(3)]
        for _ in calls:
            assert shop.entered.acquire(timeout=SOON)
        with pytest.raises(Overloaded, match=rf"3 calls .*{where}.*\({item}\)") as caught:
            proxy.echo("one too many")
        assert not caught.value.may_have_run
        assert shop.count == 0
        shop.leave.set()
        for call in calls:
            call.result(SOON)
        assert proxy.echo("there is room again") == "there is room again"
        assert daemon.stats().refused == {"OVERLOADED": 1}
        assert daemon.stats().limits == {item: 1}


@pytest.mark.parametrize("item", ["max_calls", "max_calls_per_connection"])
@pytest.mark.parametrize("local", [True, False])
def test_a_caller_at_the_limit_may_call_again_as_soon_as_he_has_his_answer(item: str, local: bool) -> None:
    with broker.config.override(**{item: 1}), broker.Daemon() as daemon:
        proxy: Any = broker.Proxy(daemon.register(Shop()), local=local)
        proxy.echo(0)
        for number in range(300):
            assert proxy.echo(number) == number
            assert proxy.echo([number]) == [number]
            with pytest.raises(ValueError, match="no more"):
                proxy.fail(True)
        assert daemon.stats().refused == {}


def test_a_nested_call_counts_against_no_limit() -> None:
    with broker.config.override(max_calls=1, max_calls_per_connection=1), broker.Daemon() as daemon:
        uri = daemon.register(Shop())
        assert broker.Proxy(uri, local=False).call_back(broker.Proxy(uri, local=False)) == "nested"


def test_another_connection_has_room_of_its_own() -> None:
    shop = Shop()
    with (
        broker.config.override(max_calls_per_connection=1),
        broker.Daemon() as daemon,
        ThreadPoolExecutor(1) as threads,
    ):
        daemon.register(shop, "shop")
        first: Any = broker.Proxy(daemon.uri_for("shop"), local=False)
        staying = threads.submit(first.stay)
        assert shop.entered.acquire(timeout=SOON)
        with pytest.raises(Overloaded):
            first.echo(1)
        assert broker.Proxy(f"BROKER:shop@127.0.0.1:{daemon.address[1]}", local=False).echo(1) == 1
        shop.leave.set()
        staying.result(SOON)
