"""Calls over real sockets: what a user does with a daemon and a proxy."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

import broker
from broker import errors
from broker.connection.client import pool

pytestmark = pytest.mark.usefixtures("every_way")


@dataclass
class Order:
    item: str
    number: int = 1


class Warehouse:
    """A store room that everyone can visit."""

    def __init__(self) -> None:
        self.contents = ["chair", "bike", "flashlight", "laptop", "couch"]
        self.depot = "north"
        self._owner = "nobody"

    def list_contents(self) -> list[str]:
        """What is there."""
        return self.contents

    def take(self, name: str, item: str = "couch") -> None:
        """Somebody takes an item."""
        self.contents.remove(item)

    def store(self, name: str, item: str) -> None:
        self.contents.append(item)

    def order(self, order: Order, *more: Order, urgent: bool = False) -> Order:
        return Order(order.item, order.number + len(more) + urgent)

    @property
    def owner(self) -> str:
        return self._owner

    @owner.setter
    def owner(self, name: str) -> None:
        self._owner = name

    @property
    def size(self) -> int:
        return len(self.contents)

    async def later(self, value: int) -> int:
        await asyncio.sleep(0.001)
        return value + 1

    async def fails_later(self) -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    def __len__(self) -> int:
        return len(self.contents)

    def __getitem__(self, index: int) -> str:
        return self.contents[index]

    def __setitem__(self, index: int, item: str) -> None:
        self.contents[index] = item

    def __delitem__(self, index: int) -> None:
        del self.contents[index]

    def __call__(self, name: str) -> str:
        return f"hello {name}"


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


@pytest.fixture
def proxy(daemon: broker.Daemon) -> Any:
    return broker.Proxy(daemon.register(Warehouse(), "example.warehouse"))


def test_methods_return_and_change_the_object(proxy: Any) -> None:
    proxy.store("Henry", "lamp")
    proxy.take("Janet", item="couch")
    assert proxy.list_contents() == ["chair", "bike", "flashlight", "laptop", "lamp"]


def test_properties_are_read_and_set(proxy: Any) -> None:
    assert (proxy.owner, proxy.size) == ("nobody", 5)
    proxy.owner = "Janet"
    assert proxy.owner == "Janet"
    with pytest.raises(AttributeError, match=r"size.*no setter"):
        proxy.size = 3
    with pytest.raises(AttributeError, match="no remote member 'colour'"):
        proxy.colour = "red"


def test_operators(proxy: Any) -> None:
    assert len(proxy) == 5
    assert proxy[0] == "chair"
    proxy[0] = "stool"
    del proxy[1]
    assert "stool" in proxy
    assert "bike" not in proxy
    assert list(proxy) == ["stool", "flashlight", "laptop", "couch"]
    assert proxy("Janet") == "hello Janet"
    assert bool(proxy)
    with pytest.raises(IndexError):
        proxy[99]


def test_a_loop_over_an_object_gets_its_items(daemon: broker.Daemon) -> None:
    class Shelf:
        def __init__(self) -> None:
            self._books = ["a", "b", "c"]

        def __iter__(self) -> Iterator[str]:
            yield from self._books

    proxy: Any = broker.Proxy(daemon.register(Shelf()))
    assert list(proxy) == ["a", "b", "c"]
    assert "b" in proxy
    assert "z" not in proxy
    assert sorted(broker.Proxy(daemon.register({"x": 1, "y": 2}))) == ["x", "y"]


def test_what_cannot_be_served_is_refused_at_once(daemon: broker.Daemon) -> None:
    class Needs:
        def __init__(self, colour: str) -> None:
            self._colour = colour

        def paint(self) -> str:
            return self._colour

    for value in (5, "text", None):
        with pytest.raises(TypeError, match="travel as copies"):
            daemon.register(value)
    with pytest.raises(errors.DaemonError, match=r"without arguments .*'colour'.*instance_creator"):
        daemon.register(Needs)
    made = broker.behavior(instance_creator=lambda cls: cls("red"))(Needs)
    assert broker.Proxy(daemon.register(made)).paint() == "red"


def test_a_missing_operator_is_a_type_error(daemon: broker.Daemon) -> None:
    class Plain:
        def work(self) -> int:
            return 1

    proxy: Any = broker.Proxy(daemon.register(Plain()))
    for use in (lambda: len(proxy), lambda: proxy[0], proxy, lambda: list(proxy), lambda: 1 in proxy):
        with pytest.raises(TypeError):
            use()
    assert bool(proxy)


def test_hidden_and_missing_members_answer_alike(proxy: Any) -> None:
    answers = []
    for name in ("depot", "nonsense"):
        with pytest.raises(AttributeError) as caught:
            getattr(proxy, name)
        assert errors.get_remote_traceback(caught.value) == ""
        answers.append(str(caught.value).replace(name, "NAME"))
    assert answers[0] == answers[1]
    assert "(it has: " in answers[0]
    assert "make it a property" in answers[0]
    assert not hasattr(proxy, "nonsense")


def test_names_with_an_underscore_cause_no_connection() -> None:
    proxy: Any = broker.Proxy("BROKER:x@localhost:1")
    for name in ("_private", "__array__", "_repr_html_", "__wrapped__"):
        assert not hasattr(proxy, name)
    with pytest.raises(AttributeError):
        proxy._private = 1


def test_wrong_arguments_name_what_the_method_takes(proxy: Any) -> None:
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'name'.*take\(name: str") as caught:
        proxy.take()
    assert errors.get_remote_traceback(caught.value) == ""
    assert proxy.size == 5


def test_an_exception_keeps_class_text_and_remote_traceback(proxy: Any) -> None:
    with pytest.raises(ValueError, match="not in list") as caught:
        proxy.take("Janet", "moon")
    text = errors.get_remote_traceback(caught.value)
    assert "self.contents.remove(item)" in text
    assert "/broker/" not in text.replace("\\", "/")


def test_async_methods_run_and_raise(proxy: Any) -> None:
    assert proxy.later(1) == 2
    with pytest.raises(LookupError, match="gone"):
        proxy.fails_later()


def test_values_of_hinted_types_arrive_as_themselves(proxy: Any) -> None:
    order = proxy.order(Order("lamp", 2), Order("x"), urgent=True)
    assert order == broker.Record("x", {}) or order.number == 4  # the client may not know the class
    assert order.item == "lamp"


def test_a_remote_method_looks_like_the_method(proxy: Any) -> None:
    local = Warehouse()
    for name in ("take", "store", "list_contents", "later"):
        assert str(inspect.signature(getattr(proxy, name))) == str(inspect.signature(getattr(local, name)))
        assert getattr(proxy, name).__doc__ == getattr(local, name).__doc__
    assert {"take", "store", "size", "owner"} <= set(dir(proxy))
    assert "take(name: str, item: str = 'couch') -> None" in repr(proxy.take)


def test_a_stale_description_is_refreshed(daemon: broker.Daemon, proxy: Any) -> None:
    class Bigger(Warehouse):
        def count(self) -> int:
            return 7

    assert proxy.size == 5
    daemon.register(Bigger(), "example.warehouse", replace=True)
    assert proxy.count() == 7


def test_proxies_are_values(daemon: broker.Daemon, proxy: Any) -> None:
    twin = broker.Proxy(str(daemon.uri_for("example.warehouse")))
    assert proxy == twin
    assert len({proxy, twin, copy.copy(proxy), copy.deepcopy(proxy)}) == 1
    back = pickle.loads(pickle.dumps(broker.Proxy(proxy._broker.uri, timeout=3, metadata={"a": b"b"})))
    assert back == proxy
    assert (back._broker.timeout, dict(back._broker.metadata)) == (3, {"a": b"b"})
    assert proxy != 42
    assert "not connected" in repr(twin)
    assert twin.size == 5
    assert "; connected" in repr(twin)


def test_options_are_read_only_but_for_set(proxy: Any) -> None:
    with pytest.raises(AttributeError):
        proxy._broker.timeout = 3
    proxy._broker.set("timeout", 3)
    assert proxy._broker.timeout == 3
    with pytest.raises(AttributeError, match="no option 'colour'"):
        proxy._broker.set("colour", 3)
    with pytest.raises(errors.CodecError, match="no codec"):
        broker.Proxy("BROKER:x@localhost:1", codec="xml")


def test_thousands_of_proxies_share_one_connection(daemon: broker.Daemon, proxy: Any) -> None:
    proxies: list[Any] = [broker.Proxy(proxy._broker.uri) for _ in range(2000)]
    assert sum(each.size for each in proxies[:200]) == 1000
    assert len({each._broker._remote.session.connection for each in proxies[:200]}) == 1


def test_one_proxy_serves_many_threads(daemon: broker.Daemon) -> None:
    class Adder:
        def add(self, a: int, b: int) -> int:
            return a + b

    proxy: Any = broker.Proxy(daemon.register(Adder()))
    with ThreadPoolExecutor(16) as threads:
        results = list(threads.map(lambda n: proxy.add(n, n), range(500)))
    assert results == [2 * n for n in range(500)]


def test_methods_run_at_the_same_time(daemon: broker.Daemon) -> None:
    class Meeting:
        def __init__(self) -> None:
            self._barrier = threading.Barrier(8, timeout=10)

        def arrive(self) -> int:
            return self._barrier.wait()

    proxy: Any = broker.Proxy(daemon.register(Meeting()))
    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(lambda _: proxy.arrive(), range(8))) == list(range(8))


def test_max_concurrency_runs_calls_one_after_another(daemon: broker.Daemon) -> None:
    class Counter:
        inside = most = 0

        def work(self) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.002)
            self.inside -= 1

    counter = Counter()
    proxy: Any = broker.Proxy(daemon.register(counter, max_concurrency=1))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: proxy.work(), range(30)))
    assert counter.most == 1


def test_an_executor_says_on_which_thread_methods_run(daemon: broker.Daemon) -> None:
    class Instrument:
        def thread(self) -> str:
            return threading.current_thread().name

    with ThreadPoolExecutor(1, thread_name_prefix="driver") as driver:
        proxy: Any = broker.Proxy(daemon.register(Instrument(), executor=driver))
        with ThreadPoolExecutor(4) as threads:
            assert set(threads.map(lambda _: proxy.thread(), range(10))) == {"driver_0"}


def test_oneways_run_in_order_and_before_a_later_call(daemon: broker.Daemon) -> None:
    class Log:
        def __init__(self) -> None:
            self.lines: list[int] = []

        @broker.oneway
        def write(self, line: int) -> None:
            time.sleep(0.001 * (line % 3))
            self.lines.append(line)

        def read(self) -> list[int]:
            return self.lines

        def plain(self, line: int) -> int:
            self.lines.append(line)
            return line

    proxy: Any = broker.Proxy(daemon.register(Log()))
    for number in range(50):
        assert proxy.write(number) is None
    assert proxy.plain.oneway(50) is None
    assert proxy.read() == list(range(51))


def test_a_failing_oneway_is_logged_with_its_traceback(daemon: broker.Daemon, caplog: pytest.LogCaptureFixture) -> None:
    class Faulty:
        @broker.oneway
        def fail(self) -> None:
            raise OSError("disk full")

        def done(self) -> bool:
            return True

    proxy: Any = broker.Proxy(daemon.register(Faulty(), "faulty"))
    proxy.fail()
    assert proxy.done()
    assert "oneway call of faulty.fail failed" in caplog.text
    assert "disk full" in caplog.text


def test_instance_modes(daemon: broker.Daemon) -> None:
    @broker.behavior("single")
    class Single:
        def me(self) -> int:
            return id(self)

    @broker.behavior("percall")
    class PerCall:
        made = 0

        def __init__(self) -> None:
            type(self).made += 1

        def count(self) -> int:
            return self.made

    class Session:
        def __init__(self) -> None:
            self.calls = 0

        def __len__(self) -> int:  # a falsy instance is an instance
            return 0

        def call(self) -> int:
            self.calls += 1
            return self.calls

    def two(uri: broker.URI) -> tuple[Any, Any]:
        return broker.Proxy(uri), broker.Proxy(uri)

    one, other = two(daemon.register(Single))
    assert one.me() == other.me()
    one, other = two(daemon.register(PerCall))
    assert (one.count(), one.count(), other.count()) == (1, 2, 3)
    one, other = two(daemon.register(Session))
    assert (one.call(), one.call(), other.call(), one.call()) == (1, 2, 1, 3)
    one._broker.close()
    assert one.call() == 1


def test_close_ends_a_session_at_once(daemon: broker.Daemon) -> None:
    ended: queue.SimpleQueue[float] = queue.SimpleQueue()

    class Session:
        def open(self) -> None:
            broker.current_context.on_close(lambda: ended.put(time.monotonic()))

    proxy = broker.Proxy(daemon.register(Session))
    delays = []
    for _ in range(3):
        proxy.open()
        closed = time.monotonic()
        proxy._broker.close()
        delays.append(ended.get(timeout=10) - closed)
    assert min(delays) < 0.2, "no other call and no timer has to take the news along"


def test_registered_objects_travel_as_references(daemon: broker.Daemon) -> None:
    class Item:
        def __init__(self, name: str) -> None:
            self._name = name

        @property
        def name(self) -> str:
            return self._name

    class Shop:
        def __init__(self) -> None:
            self._items: list[Item] = []

        def make(self, name: str) -> Item:
            item = Item(name)
            daemon.register(item)
            self._items.append(item)
            return item

        def all(self) -> dict[str, list[Item]]:
            return {"items": self._items}

        def rename(self, other: Any) -> str:
            return f"{type(other).__name__} {other.name}"

    shop: Any = broker.Proxy(daemon.register(Shop()))
    lamp = shop.make("lamp")
    assert isinstance(lamp, broker.Proxy)
    assert lamp.name == "lamp"
    assert shop.all()["items"] == [lamp]
    assert shop.rename(lamp) == "Proxy lamp"


def test_context_of_a_call(daemon: broker.Daemon) -> None:
    class Inspector:
        def look(self) -> dict[str, Any]:
            context = broker.current_context
            context.response_metadata["answer"] = b"42"
            remaining = context.remaining
            assert remaining is not None
            assert remaining < 5
            assert context.client is not None
            return {"metadata": dict(context.metadata), "member": context.member, "object": context.object_id}

    proxy: Any = broker.Proxy(daemon.register(Inspector(), "inspector"), timeout=5, metadata={"who": "me"})
    assert proxy.look() == {"metadata": {"who": "me"}, "member": "look", "object": "inspector"}
    assert dict(broker.current_context.response_metadata) == {"answer": b"42"}


def test_tracked_resources_close_with_the_session(daemon: broker.Daemon) -> None:
    closed = threading.Event()

    class File:
        def close(self) -> None:
            closed.set()

    class Files:
        def open(self) -> None:
            broker.current_context.track(File())

    uri = daemon.register(Files())
    with broker.Proxy(uri) as proxy:
        proxy.open()
        assert not closed.is_set()
    assert closed.wait(10)


def test_a_call_that_takes_too_long_is_a_timeout_and_tells_the_method(daemon: broker.Daemon) -> None:
    told = threading.Event()

    class Slow:
        def wait(self) -> None:
            if broker.current_context.wait_cancelled(10):
                told.set()

        def quick(self) -> int:
            return 1

    proxy: Any = broker.Proxy(daemon.register(Slow()))
    assert proxy.quick() == 1
    proxy._broker.set("timeout", 0.5)
    with pytest.raises(errors.CallTimeout, match="wait") as caught:
        proxy.wait()
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.may_have_run
    assert told.wait(10)
    proxy._broker.set("timeout", None)
    assert proxy.quick() == 1


def test_calls_before_the_start_wait_for_it(caplog: pytest.LogCaptureFixture) -> None:
    daemon = broker.Daemon()
    proxy: Any = broker.Proxy(daemon.register(Warehouse()))
    answers: list[int] = []
    caller = threading.Thread(target=lambda: answers.append(proxy.size))
    caller.start()
    caller.join(0.2)
    assert caller.is_alive()
    daemon.start()
    caller.join(10)
    assert answers == [5]
    daemon.shutdown()


def test_nested_calls_in_one_thread_reach_any_depth(daemon: broker.Daemon) -> None:
    class Ping:
        other: Any

        def __init__(self) -> None:
            self._lock = threading.RLock()

        def ball(self, n: int) -> int:
            with self._lock:  # held by the thread that waits: the nested call runs on it
                return 0 if n == 0 else 1 + self.other.ball(n - 1)

    one, two = Ping(), Ping()
    with broker.Daemon(max_workers=1) as small:
        one.other = broker.Proxy(small.register(two))
        two.other = broker.Proxy(daemon.register(one))
        proxy: Any = broker.Proxy(daemon.uri_for(one))
        assert proxy.ball(50) == 50
        with pytest.raises(errors.BrokerError, match="64 calls deep in chain"):
            proxy.ball(70)


def test_shutdown_from_inside_a_method_answers_it() -> None:
    class Server:
        def stop(self) -> str:
            own.shutdown()
            return "stopping"

    own = broker.Daemon()
    proxy: Any = broker.Proxy(own.register(Server()))
    loop = threading.Thread(target=own.request_loop)
    loop.start()
    assert proxy.stop() == "stopping"
    loop.join(10)
    assert not loop.is_alive()


def test_an_idle_connection_ends_its_sessions_when_the_proxy_is_collected(daemon: broker.Daemon) -> None:
    class Session:
        def call(self) -> int:
            return 1

    proxy: Any = broker.Proxy(daemon.register(Session))
    assert proxy.call() == 1
    assert len(daemon._sessions) == 1
    del proxy
    _eventually(lambda: len(daemon._sessions) == 0)


def test_pickle_needs_both_sides(daemon: broker.Daemon) -> None:
    uri = daemon.register(Warehouse())
    with pytest.raises(errors.CodecError, match=r"codec 'pickle' is not accepted.*takes json"):
        broker.Proxy(uri, codec="pickle").list_contents()
    with broker.Daemon(codecs=("json", "pickle")) as both:
        proxy: Any = broker.Proxy(both.register(Warehouse()), codec="pickle")
        assert proxy.order(Order("lamp")) == Order("lamp")
        with pytest.raises(ValueError, match="not in list") as caught:
            proxy.take("Janet", "moon")
        assert "contents.remove" in errors.get_remote_traceback(caught.value)


def test_serve_registers_under_ids_without_a_name_server(capsys: pytest.CaptureFixture[str]) -> None:
    daemon = broker.serve([(Warehouse(), "a"), ("b", Warehouse()), (Warehouse(), None)], use_ns=False, block=False)
    try:
        assert broker.Proxy(daemon.uri_for("a")).size == 5
        assert len(daemon.objects) == 3
        out = capsys.readouterr().out
        assert "Object <" in out
        assert f"    uri = BROKER:a@localhost:{daemon.address[1]}" in out
        assert out.rstrip().endswith("Broker daemon running.")
    finally:
        daemon.shutdown()


@pytest.mark.parametrize("objects", [Warehouse(), [Warehouse()], {Warehouse(): 3}, [("a", "b", "c")]])
def test_serve_says_what_it_takes(objects: Any) -> None:
    with pytest.raises(TypeError, match=r"serve\(\) takes objects with their names"):
        broker.serve(objects, use_ns=False, block=False)


def test_what_cannot_be_registered() -> None:
    with broker.Daemon() as daemon:
        uri = daemon.register(Warehouse(), "a")
        with pytest.raises(TypeError, match=r"<Proxy for .*> stands for an object that is served elsewhere"):
            daemon.register(broker.Proxy(uri))
        with pytest.raises(TypeError, match=r"executor is a concurrent.futures.Executor or None, not 3"):
            daemon.register(Warehouse(), executor=3)  # type: ignore[arg-type]
        assert "; 1 object;" in repr(daemon)
    with pytest.raises(errors.DaemonError, match="has been shut down: make a new one"):
        daemon.register(Warehouse())


def test_a_proxy_that_has_no_place_yet_names_itself_by_its_uri() -> None:
    with pytest.raises(errors.CallTimeout, match=r"the call of 'BROKERNAME:lab.thing' was over before it was sent"):
        broker.Proxy("BROKERNAME:lab.thing", timeout=0).take()


def test_docstrings_are_those_of_the_class() -> None:
    class Documented:
        """One.

        Two.
        """

        def method(self) -> None:
            """Three.

            Four.
            """

    with broker.Daemon() as daemon:
        proxy: Any = broker.Proxy(daemon.register(Documented()))
        assert proxy._broker.description.doc == "One.\n\nTwo."
        assert proxy.method.__doc__ == Documented.method.__doc__
        assert "\n  method() -> None\n      Three." in str(proxy._broker.description)


def test_serve_gives_a_name_to_one_object_only() -> None:
    with pytest.raises(ValueError, match=r"name 'a' for more than one object"):
        broker.serve([(Warehouse(), "a"), (Warehouse(), "a")], use_ns=False, block=False)


def test_the_same_with_asyncio_loop_of_the_application() -> None:
    class Loop:
        async def same(self) -> bool:
            return asyncio.get_running_loop() is loop

    loop: Any = None

    async def main() -> bool:
        nonlocal loop
        loop = asyncio.get_running_loop()
        async with broker.Daemon() as daemon:
            proxy: Any = broker.Proxy(daemon.register(Loop()))
            return bool(await asyncio.to_thread(proxy.same))

    assert asyncio.run(main())


def _eventually(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_forgotten_connections_linger_and_end(daemon: broker.Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.connection.client.LINGER_SECONDS", 0.1)
    proxy: Any = broker.Proxy(daemon.register(Warehouse()))
    assert proxy.size == 5
    assert pool.find(proxy._broker._remote._place[1]) is not None
    place = proxy._broker._remote._place[1]
    del proxy
    _eventually(lambda: pool.find(place) is None)
    _eventually(lambda: not daemon._connects.connections)


def test_a_description_is_readable(proxy: Any) -> None:
    text = str(proxy._broker.description)
    assert text.startswith("example.warehouse: ")
    assert "    A store room that everyone can visit." in text
    assert "  owner -> str (can be set)" in text
    assert "  take(name: str, item: str = 'couch') -> None\n      Somebody takes an item." in text


def test_a_description_tells_methods_from_attributes(proxy: Any) -> None:
    description = proxy._broker.description
    assert {"take", "list_contents"} <= description.methods
    assert "owner" in description.attributes
    assert sorted([*description.methods, *description.attributes]) == sorted(description.members)
