"""A till: a method for every little thing that is done at it."""

from __future__ import annotations

import broker


class Till:
    """Adds up what customers buy. One for each customer: the class is registered, and each session has its own."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._cents = 0

    def scan(self, item: str, cents: int, *, count: int = 1) -> int:
        """Adds an item; returns what is to be paid so far, in cents."""
        if cents <= 0:
            raise ValueError(f"{item} has no price")
        self._lines.append(f"{count} x {item}")
        self._cents += count * cents
        return self._cents

    def receipt(self) -> list[str]:
        return self._lines

    def pay(self, cents: int) -> int:
        """Returns the change, and begins anew."""
        if cents < self._cents:
            raise ValueError(f"{cents} cents do not pay for {self._cents}")
        change = cents - self._cents
        self._lines, self._cents = [], 0
        return change


if __name__ == "__main__":
    broker.serve({Till: "example.till"}, use_ns=False)
