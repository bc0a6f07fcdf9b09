"""The connection: one ordered stream of frames each way, calls in both directions, any number at a time.

No sockets and no gRPC in here. A transport feeds what arrives to `receive`, and takes what goes out from
`next_message`, or is handed it (`hand_to`); tests join two connections by hand. docs/wire.md has the frames.

    line        the way out, and the one lock
    outgoing    calls that this side makes
    incoming    calls that the other side makes
    assemblies  big values that arrive
    exports     the exported objects that either side holds of the other

What is left for this file is what concerns them all: the introduction, which frame goes to whom, and the end. The rules
that everything else rests on:

- Nothing but Hello and Welcome before both have passed.
- `receive` never waits: not for application code, not for room. Results, cancel and credit always get through.
- Whatever the other side must not send ends this connection, with the reason, and no other.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet

from broker._pb.broker_pb2 import Frame, Hello, Ping
from broker.connection.assemblies import Assemblies, Landing
from broker.connection.calls import CallRequest, IncomingCall, MadeCall, Outcome, PendingCall
from broker.connection.chains import Job
from broker.connection.exports import Exports
from broker.connection.frames import MESSAGE_LIMIT, ChunkFrame, OpenChunk
from broker.connection.groups import CallGroup
from broker.connection.incoming import Incoming
from broker.connection.introduction import Settings, check_introduction
from broker.connection.line import Line, Transport
from broker.connection.outgoing import Outgoing
from broker.connection.reading import CallFrame, Layouts, PlainFrames, decode_frames, plain_frames
from broker.connection.refusals import Reason, Refused
from broker.connection.room import Room
from broker.connection.workers import run_all, run_aside
from broker.errors import ProtocolError

__all__ = ["Connection", "Handler", "Settings"]

MAX_QUEUED_FRAMES = 65_536
"""Who makes us queue more frames than this asks for answers and does not take them in."""

_log = logging.getLogger("broker")


class Handler(Protocol):
    """The side that serves what arrives. Called by the thread that reads: nothing here may wait."""

    def incoming(self, call: IncomingCall) -> None: ...

    def incoming_group(self, group: CallGroup) -> None:
        """Plain calls that arrived together."""

    def turned_away(self, refused: Refused) -> None:
        """A call was refused here, and is not handed on."""

    def session_closed(self, connection: Connection, session: int) -> None: ...

    def connection_ended(self, connection: Connection) -> None: ...


Introduce = Callable[["Connection", Hello | None], Hello]
"""Hello, of the side that connects (None), or the Welcome to a Hello. Called by the thread that reads; raises
ProtocolError for who is not let in."""


class Connection:
    """One end of a connection. Every method may be called from any thread; no lock is held while handlers run.

    Its state and that of its parts is guarded by the lock of the line.
    """

    def __init__(
        self,
        settings: Settings,
        handler: Handler,
        *,
        accepts: bool,
        peer_name: str = "the peer",
        introduce: Introduce | None = None,
    ) -> None:
        """`introduce` says more, or other things, than the settings do. It may refuse who introduces himself."""
        self.settings = settings
        self.peer_name = peer_name
        self.transport = ""
        """What carries it: `tcp`, `unix` (a Unix socket) or `process` (nothing: both ends are in one process)."""
        self.identity: str | None = None
        """Who is at the other end, as far as the transport or a token says. Set before the introduction."""
        self.is_trusted = False
        """Whether what the other side pickled may be loaded: it is where this process chose to connect, and the same
        machine, or proved by TLS. Never for who connects here."""
        self.opened = threading.Event()
        """Set when the other side has introduced itself, or the connection has ended."""
        self.on_end: Callable[[Connection], None] | None = None
        self.known: dict[str, Any] = {}
        """What the side that serves knows of this connection; it alone uses it."""
        self._handler = handler
        self._accepts = accepts
        self._line = Line(settings, peer_name, self.end)
        self._assemblies = Assemblies(self._line)
        self.exports = Exports(self, self._line)
        """The exported objects that passed here, in both directions."""
        self._outgoing = Outgoing(self._line, self._assemblies, self.exports)
        self.send: Callable[[MadeCall], None] = self._outgoing.send
        """Makes a call that was prepared elsewhere, as `call` does."""
        self._incoming = Incoming(self, self._line, self._assemblies, self.exports, handler)
        self.room = Room(self._outgoing.unanswered)
        self._pongs: dict[int, threading.Event] = {}
        self._layouts: Layouts = {}  # of what arrives
        self._takers: dict[str | None, Callable[[Frame], None]] = {
            "hello": self._on_introduction,
            "welcome": self._on_introduction,
            "call": self._incoming.on_call,
            "result": self._outgoing.on_result,
            "refused": self._outgoing.on_refused,
            "cancel": self._incoming.on_cancel,
            "item": self._outgoing.streams.on_item,
            "end": self._outgoing.streams.on_end,
            "credit": self._on_credit,
            "close": self._on_close,
            "ping": self._on_ping,
            "pong": self._on_pong,
            "goaway": self._on_goaway,
            "release": self.exports.on_release,
        }
        _connections.add(self)
        self._introduce = introduce or (lambda connection, hello: settings.to_wire())
        if not accepts:
            self._line.put(Frame(hello=self._introduce(self, None)))

    # ---- how it is

    @property
    def peer(self) -> Hello | None:
        """How the other side introduced itself."""
        return self._line.peer

    @property
    def ended_because(self) -> str | None:
        return self._line.ended_because

    @property
    def draining_because(self) -> str | None:
        """Why the other side takes no further calls, once it has said so."""
        return self._outgoing.draining_because

    @property
    def usable(self) -> bool:
        """Whether new calls can be made."""
        return self._line.takes_calls

    @property
    def takes_nested(self) -> bool:
        """Whether nested calls can be made: also while the other side drains, if it holds their chain."""
        return self._line.takes_nested

    @property
    def busy(self) -> bool:
        """Whether calls of either side are under way, or either side holds an exported object of the other."""
        return self._outgoing.busy or self._incoming.busy or bool(self.exports.given or self.exports.held)

    @property
    def activity(self) -> int:
        """A number that is another one once a call has been made or has arrived."""
        return self._outgoing.made + self._incoming.highest

    def unanswered(self) -> int:
        """How many calls of this side have no outcome yet."""
        return self._outgoing.unanswered()

    @property
    def calls_to_answer(self) -> int:
        """How many calls of the other side are under way, without nested ones."""
        return self._incoming.to_answer

    @property
    def congested(self) -> bool:
        """Whether so much waits to be sent that no further call should start."""
        line = self._line
        return line.outbox.bytes > line.settings.outbox_limit

    @property
    def flushed(self) -> threading.Event:
        """Set when the transport has taken all that there was, or the connection has ended."""
        return self._line.flushed

    # ---- what its users do

    def take_over(self, earlier: Connection) -> None:
        """Whoever is at the other end is who was there on an earlier connection. For introductions."""
        self.peer_name = self._line.peer_name = earlier.peer_name
        self.identity = earlier.identity

    def call(self, request: CallRequest) -> PendingCall:
        """Makes a call. It goes out when the line is free and there is credit; its outcome may already be there.

        From now on the calling thread takes the nested calls of its chain: it has to wait for the call, or to cancel
        it. Raises MessageTooLargeError if the other side does not take a value of that size, and CodecError.
        """
        return self._outgoing.call(request)

    def cancel(self, call: MadeCall, reason: str) -> None:
        """Gives a call of this side up: the other side is told, and what it answers is dropped."""
        self._outgoing.cancel(call, reason)

    def when_uncongested(self, job: Job) -> bool:
        """Runs the job when there is room to answer; False if there is now (and the job was not taken)."""
        return self._line.when_uncongested(job)

    def close_session(self, session: int) -> None:
        """Tells the other side that a session is over."""
        with self._line:
            if self.ended_because is None and self.peer is not None and not self._line.closing:
                frame = Frame(id=session)
                frame.close.SetInParent()
                self._line.put_locked(frame)

    def ping(self, timeout: float | None) -> bool:
        """Asks the other side's engine for a sign of life; False if none came in time."""
        give_up = time.monotonic() + min(timeout, threading.TIMEOUT_MAX) if timeout is not None else None
        if not self.opened.wait(_remaining(give_up)):
            return False
        pong = threading.Event()
        with self._line:
            if self.ended_because is not None:
                return False
            nonce = id(pong)
            self._pongs[nonce] = pong
            self._line.put_locked(Frame(ping=Ping(nonce=nonce)))
        answered = pong.wait(_remaining(give_up))
        with self._line:
            self._pongs.pop(nonce, None)
        return answered and self.ended_because is None

    def ask_for_life(self) -> None:
        """Has the other side send something, if it is there."""
        with self._line:
            if self.ended_because is None and self.peer is not None:
                self._line.put_locked(Frame(ping=Ping()))

    def go_away(self, reason: str, *, takes_nested: bool = False) -> None:
        """Tells the other side that no further call of its will be executed. Calls under way go on.

        With `takes_nested` nested calls are still handed on, until the connection is closed: they may be what the calls
        under way wait for.
        """
        self._incoming.go_away(reason, takes_nested=takes_nested)

    def close(self, reason: str) -> None:
        """Ends the connection in order: what is queued and a GoAway still go out."""
        self.go_away(reason)
        self._line.close()

    def settle(self) -> None:
        """Waits until all calls know that were lost when this ceased to be usable: for moments."""
        with self._outgoing.losing:
            pass

    # ---- what the transport uses

    def receive(self, message: bytes | memoryview) -> None:
        """Takes in one message, and keeps nothing of its memory; one thread at a time. Raises nothing.

        What must not have been sent ends the connection.
        """
        self._take_in(self._on_message, message)

    def room_for(self, chunk: OpenChunk, data: memoryview) -> Landing | None:
        """Where the transport may write the rest of a chunk, of which `data` has arrived: then it calls `landed`.

        None: it has to bring the chunk as a whole. By the thread that reads.
        """
        return self._assemblies.room_for(chunk, data)

    def whole_part(self, chunk: OpenChunk) -> int | None:
        """How much of a chunk stands before its end, if that is one whole part of a value; then `take_part` is to be
        had. By the thread that reads."""
        return self._assemblies.whole_part(chunk)

    def take_part(self, chunk: OpenChunk, before: bytes, part: bytes) -> None:
        """As `receive`, for such a chunk: what stands before the part, and the part, which is kept as it is."""
        self._take_in(self._assemblies.add_part, chunk, before, part)

    def landed(self, landing: Landing) -> None:
        """As `receive`, for a chunk that was written to its place. Nothing may refer to its room any more."""
        self._take_in(landing.filled)

    def next_message(self, timeout: float | None = None) -> bytes | None:
        """The next message to send; waits for one. None when there will be none any more, or the timeout passed."""
        return self._line.next_message(timeout)

    def hand_to(
        self, transport: Transport, aside: Callable[[Job], None] | None = None, *, reader_pushes: bool = False
    ) -> None:
        """Hands messages to a transport as they are ready, instead of `next_message`."""
        self._line.hand_to(transport, aside, reader_pushes=reader_pushes)

    def sent(self) -> None:
        """The transport has taken the message that it was handed, and takes the next. From any thread."""
        self._line.sent()

    def transport_ended(self, reason: str) -> None:
        """The other side is gone. Oneway calls of one that had said so are still carried out before the end."""
        with self._line:
            left_in_order = self.draining_because is not None and self.ended_because is None
            given_up = self._incoming.outlast_locked(reason) if left_in_order else None
        if given_up is None:
            self.lost(reason)
            return
        for call in given_up:
            call.cancel(reason)

    # ---- the end

    def lost(self, reason: str, last_words: Frame | None = None) -> None:
        """The transport is gone, or has to go after the last words: everything under way ends. From any thread."""
        with self._outgoing.losing:
            with self._line.lock:
                if self.ended_because is not None:
                    return
                made, arrived = self._outgoing.end_locked(), self._incoming.end_locked()
                streams = self._outgoing.streams.end_locked()
                self._assemblies.end_locked()
                self.exports.end_locked()
                pongs = list(self._pongs.values())
                self._pongs.clear()
                stalled = self._line.end_locked(reason, last_words)
            for call in made:
                call.finish(Outcome(lost=reason, may_have_run=call.taken))
        self._line.push()
        for stream in streams:
            stream.on_end(Outcome(lost=reason, may_have_run=True))
        for incoming in arrived:
            incoming.cancel(reason)
        run_all(stalled)
        for pong in pongs:
            pong.set()
        self.opened.set()
        self.flushed.set()
        self._handler.connection_ended(self)
        if self.on_end is not None:
            self.on_end(self)

    def violated(self, reason: str) -> None:
        """The other side did what it must not do: that ends the connection, and it is told. From any thread."""
        run_aside(lambda: _log.warning("connection with %s ended: %s", self.peer_name, reason))
        last_words = self._incoming.last_words(reason, protocol_error=True)
        self.lost(f"{self.peer_name} broke the protocol: {reason}", last_words)

    def end(self, reason: str) -> None:
        """Ends the connection at once, and tells the other side why, if that can be done."""
        self.lost(reason, self._incoming.last_words(reason))

    def forget_after_fork(self) -> None:
        """In a child process: the connection is its parent's. What was under way ends here, and goes on there."""
        reason = f"this process was forked, and the connection to {self.peer_name} is that of its parent"
        self._line.forget_after_fork(reason)
        self._outgoing.losing = threading.RLock()
        self.room = Room(self._outgoing.unanswered)
        self.on_end = None
        self.opened, pongs = threading.Event(), list(self._pongs.values())
        self.opened.set()
        made, streams = self._outgoing.end_locked(), self._outgoing.streams.end_locked()
        for call in made:  # refused and not lost, so that nobody sends it again
            call.finish(Outcome(refused=Refused(Reason.CANCELLED, reason), may_have_run=call.taken))
        for stream in streams:
            stream.on_end(Outcome(lost=reason, may_have_run=True))
        for pong in pongs:
            pong.set()

    @property
    def has_company(self) -> bool:
        """Whether the thread that reads should, if nothing arrives soon, call `dismiss_company`."""
        return self._outgoing.company > 0

    def dismiss_company(self) -> None:
        self._outgoing.dismiss_company()

    # ---- frames that arrive

    def _take_in(self, take: Callable[..., None], *message: object) -> None:
        line = self._line
        line.reader = threading.get_ident()
        try:
            take(*message)
        except ProtocolError as error:
            self.violated(str(error))
        except Exception as error:  # a fault of ours must not look like an open connection
            run_aside(lambda error=error: _log.error("a frame could not be handled", exc_info=error))  # type: ignore[misc]
            self.end(f"an internal error ended the connection ({type(error).__name__})")
        finally:
            line.taken_in()

    def _on_message(self, message: bytes | memoryview) -> None:
        size = len(message)
        if size > MESSAGE_LIMIT:
            raise ProtocolError(f"a message of {size} bytes arrived; {MESSAGE_LIMIT} is the limit")
        plain, end = plain_frames(message, self._layouts)
        if plain and end == size:
            self._take_group(plain)
            return
        for frame in decode_frames(message, self._layouts):
            if isinstance(frame, list):
                self._take_group(frame)
            elif self._line.ended_because is None:
                self._take(frame)
                self._check_queue()
            else:
                return

    def _check_queue(self) -> None:
        if len(self._line.outbox.frames) > MAX_QUEUED_FRAMES:
            raise ProtocolError(f"more than {MAX_QUEUED_FRAMES} frames wait to be taken in")

    def _take(self, frame: Frame | ChunkFrame) -> None:
        if type(frame) is ChunkFrame:
            if self._line.peer is None:
                raise ProtocolError("the first frame was chunk, not the introduction")
            self._on_chunk(frame)
            return
        assert isinstance(frame, Frame)
        kind = frame.WhichOneof("kind")
        if self._line.peer is None and kind not in ("hello", "welcome", "goaway"):
            raise ProtocolError(f"the first frame was {kind or 'of an unknown kind'}, not the introduction")
        take = self._takers.get(kind)
        if take is not None:
            take(frame)
        elif frame.optional:
            return
        elif frame.id and not frame.reply:
            refused = Refused(Reason.UNIMPLEMENTED, "this side does not know that kind of frame")
            self._line.put(Frame(id=frame.id, reply=True, refused=refused.to_wire()))
        else:
            raise ProtocolError(f"a frame arrived that this version does not know ({kind or 'of an unknown kind'})")

    def _take_group(self, group: PlainFrames) -> None:
        line = self._line
        if line.ended_because is not None:
            return
        is_calls = type(group[0]) is CallFrame
        if line.peer is None:
            raise ProtocolError(f"the first frame was {'call' if is_calls else 'result'}, not the introduction")
        if is_calls:
            self._incoming.on_plain_calls(group)  # type: ignore[arg-type]
            self._check_queue()
        else:
            self._outgoing.on_plain_results(group)  # type: ignore[arg-type]
            self.room.answered()

    def _on_chunk(self, chunk: ChunkFrame) -> None:
        if not self._assemblies.add(chunk):  # else it may be of a value that was given up while it travelled
            self._check_known(chunk.id, chunk.reply, "a chunk")

    def _check_known(self, call_id: int, reply: bool, what: str) -> None:
        """Raises ProtocolError for a number that was never given to a call."""
        if not (self._outgoing.has_made(call_id) if reply else self._incoming.has_got(call_id)):
            raise ProtocolError(f"{what} for call {call_id} arrived, which was never made")

    def _on_introduction(self, frame: Frame) -> None:
        hello = frame.hello if self._accepts else frame.welcome
        if self._line.peer is not None or frame.WhichOneof("kind") != ("hello" if self._accepts else "welcome"):
            raise ProtocolError("a second introduction, or the introduction of the wrong side, arrived")
        check_introduction(hello, self.peer_name)
        welcome = self._introduce(self, hello) if self._accepts else None
        with self._line:
            self._line.introduced_locked(hello)
            if welcome is not None:
                self._line.put_locked(Frame(welcome=welcome))
            self._outgoing.introduced_locked(hello.call_credit)
        self.opened.set()

    def _on_credit(self, frame: Frame) -> None:
        credit = frame.credit
        go_on = None
        with self._line:
            if credit.bytes:
                self._check_known(frame.id, frame.reply, "credit")
                self._line.grant_locked(frame.id, not frame.reply, credit.bytes)
            if credit.calls:
                self._outgoing.grant_locked(credit.calls)
            if credit.items or credit.taken:
                go_on = self._incoming.grant_items_locked(frame)
        if go_on is not None:
            go_on()

    def _on_close(self, frame: Frame) -> None:
        self._handler.session_closed(self, frame.id)

    def _on_ping(self, frame: Frame) -> None:
        self._line.put(Frame(pong=frame.ping))

    def _on_pong(self, frame: Frame) -> None:
        with self._line:
            pong = self._pongs.pop(frame.pong.nonce, None)
        if pong is not None:
            pong.set()

    def _on_goaway(self, frame: Frame) -> None:
        goaway = frame.goaway
        reason = goaway.reason or f"{self.peer_name} is going away"
        self._outgoing.drain(reason, goaway.last_call, takes_nested=goaway.takes_nested)
        if goaway.protocol_error:
            self.lost(f"{self.peer_name} ended the connection: {reason}")


_connections: WeakSet[Connection] = WeakSet()


def _after_fork() -> None:
    for connection in list(_connections):
        connection.forget_after_fork()
    _connections.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _remaining(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())
