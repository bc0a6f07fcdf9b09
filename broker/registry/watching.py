"""Who watches the names, each with a bounded queue: who does not keep up is told so and dropped."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from broker.errors import Overloaded
from broker.registry.store import Entry

__all__ = ["REGISTERED", "REMOVED", "Change", "Watcher", "Watchers"]

REGISTERED, REMOVED = 1, 2
_LONGEST_QUEUE = 10_000
_MOST_WATCHERS = 1_000


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` is REGISTERED (also for new tags) or REMOVED."""

    kind: int
    entry: Entry


class Watcher:
    """One reader of changes."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._changed = threading.Condition()
        self._queue: deque[Change] = deque()
        self._overrun = self._closed = False

    def next(self) -> Change | None:
        """Waits for the next change; None when the watcher is closed. Raises Overloaded if changes were lost."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._overrun or self._closed)
            if self._overrun:
                raise Overloaded(f"this watcher is {_LONGEST_QUEUE} changes behind: watch again, then list")
            return None if self._closed else self._queue.popleft()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def tell(self, change: Change) -> None:
        """Queues a change; never waits for the reader."""
        with self._changed:
            self._overrun |= len(self._queue) >= _LONGEST_QUEUE
            if not self._overrun:
                self._queue.append(change)
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        return self._closed or self._overrun


class Watchers:
    """All watchers of one name server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: list[Watcher] = []

    def add(self, prefix: str) -> Watcher:
        watcher = Watcher(prefix)
        with self._lock:
            self._watchers = [present for present in self._watchers if not present.ended]
            if len(self._watchers) >= _MOST_WATCHERS:
                raise Overloaded(f"the name server has {_MOST_WATCHERS} watchers and takes no more")
            self._watchers.append(watcher)
        return watcher

    def tell(self, kind: int, entry: Entry) -> None:
        with self._lock:
            watchers = [watcher for watcher in self._watchers if entry.name.startswith(watcher.prefix)]
        for watcher in watchers:
            watcher.tell(Change(kind, entry))

    def close(self) -> None:
        with self._lock:
            watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.close()
