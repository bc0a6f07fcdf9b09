"""The future of a call: `concurrent.futures.Future` to all who use it, and little work for the thread that reads.

What arrives stays undecoded until somebody asks for the result, and what it takes to wait is made when somebody waits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import TYPE_CHECKING, Any

from broker._pb.broker_pb2 import Batch, Call
from broker.calling.callbacks import callback_threads
from broker.calling.driven import DrivenCall
from broker.calling.invocation import Invocation
from broker.codecs import Encoded
from broker.connection.chains import Waiter
from broker.connection.client import Route
from broker.connection.forks import forks
from broker.connection.workers import run_nested_late
from broker.uri import URI

if TYPE_CHECKING:
    from broker.calling.remote import Remote

PENDING, _CANCELLED, FINISHED = "PENDING", "CANCELLED_AND_NOTIFIED", "FINISHED"  # as the standard library has them
_DECODED = InvalidStateError("the outcome of a call is decoded once")
_log = logging.getLogger("broker")


class _Waiting:
    """Who waits for a future: what the base class makes for every one."""

    __slots__ = ("callbacks", "condition", "generation", "waiters")

    def __init__(self) -> None:
        self.generation = forks.generation
        self.condition = threading.Condition()
        self.waiters: list[Any] = []
        self.callbacks: list[Callable[[Future[Any]], object]] = []


class _Wake:
    """A thread in `result()`, as `concurrent.futures` notifies those who wait."""

    __slots__ = ("_waiter",)

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter

    def add_result(self, future: Future[Any]) -> None:
        self._waiter.finish()

    add_exception = add_cancelled = add_result


class CallFuture(DrivenCall, Future[Any]):
    """The future of a call. Every method may be called from any thread.

    The base class keeps its state in `_state`, `_condition`, `_waiters` and `_done_callbacks`, and functions such as
    `concurrent.futures.wait` use them: they are here too.
    """

    _waiting: _Waiting | None = None
    _known: tuple[Any, BaseException | None] | None = None  # the result, or the exception, once it was decoded

    def __init__(self, remote: Remote, member: str, arguments: Encoded, batch: Batch | None = None) -> None:
        kind = Call.METHOD if batch is None else Call.BATCH
        Invocation.__init__(self, remote, member, arguments, kind, waits=False, batch=batch)
        self._state = PENDING

    def submit(self) -> None:
        """Sends the call; waits if thousands are unanswered. Raises CodecError and MessageTooLargeError."""
        place = self.remote.open_place(nested=self.outlasts_drain)
        is_full = self.remote.departures.is_full if place is None else place[1].room.is_full
        if not is_full or on_a_loop() or self._wait_for_room(place):
            self.start(place)
        else:
            self.ending = self.too_late(None)
            self.completed()

    def _wait_for_room(self, place: tuple[URI, Route] | None) -> bool:
        """Waits until the call may be made; False if its time comes first."""
        deadline = self.request.deadline
        if place is None:
            return self.remote.departures.wait(self.remote, deadline)
        return place[1].room.wait(deadline)

    # ---- what ends it

    def completed(self) -> None:
        self._state = _CANCELLED if type(self.ending) is CancelledError else FINISHED
        waiting = self._waiting
        if waiting is None:
            return
        if waiting.generation != forks.generation:  # those who wait are threads of the parent process
            self._waiting = None
            return
        with waiting.condition:
            for waiter in waiting.waiters:
                waiter.add_result(self)
            waiting.condition.notify_all()
        if waiting.callbacks:
            callback_threads.put(self)

    def cancel(self) -> bool:
        """Cancels the call, also while the method runs, which sees that it is cancelled. False if the call is over."""
        return self.give_up("the future was cancelled", CancelledError()) or type(self.ending) is CancelledError

    def cancelled(self) -> bool:
        return self._state == _CANCELLED

    def running(self) -> bool:
        """Whether the call is under way. It can be cancelled all the same."""
        return self._state == PENDING

    def done(self) -> bool:
        return self._state != PENDING

    # ---- what came of it

    def result(self, timeout: float | None = None) -> Any:
        """The result of the method, or raises what it raised, and BrokerErrors.

        Raises CancelledError, and TimeoutError if it is not there within `timeout` seconds: the call goes on.
        """
        value, error = self._outcome(timeout)
        if error is None:
            return value
        try:
            raise error
        finally:
            del self, error  # the traceback of the error refers to this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the method raised, or a BrokerError; None if it returned. Raises CancelledError and TimeoutError."""
        return self._outcome(timeout)[1]

    def _outcome(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        if self._state == PENDING and not self._wait(timeout):
            raise TimeoutError(f"{self._what} of {self.remote.where()} has no result yet")
        if self._state == _CANCELLED:
            raise CancelledError
        known = self._known
        if known is None:
            known = self._set_once("_known", self._decode())  # one result for all who ask
            self.ending = _DECODED  # lets go of the bytes
        return known

    def _decode(self) -> tuple[Any, BaseException | None]:
        ending = self.ending
        if isinstance(ending, BaseException):
            return None, ending
        assert ending is not None
        try:
            return self.result_of(ending), None
        except Exception as error:
            return None, error.with_traceback(None)

    def _wait(self, timeout: float | None) -> bool:
        """Waits until it is done, and runs the nested calls of its chain meanwhile; False if it takes longer."""
        waiter = Waiter(self.request.chain, self.request.depth)
        wake = _Wake(waiter)
        with self._condition:
            if self._state != PENDING:
                return True
            self._waiters.append(wake)
        try:
            waiter.register()
            return waiter.wait(None if timeout is None else time.monotonic() + timeout, run_nested_late)
        finally:
            with self._condition:
                self._waiters.remove(wake)

    # ---- callbacks

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Calls the function with the future when it is done, on a thread of the library, one after another; at once
        and on this thread if it is done. What it raises is logged."""
        with self._condition:
            if self._state == PENDING:
                self._done_callbacks.append(fn)
                return
        self._call_back(fn)

    def run_callbacks(self) -> None:
        for function in self._done_callbacks:
            self._call_back(function)

    def _call_back(self, function: Callable[[Future[Any]], object]) -> None:
        try:
            function(self)
        except Exception:
            _log.exception("a callback of %r failed", self)

    # ---- what the base class has as plain attributes

    def _who_waits(self) -> _Waiting:
        waiting = self._waiting
        if waiting is None:
            waiting = self._set_once("_waiting", _Waiting())
        return waiting

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        return self._who_waits().condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        return self._who_waits().waiters

    @property
    def _done_callbacks(self) -> list[Callable[[Future[Any]], object]]:
        return self._who_waits().callbacks

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        """(done, cancelled, result, exception) for asyncio of Python 3.14."""
        if self._state != FINISHED:
            return self.done(), self.cancelled(), None, None
        return True, False, *self._outcome(None)

    def set_running_or_notify_cancel(self) -> bool:
        raise InvalidStateError(f"{self!r} is ended by its call alone")

    def set_result(self, result: Any) -> None:
        raise InvalidStateError(f"{self!r} is ended by its call alone")

    def set_exception(self, exception: BaseException | None) -> None:
        raise InvalidStateError(f"{self!r} is ended by its call alone")

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "under way"
        return f"<future of {self._what} of {self.remote.where()}; {state}>"


def on_a_loop() -> bool:
    """Whether an event loop runs in this thread: it must not wait."""
    return asyncio._get_running_loop() is not None
