"""Plain calls whose results arrive together, and what is not plain among them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

import broker
from broker.calling.futures import CallFuture
from broker.calling.plain import PlainFuture
from broker.codecs import MAX_DEPTH, Encoded, JsonCodec, PlainEdge, plain_arguments, plain_values
from broker.connection import sockets

SOON = 40  # seconds that nothing takes


class Shop:
    def __init__(self) -> None:
        self.go_on = threading.Event()

    def same(self, value: object) -> object:
        return value

    def fail(self, text: str) -> None:
        raise ValueError(text)

    def wait(self) -> bool:
        return self.go_on.wait(SOON)

    def let_go(self) -> None:
        self.go_on.set()

    def told(self, text: str) -> str:
        broker.current_context.response_metadata["said"] = text
        return text


@pytest.fixture
def shop(on_the_wire: None) -> Iterator[Any]:
    with broker.Daemon() as daemon, broker.Proxy(daemon.register(Shop())) as proxy:
        yield proxy


# ---- calls


def test_results_that_arrive_together_are_those_of_their_calls(shop: Any) -> None:
    values: list[object] = [7, "text", None, [1, [2]], {"a": 1.5}, (1, 2), {3}, b"bytes", uuid.UUID(int=5), 2**70]
    for value in values:
        futures = [shop.same.future(value) for _ in range(100)]
        assert [future.result(SOON) for future in futures] == [value] * 100
    mixed = [shop.same.future(values[number % len(values)]) for number in range(500)]
    assert [future.result(SOON) for future in mixed] == [values[number % len(values)] for number in range(500)]


def test_each_has_a_value_of_its_own(shop: Any) -> None:
    futures = [shop.same.future([1]) for _ in range(100)]
    lists = [future.result(SOON) for future in futures]
    lists[0].append(2)
    assert lists[0] == [1, 2]
    assert lists[1:] == [[1]] * 99
    assert futures[0].result(SOON) is lists[0]


def test_errors_among_results(shop: Any) -> None:
    futures = [(shop.fail if number % 3 == 0 else shop.same).future(str(number)) for number in range(300)]
    for number, future in enumerate(futures):
        if number % 3:
            assert future.result(SOON) == str(number)
        else:
            error = future.exception(SOON)
            assert isinstance(error, ValueError)
            assert error.args == (str(number),)


def test_cancelled_ones_among_results(shop: Any) -> None:
    futures = [shop.same.future(number) for number in range(1_000)]
    cancelled = [future.cancel() for future in futures[::7]]
    for number, future in enumerate(futures):
        if number % 7 or not cancelled[number // 7]:
            assert future.result(SOON) == number
        else:
            with pytest.raises(CancelledError):
                future.result(SOON)


def test_what_came_with_an_earlier_reply_is_not_there_any_more(shop: Any) -> None:
    assert shop.told("first") == "first"
    assert broker.current_context.response_metadata == {"said": "first"}
    for future in [shop.same.future(number) for number in range(50)]:
        future.result(SOON)
    assert not broker.current_context.response_metadata


def test_calls_that_wait_for_one_that_comes_behind_them(every_way: None) -> None:
    with broker.Daemon() as daemon, broker.Proxy(daemon.register(Shop())) as shop:
        for _ in range(200):
            assert shop.same(1) == 1  # they are known to be quick
        waiting = [shop.wait.future() for _ in range(20)]
        others = [broker.Proxy(shop._broker.uri) for _ in range(3)]  # the calls of one proxy and thread have an order
        assert [other.same(2) for other in others] == [2] * 3
        others[0].let_go()
        assert [future.result(SOON) for future in waiting] == [True] * 20


@pytest.mark.usefixtures("every_way")
def test_threads_of_one_process_that_call_at_once() -> None:
    with broker.Daemon() as daemon, broker.Proxy(daemon.register(Shop())) as shop:
        _call_at_once(shop)


def test_threads_that_call_at_once(shop: Any) -> None:
    _call_at_once(shop)


def _call_at_once(shop: Any) -> None:
    wrong: list[object] = []

    def call(first: int) -> None:
        wrong.extend(number for number in range(first, first + 200) if shop.same(number) != number)

    threads = [threading.Thread(target=call, args=(first * 1_000,)) for first in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON * 6)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


@pytest.mark.parametrize("seen_by_select", [True, False])
def test_a_thread_that_calls_no_more_holds_nobody_up(
    shop: Any, monkeypatch: pytest.MonkeyPatch, seen_by_select: bool
) -> None:
    """Threads that were woken together may go different ways: who comes back is not to wait for who does not."""
    if not seen_by_select:
        monkeypatch.setattr(sockets, "_FD_SETSIZE", 0)
    leave = threading.Event()
    finished = threading.Semaphore(0)

    def call(times: int) -> None:
        for number in range(times):
            assert shop.same(number) == number
        finished.release()
        leave.wait(SOON)

    threads = [threading.Thread(target=call, args=(50 * (number + 1),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert finished.acquire(timeout=SOON)
    leave.set()
    for thread in threads:
        thread.join(SOON)


def test_long_arguments_take_the_long_way(shop: Any) -> None:
    for text, kind in (("x" * 4_000, PlainFuture), ("x" * 5_000, CallFuture)):
        future = shop.same.future(text)
        assert type(future) is kind
        assert future.result(SOON) == text == shop.same(text)


# ---- what is read and written in one go


@pytest.mark.parametrize(
    "payloads",
    [
        [b"1", b""],
        [b"1,2", b"3"],
        [b"1", b"]["],
        [b"1", b'{"$type":"tuple","items":[1]}'],
        [b"1", b"[" * 500 + b"]" * 500],
        [b"1", b"\xff"],
    ],
)
def test_what_cannot_be_read_in_one_go_is_left_to_each(payloads: list[bytes]) -> None:
    assert plain_values(payloads) is None


def test_values_at_the_depth_that_a_value_may_have() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    values = plain_values([deepest, b"1"])
    assert values is not None
    assert values[0] == JsonCodec().decode(Encoded("json", deepest), PlainEdge())
    assert plain_values([b"[" + deepest + b"]", b"1"]) is None


@pytest.mark.parametrize("args", [(), (1, "a"), ([1, {"b": None}],), ("x" * 5_000,)])
@pytest.mark.parametrize("kwargs", [{}, {"c": 2.5}])
def test_plain_arguments_are_what_the_codec_writes(args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    assert plain_arguments(args, kwargs) == JsonCodec().encode_call(args, kwargs, PlainEdge()).payload


@pytest.mark.parametrize("value", [(1,), {1}, b"b", float("nan"), 2**70, "\ud800", {"$type": 1}])
def test_other_arguments_are_left_to_the_codec(value: object) -> None:
    assert plain_arguments((value,), {}) is None
    assert plain_arguments((), {"value": value}) is None
