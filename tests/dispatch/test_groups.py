"""Plain calls that arrive in one message: carried out together, and each as if it had come alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from broker._pb.broker_pb2 import Call
from broker.codecs import JsonCodec, PlainEdge, TypeRegistry
from broker.connection import chains
from broker.connection import leading as leading_module
from broker.connection.calls import CallRequest, Outcome
from broker.connection.engine import Connection, Settings
from broker.connection.reading import CallFrame, ResultFrame, decode_frames
from broker.connection.refusals import Reason
from broker.connection.workers import Workers
from broker.context import CallContext, current_context
from broker.dispatch import Arrivals, Dispatcher, groups
from broker.loop import LoopThread
from broker.objects import ObjectTable, Sessions

SOON = 40.0
EDGE = PlainEdge()


class Thing:
    """What is called."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.threads: set[int] = set()
        self.go_on = threading.Event()
        self.entered = threading.Semaphore(0)
        self.told = threading.Event()
        self.closed = threading.Event()

    def add(self, number: int, more: int = 0) -> int:
        self.begun.append(number)
        self.threads.add(threading.get_ident())
        return number + more

    def odd(self, number: int) -> Any:
        """Something else for each number, plain and not."""
        self.begun.append(number)
        if number == 1:
            return [number]
        if number == 2:
            raise ValueError("two")
        if number == 3:
            current_context.response_metadata["is"] = "three"
        if number == 4:
            return "x" * 10_000
        if number == 5:
            return iter([1, 2])
        return number

    def wait_at(self, number: int, place: int) -> int:
        self.begun.append(number)
        if number == place:
            self.entered.release()
            assert self.go_on.wait(SOON)
        return number

    def hang_at(self, number: int, place: int) -> int:
        self.begun.append(number)
        if number == place:
            self.entered.release()
            if current_context.wait_cancelled(SOON):
                self.told.set()
        return number

    def chain(self, number: int) -> str:
        assert current_context.correlation_id is not None
        return current_context.correlation_id.hex

    def close(self) -> None:
        self.closed.set()

    def track(self, number: int) -> int:
        if number == 1:
            current_context.track(self)
        return number


class Both:
    """A client, and a server with a dispatcher; messages pass when they are told to."""

    def __init__(self, **limits: Any) -> None:
        self.thing = Thing()
        objects = ObjectTable("here:1", require_expose=False, types=TypeRegistry(), published=lambda name: None)
        objects.add(self.thing, "thing")
        self.sessions = Sessions()
        self.workers = Workers(4, "test-worker")
        self.loop = LoopThread()
        self.dispatcher = Dispatcher(
            objects, self.sessions, self.workers, PlainEdge(), codecs=("json",), loop=self.loop.get, **limits
        )
        self.dispatcher.start()
        self.client = Connection(Settings(), Arrivals(self.dispatcher), accepts=False)
        self.server = Connection(Settings(), Arrivals(self.dispatcher), accepts=True)
        self.outcomes: dict[int, Outcome] = {}
        self.arrived = threading.Condition()
        self.pass_on(self.client, self.server)
        self.to_client()

    def call(self, member: str, *args: Any, lane: int = 0, session: int = 1) -> Any:
        """Makes a call, which waits for `to_server`; returns it."""
        request = CallRequest(
            "thing", member, Call.METHOD, JsonCodec().encode_call(args, {}, EDGE), chains.new_chain(),
            lane=lane, session=session,
        )  # fmt: skip
        made: list[Any] = []

        def on_outcome(outcome: Outcome) -> None:
            with self.arrived:
                self.outcomes[made[0].id] = outcome
                self.arrived.notify_all()

        request.on_outcome = on_outcome
        made.append(self.client.call(request))
        return made[0]

    def pass_on(self, sender: Connection, receiver: Connection) -> None:
        while (message := sender.next_message(0)) is not None:
            receiver.receive(message)

    def take_in(self) -> None:
        """The server takes in what was sent, and leaves the calls to be run."""
        self.dispatcher.leading.collect()
        self.pass_on(self.client, self.server)

    def to_server(self) -> None:
        """A thread that reads does what it does with a message."""
        self.take_in()
        self.dispatcher.leading.lead()

    def to_client(self) -> None:
        self.pass_on(self.server, self.client)

    def value(self, made: Any) -> Any:
        outcome = self.outcome(made)
        assert outcome.value is not None, outcome
        return JsonCodec().decode(outcome.value, EDGE, "result")

    def outcome(self, made: Any) -> Outcome:
        give_up = time.monotonic() + SOON
        while made.id not in self.outcomes:
            self.to_client()
            with self.arrived:
                self.arrived.wait_for(lambda: made.id in self.outcomes, 0.005)
            assert time.monotonic() < give_up
        return self.outcomes[made.id]

    def close(self) -> None:
        self.thing.go_on.set()
        self.client.lost("the test is over")
        self.server.lost("the test is over")
        self.workers.close()


@pytest.fixture
def make_both() -> Iterator[Callable[..., Both]]:
    made: list[Both] = []

    def make(**limits: Any) -> Both:
        made.append(Both(**limits))
        return made[-1]

    yield make
    for both in made:
        until_idle(both)
        both.close()


@pytest.fixture
def both(make_both: Callable[..., Both]) -> Both:
    return make_both()


def until_idle(both: Both) -> None:
    both.thing.go_on.set()
    give_up = time.monotonic() + SOON
    while both.dispatcher.under_way:
        assert time.monotonic() < give_up
        time.sleep(0.001)


def in_thread(function: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


# ---- together


def test_their_results_go_back_in_one_message(both: Both) -> None:
    calls = [both.call("add", number, 1) for number in range(20)]
    both.to_server()
    message = both.server.next_message(0)
    assert message is not None
    (answers,) = decode_frames(message)
    assert isinstance(answers, list)
    assert [type(frame) for frame in answers] == [ResultFrame] * 20
    assert both.server.next_message(0) is None
    both.client.receive(message)
    assert [both.value(call) for call in calls] == [*range(1, 21)]
    assert both.thing.begun == [*range(20)]
    assert both.thing.threads == {threading.get_ident()}
    assert both.dispatcher.under_way == 0
    assert both.dispatcher.stats(connections=1, sessions=0, exports=0).calls["method"] == 20


def test_many_results_do_not_wait_for_all(both: Both) -> None:
    calls = [both.call("add", number) for number in range(200)]
    both.to_server()
    assert [both.value(call) for call in calls] == [*range(200)]
    until_idle(both)
    assert not both.server.busy


def test_credit_comes_back(both: Both) -> None:
    for _ in range(5):
        calls = [both.call("add", number) for number in range(500)]
        both.to_server()
        assert [both.value(call) for call in calls] == [*range(500)]


def test_each_call_has_its_own_context(both: Both) -> None:
    calls = [both.call("chain", number) for number in range(5)]
    both.to_server()
    assert [both.value(call) for call in calls] == [call.request.chain.hex() for call in calls]


def test_calls_of_other_heads_are_other_groups(both: Both) -> None:
    made = [both.call("add", 1), both.call("add", 2), both.call("chain", 3), both.call("add", 4, session=2)]
    made += [both.call("add", 5, session=2), both.call("add", 6, lane=3)]
    both.to_server()
    assert [both.value(call) for call in made if call is not made[2]] == [1, 2, 4, 5, 6]
    assert both.thing.begun == [1, 2, 4, 5, 6]


# ---- what is not so plain


@pytest.mark.parametrize("lane", [0, 7])
def test_what_is_not_plain_is_answered_by_itself(both: Both, lane: int) -> None:
    calls = [both.call("odd", number, lane=lane) for number in range(8)]
    both.to_server()
    outcomes = [both.outcome(call) for call in calls]
    assert both.value(calls[0]) == 0
    assert both.value(calls[1]) == [1]
    assert outcomes[2].raised
    assert isinstance(both.value(calls[2]), ValueError)
    assert outcomes[3].metadata == {"is": "three"}
    assert both.value(calls[4]) == "x" * 10_000
    assert outcomes[5].stream is not None
    assert [both.value(call) for call in calls[6:]] == [6, 7]
    assert both.thing.begun == [*range(8)]
    stats = both.dispatcher.stats(connections=1, sessions=0, exports=0)
    assert stats.errors == {"ValueError": 1}
    outcomes[5].stream.cancel("not wanted")
    both.take_in()


def test_what_does_not_fit_is_refused_by_itself(both: Both) -> None:
    calls = [both.call("add", 1), both.call("add", 1, 2, 3), both.call("add"), both.call("add", 4)]
    both.to_server()
    refused = [both.outcome(call).refused for call in calls]
    assert [each.reason if each is not None else None for each in refused] == [
        None, Reason.WRONG_ARGUMENTS, Reason.WRONG_ARGUMENTS, None,
    ]  # fmt: skip
    assert both.thing.begun == [1, 4]


def test_a_hidden_member_is_refused_for_each(both: Both) -> None:
    calls = [both.call("fly", number) for number in range(3)]
    both.to_server()
    reasons = {refused.reason for call in calls if (refused := both.outcome(call).refused) is not None}
    assert reasons == {Reason.MEMBER_NOT_FOUND}


def test_what_a_call_keeps_for_the_session_is_said(both: Both) -> None:
    calls = [both.call("track", number) for number in range(3)]
    both.to_server()
    assert [both.outcome(call).kept for call in calls] == [False, True, True]
    both.client.close_session(1)
    both.take_in()
    assert both.thing.closed.wait(SOON)


def test_limits_count_each_call(make_both: Callable[..., Both]) -> None:
    both = make_both(max_calls=10, max_calls_per_connection=10)
    calls = [both.call("wait_at", number, number) for number in range(15)]
    reader = in_thread(both.to_server)
    refused = [both.outcome(call).refused for call in calls[10:]]
    assert [each.reason for each in refused if each is not None] == [Reason.OVERLOADED] * 5
    both.thing.go_on.set()
    reader.join(SOON)
    assert [both.value(call) for call in calls[:10]] == [*range(10)]


# ---- a caller who calls again as soon as he is answered


class AtOnce:
    """A transport over which the client takes everything in before `send` returns."""

    def __init__(self, client: Connection, then: Callable[[], None] = lambda: None) -> None:
        self._client = client
        self._then = then

    def send(self, pieces: Sequence[bytes | memoryview]) -> bool:
        with leading_module.apart():
            self._client.receive(b"".join(pieces))
            self._then()
        return True

    def finish(self) -> None: ...


def again_when_answered(both: Both, first: list[Any], *further: tuple[Any, ...]) -> list[Any]:
    """Makes further calls, each as one of the first is answered, and before the server goes on."""
    made: list[Any] = []
    waiting = list(further)
    for call in first:
        on_outcome = call.request.on_outcome

        def answered(outcome: Outcome, on_outcome: Callable[[Outcome], None] = on_outcome) -> None:
            on_outcome(outcome)
            if waiting:
                made.append(both.call(*waiting.pop(0)))
                both.to_server()

        call.request.on_outcome = answered
    both.server.hand_to(AtOnce(both.client))
    both.to_server()
    return made


@pytest.mark.parametrize(("member", "number"), [("add", 1), ("odd", 1), ("odd", 2), ("odd", 4), ("fly", 1)])
@pytest.mark.parametrize("item", ["max_calls", "max_calls_per_connection"])
def test_a_caller_at_the_limit_calls_again_when_he_is_answered(
    make_both: Callable[..., Both], item: str, member: str, number: int
) -> None:
    """Answered on the short road; on the long one, as what it returns is not plain, or it raises; refused."""
    both = make_both(**{item: 1})
    first = both.call(member, number)
    (second,) = again_when_answered(both, [first], ("add", 2))
    assert both.value(second) == 2


@pytest.mark.parametrize("item", ["max_calls", "max_calls_per_connection", "max_streams_per_connection"])
def test_a_caller_at_the_limit_calls_again_when_his_stream_has_ended(make_both: Callable[..., Both], item: str) -> None:
    both = make_both(**{item: 1})
    first = both.call("odd", 5)
    further: list[Any] = []

    def call_again() -> None:
        if not further and first.id in both.outcomes and not both.client.busy:
            further.append(both.call("odd", 5))
            both.to_server()

    both.server.hand_to(AtOnce(both.client, call_again))
    both.to_server()
    until_idle(both)
    assert both.outcome(further[0]).stream is not None


def test_the_calls_of_a_group_that_are_answered_do_not_count(make_both: Callable[..., Both]) -> None:
    """They are answered in pieces of 64."""
    both = make_both(max_calls=130)
    calls = [both.call("add", number) for number in range(130)]
    further = again_when_answered(both, calls, *[("add", number) for number in range(64)])
    assert [both.value(call) for call in further] == [*range(64)]


def test_a_group_that_is_answered_while_one_of_its_calls_takes_long_does_not_count(
    make_both: Callable[..., Both],
) -> None:
    both = make_both(max_calls=10)
    calls = [both.call("wait_at", number, 0) for number in range(10)]
    reader = in_thread(both.to_server)
    assert both.thing.entered.acquire(timeout=SOON)
    assert [both.value(call) for call in calls[1:]] == [*range(1, 10)]
    more = [both.call("hang_at", number, 20) for number in range(9)]
    both.to_server()
    assert [both.value(call) for call in more] == [*range(9)]
    both.thing.go_on.set()
    reader.join(SOON)
    assert both.value(calls[0]) == 0


# ---- a call that takes long


def test_while_a_call_takes_long_the_others_go_on_elsewhere(both: Both) -> None:
    calls = [both.call("wait_at", number, 5) for number in range(20)]
    reader = in_thread(both.to_server)
    assert both.thing.entered.acquire(timeout=SOON)
    assert [both.value(call) for call in calls if call is not calls[5]] == [*range(5), *range(6, 20)]
    assert calls[5].id not in both.outcomes
    both.thing.go_on.set()
    reader.join(SOON)
    assert both.value(calls[5]) == 5


def test_results_do_not_wait_for_a_call_that_takes_long(both: Both) -> None:
    calls = [both.call("wait_at", number, 9) for number in range(10)]
    reader = in_thread(both.to_server)
    assert both.thing.entered.acquire(timeout=SOON)
    assert [both.value(call) for call in calls[:9]] == [*range(9)]
    assert not both.thing.go_on.is_set()
    both.thing.go_on.set()
    reader.join(SOON)


def test_a_method_that_takes_long_runs_as_often_at_once_as_it_is_called(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [both.call("wait_at", number, number) for number in range(4)]
    reader = in_thread(both.to_server)
    for _ in calls:
        assert both.thing.entered.acquire(timeout=SOON)
    both.thing.go_on.set()
    reader.join(SOON)
    assert [both.value(call) for call in calls] == [*range(4)]


def test_calls_of_a_lane_start_in_order_when_one_of_them_takes_long(both: Both) -> None:
    calls = [both.call("wait_at", number, 3, lane=7) for number in range(10)]
    reader = in_thread(both.to_server)
    assert both.thing.entered.acquire(timeout=SOON)
    later = [both.call("wait_at", number, 3, lane=7) for number in range(10, 20)]
    both.to_server()
    assert [both.value(call) for call in (*calls[:3], *calls[4:], *later)] == [*range(3), *range(4, 20)]
    assert both.thing.begun == [*range(20)]
    both.thing.go_on.set()
    reader.join(SOON)


def test_slow_calls_of_a_lane_start_in_order_by_themselves(both: Both) -> None:
    registration = both.dispatcher.express.find(Call(object="thing", member="wait_at"))
    assert registration is not None
    calls = [both.call("wait_at", number, number, lane=7) for number in range(4)]
    reader = in_thread(both.to_server)
    for _ in calls:
        assert both.thing.entered.acquire(timeout=SOON)
    assert both.thing.begun == [0, 1, 2, 3]
    both.thing.go_on.set()
    reader.join(SOON)
    assert [both.value(call) for call in calls] == [0, 1, 2, 3]


def test_others_have_their_turn_between(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_SLICE", 0.0)
    monkeypatch.setattr(leading_module, "PATIENCE", SOON)
    other = Connection(Settings(), Arrivals(both.dispatcher), accepts=False)
    server = Connection(Settings(), Arrivals(both.dispatcher), accepts=True)
    both.pass_on(other, server)
    both.pass_on(server, other)
    for number in range(10):
        both.call("add", number)
    both.take_in()
    request = CallRequest(
        "thing", "add", Call.METHOD, JsonCodec().encode_call((100,), {}, EDGE), chains.new_chain(), session=1
    )
    request.on_outcome = lambda outcome: None
    other.call(request)
    both.pass_on(other, server)
    both.dispatcher.leading.lead()
    assert both.thing.begun[-1] != 100
    assert sorted(both.thing.begun) == [*range(10), 100]
    server.lost("the test is over")
    other.lost("the test is over")


# ---- given up


def test_a_call_that_runs_is_told_that_it_is_given_up(both: Both) -> None:
    calls = [both.call("hang_at", number, 2) for number in range(3)]
    reader = in_thread(both.to_server)
    assert both.thing.entered.acquire(timeout=SOON)
    both.client.cancel(calls[2], "not wanted")
    both.pass_on(both.client, both.server)
    assert both.thing.told.wait(SOON)
    reader.join(SOON)
    assert [both.value(call) for call in calls[:2]] == [0, 1]


def test_a_call_that_is_given_up_as_it_begins_is_told(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [both.call("hang_at", number, 2) for number in range(3)]

    def context(*args: Any, **kwargs: Any) -> CallContext:
        """Between the look whether the call was given up, and its beginning."""
        if both.thing.begun == [0, 1]:
            both.client.cancel(calls[2], "not wanted")
            in_thread(lambda: both.pass_on(both.client, both.server)).join(SOON)
        return CallContext(*args, **kwargs)

    monkeypatch.setattr(groups, "CallContext", context)
    reader = in_thread(both.to_server)
    assert both.thing.told.wait(SOON)
    reader.join(SOON)
    assert [both.value(call) for call in calls[:2]] == [0, 1]


def test_a_call_that_has_not_begun_and_is_given_up_is_not_begun(both: Both) -> None:
    calls = [both.call("add", number) for number in range(5)]
    both.take_in()
    both.client.cancel(calls[3], "not wanted")
    both.pass_on(both.client, both.server)
    both.dispatcher.leading.lead()
    assert [both.value(call) for call in calls if call is not calls[3]] == [0, 1, 2, 4]
    assert both.thing.begun == [0, 1, 2, 4]


def test_all_are_given_up_with_the_connection(both: Both) -> None:
    for number in range(5):
        both.call("hang_at", number, 2)
    reader = in_thread(both.to_server)
    assert both.thing.entered.acquire(timeout=SOON)
    both.server.lost("cut")
    assert both.thing.told.wait(SOON)
    reader.join(SOON)
    until_idle(both)
    assert both.thing.begun == [0, 1, 2]


def test_a_daemon_that_ends_waits_for_them_and_tells_them_then(both: Both) -> None:
    for number in range(3):
        both.call("hang_at", number, 1)
    reader = in_thread(both.to_server)
    assert both.thing.entered.acquire(timeout=SOON)
    both.dispatcher.drain(time.monotonic() + 0.05)
    assert both.thing.told.wait(SOON)
    reader.join(SOON)
    until_idle(both)


# ---- by whom they are run


def test_without_a_thread_that_leads_a_worker_does(both: Both) -> None:
    calls = [both.call("add", number) for number in range(10)]
    both.pass_on(both.client, both.server)
    assert [both.value(call) for call in calls] == [*range(10)]
    assert threading.get_ident() not in both.thing.threads


def test_large_arguments_go_by_themselves(both: Both) -> None:
    calls = [both.call("odd", 7), both.call("odd", "x" * 5000), both.call("odd", 8)]
    both.to_server()
    assert [both.value(call) for call in calls] == [7, "x" * 5000, 8]


def test_a_credit_that_was_not_given_ends_the_connection(both: Both) -> None:
    head = Call(object="thing", member="add", depth=1)
    frames = [CallFrame(number, head, bytes(16), b"[[1],{}]") for number in range(1, 1026)]
    both.dispatcher.leading.collect()  # none of them starts meanwhile
    both.server.receive(b"".join(_framed(frame) for frame in frames))
    both.dispatcher.leading.lead()
    assert "without credit" in (both.server.ended_because or "")
    assert both.thing.begun == []


def _framed(frame: CallFrame) -> bytes:
    from broker.connection.frames import encode_frame

    return encode_frame(frame.to_frame())
