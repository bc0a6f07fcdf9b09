"""A laboratory whose experiments take long, and end early if nobody waits for them any more."""

from __future__ import annotations

import asyncio
import threading

import broker
from broker import current_context


class Laboratory:
    """Runs experiments, and keeps a diary of how they began and ended."""

    def __init__(self) -> None:
        self._diary: list[str] = []
        self._written = threading.Condition()

    def grow(self, crystal: str, seconds: float) -> str:
        """A method that waits asks `wait_cancelled` to wait: it returns early, with True, if the caller gives up."""
        self._note(f"{crystal}: planted")
        if current_context.wait_cancelled(seconds):
            self._note(f"{crystal}: thrown away, nobody waits for it")
            return "nobody sees this"
        self._note(f"{crystal}: grown")
        return f"a crystal of {crystal}"

    def sieve(self, sand: int) -> int:
        """A method that computes looks now and then."""
        self._note("sand: begun")
        for grain in range(sand):
            if current_context.cancelled:
                self._note("sand: stopped before the end")
                return grain
        self._note("sand: sieved")
        return sand

    async def brew(self, seconds: float) -> str:
        """The task of an `async def` method is cancelled, as everywhere in asyncio."""
        self._note("tea: begun")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self._note("tea: poured away")
            raise
        return "tea"

    def assist(self, other: broker.Proxy, crystal: str) -> str:
        """A call inside a call ends with it: `other` is told as well."""
        return f"assisted: {other.grow(crystal, 60)}"

    def wait_for(self, entry: str) -> str:
        """Waits until the diary has this entry."""
        with self._written:
            self._written.wait_for(lambda: entry in self._diary)
            return entry

    def _note(self, entry: str) -> None:
        print(entry, flush=True)
        with self._written:
            self._diary.append(entry)
            self._written.notify_all()


if __name__ == "__main__":
    broker.serve({Laboratory(): "example.laboratory", Laboratory(): "example.annex"}, use_ns=False)
