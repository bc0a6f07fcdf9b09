"""The object that every contestant serves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any


class Target:
    """Its methods do next to nothing: what is measured is the way there and back."""

    def add(self, a: int, b: int) -> int:
        return a + b

    def length(self, data: bytes) -> int:
        return len(data)

    def same(self, value: Any) -> Any:
        return value

    def numbers(self, count: int) -> Iterator[int]:
        yield from range(count)

    def fail(self) -> None:
        raise ValueError("list.remove(x): x not in list")

    def call_back(self, callback: Any) -> int:
        """Calls into its caller, which waits for this call."""
        total: int = callback.add(3, 4)
        return total

    def block(self) -> None:
        """Does not answer as long as anybody measures."""
        threading.Event().wait(600)
