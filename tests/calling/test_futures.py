"""`proxy.method.future`: a concurrent future to all who use it, of a call like any other."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, InvalidStateError
from typing import Any

import pytest

import broker
from broker import errors
from broker.connection import chains, room
from broker.connection.client import pool

SOON = 40.0  # seconds that nothing takes


class Worker:
    def __init__(self) -> None:
        self.seen: list[object] = []
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.cancelled = threading.Event()

    def note(self, value: object) -> object:
        self.seen.append(value)
        return value

    def add(self, a: int, b: int = 0) -> int:
        return a + b

    def fail(self, text: str) -> None:
        raise ValueError(text)

    def size(self, data: bytes) -> int:
        return sum(data)

    def wait(self) -> bool:
        self.entered.release()
        return self.go_on.wait(SOON)

    def hang(self) -> None:
        self.entered.release()
        if broker.current_context.wait_cancelled(SOON):
            self.cancelled.set()

    def context(self) -> tuple[str | None, float | None, object]:
        context = broker.current_context
        return str(context.correlation_id), context.remaining, dict(context.metadata)


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.go_on.set()


@pytest.fixture
def proxy(daemon: broker.Daemon, worker: Worker) -> Any:
    return broker.Proxy(daemon.register(worker, "worker"))


@pytest.fixture
def connected(proxy: Any) -> Any:
    assert proxy.add(1) == 1
    return proxy


# ---- results


def test_a_future_has_the_result(proxy: Any) -> None:
    future = proxy.add.future(1, b=2)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(SOON) == 3
    assert future.exception() is None
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)


def test_a_future_has_the_exception_with_its_remote_traceback(proxy: Any) -> None:
    future = proxy.fail.future("no")
    error = future.exception(SOON)
    assert isinstance(error, ValueError)
    assert "raise ValueError(text)" in broker.errors.get_remote_traceback(error)
    with pytest.raises(ValueError, match="no") as raised:
        future.result()
    assert raised.value is error


def test_a_missing_method_and_wrong_arguments_are_what_they_are_in_a_call(connected: Any) -> None:
    with pytest.raises(AttributeError, match="no remote member 'fly'"):
        connected.fly.future()
    assert isinstance(connected.add.future(1, 2, 3).exception(SOON), TypeError)


def test_what_cannot_be_encoded_is_raised_at_once(connected: Any) -> None:
    with pytest.raises(errors.CodecError, match=r"args\[0\]"):
        connected.add.future(threading.Lock())
    assert not chains.expected


def test_arguments_are_taken_as_they_are(proxy: Any) -> None:
    data = bytearray(b"\x01" * 100)
    future = proxy.size.future(data)  # there is no connection yet, so that it is sent later
    data[:] = bytes(100)
    assert future.result(SOON) == 100


def test_a_result_is_decoded_once_and_by_who_asks(daemon: broker.Daemon) -> None:
    decoded: list[threading.Thread] = []

    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    def from_dict(data: dict[str, Any]) -> Point:
        decoded.append(threading.current_thread())
        return Point(data["x"])

    broker.register_type(Point, to_dict=vars, from_dict=from_dict)

    class Plane:
        def origin(self) -> Point:
            return Point(3)

    future = broker.Proxy(daemon.register(Plane())).origin.future()
    assert concurrent.futures.wait([future], SOON).done == {future}
    assert decoded == []
    assert future.result() is future.result()
    assert decoded == [threading.current_thread()]


# ---- under way at the same time, and in order


def test_calls_are_under_way_at_the_same_time(connected: Any, worker: Worker) -> None:
    futures = [connected.wait.future() for _ in range(5)]
    for _ in futures:
        assert worker.entered.acquire(timeout=SOON)
    assert not any(future.done() for future in futures)
    worker.go_on.set()
    assert [future.result(SOON) for future in futures] == [True] * 5


def test_calls_of_a_thread_start_in_the_order_made(daemon: broker.Daemon, worker: Worker) -> None:
    proxy: Any = broker.Proxy(daemon.register(worker, max_concurrency=1))  # so that what starts first ends first
    futures = [proxy.note.future(n) for n in range(200)]  # the first ones before there is a connection
    proxy.note("then")
    futures += [proxy.note.future(n) for n in range(200, 300)]
    proxy.note.oneway("once more")
    assert proxy.note("last") == "last"
    assert [future.result(SOON) for future in futures] == [*range(300)]
    assert worker.seen == [*range(200), "then", *range(200, 300), "once more", "last"]


# ---- who waits


def test_wait_and_as_completed(connected: Any, worker: Worker) -> None:
    slow = connected.wait.future()
    quick = [connected.add.future(n) for n in range(20)]
    done, not_done = concurrent.futures.wait([slow, *quick], SOON, concurrent.futures.FIRST_COMPLETED)
    assert slow in not_done
    assert done
    assert concurrent.futures.wait(quick, SOON).done == set(quick)
    worker.go_on.set()
    found = list(concurrent.futures.as_completed([slow, *quick], SOON))
    assert set(found) == {slow, *quick}


def test_result_gives_up_after_its_timeout_and_the_call_goes_on(connected: Any, worker: Worker) -> None:
    future = connected.wait.future()
    with pytest.raises(TimeoutError, match="'wait' of 'worker' at localhost"):
        future.result(0.01)
    assert future.running()
    worker.go_on.set()
    assert future.result(SOON) is True


def test_many_threads_wait_for_one_future(connected: Any, worker: Worker) -> None:
    future = connected.wait.future()
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(future.result(SOON))) for _ in range(5)]
    for thread in threads:
        thread.start()
    worker.go_on.set()
    for thread in threads:
        thread.join(SOON)
    assert results == [True] * 5


def test_who_comes_to_wait_as_the_result_arrives_is_not_kept(connected: Any, worker: Worker) -> None:
    future = connected.wait.future()
    assert worker.entered.acquire(timeout=SOON)
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(future.result(SOON)))
    with future._condition:  # the thread has found no result, and cannot go on yet
        thread.start()
        until(lambda: stands_in(thread, "__enter__"))
        worker.go_on.set()
        until(lambda: future._state != "PENDING")
    thread.join(SOON)
    assert results == [True]
    assert not chains._waiting


def test_a_task_awaits_futures(connected: Any, worker: Worker) -> None:
    async def main() -> Any:
        return await asyncio.gather(*(asyncio.wrap_future(connected.add.future(n)) for n in range(100)))

    assert asyncio.run(main()) == [*range(100)]


def test_a_task_that_is_cancelled_cancels_the_call(connected: Any, worker: Worker) -> None:
    async def main() -> None:
        task = asyncio.wrap_future(connected.hang.future())
        assert await asyncio.to_thread(worker.entered.acquire, timeout=SOON)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert worker.cancelled.wait(SOON)


def test_the_newest_asyncio_asks_for_everything_at_once(connected: Any, worker: Worker) -> None:
    future = connected.wait.future()
    assert future._get_snapshot() == (False, False, None, None)
    worker.go_on.set()
    assert future.result(SOON)
    assert future._get_snapshot() == (True, False, True, None)


def test_a_stream_in_a_future_is_held_by_who_takes_its_items(daemon: broker.Daemon) -> None:
    closed = threading.Event()

    class Source:
        def count(self) -> Iterator[int]:
            try:
                yield from range(1_000_000)
            finally:
                closed.set()

    future = broker.Proxy(daemon.register(Source())).count.future()
    items = future.result(SOON)
    assert next(items) == 0
    del future
    assert next(items) == 1
    del items
    assert closed.wait(SOON)


# ---- callbacks


def test_callbacks_run_on_a_thread_that_may_wait(connected: Any, worker: Worker) -> None:
    called: list[int] = []
    all_called = threading.Event()

    def callback(future: Any) -> None:
        called.append(future.result() + connected.add(1))  # over the same connection
        if len(called) == 50:
            all_called.set()

    for n in range(50):
        connected.add.future(n).add_done_callback(callback)
    assert all_called.wait(SOON)
    assert sorted(called) == [*range(1, 51)]


def test_a_callback_of_a_future_that_is_done_is_called_at_once(connected: Any) -> None:
    future = connected.add.future(1)
    future.result(SOON)
    called: list[object] = []
    future.add_done_callback(lambda future: called.append((future, threading.current_thread())))
    assert called == [(future, threading.current_thread())]


def test_a_callback_that_waits_for_another_one_is_helped(connected: Any, worker: Worker) -> None:
    other_called, first_done = threading.Event(), threading.Event()

    def first(future: Any) -> None:
        if other_called.wait(SOON):
            first_done.set()

    one, other = connected.wait.future(), connected.wait.future()
    one.add_done_callback(first)
    other.add_done_callback(lambda future: other_called.set())
    worker.go_on.set()
    assert first_done.wait(SOON)


def test_what_a_callback_raises_is_logged(connected: Any, caplog: pytest.LogCaptureFixture) -> None:
    future = connected.add.future(1)
    future.result(SOON)
    future.add_done_callback(lambda future: 1 / 0)
    assert "a callback of <future of 'add' of 'worker'" in caplog.text
    assert "ZeroDivisionError" in caplog.text


# ---- cancelling


def test_cancel_reaches_the_method_that_runs(connected: Any, worker: Worker) -> None:
    future = connected.hang.future()
    assert worker.entered.acquire(timeout=SOON)
    called = threading.Event()
    future.add_done_callback(lambda future: called.set())
    assert future.cancel()
    assert worker.cancelled.wait(SOON)
    assert called.wait(SOON)
    assert (future.cancelled(), future.done()) == (True, True)
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result()
    with pytest.raises(CancelledError):
        future.exception()


def test_a_call_that_is_over_cannot_be_cancelled(connected: Any) -> None:
    future = connected.add.future(1)
    assert future.result(SOON) == 1
    assert not future.cancel()
    assert future.result() == 1


def test_a_cancelled_call_that_waits_for_its_turn_is_not_started(daemon: broker.Daemon, worker: Worker) -> None:
    proxy: Any = broker.Proxy(daemon.register(worker, max_concurrency=1))
    first = proxy.wait.future()
    assert worker.entered.acquire(timeout=SOON)
    second = proxy.note.future("never")
    assert second.cancel()
    broker.Proxy(proxy._broker.uri)._broker.ping()  # what was sent before has arrived
    worker.go_on.set()
    assert first.result(SOON)
    assert proxy.note("then") == "then"
    assert worker.seen == ["then"]


def test_cancel_wakes_those_who_wait(connected: Any) -> None:
    future = connected.hang.future()
    threading.Timer(0.05, future.cancel).start()
    assert next(concurrent.futures.as_completed([future], SOON)) is future
    with pytest.raises(CancelledError):
        future.result()


# ---- time


def test_a_future_is_timed_like_a_call(daemon: broker.Daemon, worker: Worker) -> None:
    proxy: Any = broker.Proxy(daemon.register(worker))
    assert proxy.add(1) == 1
    proxy._broker.set("timeout", 0.5)
    future = proxy.hang.future()
    with pytest.raises(errors.CallTimeout, match=r"'hang'.*took longer than its time of 0.5 s"):
        future.result(SOON)
    assert future.exception().may_have_run
    assert worker.cancelled.wait(SOON)
    proxy._broker.set("timeout", None)
    assert proxy.add.future(2).result() == 2


def test_a_connection_that_does_not_come_about_is_the_exception(worker: Worker) -> None:
    daemon = broker.Daemon()
    daemon.start()
    proxy: Any = broker.Proxy(daemon.register(worker))
    proxy.add(1)
    method = proxy.add
    daemon.shutdown()
    futures = [method.future(n) for n in range(20)]
    for future in futures:
        error = future.exception(SOON)
        assert isinstance(error, errors.CannotConnect)
        assert not error.may_have_run
    assert len({id(future.exception()) for future in futures}) == 20


# ---- loss


def test_a_call_that_was_under_way_is_lost_with_its_connection(connected: Any, worker: Worker) -> None:
    future = connected.hang.future()
    assert worker.entered.acquire(timeout=SOON)
    connected._broker._remote.session.connection.engine.lost("cut")
    error = future.exception(SOON)
    assert isinstance(error, errors.ConnectionClosedError)
    assert error.may_have_run


def test_a_call_that_may_be_repeated_is(daemon: broker.Daemon, worker: Worker) -> None:
    proxy: Any = broker.Proxy(daemon.register(worker), retries=1)
    proxy.add(1)
    future = proxy.wait.future()
    assert worker.entered.acquire(timeout=SOON)
    proxy._broker._remote.session.connection.engine.lost("cut")
    assert worker.entered.acquire(timeout=SOON)
    worker.go_on.set()
    assert future.result(SOON) is True


def test_calls_that_a_daemon_refuses_as_it_ends_go_to_the_next_one_in_order(worker: Worker) -> None:
    first = broker.Daemon()
    proxy: Any = broker.Proxy(first.register(worker, "worker", max_concurrency=1), wait=SOON)
    first.start()
    assert proxy.note("first") == "first"
    note = proxy.note
    first.shutdown()
    futures = [note.future(n) for n in range(50)]
    with broker.Daemon(port=first.address[1]) as second:
        second.register(worker, "worker", max_concurrency=1)
        assert [future.result(SOON) for future in futures] == [*range(50)]
    assert worker.seen == ["first", *range(50)]


# ---- inside a method


class Agent:
    """Calls the worker in futures, from within a call."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.called_back_on: list[int] = []

    def relay(self) -> tuple[object, object]:
        mine = broker.current_context
        theirs = self.worker.context.future().result()
        return (str(mine.correlation_id), theirs[0]), (theirs[1], theirs[2])

    def call_me(self) -> list[int]:
        self.called_back_on.append(threading.get_ident())
        return self.called_back_on

    def ask(self, caller: Any, me: Any, wait_first: bool) -> bool:
        future = caller.call.future(me)
        if not wait_first:
            concurrent.futures.wait([future], SOON)  # nobody waits in the chain
            future.result(0)
            return self.called_back_on[0] != threading.get_ident()
        future.result(SOON)
        return self.called_back_on[0] == threading.get_ident()


class Caller:
    def call(self, agent: Any) -> None:
        agent.call_me()


def test_a_future_inside_a_method_belongs_to_the_call(daemon: broker.Daemon, worker: Worker) -> None:
    agent = Agent(broker.Proxy(daemon.register(worker)))
    proxy: Any = broker.Proxy(daemon.register(agent), timeout=5, metadata={"who": "Janet"})
    (mine, theirs), (remaining, metadata) = proxy.relay()
    assert mine == theirs
    assert 0 < remaining <= 5
    assert metadata == {"who": "Janet"}


@pytest.mark.parametrize("waits_in_result", [True, False])
def test_nested_calls_of_a_future(waits_in_result: bool) -> None:
    """They run on the thread that waits in `result`; where none does, on one that needs no worker and no turn."""
    agent, caller = Agent(None), Caller()
    with broker.Daemon(max_workers=1) as here, broker.Daemon(max_workers=1) as there:
        mine: Any = broker.Proxy(here.register(agent, max_concurrency=1))
        theirs = broker.Proxy(there.register(caller, max_concurrency=1))
        assert mine.ask(theirs, broker.Proxy(mine._broker.uri), waits_in_result) is True


# ---- bounds


def test_who_makes_too_many_waits(connected: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_UNANSWERED", 8)
    futures = [connected.wait.future() for _ in range(8)]
    for _ in futures:
        assert worker.entered.acquire(timeout=SOON)
    made = threading.Event()

    def make_one_more() -> None:
        futures.append(connected.wait.future())
        made.set()

    threading.Thread(target=make_one_more, daemon=True).start()
    assert not made.wait(0.1)
    worker.go_on.set()
    assert made.wait(SOON)
    assert [future.result(SOON) for future in futures] == [True] * 9


def test_who_makes_too_many_waits_no_longer_than_its_time(
    daemon: broker.Daemon, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_UNANSWERED", 2)
    patient: Any = broker.Proxy(daemon.register(worker, "worker"))
    impatient: Any = broker.Proxy(patient._broker.uri)
    impatient.add(1)
    impatient._broker.set("timeout", 0.1)
    futures = [patient.wait.future(), patient.wait.future()]
    with pytest.raises(errors.CallTimeout, match="it was not sent"):
        impatient.wait.future().result(SOON)
    worker.go_on.set()
    assert [future.result(SOON) for future in futures] == [True, True]


def test_on_an_event_loop_nobody_waits(connected: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_UNANSWERED", 2)

    async def main() -> Any:
        futures = [asyncio.wrap_future(connected.wait.future()) for _ in range(10)]
        worker.go_on.set()
        return await asyncio.gather(*futures)

    assert asyncio.run(main()) == [True] * 10


def stands_in(thread: threading.Thread, function: str) -> bool:
    """Whether the thread is in that function."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code.co_name == function


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_forgotten_futures_leave_nothing_behind(connected: Any, worker: Worker) -> None:
    engine = connected._broker._remote.session.connection.engine
    forgotten = [weakref.ref(connected.note.future(n)) for n in range(50)]
    cancelled = [connected.hang.future() for _ in range(50)]
    for future in cancelled:
        future.cancel()
    del future, cancelled
    until(lambda: len(worker.seen) == 50 and engine.unanswered() == 0)
    gc.collect()
    assert [ref() for ref in forgotten if ref() is not None] == []
    assert not chains.expected
    assert not chains._waiting


def test_a_future_is_ended_by_its_call_alone(connected: Any, worker: Worker) -> None:
    future = connected.wait.future()
    for change in (
        future.set_running_or_notify_cancel,
        lambda: future.set_result(1),
        lambda: future.set_exception(None),
    ):
        with pytest.raises(InvalidStateError, match="by its call alone"):
            change()
    assert repr(future) == f"<future of 'wait' of 'worker' at {connected._broker.uri.location}; under way>"


def test_proxies_to_one_daemon_still_share_one_connection(daemon: broker.Daemon, worker: Worker) -> None:
    uri = daemon.register(worker)
    proxies: list[Any] = [broker.Proxy(uri) for _ in range(20)]
    assert [proxy.add.future(n).result(SOON) for n, proxy in enumerate(proxies)] == [*range(20)]
    assert len([place for place in pool._connections if place.port == daemon.address[1]]) == 1
