"""Chunks that are written straight to where they stay: no socket, but what a socket does with them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker._pb.broker_pb2 import Call, Frame
from broker._pb.broker_pb2 import Encoded as WireEncoded
from broker.codecs import Encoded, bytes_of
from broker.connection.assemblies import Assembly
from broker.connection.engine import Connection, Settings
from broker.connection.frames import chunk_header, encode_frame, open_chunk
from broker.errors import ProtocolError
from tests.connection.conftest import Pair, Recorder, hello, message

CREDIT = 4000


def parts_of(value: Encoded) -> list[bytes]:
    return [bytes_of(part) for part in (value.payload, *value.buffers)]


# ---- one value


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 900), min_size=1, max_size=6), st.data())
def test_a_value_is_the_same_however_its_chunks_are_taken_in(sizes: list[int], data: st.DataObject) -> None:
    parts = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    stream, position = memoryview(b"".join(parts)), 0
    landing, copying = (Assembly("json", sizes, (), CREDIT) for _ in range(2))
    while position < len(stream):
        chunk = stream[position : position + data.draw(st.integers(1, 1500))]
        position += len(chunk)
        arrived = data.draw(st.integers(0, len(chunk)))
        room = landing.room_for(len(chunk), chunk[:arrived])
        if room is None:
            granted = landing.add(chunk)
        else:
            assert len(room) == len(chunk) - arrived
            room[:] = chunk[arrived:]
            granted = landing.filled()
        assert granted == copying.add(chunk)
    found, expected = landing.result(), copying.result()
    assert found is not None
    assert expected is not None
    assert parts_of(found) == parts_of(expected) == parts


def test_what_ends_with_a_whole_part_has_room_there() -> None:
    assembly = Assembly("json", [10, 1000], (), CREDIT)
    room = assembly.room_for(1010, memoryview(b"a" * 10 + b"b" * 300))
    assert room is not None
    assert len(room) == 700
    room[:] = b"c" * 700
    assembly.filled()
    value = assembly.result()
    assert value is not None
    assert parts_of(value) == [b"a" * 10, b"b" * 300 + b"c" * 700]


@pytest.mark.parametrize(
    ("size", "arrived"),
    [(1009, 500), (1011, 500), (1010, 9), (CREDIT + 1, 500), (2**64, 500)],
    ids=["less than the part", "more", "the part before is not all there", "beyond the credit", "absurd"],
)
def test_what_does_not_is_left_to_be_taken_in_as_a_whole(size: int, arrived: int) -> None:
    assembly = Assembly("json", [10, 1000, 50_000], (), CREDIT)
    assert assembly.room_for(size, memoryview(bytes(arrived))) is None
    if size > CREDIT:
        with pytest.raises(ProtocolError, match="beyond the credit"):
            assembly.add(memoryview(bytes(CREDIT + 1)))


def test_the_rest_of_a_part_that_has_begun_is_left_too() -> None:
    assembly = Assembly("json", [1000], (), CREDIT)
    assembly.add(memoryview(bytes(400)))
    assert assembly.room_for(600, memoryview(bytes(100))) is None


# ---- where a chunk begins


def call_of(sizes: list[int]) -> bytes:
    arguments = WireEncoded(codec="json", sizes=sizes)
    return encode_frame(
        Frame(id=1, call=Call(object="thing", member="take", chain=bytes(16), depth=1, arguments=arguments))
    )


@pytest.mark.parametrize("reply", [False, True])
def test_the_chunk_at_the_end_of_a_message_is_found(reply: bool) -> None:
    before = call_of([1000])
    whole = before + chunk_header(300, reply, 1000) + b"x" * 1000
    chunk = open_chunk(memoryview(whole[: len(before) + 50]), len(whole))
    assert chunk is not None
    assert (chunk.id, chunk.reply, chunk.size, chunk.start) == (300, reply, 1000, len(before))
    assert whole[chunk.data :] == b"x" * 1000


def test_what_is_no_chunk_at_the_end_is_none() -> None:
    before, chunk = call_of([1000]), chunk_header(1, False, 1000) + b"x" * 1000
    for whole in (before, chunk + before, before + b"\x0a\x05\x08", before + b"\x10" + chunk, chunk[:-1] + b""):
        for end in range(len(whole) + 1):
            assert open_chunk(memoryview(whole[:end]), len(whole)) is None or whole[:end].startswith(chunk[:20])
    assert open_chunk(memoryview(chunk + before), len(chunk + before)) is None


@given(st.binary(max_size=60), st.integers(0, 100))
def test_any_bytes_whatever(begun: bytes, size: int) -> None:
    found = open_chunk(memoryview(begun), size)
    assert found is None or found.data + found.size == size


# ---- on a connection


def server() -> tuple[Connection, Recorder]:
    recorder = Recorder()
    connection = Connection(Settings(), recorder, accepts=True, peer_name="client")
    connection.receive(message(Frame(hello=hello())))
    return connection, recorder


def begin(connection: Connection, size: int) -> Any:
    connection.receive(call_of([10, size]))
    header = chunk_header(1, False, size + 10)
    chunk = open_chunk(memoryview(header + b"a" * 10), len(header) + size + 10)
    assert chunk is not None
    return connection.room_for(chunk, memoryview(b"a" * 10))


def test_a_call_whose_arguments_land() -> None:
    connection, recorder = server()
    landing = begin(connection, 200_000)
    landing.room[:] = b"b" * 200_000
    assert not recorder.calls
    connection.landed(landing)
    (call,) = recorder.calls
    assert parts_of(call.request.arguments) == [b"a" * 10, b"b" * 200_000]
    connection.lost("over")


def test_what_is_given_up_meanwhile_lands_nowhere() -> None:
    connection, recorder = server()
    landing = begin(connection, 200_000)
    connection.lost("gone")
    connection.landed(landing)
    assert not recorder.calls


def test_without_a_value_that_arrives_there_is_no_room(pair: Pair) -> None:
    header = chunk_header(7, False, 1000)
    chunk = open_chunk(memoryview(header), len(header) + 1000)
    assert chunk is not None
    assert pair.server.room_for(chunk, memoryview(b"")) is None
