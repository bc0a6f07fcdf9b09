"""A call's way through a daemon, from its arrival to its answer.

Every kind of call passes here: frames of a connection, and unary calls of any gRPC client. No gRPC in this file.

    arrival → lane (order of one caller's thread) → may the caller? → object → member → codec
            → gate (max_concurrency) → thread → decode → arguments fit? → invoke → answer → lane and gate are left

Up to the thread nothing waits: the thread that reads a connection goes through all of it, and what has to wait is kept
as a continuation. No user code runs on it, authorize, executors and log handlers included. A nested call leaves out
lane, gate and workers: the thread that waits for its chain runs it, and decides about it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from broker._pb.broker_pb2 import Call
from broker.codecs import Edge
from broker.connection import chains
from broker.connection.calls import REFUSED_DRAINING, ServedCall
from broker.connection.engine import Connection
from broker.connection.refusals import Reason, Refused
from broker.connection.timers import Timer, timers
from broker.connection.workers import Workers, run_aside, start_thread
from broker.context import CallContext, Client
from broker.descriptions import describe
from broker.errors import CodecError, MessageTooLargeError, Overloaded
from broker.exposure import Member, bind_arguments
from broker.loop import run_on
from broker.objects import Gate, Lanes, ObjectTable, Registration, Sessions, SessionState

Authorize = Callable[[Client, str, str], bool]
_log = logging.getLogger("broker")


@dataclass(slots=True, eq=False)
class Job:
    """A call on its way, with what has been found out about it."""

    call: ServedCall
    client: Client
    caller: Connection | None
    """None for a unary caller, who has no session."""
    lane: tuple[Connection, int] | None = None
    """The lane and the gate that it is in."""
    gate: Gate | None = None
    nested: bool = False
    started: bool = False
    done: bool = False
    registration: Registration | None = None
    member: Member | None = None
    cancelled: str | None = None
    context: CallContext | None = None
    timer: Timer | None = None
    stop: Callable[[], None] | None = None
    """Stops an `async def` method."""

    def cancel(self, reason: str) -> None:
        """The caller gave up, is lost, or its time is over. From any thread; runs no user code there."""
        self.cancelled = reason
        context, stop = self.context, self.stop
        if context is not None and context.mark_cancelled():
            run_aside(context.cancel)
        if stop is not None:
            stop()

    @property
    def session(self) -> tuple[Connection, int] | None:
        return (self.caller, self.call.request.session) if self.caller is not None else None


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
        self._ended: dict[tuple[Connection, int], set[Job]] = {}  # sessions that ended with calls under way
        self._lanes = Lanes()
        self._draining = False
        self._idle = threading.Condition(self._lock)

    # ---- the daemon's life

    def start(self) -> None:
        """Lets calls through, those that arrived before included."""
        while True:
            with self._lock:
                if not self._held:
                    self._held = None
                    return
                held, self._held = self._held, []  # what arrives meanwhile keeps its place behind these
            for job in held:
                self._enter(job)

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

    def dispatch(self, call: ServedCall, client: Client, caller: Connection | None) -> None:
        """Takes a call. It will be answered exactly once."""
        job = Job(call, client, caller)
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
            self._enter(job)

    def _tell_that_calls_wait(self) -> None:
        held, location = len(self._held or ()), self._objects.location
        if held:
            run_aside(
                lambda: _log.warning(
                    "%d calls wait at %s: the daemon has not been started (start() or request_loop())", held, location
                )
            )

    def _enter(self, job: Job) -> None:
        request = job.call.request
        if request.is_nested and chains.is_waiting(request.chain):
            job.nested = True
            self._on_waiting_thread(job, lambda: self._check_and_run(job))
        elif job.caller is not None and request.lane:
            lane = job.lane = (job.caller, request.lane)
            self._lanes.enter(lane, lambda: self._check(job))
        else:
            self._check(job)

    def _on_waiting_thread(self, job: Job, step: Callable[[], None]) -> None:
        """Goes on with a nested call on the thread that waits for its chain, or on one outside all bounds."""
        request = job.call.request
        if chains.run_nested(request.chain, request.depth, step):
            return
        try:
            start_thread(step, "broker-nested")
        except Overloaded as error:
            self._refuse(job, Refused(Reason.OVERLOADED, str(error)))

    def _on_worker(self, job: Job, step: Callable[[Job], None]) -> None:
        try:
            self._workers.submit(lambda: step(job))
        except Overloaded as error:
            self._refuse(job, Refused(Reason.OVERLOADED, str(error)))

    def _check(self, job: Job) -> None:
        """May the caller, is there such an object and member, is the codec accepted. Nothing is decoded before."""
        if self._authorize is not None:
            self._on_worker(job, self._check_and_schedule)
        else:
            self._check_and_schedule(job)

    def _check_and_schedule(self, job: Job) -> None:
        refused = self._refusal(job)
        if refused is not None:
            self._refuse(job, refused)
        else:
            self._schedule(job)

    def _check_and_run(self, job: Job) -> None:
        refused = self._refusal(job)
        if refused is not None:
            self._refuse(job, refused)
        else:
            self._run(job)

    def _refusal(self, job: Job) -> Refused | None:
        request = job.call.request
        if self._authorize is not None:
            try:
                allowed = self._authorize(job.client, request.object, request.member)
            except BaseException:  # whatever it raises, it has not allowed the call
                _log.exception("authorize failed; the call of %r is refused", request.member)
                allowed = False
            if not allowed:
                what = f"{job.client.address} may not call {request.member!r} of {request.object!r}"
                return Refused(Reason.ACCESS_DENIED, what)
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
            message = f"codec {request.arguments.codec!r} is not accepted at {self._objects.location}, which takes "
            return Refused(Reason.CODEC_NOT_ACCEPTED, message + accepted)
        return None

    def _no_such_object(self, object_id: str) -> str:
        return f"there is no object {object_id!r} at {self._objects.location} (it may have been unregistered)"

    def _schedule(self, job: Job) -> None:
        if job.caller is not None and job.caller.when_uncongested(lambda: self._schedule(job)):
            return
        if job.call.request.kind == Call.DESCRIBE:
            self._on_worker(job, self._run)
            return
        assert job.registration is not None
        job.registration.gate.enter(lambda: self._submit(job))

    def _submit(self, job: Job) -> None:
        registration = job.registration
        assert registration is not None
        job.gate = registration.gate
        if registration.executor is None:
            self._on_worker(job, self._run)
        else:
            registration.handing_over.enter(lambda: self._hand_over_later(job, registration))

    def _hand_over_later(self, job: Job, registration: Registration) -> None:
        try:
            self._workers.submit(lambda: self._hand_over(job, registration))
        except Overloaded as error:
            registration.handing_over.leave()
            self._refuse(job, Refused(Reason.OVERLOADED, str(error)))

    def _hand_over(self, job: Job, registration: Registration) -> None:
        """Gives the call to the user's executor. Its `submit` is user code too: it may wait, or run the call itself."""
        assert registration.executor is not None
        try:
            future = registration.executor.submit(self._run, job)
            future.add_done_callback(lambda future: self._handed_back(job, future))
        except BaseException as error:
            self._refuse_unstarted(job, f"takes no calls: {error}")
        finally:
            registration.handing_over.leave()

    def _handed_back(self, job: Job, future: Future[None]) -> None:
        if future.cancelled():
            self._refuse_unstarted(job, "cancelled it")
        elif (error := future.exception()) is not None:
            self._refuse_unstarted(job, f"failed: {type(error).__name__}: {error}")

    def _refuse_unstarted(self, job: Job, what: str) -> None:
        if not job.started:
            message = f"the call of {job.call.request.object!r} was not started: the executor of the object {what}"
            self._refuse(job, Refused(Reason.INTERNAL, message))

    # ---- on the thread that runs it

    def _run(self, job: Job) -> None:
        if job.done:  # an executor that seemed to have failed
            return
        job.started = True
        job.call.started()
        if not job.call.request.oneway:
            self._leave_lane(job)
        try:
            if job.call.request.kind == Call.DESCRIBE:
                self._describe(job)
                return
            refused = self._prepare(job)
            if refused is not None:
                self._refuse(job, refused)
        except BaseException as error:
            if not job.done:
                self._refuse(job, Refused(Reason.INTERNAL, f"the call failed: {type(error).__name__}"), ran=True)
            if isinstance(error, KeyboardInterrupt):  # Ctrl-C, on the main thread
                raise
            _log.exception("a call of %s could not be carried out", job.call.request.object)

    def _describe(self, job: Job) -> None:
        assert job.registration is not None
        description = describe(job.registration.object_id, job.registration.table).SerializeToString()
        self._answer(job, lambda kept: job.call.answer_bytes(description))

    def _prepare(self, job: Job) -> Refused | None:
        """Decodes and invokes; the refusal if the method was not called."""
        request, registration, member = job.call.request, job.registration, job.member
        assert registration is not None and member is not None
        if job.cancelled is not None and self._draining:
            return REFUSED_DRAINING
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
        if context.deadline is not None:
            job.timer = timers.call_at(context.deadline, lambda: job.cancel("the time of the call is over"))
        variables = context.new_context()
        try:
            result = variables.run(self._call_member, registration, member, job, args, kwargs)
            if inspect.isawaitable(result):
                self._await(job, result, variables)
                return
        except BaseException as error:  # whatever a method raises is its result
            self._finish(job, error, raised=True)
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise  # Ctrl-C, in a nested call: it was meant for the program that waits
        else:
            self._finish(job, result, raised=False)

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

        def finished(value: object, raised: bool) -> None:
            if job.nested:
                self._on_waiting_thread(job, lambda: self._finish(job, value, raised=raised))
            else:
                self._on_worker(job, lambda job: self._finish(job, value, raised=raised))

        job.stop = run_on(self._loop(), awaitable, variables, finished)
        if job.cancelled is not None:
            job.stop()

    # ---- the answer

    def _finish(self, job: Job, value: object, *, raised: bool) -> None:
        request = job.call.request
        if raised and (request.oneway or job.cancelled is not None) and not isinstance(value, asyncio.CancelledError):
            assert isinstance(value, BaseException)
            what = "oneway call" if request.oneway else f"call that nobody waits for ({job.cancelled})"
            _log.warning("%s of %s.%s failed", what, request.object, request.member, exc_info=value)
        metadata = (job.context.outgoing_metadata if job.context is not None else None) or {}
        what = "what it raised" if raised else "its result"
        self._answer(
            job,
            lambda kept: job.call.answer(value, self._edge, raised=raised, kept=kept, metadata=metadata),
            f"{request.object}.{request.member} ran, and {what} cannot be encoded by the server",
        )

    def _answer(self, job: Job, answer: Callable[[bool], None], cannot_be_encoded: str = "") -> None:
        """Answers once, whatever encoding raises. Only then is the gate left: a result may be a part of the object."""
        session = job.session
        kept = session is not None and self._sessions.find(*session) is not None
        try:
            answer(kept)
        except MessageTooLargeError as error:
            job.call.refuse(Refused(Reason.MESSAGE_TOO_LARGE, str(error)), ran=True, kept=kept)
        except CodecError as error:
            refused = Refused(Reason.RESULT_NOT_ENCODABLE, f"{cannot_be_encoded}: {error}")
            job.call.refuse(refused, ran=True, kept=kept)
        except BaseException as error:  # user code: what turns a value into plain data
            _log.exception("a call of %s could not be answered", job.call.request.object)
            refused = Refused(Reason.INTERNAL, f"the answer failed: {type(error).__name__}: {error}")
            job.call.refuse(refused, ran=True, kept=kept)
        finally:
            self._done(job)

    def _refuse(self, job: Job, refused: Refused, *, ran: bool = False) -> None:
        if job.call.request.oneway:
            run_aside(lambda: _log.warning("oneway call refused: %s", refused.message))
        job.call.refuse(refused, ran=ran)
        self._done(job)

    def _done(self, job: Job) -> None:
        job.done = True
        if job.timer is not None:
            job.timer.cancel()
        gate, job.gate = job.gate, None
        if gate is not None:
            gate.leave()
        self._leave_lane(job)
        with self._lock:
            self._jobs.discard(job)
            if not self._jobs:
                self._idle.notify_all()
            ended = [session for session, jobs in self._ended.items() if jobs <= {job}] if self._ended else []
            for jobs in self._ended.values():
                jobs.discard(job)
            for session in ended:
                del self._ended[session]
        for session in ended:
            self._close(self._sessions.take(*session))

    def _leave_lane(self, job: Job) -> None:
        lane, job.lane = job.lane, None
        if lane is not None:
            self._lanes.leave(lane)

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
        state = self._sessions.open(job.caller, job.call.request.session)
        if job.caller.ended_because is not None:  # what is kept from now on would be kept for ever
            self.connection_ended(job.caller)
        return state

    def session_closed(self, connection: Connection, number: int) -> None:
        """A session is over: what is kept for it goes, and what its calls under way still leave behind."""
        session = (connection, number)
        with self._lock:
            under_way = {job for job in self._jobs if job.session == session}
            if under_way:
                self._ended[session] = under_way
        self._close(self._sessions.take(connection, number))

    def connection_ended(self, connection: Connection) -> None:
        """All sessions of a connection are over."""
        self._close(self._sessions.take_all(connection))

    def _close(self, states: Iterable[SessionState]) -> None:
        for state in states:
            run_aside(state.close)


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
