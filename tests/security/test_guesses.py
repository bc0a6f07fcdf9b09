"""Who is barred for wrong tokens, and to whose account things go; on a clock of the test's own."""

from __future__ import annotations

import pytest

from broker.security import account_of, address_of
from broker.security import guesses as module
from broker.security.guesses import WINDOW_SECONDS, Guesses
from tests.clock import Clock


def test_who_guesses_is_barred_until_the_minute_is_over() -> None:
    clock = Clock()
    guesses = Guesses(2, clock)
    guesses.wrong("ipv4:192.0.2.1:1000")
    assert guesses.barred_for("ipv4:192.0.2.1:1000") == 0
    clock.now += 10
    guesses.wrong("ipv4:192.0.2.1:2000")
    assert guesses.barred_for("ipv4:192.0.2.1:3000") == WINDOW_SECONDS - 10
    assert guesses.barred_for("ipv4:192.0.2.2:3000") == 0
    clock.now += 50
    assert guesses.barred_for("ipv4:192.0.2.1:3000") == 0
    guesses.wrong("ipv4:192.0.2.1:1000")
    assert guesses.barred_for("ipv4:192.0.2.1:3000") == 0


def test_guesses_from_everywhere_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_ADDRESSES", 100)
    guesses = Guesses(1)
    for number in range(1000):
        guesses.wrong(f"ipv4:10.0.{number >> 8}.{number & 255}:1")
    assert len(guesses._began) == 100
    assert guesses.barred_for("ipv4:10.0.3.231:7") > 0


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:127.0.0.1:5000", "127.0.0.1"), ("ipv6:%5B::1%5D:5000", "::1"),
     ("ipv6:[::ffff:192.0.2.1]:5000", "192.0.2.1"), ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:1", "2001:db8:1:2::/64"),
     ("ipv6:[fe80::1%25eth0]:1", "fe80::/64"), ("unix:", "this machine's Unix sockets"),
     ("unix:/tmp/s", "this machine's Unix sockets"), ("inproc:17", "this process"), ("vsock:1:2", "vsock:1:2")],
)  # fmt: skip
def test_whose_account(peer: str, address: str) -> None:
    """All of one machine, which has many ports, and of IPv6 as many addresses as it likes."""
    assert address_of(peer) == address
    assert account_of(peer, None) == address
    assert account_of(peer, "janet") == "'janet'"


def test_nobody_names_himself_an_address() -> None:
    assert account_of("ipv4:192.0.2.1:1", "127.0.0.1") != account_of("ipv4:127.0.0.1:1", None)
