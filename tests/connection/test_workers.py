from __future__ import annotations

import threading
from typing import Any

import pytest

from broker.connection import workers as module
from broker.connection.workers import Workers, run_aside, start_thread
from broker.errors import Overloaded
from tests.connection.conftest import both


class Count:
    """Counts to a number that a test waits for."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._lock = threading.Lock()
        self.reached = threading.Event()

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                self.reached.set()


def test_jobs_run_at_the_same_time_up_to_the_limit() -> None:
    workers = Workers(4, "test")
    together = threading.Barrier(5)
    release = threading.Event()
    more = Count(20)

    def wait() -> None:
        together.wait(10)
        release.wait(10)

    for _ in range(4):
        workers.submit(wait)
    for _ in range(20):
        workers.submit(more)
    together.wait(10)  # four run, and no fifth
    assert workers.threads == 4
    assert not more.reached.wait(0.02)
    release.set()
    assert more.reached.wait(10)
    assert workers.threads <= 4


def test_an_idle_thread_holds_nothing_of_the_job_that_it_ran() -> None:
    workers = Workers(2, "test")
    gone = Count(2)

    class Holding:
        def __init__(self, ran: threading.Event) -> None:
            self.ran = ran

        def __call__(self) -> None:
            self.ran.set()

        def __del__(self) -> None:
            gone()

    for _ in range(2):  # by a new thread, and by one that was idle
        ran = threading.Event()
        workers.submit(Holding(ran))
        assert ran.wait(10)
    assert gone.reached.wait(40)
    assert workers.threads


def test_jobs_start_in_the_order_given() -> None:
    workers = Workers(1, "test")
    order: list[int] = []
    done = threading.Event()
    for number in range(1000):
        workers.submit(lambda number=number: order.append(number))  # type: ignore[misc]
    workers.submit(done.set)
    assert done.wait(10)
    assert order == list(range(1000))


def test_a_thread_that_is_idle_is_used_again() -> None:
    workers = Workers(100, "test")
    threads: set[int] = set()
    for _ in range(50):
        ran = threading.Event()

        def job(ran: threading.Event = ran) -> None:
            threads.add(threading.get_ident())
            ran.set()

        workers.submit(job)
        assert ran.wait(10)
    assert len(threads) <= 2  # the first may not be idle yet when the second job comes


def test_no_job_is_left_lying_however_threads_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0005)  # threads give up just as jobs arrive
    workers = Workers(8, "test")
    for _ in range(300):
        count = Count(3)
        for _ in range(3):
            workers.submit(count)
        assert count.reached.wait(10)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, StopIteration])
def test_no_job_ends_its_worker(error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers(1, "test")
    threads: list[int] = []
    done = threading.Event()

    def fail() -> None:
        threads.append(threading.get_ident())
        raise error("broken")

    def after() -> None:
        threads.append(threading.get_ident())
        done.set()

    workers.submit(fail)
    workers.submit(after)
    assert done.wait(10)
    assert threads[0] == threads[1]
    assert "a job failed" in caplog.text


def test_threads_are_daemons_and_end_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    workers = Workers(2, "test-idle")
    found: list[threading.Thread] = []
    workers.submit(lambda: found.append(threading.current_thread()))
    while not found:
        pass
    found[0].join(10)
    assert not found[0].is_alive()
    assert found[0].daemon
    assert workers.threads == 0


def test_close_ends_idle_threads_and_still_runs_what_is_queued() -> None:
    workers = Workers(1, "test")
    started, release, count = threading.Event(), threading.Event(), Count(3)
    threads: list[threading.Thread] = []

    def first() -> None:
        threads.append(threading.current_thread())
        started.set()
        release.wait(10)

    workers.submit(first)
    workers.submit(count)
    workers.submit(count)
    assert started.wait(10)
    workers.close()
    release.set()
    workers.submit(count)
    assert count.reached.wait(10)
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_where_no_thread_can_be_started_it_is_overloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        workers = Workers(2, "test")
        ran: list[Any] = []
        with pytest.raises(Overloaded, match="can't start new thread"):
            workers.submit(lambda: ran.append(1))
        with pytest.raises(Overloaded):
            start_thread(lambda: ran.append(2), "test")
        assert workers.threads == 0
    done = threading.Event()
    workers.submit(done.set)
    assert done.wait(10)
    assert ran == []  # what was refused does not run later


def test_a_second_thread_that_cannot_be_started_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(2, "test")
    started, release, done = threading.Event(), threading.Event(), threading.Event()
    workers.submit(both(started.set, lambda: release.wait(10)))
    assert started.wait(10)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        workers.submit(done.set)
    release.set()
    assert done.wait(10)


def test_what_runs_aside_runs_on_another_thread() -> None:
    threads: list[int] = []
    done = threading.Event()
    run_aside(both(lambda: threads.append(threading.get_ident()), done.set))
    assert done.wait(10)
    assert threads != [threading.get_ident()]
