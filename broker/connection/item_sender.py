"""The items of a stream on their way out.

A producer puts items in, one by one; each goes out at once if the line is free. While the line is busy further items
join the frame that waits, so that what is ready goes out together and nobody waits for company.

How far a producer may run ahead is decided by the other side, in items (its credit), and by this one, in bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from broker._pb.broker_pb2 import End, Frame, Item
from broker.codecs import Codec, Edge, Encoded, codec
from broker.connection.chains import Job
from broker.connection.exports import Exports
from broker.connection.frames import encode_frame
from broker.connection.line import Line
from broker.connection.outbox import FRAME_COST, ReadyFrame, inline_cost, is_inline, snapshot, wire_value
from broker.connection.refusals import Reason, Refused

MAX_BYTES_AHEAD = 4 << 20
"""A producer stops when so many bytes were not taken up by the consumer, whatever its credit."""
_FRAME_BYTES = 64 << 10  # about what one frame of joined items holds
_ACCOUNT_BYTES = 16 << 10  # what one stream may hold that the outbox does not know of
_LONGEST = 4_096  # longer texts and bytes are encoded when they are put
_LONGEST_JOINED = 16 << 10
_ESCAPED = 8  # what is written of a value takes at most so many times its size
_LARGEST_INT = 1 << 63
_SCALAR_SIZE = 8
_SCALARS = frozenset({int, float, bool, type(None), str, bytes})
_SIZED = frozenset({str, bytes})


class _Alone:
    """What has a frame of its own: an item with buffers, a big one, or the end."""

    __slots__ = ("cost", "count", "frame", "is_big", "is_end", "value")

    def __init__(self, frame: Frame, value: Encoded | None, extra_cost: int = 0) -> None:
        self.frame = encode_frame(frame)
        self.count = frame.item.count or 1
        self.value = snapshot(value) if value is not None else None  # its owner goes on before it is sent
        self.is_big = value is not None and not is_inline(value)
        self.is_end = frame.HasField("end")
        self.cost = FRAME_COST + extra_cost + (inline_cost(value) if value is not None else 0)


class ItemSender:
    """The way of one stream's items to the consumer. It is also the frame that waits in the outbox.

    `put` and what ends the stream are called by one thread at a time, the producer's. Functions in `_locked` are called
    with the lock of the line held. Items that nobody can change are kept as they are until their frame is written; all
    others are encoded at once, for the generator may change them when it goes on.

    `_waiting` is filled by the producer without the lock: it appends, and then looks whether a frame is queued. Who
    writes the frame says first that none is, and then takes what is there. So nothing is left behind.
    """

    has_deadline = False  # the consumer watches how long it waits for each item

    def __init__(
        self, line: Line, exports: Exports, call_id: int, codec_name: str, credit: int, on_end: Callable[[], None]
    ) -> None:
        """`on_end` is called as the End goes out, with the lock held."""
        self.cost = FRAME_COST
        self._line = line
        self._exports = exports
        self._id = call_id
        self._codec: Codec = codec(codec_name)
        self._on_end = on_end
        largest = (line.peer.max_message_size if line.peer is not None else 0) or _FRAME_BYTES * _ESCAPED
        self._frame_bytes = min(_FRAME_BYTES, largest // _ESCAPED)
        self._longest = min(_LONGEST, largest // _ESCAPED)
        self._waiting: deque[object] = deque()  # scalars, Encoded that can be joined, and _Alone
        self._queued = False  # a frame is in the outbox, or chunks of an item have to go out first
        self._in_outbox = False  # this is that frame
        self._dropped = False  # nobody takes items any more
        self._ended = False
        self._produced = 0  # by the producer
        self._unaccounted = 0  # bytes that were put since the last accounting; by the producer
        self._full = False  # too many bytes are ahead, of this stream or of the connection
        self._granted = credit  # from here on under the lock
        self._acknowledged = 0
        self._unframed = 0  # bytes
        self._framed: deque[tuple[int, int]] = deque()  # items and bytes of frames that are not acknowledged
        self._framed_bytes = 0
        self._on_room: Job | None = None

    # ---- the producer

    def put(self, item: object, edge: Edge) -> bool:
        """Sends an item; returns whether another one may be put at once. Else `when_room` says when.

        Raises CodecError and MessageTooLargeError, having sent nothing.
        """
        kind = type(item)
        if kind not in _SCALARS:
            self._unaccounted += self._put_encoded(item, edge)
        elif kind in _SIZED:
            size = len(item)  # type: ignore[arg-type]
            if size > self._longest:
                self._unaccounted += self._put_encoded(item, edge)
            else:
                self._waiting.append(item)
                self._unaccounted += _SCALAR_SIZE + size
        elif kind is int and not -_LARGEST_INT <= item < _LARGEST_INT:  # type: ignore[operator]
            self._unaccounted += self._put_encoded(item, edge)
        else:
            self._waiting.append(item)
            self._unaccounted += _SCALAR_SIZE
        self._produced += 1
        if not self._queued or self._unaccounted > _ACCOUNT_BYTES:
            self._bring_out()
        return self._produced < self._granted and not self._full

    def _put_encoded(self, item: object, edge: Edge) -> int:
        value = self._codec.encode(item, edge, "item")
        size = value.size
        if self._codec.joins_texts and not (value.buffers or value.references) and size <= _LONGEST_JOINED:
            self._waiting.append(value)
            return size
        self._check(value, "an item takes")
        self._waiting.append(_Alone(Frame(id=self._id, reply=True, item=Item(value=wire_value(value))), value))
        return size

    def end(self, value: object, edge: Edge, *, raised: bool) -> None:
        """Says that there is no further item: what the generator returned, or raised. Raises as `put` does."""
        if value is None:
            self._end(End(), None)
            return
        encoded = self._codec.encode(value, edge, "what it raised" if raised else "the value that it returned")
        self._check(encoded, "the end of the stream takes")
        self._end(End(value=wire_value(encoded), raised=raised), encoded)

    def _check(self, value: Encoded, what: str) -> None:
        self._line.check_size(value, what)
        if value.references:
            self._exports.check(value.references)

    def fail(self, refused: Refused) -> None:
        """Ends the stream before its end."""
        self._end(End(failed=refused.to_wire()), None, len(refused.message))

    def _end(self, end: End, value: Encoded | None, extra_cost: int = 0) -> None:
        if not self._ended:
            self._ended = True
            self._waiting.append(_Alone(Frame(id=self._id, reply=True, end=end), value, extra_cost))
            self._bring_out()

    def _bring_out(self) -> None:
        line = self._line
        if line.aside is None:
            with line:
                self._account_locked()
                self._queue_locked()
            return
        with line.lock:
            queued = self._queued
            self._account_locked()
            self._queue_locked()
        if not queued:
            line.aside(line.push)

    def when_room(self, job: Job) -> bool:
        """Runs the job, which must not wait, when there is room; False if there is now (and it was not taken)."""
        with self._line:
            if self._has_room_locked():
                return False
            if self._line.congested:
                self._line.stall_locked(job)
            else:
                self._on_room = job
            return True

    # ---- what is held, and how far ahead

    def _has_room_locked(self) -> bool:
        self._look_locked()
        return self._dropped or (self._produced < self._granted and not self._full)

    def _look_locked(self) -> None:
        self._full = self._unframed + self._framed_bytes >= MAX_BYTES_AHEAD or self._line.congested

    def _account_locked(self) -> None:
        added, self._unaccounted = self._unaccounted, 0
        self._unframed += added
        if self._in_outbox:
            self.cost += added
            self._line.outbox.bytes += added
        self._look_locked()

    def grant_locked(self, items: int, taken: int) -> Job | None:
        """The consumer has taken so many items up, and takes so many more; returns what may go on now."""
        self._granted += items
        self._acknowledged += taken
        while self._framed and self._framed[0][0] <= self._acknowledged:
            count, size = self._framed.popleft()
            self._acknowledged -= count
            self._framed_bytes -= size
        return self._take_job_locked() if self._has_room_locked() else None

    def drop_locked(self) -> None:
        """Nobody takes the items any more: what waits is not sent, but for the end."""
        self._dropped = True
        if self._line.outbox.drop(self._id, True):
            self._queued = False
        for _ in range(len(self._waiting)):
            entry = self._waiting.popleft()
            if _is_end(entry):
                self._waiting.append(entry)
        self._queue_locked()

    def _take_job_locked(self) -> Job | None:
        job, self._on_room = self._on_room, None
        return job

    # ---- the line

    def _queue_locked(self) -> None:
        """Puts what waits into the outbox, unless a frame is there already."""
        while self._waiting and not self._queued and self._line.ended_because is None:
            head = self._waiting[0]
            if self._dropped and not _is_end(head):
                self._waiting.popleft()
                continue
            self._queued = True
            if type(head) is _Alone and head.is_big:
                self._waiting.popleft()
                self._send_big_locked(head)
            else:
                self.cost = FRAME_COST + self._unframed
                self._in_outbox = True
                self._line.send_locked(self, None)

    def _send_big_locked(self, entry: _Alone) -> None:
        """The chunks of an item go out before all that follows: they have no number but that of the call."""
        if self._dropped:
            cancelled = Refused(Reason.CANCELLED, "the stream was cancelled, and what it ended with is not sent")
            entry = _Alone(Frame(id=self._id, reply=True, end=End(failed=cancelled.to_wire())), None)
            self._line.send_locked(ReadyFrame(entry.frame, entry.cost), None)
        else:
            assert entry.value is not None
            transfer = self._line.outbox.transfer(self._id, True, entry.value)
            assert transfer is not None
            transfer.on_sent = self._go_on_locked
            self._line.send_locked(ReadyFrame(entry.frame, entry.cost), transfer)
        self._sent_alone_locked(entry)

    def _go_on_locked(self) -> None:
        self._queued = False
        self._queue_locked()

    def to_bytes(self) -> bytes | None:
        self._queued = self._in_outbox = False
        frame = self._next_frame_locked()
        self._queue_locked()
        return frame

    def _next_frame_locked(self) -> bytes | None:
        head = self._waiting[0] if self._waiting else None
        if type(head) is not _Alone:
            return self._joined_locked() if self._waiting and not self._dropped else None
        if head.is_big or (self._dropped and not head.is_end):
            return None
        self._waiting.popleft()
        self._sent_alone_locked(head)
        return head.frame

    def _sent_alone_locked(self, entry: _Alone) -> None:
        if entry.value is not None and entry.value.references:
            self._exports.give_locked(entry.value.references)
        if entry.is_end:
            self._on_end()
        elif entry.value is not None:
            self._unframed = max(0, self._unframed - entry.value.size)
            self._framed_locked(entry.count, entry.value.size)

    def _joined_locked(self) -> bytes | None:
        items = self._items_of_a_frame_locked()
        value = self._codec.join(items)
        frame = Frame(id=self._id, reply=True, item=Item(value=wire_value(value), count=len(items)))
        if not is_inline(value):  # texts that take more bytes than characters
            self._waiting.appendleft(_Alone(frame, value))
            return None
        self._framed_locked(len(items), value.size)
        return encode_frame(frame)

    def _items_of_a_frame_locked(self) -> list[object]:
        take = self._waiting.popleft
        if self._unframed <= self._frame_bytes:
            items = [take() for _ in range(len(self._waiting))]
            if _Alone not in set(map(type, items)):
                self._unframed = 0
                return items
            self._waiting.extendleft(reversed(items))
        items, size = [], 0
        while self._waiting and type(self._waiting[0]) is not _Alone and (size < self._frame_bytes or not items):
            items.append(take())
            size += _size(items[-1])
        self._unframed = max(0, self._unframed - size)
        return items

    def _framed_locked(self, count: int, size: int) -> None:
        self._framed.append((count, size))
        self._framed_bytes += size


def _is_end(entry: object) -> bool:
    return type(entry) is _Alone and entry.is_end


def _size(item: object) -> int:
    """What an item that waits is taken for, in bytes."""
    if type(item) is Encoded:
        return len(item.payload)
    return _SCALAR_SIZE + (len(item) if type(item) in _SIZED else 0)  # type: ignore[arg-type]
