"""A message of a connection as its frames: calls and results by hand, as they are most of what arrives, and protobuf
takes several times as long for them; all others by protobuf.

How a plain frame is laid out depends on very little, and hardly changes from one to the next. So each connection keeps
the layouts that it has seen, and what has the same fixed parts at the same places is cut like the one before.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from broker._pb.broker_pb2 import Call, Encoded, Frame, Frames, Result
from broker.connection.frames import FRAMES_FRAME, ChunkFrame, chunk_in, read_varint
from broker.errors import ProtocolError

_BY_HAND = 32 << 10
_CHAIN = 16  # bytes of the id of a chain


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


PlainFrames = list[ResultFrame] | list[CallFrame]
"""Results; or calls of one head."""
Received = Frame | ChunkFrame | PlainFrames
"""What a message is made of: frames, and lists of plain ones."""


class Layout(NamedTuple):
    """How plain frames of one size are laid out."""

    cut: Callable[[bytes | memoryview, int], tuple[Any, ...]]
    """Takes a frame apart that begins there: what is fixed, its number, and so on."""
    size: int
    head: Call | None
    """Of the calls; None: it is one of results."""
    fixed: tuple[bytes, ...]
    """What stands before the number, behind it, and behind the chain of a call."""
    more: int
    """The bits of a number of that size which say that a further byte belongs to it; -1: it is long."""


Layouts = dict[int, Layout]
"""Those that a connection has seen last, by the byte that tells their size, or the lower half of it."""


def decode_frames(message: bytes | memoryview, layouts: Layouts | None = None) -> Iterator[Received]:
    """The frames of a message, in order; plain ones that go together stand together in a list.

    Raises ProtocolError where it is not made of frames: those before that place have been given by then. A big message
    is not taken apart in advance, so that what it costs to refuse the first frame does not grow with the number of
    those behind it.
    """
    try:
        yield from _walk(message, {} if layouts is None else layouts)
    except (DecodeError, IndexError, ValueError):
        raise ProtocolError(f"a message of {len(message)} bytes arrived that is not made of frames") from None


def _walk(message: bytes | memoryview, layouts: Layouts) -> Iterator[Received]:
    view, position, end = memoryview(message), 0, len(message)
    while position < end:
        plain, position = plain_frames(message, layouts, position)
        if plain:
            yield plain
            continue
        # Small messages of other frames are protobuf's, and so is a field that we do not know, to be skipped.
        if (not position and end < _BY_HAND) or view[position] != FRAMES_FRAME:
            yield from map(_received, Frames.FromString(bytes(view[position:])).frames)
            return
        size, position = read_varint(view, position + 1)
        body = view[position : position + size]
        if len(body) != size:
            raise ValueError("cut short")
        chunk = chunk_in(body) if size >= _BY_HAND else None
        yield chunk or _received(Frame.FromString(bytes(body)))
        position += size


def _received(frame: Frame) -> Frame | ChunkFrame:
    if frame.WhichOneof("kind") == "chunk":
        return ChunkFrame(frame.id, frame.reply, memoryview(frame.chunk.data))
    return frame


# ---- plain frames


def plain_frames(message: bytes | memoryview, layouts: Layouts, position: int = 0) -> tuple[PlainFrames, int]:
    """The plain frames from that place on, as far as they go together, and where they end. There may be none."""
    if position + 1 >= len(message):
        return [], position
    layout = layouts.get(message[position + 1]) or _learn(message, layouts, position)
    if layout is None:
        return [], position
    plain, stop = (_cut_results if layout.head is None else _cut_calls)(message, layouts, position, layout)
    if not plain and layouts.get(message[position + 1]) is not layout:  # it is of the other kind
        return plain_frames(message, layouts, position)
    return plain, stop


def _cut_results(
    message: bytes | memoryview, layouts: Layouts, position: int, layout: Layout | None
) -> tuple[list[ResultFrame], int]:
    results: list[ResultFrame] = []
    last = len(message) - 1
    while layout is not None and layout.head is None:
        cut, size, _, fixed, more = layout
        parts = cut(message, position) if position + size <= last + 1 else _NO_RESULT
        before, raw, between, payload = parts
        if (before, between) != fixed:
            layout = _learn(message, layouts, position)
            continue
        bits = _bits(raw, "little")
        if bits & _MORE == more:
            number = bits & 0x7F | (bits & 0x7F00) >> 1 | (bits & 0x7F0000) >> 2 | (bits & 0x7F000000) >> 3
        elif (number := _long_number(raw)) < 0:
            break
        results.append(_new(ResultFrame, (number, payload)))
        position += size
        if position >= last:
            break
        layout = layouts.get(message[position + 1]) or _learn(message, layouts, position)
    return results, position


def _cut_calls(
    message: bytes | memoryview, layouts: Layouts, position: int, layout: Layout | None
) -> tuple[list[CallFrame], int]:
    calls: list[CallFrame] = []
    last, head = len(message) - 1, None
    while layout is not None and layout.head is not None:
        cut, size, its_head, fixed, more = layout
        parts = cut(message, position) if position + size <= last + 1 else _NO_CALL
        before, raw, between, chain, after, payload = parts
        if (before, between, after) != fixed:
            layout = _learn(message, layouts, position)
            continue
        bits = _bits(raw, "little")
        if bits & _MORE == more:
            number = bits & 0x7F | (bits & 0x7F00) >> 1 | (bits & 0x7F0000) >> 2 | (bits & 0x7F000000) >> 3
        elif (number := _long_number(raw)) < 0:
            break
        if its_head is not head:
            if head is not None:
                break
            head = its_head
        calls.append(_new(CallFrame, (number, head, chain, payload)))
        position += size
        if position >= last:
            break
        layout = layouts.get(message[position + 1]) or _learn(message, layouts, position)
    return calls, position


_new = tuple.__new__  # takes a third of the time that the class takes
_bits = int.from_bytes
_MORE = 0x80808080  # the bits of four bytes of a number that say that a further byte belongs to it
_MORE_OF_SIZE = (-1, 0, 0x80, 0x8080, 0x808080)
_NO_RESULT = (b"",) * 4
_NO_CALL = (b"",) * 6


_LENGTH = rb"([\x00-\x7f]|[\x80-\xff][\x01-\x7f])"
_VALUE = rb"\x0a\x04json\x12" + _LENGTH
_PLAIN = re.compile(
    rb"\x0a" + _LENGTH + rb"\x08([\x80-\xff]{0,8}[\x00-\x7f])(?:"
    + rb"\x18\x01\x52" + _LENGTH + rb"\x0a" + _LENGTH + _VALUE + rb"|"
    + rb"\x4a" + _LENGTH + rb"(.{2,300}?)\x42\x10(.{16})\x2a" + _LENGTH + _VALUE + rb")",
    re.DOTALL,
)  # fmt: skip
"""How a frame begins that holds a plain result, or a plain call; whether it is one is for its lengths to say."""


def _learn(message: bytes | memoryview, layouts: Layouts, position: int) -> Layout | None:
    """The layout of the frame at that place, if it is a plain one: from now on that of its size."""
    found = _PLAIN.match(message, position)
    if found is None:
        return None
    frame, _, result, result_value, result_payload, call, head, _, call_value, call_payload = found.groups()
    if call is None:
        stop = found.end() + _length(result_payload)
        lengths = ((1, frame), (3, result), (4, result_value))
    else:
        stop = found.end() + _length(call_payload)
        lengths = ((1, frame), (6, call), (9, call_value))
    if stop > len(message) or any(stop - found.end(group) != _length(length) for group, length in lengths):
        return None
    plain_head = _plain_head(bytes(head)) if call is not None else None
    if call is not None and plain_head is None:
        return None
    layouts[message[position + 1]] = layout = _layout(message, found, stop, plain_head)
    return layout


def _layout(message: bytes | memoryview, found: re.Match[bytes], stop: int, head: Call | None) -> Layout:
    number, chain = found.span(2), found.span(8)
    spans = [(found.start(), number[0]), (number[1], found.end())]
    sizes = [number[0] - found.start(), number[1] - number[0], found.end() - number[1]]
    if head is not None:
        spans[1:] = [(number[1], chain[0]), (chain[1], found.end())]
        sizes[2:] = [chain[0] - number[1], _CHAIN, found.end() - chain[1]]
    cut = _struct(*sizes, stop - found.end()).unpack_from
    fixed = tuple(bytes(message[begin:end]) for begin, end in spans)
    return Layout(cut, stop - found.start(), head, fixed, _MORE_OF_SIZE[sizes[1]] if sizes[1] <= 4 else -1)


@lru_cache(maxsize=256)
def _struct(*sizes: int) -> struct.Struct:
    """Strings of these sizes."""
    return struct.Struct("".join(f"{size}s" for size in sizes))


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


def _long_number(raw: bytes) -> int:
    """The number that is written in these bytes; -1 if they are something else."""
    try:
        number, end = read_varint(raw, 0)
    except (IndexError, ValueError):
        return -1
    return number if end == len(raw) else -1
