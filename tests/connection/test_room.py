"""How many calls may be unanswered."""

from __future__ import annotations

import threading
import time

import pytest

from broker.connection import room as rooms
from broker.connection.room import Room


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "MOST_UNANSWERED", 8)


def test_who_finds_it_free_does_not_wait() -> None:
    free = Room(lambda: 3)
    assert not free.is_full
    assert free.wait(None)


def test_who_finds_it_full_waits_until_half_is_free() -> None:
    unanswered = 8
    room = Room(lambda: unanswered)
    assert room.is_full
    called: list[int] = []
    queued = [room.queue(lambda number=number: called.append(number)) for number in range(6)]  # type: ignore[misc]
    unanswered = 5
    room.answered()
    assert called == []
    unanswered = 4
    room.answered()
    assert called == [0, 1, 2, 3]
    unanswered = 0
    room.answered()
    assert called == [0, 1, 2, 3, 4, 5]
    for place in queued:
        room.leave(place, calls=True)
    assert not room._promised


def test_a_place_that_was_promised_is_not_promised_again() -> None:
    unanswered = 8
    room = Room(lambda: unanswered)
    called: list[int] = []
    queued = [room.queue(lambda number=number: called.append(number)) for number in range(10)]  # type: ignore[misc]
    unanswered = 4
    room.answered()
    room.answered()
    assert called == [0, 1, 2, 3]
    unanswered = 0
    room.answered()
    assert called == [0, 1, 2, 3, 4, 5, 6, 7]
    room.leave(queued[9], calls=False)  # gives up
    for place in queued[:3]:
        room.leave(place, calls=True)
    room.answered()
    assert called == [0, 1, 2, 3, 4, 5, 6, 7]
    room.leave(queued[3], calls=False)
    assert called == [0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_waiting_ends_with_the_deadline() -> None:
    assert not Room(lambda: 8).wait(time.monotonic() + 0.02)
    assert not Room(lambda: 8).wait(time.monotonic() - 1)


def test_an_answer_wakes_a_thread() -> None:
    unanswered = [8]
    room = Room(lambda: unanswered[0])
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(room.wait(time.monotonic() + 10)))
    thread.start()
    while not room._waiting:
        time.sleep(0.001)
    unanswered[0] = 0
    room.answered()
    thread.join(10)
    assert woken == [True]
