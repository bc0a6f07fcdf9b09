"""Invoke and Lookup as any gRPC client calls them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

import broker
from broker._pb.broker_pb2 import Description, InvokeRequest, InvokeResponse, LookupRequest
from broker.codecs import PlainEdge, codec


class Shop:
    """Sells things."""

    def __init__(self) -> None:
        self._price = 3
        self.inside = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.told = threading.Event()

    def buy(self, item: str, number: int = 1) -> tuple[str, int]:
        """Buys some."""
        return item, number

    def fail(self) -> None:
        raise LookupError("sold out")

    def wait(self) -> None:
        self.inside.release()
        self.go_on.wait(20)

    def endure(self) -> None:
        self.inside.release()
        if broker.current_context.wait_cancelled(20):
            self.told.set()

    def kind(self, value: Any) -> str:
        return type(value).__name__

    @property
    def price(self) -> int:
        return self._price

    @price.setter
    def price(self, value: int) -> None:
        self._price = value


class Caller:
    def __init__(self, channel: grpc.Channel) -> None:
        self._invoke = channel.unary_unary(
            "/broker.v1.ObjectBroker/Invoke", InvokeRequest.SerializeToString, InvokeResponse.FromString
        )
        self._lookup = channel.unary_unary(
            "/broker.v1.ObjectBroker/Lookup", LookupRequest.SerializeToString, Description.FromString
        )

    def __call__(self, method: str, *args: Any, timeout: float = 20, **fields: Any) -> InvokeResponse:
        request = InvokeRequest(object="shop", method=method, **fields)
        request.args.extend(args)
        response: InvokeResponse = self._invoke(request, timeout=timeout)
        return response

    def start(self, method: str) -> grpc.Future[InvokeResponse]:
        future: grpc.Future[InvokeResponse] = self._invoke.future(InvokeRequest(object="shop", method=method))
        return future

    def send(self, request: InvokeRequest) -> InvokeResponse:
        response: InvokeResponse = self._invoke(request, timeout=20)
        return response

    def lookup(self, name: str) -> Description:
        description: Description = self._lookup(LookupRequest(object=name), timeout=20)
        return description


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def connect(shop: Shop) -> Iterator[Callable[..., Caller]]:
    made: list[Any] = []

    def connect(**options: Any) -> Caller:
        daemon = broker.Daemon(**options)
        made.append(daemon)
        daemon.register(shop, "shop")
        daemon.start()
        made.append(grpc.insecure_channel(f"127.0.0.1:{daemon.address[1]}"))
        return Caller(made[-1])

    yield connect
    shop.go_on.set()
    for each in reversed(made):
        each.close() if isinstance(each, grpc.Channel) else each.shutdown()


def _refusal(error: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[grpc.StatusCode, str, str]:
    call: Any = error.value
    details = dict(call.trailing_metadata())["grpc-status-details-bin"]
    status = Status.FromString(details)
    assert status.message == call.details()
    return call.code(), call.details(), status.details[0].value.decode(errors="replace")


def test_results_and_exceptions_are_results(connect: Callable[..., Caller]) -> None:
    call = connect()
    tagged: Any = call("buy", "lamp", 2.0).result.struct_value
    assert (tagged["$type"], list(tagged["items"])) == ("tuple", ["lamp", 2.0])
    assert list(call("buy", "lamp", plain=True).result.list_value) == ["lamp", 1.0]
    raised = call("fail").exception
    assert (raised.type, raised.message) == ("LookupError", "sold out")
    assert "sold out" in raised.traceback
    assert call("price").result.number_value == 3
    call("price", 4, access=InvokeRequest.SET)
    assert call("price").result.number_value == 4
    assert call("kind", 7).result.string_value == "int"
    assert call("kind", 7.5).result.string_value == "float"


def test_tracebacks_can_stay_at_home(connect: Callable[..., Caller]) -> None:
    assert connect(tracebacks=False)("fail").exception.traceback == ""


def test_arguments_in_a_codec(connect: Callable[..., Caller]) -> None:
    encoded = codec("json").encode_call(({1, 2},), {}, PlainEdge())
    request = InvokeRequest(object="shop", method="kind")
    request.encoded.codec, request.encoded.payload = "json", bytes(encoded.payload)
    assert b"set" in connect().send(request).encoded.payload


def test_a_description(connect: Callable[..., Caller]) -> None:
    description = connect().lookup("shop")
    assert description.doc == "Sells things."
    members = {member.name: member for member in description.members}
    assert members["buy"].signature == "(item: str, number: int = 1) -> tuple[str, int]"
    assert members["price"].writable


@pytest.mark.parametrize(
    ("method", "args", "code", "reason"),
    [
        ("nothing", (), grpc.StatusCode.UNIMPLEMENTED, "MEMBER_NOT_FOUND"),
        ("inside", (), grpc.StatusCode.UNIMPLEMENTED, "MEMBER_NOT_FOUND"),
        ("buy", (), grpc.StatusCode.INVALID_ARGUMENT, "WRONG_ARGUMENTS"),
        ("kind", (2.0**60,), grpc.StatusCode.INVALID_ARGUMENT, "CODEC"),
    ],
)
def test_refusals_are_statuses_with_details(
    connect: Callable[..., Caller], method: str, args: tuple[Any, ...], code: grpc.StatusCode, reason: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        connect()(method, *args)
    found = _refusal(caught)
    assert found[0] == code
    assert reason in found[2]


def test_unknown_object(connect: Callable[..., Caller]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        connect().lookup("nobody")
    assert _refusal(caught)[0] == grpc.StatusCode.NOT_FOUND


def test_the_limit_of_the_daemon_holds(connect: Callable[..., Caller]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        connect(max_message_size=1000)("kind", "x" * 2000)
    code, message, reason = _refusal(caught)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "a unary call holds 1000" in message
    assert "MESSAGE_TOO_LARGE" in reason


def test_too_many_at_a_time_are_refused(connect: Callable[..., Caller], shop: Shop) -> None:
    broker.config.max_unary_calls = 2
    call = connect()
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(call, "wait") for _ in range(2)]
        for _ in waiting:
            assert shop.inside.acquire(timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            call("price")
        assert _refusal(caught)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        shop.go_on.set()
        for each in waiting:
            each.result(20)
    assert call("price").result.number_value == 3


def test_a_caller_that_gives_up_tells_the_method(connect: Callable[..., Caller], shop: Shop) -> None:
    under_way = connect().start("endure")
    assert shop.inside.acquire(timeout=20)
    under_way.cancel()
    assert shop.told.wait(20)
