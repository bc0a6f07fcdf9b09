"""What is written by hand equals what protobuf writes and reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker._pb.broker_pb2 import (
    Batch,
    Call,
    Cancel,
    Chunk,
    Close,
    Credit,
    Encoded,
    End,
    Frame,
    Frames,
    GoAway,
    Hello,
    Item,
    MetadataValue,
    Open,
    Opened,
    Ping,
    Reference,
    Refusal,
    Release,
    Result,
)
from broker.connection.frames import ChunkFrame, chunk_header, encode_frame
from broker.connection.reading import decode_frames
from broker.connection.refusals import Reason, Refused
from broker.errors import (
    AccessDenied,
    BrokerError,
    CallTimeout,
    CodecError,
    CommunicationError,
    MessageTooLargeError,
    ObjectNotFound,
    Overloaded,
    ProtocolError,
)

CHAIN = bytes(range(16))
BIG = 64 << 10  # what is taken apart by hand

# Frozen in docs/wire.md: a frame written today is read by every later version.
GOLDEN = {
    "hello": (
        Frame(
            hello=Hello(
                oldest_version=1,
                newest_version=1,
                process_id=CHAIN,
                codecs=["json"],
                max_message_size=1 << 30,
                call_credit=1024,
                chunk_credit=4 << 20,
                chunk_size=1 << 20,
                item_credit=16,
            )
        ),
        "2230080110011a10000102030405060708090a0b0c0d0e0f2a046a736f6e3080808080043880084080808002488080405010",
    ),
    "welcome": (Frame(welcome=Hello(oldest_version=1, newest_version=1)), "2a0408011001"),
    "open": (Frame(id=3, open=Open(handshake=Encoded(codec="json", payload=b"1"))), "0803320b0a090a046a736f6e120131"),
    "opened": (Frame(id=3, reply=True, opened=Opened(refused=Refusal(code=7))), "080318013a0412020807"),
    "references": (
        Frame(
            id=3,
            open=Open(handshake=Encoded(references=[Reference(number=7), Reference(number=300, returned=True)])),
        ),
        "0803320d0a0b2a0208072a0508ac021001",
    ),
    "close": (Frame(id=3, close=Close()), "08034200"),
    "call": (
        Frame(
            id=1,
            call=Call(
                object="example.warehouse",
                member="take",
                kind=Call.METHOD,
                session=2,
                arguments=Encoded(codec="json", payload=b"[[],{}]"),
                lane=5,
                chain=CHAIN,
                depth=1,
                timeout_us=1_500_000,
                metadata={"tenant": MetadataValue(text="a")},
                correlation_id=CHAIN,
            ),
        ),
        (
            "08014a690a116578616d706c652e77617265686f757365120474616b65180120022a0f0a046a736f6e12075b5b5d2c7b"
            "7d5d38054210000102030405060708090a0b0c0d0e0f480158e0c65b620d0a0674656e616e7412030a01616a10000102"
            "030405060708090a0b0c0d0e0f"
        ),
    ),
    "batch": (
        Frame(
            id=1,
            call=Call(
                object="w",
                kind=Call.BATCH,
                arguments=Encoded(codec="json", payload=b"[[[1],[2],[]],[]]"),
                batch=Batch(members=["put", "get"], calls=[0, 0, 1], go_on=True),
            ),
        ),
        "08014a330a017718052a190a046a736f6e12115b5b5b315d2c5b325d2c5b5d5d2c5b5d5d7a110a037075740a0367657412030000011801",
    ),
    "result": (
        Frame(id=1, reply=True, result=Result(value=Encoded(codec="json", payload=b"null"), kept=True)),
        "0801180152100a0c0a046a736f6e12046e756c6c2001",
    ),
    "refused": (
        Frame(id=1, reply=True, refused=Refused(Reason.OBJECT_NOT_FOUND, "there is no object 'x'").to_wire()),
        "080118015a2c080512104f424a4543545f4e4f545f464f554e441a167468657265206973206e6f206f626a65637420277827",
    ),
    "cancel": (Frame(id=1, cancel=Cancel(reason="gone")), "080162060a04676f6e65"),
    "item": (
        Frame(id=1, reply=True, item=Item(value=Encoded(codec="json", payload=b"1"))),
        "080118016a0b0a090a046a736f6e120131",
    ),
    "items": (
        Frame(id=1, reply=True, item=Item(value=Encoded(codec="json", payload=b"[1,2]"), count=2)),
        "080118016a110a0d0a046a736f6e12055b312c325d1002",
    ),
    "result that is a stream": (Frame(id=1, reply=True, result=Result(stream=True)), "0801180152023001"),
    "end": (Frame(id=1, reply=True, end=End()), "080118017200"),
    "end with a value": (
        Frame(id=1, reply=True, end=End(value=Encoded(codec="json", payload=b"1"), raised=True)),
        "08011801720d0a090a046a736f6e1201311001",
    ),
    "end without one": (
        Frame(id=1, reply=True, end=End(failed=Refused(Reason.CANCELLED, "a").to_wire())),
        "0801180172121a100801120943414e43454c4c45441a0161",
    ),
    "credit for items": (Frame(id=1, credit=Credit(items=16, taken=8)), "08017a0418102008"),
    "credit for calls": (Frame(credit=Credit(calls=512)), "7a03088004"),
    "credit for chunks": (Frame(id=1, reply=True, credit=Credit(bytes=2 << 20)), "080118017a051080808001"),
    "chunk": (Frame(id=1, reply=True, chunk=Chunk(data=b"abc")), "080118018201050a03616263"),
    "release": (Frame(id=7, release=Release(count=2)), "08078a01020802"),
    "ping": (Frame(ping=Ping(nonce=9)), "9201020809"),
    "pong": (Frame(pong=Ping(nonce=9)), "9a01020809"),
    "goaway that takes nested calls": (
        Frame(goaway=GoAway(last_call=4, reason="over", takes_nested=True)),
        "a2010a080412046f7665722001",
    ),
    "goaway": (
        Frame(goaway=GoAway(last_call=4, reason="the daemon is shutting down")),
        "a2011f0804121b746865206461656d6f6e206973207368757474696e6720646f776e",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name: str) -> None:
    frame, golden = GOLDEN[name]
    assert frame.SerializeToString(deterministic=True).hex() == golden
    assert Frame.FromString(bytes.fromhex(golden)) == frame


def test_every_kind_of_frame_has_golden_bytes() -> None:
    kinds = {frame.WhichOneof("kind") for frame, _ in GOLDEN.values()}
    assert kinds == {field.name for field in Frame.DESCRIPTOR.oneofs_by_name["kind"].fields}


@pytest.mark.parametrize("reply", [False, True])
@pytest.mark.parametrize("number", [1, 127, 128, 16_384, 2**32, 2**64 - 1])
@pytest.mark.parametrize("size", [1, 127, 128, BIG, 1 << 20])
def test_a_chunk_by_hand_is_what_protobuf_writes(number: int, reply: bool, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    by_hand = chunk_header(number, reply, size) + data
    assert by_hand == Frames(frames=[Frame(id=number, reply=reply, chunk=Chunk(data=data))]).SerializeToString()
    assert list(decode_frames(by_hand)) == [ChunkFrame(number, reply, memoryview(data))]


def test_a_big_chunk_is_a_view_of_its_message() -> None:
    data = bytes(1 << 20)
    written = chunk_header(1, False, len(data)) + data
    (chunk,) = decode_frames(written)
    assert isinstance(chunk, ChunkFrame)
    assert chunk.data.obj is written


def test_frames_and_chunks_mix() -> None:
    ping, cancel = Frame(ping=Ping(nonce=1)), Frame(id=3, cancel=Cancel())
    small, big = b"x" * 10, b"y" * BIG
    mixed = encode_frame(ping) + chunk_header(1, False, 10) + small + encode_frame(cancel)
    mixed += chunk_header(2, True, BIG) + big + encode_frame(ping) + encode_frame(ping)
    expected = [
        ping, ChunkFrame(1, False, memoryview(small)), cancel, ChunkFrame(2, True, memoryview(big)), ping, ping,
    ]  # fmt: skip
    assert list(decode_frames(mixed)) == expected
    assert [frame.WhichOneof("kind") for frame in Frames.FromString(mixed).frames] == [
        "ping", "chunk", "cancel", "chunk", "ping", "ping",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "written",
    [
        # The fields of the frame in another order, an unknown field in the frame, and one in the chunk.
        Frame(id=5, optional=True, chunk=Chunk(data=b"z" * BIG)).SerializeToString(),
        Frame(chunk=Chunk(data=b"z" * BIG)).SerializeToString() + b"\x08\x05",
        b"\x08\x05" + Frame(chunk=Chunk(data=b"z" * BIG)).SerializeToString() + b"\xf8\x07\x01",
    ],
)
def test_a_chunk_that_others_write_otherwise_is_read_too(written: bytes) -> None:
    message = b"\x0a" + _varint(len(written)) + written
    assert list(decode_frames(message)) == [ChunkFrame(5, False, memoryview(b"z" * BIG))]


def test_unknown_fields_are_ignored_in_small_and_in_big_messages() -> None:
    ping = encode_frame(Frame(ping=Ping(nonce=1)))
    unknown = b"\x12\x03abc"  # field 2 of Frames
    big = chunk_header(1, False, BIG) + bytes(BIG)
    assert len(list(decode_frames(ping + unknown + ping))) == 2
    assert len(list(decode_frames(ping + big + unknown + big + ping))) == 4


def _varint(number: int) -> bytes:
    return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))


@pytest.mark.parametrize("garbage", [b"\x0a", b"\x0a\x05ab", b"GET / HTTP/1.1", b"\xff" * 40, b"\x0a\x02\x22\x7f"])
@pytest.mark.parametrize("padding", [0, BIG])
def test_what_is_not_made_of_frames_is_a_protocol_error(garbage: bytes, padding: int) -> None:
    before = chunk_header(1, False, padding) + bytes(padding) if padding else b""
    with pytest.raises(ProtocolError, match=f"a message of {len(before + garbage)} bytes arrived that is not made of"):
        list(decode_frames(before + garbage))


@given(st.binary(max_size=200), st.sampled_from([0, BIG]))
def test_random_bytes_are_frames_or_a_protocol_error(data: bytes, padding: int) -> None:
    message = data + (chunk_header(1, False, padding) + bytes(padding) if padding else b"")
    try:
        frames = list(decode_frames(message))
    except ProtocolError:
        return
    expected = [ChunkFrame(f.id, f.reply, memoryview(f.chunk.data)) if f.HasField("chunk") else f
                for f in Frames.FromString(message).frames]  # fmt: skip
    assert frames == expected


# ---- refusals


@pytest.mark.parametrize(
    ("reason", "code", "error"),
    [
        ("OBJECT_NOT_FOUND", 5, ObjectNotFound),
        ("MEMBER_NOT_FOUND", 12, AttributeError),
        ("UNSUPPORTED_OPERATION", 12, TypeError),
        ("WRONG_ARGUMENTS", 3, TypeError),
        ("CODEC", 3, CodecError),
        ("CODEC_NOT_ACCEPTED", 3, CodecError),
        ("RESULT_NOT_ENCODABLE", 13, CodecError),
        ("MESSAGE_TOO_LARGE", 8, MessageTooLargeError),
        ("OVERLOADED", 8, Overloaded),
        ("TOO_DEEP", 9, BrokerError),
        ("ACCESS_DENIED", 7, AccessDenied),
        ("DRAINING", 14, CommunicationError),
        ("CANCELLED", 1, CommunicationError),
        ("DEADLINE_EXCEEDED", 4, CallTimeout),
        ("UNIMPLEMENTED", 12, ProtocolError),
        ("INTERNAL", 13, BrokerError),
        ("OF_A_LATER_VERSION", 2, BrokerError),
    ],
)
def test_the_table_of_refusals_is_frozen(reason: str, code: int, error: type[Exception]) -> None:
    refused = Refused.from_wire(Refused(reason, "why").to_wire())
    assert (refused.code, refused.to_wire().reason) == (code, reason)
    raised = refused.to_error(may_have_run=False)
    assert type(raised) is error
    assert str(raised) == "why"
    assert not getattr(raised, "may_have_run", False)


def test_the_table_of_refusals_is_complete() -> None:
    assert len(Reason) == 17


def test_any_text_fits_into_a_refusal() -> None:
    assert Refused(Reason.CODEC, "lone \ud800").to_wire().message == "lone \\ud800"
    assert len(Refused(Reason.CODEC, "x" * 10**6).to_wire().message) < 5000


# ---- the page that freezes all this


def test_the_page_has_every_frame_and_every_reason() -> None:
    page = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
    for reason in Reason:
        assert f"| `{reason}` | {Refused(reason, '').code} " in page
    table = page.partition("### Frames\n")[2].partition("\n## ")[0]
    for kind, field in Frame.DESCRIPTOR.fields_by_name.items():
        if field.containing_oneof is not None:
            assert kind in table.lower(), kind
    for field in (*Hello.DESCRIPTOR.fields, *Call.DESCRIPTOR.fields, *Result.DESCRIPTOR.fields):
        assert f"`{field.name}`" in page, field.name
