"""Forks: a child goes on with connections of its own, where gRPC lets it.

gRPC repairs itself in a child only if no thread is inside it at the moment of the fork; otherwise the child hangs or
crashes, sooner or later. So a fork waits until our threads have come out: those that read are woken, and wait here on
an ordinary lock; what takes a moment (opening and closing connections, questions to name servers) is waited for; who
sends is held up by the lock of its stream. Where that does not succeed, and beside threads that are gRPC's own, the
child is told with every call that it cannot make any.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from broker.errors import BrokerError

__all__ = ["Reader", "forks"]

PATIENCE = 0.2
"""Seconds that a fork is held up at most."""
_SETTLE_SECONDS = 0.003  # until gRPC's own threads are through with what has just arrived
_ADVICE = "fork before the first use, or start processes with the spawn or forkserver method of multiprocessing"


class Reader(Protocol):
    """A stream with a thread that reads it, and waits inside gRPC."""

    lock: threading.Lock
    """Held by who begins something in gRPC for the stream."""

    def wake(self) -> None:
        """Has the thread look up from its waiting. The lock is held."""


@dataclass(slots=True)
class _Fork:
    """One fork on its way."""

    announced: bool = False
    quiet: bool = False
    held: list[threading.Lock] = field(default_factory=list)


class Forks:
    """The forks of this process. Every method may be called from any thread."""

    def __init__(self, generation: int = 0, unusable: str | None = None) -> None:
        self.generation = generation
        """How many forks lie between this process and the first one that imported this."""
        self.forking = 0
        """Whether a fork waits for who reads: how many do. Only changed under the lock."""
        self._changed = threading.Condition()
        self._readers: set[Reader] = set()
        self._parked = 0
        self._under_way = 0
        self._hindrances: Counter[str] = Counter()
        self._unusable = unusable
        self._begun: dict[int, _Fork] = {}  # by the thread that forks

    def check(self) -> None:
        """Raises BrokerError in a process that cannot use gRPC."""
        if self._unusable is not None:
            raise BrokerError(
                f"this process was forked from one {self._unusable}, and gRPC does not survive that: {_ADVICE}"
            )

    # ---- what a fork waits for

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Surrounds what takes a moment in gRPC. Raises BrokerError in a process that cannot use it."""
        self.check()
        with self._changed:
            self._changed.wait_for(lambda: not self.forking)
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    @contextmanager
    def reading(self, reader: Reader) -> Iterator[None]:
        """Surrounds the reading of a stream. Its thread has to `park` whenever it is not inside gRPC and `forking`."""
        with self._changed:
            self._changed.wait_for(lambda: not self.forking)
            self._readers.add(reader)
        try:
            yield
        finally:
            with self._changed:
                self._readers.discard(reader)
                self._changed.notify_all()

    def park(self) -> None:
        """Waits until the fork is over."""
        with self._changed:
            self._parked += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self.forking)
            self._parked -= 1

    def hinder(self, what: str) -> None:
        """From now on a child cannot use gRPC, because its parent is one `what`; until `hinder_no_more`."""
        with self._changed:
            self._hindrances[what] += 1

    def hinder_no_more(self, what: str) -> None:
        with self._changed:
            self._hindrances[what] -= 1

    # ---- the fork

    def before(self) -> None:
        """Brings our threads out of gRPC, if that takes no longer than it may."""
        fork = self._begun[threading.get_ident()] = _Fork()
        if any(self._hindrances.values()):
            return  # with threads inside it gRPC starts none of its own in the child, which would crash there
        give_up = time.monotonic() + PATIENCE
        fork.announced = self._changed.acquire(timeout=PATIENCE)
        if fork.announced:
            self.forking += 1
            self._changed.release()
            fork.quiet = self._come_out(fork.held, give_up)

    def _come_out(self, held: list[threading.Lock], give_up: float) -> bool:
        for reader in list(self._readers):
            if not reader.lock.acquire(timeout=_left(give_up)):
                return False
            reader.wake()
            reader.lock.release()
        with self._changed:
            if not self._changed.wait_for(self._all_parked, _left(give_up)):
                return False
            readers = list(self._readers)
        if readers:
            time.sleep(_SETTLE_SECONDS)
        for reader in readers:
            if not reader.lock.acquire(timeout=_left(give_up)):
                return False
            held.append(reader.lock)
        return True

    def _all_parked(self) -> bool:
        return not self._under_way and self._parked >= len(self._readers)

    def after_in_parent(self) -> None:
        fork = self._begun.pop(threading.get_ident())
        for lock in fork.held:
            lock.release()
        with self._changed:
            self.forking -= fork.announced
            self._changed.notify_all()

    def after_in_child(self) -> None:
        quiet = self._begun[threading.get_ident()].quiet
        why = self._unusable or next((what for what, count in self._hindrances.items() if count), None)
        if why is None and not quiet:
            why = "while its parent was busy in gRPC, with a name server or a connection that did not answer"
        self.__init__(self.generation + 1, why)  # type: ignore[misc]


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


forks = Forks()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=forks.before, after_in_parent=forks.after_in_parent, after_in_child=forks.after_in_child)
