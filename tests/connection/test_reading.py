"""Results are read by hand as protobuf reads them, or are left to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker._pb.broker_pb2 import Credit, Frame, Frames, Result
from broker.codecs import Encoded
from broker.connection.frames import CallFrame, ResultFrame, decode_frames, encode_frame
from broker.connection.writing import write_result_frame

NUMBERS = st.integers(0, 2**63 - 1)
PAYLOADS = st.binary(max_size=300) | st.integers(0, 40_000).map(bytes)


def plain(call_id: int, payload: bytes) -> bytes:
    return write_result_frame(call_id, Encoded("json", payload), None)


def as_protobuf(message: bytes) -> list[Frame]:
    """What `decode_frames` gives, as protobuf has it."""
    found = list(decode_frames(message))
    return [frame.to_frame() if isinstance(frame, (CallFrame, ResultFrame)) else frame for frame in found]  # type: ignore[misc]


@given(st.lists(st.tuples(NUMBERS, PAYLOADS), min_size=1, max_size=5))
def test_plain_results(results: list[tuple[int, bytes]]) -> None:
    message = b"".join(plain(*result) for result in results)
    assert as_protobuf(message) == list(Frames.FromString(message).frames)


def test_plain_results_are_read_by_hand_between_other_frames() -> None:
    credit = encode_frame(Frame(credit=Credit(calls=512)))
    raised = write_result_frame(7, Encoded("json", b"{}"), Result(raised=True))
    message = plain(5, b"1") + credit + plain(300, b"2" * 200) + raised + plain(2**40, b"3")
    kinds = [type(frame) for frame in decode_frames(message)]
    assert kinds == [ResultFrame, Frame, ResultFrame, Frame, ResultFrame]
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
    except Exception:
        with pytest.raises(Exception, match="not made of frames"):
            as_protobuf(bytes(message))
    else:
        assert as_protobuf(bytes(message)) == expected
