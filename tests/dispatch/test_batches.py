"""A batch in a daemon, without a socket or a connection: what is asked of each of its calls, and what each answers."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from broker._pb.broker_pb2 import Batch, Call
from broker.around import AroundFunctions
from broker.around import Call as AroundCall
from broker.calling.results import BatchResults
from broker.codecs import Edge, Encoded, PlainEdge, TypeRegistry, codec
from broker.connection import chains
from broker.connection.calls import MAX_BATCH, CallRequest, ItemSink, Metadata
from broker.connection.refusals import Refused
from broker.connection.workers import Workers
from broker.context import Client, current_context
from broker.decorators import behavior, expose, oneway
from broker.dispatch import Dispatcher
from broker.errors import AccessDenied, CallTimeout, CodecError, CommunicationError, get_remote_traceback
from broker.loop import LoopThread
from broker.objects import ObjectTable, Sessions

SOON = 40.0
EDGE = PlainEdge()


class ServedBatch:
    """A batch that arrived, and what is answered."""

    peer = "client"

    def __init__(self, request: CallRequest) -> None:
        self.request = request
        self.answered = threading.Event()
        self.value: Encoded | None = None
        self.refused: Refused | None = None
        self.ran = False
        self.metadata: Metadata = {}
        self.cancel: Callable[[str], None] = lambda reason: None

    def started(self) -> None: ...

    def arguments(self, edge: Edge) -> tuple[tuple[object, ...], dict[str, object]]:
        raise AssertionError("a batch has no arguments of its own")

    def answer(self, value: object, edge: Edge, *, raised: bool, kept: bool, metadata: Metadata) -> None:
        raise AssertionError("a batch is answered by its results")

    def answer_bytes(self, data: bytes) -> None:
        raise AssertionError("a batch is answered by its results")

    def answer_stream(self, *, kept: bool, metadata: Metadata) -> ItemSink:
        raise AssertionError("a batch is answered by its results")

    def reply(self, value: Encoded, raised: bool, kept: bool, metadata: Metadata) -> None:
        self.value, self.metadata = value, dict(metadata)
        self.answered.set()

    def refuse(self, refused: Refused, *, ran: bool = False, kept: bool = False) -> None:
        self.refused, self.ran = refused, ran
        self.answered.set()

    def on_cancel(self, function: Callable[[str], None]) -> None:
        self.cancel = function

    def over(self) -> None: ...

    @property
    def refusal(self) -> tuple[str, str]:
        assert self.answered.wait(SOON)
        assert self.refused is not None
        return self.refused.reason, self.refused.message

    @property
    def results(self) -> BatchResults:
        assert self.answered.wait(SOON)
        assert self.refused is None, self.refused
        assert self.value is not None
        assert self.request.batch is not None
        decoded = codec(self.value.codec).decode_results(self.value, EDGE)
        return BatchResults(decoded, len(self.request.batch.calls), "here")

    @property
    def outcomes(self) -> list[Any]:
        """Results, and the exceptions where calls failed."""
        return outcomes(self.results)


def outcomes(results: BatchResults) -> list[Any]:
    found: list[Any] = []
    while True:
        try:
            found.append(next(results))
        except StopIteration:
            return found
        except Exception as error:
            found.append(error)


class Named(dict[str, Any]):
    """Arguments by name."""


class Server:
    """Objects and a dispatcher."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.objects = ObjectTable("here:1", require_expose=False, types=TypeRegistry(), published=lambda name: None)
        self.workers = Workers(8, "test-worker")
        self.loop = LoopThread()
        edge = PlainEdge(traceback=lambda error: f"traceback of {error!r}")
        self.dispatcher = Dispatcher(
            self.objects, Sessions(), self.workers, edge,
            **{"codecs": ("json", "pickle"), "loop": self.loop.get, **options},
        )  # fmt: skip
        self.dispatcher.start()

    def add(self, target: object, object_id: str = "thing", **options: Any) -> None:
        self.objects.add(target, object_id, **options)

    def send(self, *calls: tuple[Any, ...], codec_name: str = "json", **options: Any) -> ServedBatch:
        """Each call is (method, *arguments), with arguments by name in a Named at its end."""
        members = list(dict.fromkeys(call[0] for call in calls))
        args = [call[1:-1] if isinstance(call[-1], Named) else call[1:] for call in calls]
        kwargs = {place: dict(call[-1]) for place, call in enumerate(calls) if isinstance(call[-1], Named)}
        arguments = codec(codec_name).encode_batch(args, kwargs, EDGE, str)
        batch = Batch(members=members, calls=[members.index(call[0]) for call in calls])
        return self.send_raw(batch, arguments, **options)

    def send_raw(
        self, batch: Batch, arguments: Encoded, *, go_on: bool = True, object_id: str = "thing", **options: Any
    ) -> ServedBatch:
        batch.go_on = go_on
        request = CallRequest(object_id, "", Call.BATCH, arguments, chains.new_chain(), batch=batch, **options)
        served = ServedBatch(request)
        self.dispatcher.dispatch(served, Client("inproc:1"), None)
        return served

    def __call__(self, *calls: tuple[Any, ...], **options: Any) -> list[Any]:
        return self.send(*calls, **options).outcomes


@pytest.fixture
def make_server() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(**options: Any) -> Server:
        servers.append(Server(options))
        return servers[-1]

    yield make
    for server in servers:
        server.dispatcher.drain(time.monotonic() + SOON)
        server.workers.close()
        server.loop.stop()


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    return make_server()


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="untouched")


class Thing:
    def __init__(self) -> None:
        self.contents: list[Any] = []
        self.entered = threading.Semaphore(0)
        self.leave = threading.Event()
        self.heard: list[str] = []

    def add(self, a: float, b: float = 1) -> float:
        return a + b

    def put(self, item: object) -> list[Any]:
        self.contents.append(item)
        return self.contents

    def get(self) -> list[Any]:
        return self.contents

    def echo(self, *args: object, **kwargs: object) -> object:
        return [args, kwargs] if kwargs else args[0]

    def fail(self, text: str) -> None:
        try:
            raise LookupError("the reason")
        except LookupError as reason:
            raise ValueError(text) from reason

    def exit(self) -> None:
        raise SystemExit(3)

    def lock(self) -> object:
        return threading.Lock()

    def ending(self) -> object:
        return Ending()

    def numbers(self) -> Iterator[int]:
        yield 1

    def hidden_generator(self):  # type: ignore[no-untyped-def]  # nothing says that it gives one
        return iter([1, 2])

    def block(self) -> str:
        self.entered.release()
        assert self.leave.wait(SOON)
        return "left"

    def until_cancelled(self) -> bool:
        self.entered.release()
        return current_context.wait_cancelled(SOON)

    @oneway
    def drop(self, item: object) -> str:
        if item is None:
            raise ValueError("nothing to drop")
        self.contents.append(item)
        return "never seen"

    @oneway
    async def drop_later(self, item: object) -> str:
        self.contents.append(item)
        return "never seen"

    async def later(self, value: object) -> object:
        await asyncio.sleep(0.001)
        self.contents.append(value)
        return value

    async def fail_later(self) -> None:
        await asyncio.sleep(0)
        raise LookupError("later")

    def where(self) -> list[Any]:
        return [current_context.member, threading.current_thread().name]

    def set_variable(self) -> str:
        before = VARIABLE.get()
        VARIABLE.set("changed")
        return before

    def on_cancel(self, text: str) -> None:
        current_context.on_cancel(lambda: self.heard.append(text))

    def say(self, text: str) -> None:
        current_context.response_metadata[text] = text

    @property
    def price(self) -> int:
        return 3

    def __len__(self) -> int:
        return len(self.contents)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.contents)


class Ending:
    """A value whose encoding ends the program."""


CODECS = pytest.mark.parametrize("name", ["json", "pickle"])


# ---- results


@CODECS
def test_results_come_in_order_as_they_were_at_their_time(server: Server, name: str) -> None:
    server.add(Thing())
    calls = [("add", 1, 2), ("put", "a"), ("get",), ("put", {"b": 2}), ("add", 0.5, Named(b=1.5)), ("echo", (1, {2}))]
    assert server(*calls, codec_name=name) == [3, ["a"], ["a"], ["a", {"b": 2}], 2.0, (1, {2})]


@CODECS
def test_every_scalar_arrives_as_it_was(server: Server, name: str) -> None:
    server.add(Thing())
    values = [
        None,
        True,
        "t\u00e9xt",
        "\ud800",
        2**63,
        -(2**70),
        1.5,
        float("inf"),
        ["\ud801"],
        [2**80],
        "$type",
        {"$type": 1},
    ]
    found = server(*[("echo", value) for value in values], ("echo", float("nan")), codec_name=name)
    assert found[:-1] == values
    assert found[-1] != found[-1]


@CODECS
def test_buffers_go_both_ways_and_nothing_changes_them_later(server: Server, name: str) -> None:
    array = np.arange(1000.0)

    class Arrays:
        def fill(self, value: float) -> np.ndarray[Any, Any]:
            array[:] = value
            return array

        def total(self, *arrays: np.ndarray[Any, Any]) -> float:
            return float(sum(each.sum() for each in arrays))

    server.add(Arrays())
    ones, data = np.ones(10), bytes(100)
    first, total, second = server(("fill", 1.0), ("total", ones, ones), ("fill", 2.0), codec_name=name)
    assert (first == 1).all()
    assert (second == 2).all()
    assert total == 20
    assert server(("total", ones), ("total", data), codec_name=name)[0] == 10


@CODECS
def test_what_two_calls_share_arrives_twice(server: Server, name: str) -> None:
    class Changer:
        def change(self, items: list[int]) -> int:
            items.append(0)
            return len(items)

    server.add(Changer())
    shared = [1, 2]
    assert server(("change", shared), ("change", shared), codec_name=name) == [3, 3]


def test_special_methods_are_methods(server: Server) -> None:
    thing = Thing()
    server.add(thing)
    assert server(("put", 7), ("__len__",)) == [[7], 1]


# ---- failures, each at its place


def text_of(error: object, kind: type[Exception]) -> str:
    assert type(error) is kind, error
    return str(error)


@CODECS
def test_an_exception_ends_the_batch_or_only_its_call(server: Server, name: str) -> None:
    thing = Thing()
    server.add(thing)
    calls = [("put", 1), ("fail", "no"), ("put", 2)]
    first, error = server(*calls, go_on=False, codec_name=name)
    assert first == [1]
    assert text_of(error, ValueError) == "no"
    assert text_of(error.__cause__, LookupError) == "the reason"
    assert get_remote_traceback(error) == "traceback of ValueError('no')"
    assert thing.contents == [1]
    _, error, last = server(*calls, codec_name=name)
    assert text_of(error, ValueError) == "no"
    assert last == [1, 1, 2]


@CODECS
def test_whatever_cannot_be_carried_out_fails_alone(server: Server, name: str) -> None:
    server.add(Thing())
    failing: list[tuple[tuple[Any, ...], type[Exception], str]] = [
        (("missing", 1), AttributeError, "'thing' at here:1 has no remote member 'missing'"),
        (("_private",), AttributeError, "no remote member '_private'"),
        (("__getitem__", 1), TypeError, "not subscriptable"),
        (("price",), TypeError, "'price' is a property and cannot be called"),
        (("add",), TypeError, "add() missing 1 required positional argument: 'a'"),
        (("add", 1, 2, 3), TypeError, "add() takes from 1 to 2 positional arguments but 3 were given"),
        (("add", 1, Named(c=2)), TypeError, "unexpected keyword argument 'c'"),
        (("__iter__",), TypeError, "__iter__() gives its items one by one, for which a batch has no place"),
        (("numbers",), TypeError, "numbers() gives its items one by one, for which a batch has no place"),
        (("hidden_generator",), TypeError, "hidden_generator() gives its items one by one"),
    ]
    found = server(*[part for call, _, _ in failing for part in (call, ("add", 1))], codec_name=name)
    assert found[1::2] == [2] * len(failing)
    for error, (_, kind, text) in zip(found[::2], failing, strict=True):
        assert text in text_of(error, kind)
        assert get_remote_traceback(error) == ""


def test_a_result_that_cannot_be_encoded_fails_alone(server: Server) -> None:
    server.add(Thing())
    error, last = server(("lock",), ("add", 1))
    assert text_of(error, CodecError).startswith(
        "thing.lock ran, and its result cannot be encoded by the server: result"
    )
    assert error.may_have_run
    assert last == 2
    assert len(server(("lock",), ("add", 1), go_on=False)) == 1


def test_a_value_whose_encoding_does_anything_is_answered_at_its_place(make_server: Callable[..., Server]) -> None:
    types = TypeRegistry()

    def to_dict(ending: Ending) -> dict[str, Any]:
        raise SystemExit("the program ends")

    types.register(Ending, to_dict=to_dict, from_dict=lambda fields: Ending())
    server = make_server()
    server.dispatcher._execution._edge = PlainEdge(types)
    server.add(Thing())
    error, last = server(("ending",), ("add", 1))
    assert "the answer failed: SystemExit: the program ends" in str(error)
    assert last == 2


def test_what_ends_a_process_elsewhere_ends_nothing(server: Server) -> None:
    server.add(Thing())
    error, last = server(("exit",), ("add", 1))
    assert error.type == "SystemExit"
    assert last == 2


# ---- who may, and what is decoded


def test_each_call_is_asked_about_in_its_turn(make_server: Callable[..., Server]) -> None:
    asked: list[str] = []
    thing = Thing()

    def authorize(client: Client, object_id: str, member: str) -> bool:
        asked.append(f"{object_id}.{member} {len(thing.contents)} {threading.current_thread().name[:11]}")
        return member != "get" or len(thing.contents) > 1

    server = make_server(authorize=authorize)
    server.add(thing)
    first, denied, _, allowed = server(("put", 1), ("get",), ("put", 2), ("get",))
    assert (first, allowed) == ([1], [1, 2])
    assert text_of(denied, AccessDenied) == "inproc:1 may not call 'get' of 'thing'"
    assert asked == [f"thing.{name} test-worker" for name in ("put 0", "get 1", "put 1", "get 2")]
    asked.clear()
    assert len(server(("get",), ("missing",), ("get",), go_on=False)) == 3 - 2 + 1  # get is allowed by now
    assert [entry.split()[0] for entry in asked] == ["thing.get", "thing.missing"]


_traces: list[str] = []


def leave_trace(name: str) -> None:
    _traces.append(name)


class Poison:
    """Reading its pickle leaves a trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return leave_trace, ("read",)


def test_nothing_is_decoded_for_who_may_not_or_what_is_not_there(make_server: Callable[..., Server]) -> None:
    server = make_server(authorize=lambda client, object_id, member: member != "forbidden")
    server.add(Thing())
    _traces.clear()
    for call in [("forbidden", Poison()), ("missing", Poison()), ("numbers", Poison())]:
        assert len(server(call, call, codec_name="pickle")) == 2
    assert _traces == []
    assert server(("missing", Poison()), ("echo", 1), ("forbidden", Poison()), codec_name="pickle")[1] == 1
    assert _traces == []
    server(("echo", Poison()), codec_name="pickle")
    assert _traces == ["read"]


def test_who_may_not_call_learns_nothing_of_objects_and_codecs(make_server: Callable[..., Server]) -> None:
    server = make_server(authorize=lambda client, object_id, member: member == "get", codecs=("json",))
    server.add(Thing())
    assert server.send(("get",), object_id="nothing").refusal[0] == "OBJECT_NOT_FOUND"
    assert server.send(("put", 1), object_id="nothing").refusal[0] == "ACCESS_DENIED"
    assert server.send(("get",), codec_name="pickle").refusal[0] == "CODEC_NOT_ACCEPTED"
    assert server.send(("put", 1), codec_name="pickle").refusal[0] == "ACCESS_DENIED"


def test_only_what_is_exposed_is_called(server: Server) -> None:
    class Guarded:
        @expose
        def shown(self) -> int:
            return 1

        def hidden(self) -> int:
            return 2

    server.add(Guarded())
    shown, hidden = server(("shown",), ("hidden",))
    assert shown == 1
    assert "has no remote member 'hidden' (it has: shown)" in text_of(hidden, AttributeError)


# ---- hostile payloads


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{", b"null", b"[]", b"[[]]", b"[[],[],[]]", b'[{"a":1},[]]', b"[[1,2],[]]", b"[[[1]],[]]",
        b"[[[1],[2],[3]],[]]", b'[[[1],{"$type":"tuple","items":[2]}],[]]', b'[[[1],[2]],[["0",{}]]]',
        b"[[[1],[2]],[[2,{}]]]", b"[[[1],[2]],[[-1,{}]]]", b"[[[1],[2]],[[true,{}]]]", b"[[[1],[2]],[[0,[]]]]",
        b"[[[1],[2]],[[0,{}],[0,{}]]]", b"[[[1],[2]],[[0,{},1]]]", b"[[[1],[2]],{}]", b"[" * 1000 + b"]" * 1000,
        b"[[" + b"[]," * 100_000 + b"[]],[]]",
    ],
)  # fmt: skip
def test_arguments_that_are_none_of_its_calls_refuse_the_batch(server: Server, payload: bytes) -> None:
    thing = Thing()
    server.add(thing)
    batch = Batch(members=["put"], calls=[0, 0])
    assert server.send_raw(batch, Encoded("json", payload)).refusal[0] == "CODEC"
    assert thing.contents == []


@pytest.mark.parametrize(
    "value",
    [None, [], ([], None), ([((), {}), ((), {})], None), ([(b"", 0, 0)], None), ([(b"", 0, 0), (b"", 1, 0)], None),
     ([(b"", 0, 0), (b"", 0, 1)], None), ([(b"", -1, 0), (b"", 1, 0)], None), ([(b"", 0, 0), (b"", True, 0)], None),
     ([(b"", 0), (b"", 0)], None)],
)  # fmt: skip
def test_pickled_arguments_that_are_none_of_its_calls_refuse_the_batch(server: Server, value: object) -> None:
    server.add(Thing())
    arguments = codec("pickle").encode(value, EDGE)
    assert server.send_raw(Batch(members=["put"], calls=[0, 0]), arguments).refusal[0] == "CODEC"


@CODECS
def test_an_argument_that_cannot_be_read_fails_alone(server: Server, name: str) -> None:
    server.add(Thing())
    payload = (
        b'[[[1],[{"$type":"nonsense"}],[{"$type":"bytes","buffer":0}],[4]],[[3,{"b":{"$type":"float","value":"1"}}]]]'
    )
    arguments = Encoded("json", payload)
    if name == "pickle":
        good = codec("pickle").encode(((1,), {}), EDGE).payload
        values = [(each, 0, 0) for each in (good, b"nonsense", codec("pickle").encode(3, EDGE).payload, good)]
        arguments = codec("pickle").encode((values, None), EDGE)
    first, tag, buffer, last = server.send_raw(Batch(members=["add"], calls=[0] * 4), arguments).outcomes
    assert first == 2
    assert last == (5 if name == "json" else 2)
    assert text_of(tag, CodecError)
    assert text_of(buffer, CodecError)


@pytest.mark.parametrize(
    "batch",
    [Batch(), Batch(members=["put"]), Batch(calls=[0]), Batch(members=["put"], calls=[1]),
     Batch(members=["put"], calls=[0, 2**32 - 1])],
)  # fmt: skip
def test_a_batch_that_calls_what_it_does_not_name_is_refused(server: Server, batch: Batch) -> None:
    server.add(Thing())
    assert server.send_raw(batch, Encoded("json", b"[[[1]],[]]")).refusal[0] == "CODEC"


def test_no_more_calls_than_a_batch_holds_are_looked_at(server: Server) -> None:
    server.add(Thing())
    for number in (MAX_BATCH + 1, 1_000_000):
        reason, message = server.send_raw(Batch(members=["put"], calls=[0] * number), Encoded("json", b"")).refusal
        assert reason == "OVERLOADED"
        assert message == f"a batch holds at most {MAX_BATCH} calls, and one of {number} arrived"
    assert sum(server(*[("add", 1)] * MAX_BATCH)) == 2 * MAX_BATCH


# ---- time


def test_the_time_of_the_batch_is_over_between_two_calls(server: Server) -> None:
    thing = Thing()
    server.add(thing)
    deadline = time.monotonic() + 0.05
    first, over, error = server(("put", 1), ("until_cancelled",), ("put", 2), ("put", 3), deadline=deadline)
    assert (first, over) == ([1], True)
    assert text_of(error, CallTimeout) == "call 2 of the batch was not made: the time of the batch is over"
    assert thing.contents == [1]


def test_a_batch_that_waited_until_its_time_was_over_runs_nothing(server: Server) -> None:
    server.add(Thing())
    assert server.send(("get",), deadline=time.monotonic() - 1).refusal[0] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("member", ["until_cancelled", "later_until_cancelled"])
def test_who_gives_up_stops_the_calls_that_were_not_made(server: Server, member: str) -> None:
    class Patient(Thing):
        async def later_until_cancelled(self) -> None:
            self.entered.release()
            await asyncio.Event().wait()

    thing = Patient()
    server.add(thing)
    batch = server.send(("put", 1), (member,), ("put", 2))
    assert thing.entered.acquire(timeout=SOON)
    batch.cancel("the caller gave up")
    first, _, error = batch.outcomes
    assert first == [1]
    assert text_of(error, CommunicationError) == "call 2 of the batch was not made: the caller gave up"
    assert thing.contents == [1]


def test_a_daemon_that_ends_says_which_calls_were_not_made(server: Server) -> None:
    thing = Thing()
    server.add(thing)
    batch = server.send(("until_cancelled",), ("put", 2))
    assert thing.entered.acquire(timeout=SOON)
    server.dispatcher.drain(time.monotonic())
    _, error = batch.outcomes
    assert text_of(error, CommunicationError) == "call 1 of the batch was not made: the daemon is shutting down"
    assert thing.contents == []


# ---- async def, oneway, threads


def test_async_members_run_in_their_place(server: Server) -> None:
    thing = Thing()
    server.add(thing)
    found = server(("later", 1), ("put", 2), ("fail_later",), ("later", 3), ("later", [4]), ("get",))
    assert found[:2] == [1, [1, 2]]
    assert text_of(found[2], LookupError) == "later"
    assert found[3:] == [3, [4], [1, 2, 3, [4]]]


def test_oneway_members_tell_nothing(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    thing = Thing()
    server.add(thing)
    calls = [("drop", 1), ("drop", None), ("drop_later", 2), ("drop",), ("get",)]
    assert server(*calls, go_on=False) == [None, None, None, None, [1, 2]]
    assert "oneway call of thing.drop failed" in caplog.text
    assert "nothing to drop" in caplog.text
    until(lambda: "oneway call refused: drop() missing 1 required" in caplog.text)


def until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


def test_a_oneway_batch_logs_what_nobody_hears(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    thing = Thing()
    server.add(thing)
    batch = server.send(("put", 1), ("fail", "unheard"), ("missing",), ("lock",), ("later", 2), oneway=True)
    assert batch.answered.wait(SOON)
    assert thing.contents == [1, 2]
    assert "oneway call of thing.fail failed" in caplog.text
    until(lambda: "oneway call refused: 'thing' at here:1 has no remote member 'missing'" in caplog.text)
    assert "encoded" not in caplog.text


def test_a_batch_has_one_thread_that_of_the_objects_executor(server: Server) -> None:
    with ThreadPoolExecutor(1, "instrument") as executor:
        server.add(Thing(), executor=executor)
        found = server(("where",), ("later", 1), ("where",))
    assert found == [["where", "instrument_0"], 1, ["where", "instrument_0"]]


def test_a_batch_holds_its_place_until_its_end(server: Server) -> None:
    thing = Thing()
    server.add(thing, max_concurrency=1)
    first = server.send(("block",), ("put", 1), ("later", 2), ("put", 3))
    assert thing.entered.acquire(timeout=SOON)
    second = server.send(("put", "other"))
    thing.leave.set()
    assert second.outcomes == [[1, 2, 3, "other"]]
    assert first.outcomes[-1] == [1, 2, 3]


def test_a_class_with_an_instance_per_call_has_one_for_each(server: Server) -> None:
    @behavior("percall")
    class Fresh(Thing): ...

    @behavior("single")
    class Shared(Thing): ...

    server.add(Fresh, "fresh")
    server.add(Shared, "shared")
    assert server(("put", 1), ("put", 2), object_id="fresh") == [[1], [2]]
    assert server(("put", 1), ("put", 2), object_id="shared") == [[1], [1, 2]]


def test_an_instance_that_cannot_be_made_is_tried_again(server: Server) -> None:
    tries: list[int] = []

    @behavior("single")
    class Shy(Thing):
        def __init__(self) -> None:
            tries.append(1)
            if len(tries) == 1:
                raise ValueError("not yet")
            super().__init__()

    server.add(Shy)
    error, last = server(("put", 1), ("put", 2))
    assert text_of(error, ValueError) == "not yet"
    assert last == [2]


# ---- the context


def test_calls_of_a_batch_do_not_see_each_others_context(server: Server) -> None:
    thing = Thing()
    server.add(thing)
    assert server(("set_variable",), ("set_variable",)) == ["untouched", "untouched"]
    batch = server.send(("on_cancel", "first"), ("on_cancel", "second"), ("until_cancelled",))
    assert thing.entered.acquire(timeout=SOON)
    batch.cancel("enough")
    assert batch.outcomes == [None, None, True]
    assert thing.heard == []


def test_a_function_of_the_call_that_runs_hears_of_the_end(server: Server) -> None:
    class Listening(Thing):
        def listen(self) -> None:
            current_context.on_cancel(lambda: self.heard.append("over"))
            self.until_cancelled()

    thing = Listening()
    server.add(thing)
    batch = server.send(("listen",))
    assert thing.entered.acquire(timeout=SOON)
    batch.cancel("enough")
    assert batch.outcomes == [None]
    until(lambda: thing.heard == ["over"])


def test_response_metadata_of_all_calls_goes_back(server: Server) -> None:
    server.add(Thing())
    batch = server.send(("say", "a"), ("where",), ("say", "b"))
    assert batch.outcomes[1][0] == "where"
    assert batch.metadata == {"a": "a", "b": "b"}


# ---- around, stats


def test_functions_run_around_each_call(make_server: Callable[..., Server]) -> None:
    seen: list[tuple[Any, ...]] = []

    def around(call: AroundCall, rest: Callable[[AroundCall], Any]) -> Any:
        if call.member == "get":
            raise AccessDenied("not now")
        call.metadata["seen"] = str(len(seen))
        seen.append((call.member, call.kind, call.args, call.kwargs, dict(current_context.metadata)))
        return rest(call)

    server = make_server(around=AroundFunctions([around]))
    server.add(Thing())
    found = server(("add", 1), ("put", 2), ("get",), ("add", 1, Named(b=5)), ("later", 3))
    assert found[:2] == [2, [2]]
    assert text_of(found[2], AccessDenied) == "not now"
    assert found[3:] == [6, 3]
    assert seen == [
        ("add", "method", (1,), {}, {"seen": "0"}),
        ("put", "method", (2,), {}, {"seen": "1"}),
        ("add", "method", (1,), {"b": 5}, {"seen": "2"}),
        ("later", "method", (3,), {}, {"seen": "3"}),
    ]


def test_each_call_of_a_batch_counts(server: Server) -> None:
    server.add(Thing())
    server(("add", 1), ("fail", "x"), ("missing",), ("add",))
    server(("add", 1), go_on=False)
    stats = server.dispatcher.stats(connections=0, sessions=0, exports=0)
    assert stats.calls == {"method": 5, "batch": 2}
    assert stats.errors == {"ValueError": 1}
    assert stats.refused == {"MEMBER_NOT_FOUND": 1, "WRONG_ARGUMENTS": 1}
    assert stats.under_way == 0


def test_a_loop_over_results_and_next_go_together(server: Server) -> None:
    server.add(Thing())
    results = server.send(*[("add", number) for number in range(4)]).results
    assert next(results) == 1
    assert list(results) == [2, 3, 4]
    assert list(results) == []
    results = server.send(("add", 0), ("fail", "x"), ("add", 1)).results
    assert next(iter(results)) == 1
    with pytest.raises(ValueError, match="x"):
        list(results)
    assert list(results) == [2]
