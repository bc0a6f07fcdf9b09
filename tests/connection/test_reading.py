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
from broker.connection.reading import CallFrame, ResultFrame, decode_frames
from broker.connection.writing import call_head, write_plain_call, write_result_frame
from broker.errors import ProtocolError

NUMBERS = st.integers(0, 2**63 - 1)
PAYLOADS = st.binary(max_size=300) | st.integers(0, 40_000).map(bytes)


def plain(call_id: int, payload: bytes) -> bytes:
    return write_result_frame(call_id, Encoded("json", payload), None)


def as_protobuf(message: bytes) -> list[Frame]:
    """What `decode_frames` gives, as protobuf has it."""
    found: list[Frame] = []
    for frame in decode_frames(message):
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
