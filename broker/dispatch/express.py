"""The short road of a plain call: a method of an object, called with arguments and nothing else.

It is what nearly all calls are, and most of what they cost is the steps between their arrival and their answer. So what
the long road asks of every call (`admission`, `scheduling`, `execution`, `answers`) is asked here of the method, once,
and of the call in a few lines. Whatever turns out not to be plain, before or after the method has run, takes the long
road from there.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from broker._pb.broker_pb2 import Call
from broker.codecs import Edge, codec
from broker.connection.calls import IncomingCall
from broker.connection.engine import Connection
from broker.connection.leading import Leading
from broker.connection.refusals import Reason, Refused
from broker.context import CallContext, Client, activate
from broker.dispatch.admission import Admission
from broker.dispatch.answers import Answers
from broker.dispatch.around import AroundCalls
from broker.dispatch.execution import PLAIN, Execution, SessionOfJob
from broker.dispatch.job import Job, Lane
from broker.dispatch.scheduling import LONG_TEXT, Scheduler, Step, is_quick, remember_pace
from broker.dispatch.statistics import Tally
from broker.dispatch.under_way import UnderWay
from broker.errors import CodecError, Overloaded
from broker.exposure import Member
from broker.objects import ObjectTable, Registration
from broker.signatures import Arity

CODEC = "json"


@dataclass(frozen=True, slots=True)
class Target:
    """A method that plain calls may go to."""

    method: Callable[..., Any]
    member: Member
    arity: Arity


def target_of(registration: Registration, name: str) -> Target | None:
    """The method of that name, if calls of it need nothing that this road does not have."""
    member = registration.table.members.get(name)
    if member is None or member.kind != "method" or member.oneway or member.is_async or member.stream:
        return None
    plain = registration.gate.is_open and registration.executor is None and not registration.is_class
    plain = plain and not registration.is_weak  # whose methods would hold the object
    if not plain or member.arity is None:
        return None
    return Target(member.bind(registration.target), member, member.arity)


def _is_plain(call: IncomingCall) -> bool:
    wire = call.wire
    if wire.depth != 1 or call.codec != CODEC or wire.oneway:
        return False
    return not (wire.HasField("timeout_us") or wire.metadata or wire.correlation_id)


class Express:
    """The short road of one daemon. Every method may be called from any thread, and none waits."""

    def __init__(
        self,
        objects: ObjectTable,
        under_way: UnderWay,
        scheduler: Scheduler,
        execution: Execution,
        answers: Answers,
        leading: Leading,
        tally: Tally,
        edge: Edge,
        admission: Admission,
        around: AroundCalls,
        go_on: Step,
        *,
        is_open: bool,
    ) -> None:
        """`go_on` takes a call further that is in its lane, on the long road; `is_open` False: as it does all calls."""
        self.under_way = under_way
        self.scheduler = scheduler
        self.execution = execution
        self.answers = answers
        self.edge = edge
        self._objects = objects
        self.leading = leading
        self._count = tally.count_method
        self.count_many = tally.count_methods
        self._go_on = go_on
        # Functions of users are asked about no call here, neither before it nor around it.
        self.looks_at_callers = admission.looks_at_callers
        self.lets_pass = admission.lets_pass
        self.is_open = is_open and not admission.runs_user_code and not around and admission.accepts(CODEC)

    def takes(self, call: IncomingCall, client: Client) -> bool:
        """Takes a call, if it is plain and nothing stands in its way; called by the thread that reads."""
        wire, caller = call.wire, call.connection
        if not self.is_open or wire.kind != Call.METHOD or not (call.is_plain or _is_plain(call)):
            return False
        found = self.find(wire)
        if found is None or caller.congested or call.text_size > LONG_TEXT:
            return False
        registration, target = found
        job = PlainCall(call, client, caller, registration)
        job.member = target.member
        if self.looks_at_callers and not self.lets_pass(job, wire.member):
            return False
        job.express, job.target = self, target
        call.on_cancel(job.cancel)
        if not self.under_way.add_running(job):
            return False
        self._count()
        self.enter(job, wire.lane)
        return True

    def find(self, wire: Call) -> tuple[Registration, Target] | None:
        """The method that is called, if its calls may take this road."""
        registration, name = self._objects.find(wire.object), wire.member
        if registration is None or not is_quick(registration, name):
            return None
        try:
            target = registration.targets[name]
        except KeyError:
            target = target_of(registration, name)
            if name in registration.table.members:
                registration.targets[name] = target
        return (registration, target) if target is not None else None

    def spread(self, group: QuickJob, calls: list[IncomingCall], lane: Lane | None) -> None:
        """Calls of a group go on by themselves, on the long road: in order if they have a lane, which they leave."""
        own = (calls[0].connection, object())  # a lane of theirs, in front of what waits for the other
        for call in calls:
            job = Job(call, group.client, call.connection)
            self.under_way.add_part(job, group)
            call.on_cancel(job.cancel)
            if lane is None:
                self._go_on(job)
            else:
                job.lane = own
                self.scheduler.lanes.enter(own, partial(self._go_on, job))
        if lane is not None:
            self.scheduler.lanes.enter(own, partial(self._leave, own, lane))

    def _leave(self, *lanes: Lane) -> None:
        for lane in lanes:
            self.scheduler.lanes.leave(lane)

    def enter(self, job: QuickJob, lane: int) -> None:
        """Runs a job when it is its turn in its lane, on the thread that brought it if that is no worse."""
        if lane:
            assert job.caller is not None
            job.lane = (job.caller, lane)
            self.scheduler.lanes.enter(job.lane, lambda: self._submit(job))
        else:
            self._submit(job)

    def _submit(self, job: QuickJob) -> None:
        try:
            self.leading.submit(job, quick=True)
        except Overloaded as error:
            job.refuse(Refused(Reason.OVERLOADED, str(error)))


class QuickJob(Job):
    """A job for the thread that leads. To call it is to carry it out."""

    express: Express
    target: Target

    @property
    def owner(self) -> Connection | None:
        """In whose turn a worker runs it."""
        return self.caller

    def __call__(self) -> None:
        raise NotImplementedError

    def refuse(self, refused: Refused) -> None:
        """There is no thread for it."""
        raise NotImplementedError


class PlainCall(QuickJob):
    """A plain call on its way."""

    call: IncomingCall

    def refuse(self, refused: Refused) -> None:
        self.express.answers.refuse(self, refused)

    def __call__(self) -> None:
        began = time.perf_counter()
        self._carry_out()
        assert self.registration is not None
        remember_pace(self.registration, self.call.wire.member, (self.returned or time.perf_counter()) - began)

    def _carry_out(self) -> None:
        express, target, call = self.express, self.target, self.call
        try:
            args, kwargs = call.arguments(express.edge)
        except CodecError:
            express.execution.run(self)
            return
        if self.cancelled is not None or not target.arity.surely_accepts(args, kwargs):
            express.execution.run(self)
            return
        self.started = True
        call.started()
        if self.lane is not None:
            express.scheduler.leave_lane(self)
        wire, chain = call.wire, call.chain
        context = self.context = CallContext(
            self.client, wire.object, wire.member, chain=chain, correlation=chain,
            session=SessionOfJob(express.under_way, self),
        )  # fmt: skip
        self.tell(context)
        variables = contextvars.copy_context()
        try:
            result = variables.run(call_in, context, target.method, args, kwargs)
        except BaseException as error:  # whatever a method raises is its result
            express.answers.finish(self, error, raised=True)
            return
        self.returned = time.perf_counter()
        if not self.answer(context, result):
            express.execution.conclude(self, result, variables)

    def answer(self, context: CallContext, result: object) -> bool:
        """Answers with a plain result; False if there is more to it."""
        express = self.express
        under_way = express.under_way
        if type(result) not in PLAIN or context.outgoing_metadata:
            return False
        if self.caller in under_way.callers_with_sessions and under_way.keeps(self):
            return False
        try:
            value = codec(CODEC).encode(result, express.edge, "result")
        except BaseException:  # also of users' code; it is said on the long road, which tries again
            return False
        under_way.answering(self)
        if not self.call.reply_small(value):
            return False
        express.answers.done(self)
        return True


def call_in(
    context: CallContext, method: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]
) -> object:
    activate(context)  # to be left with the context variables of this call
    return method(*args, **kwargs)
