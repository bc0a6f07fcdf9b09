"""Results that are iterators, in a daemon without a socket or a connection: when they are stepped, where, and how they
end."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from broker._pb.broker_pb2 import Call
from broker.codecs import Edge, Encoded, JsonCodec, PlainEdge, TypeRegistry
from broker.connection import chains
from broker.connection.calls import CallRequest, Metadata
from broker.connection.refusals import Reason, Refused
from broker.connection.workers import Workers
from broker.context import Client, current_context
from broker.decorators import oneway
from broker.dispatch import Dispatcher
from broker.dispatch.streaming import is_stream
from broker.errors import CodecError, ProtocolError
from broker.loop import LoopThread
from broker.objects import ObjectTable, Sessions

SOON = 40.0
EDGE = PlainEdge()


class Sink:
    """Where items go: it takes so many as the test says."""

    def __init__(self, room: int) -> None:
        self.has_deadline = False
        self.items: list[Any] = []
        self.ended = threading.Event()
        self.value: Any = None
        self.raised = False
        self.refused: Refused | None = None
        self._room = room
        self._condition = threading.Condition()
        self._job: Callable[[], None] | None = None

    def put(self, item: object, edge: Edge) -> bool:
        JsonCodec().encode(item, edge, "item")
        with self._condition:
            self.items.append(item)
            self._condition.notify_all()
            return len(self.items) < self._room

    def when_room(self, job: Callable[[], None]) -> bool:
        with self._condition:
            if len(self.items) < self._room:
                return False
            self._job = job
            self._condition.notify_all()
            return True

    def end(self, value: object, edge: Edge, *, raised: bool) -> None:
        JsonCodec().encode(value, edge, "the end")
        self.value, self.raised = value, raised
        self.ended.set()

    def fail(self, refused: Refused) -> None:
        self.refused = refused
        self.ended.set()

    # ---- the test

    def grant(self, room: int) -> None:
        with self._condition:
            self._room += room
            job, self._job = self._job, None
        if job is not None:
            job()

    def wait_until_parked(self) -> None:
        """Until the producer waits for room."""
        with self._condition:
            assert self._condition.wait_for(lambda: self._job is not None, SOON)

    def wait_for(self, count: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.items) >= count, SOON)


class Served:
    """A call that arrived, and what is answered."""

    peer = "client"
    codec = "json"

    def __init__(self, request: CallRequest, room: int, *, takes_streams: bool = True) -> None:
        self.request = request
        self.sink = Sink(room)
        self.begun = False
        self.answered = threading.Event()
        self.value: object = None
        self.refused: Refused | None = None
        self.metadata: Metadata = {}
        self._takes_streams = takes_streams
        self.cancel: Callable[[str], None] = lambda reason: None

    def started(self) -> None: ...

    def arguments(self, edge: Edge) -> tuple[tuple[object, ...], dict[str, object]]:
        return JsonCodec().decode_call(self.request.arguments, edge)

    def answer(self, value: object, edge: Edge, *, raised: bool, kept: bool, metadata: Metadata) -> None:
        self.value = value
        self.answered.set()

    def answer_bytes(self, data: bytes) -> None:
        raise AssertionError("nobody asked for a description")

    def answer_stream(self, *, kept: bool, metadata: Metadata) -> Sink:
        if not self._takes_streams:
            raise ProtocolError("no streams here")
        self.begun = True
        self.metadata = dict(metadata)
        return self.sink

    def reply(self, value: Encoded, raised: bool, kept: bool, metadata: Metadata) -> None:
        raise AssertionError("no batch was sent")

    def refuse(self, refused: Refused, *, ran: bool = False, kept: bool = False) -> None:
        if self.begun:
            self.sink.fail(refused)
        else:
            self.refused = refused
            self.answered.set()

    def on_cancel(self, function: Callable[[str], None]) -> None:
        self.cancel = function

    def over(self) -> None: ...


class Server:
    """Objects and a dispatcher."""

    def __init__(self, max_workers: int = 8) -> None:
        self.objects = ObjectTable("here:1", require_expose=False, types=TypeRegistry(), published=lambda name: None)
        self.workers = Workers(max_workers, "test-worker")
        self.loop = LoopThread()
        self.dispatcher = Dispatcher(self.objects, Sessions(), self.workers, EDGE, codecs=("json",), loop=self.loop.get)
        self.dispatcher.start()

    def add(self, target: object, object_id: str = "thing", **options: Any) -> None:
        self.objects.add(target, object_id, **options)

    def call(self, member: str, *args: Any, room: int = 1 << 20, takes_streams: bool = True, **options: Any) -> Served:
        arguments = JsonCodec().encode_call(args, {}, EDGE)
        kind = options.pop("kind", Call.METHOD)
        request = CallRequest("thing", member, kind, arguments, chains.new_chain(), **options)
        served = Served(request, room, takes_streams=takes_streams)
        self.dispatcher.dispatch(served, Client("inproc:1"), None)
        return served

    def refuses_calls(self) -> bool:
        served = self.call("no such member")
        assert served.answered.wait(SOON)
        return served.refused is not None and served.refused.reason == Reason.DRAINING

    def is_idle(self) -> bool:
        give_up = time.monotonic() + SOON
        while self.dispatcher.under_way and time.monotonic() < give_up:
            time.sleep(0.001)
        return not self.dispatcher.under_way


@pytest.fixture
def make_server() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(**options: Any) -> Server:
        servers.append(Server(**options))
        return servers[-1]

    yield make
    for server in servers:
        server.workers.close()
        server.loop.stop()


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    return make_server()


variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


class Thing:
    """Generators of all sorts."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.inside = threading.Event()
        self.go_on = threading.Event()
        self.cancelled: list[bool] = []
        self.threads: set[int] = set()
        self.overlaps = 0
        self._busy = False

    def count(self, n: int) -> Iterator[int]:
        try:
            for number in range(n):
                self.threads.add(threading.get_ident())
                yield number
        finally:
            self.cancelled.append(current_context.cancelled)
            self.closed.set()

    async def ticks(self, n: int) -> AsyncIterator[int]:
        try:
            for number in range(n):
                await asyncio.sleep(0)
                yield number
        finally:
            self.cancelled.append(current_context.cancelled)
            self.closed.set()

    def variables(self, n: int) -> Iterator[list[Any]]:
        for number in range(n):
            variable.set(variable.get() + 1)
            yield [variable.get(), current_context.member, number]

    async def variables_later(self, n: int) -> AsyncIterator[list[Any]]:
        for number in range(n):
            variable.set(variable.get() + 1)
            yield [variable.get(), current_context.member, number]

    def stuck(self) -> Iterator[int]:
        yield 1
        self.inside.set()
        self.go_on.wait(SOON)
        self.cancelled.append(current_context.cancelled)
        yield 2
        raise AssertionError("it was closed")

    async def stuck_later(self) -> AsyncIterator[int]:
        yield 1
        self.inside.set()
        try:
            await asyncio.sleep(SOON)
        finally:
            self.closed.set()

    def failing(self) -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    def stopping(self) -> Iterator[int]:
        yield 1
        raise StopIteration("not this way")

    def deaf(self) -> Iterator[int]:
        while True:
            try:
                yield 1
            except GeneratorExit:
                yield 2

    def bad_end(self) -> Iterator[int]:
        try:
            yield 1
        finally:
            raise ValueError("while it was closed")

    def not_encodable(self) -> Iterator[object]:
        try:
            yield 1
            yield object()
        finally:
            self.closed.set()

    def bad_value(self) -> Generator[int, None, object]:
        yield 1
        return object()

    def alone(self, n: int) -> Iterator[int]:
        for number in range(n):
            self._enter()
            yield number

    async def alone_later(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            await asyncio.sleep(0)
            self._enter()
            yield number

    def alone_once(self) -> None:
        self._enter()

    def _enter(self) -> None:
        self.overlaps += self._busy
        self._busy = True
        time.sleep(0.0002)
        self._busy = False

    @oneway
    def told(self) -> Iterator[int]:
        self.closed.set()
        yield 1

    @property
    def letters(self) -> Iterator[str]:
        return iter("abc")

    async def later(self) -> Iterator[int]:
        current_context.response_metadata["a"] = "b"
        return iter([1, 2])

    def remaining(self) -> Iterator[float | None]:
        yield current_context.remaining

    def total(self) -> int:
        return 3


@pytest.fixture
def thing(server: Server) -> Thing:
    thing = Thing()
    server.add(thing)
    return thing


def items(served: Served) -> list[Any]:
    assert served.sink.ended.wait(SOON)
    assert served.sink.refused is None, served.sink.refused
    return served.sink.items


# ---- what streams


def test_what_is_a_stream() -> None:
    class Registered:
        def __next__(self) -> int:
            return 1

    class Served(Registered): ...

    class References(PlainEdge):
        def reference(self, value: object) -> str | None:
            return "BROKER:a@b:1" if isinstance(value, Served) else None

    edge = References(TypeRegistry())
    assert is_stream(iter([]), edge)
    assert is_stream((n for n in [1]), edge)
    assert is_stream(Thing().ticks(1), edge)
    assert is_stream(Registered(), edge)
    assert not is_stream(Served(), edge)
    assert not is_stream([1], edge)
    assert not is_stream(range(3), edge)
    edge.types.register(Registered, to_dict=lambda value: {}, from_dict=lambda fields: Registered())
    assert not is_stream(Registered(), edge)


@pytest.mark.parametrize("member", ["count", "ticks"])
def test_all_items_and_the_end(server: Server, thing: Thing, member: str) -> None:
    served = server.call(member, 1000)
    assert items(served) == list(range(1000))
    assert (served.sink.value, served.sink.raised) == (None, False)
    assert server.is_idle()
    assert thing.cancelled == [False]


def test_properties_and_async_methods_may_return_one(server: Server, thing: Thing) -> None:
    assert items(server.call("letters", kind=Call.GET)) == ["a", "b", "c"]
    later = server.call("later")
    assert items(later) == [1, 2]
    assert later.metadata == {"a": "b"}


def test_any_other_result_is_a_result(server: Server, thing: Thing) -> None:
    served = server.call("total")
    assert served.answered.wait(SOON)
    assert served.value == 3
    assert not served.begun


def test_a_oneway_call_runs_nothing(server: Server, thing: Thing) -> None:
    for served in (server.call("count", 3, oneway=True), server.call("told", oneway=True)):
        assert served.answered.wait(SOON)
        assert not served.begun
    assert server.is_idle()
    assert not thing.closed.is_set()


def test_who_takes_no_streams_is_told(server: Server, thing: Thing) -> None:
    served = server.call("count", 3, takes_streams=False)
    assert served.answered.wait(SOON)
    assert served.refused == Refused(Reason.UNIMPLEMENTED, "no streams here")
    assert server.is_idle()


# ---- steps


@pytest.mark.parametrize("member", ["count", "ticks"])
def test_it_waits_for_room(server: Server, thing: Thing, member: str) -> None:
    served = server.call(member, 10, room=3)
    served.sink.wait_until_parked()
    assert served.sink.items == [0, 1, 2]
    served.sink.grant(4)
    served.sink.wait_until_parked()
    assert served.sink.items == list(range(7))
    served.sink.grant(100)
    assert items(served) == list(range(10))


@pytest.mark.parametrize("member", ["variables", "variables_later"])
def test_all_steps_see_one_context(server: Server, thing: Thing, member: str) -> None:
    served = server.call(member, 6, room=2)
    for _ in range(3):
        served.sink.wait_until_parked()
        served.sink.grant(2)
    assert items(served) == [[number + 1, member, number] for number in range(6)]
    assert variable.get() == 0


def test_what_waits_for_room_holds_no_thread(make_server: Callable[..., Server]) -> None:
    server = make_server(max_workers=1)
    server.add(Thing())
    streams = [server.call("count", 10, room=2) for _ in range(20)]
    for served in streams:
        served.sink.wait_until_parked()
    assert server.call("total").answered.wait(SOON)
    for served in streams:
        served.sink.grant(100)
    assert [items(served) for served in streams] == [list(range(10))] * 20


def test_a_stream_lets_others_go_first(make_server: Callable[..., Server]) -> None:
    server = make_server(max_workers=1)
    thing = Thing()
    server.add(thing)
    endless = server.call("count", 10**9, room=10**9)
    endless.sink.wait_for(10)
    for _ in range(5):
        assert server.call("total").answered.wait(SOON)
    endless.cancel("enough")
    assert thing.closed.wait(SOON)


def test_it_enters_the_gate_of_its_object_for_its_steps_alone(server: Server) -> None:
    thing = Thing()
    server.add(thing, max_concurrency=1)
    streams = [server.call(member, 60, room=5) for member in ("alone", "alone_later") * 2]
    calls = []
    while not all(served.sink.ended.is_set() for served in streams):
        calls.append(server.call("alone_once"))
        for served in streams:
            served.sink.grant(5)
        time.sleep(0.002)
    assert all(call.answered.wait(SOON) for call in calls)
    assert [items(served) for served in streams] == [list(range(60))] * 4
    assert thing.overlaps == 0
    assert server.is_idle()


def test_it_steps_on_the_threads_of_its_executor(server: Server) -> None:
    thing = Thing()
    with ThreadPoolExecutor(1) as executor:
        server.add(thing, executor=executor)
        served = server.call("count", 100, room=10)
        for _ in range(10):
            served.sink.wait_until_parked()
            served.sink.grant(10)
        assert items(served) == list(range(100))
        assert len(thing.threads) == 1
        endless = server.call("count", 10**9, room=1)
        endless.sink.wait_until_parked()
    endless.sink.grant(1)
    assert endless.sink.ended.wait(SOON)
    assert endless.sink.refused is not None
    assert "cannot schedule new futures after shutdown" in endless.sink.refused.message


def test_an_executor_that_drops_a_step_ends_the_stream(server: Server) -> None:
    class Once(Executor):
        def __init__(self) -> None:
            self._used = False

        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            if self._used:
                future.cancel()
                future.set_running_or_notify_cancel()
            else:
                self._used = True
                future.set_result(function(*args, **kwargs))
            return future

    server.add(Thing(), executor=Once())
    served = server.call("count", 10, room=1)
    served.sink.wait_until_parked()
    served.sink.grant(1)
    assert served.sink.ended.wait(SOON)
    assert served.sink.refused is not None
    assert served.sink.refused.reason == Reason.INTERNAL
    assert server.is_idle()


def test_there_is_no_deadline_inside(server: Server, thing: Thing) -> None:
    served = server.call("remaining", deadline=time.monotonic() + SOON)
    assert items(served) == [None]


# ---- ends


def test_what_it_raises_ends_it(server: Server, thing: Thing) -> None:
    served = server.call("failing")
    assert items(served) == [1]
    assert isinstance(served.sink.value, LookupError)
    assert served.sink.raised
    stopping = server.call("stopping")
    assert items(stopping) == [1]
    assert isinstance(stopping.sink.value, RuntimeError)


@pytest.mark.parametrize(("member", "what"), [("not_encodable", "an item of it"), ("bad_value", "what it returned")])
def test_what_cannot_be_encoded_ends_it(server: Server, thing: Thing, member: str, what: str) -> None:
    served = server.call(member)
    assert served.sink.ended.wait(SOON)
    assert served.sink.items == [1]
    assert served.sink.refused is not None
    assert served.sink.refused.reason == Reason.RESULT_NOT_ENCODABLE
    assert f"thing.{member} ran, and {what} cannot be encoded" in served.sink.refused.message
    assert member == "bad_value" or thing.closed.is_set()
    assert server.is_idle()


@pytest.mark.parametrize("member", ["count", "ticks"])
def test_cancel_closes_what_waits_for_room(server: Server, thing: Thing, member: str) -> None:
    served = server.call(member, 10**9, room=1)
    served.sink.wait_until_parked()
    served.cancel("enough")
    assert thing.closed.wait(SOON)
    assert thing.cancelled == [True]
    assert served.sink.ended.wait(SOON)
    assert served.sink.refused is not None
    assert served.sink.refused.reason == Reason.CANCELLED
    assert "enough" in served.sink.refused.message
    assert server.is_idle()


def test_cancel_closes_what_runs_at_its_next_yield(server: Server, thing: Thing) -> None:
    served = server.call("stuck")
    assert thing.inside.wait(SOON)
    served.cancel("enough")
    thing.go_on.set()
    assert served.sink.ended.wait(SOON)
    assert thing.cancelled == [True]
    assert served.sink.items in ([1], [1, 2])
    assert server.is_idle()


def test_cancel_ends_a_task_where_it_waits(server: Server, thing: Thing) -> None:
    served = server.call("stuck_later")
    assert thing.inside.wait(SOON)
    served.cancel("enough")
    assert thing.closed.wait(SOON)
    assert served.sink.ended.wait(SOON)
    assert server.is_idle()


@pytest.mark.parametrize("member", ["count", "ticks"])
def test_cancel_of_what_waits_for_the_gate(server: Server, member: str) -> None:
    thing = Thing()
    server.add(thing, max_concurrency=1)
    served = server.call(member, 100, room=1)
    served.sink.wait_until_parked()
    stuck = server.call("stuck")
    assert thing.inside.wait(SOON)
    served.sink.grant(1)
    served.cancel("enough")
    thing.go_on.set()
    assert served.sink.ended.wait(SOON)
    assert stuck.sink.ended.wait(SOON)
    assert server.call("total").answered.wait(SOON), "the gate is open"
    assert server.is_idle()


@pytest.mark.parametrize("member", ["deaf", "bad_end"])
def test_what_fails_while_it_is_closed_is_logged(
    server: Server, thing: Thing, member: str, caplog: pytest.LogCaptureFixture
) -> None:
    served = server.call(member, room=1)
    served.sink.wait_until_parked()
    with caplog.at_level(logging.WARNING, "broker"):
        served.cancel("enough")
        assert served.sink.ended.wait(SOON)
        assert server.is_idle()
    assert f"the stream of thing.{member} failed as it was closed" in caplog.text


def test_what_is_raised_where_nobody_reads_is_logged(
    server: Server, thing: Thing, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        def __init__(self) -> None:
            self.inside, self.go_on = threading.Event(), threading.Event()

        def fail(self) -> Iterator[int]:
            yield 1
            self.inside.set()
            self.go_on.wait(SOON)
            raise LookupError("unheard")

    failing = Failing()
    server.add(failing, "thing", replace=True)
    with caplog.at_level(logging.WARNING, "broker"):
        served = server.call("fail")
        assert failing.inside.wait(SOON)
        served.cancel("enough")
        failing.go_on.set()
        assert served.sink.ended.wait(SOON)
        assert server.is_idle()
    assert "unheard" in caplog.text


def test_a_call_that_was_cancelled_while_it_ran_streams_nothing(server: Server) -> None:
    class Slow:
        def __init__(self) -> None:
            self.inside, self.go_on = threading.Event(), threading.Event()
            self.stepped = False

        def numbers(self) -> Iterator[int]:
            self.inside.set()
            self.go_on.wait(SOON)
            return self._numbers()

        def _numbers(self) -> Iterator[int]:
            self.stepped = True
            yield 1

    slow = Slow()
    server.add(slow)
    served = server.call("numbers")
    assert slow.inside.wait(SOON)
    served.cancel("enough")
    slow.go_on.set()
    assert served.answered.wait(SOON)
    assert served.refused is not None
    assert served.refused.reason == Reason.CANCELLED
    assert not slow.stepped
    assert server.is_idle()


def test_a_daemon_that_ends_cancels_its_streams(server: Server, thing: Thing) -> None:
    served = server.call("count", 10**9, room=1)
    served.sink.wait_until_parked()
    server.dispatcher.drain(time.monotonic() + 0.05)
    assert served.sink.ended.wait(SOON)
    assert served.sink.refused is not None
    assert "shutting down" in served.sink.refused.message
    assert thing.closed.wait(SOON)


def _waits() -> Iterator[int]:
    yield 1
    assert current_context.wait_cancelled(SOON)


def _asks() -> Iterator[int]:
    while not current_context.cancelled:
        yield 1
        time.sleep(0.001)


def _is_called() -> Iterator[int]:
    told = threading.Event()
    current_context.on_cancel(told.set)
    yield 1
    assert told.wait(SOON)


async def _asks_later() -> AsyncIterator[int]:
    while not current_context.cancelled:
        yield 1
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("make", [_waits, _asks, _is_called, _asks_later])
def test_a_stream_is_told_at_once_that_its_daemon_ends(server: Server, make: Callable[[], Any]) -> None:
    """And who reads it learns that it was cut short."""

    class Endless:
        def numbers(self) -> Any:
            return make()

    server.add(Endless())
    served = server.call("numbers")
    served.sink.wait_for(1)
    server.dispatcher.drain(time.monotonic() + SOON)
    assert not server.dispatcher.under_way
    assert served.sink.refused is not None
    assert served.sink.refused.reason == Reason.CANCELLED
    assert "the daemon is shutting down" in served.sink.refused.message


@pytest.mark.parametrize("member", ["alone", "alone_later"])
def test_a_stream_that_does_not_ask_comes_to_its_end_while_its_daemon_drains(
    server: Server, thing: Thing, member: str
) -> None:
    served = server.call(member, 9, room=4)
    served.sink.wait_until_parked()
    draining = threading.Thread(target=server.dispatcher.drain, args=(time.monotonic() + SOON,))
    draining.start()
    while not server.refuses_calls():
        pass
    served.sink.grant(100)
    draining.join(SOON)
    assert items(served) == list(range(9))


def test_a_stream_that_begins_while_its_daemon_drains_is_told(server: Server) -> None:
    class Late:
        def __init__(self) -> None:
            self.inside, self.go_on = threading.Event(), threading.Event()

        def numbers(self) -> Iterator[int]:
            self.inside.set()
            assert self.go_on.wait(SOON)
            return _waits()

    late = Late()
    server.add(late)
    served = server.call("numbers")
    assert late.inside.wait(SOON)
    draining = threading.Thread(target=server.dispatcher.drain, args=(time.monotonic() + SOON,))
    draining.start()
    while not server.refuses_calls():
        pass
    late.go_on.set()
    assert served.sink.ended.wait(SOON)
    assert served.sink.refused is not None
    assert served.sink.items == [1]
    draining.join(SOON)


def test_an_iterator_inside_a_result_wants_a_connection(server: Server, thing: Thing) -> None:
    with pytest.raises(CodecError, match="an iterator"):
        JsonCodec().encode({"a": iter([])}, EDGE)
