"""The daemon under stress: `python -m benchmarks.stress.server PORT JOURNAL [NAME]`.

With a name its objects are in the name server, as NAME.target and NAME.administration, both tagged NAME.

Each executed call appends its number to the journal, eight bytes, with one write: so what was executed is known after
SIGKILL too.
"""

from __future__ import annotations

import logging
import os
import struct
import sys
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import broker
from benchmarks.stress.processes import IDLE_SECONDS, trim
from broker.connection import workers
from broker.errors import CommunicationError

REMEMBERED = 50_000
NUMBER = struct.Struct("<Q")


class Target:
    """Its answers carry the number of the call. `number` is noted when a call is executed."""

    def __init__(self, journal: int) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._recent: OrderedDict[int, None] = OrderedDict()
        self._slot = 0
        self._aside = ThreadPoolExecutor(8)
        self.open = {"generators": 0, "resources": 0}

    def _note(self, number: int) -> None:
        os.write(self._journal, NUMBER.pack(number))
        with self._lock:
            self._recent[number] = None
            if len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)

    def _count(self, what: str, change: int) -> None:
        with self._lock:
            self.open[what] += change

    # ---- plain calls

    def echo(self, number: int, value: object) -> list[object]:
        self._note(number)
        return [number, value]

    async def echo_async(self, number: int, value: object) -> list[object]:
        self._note(number)
        return [number, value]

    def fail(self, number: int) -> None:
        self._note(number)
        raise LookupError(number)

    def add(self, number: int, array: Any) -> Any:
        self._note(number)
        return array + number % 1000

    def wait(self, number: int, seconds: float) -> int:
        self._note(number)
        broker.current_context.wait_cancelled(seconds)
        return number

    def incarnation(self) -> int:
        return os.getpid()

    def was_executed(self, number: int) -> list[int]:
        with self._lock:
            return [os.getpid(), number in self._recent]

    def track(self, number: int) -> int:
        self._note(number)
        broker.current_context.track(_Resource(self._count))
        return number

    # ---- attributes and special methods

    @property
    def slot(self) -> int:
        return self._slot

    @slot.setter
    def slot(self, number: int) -> None:
        self._note(number)
        self._slot = number

    def __call__(self, number: int) -> int:
        self._note(number)
        return number + 1

    def __len__(self) -> int:
        return 7

    def __getitem__(self, number: int) -> list[int]:
        self._note(number)
        return [number, number * 2]

    def __setitem__(self, number: int, value: int) -> None:
        self._note(number)

    def __delitem__(self, number: int) -> None:
        self._note(number)

    def __contains__(self, number: int) -> bool:
        self._note(number)
        return number % 2 == 0

    def __iter__(self) -> Iterator[int]:
        return iter(range(5))

    # ---- streams

    @contextmanager
    def _generator(self, number: int) -> Iterator[None]:
        self._note(number)
        self._count("generators", 1)
        try:
            yield
        finally:
            self._count("generators", -1)

    def numbers(self, number: int, count: int) -> Iterator[int]:
        with self._generator(number):
            yield from range(number, number + count)

    async def numbers_async(self, number: int, count: int) -> AsyncIterator[int]:
        with self._generator(number):
            for item in range(number, number + count):
                yield item

    def total(self, number: int, items: Iterator[int], most: int) -> list[int]:
        """Reads no more than so many items, and drops the rest."""
        self._note(number)
        total = 0
        for index, item in enumerate(items):
            if index == most:
                break
            total += item
        return [number, total]

    # ---- callbacks

    def call_back(self, number: int, function: Callable[[int, int], object], depth: int) -> list[object]:
        self._note(number)
        return [number, function(number, depth)]

    def call_later(self, number: int, function: Callable[[int], object]) -> int:
        """Calls back after its end."""
        self._note(number)
        self._aside.submit(_call_unless_gone, function, number)
        return number


class _Resource:
    def __init__(self, count: Callable[[str, int], None]) -> None:
        self._count = count
        count("resources", 1)

    def close(self) -> None:
        self._count("resources", -1)


def _call_unless_gone(function: Callable[[int], object], number: int) -> None:
    with suppress(CommunicationError):  # the client was killed, or has ended
        function(number)


class Administration:
    """What is left in the process."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def stats(self) -> dict[str, Any]:
        trim()
        return {
            **asdict(daemon.stats()),
            **self._target.open,
            "threads": sorted(thread.name for thread in threading.enumerate()),
        }


def _is_news(record: logging.LogRecord) -> bool:
    """That it listens for all of the loopback network without TLS is meant so."""
    return "insecure" not in record.getMessage()


if __name__ == "__main__":
    logging.getLogger("broker").addFilter(_is_news)
    workers.IDLE_SECONDS = IDLE_SECONDS
    target = Target(os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    # All of the loopback network: who connects to another address of it has another connection.
    daemon = broker.Daemon(host="0.0.0.0", advertise="127.0.0.1", port=int(sys.argv[1]), insecure=True)
    daemon.register(Administration(target), "administration")
    daemon.register(target, "target")
    daemon.start()
    if len(sys.argv) > 3:
        for part in ("target", "administration"):
            daemon.publish(daemon.objects[part], f"{sys.argv[3]}.{part}", tags=[sys.argv[3]])
    print("ready", daemon.address[1], flush=True)
    daemon.request_loop()
