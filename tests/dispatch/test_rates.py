"""The buckets of callers, on a clock of the test's own."""

from __future__ import annotations

from broker.dispatch import rates as module
from broker.dispatch.rates import Rates
from tests.clock import Clock


def test_a_second_has_so_many_calls_and_no_more() -> None:
    clock = Clock()
    rates = Rates(4, clock)
    assert [rates.take("janet") for _ in range(5)] == [0, 0, 0, 0, 0.25]
    assert rates.take("henry") == 0
    clock.now += 0.25
    assert [rates.take("janet"), rates.take("janet")] == [0, 0.25]


def test_who_was_refused_has_lost_nothing() -> None:
    clock = Clock()
    rates = Rates(2, clock)
    taken = 0
    for _ in range(100):
        taken += rates.take("janet") == 0
        clock.now += 0.1
    assert taken == 2 + 19  # those of the first second at once, and then two a second


def test_what_holds_many_is_let_through_by_a_full_bucket_and_paid_for() -> None:
    clock = Clock()
    rates = Rates(10, clock)
    assert rates.take("janet", 1) == 0
    assert rates.take("janet", 50) > 0
    clock.now += 1
    assert rates.take("janet", 50) == 0
    clock.now += 4
    assert rates.take("janet") > 0
    clock.now += 1
    assert rates.take("janet") == 0


def test_nothing_is_kept_of_who_has_not_called_for_a_while() -> None:
    clock = Clock()
    rates = Rates(1, clock)
    for number in range(3 * module._MOST_IDLE):
        rates.take(f"caller {number}")
        clock.now += 0.001
    assert len(rates) < 1.5 * module._MOST_IDLE
