"""Forks: a child goes on with connections of its own, where gRPC lets it.

gRPC repairs itself in a child only if no thread is inside it at the moment of the fork. Otherwise threads that it
starts in the child come upon the stacks of those that are not there, and the child crashes now and then, whatever it
does. So a fork waits until our threads have come out: those that read are woken, and wait here on an ordinary lock;
what takes a moment (opening and closing connections, questions to name servers) is waited for; who sends is held up by
the lock of its stream. Where that does not succeed, and beside threads that are gRPC's own, the child is told with
every call that it cannot make any.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from broker.errors import BrokerError

__all__ = ["Reader", "forks"]

PATIENCE = 0.2
"""Seconds that a fork is held up at most."""
_LOOK_SECONDS = 0.001  # who comes out of gRPC does not always say so
_SETTLE_SECONDS = 0.003  # until gRPC's own threads are through with what has just arrived
_SWITCH = "GRPC_ENABLE_FORK_SUPPORT"
_OFF = ("0", "false", "f", "no", "n")  # as gRPC reads it
_ADVICE = "fork before the first use, or start processes with the spawn or forkserver method of multiprocessing"


class Lock(Protocol):
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...


class Reader(Protocol):
    """A stream, or all those of a server: one with threads that read, and wait inside gRPC."""

    @property
    def inside(self) -> bool:
        """Whether a thread may be waiting inside gRPC. Before it goes there, it has to `park` while `forking`."""

    def wake(self, timeout: float) -> bool:
        """Has the threads look up from their waiting. False if that could not be begun in time."""

    def locks(self) -> Iterable[Lock]:
        """Those that are held by who begins something in gRPC, each to be taken before the next is asked for."""


@dataclass(slots=True)
class _Fork:
    """One fork on its way."""

    announced: bool = False
    quiet: bool = False
    held: list[Lock] = field(default_factory=list)


class Forks:
    """The forks of this process. Every method may be called from any thread."""

    def __init__(self, generation: int = 0, unusable: str | None = None) -> None:
        self.generation = generation
        """How many forks lie between this process and the first one that imported this."""
        self.forking = 0
        """Whether a fork waits for who reads: how many do. Only changed under the lock."""
        self._changed = threading.Condition()
        self._readers: set[Reader] = set()
        self._under_way = 0
        self._hindrances: Counter[str] = Counter()
        self._used = False  # whether this process has been inside gRPC
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
            self._used = True
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    @contextmanager
    def reading(self, reader: Reader) -> Iterator[None]:
        """Surrounds the reading of a stream."""
        self.begin_reading(reader)
        try:
            yield
        finally:
            self.end_reading(reader)

    def begin_reading(self, reader: Reader) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self.forking)
            self._readers.add(reader)
            self._used = True

    def end_reading(self, reader: Reader) -> None:
        """Nothing of what it read is there any more."""
        with self._changed:
            self._readers.discard(reader)
            self._changed.notify_all()

    def park(self) -> None:
        """Waits until the fork is over. The thread is not `inside`, and says so first."""
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self.forking)

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

    def _come_out(self, held: list[Lock], give_up: float) -> bool:
        for reader in list(self._readers):
            if not reader.wake(_left(give_up)):
                return False
        with self._changed:
            while not self._all_outside():
                if not _left(give_up):
                    return False
                self._changed.wait(_LOOK_SECONDS)
            readers = list(self._readers)
        if readers:
            time.sleep(_SETTLE_SECONDS)
        for reader in readers:
            for lock in reader.locks():
                if not lock.acquire(timeout=_left(give_up)):
                    return False
                held.append(lock)
        return True

    def _all_outside(self) -> bool:
        return not self._under_way and not any(reader.inside for reader in self._readers)

    def after_in_parent(self) -> None:
        fork = self._begun.pop(threading.get_ident())
        for lock in fork.held:
            lock.release()
        with self._changed:
            self.forking -= fork.announced
            self._changed.notify_all()

    def after_in_child(self) -> None:
        quiet = self._begun[threading.get_ident()].quiet
        self.__init__(self.generation + 1, self._unusable or self._hindrance(quiet))  # type: ignore[misc]

    def _hindrance(self, quiet: bool) -> str | None:
        """Why gRPC does not go on in this child; None if it does."""
        for what, count in self._hindrances.items():
            if count:
                return what
        if not quiet:
            return "that was busy in gRPC, with a name server or a connection that did not answer"
        if self._used and os.environ.get(_SWITCH, "").lower() in _OFF:
            return f"with {_SWITCH}={os.environ[_SWITCH]} in its environment"
        return None


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


forks = Forks()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=forks.before, after_in_parent=forks.after_in_parent, after_in_child=forks.after_in_child)
