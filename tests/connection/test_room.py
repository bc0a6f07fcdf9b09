"""How many calls may be unanswered."""

from __future__ import annotations

import threading
import time

import pytest

from broker.connection import room
from broker.connection.room import Room


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_UNANSWERED", 8)


def test_who_finds_it_free_does_not_wait() -> None:
    free = Room(lambda: 3)
    assert not free.is_full
    assert free.wait(None)


def test_who_finds_it_full_waits_until_half_is_free() -> None:
    unanswered = 8
    place = Room(lambda: unanswered)
    assert place.is_full
    called: list[int] = []
    for number in range(6):
        place.call_back(lambda number=number: called.append(number))  # type: ignore[misc]
    unanswered = 5
    place.answered()
    assert called == []
    unanswered = 4
    place.answered()
    assert called == [0, 1, 2, 3]
    unanswered = 0
    place.answered()
    assert called == [0, 1, 2, 3, 4, 5]


def test_waiting_ends_with_the_deadline() -> None:
    assert not Room(lambda: 8).wait(time.monotonic() + 0.02)
    assert not Room(lambda: 8).wait(time.monotonic() - 1)


def test_an_answer_wakes_a_thread() -> None:
    unanswered = [8]
    place = Room(lambda: unanswered[0])
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(place.wait(time.monotonic() + 10)))
    thread.start()
    while not place._waiting:
        time.sleep(0.001)
    unanswered[0] = 0
    place.answered()
    thread.join(10)
    assert woken == [True]
