"""Calls and results as bytes, written by hand: they are most of what a connection sends, and protobuf takes several
times as long for them. What is rare in them (metadata, buffers, big values) is protobuf's all the same: the fields of a
message may come in any order, and messages one behind the other are one message.

Tests read back with protobuf what is written here.
"""

from __future__ import annotations

from functools import lru_cache

from broker._pb.broker_pb2 import Call, Result
from broker.codecs import Encoded
from broker.connection.frames import INLINE_LIMIT, ONE_BYTE, varint
from broker.connection.outbox import wire_value

_FRAMES_FRAME = b"\x0a"
_FRAME_ID = b"\x08"
_FRAME_CALL = b"\x4a"
_FRAME_REPLY_RESULT = b"\x18\x01\x52"
_CALL_ARGUMENTS = b"\x2a"
_CALL_CHAIN = b"\x42\x10"
_CALL_TIMEOUT = b"\x58"
_RESULT_VALUE = b"\x0a"
_ENCODED_CODEC = b"\x0a"
_ENCODED_PAYLOAD = b"\x12"
_SHORT = 100  # bytes; then all lengths of its frame are one byte


Head = tuple[str, str, Call.Kind, int, int, int, bool, bool]
"""What many calls have in common: object, member, kind, session, depth, lane, oneway, nested."""


def write_call(head: bytes, chain: bytes, arguments: Encoded) -> bytes:
    """A Call without what is rare; `head` is what `call_head` gives."""
    value = write_value(arguments)
    return b"".join((head, _CALL_CHAIN, chain, _CALL_ARGUMENTS, varint(len(value)), value))


def write_call_frame(call_id: int, call: bytes, timeout_us: int | None) -> bytes:
    """The frame of a call, with what remains of its time."""
    if timeout_us is not None:
        call += _CALL_TIMEOUT + varint(timeout_us)
    number, length = varint(call_id), varint(len(call))
    size = varint(2 + len(number) + len(length) + len(call))
    return b"".join((_FRAMES_FRAME, size, _FRAME_ID, number, _FRAME_CALL, length, call))


def write_plain_call(call_id: int, head: bytes, chain: bytes, payload: bytes) -> bytes:
    """The frame of a call that is nothing but its head and arguments in json."""
    size = len(payload)
    if size >= _SHORT:
        return write_call_frame(call_id, write_call(head, chain, Encoded("json", payload)), None)
    number, call_size = varint(call_id), len(head) + size + 28
    length = ONE_BYTE[call_size] if call_size < 0x80 else varint(call_size)
    whole = call_size + len(number) + len(length) + 2
    return b"\x0a%b\x08%b\x4a%b%b\x42\x10%b\x2a%c\x0a\x04json\x12%c%b" % (
        ONE_BYTE[whole] if whole < 0x80 else varint(whole), number, length, head, chain, size + 8, size, payload,
    )  # fmt: skip


def write_result_frame(call_id: int, value: Encoded, rest: Result | None) -> bytes:
    """The frame of a result; `rest` is what the Result has beside its value."""
    written = write_value(value)
    result = b"".join((_RESULT_VALUE, varint(len(written)), written))
    if rest is not None:
        result += rest.SerializeToString()
    number, length = varint(call_id), varint(len(result))
    size = varint(4 + len(number) + len(length) + len(result))
    return b"".join((_FRAMES_FRAME, size, _FRAME_ID, number, _FRAME_REPLY_RESULT, length, result))


def write_plain_result(call_id: int, payload: bytes) -> bytes:
    """The frame of a result that is a value in json, and nothing else."""
    size = len(payload)
    if size >= _SHORT:
        return write_result_frame(call_id, Encoded("json", payload), None)
    number = varint(call_id)
    extra = len(number)
    return b"\x0a%c\x08%b\x18\x01\x52%c\x0a%c\x0a\x04json\x12%c%b" % (
        size + extra + 15, number, size + 10, size + 8, size, payload,
    )  # fmt: skip


def write_value(value: Encoded) -> bytes:
    """The value as it stands in a frame: itself, or the sizes of what follows in chunks."""
    codec, payload, buffers, references = value
    if buffers or references or len(payload) > INLINE_LIMIT:
        return wire_value(value).SerializeToString()
    size = len(payload)
    return b"".join((_codec(codec), _ENCODED_PAYLOAD, ONE_BYTE[size] if size < 0x80 else varint(size), payload))


@lru_cache(maxsize=4096)
def call_head(head: Head) -> bytes:
    """The fields that calls have in common. Raises ValueError for text that is no Unicode."""
    object_id, member, kind, session, depth, lane, oneway, nested = head
    call = Call(
        object=object_id, member=member, kind=kind, session=session, depth=depth, lane=lane, oneway=oneway,
        nested=nested,
    )  # fmt: skip
    return call.SerializeToString()


@lru_cache(maxsize=16)
def _codec(name: str) -> bytes:
    text = name.encode()
    return _ENCODED_CODEC + varint(len(text)) + text
