"""Messages out of a stream of bytes: each stands behind its length, four bytes, the highest first. No socket here."""

from __future__ import annotations

import struct
from collections import deque

from broker.connection.frames import CHUNK_SIZE, MESSAGE_LIMIT
from broker.errors import ProtocolError

LENGTH = struct.Struct(">I")
READ_SIZE = 32 << 10
"""Bytes that are read at once; what is bigger goes straight to where it stays."""
_SPARE_SIZE = CHUNK_SIZE + (64 << 10)  # bytes; a message with one chunk, and some frames before that
_SPARE_BUFFERS = 4


class Inbox:
    """Cuts what arrives into messages."""

    def __init__(self) -> None:
        self._rest = b""  # the beginning of a message
        self._big: bytearray | None = None  # where a big message is taken in
        self._start = self._begun = self._size = 0  # of that message
        self.room: memoryview | None = None
        """Where the next bytes have to go, if a big message is being taken in."""

    def put(self, data: bytes) -> bytes:
        """The messages that are complete with these bytes, as one: messages one behind the other are a message.

        Empty if there are none. Raises ProtocolError for one that is too big.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        messages: list[bytes] = []
        start, end = 0, len(data)
        while end - start >= LENGTH.size:
            (size,) = LENGTH.unpack_from(data, start)
            stop = start + LENGTH.size + size
            if stop > end:
                if size > READ_SIZE:
                    self._begin(size, data[start + LENGTH.size :])
                    start = end
                break
            messages.append(data[start + LENGTH.size : stop])
            start = stop
        self._rest = data[start:]
        return messages[0] if len(messages) == 1 else b"".join(messages)

    def _begin(self, size: int, begun: bytes) -> None:
        if size > MESSAGE_LIMIT:
            raise ProtocolError(f"a message of {size} bytes was announced; {MESSAGE_LIMIT} is the limit")
        big = self._big = _spare.take(size)
        big[: len(begun)] = begun
        self._start, self._begun, self._size = 0, len(begun), size
        self.room = memoryview(big)[len(begun) : size]

    def begun(self) -> tuple[memoryview, int]:
        """What was there of the big message when its room was made, and the size that it will have."""
        return memoryview(self._big or b"")[: self._begun], self._size

    @property
    def is_empty(self) -> bool:
        """Whether the next bytes are the beginning of a message."""
        return not self._rest and self.room is None

    def cut(self, start: int) -> None:
        """What stands before that in the big message was taken in already."""
        self._start = start

    def divert(self, room: memoryview) -> None:
        """The rest of the big message goes there, and is no message."""
        self.done()
        self.room = room

    def fill(self, data: memoryview) -> None:
        """Takes in more of the big message, short of its end."""
        assert self.room is not None
        self.room[: len(data)] = data
        self.room = self.room[len(data) :]

    def skip(self) -> None:
        """The rest of the big message was read apart."""
        self.room = None
        self.done()

    def filled(self, count: int) -> memoryview | None:
        """So many bytes went into the room; the message, if it is complete. It is to be read before `done`.

        Empty if it was diverted.
        """
        assert self.room is not None
        self.room = self.room[count:]
        if self.room:
            return None
        self.room = None
        return memoryview(self._big)[self._start : self._size] if self._big is not None else memoryview(b"")

    def done(self) -> None:
        """The big message was read, and nothing refers to it any more."""
        big, self._big = self._big, None
        if big is not None:
            _spare.give(big)


class _Spare:
    """Memory for big messages that is used again: to get it from the system each time takes longer than to fill it."""

    def __init__(self) -> None:
        self._buffers: deque[bytearray] = deque(maxlen=_SPARE_BUFFERS)

    def take(self, size: int) -> bytearray:
        if size > _SPARE_SIZE:
            return bytearray(size)
        try:
            return self._buffers.pop()
        except IndexError:
            return bytearray(_SPARE_SIZE)

    def give(self, buffer: bytearray) -> None:
        if len(buffer) == _SPARE_SIZE:
            self._buffers.append(buffer)


_spare = _Spare()
