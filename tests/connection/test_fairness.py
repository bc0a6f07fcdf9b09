"""Callers get busy workers in turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import broker
from broker.connection.fairness import FairQueue

SOON = 40.0


def test_owners_take_turns_and_each_keeps_its_order() -> None:
    queue: FairQueue[str] = FairQueue()
    assert not queue
    for number in range(4):
        queue.put("greedy", f"greedy {number}")
    queue.put("modest", "modest 0")
    queue.put("third", "third 0")
    taken = [queue.take()]
    queue.put_first("greedy", taken.pop())
    taken += [queue.take() for _ in range(3)]
    queue.put("modest", "modest 1")
    taken += [queue.take() for _ in range(4)]
    assert taken == ["greedy 0", "modest 0", "third 0", "greedy 1", "modest 1", "greedy 2", "greedy 3"]
    assert not queue
    with pytest.raises(KeyError):
        queue.take()


class Bench:
    """A workplace whose visitors stay until they may leave."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)
        self.order: list[str] = []

    def work(self, name: str) -> None:
        self.order.append(name)
        self.entered.release()
        assert self.leave.acquire(timeout=SOON)


def until(condition: Callable[[], object]) -> None:
    """Waits for what happens on other threads and tells nobody."""
    give_up = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


def test_a_connection_that_floods_does_not_starve_another() -> None:
    """A hundred calls of one wait for two workers: a call of the other waits for two of them to end, not for all."""
    bench = Bench()
    with broker.Daemon(max_workers=2) as daemon, ThreadPoolExecutor(101) as threads:
        uri = daemon.register(bench, "bench")
        greedy: Any = broker.Proxy(uri, local=False)
        modest: Any = broker.Proxy(f"BROKER:bench@127.0.0.1:{daemon.address[1]}", local=False)  # its own connection
        assert greedy._broker.description == modest._broker.description
        try:
            calls = [threads.submit(greedy.work, "greedy") for _ in range(100)]
            for _ in range(2):
                assert bench.entered.acquire(timeout=SOON)
            until(lambda: daemon.stats().waiting == 98)
            calls.append(threads.submit(modest.work, "modest"))
            until(lambda: daemon.stats().waiting == 99)
            assert daemon.stats().connections == 2
            for _ in range(3):
                bench.leave.release()
                assert bench.entered.acquire(timeout=SOON)
            assert "modest" in bench.order
        finally:
            bench.leave.release(200)
        for call in calls:
            call.result(SOON)
    assert sorted(bench.order) == ["greedy"] * 100 + ["modest"]
