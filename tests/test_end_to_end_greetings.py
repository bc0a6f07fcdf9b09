"""Sessions that are greeted: who is admitted, what the daemon answers, and what it keeps for a session."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import broker
from broker.errors import AccessDenied, BrokerError, ConnectionClosedError


class Desk:
    """What is served to who was admitted."""

    def __init__(self) -> None:
        self.calls = 0

    def who(self) -> str | None:
        self.calls += 1
        name: str | None = broker.current_context.session.get("name")
        return name

    def numbers(self) -> Iterator[int]:
        yield from range(3)

    @property
    def open(self) -> bool:
        return True


class Porter:
    """Admits who knows the word, and remembers whom he asked."""

    def __init__(self) -> None:
        self.greetings: list[Any] = []
        self.gone: list[Any] = []
        self.left = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def __call__(self, client: object, greeting: Any) -> Any:
        self.open.wait(20)
        self.greetings.append(greeting)
        if not isinstance(greeting, dict) or greeting.get("word") != "sesame":
            raise PermissionError("wrong word")
        name = greeting["name"]
        broker.current_context.session["name"] = name
        broker.current_context.on_close(lambda: self._went(name))
        return f"welcome, {name}"

    def _went(self, name: str) -> None:
        self.gone.append(name)
        self.left.set()


Serve = Callable[..., tuple[broker.Daemon, broker.URI]]
SESAME = {"word": "sesame", "name": "Ali"}


@pytest.fixture(params=[True, False], ids=["local", "wire"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"local": request.param}


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def porter() -> Porter:
    return Porter()


@pytest.fixture
def uri(desk: Desk, porter: Porter) -> Iterator[broker.URI]:
    with broker.Daemon(admit=porter) as daemon:
        yield daemon.register(desk, "desk")


def invoke(uri: broker.URI, request: bytes) -> bytes:
    """A call of a client without sessions."""
    with grpc.insecure_channel(str(uri.location)) as channel:
        call: Any = channel.unary_unary("/broker.v1.ObjectBroker/Invoke")
        answer: bytes = call(request)
    return answer


def test_a_greeting_is_answered_once_for_a_session(uri: broker.URI, porter: Porter, options: dict[str, Any]) -> None:
    proxy = broker.Proxy(uri, greeting=SESAME, **options)
    assert [proxy.who(), proxy.who(), proxy.open] == ["Ali", "Ali", True]
    assert list(proxy.numbers()) == [0, 1, 2]
    assert proxy._broker.welcome == "welcome, Ali"
    assert broker.options(proxy, timeout=20).who() == "Ali"
    batch = broker.Batch(proxy)
    batch.who()
    assert list(batch()) == ["Ali"]
    assert len(porter.greetings) == 1
    proxy._broker.close()
    assert porter.left.wait(20)
    assert proxy.who() == "Ali"
    assert len(porter.greetings) == 2


def test_a_refusal_refuses_every_call(uri: broker.URI, desk: Desk, porter: Porter, options: dict[str, Any]) -> None:
    proxy = broker.Proxy(uri, greeting={"word": "barley"}, **options)
    control = proxy._broker
    for attempt in (control.bind, lambda: proxy.open, lambda: proxy.who(), lambda: control.description):  # noqa: PLW0108
        with pytest.raises(AccessDenied, match="wrong word"):
            attempt()
    with pytest.raises(AccessDenied, match="wrong word") as raised:
        proxy._broker.welcome  # noqa: B018
    assert isinstance(raised.value.__cause__, PermissionError)
    assert "raise PermissionError" in broker.errors.get_remote_traceback(raised.value.__cause__)
    assert (desk.calls, len(porter.greetings)) == (0, 1)
    proxy._broker.set("greeting", SESAME)  # for the next session
    proxy._broker.reconnect()
    assert proxy.who() == "Ali"


def test_who_does_not_greet_is_asked_about_too(
    uri: broker.URI, desk: Desk, porter: Porter, options: dict[str, Any]
) -> None:
    proxy = broker.Proxy(uri, **options)
    for _ in range(2):
        with pytest.raises(AccessDenied, match=r"not admitted at .*: wrong word"):
            proxy.who()
    assert proxy._broker.welcome is None
    with pytest.raises(AccessDenied, match="wrong word"):
        proxy.who.future().result()
    assert porter.greetings == [None]
    with pytest.raises(grpc.RpcError) as raised:
        invoke(uri, b"\x0a\x04desk\x12\x03who")
    assert raised.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert desk.calls == 0


def test_calls_wait_until_the_daemon_has_decided(uri: broker.URI, porter: Porter, options: dict[str, Any]) -> None:
    porter.open.clear()
    proxy = broker.Proxy(uri, greeting=SESAME, **options)
    names: list[Any] = []
    threads = [threading.Thread(target=lambda: names.append(proxy.who())) for _ in range(3)]
    for thread in threads:
        thread.start()
    threads[0].join(0.2)
    assert threads[0].is_alive()
    assert (names, porter.greetings) == ([], [])
    porter.open.set()
    for thread in threads:
        thread.join(20)
    assert names == ["Ali"] * 3
    assert len(porter.greetings) == 1


def test_coroutines_greet(uri: broker.URI, porter: Porter, options: dict[str, Any]) -> None:
    async def main() -> None:
        proxy = broker.AsyncProxy(uri, greeting=SESAME, **options)
        assert await asyncio.gather(*(proxy.who() for _ in range(5))) == ["Ali"] * 5
        assert await proxy._broker.welcome == "welcome, Ali"
        refused = broker.AsyncProxy(uri, greeting="x", **options)
        with pytest.raises(AccessDenied, match="wrong word"):
            await refused.who()
        with pytest.raises(AccessDenied, match="wrong word"):
            await refused._broker.welcome

    asyncio.run(main())
    assert len(porter.greetings) == 2


def test_a_daemon_that_was_started_anew_is_greeted_anew(porter: Porter) -> None:
    def bare(client: object, greeting: Any) -> None:
        porter.greetings.append(greeting)

    with broker.Daemon(admit=bare) as daemon:
        uri = daemon.register(Desk(), "desk")
        proxy = broker.Proxy(uri, greeting="hello", local=False)
        assert proxy.open is True
    with broker.Daemon(port=daemon.address[1], admit=bare) as daemon:
        daemon.register(Desk(), "desk")
        assert proxy.open is True  # nothing was kept for the session: nobody has to be told
    assert porter.greetings == ["hello", "hello"]


def test_what_was_kept_is_not_lost_in_silence(porter: Porter) -> None:
    with broker.Daemon(admit=porter) as daemon:
        uri = daemon.register(Desk(), "desk")
        proxy = broker.Proxy(uri, greeting=SESAME, local=False)
        assert proxy.who() == "Ali"
    assert porter.left.wait(20)
    assert porter.gone == ["Ali"]
    with broker.Daemon(port=daemon.address[1], admit=porter) as daemon:
        daemon.register(Desk(), "desk")
        with pytest.raises(ConnectionClosedError):
            proxy.who()
        assert proxy.who() == "Ali"


def test_a_method_that_calls_back_its_own_daemon_is_greeted_on_the_thread_that_waits(porter: Porter) -> None:
    class Chain:
        def down(self, proxy: Any, depth: int) -> Any:
            if not depth:
                return "down"
            return broker.Proxy(proxy._broker.uri, greeting=SESAME, local=False).down(proxy, depth - 1)

    with broker.Daemon(admit=porter, max_workers=1) as daemon:
        proxy = broker.Proxy(daemon.register(Chain()), greeting=SESAME, local=False, timeout=30)
        assert proxy.down(proxy, 5) == "down"
    assert len(porter.greetings) == 6


def test_a_daemon_that_asks_nobody_answers_greetings_with_none(options: dict[str, Any]) -> None:
    with broker.Daemon() as daemon:
        proxy = broker.Proxy(daemon.register(Desk()), greeting="hello", **options)
        assert proxy._broker.welcome is None
        assert proxy.open is True


@pytest.mark.parametrize("admit", [None, lambda client, greeting: greeting])
def test_greetings_use_nothing_up(admit: Any) -> None:
    with broker.Daemon(admit=admit) as daemon:
        proxy = broker.Proxy(daemon.register(Desk()), greeting="hello", timeout=20)
        for _ in range(1_200):  # more than the calls that one side may have sent which have not started
            proxy._broker.reconnect()
        assert proxy.open is True


def test_a_session_is_a_dict_of_its_own(options: dict[str, Any]) -> None:
    class Counting:
        def count(self) -> int:
            session = broker.current_context.session
            session["count"] = session.get("count", 0) + 1
            return int(session["count"])

    with broker.Daemon() as daemon:
        uri = daemon.register(Counting(), "counting")
        one, other = broker.Proxy(uri, **options), broker.Proxy(uri, **options)
        assert [one.count(), one.count(), other.count(), broker.options(one, timeout=9).count()] == [1, 2, 1, 3]
        one._broker.close()
        assert one.count() == 1
        assert b"has no session" in invoke(uri, b"\x0a\x08counting\x12\x05count")
    with pytest.raises(BrokerError, match="carries out no call"):
        broker.current_context.session  # noqa: B018


def test_what_cannot_be(uri: broker.URI) -> None:
    async def admit(client: object, greeting: object) -> None: ...

    with pytest.raises(TypeError, match="admit"):
        broker.Daemon(admit=admit)
    with pytest.raises(TypeError, match="admit"):
        broker.Daemon(admit="everybody")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="greeting"):
        broker.options(broker.Proxy(uri), greeting="other")
    with pytest.raises(broker.errors.CodecError):
        broker.Proxy(uri, greeting=threading.Lock()).who()


def test_reflection_shows_who_is_not_admitted_nothing(uri: broker.URI) -> None:
    with grpc.insecure_channel(str(uri.location)) as channel:
        ask: Any = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        answer = next(ask(iter([b"\x3a\x00"])))  # list_services
    assert b"broker.v1.ObjectBroker" in answer
    assert b"desk" not in answer
