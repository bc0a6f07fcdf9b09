"""Which calls were made, what came of them, whether everything moves, and what must not have happened."""

from __future__ import annotations

import faulthandler
import itertools
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.stress.server import NUMBER
from broker.errors import CommunicationError, NamingError, RemoteError

STUCK_SECONDS = 20.0
"""Nothing at all was finished for so long: something hangs."""
LONGEST_SECONDS = 75.0
"""No action takes longer, with all that it may wait for."""
_GRACE_SECONDS = 3.0  # after a restart, until everybody has noticed that connections were lost
_LATE_SECONDS = 3.0  # on a busy machine
_CLIENT_BITS = 40
WATCHED = 1 << _CLIENT_BITS
"""Numbers above this are those of calls that are held against what was executed."""
RETRIED = WATCHED >> 1
"""In the numbers of calls that may be executed more than once."""


class Wrong(Exception):
    """An answer is not that of the call."""


class Books:
    """The calls of one client. Every method may be called from any thread."""

    def __init__(self, client: int, folder: Path, patience: float) -> None:
        """`client` tells the numbers of this client from those of others; what is wrong is written into the folder.
        `patience` is how long a call may take, in seconds."""
        self.patience = patience
        self.longest = patience + _LATE_SECONDS
        """How long to wait for the end of a call: its own error comes first."""
        self._client = client
        self._folder = folder
        self._clock = Clock()
        self._numbers = itertools.count(client << _CLIENT_BITS)
        self.answered: list[int] = []
        """Calls that must have been executed exactly once."""
        self.untouched: list[int] = []
        """Calls that must not have been executed."""
        self.written: Counter[str] = Counter()
        """How many of either are in files."""
        self.actions: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        self._down = False
        self._up_since = -_GRACE_SECONDS
        self.moved = time.monotonic()
        self.under_way: dict[str, tuple[str, float]] = {}
        """What threads and tasks do, by their names, and since when."""

    def number(self) -> int:
        return next(self._numbers)

    def complain(self, what: str) -> None:
        with (self._folder / f"wrong-{self._client}").open("a", encoding="utf-8") as file:
            file.write(f"client {self._client}: {what}\n")

    def server_goes_down(self) -> None:
        self._down = True

    def server_is_up(self) -> None:
        self._up_since, self._down = time.monotonic(), False

    def was_down_since(self, moment: float) -> bool:
        return self._down or moment < self._up_since + _GRACE_SECONDS

    @contextmanager
    def call(self) -> Iterator[int]:
        """One call with a number: it is answered if the block ends, and if it raises the error may say more.

        Either has to come within the patience.
        """
        number, began = self.number(), self._clock.now()
        try:
            yield number
        except CommunicationError as error:
            if not error.may_have_run:
                self.untouched.append(number)
            raise
        else:
            self.answered.append(number)
        finally:
            seconds = self._clock.now() - began
            if seconds > self.longest:
                self.complain(f"a call of {self.patience:g} s took {seconds:.1f} s: {sys.exc_info()[1]!r}")

    @contextmanager
    def action(self, actor: str, name: str) -> Iterator[None]:
        """What somebody does. Lost connections are excused around a restart of the server, and nothing else is."""
        since = time.monotonic()
        self.under_way[actor] = name, since
        try:
            yield
        except Exception as error:
            if _is_of_loss(error) and self.was_down_since(since):
                self.excused[type(error).__name__] += 1
            else:
                self.complain(f"{actor}, {name}: {traceback.format_exc()}")
        finally:
            self.actions[name] += 1
            self.moved = time.monotonic()
            del self.under_way[actor]

    def stuck(self) -> list[str]:
        """Who takes too long."""
        now = time.monotonic()
        slow = [
            f"{actor} has been in {name} for {now - since:.0f} s"
            for actor, (name, since) in self.under_way.copy().items()
            if now - since > LONGEST_SECONDS
        ]
        if self.under_way and now - self.moved > STUCK_SECONDS and not self.was_down_since(now - STUCK_SECONDS):
            slow.append(f"nothing was finished for {now - self.moved:.0f} s: {self.under_way}")
        return slow

    def write(self) -> None:
        """Puts what is known of calls so far into files, and keeps it no longer."""
        for name, numbers in (("answered", self.answered), ("untouched", self.untouched)):
            count = len(numbers)  # others may add to them meanwhile
            with (self._folder / f"{name}-{self._client}").open("ab") as file:
                file.write(b"".join(map(NUMBER.pack, numbers[:count])))
            del numbers[:count]
            self.written[name] += count


def _is_of_loss(error: Exception) -> bool:
    """Whether a call was lost, or one that its method made."""
    of_method = isinstance(error, RemoteError) and error.type.startswith("broker.errors.")
    return of_method or isinstance(error, (CommunicationError, NamingError))


class Clock:
    """Time that does not pass while this process is stopped."""

    _TICK = 0.1

    def __init__(self) -> None:
        self._stood_still = 0.0
        self._ticked = time.monotonic()
        threading.Thread(target=self._tick, name="stress-clock", daemon=True).start()

    def _tick(self) -> None:
        while True:
            time.sleep(self._TICK)
            before, self._ticked = self._ticked, time.monotonic()
            gap = self._ticked - before - self._TICK
            self._stood_still += gap if gap > self._TICK else 0.0

    def now(self) -> float:
        now = time.monotonic()
        gap = now - self._ticked - self._TICK  # what the thread has not seen yet
        return now - self._stood_still - (gap if gap > self._TICK else 0.0)


class Watchdog:
    """Ends the process with the stacks of all its threads when something hangs."""

    def __init__(self, books: Books, tasks: Callable[[], str]) -> None:
        """`tasks` says where the tasks are."""
        self._books = books
        self._tasks = tasks
        self._over = threading.Event()
        threading.Thread(target=self._watch, name="stress-watchdog", daemon=True).start()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            stuck = self._books.stuck()
            if stuck:
                self.bite("\n".join(stuck))

    def bite(self, why: str) -> None:
        print(f"HANGS: {why}", file=sys.stderr, flush=True)
        print(self._tasks(), file=sys.stderr, flush=True)
        faulthandler.dump_traceback(all_threads=True)
        faulthandler.dump_traceback_later(0.1, exit=True)
        self._over.wait()

    def close(self) -> None:
        self._over.set()
