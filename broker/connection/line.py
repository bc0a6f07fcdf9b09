"""The way out of a connection: what waits to be sent, what waits for room, and a peer that takes nothing in.

A transport either asks for the next message, and waits for it, or is handed one whenever it has taken the last. Then
whoever puts something into an idle line sends it, and what is put meanwhile goes out together.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from broker._pb.broker_pb2 import Frame, Hello
from broker.codecs import Encoded
from broker.connection.chains import Job
from broker.connection.frames import CHUNK_SIZE, encode_frame
from broker.connection.introduction import Settings
from broker.connection.outbox import Outbox, ReadyFrame, Sendable, Transfer
from broker.connection.timers import timers
from broker.connection.workers import Workers, run_all
from broker.errors import MessageTooLargeError

_writers = Workers(limit=16, name="broker-writer")


def write_aside(job: Job) -> None:
    """Has another thread send, where to send is quick: who makes the items of a stream makes the next meanwhile, and
    they go together."""
    _writers.submit(job)


class Transport(Protocol):
    """What a line hands its messages to. Called without the lock, by any thread, one message at a time."""

    def send(self, pieces: Sequence[bytes | memoryview]) -> bool:
        """Takes a message, in pieces, without waiting. Raises nothing.

        True: it has it, and takes the next one. False: `Line.sent` says when it does.
        """

    def finish(self) -> None:
        """There will be no further message."""


class Line:
    """The way out of one connection, and who is at its end.

    `lock` is the one lock of the connection: it guards what changes in here, the outbox included, and the state of
    Outgoing, Incoming and Assemblies. `with line:` holds it, and sends at its end what was put. Functions in `_locked`
    are called with it held, all others without. Neither handlers nor jobs nor callbacks run under it.
    """

    def __init__(self, settings: Settings, peer_name: str, on_stuck: Callable[[str], None]) -> None:
        """`on_stuck` is called, with the reason, when the other side has taken nothing in for too long."""
        self.settings = settings
        self.peer_name = peer_name
        self.lock = threading.Lock()
        self.peer: Hello | None = None
        self.ended_because: str | None = None
        self.closing = False  # the transport ends when the outbox is empty
        self.takes_calls = True  # until the connection is closed or has ended, or the other side takes no more
        self.takes_nested = True  # the same for nested calls, which a side that drains may still take
        self.flushed = threading.Event()
        self.outbox = Outbox()
        self.admit_locked: Callable[[], None] = lambda: None
        """Lets calls in that wait for credit or room. Outgoing puts its own here."""
        self._on_stuck = on_stuck
        self._output = threading.Condition(self.lock)  # what a transport waits on that asks
        self._transport: Transport | None = None  # one that is handed its messages
        self.aside: Callable[[Job], None] | None = None
        """Has another thread send, for one that is to go on; None: it takes no longer than to ask for it."""
        self.reader_pushes = False
        """Whether the thread that reads sees to what those threads have queued that it woke together."""
        self._sending = False  # it has not taken the last message
        self.pushes_soon = False
        """Whether another thread is about to send what is ready."""
        self._finished = False
        self.reader = 0  # the thread that takes a message in: what it puts goes out together at the end
        self._stalled: deque[Job] = deque()  # jobs that wait until the outbox has room
        self._taken_bytes = 0
        self._watching_slow_peer = False

    def introduced_locked(self, peer: Hello) -> None:
        """The other side has said who it is, and how big its chunks may be."""
        self.peer = peer
        self.outbox.chunk_size = min(CHUNK_SIZE, peer.chunk_size)
        self.outbox.chunk_credit = peer.chunk_credit

    def check_size(self, value: Encoded, what: str) -> None:
        """Raises MessageTooLargeError if the other side does not take a value of that size."""
        limit = self.peer.max_message_size if self.peer is not None else 0
        if limit and (size := value.size) > limit:
            raise MessageTooLargeError(
                f"{what} {size} bytes and {self.peer_name} accepts at most {limit}: send less at a time, "
                "or raise max_message_size there"
            )

    # ---- what goes in

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        transport = self._transport
        if (
            transport is None
            or self._sending
            or not (self.outbox.frames or self.outbox.in_turn or self.closing)
            or self.reader == threading.get_ident()
        ):
            self.lock.release()
        else:
            self._push_locked(transport)

    def seize_locked(self, size: int) -> Transport | None:
        """The transport, if nothing is on its way there: then the caller does `send_small`, without the lock.

        The short way out, and the usual one: nothing is queued, and no other has to be asked.
        """
        transport = self._transport
        if (
            transport is None
            or self._sending
            or self.closing
            or self.outbox.frames
            or self.outbox.in_turn
            or self.reader == threading.get_ident()
        ):
            return None
        self._sending = True
        self._taken_bytes += size
        return transport

    def send_small(self, transport: Transport, frame: bytes) -> None:
        """Sends one frame over the transport that was seized."""
        if transport.send((frame,)):
            self._sending = False  # as in `sent`
            if self.outbox.frames or self.outbox.in_turn or self.closing:
                self.push()

    def put(self, frame: Frame) -> None:
        with self:
            self.put_locked(frame)

    def put_locked(self, frame: Frame) -> None:
        self.outbox.put(ReadyFrame(encode_frame(frame)))
        self._output.notify()

    def send_locked(self, item: Sendable, transfer: Transfer | None) -> None:
        """Queues what may be big: from now on the other side is watched if it lets too much pile up."""
        outbox = self.outbox
        outbox.put(item, transfer)
        if self._transport is None:
            self._output.notify()
        if outbox.bytes > self.settings.outbox_limit and not self._watching_slow_peer:
            self._watch_slow_peer_locked()

    def grant_locked(self, call_id: int, reply: bool, credit: int) -> None:
        """The other side takes so many bytes more of a value."""
        self.outbox.grant(call_id, reply, credit)
        self._output.notify()

    def close(self) -> None:
        """Ends the line when all that is queued has gone out."""
        with self:
            self.closing = True
            self.takes_calls = self.takes_nested = False
            self._output.notify_all()

    # ---- what comes out

    def next_message(self, timeout: float | None) -> bytes | None:
        """The next message to send; waits for one. None when there will be none any more, or the timeout passed."""
        while True:
            with self.lock:
                self._output.wait_for(lambda: self.outbox.ready or self._is_flushed, timeout)
                if not self.outbox.ready:
                    if self._is_flushed:
                        self.flushed.set()
                    return None
                pieces, runnable = self._take_locked()
            run_all(runnable)
            if pieces:
                return b"".join(pieces)

    def hand_to(
        self, transport: Transport, aside: Callable[[Job], None] | None = None, *, reader_pushes: bool = False
    ) -> None:
        """From now on messages are handed to a transport; nobody calls `next_message`.

        `aside` runs a job on another thread, where `send` of the transport takes the message in at the other side.
        """
        with self:
            self._transport = transport
            self.aside = aside
            self.reader_pushes = reader_pushes

    def sent(self) -> None:
        """The transport has taken its message, and takes the next."""
        # Whoever puts something in looks at this first and then leaves: either he sends it, or it is found here.
        self._sending = False
        if self.outbox.frames or self.outbox.in_turn or self.closing:
            with self:
                pass

    def taken_in(self) -> None:
        """The thread that read has taken its message in: what it has put goes out."""
        self.reader = 0
        if self.outbox.frames or self.outbox.in_turn or self.closing:
            self.push()

    def push(self) -> None:
        """Sends what is ready, if the line is free."""
        if (
            self._transport is not None
            and not self._sending
            and (self.outbox.frames or self.outbox.in_turn or self.closing)
        ):
            with self:
                pass

    def push_soon(self) -> None:
        """Sends what is ready, and what comes until then, from another thread."""
        if not self.pushes_soon:
            self.pushes_soon = True
            _writers.submit(self._push_now)

    def _push_now(self) -> None:
        self.pushes_soon = False
        self.push()

    def _push_locked(self, transport: Transport) -> None:
        """Hands the transport what is ready, or the end; lets go of the lock."""
        while self._push_one_locked(transport):
            self.lock.acquire()
            self._sending = False
            if not (self.outbox.frames or self.outbox.in_turn or self.closing):
                self.lock.release()
                return

    def _push_one_locked(self, transport: Transport) -> bool:
        """Whether it took a message, and takes the next one. Lets go of the lock."""
        pieces: list[bytes | memoryview] = []
        runnable: list[Job] = []
        while self.outbox.ready and not pieces:
            pieces, jobs = self._take_locked()
            runnable += jobs
        finish = not pieces and self._is_flushed and not self._finished
        self._finished = self._finished or finish
        self._sending = bool(pieces)
        self.lock.release()
        if runnable:
            run_all(runnable)
        if finish:
            self.flushed.set()
            transport.finish()
        return bool(pieces) and transport.send(pieces)

    def _take_locked(self) -> tuple[list[bytes | memoryview], list[Job]]:
        """The pieces of the next message, and the jobs that may go on now."""
        before = self.outbox.bytes
        pieces = self.outbox.take()
        self._taken_bytes += before - self.outbox.bytes
        return pieces, self.use_room_locked()

    @property
    def _is_flushed(self) -> bool:
        return self.closing and self.outbox.is_empty

    def end_locked(self, reason: str, last_words: Frame | None) -> list[Job]:
        """Drops all but the last words; the caller runs the jobs that waited for room, without the lock."""
        self.ended_because = reason
        self.closing = True
        self.takes_calls = self.takes_nested = False
        self.outbox = Outbox()
        if last_words is not None:
            self.put_locked(last_words)
        self._output.notify_all()
        stalled = list(self._stalled)
        self._stalled.clear()
        return stalled

    def forget_after_fork(self, reason: str) -> None:
        """In a child process: nothing goes out any more. The thread that holds the lock may not be there."""
        self.lock = threading.Lock()
        self._output = threading.Condition(self.lock)
        self._transport = None
        self.flushed = threading.Event()
        self.flushed.set()
        self.ended_because = reason
        self.closing = True
        self.takes_calls = self.takes_nested = False
        self.outbox = Outbox()
        self._stalled.clear()

    # ---- room

    @property
    def congested(self) -> bool:
        """Whether so much waits to be sent that no further call should start."""
        return self.outbox.bytes > self.settings.outbox_limit

    def when_uncongested(self, job: Job) -> bool:
        """Runs the job when there is room; False if there is now (and the job was not taken)."""
        with self.lock:
            if not self.congested or self.ended_because is not None:
                return False
            self.stall_locked(job)
            return True

    def stall_locked(self, job: Job) -> None:
        """Runs the job when the outbox has room again."""
        self._stalled.append(job)

    def use_room_locked(self) -> list[Job]:
        """What may go on as the outbox, or the credit, has changed; the caller runs the jobs without the lock."""
        jobs: list[Job] = []
        if self._stalled and not self.congested:
            jobs += self._stalled
            self._stalled.clear()
        self.admit_locked()
        if self._is_flushed:
            self._output.notify()
        return jobs

    def _watch_slow_peer_locked(self) -> None:
        self._watching_slow_peer = True
        before = self._taken_bytes
        timers.call_later(self.settings.slow_peer_timeout, lambda: self._check_slow_peer(before))

    def _check_slow_peer(self, before: int) -> None:
        with self.lock:
            self._watching_slow_peer = False
            stuck = self.congested and self._taken_bytes == before
            waiting = self.outbox.bytes
            if not stuck and self.congested:
                self._watch_slow_peer_locked()
        if stuck:
            patience = self.settings.slow_peer_timeout
            self._on_stuck(f"{self.peer_name} took nothing in for {patience:g} s with {waiting} bytes waiting for it")


def _after_fork() -> None:
    _writers.__init__(_writers.limit, "broker-writer")  # type: ignore[misc]  # its threads are not in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
