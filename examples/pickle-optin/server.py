"""Applies functions to numbers. Functions need pickle, which this daemon accepts because its `codecs` say so."""

from __future__ import annotations

from collections.abc import Callable

import broker


class Calculator:
    """Has the numbers; callers bring the function."""

    def __init__(self) -> None:
        self._numbers = list(range(1, 11))

    def apply(self, function: Callable[[int], object]) -> list[object]:
        """The results of the function for each of the numbers."""
        return [function(number) for number in self._numbers]

    def total(self) -> int:
        return sum(self._numbers)


if __name__ == "__main__":
    daemon = broker.Daemon(codecs=("json", "pickle"))
    broker.serve({Calculator(): "example.calculator"}, daemon=daemon, use_ns=False)
