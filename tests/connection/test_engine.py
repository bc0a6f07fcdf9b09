"""The rules of a connection, frame by frame: what passes, what is refused, what ends it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
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
from broker.codecs import Encoded as Value
from broker.codecs import PlainEdge, bytes_of, view_of
from broker.connection import chains, engine, incoming
from broker.connection.calls import IncomingCall, Outcome
from broker.connection.engine import Connection, Settings
from broker.connection.frames import MESSAGE_LIMIT, ChunkFrame
from broker.connection.item_sender import ItemSender
from broker.connection.reading import decode_frames
from broker.connection.refusals import Reason, Refused
from broker.errors import CodecError, MessageTooLargeError
from tests.connection.conftest import (
    MakePair,
    Pair,
    Recorder,
    answer,
    both,
    call_frame,
    frames_of,
    hello,
    kinds_of,
    make_call,
    message,
    request,
)

MIB = 1 << 20
SOON = 40.0


def outcome(pending: Any, timeout: float = SOON) -> Outcome:
    found: Outcome | None = pending.wait(time.monotonic() + timeout)
    assert found is not None
    return found


def goodbye(connection: Connection) -> GoAway:
    """The last words: the only frame that is left to send."""
    (frame,) = frames_of(connection)
    assert isinstance(frame, Frame)
    assert frame.WhichOneof("kind") == "goaway"
    assert connection.next_message() is None  # and then the transport ends
    return frame.goaway


def introduced_server(**settings: Any) -> tuple[Connection, Recorder]:
    """A server end whose client is written by hand."""
    recorder = Recorder()
    server = Connection(Settings(**settings), recorder, accepts=True, peer_name="client")
    server.receive(message(Frame(hello=hello())))
    assert kinds_of(server) == ["welcome"]
    return server, recorder


def introduced_client(**welcome: Any) -> Connection:
    client = Connection(Settings(), Recorder(), accepts=False, peer_name="server")
    client.receive(message(Frame(welcome=hello(**welcome))))
    assert kinds_of(client) == ["hello"]
    return client


# ---- the introduction


def test_both_sides_introduce_themselves(make_pair: MakePair) -> None:
    pair = make_pair(server={"codecs": ("json", "pickle"), "call_credit": 7}, introduced=False)
    assert not pair.client.opened.is_set()
    assert pair.to_server() == 1
    assert pair.server.opened.is_set()
    assert pair.to_client() == 1
    assert pair.client.opened.is_set()
    assert pair.client.peer is not None
    assert list(pair.client.peer.codecs) == ["json", "pickle"]
    assert pair.client.peer.process_id == pair.server.settings.process_id
    assert (pair.client.usable, pair.client.busy) == (True, False)


def test_nothing_is_sent_before_welcome(make_pair: MakePair) -> None:
    pair = make_pair(server={"call_credit": 1}, introduced=False)
    calls = [make_call(pair.client, "first"), make_call(pair.client, "second")]
    nested = make_call(pair.client, "nested", nested=True)
    pair.client.close_session(3)
    assert not pair.client.ping(timeout=0.01)
    assert kinds_of(pair.client) == ["hello"]
    pair.server.receive(message(Frame(hello=pair.client.settings.to_wire())))
    pair.settle()
    # The nested call needs no credit, and of the others there is credit for one.
    assert [call.request.member for call in pair.served.calls] == ["nested", "first"]
    for call in (*calls, nested):
        call.cancel("over")


@pytest.mark.parametrize(
    "frame",
    [
        call_frame(1),
        Frame(id=1, cancel=Cancel()),
        Frame(id=1, reply=True, result=Result()),
        Frame(credit=Credit(calls=1)),
        Frame(id=1, chunk=Chunk(data=b"x")),
        Frame(id=1, close=Close()),
        Frame(ping=Ping()),
        Frame(welcome=hello()),
    ],
    ids=lambda frame: str(frame.WhichOneof("kind")),
)
def test_whoever_does_not_introduce_itself_first_is_shown_out(frame: Frame) -> None:
    recorder = Recorder()
    server = Connection(Settings(), recorder, accepts=True)
    server.receive(message(frame))
    assert goodbye(server).protocol_error
    assert recorder.ended == [server]
    assert recorder.calls == []


def test_a_second_introduction_ends_the_connection() -> None:
    server, _ = introduced_server()
    server.receive(message(Frame(hello=hello())))
    assert "a second introduction" in goodbye(server).reason


@pytest.mark.parametrize(("oldest", "newest"), [(2, 9), (0, 0)])
def test_another_version_is_named_on_both_sides(make_pair: MakePair, oldest: int, newest: int) -> None:
    pair = make_pair(introduced=False)
    frames_of(pair.client)
    pair.server.receive(message(Frame(hello=hello(oldest_version=oldest, newest_version=newest))))
    pair.to_client()
    assert pair.client.opened.is_set()
    assert pair.client.peer is None
    assert pair.client.ended_because == (
        f"server ended the connection: client speaks versions {oldest} to {newest} of the protocol and this side "
        "1 to 1: bring both to a common version of objectbroker"
    )


def test_a_later_version_that_still_speaks_ours_is_welcome() -> None:
    server = Connection(Settings(), Recorder(), accepts=True)
    server.receive(message(Frame(hello=hello(newest_version=9, features=["teleport"]))))
    assert kinds_of(server) == ["welcome"]


@pytest.mark.parametrize("lacking", ["call_credit", "chunk_credit", "chunk_size"])
def test_an_introduction_that_allows_nothing_is_refused(lacking: str) -> None:
    server = Connection(Settings(), Recorder(), accepts=True)
    server.receive(message(Frame(hello=hello(**{lacking: 0}))))
    assert goodbye(server).protocol_error


def test_a_daemon_that_is_closing_says_so_before_the_introduction(make_pair: MakePair) -> None:
    pair = make_pair(introduced=False)
    pair.server.close("it is shutting down")
    pair.start()
    assert pair.client.opened.wait(SOON)
    assert pair.client.draining_because == "it is shutting down"


# ---- calls and answers


def test_calls_go_both_ways(pair: Pair) -> None:
    there = make_call(pair.client, "there", b"[[1],{}]", session=4, lane=2, metadata={"a": "b", "c": b"\0"})
    back = make_call(pair.server, "back")
    pair.settle()
    (arrived,) = pair.served.calls
    asked = arrived.request
    assert (asked.object, asked.member, asked.session, asked.lane) == ("thing", "there", 4, 2)
    assert (asked.arguments.payload, dict(asked.metadata)) == (b"[[1],{}]", {"a": "b", "c": b"\0"})
    assert (asked.chain, asked.depth, asked.deadline) == (there.request.chain, 1, None)
    assert arrived.peer == "client"
    answer(arrived, b"1", kept=True, metadata={"d": "e"})
    answer(pair.called_back.calls[0], b"2", raised=True)
    pair.settle()
    found = outcome(there)
    assert found.value == Value("json", b"1", ())
    assert (found.kept, found.raised, dict(found.metadata)) == (True, False, {"d": "e"})
    assert outcome(back).raised
    assert not pair.client.busy
    assert not pair.server.busy


def test_answers_may_come_in_any_order(pair: Pair) -> None:
    calls = [make_call(pair.client) for _ in range(10)]
    pair.settle()
    for number, arrived in reversed(list(enumerate(pair.served.calls))):
        answer(arrived, b"%d" % number)
    pair.settle()
    assert [outcome(call).value for call in calls] == [Value("json", b"%d" % n, ()) for n in range(10)]


def test_all_that_is_ready_travels_in_one_message(pair: Pair) -> None:
    for _ in range(100):
        make_call(pair.client, oneway=True)
    assert pair.to_server() == 1
    assert len(pair.served.calls) == 100


def test_a_oneway_call_is_over_when_it_is_in_the_line(pair: Pair) -> None:
    call = make_call(pair.client, oneway=True)
    assert outcome(call) == Outcome()
    pair.settle()
    answer(pair.served.calls[0])
    pair.served.calls[0].refuse(Refused(Reason.INTERNAL, "no"))
    assert kinds_of(pair.server) == []  # nobody waits for an answer
    assert not pair.server.busy


def test_a_refusal_arrives_with_its_reason(pair: Pair) -> None:
    calls = [make_call(pair.client), make_call(pair.client)]
    pair.settle()
    pair.served.calls[0].refuse(Refused(Reason.OBJECT_NOT_FOUND, "no such thing"))
    pair.served.calls[1].refuse(Refused(Reason.RESULT_NOT_ENCODABLE, "a socket"), ran=True, kept=True)
    pair.settle()
    first, second = outcome(calls[0]), outcome(calls[1])
    assert (first.refused, first.may_have_run) == (Refused(Reason.OBJECT_NOT_FOUND, "no such thing"), False)
    assert (second.refused, second.may_have_run) == (Refused(Reason.RESULT_NOT_ENCODABLE, "a socket"), True)
    assert second.kept


def test_a_call_is_answered_once(pair: Pair) -> None:
    make_call(pair.client)
    pair.settle()
    arrived = pair.served.calls[0]
    answer(arrived)
    answer(arrived)
    arrived.refuse(Refused(Reason.INTERNAL, "again"))
    assert kinds_of(pair.server) == ["result"]


@pytest.mark.parametrize("metadata", [{"a": 1}, {1: "a"}, {"a": "\ud800"}])
def test_an_answer_that_cannot_be_written_can_still_be_a_refusal(pair: Pair, metadata: Any) -> None:
    call = make_call(pair.client)
    pair.settle()
    with pytest.raises(CodecError, match="the response metadata cannot be written"):
        answer(pair.served.calls[0], metadata=metadata)
    pair.served.calls[0].refuse(Refused(Reason.RESULT_NOT_ENCODABLE, "no"), ran=True)
    pair.settle()
    assert outcome(call).refused is not None


@pytest.mark.parametrize(
    "changes", [{"metadata": {"a": "\ud800"}}, {"metadata": {"a": 1}}, {"member": "\ud800"}, {"session": -1}]
)
def test_a_call_that_cannot_be_written_is_refused_where_it_is_made(pair: Pair, changes: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match="cannot be written"):
        make_call(pair.client, **changes)
    assert not pair.client.busy
    assert not chains._waiting


def test_a_description_is_answered_in_bytes(pair: Pair) -> None:
    call = make_call(pair.client)
    pair.settle()
    pair.served.calls[0].answer_bytes(b"described")
    pair.settle()
    assert outcome(call).value == Value("", b"described", ())


def test_sessions_are_closed_and_pings_answered(pair: Pair) -> None:
    pair.client.close_session(7)
    pair.settle()
    assert pair.served.closed_sessions == [7]
    pair.start()
    assert pair.client.ping(SOON)
    assert pair.server.ping(1e300)
    pair.client.lost("gone")
    assert not pair.client.ping(SOON)


def test_a_ping_that_nobody_answers(pair: Pair) -> None:
    assert not pair.client.ping(0.01)
    assert pair.client._pongs == {}


# ---- time


def test_the_time_of_a_call_runs_from_when_it_is_written(pair: Pair) -> None:
    call = make_call(pair.client, deadline=time.monotonic() + 100)
    time.sleep(0.05)
    (frame,) = frames_of(pair.client)
    assert isinstance(frame, Frame)
    assert 60_000_000 < frame.call.timeout_us < 99_950_000
    before = time.monotonic()
    pair.server.receive(message(frame))
    deadline = pair.served.calls[0].request.deadline
    assert deadline is not None
    assert 60 < deadline - before < 100
    call.cancel("over")


def test_a_time_that_is_over_is_not_negative(pair: Pair) -> None:
    make_call(pair.client, deadline=time.monotonic() - 5).cancel("over")
    call = make_call(pair.client, deadline=time.monotonic() - 5)
    (frame,) = frames_of(pair.client)
    assert isinstance(frame, Frame)
    assert frame.call.timeout_us == 1
    call.cancel("over")


def test_an_answer_after_the_deadline_does_not_count(pair: Pair) -> None:
    """A method that is told that its time is over may return at once, with what it has."""
    kept: list[bool] = []
    call = make_call(pair.client, deadline=time.monotonic() - 1, on_kept=lambda: kept.append(True))
    pair.settle()
    answer(pair.served.calls[0], b"1", kept=True)
    pair.settle()
    assert call.outcome is not None
    assert call.outcome.refused is not None
    assert call.outcome.refused.reason == "DEADLINE_EXCEEDED"
    assert call.outcome.may_have_run
    assert kept == [True]


@pytest.mark.parametrize("deadline", [1e12, 1e300, float("inf"), float("nan")])
def test_a_time_without_end_is_no_deadline(pair: Pair, deadline: float) -> None:
    call = make_call(pair.client, deadline=deadline)
    pair.settle()
    assert pair.served.calls[0].request.deadline is None
    answer(pair.served.calls[0])
    pair.settle()
    assert call.wait(deadline) is not None


@pytest.mark.parametrize("timeout_us", [2**63, 2**64 - 1])
def test_a_time_beyond_all_waiting_is_no_deadline(timeout_us: int) -> None:
    server, recorder = introduced_server()
    server.receive(message(call_frame(1, timeout_us=timeout_us)))
    assert recorder.calls[0].request.deadline is None


# ---- call credit


def test_calls_without_credit_wait_for_it(make_pair: MakePair) -> None:
    pair = make_pair(server={"call_credit": 4})
    calls = [make_call(pair.client, str(n), oneway=n % 2 == 1) for n in range(10)]
    pair.settle()
    assert [call.request.member for call in pair.served.calls] == ["0", "1", "2", "3"]
    assert calls[5].outcome is None  # a oneway call waits for room as well
    pair.served.calls[0].started()
    pair.settle()
    assert len(pair.served.calls) == 4  # credit goes back by halves
    pair.served.calls[2].started()
    pair.settle()
    assert [call.request.member for call in pair.served.calls[4:]] == ["4", "5"]
    assert outcome(calls[5]) == Outcome()
    for call in pair.served.calls:
        call.started()
    pair.settle()
    assert [call.request.member for call in pair.served.calls] == [str(n) for n in range(10)]
    for pending in calls:
        pending.cancel("over")


def test_with_a_credit_of_one_calls_go_one_by_one(make_pair: MakePair) -> None:
    pair = make_pair(server={"call_credit": 1})
    pair.served.on_call = answer
    calls = [make_call(pair.client) for _ in range(20)]
    pair.settle()
    assert all(outcome(call).value is not None for call in calls)


def test_a_nested_call_spends_no_credit(make_pair: MakePair) -> None:
    pair = make_pair(server={"call_credit": 1})
    outer = make_call(pair.client, "outer")
    parked = make_call(pair.client, "parked")
    nested = [make_call(pair.client, "nested", nested=True) for _ in range(5)]
    oneway = make_call(pair.client, "oneway", depth=2, oneway=True)  # nobody waits for it: it is not nested
    pair.settle()
    assert [call.request.member for call in pair.served.calls] == ["outer"] + ["nested"] * 5
    for arrived in pair.served.calls[1:]:
        answer(arrived)
    pair.settle()
    assert len(pair.served.calls) == 6  # nor gives any back
    assert all(outcome(call).value is not None for call in nested)
    for call in (outer, parked, oneway):
        call.cancel("over")


def test_overrunning_the_call_credit_ends_the_connection() -> None:
    server, recorder = introduced_server(call_credit=2)
    server.receive(message(*(call_frame(number) for number in (1, 2, 3))))
    assert goodbye(server) == GoAway(last_call=3, reason="call 3 arrived without credit", protocol_error=True)
    assert len(recorder.calls) == 2
    assert all(call.is_cancelled for call in recorder.calls)


def test_credit_that_was_not_spent_ends_the_connection() -> None:
    client = introduced_client(call_credit=4)
    client.receive(message(Frame(credit=Credit(calls=1))))
    assert "more call credit came back" in goodbye(client).reason


def test_too_many_nested_calls_are_refused(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    monkeypatch.setattr(incoming, "MAX_NESTED", 3)
    calls = [make_call(pair.client, nested=True) for _ in range(5)]
    pair.settle()
    assert [call.outcome is not None for call in calls] == [False, False, False, True, True]
    assert outcome(calls[4]).refused.reason == Reason.OVERLOADED  # type: ignore[union-attr]
    assert pair.served.refused == [Reason.OVERLOADED] * 2
    answer(pair.served.calls[0])
    pair.settle()
    make_call(pair.client, nested=True).cancel("over")
    for call in calls:
        call.cancel("over")
    assert pair.client.ended_because is None


# ---- cancelling


def test_a_call_that_waits_for_credit_is_not_sent_once_it_is_cancelled(make_pair: MakePair) -> None:
    pair = make_pair(server={"call_credit": 1})
    first, second, third = (make_call(pair.client, str(n)) for n in range(3))
    second.cancel("changed my mind")
    second.cancel("twice")
    first.cancel("over")  # in the line, and not taken: the third gets its credit
    pair.settle()
    assert [call.request.member for call in pair.served.calls] == ["2"]
    assert third.taken
    assert not first.taken
    third.cancel("over")


def test_a_call_that_is_in_the_line_is_not_sent_once_it_is_cancelled(pair: Pair) -> None:
    call = make_call(pair.client, payload=bytes(MIB))
    call.cancel("changed my mind")
    assert frames_of(pair.client) == []
    assert not pair.client.busy
    assert pair.client._line.outbox.bytes == 0


def test_a_call_that_was_sent_is_cancelled_there(pair: Pair) -> None:
    call = make_call(pair.client)
    pair.settle()
    arrived = pair.served.calls[0]
    reasons: list[str] = []
    arrived.on_cancel(reasons.append)
    call.cancel("no time")
    call.cancel("no time")
    pair.settle()
    assert reasons == ["no time"]
    assert arrived.is_cancelled
    arrived.on_cancel(reasons.append)  # late, and told at once
    assert reasons == ["no time", "no time"]
    busy = pair.client.busy
    assert busy  # it is answered all the same
    answer(arrived)
    pair.settle()
    assert not pair.client.busy
    assert pair.client.ended_because is None


def test_a_cancel_may_cross_the_answer(pair: Pair) -> None:
    call = make_call(pair.client)
    pair.to_server()
    answer(pair.served.calls[0])
    call.cancel("too slow")
    pair.settle()
    assert not pair.client.busy
    assert (pair.client.ended_because, pair.server.ended_because) == (None, None)


def test_cancel_of_a_call_that_was_never_made_ends_the_connection() -> None:
    server, _ = introduced_server()
    server.receive(message(Frame(id=1, cancel=Cancel())))
    assert goodbye(server).reason == "call 1 was cancelled and was never made"


def test_cancel_while_the_arguments_travel(pair: Pair) -> None:
    call = make_call(pair.client, payload=bytes(20 * MIB))
    first = pair.client.next_message(timeout=0)
    assert first is not None
    pair.server.receive(first)
    call.cancel("too big after all")
    assert pair.client._line.outbox.bytes < MIB
    pair.settle()
    assert pair.served.calls == []  # it was never handed on
    assert not pair.client.busy
    assert not pair.server.busy
    assert (len(pair.server._assemblies.arriving), pair.client._line.outbox.bytes) == (0, 0)
    assert pair.client.ended_because is None


def test_chunks_that_were_under_way_when_a_call_was_cancelled_are_passed_over(pair: Pair) -> None:
    call = make_call(pair.client, payload=bytes(3 * MIB))
    messages = [pair.client.next_message(timeout=0) for _ in range(2)]
    call.cancel("too big after all")
    cancel = pair.client.next_message(timeout=0)
    for sent in (messages[0], cancel, messages[1]):  # no order that this engine would send in
        assert sent is not None
        pair.server.receive(sent)
    pair.settle()
    assert pair.server.ended_because is None


@pytest.mark.parametrize("stage", ["before the answer", "answer in the line", "under way", "out of credit"])
def test_cancel_while_the_result_travels(make_pair: MakePair, stage: str) -> None:
    """Whenever it comes, neither side keeps anything of the value."""
    pair = make_pair(client={"chunk_credit": 2 * MIB})
    call = make_call(pair.client)
    pair.settle()
    arrived = pair.served.calls[0]
    if stage == "before the answer":
        call.cancel("over")
        pair.to_server()
    answer(arrived, bytes(20 * MIB))
    if stage == "under way":
        sent = pair.server.next_message(timeout=0)
        assert sent is not None
        pair.client.receive(sent)
    elif stage == "out of credit":
        pair.to_client()
    call.cancel("over")
    pair.settle()
    assert not pair.client.busy
    assert (len(pair.client._assemblies.arriving), pair.server._line.outbox.bytes) == (0, 0)
    assert pair.server._line.outbox.is_empty
    assert (pair.client.ended_because, pair.server.ended_because) == (None, None)
    later = make_call(pair.client)
    pair.settle()
    answer(pair.served.calls[1], bytes(MIB))
    pair.settle()
    assert outcome(later).value is not None


def test_room_that_a_cancelled_value_leaves_is_used(make_pair: MakePair) -> None:
    """Nothing else would wake what waits for room."""
    pair = make_pair(client={"outbox_limit": MIB}, server={"chunk_credit": MIB})
    big = make_call(pair.client, payload=bytes(5 * MIB))
    pair.client.next_message(timeout=0)
    pair.client.next_message(timeout=0)
    assert pair.client.congested
    ran: list[str] = []
    assert pair.client.when_uncongested(lambda: ran.append("stalled"))
    oneway = make_call(pair.client, "oneway", bytes(MIB), oneway=True)
    assert oneway.outcome is None
    big.cancel("over")
    assert ran == ["stalled"]
    assert outcome(oneway) == Outcome()


def test_a_session_is_told_that_it_is_kept_even_by_an_answer_that_nobody_waits_for(pair: Pair) -> None:
    told: list[bool] = []
    call = make_call(pair.client, on_kept=lambda: told.append(True))
    pair.settle()
    call.cancel("too slow")
    answer(pair.served.calls[0], kept=True)
    pair.settle()
    assert told == [True]


# ---- what the other side must not send


def protocol_errors() -> dict[str, tuple[list[Frame], str]]:
    call, done = call_frame(1), Frame(id=1, reply=True, result=Result(value=Encoded(codec="json", payload=b"1")))
    return {
        "a number twice": ([call, call_frame(1)], "call 1 arrived after call 1: numbers only rise"),
        "a number that falls": ([call_frame(5), call_frame(4)], "call 4 arrived after call 5"),
        "number 0": ([call_frame(0)], "call 0 arrived after call 0"),
        "a call as a reply": ([Frame(id=1, reply=True, call=call.call)], "call 1 is marked as an answer"),
        "nested and shallow": ([call_frame(1, nested=True)], "claims to be nested and is not"),
        "nested and oneway": ([call_frame(1, nested=True, depth=2, oneway=True)], "claims to be nested and is not"),
        "deep and not nested": ([call_frame(1, depth=2)], "is nested and does not say so"),
        "a short chain": ([call_frame(1, chain=b"abc")], "a chain has 16 bytes"),
        "a short correlation id": ([call_frame(1, correlation_id=b"abc")], "a correlation id has 16 bytes"),
        "an answer to nothing": ([done], "an answer to call 1 arrived, which is not open"),
        "a refusal of nothing": ([Frame(id=9, reply=True, refused=Refusal())], "an answer to call 9 arrived"),
        "a chunk of nothing": ([Frame(id=1, chunk=Chunk(data=b"x"))], "a chunk for call 1 arrived, which was never"),
        "a chunk of no answer": ([Frame(id=1, reply=True, chunk=Chunk(data=b"x"))], "a chunk for call 1 arrived"),
        "credit for nothing": ([Frame(id=3, credit=Credit(bytes=1))], "credit for call 3 arrived, which was never"),
        "too many chunks": (
            [
                call_frame(1, arguments=Encoded(codec="json", sizes=[3])),
                Frame(id=1, chunk=Chunk(data=b"ab")),
                Frame(id=1, chunk=Chunk(data=b"cd")),
            ],
            "beyond the credit or the size",
        ),
        "an empty chunk": (
            [call_frame(1, arguments=Encoded(codec="json", sizes=[3])), Frame(id=1, chunk=Chunk())],
            "a chunk of 0 bytes arrived",
        ),
        "too many buffers": (
            [call_frame(1, arguments=Encoded(codec="json", sizes=[0] * 65_537))],
            "a value with 65537 buffers arrived",
        ),
        "an unknown frame": ([Frame()], "a frame arrived that this version does not know"),
        "an unknown reply": ([Frame(id=4, reply=True)], "a frame arrived that this version does not know"),
        "a feature that was not named": ([Frame(id=4, open=Open(), reply=True)], "does not know (open)"),
    }


@pytest.mark.parametrize("name", protocol_errors())
def test_a_protocol_error_ends_the_connection_with_the_reason_and_no_other(name: str, pair: Pair) -> None:
    frames, reason = protocol_errors()[name]
    server, recorder = introduced_server()
    server.receive(message(*frames))
    assert server.ended_because is not None
    assert reason in server.ended_because
    assert recorder.ended == [server]
    words = goodbye(server)
    assert words.protocol_error
    assert reason in words.reason

    pair.client.receive(message(Frame(goaway=words)))  # and the one who did it is told
    assert pair.client.ended_because == f"server ended the connection: {words.reason}"
    server.receive(message(call_frame(9)))  # frames after the end
    assert [call.id for call in recorder.calls if call.id == 9] == []
    assert frames_of(server) == []
    assert pair.server.ended_because is None


def test_an_answer_twice_ends_the_connection(make_pair: MakePair) -> None:
    for double in (Frame(id=1, reply=True, result=Result()), Frame(id=1, reply=True, refused=Refusal())):
        client = introduced_client()
        call = make_call(client)
        frames_of(client)
        client.receive(message(Frame(id=1, reply=True, result=Result(value=Encoded(codec="json", payload=b"1")))))
        client.receive(message(double))
        assert outcome(call).value is not None
        assert "an answer to call 1 arrived, which is not open" in goodbye(client).reason


def test_an_answer_while_the_first_still_travels_ends_the_connection() -> None:
    client = introduced_client()
    call = make_call(client)
    frames_of(client)
    client.receive(message(Frame(id=1, reply=True, result=Result(value=Encoded(codec="json", sizes=[10])))))
    client.receive(message(Frame(id=1, reply=True, refused=Refusal())))
    assert outcome(call).lost is not None
    assert "which is not open" in goodbye(client).reason


def test_an_answer_to_a_call_that_was_not_sent_ends_the_connection() -> None:
    client = introduced_client()
    call = make_call(client)
    client.receive(message(Frame(id=1, reply=True, result=Result())))
    assert outcome(call) == Outcome(lost=client.ended_because, may_have_run=False)


def test_a_message_over_the_limit_ends_the_connection() -> None:
    server, _ = introduced_server()
    server.receive(bytes(MESSAGE_LIMIT + 1))
    assert goodbye(server).reason == f"a message of {MESSAGE_LIMIT + 1} bytes arrived; {MESSAGE_LIMIT} is the limit"


def test_garbage_ends_the_connection() -> None:
    server, _ = introduced_server()
    server.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert "not made of frames" in goodbye(server).reason


def test_who_asks_for_more_than_it_takes_in_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_QUEUED_FRAMES", 100)
    server, _ = introduced_server()
    server.receive(message(*(Frame(ping=Ping(nonce=n)) for n in range(100))))
    assert server.ended_because is None
    server.receive(message(Frame(ping=Ping())))
    assert goodbye(server).reason == "more than 100 frames wait to be taken in"


def test_a_fault_of_ours_ends_the_connection_too(caplog: pytest.LogCaptureFixture) -> None:
    server, recorder = introduced_server()

    def fail(call: IncomingCall) -> None:
        raise ZeroDivisionError("a fault")

    recorder.on_call = fail
    server.receive(message(call_frame(1)))
    words = goodbye(server)
    assert (words.reason, words.protocol_error) == ("an internal error ended the connection (ZeroDivisionError)", False)
    assert recorder.ended == [server]


def test_an_unknown_frame_that_is_optional_is_passed_over() -> None:
    server, _ = introduced_server()
    server.receive(message(Frame(optional=True), Frame(id=1, optional=True), Frame(optional=True, opened=Opened())))
    assert server.ended_because is None
    assert kinds_of(server) == []


@pytest.mark.parametrize("frame", [Frame(id=1), Frame(id=1, open=Open())])
def test_an_unknown_frame_with_a_number_is_refused(frame: Frame) -> None:
    server, _ = introduced_server()
    server.receive(message(frame))
    (refused,) = frames_of(server)
    assert isinstance(refused, Frame)
    assert (refused.id, refused.reply, refused.refused.reason) == (1, True, "UNIMPLEMENTED")
    assert server.ended_because is None


def test_a_call_without_a_chain_begins_one() -> None:
    server, recorder = introduced_server()
    server.receive(message(call_frame(1, chain=b"", depth=0), call_frame(2, chain=b"")))
    first, second = recorder.calls
    assert len(first.request.chain) == len(second.request.chain) == 16
    assert first.request.chain != second.request.chain
    assert first.request.depth == 1


# ---- going away


def test_calls_above_the_last_one_were_surely_not_executed(pair: Pair) -> None:
    before = make_call(pair.client, "before")
    pair.settle()
    pair.server.go_away("the daemon is shutting down")
    crossing = [make_call(pair.client, "crossing"), make_call(pair.client, "crossing", bytes(8 * MIB))]
    pair.to_server()
    pair.settle()
    for call in crossing:
        assert outcome(call) == Outcome(lost="the daemon is shutting down", may_have_run=False)
        assert call.taken
    assert [call.request.member for call in pair.served.calls] == ["before"]
    assert before.outcome is None  # it goes on
    assert (pair.client.usable, pair.client.ended_because) == (False, None)
    later = make_call(pair.client)
    assert outcome(later) == Outcome(lost="the daemon is shutting down", may_have_run=False)
    answer(pair.served.calls[0], b"1")
    pair.settle()
    assert outcome(before).value is not None
    assert (pair.client.ended_because, pair.server.ended_because) == (None, None)
    assert pair.client._line.outbox.is_empty


def test_a_crossing_call_may_be_cancelled(pair: Pair) -> None:
    pair.server.go_away("the daemon is shutting down")
    crossing = make_call(pair.client)
    pair.to_server()
    crossing.cancel("no time")
    pair.settle()
    assert (pair.client.ended_because, pair.server.ended_because) == (None, None)
    assert not pair.client.busy


def test_nested_calls_go_through_a_side_that_drains_until_it_closes(pair: Pair) -> None:
    before = make_call(pair.client, "before", nested=True)
    pair.settle()
    pair.server.go_away("the daemon is shutting down", takes_nested=True)
    crossing = make_call(pair.client, "crossing", nested=True)
    root = make_call(pair.client, "root")
    make_call(pair.client, "oneway", depth=2, oneway=True)
    pair.to_server()
    pair.settle()
    assert outcome(root) == Outcome(lost="the daemon is shutting down", may_have_run=False)
    after = make_call(pair.client, "after", bytes(3 * MIB), nested=True)
    pair.settle()
    assert [call.request.member for call in pair.served.calls] == ["before", "crossing", "after"]
    for call in pair.served.calls[:2]:
        answer(call)
    pair.settle()
    assert [call.outcome is not None for call in (before, crossing, after)] == [True, True, False]
    assert (pair.client.usable, pair.client.takes_nested) == (False, True)
    pair.server.close("over")
    late = make_call(pair.client, "late", nested=True)
    pair.to_server()
    pair.settle()
    assert outcome(late) == Outcome(lost="over", may_have_run=False)
    assert outcome(make_call(pair.client, nested=True)) == Outcome(lost="over", may_have_run=False)
    assert (after.outcome, len(pair.served.calls)) == (None, 3)  # it is still carried out
    assert (pair.client.takes_nested, pair.client.ended_because) == (False, None)
    after.cancel("the test is over")


def test_a_side_that_does_not_know_of_draining_makes_no_calls_then() -> None:
    server, served = introduced_server()
    server.go_away("over", takes_nested=True)
    assert frames_of(server) == [Frame(goaway=GoAway(last_call=0, reason="over"))]
    server.receive(message(call_frame(1, depth=2, nested=True)))
    assert (served.calls, server.ended_because) == ([], None)
    server.close("over")
    assert frames_of(server) == []


def test_going_away_gives_up_what_was_not_sent(make_pair: MakePair) -> None:
    pair = make_pair(server={"call_credit": 2})
    sent = make_call(pair.client)
    pair.settle()
    unsent, parked = make_call(pair.client), make_call(pair.client)
    unsent_oneway = make_call(pair.client, oneway=True)
    pair.server.go_away("over")
    pair.to_client()
    assert outcome(unsent) == outcome(parked) == outcome(unsent_oneway) == Outcome(lost="over", may_have_run=False)
    assert frames_of(pair.client) == []
    sent.cancel("over")


def test_a_refusal_of_a_draining_daemon_counts_as_not_executed(pair: Pair) -> None:
    call = make_call(pair.client)
    pair.settle()
    pair.served.calls[0].refuse(Refused(Reason.DRAINING, "it is shutting down"))
    pair.settle()
    assert outcome(call) == Outcome(lost="it is shutting down", may_have_run=False)


def test_the_side_that_goes_away_may_still_call(pair: Pair) -> None:
    pair.server.go_away("over")
    call = make_call(pair.server)
    pair.settle()
    answer(pair.called_back.calls[0])
    pair.settle()
    assert outcome(call).value is not None


def test_the_last_words_of_a_protocol_error_say_what_was_not_executed() -> None:
    client = introduced_client()
    first, second = make_call(client), make_call(client)
    frames_of(client)
    client.receive(message(Frame(goaway=GoAway(last_call=1, reason="nonsense", protocol_error=True))))
    assert outcome(first) == Outcome(lost="server ended the connection: nonsense", may_have_run=True)
    assert outcome(second) == Outcome(lost="nonsense", may_have_run=False)


def test_close_still_sends_what_is_queued(make_pair: MakePair) -> None:
    """Big values included, although they wait for credit."""
    pair = make_pair(client={"chunk_credit": 2 * MIB})
    small, big = make_call(pair.client), make_call(pair.client)
    pair.settle()
    answer(pair.served.calls[0], b"1")
    answer(pair.served.calls[1], bytes(20 * MIB))
    pair.server.close("over")
    assert not pair.server.usable
    pair.start()
    assert outcome(small).value is not None
    found = outcome(big).value
    assert found is not None
    assert found.size == 20 * MIB
    while pair.client.ended_because is None:
        pair.client.opened.wait(0.001)
    assert pair.client.draining_because == "over"


def test_a_call_on_a_closed_connection_was_not_executed(pair: Pair) -> None:
    pair.client.close("nobody uses it")
    found = outcome(make_call(pair.client))
    assert found == Outcome(lost="the connection to server is closed", may_have_run=False)
    assert not chains._waiting


# ---- loss


def test_what_was_never_taken_was_surely_not_executed(make_pair: MakePair) -> None:
    pair = make_pair(server={"call_credit": 2})
    taken = make_call(pair.client)
    assert pair.client.next_message(timeout=0) is not None  # it may or may not arrive
    queued, parked, parked_oneway = (make_call(pair.client, oneway=n == 2) for n in range(3))
    pair.client.lost("the line is cut")
    assert outcome(taken) == Outcome(lost="the line is cut", may_have_run=True)
    for call in (queued, parked, parked_oneway):
        assert outcome(call) == Outcome(lost="the line is cut", may_have_run=False)
    assert outcome(make_call(pair.client)) == Outcome(lost="the line is cut", may_have_run=False)
    assert pair.called_back.ended == [pair.client]
    pair.client.lost("twice")
    assert pair.called_back.ended == [pair.client]
    assert pair.client.ended_because == "the line is cut"
    assert pair.client.next_message() is None


def test_what_the_lost_side_had_asked_for_is_cancelled(pair: Pair) -> None:
    for _ in range(3):
        make_call(pair.client, chain=bytes(range(16))).cancel("over")
        make_call(pair.client)
    pair.settle()
    reasons: list[str] = []
    for call in pair.served.calls:
        call.on_cancel(reasons.append)
    pair.server.lost("the client is gone")
    assert reasons == ["the client is gone"] * 3
    answer(pair.served.calls[0])  # too late, and harmless
    assert not pair.server.busy
    assert frames_of(pair.server) == []
    pair.client.lost("over")


def test_a_call_that_arrives_as_the_connection_is_lost_is_not_kept(pair: Pair) -> None:
    pair.server.lost("gone")
    pair.server.receive(message(call_frame(1)))
    assert not pair.server.busy
    assert pair.served.calls == []


def test_calls_and_loss_at_the_same_time_leave_nothing_behind(make_pair: MakePair) -> None:
    for _ in range(30):
        pair = make_pair(server={"call_credit": 2})
        outcomes: list[Outcome | None] = []

        def caller(pair: Pair = pair, outcomes: list[Outcome | None] = outcomes) -> None:
            while pair.client.ended_because is None:
                call = make_call(pair.client)
                if len(outcomes) % 3 == 0:
                    call.cancel("over")
                else:
                    outcomes.append(call.wait(time.monotonic() + SOON))

        pair.served.on_call = answer
        threads = [threading.Thread(target=caller) for _ in range(3)]
        for thread in threads:
            thread.start()
        pair.start()
        time.sleep(0.003)
        pair.client.lost("cut")
        for thread in threads:
            thread.join(SOON)
            assert not thread.is_alive()
        assert all(outcome is not None for outcome in outcomes)
        assert not pair.client.busy
    assert not chains._waiting


# ---- big values


def test_big_values_travel_in_chunks_both_ways(pair: Pair) -> None:
    pair.start()
    payload, buffers = bytes(range(256)) * 40_000, (b"", bytes(3 * MIB + 1), bytearray(b"abc"))
    pair.served.on_call = lambda call: call.reply(call.request.arguments, False, False, {})
    call = pair.client.call(request(payload=payload))
    found = outcome(call).value
    assert found is not None
    assert bytes(found.payload) == payload
    asked = request()
    asked.arguments = Value("pickle", payload, buffers)
    found = outcome(pair.client.call(asked)).value
    assert found is not None
    assert found.codec == "pickle"
    assert [bytes_of(part) for part in (found.payload, *found.buffers)] == [payload, *map(bytes, buffers)]
    assert not view_of(found.buffers[1]).readonly  # an array that is made of it can be written to


def test_small_calls_overtake_a_big_one(pair: Pair) -> None:
    big = make_call(pair.client, "big", bytes(64 * MIB))
    first = pair.client.next_message(timeout=0)
    assert first is not None
    pair.server.receive(first)
    small = make_call(pair.client, "small")
    second = pair.client.next_message(timeout=0)
    assert second is not None
    pair.server.receive(second)
    assert [call.request.member for call in pair.served.calls] == ["small"]
    answer(pair.served.calls[0])
    pair.to_client()
    assert outcome(small).value is not None
    assert big.outcome is None
    pair.settle()
    assert [call.request.arguments.size for call in pair.served.calls] == [7, 64 * MIB]
    answer(pair.served.calls[1], bytes(64 * MIB))
    small = make_call(pair.client, "small")
    pair.to_server()
    answer(pair.served.calls[2])
    third = pair.server.next_message(timeout=0)
    assert third is not None
    pair.client.receive(third)
    assert outcome(small).value is not None
    pair.settle()
    found = outcome(big).value
    assert found is not None
    assert found.size == 64 * MIB


def test_no_more_is_under_way_than_the_credit(make_pair: MakePair) -> None:
    pair = make_pair(server={"chunk_credit": 3 * MIB})
    make_call(pair.client, payload=bytes(30 * MIB))
    chunks = [frame for frame in frames_of(pair.client) if isinstance(frame, ChunkFrame)]
    assert sum(chunk.data.nbytes for chunk in chunks) == 3 * MIB
    assert pair.client.next_message(timeout=0) is None


def test_the_other_side_may_want_smaller_chunks() -> None:
    client = introduced_client(chunk_size=1000, chunk_credit=2500)
    call = make_call(client, payload=bytes(200_000))
    sizes = [frame.data.nbytes for frame in frames_of(client) if isinstance(frame, ChunkFrame)]
    assert sizes == [1000, 1000, 500]
    call.cancel("over")


def test_overrunning_the_chunk_credit_ends_the_connection() -> None:
    server, _ = introduced_server(chunk_credit=2 * MIB)
    server.receive(message(call_frame(1, arguments=Encoded(codec="json", sizes=[20 * MIB]))))
    for _ in range(2):
        server.receive(message(Frame(id=1, chunk=Chunk(data=bytes(MIB)))))
    # Credit came back by then, a megabyte for each; a third of three is too much.
    server.receive(message(Frame(id=1, chunk=Chunk(data=bytes(3 * MIB)))))
    assert "beyond the credit or the size" in (server.ended_because or "")


def test_what_is_claimed_takes_no_memory() -> None:
    server, _ = introduced_server(call_credit=1024)
    for number in range(1, 1025):
        server.receive(message(call_frame(number, arguments=Encoded(codec="json", sizes=[1 << 30]))))
    (assembly, _), *_ = server._assemblies.arriving.values()
    assert assembly._part.getbuffer().nbytes == 0
    assert server.ended_because is None


def test_a_value_of_no_bytes_in_chunks_is_there_at_once() -> None:
    server, recorder = introduced_server()
    server.receive(message(call_frame(1, arguments=Encoded(codec="json", sizes=[0, 0]))))
    arguments = recorder.calls[0].request.arguments
    assert (arguments.payload, [*map(bytes_of, arguments.buffers)]) == (b"", [b""])


def test_the_result_is_what_it_was_when_it_was_given(pair: Pair) -> None:
    call = make_call(pair.client)
    pair.settle()
    array = bytearray(4 * MIB)
    pair.served.calls[0].reply(Value("json", b"{}", (memoryview(array),)), False, False, {})
    array[:] = b"\xff" * len(array)
    pair.settle()
    found = outcome(call).value
    assert found is not None
    assert not any(bytes_of(found.buffers[0]))


def test_a_refusal_stops_the_arguments(make_pair: MakePair) -> None:
    pair = make_pair(server={"chunk_credit": MIB})
    call = make_call(pair.client, payload=bytes(20 * MIB))
    frames_of(pair.client)
    pair.client.receive(message(Frame(id=1, reply=True, refused=Refusal(reason="OVERLOADED"))))
    assert outcome(call).refused is not None
    assert pair.client._line.outbox.is_empty
    assert pair.client._line.outbox.bytes == 0


# ---- sizes


def test_arguments_that_are_too_large_are_refused_where_they_are(make_pair: MakePair) -> None:
    pair = make_pair(server={"max_message_size": 1000})
    with pytest.raises(MessageTooLargeError, match="the arguments take 1001 bytes and server accepts at most 1000"):
        make_call(pair.client, payload=bytes(1001))
    call = make_call(pair.client, payload=bytes(1000))
    pair.settle()
    answer(pair.served.calls[0])
    pair.settle()
    assert outcome(call).value is not None


@pytest.mark.parametrize("arguments", [Encoded(payload=bytes(1001)), Encoded(sizes=[500, 501]), Encoded(sizes=[2**63])])
def test_arguments_that_are_too_large_are_refused_where_they_arrive(arguments: Encoded) -> None:
    server, recorder = introduced_server(max_message_size=1000)
    server.receive(message(call_frame(1, arguments=arguments), Frame(id=1, chunk=Chunk(data=b"abc"))))
    (refused,) = frames_of(server)
    assert isinstance(refused, Frame)
    assert refused.refused.reason == "MESSAGE_TOO_LARGE"
    assert "and this side accepts at most 1000" in refused.refused.message
    assert recorder.calls == []
    assert server.ended_because is None
    assert not server.busy


def test_a_result_that_is_too_large_is_refused_where_it_is(make_pair: MakePair) -> None:
    pair = make_pair(client={"max_message_size": 1000})
    call = make_call(pair.client)
    pair.settle()
    with pytest.raises(MessageTooLargeError, match="the result takes 1001 bytes and client accepts at most 1000"):
        answer(pair.served.calls[0], bytes(1001))
    pair.served.calls[0].refuse(Refused(Reason.MESSAGE_TOO_LARGE, "too large"), ran=True)
    pair.settle()
    found = outcome(call)
    assert found.refused is not None
    assert found.may_have_run


@pytest.mark.parametrize("value", [Encoded(payload=bytes(1001)), Encoded(sizes=[1001])])
def test_a_result_that_is_too_large_is_refused_where_it_arrives(make_pair: MakePair, value: Encoded) -> None:
    pair = make_pair(client={"max_message_size": 1000})
    call = make_call(pair.client)
    frames_of(pair.client)
    pair.client.receive(message(Frame(id=1, reply=True, result=Result(value=value))))
    found = outcome(call)
    assert found.refused is not None
    assert (
        found.refused.message
        == "the result takes 1001 bytes and this side accepts at most 1000 (max_message_size): send less at a time"
    )
    assert found.may_have_run
    # Who sends it in chunks is told to stop.
    assert kinds_of(pair.client) == (["cancel"] if value.sizes else [])
    assert pair.client.ended_because is None


def test_metadata_has_a_limit_of_its_own(pair: Pair) -> None:
    call = make_call(pair.client, metadata={"a": "x" * 60_000})
    with pytest.raises(MessageTooLargeError, match="the names and metadata of 'take' take 70010 bytes"):
        make_call(pair.client, metadata={"a": "x" * 70_000})
    pair.settle()
    with pytest.raises(MessageTooLargeError, match="the response metadata take 70001 bytes"):
        answer(pair.served.calls[0], metadata={"a": b"x" * 70_000})
    answer(pair.served.calls[0], metadata={"a": b"x" * 60_000})
    pair.settle()
    assert outcome(call).metadata == {"a": b"x" * 60_000}


def test_messages_stay_under_the_limit_whatever_is_in_them(make_pair: MakePair) -> None:
    pair = make_pair(server={"call_credit": 2000})
    for _ in range(300):
        make_call(pair.client, payload=bytes(100_000), metadata={"a": "x" * 60_000}, oneway=True)
    pair.client.call(request(payload=bytes(5 * MIB), oneway=True))
    while (sent := pair.client.next_message(timeout=0)) is not None:
        assert len(sent) < MESSAGE_LIMIT
        pair.server.receive(sent)
        pair.to_client()
    assert len(pair.served.calls) == 301


# ---- slow peers


def test_a_congested_connection_starts_no_further_calls_and_resumes(make_pair: MakePair) -> None:
    pair = make_pair(server={"outbox_limit": MIB + 10_000})
    ran: list[int] = []
    assert not pair.server.when_uncongested(lambda: ran.append(0))
    make_call(pair.client).cancel("over")
    call = make_call(pair.client)
    pair.settle()
    answer(pair.served.calls[0], bytes(3 * MIB))
    assert pair.server.congested
    for number in (1, 2):
        assert pair.server.when_uncongested(lambda number=number: ran.append(number))  # type: ignore[misc]
    big = make_call(pair.server, "big", bytes(MIB), oneway=True)
    assert big.outcome is None  # nor do big values pile up that nobody waits for
    pair.server.next_message(timeout=0)
    assert ran == []
    pair.server.next_message(timeout=0)
    assert ran == [1, 2]
    assert outcome(big) == Outcome()
    call.cancel("over")


def test_a_nested_call_and_control_get_through_a_congested_connection(make_pair: MakePair) -> None:
    pair = make_pair(client={"outbox_limit": MIB})
    big = make_call(pair.client, payload=bytes(9 * MIB))
    assert pair.client.congested
    nested = make_call(pair.client, "nested", nested=True)
    pair.client.receive(message(Frame(ping=Ping(nonce=1))))
    sent = pair.client.next_message(timeout=0)
    assert sent is not None
    kinds = [str(f.WhichOneof("kind")) for f in decode_frames(sent) if isinstance(f, Frame)]
    assert kinds == ["call", "call", "pong"]
    for call in (big, nested):
        call.cancel("over")


def test_a_peer_that_takes_nothing_in_is_ended(make_pair: MakePair) -> None:
    pair = make_pair(server={"outbox_limit": MIB, "slow_peer_timeout": 0.05})
    ended = threading.Event()
    pair.server.on_end = lambda connection: ended.set()
    make_call(pair.client).cancel("over")
    make_call(pair.client)
    pair.settle()
    answer(pair.served.calls[0], bytes(3 * MIB))
    stalled = threading.Event()
    assert pair.server.when_uncongested(stalled.set)
    assert ended.wait(SOON)
    words = goodbye(pair.server)
    assert words.reason.startswith("client took nothing in for 0.05 s with 3145")
    assert not words.protocol_error
    assert stalled.is_set()  # what waited for room finds its caller gone
    assert pair.served.calls[0].connection.ended_because == words.reason
    pair.client.lost("over")


def test_a_peer_that_takes_little_in_is_not_ended(make_pair: MakePair) -> None:
    pair = make_pair(server={"outbox_limit": MIB, "slow_peer_timeout": 0.1}, client={"chunk_credit": 64 * MIB})
    call = make_call(pair.client)
    pair.settle()
    answer(pair.served.calls[0], bytes(12 * MIB))
    for _ in range(10):
        sent = pair.server.next_message(timeout=0)
        assert sent is not None
        pair.client.receive(sent)
        time.sleep(0.03)
    assert pair.server.ended_because is None
    pair.settle()
    assert outcome(call).value is not None


# ---- nested calls


def test_a_call_takes_the_nested_calls_of_its_chain(make_pair: MakePair) -> None:
    """From before it is sent until it is answered, on the thread that made it."""
    pair = make_pair()
    pair.start()
    threads: list[int] = []

    def call_back(arrived: IncomingCall) -> None:
        arrived.started()
        nested = pair.server.call(request("nested", chain=arrived.request.chain, depth=arrived.request.depth + 1))
        threading.Thread(target=both(lambda: nested.wait(None), lambda: answer(arrived)), daemon=True).start()

    def run_here(arrived: IncomingCall) -> None:
        def job() -> None:
            threads.append(threading.get_ident())
            answer(arrived)

        assert chains.run_nested(arrived.request.chain, arrived.request.depth, job)

    pair.served.on_call, pair.called_back.on_call = call_back, run_here
    for _ in range(50):
        assert outcome(make_call(pair.client)).value is not None
    assert set(threads) == {threading.get_ident()}
    assert not chains._waiting


# ---- any frames whatever

numbers = st.integers(0, 6)
texts = st.text(max_size=5)
values = st.builds(
    Encoded, codec=st.sampled_from(["json", "", "x"]), payload=st.binary(max_size=20),
    sizes=st.lists(st.sampled_from([0, 1, 3, 2**40, 2**64 - 1]), max_size=3),
    references=st.lists(st.builds(Reference, number=numbers, returned=st.booleans()), max_size=2),
)  # fmt: skip
edges = st.sampled_from([0, 1, 2, 5, 2**32 - 1])
kinds = st.one_of(
    st.builds(lambda c: {"call": c}, st.builds(
        Call, object=texts, member=texts, arguments=values, oneway=st.booleans(), nested=st.booleans(),
        depth=st.integers(0, 3), chain=st.sampled_from([b"", bytes(16), b"x"]), lane=numbers,
        kind=st.sampled_from([0, *Call.Kind.values(), 99]),
        batch=st.builds(Batch, members=st.lists(texts, max_size=2), calls=st.lists(edges, max_size=3)),
        timeout_us=st.sampled_from([None, 0, 1, 2**64 - 1]))),
    st.builds(lambda r: {"result": r}, st.builds(Result, value=values, raised=st.booleans(), kept=st.booleans())),
    st.builds(lambda r: {"result": Result(failed=r)}, st.builds(Refusal, reason=texts)),
    st.just({"result": Result(stream=True)}),
    st.builds(lambda v, c: {"item": Item(value=v, count=c)}, values, edges),
    st.builds(lambda v, r: {"end": End(value=v, raised=r)}, values, st.booleans()),
    st.just({"end": End(failed=Refusal(reason="CANCELLED"))}),
    st.builds(lambda r: {"refused": r}, st.builds(Refusal, reason=st.sampled_from(["", "DRAINING", "CODEC"]))),
    st.builds(lambda d: {"chunk": Chunk(data=d)}, st.binary(max_size=4)),
    st.builds(lambda c, b: {"credit": Credit(calls=c, bytes=b)}, numbers, numbers),
    st.builds(lambda i, t: {"credit": Credit(items=i, taken=t)}, edges, edges),
    st.builds(lambda c: {"release": Release(count=c)}, edges),
    st.builds(lambda n, e: {"goaway": GoAway(last_call=n, protocol_error=e)}, numbers, st.booleans()),
    st.sampled_from([
        {"cancel": Cancel(reason="x")}, {"close": Close()}, {"ping": Ping(nonce=1)}, {"pong": Ping(nonce=1)},
        {"open": Open()}, {"opened": Opened()}, {"hello": hello()}, {"welcome": hello()}, {},
    ]),
)  # fmt: skip
frames = st.builds(
    lambda number, reply, optional, kind: Frame(id=number, reply=reply, optional=optional, **kind),
    numbers, st.booleans(), st.booleans(), kinds,
)  # fmt: skip
# What this side does meanwhile.
steps = st.one_of(
    st.builds(message, frames, frames),
    st.builds(message, frames),
    st.binary(max_size=30),
    st.sampled_from(
        ["call", "nested", "big", "oneway", "cancel", "take", "answer", "stream", "items", "go away", "close"]
    ),
)


def may_stream(call: IncomingCall) -> bool:
    """Only calls that are admitted are answered by a stream."""
    return call.request.arguments.codec == "json" and not call.request.oneway


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=25), st.booleans())
def test_whatever_arrives_nothing_is_raised_and_nothing_hangs(arriving: list[bytes | str], accepts: bool) -> None:
    recorder = Recorder()
    connection = Connection(Settings(call_credit=3), recorder, accepts=accepts)
    known = hello(item_credit=3, features=["batches", "exports"])
    introduction = {"hello": known} if accepts else {"welcome": known}
    connection.receive(message(Frame(**introduction)))  # type: ignore[arg-type]
    calls = []
    senders: list[ItemSender] = []
    for step in arriving:
        if isinstance(step, bytes):
            connection.receive(step)
        elif step in ("call", "nested", "big", "oneway"):
            payload = bytes(2 * MIB if step == "big" else 3)
            calls.append(make_call(connection, payload=payload, nested=step == "nested", oneway=step == "oneway"))
        elif step == "cancel" and calls:
            calls[len(calls) // 2].cancel("over")
        elif step == "take":
            connection.next_message(timeout=0)
        elif step == "answer" and recorder.calls:
            answer(recorder.calls.pop())
        elif step == "stream" and recorder.calls and may_stream(recorder.calls[-1]):
            senders.append(recorder.calls.pop().answer_stream(kept=False, metadata={}))
        elif step == "items":
            for sender in senders:
                sender.put(1, PlainEdge())
        elif step == "go away":
            connection.go_away("over")
        elif step == "close":
            connection.close("over")
    if connection.ended_because is not None:
        assert all(call.outcome is not None or call.abandoned for call in calls)
        assert recorder.ended == [connection]
    connection.lost("the test is over")
    for sender in senders:
        sender.fail(Refused(Reason.CANCELLED, ""))
    assert all(call.outcome is not None or call.abandoned for call in calls)
    assert not connection.busy
    for call in calls:
        call.cancel("over")
    frames_of(connection)
    assert connection.next_message() is None
    assert connection._line.outbox.bytes == 0
    assert not chains._waiting
