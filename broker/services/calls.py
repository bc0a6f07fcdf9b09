"""Calls that any gRPC client makes, on their way through the dispatcher: gRPC's thread waits for the answer.

What is asked and how it is answered is said by the subclasses: `invoke` has the generic calls, `typed` those of typed
services.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, NoReturn, TypeVar

import grpc

from broker._pb import broker_pb2 as wire
from broker.codecs import Edge, Encoded
from broker.connection import chains
from broker.connection.calls import NO_METADATA, CallRequest, ItemSink, Metadata
from broker.connection.refusals import Reason, Refused
from broker.connection.statuses import RpcStatus, refuse
from broker.context import Client
from broker.dispatch import Dispatcher
from broker.errors import ProtocolError
from broker.security import Identification, Unidentified

MAX_REQUEST_SIZE = 64 << 20
"""gRPC holds a whole unary message before we see it, so its limit is lower than that of a connection."""
MAX_UNARY_CALLS = 1_024
"""Each call holds a thread until it is answered; beyond this many they are refused."""
MAX_RESPONSES = 16
"""Items of one stream that gRPC has not taken: the generator waits then."""

R = TypeVar("R")
Headers = tuple[tuple[str, str | bytes], ...]


class GrpcCall(ABC, Generic[R]):
    """One call. `R` is its response, and each item of a stream."""

    def __init__(self, request: CallRequest, peer: str, *, takes_items: bool = False) -> None:
        self.request = request
        self.peer = peer
        self.items = ResponseStream(self) if takes_items else None
        """Where items go, for a caller who takes more than one response."""
        self.headers: Headers = ()
        """What goes out before the response, or before the status."""
        self.response: R | None = None
        self.status: RpcStatus | None = None
        """What the call ends with in place of a response, or after the items."""
        self._done = threading.Event()  # there is an answer, or the first item may come
        self._over = False
        self._lock = threading.Lock()
        self._cancelled: str | None = None
        self._on_cancel: Callable[[str], None] | None = None

    # ---- what the kinds of calls say

    @abstractmethod
    def arguments(self, edge: Edge) -> tuple[tuple[object, ...], dict[str, object]]:
        """Decodes the arguments. Raises CodecError."""

    @abstractmethod
    def respond(self, value: object, edge: Edge, what: str, metadata: Metadata) -> R:
        """The response with that result or item. Raises CodecError and MessageTooLargeError."""

    @abstractmethod
    def failure(self, error: BaseException, edge: Edge, metadata: Metadata) -> R | RpcStatus:
        """What becomes of an exception that the method raised."""

    no_stream = "call it by InvokeStream"
    """What to do where a stream comes and one response is taken."""

    # ---- the answer: see broker.connection.calls.ServedCall

    def answer(self, value: object, edge: Edge, *, raised: bool, kept: bool, metadata: Metadata) -> None:
        if raised:
            assert isinstance(value, BaseException)
            self.fail(value, edge, metadata)
        else:
            self.response = self.respond(value, edge, "result", metadata)
        self.end()

    def fail(self, error: BaseException, edge: Edge, metadata: Metadata = NO_METADATA) -> None:
        """Sets the response or the status that says what the method raised."""
        failure = self.failure(error, edge, metadata)
        if isinstance(failure, RpcStatus):
            self.status = failure
        else:
            self.response = failure

    def end(self) -> None:
        """Nothing more is to come."""
        self._over = True
        if self.items is not None:
            self.items.stop()
        self._done.set()

    def reply(self, value: Encoded, raised: bool, kept: bool, metadata: Metadata) -> None:
        raise ProtocolError(f"{self.request.member!r} cannot be answered in a codec")

    def answer_bytes(self, data: bytes) -> None:
        raise ProtocolError(f"{self.request.member!r} cannot be answered with bytes")

    def answer_stream(self, *, kept: bool, metadata: Metadata) -> ItemSink:
        if self.items is None:
            raise ProtocolError(f"{self.request.member!r} returns a stream of items: {self.no_stream}")
        self.items.begin(metadata)
        self._done.set()
        return self.items

    def started(self) -> None: ...

    def refuse(self, refused: Refused, *, ran: bool = False, kept: bool = False) -> None:
        self.status = RpcStatus.of_refusal(refused)
        self.end()

    def on_cancel(self, function: Callable[[str], None]) -> None:
        with self._lock:
            if self._cancelled is None:
                self._on_cancel = function
                return
        function(self._cancelled)

    def over(self) -> None:
        self._on_cancel = None

    # ---- gRPC's side

    def cancel(self, reason: str) -> None:
        """The caller gave up or is lost; also called, harmlessly, when the call is over."""
        with self._lock:
            self._cancelled = reason
            function = self._on_cancel
        if function is not None and not self._over:
            function(reason)
        if self.items is not None:
            self.items.stop()

    @property
    def is_late(self) -> bool:
        """Whether the time of the call is over: no answer counts then, whichever of two clocks runs ahead."""
        return self.request.deadline is not None and time.monotonic() >= self.request.deadline

    def wait(self) -> None:
        """Waits for the answer, or until items are to come."""
        self._done.wait()


class ResponseStream(Generic[R]):
    """The items of a call that is answered by many responses: what was put, and gRPC's thread has not taken."""

    has_deadline = True

    def __init__(self, call: GrpcCall[R]) -> None:
        self.begun = False
        self.metadata: Metadata = NO_METADATA
        """What goes out beside the first response."""
        self._call = call
        self._condition = threading.Condition()
        self._responses: deque[R] = deque()  # this and the rest under the condition
        self._stopped = False
        self._on_room: Callable[[], None] | None = None

    def begin(self, metadata: Metadata) -> None:
        """Items will follow; the first response brings the metadata."""
        self.metadata = metadata
        self.begun = True

    def put(self, item: object, edge: Edge) -> bool:
        metadata, self.metadata = self.metadata, NO_METADATA
        response = self._call.respond(item, edge, "item", metadata)
        return self._put(response)

    def _put(self, response: R) -> bool:
        with self._condition:
            if not self._stopped:
                self._responses.append(response)
                self._condition.notify()
            return len(self._responses) < MAX_RESPONSES

    def when_room(self, job: Callable[[], None]) -> bool:
        with self._condition:
            if self._stopped or len(self._responses) < MAX_RESPONSES:
                return False
            self._on_room = job
            return True

    def end(self, value: object, edge: Edge, *, raised: bool) -> None:
        if raised:
            assert isinstance(value, BaseException)
            self._call.fail(value, edge, self.metadata)
            if self._call.response is not None:
                self._put(self._call.response)
        self._call.end()

    def fail(self, refused: Refused) -> None:
        self._call.refuse(refused)

    def stop(self) -> None:
        """No further item comes, or is taken."""
        with self._condition:
            self._stopped = True
            self._condition.notify()

    def responses(self) -> Iterator[R]:
        """The responses; waits for each."""
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._responses or self._stopped)
                if not self._responses:
                    return
                response = self._responses.popleft()
                job, self._on_room = self._on_room, None
            if job is not None:
                job()
            yield response


class Calls:
    """Takes the calls of gRPC's threads to the dispatcher of one daemon. Every method may be called from any thread."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        identification: Identification,
        max_message_size: int,
        max_unary_calls: int = MAX_UNARY_CALLS,
    ) -> None:
        self.max_size = min(MAX_REQUEST_SIZE, max_message_size)
        """Bytes of a request."""
        self._dispatcher = dispatcher
        self._identification = identification
        self._max_unary_calls = max_unary_calls
        self._places = threading.Semaphore(max_unary_calls)

    def unary(self, make: Callable[[], GrpcCall[R]], context: grpc.ServicerContext) -> R:
        """Makes a call and waits for its response; else ends it with its status."""
        with self._place(context):
            identity = self._identity(context)  # before anything of the request is read
            call = make()
            self._carry_out(call, context, identity)
        if call.is_late:
            what = f"the answer of {call.request.member!r} came after the time of the call was over"
            refuse(context, Refused(Reason.DEADLINE_EXCEEDED, what))
        if call.status is not None:
            call.status.abort(context)
        assert call.response is not None
        return call.response

    def stream(self, make: Callable[[], GrpcCall[R]], context: grpc.ServicerContext) -> Iterator[R]:
        """The items, or the one response of a call that returned none. Holds gRPC's thread until the last is taken."""
        with self._place(context):
            identity = self._identity(context)
            call = make()
            assert call.items is not None
            try:
                self._carry_out(call, context, identity)
                if call.items.begun:
                    yield from call.items.responses()
                elif call.response is not None:
                    yield call.response
            finally:
                call.cancel("the caller takes no further items")
        if call.status is not None:
            call.status.abort(context)

    def check_size(self, size: int, context: grpc.ServicerContext) -> None:
        """Ends a call whose request is too large."""
        if size > self.max_size:
            what = f"the request takes {size} bytes and a unary call holds {self.max_size}"
            self.turn_away(context, Refused(Reason.MESSAGE_TOO_LARGE, what, "max_message_size"))

    def turn_away(self, context: grpc.ServicerContext, refused: Refused) -> NoReturn:
        """Ends a call that never came to the dispatcher."""
        self._dispatcher.turned_away(refused)
        refuse(context, refused)

    def client(self, context: grpc.ServicerContext) -> Client:
        """Who calls; ends the call of a caller whom the daemon has to know and does not."""
        return Client(context.peer(), identity=self._identity(context))

    def _identity(self, context: grpc.ServicerContext) -> str | None:
        try:
            return self._identification.of(context)
        except Unidentified as error:
            self.turn_away(context, Refused(Reason.UNAUTHENTICATED, str(error), error.limit))

    @contextmanager
    def _place(self, context: grpc.ServicerContext) -> Iterator[None]:
        """One of the calls that may be under way."""
        if not self._places.acquire(blocking=False):
            what = f"{self._max_unary_calls} unary calls are under way (max_unary_calls): call again later"
            self.turn_away(context, Refused(Reason.OVERLOADED, what, "max_unary_calls"))
        try:
            yield
        finally:
            self._places.release()

    def _carry_out(self, call: GrpcCall[R], context: grpc.ServicerContext, identity: str | None) -> None:
        """Waits for the answer, or until items are to come."""
        client = Client(context.peer(), codec=call.request.arguments.codec, identity=identity)
        if not context.add_callback(lambda: call.cancel("the caller gave up")):
            call.cancel("the caller gave up")
        self._dispatcher.dispatch(call, client, None)
        call.wait()
        if call.headers:
            context.send_initial_metadata(call.headers)


def request_of(
    object_id: str,
    member: str,
    kind: wire.Call.Kind,
    arguments: Encoded,
    context: grpc.ServicerContext,
    metadata: Metadata,
) -> CallRequest:
    """What is asked, with the deadline that the caller gave gRPC."""
    remaining: float | None = context.time_remaining()  # the stub forgets the None of a call without a deadline
    return CallRequest(
        object=object_id,
        member=member,
        kind=kind,
        arguments=arguments,
        chain=chains.new_chain(),
        deadline=None if remaining is None else time.monotonic() + min(remaining, threading.TIMEOUT_MAX),
        metadata=metadata,
    )
