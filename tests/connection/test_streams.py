"""Streams of items, without a socket: what goes out together, credit, bounds, cancelling, and what must not arrive."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker._pb.broker_pb2 import Cancel, Credit, Encoded, End, Frame, Item, Result
from broker.codecs import PlainEdge, codec
from broker.connection.calls import CallRequest, IncomingCall, Outcome, PendingCall
from broker.connection.engine import Connection, Settings
from broker.connection.item_receiver import ItemReceiver, abandoned
from broker.connection.item_sender import MAX_BYTES_AHEAD, ItemSender
from broker.connection.refusals import Reason, Refused
from broker.errors import CodecError, MessageTooLargeError, ProtocolError
from tests.connection.conftest import (
    MakePair,
    Pair,
    Recorder,
    answer,
    call_frame,
    frames_of,
    hello,
    kinds_of,
    make_call,
    message,
    request,
)

EDGE = PlainEdge()


class Stream:
    """A stream from the server of a pair to its client."""

    def __init__(self, pair: Pair, of: CallRequest | None = None) -> None:
        self.pair = pair
        self.pending = pair.client.call(of or request())
        pair.settle()
        self.call = pair.served.calls[-1]
        self.call.started()
        self.sender = self.call.answer_stream(kept=False, metadata={})
        pair.settle()
        outcome = self.pending.outcome
        assert outcome is not None
        assert outcome.stream is not None
        self.receiver: ItemReceiver | None = outcome.stream
        self.pending.outcome = outcome._replace(stream=None)  # as one who waits takes it, and lets go of the call

    def put(self, *items: object) -> list[bool]:
        return [self.sender.put(item, EDGE) for item in items]

    def taken(self) -> list[Any]:
        """All items that are there."""
        assert self.receiver is not None
        items: list[Any] = []
        while (found := self.receiver.take()) is not None:
            value, count = found
            reader = codec(value.codec)
            items += reader.split(value, count, EDGE) if count else [reader.decode(value, EDGE)]
        return items

    def outcome(self) -> Outcome | None:
        """How it ended, once all items are taken."""
        assert self.receiver is not None
        return self.receiver.outcome

    def ended(self) -> Outcome:
        outcome = self.outcome()
        assert outcome is not None
        return outcome


@pytest.fixture
def stream(pair: Pair) -> Stream:
    return Stream(pair)


def items_in(connection: Connection) -> list[int]:
    """How many items each of the frames holds that the connection has to send."""
    return [frame.item.count for frame in frames_of(connection) if isinstance(frame, Frame) and frame.HasField("item")]


# ---- items


def test_items_arrive_in_order_and_then_the_end(stream: Stream) -> None:
    stream.put(1, "two", None, 3.5, [4], {"five": 5}, (6, 7), True)
    stream.sender.end("the value", EDGE, raised=False)
    stream.pair.settle()
    assert stream.outcome() is None, "there are items before it"
    assert stream.taken() == [1, "two", None, 3.5, [4], {"five": 5}, (6, 7), True]
    outcome = stream.ended()
    assert outcome.value is not None
    assert bytes(outcome.value.payload) == b'"the value"'
    assert not stream.pair.client.busy
    assert not stream.pair.server.busy


def test_what_is_ready_goes_out_together_and_a_single_item_at_once(stream: Stream) -> None:
    stream.put(1)
    assert items_in(stream.pair.server) == [1]
    stream.put(2, 3, [4], 5)
    assert items_in(stream.pair.server) == [4]


def test_an_item_is_what_it_was_when_it_was_put(stream: Stream) -> None:
    row, block = [0], bytearray(b"a" * 200_000)
    stream.put(row, block)
    row[0] = 1
    block[0] = 0
    stream.pair.settle()
    assert stream.taken() == [[0], bytearray(b"a" * 200_000)]


def test_items_that_do_not_fit_together_keep_their_order(stream: Stream) -> None:
    items = [1, b"buffer", "text" * 1000, "x" * 300_000, 2, float("nan"), 1 << 70, "\ud800", b"y" * 2_000_000, 3]
    stream.put(*items)
    stream.sender.end(None, EDGE, raised=False)
    stream.pair.settle()
    taken = stream.taken()
    assert [repr(item) for item in taken] == [repr(item) for item in items]
    outcome = stream.ended()
    assert outcome.value is None
    assert not outcome.raised


def test_a_frame_of_texts_stays_small(make_pair: MakePair) -> None:
    stream = Stream(make_pair(client={"item_credit": 4096}))
    while stream.put("\x01" * 1024)[0]:
        pass
    sizes = []
    while (data := stream.pair.server.next_message(timeout=0)) is not None:
        sizes.append(len(data))
        stream.pair.client.receive(data)
        stream.pair.to_server()
    assert max(sizes) < 4 << 20
    assert stream.pair.client.ended_because is None
    assert len(stream.taken()) * 1024 > MAX_BYTES_AHEAD // 2


def test_what_cannot_be_encoded_is_refused_and_nothing_is_sent(make_pair: MakePair) -> None:
    stream = Stream(make_pair(client={"max_message_size": 1000}))
    with pytest.raises(CodecError, match=r"item\['a'\]"):
        stream.put({"a": object()})
    with pytest.raises(MessageTooLargeError, match="an item takes 20"):
        stream.put(b"x" * 2000)
    with pytest.raises(CodecError):
        stream.sender.end(object(), EDGE, raised=False)
    assert kinds_of(stream.pair.server) == []
    stream.put(1)
    stream.sender.fail(Refused(Reason.RESULT_NOT_ENCODABLE, "no"))
    stream.pair.settle()
    assert stream.taken() == [1]
    assert stream.ended().refused == Refused(Reason.RESULT_NOT_ENCODABLE, "no")


def test_a_stream_ends_once(stream: Stream) -> None:
    stream.sender.end(None, EDGE, raised=False)
    stream.sender.fail(Refused(Reason.INTERNAL, "late"))
    assert kinds_of(stream.pair.server) == ["end"]


def test_what_was_raised_may_be_big(stream: Stream) -> None:
    stream.put(1)
    stream.sender.end(ValueError("x" * 500_000), EDGE, raised=True)
    stream.pair.settle()
    assert stream.taken() == [1]
    outcome = stream.ended()
    assert outcome.raised
    assert outcome.value is not None
    assert len(outcome.value.payload) > 500_000
    assert not stream.pair.client.busy


# ---- credit


def test_a_producer_stops_when_its_credit_is_spent_and_goes_on_as_items_are_taken(stream: Stream) -> None:
    went_on: list[str] = []
    assert stream.put(*range(16)) == [True] * 15 + [False]
    assert stream.sender.when_room(lambda: went_on.append("on"))
    stream.pair.settle()
    assert went_on == [], "nothing was taken"
    assert stream.taken() == list(range(16))
    stream.pair.settle()
    assert went_on == ["on"]
    assert stream.put(16) == [True]
    assert not stream.sender.when_room(lambda: went_on.append("again"))


def when_empty(stream: Stream) -> None:
    """The consumer takes all, and waits for more."""
    stream.taken()
    assert stream.receiver is not None
    stream.receiver.when_ready(lambda: None)
    stream.pair.settle()


def window_of(stream: Stream) -> int:
    """How many items the producer may send without any being taken."""
    count = 1
    while stream.put(0)[0]:
        count += 1
    stream.pair.settle()
    return count


def test_the_window_grows_while_the_consumer_is_faster(stream: Stream) -> None:
    windows = []
    for _ in range(12):
        windows.append(window_of(stream))
        when_empty(stream)
    assert windows == [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096, 4096]


def test_the_window_stays_small_for_a_producer_that_is_slower(stream: Stream) -> None:
    for number in range(100):
        stream.put(number)
        stream.pair.settle()
        when_empty(stream)
    assert window_of(stream) <= 16


def test_the_window_stays_small_for_big_items(stream: Stream) -> None:
    for _ in range(8):
        while stream.put("x" * 100_000)[0]:
            pass
        stream.pair.settle()
        when_empty(stream)
    assert window_of(stream) <= 64


def test_items_that_become_big_shrink_the_window(stream: Stream) -> None:
    for _ in range(10):
        window_of(stream)
        when_empty(stream)
    for _ in range(20):  # 4 MiB each: what was granted before has to be used up
        while stream.put("x" * 10_000)[0]:
            pass
        stream.pair.settle()
        when_empty(stream)
    assert window_of(stream) <= 2 * (4 << 20) // 10_000


def test_nothing_is_left_in_the_account_of_the_outbox(stream: Stream) -> None:
    for number in range(200):
        stream.put(number, "x" * 200_000, b"y" * 2000, "z" * 3000, [number] * 5000)
        stream.pair.settle()
        stream.taken()
    stream.put("x" * 200_000, b"y" * 2000)
    assert stream.receiver is not None
    stream.receiver.cancel("enough")
    stream.pair.settle()
    stream.sender.fail(Refused(Reason.CANCELLED, "enough"))
    stream.pair.settle()
    assert stream.pair.server._line.outbox.bytes == 0


def test_the_bytes_ahead_are_bounded_whatever_the_credit(make_pair: MakePair) -> None:
    stream = Stream(make_pair(client={"item_credit": 100_000}))
    text, sent = "x" * 50_000, 0
    while stream.put(text)[0]:
        sent += 1
    stream.pair.settle()
    assert sent * 50_000 < MAX_BYTES_AHEAD + 100_000
    assert not stream.put(text)[0], "the items were sent and not taken"
    went_on = threading.Event()
    assert stream.sender.when_room(went_on.set)
    stream.taken()
    stream.pair.settle()
    assert went_on.is_set()


def test_a_congested_connection_stops_a_producer(make_pair: MakePair) -> None:
    stream = Stream(make_pair(server={"outbox_limit": 100_000}, client={"item_credit": 1000}))
    text, sent = "x" * 1000, 0
    while stream.put(text)[0]:
        sent += 1
    assert sent < 200
    went_on = threading.Event()
    assert stream.sender.when_room(went_on.set)
    assert len(items_in(stream.pair.server)) > 0
    assert went_on.is_set()


def test_a_side_without_item_credit_gets_no_stream(make_pair: MakePair) -> None:
    pair = make_pair(client={"item_credit": 0})
    make_call(pair.client)
    pair.settle()
    with pytest.raises(ProtocolError, match="client takes no streams of items"):
        pair.served.calls[0].answer_stream(kept=False, metadata={})
    answer(pair.served.calls[0])
    pair.settle()
    assert not pair.client.busy


# ---- cancelling and loss


def cancelled(call: IncomingCall) -> list[str]:
    reasons: list[str] = []
    call.on_cancel(reasons.append)
    return reasons


def test_cancel_tells_the_producer_and_drops_what_waits(stream: Stream) -> None:
    reasons = cancelled(stream.call)
    stream.put(*range(5))
    assert stream.receiver is not None
    stream.receiver.cancel("enough")
    stream.pair.to_server()
    assert reasons == ["enough"]
    assert items_in(stream.pair.server) == []
    assert not stream.sender.when_room(lambda: None), "it is to see that it was cancelled"
    stream.put(6)
    stream.sender.fail(Refused(Reason.CANCELLED, "enough"))
    stream.pair.settle()
    assert [side.busy for side in (stream.pair.client, stream.pair.server)] == [False, False]
    assert stream.taken() == []


@pytest.mark.parametrize("big_end", [False, True])
def test_cancel_within_a_big_item(make_pair: MakePair, big_end: bool) -> None:
    stream = Stream(make_pair(client={"chunk_credit": 1 << 20}))
    stream.put(b"x" * 10_000_000, 1)
    end = ValueError("y" * 1_000_000) if big_end else ValueError("y")
    stream.sender.end(end, EDGE, raised=True)
    stream.pair.client.receive(stream.pair.server.next_message(timeout=0) or b"")
    assert stream.receiver is not None
    stream.receiver.cancel("enough")
    stream.pair.settle()
    assert not stream.pair.client.busy
    assert not stream.pair.server.busy
    assert stream.pair.client.ended_because is None


def test_an_end_that_crosses_a_cancel(stream: Stream) -> None:
    stream.put(1)
    stream.sender.end(None, EDGE, raised=False)
    assert stream.receiver is not None
    stream.receiver.cancel("enough")
    stream.pair.to_client()
    stream.pair.settle()
    assert not stream.pair.client.busy
    assert stream.pair.server.ended_because is None


def test_a_stream_that_nobody_holds_is_cancelled(stream: Stream) -> None:
    reasons = cancelled(stream.call)
    stream.receiver = None
    gc.collect()
    abandoned.drain()
    stream.pair.settle()
    assert reasons == ["nobody holds the iterator any more"]


def test_items_of_a_stream_that_nobody_holds_cancel_it(stream: Stream) -> None:
    reasons = cancelled(stream.call)
    stream.receiver = None
    gc.collect()
    stream.put(1)
    stream.pair.settle()
    assert reasons == ["nobody holds the iterator any more"]
    stream.put(2)
    stream.sender.fail(Refused(Reason.CANCELLED, ""))
    stream.pair.settle()
    assert not stream.pair.client.busy


def test_a_stream_that_comes_after_the_call_was_given_up(pair: Pair) -> None:
    pending = make_call(pair.client)
    pair.settle()
    pending.cancel("too late")
    call = pair.served.calls[0]
    sender = call.answer_stream(kept=False, metadata={})
    sender.put(1, EDGE)
    pair.to_client()
    pair.settle()
    assert call.is_cancelled
    sender.fail(Refused(Reason.CANCELLED, ""))
    pair.settle()
    assert not pair.client.busy
    assert pending.outcome is None or pending.outcome.stream is None


def test_a_lost_connection_ends_a_stream_behind_its_items(stream: Stream) -> None:
    reasons = cancelled(stream.call)
    stream.put(1, 2)
    stream.pair.to_client()
    stream.pair.client.lost("the cable was cut")
    stream.pair.server.lost("the cable was cut")
    assert stream.taken() == [1, 2]
    assert stream.ended().lost == "the cable was cut"
    assert reasons == ["the cable was cut"]
    stream.put(3)
    stream.sender.fail(Refused(Reason.CANCELLED, ""))  # nothing happens


def test_a_daemon_that_drains_goes_on_with_its_streams(stream: Stream) -> None:
    stream.pair.server.go_away("bye")
    stream.put(1)
    stream.sender.end(None, EDGE, raised=False)
    stream.pair.settle()
    assert stream.taken() == [1]


def test_a_consumer_is_told_once_when_there_is_something(stream: Stream) -> None:
    told: list[str] = []
    receiver = stream.receiver
    assert receiver is not None
    receiver.when_ready(lambda: told.append("first"))
    assert told == []
    stream.put(1)
    stream.pair.settle()
    stream.put(2)
    stream.pair.settle()
    assert told == ["first"]
    receiver.when_ready(lambda: told.append("at once"))
    assert told == ["first", "at once"]


def test_threads_that_wait_are_woken_by_the_end(make_pair: MakePair) -> None:
    pair = make_pair()
    stream = Stream(pair)
    pair.start()
    woken = threading.Event()
    assert stream.receiver is not None
    stream.receiver.when_ready(woken.set)
    stream.sender.end(None, EDGE, raised=False)
    assert woken.wait(10)


def test_a_hundred_streams_interleave(pair: Pair) -> None:
    streams = [Stream(pair) for _ in range(100)]
    for number in range(10):
        for each in streams:
            each.put(number)
    pair.settle()
    assert all(each.taken() == list(range(10)) for each in streams)


ITEMS = st.one_of(
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.sampled_from(
        [None, True, "x" * 5_000, b"y" * 6_000, "\ud800", "z" * 200_000, b"b" * 300_000, [1, [2]], {"a": 1}]
    ),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(ITEMS, max_size=5)),
        st.tuples(st.sampled_from(["to_client", "to_server", "take", "wait", "cancel"]), st.none()),
    ),
    max_size=40,
)


@given(STEPS, st.booleans(), st.sampled_from(["json", "pickle"]))
@settings(deadline=None, max_examples=60)
def test_whatever_happens_in_whatever_order_items_arrive_in_theirs(steps: list[Any], ends: bool, name: str) -> None:
    pair = Pair(Settings(), Settings())
    pair.settle()
    call = request()
    call.arguments = call.arguments._replace(codec=name)
    stream = Stream(pair, of=call)
    receiver = stream.receiver
    assert receiver is not None
    put: list[Any] = []
    taken: list[Any] = []
    cancelled = full = False
    for step, items in steps:
        if step == "put":
            for item in items:
                if not full:
                    put.append(item)
                    full = not stream.put(item)[0]
        elif step == "wait":
            receiver.when_ready(lambda: None)
        elif step == "cancel":
            receiver.cancel("enough")
            cancelled = True
        elif step == "take":
            taken += stream.taken()
        else:
            getattr(pair, step)()
        full = full and stream.sender.when_room(lambda: None)
    if ends:
        stream.sender.end("over", EDGE, raised=False)
    else:
        stream.sender.fail(Refused(Reason.CANCELLED, "over"))
    while pair.to_client() + pair.to_server() or (not cancelled and stream.outcome() is None):
        taken += stream.taken()
    taken += stream.taken()
    assert [pair.client.ended_because, pair.server.ended_because] == [None, None]
    assert [pair.client.busy, pair.server.busy] == [False, False]
    assert taken == put[: len(taken)] if cancelled else taken == put
    assert pair.server._line.outbox.bytes == 0


def test_producers_and_consumers_in_threads(make_pair: MakePair) -> None:
    pair = make_pair()
    streams = [Stream(pair) for _ in range(6)]
    pair.start()
    found: list[list[Any]] = [[] for _ in streams]
    made = [[(number, "text" * (number % 300), None, b"b" * (number % 2))[number % 4] for number in range(6_000)]] * 6
    made = [[*items, "x" * 200_000, len(items)] for items in made]

    def produce(stream: Stream, items: list[Any]) -> None:
        for item in items:
            while not stream.put(item)[0]:
                room = threading.Event()
                if stream.sender.when_room(room.set):
                    assert room.wait(30)
                break
        stream.sender.end(None, EDGE, raised=False)

    def consume(stream: Stream, into: list[Any]) -> None:
        receiver = stream.receiver
        assert receiver is not None
        while receiver.outcome is None:
            into += stream.taken()
            ready = threading.Event()
            receiver.when_ready(ready.set)
            assert ready.wait(30)

    threads = [
        *(threading.Thread(target=produce, args=each) for each in zip(streams, made, strict=True)),
        *(threading.Thread(target=consume, args=each) for each in zip(streams, found, strict=True)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert found == made


# ---- what must not arrive


def open_client() -> tuple[Connection, PendingCall]:
    """A client that has made call 1, and its call."""
    client = Connection(Settings(), Recorder(), accepts=False, peer_name="server")
    client.receive(message(Frame(welcome=hello(item_credit=16))))
    pending = client.call(request())
    frames_of(client)
    return client, pending


def item(number: int = 1, count: int = 0, **changes: Any) -> Frame:
    text = b"1" if not count else b"[" + b",".join([b"1"] * count) + b"]"
    return Frame(id=number, reply=True, item=Item(value=Encoded(codec="json", payload=text), count=count), **changes)


BEGUN = Frame(id=1, reply=True, result=Result(stream=True))
BIG = Item(value=Encoded(codec="json", sizes=[200_000]))
ENDED = Frame(id=1, reply=True, end=End())

TO_A_CALLER: dict[str, tuple[list[Frame], str]] = {
    "an item of a call that is no stream": ([item()], "call 1, which is no open stream"),
    "an item of an unknown call": ([BEGUN, item(7)], "call 7, which is no open stream"),
    "an item that is no reply": ([BEGUN, Frame(id=1, item=Item())], "call 1, which is no open stream"),
    "an item without credit": ([BEGUN, item(count=16), item()], "an item of call 1 arrived without credit"),
    "more items than the credit": ([BEGUN, item(count=17)], "an item of call 1 arrived without credit"),
    "an item after the end": ([BEGUN, ENDED, item()], "call 1, which is no open stream"),
    "an end after the end": ([BEGUN, ENDED, ENDED], "call 1, which is no open stream"),
    "an end of a call that is no stream": ([ENDED], "call 1, which is no open stream"),
    "a second result": ([BEGUN, BEGUN], "an answer to call 1 arrived, which is not open"),
    "a result of a stream": ([BEGUN, Frame(id=1, reply=True, result=Result())], "an answer to call 1 arrived"),
    "a refusal of a stream": (
        [BEGUN, Frame(id=1, reply=True, refused=Refused(Reason.INTERNAL, "").to_wire())],
        "an answer to call 1 arrived",
    ),
    "an item within another one": ([BEGUN, Frame(id=1, reply=True, item=BIG), item()], "which is no open stream"),
    "an end within an item": ([BEGUN, Frame(id=1, reply=True, item=BIG), ENDED], "which is no open stream"),
    "an item beyond the limit": (
        [BEGUN, Frame(id=1, reply=True, item=Item(value=Encoded(sizes=[1 << 40])))],
        "an item of call 1 arrived that is larger than this side takes",
    ),
}


@pytest.mark.parametrize("name", TO_A_CALLER)
def test_what_a_producer_must_not_send_ends_the_connection(name: str) -> None:
    frames, reason = TO_A_CALLER[name]
    client, pending = open_client()
    client.receive(message(*frames))
    assert client.ended_because is not None
    assert reason in client.ended_because
    assert pending.outcome is not None, "who waits learns of it"


def credit(number: int, **changes: Any) -> Frame:
    return Frame(id=number, credit=Credit(items=4, taken=2), **changes)


TO_A_SERVER: dict[str, tuple[list[Frame], str]] = {
    "item credit for an unknown call": ([credit(1)], "credit for items of call 1 arrived, which was never made"),
    "item credit for a call that is no stream": (
        [call_frame(1), credit(1)],
        "credit for items of call 1 arrived, which is no stream",
    ),
    "item credit as a reply": ([call_frame(1), credit(1, reply=True)], "credit for items of call 1 arrived"),
}


@pytest.mark.parametrize("name", TO_A_SERVER)
def test_what_a_consumer_must_not_send_ends_the_connection(name: str) -> None:
    frames, reason = TO_A_SERVER[name]
    server = Connection(Settings(), Recorder(), accepts=True, peer_name="client")
    server.receive(message(Frame(hello=hello(item_credit=16)), *frames))
    assert server.ended_because is not None
    assert reason in server.ended_because


def test_what_arrives_late_is_no_error() -> None:
    client, pending = open_client()
    client.receive(message(BEGUN, item()))
    assert pending.outcome is not None
    assert pending.outcome.stream is not None
    pending.outcome.stream.cancel("enough")
    client.receive(message(item(), item(count=400), Frame(id=1, reply=True, item=BIG), ENDED))
    assert client.ended_because is None
    recorder = Recorder()
    server = Connection(Settings(), recorder, accepts=True, peer_name="client")
    server.receive(message(Frame(hello=hello(item_credit=16)), call_frame(1, arguments=Encoded(codec="json"))))
    sender: ItemSender = recorder.calls[0].answer_stream(kept=False, metadata={})
    sender.end(None, EDGE, raised=False)
    frames_of(server)
    server.receive(message(credit(1), Frame(id=1, cancel=Cancel())))
    assert server.ended_because is None


def test_an_end_in_another_codec_or_without_its_value_is_not_read() -> None:
    client, pending = open_client()
    client.receive(message(BEGUN, Frame(id=1, reply=True, end=End(raised=True))))
    assert pending.outcome is not None
    assert pending.outcome.stream is not None
    outcome = pending.outcome.stream.outcome
    assert outcome is not None
    assert outcome.raised
    assert outcome.value is None


def test_metadata_comes_with_the_beginning(pair: Pair) -> None:
    pending = make_call(pair.client)
    pair.settle()
    pair.served.calls[0].answer_stream(kept=True, metadata={"a": "b"})
    pair.settle()
    assert pending.outcome is not None
    assert pending.outcome.metadata == {"a": "b"}
    assert pending.outcome.kept


def test_a_stream_goes_to_who_does_not_wait(pair: Pair) -> None:
    outcomes: list[Outcome] = []
    take: Callable[[Outcome], None] = outcomes.append
    make_call(pair.client, on_outcome=take)
    pair.settle()
    pair.served.calls[0].answer_stream(kept=False, metadata={}).put(1, EDGE)
    pair.settle()
    assert outcomes[0].stream is not None
    assert outcomes[0].stream.take() is not None
