"""A harbour office: some of what it says and hears has no end, and comes bit by bit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import broker


class Harbour:
    def __init__(self) -> None:
        self._counting = 0
        self._seen = 0

    def ships(self) -> Iterator[str]:
        """The ships that sail by, for as long as somebody listens."""
        self._counting += 1
        try:
            while True:
                self._seen += 1
                yield f"ship {self._seen}"
        finally:  # however the stream ends: the caller closes it, drops it, or dies
            self._counting -= 1

    def observers(self) -> int:
        return self._counting

    def seen(self) -> int:
        return self._seen

    async def tide(self, hours: int) -> AsyncIterator[tuple[int, float]]:
        """The level of the water; an asynchronous generator streams just so."""
        for hour in range(hours):
            await asyncio.sleep(0.01)
            yield hour, round(2.5 * (1 - abs(hour % 12 - 6) / 6), 2)

    def unload(self, crates: Iterator[tuple[str, int]]) -> Iterator[str]:
        """Takes what the caller has, as the caller comes by it, and reports on the way."""
        total = 0
        for number, (what, weight) in enumerate(crates, 1):
            if weight > 1000:
                raise ValueError(f"{what} is too heavy for the crane")
            total += weight
            yield f"crate {number}: {what}, {total} kg on the quay"


if __name__ == "__main__":
    broker.serve({Harbour(): "example.harbour"}, use_ns=False)
