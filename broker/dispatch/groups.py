"""The short road of plain calls that arrived together: one after the other on the thread that leads.

What `express` asks of each call is asked once of all, and what they return goes back together. As soon as one of them
takes long, the others go on by themselves, on workers and on the long road; and so does a call that is given up,
raises, or returns what is not plain.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property

from broker._pb.broker_pb2 import Call
from broker.codecs import Encoded, codec, plain_calls, plain_value
from broker.connection.calls import IncomingCall
from broker.connection.groups import CallGroup
from broker.connection.leading import Turn, this_turn
from broker.connection.reading import CallFrame
from broker.connection.refusals import Refused
from broker.context import CallContext, Client
from broker.dispatch.execution import PLAIN, SessionOfJob
from broker.dispatch.express import CODEC, Express, PlainCall, QuickJob, Target, call_in
from broker.dispatch.scheduling import QUICK, is_quick, remember_pace
from broker.errors import CodecError
from broker.objects import Registration

_MOST_HELD = 64  # results that wait for those behind them
_LONGEST = 4096  # bytes of such a result
_SLICE = 0.001  # seconds after which others have their turn
_ALONE = 0.004  # seconds after which what others ask is read meanwhile


def take_group(express: Express, group: CallGroup, client: Client) -> bool:
    """Takes calls that arrived together, if they are plain; called by the thread that reads."""
    head = group.head
    if not express.is_open or head.kind != Call.METHOD or head.depth != 1 or group.connection.congested:
        return False
    found = express.find(head)
    if found is None:
        return False
    registration, target = found
    job = GroupJob(express, group, target, registration, client)
    if express.looks_at_callers and not express.lets_pass(job, head.member):
        return False
    if not express.under_way.add_running(job):
        return False
    express.count_many(group.size)
    express.enter(job, head.lane)
    return True


class GroupJob(QuickJob):
    """A group on its way. To call it is to carry out its calls, on the thread that leads.

    The lock guards who takes the last call, what is running, and the results. Nothing of a user runs under it.
    """

    is_many = True
    _has_read = False

    def __init__(
        self, express: Express, group: CallGroup, target: Target, registration: Registration, client: Client
    ) -> None:
        self.client, self.caller, self.registration = client, group.connection, registration
        self.member = target.member
        self.express, self.target = express, target
        self._object = group.head.object
        self.weight = group.size
        self._group = group
        self._lock = threading.Lock()
        self._frame: CallFrame | None = None  # the call that runs, and its context
        self._context: CallContext | None = None
        self._single: PlainCall | None = None  # the call that runs, once it is one by itself
        self._results: list[tuple[int, bytes]] = []
        self._read: Iterator[tuple[tuple[object, ...], dict[str, object]]] = iter(())
        """The arguments of the calls that were not taken, as far as they were read together."""
        self._session = SessionOfJob(express.under_way, self)
        group.on_cancel = self._some_given_up

    @cached_property
    def call(self) -> IncomingCall:  # type: ignore[override]
        """A call like all of them: few look at it."""
        return self._group.representative()

    @property
    def waiting(self) -> int:
        return len(self._group.frames)

    def carries_out(self, chain: bytes) -> bool:
        context = self._context
        return context is not None and context.chain == chain

    def __call__(self) -> None:
        turn = this_turn()
        if turn is None:  # a worker: a call that takes long would hold up the others
            assert self.registration is not None
            if not is_quick(self.registration, self._group.head.member):
                self._spread()
                self._end()
            else:
                self.express.leading.lead_with(self)
            return
        self.started = True
        turn.begin_group(self)
        try:
            over = self._carry_out(turn)
        finally:
            turn.end_group()
        self.push()
        if over:
            self._end()
        else:
            self.express.leading.submit(self, quick=True)

    def _carry_out(self, turn: Turn) -> bool:
        """Runs the calls; False if others have their turn before the rest."""
        began = now = time.monotonic()
        count = 0
        assert self.registration is not None and self.member is not None
        if not self._has_read:
            self._has_read = True
            self._read = iter(plain_calls(self._group.payloads, self.express.edge) or ())
        while (frame := self._take()) is not None:
            turn.since = now
            self._run(frame)
            count += 1
            before, now = now, time.monotonic()
            if now - before > QUICK:
                remember_pace(self.registration, self.member.name, now - before)
            if turn.released or len(self._results) >= _MOST_HELD:
                self.push()
            if now - began > _SLICE and self._group.frames:
                if turn.has_more:
                    return False
                if now - began > _ALONE:
                    turn.let_read()
        if count:
            remember_pace(self.registration, self.member.name, (now - began) / count)
        return True

    def _take(self) -> CallFrame | None:
        """The next call. The lane goes on with the last one."""
        frames = self._group.frames
        if not frames:
            return None
        if self.lane is None:
            try:
                return frames.popleft()
            except IndexError:  # somebody else was faster
                return None
        with self._lock:
            frame = frames.popleft() if frames else None
            is_last = not frames
        if is_last and frame is not None and self.lane is not None:
            self.express.scheduler.leave_lane(self)
        return frame

    # ---- one call

    def _arguments(self, frame: CallFrame) -> tuple[tuple[object, ...], dict[str, object]] | None:
        """The arguments of a call by itself; None if they cannot be read."""
        try:
            return codec(CODEC).decode_call(Encoded(CODEC, frame.payload), self.express.edge)
        except CodecError:
            return None

    def _run(self, frame: CallFrame) -> None:
        target, group, chain = self.target, self._group, frame.chain
        arguments = next(self._read, None) or self._arguments(frame)
        given_up = group.some_are_given_up and group.why_given_up(frame.id) is not None
        if arguments is None or given_up or not target.arity.surely_accepts(*arguments):
            self.express.execution.run(self._by_itself(frame, None))
            return
        context = CallContext(
            self.client, self._object, target.member.name, chain=chain, correlation=chain, session=self._session
        )
        self._context = context
        self._frame = frame  # and from now on it is told if it is given up
        if group.some_are_given_up:
            self._some_given_up("")
        variables = contextvars.copy_context()
        try:
            result = variables.run(call_in, context, target.method, *arguments)
        except BaseException as error:  # whatever a method raises is its result
            self.express.answers.finish(self._stop(frame, context), error, raised=True)
            return
        payload = self._plain(context, result)
        with self._lock:
            single, self._frame, self._single = self._single, None, None
            if single is None and payload is not None:
                self._results.append((frame.id, payload))
                return
        single = single or self._by_itself(frame, context)
        if not single.answer(context, result):
            self.express.execution.conclude(single, result, variables)

    def _plain(self, context: CallContext, result: object) -> bytes | None:
        """What the method returned, in the codec, if there is no more to it."""
        under_way = self.express.under_way
        if type(result) not in PLAIN or context.outgoing_metadata:
            return None
        if self.caller in under_way.callers_with_sessions and under_way.keeps(self):
            return None
        payload = plain_value(result)
        return payload if payload is not None and len(payload) <= _LONGEST else None

    def _stop(self, frame: CallFrame, context: CallContext) -> PlainCall:
        """The call that ran, by itself."""
        with self._lock:
            single, self._frame, self._single = self._single, None, None
        return single or self._by_itself(frame, context)

    def _by_itself(self, frame: CallFrame, context: CallContext | None) -> PlainCall:
        """The call as it would be had it come alone; with a context, it has begun."""
        call = self._group.single(frame)
        job = PlainCall(call, self.client, self.caller, registration=self.registration)
        job.member = self.member
        job.express, job.target, job.context = self.express, self.target, context
        self.express.under_way.add_part(job, self)
        if context is not None:
            job.started = True
            call.started()
        call.on_cancel(job.cancel)
        return job

    # ---- all of them

    def cancel(self, reason: str) -> None:
        self._group.cancel(reason)

    def _some_given_up(self, reason: str) -> None:
        """What runs is told if it is one of them; the others are seen to when they are taken."""
        with self._lock:
            self._tell_locked()

    def _tell_locked(self) -> None:
        frame, context = self._frame, self._context
        if frame is not None and self._single is None and self._group.why_given_up(frame.id) is not None:
            self._single = self._by_itself(frame, context)

    def push(self) -> None:
        """Sends the results that are there. From any thread."""
        with self._lock:
            results, self._results = self._results, []
            if results:
                self.express.under_way.answering_some(self, len(results))
        if results:
            self._group.answer(results)

    def split(self) -> list[Callable[[], None]]:
        """A call takes long: the job of those that were not taken. From any thread."""
        with self._lock:
            rest = self._group.split()
            lane, self.lane = (self.lane, None) if rest is not None else (None, self.lane)
        if rest is None:
            return []
        assert self.registration is not None
        job = GroupJob(self.express, rest, self.target, self.registration, self.client)
        job.lane = lane
        self.express.under_way.add_part(job, self)
        return [job]

    def _spread(self) -> None:
        """Lets the calls go on by themselves, in their order."""
        calls = list(self._group.singles())
        lane, self.lane = self.lane, None
        if calls:
            self.express.spread(self, calls, lane)
        elif lane is not None:
            self.express.scheduler.lanes.leave(lane)

    def refuse(self, refused: Refused) -> None:
        self.express.under_way.answering_some(self, len(self._group.frames))
        for call in self._group.singles():
            call.refuse(refused)
        self.express.scheduler.leave(self)
        self._end()

    def _end(self) -> None:
        self.done = True
        self.express.under_way.remove(self)
