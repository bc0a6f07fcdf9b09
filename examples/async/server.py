"""A tea house: most methods are `async def`, and run on the event loop of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import broker


class TeaHouse:
    def __init__(self) -> None:
        self._price = 3
        self._poured_away = asyncio.Event()

    async def brew(self, tea: str, seconds: float = 0.2) -> str:
        """Brews a pot. Whoever does not want it any more need not wait: the water is poured away."""
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self._poured_away.set()
            raise
        return f"a pot of {tea}"

    async def menu(self) -> AsyncIterator[str]:
        for tea in ("Assam", "Sencha", "Oolong"):
            await asyncio.sleep(0)
            yield tea

    def add(self, cups: int, more: int) -> int:
        """A plain method: it runs on a worker thread."""
        return cups + more

    @property
    def price(self) -> int:
        return self._price

    @price.setter
    def price(self, price: int) -> None:
        self._price = price

    async def poured_away(self) -> bool:
        """Waits until a pot was poured away."""
        return await self._poured_away.wait()


if __name__ == "__main__":
    broker.serve({TeaHouse(): "example.teahouse"}, use_ns=False)
