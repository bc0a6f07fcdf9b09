"""The connection: one ordered stream of frames each way, calls in both directions, any number at a time.

No sockets and no gRPC in here. A transport feeds what arrives to `receive`, and takes what goes out from
`next_message`; tests join two connections by hand. docs/wire.md has the frames.

The rules that everything else rests on:

- Nothing but Hello and Welcome before both have passed.
- `receive` never waits: not for application code, not for room. Results, cancel and credit always get through.
- Call credit: the sender of a call spends one, and gets it back when the call starts at the other side. Without credit
  the call is parked here. Nested calls that somebody waits for spend none: they never queue.
- Every two-way call gets exactly one Result or Refused, cancelled or not.
- What was never taken by the transport, or numbered above GoAway.last_call, or refused as draining, was surely not
  executed. Anything else that is lost may have been.
- Whatever the other side must not send ends this connection, with the reason, and no other.
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

from broker._pb.broker_pb2 import Call, Cancel, Credit, Frame, GoAway, Hello, Ping, Result
from broker._pb.broker_pb2 import Encoded as WireEncoded
from broker.codecs import Encoded
from broker.connection.calls import (
    REFUSED_DRAINING,
    Assembly,
    CallRequest,
    IncomingCall,
    Outcome,
    PendingCall,
    metadata_from_wire,
)
from broker.connection.chains import Job
from broker.connection.frames import CHUNK_SIZE, MESSAGE_LIMIT, ChunkFrame, decode_frames, encode_frames
from broker.connection.outbox import FRAME_COST, Outbox, ReadyFrame
from broker.connection.refusals import Reason, Refused
from broker.connection.timers import timers
from broker.connection.workers import start_thread
from broker.errors import MessageTooLargeError, ProtocolError

VERSION = 1
OLDEST_VERSION = 1
MAX_BUFFERS = 65_536
"""More buffers than this beside one value are refused unread."""
MAX_NESTED = 4_096
"""Nested calls of one connection under way, which spend no credit; beyond it they are refused."""

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
        self._going = False  # we said GoAway
        self._closing = False  # the transport ends when the outbox is empty
        self._taken_bytes = 0
        self._watching_slow_peer = False
        if not accepts:
            self._put(Frame(hello=settings.to_wire()))

    # ---- what the transport uses

    def receive(self, message: bytes) -> None:
        """Takes in one message. What must not have been sent ends the connection."""
        try:
            for frame in decode_frames(message):
                if self.ended_because is not None:
                    return
                self._dispatch(frame)
        except ProtocolError as error:
            self._violated(str(error))

    def next_message(self, timeout: float | None = None) -> bytes | None:
        """The next message to send; waits for one. None when there will be none any more, or the timeout passed."""
        with self._lock:
            if not self._outbox.ready and not self._closing:
                self._output.wait_for(lambda: self._outbox.ready or self._closing, timeout)
            if not self._outbox.ready:
                return None
            before = self._outbox.bytes
            frames, pieces = self._outbox.take()
            self._taken_bytes += before - self._outbox.bytes
            self._admit()
            runnable = self._unstall()
        for job in runnable:
            job()
        return b"".join((encode_frames(frames), *pieces)) if pieces else encode_frames(frames)

    def lost(self, reason: str, last_words: Frame | None = None) -> None:
        """The transport is gone, or has to go after the last words: everything under way ends."""
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
            for collection in (self._parked, self._pending, self._incoming, self._assemblies, self._pongs, self._stalled):
                collection.clear()
            if last_words is not None:
                self._put_locked(last_words)
            self._output.notify_all()
        for call in (*parked, *unsent, *pending):
            call.finish(Outcome(lost=reason, may_have_run=call.taken))
        for arrived in incoming:
            arrived.cancel(reason)
        for job in stalled:
            job()
        for pong in pongs:
            pong.set()
        self.opened.set()
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
            if not self._going and self.ended_because is None:
                self._going = True
                self._put_locked(Frame(goaway=GoAway(last_call=self._highest_incoming, reason=reason)))

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

        Raises MessageTooLargeError if the other side does not take a value of that size.
        """
        self.check_size(request.arguments, "the arguments")
        pending = PendingCall(self, request)
        with self._lock:
            reason = self.ended_because or self.draining_because or ("it is closed" if self._closing else None)
            if reason is None:
                if request.is_nested:
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
            if pending.outcome is not None:
                return
            pending.abandoned = True
            if not pending.id:
                self._parked.remove(pending)
            elif not pending.taken:
                self._pending.pop(pending.id, None)
                self._credit += not pending.request.is_nested
            elif pending.id in self._pending:
                self._outbox.drop(pending.id, False)
                self._put_locked(Frame(id=pending.id, cancel=Cancel(reason=reason)))

    def check_size(self, value: Encoded, what: str) -> None:
        """Raises MessageTooLargeError if the other side does not take a value of that size."""
        limit = self.peer.max_message_size if self.peer is not None else 0
        if limit and value.size > limit:
            raise MessageTooLargeError(
                f"{what} take {value.size} bytes and {self.peer_name} accepts at most {limit}: send less at a time, "
                "or raise max_message_size there"
            )

    def ping(self, timeout: float | None) -> bool:
        """Asks the other side's engine for a sign of life; False if none came in time."""
        pong = threading.Event()
        with self._lock:
            if self.ended_because is not None:
                return False
            nonce = id(pong)
            self._pongs[nonce] = pong
            self._put_locked(Frame(ping=Ping(nonce=nonce)))
        answered = pong.wait(timeout)
        with self._lock:
            self._pongs.pop(nonce, None)
        return answered and self.ended_because is None

    def close_session(self, session: int) -> None:
        """Tells the other side that a session is over."""
        with self._lock:
            if self.ended_because is None and not self._closing:
                frame = Frame(id=session)
                frame.close.SetInParent()
                self._put_locked(frame)

    def run_elsewhere(self, job: Job) -> None:
        """Runs a nested call for which no thread waits any more."""
        start_thread(job, "broker-nested")

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
        """Forgets a call that is answered, or needs no answer."""
        with self._lock:
            self._forget(call)

    def send_reply(self, call: IncomingCall, frame: Frame, value: Encoded | None) -> None:
        """Queues the answer to a call."""
        with self._lock:
            self._forget(call)
            if self.ended_because is not None:
                return
            transfer = self._outbox.transfer(call.id, True, value) if value is not None else None
            inline = value.size if value is not None and transfer is None else 0
            self._outbox.put(ReadyFrame(frame, FRAME_COST + inline), transfer)
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
        """Moves parked calls to the line as far as credit and room allow."""
        while self._parked and self._credit > 0 and not self.congested:
            self._credit -= 1
            self._enqueue(self._parked.popleft())

    def _unstall(self) -> list[Job]:
        if self.congested:
            return []
        jobs = list(self._stalled)
        self._stalled.clear()
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
            self.lost(
                f"{self.peer_name} took nothing in for {self.settings.slow_peer_timeout:g} s "
                f"with {waiting} bytes waiting for it"
            )

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
                f"{self.peer_name} speaks versions {hello.oldest_version} to {hello.newest_version} of the protocol and "
                f"this side {OLDEST_VERSION} to {VERSION}: bring both to a common version of objectbroker"
            )
        if not 0 < hello.chunk_size <= MESSAGE_LIMIT or not hello.call_credit or not hello.chunk_credit:
            raise ProtocolError("an introduction without chunk size or credit arrived")
        with self._lock:
            self.peer = hello
            self._outbox.chunk_size = min(CHUNK_SIZE, hello.chunk_size)
            self._outbox.chunk_credit = hello.chunk_credit
            self._credit = hello.call_credit
            if self._accepts:
                self._put_locked(Frame(welcome=self.settings.to_wire()))
            self._admit()
        self.opened.set()

    def _on_call(self, frame: Frame) -> None:
        if frame.id <= self._highest_incoming or frame.reply:
            raise ProtocolError(f"call {frame.id} arrived after call {self._highest_incoming}: numbers only rise")
        self._highest_incoming = frame.id
        call = frame.call
        if call.nested and (call.depth < 2 or call.oneway):
            raise ProtocolError(f"call {frame.id} claims to be nested and is not")
        if not call.nested and (call.depth > 1 and not call.oneway):
            raise ProtocolError(f"call {frame.id} is nested and does not say so")
        incoming = IncomingCall(self, frame.id, call, _inline(call.arguments))
        with self._lock:
            if not call.nested:
                self._unstarted += 1
                if self._unstarted > self.settings.call_credit:
                    raise ProtocolError(f"call {frame.id} arrived without credit")
            else:
                self._nested += 1
            self._incoming[frame.id] = incoming
        refused = self._refusal(call)
        if refused is not None:
            incoming.refuse(refused)
        elif call.arguments.sizes:
            self._assemble(frame.id, False, call.arguments, lambda value: self._arrived(incoming, value))
        else:
            self._handler.incoming(incoming)

    def _refusal(self, call: Call) -> Refused | None:
        if self._going:
            return REFUSED_DRAINING
        if self._nested > MAX_NESTED:
            return Refused(Reason.OVERLOADED, f"more than {MAX_NESTED} nested calls of one connection are under way")
        size = sum(call.arguments.sizes) or _inline(call.arguments).size
        if size > self.settings.max_message_size:
            return Refused(
                Reason.MESSAGE_TOO_LARGE,
                f"the arguments take {size} bytes and this side accepts at most {self.settings.max_message_size}",
            )
        return None

    def _arrived(self, incoming: IncomingCall, value: Encoded) -> None:
        incoming.request.arguments = value
        self._handler.incoming(incoming)

    def _on_result(self, frame: Frame) -> None:
        result = frame.result
        with self._lock:
            pending = self._answered(frame)
        if result.value.sizes and sum(result.value.sizes) <= self.settings.max_message_size:
            self._assemble(frame.id, True, result.value, lambda value: self._finished(frame, pending, value))
        else:
            self._finished(frame, pending, _inline(result.value))

    def _finished(self, frame: Frame, pending: PendingCall, value: Encoded) -> None:
        with self._lock:
            self._pending.pop(frame.id, None)
        result = frame.result
        if result.HasField("failed") or result.value.sizes and value.size == 0 < sum(result.value.sizes):
            refused = Refused.from_wire(result.failed) if result.HasField("failed") else self._too_large(result)
            pending.finish(Outcome(refused=refused, may_have_run=True, kept=result.kept))
            return
        metadata = metadata_from_wire(result.metadata) if result.metadata else {}
        pending.finish(Outcome(value=value, raised=result.raised, kept=result.kept, metadata=metadata))

    def _too_large(self, result: Result) -> Refused:
        size, limit = sum(result.value.sizes), self.settings.max_message_size
        return Refused(Reason.MESSAGE_TOO_LARGE, f"the result takes {size} bytes and this side accepts at most {limit}")

    def _on_refused(self, frame: Frame) -> None:
        with self._lock:
            pending = self._answered(frame)
            self._pending.pop(frame.id, None)
            self._outbox.drop(frame.id, False)
        refused = Refused.from_wire(frame.refused)
        if refused.reason == Reason.DRAINING:
            pending.finish(Outcome(lost=refused.message))
        else:
            pending.finish(Outcome(refused=refused))

    def _answered(self, frame: Frame) -> PendingCall:
        pending = self._pending.get(frame.id)
        if pending is None or not pending.taken or not frame.reply or (frame.id, True) in self._assemblies:
            raise ProtocolError(f"an answer to call {frame.id} arrived, which is not open")
        return pending

    def _on_cancel(self, frame: Frame) -> None:
        if frame.reply or frame.id > self._highest_incoming:
            raise ProtocolError(f"call {frame.id} was cancelled and was never made")
        with self._lock:
            incoming = self._incoming.get(frame.id)
            unfinished = self._assemblies.pop((frame.id, False), None)
        if incoming is not None:
            incoming.cancel(frame.cancel.reason or "cancelled")
            if unfinished is not None:
                incoming.refuse(Refused(Reason.CANCELLED, "the call was cancelled before its arguments had arrived"))

    def _on_credit(self, frame: Frame) -> None:
        credit = frame.credit
        with self._lock:
            if credit.bytes:
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
        if goaway.protocol_error:
            self.lost(f"{self.peer_name} ended the connection: {goaway.reason}")
            return
        with self._lock:
            self.draining_because = goaway.reason or "the other side is going away"
            unsent = [item for item in self._outbox.unsent() if isinstance(item, PendingCall)]
            refused = [call for number, call in self._pending.items() if number > goaway.last_call]
            calls = {id(call): call for call in (*self._parked, *unsent, *refused)}.values()
            self._parked.clear()
            for call in calls:
                call.abandoned = call.abandoned or not call.taken
                self._pending.pop(call.id, None)
        for call in calls:
            call.finish(Outcome(lost=self.draining_because))

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
            self._assemblies[call_id, reply] = (assembly, done)

    def _on_chunk(self, chunk: ChunkFrame) -> None:
        with self._lock:
            entry = self._assemblies.get((chunk.id, chunk.reply))
            if entry is None:
                known = chunk.id < self._next_id if chunk.reply else chunk.id <= self._highest_incoming
                if not known:
                    raise ProtocolError(f"a chunk for call {chunk.id} arrived, which was never made")
                return  # of a value that was given up while it travelled
            assembly, done = entry
            grant = assembly.add(chunk.data)
            complete = assembly.result()
            if complete is not None:
                del self._assemblies[chunk.id, chunk.reply]
            elif grant:
                self._put_locked(Frame(id=chunk.id, reply=not chunk.reply, credit=Credit(bytes=grant)))
        if complete is not None:
            done(complete)

    def _violated(self, reason: str) -> None:
        _log.warning("connection with %s ended: %s", self.peer_name, reason)
        goaway = GoAway(last_call=self._highest_incoming, reason=reason, protocol_error=True)
        self.lost(f"{self.peer_name} broke the protocol: {reason}", Frame(goaway=goaway))


def _inline(value: WireEncoded) -> Encoded:
    return Encoded(value.codec, value.payload, tuple(value.buffers))


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
