"""Objects and functions of one process that another one calls back: also if either is killed, frozen or restarted."""

from __future__ import annotations

import gc
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import broker
from broker import errors
from broker.connection.client import pool

Run = Callable[..., Any]
SOON = 40.0


class Hub:
    """Keeps what it is given, and calls it when it is told to."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.ended: list[str] = []

    def keep(self, *callbacks: Any) -> None:
        self.kept += callbacks

    def call(self) -> list[Any]:
        return [callback() for callback in self.kept]

    def echo(self, value: Any) -> Any:
        return value

    def on_close(self, name: str) -> None:
        broker.current_context.on_close(lambda: self.ended.append(name))

    def ended_sessions(self) -> list[str]:
        return self.ended


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


@pytest.fixture
def hub(daemon: broker.Daemon) -> Any:
    return broker.Proxy(daemon.register(Hub(), "hub"))


def eventually(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def double(value: int) -> int:
    return 2 * value


# ---- clients that are killed, or frozen

CLIENT = """
    import broker, sys, threading, time
    hub = broker.Proxy(sys.argv[1])
    def slow():
        print("called")
        time.sleep(60)
    hub.on_close("client")
    hub.keep(broker.export(slow))
    print("ready")
    threading.Event().wait(60)
"""


@pytest.mark.usefixtures("either_way")
def test_a_killed_client_ends_its_callbacks_and_its_session(run_program: Run, hub: Any, daemon: broker.Daemon) -> None:
    client = run_program(CLIENT, str(hub._broker.uri))
    client.line("ready")
    assert daemon.stats().exports == 1
    future = hub.call.future()
    client.line("called")
    client.send_signal(signal.SIGKILL)
    with pytest.raises(errors.RemoteError) as caught:
        future.result(SOON)
    assert caught.value.type.endswith("ConnectionClosedError")
    eventually(lambda: hub.ended_sessions() == ["client"])
    eventually(lambda: daemon.stats().exports == 0)
    with pytest.raises(errors.RemoteError, match="is gone"):
        hub.call()


@pytest.mark.usefixtures("either_way")
def test_a_frozen_client_holds_a_callback_up_for_its_time_and_no_longer(run_program: Run, hub: Any) -> None:
    client = run_program(CLIENT, str(hub._broker.uri))
    client.line("ready")
    client.freeze()
    began = time.monotonic()
    broker_options = broker.Proxy(hub._broker.uri, timeout=0.5)
    with pytest.raises(errors.CallTimeout):
        broker_options.call()
    eventually(lambda: hub.echo(1) == 1)
    assert time.monotonic() - began < 30  # and not the minute that it sleeps


# ---- daemons

LADDER = """
    import broker, sys
    class Ladder:
        def climb(self, height, other):
            return 0 if height == 0 else 1 + other(height - 1, broker.export(self.climb))
    daemon = broker.Daemon(max_workers=2)
    print("uri", daemon.register(Ladder(), "ladder"))
    daemon.request_loop()
"""


def test_nested_callbacks_fifty_deep_across_two_processes_with_two_workers(run_program: Run) -> None:
    ladder: Any = broker.Proxy(run_program(LADDER).line("uri"))
    threads: set[threading.Thread] = set()

    def climb(height: int, other: Any) -> int:
        threads.add(threading.current_thread())
        return 0 if height == 0 else 1 + int(other(height - 1, broker.export(climb)))

    with ThreadPoolExecutor(8) as executor:  # more chains than workers
        heights = list(executor.map(lambda _: climb(50, ladder.climb), range(8)))
    assert heights == [50] * 8
    assert all(thread.name.startswith("ThreadPool") for thread in threads)


HUB = """
    import broker, sys
    class Hub:
        def __init__(self): self.kept = []
        def keep(self, callback):
            broker.current_context.on_close(lambda: self.kept.remove(callback))
            self.kept.append(callback)
        def call(self, value): return [callback(value) for callback in self.kept]
    daemon = broker.Daemon(port=int(sys.argv[1]))
    print("uri", daemon.register(Hub(), "hub"))
    daemon.request_loop()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_daemon_gets_its_callbacks_again(run_program: Run, number: int) -> None:
    first = run_program(HUB, "0")
    uri = first.line("uri")
    hub: Any = broker.Proxy(uri)
    again = threading.Semaphore(0)
    threads: list[str] = []

    def subscribe() -> None:
        threads.append(threading.current_thread().name)
        hub.keep(broker.export(double))
        again.release()

    hub.keep(broker.export(double))
    hub._broker.on_reconnect(subscribe)
    assert hub.call(2) == [4]
    for _ in range(2):
        first.send_signal(number)
        first.wait()
        first = run_program(HUB, uri.rpartition(":")[2])
        first.line("uri")
        assert again.acquire(timeout=SOON)  # nobody calls through the proxy meanwhile
        assert hub.call(3) == [6]
    assert not any(name.startswith(("broker-localhost", "broker-reader")) for name in threads)


def listening(uri: str) -> Any:
    """A proxy with a function that refers to it, as most functions will."""
    hub: Any = broker.Proxy(uri)
    hub.call(1)
    hub._broker.on_reconnect(lambda: pytest.fail(f"called for {hub}"))
    return hub


@pytest.mark.parametrize("end", ["collected", "closed"])
def test_nobody_connects_for_a_proxy_that_is_not_used_any_more(run_program: Run, end: str) -> None:
    first = run_program(HUB, "0")
    uri = first.line("uri")
    hub = listening(uri)
    first.send_signal(signal.SIGKILL)
    first.wait()
    eventually(lambda: not hub._broker.connected)
    if end == "closed":
        hub._broker.close()
    else:
        remote = weakref.ref(hub._broker._remote)
        del hub
        eventually(lambda: (gc.collect(), remote() is None)[1])
    second = run_program(HUB, uri.rpartition(":")[2])
    second.line("uri")
    time.sleep(1.0)  # the first attempts follow each other within tenths of a second
    assert all(str(place.port) != uri.rpartition(":")[2] for place in pool._connections)


def test_a_program_that_exports_ends_by_itself(run_program: Run, hub: Any) -> None:
    client = run_program(
        """
        import broker, sys
        hub = broker.Proxy(sys.argv[1])
        hub.keep(broker.export(lambda: None))
        hub._broker.on_reconnect(lambda: print("never"))
        hub.call()
        """,
        str(hub._broker.uri),
    )
    assert client.wait() == 0
    assert (client.output, client.errors) == ([], "")
