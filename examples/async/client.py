"""A guest of the tea house, on an event loop: `python client.py URI`."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Protocol

import broker


class TeaHouse(Protocol):
    """What a guest knows of it. Methods are `async def` here, because a guest awaits them."""

    async def brew(self, tea: str, seconds: float = ...) -> str: ...

    def menu(self) -> AsyncIterator[str]: ...

    async def add(self, cups: int, more: int) -> int: ...


async def main(uri: str) -> None:
    house = broker.AsyncProxy(uri)

    # Calls of several tasks are on their way at the same time.
    began = time.monotonic()
    print("served:", *await asyncio.gather(*(house.brew(tea) for tea in ("Assam", "Sencha", "Oolong"))), sep="\n    ")
    print("all in the time of two:", time.monotonic() - began < 0.4)

    # What a generator gives, and properties.
    print("the menu:", ", ".join([tea async for tea in house.menu()]))
    await house.price.set(4)
    print("a cup costs", await house.price)

    # Whoever gives up cancels the call.
    try:
        async with asyncio.timeout(0.1):
            await house.brew("Pu-erh", 60)
    except TimeoutError:
        print("no time for Pu-erh")
    print("poured away:", await house.poured_away())

    # Thousands at once need no threads.
    threads = threading.active_count()
    sums = await asyncio.gather(*(house.add(cups, 1) for cups in range(5_000)))
    print(
        "5000 calls at once:",
        sums == [*range(1, 5_001)],
        "with a thread for each:",
        threading.active_count() > threads + 100,
    )

    # The same with types: a checker knows the arguments and the results.
    typed = await broker.connect_async(uri, TeaHouse)
    print("for a friend:", await typed.brew("Sencha", seconds=0))


asyncio.run(main(sys.argv[1]))
