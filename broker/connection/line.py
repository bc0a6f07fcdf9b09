"""The way out of a connection: what waits to be sent, what waits for room, and a peer that takes nothing in.

Nobody waits here but the transport, for the next message.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from broker._pb.broker_pb2 import Frame, Hello
from broker.codecs import Encoded
from broker.connection.chains import Job
from broker.connection.frames import CHUNK_SIZE, encode_frames
from broker.connection.introduction import Settings
from broker.connection.outbox import Outbox, ReadyFrame, Sendable, Transfer
from broker.connection.timers import timers
from broker.connection.workers import run_all
from broker.errors import MessageTooLargeError


class Line:
    """The way out of one connection, and who is at its end.

    `lock` is the one lock of the connection: it guards what changes in here, the outbox included, and the state of
    Outgoing, Incoming and Assemblies. Functions in `_locked` are called with it held, all others without. Neither
    handlers nor jobs nor callbacks run under it.
    """

    def __init__(self, settings: Settings, peer_name: str, on_stuck: Callable[[str], None]) -> None:
        """`on_stuck` is called, with the reason, when the other side has taken nothing in for too long."""
        self.settings = settings
        self.peer_name = peer_name
        self.lock = threading.Lock()
        self.peer: Hello | None = None
        self.ended_because: str | None = None
        self.closing = False  # the transport ends when the outbox is empty
        self.flushed = threading.Event()
        self.outbox = Outbox()
        self.admit_locked: Callable[[], None] = lambda: None
        """Lets calls in that wait for credit or room. Outgoing puts its own here."""
        self._on_stuck = on_stuck
        self._output = threading.Condition(self.lock)  # what the transport waits on
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
        if limit and value.size > limit:
            raise MessageTooLargeError(
                f"{what} {value.size} bytes and {self.peer_name} accepts at most {limit}: send less at a time, "
                "or raise max_message_size there"
            )

    # ---- what goes in

    def put(self, frame: Frame) -> None:
        with self.lock:
            self.put_locked(frame)

    def put_locked(self, frame: Frame) -> None:
        self.outbox.put(ReadyFrame(frame))
        self._output.notify()

    def send_locked(self, item: Sendable, transfer: Transfer | None) -> None:
        """Queues what may be big: from now on the other side is watched if it lets too much pile up."""
        self.outbox.put(item, transfer)
        self._output.notify()
        self._watch_slow_peer_locked()

    def grant_locked(self, call_id: int, reply: bool, credit: int) -> None:
        """The other side takes so many bytes more of a value."""
        self.outbox.grant(call_id, reply, credit)
        self._output.notify()

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
                before = self.outbox.bytes
                frames, pieces = self.outbox.take()
                self._taken_bytes += before - self.outbox.bytes
                runnable = self.use_room_locked()
            run_all(runnable)
            if pieces:
                return b"".join((encode_frames(frames), *pieces))
            if frames:
                return encode_frames(frames)

    @property
    def _is_flushed(self) -> bool:
        return self.closing and self.outbox.is_empty

    def close(self) -> None:
        """Ends the line when all that is queued has gone out."""
        with self.lock:
            self.closing = True
            self._output.notify_all()

    def end_locked(self, reason: str, last_words: Frame | None) -> list[Job]:
        """Drops all but the last words; the caller runs the jobs that waited for room, without the lock."""
        self.ended_because = reason
        self.closing = True
        self.outbox = Outbox()
        if last_words is not None:
            self.put_locked(last_words)
        self._output.notify_all()
        stalled = list(self._stalled)
        self._stalled.clear()
        return stalled

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
            self._stalled.append(job)
            return True

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
        if self.congested and not self._watching_slow_peer:
            self._watching_slow_peer = True
            before = self._taken_bytes
            timers.call_later(self.settings.slow_peer_timeout, lambda: self._check_slow_peer(before))

    def _check_slow_peer(self, before: int) -> None:
        with self.lock:
            self._watching_slow_peer = False
            stuck = self.congested and self._taken_bytes == before
            waiting = self.outbox.bytes
            if not stuck:
                self._watch_slow_peer_locked()
        if stuck:
            patience = self.settings.slow_peer_timeout
            self._on_stuck(f"{self.peer_name} took nothing in for {patience:g} s with {waiting} bytes waiting for it")
