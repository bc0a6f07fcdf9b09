"""Chunks that become a part of their value as they are read from the socket, without a copy."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from broker._pb.broker_pb2 import Call, Cancel, Frame
from broker._pb.broker_pb2 import Encoded as WireEncoded
from broker.codecs import bytes_of
from broker.connection.engine import Connection, Settings
from broker.connection.frames import OpenChunk, chunk_header, encode_frame
from broker.connection.leading import Leading
from broker.connection.sockets import ServerSocket
from broker.connection.watch import Watch
from broker.connection.workers import Workers
from tests.connection.conftest import Recorder, hello, message

SOON = 10.0
TEXT = b"a" * 40
SIZE = 300_000


class Calls(Recorder):
    """Tells when a call has arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.there = threading.Semaphore(0)
        self.gone = threading.Event()

    def incoming(self, call: Any) -> None:
        super().incoming(call)
        self.there.release()

    def connection_ended(self, connection: Connection) -> None:
        self.gone.set()


class Server:
    """The end of a daemon, what arrived there, and the other end."""

    def __init__(self, end: socket.socket, client: socket.socket) -> None:
        self.client = client
        self.calls = Calls()
        self.connection = Connection(Settings(), self.calls, accepts=True, peer_name="client")
        self.parts: list[int] = []  # the sizes of those that were read without a copy
        self.in_pieces = threading.Event()  # a chunk goes on where it was not all there
        take_part, room_for = self.connection.take_part, self.connection.room_for

        def count(chunk: OpenChunk, before: bytes, part: bytes) -> None:
            self.parts.append(len(part))
            take_part(chunk, before, part)

        def tell(chunk: OpenChunk, data: memoryview) -> Any:
            self.in_pieces.set()
            return room_for(chunk, data)

        self.connection.take_part, self.connection.room_for = count, tell  # type: ignore[method-assign]
        workers = Workers(limit=4, name="parts")
        self.end = ServerSocket(end, self.connection, Leading(workers), Watch("parts", 2))
        self.connection.hand_to(self.end)
        self.end.begin()
        self.send(message(Frame(hello=hello())))

    def send(self, *pieces: bytes) -> None:
        data = b"".join(pieces)
        self.client.sendall(len(data).to_bytes(4, "big") + data)

    def arguments(self, place: int) -> list[bytes]:
        assert self.calls.there.acquire(timeout=SOON)
        value = self.calls.calls[place].request.arguments
        return [bytes_of(part) for part in (value.payload, *value.buffers)]


@pytest.fixture
def server() -> Iterator[Server]:
    here, there = socket.socketpair(socket.AF_UNIX)
    over = threading.Event()
    with there:
        server = Server(here, there)
        server.end.on_closed = over.set
        yield server
    server.connection.lost("over")
    assert over.wait(SOON)


def call_of(number: int, *sizes: int) -> bytes:
    call = Call(object="thing", member="take", chain=bytes(16), depth=1)
    call.arguments.CopyFrom(WireEncoded(codec="json", sizes=sizes))
    return encode_frame(Frame(id=number, call=call))


def big(number: int, data: bytes) -> bytes:
    size = len(TEXT) + len(data)
    return b"".join((call_of(number, len(TEXT), len(data)), chunk_header(number, False, size), TEXT, data))


def test_behind_a_big_value_the_next_is_read_straight_into_its_part(server: Server) -> None:
    values = [os.urandom(SIZE + number) for number in range(4)]
    for number, data in enumerate(values):
        server.send(big(number + 1, data))
        assert server.arguments(number) == [TEXT, data]
    assert server.parts == [SIZE + 1, SIZE + 2, SIZE + 3]


def test_small_messages_come_between(server: Server) -> None:
    data = os.urandom(SIZE)
    small = Call(object="thing", member="take", chain=bytes(16), depth=1)
    small.arguments.CopyFrom(WireEncoded(codec="json", payload=b"[[],{}]"))
    for place in range(0, 6, 2):
        server.send(big(place + 1, data))
        server.send(encode_frame(Frame(id=place + 2, call=small)))
        assert server.arguments(place) == [TEXT, data]
        assert server.arguments(place + 1) == [b"[[],{}]"]


@pytest.mark.parametrize("cut", [3, 10, 150, 1000, SIZE // 2, SIZE])
def test_what_is_not_all_there_is_read_as_it_comes(server: Server, cut: int) -> None:
    first, second = os.urandom(SIZE), os.urandom(SIZE)
    server.send(big(1, first))
    assert server.arguments(0) == [TEXT, first]
    server.in_pieces.clear()
    whole = big(2, second)
    whole = len(whole).to_bytes(4, "big") + whole
    server.client.sendall(whole[:cut])
    if cut >= 1000:
        assert server.in_pieces.wait(SOON)
    server.client.sendall(whole[cut:])
    assert server.arguments(1) == [TEXT, second]
    server.send(big(3, first))
    assert server.arguments(2) == [TEXT, first]


def test_the_other_side_goes_in_the_middle(server: Server) -> None:
    server.send(big(1, os.urandom(SIZE)))
    server.arguments(0)
    whole = big(2, os.urandom(SIZE))
    server.client.sendall(len(whole).to_bytes(4, "big") + whole[: SIZE // 2])
    server.client.shutdown(socket.SHUT_RDWR)
    assert server.calls.gone.wait(SOON)
    assert len(server.calls.calls) == 1


def test_a_value_that_nobody_wants_any_more(server: Server) -> None:
    data = os.urandom(SIZE)
    server.send(big(1, data))
    assert server.arguments(0) == [TEXT, data]
    server.send(call_of(2, len(TEXT), SIZE), encode_frame(Frame(id=2, cancel=Cancel(reason="no"))))
    server.send(chunk_header(2, False, len(TEXT) + SIZE), TEXT, data)
    server.send(big(3, data))
    assert server.calls.there.acquire(timeout=SOON)
    assert [call.id for call in server.calls.calls] == [1, 3]
    assert server.connection.ended_because is None
