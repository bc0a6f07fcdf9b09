"""Messages over Unix sockets: how they are cut out of what arrives, and what becomes of one that finds no room."""

from __future__ import annotations

import math
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.connection.frames import MESSAGE_LIMIT
from broker.connection.inbox import Inbox
from broker.connection.sockets import ClientSocket, user_of_peer
from broker.connection.watch import READABLE, Watch
from broker.errors import ProtocolError

SOON = 40.0


def framed(message: bytes) -> bytes:
    return struct.pack(">I", len(message)) + message


def read_in(inbox: Inbox, stream: bytes, cuts: list[int]) -> bytes:
    """All messages that come out, joined, when the stream arrives in pieces of these sizes."""
    out, position, turn = [], 0, 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        turn += 1
        if inbox.room is None:
            out.append(inbox.put(stream[position : position + min(size, 32 << 10)]))
            position += min(size, 32 << 10)
            continue
        piece = stream[position : position + min(size, len(inbox.room))]
        inbox.room[: len(piece)] = piece
        position += len(piece)
        message = inbox.filled(len(piece))
        if message is not None:
            out.append(bytes(message))
            inbox.done()
    return b"".join(out)


SIZES = st.one_of(st.integers(0, 300), st.integers(32_000, 34_000), st.just(1_300_000))


@settings(deadline=None, max_examples=30)  # some examples are millions of bytes
@given(st.lists(SIZES, max_size=6), st.lists(st.integers(1, 70_000), min_size=1, max_size=8), st.randoms())
def test_messages_come_out_as_they_were_sent_however_they_are_cut(
    sizes: list[int], cuts: list[int], random: Any
) -> None:
    if min(cuts) < 10_000:
        sizes = [min(size, 34_000) for size in sizes]  # else a million pieces
    messages = [os.urandom(size) for size in sizes]
    assert read_in(Inbox(), b"".join(map(framed, messages)), cuts) == b"".join(messages)


def test_memory_of_big_messages_is_used_again_and_never_shared() -> None:
    one, other = Inbox(), Inbox()
    for inbox, byte in ((one, b"a"), (other, b"b")):
        inbox.put(struct.pack(">I", 100_000) + byte * 30_000)
        assert inbox.room is not None
        inbox.room[:] = byte * 70_000
    first, second = one.filled(70_000), other.filled(70_000)
    assert first is not None
    assert second is not None
    assert (bytes(first), bytes(second)) == (b"a" * 100_000, b"b" * 100_000)


def test_a_message_that_is_too_big_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(ProtocolError, match=f"of {MESSAGE_LIMIT + 1} bytes was announced; {MESSAGE_LIMIT} is"):
        Inbox().put(struct.pack(">I", MESSAGE_LIMIT + 1))


class Engine:
    """As much of a connection as a socket needs."""

    peer_name = "the other"
    has_company = False

    def __init__(self) -> None:
        self.taken = threading.Event()
        self.received = b""
        self.violations: list[str] = []

    def sent(self) -> None:
        self.taken.set()

    def receive(self, message: Any) -> None:
        self.received += bytes(message)

    def violated(self, reason: str) -> None:
        self.violations.append(reason)


@pytest.fixture
def ends() -> Iterator[tuple[ClientSocket, Engine, socket.socket]]:
    here, there = socket.socketpair(socket.AF_UNIX)
    there.settimeout(SOON)
    engine = Engine()
    client = ClientSocket(here, engine)  # type: ignore[arg-type]
    with there:
        yield client, engine, there
        client.cancel()
        there.shutdown(socket.SHUT_RDWR)
        client.read()
    assert here.fileno() == -1, "it was closed"


def read_message(end: socket.socket) -> bytes:
    (size,) = struct.unpack(">I", _read(end, 4))
    return _read(end, size)


def _read(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += end.recv(min(size - len(data), 65536))
    return bytes(data)


Ends = tuple[ClientSocket, Engine, socket.socket]


def test_a_small_message_is_taken_at_once(ends: Ends) -> None:
    client, engine, there = ends
    assert client.send((b"abc", memoryview(b"def")))
    assert read_message(there) == b"abcdef"
    assert not engine.taken.is_set()


def test_what_there_is_no_room_for_is_written_when_there_is(ends: Ends) -> None:
    client, engine, there = ends
    pieces = [os.urandom(1 << 20) for _ in range(3)]
    assert not client.send(pieces)
    assert not engine.taken.is_set()
    assert read_message(there) == b"".join(pieces)
    assert engine.taken.wait(SOON)
    assert client.send((b"the next",))
    assert read_message(there) == b"the next"


def test_a_message_of_very_many_pieces(ends: Ends) -> None:
    client, _, there = ends
    pieces = [bytes([number % 256]) * 40 for number in range(3_000)]
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(read_message(there)))
    reader.start()
    client.send(pieces)
    reader.join(SOON)
    assert read == [b"".join(pieces)]


def test_ctrl_c_in_the_middle_of_a_message_does_not_break_it(ends: Ends) -> None:
    client, engine, there = ends

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    message = os.urandom(3 << 20)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            _send_and_stay(client, message)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert read_message(there) == message
    assert engine.taken.wait(SOON)


def _send_and_stay(client: ClientSocket, message: bytes) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    client.send((message,))
    threading.Event().wait(SOON)  # where the signal comes too late for the message


def test_the_end_of_the_other_side_ends_the_reading(ends: Ends) -> None:
    client, engine, there = ends
    there.sendall(framed(b"last words") + b"\0")
    there.shutdown(socket.SHUT_WR)
    client.read()
    assert engine.received == b"last words"
    assert client.code is not None


def test_a_message_to_somebody_who_is_gone_is_no_error(ends: Ends) -> None:
    client, _, there = ends
    there.shutdown(socket.SHUT_RDWR)
    assert not client.send((b"x",))


def test_what_is_no_message_ends_the_reading_with_the_reason(ends: Ends) -> None:
    client, engine, there = ends
    there.sendall(b"\xff" * 8)
    client.read()
    assert "was announced" in engine.violations[0]


def test_the_user_of_the_other_end_is_told_by_the_system() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert user_of_peer(one) == os.geteuid()


def test_a_descriptor_that_is_ready_is_told_once_until_it_is_armed() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    told = threading.Semaphore(0)
    watch = Watch("test-watch", 2)
    with here, there:
        watch.add(here.fileno(), READABLE, told.release)
        there.send(b"x")
        assert told.acquire(timeout=SOON)
        there.send(b"x")
        assert not told.acquire(timeout=0.05)
        watch.arm(here.fileno(), READABLE)
        assert told.acquire(timeout=SOON)
        watch.remove(here.fileno())
    threads = [thread for thread in threading.enumerate() if thread.name == "test-watch"]
    assert len(threads) == 2
    watch.close()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()


class Company(Engine):
    """Threads were woken together; so often the one that reads looks before the last of them calls again."""

    def __init__(self, looks: float) -> None:
        super().__init__()
        self._looks = looks
        self.dismissed = threading.Event()

    @property
    def has_company(self) -> bool:  # type: ignore[override]
        self._looks -= 1
        return self._looks > 0

    def dismiss_company(self) -> None:
        self._looks = 0
        self.dismissed.set()


@pytest.mark.parametrize(("looks", "is_dismissed"), [(0, False), (5, False), (math.inf, True)])
def test_those_who_were_woken_together_are_waited_for_but_not_for_long(looks: float, is_dismissed: bool) -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    engine = Company(looks)
    client = ClientSocket(here, engine)  # type: ignore[arg-type]
    reader = threading.Thread(target=client.read)
    reader.start()
    with there:
        there.sendall(framed(b"the answers"))
        if is_dismissed:
            assert engine.dismissed.wait(SOON), "though nothing else arrives"
        client.cancel()
    reader.join(SOON)
    assert not reader.is_alive()
    assert (engine.received, engine.dismissed.is_set()) == (b"the answers", is_dismissed)
