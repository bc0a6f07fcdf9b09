"""What wakes a thread that waits."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.connection import bells, chains
from broker.connection.bells import Bell, EventBell, LockBell, own_bell
from broker.connection.chains import Waiter, new_chain, run_nested

SOON = 40.0


@pytest.fixture(params=[LockBell, EventBell])
def make(request: pytest.FixtureRequest) -> Callable[[], Bell]:
    return request.param  # type: ignore[no-any-return]


def descriptors() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def never(job: chains.Job) -> None:
    raise AssertionError("it should have run on the thread that waits")


def in_thread(run: Callable[[], None]) -> None:
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join(SOON)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


@pytest.mark.parametrize("seconds", [None, SOON, 1e9])
@pytest.mark.parametrize("is_main", [False, True])
def test_it_wakes_who_waits(make: Callable[[], Bell], seconds: float | None, is_main: bool) -> None:
    def wait() -> None:
        bell = make()
        for _ in range(50):
            ringing = threading.Thread(target=bell.ring)
            ringing.start()
            assert bell.wait(seconds)
            ringing.join(SOON)

    wait() if is_main else in_thread(wait)


def test_it_has_rung_before(make: Callable[[], Bell]) -> None:
    bell = make()
    for _ in range(3):
        bell.ring()
    assert bell.wait(None)
    began = time.monotonic()
    assert not bell.wait(0.02)  # three times were once
    assert 0.02 <= time.monotonic() - began < SOON


def test_nobody_rings(make: Callable[[], Bell]) -> None:
    bell = make()
    for seconds in (0.0, 1e-9, 0.0101):
        began = time.monotonic()
        assert not bell.wait(seconds)
        assert time.monotonic() - began >= seconds


@pytest.mark.parametrize("after", [0.0, 0.05])
def test_ctrl_c_ends_the_wait_of_the_main_thread(make: Callable[[], Bell], after: float) -> None:
    bell = make()
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(after, lambda: signal.pthread_kill(main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it may come before the thread waits
        timer.start()
        bell.wait(None)
    timer.join()


def test_each_thread_has_one_and_takes_it_along() -> None:
    before = descriptors()
    seen: list[bool] = []
    for _ in range(20):
        in_thread(lambda: seen.append(own_bell() is own_bell()))
    gc.collect()
    assert seen == [True] * 20
    assert descriptors() <= before


def test_a_bell_lives_as_long_as_somebody_may_ring_it() -> None:
    kept: list[Bell] = []
    in_thread(lambda: kept.append(own_bell()))
    kept[0].ring()  # not into what has the number of its descriptor by now
    assert kept[0].wait(SOON)


def test_many_threads_do_without_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "_MOST_DESCRIPTORS", 0)
    in_thread(lambda: _check_kind(LockBell))
    monkeypatch.setattr(bells, "_MOST_DESCRIPTORS", 1_000)
    in_thread(lambda: _check_kind(EventBell))

    def none_left() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(bells, "EventBell", none_left)
    in_thread(lambda: _check_kind(LockBell))


def _check_kind(kind: type) -> None:
    assert type(own_bell()) is kind


def test_a_child_process_has_bells_of_its_own() -> None:
    ours = own_bell()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        ours.ring()
        theirs = own_bell()
        theirs.ring()
        os.write(writer, b"1" if theirs is not ours and theirs.wait(SOON) else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"1"
    os.close(reader)
    os.close(writer)
    assert not ours.wait(0.01)  # what the child rang was not this one
    assert own_bell() is ours


def test_who_waits_again_within_what_it_runs_misses_nothing() -> None:
    """The waiters of one thread share its bell: what rings for the outer one may wake the inner one."""
    chain = new_chain()
    outer, inner = Waiter(chain, 1), Waiter(new_chain(), 1)
    ran: list[str] = []

    def nested() -> None:
        inner.register()
        outer.finish()  # rings while the thread waits for the other
        assert run_nested(inner.chain, 2, inner.finish)
        assert inner.wait(time.monotonic() + SOON, never)
        ran.append("inner")

    def wait() -> None:
        outer.register()
        assert run_nested(chain, 2, nested)
        assert outer.wait(time.monotonic() + SOON, never)
        ran.append("outer")

    in_thread(wait)
    assert ran == ["inner", "outer"]
    assert not chains._waiting
