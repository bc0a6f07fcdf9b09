"""Every kind of frame at a time when it must not come: each ends its connection with the reason, and no other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

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
    GoAway,
    Item,
    Open,
    Opened,
    Ping,
    Reference,
    Refusal,
    Release,
    Result,
)
from broker.codecs import PlainEdge
from broker.connection.engine import Connection, Settings
from broker.connection.frames import ChunkFrame
from broker.connection.refusals import Reason, Refused
from tests.connection.conftest import Pair, Recorder, answer, call_frame, frames_of, hello, make_call, message, request

EDGE = PlainEdge()
TEXT = Encoded(codec="json", payload=b"1")
BIG = Encoded(codec="json", sizes=[200_000])
MOST = {32: 2**32 - 1, 64: 2**64 - 1}

# One frame of each kind, as it may come about call 1; those that are answers come as replies.
REQUESTS: dict[str, dict[str, Any]] = {
    "hello": {"hello": hello()},
    "welcome": {"welcome": hello()},
    "open": {"open": Open()},
    "close": {"close": Close()},
    "call": {"call": call_frame(1).call},
    "cancel": {"cancel": Cancel(reason="enough")},
    "credit": {"credit": Credit(calls=1)},
    "credit for chunks": {"credit": Credit(bytes=1)},
    "credit for items": {"credit": Credit(items=1, taken=1)},
    "chunk": {"chunk": Chunk(data=b"abc")},
    "release": {"release": Release(count=1)},
    "ping": {"ping": Ping(nonce=1)},
    "pong": {"pong": Ping(nonce=1)},
    "goaway": {"goaway": GoAway(last_call=1)},
}
ANSWERS: dict[str, dict[str, Any]] = {
    "opened": {"opened": Opened()},
    "result": {"result": Result(value=TEXT)},
    "failed": {"result": Result(failed=Refusal(reason="INTERNAL"))},
    "big result": {"result": Result(value=BIG)},
    "stream": {"result": Result(stream=True)},
    "refused": {"refused": Refusal(reason="CODEC")},
    "item": {"item": Item(value=TEXT)},
    "end": {"end": End()},
}
KINDS = {**REQUESTS, **ANSWERS}


def frame(name: str, number: int = 1, **changes: Any) -> Frame:
    about_none = name in ("hello", "welcome", "ping", "pong", "goaway", "credit")
    known: dict[str, Any] = {"id": 0 if about_none else number, "reply": name in ANSWERS}
    return Frame(**{**known, **changes}, **KINDS[name])


def test_every_kind_of_frame_is_here() -> None:
    kinds = {field.name for field in Frame.DESCRIPTOR.oneofs_by_name["kind"].fields}
    assert {frame(name).WhichOneof("kind") for name in KINDS} == kinds


def connection(accepts: bool, *, introduced: bool = True, **settings: Any) -> tuple[Connection, Recorder]:
    """One end, whose other end is written by hand."""
    recorder = Recorder()
    found = Connection(Settings(**settings), recorder, accepts=accepts, peer_name="the peer")
    if introduced:
        kind: Any = {"hello" if accepts else "welcome": hello(item_credit=4, features=["exports", "batches"])}
        found.receive(message(Frame(**kind)))
        frames_of(found)
    return found, recorder


@pytest.fixture
def client() -> Connection:
    """A client that has made call 1, which has not been answered."""
    found, _ = connection(accepts=False)
    found.call(request(on_outcome=lambda outcome: None))
    frames_of(found)
    return found


@pytest.fixture(autouse=True)
def bystander(pair: Pair) -> Iterator[Pair]:
    """Two ends of the same process that go on, whatever is done to others."""
    before = make_call(pair.client)
    yield pair
    after = make_call(pair.client)
    pair.settle()
    for arrived in pair.served.calls:
        answer(arrived)
    pair.settle()
    for call in (before, after):
        outcome = call.wait(time.monotonic() + 10)
        assert outcome is not None
        assert outcome.value is not None
    assert (pair.client.ended_because, pair.server.ended_because) == (None, None)


def ended(found: Connection, reason: str) -> None:
    """The connection has ended with that reason, which is the last that it says, and takes nothing in any more."""
    assert found.ended_because is not None
    assert reason in found.ended_because
    *_, last = frames_of(found)
    assert isinstance(last, Frame)
    assert last.goaway.protocol_error
    assert reason in last.goaway.reason
    assert found.next_message() is None
    for name in KINDS:
        found.receive(message(frame(name)))
    found.receive(b"no frames at all")
    assert frames_of(found) == []
    assert not found.busy


# ---- before the introduction, and in place of it


@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("hello", "welcome", "goaway")])
def test_nothing_comes_before_the_introduction(name: str, accepts: bool) -> None:
    found, recorder = connection(accepts, introduced=False)
    frames_of(found)
    found.receive(message(frame(name)))
    ended(found, f"the first frame was {frame(name).WhichOneof('kind')}, not the introduction")
    assert recorder.calls == []


@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("name", ["hello", "welcome"])
def test_each_side_introduces_itself_once_and_as_what_it_is(accepts: bool, name: str) -> None:
    found, _ = connection(accepts)
    found.receive(message(frame(name)))
    ended(found, "a second introduction, or the introduction of the wrong side")
    wrong, _ = connection(accepts, introduced=False)
    frames_of(wrong)
    wrong.receive(message(frame("welcome" if accepts else "hello")))
    ended(wrong, "a second introduction, or the introduction of the wrong side")


# ---- numbers that were never given

NEVER_MADE: dict[str, str] = {
    "cancel": "call 7 was cancelled and was never made",
    "credit for chunks": "credit for call 7 arrived, which was never made",
    "credit for items": "credit for items of call 7 arrived, which was never made",
    "chunk": "a chunk for call 7 arrived, which was never made",
    "release": "1 references to export 7 were released, and 0 were given",
    "opened": "a frame arrived that this version does not know (opened)",
    "result": "an answer to call 7 arrived, which is not open",
    "failed": "an answer to call 7 arrived, which is not open",
    "big result": "an answer to call 7 arrived, which is not open",
    "stream": "an answer to call 7 arrived, which is not open",
    "refused": "an answer to call 7 arrived, which is not open",
    "item": "a part of a stream arrived for call 7, which is no open stream",
    "end": "a part of a stream arrived for call 7, which is no open stream",
}
OF_NO_NUMBER = {"hello", "welcome", "open", "close", "call", "credit", "ping", "pong", "goaway"}


def test_every_kind_that_has_a_number_is_tried_with_an_unknown_one() -> None:
    assert NEVER_MADE.keys() | OF_NO_NUMBER == KINDS.keys()


@pytest.mark.parametrize("name", NEVER_MADE)
def test_a_number_that_was_never_given(client: Connection, name: str) -> None:
    for found in (client, connection(accepts=True)[0], connection(accepts=False)[0]):
        found.receive(message(frame(name, 7)))
        ended(found, NEVER_MADE[name])


@pytest.mark.parametrize("name", ["chunk", "credit for chunks"])
def test_a_number_of_the_other_direction(client: Connection, name: str) -> None:
    """Call 1 was made by this side: what is said about one of the other side, or of its own answer, is not that."""
    client.receive(message(frame(name, 1, reply=False)))
    ended(client, "call 1 arrived, which was never made")


@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "opened"])
def test_an_answer_that_is_none(client: Connection, name: str) -> None:
    client.receive(message(frame(name, 1, reply=False)))
    assert client.ended_because is not None
    assert "the peer broke the protocol: " in client.ended_because


@pytest.mark.parametrize("number", [0, MOST[32], MOST[64]])
@pytest.mark.parametrize("name", NEVER_MADE)
def test_numbers_at_the_edge(client: Connection, name: str, number: int) -> None:
    client.receive(message(frame(name, number)))
    assert client.ended_because is not None
    assert "the peer broke the protocol: " in client.ended_because


# ---- doubled replies

ENDINGS: dict[str, list[str]] = {
    "result": ["result"],
    "failed": ["failed"],
    "refused": ["refused"],
    "stream": ["stream", "end"],
    "big result": ["big result"],  # its chunks are still to come
}


@pytest.mark.parametrize("second", [name for name in ANSWERS if name != "opened"])
@pytest.mark.parametrize("first", ENDINGS)
def test_a_call_is_answered_once(first: str, second: str) -> None:
    outcomes: list[Any] = []
    found, _ = connection(accepts=False)
    found.call(request(on_outcome=outcomes.append))
    frames_of(found)
    found.receive(message(*(frame(name) for name in ENDINGS[first]), frame(second)))
    what = "a part of a stream arrived for call 1" if second in ("item", "end") else "an answer to call 1 arrived"
    ended(found, what)
    assert len(outcomes) == 1


def test_an_answer_to_a_call_that_expects_none() -> None:
    found, _ = connection(accepts=False)
    found.call(request(oneway=True))
    frames_of(found)
    found.receive(message(frame("result")))
    ended(found, "an answer to call 1 arrived, which is not open")


# ---- credit that was not given, and more than can be


def test_call_credit_beyond_all_numbers(client: Connection) -> None:
    client.receive(message(Frame(credit=Credit(calls=MOST[32]))))
    ended(client, "more call credit came back than was spent")


def test_credit_for_what_is_not_sent_is_passed_over(client: Connection) -> None:
    """It may have been on its way when the value was given up."""
    client.receive(message(Frame(id=1, reply=True, credit=Credit(bytes=MOST[64]))))
    assert client.ended_because is None


def test_chunk_credit_without_end_sends_a_value_once() -> None:
    found, _ = connection(accepts=False)
    found.call(request(payload=bytes(6 << 20), on_outcome=lambda outcome: None))
    for _ in range(3):
        found.receive(message(Frame(id=1, reply=True, credit=Credit(bytes=MOST[64]))))
    chunks = [each for each in frames_of(found) if isinstance(each, ChunkFrame)]
    assert sum(chunk.data.nbytes for chunk in chunks) == 6 << 20
    assert found.ended_because is None


def test_item_credit_without_end_sends_what_there_is() -> None:
    found, recorder = connection(accepts=True)
    found.receive(message(call_frame(1, arguments=TEXT)))
    sender = recorder.calls[0].answer_stream(kept=False, metadata={})
    for _ in range(3):
        found.receive(message(Frame(id=1, credit=Credit(items=MOST[32], taken=MOST[32]))))
    for number in range(10):
        sender.put(number, EDGE)
    assert found.ended_because is None
    items = [each.item.count or 1 for each in frames_of(found) if isinstance(each, Frame) and each.HasField("item")]
    assert sum(items) == 10


@pytest.mark.parametrize("calls", [5, 100])
def test_calls_beyond_the_credit(calls: int) -> None:
    found, recorder = connection(accepts=True, call_credit=4)
    batch = Batch(members=["a"], calls=[0])
    frames = [call_frame(n, kind=Call.BATCH, batch=batch, oneway=n % 2 == 0) for n in range(1, calls + 1)]
    found.receive(message(*frames))
    ended(found, "call 5 arrived without credit")
    assert len(recorder.calls) == 4
    assert all(call.is_cancelled for call in recorder.calls)


@pytest.mark.parametrize("too_many", [1, MOST[32]])
def test_items_beyond_the_credit(too_many: int) -> None:
    outcomes: list[Any] = []  # who holds the stream
    found, _ = connection(accepts=False)
    found.call(request(on_outcome=outcomes.append))
    frames_of(found)
    granted = found.settings.item_credit
    found.receive(message(frame("stream"), Frame(id=1, reply=True, item=Item(value=TEXT, count=granted))))
    assert found.ended_because is None
    found.receive(message(Frame(id=1, reply=True, item=Item(value=TEXT, count=too_many))))
    ended(found, "an item of call 1 arrived without credit")


def test_more_chunks_than_the_credit() -> None:
    found, recorder = connection(accepts=True, chunk_credit=1 << 20)
    big = call_frame(1, arguments=Encoded(codec="json", sizes=[8 << 20]))
    found.receive(message(big, *(Frame(id=1, chunk=Chunk(data=bytes(1 << 19))) for _ in range(2))))
    assert found.ended_because is None
    found.receive(message(Frame(id=1, chunk=Chunk(data=bytes((1 << 20) + 1)))))
    ended(found, "beyond the credit or the size of its value")
    assert recorder.calls == []


@pytest.mark.parametrize("count", [0, 2, MOST[64]])
def test_more_released_than_was_given(count: int) -> None:
    found, _ = connection(accepts=True)
    found.receive(message(Frame(id=1, release=Release(count=count))))
    ended(found, f"{count} references to export 1 were released")


# ---- after the end of what it is about


@pytest.mark.parametrize("name", ["cancel", "chunk", "credit for chunks", "credit for items"])
def test_what_may_have_crossed_the_answer_is_no_error(name: str) -> None:
    found, recorder = connection(accepts=True)
    found.receive(message(call_frame(1, arguments=TEXT)))
    answer(recorder.calls[0])
    found.receive(message(frame(name)))
    assert found.ended_because is None
    assert len(recorder.calls) == 1


def test_a_call_whose_number_was_used(client: Connection) -> None:
    found, recorder = connection(accepts=True)
    found.receive(message(call_frame(3, arguments=TEXT)))
    answer(recorder.calls[0])
    frames_of(found)
    found.receive(message(call_frame(3)))
    ended(found, "call 3 arrived after call 3: numbers only rise")


@pytest.mark.parametrize("name", KINDS)
def test_frames_after_a_goaway_of_this_side(name: str) -> None:
    """Calls are not taken any more, and not answered one by one; all else goes on."""
    found, recorder = connection(accepts=True)
    found.go_away("the daemon is shutting down")
    frames_of(found)
    found.receive(message(frame(name)))
    assert recorder.calls == []
    if name in ("call", "close", "ping", "pong", "goaway"):
        assert found.ended_because is None
        assert [each.WhichOneof("kind") for each in frames_of(found) if isinstance(each, Frame)] == (
            ["pong"] if name == "ping" else []
        )


@pytest.mark.parametrize("protocol_error", [False, True])
@pytest.mark.parametrize("last_call", [0, 1, 7, MOST[64]])
def test_a_goaway_that_claims_any_number(client: Connection, last_call: int, protocol_error: bool) -> None:
    words = Frame(goaway=GoAway(last_call=last_call, reason="so it is", protocol_error=protocol_error))
    client.receive(message(words, words))
    assert client.draining_because == "so it is"
    assert (client.ended_because is not None) == protocol_error
    assert client.busy == (last_call >= 1 and not protocol_error)
    assert not client.usable


# ---- answers that hold what they must not


def test_references_that_nobody_gave(client: Connection) -> None:
    """A reference to an object of this side that it never passed on is refused where it is read, and counts nothing."""
    value = Encoded(codec="json", payload=b"1", references=[Reference(number=5, returned=True)])
    client.receive(message(Frame(id=1, reply=True, result=Result(value=value))))
    assert client.ended_because is None
    assert client.exports.given == 0


def test_handlers_that_answer_twice_send_one_answer() -> None:
    found, recorder = connection(accepts=True)
    found.receive(message(call_frame(1, arguments=TEXT)))
    (call,) = recorder.calls
    again = Refused(Reason.INTERNAL, "again")
    for _ in range(2):
        answer(call)
        call.refuse(again)
        call.refuse(again, ran=True)
    kinds = [each.WhichOneof("kind") for each in frames_of(found) if isinstance(each, Frame)]
    assert kinds.count("result") + kinds.count("refused") == 1
