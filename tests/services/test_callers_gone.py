"""Callers that go away while their request is awaited: what gRPC keeps of a call goes with it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

import pytest

from tests.services.stranger import Stranger

SOON = 15.0


class Shop:
    def price(self, item: str) -> int:
        return len(item)

    def total(self, prices: Iterator[int]) -> int:
        return sum(prices)

    def running(self, prices: Iterator[int], start: int) -> Iterator[int]:
        for price in prices:
            start += price
            yield start


def calls_under_way() -> WeakSet[Any]:
    """What gRPC's server keeps of each call, reachable or not."""
    kind = ("grpc._server", "_RPCState")
    return WeakSet(each for each in gc.get_objects() if (type(each).__module__, type(each).__name__) == kind)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is left over in cycles stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "method",
    [
        "/broker.v1.ObjectBroker/Invoke",
        "/broker.v1.ObjectBroker/InvokeStream",
        "/shop/price",
        "/shop/total",
        "/shop/running",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ],
)
def test_no_call_is_kept_in_a_cycle(serve: Callable[..., Stranger], method: str) -> None:
    stranger = serve({"shop": Shop()})
    before = calls_under_way()
    over = threading.Event()

    def silent() -> Iterator[bytes]:
        over.wait(SOON)
        yield from ()

    begin: Any = stranger.channel.stream_stream(method)
    call = begin(silent())
    until(lambda: bool(calls_under_way() - before))
    kept = calls_under_way() - before
    call.cancel()
    until(lambda: not kept)
    over.set()
