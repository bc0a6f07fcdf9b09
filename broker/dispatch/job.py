"""A call on its way through a daemon."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from broker.connection.calls import ServedCall
from broker.connection.engine import Connection
from broker.connection.timers import Timer
from broker.connection.workers import run_aside
from broker.context import CallContext, Client
from broker.exposure import Member
from broker.objects import Registration
from broker.turns import Gate

Lane = tuple[Connection, object]
"""A lane: its connection, and its number there."""
Session = tuple[Connection, int]
"""A session: its connection, and its number there."""


class Job:
    """A call on its way, with what has been found out about it.

    It has no lock: one thread at a time takes it further. `cancel` alone may come from any other. What few calls have
    is an attribute of the class until it is set.
    """

    lane: Lane | None = None
    """The lane and the gate that it is in."""
    gate: Gate | None = None
    nested = False
    started = False
    streams = False
    done = False
    object_name = ""
    """What `authorize` was asked about."""
    member: Member | None = None
    cancelled: str | None = None
    ends_soon: str | None = None
    """Why a stream was told to come to its end, if it was."""
    context: CallContext | None = None
    timer: Timer | None = None
    is_many = False
    """Whether it is the job of many calls."""
    weight = 1
    """How many calls it is; of a job of many calls those that are not answered, as UnderWay knows."""
    returned = 0.0
    """When its method had returned, or raised (`time.perf_counter`)."""
    stops: Sequence[Callable[[], None]] = ()
    """Functions that stop an `async def` method, or a stream."""

    def __init__(
        self, call: ServedCall, client: Client, caller: Connection | None, registration: Registration | None = None
    ) -> None:
        """`caller` is None for a unary caller, who has no session."""
        self.call = call
        self.client = client
        self.caller = caller
        self.registration = registration

    @property
    def waiting(self) -> int:
        """How many calls of it have not started."""
        return 0 if self.started else self.weight

    def carries_out(self, chain: bytes) -> bool:
        """Whether it is a call of that chain."""
        return self.call.request.chain == chain

    def cancel(self, reason: str) -> None:
        """The caller gave up, is lost, or its time is over. From any thread; runs no user code there."""
        if self.done:
            return  # the end of its stream is on its way
        self.cancelled = reason
        context = self.context
        if context is not None:
            context.knows = context.knows or bool(self.stops)  # what stops a method also tells it
            if context.mark_cancelled():
                run_aside(context.cancel)
        for stop in self.stops:
            stop()

    def end_soon(self, reason: str) -> None:
        """Tells a stream that it should come to its end, for which somebody waits. From any thread; runs no user code
        there."""
        self.ends_soon = reason
        context = self.context
        if context is not None and context.mark_ending():
            run_aside(context.tell_of_ending)

    @property
    def was_cut_short(self) -> bool:
        """Whether its items ended because it was told that they should."""
        return self.ends_soon is not None and self.context is not None and self.context.knows

    def tell(self, context: CallContext) -> None:
        """The call has a context from now on: it is told if the call was cancelled before."""
        if self.cancelled is not None:
            context.cancel()

    def on_stop(self, stop: Callable[[], None]) -> None:
        """Calls the function when the job is cancelled; at once if it is. It must not wait; twice is harmless."""
        self.stops = (*self.stops, stop)
        if self.cancelled is not None:
            stop()

    @property
    def session(self) -> Session | None:
        return (self.caller, self.call.request.session) if self.caller is not None else None
