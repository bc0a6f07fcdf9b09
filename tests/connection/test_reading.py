"""Results are read by hand as protobuf reads them, or are left to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from broker._pb.broker_pb2 import Call, Credit, Frame, Frames, Result
from broker.codecs import Encoded
from broker.connection.frames import encode_frame
from broker.connection.reading import CallFrame, Layouts, ResultFrame, decode_frames, plain_frames
from broker.connection.writing import call_head, write_plain_call, write_result_frame
from broker.errors import ProtocolError

NUMBERS = st.integers(0, 2**63 - 1)
PAYLOADS = st.binary(max_size=300) | st.integers(0, 40_000).map(bytes)


def plain(call_id: int, payload: bytes) -> bytes:
    return write_result_frame(call_id, Encoded("json", payload), None)


def as_protobuf(message: bytes, layouts: Layouts | None = None) -> list[Frame]:
    """What `decode_frames` gives, as protobuf has it."""
    found: list[Frame] = []
    for frame in decode_frames(message, layouts):
        found += [plain.to_frame() for plain in frame] if isinstance(frame, list) else [frame]  # type: ignore[list-item]
    return found


@given(st.lists(st.tuples(NUMBERS, PAYLOADS), min_size=1, max_size=5))
def test_plain_results(results: list[tuple[int, bytes]]) -> None:
    message = b"".join(plain(*result) for result in results)
    assert as_protobuf(message) == list(Frames.FromString(message).frames)


def test_plain_results_are_read_by_hand_between_other_frames() -> None:
    credit = encode_frame(Frame(credit=Credit(calls=512)))
    raised = write_result_frame(7, Encoded("json", b"{}"), Result(raised=True))
    message = plain(5, b"1") + credit + plain(300, b"2" * 200) + raised + plain(2**40, b"3")
    kinds = [type(frame) for frame in decode_frames(message)]
    assert kinds == [list, Frame, list, Frame, list]
    assert as_protobuf(message) == list(Frames.FromString(message).frames)


@given(
    NUMBERS,
    st.sampled_from(["json", "pickle", ""]),
    st.binary(max_size=200),
    st.lists(st.binary(max_size=3), max_size=2).map(tuple),
    st.none() | st.builds(Result, raised=st.booleans(), kept=st.booleans()),
)
def test_results_of_all_kinds(
    call_id: int, codec: str, payload: bytes, buffers: tuple[bytes, ...], rest: Result | None
) -> None:
    message = write_result_frame(call_id, Encoded(codec, payload, buffers), rest)
    assert as_protobuf(message) == list(Frames.FromString(message).frames)


@given(st.data())
def test_what_only_looks_like_a_plain_result_is_left_to_protobuf(data: st.DataObject) -> None:
    """A byte that is changed: either protobuf takes the message, and then for the same, or none of the two does."""
    message = bytearray(plain(data.draw(NUMBERS), data.draw(st.binary(max_size=200))))
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        expected = list(Frames.FromString(bytes(message)).frames)
    except DecodeError:
        with pytest.raises(ProtocolError, match="not made of frames"):
            as_protobuf(bytes(message))
    else:
        assert as_protobuf(bytes(message)) == expected


# ---- frames that follow each other and are alike


def alike_results(first: int, count: int, size: int) -> bytes:
    return b"".join(plain(first + number, bytes((65 + number % 26,)) * size) for number in range(count))


def alike_calls(first: int, count: int, size: int) -> bytes:
    head = call_head(("shop", "take", Call.METHOD, 3, 1, 0, False, False))
    chains = (bytes((number % 251,)) * 16 for number in range(count))
    return b"".join(write_plain_call(first + number, head, chain, b"7" * size) for number, chain in enumerate(chains))


@pytest.mark.parametrize("write", [alike_results, alike_calls])
@pytest.mark.parametrize("first", [1, 120, 16_380, 2_097_150, 2**40])
def test_numbers_that_grow_longer_among_frames_that_are_alike(
    write: Callable[[int, int, int], bytes], first: int
) -> None:
    message = write(first, 20, 9)
    assert as_protobuf(message) == list(Frames.FromString(message).frames)
    kinds = {type(frame) for alike in decode_frames(message) for frame in alike}  # type: ignore[union-attr]
    assert kinds == {ResultFrame if write is alike_results else CallFrame}


@pytest.mark.parametrize("write", [alike_results, alike_calls])
@given(data=st.data())
def test_a_byte_changed_among_frames_that_are_alike(
    write: Callable[[int, int, int], bytes], data: st.DataObject
) -> None:
    message = bytearray(write(data.draw(st.sampled_from([1, 125, 16_381])), 6, data.draw(st.sampled_from([0, 1, 90]))))
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        expected = list(Frames.FromString(bytes(message)).frames)
    except DecodeError:
        with pytest.raises(ProtocolError, match="not made of frames"):
            as_protobuf(bytes(message))
    else:
        assert as_protobuf(bytes(message)) == expected


@pytest.mark.parametrize("write", [alike_results, alike_calls])
def test_frames_that_are_alike_and_cut_short(write: Callable[[int, int, int], bytes]) -> None:
    message = write(5, 4, 9)
    for end in range(len(message)):
        if end % (len(message) // 4):
            with pytest.raises(ProtocolError, match="not made of frames"):
                list(decode_frames(message[:end]))


# ---- one message after the other, on one connection

HEADS = [
    call_head((object_id, member, Call.METHOD, session, 1, lane, False, False))
    for object_id in ("shop", "shed", "obj_" + "0" * 32)
    for member in ("take", "give", "a" * 90)
    for session, lane in ((0, 0), (1, 0), (300, 7))
]
SOME_NUMBERS = st.sampled_from([1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 2**28 - 1, 2**28, 2**62]) | NUMBERS
SMALL = st.sampled_from([b"", b"1", b"[[1],{}]", b"x" * 60, b"y" * 99, b"z" * 100, b"x" * 128]) | st.binary(max_size=40)
PLAIN = st.builds(plain, SOME_NUMBERS, SMALL) | st.builds(
    write_plain_call, SOME_NUMBERS, st.sampled_from(HEADS), st.binary(min_size=16, max_size=16), SMALL
)
RARE = st.sampled_from([encode_frame(Frame(credit=Credit(calls=3))), encode_frame(Frame(id=4, reply=True)), b""])
MESSAGES = st.lists(st.lists(PLAIN | PLAIN | PLAIN | RARE, min_size=1, max_size=8).map(b"".join), max_size=8)


@given(MESSAGES)
def test_a_connection_reads_what_it_has_learned_to_read_as_protobuf_does(messages: list[bytes]) -> None:
    layouts: Layouts = {}
    for message in messages:
        assert as_protobuf(message, layouts) == list(Frames.FromString(message).frames)
        assert as_protobuf(memoryview(bytearray(message)), layouts) == list(Frames.FromString(message).frames)  # type: ignore[arg-type]


@given(MESSAGES, st.lists(PLAIN, min_size=1, max_size=4).map(b"".join), st.data())
def test_a_connection_is_not_deceived_by_what_only_looks_like_what_it_has_learned(
    messages: list[bytes], wrong: bytes, data: st.DataObject
) -> None:
    layouts: Layouts = {}
    for message in (*messages, wrong):
        as_protobuf(message, layouts)
    changed = bytearray(wrong)
    for _ in range(data.draw(st.integers(1, 2))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        expected = list(Frames.FromString(bytes(changed)).frames)
    except DecodeError:
        with pytest.raises(ProtocolError, match="not made of frames"):
            as_protobuf(bytes(changed), layouts)
    else:
        assert as_protobuf(bytes(changed), layouts) == expected
    for message in messages:  # and it has unlearned nothing
        assert as_protobuf(message, layouts) == list(Frames.FromString(message).frames)


def test_calls_go_together_as_long_as_they_are_of_one_head() -> None:
    layouts: Layouts = {}
    frames = [write_plain_call(number, HEADS[number % 3], bytes(16), b"[[],{}]") for number in range(1, 7)]
    for _ in range(2):
        groups = list(decode_frames(b"".join(sorted(frames)), layouts))
        heads = [{id(call.head) for call in group} for group in groups]  # type: ignore[union-attr]
        assert all(len(head) == 1 for head in heads)
        assert sum(map(len, groups)) == 6  # type: ignore[arg-type]


def test_a_message_of_nothing_but_plain_frames_is_read_in_one_go() -> None:
    layouts: Layouts = {}
    for message, kind in ((alike_results(1, 30, 3), ResultFrame), (alike_calls(1, 30, 3), CallFrame)):
        plains, end = plain_frames(message, layouts)
        assert (len(plains), end) == (30, len(message))
        assert {type(frame) for frame in plains} == {kind}


def test_what_a_connection_learns_is_bounded() -> None:
    layouts: Layouts = {}
    for size in range(3_000):
        list(decode_frames(plain(size, bytes(size)), layouts))
    assert len(layouts) <= 256
