"""A call's way through a daemon, without a socket: two ends joined in memory, and a dispatcher behind each."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import broker.codecs
from broker._pb.broker_pb2 import Call, Description
from broker.codecs import Encoded, JsonCodec, PlainEdge, TypeRegistry
from broker.connection import chains
from broker.connection.calls import CallRequest, IncomingCall, Outcome, PendingCall
from broker.connection.engine import Connection, Settings
from broker.connection.groups import CallGroup
from broker.connection.refusals import Reason, Refused
from broker.connection.workers import Workers
from broker.context import CallContext, Client, current_context
from broker.decorators import behavior, expose, oneway
from broker.dispatch import Dispatcher
from broker.loop import LoopThread
from broker.objects import ObjectTable, Registration, Sessions
from broker.security import Authorize
from tests.connection.conftest import Pair, both

SOON = 40.0
EDGE = PlainEdge()


class Side:
    """One process: objects and a dispatcher, without a server."""

    def __init__(self, *, max_workers: int, codecs: tuple[str, ...], authorize: Authorize | None, short: bool) -> None:
        self._short = short
        self.objects = ObjectTable("here:1", require_expose=False, types=TypeRegistry(), published=lambda name: None)
        self.sessions = Sessions()
        self.workers = Workers(max_workers, "test-worker")
        self.loop = LoopThread()
        self.dispatcher = Dispatcher(
            self.objects, self.sessions, self.workers, PlainEdge(),
            codecs=codecs, authorize=authorize, loop=self.loop.get,
        )  # fmt: skip

    def add(self, target: object, object_id: str = "thing", **options: Any) -> Registration:
        return self.objects.add(target, object_id, **options)[0]

    def incoming(self, call: IncomingCall) -> None:
        client = Client(call.peer, codec=call.codec)
        if not (self._short and self.dispatcher.express.takes(call, client)):
            self.dispatcher.dispatch(call, client, call.connection)

    def incoming_group(self, group: CallGroup) -> None:
        for call in group.singles():
            self.incoming(call)

    def turned_away(self, refused: Refused) -> None:
        self.dispatcher.turned_away(refused)

    def session_closed(self, connection: Connection, session: int) -> None:
        self.dispatcher.session_closed(connection, session)

    def connection_ended(self, connection: Connection) -> None:
        self.dispatcher.connection_ended(connection)


class Caller:
    """Makes calls over a connection: what a proxy does."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(
        self, member: str, *args: Any, object_id: str = "thing", kind: Call.Kind = Call.METHOD, codec: str = "json",
        **options: Any,
    ) -> PendingCall:  # fmt: skip
        context = CallContext.active()
        if context is not None:
            options = {"chain": context.chain, "depth": context.depth + 1, **options}
        arguments = JsonCodec().encode_call(args, {}, EDGE)._replace(codec=codec)
        options.setdefault("chain", chains.new_chain())
        return self.connection.call(CallRequest(object_id, member, kind, arguments, **options))

    def __call__(self, member: str, *args: Any, **options: Any) -> Any:
        return result(self.send(member, *args, **options))


def outcome(pending: PendingCall) -> Outcome:
    found = pending.wait(time.monotonic() + SOON)
    assert found is not None
    return found


def result(pending: PendingCall) -> Any:
    found = outcome(pending)
    if found.refused is not None:
        raise found.refused.to_error()
    assert found.value is not None, found
    value: Any = JsonCodec().decode(found.value, EDGE, "result")
    if found.raised:
        raise value
    return value


def refusal(pending: PendingCall) -> tuple[str, str]:
    found = outcome(pending).refused
    assert found is not None
    return found.reason, found.message


class World(Pair):
    """A client and a server that may call each other."""

    def __init__(self, client: Side, server: Side, settings: dict[str, Any]) -> None:
        self.here, self.there = client, server
        super().__init__(Settings(), Settings(**settings))
        self.client = Connection(Settings(), client, accepts=False, peer_name="server")
        self.server = Connection(Settings(**settings), server, accepts=True, peer_name="inproc:1")
        self.call = Caller(self.client)
        self.call_back = Caller(self.server)
        self.start()
        assert self.client.opened.wait(SOON)
        assert self.server.opened.wait(SOON)

    @property
    def under_way(self) -> int:
        return self.there.dispatcher.under_way


MakeWorld = Callable[..., World]


@pytest.fixture(params=["long road", "short road"])
def make_world(request: pytest.FixtureRequest) -> Iterator[MakeWorld]:
    """Every rule holds on both roads: that of all calls, and that of plain ones."""
    worlds: list[World] = []
    short = request.param == "short road"

    def make(
        *, start: bool = True, max_workers: int = 16, codecs: tuple[str, ...] = ("json",),
        authorize: Authorize | None = None, settings: dict[str, Any] | None = None,
    ) -> World:  # fmt: skip
        client = Side(max_workers=max_workers, codecs=("json",), authorize=None, short=short)
        server = Side(max_workers=max_workers, codecs=codecs, authorize=authorize, short=short)
        client.dispatcher.start()
        if start:
            server.dispatcher.start()
        worlds.append(World(client, server, settings or {}))
        return worlds[-1]

    yield make
    for world in worlds:
        world.stop()
        for side in (world.here, world.there):
            side.loop.stop()
            side.workers.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


def until(condition: Callable[[], object]) -> None:
    """Waits for what happens on other threads and tells nobody."""
    give_up = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


class Room:
    """Lets its visitors wait for each other."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.leave = threading.Event()
        self.inside = self.most = 0
        self.order: list[Any] = []
        self.threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def visit(self, name: object = None) -> object:
        with self._lock:
            self.order.append(name)
            self.threads.append(threading.current_thread())
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.release()
        assert self.leave.wait(SOON)
        with self._lock:
            self.inside -= 1
        return name

    @oneway
    def drop(self, name: object) -> None:
        self.order.append(name)

    def echo(self, value: object) -> object:
        self.order.append(value)
        return value

    def cancelled(self) -> bool:
        self.entered.release()
        seen = current_context.wait_cancelled(SOON)
        self.order.append("cancelled")
        return seen


# ---- what is checked, and in which order


class RecordingCodec(JsonCodec):
    def __init__(self) -> None:
        self.decoded: list[bytes] = []

    def decode_call(self, encoded: Encoded, edge: broker.codecs.Edge) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.decoded.append(bytes(encoded.payload))
        return super().decode_call(encoded, edge)


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> RecordingCodec:
    codec = RecordingCodec()
    monkeypatch.setitem(broker.codecs._loaded, "json", codec)
    return codec


class Guarded:
    value = 3

    @expose
    def shown(self, number: int) -> int:
        return number + 1

    def hidden(self) -> None: ...

    @property
    @expose
    def name(self) -> str:
        return "guarded"


def test_nothing_is_decoded_for_a_target_that_is_not_there(world: World, recording: RecordingCodec) -> None:
    world.there.add(Guarded())
    send = world.call.send
    assert refusal(send("shown", 1, object_id="nothing", codec="x")) == (
        "OBJECT_NOT_FOUND",
        "there is no object 'nothing' at here:1 (it may have been unregistered)",
    )
    for name in ("hidden", "value", "missing", "__class__", "_private", "shown.__self__"):
        reason, message = refusal(send(name, codec="x"))
        assert reason == "MEMBER_NOT_FOUND"
        assert f"'thing' at here:1 has no remote member {name!r} (it has: name, shown)" in message
    assert refusal(send("__len__"))[0] == "UNSUPPORTED_OPERATION"
    assert refusal(send("name", kind=Call.SET))[0] == "MEMBER_NOT_FOUND"
    assert refusal(send("name"))[0] == "UNSUPPORTED_OPERATION"
    assert refusal(send("shown", kind=Call.GET))[0] == "MEMBER_NOT_FOUND"
    for codec in ("pickle", "x", ""):
        reason, message = refusal(send("shown", 1, codec=codec))
        assert (reason, message) == (
            "CODEC_NOT_ACCEPTED",
            f"codec {codec!r} is not accepted at here:1, which takes json",
        )
    assert recording.decoded == []
    assert world.call("shown", 1) == 2
    assert world.call("name", kind=Call.GET) == "guarded"
    assert len(recording.decoded) == 2


def test_authorize_comes_first_and_on_a_worker(make_world: MakeWorld) -> None:
    asked: list[tuple[str, str, str]] = []

    def authorize(client: Client, object_id: str, member: str) -> bool:
        asked.append((object_id, member, threading.current_thread().name))
        if member == "broken":
            raise SystemExit
        return member == "shown"

    world = make_world(authorize=authorize)
    world.there.add(Guarded())
    assert world.call("shown", 1) == 2
    for member, object_id in (("name", "thing"), ("broken", "thing"), ("hidden", "nothing")):
        reason, message = refusal(world.call.send(member, object_id=object_id))
        assert (reason, message) == ("ACCESS_DENIED", f"inproc:1 may not call {member!r} of {object_id!r}")
    assert [name for _, _, name in asked if not name.startswith("test-worker")] == []


def test_arguments_that_do_not_fit_or_cannot_be_read_call_nothing(world: World) -> None:
    world.there.add(Guarded())
    reason, message = refusal(world.call.send("shown"))
    assert reason == "WRONG_ARGUMENTS"
    assert "number" in message
    request = CallRequest("thing", "shown", Call.METHOD, Encoded("json", b"{not json"), chains.new_chain())
    assert refusal(world.client.call(request))[0] == "CODEC"


def test_depth_is_bounded_and_the_chain_named(world: World) -> None:
    world.there.add(Room())
    chain = chains.new_chain()
    reason, message = refusal(world.call.send("echo", 1, chain=chain, depth=65))
    assert reason == "TOO_DEEP"
    assert chain.hex() in message
    assert world.call("echo", 1, chain=chain, depth=64) == 1


def test_a_description_is_given_without_a_call(world: World) -> None:
    world.there.add(Guarded())
    found = outcome(world.call.send("", kind=Call.DESCRIBE)).value
    assert found is not None
    description = Description.FromString(bytes(found.payload))
    assert [member.name for member in description.members] == ["name", "shown"]
    assert refusal(world.call.send("", kind=Call.DESCRIBE, object_id="nothing"))[0] == "OBJECT_NOT_FOUND"


def test_properties_are_read_and_set(world: World) -> None:
    class Priced:
        _price = 1

        @property
        def price(self) -> int:
            return self._price

        @price.setter
        def price(self, value: int) -> None:
            self._price = value

    world.there.add(Priced())
    assert world.call("price", 5, kind=Call.SET) is None
    assert world.call("price", kind=Call.GET) == 5


# ---- what a method may do


class Wild:
    def __init__(self, loop: LoopThread | None = None) -> None:
        self.results: dict[str, Any] = {"unencodable": threading.Lock()}

    def fail(self, name: str) -> None:
        errors = {
            "exit": SystemExit(3), "ctrl-c": KeyboardInterrupt(), "stop": StopIteration(1), "value": ValueError("x"),
            "cancelled": asyncio.CancelledError(), "generator": GeneratorExit(),
        }  # fmt: skip
        raise errors[name]

    async def fail_later(self, name: str) -> None:
        await asyncio.sleep(0)
        self.fail(name)

    def give(self, name: str) -> object:
        return self.results[name]

    async def later(self, value: object) -> object:
        await asyncio.sleep(0.001)
        return [value, current_context.member, threading.current_thread().name]

    async def wait_for_ever(self) -> None:
        current_context.track(self)
        try:
            await asyncio.Event().wait()
        finally:
            self.results["ended"] = True

    def close(self) -> None: ...

    def with_metadata(self) -> str:
        current_context.response_metadata["answer"] = str(current_context.metadata["question"])
        return "done"

    def with_bad_metadata(self) -> None:
        current_context.response_metadata["answer"] = 42  # type: ignore[assignment]


@pytest.mark.parametrize("member", ["fail", "fail_later"])
@pytest.mark.parametrize("name", ["exit", "ctrl-c", "stop", "value", "cancelled", "generator"])
def test_whatever_a_method_raises_is_its_result_and_ends_nothing(make_world: MakeWorld, member: str, name: str) -> None:
    world = make_world(max_workers=1)
    world.there.add(Wild())
    for _ in range(2):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is the codec's matter
            world.call(member, name)
        assert isinstance(caught.value, Exception)
    assert world.call("later", 1)[:2] == [1, "later"]
    until(lambda: world.under_way == 0)


def test_a_result_that_cannot_be_encoded_is_the_servers_fault(world: World) -> None:
    world.there.add(Wild())
    found = outcome(world.call.send("give", "unencodable"))
    assert found.refused is not None
    assert found.refused.reason == "RESULT_NOT_ENCODABLE"
    assert found.refused.message.startswith("thing.give ran, and its result cannot be encoded by the server: result")
    assert found.may_have_run
    assert world.call("later", 1)[0] == 1


def test_a_value_whose_encoding_does_anything_is_still_answered(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exiting(JsonCodec):
        def encode(self, value: object, edge: broker.codecs.Edge, where: str = "value") -> Encoded:
            raise SystemExit("a class that ends the program when it is written")

    world.there.add(Room())
    monkeypatch.setitem(broker.codecs._loaded, "json", Exiting())
    reason, message = refusal(world.call.send("echo", 1))
    assert (reason, "the answer failed: SystemExit: a class that ends" in message) == ("INTERNAL", True)
    until(lambda: world.under_way == 0)


def test_a_result_that_is_too_large_is_said_so(make_world: MakeWorld) -> None:
    world = make_world()
    world.server.peer.max_message_size = 1000  # type: ignore[union-attr]
    world.there.add(Room())
    found = outcome(world.call.send("echo", "x" * 2000))
    assert found.refused is not None
    assert found.refused.reason == "MESSAGE_TOO_LARGE"
    assert found.may_have_run


def test_metadata_goes_both_ways(world: World) -> None:
    world.there.add(Wild())
    found = outcome(world.call.send("with_metadata", metadata={"question": "why"}))
    assert dict(found.metadata) == {"answer": "why"}
    reason, message = refusal(world.call.send("with_bad_metadata"))
    assert reason == "RESULT_NOT_ENCODABLE"
    assert "the response metadata cannot be written" in message


# ---- async def


def test_async_methods_run_on_the_loop_and_at_the_same_time(make_world: MakeWorld) -> None:
    world = make_world(max_workers=2)
    world.there.add(Wild())
    calls = [world.call.send("later", n) for n in range(100)]
    assert [result(call) for call in calls] == [[n, "later", "broker-loop"] for n in range(100)]


def test_an_async_method_is_stopped_when_its_caller_gives_up(world: World) -> None:
    wild = Wild()
    world.there.add(wild)
    call = world.call.send("wait_for_ever")
    until(lambda: len(world.there.sessions))
    call.cancel("no patience")
    until(lambda: wild.results.get("ended"))
    until(lambda: world.under_way == 0)


def test_an_async_method_is_stopped_when_its_time_is_over(world: World) -> None:
    wild = Wild()
    world.there.add(wild)
    call = world.call.send("wait_for_ever", deadline=time.monotonic() + 0.03)
    until(lambda: wild.results.get("ended"))
    until(lambda: world.under_way == 0)
    refused = outcome(call).refused
    assert refused is not None
    assert refused.reason == "DEADLINE_EXCEEDED"


def test_a_loop_that_is_closed_is_an_error_and_no_hang(make_world: MakeWorld) -> None:
    world = make_world()
    world.there.add(Wild())
    loop = world.there.loop.get()
    world.there.loop.stop()
    until(loop.is_closed)
    world.there.dispatcher._execution._loop = lambda: loop
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        world.call("later", 1)


def test_a_nested_async_call_needs_no_worker(make_world: MakeWorld) -> None:
    """Its result is encoded on the thread that waits for the chain."""
    world = make_world(max_workers=1)
    world.there.add(Wild(), "wild")
    world.there.add(Relay(world.call_back), "relay")
    world.here.add(Relay(world.call), "here")
    path = [("here", "pass_on"), ("wild", "later")]
    assert world.call("pass_on", path, 7, object_id="relay")[0] == 7


# ---- order


def test_oneways_of_a_lane_run_one_after_another_and_before_a_later_call(world: World) -> None:
    class Slow:
        def __init__(self) -> None:
            self.order: list[str] = []

        @oneway
        def drop(self, name: str, seconds: float) -> None:
            self.order.append(f"begin {name}")
            time.sleep(seconds)
            self.order.append(f"end {name}")

        def get(self) -> list[str]:
            return [*self.order]

    world.there.add(Slow())
    world.call.send("drop", "a", 0.05, oneway=True, lane=1)
    world.call.send("drop", "b", 0.0, oneway=True, lane=1)
    assert world.call("get", lane=1) == ["begin a", "end a", "begin b", "end b"]
    until(lambda: len(world.there.dispatcher._scheduler.lanes) == 0)


def test_calls_of_a_lane_start_in_order_and_overlap(world: World) -> None:
    room = Room()
    world.there.add(room)
    calls = [world.call.send("visit", n, lane=5) for n in range(10)]
    for _ in range(10):
        assert room.entered.acquire(timeout=SOON)
    assert room.order == list(range(10))
    assert room.most == 10
    room.leave.set()
    assert [result(call) for call in calls] == list(range(10))


def test_a_lane_goes_on_after_refusals(world: World) -> None:
    room = Room()
    world.there.add(room)
    for _ in range(300):
        world.call.send("missing", oneway=True, lane=1)
    for _ in range(300):
        world.call.send("drop", 1, oneway=True, lane=1)
    assert world.call("echo", 2, lane=1) == 2
    assert room.order == [1] * 300 + [2]


def test_lanes_do_not_wait_for_each_other(world: World) -> None:
    room = Room()
    world.there.add(room)
    world.call.send("visit", "slow", oneway=True, lane=1)
    assert room.entered.acquire(timeout=SOON)
    assert world.call("echo", 1, lane=2) == 1
    assert world.call("echo", 2) == 2
    room.leave.set()


@pytest.mark.parametrize("limit", [1, 3])
def test_max_concurrency_holds_and_in_order_of_arrival(world: World, limit: int) -> None:
    room = Room()
    world.there.add(room, max_concurrency=limit)
    calls = [world.call.send("visit", n) for n in range(12)]
    for _ in range(limit):
        assert room.entered.acquire(timeout=SOON)
    until(lambda: world.under_way == 12)
    assert not room.entered.acquire(timeout=0.02)
    room.leave.set()
    assert [result(call) for call in calls] == list(range(12))
    assert room.most == limit
    assert limit > 1 or room.order == list(range(12))


def test_the_result_is_encoded_before_the_next_call_of_the_object(world: World) -> None:
    """It may be a part of the object that the next call changes."""

    class Growing:
        def __init__(self) -> None:
            self.numbers = dict.fromkeys(range(2000))

        def grow(self) -> dict[int, None]:
            self.numbers[len(self.numbers)] = None
            return self.numbers

    world.there.add(Growing(), max_concurrency=1)
    calls = [world.call.send("grow") for _ in range(30)]
    assert [len(result(call)) for call in calls] == list(range(2001, 2031))


def test_no_more_methods_run_than_there_are_workers(make_world: MakeWorld) -> None:
    world = make_world(max_workers=3)
    room = Room()
    world.there.add(room)
    calls = [world.call.send("visit", n) for n in range(9)]
    until(lambda: world.under_way == 9)
    for _ in range(3):
        assert room.entered.acquire(timeout=SOON)
    assert not room.entered.acquire(timeout=0.02)
    room.leave.set()
    assert sorted(result(call) for call in calls) == list(range(9))
    assert room.most == 3


# ---- executors


def test_an_executor_says_on_which_threads_methods_run(world: World) -> None:
    room = Room()
    room.leave.set()
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="driver") as executor:
        world.there.add(room, executor=executor)
        calls = [world.call.send("visit", n, lane=1) for n in range(50)]
        assert [result(call) for call in calls] == list(range(50))
    assert room.order == list(range(50))
    assert {thread.name for thread in room.threads} == {"driver_0"}


def test_an_executor_that_was_shut_down_is_refused(world: World) -> None:
    executor = concurrent.futures.ThreadPoolExecutor(1)
    world.there.add(Room(), executor=executor, max_concurrency=1)
    executor.shutdown()
    for _ in range(3):
        reason, message = refusal(world.call.send("echo", 1))
        assert reason == "INTERNAL"
        assert "was not started: the executor of the object takes no calls: cannot schedule new futures" in message
    until(lambda: world.under_way == 0)


def test_a_call_that_its_executor_cancels_is_refused(world: World) -> None:
    room = Room()
    executor = concurrent.futures.ThreadPoolExecutor(1)
    world.there.add(room, executor=executor)
    first = world.call.send("visit", 1)
    assert room.entered.acquire(timeout=SOON)
    second = world.call.send("visit", 2)
    until(lambda: executor._work_queue.qsize() == 1)
    executor.shutdown(wait=False, cancel_futures=True)
    assert "the executor of the object cancelled it" in refusal(second)[1]
    room.leave.set()
    assert result(first) == 1


def test_an_executor_that_fails_is_refused_and_one_that_waits_holds_up_no_other(world: World) -> None:
    waits = threading.Event()

    class Waiting(concurrent.futures.Executor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            assert waits.wait(SOON)
            raise SystemExit("full")

    world.there.add(Room(), executor=Waiting())
    world.there.add(Room(), "other")
    call = world.call.send("echo", 1)
    assert world.call("echo", 2, object_id="other") == 2
    waits.set()
    assert "the executor of the object takes no calls: full" in refusal(call)[1]


def test_an_executor_may_run_the_call_itself(world: World) -> None:
    class Inline(concurrent.futures.Executor):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
            future: concurrent.futures.Future[Any] = concurrent.futures.Future()
            future.set_result(function(*args, **kwargs))
            return future

    world.there.add(Room(), executor=Inline())
    assert [world.call("echo", n) for n in range(3)] == [0, 1, 2]


# ---- nested calls


class Relay:
    """Passes a value on along a path of (object, member), each at the other side."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.lock = threading.RLock()
        self.threads: list[threading.Thread] = []

    def pass_on(self, path: list[list[str]], value: object) -> object:
        with self.lock:  # held by the very thread that runs the nested call
            self.threads.append(threading.current_thread())
            if not path:
                return value
            (object_id, member), *rest = path
            args = (rest, value) if member == "pass_on" else (value,)
            return self._caller(member, *args, object_id=object_id)

    def for_ever(self) -> object:
        return self._caller("for_ever", object_id="relay")

    async def tell(self, value: object) -> object:
        return value


@pytest.mark.parametrize("max_workers", [1, 16])
@pytest.mark.parametrize("max_concurrency", [None, 1])
def test_nested_calls_run_on_the_threads_that_wait(
    make_world: MakeWorld, max_workers: int, max_concurrency: int | None
) -> None:
    world = make_world(max_workers=max_workers, settings={"call_credit": 1})
    there, here = Relay(world.call_back), Relay(world.call)
    world.there.add(there, "relay", max_concurrency=max_concurrency)
    world.here.add(here, "relay", max_concurrency=max_concurrency)
    assert world.call("pass_on", [["relay", "pass_on"]] * 50, "deep", object_id="relay") == "deep"
    assert set(here.threads) == {threading.current_thread()}
    assert len(set(there.threads)) == 1
    assert (len(there.threads), len(here.threads)) == (26, 25)
    assert not chains._waiting


def test_authorize_of_a_nested_call_needs_no_worker(make_world: MakeWorld) -> None:
    world = make_world(max_workers=1, authorize=lambda client, object_id, member: True)
    world.there.add(Relay(world.call_back), "relay")
    world.here.add(Relay(world.call), "relay")
    assert world.call("pass_on", [["relay", "pass_on"]] * 6, 1, object_id="relay") == 1


def test_runaway_recursion_ends_as_an_error(make_world: MakeWorld) -> None:
    world = make_world(max_workers=2)
    world.there.add(Relay(world.call_back), "relay")
    world.here.add(Relay(world.call), "relay")
    with pytest.raises(Exception, match=r"would be more than 64 calls deep in chain [0-9a-f]{32}"):
        world.call("for_ever", object_id="relay")
    until(lambda: world.under_way == 0)


def test_a_nested_call_goes_past_a_lane(make_world: MakeWorld) -> None:
    """A oneway call of the chain waits for the gate, which the chain itself holds."""
    world = make_world(max_workers=2)

    class Busy:
        def __init__(self) -> None:
            self.order: list[str] = []

        def outer(self) -> list[str]:
            world.call_back("call_back", object_id="back")
            return self.order

        @oneway
        def drop(self) -> None:
            self.order.append("oneway")

        def inner(self) -> None:
            self.order.append("nested")

    class Back:
        def call_back(self) -> None:
            world.call.send("drop", oneway=True, lane=1)
            world.call("inner", lane=1)

    world.there.add(Busy(), max_concurrency=1)
    world.here.add(Back(), "back")
    assert world.call("outer") == ["nested"]


def test_ctrl_c_in_a_nested_call_reaches_the_program_that_waits(world: World) -> None:
    class Interrupted:
        def pressed(self, value: object) -> None:
            raise KeyboardInterrupt

    world.there.add(Relay(world.call_back), "relay")
    world.here.add(Interrupted(), "here")
    assert threading.current_thread() is threading.main_thread()
    call = world.call.send("pass_on", [["here", "pressed"]], 1, object_id="relay")
    with pytest.raises(KeyboardInterrupt):
        outcome(call)
    call.cancel("interrupted")
    until(lambda: world.under_way == world.here.dispatcher.under_way == 0)


# ---- time and cancelling


def test_a_call_that_is_cancelled_in_its_queue_is_not_started(world: World) -> None:
    room = Room()
    world.there.add(room, max_concurrency=1)
    first = world.call.send("visit", 1)
    assert room.entered.acquire(timeout=SOON)
    second = world.call.send("visit", 2)
    until(lambda: world.under_way == 2)
    second.cancel("no time")
    assert world.client.ping(SOON)  # it has arrived there
    room.leave.set()
    assert result(first) == 1
    until(lambda: world.under_way == 0)
    assert room.order == [1]


def test_a_call_whose_time_is_over_in_its_queue_is_not_started(world: World) -> None:
    room = Room()
    world.there.add(room, max_concurrency=1)
    first = world.call.send("visit", 1)
    assert room.entered.acquire(timeout=SOON)
    second = world.call.send("visit", 2, deadline=time.monotonic() + 0.02)
    time.sleep(0.03)
    room.leave.set()
    assert result(first) == 1
    reason, message = refusal(second)
    assert reason == "DEADLINE_EXCEEDED"
    assert "waited until its time was over" in message
    assert room.order == [1]


@pytest.mark.parametrize("why", ["cancel", "loss", "deadline"])
def test_a_method_is_told_that_nobody_waits(world: World, why: str) -> None:
    room = Room()
    world.there.add(room)
    deadline = time.monotonic() + 0.5 if why == "deadline" else None
    call = world.call.send("cancelled", deadline=deadline)
    assert room.entered.acquire(timeout=SOON)
    if why == "cancel":
        call.cancel("over")
    elif why == "loss":
        world.client.lost("the client is gone")
    until(lambda: room.order == ["cancelled"])
    until(lambda: world.under_way == 0)


def test_callbacks_of_users_run_neither_on_the_reader_nor_on_the_timer(make_world: MakeWorld) -> None:
    """They may call back over the very connection, and wait for the answer."""
    world = make_world()

    class Calling:
        def __init__(self) -> None:
            self.answers: list[Any] = []
            self.entered = threading.Semaphore(0)

        def wait(self) -> None:
            current_context.on_cancel(lambda: self.answers.append(world.call_back("tell", 1, object_id="relay")))
            self.entered.release()
            current_context.wait_cancelled(SOON)

    calling = Calling()
    world.there.add(calling)
    world.here.add(Relay(world.call), "relay")
    for seconds in (None, 0.5):  # enough for a busy machine to start the call
        call = world.call.send("wait", deadline=time.monotonic() + seconds if seconds else None)
        assert calling.entered.acquire(timeout=SOON)
        if seconds is None:
            call.cancel("over")
        else:
            outcome(call)
    until(lambda: calling.answers == [1, 1])


def test_what_nobody_can_receive_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def fail(self) -> None:
            entered.release()
            current_context.wait_cancelled(SOON)
            raise ValueError("nobody hears this")

        @oneway
        def drop(self) -> None:
            raise ValueError("nor this")

    entered = threading.Semaphore(0)
    world.there.add(Failing())
    call = world.call.send("fail")
    assert entered.acquire(timeout=SOON)
    call.cancel("over")
    world.call.send("drop", oneway=True)
    world.call.send("missing", oneway=True)
    until(lambda: len(caplog.records) == 3)
    text = caplog.text
    assert "call that nobody waits for (over) of thing.fail failed" in text
    assert "ValueError: nobody hears this" in text
    assert "oneway call of thing.drop failed" in text
    assert "oneway call refused: 'thing' at here:1 has no remote member 'missing'" in text
    assert {record.levelname for record in caplog.records} == {"WARNING"}


# ---- before the start, and the end


def test_calls_before_the_start_wait_for_it_and_keep_their_order(make_world: MakeWorld) -> None:
    world = make_world(start=False)
    room = Room()
    world.there.add(room, max_concurrency=1)
    calls = [world.call.send("echo", n, lane=1, oneway=n % 2 == 0) for n in range(100)]
    until(lambda: world.under_way == 100)
    assert room.order == []
    starter = threading.Thread(target=world.there.dispatcher.start)
    starter.start()
    calls += [world.call.send("echo", n, lane=1) for n in range(100, 150)]  # these arrive as it starts
    starter.join()
    assert result(calls[-1]) == 149
    assert room.order == list(range(150))
    for call in calls[1:100:2]:
        assert outcome(call).value is not None


def test_what_waits_for_the_start_is_told_after_a_second(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(start=False)
    world.there.add(Room())
    calls = [world.call.send("echo", n) for n in range(3)]
    until(lambda: caplog.messages)
    assert caplog.messages == ["3 calls wait at here:1: the daemon has not been started (start() or request_loop())"]
    world.there.dispatcher.start()
    assert [result(call) for call in calls] == [0, 1, 2]


def test_draining_takes_no_further_call_and_waits_for_those_under_way(world: World) -> None:
    room = Room()
    world.there.add(room)
    call = world.call.send("visit", 1)
    assert room.entered.acquire(timeout=SOON)
    drained = threading.Event()
    drainer = threading.Thread(target=both(lambda: world.there.dispatcher.drain(time.monotonic() + SOON), drained.set))
    drainer.start()
    until(lambda: world.there.dispatcher._under_way.draining)
    found = outcome(world.call.send("echo", 2))
    assert (found.lost, found.may_have_run) == ("the daemon is shutting down and takes no further calls", False)
    assert not drained.is_set()
    room.leave.set()
    assert result(call) == 1
    assert drained.wait(SOON)
    drainer.join()


def test_draining_cancels_what_does_not_end_in_time(make_world: MakeWorld) -> None:
    world = make_world(max_workers=1)
    room = Room()
    world.there.add(room)
    running, queued = world.call.send("cancelled"), world.call.send("echo", 1)
    assert room.entered.acquire(timeout=SOON)
    until(lambda: world.under_way == 2)
    world.there.dispatcher.drain(time.monotonic())
    assert result(running) is True
    found = outcome(queued)  # it never began, and may be sent elsewhere
    assert (found.lost is not None, found.may_have_run) == (True, False)
    assert room.order == ["cancelled"]


def test_draining_before_the_start_refuses_what_waits(make_world: MakeWorld) -> None:
    world = make_world(start=False)
    world.there.add(Room())
    call = world.call.send("echo", 1)
    until(lambda: world.under_way == 1)
    world.there.dispatcher.drain(time.monotonic() + SOON)
    assert outcome(call).lost is not None


# ---- sessions


class Keeping:
    made: list[Keeping]
    closed: list[object]

    def __init__(self) -> None:
        self.number = len(self.made)
        self.made.append(self)

    def __len__(self) -> int:
        return 0

    def which(self) -> int:
        return self.number

    def fail(self) -> object:
        return threading.Lock()

    def hold(self) -> None:
        current_context.track(self)

    def hold_late(self) -> None:
        entered.release()
        current_context.wait_cancelled(SOON)
        leave.wait(SOON)
        current_context.track(self)

    def close(self) -> None:
        self.closed.append(self.number)


entered, leave = threading.Semaphore(0), threading.Event()


@pytest.fixture
def keeping() -> type[Keeping]:
    global entered
    entered = threading.Semaphore(0)
    leave.clear()
    return type("Keeping", (Keeping,), {"made": [], "closed": []})


def test_a_session_has_an_instance_of_its_own_made_once(make_world: MakeWorld, keeping: type[Keeping]) -> None:
    world = make_world(max_workers=64)
    world.there.add(keeping)
    calls = [world.call.send("which", session=1) for _ in range(50)]
    assert {result(call) for call in calls} == {0}
    assert world.call("which", session=2) == 1
    assert [outcome(call).kept for call in calls] == [True] * 50
    assert len(keeping.made) == 2


def test_a_session_that_keeps_nothing_is_not_held(world: World) -> None:
    world.there.add(Room())
    assert not outcome(world.call.send("echo", 1, session=3)).kept
    assert len(world.there.sessions) == 0


def test_even_a_refusal_says_that_the_session_is_kept(world: World, keeping: type[Keeping]) -> None:
    world.there.add(keeping)
    found = outcome(world.call.send("fail", session=1))
    assert found.refused is not None
    assert found.kept


def test_a_percall_class_keeps_nothing(world: World, keeping: type[Keeping]) -> None:
    world.there.add(behavior(instance_mode="percall")(keeping))
    assert [world.call("which", session=1) for _ in range(3)] == [0, 1, 2]
    assert len(world.there.sessions) == 0


@pytest.mark.parametrize("end", ["close", "loss"])
def test_resources_are_closed_with_their_session(world: World, keeping: type[Keeping], end: str) -> None:
    world.there.add(keeping)
    world.call("hold", session=1)
    assert keeping.closed == []
    if end == "close":
        world.client.close_session(1)
    else:
        world.client.lost("the client is gone")
    until(lambda: keeping.closed == [0])
    assert len(world.there.sessions) == 0


@pytest.mark.parametrize("end", ["close", "loss"])
def test_what_a_call_tracks_after_its_session_ended_is_closed_too(
    world: World, keeping: type[Keeping], end: str
) -> None:
    world.there.add(keeping)
    call = world.call.send("hold_late", session=1)
    assert entered.acquire(timeout=SOON)
    if end == "close":
        world.client.close_session(1)
        assert world.client.ping(SOON)
        call.cancel("over")
    else:
        world.client.lost("the client is gone")
        until(lambda: world.server.ended_because)
    leave.set()
    until(lambda: world.under_way == 0)
    until(lambda: keeping.closed == [0])
    assert len(world.there.sessions) == 0
    assert world.there.dispatcher._under_way._ended == {}


# ---- a line that is full


def test_a_congested_connection_starts_no_further_calls(make_world: MakeWorld) -> None:
    world = make_world(settings={"outbox_limit": 1000})
    room = Room()
    world.there.add(room)
    with world.server._line.lock:
        world.server._line.outbox.bytes += 2000
    calls = [world.call.send("echo", n) for n in range(5)]
    until(lambda: world.under_way == 5)
    assert not room.order
    with world.server._line.lock:
        world.server._line.outbox.bytes -= 2000
    assert world.client.ping(SOON)  # the next message makes room
    assert [result(call) for call in calls] == [0, 1, 2, 3, 4]


def test_stress_leaves_nothing_behind(make_world: MakeWorld) -> None:
    world = make_world(max_workers=4, settings={"call_credit": 8})
    room = Room()
    room.leave.set()
    world.there.add(room, max_concurrency=2)
    world.there.add(Wild(), "wild")
    world.there.add(Relay(world.call_back), "relay")
    world.here.add(Relay(world.call), "relay")

    def work(seed: int) -> None:
        for n in range(60):
            match (n + seed) % 6:
                case 0:
                    assert world.call("echo", n) == n
                case 1:
                    assert world.call("later", n, object_id="wild")[0] == n
                case 2:
                    world.call.send("drop", n, oneway=True, lane=seed)
                case 3:
                    assert world.call("pass_on", [["relay", "pass_on"]] * 5, n, object_id="relay") == n
                case 4:
                    world.call.send("visit", n, lane=seed).cancel("over")
                case 5:
                    assert refusal(world.call.send("missing", lane=seed))[0] == Reason.MEMBER_NOT_FOUND

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    until(lambda: world.under_way == world.here.dispatcher.under_way == 0)
    until(lambda: not world.client.busy and not world.server.busy)
    assert len(world.there.dispatcher._scheduler.lanes) == 0
    assert not chains._waiting
    assert (world.client.ended_because, world.server.ended_because) == (None, None)
