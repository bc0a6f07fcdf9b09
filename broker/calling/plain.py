"""The short way of a plain future: one object from the call to its result.

Nearly all futures are plain: made outside of any call, on an open connection, with nothing but a few arguments. For
these the future is itself what the connection keeps of the call. As soon as there is anything else to it (it is to be
sent again, say) it makes itself the request that every other call has from the beginning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker._pb.broker_pb2 import Call
from broker.calling.futures import PENDING, CallFuture
from broker.codecs import Encoded
from broker.connection import chains
from broker.connection.calls import CallRequest, MadeCall, Outcome
from broker.connection.outbox import FRAME_COST
from broker.connection.writing import call_head, write_call, write_call_frame
from broker.context import CallContext, correlation_outside

if TYPE_CHECKING:
    from broker.calling.remote import Remote

_LARGEST = 4096  # bytes of arguments
_COST = FRAME_COST + 100


class PlainFuture(CallFuture, MadeCall):
    """The future of a plain call, and the call. Every method may be called from any thread."""

    # What the connection knows of a call; most of it is the same for all of these.
    waiter = None
    oneway = is_nested = False
    is_small = True
    deadline = None
    id = 0
    taken = abandoned = False
    outcome: Outcome | None = None

    arguments: Encoded
    _chain: bytes
    _head: bytes
    _lane_number: int
    _member: str

    def __init__(self) -> None:
        self._state = PENDING

    @classmethod
    def make(cls, remote: Remote, member: str, arguments: Encoded) -> PlainFuture | None:
        """Makes the call if it is plain; else does nothing. Raises CodecError."""
        known = remote.open_place()
        if known is None or arguments.buffers or arguments.references or len(arguments.payload) > _LARGEST:
            return None
        uri, route = known
        session = remote.session
        if session.connection is not route or remote.retries or remote.departures or route.room.is_full:
            return None
        if CallContext.active() is not None or correlation_outside.get():
            return None
        lane = remote.lanes.of_thread(waits=False)
        call = cls()
        call._head = call_head((uri.object, member, Call.METHOD, session.on(route), 1, lane, False, False))
        call.remote = remote
        call.arguments = arguments
        call.cost = _COST + len(arguments.payload)
        call._member = member
        call._lane_number = lane
        call._chain = chains.new_chain()
        call._connection = route
        chains.expect(call._chain, alone=True)
        route.engine.send(call)
        return call

    # ---- to the connection

    def to_bytes(self) -> bytes | None:
        if self.abandoned:
            return None
        self.taken = True
        return write_call_frame(self.id, write_call(self._head, self._chain, self.arguments), None)

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

    # ---- what it makes itself where it is not so plain

    @property
    def request(self) -> CallRequest:  # type: ignore[override]
        """The call as a request: to be sent again, or to be waited for in its chain."""
        request: CallRequest | None = self.__dict__.get("_request")
        if request is None:
            self._again, self._retries, self._losses = 1, 0, 0
            session = self.remote.session
            request = CallRequest(
                self.remote.uri.object, self._member, Call.METHOD, self.arguments, self._chain, lane=self._lane_number
            )
            request.on_outcome, request.on_kept = self._answered, session.kept
            request = self.__dict__.setdefault("_request", request)
        return request

    def is_to_be_repeated(self, outcome: Outcome) -> bool:
        self.request  # noqa: B018 - which has to be there
        return super().is_to_be_repeated(outcome)

    def _end(self, ending: Outcome | BaseException) -> bool:
        if self.__dict__.setdefault("ending", ending) is not ending:
            return False
        chains.no_longer_expect(self._chain, alone=True)
        request = self.__dict__.get("_request")
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
