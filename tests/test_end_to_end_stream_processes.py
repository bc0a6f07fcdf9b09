"""Streams between processes: killed consumers and producers, memory, restarts."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import broker

SOON = 40.0
Run = Callable[..., Any]

SERVER = """
    import sys
    import broker

    class Source:
        def __init__(self):
            self._made = 0

        def texts(self, size):
            while True:
                self._made += 1
                yield "x" * size

        def made(self):
            return self._made

        def memory(self):
            with open("/proc/self/statm") as statistics:
                return int(statistics.read().split()[1]) * 4096

    daemon = broker.Daemon(port=int(sys.argv[1]))
    daemon.register(Source(), "source")
    print("port", daemon.address[1], flush=True)
    daemon.request_loop()
"""

CLIENT = """
    import sys
    import broker

    for number, _ in enumerate(broker.Proxy(sys.argv[1]).numbers()):
        if number == 100:
            print("reading", flush=True)
"""


def memory() -> int:
    with Path("/proc/self/statm").open(encoding="ascii") as statistics:
        return int(statistics.read().split()[1]) * 4096


@pytest.fixture
def served(run_program: Run) -> tuple[Any, Any]:
    """A process with a source, and a proxy for it."""
    server = run_program(SERVER, "0")
    return server, broker.Proxy(f"BROKER:source@localhost:{server.line('port')}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_the_consumer_stops_the_producer(run_program: Run, number: int) -> None:
    class Source:
        def __init__(self) -> None:
            self.closed = threading.Event()

        def numbers(self) -> Iterator[int]:
            number = 0
            try:
                while True:
                    yield (number := number + 1)
            finally:
                self.closed.set()

    source = Source()
    with broker.Daemon() as daemon:
        client = run_program(CLIENT, str(daemon.register(source)))
        client.line("reading")
        client.send_signal(number)
        assert source.closed.wait(SOON)


def test_the_death_of_the_producer_raises_in_the_consumer_behind_what_has_arrived(served: tuple[Any, Any]) -> None:
    server, proxy = served
    texts = proxy.texts(10)
    assert next(texts) == "x" * 10
    server.send_signal(signal.SIGKILL)
    with pytest.raises(broker.errors.ConnectionClosedError, match="the stream of 'texts' of 'source'"):
        for _ in texts:
            pass
    assert list(texts) == []


def test_a_producer_that_is_much_faster_than_its_consumer_holds_bounded_memory(served: tuple[Any, Any]) -> None:
    _, proxy = served
    size = 50_000
    with proxy.texts(size) as texts:
        for _ in range(200):  # as fast as it can, for the window to grow
            next(texts)
        before = proxy.memory(), memory()
        for _ in range(500):
            assert len(next(texts)) == size
            time.sleep(0.001)
        after = proxy.memory(), memory()
        ahead = proxy.made() - 700
    assert ahead * size < 32 << 20
    assert after[0] - before[0] < 32 << 20
    assert after[1] - before[1] < 32 << 20


def test_a_session_whose_stream_was_lost_says_so_once(run_program: Run) -> None:
    server = run_program(SERVER, "0")
    port = server.line("port")
    proxy: Any = broker.Proxy(f"BROKER:source@localhost:{port}", wait=SOON)
    told = proxy.texts(10)
    next(told)
    server.send_signal(signal.SIGKILL)
    server.wait()
    run_program(SERVER, port).line("port")
    with pytest.raises(broker.errors.ConnectionClosedError):
        list(told)
    assert proxy.made() == 0, "the consumer knows"


def test_a_lost_stream_whose_consumer_does_not_look_is_told_by_the_next_call(run_program: Run) -> None:
    server = run_program(SERVER, "0")
    port = server.line("port")
    proxy: Any = broker.Proxy(f"BROKER:source@localhost:{port}", wait=SOON)
    forgotten = proxy.texts(10)
    next(forgotten)
    server.send_signal(signal.SIGKILL)
    server.wait()
    run_program(SERVER, port).line("port")
    with pytest.raises(broker.errors.ConnectionClosedError, match=r"the state that .* kept for this proxy was lost"):
        proxy.made()
    assert proxy.made() == 0
    with pytest.raises(broker.errors.ConnectionClosedError):
        list(forgotten)
