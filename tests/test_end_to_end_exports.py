"""Objects and functions that a client exports, and a daemon calls back: with real daemons."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

import broker
from broker import descriptions, errors
from broker._pb.broker_pb2 import Call
from broker.codecs import Encoded
from broker.connection.calls import CallRequest
from broker.connection.chains import new_chain
from broker.connection.client import ClientConnection, pool
from broker.connection.engine import Connection, Settings
from broker.connection.opening import Place
from broker.dispatch import execution

pytestmark = pytest.mark.usefixtures("either_way")

SOON = 40.0


@dataclass
class Quote:
    symbol: str
    price: float


class Hub:
    """Keeps what it is given, and calls it when it is told to."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.threads: list[threading.Thread] = []

    def keep(self, *callbacks: Any) -> int:
        self.kept += callbacks
        return len(self.kept)

    def drop(self, callback: Any) -> int:
        self.kept.remove(callback)
        return len(self.kept)

    def drop_all(self) -> None:
        self.kept.clear()

    def call(self, *args: Any) -> list[Any]:
        return [callback(*args) for callback in self.kept]

    def call_now(self, callback: Any, *args: Any) -> Any:
        return callback(*args)

    def call_add(self, thing: Any) -> Any:
        return thing.add(1, 2)

    def call_with_timeout(self, callback: Any, timeout: float) -> Any:
        callback._broker.set("timeout", timeout)
        return callback()

    def later(self, callback: Any, *args: Any) -> None:
        """Calls from a thread of its own, after this call has returned."""
        thread = threading.Timer(0.05, callback, args)
        self.threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Waits until all that `later` began has ended."""
        while self.threads:
            self.threads.pop().join(SOON)

    def echo(self, value: Any) -> Any:
        return value

    def describe(self, value: Any) -> tuple[str, str, bool]:
        return type(value).__name__, str(value._broker.uri), value._broker.connected

    def exercise(self, thing: Any) -> list[Any]:
        """Every kind of call."""
        thing.level = 5
        thing["k"] = "v"
        future = thing.add.future(3, 4)
        results = [thing.add(1, 2), thing.level, len(thing), thing["k"], "k" in thing, list(thing), thing(9)]
        thing.note.oneway("oneway")
        while not (notes := thing.notes()):  # a call inside a call waits for nothing, nor for that
            time.sleep(0.001)
        return [*results, future.result(SOON), notes]

    def quotes(self, callback: Any) -> str:
        return str(callback(Quote("ACME", 1.5)))


class Thing:
    """What a client exports as an object."""

    attribute = "never remote"

    def __init__(self) -> None:
        self._level = 0
        self._values: dict[str, str] = {}
        self._notes: list[str] = []

    def add(self, a: int, b: int) -> int:
        """Adds."""
        return a + b

    @property
    def level(self) -> int:
        return self._level

    @level.setter
    def level(self, value: int) -> None:
        self._level = value

    def note(self, text: str) -> None:
        self._notes.append(text)

    def notes(self) -> list[str]:
        return self._notes

    def __len__(self) -> int:
        return 7

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __setitem__(self, key: str, value: str) -> None:
        self._values[key] = value

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __call__(self, value: int) -> int:
        return value + 1

    def _private(self) -> None: ...


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


@pytest.fixture
def hub(daemon: broker.Daemon) -> Any:
    return broker.Proxy(daemon.register(Hub(), "hub"))


def references(daemon: broker.Daemon) -> int:
    return daemon.stats().exports


def given(proxy: Any) -> int:
    """How many objects of this process the other side of the proxy's connection holds."""
    return int(proxy._broker._remote.session.connection.engine.exports.given)


def eventually(condition: Callable[[], object], timeout: float = SOON) -> None:
    give_up = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def double(value: int) -> int:
    return 2 * value


# ---- what can be called, and from where


def test_a_function_is_called_back_during_the_call_on_the_thread_that_waits(hub: Any) -> None:
    threads = []

    def callback(value: int) -> int:
        threads.append(threading.current_thread())
        return 2 * value

    assert hub.call_now(broker.export(callback), 21) == 42
    assert threads == [threading.current_thread()]


def test_a_function_is_called_back_long_after_and_from_another_thread(hub: Any) -> None:
    got: list[int] = []
    arrived = threading.Event()

    def callback(value: int) -> None:
        got.append(value)
        arrived.set()

    hub.later(broker.export(callback), 3)
    assert arrived.wait(SOON)
    assert got == [3]
    hub.join()


def test_what_was_kept_is_called_by_later_calls(hub: Any) -> None:
    assert hub.keep(broker.export(double)) == 1
    assert hub.call(4) == [8]
    assert hub.call(5) == [10]


def test_every_kind_of_call_reaches_an_exported_object(hub: Any) -> None:
    results = hub.exercise(broker.export(Thing()))
    assert results == [3, 5, 7, "v", True, ["k"], 10, 7, ["oneway"]]


@pytest.mark.parametrize(
    "wrapped",
    [lambda f: [f], lambda f: {"deep": [(f, {1: f})]}, lambda f: (f, f)],
)
def test_an_export_may_lie_at_any_depth(hub: Any, wrapped: Callable[[Any], Any]) -> None:
    value = wrapped(broker.export(double))
    returned = hub.echo(value)
    assert returned == wrapped(double)  # its owner gets the function itself back


def test_what_is_exported_can_be_a_bound_method_a_builtin_a_partial(hub: Any) -> None:
    items: list[int] = []
    hub.call_now(broker.export(items.append), 3)
    assert items == [3]
    assert hub.call_now(broker.export(Thing().add), 1, 2) == 3
    assert hub.call_now(broker.export(functools.partial(pow, 2)), 5) == 32
    assert hub.call_now(broker.export(lambda: "lambda")) == "lambda"


def test_an_object_that_is_passed_again_is_not_asked_again_what_it_has(
    hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[str] = []

    def describe(object_id: str, *args: Any) -> Any:
        described.append(object_id)
        return descriptions.describe(object_id, *args)

    monkeypatch.setattr(execution, "describe", describe)
    first, second = broker.export(Thing()), broker.export(Thing())
    for _ in range(3):
        assert hub.call_add(first) == hub.call_add(second) == 3
        gc.collect()  # nothing of them is left at the daemon
    assert sorted(described) == sorted({*described})
    assert len(described) == 3  # the hub is the third


def test_functions_that_are_alike_are_told_apart(hub: Any) -> None:
    def adding(number: int) -> Callable[[int], int]:
        return lambda value: value + number

    def defaulting(number: int) -> Callable[..., int]:
        return lambda value=number: value

    def marked(price: float) -> Callable[[Quote], float]:
        def callback(quote: Quote) -> float:
            return quote.price + price

        return callback

    for number in range(3):
        assert hub.call_now(broker.export(adding(number)), 10) == 10 + number
        assert hub.call_now(broker.export(defaulting(number))) == number
        assert hub.call_now(broker.export(marked(number)), Quote("ACME", 1.5)) == 1.5 + number
        thing = Thing()
        thing.level = number
        assert hub.call_now(broker.export(thing.notes)) == []
        with pytest.raises(TypeError, match=r"missing (a|1) required"):
            hub.call_now(broker.export(adding(number)))


def test_async_functions_run_on_a_loop_of_this_process(hub: Any) -> None:
    async def callback(value: int) -> int:
        await asyncio.sleep(0.001)
        return value + 1

    assert hub.call_now(broker.export(callback), 1) == 2


def test_exported_in_a_running_loop_they_run_there(hub: Any) -> None:
    loops: list[object] = []

    async def callback() -> None:
        await asyncio.sleep(0.001)
        loops.append(asyncio.get_running_loop())

    async def program() -> tuple[object, object]:
        exported = broker.export(callback)
        await asyncio.to_thread(hub.call_now, exported)
        hub.call_now(exported)  # blocks the loop, which cannot run it then
        return asyncio.get_running_loop(), exported

    loop, exported = asyncio.run(program())
    hub.call_now(exported)  # the loop is over
    assert loops[0] is loop
    assert loops[1] is not loop
    assert loops[2] is loops[1]


def test_what_a_callback_raises_arrives_with_its_traceback(hub: Any) -> None:
    def callback() -> None:
        raise ValueError("no such quote")

    with pytest.raises(ValueError, match="no such quote") as caught:
        hub.call_now(broker.export(callback))
    assert "in callback" in errors.get_remote_traceback(caught.value)


def test_values_of_the_hints_arrive_as_what_they_were(hub: Any) -> None:
    got: list[Quote] = []

    def callback(quote: Quote) -> str:
        got.append(quote)
        return quote.symbol

    assert hub.quotes(broker.export(callback)) == "ACME"
    assert got == [Quote("ACME", 1.5)]


def test_an_executor_and_a_limit_hold_for_an_export(hub: Any) -> None:
    names: list[str] = []
    with ThreadPoolExecutor(1, thread_name_prefix="gui") as executor:
        exported = broker.export(lambda: names.append(threading.current_thread().name), executor=executor)
        done = threading.Event()
        hub.later(exported)
        hub.later(broker.export(done.set))
        assert done.wait(SOON)
        hub.join()
    assert names[0].startswith("gui")


def test_calls_of_a_limited_export_run_one_after_another(hub: Any) -> None:
    running, most, done = [0], [0], threading.Semaphore(0)

    def callback() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.005)
        running[0] -= 1
        done.release()

    exported = broker.export(callback, max_concurrency=1)
    for _ in range(10):
        hub.later(exported)
    for _ in range(10):
        assert done.acquire(timeout=SOON)
    hub.join()
    assert most == [1]


def test_a_daemon_returns_exports_of_its_own(daemon: broker.Daemon) -> None:
    class Factory:
        def __init__(self) -> None:
            self.made: list[Thing] = []

        def make(self) -> Any:
            self.made.append(Thing())
            return broker.export(self.made[-1])

        def is_mine(self, thing: Any) -> bool:
            return any(thing is made for made in self.made)

    factory: Any = broker.Proxy(daemon.register(Factory()))
    thing = factory.make()
    assert thing.add(1, 2) == 3
    assert thing.add.__doc__ == "Adds."
    assert factory.is_mine(thing)
    assert references(daemon) == 1
    del thing
    eventually(lambda: references(daemon) == 0)


def test_calls_back_and_forth_nest(daemon: broker.Daemon) -> None:
    class Ladder:
        def climb(self, height: int, other: Any) -> int:
            return 0 if height == 0 else 1 + int(other(height - 1, broker.export(self.climb)))

    ladder: Any = broker.Proxy(daemon.register(Ladder()))

    def climb(height: int, other: Any) -> int:
        return 0 if height == 0 else 1 + int(other(height - 1, broker.export(climb)))

    assert climb(50, ladder.climb) == 50
    with pytest.raises(errors.BrokerError, match="deep"):
        climb(100, ladder.climb)


# ---- with all other kinds of calls


class Mixer:
    """Calls its callers back in every way there is, and gives exports of its own in all kinds of results."""

    def __init__(self) -> None:
        self.made = [Thing(), Thing()]

    def send_and_submit(self, callback: Any) -> list[Any]:
        broker.send(callback, "sent")
        return [broker.submit(callback, number).result(SOON) for number in range(3)]

    def batch(self, thing: Any) -> list[Any]:
        batch = broker.Batch(thing)
        batch.add(1, 2)
        batch.add(3, 4)
        return list(batch())

    async def awaiting(self, uri: str) -> Any:
        hub = broker.AsyncProxy(uri)
        return await hub.call_now(broker.export(self.later), 4)

    async def later(self, value: int) -> int:
        await asyncio.sleep(0.001)
        return 3 * value

    def stream(self) -> Iterator[Any]:
        for thing in self.made:
            yield broker.export(thing)

    def countdown(self, callback: Any) -> list[int]:
        return list(callback(3))


@pytest.fixture
def mixer(daemon: broker.Daemon) -> Any:
    return broker.Proxy(daemon.register(Mixer(), "mixer"))


def test_exported_functions_can_be_sent_and_submitted(mixer: Any) -> None:
    got = []
    sent = threading.Event()

    def callback(value: Any) -> Any:
        got.append(value)
        if value == "sent":
            sent.set()
        return value

    assert mixer.send_and_submit(broker.export(callback)) == [0, 1, 2]
    assert sent.wait(SOON)


def test_batches_hold_exports_and_are_of_exports(mixer: Any, hub: Any, daemon: broker.Daemon) -> None:
    assert mixer.batch(broker.export(Thing())) == [3, 7]
    batch = broker.Batch(hub)
    batch.call_now(broker.export(double), 1)
    batch.echo([broker.export(double)])
    batch.keep(broker.export(double))
    assert list(batch()) == [2, [double], 1]
    assert references(daemon) == 1


def test_a_generator_gives_exports(mixer: Any, daemon: broker.Daemon) -> None:
    things = list(mixer.stream())
    assert [thing.add(2, 2) for thing in things] == [4, 4]
    assert references(daemon) == 2
    del things
    eventually(lambda: references(daemon) == 0)
    for thing in mixer.stream():
        assert thing.add(1, 1) == 2
        break
    del thing
    eventually(lambda: references(daemon) == 0)


def test_an_exported_generator_streams(mixer: Any) -> None:
    def countdown(start: int) -> Iterator[int]:
        yield from range(start, 0, -1)

    assert mixer.countdown(broker.export(countdown)) == [3, 2, 1]


def test_a_coroutine_exports_and_is_called_back(mixer: Any, hub: Any) -> None:
    assert mixer.awaiting(str(hub._broker.uri)) == 12

    async def program() -> list[Any]:
        loop, seen = asyncio.get_running_loop(), []

        async def callback(value: int) -> int:
            seen.append(asyncio.get_running_loop() is loop)
            return value + 1

        proxy = broker.AsyncProxy(hub._broker.uri)
        results = await asyncio.gather(*(proxy.call_now(broker.export(callback), n) for n in range(20)))
        await proxy.keep(broker.export(callback))
        return [results, set(seen), await proxy.call(5)]

    assert asyncio.run(program()) == [list(range(1, 21)), {True}, [6]]


def test_pickle_carries_exports_as_json_does() -> None:
    with broker.Daemon(codecs=("json", "pickle")) as daemon:
        hub: Any = broker.Proxy(daemon.register(Hub()), codec="pickle")
        assert hub.call_now(broker.export(double), 4) == 8
        assert hub.echo({"deep": broker.export(double)}) == {"deep": double}
        hub.keep(broker.export(double))
        assert hub.call(3) == [6]
        assert hub.drop(broker.export(double)) == 0


# ---- what it is on the other side


def test_equal_functions_are_equal_proxies_on_the_other_side(hub: Any) -> None:
    thing = Thing()
    hub.keep(broker.export(thing.add), broker.export(double), broker.export(thing))
    assert hub.drop(broker.export(thing.add)) == 2
    assert hub.drop(broker.export(thing)) == 1
    assert hub.drop(broker.export(double)) == 0
    hub.keep(broker.export(Thing().add))
    with pytest.raises(ValueError, match=r"not in list|x not in list"):
        hub.drop(broker.export(Thing().add))


def test_its_uri_names_the_connection(hub: Any) -> None:
    kind, uri, connected = hub.describe(broker.export(double))
    assert kind == "Proxy"
    assert uri.startswith("BROKER:@")
    assert "@./c:" in uri
    assert connected
    with pytest.raises(errors.CommunicationError, match="only the proxy that arrived"):
        broker.Proxy(uri).anything()


def test_only_exposed_members_are_remote(daemon: broker.Daemon) -> None:
    class Probing:
        def probe(self, thing: Any, name: str) -> Any:
            return getattr(thing, name)

    class Guarded:
        @broker.expose
        def shown(self) -> str:
            return "shown"

        def hidden(self) -> str:
            raise AssertionError("called")

    probing: Any = broker.Proxy(daemon.register(Probing()))
    with pytest.raises(AttributeError, match=r"export \d+ of .* has no remote member 'attribute'"):
        probing.probe(broker.export(Thing()), "attribute")
    with pytest.raises(AttributeError, match="no remote member 'hidden'"):
        probing.probe(broker.export(Guarded()), "hidden")
    with pytest.raises(AttributeError, match="never remote"):
        probing.probe(broker.export(Thing()), "_private")
    with pytest.raises(AttributeError, match="never remote"):
        probing.probe(broker.export(double), "__globals__")


def test_a_third_process_cannot_be_given_it(daemon: broker.Daemon, hub: Any) -> None:
    class Gossip:
        def __init__(self, other: str) -> None:
            self.other = other

        def tell(self, callback: Any) -> Any:
            return broker.Proxy(self.other, local=False).keep(callback)

        def pickled(self, callback: Any) -> bytes:
            return pickle.dumps(callback)

        def copied(self, callback: Any) -> int:
            twin = copy.copy(callback)
            assert twin == callback
            return int(twin(4))

    with broker.Daemon() as other:
        gossip: Any = broker.Proxy(other.register(Gossip(str(hub._broker.uri))))
        with pytest.raises(errors.RemoteError, match="register it with a daemon") as caught:
            gossip.tell(broker.export(double))
        assert caught.value.type.endswith("CodecError")
        with pytest.raises(errors.RemoteError, match="register it with a daemon"):
            gossip.pickled(broker.export(double))
        assert gossip.copied(broker.export(double)) == 8
    assert hub.call(1) == []


def test_a_name_server_takes_no_export(daemon: broker.Daemon) -> None:
    class Registrar:
        def enter(self, callback: Any) -> None:
            broker.start_ns  # noqa: B018 - it is there
            names = broker.NameServer.__new__(broker.NameServer)
            names.register("example.callback", callback)

    registrar: Any = broker.Proxy(daemon.register(Registrar()))
    with pytest.raises(TypeError, match="register it with a daemon"):
        registrar.enter(broker.export(double))


def test_a_unary_caller_cannot_be_given_one(daemon: broker.Daemon) -> None:
    import grpc

    from broker._pb import broker_pb2 as wire

    class Giver:
        def give(self) -> Any:
            return broker.export(double)

    daemon.register(Giver(), "giver")
    with grpc.insecure_channel(f"localhost:{daemon.address[1]}") as channel:
        invoke = channel.unary_unary(
            "/broker.v1.ObjectBroker/Invoke",
            request_serializer=wire.InvokeRequest.SerializeToString,
            response_deserializer=wire.InvokeResponse.FromString,
        )
        for request in (
            wire.InvokeRequest(object="giver", method="give"),
            wire.InvokeRequest(object="giver", method="give", plain=True),
            wire.InvokeRequest(object="giver", method="give", encoded=wire.Encoded(codec="json", payload=b"[[],{}]")),
            wire.InvokeRequest(object="@1", method="give"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                invoke(request, timeout=SOON)
            expected = "no object '@1'" if request.object == "@1" else "register the object with a daemon"
            assert expected in str(caught.value)


def test_what_cannot_be_exported_says_so(hub: Any) -> None:
    for wrong, message in ((Thing, "export an instance"), (3, "travel as copies"), (hub, "pass it on as it is")):
        with pytest.raises(TypeError, match=message):
            broker.export(wrong)
    with pytest.raises(TypeError, match="no public method"):
        broker.export(object())
    with pytest.raises(errors.CodecError, match=r"wrap it in broker\.export"):
        hub.keep(double)
    limited = Thing()
    exported = broker.export(limited, max_concurrency=2)
    assert broker.export(limited) == exported
    assert broker.export(exported) is exported
    with pytest.raises(ValueError, match="exists, with another max_concurrency"):
        broker.export(limited, max_concurrency=1)


def test_used_here_an_export_is_the_object_itself() -> None:
    thing = Thing()
    exported = broker.export(thing)
    exported.level = 3
    assert (thing.level, exported.add(1, 2), exported(1)) == (3, 3, 2)
    assert copy.deepcopy(exported) is exported
    assert repr(exported).endswith("of the Thing object>")
    with pytest.raises(AttributeError):
        _ = exported._level
    with pytest.raises(errors.CodecError, match="cannot be pickled"):
        pickle.dumps(exported)


def test_a_number_counts_on_the_connection_that_it_was_passed_on_and_nowhere_else(
    hub: Any, daemon: broker.Daemon
) -> None:
    class Maker:
        def make(self) -> Any:
            return broker.export(double)

    maker: Any = broker.Proxy(daemon.register(Maker()))
    made = maker.make()
    number = made._broker.uri.object
    hub.keep(broker.export(Thing()))
    (served,) = daemon._connects.connections
    stranger = ClientConnection(Place("localhost", daemon.address[1], None, None), Settings())
    stranger.open(10)
    exported = [f"@{n}" for n in range(int(number[1:]) + 10)]
    for engine, own in ((stranger.engine, None), (served, 1), (hub._broker._remote.session.connection.engine, 1)):
        found = [
            name for name in [*exported, "@", "@-1", "@1x", "@" + "9" * 20, "@" + "9" * 5_000] if _answers(engine, name)
        ]
        assert len(found) == (own or 0)
    stranger.engine.close("the test is over")
    assert made(2) == 4


def _answers(engine: Connection, object_id: str) -> bool:
    request = CallRequest(object_id, "", Call.DESCRIBE, Encoded("json", b""), chain=new_chain())
    outcome = engine.call(request).wait(time.monotonic() + SOON)
    assert outcome is not None
    assert outcome.value is not None or (outcome.refused is not None and outcome.refused.reason == "OBJECT_NOT_FOUND")
    return outcome.value is not None


# ---- how long it lives


def test_it_lives_while_the_other_side_holds_it_and_no_longer(hub: Any, daemon: broker.Daemon) -> None:
    gone = threading.Event()

    class Ending(Thing):
        def __del__(self) -> None:
            gone.set()

    hub.keep(broker.export(Ending()))
    gc.collect()
    assert not gone.is_set()
    assert hub.call(1) == [2]
    assert (references(daemon), given(hub)) == (1, 1)
    hub.drop_all()
    assert gone.wait(SOON)
    eventually(lambda: (references(daemon), given(hub)) == (0, 0))


def test_passed_and_dropped_they_leave_nothing_behind(hub: Any, daemon: broker.Daemon) -> None:
    for number in range(200):
        hub.call_now(broker.export(lambda number=number: number))
    eventually(lambda: (references(daemon), given(hub)) == (0, 0))
    kept = broker.export(double)
    threads = [threading.Thread(target=lambda: [hub.call_now(kept, 1) for _ in range(10)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    eventually(lambda: (references(daemon), given(hub)) == (0, 0))


def test_the_connection_stays_while_an_export_of_either_side_lives(
    hub: Any, daemon: broker.Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.connection.client.LINGER_SECONDS", 0.0)
    got = threading.Event()
    hub.keep(broker.export(got.set))
    place = hub._broker._remote._place[1]
    hub._broker.close()
    time.sleep(1.5)  # two sweeps
    assert pool.find(place) is not None
    broker.Proxy(hub._broker.uri).call()
    assert got.is_set()
    broker.Proxy(hub._broker.uri).drop_all()
    eventually(lambda: pool.find(place) is None)


def test_after_the_connection_is_gone_calls_say_so(hub: Any, daemon: broker.Daemon) -> None:
    kept = Hub()
    other: Any = broker.Proxy(daemon.register(kept))
    other.keep(broker.export(double))
    (callback,) = kept.kept
    assert callback(2) == 4
    other._broker._remote.session.connection.engine.close("the test ends it")
    eventually(lambda: not callback._broker.connected)
    for use in (lambda: callback(2), lambda: callback.add, lambda: len(callback), callback._broker.ping):
        with pytest.raises(errors.ConnectionClosedError, match="connection over which it came is gone") as caught:
            use()
        assert not caught.value.may_have_run
    with pytest.raises(errors.BrokerError, match="gone with its connection"):
        callback._broker.on_reconnect(print)
    assert repr(callback).endswith("not connected>")
