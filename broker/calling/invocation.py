"""One call on its way out: what is asked, what is sent again, and what comes of it.

The same for every kind of caller. A thread that waits for the result goes through `wait`; who does not wait sends with
an `on_outcome`, asks `is_to_be_repeated`, and takes the `result`.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from broker._pb.broker_pb2 import Batch, Call
from broker.calling.backoff import pause_before
from broker.calling.results import BatchResults
from broker.calling.streams import RemoteItems, RemoteIterator
from broker.codecs import Encoded, codec
from broker.connection import chains
from broker.connection.calls import CallRequest, Metadata, Outcome, PendingCall
from broker.connection.client import Route
from broker.connection.introduction import BATCHES, check_feature
from broker.connection.item_receiver import ItemReceiver
from broker.connection.refusals import Reason, Refused
from broker.context import CallContext, correlation_outside, received_metadata
from broker.errors import (
    BrokerError,
    CallTimeout,
    CannotConnect,
    CommunicationError,
    ConnectionClosedError,
    NamingError,
    Overloaded,
    ProtocolError,
)
from broker.uri import URI

if TYPE_CHECKING:
    from broker.calling.remote import Remote

MOST_AGAIN = 5
"""How often a call is sent again that was surely not executed: daemons that end one after the other may each refuse it,
and one that refuses all calls is not to be asked for ever."""

_lanes = itertools.count(1)


class Lanes:
    """The lanes of one proxy's calls, by the thread or task that makes them.

    Calls of one thread need an order only once it has made a call that it does not wait for.
    """

    __slots__ = ("_tasks", "_threads")

    def __init__(self) -> None:
        self._threads: dict[int, int] = {}
        self._tasks: WeakKeyDictionary[asyncio.Task[Any], int] | None = None

    def of_thread(self, *, waits: bool) -> int:
        """The lane of a call of this thread; 0 for none."""
        lanes = self._threads
        if waits and not lanes:
            return 0
        thread = threading.get_ident()
        lane = lanes.get(thread, 0)
        if not lane and not waits:
            lane = lanes[thread] = next(_lanes)
        return lane

    def of_task(self, task: asyncio.Task[Any], *, waits: bool) -> int:
        """The lane of a call of a task; 0 for none."""
        lanes = self._tasks
        if lanes is None:
            if waits:
                return 0
            lanes = self._tasks = WeakKeyDictionary()
        lane = lanes.get(task, 0)
        if not lane and not waits:
            lane = lanes[task] = next(_lanes)
        return lane


class Invocation:
    """One call of a remote object. One thread at a time takes it further."""

    __slots__ = ("_again", "_losses", "_retries", "remote", "request")

    _iterator: Callable[[RemoteItems], Any] = RemoteIterator
    """What makes an iterator of a result that is a stream."""

    def __init__(
        self,
        remote: Remote,
        member: str,
        arguments: Encoded,
        kind: Call.Kind,
        *,
        oneway: bool = False,
        waits: bool = True,
        batch: Batch | None = None,
    ) -> None:
        """The call as the running thread makes it: deadline, chain, metadata come from the call that this thread
        carries out. Who does not wait has its calls kept in order. `batch` says which calls a BATCH has.

        Raises BrokerError if the chain is too deep.
        """
        self.remote = remote
        self._again = MOST_AGAIN
        self._retries = remote.retries
        self._losses = 0  # after each of these it may have been executed, and was repeated
        context = CallContext.active()
        options = remote.options
        metadata: Metadata = options.metadata
        deadline = None if options.timeout is None else time.monotonic() + options.timeout
        depth = 1
        if context is None:
            chain, correlation = chains.new_chain(), correlation_outside.get()
        else:
            chain, depth = context.chain, context.depth + 1
            if depth > chains.MAX_DEPTH:
                raise BrokerError(chains.too_deep(remote.uri.object, member, chain))
            correlation = context.correlation
            deadline = earlier(deadline, context.deadline)
            if context.metadata:
                metadata = {**context.metadata, **metadata}
        request = self.request = CallRequest("", member, kind, arguments, chain, depth, oneway=oneway, batch=batch)
        request.on_kept = remote.session.kept
        if deadline is not None:
            request.deadline = deadline
        if metadata:
            request.metadata = metadata
        if correlation:
            request.correlation_id = correlation
        if self._retries:
            request.idempotency_key = uuid4().bytes
        lane = self._lane(waits=waits and not oneway)
        if lane:
            request.lane = lane

    def _lane(self, *, waits: bool) -> int:
        return self.remote.lanes.of_thread(waits=waits)

    # ---- out

    @property
    def outlasts_drain(self) -> bool:
        """Whether it goes out where only nested calls are taken, over a connection whose other side drains.

        What was refused there is sent again as any other call.
        """
        return self.request.is_nested and self._again == MOST_AGAIN

    def send(self, uri: URI, connection: Route) -> PendingCall:
        """Sends the call, to the object and over the connection that the name led to.

        Raises ConnectionClosedError, once, where state of the session is gone, and CodecError, MessageTooLargeError;
        ProtocolError for a batch if the other side takes none.
        """
        if self.request.batch is not None:
            check_feature(connection.engine.peer, BATCHES, str(connection.place))
        self.request.object = uri.object
        self.request.session = self.remote.session_on(connection)
        return connection.engine.call(self.request)

    def is_to_be_repeated(self, outcome: Outcome) -> bool:
        """Whether to send it again: if it was surely not executed, and `retries` times if it may have been."""
        if outcome.value is not None or outcome.stream is not None:
            return False
        if outcome.lost is not None and outcome.may_have_run and self._retries:
            self._retries -= 1
            self._losses += 1
            return True
        if self._again and self._surely_not_executed(outcome):
            self._again -= 1
            return True
        return False

    def _surely_not_executed(self, outcome: Outcome) -> bool:
        if outcome.lost is not None:
            return not outcome.may_have_run
        moved = outcome.refused is not None and outcome.refused.reason == Reason.OBJECT_NOT_FOUND
        if not moved or not self.remote.forget_place():
            return False
        self._again = 1  # where the name leads now is looked up once
        return True

    def is_to_be_tried_again(self, error: Exception) -> bool:
        """Whether a repetition that found nobody there is followed by another one, if `retries` are left."""
        if not (self._losses and self._retries and isinstance(error, (CannotConnect, NamingError))):
            return False
        self._retries -= 1
        self._losses += 1
        return True

    def pause(self) -> float:
        """Seconds to wait before it is sent again."""
        pause = pause_before(self._losses) if self._losses else 0.0
        deadline = self.request.deadline
        return pause if deadline is None else min(pause, max(0.0, deadline - time.monotonic()))

    def in_full(self, error: Exception) -> Exception:
        """What the caller gets: a repetition that fails does not say that nothing was executed."""
        if not self._losses or not isinstance(error, (CommunicationError, NamingError, Overloaded)):
            return error
        if isinstance(error, (CannotConnect, NamingError)) or type(error) is CommunicationError:
            lost = f"the call of {self._what} of {self.remote.where()} lost its connection and may have been executed"
            error = ConnectionClosedError(f"{lost}; it could not be repeated: {error}")
        error.may_have_run = True
        return error

    # ---- a thread that waits

    def wait(self, begun: tuple[Outcome, Route] | None = None) -> tuple[Outcome, Route]:
        """Sends the call, again if need be, and waits for the outcome. Raises CommunicationError, NamingError.

        `begun` is how the call ended that was sent already, and over which connection.
        """
        if begun is not None:
            if not self.is_to_be_repeated(begun[0]):
                return begun
            self._rest()
        remote, request = self.remote, self.request
        if request.depth > 1:
            self._check_caller()
        remote.settle()
        if remote.departures and request.kind != Call.DESCRIBE:  # futures that this thread made before come first
            remote.departures.wait(remote, request.deadline)
        while True:
            try:
                uri, connection = remote.connect(request.deadline, nested=self.outlasts_drain)
                pending = self.send(uri, connection)
            except BrokerError as error:
                if not self.is_to_be_tried_again(error):
                    full = self.in_full(error)
                    if full is error:
                        raise
                    raise full from error
            else:
                outcome = self._wait_for(pending)
                if not self.is_to_be_repeated(outcome):
                    return outcome, connection
            self._rest()

    def _rest(self) -> None:
        """Waits before the call is sent again, as long as somebody waits for the call that this thread carries out."""
        pause = self.pause()
        context = CallContext.active()
        if context is None or context.cancelled:  # a method that was told so tidies up
            time.sleep(pause)
        elif pause and context.wait_cancelled(pause):
            raise self.in_full(error_of(self.given_up(None)))

    def _check_caller(self) -> None:
        """Raises the error of a call that is not made, since its own caller gave up the call that it belongs to."""
        context = CallContext.active()
        if context is not None and context.must_be_told and not self.is_too_late():
            context.knows = True
            raise error_of(self.given_up(None))

    def _wait_for(self, pending: PendingCall) -> Outcome:
        patience = self.remote.options.patience
        until = earlier(self.request.deadline, None if patience is None else time.monotonic() + patience)
        try:
            if self.request.depth == 1:
                outcome = pending.wait(until)
            else:
                outcome = self._wait_inside_a_call(pending, until)
        except BaseException:  # Ctrl-C above all: the call ends here and there
            pending.cancel("the caller was interrupted")
            raise
        if outcome is not None:
            return outcome
        if until == self.request.deadline:
            pending.cancel("the time of the call is over")
            raise self.too_late(pending)
        raise self._impatient(patience)

    def _wait_inside_a_call(self, pending: PendingCall, until: float | None) -> Outcome | None:
        """Waits no longer than somebody waits for the call that this thread carries out."""
        context = CallContext.active()
        assert context is not None

        def end() -> None:
            context.knows = True
            if not self.is_too_late():  # else the wait is over by itself
                outcome = self.given_up(pending)
                pending.cancel("the call that it belongs to was cancelled")
                pending.finish(outcome)

        context.watch(end)
        try:
            return pending.wait(until)
        finally:
            context.unwatch(end)

    # ---- what comes of it

    def is_too_late(self) -> bool:
        deadline = self.request.deadline
        return deadline is not None and deadline <= time.monotonic()

    def given_up(self, pending: PendingCall | None) -> Outcome:
        """How a call ends whose own caller gave up the call that it belongs to."""
        taken = pending is not None and pending.taken
        what = f"the call of {self._what} of {self.remote.where()} was given up, since the call that it "
        what += "belongs to was cancelled; " + ("the method may still be running" if taken else "it was not sent")
        return Outcome(refused=Refused(Reason.CANCELLED, what), may_have_run=taken)

    def too_late(self, pending: PendingCall | None) -> CallTimeout:
        """The error of a call whose time is over."""
        return self._too_late(taken=pending is not None and pending.taken)

    def _impatient(self, patience: float | None) -> CallTimeout:
        """The error of a call that goes on, and that nobody waits for any more."""
        what = f"{self._what} of {self.remote.where()} took longer than the patience of {patience:g} s"
        error = CallTimeout(f"{what}; the method goes on")
        error.may_have_run = True
        return error

    def _too_late(self, *, taken: bool) -> CallTimeout:
        timeout = self.remote.options.timeout
        error = CallTimeout(
            f"{self._what} of {self.remote.where()} took longer than its time"
            + (f" of {timeout:g} s" if timeout is not None else "")
            + ("; the method may still be running" if taken else "; it was not sent")
        )
        error.may_have_run = taken
        return error

    def _error_of(self, outcome: Outcome) -> Exception:
        refused = outcome.refused
        if refused is not None and refused.reason == Reason.DEADLINE_EXCEEDED and outcome.may_have_run:
            return self._too_late(taken=True)  # its answer has come just after that
        return self.in_full(error_of(outcome))

    @property
    def _what(self) -> str:
        if self.request.batch is not None:
            return f"a batch of {len(self.request.batch.calls)} calls"
        return repr(self.request.member) if self.request.member else "the description"

    def result_of(self, outcome: Outcome) -> Any:
        """The result. Raises what the method raised, and BrokerErrors."""
        if outcome.stream is not None:
            received_metadata(outcome.metadata)
            return self._iterator(self._items(outcome.stream))
        value = outcome.value
        if value is None:
            if self.request.oneway and outcome.refused is None and outcome.lost is None:
                return None
            raise self._error_of(outcome)
        asked = self.request.arguments.codec
        if value.codec != asked:
            raise ProtocolError(f"the answer came in codec {value.codec!r} to a call in {asked!r}; it was not read")
        received_metadata(outcome.metadata)
        if self.request.batch is not None:
            results = codec(value.codec).decode_results(value, self.remote.edge)
            return BatchResults(results, len(self.request.batch.calls), self.remote.where())
        result = codec(value.codec).decode(value, self.remote.edge, "result")
        if not outcome.raised:
            return result
        if not isinstance(result, BaseException):
            where = self.remote.where()
            raise ProtocolError(f"{where} raised something that is no exception: {type(result).__name__}")
        raise result

    def _items(self, stream: ItemReceiver) -> RemoteItems:
        """The items of a result that is a stream. They hold the session, which would end with the proxy otherwise."""
        remote = self.remote
        return RemoteItems(stream, remote.edge, remote.where(), remote.options.timeout, remote.session)


def error_of(outcome: Outcome) -> Exception:
    """The error of a call that has no result."""
    if outcome.refused is not None:
        return outcome.refused.to_error(may_have_run=outcome.may_have_run)
    if outcome.lost is None:
        return ProtocolError("an answer arrived that is neither a result nor a refusal")
    if outcome.may_have_run:
        return ConnectionClosedError(f"{outcome.lost}; the call was under way and may have been executed")
    return CommunicationError(f"{outcome.lost}; the call was not executed")


def earlier(one: float | None, other: float | None) -> float | None:
    """The earlier of two deadlines; None is no deadline."""
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
