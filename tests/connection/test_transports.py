"""The same daemon over each transport: gRPC's completion queues, and the public API of grpcio."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import broker
from broker.connection import completion
from broker.connection.client import pool

SOON = 40.0


class Room:
    """Has a door that a test opens."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.door = threading.Event()

    def echo(self, value: object) -> object:
        return value

    def enter(self) -> str:
        self.entered.release()
        assert self.door.wait(SOON)
        return "left"

    def until_cancelled(self) -> None:
        self.entered.release()
        if broker.current_context.wait_cancelled(SOON):
            self.entered.release()

    def call_back(self, function: Callable[[int], object], depth: int) -> object:
        return function(depth)


@pytest.fixture(params=["client on a queue", "client in public"])
def client_side(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "client on a queue")


@pytest.fixture(params=["server on a queue", "server in public"])
def world(
    request: pytest.FixtureRequest, client_side: bool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Room, Any]]:
    assert completion.is_available, "this grpcio is expected to have what the completion queues need"
    room = Room()
    monkeypatch.setattr(completion, "is_available", request.param == "server on a queue")
    daemon = broker.Daemon()
    uri = daemon.register(room, "room")
    daemon.start()
    monkeypatch.setattr(completion, "is_available", client_side)
    yield room, broker.Proxy(uri, local=False)
    room.door.set()
    daemon.shutdown(grace=1)


def test_values_of_every_size(world: tuple[Room, Any]) -> None:
    _, proxy = world
    for size in (0, 1, 100_000, 1 << 20, (5 << 20) + 7):
        assert proxy.echo(bytes(size)) == bytes(size)


def test_threads_share_the_connection(world: tuple[Room, Any]) -> None:
    _, proxy = world
    with ThreadPoolExecutor(24) as threads:
        assert list(threads.map(proxy.echo, range(1_000))) == list(range(1_000))


def test_a_call_that_takes_long_holds_nobody_up(world: tuple[Room, Any]) -> None:
    room, proxy = world
    with ThreadPoolExecutor(8) as threads:
        slow = [threads.submit(proxy.enter) for _ in range(4)]
        for _ in slow:
            assert room.entered.acquire(timeout=SOON)
        assert [proxy.echo(number) for number in range(200)] == list(range(200))
        room.door.set()
        assert [future.result(SOON) for future in slow] == ["left"] * 4
    assert proxy.echo(1) == 1


def test_a_callback_runs_on_the_thread_that_waits(world: tuple[Room, Any]) -> None:
    _, proxy = world
    threads: list[int] = []

    def down(depth: int) -> int:
        threads.append(threading.get_ident())
        return int(proxy.call_back(broker.export(down), depth - 1)) + 1 if depth else 0

    assert proxy.call_back(broker.export(down), 5) == 5
    assert set(threads) == {threading.get_ident()}


def test_a_caller_that_gives_up_is_noticed(world: tuple[Room, Any]) -> None:
    room, proxy = world
    proxy.echo(0)
    proxy._broker.set("timeout", 0.5)
    with pytest.raises(broker.errors.CallTimeout):
        proxy.until_cancelled()
    assert room.entered.acquire(timeout=SOON)
    assert room.entered.acquire(timeout=SOON)


def test_a_daemon_that_ends_takes_its_calls_with_it(world: tuple[Room, Any]) -> None:
    room, proxy = world
    future = proxy.until_cancelled.future()
    assert room.entered.acquire(timeout=SOON)
    [connection] = [c for c in pool._connections.values() if c.place.port == proxy._broker.uri.port]
    connection.engine.lost("the test cuts it off")
    with pytest.raises(broker.errors.ConnectionClosedError):
        future.result(SOON)
    assert room.entered.acquire(timeout=SOON)  # the method was told
    assert proxy.echo("again") == "again"  # over a new one


def test_many_connections_at_once(world: tuple[Room, Any]) -> None:
    """More than a pool of threads would have room for."""
    _, proxy = world
    uri = proxy._broker.uri
    proxies: list[Any] = [broker.Proxy(uri, local=False, credentials=None) for _ in range(40)]
    with ThreadPoolExecutor(40) as threads:
        assert list(threads.map(lambda p: p.echo(1), proxies)) == [1] * 40


def test_readers_that_were_held_up_go_back_to_their_number() -> None:
    room = Room()
    others = _pollers()  # of daemons of this process that are forgotten
    with broker.Daemon() as daemon:
        proxy: Any = broker.Proxy(daemon.register(room, "room"), local=False)
        with ThreadPoolExecutor(8) as threads:
            futures = []
            for _ in range(6):
                futures.append(threads.submit(proxy.enter))
                assert room.entered.acquire(timeout=SOON)
                assert proxy.echo(1) == 1
            room.door.set()
            assert [future.result(SOON) for future in futures] == ["left"] * 6
        assert proxy.echo(2) == 2
        give_up = time.monotonic() + SOON
        while _pollers() > others + 2 and time.monotonic() < give_up:
            assert proxy.echo(3) == 3  # a poller that is one too many ends when it comes by
        assert _pollers() <= others + 2


def _pollers() -> int:
    return sum(thread.name == "broker-poller" for thread in threading.enumerate())


class LateSender:
    """The call of a stream, on which something is sent just after gRPC has seen the last of it."""

    def __init__(self, stream: completion.ClientStream) -> None:
        self._stream = stream
        self._call = stream._call
        self.was_late = False

    def next_event(self) -> Any:
        event = self._call.next_event()
        if event.tag == "status" and self._stream._due == {event.tag}:
            self.was_late = True
            self._stream.send((b"late",))
        return event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def test_what_is_sent_as_a_stream_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC has destroyed the queue by then: whoever asked it for another event would crash."""
    senders: list[LateSender] = []
    readers: list[threading.Thread] = []
    read = completion.ClientStream.read

    def read_with_a_late_sender(stream: completion.ClientStream) -> None:
        sender = LateSender(stream)
        senders.append(sender)
        readers.append(threading.current_thread())
        monkeypatch.setattr(stream, "_call", sender)
        read(stream)

    monkeypatch.setattr(completion.ClientStream, "read", read_with_a_late_sender)
    for _ in range(20):
        daemon = broker.Daemon()
        uri = daemon.register(Room(), "room")
        daemon.start()
        proxy: Any = broker.Proxy(uri, local=False)
        assert proxy.echo(1) == 1
        daemon.shutdown(grace=0)
        readers[-1].join(SOON)
        assert not senders[-1]._stream._due
        if senders[-1].was_late:
            break
    assert senders[-1].was_late


def test_a_reader_that_fails_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    with broker.Daemon() as daemon:
        proxy: Any = broker.Proxy(daemon.register(Room(), "room"), local=False, timeout=SOON)
        assert proxy.echo(1) == 1
        engine = proxy._broker._remote.session.connection.engine
        monkeypatch.setattr(engine, "receive", lambda message: 1 / 0)
        with pytest.raises(broker.errors.ConnectionClosedError, match=r"internal error .*ZeroDivisionError"):
            proxy.echo(2)
        assert proxy.echo(3) == 3
        assert [args.exc_type for args in failed] == [ZeroDivisionError]
