"""When methods run and on which threads: `max_concurrency`, `executor=`, `async def`, and their mixtures."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import broker

SOON = 40.0


class Counting:
    """Knows how many are inside, and the most that ever were."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.order: list[int] = []
        self.threads: set[str] = set()
        self._lock = threading.Lock()

    def _enter(self, number: int) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.order.append(number)
            self.threads.add(threading.current_thread().name)

    def plain(self, number: int) -> int:
        self._enter(number)
        time.sleep(0.001)
        with self._lock:
            self.inside -= 1
        return number

    async def later(self, number: int) -> int:
        self._enter(number)
        await asyncio.sleep(0.001)
        with self._lock:
            self.inside -= 1
        return number

    def forget(self) -> None:
        self.order.clear()

    @property
    def value(self) -> int:
        self._enter(-1)
        with self._lock:
            self.inside -= 1
        return 0


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


def call(proxy: Any, members: list[str], count: int = 60) -> None:
    """Calls the members by turns, all at the same time."""
    futures = [getattr(proxy, members[number % len(members)]).future(number) for number in range(count)]
    assert [future.result(SOON) for future in futures] == list(range(count))


@pytest.mark.parametrize("members", [["plain"], ["later"], ["plain", "later"]])
@pytest.mark.parametrize("limit", [1, 3])
def test_max_concurrency_bounds_plain_and_async_methods_together(
    daemon: broker.Daemon, members: list[str], limit: int
) -> None:
    counting = Counting()
    call(broker.Proxy(daemon.register(counting, max_concurrency=limit), local=False), members)
    assert counting.most == limit
    if limit == 1:
        assert counting.order == list(range(60))


def test_without_a_bound_async_methods_run_at_the_same_time(daemon: broker.Daemon) -> None:
    counting = Counting()
    call(broker.Proxy(daemon.register(counting), local=False), ["later"])
    assert counting.most > 1


@pytest.mark.parametrize("limit", [None, 2])
def test_the_bound_of_a_class_holds_for_all_its_instances(daemon: broker.Daemon, limit: int | None) -> None:
    inside: list[int] = []
    most: list[int] = []
    made: list[object] = []

    @broker.behavior(instance_mode="percall", max_concurrency=1)
    class Shy:
        def __init__(self) -> None:
            made.append(self)

        def visit(self) -> None:
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.001)
            inside.pop()

    proxy = broker.Proxy(daemon.register(Shy, max_concurrency=limit), local=False)
    concurrent.futures.wait([proxy.visit.future() for _ in range(30)], SOON)
    assert len(made) == len(most) == 30
    assert max(most) == (limit or 1)  # what is registered is stronger than what the class says


def test_calls_of_many_callers_of_one_object_run_in_order_of_arrival(daemon: broker.Daemon) -> None:
    """That of each caller's own calls, of which each begins when the one before was answered or is under way."""
    counting = Counting()
    uri = daemon.register(counting, max_concurrency=1)

    def visit(caller: int) -> None:
        proxy = broker.Proxy(uri, local=False)
        futures = [proxy.plain.future(caller * 100 + number) for number in range(20)]
        assert [future.result(SOON) for future in futures] == [caller * 100 + number for number in range(20)]

    with concurrent.futures.ThreadPoolExecutor(5) as callers:
        list(callers.map(visit, range(5)))
    for caller in range(5):
        own = [number for number in counting.order if number // 100 == caller]
        assert own == sorted(own)
    assert counting.most == 1


# ---- executor=


def test_a_driver_with_one_thread_gets_every_kind_of_call(daemon: broker.Daemon) -> None:
    counting = Counting()
    with concurrent.futures.ThreadPoolExecutor(1, "driver") as driver:
        proxy = broker.Proxy(daemon.register(counting, executor=driver), local=False)
        call(proxy, ["plain"])
        assert proxy.value == 0
        proxy.plain.oneway(1)
        proxy.plain(2)
    assert counting.threads == {"driver_0"}
    assert counting.order == [*range(60), -1, 1, 2]
    assert counting.most == 1


def test_an_async_method_of_an_object_with_an_executor_runs_on_the_loop(daemon: broker.Daemon) -> None:
    counting = Counting()
    with concurrent.futures.ThreadPoolExecutor(1, "driver") as driver:
        call(broker.Proxy(daemon.register(counting, executor=driver, max_concurrency=2), local=False), ["later"])
    assert counting.threads == {"broker-loop"}
    assert counting.most == 2


class MainThread(concurrent.futures.Executor):
    """What a toolkit has: jobs that are posted to the thread that draws."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        self._jobs.put(run)
        return future

    def main_loop(self) -> None:
        while (job := self._jobs.get(timeout=SOON)) is not None:
            job()

    def quit(self) -> None:
        self._jobs.put(None)


def test_an_executor_may_be_the_main_thread_of_a_program(daemon: broker.Daemon) -> None:
    """Also for the calls that come back while a method waits there."""
    toolkit = MainThread()
    threads: list[threading.Thread] = []

    class Widget:
        def draw(self, painter: Any, me: Any) -> str:
            threads.append(threading.current_thread())
            return f"a frame around {painter.paint(me)}"

        def size(self) -> int:
            threads.append(threading.current_thread())
            return 3

    class Painter:
        def paint(self, widget: Any) -> str:
            return f"a picture of {widget.size()} inches"

    painter = broker.Proxy(daemon.register(Painter()), local=False)
    proxy = broker.Proxy(daemon.register(Widget(), executor=toolkit), local=False)
    future = proxy.draw.future(painter, proxy)
    future.add_done_callback(lambda _: toolkit.quit())
    toolkit.main_loop()
    assert future.result() == "a frame around a picture of 3 inches"
    assert threads == [threading.main_thread()] * 2


def test_objects_with_executors_do_not_wait_for_each_other(daemon: broker.Daemon) -> None:
    free = threading.Event()

    class Instrument:
        def measure(self) -> None:
            assert free.wait(SOON)

        def reset(self) -> str:
            free.set()
            return "reset"

    with concurrent.futures.ThreadPoolExecutor(1) as one, concurrent.futures.ThreadPoolExecutor(1) as other:
        first = broker.Proxy(daemon.register(Instrument(), executor=one), local=False)
        second = broker.Proxy(daemon.register(Instrument(), executor=other), local=False)
        measuring = first.measure.future()
        assert second.reset() == "reset"
        measuring.result(SOON)
