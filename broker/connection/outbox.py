"""What a connection has to send: everything that is ready goes out together, and nobody waits for company.

Frames leave in the order in which they were put. The bytes of big values follow their frame in chunks, in turn with
the chunks of other values and behind all frames that are ready, so that a big value never delays a small one. A value
spends its own chunk credit, which the other side renews as it takes the chunks in.

An Outbox has no lock: every method is called under the lock of its connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from broker._pb.broker_pb2 import Encoded as WireEncoded
from broker._pb.broker_pb2 import Frame
from broker.codecs import Buffer, Encoded
from broker.connection.frames import CHUNK_SIZE, INLINE_LIMIT, MESSAGE_LIMIT, chunk_header

FRAME_COST = 100
"""What a frame is taken to hold beside its values, in bytes; it only has to be of the right order."""

_ROOM = MESSAGE_LIMIT // 2  # a message is closed when it holds this much: one inline value more still fits


class Sendable(Protocol):
    """A frame that is finished when it is written."""

    cost: int

    def to_frame(self) -> Frame | None:
        """The frame, or None if there is nothing to send any more. Called once, under the connection's lock."""


class ReadyFrame:
    """A frame that is complete."""

    __slots__ = ("cost", "frame")

    def __init__(self, frame: Frame, cost: int = FRAME_COST) -> None:
        self.frame = frame
        self.cost = cost

    def to_frame(self) -> Frame | None:
        return self.frame


class Transfer:
    """The bytes of one big value on their way out."""

    __slots__ = ("call_id", "credit", "remaining", "reply", "views")

    def __init__(self, call_id: int, reply: bool, value: Encoded, credit: int) -> None:
        self.call_id = call_id
        self.reply = reply
        self.credit = credit
        self.views = deque(view for view in map(_bytes_of, (value.payload, *value.buffers)) if view.nbytes)
        self.remaining = sum(view.nbytes for view in self.views)

    def next_chunk(self, size: int) -> list[bytes | memoryview]:
        """The next chunk as pieces to be joined: at most `size` bytes and the credit."""
        wanted = size = min(size, self.credit, self.remaining)
        pieces: list[bytes | memoryview] = [chunk_header(self.call_id, self.reply, size)]
        while wanted:
            view = self.views.popleft()
            pieces.append(view[:wanted])
            if view.nbytes > wanted:
                self.views.appendleft(view[wanted:])
            wanted -= min(view.nbytes, wanted)
        self.credit -= size
        self.remaining -= size
        return pieces


def _bytes_of(buffer: Buffer) -> memoryview:
    return memoryview(buffer).cast("B")


def is_inline(value: Encoded) -> bool:
    """Whether a value travels inside its frame."""
    return value.size <= INLINE_LIMIT


def wire_value(value: Encoded) -> WireEncoded:
    """The value as it stands in a frame: itself, or the sizes of what follows in chunks."""
    if is_inline(value):
        return WireEncoded(codec=value.codec, payload=bytes(value.payload), buffers=map(bytes, value.buffers))
    sizes = [memoryview(part).nbytes for part in (value.payload, *value.buffers)]
    return WireEncoded(codec=value.codec, sizes=sizes)


class Outbox:
    """The frames and the big values that wait for the line."""

    def __init__(self) -> None:
        self.chunk_size = CHUNK_SIZE
        self.chunk_credit = 4 * CHUNK_SIZE
        self.bytes = 0
        """What is queued, in bytes; an estimate for the frames."""
        self._frames: deque[tuple[Sendable, Transfer | None]] = deque()
        self._transfers: deque[Transfer] = deque()
        self._waiting: dict[tuple[int, bool], Transfer] = {}  # started, and out of credit

    def put(self, item: Sendable, transfer: Transfer | None = None) -> None:
        """Queues a frame, and the big value that follows it."""
        self._frames.append((item, transfer))
        self.bytes += item.cost + (transfer.remaining if transfer else 0)

    def transfer(self, call_id: int, reply: bool, value: Encoded) -> Transfer | None:
        """The transfer that a value needs, if it is too big for its frame."""
        return None if is_inline(value) else Transfer(call_id, reply, value, self.chunk_credit)

    @property
    def ready(self) -> bool:
        """Whether `take` has something to give."""
        return bool(self._frames or self._transfers)

    def grant(self, call_id: int, reply: bool, credit: int) -> None:
        """The other side took chunks of a value in."""
        transfer = self._waiting.pop((call_id, reply), None)
        if transfer is not None:
            self._transfers.append(transfer)
        else:
            transfer = next((t for t in self._transfers if (t.call_id, t.reply) == (call_id, reply)), None)
        if transfer is not None:
            transfer.credit += credit

    def drop(self, call_id: int, reply: bool) -> None:
        """Sends no more of a value."""
        dropped = [t for t in self._transfers if (t.call_id, t.reply) == (call_id, reply)]
        for transfer in dropped:
            self._transfers.remove(transfer)
        waiting = self._waiting.pop((call_id, reply), None)
        for transfer in (*dropped, *((waiting,) if waiting else ())):
            self.bytes -= transfer.remaining

    def unsent(self) -> Iterable[Sendable]:
        """What was never taken."""
        return [item for item, _ in self._frames]

    def take(self) -> tuple[list[Frame], list[bytes | memoryview]]:
        """The next message: its frames, and its chunks as pieces to be joined behind them."""
        frames: list[Frame] = []
        used = 0
        while self._frames and used < _ROOM:
            item, transfer = self._frames.popleft()
            frame = item.to_frame()
            self.bytes -= item.cost
            if frame is None:
                self.bytes -= transfer.remaining if transfer else 0
                continue
            frames.append(frame)
            used += item.cost
            if transfer is not None:
                self._transfers.append(transfer)
        return frames, self._take_chunks(used)

    def _take_chunks(self, used: int) -> list[bytes | memoryview]:
        pieces: list[bytes | memoryview] = []
        if self._transfers and used < _ROOM:
            transfer = self._transfers.popleft()
            before = transfer.remaining
            pieces = transfer.next_chunk(self.chunk_size)
            self.bytes -= before - transfer.remaining
            if transfer.remaining and transfer.credit:
                self._transfers.append(transfer)
            elif transfer.remaining:
                self._waiting[transfer.call_id, transfer.reply] = transfer
        return pieces
