"""What a connection has to send: everything that is ready goes out together, and nobody waits for company.

Frames leave in the order in which they were put. The bytes of big values follow their frame in chunks, in turn with
the chunks of other values and behind all frames that are ready, so that a big value never delays a small one. A value
spends its own chunk credit, which the other side renews as it takes the chunks in.

An Outbox has no lock: every method is called under the lock of its connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from broker._pb.broker_pb2 import Encoded as WireEncoded
from broker.codecs import Buffer, Encoded, bytes_of, view_of
from broker.connection.frames import CHUNK_SIZE, INLINE_LIMIT, MESSAGE_LIMIT, chunk_header

FRAME_COST = 100
"""What a frame is taken to hold beside its values, in bytes; it only has to be of the right order."""
HEADER_LIMIT = 64 << 10
"""What a frame may hold beside its value (names and metadata), in bytes."""

_REFERENCE_COST = 15

# A message is closed when it holds this much. What may still come on top fits: one frame with an inline value and a
# full header, or with the sizes of 65,536 buffers, and 16,384 references, and one chunk.
_ROOM = MESSAGE_LIMIT // 2

Key = tuple[int, bool]
"""Which value: the number of its call, and whether it is the reply."""


class Sendable(Protocol):
    """A frame that is finished when it is written."""

    cost: int
    """In bytes, about; as it is when the frame is taken."""

    def to_bytes(self) -> bytes | None:
        """The frame as a part of a message; None if there is nothing to send any more.

        Called once, under the connection's lock.
        """


class ReadyFrame:
    """A frame that is complete."""

    __slots__ = ("_frame", "cost")

    def __init__(self, frame: bytes, cost: int = FRAME_COST) -> None:
        self._frame = frame
        self.cost = cost

    def to_bytes(self) -> bytes | None:
        return self._frame


class Transfer:
    """The bytes of one big value on their way out."""

    __slots__ = ("credit", "key", "on_sent", "remaining", "views", "waits_for_credit")

    def __init__(self, key: Key, value: Encoded, credit: int) -> None:
        self.key = key
        self.credit = credit
        self.waits_for_credit = False
        self.on_sent: Callable[[], None] = _nothing
        """Called, under the connection's lock, as the last chunk goes out."""
        self.views = deque([view for view in map(_bytes_of, (value.payload, *value.buffers)) if view.nbytes])
        self.remaining = value.size

    def next_chunk(self, size: int) -> list[bytes | memoryview]:
        """The next chunk as pieces to be joined: at most `size` bytes and the credit."""
        wanted = size = min(size, self.credit, self.remaining)
        pieces: list[bytes | memoryview] = [chunk_header(*self.key, size)]
        while wanted:
            view = self.views.popleft()
            pieces.append(view[:wanted])
            if view.nbytes > wanted:
                self.views.appendleft(view[wanted:])
            wanted -= min(view.nbytes, wanted)
        self.credit -= size
        self.remaining -= size
        return pieces

    def stop(self) -> None:
        """Sends no more, and lets go of the value."""
        self.views.clear()
        self.remaining = 0


def _nothing() -> None: ...


def _bytes_of(buffer: Buffer) -> memoryview:
    return view_of(buffer).cast("B")


def is_inline(value: Encoded) -> bool:
    """Whether a value travels inside its frame."""
    return value.size <= INLINE_LIMIT


def inline_cost(value: Encoded) -> int:
    """What the value adds to its frame, in bytes: itself, or the sizes of its parts, and its references."""
    if not value.buffers and not value.references:
        size = len(value.payload)
        return size if size <= INLINE_LIMIT else 0
    references = _REFERENCE_COST * len(value.references)
    return references + (value.size + 3 * len(value.buffers) if is_inline(value) else 10 * len(value.buffers))


def wire_value(value: Encoded) -> WireEncoded:
    """The value as it stands in a frame: itself, or the sizes of what follows in chunks."""
    if is_inline(value):
        wire = WireEncoded(codec=value.codec, payload=bytes(value.payload), buffers=map(bytes_of, value.buffers))
    else:
        sizes = [view_of(part).nbytes for part in (value.payload, *value.buffers)]
        wire = WireEncoded(codec=value.codec, sizes=sizes)
    for reference in value.references:
        wire.references.add(number=reference.number, returned=reference.returned, stream=reference.stream)
    return wire


def snapshot(value: Encoded) -> Encoded:
    """The value in memory that nobody changes: its owner may go on before the last chunk is sent."""
    if is_inline(value):
        return value
    return value._replace(payload=bytes_of(value.payload), buffers=tuple(map(_frozen, value.buffers)))


def _frozen(buffer: Buffer) -> Buffer:
    return buffer if isinstance(buffer, memoryview) and isinstance(buffer.obj, bytes) else bytes_of(buffer)


class Outbox:
    """The frames and the big values that wait for the line."""

    def __init__(self) -> None:
        self.chunk_size = CHUNK_SIZE
        self.chunk_credit = 4 * CHUNK_SIZE
        self.bytes = 0
        """What is queued, in bytes; an estimate for the frames."""
        self.frames: deque[tuple[Sendable, Transfer | None]] = deque()
        self.transfers: dict[Key, Transfer] = {}
        """The big values that have not gone out in full: from their frame's put to their last chunk."""
        self.in_turn: deque[Transfer] = deque()  # those that have sent their frame and have credit; or were dropped

    def put(self, item: Sendable, transfer: Transfer | None = None) -> None:
        """Queues a frame, and the big value that follows it."""
        self.frames.append((item, transfer))
        self.bytes += item.cost
        if transfer is not None:
            self.transfers[transfer.key] = transfer
            self.bytes += transfer.remaining

    def transfer(self, call_id: int, reply: bool, value: Encoded) -> Transfer | None:
        """The transfer that a value needs, if it is too big for its frame."""
        return None if is_inline(value) else Transfer((call_id, reply), value, self.chunk_credit)

    @property
    def ready(self) -> bool:
        """Whether `take` may have something to give."""
        return bool(self.frames or self.in_turn)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left, also of values that wait for credit."""
        return not self.frames and not self.transfers

    def __len__(self) -> int:
        """How many frames are queued."""
        return len(self.frames)

    def grant(self, call_id: int, reply: bool, credit: int) -> None:
        """The other side took chunks of a value in."""
        transfer = self.transfers.get((call_id, reply))
        if transfer is not None:
            transfer.credit += credit
            if transfer.waits_for_credit:
                transfer.waits_for_credit = False
                self.in_turn.append(transfer)

    def drop(self, call_id: int, reply: bool) -> bool:
        """Sends no more of a value; False if there was nothing left to send."""
        transfer = self.transfers.pop((call_id, reply), None) if self.transfers else None
        if transfer is None:
            return False
        self.bytes -= transfer.remaining
        transfer.stop()
        return True

    def unsent(self) -> list[Sendable]:
        """What was never taken."""
        return [item for item, _ in self.frames]

    def take(self) -> list[bytes | memoryview]:
        """The next message: its frames, and its chunk, as pieces to be joined. There may be none."""
        pieces: list[bytes | memoryview] = []
        used = 0
        while self.frames and used < _ROOM:
            item, transfer = self.frames.popleft()
            cost = item.cost
            self.bytes -= cost
            frame = item.to_bytes()  # may put more, also itself
            if frame is None:
                if transfer is not None:
                    self.drop(*transfer.key)
                continue
            pieces.append(frame)
            used += cost
            if transfer is not None:
                self.in_turn.append(transfer)
        if self.in_turn:
            pieces += self._take_chunk()
        return pieces

    def _take_chunk(self) -> list[bytes | memoryview]:
        while self.in_turn:
            transfer = self.in_turn.popleft()
            if not transfer.remaining:  # it was dropped
                continue
            before = transfer.remaining
            pieces = transfer.next_chunk(self.chunk_size)
            self.bytes -= before - transfer.remaining
            if not transfer.remaining:
                del self.transfers[transfer.key]
                transfer.on_sent()
            elif transfer.credit:
                self.in_turn.append(transfer)
            else:
                transfer.waits_for_credit = True
            return pieces
        return []
