"""`current_context` and the CallContext behind it."""

from __future__ import annotations

import contextvars
import functools
import logging
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from broker.context import CallContext, Client, current_context, received_metadata
from broker.errors import BrokerError

CLIENT = Client("127.0.0.1:4711", b"p" * 16)


class Session:
    """Keeps what it was given."""

    def __init__(self) -> None:
        self.tracked: list[Any] = []
        self.closers: list[Callable[[], object]] = []

    def track(self, resource: Any) -> None:
        self.tracked.append(resource)

    def untrack(self, resource: Any) -> None:
        self.tracked.remove(resource)

    def on_close(self, function: Callable[[], object]) -> None:
        self.closers.append(function)


class Resource:
    def close(self) -> None:
        """Has nothing to close."""


def a_call(**more: Any) -> CallContext:
    return CallContext(CLIENT, "example.warehouse", "take", **more)


# ---- outside any call


def test_outside_any_call_there_is_nothing_to_see() -> None:
    assert CallContext.active() is None
    assert current_context.client is None
    assert current_context.object_id is None
    assert current_context.member is None
    assert current_context.correlation_id is None
    assert current_context.remaining is None
    assert current_context.cancelled is False
    assert dict(current_context.metadata) == {}
    assert current_context.response_metadata == {}
    assert repr(current_context) == "<current_context: no call>"


@pytest.mark.parametrize(
    ("name", "argument"),
    [("track", Resource()), ("untrack", Resource()), ("on_close", print), ("on_cancel", print), ("wait_cancelled", 0)],
)
def test_outside_any_call_what_needs_one_says_how_to_carry_it_over(name: str, argument: object) -> None:
    with pytest.raises(BrokerError, match=rf"current_context\.{name}\(\) .*current_context\.copy\(\)\.run"):
        getattr(current_context, name)(argument)


def test_outside_any_call_the_response_metadata_of_the_last_reply_can_be_read() -> None:
    def client() -> None:
        received_metadata({"served-by": "b"})
        assert current_context.response_metadata == {"served-by": "b"}
        received_metadata({})
        assert current_context.response_metadata == {}

    contextvars.copy_context().run(client)


# ---- inside a call


def test_inside_a_call_the_view_shows_it() -> None:
    correlation = uuid.uuid4()
    call = a_call(metadata={"tenant": "acme", "token": b"\x00"}, correlation=correlation.bytes, depth=2)

    def method() -> None:
        assert CallContext.active() is call
        assert current_context.client is CLIENT
        assert (current_context.object_id, current_context.member) == ("example.warehouse", "take")
        assert current_context.metadata == {"tenant": "acme", "token": b"\x00"}
        assert current_context.correlation_id == correlation
        assert repr(current_context) == "<current_context: take of example.warehouse>"

    call.run(method)
    assert CallContext.active() is None


def test_metadata_is_read_only_and_so_is_the_view() -> None:
    def method() -> None:
        with pytest.raises(TypeError):
            current_context.metadata["tenant"] = "other"  # type: ignore[index]
        with pytest.raises(AttributeError):
            current_context.member = "other"  # type: ignore[misc]

    a_call(metadata={"tenant": "acme"}).run(method)


def test_response_metadata_goes_out_if_any_was_set() -> None:
    call = a_call()
    assert call.outgoing_metadata is None
    call.run(lambda: current_context.response_metadata.update(cost="3"))
    assert call.outgoing_metadata == {"cost": "3"}


def test_a_reply_to_a_nested_call_leaves_the_response_metadata_alone() -> None:
    call = a_call()

    def method() -> None:
        current_context.response_metadata["cost"] = "3"
        received_metadata({"cost": "nested"})

    call.run(method)
    assert call.outgoing_metadata == {"cost": "3"}


def test_contexts_nest_and_are_left_again() -> None:
    outer, inner = a_call(), a_call()
    token = outer.enter()
    nested = inner.enter()
    assert CallContext.active() is inner
    CallContext.leave(nested)
    assert CallContext.active() is outer
    CallContext.leave(token)
    assert CallContext.active() is None


def test_what_a_method_sets_in_other_variables_does_not_leak_into_the_next_call() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="fresh")
    a_call().run(variable.set, "used")
    assert a_call().run(variable.get) == "fresh"


# ---- threads that a method starts


def test_a_copy_carries_the_call_into_several_threads_at_once() -> None:
    call = a_call(chain=b"c" * 16, deadline=time.monotonic() + 60)
    both_inside = threading.Barrier(2, timeout=10)

    def work(number: int) -> tuple[int, bytes]:
        both_inside.wait()
        active = CallContext.active()
        assert active is not None
        assert current_context.remaining is not None
        return number, active.chain

    carried = call.run(current_context.copy)
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(carried.run, work, number) for number in (1, 2)]
        assert [result.result() for result in results] == [(1, b"c" * 16), (2, b"c" * 16)]


def test_a_thread_without_a_copy_carries_out_no_call() -> None:
    def method() -> CallContext | None:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(CallContext.active).result()

    assert a_call().run(method) is None


# ---- time and cancelling


def test_remaining_is_in_seconds_and_never_negative() -> None:
    assert a_call().remaining is None
    remaining = a_call(deadline=time.monotonic() + 30).remaining
    assert remaining is not None
    assert 29 < remaining <= 30
    assert a_call(deadline=time.monotonic() - 1).remaining == 0


def test_a_passed_deadline_counts_as_cancelled() -> None:
    late = a_call(deadline=time.monotonic() - 1)
    assert late.cancelled
    assert late.wait_cancelled(60)
    assert not a_call(deadline=time.monotonic() + 60).cancelled


def test_a_wait_ends_with_the_deadline() -> None:
    call = a_call(deadline=time.monotonic() + 0.01)
    assert call.wait_cancelled()


def test_a_wait_ends_with_its_timeout_and_leaves_nothing_behind() -> None:
    call = a_call()
    assert call.wait_cancelled(0.001) is False
    assert call._callbacks == []


def test_a_wait_ends_with_the_cancel() -> None:
    call = a_call()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(call.run, current_context.wait_cancelled, 60)
        call.cancel()
        assert waiting.result(timeout=10) is True
    assert call.run(lambda: current_context.cancelled) is True


def test_callbacks_run_once_each_in_order_and_at_once_when_it_is_too_late() -> None:
    call = a_call()
    seen: list[int] = []
    call.on_cancel(lambda: seen.append(1))
    call.on_cancel(lambda: seen.append(2))
    assert seen == []
    call.cancel()
    call.cancel()
    assert seen == [1, 2]
    call.run(current_context.on_cancel, lambda: seen.append(3))
    assert seen == [1, 2, 3]


def test_a_call_that_is_to_end_soon_is_told_and_those_it_has_made_go_on() -> None:
    call = a_call()
    seen: list[str] = []
    end = lambda: seen.append("ended")  # noqa: E731
    call.watch(end)
    call.on_cancel(lambda: seen.append("told"))
    assert call.mark_ending()
    assert call.cancelled
    call.tell_of_ending()
    call.run(current_context.on_cancel, lambda: seen.append("told later"))
    assert seen == ["told", "told later"]
    assert not call.must_be_told  # the calls that it makes now are made
    call.cancel()
    assert seen == ["told", "told later", "ended"]
    other = a_call()
    other.watch(end)
    other.unwatch(end)
    other.cancel()
    assert seen == ["told", "told later", "ended"]


def test_a_failing_callback_is_logged_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    call = a_call()
    seen: list[str] = []
    call.on_cancel(lambda: 1 / 0)
    call.on_cancel(lambda: seen.append("ran"))
    with caplog.at_level(logging.WARNING, logger="broker"):
        call.cancel()
    assert seen == ["ran"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "take on 'example.warehouse'" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_every_callback_runs_exactly_once_when_cancel_races_registration() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            call = a_call()
            ran: list[int] = []
            start = threading.Barrier(3, timeout=10)

            def register(first: int, call: CallContext = call, ran: list[int] = ran, start: Any = start) -> None:
                start.wait()
                for number in range(first, first + 20):
                    call.on_cancel(functools.partial(ran.append, number))

            threads = [threading.Thread(target=register, args=(first,)) for first in (0, 20)]
            for thread in threads:
                thread.start()
            start.wait()
            call.cancel()
            for thread in threads:
                thread.join()
            assert sorted(ran) == list(range(40))
    finally:
        sys.setswitchinterval(interval)


# ---- the session


def test_resources_and_closers_go_to_the_session() -> None:
    session, resource = Session(), Resource()

    def method() -> None:
        current_context.track(resource)
        current_context.on_close(print)

    call = a_call(session=session)
    call.run(method)
    assert session.tracked == [resource]
    assert session.closers == [print]
    call.run(current_context.untrack, resource)
    assert session.tracked == []


def test_a_resource_that_cannot_be_closed_is_refused() -> None:
    with pytest.raises(TypeError, match=r"of type int, which has no close\(\)"):
        a_call(session=Session()).run(current_context.track, 3)


def test_a_unary_caller_has_no_session_and_the_error_says_so() -> None:
    with pytest.raises(BrokerError, match=r"track\(\): the caller of take on 'example.warehouse' is a unary client"):
        a_call().run(current_context.track, Resource())
