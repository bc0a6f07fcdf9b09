"""One gRPC message of a connection, and the frames in it.

Everything small is protobuf. The bytes of big values travel in Chunk frames that are written and read by hand, because
protobuf copies `bytes` fields more than once (64 MiB: 224 ms to encode, 38 ms to join). What is written here stays
wire-compatible with protos/broker.proto: concatenated `Frames` messages are one `Frames` message with all the frames.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from broker._pb.broker_pb2 import Call, Encoded, Frame, Frames, Result
from broker.errors import ProtocolError

CHUNK_SIZE = (1 << 20) + (64 << 10)
"""Bytes of one chunk that we send, unless the other side wants smaller ones: 1 MiB with what belongs to it is one."""
INLINE_LIMIT = 128 << 10
"""Values up to this many bytes travel inside their frame, bigger ones in chunks."""
MESSAGE_LIMIT = 4 << 20
"""No gRPC message of a connection is larger, whatever the size of the values in it."""

_FRAMES_FRAME = 0x0A  # Frames.frames, length-delimited
_FRAMES_TAG = bytes((_FRAMES_FRAME,))
_FRAME_ID = 0x08
_FRAME_REPLY = 0x18
_FRAME_CHUNK = b"\x82\x01"
_CHUNK_DATA = 0x0A
_BY_HAND = 32 << 10
_SINGLE = 4 << 10  # bytes; of a bigger message it is not worth while to ask whether it is one frame
_CHAIN = 16  # bytes of the id of a chain
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


class ResultFrame(NamedTuple):
    """A result that arrived, of the kind that nearly all are: a value in json inside its frame, and nothing else."""

    id: int
    payload: bytes

    def to_frame(self) -> Frame:
        """The same as protobuf has it."""
        result = Result(value=Encoded(codec="json", payload=self.payload))
        return Frame(id=self.id, reply=True, result=result)


class CallFrame(NamedTuple):
    """A call that arrived, of the kind that nearly all are: of a member, with arguments in json inside its frame."""

    id: int
    head: Call
    """What it has in common with others, which share this object: nobody may change it."""
    chain: bytes
    payload: bytes

    def to_frame(self) -> Frame:
        """The same as protobuf has it."""
        call = Call(chain=self.chain, arguments=Encoded(codec="json", payload=self.payload))
        call.MergeFrom(self.head)
        return Frame(id=self.id, call=call)


Received = Frame | ChunkFrame | list[ResultFrame] | list[CallFrame]
"""What a message is made of: frames, and lists of plain ones."""


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


def plain_frame(message: bytes | memoryview) -> CallFrame | ResultFrame | None:
    """The frame that the message is, if it is one of the plain ones and no other: the usual case, and the quick one."""
    if len(message) > _SINGLE:
        return None
    found = _PLAIN.match(message)
    if found is None:
        return None
    end = len(message)
    if found.end(1) + _length(found[1]) != end:
        return None
    stop, plain = _plain(message, found, end)
    return plain if stop == end else None


def open_chunk(begun: memoryview, size: int) -> OpenChunk | None:
    """The chunk at the end of a message of that size, which begins like this; None if it ends otherwise."""
    start = 0
    try:
        while start < len(begun) and begun[start] == _FRAMES_FRAME:
            length, position = _read_varint(begun, start + 1)
            end = position + length
            if end == size:
                head = _chunk_head(begun, position, end)
                return OpenChunk(head[0], head[1], end - head[2], start, head[2]) if head is not None else None
            start = end
    except (IndexError, ValueError):
        pass  # it is not all there, or wrong, which shows when it is read as a whole
    return None


def decode_frames(message: bytes | memoryview) -> Iterator[Received]:
    """The frames of a message, in order; plain ones that are alike stand together in a list.

    Raises ProtocolError where it is not made of frames: those before that place have been given by then. A big message
    is not taken apart in advance, so that what it costs to refuse the first frame does not grow with the number of
    those behind it.
    """
    try:
        yield from _walk(message)
    except (DecodeError, IndexError, ValueError):
        raise ProtocolError(f"a message of {len(message)} bytes arrived that is not made of frames") from None


def in_groups(frames: Iterable[Received]) -> Iterator[Received]:
    """The frames in order; plain results that follow each other, and plain calls of one head, are one list."""
    group: list[Any] = []
    try:
        for frame in frames:
            if type(frame) is not list:
                if group:
                    yield group
                    group = []
                yield frame
            elif group and _go_together(group[0], frame[0]):
                group += frame
            else:
                if group:
                    yield group
                group = frame
    except ProtocolError:
        if group:
            yield group
        raise
    if group:
        yield group


def _go_together(first: CallFrame | ResultFrame, second: CallFrame | ResultFrame) -> bool:
    if type(first) is ResultFrame:
        return type(second) is ResultFrame
    return type(second) is CallFrame and first.head is second.head  # type: ignore[union-attr]


def _received(frame: Frame) -> Frame | ChunkFrame:
    if frame.WhichOneof("kind") == "chunk":
        return ChunkFrame(frame.id, frame.reply, memoryview(frame.chunk.data))
    return frame


def _walk(message: bytes | memoryview) -> Iterator[Received]:
    view, position, end = memoryview(message), 0, len(message)
    while position < end:
        found = _PLAIN.match(message, position)
        if found is not None:
            stop, plain = _plain(message, found, end)
            if plain is not None:
                alike, position = _alike(view, position, found, plain, stop)
                yield alike
                continue
        # Small messages of other frames are protobuf's, and so is a field that we do not know, to be skipped.
        if (not position and end < _BY_HAND) or view[position] != _FRAMES_FRAME:
            yield from map(_received, Frames.FromString(bytes(view[position:])).frames)
            return
        size, position = _read_varint(view, position + 1)
        body = view[position : position + size]
        if len(body) != size:
            raise ValueError("cut short")
        chunk = _chunk(body) if size >= _BY_HAND else None
        yield chunk or _received(Frame.FromString(bytes(body)))
        position += size


_LENGTH = rb"([\x00-\x7f]|[\x80-\xff][\x01-\x7f])"
_VALUE = rb"\x0a\x04json\x12" + _LENGTH
_PLAIN = re.compile(
    rb"\x0a" + _LENGTH + rb"\x08([\x80-\xff]{0,8}[\x00-\x7f])(?:"
    + rb"\x18\x01\x52" + _LENGTH + rb"\x0a" + _LENGTH + _VALUE + rb"|"
    + rb"\x4a" + _LENGTH + rb"(.{2,300}?)\x42\x10(.{16})\x2a" + _LENGTH + _VALUE + rb")",
    re.DOTALL,
)  # fmt: skip
"""How a frame begins that holds a plain result, or a plain call; whether it is one is for its lengths to say."""


def _plain(message: bytes | memoryview, found: re.Match[bytes], end: int) -> tuple[int, CallFrame | ResultFrame | None]:
    """Where the frame ends, and what it is, if all its parts end there as well."""
    frame, number, result, result_value, result_payload, call, head, chain, call_value, call_payload = found.groups()
    regs = found.regs
    start = regs[0][1]
    call_id = number[0] if len(number) == 1 else _read_varint(number, 0)[0]
    if call is None:
        stop = start + (result_payload[0] if len(result_payload) == 1 else _length(result_payload))
        lengths = ((1, frame), (3, result), (4, result_value))
    else:
        stop = start + (call_payload[0] if len(call_payload) == 1 else _length(call_payload))
        lengths = ((1, frame), (6, call), (9, call_value))
    if stop > end:
        return 0, None
    for group, length in lengths:
        if stop - regs[group][1] != (length[0] if len(length) == 1 else _length(length)):
            return 0, None
    if call is None:
        return stop, ResultFrame(call_id, bytes(message[start:stop]))
    plain_head = _plain_head(bytes(head))
    if plain_head is not None:
        return stop, CallFrame(call_id, plain_head, bytes(chain), bytes(message[start:stop]))
    return 0, None


def _alike(
    view: memoryview, start: int, found: re.Match[bytes], plain: CallFrame | ResultFrame, stop: int
) -> tuple[list[ResultFrame] | list[CallFrame], int]:
    """A plain frame, and those behind it that differ from it in number, chain and payload alone, whose lengths are the
    same; and where the next one begins, which may be alike but for a longer number.

    They are cut in one go.
    """
    size = stop - start
    count = (len(view) - stop) // size
    if not count:
        return [plain], stop  # type: ignore[return-value]  # a list of one of the two kinds
    number, end = found.span(2), found.end()
    rest = view[stop : stop + count * size]
    if type(plain) is ResultFrame:
        results = [plain]
        before, between = bytes(view[start : number[0]]), bytes(view[number[1] : end])
        cut = _layout(len(before), number[1] - number[0], len(between), size)
        for first, raw, second, payload in cut.iter_unpack(rest):
            if first != before or second != between or (call_id := _number(raw)) is None:
                break
            results.append(_new(ResultFrame, (call_id, payload)))
        return results, start + size * len(results)
    assert type(plain) is CallFrame
    calls, head = [plain], plain.head
    chain = found.span(8)
    parts = ((start, number[0]), (number[1], chain[0]), (chain[1], end))
    before, between, after = (bytes(view[begin:until]) for begin, until in parts)
    cut = _layout(len(before), number[1] - number[0], len(between), size, _CHAIN, len(after))
    for first, raw, second, call_chain, third, payload in cut.iter_unpack(rest):
        if first != before or second != between or third != after or (call_id := _number(raw)) is None:
            break
        calls.append(_new(CallFrame, (call_id, head, call_chain, payload)))
    return calls, start + size * len(calls)


_new = tuple.__new__  # takes a third of the time that the class takes


@lru_cache(maxsize=256)
def _layout(before: int, number: int, between: int, size: int, *more: int) -> struct.Struct:
    """Frames of that size, in parts: all but the last as long as said."""
    parts = (before, number, between, *more)
    return struct.Struct("".join(f"{part}s" for part in (*parts, size - sum(parts))))


def _number(raw: bytes) -> int | None:
    """The number that is written in these bytes; None if they are something else."""
    if len(raw) == 2:
        low, high = raw
        return low & 0x7F | high << 7 if low & 0x80 and not high & 0x80 else None
    try:
        number, end = _read_varint(raw, 0)
    except (IndexError, ValueError):
        return None
    return number if end == len(raw) else None


@lru_cache(maxsize=1024)
def _plain_head(head: bytes) -> Call | None:
    """What stands before chain and arguments of a call, if it says nothing but which member is called in which lane."""
    try:
        call = Call.FromString(head)
    except DecodeError:
        return None
    fields = {field.name for field, _ in call.ListFields()}
    return call if fields <= _PLAIN_FIELDS and call.depth <= 1 else None


_PLAIN_FIELDS = {"object", "member", "kind", "session", "depth", "lane"}


def _length(number: bytes) -> int:
    return number[0] if len(number) == 1 else number[0] & 0x7F | number[1] << 7


def _chunk(body: memoryview) -> ChunkFrame | None:
    """The chunk in this frame, if it has the layout that `chunk_header` writes."""
    head = _chunk_head(body, 0, len(body))
    return ChunkFrame(head[0], head[1], body[head[2] :]) if head is not None else None


def _chunk_head(view: memoryview, position: int, end: int) -> tuple[int, bool, int] | None:
    """Of a frame that is a chunk: its number, whether it is of an answer, and where its data begin."""
    if view[position] != _FRAME_ID:
        return None
    call_id, position = _read_varint(view, position + 1)
    reply = bytes(view[position : position + 2]) == bytes((_FRAME_REPLY, 1))
    position += 2 * reply
    if bytes(view[position : position + 2]) != _FRAME_CHUNK:
        return None
    size, position = _read_varint(view, position + 2)
    if size != end - position or view[position] != _CHUNK_DATA:
        return None
    size, position = _read_varint(view, position + 1)
    return (call_id, reply, position) if size == end - position else None


def varint(number: int) -> bytes:
    """A number as protobuf writes it. Raises ValueError for a negative one."""
    if 0 <= number < 0x80:
        return ONE_BYTE[number]
    if 0 < number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(view: memoryview | bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 64:
        byte = view[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & _MAX_UINT64, position
        shift += 7
    raise ValueError("a number of more than 64 bits")
