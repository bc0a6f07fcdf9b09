"""What happens to a call on the thread that runs it: decode, invoke, hand over to the answer."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from broker._pb.broker_pb2 import Call
from broker.codecs import Edge
from broker.connection.calls import REFUSED_DRAINING
from broker.connection.refusals import Reason, Refused
from broker.connection.timers import timers
from broker.context import CallContext
from broker.descriptions import describe
from broker.dispatch.admission import Admission, no_such_object
from broker.dispatch.answers import Answers, unreadable
from broker.dispatch.around import AroundCalls, NotCalled
from broker.dispatch.batches import BatchRun, Steps
from broker.dispatch.job import Job
from broker.dispatch.scheduling import Scheduler
from broker.dispatch.statistics import Tally
from broker.dispatch.streaming import Streaming, is_stream
from broker.dispatch.under_way import UnderWay
from broker.errors import CodecError
from broker.exposure import Member, bind_arguments
from broker.loop import run_on
from broker.objects import Registration, SessionState

PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set})  # surely no awaitables
_log = logging.getLogger("broker")


class Execution:
    """Runs the calls of one daemon, each on the thread that it was scheduled to. It has no state of its own."""

    def __init__(
        self,
        under_way: UnderWay,
        scheduler: Scheduler,
        answers: Answers,
        edge: Edge,
        loop: Callable[[], asyncio.AbstractEventLoop],
        around: AroundCalls,
        admission: Admission,
        tally: Tally,
    ) -> None:
        self._under_way = under_way
        self._scheduler = scheduler
        self._answers = answers
        self._edge = edge
        self._loop = loop
        self._around = around
        self._admission = admission
        self._tally = tally
        self._streaming = Streaming(scheduler, answers, edge, self._loop_of)

    def run(self, job: Job) -> None:
        """Carries an admitted call out; its answer may come later, if the method is `async def`."""
        if job.done:  # an executor that seemed to have failed
            return
        job.started = True
        job.call.started()
        if not job.call.request.oneway:
            self._scheduler.leave_lane(job)
        try:
            kind = job.call.request.kind
            if kind == Call.DESCRIBE:
                self._describe(job)
                return
            refused = self._not_to_be_started(job)
            if refused is not None:
                self._answers.refuse(job, refused)
            elif kind == Call.BATCH:
                self._run_batch(job)
            else:
                self._run_call(job)
        except BaseException as error:
            self._failed(job, error)

    def _failed(self, job: Job, error: BaseException) -> None:
        """Answers a call that failed in a way that it must not."""
        if not job.done:
            refused = Refused(Reason.INTERNAL, f"the call failed: {type(error).__name__}")
            self._answers.refuse(job, refused, ran=True)
        if isinstance(error, KeyboardInterrupt):  # Ctrl-C, on the main thread
            raise error
        _log.error("a call of %s could not be carried out", job.call.request.object, exc_info=error)

    def _describe(self, job: Job) -> None:
        assert job.registration is not None
        registration, allows = job.registration, self._admission.allows
        described = registration.object_id
        description = describe(described, registration.table, lambda member: allows(job.client, described, member))
        self._answers.finish_with_bytes(job, description.SerializeToString())

    def _not_to_be_started(self, job: Job) -> Refused | None:
        request, registration = job.call.request, job.registration
        assert registration is not None
        if job.cancelled is not None and self._under_way.draining:
            return REFUSED_DRAINING
        if job.cancelled is not None:
            return Refused(Reason.CANCELLED, f"the call was not started: {job.cancelled}")
        if request.deadline is not None and request.deadline <= time.monotonic():
            return Refused(Reason.DEADLINE_EXCEEDED, f"the call of {registration.where} waited until its time was over")
        return None

    def _run_call(self, job: Job) -> None:
        """Decodes and invokes."""
        registration, member = job.registration, job.member
        assert registration is not None and member is not None
        try:
            args, kwargs = job.call.arguments(self._edge)
            if member.kind == "method":
                bind_arguments(member, args, kwargs, registration.where)
        except CodecError as error:
            self._answers.refuse(job, unreadable(error))
        except TypeError as error:
            self._answers.refuse(job, Refused(Reason.WRONG_ARGUMENTS, str(error)))
        else:
            self._invoke(job, args, kwargs)

    def _invoke(self, job: Job, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        registration, member = job.registration, job.member
        assert registration is not None and member is not None
        self._begin(job)
        variables = contextvars.copy_context()
        try:
            result = variables.run(self._carry_out, registration, member, job, args, kwargs)
        except BaseException as error:  # whatever a method raises is its result
            self._answers.finish(job, error, raised=True)
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise  # Ctrl-C, in a nested call: it was meant for the program that waits
        else:
            self.conclude(job, result, variables)

    def conclude(self, job: Job, result: object, variables: contextvars.Context) -> None:
        """Answers with what a member returned, or with what comes of it."""
        if type(result) not in PLAIN and inspect.isawaitable(result):
            try:
                self._await(job, result, variables, partial(self._awaited, job, variables))
            except RuntimeError as error:  # the loop is closed
                self._answers.finish(job, error, raised=True)
        else:
            self._finish(job, result, variables)

    def _finish(self, job: Job, result: object, variables: contextvars.Context) -> None:
        if is_stream(result, self._edge):
            self._streaming.begin(job, result, variables)
        else:
            self._answers.finish(job, result, raised=False)

    def _awaited(self, job: Job, variables: contextvars.Context, value: object, raised: bool) -> None:
        """Answers with what came of an awaitable: a thread of ours encodes it."""

        def finish(job: Job) -> None:
            if raised:
                self._answers.finish(job, value, raised=True)
            else:
                self._finish(job, value, variables)

        if job.nested:
            self._scheduler.on_waiting_thread(job, lambda: finish(job))
        else:
            self._scheduler.on_worker(job, finish)

    def _begin(self, job: Job) -> CallContext:
        """From now on the call has a context, and its time runs out."""
        context = job.context = self.context_of(job)
        job.tell(context)
        if context.deadline is not None:
            job.timer = timers.call_at(context.deadline, lambda: job.cancel("the time of the call is over"))
        return context

    # ---- batches

    def _run_batch(self, job: Job) -> None:
        batch = BatchRun(job, self._begin(job), self._edge, self._admission, self._tally, self._carry_out, self._method)
        self._go_on(job, batch, batch.steps(), None)

    def _go_on(self, job: Job, batch: BatchRun, steps: Steps, came: tuple[object, bool] | None) -> None:
        """Takes a batch to its end, or to the next `async def` method; `came` is what became of the last."""
        while True:
            try:
                awaitable, variables = next(steps) if came is None else steps.send(came)
            except StopIteration:
                self._answers.finish_batch(job, batch.results, batch.failures)
                if batch.interrupt is not None:
                    raise batch.interrupt from None
                return
            except CodecError as error:
                self._answers.refuse(job, unreadable(error))
                return
            try:
                self._await(
                    job, awaitable, variables, lambda value, raised: self._resume(job, batch, steps, value, raised)
                )
            except RuntimeError as error:  # the loop is closed
                came = error, True
            else:
                return

    def _resume(self, job: Job, batch: BatchRun, steps: Steps, value: object, raised: bool) -> None:
        def go_on(came: tuple[object, bool]) -> None:
            job.stops = ()  # what stopped this awaitable
            try:
                self._go_on(job, batch, steps, came)
            except BaseException as error:
                self._failed(job, error)

        self._scheduler.resume(job, lambda: go_on((value, raised)), lambda error: go_on((error, True)))

    def _method(self, job: Job, member: Member) -> Callable[..., object] | None:
        """The method of a member, if a call of it is all that a call in a batch takes."""
        registration = job.registration
        assert registration is not None
        if self._around or member.oneway or registration.makes_each_an_instance:
            return None
        return member.bind(self._instance(registration, job))

    # ---- the member

    def _carry_out(
        self,
        registration: Registration,
        member: Member,
        job: Job,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        assert job.context is not None
        job.context.enter()  # to be left with the context of this thread
        if not self._around:
            return self._call_member(registration, member, job, args, kwargs)
        return self._around.run(
            job, member, job.call.request.kind, args, kwargs,
            lambda args, kwargs: self._call_member(registration, member, job, args, kwargs),
        )  # fmt: skip

    def _call_member(
        self,
        registration: Registration,
        member: Member,
        job: Job,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        instance = self._instance(registration, job)
        if member.kind == "method":
            return member.bind(instance)(*args, **kwargs)
        if job.call.request.kind == Call.SET:
            member.set(instance, args[0])
            return None
        return member.get(instance)

    def _instance(self, registration: Registration, job: Job) -> object:
        instance = registration.instance(self._under_way.session_of(job) if registration.keeps_instances else None)
        if instance is None:  # it was registered weakly, and went since the call was admitted
            raise NotCalled(no_such_object(job.call.request.object, registration.location))
        return instance

    def _await(
        self, job: Job, awaitable: Any, variables: contextvars.Context, finished: Callable[[object, bool], None]
    ) -> None:
        """Runs an `async def` method on a loop, which calls `finished` with what came of it.

        Raises RuntimeError if the loop is closed.
        """
        job.on_stop(run_on(self._loop_of(job), awaitable, variables, finished))

    def _loop_of(self, job: Job) -> asyncio.AbstractEventLoop:
        """The loop of an object that has one, unless it is over, or this very thread blocks it; else the daemon's."""
        loop = job.registration.loop if job.registration is not None else None
        if loop is None or not loop.is_running() or asyncio._get_running_loop() is loop:
            return self._loop()
        return loop

    def context_of(self, job: Job) -> CallContext:
        """The context in which the call is carried out."""
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
            session=SessionOfJob(self._under_way, job) if job.caller is not None else None,
            oneway=request.oneway,
        )


class SessionOfJob:
    """What `current_context` tracks: the session keeps something from the first resource on."""

    __slots__ = ("_job", "_under_way")

    def __init__(self, under_way: UnderWay, job: Job) -> None:
        self._under_way = under_way
        self._job = job

    def track(self, resource: object) -> None:
        self._state.track(resource)

    def untrack(self, resource: object) -> None:
        self._state.untrack(resource)

    def on_close(self, function: Callable[[], object]) -> None:
        self._state.on_close(function)

    @property
    def values(self) -> dict[str, Any]:
        return self._state.values

    @property
    def _state(self) -> SessionState:
        state = self._under_way.session_of(self._job)
        assert state is not None
        return state
