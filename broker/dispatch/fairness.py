"""The queue in front of the workers while all of them are busy: each caller in turn, however much one of them asks."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items of several owners: those of one owner in their order, and the owners in turn.

    Every method may be called from any thread, and none waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: OrderedDict[Hashable, deque[T]] = OrderedDict()  # the owner whose turn it is comes first

    def __bool__(self) -> bool:
        return bool(self._items)

    def put(self, owner: Hashable, item: T) -> None:
        with self._lock:
            self._items.setdefault(owner, deque()).append(item)

    def take(self) -> T:
        """The next item. Raises IndexError if there is none."""
        with self._lock:
            if not self._items:
                raise IndexError("take from an empty queue")
            owner, items = self._items.popitem(last=False)
            item = items.popleft()
            if items:
                self._items[owner] = items
            return item
