"""The connection: one ordered stream of frames each way, calls in both directions, any number at a time.

No sockets and no gRPC in here. A transport feeds what arrives to `receive`, and takes what goes out from
`next_message`; tests join two connections by hand. docs/wire.md has the frames.

The rules that everything else rests on:

- Nothing but Hello and Welcome before both have passed.
- `receive` never waits: not for application code, not for room. Results, cancel and credit always get through.
- Call credit: the sender of a call spends one, and gets it back when the call starts at the other side. Without credit
  the call is parked here. Nested calls that somebody waits for spend none: they never queue.
- Every two-way call gets exactly one Result or Refused, cancelled or not; a GoAway answers those that came after it.
- What was never taken by the transport, or numbered above GoAway.last_call, or refused as draining, was surely not
  executed. Anything else that is lost may have been.
- Whatever the other side must not send ends this connection, with the reason, and no other.

All that moves the state of a connection is in this file, so that these rules can be checked in one place.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from broker._pb.broker_pb2 import Call, Cancel, Credit, Frame, GoAway, Hello, Ping
from broker._pb.broker_pb2 import Encoded as WireEncoded
from broker.codecs import Encoded
from broker.connection.calls import (
    Assembly,
    CallRequest,
    IncomingCall,
    Outcome,
    PendingCall,
    check_chain,
    metadata_from_wire,
)
from broker.connection.chains import Job
from broker.connection.frames import CHUNK_SIZE, MESSAGE_LIMIT, ChunkFrame, decode_frames, encode_frames
from broker.connection.outbox import Outbox, ReadyFrame, is_inline, snapshot
from broker.connection.refusals import Reason, Refused
from broker.connection.timers import timers
from broker.connection.workers import run_aside, run_safely, start_thread
from broker.errors import MessageTooLargeError, Overloaded, ProtocolError

VERSION = 1
OLDEST_VERSION = 1
MAX_BUFFERS = 65_536
"""More buffers than this beside one value are refused unread."""
MAX_NESTED = 4_096
"""Nested calls of one connection under way, which spend no credit; beyond it they are refused."""
MAX_QUEUED_FRAMES = 65_536
"""Who makes us queue more frames than this asks for answers and does not take them in."""

_log = logging.getLogger("broker")


@dataclass(frozen=True, slots=True)
class Settings:
    """What one side grants the other, and expects of it."""

    codecs: tuple[str, ...] = ("json",)
    max_message_size: int = 1 << 30
    call_credit: int = 1024
    chunk_credit: int = 4 * CHUNK_SIZE
    outbox_limit: int = 32 << 20
    """While more bytes than this wait to be sent, no further call of the connection starts."""
    slow_peer_timeout: float = 30.0
    """Seconds that a peer may take nothing in, with the outbox over its limit, before the connection ends."""
    process_id: bytes = field(default_factory=lambda: uuid.uuid4().bytes)

    def to_wire(self) -> Hello:
        return Hello(
            oldest_version=OLDEST_VERSION,
            newest_version=VERSION,
            process_id=self.process_id,
            codecs=self.codecs,
            max_message_size=self.max_message_size,
            call_credit=self.call_credit,
            chunk_credit=self.chunk_credit,
            chunk_size=CHUNK_SIZE,
        )


class Handler(Protocol):
    """The side that serves what arrives. Called by the thread that reads: nothing here may wait."""

    def incoming(self, call: IncomingCall) -> None: ...

    def session_closed(self, connection: Connection, session: int) -> None: ...

    def connection_ended(self, connection: Connection) -> None: ...


class Connection:
    """One end of a connection. Every method may be called from any thread; no lock is held while handlers run."""

    def __init__(self, settings: Settings, handler: Handler, *, accepts: bool, peer_name: str = "the peer") -> None:
        self.settings = settings
        self.peer_name = peer_name
        self.peer: Hello | None = None
        self.opened = threading.Event()
        """Set when the other side has introduced itself, or the connection has ended."""
        self.ended_because: str | None = None
        self.draining_because: str | None = None
        """Why the other side takes no further calls, once it has said so."""
        self.flushed = threading.Event()
        """Set when the transport has taken all that there was, or the connection has ended."""
        self.on_end: Callable[[Connection], None] | None = None
        self._handler = handler
        self._accepts = accepts
        self._lock = threading.Lock()
        self._output = threading.Condition(self._lock)
        self._outbox = Outbox()
        self._parked: deque[PendingCall] = deque()
        self._pending: dict[int, PendingCall] = {}
        self._next_id = 1
        self._credit = 0
        self._incoming: dict[int, IncomingCall] = {}
        self._highest_incoming = 0
        self._unstarted = 0  # calls of the other side that spent credit and have not started
        self._credit_to_return = 0
        self._nested = 0
        self._assemblies: dict[tuple[int, bool], tuple[Assembly, Callable[[Encoded], None]]] = {}
        self._stalled: deque[Job] = deque()  # calls that wait until the outbox has room
        self._pongs: dict[int, threading.Event] = {}
        self._last_call: int | None = None  # what we said in a GoAway
        self._closing = False  # the transport ends when the outbox is empty
        self._ending_because: str | None = None  # the other side has left in order, and oneway calls of its are left
        self._taken_bytes = 0
        self._watching_slow_peer = False
        if not accepts:
            self._put(Frame(hello=settings.to_wire()))

    # ---- what the transport uses

    def receive(self, message: bytes) -> None:
        """Takes in one message; one thread at a time. What must not have been sent ends the connection.

        Raises nothing.
        """
        try:
            if len(message) > MESSAGE_LIMIT:
                raise ProtocolError(f"a message of {len(message)} bytes arrived; {MESSAGE_LIMIT} is the limit")
            for frame in decode_frames(message):
                if self.ended_because is not None:
                    return
                self._dispatch(frame)
                if len(self._outbox) > MAX_QUEUED_FRAMES:
                    raise ProtocolError(f"more than {MAX_QUEUED_FRAMES} frames wait to be taken in")
        except ProtocolError as error:
            self._violated(str(error))
        except Exception as error:  # a fault of ours must not look like an open connection
            run_aside(lambda error=error: _log.error("a frame could not be handled", exc_info=error))  # type: ignore[misc]
            reason = f"an internal error ended the connection ({type(error).__name__})"
            self.lost(reason, self._last_words(reason))

    def next_message(self, timeout: float | None = None) -> bytes | None:
        """The next message to send; waits for one. None when there will be none any more, or the timeout passed."""
        while True:
            with self._lock:
                self._output.wait_for(lambda: self._outbox.ready or self._is_flushed, timeout)
                if not self._outbox.ready:
                    if self._is_flushed:
                        self.flushed.set()
                    return None
                before = self._outbox.bytes
                frames, pieces = self._outbox.take()
                self._taken_bytes += before - self._outbox.bytes
                runnable = self._make_use_of_room()
            _run_all(runnable)
            if pieces:
                return b"".join((encode_frames(frames), *pieces))
            if frames:
                return encode_frames(frames)

    @property
    def _is_flushed(self) -> bool:
        return self._closing and self._outbox.is_empty

    def transport_ended(self, reason: str) -> None:
        """The other side is gone. Oneway calls of one that had said so are still carried out before the end."""
        with self._lock:
            left_in_order = self.draining_because is not None and self.ended_because is None
            if left_in_order and self._has_oneways:
                self._ending_because = reason
                given_up = [call for call in self._incoming.values() if not call.request.oneway]
            else:
                given_up = None
        if given_up is None:
            self.lost(reason)
            return
        for call in given_up:
            call.cancel(reason)

    @property
    def _has_oneways(self) -> bool:
        return any(call.request.oneway for call in self._incoming.values())

    def lost(self, reason: str, last_words: Frame | None = None) -> None:
        """The transport is gone, or has to go after the last words: everything under way ends. From any thread."""
        with self._lock:
            if self.ended_because is not None:
                return
            self.ended_because = reason
            self._closing = True
            unsent = [item for item in self._outbox.unsent() if isinstance(item, PendingCall)]
            parked, pending = list(self._parked), list(self._pending.values())
            incoming, pongs = list(self._incoming.values()), list(self._pongs.values())
            stalled = list(self._stalled)
            self._outbox = Outbox()
            for entries in (self._pending, self._incoming, self._assemblies, self._pongs):
                entries.clear()
            self._parked.clear()
            self._stalled.clear()
            if last_words is not None:
                self._put_locked(last_words)
            self._output.notify_all()
        for call in (*parked, *unsent, *pending):
            call.finish(Outcome(lost=reason, may_have_run=call.taken))
        for arrived in incoming:
            arrived.cancel(reason)
        _run_all(stalled)
        for pong in pongs:
            pong.set()
        self.opened.set()
        self.flushed.set()
        self._handler.connection_ended(self)
        if self.on_end is not None:
            self.on_end(self)

    def close(self, reason: str) -> None:
        """Ends the connection in order: what is queued and a GoAway still go out."""
        self.go_away(reason)
        with self._lock:
            self._closing = True
            self._output.notify_all()

    def go_away(self, reason: str) -> None:
        """Tells the other side that no further call of its will be executed. Calls under way go on."""
        with self._lock:
            if self._last_call is None and self.ended_because is None:
                self._last_call = self._highest_incoming
                self._put_locked(self._last_words(reason))

    def _last_words(self, reason: str, *, protocol_error: bool = False) -> Frame:
        return Frame(goaway=GoAway(last_call=self._highest_incoming, reason=reason, protocol_error=protocol_error))

    # ---- calls that we make

    @property
    def usable(self) -> bool:
        """Whether new calls can be made."""
        return self.ended_because is None and self.draining_because is None and not self._closing

    @property
    def busy(self) -> bool:
        """Whether calls of either side are under way."""
        return bool(self._pending or self._parked or self._incoming)

    def call(self, request: CallRequest) -> PendingCall:
        """Makes a call. It goes out when the line is free and there is credit; its outcome may already be there.

        From now on the calling thread takes the nested calls of its chain: it has to wait for the call, or to cancel
        it. Raises MessageTooLargeError if the other side does not take a value of that size, and CodecError.
        """
        self.check_size(request.arguments, "the arguments take")
        pending = PendingCall(self, request)
        if not request.oneway:
            pending.waiter.register()
        with self._lock:
            reason = self.ended_because or self.draining_because
            if reason is None and self._closing:
                reason = f"the connection to {self.peer_name} is closed"
            if reason is None:
                if request.is_nested and self.peer is not None:
                    self._enqueue(pending)
                else:
                    self._parked.append(pending)
                    self._admit()
        if reason is not None:
            pending.finish(Outcome(lost=reason))
        return pending

    def cancel(self, pending: PendingCall, reason: str) -> None:
        """Gives a call up: it is not sent if it was not, else the other side is told. Its answer is dropped."""
        with self._lock:
            if pending.outcome is None and not pending.abandoned:
                self._cancel(pending, reason)
            runnable = self._make_use_of_room()
        pending.waiter.leave(self.run_elsewhere)
        _run_all(runnable)

    def _cancel(self, pending: PendingCall, reason: str) -> None:
        pending.abandoned = True
        if not pending.id:
            if pending in self._parked:  # else it was just lost
                self._parked.remove(pending)
        elif self._pending.get(pending.id) is not pending:
            return  # it was just answered or lost
        elif not pending.taken:
            del self._pending[pending.id]
            self._credit += not pending.request.is_nested
        else:
            self._outbox.drop(pending.id, False)
            if self._assemblies.pop((pending.id, True), None) is not None:
                del self._pending[pending.id]  # it is answered, and the rest of its result is not wanted
            self._put_locked(Frame(id=pending.id, cancel=Cancel(reason=reason)))

    def check_size(self, value: Encoded, what: str) -> None:
        """Raises MessageTooLargeError if the other side does not take a value of that size."""
        limit = self.peer.max_message_size if self.peer is not None else 0
        if limit and value.size > limit:
            raise MessageTooLargeError(
                f"{what} {value.size} bytes and {self.peer_name} accepts at most {limit}: send less at a time, "
                "or raise max_message_size there"
            )

    def ping(self, timeout: float | None) -> bool:
        """Asks the other side's engine for a sign of life; False if none came in time."""
        give_up = time.monotonic() + min(timeout, threading.TIMEOUT_MAX) if timeout is not None else None
        if not self.opened.wait(_remaining(give_up)):
            return False
        pong = threading.Event()
        with self._lock:
            if self.ended_because is not None:
                return False
            nonce = id(pong)
            self._pongs[nonce] = pong
            self._put_locked(Frame(ping=Ping(nonce=nonce)))
        answered = pong.wait(_remaining(give_up))
        with self._lock:
            self._pongs.pop(nonce, None)
        return answered and self.ended_because is None

    def close_session(self, session: int) -> None:
        """Tells the other side that a session is over."""
        with self._lock:
            if self.ended_because is None and self.peer is not None and not self._closing:
                frame = Frame(id=session)
                frame.close.SetInParent()
                self._put_locked(frame)

    def run_elsewhere(self, job: Job) -> None:
        """Runs a nested call for which no thread waits any more."""
        try:
            start_thread(job, "broker-nested")
        except Overloaded:
            run_aside(job)  # late, but on a thread

    # ---- answers that we give

    @property
    def congested(self) -> bool:
        """Whether so much waits to be sent that no further call should start."""
        return self._outbox.bytes > self.settings.outbox_limit

    def when_uncongested(self, job: Job) -> bool:
        """Runs the job when there is room; False if there is now (and the job was not taken)."""
        with self._lock:
            if not self.congested or self.ended_because is not None:
                return False
            self._stalled.append(job)
            return True

    def call_started(self, call: IncomingCall) -> None:
        """Gives the credit of a call back."""
        if call.request.is_nested:
            return
        with self._lock:
            self._unstarted -= 1
            self._credit_to_return += 1
            if self._credit_to_return >= max(1, self.settings.call_credit // 2) and self.ended_because is None:
                self._put_locked(Frame(credit=Credit(calls=self._credit_to_return)))
                self._credit_to_return = 0

    def call_done(self, call: IncomingCall) -> None:
        """Forgets a call that needs no answer."""
        with self._lock:
            self._forget(call)
            ended = self._ending_because
            if ended is not None and self._has_oneways:
                ended = None
        if ended is not None:
            self.lost(ended)

    def send_reply(self, call: IncomingCall, frame: Frame, cost: int, value: Encoded | None = None) -> None:
        """Queues the answer to a call. A big value is not sent to a caller who has given up."""
        value = snapshot(value) if value is not None else None
        with self._lock:
            self._forget(call)
            if self.ended_because is not None:
                return
            transfer = self._outbox.transfer(call.id, True, value) if value is not None else None
            if transfer is not None and call.is_cancelled:
                refused = Refused(Reason.CANCELLED, "the call was cancelled, and its result is not sent")
                frame.result.failed.CopyFrom(refused.to_wire())
                frame.result.ClearField("value")
                transfer = None
            self._outbox.put(ReadyFrame(frame, cost), transfer)
            self._output.notify()
            self._watch_slow_peer()

    def _forget(self, call: IncomingCall) -> None:
        if self._incoming.pop(call.id, None) is not None and call.request.is_nested:
            self._nested -= 1

    # ---- the outbox; all under the lock

    def _put(self, frame: Frame) -> None:
        with self._lock:
            self._put_locked(frame)

    def _put_locked(self, frame: Frame) -> None:
        self._outbox.put(ReadyFrame(frame))
        self._output.notify()

    def _enqueue(self, pending: PendingCall) -> None:
        pending.id = self._next_id
        self._next_id += 1
        if not pending.request.oneway:
            self._pending[pending.id] = pending
        self._outbox.put(pending, self._outbox.transfer(pending.id, False, pending.request.arguments))
        self._output.notify()
        self._watch_slow_peer()
        if pending.request.oneway:
            pending.finish(Outcome())

    def _admit(self) -> None:
        """Moves parked calls to the line as far as credit and room allow.

        Who waits for a call holds its arguments anyway, and small calls are not to wait for big ones; but big values
        that nobody waits for must not pile up.
        """
        while self._parked and self.peer is not None:
            request = self._parked[0].request
            if not request.is_nested and self._credit <= 0:
                return
            if request.oneway and self.congested and not is_inline(request.arguments):
                return
            self._credit -= not request.is_nested
            self._enqueue(self._parked.popleft())

    def _make_use_of_room(self) -> list[Job]:
        """What may go on as the outbox, or the credit, has changed; the caller runs the jobs without the lock."""
        jobs: list[Job] = []
        if self._stalled and not self.congested:
            jobs += self._stalled
            self._stalled.clear()
        self._admit()
        if self._is_flushed:
            self._output.notify()
        return jobs

    def _watch_slow_peer(self) -> None:
        if self.congested and not self._watching_slow_peer:
            self._watching_slow_peer = True
            before = self._taken_bytes
            timers.call_later(self.settings.slow_peer_timeout, lambda: self._check_slow_peer(before))

    def _check_slow_peer(self, before: int) -> None:
        with self._lock:
            self._watching_slow_peer = False
            stuck = self.congested and self._taken_bytes == before
            waiting = self._outbox.bytes
            if not stuck:
                self._watch_slow_peer()
        if stuck:
            patience = self.settings.slow_peer_timeout
            reason = f"{self.peer_name} took nothing in for {patience:g} s with {waiting} bytes waiting for it"
            self.lost(reason, self._last_words(reason))

    # ---- frames that arrive

    def _dispatch(self, frame: Frame | ChunkFrame) -> None:
        if isinstance(frame, ChunkFrame):
            self._on_chunk(frame)
            return
        kind = frame.WhichOneof("kind")
        if self.peer is None and kind not in ("hello", "welcome", "goaway"):
            raise ProtocolError(f"the first frame was {kind or 'of an unknown kind'}, not the introduction")
        handler = _HANDLERS.get(kind or "")
        if handler is not None:
            handler(self, frame)
        elif frame.optional:
            return
        elif frame.id and not frame.reply:
            refused = Refused(Reason.UNIMPLEMENTED, "this side does not know that kind of frame")
            self._put(Frame(id=frame.id, reply=True, refused=refused.to_wire()))
        else:
            raise ProtocolError(f"a frame arrived that this version does not know ({kind or 'of an unknown kind'})")

    def _on_introduction(self, frame: Frame) -> None:
        hello = frame.hello if self._accepts else frame.welcome
        if self.peer is not None or frame.WhichOneof("kind") != ("hello" if self._accepts else "welcome"):
            raise ProtocolError("a second introduction, or the introduction of the wrong side, arrived")
        if hello.oldest_version > VERSION or hello.newest_version < OLDEST_VERSION:
            raise ProtocolError(
                f"{self.peer_name} speaks versions {hello.oldest_version} to {hello.newest_version} of the protocol "
                f"and this side {OLDEST_VERSION} to {VERSION}: bring both to a common version of objectbroker"
            )
        if not 0 < hello.chunk_size <= MESSAGE_LIMIT or not hello.call_credit or not hello.chunk_credit:
            raise ProtocolError("an introduction without chunk size or credit arrived")
        with self._lock:
            self.peer = hello
            self._outbox.chunk_size = min(CHUNK_SIZE, hello.chunk_size)
            self._outbox.chunk_credit = hello.chunk_credit
            self._credit = hello.call_credit
            self._parked = deque(sorted(self._parked, key=lambda call: not call.request.is_nested))
            if self._accepts:
                self._put_locked(Frame(welcome=self.settings.to_wire()))
            self._admit()
        self.opened.set()

    def _on_call(self, frame: Frame) -> None:
        if frame.id <= self._highest_incoming or frame.reply:
            raise ProtocolError(f"call {frame.id} arrived after call {self._highest_incoming}: numbers only rise")
        call = frame.call
        check_chain(call)
        incoming = IncomingCall(self, frame.id, call, _inline(call.arguments))
        with self._lock:
            self._highest_incoming = frame.id
            if self.ended_because is not None or self._last_call is not None:
                return  # the GoAway that we sent is its answer
            if call.nested:
                self._nested += 1
            else:
                self._unstarted += 1
                if self._unstarted > self.settings.call_credit:
                    raise ProtocolError(f"call {frame.id} arrived without credit")
            self._incoming[frame.id] = incoming
        refused = self._refusal(call)
        if refused is not None:
            incoming.refuse(refused)
        elif call.arguments.sizes:
            self._assemble(frame.id, False, call.arguments, lambda value: self._arrived(incoming, value))
        else:
            self._handler.incoming(incoming)

    def _refusal(self, call: Call) -> Refused | None:
        if self._nested > MAX_NESTED:
            return Refused(Reason.OVERLOADED, f"more than {MAX_NESTED} nested calls of one connection are under way")
        return self._too_large(call.arguments, "the arguments take")

    def _too_large(self, value: WireEncoded, what: str) -> Refused | None:
        size, limit = sum(value.sizes) or _inline(value).size, self.settings.max_message_size
        if size <= limit:
            return None
        return Refused(Reason.MESSAGE_TOO_LARGE, f"{what} {size} bytes and this side accepts at most {limit}")

    def _arrived(self, incoming: IncomingCall, value: Encoded) -> None:
        incoming.request.arguments = value
        self._handler.incoming(incoming)

    def _on_result(self, frame: Frame) -> None:
        result = frame.result
        with self._lock:
            pending = self._answered(frame)
            failed = result.HasField("failed")
            assembling = bool(result.value.sizes) and not failed
            refused = None if failed else self._too_large(result.value, "the result takes")
            if assembling and (refused is not None or pending.abandoned):
                refused = refused or Refused(Reason.CANCELLED, "the caller gave up")
                if not pending.abandoned:  # else the other side knows that it need not send the value
                    self._put_locked(Frame(id=frame.id, cancel=Cancel(reason=refused.message)))
        if refused is not None:
            result.failed.CopyFrom(refused.to_wire())
        if assembling and refused is None:
            self._assemble(frame.id, True, result.value, lambda value: self._finished(frame, pending, value))
        else:
            self._finished(frame, pending, _inline(result.value))

    def _finished(self, frame: Frame, pending: PendingCall, value: Encoded) -> None:
        with self._lock:
            self._pending.pop(frame.id, None)
            dropped = self._outbox.drop(frame.id, False)  # it may be answered before its arguments are there
            runnable = self._make_use_of_room() if dropped else []
        result = frame.result
        if result.kept and pending.request.on_kept is not None:
            pending.request.on_kept()
        if result.HasField("failed"):
            refused = Refused.from_wire(result.failed)
            pending.finish(Outcome(refused=refused, may_have_run=True, kept=result.kept))
        else:
            metadata = metadata_from_wire(result.metadata) if result.metadata else {}
            pending.finish(Outcome(value=value, raised=result.raised, kept=result.kept, metadata=metadata))
        _run_all(runnable)

    def _on_refused(self, frame: Frame) -> None:
        with self._lock:
            pending = self._answered(frame)
            del self._pending[frame.id]
            self._outbox.drop(frame.id, False)
            runnable = self._make_use_of_room()
        refused = Refused.from_wire(frame.refused)
        if refused.reason == Reason.DRAINING:
            pending.finish(Outcome(lost=refused.message))
        else:
            pending.finish(Outcome(refused=refused))
        _run_all(runnable)

    def _answered(self, frame: Frame) -> PendingCall:
        pending = self._pending.get(frame.id)
        if pending is None or not pending.taken or not frame.reply or (frame.id, True) in self._assemblies:
            raise ProtocolError(f"an answer to call {frame.id} arrived, which is not open")
        return pending

    def _on_cancel(self, frame: Frame) -> None:
        if frame.reply or frame.id > self._highest_incoming:
            raise ProtocolError(f"call {frame.id} was cancelled and was never made")
        reason = frame.cancel.reason or "cancelled"
        function = None
        with self._lock:
            incoming = self._incoming.get(frame.id)
            unfinished = self._assemblies.pop((frame.id, False), None)
            if incoming is not None:
                function = incoming.give_up(reason)
            else:  # it is answered; what remains of the result is not wanted
                self._outbox.drop(frame.id, True)
            runnable = self._make_use_of_room()
        if function is not None:
            function(reason)
        if incoming is not None and unfinished is not None:
            incoming.refuse(Refused(Reason.CANCELLED, "the call was cancelled before its arguments had arrived"))
        _run_all(runnable)

    def _on_credit(self, frame: Frame) -> None:
        credit = frame.credit
        with self._lock:
            if credit.bytes:
                self._check_known(frame.id, frame.reply, "credit")
                self._outbox.grant(frame.id, not frame.reply, credit.bytes)
                self._output.notify()
            if credit.calls and self.peer is not None:
                self._credit += credit.calls
                if self._credit > self.peer.call_credit:
                    raise ProtocolError("more call credit came back than was spent")
                self._admit()

    def _on_close(self, frame: Frame) -> None:
        self._handler.session_closed(self, frame.id)

    def _on_ping(self, frame: Frame) -> None:
        self._put(Frame(pong=frame.ping))

    def _on_pong(self, frame: Frame) -> None:
        with self._lock:
            pong = self._pongs.pop(frame.pong.nonce, None)
        if pong is not None:
            pong.set()

    def _on_goaway(self, frame: Frame) -> None:
        goaway = frame.goaway
        reason = goaway.reason or f"{self.peer_name} is going away"
        with self._lock:
            self.draining_because = reason
            unsent = [item for item in self._outbox.unsent() if isinstance(item, PendingCall)]
            beyond = [call for number, call in self._pending.items() if number > goaway.last_call]
            calls = {id(call): call for call in (*self._parked, *unsent, *beyond)}.values()
            self._parked.clear()
            for call in calls:
                call.abandoned = call.abandoned or not call.taken
                self._pending.pop(call.id, None)
                self._assemblies.pop((call.id, True), None)
                self._outbox.drop(call.id, False)
            runnable = self._make_use_of_room()
        for call in calls:
            call.finish(Outcome(lost=reason))
        _run_all(runnable)
        if goaway.protocol_error:
            self.lost(f"{self.peer_name} ended the connection: {reason}")

    # ---- big values that arrive

    def _assemble(self, call_id: int, reply: bool, value: WireEncoded, done: Callable[[Encoded], None]) -> None:
        if len(value.sizes) > MAX_BUFFERS:
            raise ProtocolError(f"a value with {len(value.sizes)} buffers arrived; {MAX_BUFFERS} is the limit")
        assembly = Assembly(value.codec, list(value.sizes), self.settings.chunk_credit)
        complete = assembly.result()
        if complete is not None:
            done(complete)
            return
        with self._lock:
            if self.ended_because is None:
                self._assemblies[call_id, reply] = (assembly, done)

    def _on_chunk(self, chunk: ChunkFrame) -> None:
        entry = self._assemblies.get((chunk.id, chunk.reply))
        if entry is None:
            self._check_known(chunk.id, chunk.reply, "a chunk")
            return  # of a value that was given up while it travelled
        assembly, done = entry
        grant = assembly.add(chunk.data)
        complete = assembly.result()
        with self._lock:
            if self._assemblies.get((chunk.id, chunk.reply)) is not entry:
                return  # given up just now
            if complete is not None:
                del self._assemblies[chunk.id, chunk.reply]
            elif grant:
                self._put_locked(Frame(id=chunk.id, reply=not chunk.reply, credit=Credit(bytes=grant)))
        if complete is not None:
            done(complete)

    def _check_known(self, call_id: int, reply: bool, what: str) -> None:
        """Raises ProtocolError for a number that was never given to a call."""
        if not 0 < call_id <= (self._next_id - 1 if reply else self._highest_incoming):
            raise ProtocolError(f"{what} for call {call_id} arrived, which was never made")

    def _violated(self, reason: str) -> None:
        run_aside(lambda: _log.warning("connection with %s ended: %s", self.peer_name, reason))
        self.lost(f"{self.peer_name} broke the protocol: {reason}", self._last_words(reason, protocol_error=True))


def _inline(value: WireEncoded) -> Encoded:
    return Encoded(value.codec, value.payload, tuple(value.buffers))


def _run_all(jobs: list[Job]) -> None:
    for job in jobs:
        run_safely(job)


def _remaining(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


_HANDLERS: dict[str, Callable[[Connection, Frame], None]] = {
    "hello": Connection._on_introduction,
    "welcome": Connection._on_introduction,
    "call": Connection._on_call,
    "result": Connection._on_result,
    "refused": Connection._on_refused,
    "cancel": Connection._on_cancel,
    "credit": Connection._on_credit,
    "close": Connection._on_close,
    "ping": Connection._on_ping,
    "pong": Connection._on_pong,
    "goaway": Connection._on_goaway,
}
