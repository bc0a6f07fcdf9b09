"""Requests that have begun and have not come: which of them are ended, without a socket."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from broker.connection.timers import timers
from broker.services import requests
from broker.services.requests import Requests

SOON = 40.0


class Caller:
    """A call whose request comes when the test says so."""

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()
        self.cancelled = False

    def receive(self) -> str:
        self.begun.set()
        assert self.over.wait(SOON)
        if self.cancelled:
            raise ConnectionError("cancelled")
        return "request"

    def cancel(self) -> None:
        self.cancelled = True
        self.over.set()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time passes as the test says, and what is done once a second too."""
    clock = Clock()
    monkeypatch.setattr(requests, "time", clock)
    monkeypatch.setattr(timers, "call_later", lambda seconds, function: None)
    return clock


@pytest.fixture
def begin() -> Any:
    with ThreadPoolExecutor(16) as threads:
        callers: list[Caller] = []

        def begin(awaited: Requests) -> tuple[Caller, Future[str]]:
            caller: Any = Caller()
            callers.append(caller)
            coming = threads.submit(awaited.receive, caller.receive, caller)
            assert caller.begun.wait(SOON)
            return caller, coming

        yield begin
        for caller in callers:
            caller.over.set()


Begin = Callable[[Requests], tuple[Caller, "Future[str]"]]


def test_a_request_that_does_not_come_in_time_is_cancelled(clock: Clock, begin: Begin) -> None:
    met: Counter[str] = Counter()
    awaited = Requests(10.0, 100, lambda setting: met.update([setting]))
    early, coming = begin(awaited)
    clock.now = 6.0
    late, later = begin(awaited)
    awaited.sweep()
    assert not early.cancelled
    clock.now = 10.0
    awaited.sweep()
    assert (early.cancelled, late.cancelled) == (True, False)
    with pytest.raises(ConnectionError):
        coming.result(SOON)
    late.over.set()
    assert later.result(SOON) == "request"
    assert met == {"request_timeout": 1}
    assert len(awaited) == 0


def test_where_too_many_are_awaited_the_oldest_make_room(clock: Clock, begin: Begin) -> None:
    met: Counter[str] = Counter()
    awaited = Requests(60.0, 2, lambda setting: met.update([setting]))
    begun = []
    for _ in range(5):
        begun.append(begin(awaited)[0])
        clock.now += 0.4
    awaited.sweep()
    assert [caller.cancelled for caller in begun] == [True, True, True, False, False]
    assert met == {"max_unary_calls": 3}
    awaited.sweep()
    assert met == {"max_unary_calls": 3}


def test_a_burst_is_let_in(clock: Clock, begin: Begin) -> None:
    awaited = Requests(60.0, 2, lambda setting: None)
    begun = [begin(awaited)[0] for _ in range(8)]
    clock.now = 0.9
    awaited.sweep()
    assert not any(caller.cancelled for caller in begun)
    clock.now = 1.0
    awaited.sweep()
    assert sum(caller.cancelled for caller in begun) == 6
