"""InvokeStream: the items of a generator for any gRPC client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import broker
from broker._pb.broker_pb2 import InvokeRequest, InvokeResponse
from broker.services.calls import MAX_RESPONSES

SOON = 40.0


class Counter:
    def __init__(self) -> None:
        self.made = 0
        self.closed = threading.Event()

    def named(self, n: int) -> Iterator[int]:
        broker.current_context.response_metadata["who"] = "counter"
        return self.count(n)

    def blocks(self, n: int) -> Iterator[str]:
        for _ in self.count(n):
            yield "x" * 100_000

    def count(self, n: int) -> Iterator[int]:
        try:
            for number in range(n):
                self.made += 1
                yield number
        finally:
            self.closed.set()

    async def ticks(self, n: int) -> Any:
        for number in range(n):
            yield number

    def fail(self) -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    def not_encodable(self) -> Iterator[object]:
        yield 1
        yield object()

    def wait(self) -> Iterator[int]:
        yield 1
        broker.current_context.wait_cancelled(60)
        time.sleep(0.2)  # longer than the caller
        self.closed.set()

    def total(self, n: int) -> int:
        return sum(range(n))


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def channel(counter: Counter) -> Iterator[grpc.Channel]:
    with broker.Daemon() as daemon:
        daemon.register(counter, "counter")
        with grpc.insecure_channel(f"127.0.0.1:{daemon.address[1]}") as channel:
            yield channel


def stream(channel: grpc.Channel, method: str, *args: Any, timeout: float = 20) -> Any:
    call = channel.unary_stream(
        "/broker.v1.ObjectBroker/InvokeStream", InvokeRequest.SerializeToString, InvokeResponse.FromString
    )
    request = InvokeRequest(object="counter", method=method, plain=True)
    request.args.extend(args)
    return call(request, timeout=timeout)


def numbers(responses: Any) -> list[float]:
    return [response.result.number_value for response in responses]


@pytest.mark.parametrize("method", ["count", "ticks"])
def test_each_item_is_a_response(channel: grpc.Channel, method: str) -> None:
    assert numbers(stream(channel, method, 100)) == list(range(100))
    assert numbers(stream(channel, method, 0)) == []


def test_the_first_response_has_the_metadata(channel: grpc.Channel) -> None:
    first, second = stream(channel, "named", 2)
    assert first.metadata["who"].text == "counter"
    assert not second.metadata


def test_any_other_result_is_the_one_response(channel: grpc.Channel) -> None:
    assert numbers(stream(channel, "total", 10)) == [45]


def test_what_the_generator_raises_is_the_last_response(channel: grpc.Channel) -> None:
    first, last = stream(channel, "fail")
    assert first.result.number_value == 1
    assert (last.exception.type, last.exception.message) == ("LookupError", "no more")


def test_what_cannot_be_encoded_is_a_status_behind_the_items(channel: grpc.Channel) -> None:
    responses = stream(channel, "not_encodable")
    assert next(responses).result.number_value == 1
    with pytest.raises(grpc.RpcError) as raised:
        next(responses)
    call: Any = raised.value
    assert call.code() is grpc.StatusCode.INTERNAL
    assert "an item of it cannot be encoded" in call.details()


def test_a_method_that_is_not_there_is_refused(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        list(stream(channel, "nothing"))
    call: Any = raised.value
    assert call.code() is grpc.StatusCode.UNIMPLEMENTED


def test_invoke_of_a_generator_says_what_to_call(channel: grpc.Channel, counter: Counter) -> None:
    invoke = channel.unary_unary(
        "/broker.v1.ObjectBroker/Invoke", InvokeRequest.SerializeToString, InvokeResponse.FromString
    )
    request = InvokeRequest(object="counter", method="count")
    request.args.extend([3])
    with pytest.raises(grpc.RpcError) as raised:
        invoke(request, timeout=20)
    call: Any = raised.value
    assert call.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "InvokeStream" in call.details()
    assert counter.made == 0


def test_a_consumer_that_takes_nothing_stops_the_generator(channel: grpc.Channel, counter: Counter) -> None:
    responses = stream(channel, "blocks", 10**9)
    next(responses)
    before, since = -1, time.monotonic()
    while counter.made != before or time.monotonic() - since < 0.3:
        if counter.made != before:
            before, since = counter.made, time.monotonic()
        time.sleep(0.01)
    assert MAX_RESPONSES < counter.made < 1_000  # HTTP/2 holds some MiB beside what waits here
    responses.cancel()
    assert counter.closed.wait(SOON)


def test_the_deadline_is_that_of_the_whole_stream(channel: grpc.Channel, counter: Counter) -> None:
    responses = stream(channel, "wait", timeout=0.5)
    assert next(responses).result.number_value == 1
    with pytest.raises(grpc.RpcError) as raised:
        next(responses)
    call: Any = raised.value
    assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert counter.closed.wait(SOON)
