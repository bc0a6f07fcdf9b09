"""Exported objects on a connection: counted on both sides, given back, and gone with the connection."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from broker._pb.broker_pb2 import Call, Frame, Ping, Release
from broker._pb.broker_pb2 import Encoded as WireEncoded
from broker._pb.broker_pb2 import Reference as WireReference
from broker.codecs import MAX_REFERENCES, Encoded, Reference
from broker.connection.calls import IncomingCall
from broker.connection.engine import Connection, Settings
from broker.connection.exports import Exported, Held, Latest, Unknown, sweeper
from broker.connection.refusals import Reason, Refused
from broker.errors import CodecError
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


class Thing(Exported):
    """What a side exports."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    """What is let go of is let go of at once, and not only when the garbage collector comes by."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def value_of(*references: Reference, payload: bytes = b"[[],{}]") -> Encoded:
    return Encoded("json", payload, (), references)


def pass_on(pair: Pair, *references: Reference) -> tuple[Reference, ...]:
    """The client passes references in a call, and the server answers: what it got."""
    calls_before = len(pair.served.calls)
    pending = pair.client.call(request_with(*references))
    pair.settle()
    call = pair.served.calls.pop(calls_before)
    got = call.request.arguments.references
    answer(call)
    pair.settle()
    assert pending.wait(time.monotonic() + 40) is not None
    return got


def request_with(*references: Reference, **changes: Any) -> Any:
    made = request(**changes)
    made.arguments = value_of(*references)
    return made


def counts(pair: Pair) -> tuple[int, int]:
    """How many the client has given, and how many the server holds."""
    return pair.client.exports.given, pair.server.exports.held


def drop(pair: Pair) -> None:
    """Both sides give back what nobody holds."""
    pair.client.exports.release_unheld()
    pair.server.exports.release_unheld()
    pair.settle()


def eventually(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


# ---- passing on


def test_of_what_is_known_about_objects_the_latest_stays() -> None:
    known = Latest(3)
    for number in range(5):
        known[f"@{number}"] = number
        known[f"@{number}"] = number * 10
    assert known == {"@2": 20, "@3": 30, "@4": 40}


def test_a_reference_arrives_and_is_counted_on_both_sides(pair: Pair) -> None:
    thing = Thing(7)
    (held,) = pass_on(pair, thing)
    assert isinstance(held, Held)
    assert (held.number, held.connection) == (7, pair.server)
    assert pair.client.exports.find(7) is thing
    assert counts(pair) == (1, 1)


def test_what_arrives_again_is_the_same(pair: Pair) -> None:
    thing, other = Thing(1), Thing(2)
    first, second, third = pass_on(pair, thing, other, thing)
    assert first is third
    assert first is not second
    assert pass_on(pair, thing) == (first,)
    assert counts(pair) == (2, 2)


def test_nothing_is_counted_before_it_is_written(pair: Pair) -> None:
    pending = pair.client.call(request_with(Thing(1)))
    assert pair.client.exports.given == 0
    pair.to_server()
    assert pair.client.exports.given == 1
    pending.cancel("enough")


def test_a_call_that_was_given_up_unsent_counts_nothing(pair: Pair) -> None:
    pair.client.call(request_with(Thing(1))).cancel("enough")
    pair.settle()
    assert pair.served.calls == []
    assert counts(pair) == (0, 0)


def test_a_call_without_credit_counts_as_it_goes_out(make_pair: MakePair) -> None:
    pair = make_pair(server={"call_credit": 1})
    calls = [pair.client.call(request_with(Thing(number))) for number in (1, 2)]
    pair.settle()
    assert counts(pair) == (1, 1)
    answer(pair.served.calls[0])
    pair.settle()
    assert counts(pair) == (2, 2)
    assert [call.request.arguments.references[0].number for call in pair.served.calls] == [1, 2]
    for call in calls:
        call.cancel("enough")


def test_references_of_a_big_value_arrive_with_its_frame(pair: Pair) -> None:
    thing = Thing(3)
    made = request_with(thing)
    made.arguments = value_of(thing, payload=b"x" * (3 << 20))
    pending = pair.client.call(made)
    pair.settle()
    (call,) = pair.served.calls
    assert len(call.request.arguments.payload) == 3 << 20
    assert [reference.number for reference in call.request.arguments.references] == [3]
    assert counts(pair) == (1, 1)
    pending.cancel("enough")


def test_a_result_holds_references_as_arguments_do(pair: Pair) -> None:
    pending = make_call(pair.client)
    pair.settle()
    call = pair.served.calls.pop()
    call.reply(value_of(Thing(5), payload=b"null"), False, False, {})
    assert pair.server.exports.given == 1
    pair.settle()
    outcome = pending.wait(time.monotonic() + 40)
    assert outcome is not None
    assert outcome.value is not None
    (held,) = outcome.value.references
    assert isinstance(held, Held)
    assert held.connection is pair.client
    assert pair.client.exports.held == 1


def test_a_reference_that_is_sent_back_is_the_object_itself(pair: Pair) -> None:
    thing = Thing(9)
    (held,) = pass_on(pair, thing)
    pending = make_call(pair.client)
    pair.settle()
    call = pair.served.calls.pop()
    call.reply(value_of(held, payload=b"null"), False, False, {})
    pair.settle()
    outcome = pending.wait(time.monotonic() + 40)
    assert outcome is not None
    assert outcome.value is not None
    assert outcome.value.references == (thing,)
    assert counts(pair) == (1, 1)  # who gets its own object back holds nothing
    assert (pair.server.exports.given, pair.client.exports.held) == (0, 0)


def test_what_came_over_another_connection_cannot_be_passed_on(make_pair: MakePair) -> None:
    here, there = make_pair(), make_pair()
    (held,) = pass_on(here, Thing(1))
    with pytest.raises(CodecError, match=r"export.* register it with a daemon"):
        there.client.call(request_with(held))
    make_call(there.client)
    there.settle()
    call = there.served.calls.pop()
    with pytest.raises(CodecError, match="register it with a daemon"):
        call.reply(value_of(held, payload=b"null"), False, False, {})
    answer(call)
    there.settle()
    assert counts(there) == (0, 0)


def test_nothing_is_sent_to_who_does_not_know_the_feature() -> None:
    client = Connection(Settings(), Recorder(), accepts=False, peer_name="server")
    client.receive(message(Frame(welcome=hello(features=[]))))
    with pytest.raises(CodecError, match="older version"):
        client.call(request_with(Thing(1)))
    client.lost("the test is over")


# ---- giving back


def test_the_last_holder_gives_the_reference_back(pair: Pair) -> None:
    held = pass_on(pair, Thing(4))
    more = pass_on(pair, *pass_on_own(pair, 4))
    del held
    drop(pair)
    assert counts(pair) == (1, 1)
    del more
    drop(pair)
    assert counts(pair) == (0, 0)


def pass_on_own(pair: Pair, number: int) -> tuple[Exported, ...]:
    exported = pair.client.exports.find(number)
    assert exported is not None
    return (exported,)


def test_one_release_gives_back_all_that_arrived(pair: Pair) -> None:
    thing = Thing(4)
    held = [pass_on(pair, thing) for _ in range(3)]
    held.append(pass_on(pair, thing, thing))
    held.clear()
    pair.server.exports.release_unheld()
    released = [frame for frame in frames_of(pair.server) if isinstance(frame, Frame) and frame.HasField("release")]
    assert [(frame.id, frame.release.count) for frame in released] == [(4, 5)]
    pair.client.receive(message(*released))
    assert counts(pair) == (0, 0)
    assert pair.client.ended_because is None


def test_a_release_that_crosses_a_sending_frees_nothing(pair: Pair) -> None:
    thing = Thing(4)
    held = pass_on(pair, thing)
    del held
    pair.server.exports.release_unheld()  # the Release is on its way to the client …
    pending = pair.client.call(request_with(thing))
    crossing = pair.client.next_message(timeout=0)  # … and the object on its way to the server
    assert crossing is not None
    pair.to_client()
    assert pair.client.exports.find(4) is thing
    pair.server.receive(crossing)
    call = pair.served.calls.pop()
    assert counts(pair) == (1, 1)
    answer(call)
    del call
    pair.settle()
    assert pending.wait(time.monotonic() + 40) is not None
    drop(pair)
    assert counts(pair) == (0, 0)
    assert pair.client.ended_because is pair.server.ended_because is None


def test_what_arrives_before_its_release_was_written_takes_part_in_it(pair: Pair) -> None:
    thing = Thing(4)
    held = pass_on(pair, thing)
    del held
    with pytest.MonkeyPatch.context() as patch:  # another thread was about to give it back
        patch.setattr(pair.server.exports, "release_unheld", lambda: None)
        again = pass_on(pair, thing)
    drop(pair)
    assert counts(pair) == (1, 1)
    del again
    pair.server.exports.release_unheld()
    releases = [frame.release.count for frame in frames_of(pair.server) if isinstance(frame, Frame)]
    assert sum(releases) == 2


def test_what_is_never_decoded_is_given_back(pair: Pair) -> None:
    pending = pair.client.call(request_with(Thing(1)))
    pair.settle()
    call = pair.served.calls.pop()

    call.refuse(Refused(Reason.OBJECT_NOT_FOUND, "there is no such object"))
    del call
    pair.settle()
    assert pending.wait(time.monotonic() + 40) is not None
    drop(pair)
    assert counts(pair) == (0, 0)


def test_a_result_that_nobody_waits_for_is_given_back(pair: Pair) -> None:
    pending = make_call(pair.client)
    pair.settle()
    pending.cancel("the time of the call is over")
    call = pair.served.calls.pop()
    call.reply(value_of(Thing(5), payload=b"null"), False, False, {})
    del call, pending
    pair.settle()
    drop(pair)
    assert (pair.server.exports.given, pair.client.exports.held) == (0, 0)


def test_a_big_value_that_is_given_up_on_its_way_gives_its_references_back(pair: Pair) -> None:
    thing = Thing(3)
    made = request_with(thing)
    made.arguments = value_of(thing, payload=b"x" * (16 << 20))
    pending = pair.client.call(made)
    assert pair.to_server()
    assert pair.server.exports.held == 1
    pending.cancel("enough")
    pair.settle()
    drop(pair)
    assert counts(pair) == (0, 0)


def test_what_nobody_holds_is_given_back_without_any_other_traffic(pair: Pair) -> None:
    held = pass_on(pair, Thing(1))
    pair.start()
    assert counts(pair) == (1, 1)
    del held
    eventually(lambda: counts(pair) == (0, 0))
    eventually(lambda: pair.server.exports not in sweeper._watched)


def test_thousands_leave_nothing_behind(pair: Pair) -> None:
    for first in range(0, 20_000, 1_000):
        things = [Thing(number) for number in range(first, first + 1_000)]
        got = pass_on(pair, *things)
        assert len(got) == 1_000
        del got
    assert pair.server.exports.held <= 1_000
    drop(pair)
    assert counts(pair) == (0, 0)


def test_threads_that_pass_and_drop_the_same_object_leave_nothing_behind(pair: Pair) -> None:
    """Sendings and releases cross all the time, in every order that threads can make."""
    pair.served.on_call = lambda call: (pair.served.calls.clear(), answer(call))  # type: ignore[assignment,func-returns-value]
    pair.start()
    things = [Thing(number) for number in range(5)]

    def keep_passing() -> None:
        for step in range(300):
            pending = pair.client.call(request_with(things[step % 5], things[(step * 3) % 5]))
            assert pending.wait(time.monotonic() + 40) is not None

    threads = [threading.Thread(target=keep_passing) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive()
    eventually(lambda: counts(pair) == (0, 0))
    assert pair.client.ended_because is pair.server.ended_because is None


def test_objects_are_let_go_of_where_their_finalizers_may_run(pair: Pair) -> None:
    """Neither in the thread that reads nor under a lock of the connection."""
    ended_in: list[str] = []
    gone = threading.Event()

    class Ending(Thing):
        def __del__(self) -> None:
            ended_in.append(threading.current_thread().name)
            gone.set()

    pass_on(pair, Ending(1))
    drop(pair)
    assert gone.wait(40)
    assert ended_in[0].startswith("broker-aside")


# ---- the connection ends


def test_at_the_end_of_the_connection_all_is_let_go_of(pair: Pair) -> None:
    (held,) = pass_on(pair, Thing(1))
    assert pair.client.busy
    assert pair.server.busy
    pair.client.lost("gone")
    pair.server.lost("gone")
    assert counts(pair) == (0, 0)
    assert isinstance(held, Held)
    assert held.connection.ended_because == "gone"
    del held
    pair.server.exports.release_unheld()
    assert kinds_of(pair.server) == []


def test_a_connection_lives_while_either_side_holds_something(pair: Pair) -> None:
    assert not pair.client.busy
    held = pass_on(pair, Thing(1))
    assert [pair.client.busy, pair.server.busy] == [True, True]
    del held
    drop(pair)
    assert [pair.client.busy, pair.server.busy] == [False, False]


# ---- what strangers send


def release(number: int, count: int) -> bytes:
    return message(Frame(id=number, release=Release(count=count)))


@pytest.mark.parametrize(("number", "count"), [(1, 1), (0, 0), (7, 3), (7, 0), (1 << 63, 1 << 63)])
def test_more_released_than_given_ends_the_connection(pair: Pair, number: int, count: int) -> None:
    thing = Thing(7)
    held = pass_on(pair, thing, thing)
    pair.client.receive(release(number, count))
    assert "were released" in (pair.client.ended_because or "")
    assert pair.client.exports.given == 0
    del held


def test_a_release_in_parts_is_taken(pair: Pair) -> None:
    thing = Thing(7)
    held = pass_on(pair, thing, thing)
    pair.client.receive(release(7, 1))
    assert pair.client.exports.find(7) is thing
    pair.client.receive(release(7, 1))
    assert pair.client.exports.find(7) is None
    pair.client.receive(message(Frame(ping=Ping(nonce=1))))
    assert kinds_of(pair.client) == ["pong"]
    pair.client.receive(release(7, 1))
    assert pair.client.ended_because is not None
    del held


def test_an_object_that_was_never_passed_cannot_be_sent_back(pair: Pair) -> None:
    """That ends the call whose value it is in, not the connection."""
    value = WireEncoded(codec="json", payload=b"[[],{}]", references=[WireReference(number=3, returned=True)])
    pair.server.receive(message(call_frame(1, arguments=value)))
    (unknown,) = pair.served.calls.pop().request.arguments.references
    assert isinstance(unknown, Unknown)
    assert "never passed" in repr(unknown)
    assert pair.server.ended_because is None


def test_too_many_references_end_the_connection(pair: Pair) -> None:
    references = [WireReference(number=number) for number in range(1, MAX_REFERENCES + 2)]
    value = WireEncoded(codec="json", payload=b"[[],{}]", references=references)
    pair.server.receive(message(call_frame(1, arguments=value)))
    assert f"{MAX_REFERENCES + 1} references" in (pair.server.ended_because or "")


def test_as_many_references_as_may_be_fit_into_their_message(pair: Pair) -> None:
    things = [Thing((1 << 62) + number) for number in range(MAX_REFERENCES)]
    made = request_with(*things)
    made.arguments = Encoded("json", b"x" * 5, (b"",) * 65_000 + (b"x" * (1 << 20),), tuple(things))
    pending = pair.client.call(made)
    pair.settle()
    (call,) = pair.served.calls
    assert len(call.request.arguments.references) == MAX_REFERENCES
    assert call.request.kind == Call.METHOD
    pending.cancel("enough")


# ---- every order


class Both(RuleBasedStateMachine):
    """Two ends that pass, send back and drop references, whose messages travel when the machine says so.

    Whatever the order, no side may find the other breaking the rules, no object may be gone that is held or on its way,
    and in the end nothing is left.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(Settings(), Settings())
        self.pair.settle()
        self.things = {end: [Thing(number) for number in range(1, 4)] for end in self.ends}
        self.held: dict[Connection, list[tuple[Reference, ...]]] = {end: [] for end in self.ends}
        # What arrives gives back first what nobody holds; another thread may have let go of it a moment later.
        self.give_back = {end: end.exports.release_unheld for end in self.ends}
        for end in self.ends:
            setattr(end.exports, "release_unheld", lambda: None)  # noqa: B010 - it is a method
        for recorder in (self.pair.served, self.pair.called_back):
            recorder.on_call = self._arrived

    @property
    def ends(self) -> tuple[Connection, Connection]:
        return self.pair.client, self.pair.server

    def all_held(self) -> list[tuple[Connection, int]]:
        """Where what is held lies."""
        return [(end, place) for end in self.ends for place in range(len(self.held[end]))]

    def _arrived(self, call: IncomingCall) -> None:
        self.held[call.connection].append(call.request.arguments.references)
        call.started()
        call.refuse(Refused(Reason.UNIMPLEMENTED, "no"), ran=True)
        self.pair.served.calls.clear()
        self.pair.called_back.calls.clear()

    @rule(side=st.integers(0, 1), numbers=st.lists(st.integers(0, 2), min_size=1, max_size=3), at_once=st.booleans())
    def passes(self, side: int, numbers: list[int], at_once: bool) -> None:
        end = self.ends[side]
        things = [self.things[end][number] for number in numbers]
        end.call(request_with(*things, on_outcome=lambda outcome: None))
        if at_once:
            self.travels(side)

    @precondition(lambda self: self.all_held())
    @rule(which=st.integers(0, 99))
    def sends_back(self, which: int) -> None:
        held = self.all_held()
        end, place = held[which % len(held)]
        back = [reference for reference in self.held[end][place] if isinstance(reference, Held)]
        end.call(request_with(*back, on_outcome=lambda outcome: None))

    @precondition(lambda self: self.all_held())
    @rule(which=st.integers(0, 99))
    def drops(self, which: int) -> None:
        held = self.all_held()
        end, place = held[which % len(held)]
        del self.held[end][place]

    @rule(side=st.integers(0, 1))
    def drops_all(self, side: int) -> None:
        self.held[self.ends[side]].clear()

    @rule(side=st.integers(0, 1))
    def gives_back(self, side: int) -> None:
        self.give_back[self.ends[side]]()

    @rule(side=st.integers(0, 1))
    def travels(self, side: int) -> None:
        sender, receiver = self.ends[side], self.ends[1 - side]
        sent = sender.next_message(timeout=0)
        if sent is not None:
            receiver.receive(sent)

    @invariant()
    def nothing_held_is_gone(self) -> None:
        for end, other in (self.ends, self.ends[::-1]):
            assert end.ended_because is None
            for references in self.held[end]:
                for reference in references:
                    assert not isinstance(reference, Unknown)
                    if isinstance(reference, Held):
                        assert other.exports.find(reference.number) is not None

    def teardown(self) -> None:
        self.pair.settle()
        for kept in self.held.values():
            kept.clear()
        for end in self.ends:
            self.give_back[end]()
        self.pair.settle()
        for end in self.ends:
            assert (end.exports.given, end.exports.held) == (0, 0)
        self.pair.stop()


def test_in_any_order_of_frames_no_reference_is_lost_or_left() -> None:
    run_state_machine_as_test(Both, settings=settings(max_examples=100, stateful_step_count=40, deadline=None))
