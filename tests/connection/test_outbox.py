"""What goes out in which order, and what it holds meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from broker._pb.broker_pb2 import Frame, Ping
from broker.codecs import Encoded, bytes_of
from broker.connection.frames import INLINE_LIMIT, MESSAGE_LIMIT, ChunkFrame, encode_frame
from broker.connection.outbox import FRAME_COST, Outbox, ReadyFrame, snapshot, wire_value
from broker.connection.reading import decode_frames

MIB = 1 << 20


def outbox_of_mib_chunks() -> Outbox:
    """An outbox for a side that wants smaller chunks than we send by ourselves, which makes them easy to count."""
    outbox = Outbox()
    outbox.chunk_size, outbox.chunk_credit = MIB, 4 * MIB
    return outbox


def ping(nonce: int) -> ReadyFrame:
    return ReadyFrame(encode_frame(Frame(ping=Ping(nonce=nonce))))


def big(outbox: Outbox, call_id: int, size: int) -> None:
    """Queues a frame with a big value behind it."""
    value = Encoded("json", bytes([call_id]) * size)
    outbox.put(ping(call_id), outbox.transfer(call_id, False, value))


def taken(outbox: Outbox) -> list[Any]:
    """One message: the nonces of its pings, and (call, bytes) of its chunk."""
    pieces = outbox.take()
    message = b"".join(pieces)
    assert len(message) <= MESSAGE_LIMIT
    return [
        (frame.id, frame.data.nbytes) if isinstance(frame, ChunkFrame) else frame.ping.nonce
        for frame in decode_frames(message)
        if not isinstance(frame, list)
    ]


def test_all_that_is_ready_goes_out_together_and_in_order() -> None:
    outbox = outbox_of_mib_chunks()
    for nonce in range(1, 6):
        outbox.put(ping(nonce))
    assert outbox.bytes == 5 * FRAME_COST
    assert taken(outbox) == [1, 2, 3, 4, 5]
    assert (outbox.bytes, outbox.ready, outbox.is_empty) == (0, False, True)


def test_chunks_follow_their_frame_behind_all_frames_that_are_ready() -> None:
    outbox = outbox_of_mib_chunks()
    big(outbox, 1, 3 * MIB)
    assert taken(outbox) == [1, (1, MIB)]
    outbox.put(ping(9))
    assert taken(outbox) == [9, (1, MIB)]
    assert taken(outbox) == [(1, MIB)]
    assert outbox.is_empty


def test_big_values_take_turns() -> None:
    outbox = outbox_of_mib_chunks()
    big(outbox, 1, 2 * MIB)
    big(outbox, 2, 2 * MIB + 5)
    assert taken(outbox) == [1, 2, (1, MIB)]
    assert [taken(outbox) for _ in range(4)] == [[(2, MIB)], [(1, MIB)], [(2, MIB)], [(2, 5)]]


def test_a_value_waits_for_its_own_credit_alone() -> None:
    outbox = outbox_of_mib_chunks()
    outbox.chunk_credit = MIB + 10
    big(outbox, 1, 3 * MIB)
    big(outbox, 2, MIB)
    messages = [taken(outbox) for _ in range(3)]
    assert messages == [[1, 2, (1, MIB)], [(2, MIB)], [(1, 10)]]
    assert (outbox.ready, outbox.is_empty, outbox.bytes) == (False, False, 2 * MIB - 10)
    outbox.grant(1, False, MIB)
    assert taken(outbox) == [(1, MIB)]
    outbox.grant(1, False, 5 * MIB)
    assert taken(outbox) == [(1, MIB - 10)]
    assert outbox.is_empty
    outbox.grant(1, False, 5)  # late, and harmless
    assert not outbox.ready


def test_credit_that_comes_in_time_keeps_a_value_in_its_turn() -> None:
    outbox = outbox_of_mib_chunks()
    outbox.chunk_credit = 2 * MIB
    big(outbox, 1, 4 * MIB)
    taken(outbox)
    outbox.grant(1, False, 2 * MIB)
    assert [taken(outbox) for _ in range(3)] == [[(1, MIB)]] * 3
    assert outbox.is_empty


@pytest.mark.parametrize("stage", ["queued", "in turn", "out of credit"])
def test_what_is_dropped_holds_nothing(stage: str) -> None:
    outbox = outbox_of_mib_chunks()
    outbox.chunk_credit = MIB if stage == "out of credit" else 4 * MIB
    big(outbox, 1, 2 * MIB)
    if stage != "queued":
        taken(outbox)
    assert outbox.drop(1, False)
    assert not outbox.drop(1, False)
    assert outbox.bytes == (FRAME_COST if stage == "queued" else 0)
    assert taken(outbox) == ([1] if stage == "queued" else [])
    assert outbox.is_empty


def test_a_frame_that_has_nothing_to_say_any_more_takes_its_value_with_it() -> None:
    class Abandoned(ReadyFrame):
        def to_bytes(self) -> bytes | None:
            return None

    outbox = outbox_of_mib_chunks()
    outbox.put(Abandoned(b""), outbox.transfer(1, False, Encoded("json", bytes(MIB))))
    assert taken(outbox) == []
    assert (outbox.bytes, outbox.is_empty) == (0, True)


def test_no_message_passes_the_limit() -> None:
    outbox = outbox_of_mib_chunks()
    big(outbox, 1, 3 * MIB)
    for _ in range(100):
        frame = Frame(id=1, reply=True)
        frame.result.value.CopyFrom(wire_value(Encoded("json", bytes(INLINE_LIMIT))))
        outbox.put(ReadyFrame(encode_frame(frame), FRAME_COST + INLINE_LIMIT))
    messages = []
    while outbox.ready:
        pieces = outbox.take()
        messages.append(len(b"".join(pieces)))
    assert max(messages) < MESSAGE_LIMIT
    assert min(messages[:3]) > 3 * MIB  # and the chunks are not kept back by a flood of frames


def test_empty_buffers_are_no_bytes() -> None:
    value = Encoded("json", b"", (b"", bytes(MIB), b"", b"abc"))
    assert list(wire_value(value).sizes) == [0, 0, MIB, 0, 3]
    outbox = outbox_of_mib_chunks()
    outbox.put(ping(1), outbox.transfer(1, False, value))
    assert taken(outbox) == [1, (1, MIB)]
    assert taken(outbox) == [(1, 3)]


def test_a_snapshot_copies_what_may_change_and_nothing_else() -> None:
    payload, array = bytes(INLINE_LIMIT), bytearray(b"before")
    kept = snapshot(Encoded("json", payload, (memoryview(array), memoryview(payload)[1:])))
    array[:] = b"after!"
    assert kept.payload is payload
    assert bytes_of(kept.buffers[0]) == b"before"
    assert isinstance(kept.buffers[1], memoryview)
    assert kept.buffers[1].obj is payload
