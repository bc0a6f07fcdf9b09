"""The short way of plain calls: one object from the call to its result.

Nearly all calls are plain: made outside of any other, on an open connection, with nothing but a few arguments. For
these the future, or the call that a thread waits for, is itself what the connection keeps of the call. As soon as there
is anything else to it (it is to be sent again, say) it becomes what every other call is from the beginning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker._pb.broker_pb2 import Call
from broker.calling import driven
from broker.calling.departures import NO_DEPARTURES, made_calls
from broker.calling.futures import FINISHED, PENDING, CallFuture
from broker.calling.invocation import MOST_AGAIN, Invocation
from broker.codecs import Encoded, codec
from broker.connection import chains
from broker.connection.calls import NO_METADATA, CallRequest, MadeCall, Outcome
from broker.connection.chains import Waiter, new_chain
from broker.connection.client import Route
from broker.connection.outbox import FRAME_COST
from broker.connection.workers import run_nested_late
from broker.connection.writing import call_head, write_plain_call
from broker.context import CallContext, correlation_outside, received_metadata
from broker.uri import URI

if TYPE_CHECKING:
    from broker.calling.remote import Remote

_COST = FRAME_COST + 100
_LONGEST = 4096
"""Bytes of arguments; longer ones may travel in chunks, and are let go of before the call is over."""
_READ = Outcome()
"""The outcome of a call whose result was read with others."""


class Site:
    """Where the plain calls of one member go that a thread makes through one proxy, and how all of them begin.

    The proxy has it, and ends as soon as nobody has the proxy: there is no way back from here.
    """

    __slots__ = ("head", "lane", "member", "room", "route", "session", "uri")

    def __init__(self, uri: URI, route: Route, member: str, lane: int, session: int) -> None:
        """Raises ValueError for a name that is no Unicode."""
        self.member = member
        self.lane = lane
        self.uri = uri
        self.route = route
        self.room = route.room
        self.session = session
        self.head = call_head((uri.object, member, Call.METHOD, self.session, 1, lane, False, False))

    @classmethod
    def of(cls, remote: Remote, member: str, *, waits: bool) -> Site | None:
        """That of a call of this thread; None if there is more to that call than is plain."""
        known, session = remote.open_place(), remote.session
        if known is None or session.connection is not known[1]:
            return None
        if remote.departures is not NO_DEPARTURES and remote.departures:
            return None
        if CallContext.active() is not None or correlation_outside.get():
            return None
        lane = remote.lanes.of_thread(waits=waits)
        site = remote.sites.get((member, lane))
        if site is None or site.uri is not known[0] or site.route is not known[1] or site.session != session.number:
            site = remote.sites[member, lane] = cls(*known, member, lane, session.number)
        return site


class _Plain(MadeCall):
    """A plain call, as the connection has it. Most of what that knows of a call is the same for all of these."""

    waiter: Waiter | None = None
    oneway = is_nested = False
    is_small = takes_value = True
    deadline = None
    id = 0
    taken = abandoned = False
    outcome: Outcome | None = None
    remote: Remote
    _value: object  # the result, where the outcome is _READ

    def __init__(self, remote: Remote, site: Site, payload: bytes) -> None:
        """The payload is `[args, kwargs]` in json."""
        self.remote = remote
        self._site = site
        self._payload = payload
        self._chain = new_chain()
        self.cost = _COST + len(payload)

    @property
    def arguments(self) -> Encoded:  # type: ignore[override]
        return Encoded("json", self._payload)

    def to_bytes(self) -> bytes | None:
        if self.abandoned:
            return None
        self.taken = True
        return write_plain_call(self.id, self._site.head, self._chain, self._payload)

    def _as_request(self) -> CallRequest:
        site = self._site
        request = CallRequest(
            self.remote.uri.object, site.member, Call.METHOD, self.arguments, self._chain, lane=site.lane
        )
        request.on_kept = self.remote.session.kept
        return request


class PlainCall(_Plain):
    """A plain call that the thread waits for which makes it."""

    waiter: Waiter

    @classmethod
    def make(cls, remote: Remote, member: str, payload: bytes) -> PlainCall | None:
        """Makes the call if it is plain; else does nothing."""
        site = Site.of(remote, member, waits=True) if len(payload) <= _LONGEST else None
        if site is None:
            return None
        call = cls(remote, site, payload)
        call.waiter = Waiter(call._chain, 1, alone=True)
        site.route.engine.send(call)
        return call

    def finish(self, outcome: Outcome) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self.waiter.finish()

    def finish_with(self, value: object) -> None:
        if self.outcome is None:
            self._value = value
            self.outcome = _READ
            self.waiter.finish()

    def result(self) -> Any:
        """Waits for the result. Raises what the method raised, and BrokerErrors."""
        try:
            self.waiter.wait(None, run_nested_late)
        except BaseException:  # Ctrl-C above all: the call ends here and there
            self._site.route.engine.cancel(self, "the caller was interrupted")
            raise
        outcome, site = self.outcome, self._site
        assert outcome is not None
        if outcome is _READ:
            received_metadata(NO_METADATA)
            return self._value
        value = outcome.value
        if value is None or outcome.raised or value.codec != "json":
            call = Invocation(self.remote, site.member, self.arguments, Call.METHOD)
            outcome, _ = call.wait((outcome, site.route))
            return call.result_of(outcome)
        received_metadata(outcome.metadata)
        return codec("json").decode(value, self.remote.edge, "result")

    @property
    def request(self) -> CallRequest:  # type: ignore[override]
        """The call as a request, for what is rare in an answer."""
        return self._as_request()


class PlainFuture(CallFuture, _Plain):
    """The future of a plain call, and the call. Every method may be called from any thread."""

    _request: CallRequest | None = None
    _state = PENDING

    def __init__(self, remote: Remote, site: Site, payload: bytes) -> None:
        _Plain.__init__(self, remote, site, payload)
        self._connection = site.route
        self.made = next(made_calls)

    @classmethod
    def make(cls, remote: Remote, member: str, payload: bytes) -> PlainFuture | None:
        """Makes the call if it is plain; else does nothing."""
        site = Site.of(remote, member, waits=False) if len(payload) <= _LONGEST else None
        if site is None or site.room.is_full:
            return None
        call = cls(remote, site, payload)
        chains.expected[call._chain] = 1
        site.route.engine.send(call)
        return call

    # ---- to the connection

    def finish(self, outcome: Outcome) -> None:
        if self.outcome is not None:
            return
        self.outcome = outcome
        if outcome.value is None:
            self._answered(outcome)
            return
        self._end(outcome)
        route = self._connection
        assert route is not None
        if route.room.is_awaited:
            route.room.answered()

    def finish_with(self, value: object) -> None:
        # What `_end` does, in fewer steps: many futures are ended one after the other.
        self._value = value
        with driven.settling:
            if self.ending is not None:
                return
            self.ending = _READ
        chains.expected.pop(self._chain, None)
        if self._request is not None:
            self._request.on_outcome = None
        self._state = FINISHED
        if self._waiting is not None:
            self.completed()

    def result(self, timeout: float | None = None) -> Any:
        if self.ending is not _READ:
            return super().result(timeout)
        received_metadata(NO_METADATA)
        return self._value

    def _outcome(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        if self.ending is not _READ:
            return super()._outcome(timeout)
        received_metadata(NO_METADATA)
        return self._value, None

    def _decode(self) -> tuple[Any, BaseException | None]:
        return (self._value, None) if self.ending is _READ else super()._decode()

    # ---- what it makes itself where it is not so plain

    @property
    def request(self) -> CallRequest:  # type: ignore[override]
        """The call as a request: to be sent again, or to be waited for in its chain."""
        request = self._request
        if request is None:
            self._again, self._retries, self._losses = MOST_AGAIN, 0, 0
            request = self._as_request()
            request.on_outcome = self._answered
            request = self._set_once("_request", request)
        return request

    def is_to_be_repeated(self, outcome: Outcome) -> bool:
        self.request  # noqa: B018 - which has to be there
        return super().is_to_be_repeated(outcome)

    def _end(self, ending: Outcome | BaseException) -> bool:
        if not self._settle(ending):
            return False
        chains.no_longer_expect(self._chain, alone=True)
        request = self._request
        if request is not None and isinstance(ending, Outcome):
            request.on_outcome = None
        self.completed()
        return True

    def _withdraw(self, reason: str) -> None:
        route = self._connection
        if self._pending is not None or route is None:
            super()._withdraw(reason)  # it was sent again
        else:
            route.engine.cancel(self, reason)
