"""Callers that wait no longer than they like, while their calls go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import broker
from broker.errors import CallTimeout


class Kitchen:
    """Cooks as long as it has to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.served: list[Any] = []
        self.done = threading.Event()

    def cook(self, inner: Any = None) -> str:
        self.go_on.wait(20)
        if inner is not None:
            inner.remaining()
        context = broker.current_context
        self.served.append((context.remaining, context.cancelled))
        self.done.set()
        return "served"

    def remaining(self) -> float | None:
        return broker.current_context.remaining

    @property
    def dish(self) -> str:
        return self.cook()

    def courses(self) -> Iterator[str]:
        self.cook()
        return iter(["one"])


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    "call",
    [
        lambda kitchen, other: kitchen.cook(),
        lambda kitchen, other: kitchen.cook(other),
        lambda kitchen, other: kitchen.dish,
        lambda kitchen, other: kitchen.courses(),
        lambda kitchen, other: list(batch_of(kitchen)()),
    ],
    ids=["method", "nested", "property", "stream", "batch"],
)
def test_the_caller_gives_up_and_the_call_goes_on(call: Callable[..., object], local: bool) -> None:
    target = Kitchen()
    with broker.Daemon() as daemon:
        uri = daemon.register(target, "kitchen")
        kitchen = broker.Proxy(uri, patience=0.1, local=local)
        kitchen._broker.bind()
        with pytest.raises(CallTimeout, match=r"'kitchen' at .* took longer than the patience of 0\.1 s") as raised:
            call(kitchen, broker.Proxy(uri, local=local))
        assert raised.value.may_have_run is True
        target.go_on.set()
        assert target.done.wait(20)
        kitchen._broker.set("patience", 20)
        assert kitchen.cook() == "served"
    assert target.served == [(None, False)] * 2


def batch_of(kitchen: broker.Proxy) -> Any:
    batch = broker.Batch(kitchen)
    batch.cook()
    return batch


def test_what_a_timeout_ends_ends_all_the_same() -> None:
    target = Kitchen()
    with broker.Daemon() as daemon:
        kitchen = broker.Proxy(daemon.register(target, "kitchen"), patience=20)
        assert kitchen.remaining() is None
        kitchen._broker.set("timeout", 0.1)
        with pytest.raises(CallTimeout, match=r"longer than its time of 0\.1 s"):
            kitchen.cook()
        target.go_on.set()


def test_futures_and_coroutines_have_ways_of_their_own() -> None:
    target = Kitchen()
    with broker.Daemon() as daemon:
        uri = daemon.register(target, "kitchen")
        future = broker.Proxy(uri, patience=0.01).cook.future()
        with pytest.raises(TimeoutError):
            future.result(0.1)
        target.go_on.set()
        assert future.result(20) == "served"
        with pytest.raises(TypeError, match="patience is for callers that block"):
            broker.AsyncProxy(uri, patience=1)
        with pytest.raises(TypeError, match="patience is for callers that block"):
            broker.AsyncProxy(uri)._broker.set("patience", 1)
        for patience in (0, -1, float("nan")):
            with pytest.raises(ValueError, match="patience is a number of seconds above 0"):
                broker.Proxy(uri, patience=patience)
