"""Objects called as typed services, by a client that knows no more than their address."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import grpc
import pytest

import broker
from broker.exposure import members_of
from broker.schema import schema_of
from tests.services.stranger import Failure, Stranger


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Order:
    item: str
    size: Size = Size.SMALL
    number: int = 1


class OutOfStock(LookupError):
    grpc_code = "FAILED_PRECONDITION"


class Desk:
    """Takes orders."""

    def __init__(self) -> None:
        self._greeting = "hello"
        self.orders: list[Order] = []
        self.inside = threading.Semaphore(0)
        self.told = threading.Event()
        self.taken: list[Any] = []

    def order(self, order: Order, *, gift: bool = False) -> Order:
        """Takes an order."""
        self.orders.append(order)
        return Order(order.item, Size.LARGE if gift else order.size, order.number + 1)

    def fail(self, what: str) -> None:
        if what == "stock":
            raise OutOfStock("no couch is left")
        raise {"value": ValueError, "type": TypeError, "other": RuntimeError}[what](f"{what} äöü")

    def lie(self) -> int:
        return "text"  # type: ignore[return-value]

    def countdown(self, start: int) -> Iterator[int]:
        """Counts down."""
        while start:
            yield start
            start -= 1

    def broken(self) -> Iterator[int]:
        yield 1
        raise OutOfStock("that was all")

    def endless(self, size: int) -> Iterator[bytes]:
        try:
            while True:
                self.inside.release()
                yield bytes(size)
        finally:
            self.told.set()

    def total(self, numbers: Iterator[int], start: int = 0) -> int:
        """Adds up what is streamed."""
        for number in numbers:
            self.taken.append(number)
            start += number
        return start

    async def total_async(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    def first_of(self, numbers: Iterator[int]) -> int:
        return next(numbers)

    def chat(self, texts: Iterator[str]) -> Iterator[str]:
        yield "welcome"
        for text in texts:
            yield text.upper()

    async def chat_async(self, name: str, texts: AsyncIterator[str]) -> AsyncIterator[str]:
        async for text in texts:
            await asyncio.sleep(0)
            yield f"{name}: {text}"

    def wait(self) -> bool:
        self.inside.release()
        if broker.current_context.wait_cancelled(20):
            self.told.set()
        return True

    def take_for_ever(self, numbers: Iterator[int]) -> int:
        self.inside.release()
        try:
            return sum(numbers)
        except broker.errors.ConnectionClosedError as error:
            self.taken.append(error)
            self.told.set()
            raise

    def about_me(self, key: str) -> dict[str, str]:
        context = broker.current_context
        context.response_metadata.update({"Seen": "yes", "raw": b"\x00\xff", "name": "Jürgen"})
        value = context.metadata.get(key, "")
        remaining = context.remaining
        return {
            "value": value if isinstance(value, str) else value.hex(),
            "object": str(context.object_id),
            "member": str(context.member),
            "codec": context.client.codec if context.client is not None else "",
            "has_time": str(remaining is not None and remaining < 30),
            "keys": ",".join(sorted(context.metadata)),
        }

    def shout(self, header: str) -> None:
        broker.current_context.response_metadata[header] = "x"

    @broker.oneway
    def note(self, text: str) -> int:
        self.taken.append(text)
        return len(text)

    @property
    def greeting(self) -> str:
        return self._greeting

    @greeting.setter
    def greeting(self, value: str) -> None:
        self._greeting = value

    def double(self, number: int) -> int:
        return 2 * number

    def callback(self, function: Callable[[int], int]) -> int:
        return function(1)


@pytest.fixture
def desk() -> Desk:
    return Desk()


Serve = Callable[..., Stranger]


@pytest.fixture
def call(serve: Serve, desk: Desk) -> Callable[..., Any]:
    stranger = serve({"example.desk": desk})
    return lambda name, *requests, **request: stranger.call(f"example.desk/{name}", *requests, **request)


Call = Callable[..., Any]


def _failure(call: Call, name: str, *requests: Any, **request: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        call(name, *requests, **request)
    return caught.value


def test_values_arrive_as_what_they_are(call: Call, desk: Desk) -> None:
    answer = call("order", order={"item": "couch", "size": "LARGE", "number": 3})
    assert answer == {"item": "couch", "size": "LARGE", "number": "4"}
    assert desk.orders == [Order("couch", Size.LARGE, 3)]
    assert call("order", order={"item": "lamp"}, gift=True)["size"] == "LARGE"


def test_properties_have_methods_of_their_own(call: Call) -> None:
    assert call("get_greeting") == "hello"
    call("set_greeting", value="good morning")
    assert call("get_greeting") == "good morning"


def test_a_oneway_method_is_waited_for_and_its_result_dropped(call: Call, desk: Desk) -> None:
    assert call("note", text="x") in (None, "NULL_VALUE")
    assert desk.taken == ["x"]


def test_generators_stream(call: Call) -> None:
    assert call("countdown", start=40) == [str(number) for number in range(40, 0, -1)]


def test_iterators_are_streamed_by_the_client(call: Call) -> None:
    assert call("total", {"start": 10, "numbers": 1}, {"numbers": 2}, {"numbers": 3}) == "16"
    assert call("total") == "0"
    assert call("total_async", *({"numbers": number} for number in range(100))) == str(sum(range(100)))


def test_who_takes_no_more_is_sent_no_more(call: Call) -> None:
    assert call("first_of", *({"numbers": number} for number in range(5, 5_000))) == "5"


def test_both_ways(serve: Serve, desk: Desk) -> None:
    method = serve({"desk": desk}).method("desk/chat")
    said: Any = _Said()
    replies = method.start(said, timeout=20)
    assert next(replies).result == "welcome"  # before anything was sent
    for text in ("a", "b"):
        said.say(method.message({"texts": text}))
        assert next(replies).result == text.upper()
    said.end()
    assert list(replies) == []


def test_both_ways_on_the_loop(call: Call) -> None:
    texts = [{"texts": str(number)} for number in range(100)]
    assert call("chat_async", {"name": "Janet"}, *texts) == [f"Janet: {number}" for number in range(100)]


class _Said:
    """An iterator of what a test says one after another."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: list[Any] = []

    def say(self, message: Any) -> None:
        with self._changed:
            self._messages.append(message)
            self._changed.notify()

    def end(self) -> None:
        self.say(None)

    def __iter__(self) -> _Said:
        return self

    def __next__(self) -> Any:
        with self._changed:
            assert self._changed.wait_for(lambda: self._messages, 20)
            message = self._messages.pop(0)
        if message is None:
            raise StopIteration
        return message


# ---- errors


@pytest.mark.parametrize(
    ("what", "code", "reason", "name"),
    [
        ("stock", grpc.StatusCode.FAILED_PRECONDITION, "OUT_OF_STOCK", "OutOfStock"),
        ("value", grpc.StatusCode.INVALID_ARGUMENT, "VALUE_ERROR", "ValueError"),
        ("other", grpc.StatusCode.UNKNOWN, "RUNTIME_ERROR", "RuntimeError"),
    ],
)
def test_what_a_method_raises_is_a_status(call: Call, what: str, code: grpc.StatusCode, reason: str, name: str) -> None:
    failure = _failure(call, "fail", what=what)
    assert (failure.code, failure.info.domain, failure.info.reason) == (code, "broker.user", reason)
    assert failure.info.metadata["class"] == name
    assert failure.message in ("no couch is left", f"{what} äöü")
    assert f"{name}: {failure.message}" in failure.debug.stack_entries[-1]
    assert not any("broker/dispatch" in line for line in failure.debug.stack_entries)


def test_tracebacks_can_stay_at_home(serve: Serve, desk: Desk) -> None:
    stranger = serve({"desk": desk}, tracebacks=False)
    with pytest.raises(Failure) as caught:
        stranger.call("desk/fail", what="value")
    assert not caught.value.debug.stack_entries


def test_what_a_generator_raises_comes_behind_its_items(serve: Serve, desk: Desk) -> None:
    method = serve({"desk": desk}).method("desk/broken")
    replies = method.start(method.message({}), timeout=20)
    assert next(replies).result == 1
    with pytest.raises(grpc.RpcError) as caught:
        next(replies)
    assert Failure(caught.value).code == grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("name", "request_fields", "code", "reason", "words"),
    [
        ("order", {}, grpc.StatusCode.INVALID_ARGUMENT, "CODEC", "order: a value is required"),
        ("order", {"order": {"size": "LARGE"}}, grpc.StatusCode.INVALID_ARGUMENT, "CODEC", "order.item"),
        ("lie", {}, grpc.StatusCode.INTERNAL, "RESULT_NOT_ENCODABLE", "result"),
        ("shout", {"header": "größe"}, grpc.StatusCode.INTERNAL, "RESULT_NOT_ENCODABLE", "no name for a header"),
    ],
)
def test_what_the_broker_refuses(
    call: Call, name: str, request_fields: dict[str, Any], code: grpc.StatusCode, reason: str, words: str
) -> None:
    failure = _failure(call, name, **request_fields)
    assert (failure.code, failure.info.domain, failure.info.reason) == (code, "broker", reason), failure.message
    assert words in failure.message


class Unreadable:
    def first(self) -> int:
        return 1


def test_hints_that_cannot_be_read(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(table: Any) -> Any:
        raise RuntimeError("hints are any code")

    monkeypatch.setattr("broker.services.objects.schema_of", broken)
    stranger = serve({"unreadable": Unreadable()})
    request: Any = b""
    with pytest.raises(grpc.RpcError) as caught:
        stranger.channel.unary_unary("/unreadable/first")(request, timeout=20)
    failure = Failure(caught.value)
    assert failure.code == grpc.StatusCode.UNIMPLEMENTED
    assert "'unreadable' at localhost" in failure.message
    assert "its hints cannot be read" in failure.message


@pytest.mark.parametrize(
    ("name", "kind", "fields", "results"),
    [
        ("double", "unary_unary", {"number": 3}, [6]),
        ("countdown", "unary_stream", {"start": 3}, [3, 2, 1]),
        ("total", "stream_unary", {"numbers": 3}, [3]),
        ("chat", "stream_stream", {"texts": "a"}, ["welcome", "A"]),
    ],
)
def test_the_first_call_is_like_the_next(
    serve: Serve, desk: Desk, name: str, kind: str, fields: dict[str, Any], results: list[Any]
) -> None:
    """Of the first one nothing is known when gRPC asks what serves it."""
    stranger = serve({"my-desk": desk})
    method = schema_of(members_of(Desk)).methods[name]
    request: Any = method.request_class(**fields).SerializeToString()
    start: Any = getattr(stranger.channel, kind)(f"/my_desk_766a0d81/{name}")
    for _ in range(2):
        answer = start(iter([request]) if kind.startswith("stream") else request, timeout=20)
        replies = list(answer) if kind.endswith("stream") else [answer]
        assert [method.reply_class.FromString(reply).result for reply in replies] == results


def test_garbage_ends_one_call(serve: Serve, desk: Desk) -> None:
    stranger = serve({"desk": desk})
    for path, kind in (("order", "unary_unary"), ("total", "stream_unary"), ("chat", "stream_stream")):
        garbage: Any = b"\xff\xff\xff"
        method: Any = getattr(stranger.channel, kind)(f"/desk/{path}")
        with pytest.raises(grpc.RpcError) as caught:
            list(method(garbage if kind == "unary_unary" else iter([garbage]), timeout=20))
        failure = Failure(caught.value)
        assert (failure.code, failure.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CODEC")
    assert stranger.call("desk/double", number=4) == "8"


def test_a_message_in_the_middle_that_is_none(serve: Serve, desk: Desk) -> None:
    stranger = serve({"desk": desk})
    method = stranger.method("desk/total")
    good = method.message({"numbers": 1}).SerializeToString()
    garbage: Any = [good, good, b"\xff\xff\xff", good]
    total: Any = stranger.channel.stream_unary("/desk/total")
    with pytest.raises(grpc.RpcError) as caught:
        total(iter(garbage), timeout=20)
    failure = Failure(caught.value)
    assert (failure.code, failure.info.domain) == (grpc.StatusCode.INVALID_ARGUMENT, "broker")
    assert desk.taken == [1, 1]


def test_what_is_not_there(call: Call, serve: Serve, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    stranger = serve({"desk": desk, "lamp": desk.__class__()})

    def raw(path: str) -> Failure:
        request: Any = b""
        method: Any = stranger.channel.unary_unary(path)
        with pytest.raises(grpc.RpcError) as caught:
            method(request, timeout=20)
        return Failure(caught.value)

    missing = raw("/desk/nothing")
    assert (missing.code, missing.info.reason) == (grpc.StatusCode.UNIMPLEMENTED, "MEMBER_NOT_FOUND")
    assert "it has: about_me" in missing.message
    no_service = raw("/no.such.desk/order")
    assert (no_service.code, no_service.info.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    assert "neither an object nor a service 'no.such.desk'" in no_service.message
    assert raw("/grpc.health.v1.Health/List").code == grpc.StatusCode.UNIMPLEMENTED
    lacking = raw("/desk/callback")
    assert lacking.code == grpc.StatusCode.UNIMPLEMENTED
    assert "'callback' of 'desk'" in lacking.message
    assert "Callable" in lacking.message
    assert caplog.text.count("some members are not in its typed service: callback: ") == 1


# ---- context


def test_the_context_of_a_call(serve: Serve, desk: Desk) -> None:
    method = serve({"desk": desk}).method("desk/about_me")
    given = (("request-id", "7"), ("request-id", "8"), ("trace-bin", b"\x01"), ("authorization", "Bearer secret"))
    reply, under_way = method.start.with_call(method.message({"key": "request-id"}), timeout=20, metadata=given)
    assert dict(reply.result) == {
        "value": "7, 8", "object": "desk", "member": "about_me", "codec": "protobuf", "has_time": "True",
        "keys": "request-id,trace-bin",
    }  # fmt: skip
    headers = dict(under_way.initial_metadata())
    assert (headers["seen"], headers["raw-bin"], headers["name-bin"]) == ("yes", b"\x00\xff", "Jürgen".encode())


def test_a_deadline_is_known_to_the_method(call: Call, desk: Desk) -> None:
    started = time.monotonic()
    failure = _failure(call, "wait", timeout=0.5)
    assert failure.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert desk.told.wait(20)
    assert time.monotonic() - started < 20


def test_a_caller_that_gives_up_tells_the_method(serve: Serve, desk: Desk) -> None:
    method = serve({"desk": desk}).method("desk/wait")
    under_way = method.start.future(method.message({}))
    assert desk.inside.acquire(timeout=20)
    under_way.cancel()
    assert desk.told.wait(20)


def test_a_consumer_that_gives_up_stops_the_generator(serve: Serve, desk: Desk) -> None:
    method = serve({"desk": desk}).method("desk/endless")
    replies = method.start(method.message({"size": 3}))
    assert next(replies).result == bytes(3)
    replies.cancel()
    assert desk.told.wait(20)


def test_a_consumer_that_takes_nothing_is_waited_for(serve: Serve, desk: Desk) -> None:
    method = serve({"desk": desk}).method("desk/endless")
    replies = method.start(method.message({"size": 1 << 20}), timeout=20)
    produced = 0
    while desk.inside.acquire(timeout=0.5):
        produced += 1
        assert produced < 1_000
    replies.cancel()
    assert desk.told.wait(20)


def test_an_upload_that_breaks_off(serve: Serve, desk: Desk) -> None:
    method = serve({"desk": desk}).method("desk/take_for_ever")
    said: Any = _Said()
    under_way = method.start.future(said)
    said.say(method.message({"numbers": 1}))
    assert desk.inside.acquire(timeout=20)
    under_way.cancel()
    assert desk.told.wait(20)
    assert "gave up" in str(desk.taken[0])
    said.end()


# ---- the same rules as for every other call


def test_names_come_and_go_while_the_server_runs(serve: Serve, desk: Desk) -> None:
    stranger = serve({"example.desk": desk})
    daemon = stranger.daemon
    daemon.register(Desk(), "other-desk")
    first, second = stranger.services()
    assert first == "example.desk"
    assert second.startswith("other_desk_")
    assert stranger.call(f"{second}/double", number=2) == "4"
    daemon.unregister("other-desk")
    assert stranger.services() == ["example.desk"]
    with pytest.raises(LookupError, match="other_desk"):
        stranger.pool(second)


def test_names_of_which_one_begins_the_other(serve: Serve, desk: Desk) -> None:
    stranger = serve({"a": desk, "a.b": Desk(), "a.b.c": Desk()})
    shown = stranger.services()
    assert (len(shown), shown[0]) == (3, "a")  # all of these fit into one program
    for number, name in enumerate(shown):
        assert stranger.call(f"{name}/double", number=number) == str(2 * number)
    longer = stranger.pool("a.b.c.double").FindServiceByName("a.b.c")
    assert longer.methods_by_name["double"].full_name == "a.b.c.double"
    for number, name in enumerate(["a", "a.b", "a.b.c"]):
        assert stranger.call(f"{name}/double", number=number) == str(2 * number)


def test_published_names_are_services(serve: Serve, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = serve({})
    daemon = stranger.daemon
    with broker.start_ns(port=0) as names:
        monkeypatch.setenv("BROKER_NS_PORT", str(names.address[1]))
        uri = daemon.publish(desk, "example.desk")
        assert stranger.services() == ["example.desk"]
        assert stranger.call("example.desk/double", number=2) == "4"
        assert stranger.call(f"{uri.object}/double", number=2) == "4"
        daemon.unregister(desk)
        assert stranger.services() == []


class Narrow:
    def shown(self) -> int:
        return 1

    @broker.expose
    def marked(self) -> int:
        return 2


class Counter:
    def __init__(self) -> None:
        self._count = 0

    def count(self) -> int:
        self._count += 1
        return self._count


@broker.behavior(instance_mode="single")
class One(Counter): ...


@broker.behavior(instance_mode="percall")
class Each(Counter): ...


def test_exposure_and_instance_modes(serve: Serve) -> None:
    stranger = serve({"narrow": Narrow(), "counter": Counter, "one": One, "each": Each})
    assert list(stranger.pool("narrow").FindServiceByName("narrow").methods_by_name) == ["marked"]
    counts = [[stranger.call(f"{name}/count") for _ in range(2)] for name in ("counter", "one", "each")]
    assert counts == [["1", "1"], ["1", "2"], ["1", "1"]]


def test_authorize_decides_about_calls_and_about_what_is_seen(serve: Serve, desk: Desk) -> None:
    def authorize(client: broker.Client, object_id: str, member: str) -> bool:
        return object_id == "desk" and member in ("", "double")

    stranger = serve({"desk": desk, "secret": Desk()}, authorize=authorize)
    assert stranger.services() == ["desk"]
    assert list(stranger.pool("desk").FindServiceByName("desk").methods_by_name) == ["double"]
    assert stranger.call("desk/double", number=1) == "2"
    with pytest.raises(LookupError):
        stranger.pool("secret")
    request: Any = b""
    for path, code in (
        ("/desk/get_greeting", grpc.StatusCode.PERMISSION_DENIED),
        ("/secret/double", grpc.StatusCode.PERMISSION_DENIED),
        ("/secret/nothing", grpc.StatusCode.PERMISSION_DENIED),
        ("/nowhere/double", grpc.StatusCode.PERMISSION_DENIED),
        ("/desk/nothing", grpc.StatusCode.UNIMPLEMENTED),
    ):
        method: Any = stranger.channel.unary_unary(path)
        with pytest.raises(grpc.RpcError) as caught:
            method(request, timeout=20)
        failure = Failure(caught.value)
        assert failure.code == code
        assert "greeting" not in failure.message or code != grpc.StatusCode.UNIMPLEMENTED


def test_around_sees_the_values(serve: Serve, desk: Desk) -> None:
    seen = []

    def around(call: broker.Call, next: Any) -> Any:
        seen.append((call.object, call.member, call.args, call.kwargs))
        return next(call)

    stranger = serve({"desk": desk}, around=[around])
    stranger.call("desk/double", number=3)
    assert len(seen) == 1
    assert seen[0][:2] == ("desk", "double")
    assert 3 in (*seen[0][2], *seen[0][3].values())


def test_limits(serve: Serve, desk: Desk) -> None:
    stranger = serve({"desk": desk}, max_message_size=1_000)
    with pytest.raises(Failure) as caught:
        stranger.call("desk/order", order={"item": "x" * 2_000})
    assert (caught.value.code, caught.value.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")


def test_streams_that_never_begin_hold_no_worker_and_are_counted(serve: Serve, desk: Desk) -> None:
    broker.config.max_unary_calls = 3
    stranger = serve({"desk": desk}, max_workers=1)
    total, double = stranger.method("desk/total"), stranger.method("desk/double")
    silent = [_Said(), _Said()]
    under_way = [total.start.future(said) for said in silent]
    assert double(number=2) == "4"
    wait = stranger.method("desk/wait")
    waiting = wait.start.future(wait.message({}))
    assert desk.inside.acquire(timeout=20)
    _until_refused(double)
    for said, call in zip(silent, under_way, strict=True):
        said.end()
        call.cancel()
    waiting.cancel()
    assert desk.told.wait(20)


def _until_refused(method: Any) -> None:
    """Calls until the streams have arrived that count with it; then it is refused."""
    failure = None
    while failure is None:
        try:
            method(number=2, timeout=1)
        except Failure as caught:
            failure = None if caught.code == grpc.StatusCode.DEADLINE_EXCEEDED else caught
    assert (failure.code, failure.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")


class Instrument:
    def __init__(self) -> None:
        self.under_way = 0
        self.most = 0

    def measure(self) -> int:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        time.sleep(0.01)
        self.under_way -= 1
        return self.most

    async def measure_async(self) -> str:
        return threading.current_thread().name


def test_one_at_a_time_and_on_the_loop() -> None:
    instrument = Instrument()
    with broker.Daemon() as daemon:
        daemon.register(instrument, "instrument", max_concurrency=1)
        stranger = Stranger(daemon)
        method = stranger.method("instrument/measure")
        calls = [method.start.future(method.message({}), timeout=20) for _ in range(20)]
        assert {call.result().result for call in calls} == {1}
        assert stranger.call("instrument/measure_async") == "broker-loop"
        stranger.channel.close()


def test_a_draining_daemon_takes_no_calls(serve: Serve, desk: Desk) -> None:
    stranger = serve({"desk": desk})
    daemon = stranger.daemon
    method, double = stranger.method("desk/wait"), stranger.method("desk/double")
    under_way = method.start.future(method.message({}))
    assert desk.inside.acquire(timeout=20)
    ending = threading.Thread(target=daemon.shutdown, kwargs={"grace": 1})
    ending.start()
    failure = None
    while failure is None:
        try:
            double(number=1)
        except Failure as caught:
            failure = caught
    assert (failure.code, failure.info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert under_way.result(20).result is True
    ending.join(20)
