"""The short way of plain calls: one object from the call to its result.

Nearly all calls are plain: made outside of any other, on an open connection, with nothing but a few arguments. For
these the future, or the call that a thread waits for, is itself what the connection keeps of the call. As soon as there
is anything else to it (it is to be sent again, say) it becomes what every other call is from the beginning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker._pb.broker_pb2 import Call
from broker.calling.futures import PENDING, CallFuture
from broker.calling.invocation import Invocation
from broker.codecs import Encoded, codec
from broker.connection import chains
from broker.connection.calls import NO_METADATA, CallRequest, MadeCall, Outcome
from broker.connection.chains import Waiter
from broker.connection.client import Route
from broker.connection.outbox import FRAME_COST
from broker.connection.workers import run_nested_late
from broker.connection.writing import call_head, write_plain_call
from broker.context import CallContext, correlation_outside, received_metadata

if TYPE_CHECKING:
    from broker.calling.remote import Remote

_LARGEST = 4096  # bytes of arguments
_COST = FRAME_COST + 100
_READ = Outcome()
"""The outcome of a call whose result was read with others."""


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
    arguments: Encoded
    _chain: bytes
    _head: bytes
    _lane_number: int
    _member: str
    _route: Route
    _value: object  # the result, where the outcome is _READ

    def _prepare(self, remote: Remote, member: str, arguments: Encoded, *, waits: bool) -> bool:
        """Makes it the call of a member; False if there is more to that than is plain. Raises CodecError."""
        known = remote.open_place()
        if known is None or arguments.buffers or arguments.references or len(arguments.payload) > _LARGEST:
            return False
        uri, route = known
        session = remote.session
        if session.connection is not route or remote.options.retries or remote.departures:
            return False
        if CallContext.active() is not None or correlation_outside.get():
            return False
        lane = remote.lanes.of_thread(waits=waits)
        self._head = call_head((uri.object, member, Call.METHOD, session.number, 1, lane, False, False))
        self.remote = remote
        self.arguments = arguments
        self.cost = _COST + len(arguments.payload)
        self._member = member
        self._lane_number = lane
        self._chain = chains.new_chain()
        self._route = route
        return True

    def to_bytes(self) -> bytes | None:
        if self.abandoned:
            return None
        self.taken = True
        return write_plain_call(self.id, self._head, self._chain, self.arguments)

    def _as_request(self) -> CallRequest:
        request = CallRequest(
            self.remote.uri.object, self._member, Call.METHOD, self.arguments, self._chain, lane=self._lane_number
        )
        request.on_kept = self.remote.session.kept
        return request


class PlainCall(_Plain):
    """A plain call that the thread waits for which makes it."""

    waiter: Waiter

    @classmethod
    def make(cls, remote: Remote, member: str, arguments: Encoded) -> PlainCall | None:
        """Makes the call if it is plain; else does nothing. Raises CodecError, MessageTooLargeError."""
        call = cls()
        if not call._prepare(remote, member, arguments, waits=True):
            return None
        waiter = call.waiter = Waiter(call._chain, 1)
        waiter.register()
        call._route.engine.send(call)
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
            self._route.engine.cancel(self, "the caller was interrupted")
            raise
        outcome, remote = self.outcome, self.remote
        assert outcome is not None
        if outcome is _READ:
            received_metadata(NO_METADATA)
            return self._value
        value = outcome.value
        if value is None or outcome.raised or value.codec != self.arguments.codec:
            call = Invocation(remote, self._member, self.arguments, Call.METHOD)
            outcome, _ = call.wait((outcome, self._route))
            return call.result_of(outcome)
        received_metadata(outcome.metadata)
        return codec(value.codec).decode(value, remote.edge, "result")

    @property
    def request(self) -> CallRequest:  # type: ignore[override]
        """The call as a request, for what is rare in an answer."""
        return self._as_request()


class PlainFuture(CallFuture, _Plain):
    """The future of a plain call, and the call. Every method may be called from any thread."""

    _request: CallRequest | None = None

    def __init__(self) -> None:
        self._state = PENDING

    @classmethod
    def make(cls, remote: Remote, member: str, arguments: Encoded) -> PlainFuture | None:
        """Makes the call if it is plain; else does nothing. Raises CodecError."""
        call = cls()
        if not call._prepare(remote, member, arguments, waits=False) or call._route.room.is_full:
            return None
        call._connection = call._route
        chains.expect(call._chain, alone=True)
        call._route.engine.send(call)
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
        self._value = value
        self._end(_READ)

    def _decode(self) -> tuple[Any, BaseException | None]:
        if self.ending is not _READ:
            return super()._decode()
        received_metadata(NO_METADATA)
        return self._value, None

    # ---- what it makes itself where it is not so plain

    @property
    def request(self) -> CallRequest:  # type: ignore[override]
        """The call as a request: to be sent again, or to be waited for in its chain."""
        request = self._request
        if request is None:
            self._again, self._retries, self._losses = 1, 0, 0
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
