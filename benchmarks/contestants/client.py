"""What a contestant's client can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Call = Callable[[], object]
"""`add(3, 4)` with everything that a user writes for it, and nothing more."""
Ready = Callable[[str], None]
"""Told once where a server can be reached."""


class CannotDo(Exception):
    """The contestant has no such thing."""


class Client:
    """One client of one server. What a contestant does not override it cannot do."""

    def __init__(self, variant: str, address: str) -> None:
        self.variant = variant
        self.address = address

    def caller(self) -> Call:
        """For the calling thread. Threads share one proxy; where a contestant forbids that, each has its own."""
        raise CannotDo("calls")

    def length(self) -> Callable[[bytes], int]:
        """Sends bytes, and returns how many came."""
        raise CannotDo("bytes as an argument")

    def futures(self, count: int) -> None:
        """Makes `count` calls of `add` before it waits for the first, and waits for all."""
        raise CannotDo("futures")

    def batch(self, count: int) -> None:
        """`count` calls of `add` in one batch; waits for the results."""
        raise CannotDo("batches")

    def numbers(self, count: int) -> Iterable[int]:
        """What the generator of the target yields."""
        raise CannotDo("generators")

    def same(self) -> Callable[[Any], Any]:
        """Sends a numpy array and returns the one that came back."""
        raise CannotDo("numpy arrays")

    def fail(self) -> Call:
        """A call that raises ValueError here, as it did there."""
        raise CannotDo("exceptions")

    def call_back(self) -> Call:
        """A call during which the target calls back into this process."""
        raise CannotDo("callbacks into the caller")

    def connections(self, count: int) -> list[Call]:
        """Callers, each with a connection of its own."""
        raise CannotDo("many connections")

    def proxies(self, count: int) -> list[Call]:
        """Callers, each with a proxy of its own, that may share connections."""
        raise CannotDo("proxies")

    def pending(self, count: int) -> list[Any]:
        """Futures of calls that are not answered for now."""
        raise CannotDo("futures")


def add_all(results: Iterable[Any]) -> None:
    """Takes the results of `add(3, 4)` and looks at each."""
    for result in results:
        if result != 7:
            raise AssertionError(f"3 + 4 was {result!r}")
