"""`LoopExecutor`: methods that run in a loop of the program's own."""

from __future__ import annotations

import select
import threading

import pytest

import broker


def readable(executor: broker.LoopExecutor) -> bool:
    return bool(select.select([executor], [], [], 0)[0])


def test_what_waits_is_run_by_who_runs_it_and_select_says_so() -> None:
    executor = broker.LoopExecutor()
    assert executor.run(timeout=0) == 0
    futures = [executor.submit(threading.get_ident), executor.submit(int, "x")]
    assert readable(executor)
    assert executor.run(timeout=0) == 2
    assert futures[0].result() == threading.get_ident()
    with pytest.raises(ValueError, match="invalid literal"):
        futures[1].result()
    assert not readable(executor)


def test_what_is_cancelled_is_not_run() -> None:
    executor = broker.LoopExecutor()
    assert executor.submit(print).cancel()
    assert executor.run(timeout=0) == 1


def test_it_takes_more_than_the_socket_holds_and_stays_readable() -> None:
    executor = broker.LoopExecutor()
    for _ in range(10_000):
        executor.submit(int)
    with pytest.raises(BlockingIOError):
        executor._writer.send(b"\0")
    assert readable(executor)
    assert executor.run(timeout=0) == 10_000
    assert not readable(executor)


def test_methods_of_a_daemon_run_in_the_loop() -> None:
    class Panel:
        def thread(self) -> int:
            return threading.get_ident()

    executor = broker.LoopExecutor()
    with broker.Daemon() as daemon:
        panel = broker.Proxy(daemon.register(Panel(), executor=executor))
        called = panel.thread.future()
        assert executor.run(timeout=10) == 1
        assert called.result() == threading.get_ident()
