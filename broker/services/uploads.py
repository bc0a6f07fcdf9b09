"""What a client streams to a method: the iterator that the method is given in place of its parameter."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import grpc

from broker.codecs import Edge
from broker.connection.statuses import break_cycle
from broker.connection.workers import start_thread
from broker.errors import CodecError, ConnectionClosedError
from broker.schema import Method

MAX_MESSAGES = 16
MAX_BYTES = 1 << 20
"""What may wait for the method; beyond it the client has to wait, by gRPC's own flow control."""
_PAUSES = (0.0, 0.001)


class Upload(Iterator[Any], AsyncIterator[Any]):
    """The items of one call: `for` and `async for` take them, from any thread.

    A thread of its own reads ahead a little, from the first time that an item is asked for.
    """

    def __init__(self, method: Method, requests: Iterator[bytes], max_size: int) -> None:
        self.fault: CodecError | None = None
        """What was wrong with a message; the method got it from its iterator."""
        self._method = method
        self._requests = requests
        self._max_size = max_size
        self._edge: Edge | None = None
        self._changed = threading.Condition()
        self._messages: deque[bytes] = deque()  # this and the rest under the condition
        self._bytes = 0
        self._reads = False
        self._closed = False  # nobody wants further items
        self._over = False  # there are no further messages
        self._lost: str | None = None
        self._sleepers: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def first(self) -> bytes:
        """Waits for the first message; empty if there is none. On gRPC's thread, before anything else."""
        try:
            message = self._receive()
        except grpc.RpcError as gone:
            break_cycle(gone)
            self.lose("the caller gave up")
            return b""
        with self._changed:
            if message is None:
                self._over = True
            else:
                self._add_locked(message)
        return message or b""

    def begin(self, edge: Edge) -> Self:
        """The iterator, whose items are decoded with this edge."""
        self._edge = edge
        return self

    def lose(self, reason: str) -> None:
        """The caller is gone: who waits for an item gets an error. From any thread."""
        with self._changed:
            self._lost = self._lost or reason
            self._wake_locked()

    def close(self) -> None:
        """The call is over: nothing more is read. From any thread."""
        with self._changed:
            self._closed = True
            self._requests = iter(())  # which has all that gRPC keeps of the call
            self._wake_locked()

    # ---- the method's side

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_ready)
                message = self._take_locked()
            if message is None:
                raise StopIteration
            for item in self._decoded(message):
                return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while True:
            with self._changed:
                sleep = None if self._is_ready else self._sleep_locked()
                message = self._take_locked() if sleep is None else b""
            if sleep is not None:
                await sleep
            elif message is None:
                raise StopAsyncIteration
            else:
                for item in self._decoded(message):
                    return item

    def _sleep_locked(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self._sleepers.append((loop, woken))
        return woken

    @property
    def _is_ready(self) -> bool:
        if not (self._reads or self._over or self._closed or self._lost):
            self._reads = True
            start_thread(self._read, "broker-upload")
        return bool(self._messages) or self._over or self._closed or self._lost is not None

    def _take_locked(self) -> bytes | None:
        """The next message, None after the last. Raises ConnectionClosedError."""
        if self._messages and not self._closed:
            message = self._messages.popleft()
            self._bytes -= len(message)
            self._changed.notify_all()
            return message
        if self._lost is not None and not self._over:
            raise ConnectionClosedError(f"the stream that {self._method.member} takes has ended early: {self._lost}")
        return None

    def _decoded(self, message: bytes) -> list[Any]:
        """The item in a message, if it has one. Raises CodecError."""
        assert self._edge is not None
        try:
            if len(message) > self._max_size:
                raise CodecError(f"a message of the stream takes {len(message)} bytes, and one holds {self._max_size}")
            return self._method.decode_item(message, self._edge)
        except CodecError as error:
            self.fault = error
            raise

    # ---- the thread that reads

    def _read(self) -> None:
        try:
            while (message := self._receive()) is not None:
                with self._changed:
                    self._changed.wait_for(lambda: self._has_room or self._closed)
                    if self._closed:
                        return
                    self._add_locked(message)
        except grpc.RpcError as gone:
            break_cycle(gone)
            self.lose("the caller gave up")
        else:
            with self._changed:
                self._over = True
                self._wake_locked()

    def _receive(self) -> bytes | None:
        """Waits for the next message; None after the last. Raises grpc.RpcError if the caller is gone.

        grpcio takes a call that is cancelled for one whose client has said that nothing more comes, until it sees the
        next event: one in ten looked complete. To ask again takes until after that event: none of a thousand did so.
        """
        message = next(self._requests, None)
        if message is None:
            for pause in _PAUSES:
                time.sleep(pause)
                next(self._requests, None)
        return message

    @property
    def _has_room(self) -> bool:
        return len(self._messages) < MAX_MESSAGES and self._bytes < MAX_BYTES

    def _add_locked(self, message: bytes) -> None:
        self._messages.append(message)
        self._bytes += len(message)
        self._wake_locked()

    def _wake_locked(self) -> None:
        self._changed.notify_all()
        sleepers, self._sleepers = self._sleepers, []
        for loop, woken in sleepers:
            try:
                loop.call_soon_threadsafe(_wake, woken)
            except RuntimeError:
                pass  # the loop is closed, and the task over


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
