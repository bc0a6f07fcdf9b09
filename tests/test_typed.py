"""connect, connect_async, submit, send, options, close, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, cast

import pytest

import broker
from broker import errors

SOON = 40.0  # seconds that nothing takes


@dataclass
class Offer:
    item: str
    price: float


@dataclass
class Wish:
    item: str


class Warehouse:
    """What is served, and an interface too."""

    def __init__(self) -> None:
        self._price = 1.5
        self.seen: list[str] = []
        self.noted = threading.Event()

    def take(self, name: str, item: str = "couch") -> Offer:
        return Offer(item, len(name))

    async def ring(self, times: int) -> str:
        await asyncio.sleep(0)
        return "ding " * times

    def note(self, text: str) -> None:
        self.seen.append(text)
        self.noted.set()

    def wait_cancelled(self) -> bool:
        return broker.current_context.wait_cancelled(SOON)

    def metadata(self) -> dict[str, str | bytes]:
        return dict(broker.current_context.metadata)

    @property
    def price(self) -> float:
        return self._price

    @price.setter
    def price(self, price: float) -> None:
        self._price = price

    @property
    def size(self) -> int:
        return 5


class Taking(Protocol):
    price: float

    def take(self, name: str, item: str = ...) -> Offer: ...


class Ringing(ABC):
    @abstractmethod
    async def ring(self, times: int) -> str: ...

    @property
    @abstractmethod
    async def price(self) -> float: ...


@pytest.fixture
def warehouse() -> Warehouse:
    return Warehouse()


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


@pytest.fixture
def uri(daemon: broker.Daemon, warehouse: Warehouse) -> broker.URI:
    return daemon.register(warehouse, "warehouse")


# ---- connect


@pytest.mark.parametrize("interface", [Warehouse, Taking])
def test_what_connect_returns_is_a_proxy(uri: broker.URI, interface: Any) -> None:
    w: Taking = broker.connect(uri, interface, timeout=5)
    assert w.take("Janet") == Offer("couch", 5)
    assert w.price == 1.5
    w.price = 2.5
    assert w.price == 2.5
    assert isinstance(w, broker.Proxy)
    assert w == broker.Proxy(uri)
    assert w._broker.timeout == 5


def test_connect_connects_now(uri: broker.URI) -> None:
    w = broker.connect(uri, Warehouse)
    assert isinstance(w, broker.Proxy)
    assert w._broker.connected
    with pytest.raises(errors.CannotConnect):
        broker.connect("BROKER:warehouse@localhost:1", Warehouse)
    with pytest.raises(errors.ObjectNotFound):
        broker.connect(f"BROKER:nobody@{uri.location}", Warehouse)


def test_what_the_object_lacks_is_listed(daemon: broker.Daemon) -> None:
    class Other:
        def take(self) -> None: ...

        def size(self) -> int:
            return 3

        @property
        def price(self) -> float:
            return 1.5

    uri = daemon.register(Other(), "other")
    with pytest.raises(TypeError) as raised:
        broker.connect(uri, Warehouse)
    message = str(raised.value)
    assert message.startswith(f"'other' at {uri.location} is a ")
    assert "lacks members of Warehouse: " in message
    for lacking in ("metadata()", "ring(times", "size as a property (it is a method there)", "price with a setter"):
        assert lacking in message
    assert message.endswith("It has: price, size, take")
    assert broker.connect(uri, Taking).price == 1.5


def test_a_field_of_a_protocol_is_a_member(daemon: broker.Daemon) -> None:
    class Free:
        def take(self) -> None: ...

    with pytest.raises(TypeError, match=r"lacks members of Taking: price \(a property\)"):
        broker.connect(daemon.register(Free()), Taking)


def test_only_what_is_marked_is_promised(daemon: broker.Daemon) -> None:
    class Careful:
        @broker.expose
        def open(self) -> str:
            return "open"

        def hidden(self) -> str:
            return "hidden"

    assert broker.connect(daemon.register(Careful()), Careful).open() == "open"


@pytest.mark.parametrize("wrong", [lambda: None, "Warehouse", Warehouse()])
def test_an_interface_is_a_class(uri: broker.URI, wrong: Any) -> None:
    with pytest.raises(TypeError, match="an interface is a class, an abstract class or a Protocol"):
        broker.connect(uri, wrong)


def test_types_of_the_interface_are_rebuilt_and_others_are_records(daemon: broker.Daemon) -> None:
    class Serving:
        def give(self, kind: str) -> object:
            return {"offer": Offer("couch", 3), "wish": Wish("couch")}[kind]

    class Giving(Protocol):
        def give(self, kind: str) -> Offer: ...

    uri = daemon.register(Serving())
    w = broker.connect(uri, Giving)
    assert w.give("offer") == Offer("couch", 3)
    assert isinstance(w.give("wish"), broker.Record)
    assert isinstance(broker.Proxy(uri).give("offer"), broker.Record)
    assert broker.options(w, timeout=3).give("offer") == Offer("couch", 3)


def test_methods_that_are_async_in_the_interface_are_awaited(uri: broker.URI) -> None:
    async def main() -> None:
        bell = await asyncio.to_thread(broker.connect, uri, Ringing)
        assert await bell.ring(2) == "ding ding "
        assert await bell.price == 1.5

    asyncio.run(main())


def test_copies_and_pickles_have_the_interface(uri: broker.URI) -> None:
    w = broker.connect(uri, Warehouse, timeout=3)
    for same in (copy.copy(w), pickle.loads(pickle.dumps(w))):
        assert type(same) is type(w)
        assert same == w
        assert cast(Any, same)._broker.timeout == 3
        assert same.take("Janet") == Offer("couch", 5)


def test_connect_async(uri: broker.URI) -> None:
    async def main() -> None:
        bell = await broker.connect_async(uri, Ringing, timeout=3)
        assert isinstance(bell, broker.AsyncProxy)
        assert await bell.ring(2) == "ding ding "
        assert await bell.price == 1.5
        w: Any = await broker.connect_async(uri, Warehouse)
        assert await w.take("Janet") == Offer("couch", 5)
        with pytest.raises(TypeError, match="lacks members of Clock: now"):
            await broker.connect_async(uri, Clock)

    class Clock:
        def now(self) -> float:
            return 0.0

    asyncio.run(main())


class Clock:
    """Ticks, for those who loop over the call without `await`."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    async def ticks(self) -> AsyncIterator[int]:
        try:
            for number in range(1_000_000):
                yield number
        finally:
            self.stopped.set()


class Ticking(Protocol):
    def ticks(self) -> AsyncIterator[int]: ...


@pytest.mark.parametrize("interface", [Clock, Ticking])
@pytest.mark.parametrize("connects_async", [False, True])
def test_what_is_an_async_iterator_in_the_interface_is_one(
    daemon: broker.Daemon, interface: Any, connects_async: bool
) -> None:
    clock = Clock()
    uri = daemon.register(clock)

    async def main() -> None:
        ticking: Ticking
        if connects_async:
            ticking = await broker.connect_async(uri, interface)
        else:
            ticking = await asyncio.to_thread(broker.connect, uri, interface)
        async with contextlib.aclosing(ticking.ticks()) as ticks:  # type: ignore[type-var]  # it has an aclose
            assert await anext(ticks) == 0
            assert await anext(ticks) == 1
        assert await asyncio.to_thread(clock.stopped.wait, SOON)

    asyncio.run(main())


# ---- submit and send


def test_submit(uri: broker.URI) -> None:
    w = broker.connect(uri, Warehouse)
    taken = broker.submit(w.take, "Janet", item="lamp")
    assert isinstance(taken, Future)
    assert taken.result(SOON) == Offer("lamp", 5)
    assert broker.submit(w.ring, 2).result(SOON) == "ding ding "
    assert broker.submit(broker.Proxy(uri).take, "Janet").result(SOON).item == "couch"


def test_submit_of_an_asynchronous_proxy(uri: broker.URI) -> None:
    async def main() -> None:
        bell = await broker.connect_async(uri, Ringing)
        assert await asyncio.wrap_future(broker.submit(bell.ring, 2)) == "ding ding "

    asyncio.run(main())


def test_a_submitted_call_is_cancelled(uri: broker.URI) -> None:
    w = broker.connect(uri, Warehouse)
    future = broker.submit(w.wait_cancelled)
    assert future.cancel()
    assert future.cancelled()


def test_send(uri: broker.URI, warehouse: Warehouse) -> None:
    w = broker.connect(uri, Warehouse)
    broker.send(w.note, "first")
    broker.send(w.note, text="second")
    w.note("third")
    assert warehouse.seen == ["first", "second", "third"]


def test_send_of_an_asynchronous_proxy(uri: broker.URI, warehouse: Warehouse) -> None:
    class Noting(Protocol):
        async def note(self, text: str) -> None: ...

    async def main() -> Noting:
        noting = await broker.connect_async(uri, Noting)
        broker.send(noting.note, "sent")
        assert await asyncio.to_thread(warehouse.noted.wait, SOON)
        return noting

    noting = asyncio.run(main())
    broker.send(noting.note, "without a loop")
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(noting.note("last"))
    assert warehouse.seen == ["sent", "without a loop", "last"]


def test_an_exported_function_is_sent_to_and_submitted(daemon: broker.Daemon) -> None:
    class Reporter:
        def report(self, to: Any) -> int:
            broker.send(to, 1)
            return broker.submit(to, 2).result(SOON)  # type: ignore[no-any-return]

    heard: list[int] = []

    def listen(number: int) -> int:
        heard.append(number)
        return number

    proxy: Any = broker.Proxy(daemon.register(Reporter()))
    assert proxy.report(broker.export(listen)) == 2
    give_up = time.monotonic() + SOON
    while len(heard) < 2 and time.monotonic() < give_up:  # nobody waits for the first, and a nested call for nothing
        time.sleep(0.001)
    assert sorted(heard) == [1, 2]


@pytest.mark.parametrize("use", [broker.submit, broker.send])
@pytest.mark.parametrize("wrong", [print, "take", 3])
def test_what_is_no_method_of_a_proxy_is_refused(use: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"{use.__name__} takes a method of a proxy, as in {use.__name__}"):
        use(wrong)


# ---- options and close


def test_options_are_of_the_same_type_and_session(daemon: broker.Daemon) -> None:
    class Counter:
        def __init__(self) -> None:
            self._count = 0

        def count(self) -> int:
            self._count += 1
            return self._count

        def who(self) -> object:
            return broker.current_context.metadata.get("who")

    w = broker.connect(daemon.register(Counter), Counter)
    hurried = broker.options(w, timeout=2, retries=3, metadata={"who": "Janet"})
    assert type(hurried) is type(w)
    assert (w.count(), hurried.count(), w.count()) == (1, 2, 3)
    assert (w.who(), hurried.who()) == (None, "Janet")
    assert isinstance(hurried, broker.Proxy)
    assert (hurried._broker.timeout, hurried._broker.retries) == (2, 3)
    assert copy.copy(w).count() == 1
    broker.close(hurried)
    assert w.count() == 1


def test_options_of_any_proxy(uri: broker.URI) -> None:
    proxy = broker.options(broker.Proxy(uri), metadata={"who": "Janet"})
    assert type(proxy) is broker.Proxy
    assert proxy.metadata() == {"who": "Janet"}
    asynchronous = broker.options(broker.AsyncProxy(uri), timeout=3)
    assert type(asynchronous) is broker.AsyncProxy
    assert asynchronous._broker.timeout == 3


def test_options_that_cannot_be(uri: broker.URI) -> None:
    proxy, options = broker.Proxy(uri), cast(Any, broker.options)
    with pytest.raises(AttributeError, match="a proxy has no option 'colour'"):
        options(proxy, colour="red")
    with pytest.raises(TypeError, match="connect anew"):
        broker.options(proxy, credentials=None)
    with pytest.raises(errors.CodecError, match="no codec 'xml'"):
        broker.options(proxy, codec="xml")


@pytest.mark.parametrize("use", [broker.options, broker.close])
def test_what_is_no_proxy_is_refused(use: Any) -> None:
    with pytest.raises(TypeError, match=f"{use.__name__} takes a proxy, and 3 is none"):
        use(3)


def test_close_ends_the_session(daemon: broker.Daemon) -> None:
    closed = threading.Event()

    class Desk:
        def sit(self) -> None:
            broker.current_context.on_close(closed.set)

    desk = broker.connect(daemon.register(Desk), Desk)
    desk.sit()
    broker.close(desk)
    assert closed.wait(SOON)
