"""What a daemon has done and is doing, in numbers."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from broker._pb.broker_pb2 import Call
from broker.connection.calls import CallRequest
from broker.connection.refusals import Refused

MOST_NAMES = 256
"""Classes of errors that are counted each by itself; further ones are counted together."""
_OTHERS = "(others)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """A daemon in numbers, at one moment: a copy, which does not change.

    Counts are since the daemon was made; what is not in a mapping was counted 0 times.
    """

    uptime: float
    """Seconds since the daemon was made."""
    calls: Mapping[str, int]
    """The calls that arrived, refused ones included, by kind: "method", "get", "set", "describe", "batch"; the calls
    of a batch count as well. What a connection turns away, as too large or too many, is counted under `refused`."""
    oneway: int
    """How many of them nobody waits for."""
    unary: int
    """How many of them came from other gRPC clients, not over a connection of a proxy."""
    errors: Mapping[str, int]
    """What methods raised, by class: "ValueError", "shop.OutOfStock"."""
    refused: Mapping[str, int]
    """The calls that were not carried out, and those whose result could not be sent, by reason: "OBJECT_NOT_FOUND",
    "OVERLOADED" and the others of docs/wire.md."""
    limits: Mapping[str, int]
    """How often something was refused or ended because of a limit, by the name of the setting: "max_calls"."""
    under_way: int
    """Calls that are not answered now."""
    waiting: int
    """How many of them have not started: they wait for the daemon's start, their turn, their object or a thread."""
    streams: int
    """How many of them send items."""
    connections: int
    """Connections of clients now."""
    sessions: int
    """Sessions for which something is kept now: an instance, or a tracked resource."""
    exports: int
    """Exported objects now: those of clients that are held here, and those of this process that clients hold."""


class Counter:
    """Counts from any number of threads without a lock: `add` is one call of C code, which the GIL keeps whole."""

    __slots__ = ("_count", "_lock", "_reads", "add")

    def __init__(self) -> None:
        self._count = itertools.count()
        self.add = self._count.__next__
        self._lock = threading.Lock()
        self._reads = 0

    def add_many(self, number: int) -> None:
        next(itertools.islice(self._count, number, number), None)

    @property
    def value(self) -> int:
        with self._lock:  # to look is to count, too
            self._reads += 1
            return self.add() + 1 - self._reads


class NamedCounters:
    """A counter for each name."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}

    def add(self, name: str) -> None:
        counter = self._counters.get(name)
        if counter is None:  # a dict sets a default in one piece
            name = name if len(self._counters) < MOST_NAMES else _OTHERS
            counter = self._counters.setdefault(name, Counter())
        counter.add()

    @property
    def values(self) -> Mapping[str, int]:
        return {name: counter.value for name, counter in sorted(self._counters.copy().items())}


class Tally:
    """Counts the calls of one daemon. Every method may be called from any thread; none takes a lock to count."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._kinds = {kind: Counter() for kind in Call.Kind.values()}
        self._oneway = Counter()
        self._unary = Counter()
        self._errors = NamedCounters()
        self._refused = NamedCounters()
        self._limits = NamedCounters()
        self.limit_met: Callable[[str], None] = self._limits.add
        """Counts that something had to be refused, or ended, because of the setting of that name."""

    @property
    def count_method(self) -> Callable[[], int]:
        """Counts a call of a method that somebody waits for."""
        return self._kinds[Call.METHOD].add

    @property
    def count_methods(self) -> Callable[[int], None]:
        """Counts so many of them."""
        return self._kinds[Call.METHOD].add_many

    def arrived(self, request: CallRequest, *, unary: bool) -> None:
        kind = self._kinds.get(request.kind)
        if kind is not None:
            kind.add()
        if request.batch is not None:
            self._kinds[Call.METHOD].add_many(len(request.batch.calls))
        if request.oneway:
            self._oneway.add()
        if unary:
            self._unary.add()

    def raised(self, error: BaseException) -> None:
        cls = type(error)
        name = cls.__qualname__
        self._errors.add(name if cls.__module__ == "builtins" else f"{cls.__module__}.{name}")

    def refused(self, refused: Refused) -> None:
        self._refused.add(
            str(refused.reason)
        )  # no member of an enumeration: who asks from afar does not know its class
        if refused.limit:
            self._limits.add(refused.limit)

    def stats(
        self, *, under_way: int, waiting: int, streams: int, connections: int, sessions: int, exports: int
    ) -> Stats:
        """The counts with what is now."""
        counts = {Call.Kind.Name(kind).lower(): counter.value for kind, counter in self._kinds.items() if kind}
        return Stats(
            uptime=time.monotonic() - self._since,
            calls={kind: count for kind, count in counts.items() if count},
            oneway=self._oneway.value,
            unary=self._unary.value,
            errors=self._errors.values,
            refused=self._refused.values,
            limits=self._limits.values,
            under_way=under_way,
            waiting=waiting,
            streams=streams,
            connections=connections,
            sessions=sessions,
            exports=exports,
        )
