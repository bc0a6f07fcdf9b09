"""The queue in front of the workers while all of them are busy: each caller in turn, however much one of them asks."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import TypeVar

T = TypeVar("T")


class FairQueue(OrderedDict[Hashable, deque[T]]):
    """Items of several owners: those of one owner in their order, and the owners in turn. It has no lock.

    The owner whose turn it is comes first. It is a mapping so that to ask whether there is anything costs nothing.
    """

    def put(self, owner: Hashable, item: T) -> None:
        items = self.get(owner)
        if items is None:
            items = self[owner] = deque()
        items.append(item)

    def put_first(self, owner: Hashable, item: T) -> None:
        """Puts an item back that was taken: it is the next."""
        self.setdefault(owner, deque()).appendleft(item)
        self.move_to_end(owner, last=False)

    def take(self) -> T:
        """The next item. Raises KeyError if there is none."""
        owner, items = self.popitem(last=False)
        item = items.popleft()
        if items:
            self[owner] = items
        return item
