"""`LoopExecutor`: methods that run in a loop of the program's own."""

from __future__ import annotations

import select
import threading
from typing import Any

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


def test_ctrl_c_while_something_runs_is_for_the_loop() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    executor = broker.LoopExecutor()
    future = executor.submit(interrupted)
    with pytest.raises(KeyboardInterrupt):
        executor.run(timeout=0)
    assert isinstance(future.exception(), KeyboardInterrupt)


class Worker:
    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()

    def thread(self) -> int:
        return threading.get_ident()

    def wait(self) -> int:
        self.began.set()
        self.go_on.wait(10)
        return threading.get_ident()


def test_a_loop_of_the_daemon_runs_them_until_it_is_to_end() -> None:
    executor, worker = broker.LoopExecutor(), Worker()
    with broker.Daemon() as daemon:
        proxy = broker.Proxy(daemon.register(worker, executor=executor))
        called = proxy.thread.future()
        daemon.request_loop(until=called.done, executor=executor)
        assert called.result() == threading.get_ident()
        called = proxy.thread.future()  # the daemon still serves
        daemon.request_loop(until=called.done, executor=executor)
        assert called.result() == threading.get_ident()


def test_a_condition_that_holds_ends_the_loop_at_once_and_one_that_fails_says_so() -> None:
    with broker.Daemon() as daemon:
        daemon.request_loop(until=lambda: True)
        with pytest.raises(ZeroDivisionError):
            daemon.request_loop(until=lambda: 1 // 0)
        assert broker.Proxy(daemon.register(Worker())).thread() != threading.get_ident()


class Telling(broker.LoopExecutor):
    """Tells that a call waits."""

    def __init__(self) -> None:
        super().__init__()
        self.given = threading.Semaphore(0)

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        future = super().submit(function, *args, **kwargs)
        self.given.release()
        return future


def test_what_was_accepted_runs_before_the_loop_ends() -> None:
    executor, worker = Telling(), Worker()
    daemon = broker.Daemon()
    proxy = broker.Proxy(daemon.register(worker, executor=executor))
    loop = threading.Thread(target=lambda: daemon.request_loop(executor=executor))
    loop.start()
    first, second = proxy.wait.future(), proxy.thread.future()
    assert worker.began.wait(10)
    assert executor.given.acquire(timeout=10)
    assert executor.given.acquire(timeout=10)
    ended = threading.Thread(target=daemon.shutdown)
    ended.start()
    worker.go_on.set()
    assert {first.result(10), second.result(10)} == {loop.ident}
    for thread in (loop, ended):
        thread.join(10)
        assert not thread.is_alive()
