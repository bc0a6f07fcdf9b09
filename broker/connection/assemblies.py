"""Values that arrive: those inside their frame, and big ones that come in chunks behind it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import NamedTuple

from broker._pb.broker_pb2 import Credit, Frame
from broker._pb.broker_pb2 import Encoded as WireEncoded
from broker.codecs import Encoded, Reference
from broker.connection.exports import Exports
from broker.connection.frames import ChunkFrame, OpenChunk
from broker.connection.line import Line
from broker.connection.outbox import Key
from broker.connection.refusals import Reason, Refused
from broker.errors import ProtocolError

MAX_BUFFERS = 65_536
"""More buffers than this beside one value are refused unread."""

Done = Callable[[Encoded], None]


def inline_value(value: WireEncoded, exports: Exports) -> Encoded:
    """The value inside a frame, or what there is of it. Its references have arrived, whatever becomes of it.

    Raises ProtocolError for one with too many references.
    """
    buffers = value.buffers
    references = exports.receive(value.references) if value.references else ()
    return Encoded(value.codec, value.payload, tuple(buffers) if buffers else (), references)


class Assembly:
    """A big value that arrives in chunks. Used by the thread that reads alone."""

    __slots__ = ("_codec", "_complete", "_grant", "_granted", "_part", "_received", "_references", "_size", "_sizes")

    def __init__(self, codec: str, sizes: list[int], references: tuple[Reference, ...], credit: int) -> None:
        self._codec = codec
        self._sizes = sizes
        self._references = references
        self._size = sum(sizes)
        self._received = 0
        # The part that arrives: it grows with its chunks, for what a sender merely claims takes no memory.
        self._part = BytesIO()
        self._complete: list[BytesIO] = []
        self._granted = credit
        self._grant = max(1, credit // 2)

    def add(self, data: memoryview) -> int:
        """Takes a chunk in; returns how much credit to give for it now. Raises ProtocolError."""
        if not self._may_take(data.nbytes) or not data.nbytes:
            raise ProtocolError(f"a chunk of {data.nbytes} bytes arrived beyond the credit or the size of its value")
        self._take(data)
        return self._credit()

    def room_for(self, size: int, data: memoryview) -> memoryview | None:
        """Memory for the end of a chunk of that size, of which `data` is the beginning; None where it has to be copied.

        That is for a chunk whose end is one whole part. What stands before that part is taken in.
        """
        start = self.whole_part(size)
        if start is None or start > data.nbytes:
            return None
        self._take_up_to(size - start, data[:start])
        # The system gives memory that nobody has written to when it is written to: what is merely claimed takes none.
        self._part = BytesIO(bytes(size - start))
        room = self._part.getbuffer()
        room[: data.nbytes - start] = data[start:]
        return room[data.nbytes - start :]

    def whole_part(self, size: int) -> int | None:
        """How much of a chunk of that size stands before its end, if that is one whole part."""
        if not self._may_take(size):
            return None
        begun, place = self._part.tell(), len(self._complete)
        start, end = 0, self._sizes[place] - begun
        while end < size:
            place += 1
            begun, start, end = 0, end, end + self._sizes[place]
        return start if end == size and not begun else None

    def add_part(self, before: bytes, part: bytes) -> int:
        """Takes in a chunk whose end is one whole part, without a copy of that; returns the credit to give for it."""
        self._take_up_to(len(part), memoryview(before))
        self._part = BytesIO(part)
        return self.filled()

    def _take_up_to(self, size: int, before: memoryview) -> None:
        """Takes in what stands before a whole part of that size."""
        self._take(before)
        while self._sizes[len(self._complete)] != size:  # those without bytes before it
            self._end_part()

    def filled(self) -> int:
        """That memory is full; returns how much credit to give for the chunk now."""
        self._received += self._sizes[len(self._complete)]
        self._end_part()
        return self._credit()

    def _may_take(self, size: int) -> bool:
        return self._received + size <= min(self._granted, self._size)

    def _take(self, data: memoryview) -> None:
        self._received += data.nbytes
        while data:
            begun = self._part.tell()
            wanted = self._sizes[len(self._complete)] - begun
            if not begun and data.nbytes >= wanted:  # a part in one chunk: in one piece of memory, which it keeps
                self._part = BytesIO(bytes(data[:wanted]))
            else:
                self._part.write(data[:wanted])
            if data.nbytes >= wanted:
                self._end_part()
            data = data[wanted:]

    def _credit(self) -> int:
        if self._granted - self._received > self._grant or self._granted >= self._size:
            return 0
        self._granted += self._grant
        return self._grant

    def _end_part(self) -> None:
        self._complete.append(self._part)
        self._part = BytesIO()

    def result(self) -> Encoded | None:
        """The value, if it is complete."""
        if self._received < self._size:
            return None
        while len(self._complete) < len(self._sizes):  # those without bytes at the end
            self._end_part()
        return Encoded(self._codec, self._complete[0].getvalue(), tuple(self._complete[1:]), self._references)


class Landing(NamedTuple):
    """Memory of a value for what arrives of it."""

    room: memoryview
    filled: Callable[[], None]
    """To be called, by the thread that reads, when the room is full and nothing refers to it any more."""


class Assemblies:
    """The big values of one connection that are arriving. Its state is guarded by the lock of the line.

    Entries are made, and taken out as they are complete, by the thread that reads alone; others may give a value up.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self.arriving: dict[Key, tuple[Assembly, Done]] = {}

    def refusal(self, value: WireEncoded, what: str) -> Refused | None:
        """Why a value is not taken in, going by the size that it claims."""
        size = sum(value.sizes) or len(value.payload) + sum(map(len, value.buffers))
        limit = self._line.settings.max_message_size
        if size <= limit:
            return None
        text = f"{what} {size} bytes and this side accepts at most {limit} (max_message_size): send less at a time"
        return Refused(Reason.MESSAGE_TOO_LARGE, text, "max_message_size")

    def is_too_large(self, value: Encoded) -> bool:
        """Whether a value that arrived in its frame is more than this side takes."""
        return value.size > self._line.settings.max_message_size

    def begin(self, key: Key, value: WireEncoded, references: tuple[Reference, ...], done: Done) -> None:
        """Takes the chunks of a value in from now on; `done` gets it, at once if it has no bytes.

        Raises ProtocolError for one with too many buffers.
        """
        if len(value.sizes) > MAX_BUFFERS:
            raise ProtocolError(f"a value with {len(value.sizes)} buffers arrived; {MAX_BUFFERS} is the limit")
        assembly = Assembly(value.codec, list(value.sizes), references, self._line.settings.chunk_credit)
        complete = assembly.result()
        if complete is not None:
            done(complete)
            return
        with self._line:
            if self._line.ended_because is None:
                self.arriving[key] = (assembly, done)

    def add(self, chunk: ChunkFrame) -> bool:
        """Takes a chunk in; False if no such value is arriving. Raises ProtocolError."""
        key = (chunk.id, chunk.reply)
        entry = self.arriving.get(key)
        if entry is None:
            return False
        self._taken(key, entry, entry[0].add(chunk.data))
        return True

    def room_for(self, chunk: OpenChunk, data: memoryview) -> Landing | None:
        """Where the rest of a chunk may be written, of which `data` has arrived; None if it has to come as a whole."""
        key = (chunk.id, chunk.reply)
        entry = self.arriving.get(key)
        room = entry[0].room_for(chunk.size, data) if entry is not None else None
        if entry is None or room is None:
            return None
        assembly = entry[0]
        return Landing(room, lambda: self._taken(key, entry, assembly.filled()))

    def whole_part(self, chunk: OpenChunk) -> int | None:
        """How much of a chunk stands before its end, if that is one whole part of a value; then `add_part` takes it."""
        entry = self.arriving.get((chunk.id, chunk.reply))
        return entry[0].whole_part(chunk.size) if entry is not None else None

    def add_part(self, chunk: OpenChunk, before: bytes, part: bytes) -> None:
        """Takes such a chunk in: what stands before the part, and the part."""
        key = (chunk.id, chunk.reply)
        entry = self.arriving.get(key)
        if entry is not None:  # else it was given up while it was read
            self._taken(key, entry, entry[0].add_part(before, part))

    def _taken(self, key: Key, entry: tuple[Assembly, Done], grant: int) -> None:
        """A chunk was taken in, for which so much credit is to be given."""
        assembly, done = entry
        complete = assembly.result()
        with self._line:
            if self.arriving.get(key) is not entry:
                return  # given up just now
            if complete is not None:
                del self.arriving[key]
            elif grant:
                call_id, reply = key
                self._line.put_locked(Frame(id=call_id, reply=not reply, credit=Credit(bytes=grant)))
        if complete is not None:
            done(complete)

    def drop_locked(self, key: Key) -> bool:
        """Gives a value up; False if it was not arriving."""
        return self.arriving.pop(key, None) is not None

    def end_locked(self) -> None:
        self.arriving.clear()

    def has(self, key: Key) -> bool:
        """Whether such a value is arriving."""
        return bool(self.arriving) and key in self.arriving
