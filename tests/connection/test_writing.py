"""What is written by hand is what protobuf reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker._pb.broker_pb2 import Call, Frames, Result
from broker.codecs import Encoded
from broker.connection.frames import INLINE_LIMIT, varint
from broker.connection.writing import call_head, write_call, write_call_frame, write_result_frame

NUMBERS = st.integers(0, 2**64 - 1)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=300)
PAYLOADS = st.binary(max_size=400)
CODECS = st.sampled_from(["json", "pickle", ""])
BUFFERS = st.lists(PAYLOADS, max_size=3).map(tuple)
VALUES = st.tuples(CODECS, PAYLOADS, BUFFERS).map(lambda parts: Encoded(*parts))


@given(
    NUMBERS, TEXTS, TEXTS, st.sampled_from(Call.Kind.values()), NUMBERS, st.binary(min_size=16, max_size=16),
    st.integers(1, 64), VALUES, st.none() | st.integers(1, 2**63),
)  # fmt: skip
def test_calls(
    call_id: int, object_id: str, member: str, kind: Call.Kind, session: int, chain: bytes, depth: int,
    value: Encoded, timeout: int | None,
) -> None:  # fmt: skip
    head = call_head((object_id, member, kind, session, depth, 0, False, False))
    written = write_call_frame(call_id, write_call(head, chain, value), timeout)
    [frame] = Frames.FromString(written).frames
    assert (frame.id, frame.reply, frame.WhichOneof("kind")) == (call_id, False, "call")
    call = frame.call
    assert (call.object, call.member, call.kind, call.session) == (object_id, member, kind, session)
    assert (call.chain, call.depth) == (chain, depth)
    arguments = call.arguments
    assert (arguments.codec, arguments.payload, tuple(arguments.buffers)) == value[:3]
    assert (call.timeout_us if call.HasField("timeout_us") else None) == timeout


@given(NUMBERS, VALUES, st.none() | st.builds(Result, raised=st.booleans(), kept=st.booleans()))
def test_results(call_id: int, value: Encoded, rest: Result | None) -> None:
    [frame] = Frames.FromString(write_result_frame(call_id, value, rest)).frames
    assert (frame.id, frame.reply, frame.WhichOneof("kind")) == (call_id, True, "result")
    result = frame.result
    assert (result.value.codec, result.value.payload, tuple(result.value.buffers)) == value[:3]
    assert (result.raised, result.kept) == ((rest.raised, rest.kept) if rest is not None else (False, False))


@pytest.mark.parametrize("size", [0, 127, 128, INLINE_LIMIT, INLINE_LIMIT + 1])
def test_a_value_stands_in_its_frame_up_to_the_limit(size: int) -> None:
    payload = memoryview(bytes(size))
    [frame] = Frames.FromString(write_result_frame(1, Encoded("json", payload), None)).frames
    value = frame.result.value
    if size <= INLINE_LIMIT:
        assert (len(value.payload), list(value.sizes)) == (size, [])
    else:
        assert (len(value.payload), list(value.sizes)) == (0, [size])


def test_numbers_that_no_frame_has_are_refused() -> None:
    with pytest.raises(ValueError, match="range"):
        varint(-1)
    with pytest.raises(ValueError, match="surrogates"):
        call_head(("\ud800", "x", Call.METHOD, 0, 1, 0, False, False))
