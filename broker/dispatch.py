"""A call's way through a daemon, from its arrival to its answer.

Every kind of call passes here: frames of a connection, and unary calls of any gRPC client. No gRPC in this file.

    arrival → lane (order of one caller's thread) → may the caller? → object → member → codec
            → gate (max_concurrency) → thread → decode → arguments fit? → invoke → answer

Up to the thread nothing waits: the thread that reads a connection goes through all of it, and what has to wait is kept
as a continuation. A nested call leaves out lane, gate and workers: the thread that waits for its chain runs it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker._pb.broker_pb2 import Call
from broker.codecs import Edge
from broker.connection import chains
from broker.connection.calls import REFUSED_DRAINING, ServedCall
from broker.connection.engine import Connection
from broker.connection.refusals import Reason, Refused
from broker.connection.timers import timers
from broker.connection.workers import Workers, start_thread
from broker.context import CallContext, Client
from broker.descriptions import describe
from broker.errors import CodecError, MessageTooLargeError
from broker.exposure import Member, bind_arguments
from broker.objects import Gate, ObjectTable, Registration, Sessions, SessionState

Authorize = Callable[[Client, str, str], bool]
_log = logging.getLogger("broker")


@dataclass(slots=True, eq=False)
class Job:
    """A call on its way, with what has been found out about it."""

    call: ServedCall
    client: Client
    caller: Connection | None
    """None for a unary caller, who has no session."""
    lane: Lane | None = None
    gate: Gate | None = None
    nested: bool = False
    registration: Registration | None = None
    member: Member | None = None
    cancelled: str | None = None
    context: CallContext | None = None

    def cancel(self, reason: str) -> None:
        self.cancelled = reason
        if self.context is not None:
            self.context.cancel()

    def leave_lane(self) -> None:
        lane, self.lane = self.lane, None
        if lane is not None:
            lane.release()

    def leave_gate(self) -> None:
        gate, self.gate = self.gate, None
        if gate is not None:
            gate.leave()


class Lane:
    """Calls of one thread through one proxy: they start in order, and oneways run one after another."""

    __slots__ = ("_blocked", "_lock", "_queue")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Callable[[], None]] = deque()
        self._blocked = False

    def enter(self, start: Callable[[], None]) -> None:
        with self._lock:
            if self._blocked:
                self._queue.append(start)
                return
            self._blocked = True
        start()

    def release(self) -> None:
        """The call that entered last lets the next one start."""
        with self._lock:
            if not self._queue:
                self._blocked = False
                return
            start = self._queue.popleft()
        start()


class Dispatcher:
    """Carries out the calls of one daemon. Every method may be called from any thread, and none waits."""

    def __init__(
        self,
        objects: ObjectTable,
        sessions: Sessions,
        workers: Workers,
        edge: Edge,
        *,
        codecs: tuple[str, ...],
        authorize: Authorize | None = None,
        loop: Callable[[], asyncio.AbstractEventLoop],
    ) -> None:
        self._objects = objects
        self._sessions = sessions
        self._workers = workers
        self._edge = edge
        self._codecs = codecs
        self._authorize = authorize
        self._loop = loop
        self._lock = threading.Lock()
        self._held: list[Job] | None = []  # until the daemon starts
        self._jobs: set[Job] = set()
        self._draining = False
        self._idle = threading.Condition(self._lock)

    # ---- the daemon's life

    def start(self) -> None:
        """Lets calls through, those that arrived before included."""
        with self._lock:
            held, self._held = self._held or [], None
        for job in held:
            self._enter_lane(job)

    def drain(self, deadline: float) -> None:
        """Takes no further call, waits for those under way until the deadline (time.monotonic), cancels the rest."""
        with self._lock:
            self._draining = True
            held, self._held = self._held or [], None
        for job in held:
            self._refuse(job, REFUSED_DRAINING)
        with self._lock:
            self._idle.wait_for(lambda: not self._jobs, max(0.0, deadline - time.monotonic()))
            left = list(self._jobs)
        for job in left:
            job.cancel("the daemon is shutting down")

    @property
    def under_way(self) -> int:
        """How many calls were taken and are not answered."""
        return len(self._jobs)

    # ---- a call's way

    def dispatch(self, call: ServedCall, client: Client, caller: Connection | None, lane: Lane | None) -> None:
        """Takes a call. It will be answered exactly once."""
        job = Job(call, client, caller, lane)
        call.on_cancel(job.cancel)
        with self._lock:
            self._jobs.add(job)
            draining = self._draining
            if self._held is not None:
                self._held.append(job)
                if len(self._held) == 1:
                    timers.call_later(1.0, self._tell_that_calls_wait)
                return
        if draining:
            self._refuse(job, REFUSED_DRAINING)
        else:
            self._enter_lane(job)

    def _tell_that_calls_wait(self) -> None:
        if self._held:
            _log.warning(
                "%d calls wait at %s: the daemon has not been started (start() or request_loop())",
                len(self._held),
                self._objects.location,
            )

    def _enter_lane(self, job: Job) -> None:
        if job.lane is None:
            self._check(job)
        else:
            job.lane.enter(lambda: self._check(job))

    def _check(self, job: Job) -> None:
        """May the caller, is there such an object and member, is the codec accepted. Nothing is decoded before."""
        if self._authorize is not None:
            self._workers.submit(lambda: self._check_and_start(job))  # user code: never in the reader
        else:
            self._check_and_start(job)

    def _check_and_start(self, job: Job) -> None:
        refused = self._refusal(job)
        if refused is not None:
            self._refuse(job, refused)
        elif job.call.request.kind == Call.DESCRIBE:
            self._describe(job)
        else:
            self._schedule(job)

    def _refusal(self, job: Job) -> Refused | None:
        request = job.call.request
        if self._authorize is not None:
            try:
                allowed = self._authorize(job.client, request.object, request.member)
            except Exception:
                _log.exception("authorize failed; the call of %r is refused", request.member)
                allowed = False
            if not allowed:
                return Refused(Reason.ACCESS_DENIED, f"{job.client.address} may not call {request.member!r} of {request.object!r}")
        if request.depth > chains.MAX_DEPTH:
            return Refused(Reason.TOO_DEEP, chains.too_deep(request.object, request.member, request.chain))
        registration = job.registration = self._objects.find(request.object)
        if registration is None:
            return Refused(Reason.OBJECT_NOT_FOUND, self._no_such_object(request.object))
        if request.kind == Call.DESCRIBE:
            return None
        try:
            job.member = _find_member(registration, request.member, request.kind)
        except AttributeError as error:
            return Refused(Reason.MEMBER_NOT_FOUND, str(error))
        except TypeError as error:
            return Refused(Reason.UNSUPPORTED_OPERATION, str(error))
        if request.arguments.codec not in self._codecs:
            accepted = ", ".join(self._codecs)
            message = f"codec {request.arguments.codec!r} is not accepted at {self._objects.location}, which takes {accepted}"
            return Refused(Reason.CODEC_NOT_ACCEPTED, message)
        return None

    def _no_such_object(self, object_id: str) -> str:
        return f"there is no object {object_id!r} at {self._objects.location} (it may have been unregistered)"

    def _describe(self, job: Job) -> None:
        assert job.registration is not None
        description = describe(job.registration.object_id, job.registration.table)
        job.leave_lane()
        job.call.started()
        self._answered(job, lambda: job.call.answer_bytes(description.SerializeToString()))

    def _schedule(self, job: Job) -> None:
        request, registration = job.call.request, job.registration
        assert registration is not None
        if request.is_nested and chains.is_waiting(request.chain):
            job.nested = True
            job.leave_lane()
            if not chains.run_nested(request.chain, request.depth, lambda: self._run(job)):
                start_thread(lambda: self._run(job), "broker-nested")
            return
        if job.caller is not None and job.caller.when_uncongested(lambda: self._schedule(job)):
            return
        job.gate = registration.gate
        job.gate.enter(lambda: self._submit(job))

    def _submit(self, job: Job) -> None:
        executor = job.registration.executor if job.registration is not None else None
        if executor is None:
            self._workers.submit(lambda: self._run(job))
            return
        try:
            executor.submit(self._run, job)
        except Exception as error:  # the user's executor was shut down
            job.leave_gate()
            self._refuse(job, Refused(Reason.INTERNAL, f"the executor of {job.call.request.object!r} takes no calls: {error}"))

    # ---- on the thread that runs it

    def _run(self, job: Job) -> None:
        job.call.started()
        if not job.call.request.oneway:
            job.leave_lane()
        refused = self._prepare(job)
        if refused is not None:
            job.leave_gate()
            self._refuse(job, refused)

    def _prepare(self, job: Job) -> Refused | None:
        """Decodes and invokes; the refusal if the method was not called."""
        request, registration, member = job.call.request, job.registration, job.member
        assert registration is not None and member is not None
        if job.cancelled is not None:
            return Refused(Reason.CANCELLED, f"the call was not started: {job.cancelled}")
        if request.deadline is not None and request.deadline <= time.monotonic():
            return Refused(Reason.DEADLINE_EXCEEDED, f"the call of {registration.where} waited until its time was over")
        try:
            args, kwargs = job.call.arguments(self._edge)
            if member.kind == "method":
                bind_arguments(member, args, kwargs, registration.where)
        except CodecError as error:
            return Refused(Reason.CODEC, str(error))
        except TypeError as error:
            return Refused(Reason.WRONG_ARGUMENTS, str(error))
        self._invoke(job, args, kwargs)
        return None

    def _invoke(self, job: Job, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        registration, member = job.registration, job.member
        assert registration is not None and member is not None
        context = job.context = self._context(job)
        if job.cancelled is not None:
            context.cancel()
        deadline = job.call.request.deadline
        timer = timers.call_at(deadline, context.cancel) if deadline is not None else None
        variables = context.new_context()
        try:
            result = variables.run(self._call_member, registration, member, job, args, kwargs)
        except BaseException as error:  # whatever a method raises is its result
            self._finish(job, error, raised=True)
        else:
            if inspect.isawaitable(result):
                self._await(job, result, variables)
            else:
                self._finish(job, result, raised=False)
        finally:
            if timer is not None:
                timer.cancel()

    def _call_member(
        self,
        registration: Registration,
        member: Member,
        job: Job,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        instance = registration.instance(self._session_for(job) if registration.keeps_instances else None)
        if member.kind == "method":
            return member.bind(instance)(*args, **kwargs)
        if job.call.request.kind == Call.SET:
            member.set(instance, args[0])
            return None
        return member.get(instance)

    def _await(self, job: Job, awaitable: Any, variables: contextvars.Context) -> None:
        """Runs an `async def` method on the daemon's loop; a thread of ours encodes what comes out."""
        loop = self._loop()

        async def run() -> object:
            return await awaitable

        def start() -> None:
            task = loop.create_task(run(), context=variables)
            assert job.context is not None
            job.context.on_cancel(lambda: loop.call_soon_threadsafe(task.cancel))
            task.add_done_callback(lambda _: self._workers.submit(lambda: self._finish_task(job, task)))

        loop.call_soon_threadsafe(start)

    def _finish_task(self, job: Job, task: asyncio.Task[object]) -> None:
        if task.cancelled():
            self._finish(job, asyncio.CancelledError("the call was cancelled"), raised=True)
        elif (error := task.exception()) is not None:
            self._finish(job, error, raised=True)
        else:
            self._finish(job, task.result(), raised=False)

    # ---- the answer

    def _finish(self, job: Job, value: object, *, raised: bool) -> None:
        job.leave_gate()
        if job.call.request.oneway:
            if raised:
                assert isinstance(value, BaseException)
                _log.warning("oneway call of %s.%s failed", job.call.request.object, job.call.request.member, exc_info=value)
            job.leave_lane()
        kept = job.caller is not None and self._sessions.find(job.caller, job.call.request.session) is not None
        metadata = (job.context.outgoing_metadata if job.context is not None else None) or {}
        self._answered(
            job, lambda: job.call.answer(value, self._edge, raised=raised, kept=kept, metadata=metadata), raised=raised
        )

    def _answered(self, job: Job, answer: Callable[[], None], *, raised: bool = False) -> None:
        try:
            answer()
        except MessageTooLargeError as error:
            job.call.refuse(Refused(Reason.MESSAGE_TOO_LARGE, str(error)), ran=True)
        except CodecError as error:
            what = "what it raised" if raised else "its result"
            request = job.call.request
            message = f"{request.object}.{request.member} ran, and {what} cannot be encoded by the server: {error}"
            job.call.refuse(Refused(Reason.RESULT_NOT_ENCODABLE, message), ran=True)
        except Exception as error:
            _log.exception("a call of %s could not be answered", job.call.request.object)
            job.call.refuse(Refused(Reason.INTERNAL, f"the answer failed: {type(error).__name__}: {error}"), ran=True)
        finally:
            self._done(job)

    def _refuse(self, job: Job, refused: Refused) -> None:
        job.leave_lane()
        if job.call.request.oneway:
            _log.warning("oneway call refused: %s", refused.message)
        job.call.refuse(refused)
        self._done(job)

    def _done(self, job: Job) -> None:
        with self._lock:
            self._jobs.discard(job)
            if not self._jobs:
                self._idle.notify_all()


    # ---- contexts and sessions

    def _context(self, job: Job) -> CallContext:
        request = job.call.request
        return CallContext(
            job.client,
            request.object,
            request.member,
            metadata=request.metadata,
            correlation=request.correlation_id or request.chain,  # the same in all nested calls
            chain=request.chain,
            depth=request.depth,
            deadline=request.deadline,
            session=_SessionResources(self, job) if job.caller is not None else None,
        )

    def _session_for(self, job: Job) -> SessionState | None:
        if job.caller is None:
            return None
        return self._sessions.open(job.caller, job.call.request.session)


class _SessionResources:
    """What `current_context` tracks: the session keeps something from the first resource on."""

    __slots__ = ("_dispatcher", "_job")

    def __init__(self, dispatcher: Dispatcher, job: Job) -> None:
        self._dispatcher = dispatcher
        self._job = job

    def track(self, resource: object) -> None:
        self._state.track(resource)

    def untrack(self, resource: object) -> None:
        self._state.untrack(resource)

    def on_close(self, function: Callable[[], object]) -> None:
        self._state.on_close(function)

    @property
    def _state(self) -> SessionState:
        state = self._dispatcher._session_for(self._job)
        assert state is not None
        return state


def _find_member(registration: Registration, name: str, kind: int) -> Member:
    table, where = registration.table, registration.where
    if kind == Call.GET:
        return table.readable(name, where)
    if kind == Call.SET:
        return table.writable(name, where)
    return table.method(name, where)
