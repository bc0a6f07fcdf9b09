"""Results that arrive item by item: what an iterator of a client is made of, and the blocking one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Self

from broker.codecs import Edge, codec
from broker.connection.calls import Outcome
from broker.connection.chains import Waiter
from broker.connection.client import Session
from broker.connection.forks import forks
from broker.connection.item_receiver import ItemReceiver
from broker.connection.refusals import Reason
from broker.connection.workers import run_nested_late
from broker.context import CallContext
from broker.errors import CallTimeout, ConnectionClosedError, ProtocolError

NOTHING = object()
"""No item has arrived."""


class RemoteItems:
    """The items of one stream as they arrive, decoded; what a blocking and an asynchronous iterator have in common.

    One thread or task at a time takes items; `close` and the end of the iterator may come from anywhere.
    """

    def __init__(self, stream: ItemReceiver, edge: Edge, where: str, timeout: float | None, session: Session) -> None:
        """`where` names the object, for messages; `timeout` bounds each wait for an item; the session lives as long as
        the stream."""
        self.stream = stream
        self.timeout = timeout
        self.value: object = None
        """What the generator returned, once it has ended."""
        self._session = session
        self._edge = edge
        self._where = where
        self.decoded: deque[Any] = deque()
        self._over = False
        session.begin_stream(stream)

    # ---- taking

    def next_ready(self) -> Any:
        """The next item; NOTHING if it has not arrived. Raises StopIteration at the end, what the generator raised,
        ConnectionClosedError if the stream is lost, and CodecError."""
        while True:
            try:
                return self.decoded.popleft()
            except IndexError:
                pass  # and nothing is raised in here, where it would be the context of what the generator raised
            if not self._fill():
                return NOTHING

    def decode_ready(self) -> None:
        """Decodes what has arrived, for `next_ready`; raises as that does, but for the end."""
        if not self.decoded and self.size_ready:
            self._fill()

    def _fill(self) -> bool:
        """Decodes the next items; False if none have arrived."""
        if self._over:
            raise StopIteration(self.value)
        taken = self.stream.take()
        if taken is None:
            outcome = self.stream.outcome
            if outcome is None:
                return False
            self._over = True
            self._session.end_stream(self.stream)
            raise self._end(outcome)
        value, count = taken
        asked = self.stream.codec
        try:
            if value.codec != asked:
                raise ProtocolError(f"items came in codec {value.codec!r} to a call in {asked!r}; they were not read")
            if count:
                self.decoded.extend(codec(asked).split(value, count, self._edge))
            else:
                self.decoded.append(codec(asked).decode(value, self._edge, "item"))
        except BaseException:
            self.close("an item could not be decoded")
            raise
        return True

    def _end(self, outcome: Outcome) -> BaseException:
        member = self.stream.member
        if outcome.lost is not None:
            return ConnectionClosedError(f"{outcome.lost}; the stream of {member!r} of {self._where} ends here")
        if outcome.refused is not None:
            if outcome.refused.reason == Reason.CANCELLED:
                return ConnectionClosedError(f"{outcome.refused.message} ({member!r} of {self._where})")
            return outcome.refused.to_error(may_have_run=True)
        if outcome.value is None and not outcome.raised:
            return StopIteration()
        asked = self.stream.codec
        if outcome.value is None or outcome.value.codec != asked:
            return ProtocolError(f"a stream in {asked!r} ended with a value in another codec; it was not read")
        value = codec(asked).decode(outcome.value, self._edge, "the end of the stream")
        if not outcome.raised:
            self.value = value
            return StopIteration(value)
        if isinstance(value, BaseException):
            return value
        return ProtocolError(f"{member!r} of {self._where} raised something that is no exception")

    @property
    def size_ready(self) -> int:
        """The bytes that the next item takes to decode."""
        return self.stream.size_ready if not self.decoded else 0

    # ---- ending

    def close(self, reason: str = "the iterator was closed") -> None:
        """Wants no further item: the producer is told. From any thread, any number of times."""
        if not self._over:
            self._over = True
            self.decoded.clear()
            self.stream.cancel(reason)
            self._session.end_stream(self.stream)

    def too_late(self) -> CallTimeout:
        """Ends the stream because an item did not come in time."""
        self.close("the consumer waited until its time was over")
        within = f" within {self.timeout:g} s" if self.timeout is not None else " in time"
        return CallTimeout(f"{self.stream.member!r} of {self._where} gave no further item{within}")

    def __str__(self) -> str:
        return f"{self.stream.member!r} of {self._where}{', over' if self._over else ''}"

    def deadline(self) -> float | None:
        """Until when to wait for the next item (time.monotonic)."""
        context = CallContext.active()
        deadlines = [context.deadline] if context is not None and context.deadline is not None else []
        if self.timeout is not None:
            deadlines.append(time.monotonic() + self.timeout)
        return min(deadlines, default=None)


class RemoteIterator(Iterator[Any]):
    """The items of a remote iterator, as they are asked for and a little ahead: what a `for` loop over a result uses.

    Any number of threads may share it; each item goes to one of them. Ending the loop early stops the generator: close
    the iterator, leave its `with` block, or drop it. What the generator raises comes at its place; a lost connection is
    ConnectionClosedError, and an item that takes longer than the `timeout` of the proxy CallTimeout, after which the
    stream is over.
    """

    __slots__ = ("__weakref__", "_generation", "_taking", "items")

    def __init__(self, items: RemoteItems) -> None:
        self.items = items
        self._taking = threading.RLock()  # a nested call that runs on the waiting thread may take from it too
        self._generation = forks.generation

    def __next__(self) -> Any:
        items = self.items
        try:
            return items.decoded.popleft()
        except IndexError:
            pass
        if self._generation != forks.generation:  # the thread that took an item is not in the child process
            self._taking, self._generation = threading.RLock(), forks.generation
        deadline = items.deadline()
        if not self._taking.acquire(timeout=_patience(deadline)):
            raise items.too_late()
        try:
            while (item := items.next_ready()) is NOTHING:
                self._wait(deadline)
            return item
        finally:
            self._taking.release()

    def _wait(self, deadline: float | None) -> None:
        """Waits until there is something, and runs nested calls of the chain meanwhile."""
        stream = self.items.stream
        waiter = Waiter(stream.chain, stream.depth)
        waiter.register()
        stream.when_ready(waiter.finish)
        if not waiter.wait(deadline, run_nested_late):
            raise self.items.too_late()

    @property
    def value(self) -> Any:
        """What the generator returned; None before its end, and for one that returns nothing."""
        return self.items.value

    def close(self) -> None:
        """Stops the generator, unless it is over. From any thread; does not wait for it."""
        self.items.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.items}>"


def _patience(deadline: float | None) -> float:
    return -1 if deadline is None else min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
