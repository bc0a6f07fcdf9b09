"""One call as the engine sees it: what is asked, the side that waits, and the side that answers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from broker._pb.broker_pb2 import Batch, Call, Frame, InvokeResponse, MetadataValue, Result
from broker.codecs import Edge, Encoded, codec
from broker.connection.chains import Waiter, answering, new_chain
from broker.connection.outbox import FRAME_COST, HEADER_LIMIT, inline_cost, is_inline
from broker.connection.refusals import Reason, Refused
from broker.connection.workers import run_nested_late
from broker.connection.writing import call_head, write_call, write_call_frame
from broker.errors import CodecError, MessageTooLargeError, ProtocolError

if TYPE_CHECKING:
    from broker.connection.engine import Connection
    from broker.connection.incoming import Incoming
    from broker.connection.item_receiver import ItemReceiver
    from broker.connection.item_sender import ItemSender
    from broker.connection.outgoing import Outgoing

Metadata = Mapping[str, str | bytes]
NO_METADATA: Metadata = MappingProxyType({})
MAX_BATCH = 65_536
"""How many calls one batch may have."""
_MAX_TIMEOUT_US = int(threading.TIMEOUT_MAX * 1e6)  # what nobody can wait for is no deadline
_CHAIN_SIZE = 16


def metadata_from_wire(metadata: Mapping[str, MetadataValue]) -> dict[str, str | bytes]:
    return {key: value.data if value.WhichOneof("kind") == "data" else value.text for key, value in metadata.items()}


class CallRequest:
    """What a caller asks of the other side.

    What is rare in a call is an attribute of the class until it is set: most calls are made of little.
    """

    depth = 1
    deadline: float | None = None
    """A time of `time.monotonic`."""
    session = 0
    oneway = False
    lane = 0
    metadata: Metadata = NO_METADATA
    correlation_id = b""
    idempotency_key = b""
    """The same for all repetitions; set where there may be any."""
    batch: Batch | None = None
    """The calls of a BATCH; `arguments` has the arguments of all."""
    is_nested = False
    """Whether somebody of its chain waits for it, so that it spends no call credit."""
    on_outcome: Callable[[Outcome], None] | None = None
    """Called once with how the call ended, instead of a thread that waits; by whichever thread ends it, often the one
    that reads: it must neither wait nor run code of users. After `cancel` it may or may not be called. Of a oneway
    call it says that it has gone out, with the lock of the line held."""
    on_kept: Callable[[], None] | None = None
    """Called when the answer says that the server keeps something for the session, also if nobody waits for it any
    more; by the thread that reads."""

    def __init__(
        self,
        object: str,  # noqa: A002 - that is what it is
        member: str,
        kind: Call.Kind,
        arguments: Encoded,
        chain: bytes,
        depth: int = 1,
        *,
        deadline: float | None = None,
        session: int = 0,
        oneway: bool = False,
        lane: int = 0,
        metadata: Metadata = NO_METADATA,
        correlation_id: bytes = b"",
        batch: Batch | None = None,
        on_outcome: Callable[[Outcome], None] | None = None,
        on_kept: Callable[[], None] | None = None,
    ) -> None:
        self.object = object
        self.member = member
        self.kind = kind
        self.arguments = arguments
        self.chain = chain
        if session:
            self.session = session
        if lane:
            self.lane = lane
        if depth > 1:
            self.depth = depth
            self.is_nested = not oneway
        if oneway:
            self.oneway = True
        if deadline is not None:
            self.deadline = deadline
        if metadata:
            self.metadata = metadata
        if correlation_id:
            self.correlation_id = correlation_id
        if batch is not None:
            self.batch = batch
        if on_outcome is not None:
            self.on_outcome = on_outcome
        if on_kept is not None:
            self.on_kept = on_kept

    def to_wire(self) -> bytes:
        """The Call as it stands in its frame, but for its time.

        Raises CodecError for text that is no Unicode, and for metadata that is neither text nor bytes.
        """
        try:
            nested = self.is_nested
            head = (self.object, self.member, self.kind, self.session, self.depth, self.lane, self.oneway, nested)
            call = write_call(call_head(head), self.chain, self.arguments)
            if self.metadata or self.correlation_id or self.idempotency_key or self.batch is not None:
                call += self._rare_fields().SerializeToString()
        except (TypeError, ValueError) as error:
            raise CodecError(f"the call of {self.object!r}.{self.member!r} cannot be written: {error}") from error
        return call

    def _rare_fields(self) -> Call:
        call = Call(correlation_id=self.correlation_id, idempotency_key=self.idempotency_key, batch=self.batch)
        put_metadata(call, self.metadata)
        return call

    def header_size(self) -> int:
        """The bytes of names and metadata, about. Raises MessageTooLargeError beyond HEADER_LIMIT."""
        if self.batch is None and not self.metadata:
            size = len(self.object) + len(self.member)
            if size < HEADER_LIMIT // 4:  # which holds it, whatever the characters
                return size
        names = (self.object, self.member, *(self.batch.members if self.batch is not None else ()))
        what = "the names and metadata of " + (repr(self.member) if self.batch is None else "the batch")
        return header_size(self.metadata, what, *names) + (3 * len(self.batch.calls) if self.batch is not None else 0)

    def remaining_us(self) -> int | None:
        """What remains of its time, in microseconds, from 1 on; None without end."""
        remaining = None if self.deadline is None else (self.deadline - time.monotonic()) * 1e6
        return max(1, int(remaining)) if remaining is not None and remaining < _MAX_TIMEOUT_US else None


def put_metadata(message: Call | Result | InvokeResponse, metadata: Metadata) -> None:
    """Raises TypeError or ValueError for what is no text, nor bytes."""
    for key, value in metadata.items():
        if isinstance(value, str):
            message.metadata[key].text = value
        else:
            message.metadata[key].data = value


def header_size(metadata: Metadata, what: str, *names: str) -> int:
    """The bytes of what a frame holds beside its value. Raises MessageTooLargeError beyond HEADER_LIMIT."""
    size = sum(map(_size, (*names, *metadata, *metadata.values())))
    if size > HEADER_LIMIT:
        raise MessageTooLargeError(
            f"{what} take {size} bytes and a frame holds at most {HEADER_LIMIT}: pass what is big as a value"
        )
    return size


def _size(text: str | bytes) -> int:
    return len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode())


class Outcome(NamedTuple):
    """How a call, or a stream, ended, for its caller: at most one of value, refused, lost and stream is set."""

    value: Encoded | None = None
    raised: bool = False
    refused: Refused | None = None
    lost: str | None = None
    may_have_run: bool = False
    kept: bool = False
    metadata: Metadata = NO_METADATA
    stream: ItemReceiver | None = None
    """The result is a stream, which is cancelled when nobody holds it any more."""


class MadeCall:
    """A call of this side that has no outcome yet, as the connection has it. It is also the frame that waits in the
    outbox."""

    request: CallRequest
    arguments: Encoded
    oneway: bool
    is_nested: bool
    deadline: float | None
    cost: int
    is_small: bool
    """Whether it is one frame without references, and will be answered."""
    waiter: Waiter | None
    """The thread that waits for it; None for a call that is driven by its outcome."""
    id: int
    """Its number; 0 until it has one."""
    taken: bool
    """Whether the transport has got it."""
    abandoned: bool
    outcome: Outcome | None
    takes_value = False
    """Whether it is plain: then a result may come as `finish_with`, and it has no deadline."""

    def to_bytes(self) -> bytes | None:
        """The frame; None if the call was given up."""
        raise NotImplementedError

    def finish(self, outcome: Outcome) -> None:
        """Sets the outcome, once. From any thread."""
        raise NotImplementedError

    def finish_with(self, value: object) -> None:
        """Sets the result, of a call that takes it so. From any thread."""
        raise NotImplementedError


class PendingCall(MadeCall):
    """A call as it is made of a request."""

    __slots__ = (
        "_call", "_outgoing", "abandoned", "arguments", "cost", "deadline", "id", "is_nested", "is_small", "oneway",
        "outcome", "request", "taken", "waiter",
    )  # fmt: skip

    def __init__(self, outgoing: Outgoing, request: CallRequest) -> None:
        """Raises CodecError and MessageTooLargeError."""
        self._outgoing = outgoing
        self._call = request.to_wire()
        self.request = request
        self.id = 0
        arguments = self.arguments = request.arguments
        self.oneway = request.oneway
        self.is_nested = request.is_nested
        self.deadline = request.deadline
        self.cost = FRAME_COST + inline_cost(arguments) + request.header_size()
        self.is_small = not request.oneway and not arguments.references and is_inline(arguments)
        self.outcome = None
        self.waiter = Waiter(request.chain, request.depth) if request.on_outcome is None else None
        self.abandoned = False
        self.taken = False

    def to_bytes(self) -> bytes | None:
        if self.abandoned:
            return None
        self.taken = True
        references = self.request.arguments.references
        if references:
            self._outgoing.exports.give_locked(references)
        return write_call_frame(self.id, self._call, self.request.remaining_us())

    def finish(self, outcome: Outcome) -> None:
        if self.outcome is None:
            self.outcome = outcome
            if self.waiter is not None:
                self.waiter.finish()
            elif self.request.on_outcome is not None:
                self.request.on_outcome(outcome)

    def wait(self, deadline: float | None) -> Outcome | None:
        """Waits for the outcome; None if the deadline comes first. Runs the nested calls of its chain meanwhile."""
        assert self.waiter is not None
        self.waiter.wait(deadline, run_nested_late)
        return self.outcome

    def cancel(self, reason: str) -> None:
        """Gives the call up: the other side is told, and what it answers is dropped."""
        self._outgoing.cancel(self, reason)


class ServedCall(Protocol):
    """A call that arrived, as the side that serves it sees it. Every method may be called from any thread."""

    @property
    def request(self) -> CallRequest:
        """What is asked."""

    @property
    def peer(self) -> str:
        """Who calls, for messages."""

    def started(self) -> None:
        """The call leaves its queue."""

    def arguments(self, edge: Edge) -> tuple[tuple[object, ...], dict[str, object]]:
        """Decodes the arguments. Raises CodecError."""

    def answer(self, value: object, edge: Edge, *, raised: bool, kept: bool, metadata: Metadata) -> None:
        """Encodes and sends a result, or what the method raised. Raises CodecError and MessageTooLargeError."""

    def answer_bytes(self, data: bytes) -> None:
        """Answers with bytes that are in no codec: a description."""

    def reply(self, value: Encoded, raised: bool, kept: bool, metadata: Metadata) -> None:
        """Answers with a value that is encoded. Raises MessageTooLargeError and CodecError, having answered nothing."""

    def answer_stream(self, *, kept: bool, metadata: Metadata) -> ItemSink:
        """Answers that items follow; the call is over when the sink is ended. Raises MessageTooLargeError, CodecError,
        and ProtocolError for a caller who takes no stream, having answered nothing."""

    def refuse(self, refused: Refused, *, ran: bool = False, kept: bool = False) -> None:
        """Answers that the call was not carried out, or that it ran and has no result."""

    def on_cancel(self, function: Callable[[str], None]) -> None:
        """Calls the function once when the caller gives up; at once if it has."""

    def over(self) -> None:
        """The call is answered: forgets what `on_cancel` was given."""


class ItemSink(Protocol):
    """Where the items of a stream go. All but `when_room` and `fail` are called by one thread at a time."""

    has_deadline: bool
    """Whether the time of the call is that of the whole stream."""

    def put(self, item: object, edge: Edge) -> bool:
        """Sends an item; returns whether another one may be put at once. Else `when_room` says when.

        Raises CodecError and MessageTooLargeError, having sent nothing.
        """

    def when_room(self, job: Callable[[], None]) -> bool:
        """Runs the job, which must not wait, when there is room; False if there is now (and it was not taken)."""

    def end(self, value: object, edge: Edge, *, raised: bool) -> None:
        """Says that there is no further item: what the generator returned, or raised. Raises as `put` does."""

    def fail(self, refused: Refused) -> None:
        """Ends the stream before its end."""


_lock = threading.Lock()  # of what happens once to a call: one for all calls, since it is held for moments


class IncomingCall:
    """A call that arrived on a connection.

    What is rare in a call is an attribute of the class until it is set.
    """

    is_plain = False
    """Whether it is known to have nothing but a member, a lane, a session and arguments in json."""
    is_nested = oneway = False
    items: ItemSender | None = None
    """Where they go, if the answer is a stream."""
    _request: CallRequest | None = None
    _started = _replied = False  # this and the next two under _lock
    _cancelled: str | None = None
    _on_cancel: Callable[[str], None] | None = None

    def __init__(
        self, incoming: Incoming, call_id: int, call: Call, arguments: Encoded, chain: bytes | None = None
    ) -> None:
        """`call` may be shared with other calls: then it does not have the `chain`, and the call is plain."""
        self._incoming = incoming
        self.connection: Connection = incoming.connection
        self._arguments = arguments
        self.wire = call
        """The call as it arrived. `request` has it in full."""
        self.codec = arguments.codec
        self.id = call_id
        if chain is not None:
            self.is_plain = True
            self.chain = chain
        else:
            self.chain = call.chain or new_chain()
            self.is_nested = call.nested
            self.oneway = call.oneway

    @property
    def request(self) -> CallRequest:
        """What is asked. It is made as somebody wants it."""
        if self._request is None:
            self._request = self._read_request()
        return self._request

    def _read_request(self) -> CallRequest:
        call = self.wire
        return CallRequest(
            object=call.object,
            member=call.member,
            kind=call.kind,
            arguments=self._arguments,
            chain=self.chain,
            depth=max(1, call.depth),
            deadline=_deadline_of(call),
            session=call.session,
            oneway=self.oneway,
            lane=call.lane,
            metadata=metadata_from_wire(call.metadata) if call.metadata else NO_METADATA,
            correlation_id=call.correlation_id,
            batch=call.batch if call.kind == Call.BATCH else None,
        )

    @property
    def peer(self) -> str:
        return self._incoming.connection.peer_name

    @property
    def text_size(self) -> int:
        """The bytes of the arguments, without the buffers beside them."""
        return len(self._arguments.payload)

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled is not None

    def started(self) -> None:
        with _lock:
            first, self._started = not self._started, True
        if first:
            self._incoming.started(self)

    def arguments(self, edge: Edge) -> tuple[tuple[object, ...], dict[str, object]]:
        return codec(self.codec).decode_call(self._arguments, edge)

    def arrived(self, arguments: Encoded) -> None:
        """The big arguments have come that were announced."""
        self._arguments = arguments
        if self._request is not None:
            self._request.arguments = arguments

    def answer(self, value: object, edge: Edge, *, raised: bool, kept: bool, metadata: Metadata) -> None:
        if self.oneway:
            self._incoming.done(self)
            return  # nothing is encoded that nobody waits for
        self.reply(codec(self.codec).encode(value, edge, "result"), raised, kept, metadata)

    def answer_bytes(self, data: bytes) -> None:
        self.reply(Encoded("", data, ()), False, False, {})

    def reply(self, value: Encoded, raised: bool, kept: bool, metadata: Metadata) -> None:
        """Answers with a value that is encoded. Raises MessageTooLargeError and CodecError, having answered nothing."""
        if self.oneway:
            self._incoming.done(self)
            return
        self._incoming.check(value)
        rest, cost = None, FRAME_COST + inline_cost(value)
        if raised or kept or metadata:
            rest = Result(raised=raised, kept=kept)
            cost += _add_metadata(rest, metadata)
        if self._replies():
            if self.is_nested:
                answering(self.chain, self.wire.depth)
            self._incoming.reply(self, value, rest, cost)

    def reply_small(self, value: Encoded) -> bool:
        """Answers with a value that fits into its frame, and nothing else; False if it does not."""
        return self._incoming.reply_small(self, value)

    def answer_stream(self, *, kept: bool, metadata: Metadata) -> ItemSender:
        self._incoming.check_takes_streams()
        result = Result(stream=True, kept=kept)
        cost = FRAME_COST + _add_metadata(result, metadata)
        if not self._replies():
            raise ProtocolError(f"call {self.id} is answered already")
        return self._incoming.begin_stream(self, Frame(id=self.id, reply=True, result=result), cost)

    def refuse(self, refused: Refused, *, ran: bool = False, kept: bool = False) -> None:
        self.started()
        if self.oneway:
            self._incoming.done(self)
        elif self.items is not None:
            self.items.fail(refused)
        elif self._replies():
            frame = Frame(id=self.id, reply=True)
            if ran:
                frame.result.CopyFrom(Result(failed=refused.to_wire(), kept=kept))
            else:
                frame.refused.CopyFrom(refused.to_wire())
            if self.is_nested:
                answering(self.chain, self.wire.depth)
            self._incoming.refuse(self, frame, FRAME_COST + len(refused.message))

    def on_cancel(self, function: Callable[[str], None]) -> None:
        with _lock:
            if self._cancelled is None:
                self._on_cancel = function
                return
        function(self._cancelled)

    def over(self) -> None:
        self._on_cancel = None

    def give_up(self, reason: str) -> Callable[[str], None] | None:
        """The caller gave up, or is lost: returns the function to be called with the reason, once."""
        with _lock:
            if self._cancelled is not None:
                return None
            self._cancelled = reason
            return self._on_cancel

    def cancel(self, reason: str) -> None:
        """The caller gave up, or is lost. Once."""
        function = self.give_up(reason)
        if function is not None:
            function(reason)

    def _replies(self) -> bool:
        """Whether the call has no reply yet; from now on it has."""
        with _lock:
            first, self._replied = not self._replied, True
            return first


def _add_metadata(result: Result, metadata: Metadata) -> int:
    """Returns its bytes. Raises MessageTooLargeError and CodecError."""
    try:
        put_metadata(result, metadata)
    except (TypeError, ValueError) as error:
        raise CodecError(f"the response metadata cannot be written: {error}") from error
    return header_size(metadata, "the response metadata")


def _deadline_of(call: Call) -> float | None:
    if not call.HasField("timeout_us") or call.timeout_us >= _MAX_TIMEOUT_US:
        return None
    return time.monotonic() + call.timeout_us / 1e6


def check_chain(call: Call) -> None:
    """Raises ProtocolError for a call whose place in its chain is impossible, and for an id that is none."""
    if call.correlation_id and len(call.correlation_id) != _CHAIN_SIZE:
        size = len(call.correlation_id)
        raise ProtocolError(f"a correlation id has {_CHAIN_SIZE} bytes, and one of {size} arrived")
    if call.chain and len(call.chain) != _CHAIN_SIZE:
        raise ProtocolError(f"a chain has {_CHAIN_SIZE} bytes, and one of {len(call.chain)} arrived")
    if call.nested and (call.depth < 2 or call.oneway):
        raise ProtocolError("a call claims to be nested and is not")
    if not call.nested and (call.depth > 1 and not call.oneway):
        raise ProtocolError("a call is nested and does not say so")


REFUSED_DRAINING = Refused(Reason.DRAINING, "the daemon is shutting down and takes no further calls")


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
