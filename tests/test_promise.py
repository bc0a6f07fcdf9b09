"""What follows a future."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

import broker


def test_steps_follow_in_order_whether_the_value_is_there_or_not() -> None:
    future: Future[int] = Future()
    promise = broker.Promise(future).then(lambda value, more: value + more, 1)
    promise.then(lambda value, by: value * by, by=10)
    assert not promise.done()
    assert promise.wait(0) is False
    assert "pending" in repr(promise)
    future.set_result(6)
    assert promise.result() == 70
    assert promise.then(str).result() == "70"
    assert promise.wait() is True
    assert "done" in repr(promise)


def test_a_step_that_fails_fails_the_promise_and_those_after_it_do_not_run() -> None:
    ran: list[Any] = []
    promise = broker.Promise()
    promise.then(lambda value: 1 // value).on_error(ran.append).then(ran.append)
    promise.set_result(0)
    with pytest.raises(ZeroDivisionError):
        promise.result()
    promise.on_error(ran.append)
    assert [type(each) for each in ran] == [ZeroDivisionError] * 2


def test_who_settles_it_first_has_settled_it() -> None:
    promise = broker.Promise()
    promise.set_exception(LookupError("first"))
    promise.set_result(1)
    promise.set_exception(ValueError("later"))
    with pytest.raises(LookupError, match="first"):
        promise.result()


def test_cancelling_ends_what_was_to_follow() -> None:
    seen: list[BaseException] = []
    promise = broker.Promise().then(print).on_error(seen.append)
    assert promise.cancel() is True
    with pytest.raises(CancelledError):
        promise.result()
    promise.set_result("too late")
    assert [type(error) for error in seen] == [CancelledError]
    settled = broker.Promise()
    settled.set_result(1)
    assert settled.cancel() is False


def test_a_function_on_a_thread_of_its_own() -> None:
    go_on = threading.Event()
    promise = broker.Promise().run(lambda word, times: go_on.wait(10) and word * times, "ab", times=2)
    assert promise.wait(0) is False
    go_on.set()
    assert promise.result(10) == "abab"

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):  # in who asks, and not nowhere
        broker.Promise().run(leave).result(10)


def test_calls_of_a_proxy() -> None:
    with broker.Daemon() as daemon:
        proxy: Any = broker.Proxy(daemon.register(broker.EchoServer()))
        assert broker.Promise(proxy.echo.future("couch")).then(str.upper).result(10) == "COUCH"
        failed = broker.Promise(proxy.error.future()).then(str.upper)
        with pytest.raises(ValueError, match="generated error"):
            failed.result(10)
