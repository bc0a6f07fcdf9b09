"""The dispatcher: takes every call, and sends it through the rooms around it.

Up to the thread nothing waits: the thread that reads a connection goes through all of it. No user code runs on it,
authorize, executors and log handlers included. A nested call leaves out lane, gate and workers: the thread that waits
for its chain runs it, and decides about it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from broker._pb.broker_pb2 import Call
from broker.around import NO_FUNCTIONS, AroundFunctions
from broker.codecs import Edge
from broker.connection import chains
from broker.connection.calls import REFUSED_DRAINING, ServedCall
from broker.connection.engine import Connection
from broker.connection.leading import Leading
from broker.connection.refusals import Reason, Refused
from broker.connection.workers import Workers
from broker.context import Client
from broker.dispatch.admission import Admission
from broker.dispatch.answers import SHUTTING_DOWN, Answers
from broker.dispatch.around import AroundCalls
from broker.dispatch.execution import Execution
from broker.dispatch.express import Express
from broker.dispatch.greetings import Admit, Greetings
from broker.dispatch.job import Job
from broker.dispatch.rates import Rates
from broker.dispatch.scheduling import Scheduler
from broker.dispatch.statistics import Stats, Tally
from broker.dispatch.streams import MAX_STREAMS
from broker.dispatch.under_way import UnderWay
from broker.objects import ObjectTable, Sessions
from broker.security import Authorize, account_of

MAX_CALLS = 65_536
MAX_CALLS_PER_CONNECTION = 16_384
"""Calls under way, waiting ones included; beyond it they are refused. Nested calls are outside these limits."""


_TIDY_SECONDS = 0.5  # for `finally:` blocks of generators and of methods that notice that they are cancelled


class Dispatcher:
    """Carries out the calls of one daemon. Every method may be called from any thread, and only `drain` waits.

    It has no lock: what changes is in UnderWay, which has one, and in each job.
    """

    def __init__(
        self,
        objects: ObjectTable,
        sessions: Sessions,
        workers: Workers,
        edge: Edge,
        *,
        codecs: tuple[str, ...],
        authorize: Authorize | None = None,
        admit: Admit | None = None,
        knows_callers: bool = False,
        around: AroundFunctions = NO_FUNCTIONS,
        loop: Callable[[], asyncio.AbstractEventLoop],
        max_calls: int = MAX_CALLS,
        max_calls_per_connection: int = MAX_CALLS_PER_CONNECTION,
        max_call_rate: int | None = None,
        max_streams_per_connection: int = MAX_STREAMS,
    ) -> None:
        self.rates = Rates(max_call_rate) if max_call_rate is not None else None
        """What each caller may still make, where that is limited."""
        self._max_calls = max_calls
        self._max_calls_per_connection = max_calls_per_connection
        self._location = objects.location
        self._tally = Tally()
        self._admission = Admission(objects, codecs, authorize, knows_callers=knows_callers)
        self._under_way = UnderWay(
            sessions, objects.location, few=min(max_calls, max_calls_per_connection), most=max_calls
        )
        self.leading = Leading(workers)
        self._scheduler = Scheduler(self.leading, self._refuse)
        self._answers = Answers(self._under_way, self._scheduler, edge, self._tally, max_streams_per_connection)
        around_calls = AroundCalls(around, self._scheduler)
        self._execution = Execution(
            self._under_way, self._scheduler, self._answers, edge, loop, around_calls, self._admission, self._tally
        )
        self._greetings = Greetings(admit, self._answers, edge, self._execution.context_of, objects.location)
        self.express = Express(
            objects, self._under_way, self._scheduler, self._execution, self._answers, self.leading, self._tally, edge,
            self._admission, around_calls, self._check, is_open=not self._greetings,
        )  # fmt: skip

    # ---- the daemon's life

    def start(self) -> None:
        """Lets calls through, those that arrived before included."""
        for job in self._under_way.release():
            self._enter(job)

    def drain(self, deadline: float) -> None:
        """Takes no further call, waits for those under way until the deadline (time.monotonic), cancels the rest.

        What calls under way wait for is still taken: nested calls of their chains.
        """
        for job in self._under_way.drain():
            self._refuse(job, REFUSED_DRAINING)
        for (
            job
        ) in self._under_way.streams():  # which may never end by themselves; those that begin now are told as well
            job.end_soon(SHUTTING_DOWN)
        left = self._under_way.wait(deadline)
        for job in left:
            job.cancel(SHUTTING_DOWN)
        if left:
            self._under_way.wait(time.monotonic() + _TIDY_SECONDS)

    @property
    def under_way(self) -> int:
        """How many calls were taken and are not answered."""
        return self._under_way.count()[0]

    def stats(self, *, connections: int, sessions: int, exports: int) -> Stats:
        """What came of the calls so far, and what is under way."""
        under_way, waiting, streams = self._under_way.count()
        return self._tally.stats(
            under_way=under_way,
            waiting=waiting,
            streams=streams,
            connections=connections,
            sessions=sessions,
            exports=exports,
        )

    @property
    def allows(self) -> Callable[[Client, str, str], bool] | None:
        """Whether a caller without a session may call a member of an object; None where all may. Runs user code."""
        if self._greetings:
            return self._allows_stranger
        return self._admission.allows if self._admission.asks else None

    def _allows_stranger(self, client: Client, object_id: str, member: str) -> bool:
        return self._greetings.admits_stranger(client) and self._admission.allows(client, object_id, member)

    @property
    def limit_met(self) -> Callable[[str], None]:
        """Counts that something had to be refused, or ended, because of the setting of that name."""
        return self._tally.limit_met

    def turned_away(self, refused: Refused) -> None:
        """A call was refused before it came here."""
        self._tally.refused(refused)

    def session_closed(self, connection: Connection, number: int) -> None:
        """A session is over: what is kept for it goes, and what its calls under way still leave behind."""
        self._greetings.session_closed(connection, number)
        self._under_way.session_closed(connection, number)

    def connection_ended(self, connection: Connection) -> None:
        """All sessions of a connection are over."""
        self._greetings.connection_ended(connection)
        self._under_way.connection_ended(connection)

    # ---- a call's way

    def dispatch(self, call: ServedCall, client: Client, caller: Connection | None) -> None:
        """Takes a call. It will be answered exactly once."""
        job = Job(call, client, caller)
        self._tally.arrived(call.request, unary=caller is None)
        refused = None if call.request.is_nested else self._over_limit(caller)
        if caller is None and self.rates is not None and refused is None:
            refused = self.over_rate(self.rates, client, 1)
        if refused is not None:
            self._refuse(job, refused)
            return
        call.on_cancel(job.cancel)
        if not self._under_way.add(job):
            return  # `start` goes on with it
        if self._under_way.draining and not self._under_way.waits_for(job):
            self._refuse(job, REFUSED_DRAINING)
        else:
            self._enter(job)

    def _over_limit(self, caller: Connection | None) -> Refused | None:
        if caller is not None and caller.calls_to_answer > self._max_calls_per_connection:
            limit = self._max_calls_per_connection
            what = f"{limit} calls of one connection are under way at {self._location}, which takes no more at a time "
            return Refused(
                Reason.OVERLOADED,
                what + "(max_calls_per_connection): wait for some of them",
                "max_calls_per_connection",
            )
        if self._under_way.is_full():
            what = f"{self._max_calls} calls are under way at {self._location}, which takes no more at a time "
            return Refused(Reason.OVERLOADED, what + "(max_calls): call again later", "max_calls")
        return None

    def over_rate(self, rates: Rates, client: Client, count: int) -> Refused | None:
        """Why so many calls of a caller are too many by now; else they are counted."""
        account = account_of(client.address, client.identity)
        rest = rates.take(account, count)
        if not rest:
            return None
        what = f"{account} makes more than {rates.per_second} calls a second at {self._location}, which takes no more "
        return Refused(Reason.OVERLOADED, f"{what}(max_call_rate): wait {rest:.3f} s", "max_call_rate")

    def refuse(self, call: ServedCall, client: Client, caller: Connection, refused: Refused) -> None:
        """Answers a call that is not taken."""
        self._tally.arrived(call.request, unary=False)
        self._refuse(Job(call, client, caller), refused)

    def _enter(self, job: Job) -> None:
        request = job.call.request
        if request.kind == Call.GREET:
            self._greetings.arrived(job)
        if request.is_nested and chains.is_waiting(request.chain):
            job.nested = True
            self._go_on(job)
        else:
            self._scheduler.in_lane(job, self._check)

    def _check(self, job: Job) -> None:
        if self._admission.runs_user_code or self._greetings:
            self._scheduler.on_worker(job, self._check_and_schedule)
        else:
            self._check_and_schedule(job)

    def _check_and_schedule(self, job: Job) -> None:
        self._admit(job, self._schedule)

    def _schedule(self, job: Job) -> None:
        self._scheduler.schedule(job, self._execution.run)

    def _admit(self, job: Job, go_on: Callable[[Job], None]) -> None:
        refused = self._admission.stranger(job) or self._admission.unread_greeting(job)
        asks = refused is None and (self._greetings or job.call.request.kind == Call.GREET)
        if asks and not self._greetings.let_pass(job, self._go_on):
            return
        refused = refused or self._admission.refusal(job)
        if refused is not None:
            self._refuse(job, refused)
        else:
            go_on(job)

    def _go_on(self, job: Job) -> None:
        """On the thread that is to decide about the call; also where that had to wait for the session's greeting."""
        if job.nested:
            self._scheduler.on_waiting_thread(job, lambda: self._admit(job, self._execution.run))
        else:
            self._check(job)

    def _refuse(self, job: Job, refused: Refused) -> None:
        self._greetings.turned_away(job, refused)
        self._answers.refuse(job, refused)
