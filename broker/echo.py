"""`EchoServer`: an object to try clients, tools and networks with."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from broker.decorators import behavior, oneway


@behavior(instance_mode="single")
class EchoServer:
    """Answers with what it is given, and fails, waits and streams on demand: an object to try a client or a network on.

    With `verbose` each call is printed. `on_shutdown` is what a call of `shutdown()` calls.
    """

    def __init__(self, verbose: bool = False, on_shutdown: Callable[[], object] | None = None) -> None:
        self._verbose = verbose
        self._on_shutdown = on_shutdown

    @property
    def verbose(self) -> bool:
        """Whether each call is printed."""
        return self._verbose

    @verbose.setter
    def verbose(self, value: bool) -> None:
        self._verbose = bool(value)

    def echo(self, message: Any) -> Any:
        """Returns the message as it arrived."""
        self._tell(f"echo: {message!r}")
        return message

    def error(self, text: str = "this is the generated error from echoserver") -> None:
        """Raises a ValueError with that text."""
        self._tell("error: generating exception")
        raise ValueError(text)

    @oneway
    def oneway_echo(self, message: Any) -> None:
        """Takes the message and answers nothing."""
        self._tell(f"oneway_echo: {message!r}")

    def slow(self, seconds: float = 5.0) -> str:
        """Answers after that many seconds."""
        self._tell("slow: waiting a bit...")
        time.sleep(seconds)
        self._tell("slow: returning result")
        return "Finally, an answer!"

    @oneway
    def oneway_slow(self, seconds: float = 5.0) -> None:
        """Takes that many seconds, for which nobody waits."""
        self.slow(seconds)

    async def slow_async(self, seconds: float = 5.0) -> str:
        """Answers after that many seconds, and holds no thread meanwhile."""
        self._tell("slow_async: waiting a bit...")
        await asyncio.sleep(seconds)
        return "Finally, an answer!"

    def generator(self) -> Iterator[str]:
        """Streams three words."""
        yield from ("one", "two", "three")

    def nan(self) -> float:
        """Not a number."""
        return math.nan

    def inf(self) -> float:
        """Infinity."""
        return math.inf

    def now(self) -> datetime:
        """The time at the server, in UTC."""
        self._tell("now")
        return datetime.now(UTC)

    def shutdown(self) -> None:
        """Ends the server."""
        self._tell("shutting down")
        if self._on_shutdown is not None:
            self._on_shutdown()

    def _tell(self, text: str) -> None:
        if self._verbose:
            print(f"{time.asctime()} - {text}", flush=True)
