"""Calls that wait for a connection: one attempt for all who wait, and the order kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

import broker
from broker import errors
from broker.calling import Options, Remote
from broker.calling.departures import made_calls
from broker.uri import URI

SOON = 40.0


class Passenger:
    def __init__(
        self, remote: Remote, name: str, came: list[Any], latest: float | None = None, describe: bool = False
    ) -> None:
        self.made = next(made_calls)
        self.remote = remote
        self.needs_description = describe
        self.latest = latest
        self.departed = threading.Event()
        self._name = name
        self._came = came

    outlasts_drain = False

    def describe(self) -> None:
        raise AssertionError("nobody drains")

    def depart(self, uri: URI, connection: Any) -> None:
        self._came.append((self._name, uri.object))
        self.departed.set()

    def stay(self, error: Exception) -> None:
        self._came.append((self._name, error))
        self.departed.set()


class Clock:
    def now(self) -> float:
        return 0.0


def remote_of(uri: URI | str, **options: Any) -> Remote:
    return Remote(URI(uri), Options(**options))


def test_who_waits_departs_in_order_with_one_connection() -> None:
    came: list[object] = []
    with broker.Daemon() as daemon:
        remote = remote_of(daemon.register(Clock(), "clock"))
        passengers = [Passenger(remote, str(n), came, describe=n == 1) for n in range(5)]
        for passenger in passengers:
            remote.put_aside(passenger)
        assert all(passenger.departed.wait(SOON) for passenger in passengers)
        assert came == [(str(n), "clock") for n in range(5)]
        assert remote.known_description() is not None
        assert remote.departures.wait(remote, time.monotonic() + SOON)


def test_an_attempt_that_fails_fails_for_all_who_waited_for_it() -> None:
    came: list[Any] = []
    remote = remote_of("BROKER:clock@localhost:1")
    passengers = [Passenger(remote, str(n), came) for n in range(20)]
    for passenger in passengers:
        remote.put_aside(passenger)
    assert all(passenger.departed.wait(SOON) for passenger in passengers)
    assert [name for name, _ in came] == [str(n) for n in range(20)]
    assert all(isinstance(error, errors.CannotConnect) for _, error in came)
    assert len({id(error) for _, error in came}) == 20


def test_the_most_patient_says_how_long_is_tried() -> None:
    came: list[Any] = []
    remote = remote_of("BROKER:clock@localhost:1", wait=60)
    remote.put_aside(Passenger(remote, "0", came, time.monotonic() + 0.1))
    last = Passenger(remote, "1", came, time.monotonic() + 0.3)
    remote.put_aside(last)
    assert not remote.departures.wait(remote, time.monotonic() + 0.05)
    assert last.departed.wait(SOON)
    assert time.monotonic() >= (last.latest or 0)


class Gated(Remote):
    """What connects when it is told to, and at once after that."""

    def __init__(self, uri: URI, options: Options) -> None:
        super().__init__(uri, options)
        self.connecting = threading.Semaphore(0)
        self.go_on = threading.Event()

    def connect(self, deadline: float | None, *, wait: float | None = None, nested: bool = False) -> tuple[URI, Any]:
        self.connecting.release()
        assert self.go_on.wait(SOON)
        return self.uri, None


def test_who_comes_late_departs_in_the_order_made() -> None:
    """As calls do that a daemon refuses as it ends: those made after it was known to end are there before them."""
    came: list[Any] = []
    remote = Gated(URI("BROKER:clock@localhost:1"), Options())
    passengers = [Passenger(remote, str(n), came) for n in range(6)]
    for n in (3, 5):
        remote.put_aside(passengers[n])
    assert remote.connecting.acquire(timeout=SOON)
    for n in (4, 1, 0, 2):  # while it connects
        remote.put_aside(passengers[n])
    remote.go_on.set()
    assert all(passenger.departed.wait(SOON) for passenger in passengers)
    assert [name for name, _ in came] == [str(n) for n in range(6)]


class Deaf:
    """A transport that has never done with its first message."""

    def send(self, pieces: Sequence[bytes | memoryview]) -> bool:
        return False

    def finish(self) -> None: ...


class LostCalls:
    def __init__(self) -> None:
        self.seen: list[int] = []
        self.came = threading.Event()

    def note(self, number: int) -> int:
        self.seen.append(number)
        if number:
            self.came.set()
        return number


@pytest.mark.parametrize("end", ["drained", "lost"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_call_that_is_made_while_another_is_being_lost_does_not_overtake_it(end: str, plain: bool) -> None:
    """One thread finds that the connection takes no more calls before another has told the call that it is lost."""
    calls = LostCalls()
    with broker.Daemon() as daemon:
        daemon.register(calls, "calls", max_concurrency=1)
        proxy: Any = broker.Proxy(daemon.uri_for("calls"), timeout=None if plain else SOON)
        note = proxy.note
        remote = proxy._broker._remote
        known = remote.open_place()
        assert known is not None
        engine = known[1].engine
        ending, go_on = threading.Event(), threading.Event()
        engine._line.hand_to(Deaf())
        engine.ask_for_life()
        first = note.future(0)
        answered = first._answered

        def told_late(outcome: Any) -> None:
            ending.set()
            assert go_on.wait(SOON)
            answered(outcome)

        first._answered = first.request.on_outcome = told_late
        ends = {
            "drained": lambda: engine._outgoing.drain("the test drains it", 0, takes_nested=False),
            "lost": lambda: engine.lost("the test ends it"),
        }
        reader = threading.Thread(target=ends[end])
        reader.start()
        assert ending.wait(SOON)
        second: list[Any] = []
        caller = threading.Thread(target=lambda: second.append(note.future(1)))
        caller.start()
        assert not calls.came.wait(0.1)
        go_on.set()
        reader.join(SOON)
        caller.join(SOON)
        assert (first.result(SOON), second[0].result(SOON)) == (0, 1)
        assert calls.seen == [0, 1]


@pytest.mark.parametrize("describe", [False, True])
def test_they_are_not_there_while_nobody_waits(describe: bool) -> None:
    with broker.Daemon() as daemon:
        remote = remote_of(daemon.register(Clock()))
        assert not remote.departures
        passenger = Passenger(remote, "0", [], describe=describe)
        remote.put_aside(passenger)
        assert passenger.departed.wait(SOON)
        give_up = time.monotonic() + SOON
        while remote.departures:
            assert time.monotonic() < give_up
            time.sleep(0.001)
