"""Who is admitted to a daemon that asks: a session is asked about once, with the greeting that it begins with."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

from broker._pb.broker_pb2 import Call
from broker.codecs import Edge
from broker.connection.engine import Connection
from broker.connection.refusals import Reason, Refused
from broker.context import CallContext, Client
from broker.dispatch.answers import Answers, unreadable
from broker.dispatch.job import Job, Session
from broker.errors import CodecError

Admit = Callable[[Client, Any], Any]
"""Gives the answer to a greeting (None of who gives none); what it raises refuses the session."""


class _Decision:
    """Whether a session was admitted."""

    def __init__(self, job: Job) -> None:
        self.by: Job | None = job
        """The call that it is made for: the greeting, or a call that came without one."""
        self.waiting: list[Callable[[], None]] | None = []
        """The calls that arrived before it was decided; None since."""
        self.refused: Refused | None = None


class Greetings:
    """The sessions that were asked about. Every method may be called from any thread.

    `_lock` guards the decisions; `admit` is called without it.
    """

    def __init__(
        self, admit: Admit | None, answers: Answers, edge: Edge, context: Callable[[Job], CallContext], location: str
    ) -> None:
        """`admit` None: everybody is admitted. Raises TypeError for what cannot be called, and for `async def`."""
        given: object = admit
        if given is not None and (not callable(given) or inspect.iscoroutinefunction(given)):
            raise TypeError(f"admit is a plain function admit(client, greeting), not {admit!r}")
        self._admit = admit
        self._answers = answers
        self._edge = edge
        self._context = context
        self._location = location
        self._lock = threading.Lock()
        self._decisions: dict[Connection, dict[int, _Decision]] = {}

    def __bool__(self) -> bool:
        """Whether anybody is asked about."""
        return self._admit is not None

    def admits_stranger(self, client: Client) -> bool:
        """Whether somebody is admitted who has no session. Runs user code."""
        if self._admit is None:
            return True
        try:
            self._admit(client, None)
        except Exception:
            return False
        return True

    def arrived(self, job: Job) -> None:
        """A greeting has arrived: calls behind it wait for what comes of it. Called in the order of arrival."""
        if self._admit is not None and job.session is not None:
            self._decision_on(job, job.session)

    def let_pass(self, job: Job, again: Callable[[Job], None]) -> bool:
        """Whether a call may go on. Else it is answered, or `again` is called with it later. Runs user code."""
        session, is_greeting = job.session, job.call.request.kind == Call.GREET
        if is_greeting:
            job.started = True
            job.call.started()
        if self._admit is None or session is None:
            return self._let_stranger_pass(job, is_greeting)
        decision = self._decision_on(job, session)
        if decision.by is job:
            self._decide(job, decision, is_greeting)
        elif is_greeting:
            self._answers.refuse(job, Refused(Reason.ACCESS_DENIED, "the session was greeted, or used, before"))
        if is_greeting:
            return False
        with self._lock:
            if decision.waiting is not None:
                decision.waiting.append(lambda: again(job))
                return False
        if decision.refused is not None:
            self._answers.refuse(job, decision.refused)
        return decision.refused is None

    def _let_stranger_pass(self, job: Job, is_greeting: bool) -> bool:
        if is_greeting:
            self._answers.finish(job, None, raised=False)
            return False
        error = self._ask(job, None)[1] if self._admit is not None else None
        if error is not None:
            self._answers.refuse(job, self._refusal(error))
        return error is None

    def turned_away(self, job: Job, refused: Refused) -> None:
        """A greeting is refused that nobody looked at: so is what came behind it."""
        if self._admit is not None and job.session is not None and job.call.request.kind == Call.GREET:
            decision = self._decision_on(job, job.session)
            if decision.by is job:
                self._settle(decision, refused)

    def session_closed(self, connection: Connection, number: int) -> None:
        with self._lock:
            decisions = self._decisions.get(connection, {})
            decisions.pop(number, None)
            if not decisions:
                self._decisions.pop(connection, None)

    def connection_ended(self, connection: Connection) -> None:
        with self._lock:
            self._decisions.pop(connection, None)

    # ---- deciding

    def _decision_on(self, job: Job, session: Session) -> _Decision:
        connection, number = session
        with self._lock:
            decisions = self._decisions.setdefault(connection, {})
            decision = decisions.get(number) or decisions.setdefault(number, _Decision(job))
        if connection.ended_because is not None:  # what is kept from now on would be kept for ever
            self.connection_ended(connection)
        return decision

    def _decide(self, job: Job, decision: _Decision, is_greeting: bool) -> None:
        greeting: object = None
        if is_greeting:
            try:
                greeting = self._greeting_of(job)
            except CodecError as unread:
                refused = unreadable(unread)
                self._answers.refuse(job, refused)
                self._settle(decision, refused)
                return
        answer, error = self._ask(job, greeting)
        if is_greeting:
            self._answers.finish(job, answer if error is None else error, raised=error is not None)
        self._settle(decision, None if error is None else self._refusal(error))

    def _greeting_of(self, job: Job) -> object:
        args, kwargs = job.call.arguments(self._edge)
        if len(args) != 1 or kwargs:
            raise CodecError(f"a greeting is one value, and {len(args) + len(kwargs)} arrived")
        return args[0]

    def _settle(self, decision: _Decision, refused: Refused | None) -> None:
        with self._lock:
            decision.refused = refused
            waiting, decision.waiting = decision.waiting or [], None
            decision.by = None
        for go_on in waiting:
            go_on()

    def _ask(self, job: Job, greeting: object) -> tuple[object, BaseException | None]:
        """What `admit` returns, or raises."""
        assert self._admit is not None
        context = self._context(job)
        if job.call.request.kind == Call.GREET:  # whose answer takes its metadata along
            job.context = context
        try:
            return context.run(self._admit, job.client, greeting), None
        except BaseException as error:  # whatever it raises, it has not admitted the session
            return None, error

    def _refusal(self, error: BaseException) -> Refused:
        said = str(error) or type(error).__name__
        return Refused(Reason.ACCESS_DENIED, f"not admitted at {self._location}: {said}")
