"""Results that are iterators: their items are sent one after another, as fast as the consumer takes them up.

An iterator is stepped by one thread at a time, in one context for its life. It holds a thread, and a place in the gate
of its object, only while it is stepped: where the consumer has to take something up first it holds neither. An
asynchronous one is stepped by one task of the daemon's loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from enum import Enum, auto
from typing import Any

from broker.codecs import Edge
from broker.connection.calls import ItemSink
from broker.connection.refusals import Reason, Refused
from broker.dispatch.answers import Answers
from broker.dispatch.job import Job
from broker.dispatch.scheduling import Scheduler
from broker.loop import run_on

_TURN_SECONDS = 0.01
"""After this long a stream lets others go first who wait for a thread, or for its object."""
_NO_STREAMS = frozenset({bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, type(None)})

_log = logging.getLogger("broker")


def is_stream(value: object, edge: Edge) -> bool:
    """Whether a result goes item by item: an iterator that is neither a registered type nor a registered object."""
    kind = type(value)
    if kind in _NO_STREAMS or not (hasattr(kind, "__next__") or hasattr(kind, "__anext__")):
        return False
    entry = edge.types.by_class(kind)
    return (entry is None or entry.to_dict is None) and edge.reference(value) is None


class Streaming:
    """Begins the streams of one daemon. It has no state of its own."""

    def __init__(
        self, scheduler: Scheduler, answers: Answers, edge: Edge, loop: Callable[[Job], asyncio.AbstractEventLoop]
    ) -> None:
        self.scheduler = scheduler
        self.answers = answers
        self.edge = edge
        self.loop = loop

    def begin(self, job: Job, iterator: Any, variables: contextvars.Context) -> None:
        """Answers the call with the items. On the thread that ran the method, which takes the first steps."""
        sink = None
        if job.call.request.oneway:
            self.answers.finish(job, None, raised=False)  # nobody reads the items, so none is made
        elif job.cancelled is not None:
            self.answers.refuse(job, Refused(Reason.CANCELLED, f"the stream was not begun: {job.cancelled}"), ran=True)
        else:
            sink = self.answers.begin_stream(job)
        if hasattr(type(iterator), "__next__"):
            steps = Steps(self, job, iterator, variables)
            steps.begin(sink)
        else:
            AsyncSteps(self, job, iterator, variables).begin(sink)


class Stop(Enum):
    """Why an iterator is not stepped any further for now."""

    FULL = auto()  # the consumer has to take something up first
    TURN = auto()  # others wait
    OVER = auto()


class Steps:
    """The steps of one iterator."""

    def __init__(self, streaming: Streaming, job: Job, iterator: Any, variables: contextvars.Context) -> None:
        self._scheduler = streaming.scheduler
        self._answers = streaming.answers
        self._edge = streaming.edge
        self._job = job
        self._iterator = iterator
        self._variables = variables
        self._sink: ItemSink | None = None
        self._lock = threading.Lock()
        self._parked = False  # under the lock: whoever clears it makes the next run

    def begin(self, sink: ItemSink | None) -> None:
        """Takes the first steps; without a sink the iterator is only closed."""
        self._sink = sink
        if sink is None:
            self._variables.run(self._close)
            return
        self._job.on_stop(self._wake)
        self._run()

    def _run(self) -> None:
        """Takes steps as long as there is room, in the gate. One thread at a time."""
        assert self._sink is not None
        try:
            why = self._variables.run(self._take_steps, self._sink)
        except KeyboardInterrupt:  # on the main thread, in a nested call: meant for the program that waits
            self._fail(Refused(Reason.CANCELLED, "the process that makes the items was interrupted"))
            raise
        except BaseException as error:  # a fault of ours
            self._fail(Refused(Reason.INTERNAL, f"the stream failed: {type(error).__name__}"))
            raise
        if why is Stop.OVER:
            self._iterator = None
            return
        self._scheduler.leave(self._job)
        with self._lock:
            self._parked = True
        if why is Stop.TURN or not self._sink.when_room(self._wake) or self._job.cancelled is not None:
            self._wake()

    def _wake(self) -> None:
        """Makes the next run, if none is under way. From any thread; never waits."""
        with self._lock:
            if not self._parked:
                return
            self._parked = False
        self._scheduler.resume_in_gate(self._job, self._run, self._cannot_run)

    def _cannot_run(self, error: BaseException) -> None:
        """There is no thread for the next run."""
        self._iterator = None
        self._fail(Refused(Reason.INTERNAL, f"the stream ended: {type(error).__name__}: {error}"))

    def _fail(self, refused: Refused) -> None:
        if not self._job.done:
            self._answers.refuse(self._job, refused, ran=True)

    def _take_steps(self, sink: ItemSink) -> Stop:
        job, step, put, edge = self._job, self._iterator.__next__, sink.put, self._edge
        turn_ends = time.monotonic() + _TURN_SECONDS
        while job.cancelled is None:
            try:
                item = step()
            except StopIteration as stop:
                self._answers.end_stream(job, sink, stop.value, raised=False)
                return Stop.OVER
            except BaseException as error:  # whatever it raises is what the stream ends with
                self._answers.end_stream(job, sink, error, raised=True)
                if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                    raise
                return Stop.OVER
            try:
                room = put(item, edge)
            except BaseException as error:  # user code too: what turns a value into plain data
                self._close()
                self._answers.fail_stream(job, error)
                return Stop.OVER
            if not room:
                return Stop.FULL
            if time.monotonic() > turn_ends:
                if self._scheduler.others_wait(job):
                    return Stop.TURN
                turn_ends = time.monotonic() + _TURN_SECONDS
        self._close()
        self._answers.cancel_stream(job)
        return Stop.OVER

    def _close(self) -> None:
        iterator, self._iterator = self._iterator, None
        if isinstance(iterator, Generator):
            try:
                iterator.close()
            except BaseException:
                _log_unheard(self._job)


class AsyncSteps:
    """The steps of one asynchronous iterator: a task of the daemon's loop, for all its life."""

    def __init__(self, streaming: Streaming, job: Job, iterator: Any, variables: contextvars.Context) -> None:
        self._scheduler = streaming.scheduler
        self._answers = streaming.answers
        self._edge = streaming.edge
        self._loop = streaming.loop(job)
        self._job = job
        self._iterator = iterator
        self._variables = variables

    def begin(self, sink: ItemSink | None) -> None:
        """Begins to take steps; without a sink the iterator is dropped."""
        if sink is None:
            return
        self._scheduler.leave(self._job)
        self._job.on_stop(run_on(self._loop, self._take_steps(sink), self._variables, self._task_ended))

    def _task_ended(self, value: object, raised: bool) -> None:
        if self._job.done:
            return
        if isinstance(value, asyncio.CancelledError):  # before its first step
            self._answers.cancel_stream(self._job)
        elif isinstance(value, BaseException):  # a fault of ours
            self._answers.fail_stream(self._job, value)

    async def _take_steps(self, sink: ItemSink) -> None:
        failed: BaseException | None = None
        try:
            failed = await self._in_turns(sink)
        except asyncio.CancelledError:
            if self._job.cancelled is None:
                failed = asyncio.CancelledError("the loop of the daemon was stopped")
        await self._close()
        if failed is not None:
            self._answers.fail_stream(self._job, failed)
        elif not self._job.done:
            self._answers.cancel_stream(self._job)

    async def _in_turns(self, sink: ItemSink) -> BaseException | None:
        """Steps until the end, which it sends, or until nobody wants more; returns why an item could not be sent."""
        job, step = self._job, self._iterator.__anext__
        turn_ends = 0.0
        while job.cancelled is None:
            if not turn_ends:
                await self._enter_gate()
                turn_ends = time.monotonic() + _TURN_SECONDS
            try:
                item = await step()
            except StopAsyncIteration:
                self._answers.end_stream(job, sink, None, raised=False)
                return None
            except BaseException as error:  # whatever it raises is what the stream ends with
                self._answers.end_stream(job, sink, error, raised=True)
                return None
            try:
                room = sink.put(item, self._edge)
            except BaseException as error:  # user code too: what turns a value into plain data
                return error
            if not room:
                self._scheduler.leave(job)
                await self._room(sink)
                turn_ends = 0.0
            elif time.monotonic() > turn_ends:
                self._scheduler.leave(job)
                await asyncio.sleep(0)
                turn_ends = 0.0
        return None

    async def _enter_gate(self) -> None:
        if not self._scheduler.has_gate(self._job):
            return
        entered = self._loop.create_future()

        def start() -> None:
            if entered.cancelled():
                self._scheduler.leave(self._job)
            else:
                entered.set_result(None)

        self._scheduler.enter_gate(self._job, lambda: self._soon(start))
        await entered

    async def _room(self, sink: ItemSink) -> None:
        room = asyncio.Event()
        if sink.when_room(lambda: self._soon(room.set)):
            await room.wait()

    def _soon(self, step: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(step)
        except RuntimeError:
            pass  # the loop is closed, and the task over

    async def _close(self) -> None:
        iterator, self._iterator = self._iterator, None
        if isinstance(iterator, AsyncGenerator):
            try:
                await iterator.aclose()
            except BaseException:
                _log_unheard(self._job)


def _log_unheard(job: Job) -> None:
    request = job.call.request
    _log.warning("the stream of %s.%s failed as it was closed", request.object, request.member, exc_info=True)
