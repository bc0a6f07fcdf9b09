"""Futures of calls with functions around them: the functions run on a thread of ours, from the first to the end.

A function waits in its `next`, so each of these calls holds a thread while it is under way; further ones wait for one.
The calls of one thread still depart in the order made: the functions of the next begin when the one before has sent its
call, or has ended without.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from broker._pb import broker_pb2 as wire
from broker.around import Call, same_target
from broker.calling.around import KINDS, as_call, mark, not_awaited, turns
from broker.calling.futures import CallFuture, on_a_loop
from broker.connection.room import Room
from broker.connection.workers import Workers, start_thread
from broker.errors import CommunicationError, Overloaded

if TYPE_CHECKING:
    from broker.calling.remote import Remote

MOST_THREADS = 256
"""Threads for the functions of futures in one process; there are more for futures that such a function makes itself."""


class _Local(threading.local):
    is_ours = False  # whether this thread runs such functions


_local = _Local()
_threads = Workers(limit=MOST_THREADS, name="broker-around")
_under_way: set[AroundFuture] = set()
_room = Room(lambda: len(_under_way))


class AroundFuture(Future[Any]):
    """The future of a call with functions around it. Every method may be called from any thread."""

    def __init__(
        self,
        remote: Remote,
        member: str,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        kind: wire.Call.Kind = wire.Call.METHOD,
    ) -> None:
        super().__init__()
        self._remote = remote
        self._kind = kind
        self._asked = as_call(remote, member, args, kwargs, KINDS[kind], oneway=False)
        self._variables = contextvars.copy_context()
        self._lane = remote.lanes.of_thread(waits=False)
        self._sent: CallFuture | None = None
        self._may_end = threading.Lock()  # taken by what ends it, and never left
        self._may_depart = threading.Lock()  # taken by its departure

    def submit(self) -> None:
        """Begins as soon as the calls that this thread made before have departed; waits if thousands are unanswered."""
        if _room.is_full and not (_local.is_ours or on_a_loop()):
            _room.wait(None)
        _under_way.add(self)
        turns.enter(self._lane, self._begin)

    # ---- what its users do

    def cancel(self) -> bool:
        """Cancels the call, also while the method runs, which sees that it is cancelled. False if the call is over."""
        if not super().cancel():
            return False
        if self._may_end.acquire(blocking=False):
            self.set_running_or_notify_cancel()
            sent = self._sent
            if sent is not None:
                sent.cancel()
        return True

    def running(self) -> bool:
        """Whether the call is under way. It can be cancelled all the same."""
        return not self.done()

    def forget_after_fork(self) -> None:
        """In a child process: the thread that runs the functions is not here, nor are those that wait."""
        self._condition = threading.Condition()
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []
        self._may_end, self._may_depart = threading.Lock(), threading.Lock()
        if not self.done():
            self.set_exception(CommunicationError("this process was forked, and the call is made by its parent"))

    # ---- on a thread of ours

    def _begin(self) -> None:
        """Calls of one thread come here one after another; the next comes when this one has departed."""
        try:
            if _local.is_ours:
                start_thread(self._run, "broker-around")
            else:
                _threads.submit(self._run)
        except Overloaded as error:
            self._end(None, error)

    def _run(self) -> None:
        _local.is_ours = True
        if self.cancelled():
            self._end(None, None)
            return
        try:
            chain = self._remote.options.around.nested(self._send_and_wait, not_awaited)
            self._end(self._variables.run(chain, self._asked), None)
        except BaseException as error:
            self._end(None, error)

    def _send_and_wait(self, call: Call) -> Any:
        remote, asked = self._remote, self._asked
        if call is not asked:
            call = same_target(asked, call)
        arguments, batch = remote.pack(self._kind, call.args, call.kwargs, snapshot=False)
        sent = CallFuture(remote, asked.member, arguments, batch)
        mark(sent, call)
        sent.request.lane = self._lane
        sent.submit()
        self._sent = sent
        if self.cancelled():
            sent.cancel()
        self._depart()
        return sent.result()

    def _depart(self) -> None:
        if self._may_depart.acquire(blocking=False):
            turns.leave(self._lane)

    def _end(self, value: object, error: BaseException | None) -> None:
        self._depart()
        _under_way.discard(self)
        _room.answered()
        if self._may_end.acquire(blocking=False) and self.set_running_or_notify_cancel():
            if error is None:
                self.set_result(value)
            else:
                self.set_exception(error)


def _after_fork() -> None:
    _threads.__init__(_threads.limit, _threads.name)  # type: ignore[misc]  # its threads are not in the child
    turns.__init__()  # type: ignore[misc]
    _room.__init__(lambda: len(_under_way))  # type: ignore[misc]
    for future in list(_under_way):
        future.forget_after_fork()
    _under_way.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
