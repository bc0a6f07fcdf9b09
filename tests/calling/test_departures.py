"""Calls that wait for a connection: one attempt for all who wait, and the order kept."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import broker
from broker import errors
from broker.calling import Options, Remote
from broker.uri import URI

SOON = 40.0


class Passenger:
    def __init__(
        self, remote: Remote, name: str, came: list[Any], latest: float | None = None, describe: bool = False
    ) -> None:
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
