"""Calls beside each other on one connection, and connections beside each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

import broker

SOON = 40.0
SIZE = 64 << 20
Run = Callable[..., Any]

SERVER = """
import broker

class Store:
    def size(self, value):
        return len(value)

    def echo(self, value):
        return value

    def fetch(self, size):
        return bytes(size)

daemon = broker.Daemon()
print(daemon.register(Store()), flush=True)
daemon.request_loop()
"""


@pytest.mark.parametrize("member", ["size", "fetch"])
def test_a_big_value_does_not_delay_small_calls_of_the_same_connection(run_program: Run, member: str) -> None:
    """Neither one that is sent nor one that is received: small calls wait for a few chunks of it, not for all."""
    store = broker.Proxy(f"BROKER:{run_program(SERVER).line('BROKER:')}", local=False)
    argument = bytes(SIZE) if member == "size" else SIZE
    assert store.echo("warm") == "warm"
    delays: list[float] = []
    began = time.monotonic()
    big = getattr(store, member).future(argument)
    while not big.done():
        sent = time.monotonic()
        assert store.echo("small") == "small"
        delays.append(time.monotonic() - sent)
    took = time.monotonic() - began
    assert big.result(SOON) in (SIZE, bytes(SIZE))
    assert len(delays) >= 5
    assert statistics.median(delays) < took / 4
