"""Hostile values, URIs and frames: what is read before anybody is asked. A target takes an input in, and raises what a
user must never see."""

from __future__ import annotations

import enum
from collections import namedtuple
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from broker.codecs import Encoded, JsonCodec, PlainEdge, Reference, TypeRegistry
from broker.connection.frames import MESSAGE_LIMIT, ChunkFrame
from broker.connection.inbox import READ_SIZE, Inbox
from broker.connection.reading import decode_frames
from broker.errors import CodecError, ProtocolError
from broker.uri import URI, InvalidURI, split_host_port
from tests.fuzz.parts import Parts

CODEC = JsonCodec()


@dataclass
class Item:
    name: str
    price: float = 1.0


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Place(NamedTuple):
    x: int
    y: int = 0


Bare = namedtuple("Bare", "only")


class Refusal(OSError):
    pass


class Opened:
    """Made of its parts by a function of its own."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self.parts = parts


TYPES = TypeRegistry()
for known in (Item, Colour, Access, Place, Bare, Refusal):
    TYPES.register(known, name=known.__name__)
TYPES.register(Opened, name="Opened", to_dict=lambda opened: opened.parts, from_dict=Opened)


class ResolvingEdge(PlainEdge):
    """Takes any reference for what it says, and lets none go out."""

    def resolve(self, reference: str | Reference) -> object:
        return str(reference)


EDGE = ResolvingEdge(TYPES)


class StandIn(Reference):
    """For what an input says came beside the text."""

    def __init__(self, number: int) -> None:
        self.number, self.returned, self.stream = number, bool(number % 2), number % 3 == 0


def take_json(data: bytes) -> None:
    """Every form in which json arrives."""
    parts = Parts(data)
    form, count, references = parts.number(5), parts.number(3), parts.number(3)
    payload, *buffers = [*parts.pieces()] or [b""]
    encoded = Encoded("json", payload, tuple(buffers), tuple(StandIn(number) for number in range(references)))
    with suppress(CodecError):
        for value in _values(form, encoded, count):
            with suppress(CodecError):
                CODEC.encode(value, EDGE)


def _values(form: int, encoded: Encoded, count: int) -> list[object]:
    if form == 0:
        return [CODEC.decode(encoded, EDGE)]
    if form == 1:
        return [*CODEC.decode_call(encoded, EDGE)]
    if form == 2:
        calls = CODEC.decode_batch(encoded, EDGE)
        return [calls.arguments(place) for place in range(len(calls))]
    if form == 3:
        results = CODEC.decode_results(encoded, EDGE)
        return [results.result(place) for place in range(len(results))]
    if form == 4:
        return CODEC.split(encoded, count, EDGE)
    value = CODEC.decode(encoded, EDGE)
    return [CODEC.to_plain(value, EDGE, plain=count % 2 == 0)]


def take_uri(data: bytes) -> None:
    """A URI is refused, or is the same when it is read again."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(InvalidURI):
        uri = URI(text)
        assert URI(str(uri)) == uri, f"{uri!r} is another URI when it is read again"
        assert len(repr(uri)) < 10 * len(text) + 100
    with suppress(ValueError):
        split_host_port(text)


def take_frames(data: bytes) -> None:
    """Bytes are frames, or no frames, wherever they lie."""
    assert _frames(data) == _frames(memoryview(data))
    with suppress(ProtocolError):
        for group in decode_frames(data):
            assert group, "a group of no frames"


def _frames(data: bytes | memoryview) -> list[object]:
    """What comes out before the end, or before what is no frame."""
    found: list[object] = []
    with suppress(ProtocolError):
        for frame in decode_frames(data):
            found.append((frame.id, frame.reply, bytes(frame.data)) if isinstance(frame, ChunkFrame) else str(frame))  # noqa: PERF401 - until it raises
    return found


def take_inbox(data: bytes) -> None:
    """What comes out of a socket is the same, however it is cut."""
    parts = Parts(data)
    cut = 1 + parts.number(254)
    stream = parts.rest()
    with suppress(ProtocolError):
        whole = _read(stream, len(stream) or 1)
        try:
            assert _read(stream, cut) == whole
        except ProtocolError as error:
            raise AssertionError("cut in pieces it is refused, and in one it is not") from error


def _read(stream: bytes, cut: int) -> bytes:
    inbox, taken, at = Inbox(), [], 0
    while at < len(stream):
        if inbox.room is not None:
            count = min(cut, len(inbox.room), len(stream) - at)
            assert len(inbox.room) <= MESSAGE_LIMIT
            inbox.room[:count] = stream[at : at + count]
            big = inbox.filled(count)
            if big is not None:
                taken.append(bytes(big))
                inbox.done()
        else:
            count = min(cut, READ_SIZE, len(stream) - at)
            taken.append(inbox.put(stream[at : at + count]))
        at += count
    return b"".join(taken)
