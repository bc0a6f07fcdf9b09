"""One gRPC message of a connection, and the frames in it.

Everything small is protobuf. The bytes of big values travel in Chunk frames that are written and read by hand, because
protobuf copies `bytes` fields more than once (64 MiB: 224 ms to encode, 38 ms to join). What is written here stays
wire-compatible with protos/broker.proto: concatenated `Frames` messages are one `Frames` message with all the frames.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from broker._pb.broker_pb2 import Frame

CHUNK_SIZE = (1 << 20) + (64 << 10)
"""Bytes of one chunk that we send, unless the other side wants smaller ones: 1 MiB with what belongs to it is one."""
INLINE_LIMIT = 128 << 10
"""Values up to this many bytes travel inside their frame, bigger ones in chunks."""
MESSAGE_LIMIT = 4 << 20
"""No gRPC message of a connection is larger, whatever the size of the values in it."""

FRAMES_FRAME = 0x0A  # Frames.frames, length-delimited
_FRAMES_TAG = bytes((FRAMES_FRAME,))
_FRAME_ID = 0x08
_FRAME_REPLY = 0x18
_FRAME_CHUNK = b"\x82\x01"
_CHUNK_DATA = 0x0A
_MAX_UINT64 = (1 << 64) - 1
ONE_BYTE = [bytes((number,)) for number in range(0x80)]


class ChunkFrame(NamedTuple):
    """A chunk that arrived: a part of the value of call `id`, a view of the message."""

    id: int
    reply: bool
    data: memoryview


class OpenChunk(NamedTuple):
    """A chunk at the end of a message that has not arrived as a whole."""

    id: int
    reply: bool
    size: int
    start: int
    """Where its frame begins in the message."""
    data: int
    """Where its data begin."""


def framed(frame: bytes) -> bytes:
    """A serialized Frame as (a part of) a message."""
    return b"".join((_FRAMES_TAG, varint(len(frame)), frame))


def encode_frame(frame: Frame) -> bytes:
    """The frame as (a part of) a message."""
    return framed(frame.SerializeToString())


def chunk_header(call_id: int, reply: bool, size: int) -> bytes:
    """What stands before the `size` bytes of a chunk."""
    number = varint(call_id)
    before, after = _around_number(len(number), reply, size)
    return b"".join((before, number, after))


@lru_cache(maxsize=64)
def _around_number(length: int, reply: bool, size: int) -> tuple[bytes, bytes]:
    """What stands before and behind the number of a call, which has that length, in the header of a chunk."""
    data = bytes((_CHUNK_DATA,)) + varint(size)
    after = (bytes((_FRAME_REPLY, 1)) if reply else b"") + _FRAME_CHUNK + varint(len(data) + size) + data
    return _FRAMES_TAG + varint(1 + length + len(after) + size) + bytes((_FRAME_ID,)), after


def open_chunk(begun: memoryview, size: int) -> OpenChunk | None:
    """The chunk at the end of a message of that size, which begins like this; None if it ends otherwise."""
    start = 0
    try:
        while start < len(begun) and begun[start] == FRAMES_FRAME:
            length, position = read_varint(begun, start + 1)
            end = position + length
            if end == size:
                head = _chunk_head(begun, position, end)
                return OpenChunk(head[0], head[1], end - head[2], start, head[2]) if head is not None else None
            start = end
    except (IndexError, ValueError):
        pass  # it is not all there, or wrong, which shows when it is read as a whole
    return None


def chunk_in(body: memoryview) -> ChunkFrame | None:
    """The chunk in this frame, if it has the layout that `chunk_header` writes."""
    head = _chunk_head(body, 0, len(body))
    return ChunkFrame(head[0], head[1], body[head[2] :]) if head is not None else None


def _chunk_head(view: memoryview, position: int, end: int) -> tuple[int, bool, int] | None:
    """Of a frame that is a chunk: its number, whether it is of an answer, and where its data begin."""
    if view[position] != _FRAME_ID:
        return None
    call_id, position = read_varint(view, position + 1)
    reply = bytes(view[position : position + 2]) == bytes((_FRAME_REPLY, 1))
    position += 2 * reply
    if bytes(view[position : position + 2]) != _FRAME_CHUNK:
        return None
    size, position = read_varint(view, position + 2)
    if size != end - position or view[position] != _CHUNK_DATA:
        return None
    size, position = read_varint(view, position + 1)
    return (call_id, reply, position) if size == end - position else None


def varint(number: int) -> bytes:
    """A number as protobuf writes it. Raises ValueError for a negative one."""
    if 0 <= number < 0x80:
        return ONE_BYTE[number]
    if 0 < number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    if 0 < number < 0x200000:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(view: memoryview | bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 64:
        byte = view[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & _MAX_UINT64, position
        shift += 7
    raise ValueError("a number of more than 64 bits")
