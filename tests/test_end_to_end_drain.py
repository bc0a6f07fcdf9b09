"""Daemons that are told to end: nothing that was accepted is lost, and nobody is left in the dark."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import broker
from broker import errors

Run = Callable[..., Any]

DESK = """
import broker, signal, sys, threading, time

enough = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: enough.set())

class Desk:
    def serve(self, key):
        time.sleep(0.01)
        return key
    def slow(self):
        print("begun")
        enough.wait(60)
        return "done"

daemon = broker.Daemon()
with broker.locate_ns() as ns:
    ns.register(sys.argv[1], daemon.register(Desk()), tags=["desk"])
print("serves", daemon.location)
daemon.request_loop()
print("over")
"""


@pytest.fixture
def start(run_program: Run, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts a desk under a name, and a name server before the first."""
    with broker.start_ns(port=0) as names:
        monkeypatch.setenv("BROKER_NS_PORT", str(names.address[1]))
        yield lambda name: run_program(DESK, name)


def test_a_rolling_restart_fails_no_call(start: Callable[[str], Any]) -> None:
    """32 callers of one tag, while each of the two daemons behind it is replaced."""
    desks = {name: start(name) for name in ("desk.a", "desk.b")}
    for desk in desks.values():
        desk.line("serves")
    over, made, failures = threading.Event(), [0] * 32, []
    rounds = threading.Semaphore(0)

    def call(number: int) -> None:
        proxy: Any = broker.Proxy("BROKERMETA:desk", wait=60)
        while not over.is_set():
            try:
                assert proxy.serve(made[number]) == made[number]
                made[number] += 1
                rounds.release()
            except Exception as error:
                failures.append(error)

    callers = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(32)]
    for caller in callers:
        caller.start()
    for name, desk in desks.items():
        for _ in range(64):
            assert rounds.acquire(timeout=60)
        desk.send_signal(signal.SIGTERM)
        assert desk.wait() == 0, desk.errors
        desks[name] = start(name)
        desks[name].line("serves")
    for _ in range(64):
        assert rounds.acquire(timeout=60)
    over.set()
    for caller in callers:
        caller.join(60)
    assert failures == []
    assert min(made) > 0


class Clerk:
    """One that goes on until it is told."""

    def __init__(self) -> None:
        self.begun, self.enough = threading.Event(), threading.Event()

    def slow(self) -> str:
        self.begun.set()
        assert self.enough.wait(60)
        return "done"

    def next(self) -> int:
        return 1


def _next(uri: broker.URI, through: str) -> int:
    """Calls, and waits for the daemon as long as need be."""
    if through == "task":

        async def call() -> Any:
            return await broker.AsyncProxy(uri, local=False, wait=60).next()

        return int(asyncio.run(call()))
    proxy: Any = broker.Proxy(uri, local=False, wait=60)
    return int(proxy.next() if through == "thread" else proxy.next.future().result(60))


def _call_until_it_fails(uri: broker.URI) -> None:
    while True:
        broker.Proxy(uri, local=False).next()


@pytest.mark.parametrize("through", ["thread", "future", "task"])
def test_a_call_waits_for_the_next_daemon_while_the_last_one_drains(through: str) -> None:
    """A daemon that drains still answers who connects: only to say that it takes no calls."""
    clerk, ending = Clerk(), broker.Daemon()
    uri = ending.register(clerk, "clerk")
    ending.start()
    under_way = broker.Proxy(uri, local=False).slow.future()
    assert clerk.begun.wait(60)
    shutdown = threading.Thread(target=ending.shutdown, args=(60,))
    shutdown.start()
    with pytest.raises(errors.CommunicationError, match="shutting down") as caught:
        _call_until_it_fails(uri)
    assert caught.value.may_have_run is False

    results: list[int] = []
    waiting = threading.Thread(target=lambda: results.append(_next(uri, through)))
    waiting.start()
    waiting.join(0.3)  # longer than five attempts take
    assert waiting.is_alive()
    clerk.enough.set()
    shutdown.join(60)
    assert under_way.result(60) == "done"
    with broker.Daemon(port=int(uri.location.rpartition(":")[2])) as following:  # type: ignore[union-attr]
        following.register(Clerk(), "clerk")
        waiting.join(60)
    assert results == [1]


def test_sigterm_lets_calls_finish_and_takes_no_further_ones(start: Callable[[str], Any]) -> None:
    desk = start("desk")
    location = desk.line("serves")
    proxy: Any = broker.Proxy("BROKERNAME:desk")
    result = proxy.slow.future()
    desk.line("begun")
    with grpc.insecure_channel(location) as channel, broker.locate_ns() as ns:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=40) == b"\x08\x01"  # SERVING
        watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
        seen = iter(watch(b"", timeout=40))
        assert next(seen) == b"\x08\x01"
        desk.send_signal(signal.SIGTERM)
        assert next(seen) == b"\x08\x02"  # NOT_SERVING, and the name goes, while the call goes on
        while ns.list("desk"):
            time.sleep(0.01)
        assert not result.done()
        desk.send_signal(signal.SIGUSR1)
        assert result.result(40) == "done"
    assert desk.wait() == 0, desk.errors
    assert desk.output[-1] == "over\n"


class Counter:
    """Calls back whoever calls it."""

    def ask(self, function: Callable[[], int]) -> int:
        return function() + 1

    def ask_later(self, function: Any) -> int:
        return int(broker.submit(function).result(40)) + 1

    async def ask_and_await(self, function: Any) -> int:
        return int(await broker.AsyncProxy(function)()) + 1

    def two(self) -> int:
        return 2

    @property
    def three(self) -> int:
        return 3


def _batch(proxy: Any, local: bool) -> int:
    batch: Any = broker.Batch(proxy)
    batch.two()
    batch.two()
    return sum(batch())


def _awaits(proxy: Any, local: bool) -> int:
    async def call() -> int:
        return int(await broker.AsyncProxy(proxy._broker.uri, local=local).two())

    return asyncio.run(call())


NESTED: dict[str, tuple[Callable[[Any, bool], int], int]] = {
    "blocking": (lambda proxy, local: proxy.two(), 2),
    "attribute": (lambda proxy, local: proxy.three, 3),
    "future": (lambda proxy, local: proxy.two.future().result(40), 2),
    "batch": (_batch, 4),
    "task": (_awaits, 2),
    "another proxy": (lambda proxy, local: broker.Proxy(proxy._broker.uri, local=local).two(), 2),
    "deeper": (lambda proxy, local: proxy.ask(broker.export(proxy.two)), 3),
}


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("asks", ["ask", "ask_later"])
@pytest.mark.parametrize("kind", NESTED)
def test_what_a_call_under_way_waits_for_goes_through_while_the_daemon_drains(
    kind: str, asks: str, local: bool
) -> None:
    make, expected = NESTED[kind]
    daemon = broker.Daemon()
    daemon.start()
    proxy: Any = broker.Proxy(daemon.register(Counter()), local=local)
    inside, drains = threading.Event(), threading.Event()

    def back() -> int:
        inside.set()
        assert drains.wait(10)
        return make(proxy, local)

    result = getattr(proxy, asks).future(broker.export(back))
    assert inside.wait(10)
    shutting_down = threading.Thread(target=daemon.shutdown, args=(20,))
    shutting_down.start()
    while _takes_calls(proxy):
        pass
    drains.set()
    assert result.result(40) == expected + 1
    shutting_down.join(10)
    assert not shutting_down.is_alive()


def _takes_calls(proxy: Any) -> bool:
    try:
        proxy.two()
    except errors.CommunicationError as error:
        return error.may_have_run
    return True


def test_a_nested_call_of_a_chain_that_is_over_there_was_surely_not_executed() -> None:
    """Its daemon drains for the sake of another call."""
    daemon = broker.Daemon()
    daemon.start()
    proxy: Any = broker.Proxy(daemon.register(Counter()), local=False)
    held, entered, drains = threading.Event(), threading.Event(), threading.Event()

    def hold() -> int:
        entered.set()
        assert held.wait(10)
        return 0

    holding = proxy.ask.future(broker.export(hold))
    assert entered.wait(10)
    shutting_down = threading.Thread(target=daemon.shutdown, args=(20,))

    class Elsewhere:
        def relay(self) -> int:
            assert drains.wait(10)
            return int(proxy.two())

    with broker.Daemon() as other:
        result = broker.Proxy(other.register(Elsewhere())).relay.future()
        shutting_down.start()
        while _takes_calls(proxy):
            pass
        drains.set()
        with pytest.raises(errors.RemoteError, match="is shutting down") as caught:
            result.result(40)
        # It is sent again, over a connection that is turned away, or told so as soon as it stands.
        assert caught.value.type in ("broker.errors.CannotConnect", "broker.errors.CommunicationError")
    held.set()
    assert holding.result(40) == 1
    shutting_down.join(10)
    assert not shutting_down.is_alive()


def test_a_stream_that_looks_does_not_hold_up_the_end() -> None:
    class Clock:
        def ticks(self) -> Iterator[int]:
            while not broker.current_context.wait_cancelled(0.01):
                yield 1

    daemon = broker.Daemon()
    daemon.start()
    proxy: Any = broker.Proxy(daemon.register(Clock()), local=False)
    ticks = proxy.ticks()
    next(ticks)
    began = time.monotonic()
    daemon.shutdown(grace=30)
    assert time.monotonic() - began < 10
    with pytest.raises(errors.CommunicationError, match="is shutting down") as caught:
        for _ in ticks:
            pass
    assert caught.value.may_have_run


def test_a_stream_that_never_ends_is_closed_before_the_daemon_is_gone() -> None:
    closed = threading.Event()

    class Clock:
        def ticks(self) -> Iterator[int]:
            try:
                while True:
                    yield 1
                    time.sleep(0.2)
            finally:
                closed.set()

    daemon = broker.Daemon()
    daemon.start()
    proxy: Any = broker.Proxy(daemon.register(Clock()), local=False)
    ticks = proxy.ticks()
    next(ticks)
    daemon.shutdown(grace=0.1)
    assert closed.is_set()
    with pytest.raises(errors.ConnectionClosedError, match="is shutting down"):
        for _ in ticks:
            pass


def test_a_second_signal_ends_it_at_once(start: Callable[[str], Any]) -> None:
    desk = start("desk")
    location = desk.line("serves")
    proxy: Any = broker.Proxy("BROKERNAME:desk")
    result = proxy.slow.future()
    desk.line("begun")
    with grpc.insecure_channel(location) as channel:
        watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
        seen = iter(watch(b"", timeout=40))
        assert next(seen) == b"\x08\x01"
        desk.send_signal(signal.SIGTERM)
        assert next(seen) == b"\x08\x02"
    began = time.monotonic()
    desk.send_signal(signal.SIGTERM)
    assert desk.wait() == -signal.SIGTERM
    assert time.monotonic() - began < 40  # and not the minute of the call
    with pytest.raises(errors.ConnectionClosedError):
        result.result(40)
