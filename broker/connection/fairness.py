"""The queue in front of the workers while all of them are busy: each caller in turn, however much one of them asks."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items of several owners: those of one owner in their order, and the owners in turn. It has no lock."""

    def __init__(self) -> None:
        self._items: OrderedDict[Hashable, deque[T]] = OrderedDict()  # the owner whose turn it is comes first

    def __bool__(self) -> bool:
        return bool(self._items)

    def put(self, owner: Hashable, item: T) -> None:
        items = self._items.get(owner)
        if items is None:
            items = self._items[owner] = deque()
        items.append(item)

    def put_first(self, owner: Hashable, item: T) -> None:
        """Puts an item back that was taken: it is the next."""
        self._items.setdefault(owner, deque()).appendleft(item)
        self._items.move_to_end(owner, last=False)

    def take(self) -> T:
        """The next item. Raises KeyError if there is none."""
        owner, items = self._items.popitem(last=False)
        item = items.popleft()
        if items:
            self._items[owner] = items
        return item
