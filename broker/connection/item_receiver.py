"""The items of a stream that arrive, and the credit that goes back for them.

The consumer is one thread or task at a time: it takes what is there, and asks to be told when there is more. The thread
that reads only puts items in.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker._pb.broker_pb2 import Credit
from broker.codecs import Encoded
from broker.connection.calls import CallRequest, Outcome
from broker.connection.line import Line
from broker.connection.timers import timers
from broker.errors import ProtocolError

if TYPE_CHECKING:
    from broker.connection.streams import Streams

MAX_WINDOW = 4_096
"""The most items of one stream that may be on their way and not taken up."""
MAX_WINDOW_BYTES = 4 << 20
"""The window grows while its items together are taken to be smaller than this."""
_REPORT_BYTES = 1 << 20  # what is taken up is reported at the latest after so many bytes

Items = tuple[Encoded, int]
"""A value and how many items it is a list of; 0: it is one item."""


class Abandoned:
    """Streams whose consumers were collected. Finalizers take no lock, so the producers are told a moment later."""

    _PAUSE = 0.2  # seconds

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[tuple[Streams, int]] = deque()
        self._watched: weakref.WeakSet[Streams] = weakref.WeakSet()  # under the lock
        self._watching = False

    def add(self, streams: Streams, call_id: int) -> None:
        """Called by finalizers."""
        self._calls.append((streams, call_id))

    def watch(self, streams: Streams) -> None:
        """A stream has begun: looks for abandoned ones as long as there are any."""
        with self._lock:
            self._watched.add(streams)
            if not self._watching:
                self._watching = True
                timers.call_later(self._PAUSE, self._sweep)

    def drain(self) -> None:
        """Tells the producers."""
        while self._calls:
            try:
                streams, call_id = self._calls.popleft()
            except IndexError:
                return
            streams.cancel(call_id, "nobody holds the iterator any more")

    def _sweep(self) -> None:
        self.drain()
        with self._lock:
            for streams in [streams for streams in self._watched if not streams]:
                self._watched.discard(streams)
            self._watching = bool(self._watched)
            if self._watching:
                timers.call_later(self._PAUSE, self._sweep)


abandoned = Abandoned()


def _after_fork() -> None:
    abandoned.__init__()  # type: ignore[misc]  # neither its connections nor the timer are in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class ItemReceiver:
    """One stream, on the side that called. Collecting it cancels the stream.

    `on_items` and `on_end` are called by the thread that reads; the methods of the consumer by one thread at a time.
    The window is how many items may be on their way and not taken up. It doubles while the consumer is faster than the
    producer and the round trips between them, so that it costs memory only where it brings speed.
    """

    def __init__(self, streams: Streams, line: Line, call_id: int, request: CallRequest) -> None:
        self.member = request.member
        self.codec = request.arguments.codec
        self.chain, self.depth = request.chain, request.depth  # and not the request: it refers to who holds the stream
        self._streams = streams
        self._line = line
        self._id = call_id
        self._items: deque[Items] = deque()
        self._outcome: Outcome | None = None
        self._on_ready: deque[Callable[[], None]] = deque()
        self._closed = False
        self._received = 0  # by the thread that reads
        self._window = self._granted = line.settings.item_credit  # from here on by the consumer
        self._taken = 0
        self._unreported = 0
        self._unreported_bytes = 0
        self._since_empty = 0  # items that were taken since the consumer last found none
        self._bytes = 0
        self._item_size = 0.0  # of the last items, on average

    # ---- the thread that reads

    def on_items(self, value: Encoded, count: int) -> None:
        self._items.append((value, count))
        self._tell()

    def count(self, items: int) -> None:
        """Raises ProtocolError where so many more were not granted."""
        self._received += items
        if self._received > self._granted:
            raise ProtocolError(f"an item of call {self._id} arrived without credit")

    def on_end(self, outcome: Outcome) -> None:
        """The stream is over, or lost. From any thread."""
        self._outcome = outcome
        self._tell()

    def _tell(self) -> None:
        while True:
            try:
                callback = self._on_ready.popleft()
            except IndexError:
                return
            callback()

    # ---- the consumer

    def take(self) -> Items | None:
        """The next items; None if none are there."""
        try:
            value, count = self._items.popleft()
        except IndexError:
            return None
        size, items = value.size, count or 1
        self._taken += items
        self._since_empty += items
        self._unreported += items
        self._unreported_bytes += size
        self._bytes += size
        self._item_size = max(size / items, self._bytes / self._taken)
        if self._unreported * 2 >= self._window or self._unreported_bytes >= _REPORT_BYTES:
            self._report()
        return value, count

    @property
    def size_ready(self) -> int:
        """The bytes of what `take` would give."""
        return self._items[0][0].size if self._items else 0

    @property
    def outcome(self) -> Outcome | None:
        """How the stream ended, once all items are taken."""
        return self._outcome if not self._items else None

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Calls the function when there are items, or the end; at once if there are. It must neither wait nor raise.

        Called when the consumer has found nothing: if it has taken half of the window since it last found nothing, the
        window is what holds the producer up.
        """
        if self._outcome is None and self._since_empty * 2 >= self._window:
            largest = min(MAX_WINDOW, MAX_WINDOW_BYTES / max(1.0, self._item_size))
            if self._window * 2 <= largest:
                self._window *= 2
                self._report()
        self._since_empty = 0
        self._on_ready.append(callback)
        if self._items or self._outcome is not None or self._closed:
            self._tell()

    def _report(self) -> None:
        """Tells the producer what was taken up, and how far it may go on."""
        if self._window * self._item_size > 2 * MAX_WINDOW_BYTES:  # they have become bigger
            self._window = max(self._line.settings.item_credit, int(MAX_WINDOW_BYTES / self._item_size))
        credit = Credit(items=max(0, self._taken + self._window - self._granted), taken=self._unreported)
        self._granted += credit.items
        self._unreported = self._unreported_bytes = 0
        if self._outcome is None and not self._closed:
            self._streams.grant(self._id, credit)

    def cancel(self, reason: str) -> None:
        """Wants no further item: the producer is told, and what is here is dropped. From any thread."""
        self._closed = True
        self._items.clear()
        self._tell()
        self._streams.cancel(self._id, reason)

    def __del__(self, add: Callable[[Streams, int], None] = abandoned.add) -> None:  # globals may be gone at the end
        if self._outcome is None and not self._closed:
            add(self._streams, self._id)
