"""When a call runs, and on which thread.

What has to wait is kept as a continuation: for its lane, for room on the line, for its gate, for a worker. A nested
call leaves all of them out: the thread that waits for its chain runs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Executor, Future

from broker._pb.broker_pb2 import Call
from broker.connection import chains
from broker.connection.leading import Leading
from broker.connection.refusals import Reason, Refused
from broker.connection.workers import start_thread
from broker.dispatch.job import Job
from broker.errors import Overloaded
from broker.objects import Registration
from broker.turns import Lanes

Step = Callable[[Job], None]

QUICK = 0.0003
"""Seconds that the calls of a member take on average, to be run by the threads that bring them."""
LONG_TEXT = 1 << 20
"""Bytes of text that a thread which reads does not decode: to read them is one call that lets no other thread run."""
_WEIGHT = 0.1  # of the last call in that average
_LONG = 4 * QUICK


def is_quick(registration: Registration, member: str) -> bool:
    """Whether calls of a member take so little time that the thread that brings them may run them."""
    return registration.paces.get(member, 0.0) < QUICK


def remember_pace(registration: Registration, member: str, took: float) -> None:
    """Remembers how long a call took, in seconds. Of two at once one may be forgotten."""
    before = registration.paces.get(member, 0.0)
    # One call that takes very long tells little: a busy machine may have had no time for its thread.
    registration.paces[member] = before + (min(took, _LONG) - before) * _WEIGHT


class _Task:
    """A step of a call, as a worker runs it. Callers get busy workers in turn."""

    __slots__ = ("_job", "_step")

    def __init__(self, job: Job, step: Step) -> None:
        self._job = job
        self._step = step

    def __call__(self) -> None:
        self._step(self._job)

    @property
    def owner(self) -> Hashable:
        return self._job.caller or self._job.client.address


class _TimedTask(_Task):
    """A call of a member, which remembers how long such calls take. Of two at once one may be forgotten."""

    __slots__ = ()

    def __call__(self) -> None:
        job = self._job
        began = time.perf_counter()
        self._step(job)
        # What follows the method waits for others: to send the answer lets all other threads run.
        took = (job.returned or time.perf_counter()) - began
        assert job.registration is not None
        remember_pace(job.registration, job.call.request.member, took)


class Scheduler:
    """Brings the calls of one daemon to their threads. Every method may be called from any thread, and none waits.

    It has no lock: lanes, gates and workers have their own.
    """

    def __init__(self, threads: Leading, refuse: Callable[[Job, Refused], None]) -> None:
        """`refuse` is called for what no thread can be had for."""
        self.lanes = Lanes()
        self._threads = threads
        self._refuse = refuse

    # ---- order

    def in_lane(self, job: Job, step: Step) -> None:
        """Goes on when all calls that the same thread of the caller made before have started, and oneways are over."""
        if job.caller is None or not job.call.request.lane:
            step(job)
            return
        lane = job.lane = (job.caller, job.call.request.lane)
        self.lanes.enter(lane, lambda: step(job))

    def leave_lane(self, job: Job) -> None:
        lane, job.lane = job.lane, None
        if lane is not None:
            self.lanes.leave(lane)

    def leave(self, job: Job) -> None:
        """Lets others in behind a call that is over."""
        gate, job.gate = job.gate, None
        if gate is not None:
            gate.leave()
        if job.lane is not None:
            self.leave_lane(job)

    # ---- threads

    def on_waiting_thread(self, job: Job, step: Callable[[], None]) -> None:
        """Goes on with a nested call on the thread that waits for its chain, or on one outside all bounds."""
        try:
            _run_nested(job, step)
        except Overloaded as error:
            self._refuse(job, Refused(Reason.OVERLOADED, str(error)))

    def on_worker(self, job: Job, step: Step, *, quick: bool = False) -> None:
        """Goes on on a worker; where all are busy, callers get them in turn.

        A quick step goes on on the thread that brought the call, if that is no worse.
        """
        try:
            self._threads.submit(_Task(job, step), quick=quick)
        except Overloaded as error:
            self._refuse(job, Refused(Reason.OVERLOADED, str(error)))

    def resume(self, job: Job, step: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        """Runs a part of a call that is under way, and holds no thread, on such a thread as the call was to have.

        Calls `failed` if there is none.
        """
        executor = job.registration.executor if job.registration is not None else None
        try:
            if job.nested:
                _run_nested(job, step)
            elif executor is None:
                self._threads.submit(_Task(job, lambda job: step()), quick=False)
            else:
                self._threads.submit(lambda: _submit_to(executor, step, failed), quick=False)
        except Overloaded as error:
            failed(error)

    # ---- streams, which come back to their object again and again

    def has_gate(self, job: Job) -> bool:
        """Whether its object has a bound, and the job is to keep to it."""
        return not job.nested and job.registration is not None and job.registration.gate.limit is not None

    def enter_gate(self, job: Job, start: Callable[[], None]) -> None:
        """Goes on when there is a place in the gate of its object; `leave` gives it back."""
        registration = job.registration
        assert registration is not None

        def entered() -> None:
            job.gate = registration.gate
            start()

        registration.gate.enter(entered)

    def resume_in_gate(self, job: Job, step: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        """As `resume`, when there is a place in the gate of its object; `leave` gives it back."""
        if self.has_gate(job):
            self.enter_gate(job, lambda: self.resume(job, step, failed))
        else:
            self.resume(job, step, failed)

    def others_wait(self, job: Job) -> bool:
        """Whether others may want the thread of a job, or its place in the gate."""
        registration = job.registration
        assert registration is not None
        own_thread = job.nested or registration.executor is not None  # others may wait there that we do not know of
        return own_thread or registration.gate.is_wanted or self._threads.is_wanted

    def schedule(self, job: Job, run: Step) -> None:
        """Runs an admitted call when there is room for its answer and a place in its gate, on the thread it is to have.

        A description needs no place: nothing of the object runs.
        """
        caller = job.caller
        if caller is not None and caller.congested and caller.when_uncongested(lambda: self.schedule(job, run)):
            return
        if job.call.request.kind == Call.DESCRIBE:
            self.on_worker(job, run, quick=True)
            return
        registration = job.registration
        assert registration is not None
        if registration.gate.is_open:
            self._submit(job, registration, run)
        else:
            registration.gate.enter(lambda: self._submit_gated(job, registration, run))

    def _submit_gated(self, job: Job, registration: Registration, run: Step) -> None:
        job.gate = registration.gate
        self._submit(job, registration, run)

    def _submit(self, job: Job, registration: Registration, run: Step) -> None:
        executor = registration.executor
        if executor is not None:
            registration.handing_over.enter(lambda: self._hand_over_later(job, registration, executor, run))
            return
        request = job.call.request
        quick = is_quick(registration, request.member) and len(request.arguments.payload) <= LONG_TEXT
        try:
            self._threads.submit(_TimedTask(job, run), quick=quick)
        except Overloaded as error:
            self._refuse(job, Refused(Reason.OVERLOADED, str(error)))

    # ---- the executor of an object

    def _hand_over_later(self, job: Job, registration: Registration, executor: Executor, run: Step) -> None:
        try:
            self._threads.submit(lambda: self._hand_over(job, registration, executor, run), quick=False)
        except Overloaded as error:
            registration.handing_over.leave()
            self._refuse(job, Refused(Reason.OVERLOADED, str(error)))

    def _hand_over(self, job: Job, registration: Registration, executor: Executor, run: Step) -> None:
        """Gives the call to the user's executor. Its `submit` is user code too: it may wait, or run the call itself."""
        try:
            future = executor.submit(run, job)
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


def _run_nested(job: Job, step: Callable[[], None]) -> None:
    """Raises Overloaded."""
    request = job.call.request
    if not chains.run_nested(request.chain, request.depth, step, owner=job):
        start_thread(step, "broker-nested")


def _submit_to(executor: Executor, step: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
    """To the user's executor, which may wait, fail, or drop what it was given."""

    def dropped(future: Future[None]) -> None:
        if future.cancelled():
            failed(CancelledError("the executor of the object cancelled it"))

    try:
        executor.submit(step).add_done_callback(dropped)
    except BaseException as error:
        failed(error)
