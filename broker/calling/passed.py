"""Iterators that were passed, as an argument or anywhere in a value: what the other side gets of them."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

from broker.calling.edge import Edge
from broker.calling.exported import ExportedRemote
from broker.calling.options import Options
from broker.calling.streams import RemoteItems, RemoteIterator
from broker.calling.tasks import AsyncRemoteIterator, invoke_async
from broker.codecs import TypeRegistry
from broker.connection.exports import Held
from broker.descriptions import RemoteDescription
from broker.errors import ProtocolError

_NO_DESCRIPTION = RemoteDescription("", "", None, {}, "")


class _Source(ExportedRemote):
    """The other side of an iterator. There is nothing to be asked about it."""

    def known_description(self) -> RemoteDescription:
        return _NO_DESCRIPTION


class PassedIterator(Iterator[Any], AsyncIterator[Any]):
    """An iterator of the other side, which was passed: `for` and `async for` take its items, a little ahead.

    The first of them asks for the stream; from then on it is as the iterator of a result. Closing or dropping it stops
    the generator at the other side. It can be kept beyond the call, as long as the connection lasts.
    """

    __slots__ = ("__weakref__", "_asked", "_async", "_blocking", "_closed", "_lock", "_remote", "held")

    def __init__(self, held: Held, types: TypeRegistry) -> None:
        """`types` may be rebuilt in the items."""
        self.held = held
        self._remote = _Source(held, Options())
        self._remote.edge = Edge(types)
        self._lock = threading.RLock()  # a nested call on the thread that waits may take from the same iterator
        self._closed = False
        self._blocking: RemoteIterator | None = None
        self._async: AsyncRemoteIterator | None = None
        self._asked: asyncio.Future[RemoteItems] | None = None

    @classmethod
    def of(cls, held: Held, types: TypeRegistry) -> PassedIterator:
        """The one iterator for all values in which the reference arrives."""
        found = held.iterator() if held.iterator is not None else None
        if found is None:
            found = cls(held, types)
            held.iterator = weakref.ref(found)
        return found

    # ---- blocking

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._blocking or self._open())

    def _open(self) -> Iterator[Any]:
        with self._lock:
            if self._closed:
                return iter(())
            if self._blocking is None:
                found = self._async or self._remote.invoke("__iter__")
                self._blocking = RemoteIterator(self._items_of(found))
            return self._blocking

    def _items_of(self, found: object) -> RemoteItems:
        if not isinstance(found, RemoteIterator | AsyncRemoteIterator):
            raise ProtocolError(f"{self._remote.where()} was passed as an iterator, and gave no stream")
        return found.items

    def close(self) -> None:
        """Stops the iterator at the other side, unless it is over. From any thread; does not wait for it."""
        self._closed = True
        for opened in (self._blocking, self._async):
            if opened is not None:
                opened.items.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ---- on an event loop

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._async is None:
            if self._closed:
                raise StopAsyncIteration
            self._async = AsyncRemoteIterator(await self._items())
        return await anext(self._async)

    async def _items(self) -> RemoteItems:
        if self._blocking is not None:
            return self._blocking.items
        if self._asked is None:  # several tasks may come at once
            self._asked = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._asked)

    async def _ask(self) -> RemoteItems:
        try:
            return self._items_of(await invoke_async(self._remote, "__iter__", (), {}))
        finally:
            self._asked = None

    async def aclose(self) -> None:
        """Stops the iterator at the other side, unless it is over; does not wait for it."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._remote.where()}>"


Edge.iterator = PassedIterator
