from __future__ import annotations

import threading
import time

import pytest

from broker.connection.timers import Timers


@pytest.fixture
def timers() -> Timers:
    return Timers()


def test_timers_fire_in_order_on_one_thread_of_their_own(timers: Timers) -> None:
    fired: list[tuple[int, threading.Thread]] = []
    done = threading.Event()
    now = time.monotonic()
    timers.call_at(now + 0.05, done.set)
    for number in (3, 1, 2):
        timers.call_at(now + number / 100, lambda number=number: fired.append((number, threading.current_thread())))  # type: ignore[misc]
    assert done.wait(10)
    assert [number for number, _ in fired] == [1, 2, 3]
    (thread,) = {thread for _, thread in fired}
    assert thread.daemon
    assert thread is not threading.current_thread()


def test_an_earlier_timer_overtakes_one_that_is_waited_for(timers: Timers) -> None:
    fired = threading.Event()
    timers.call_later(1000, lambda: None)
    timers.call_later(0, fired.set)
    assert fired.wait(10)


def test_a_timer_that_is_cancelled_does_not_fire(timers: Timers) -> None:
    fired, done = threading.Event(), threading.Event()
    timers.call_later(0.01, fired.set).cancel()
    timers.call_later(0.02, done.set)
    assert done.wait(10)
    assert not fired.is_set()


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_timer_that_fails_is_logged_and_stops_no_other(
    timers: Timers, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error("broken")

    done = threading.Event()
    timers.call_later(0, fail)
    timers.call_later(0.01, done.set)
    assert done.wait(10)
    assert "a timer failed" in caplog.text


def test_no_time_is_too_far_away(timers: Timers) -> None:
    fired = threading.Event()
    timers.call_later(1e300, lambda: None)
    timers.call_later(float("inf"), lambda: None)
    timers.call_later(0.01, fired.set)
    assert fired.wait(10)


def test_timers_that_were_cancelled_do_not_pile_up(timers: Timers) -> None:
    far = [timers.call_later(3600, lambda: None) for _ in range(100)]
    for _ in range(10_000):
        timers.call_later(3600, lambda: None).cancel()
    assert 100 <= len(timers) <= 300
    assert not any(timer.is_cancelled for timer in far)
