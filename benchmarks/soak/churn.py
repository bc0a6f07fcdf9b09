"""A client that begins and ends things: `python -m benchmarks.soak.churn`.

It takes the arguments, and the lines, that `benchmarks.stress.client` takes.
"""

from __future__ import annotations

import random
from typing import Any

import broker
from benchmarks.stress.books import Books, Wrong
from benchmarks.stress.calls import Calls, check
from benchmarks.stress.client import SETTLE_SECONDS, Client, made, run
from broker.connection import client as pooling
from broker.errors import NameNotFound

ADDRESSES = 100
NAMES = 50
LINGER_SECONDS = 1.0
"""How long a connection that nobody uses stays, so that it has gone when the client rests."""


class Churn(Calls):
    """Beside calls of every kind, what comes and goes."""

    def __init__(self, proxy: Any, books: Books, draw: random.Random, ns: broker.NameServer) -> None:
        super().__init__(proxy, books, draw)
        self._ns = ns

    def connection(self) -> None:
        """One of its own: all of 127.0.0.0/8 is the same host, and is another place."""
        uri = broker.URI(broker.resolve(self._proxy._broker.uri))
        elsewhere = f"{uri.protocol}:{uri.object}@127.0.9.{1 + self._draw.randrange(ADDRESSES)}:{uri.port}"
        patience = self._books.patience
        proxy: Any = broker.Proxy(elsewhere, timeout=patience, connect_timeout=patience)
        with self._books.call() as number:
            check(proxy.echo(number, 1), [number, 1])
        if self._draw.random() < 0.5:  # else nobody closes it
            proxy._broker.close()

    def name(self) -> None:
        """A name that comes, is looked up and goes."""
        name = f"soak.{self._draw.randrange(NAMES)}"
        self._ns.register(name, self._proxy._broker.uri, tags=["soak"])
        try:
            broker.resolve(f"BROKERNAME:{name}")
        except NameNotFound:  # another thread was there
            pass
        self._ns.remove(name)

    def reference(self) -> None:
        """An object that is exported, used from there and forgotten."""

        class Counter:
            def __init__(self) -> None:
                self.count = 0

            def __call__(self, number: int, depth: int) -> int:
                self.count += depth
                return number

        counter = Counter()
        with self._books.call() as number:
            check(self._proxy.call_back(number, broker.export(counter), 1), [number, number])
        if counter.count != 1:
            raise Wrong(f"it was called {counter.count} times")


class Churner(Client):
    """Draws from more."""

    def calls(self, draw: random.Random) -> Calls:
        return Churn(self._proxy, self.books, draw, broker.locate_ns())


if __name__ == "__main__":
    pooling.LINGER_SECONDS = LINGER_SECONDS
    assert LINGER_SECONDS < SETTLE_SECONDS
    run(made(Churner))
