"""Messages over a Unix socket of this host: what gRPC carries elsewhere, without gRPC.

The messages are the same; each stands behind its length, four bytes, the highest first. A message of gRPC costs several
times what the system takes to carry it (docs/performance.md), and between two processes of one user on one host nothing
of what gRPC does for that is needed.

A thread that has a message writes it. What the other side leaves lying beyond the buffers of the system is written by a
thread that waits for room, and the line does not hand over the next message before that.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from weakref import WeakSet

import grpc

from broker.connection import watch
from broker.connection.assemblies import Landing
from broker.connection.engine import Connection
from broker.connection.frames import MESSAGE_LIMIT, OpenChunk, open_chunk
from broker.connection.inbox import LENGTH, READ_SIZE, Inbox
from broker.connection.leading import Leading
from broker.connection.near import IS_POSSIBLE
from broker.connection.timers import timers
from broker.connection.watch import READABLE, WRITABLE, Watch
from broker.errors import ProtocolError

_TIME = struct.Struct("ll")
_CREDENTIALS = struct.Struct("3i")
_PIECES = 512  # written at once; systems take 1,024
_SMALL = 32 << 10  # is copied together, which costs less than to hand over pieces
_ROOM_SECONDS = 0.005
"""How long the system waits for room at a time before the thread goes on."""
_PATIENCE = 0.02
"""How long a thread that writes a big message may be held up, in all."""
_ARRIVAL_SECONDS = 0.002
"""How long a thread that reads stays with a big message which arrives bit by bit: to come back to it takes longer."""
_COMPANY_SECONDS = 0.0003
"""How long calls of threads that were woken together wait for each other."""
_YIELDS = 10
"""How often those threads are let run before a timer is set for them, which costs the system more."""
_FD_SETSIZE = 1024
_STAY_SECONDS = 0.005
"""How long a thread stays with one connection whose calls it carries out; the others may be busy with theirs."""
_HEAD_SIZE = 1 << 10
"""Bytes of a message that are looked at to find where its chunk begins."""
_ROOM = 1 << 20
"""Bytes that the system is to hold for the other side, so that a message with one chunk is written in one go. The
system counts twice as much, and has a limit of its own."""
_SILENCE_SECONDS = 5.0
"""After so long a silence, or twice that, the other side is asked for a sign of life."""
_ANSWER_SECONDS = 5.0
"""How long it has for that: no process holds Python up so long, short of being stopped."""
_NOW = getattr(socket, "MSG_DONTWAIT", 0)
_SILENT = getattr(socket, "MSG_NOSIGNAL", 0)

is_available: bool = IS_POSSIBLE and watch.is_available and hasattr(socket, "SO_PEERCRED")
"""Whether this system has what is used here."""


def user_of_peer(end: socket.socket) -> int:
    """The user whose process is at the other end, as the system says."""
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


def connect(path: str, timeout: float) -> socket.socket:
    """Raises OSError, also if a process of another user listens there."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.settimeout(timeout)
        end.connect(path)
        if user_of_peer(end) != os.geteuid():
            raise PermissionError(errno.EACCES, "a process of another user listens there")
    except OSError:
        end.close()
        raise
    return end


class MessageSocket:
    """One end of such a socket. The two kinds below differ in who reads, and when.

    The lock is held while the descriptor is in use for sending, so that it is not closed meanwhile.
    """

    def __init__(self, end: socket.socket, engine: Connection) -> None:
        self._lock = threading.Lock()
        self._socket = end
        self._engine = engine
        self._inbox = Inbox()
        self._landing: Landing | None = None  # where a big message goes, if not into the inbox
        self._was_big = False  # the last message, and so the next may be
        self._rest: Sequence[bytes | memoryview] = ()  # of the message that is being sent
        self._unwritten = 0  # bytes of that
        self._finished = False  # this side sends no more
        self._over = False  # the other side sends no more, or is gone
        self._closed = False
        self._heard = 0  # how often something was read
        self._timer = timers.call_later(_SILENCE_SECONDS, partial(self._look, 0))
        end.settimeout(None)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(0, int(_ROOM_SECONDS * 1e6)))
        _sockets.add(self)

    def send(self, pieces: Sequence[bytes | memoryview]) -> bool:
        size = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
        length = LENGTH.pack(size)
        self._unwritten = LENGTH.size + size
        self._rest = (b"".join((length, *pieces)),) if size <= _SMALL else (length, *pieces)
        with self._lock:
            try:
                return self._write_locked(_SILENT)
            except BaseException:  # Ctrl-C: what was begun has to be brought to its end
                self._go_on_later_locked()
                raise

    def _go_on(self) -> None:
        """There is room for more of the message. By the thread that waits for that."""
        with self._lock:
            taken = self._write_locked(_SILENT | _NOW)
        if taken:
            self._engine.sent()

    def _write_locked(self, flags: int) -> bool:
        """Writes as much as there is room for; whether that was all. What remains is written when there is room."""
        give_up = 0.0
        while self._rest and not self._closed:
            try:
                if give_up and time.monotonic() > give_up:
                    raise BlockingIOError
                self._write_some_locked(flags)
            except BlockingIOError:
                self._go_on_later_locked()
                return False
            except OSError:  # the other side is gone, as the one who reads gets to know
                self._rest = ()
                return False
            if self._rest:
                give_up = give_up or time.monotonic() + _PATIENCE
        return not self._closed

    def _write_some_locked(self, flags: int) -> None:
        pieces = self._rest
        written: list[int] = []
        try:
            # All within one call in C: Ctrl-C cannot come between writing and knowing how much was written.
            if len(pieces) == 1:
                written.extend(map(self._socket.send, pieces, (flags,)))
            else:
                written.extend(map(self._socket.sendmsg, (pieces[:_PIECES],), ((),), (flags,)))
        finally:
            for count in written:
                self._unwritten -= count
                self._rest = _without(pieces, count) if self._unwritten else ()

    def _go_on_later_locked(self) -> None:
        if not self._closed:
            _room.wait_for(self._socket.fileno(), self._go_on)

    def finish(self) -> None:
        with self._lock:
            self._finished = True
            self._shutdown_locked(socket.SHUT_WR)
            self._close_if_done_locked()

    def cancel(self) -> None:
        """Ends it at once, in both directions. From any thread."""
        with self._lock:
            self._finished = True
            self._shutdown_locked(socket.SHUT_RDWR)
            self._close_if_done_locked()

    def _shutdown_locked(self, how: int) -> None:
        if not self._closed:
            try:
                self._socket.shutdown(how)
            except OSError:  # the other side was faster
                pass

    # ---- what arrives; by one thread at a time

    def _read_some(self, flags: int = 0) -> bool:
        """Takes in what is there; False at the end. Raises ProtocolError."""
        if self._was_big and self._inbox.is_empty:
            chunk = self._next_chunk(flags)
            if chunk is not None:
                self._read_to(chunk)
                return True
        data = self._socket.recv(READ_SIZE, flags)
        self._heard += 1
        message = self._inbox.put(data)
        if message:
            self._engine.receive(message)
        if self._inbox.room is not None:
            self._begin_big()
        return bool(data)

    def _next_chunk(self, flags: int) -> OpenChunk | None:
        """The chunk with which the next message ends, if that is a big one. It stays where it is."""
        begun = self._socket.recv(_HEAD_SIZE, flags | socket.MSG_PEEK)
        size = LENGTH.unpack_from(begun)[0] if len(begun) > LENGTH.size else 0
        is_big = READ_SIZE < size <= MESSAGE_LIMIT
        chunk = open_chunk(memoryview(begun)[LENGTH.size :], size) if is_big else None
        self._was_big = chunk is not None
        return chunk

    def _read_to(self, chunk: OpenChunk) -> None:
        """Takes in what stands before a chunk, and as much of that as is there."""
        head = self._read_all(LENGTH.size + chunk.data)
        self._heard += 1
        if chunk.start:
            self._engine.receive(memoryview(head)[LENGTH.size : LENGTH.size + chunk.start])
        there = self._read_part(chunk)
        if there is not None:
            self._inbox.put(head)
            self._land(chunk, there, in_inbox=False)

    def _begin_big(self) -> None:
        """Takes in what stands before a chunk, which then can go straight into its value."""
        begun, size = self._inbox.begun()
        chunk = open_chunk(begun, size)
        if chunk is None:
            return
        self._was_big = True
        if chunk.start:
            self._engine.receive(begun[: chunk.start])
        there = begun[chunk.data :]
        if there:
            self._land(chunk, there, in_inbox=True)
        elif (read := self._read_part(chunk)) is not None:
            self._land(chunk, read, in_inbox=False)
        else:
            self._inbox.skip()

    def _land(self, chunk: OpenChunk, there: memoryview, *, in_inbox: bool) -> None:
        """Says where the rest of a chunk goes, of which that is there."""
        self._inbox.cut(chunk.start)
        self._landing = self._engine.room_for(chunk, there)
        if self._landing is not None:
            self._inbox.divert(self._landing.room)
        elif not in_inbox:
            self._inbox.fill(there)

    def _read_part(self, chunk: OpenChunk) -> memoryview | None:
        """Reads a chunk that ends with a whole part of its value: the memory that the system fills becomes that part.

        Returns what there is of the chunk if that is not all; None: it is taken in.
        """
        start = self._engine.whole_part(chunk)
        if start is None:
            return memoryview(b"")
        before = self._read_all(start)
        part = self._read_all(chunk.size - start) if len(before) == start else b""
        if len(before) + len(part) < chunk.size:
            return memoryview(before + part)
        self._engine.take_part(chunk, before, part)
        return None

    def _read_all(self, size: int) -> bytes:
        """Reads so many bytes; fewer if no more come for a while, or at the end."""
        try:
            return self._socket.recv(size, socket.MSG_WAITALL) if size else b""
        except BlockingIOError:
            return b""

    def _read_big(self) -> bool:
        """Takes in more of a big message, straight to where it stays; False at the end."""
        assert self._inbox.room is not None
        count = self._socket.recv_into(self._inbox.room)
        self._heard += 1
        message = self._inbox.filled(count) if count else None
        if message is None:
            return count > 0
        if self._landing is None:
            self._engine.receive(message)
        else:
            landing, self._landing = self._landing, None
            self._engine.landed(landing)
        self._inbox.done()
        return True

    def _ended(self) -> None:
        """The one who reads has come to the end."""
        with self._lock:
            self._over = True
            self._close_if_done_locked()

    def _close_if_done_locked(self) -> None:
        if self._over and self._finished and not self._closed:
            self._let_go()

    # ---- a side that is stopped: here nothing but its silence tells

    def _look(self, before: int) -> None:
        if self._heard != before:
            self._timer = timers.call_later(_SILENCE_SECONDS, partial(self._look, self._heard))
        elif not self._over:
            self._engine.ask_for_life()
            self._timer = timers.call_later(_ANSWER_SECONDS, partial(self._look_again, before))

    def _look_again(self, before: int) -> None:
        if self._heard != before:
            self._look(before)
        elif not self._over:
            name, seconds = self._engine.peer_name, _SILENCE_SECONDS + _ANSWER_SECONDS
            self._engine.lost(f"{name} has given no sign of life for {seconds:g} s or longer")
            self.cancel()

    # ---- the end

    def _let_go(self) -> None:
        self._timer.cancel()
        self._closed = True
        _room.forget(self._socket.fileno())
        self._socket.close()

    def forget_after_fork(self) -> None:
        """In a child process: the parent goes on with it."""
        self._closed = True
        self._socket.close()


_sockets: WeakSet[MessageSocket] = WeakSet()


class ClientSocket(MessageSocket):
    """The end of who connected, with a thread that reads."""

    def __init__(self, end: socket.socket, engine: Connection) -> None:
        super().__init__(end, engine)
        self.code: grpc.StatusCode | None = None
        self.details = ""

    def read(self) -> None:
        """Takes in what arrives until the end; then `code` and `details` say how it ended."""
        try:
            self._read()
        except ProtocolError as error:
            self._engine.violated(str(error))
            self.code = grpc.StatusCode.OK
        except OSError as error:
            self.code, self.details = grpc.StatusCode.UNAVAILABLE, error.strerror or str(error)
        else:
            self.code = grpc.StatusCode.OK
        self._ended()

    def _read(self) -> None:
        while self._read_some():
            while self._inbox.room is not None:
                if not self._read_big():
                    return
            if self._engine.has_company and not (self._lets_company_call() or self._is_answered_soon()):
                self._engine.dismiss_company()

    def _lets_company_call(self) -> bool:
        """Lets those run that were woken; whether all of them have called again."""
        for _ in range(_YIELDS):
            os.sched_yield()
            if not self._engine.has_company:
                return True
        return False

    def _is_answered_soon(self) -> bool:
        descriptor = self._socket.fileno()
        if descriptor < 0 or descriptor >= _FD_SETSIZE:  # more than `select` knows
            return False
        return bool(select.select((descriptor,), (), (), _COMPANY_SECONDS)[0])

    def close(self) -> None:
        """Lets go of the socket, when nothing more is read."""
        self.cancel()


class ServerSocket(MessageSocket):
    """The end of who was connected to. The threads of a watch read, and run what is quick."""

    def __init__(self, end: socket.socket, engine: Connection, leading: Leading, watch: Watch) -> None:
        super().__init__(end, engine)
        self._leading = leading
        self._watch = watch
        self._descriptor = end.fileno()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIME.pack(0, int(_ARRIVAL_SECONDS / 2 * 1e6)))
        self.on_closed: Callable[[], None] = _nothing
        """Called once as the socket is closed. Must not wait."""

    def begin(self) -> None:
        """Takes in what arrives from now on."""
        self._watch.add(self._descriptor, READABLE, self._ready)

    def _ready(self) -> None:
        """Takes in what has arrived. The thread stays for more where calls come faster than they are carried out."""
        leave = time.monotonic() + _STAY_SECONDS
        while self._take_in_and_lead():
            if time.monotonic() > leave:  # others have their turn
                self._arm()
                return

    def _take_in_and_lead(self) -> bool:
        """Whether this thread is to come back, because no other reads meanwhile."""
        leading = self._leading
        leading.collect()
        try:
            goes_on = self._take_in()
        except BlockingIOError:
            goes_on = True
        except OSError:
            goes_on = False
        except ProtocolError as error:
            self._engine.violated(str(error))
            goes_on = False
        if goes_on:
            return leading.lead(self._arm)
        self._engine.transport_ended(f"{self._engine.peer_name} is gone")
        self._ended()
        return leading.lead()

    def _arm(self) -> None:
        self._watch.arm(self._descriptor, READABLE)

    def _take_in(self) -> bool:
        """Whether there may be more to come."""
        if self._inbox.room is None and not self._read_some(_NOW):
            return False
        give_up = 0.0
        while self._inbox.room is not None and not (give_up and time.monotonic() > give_up):
            give_up = give_up or time.monotonic() + _ARRIVAL_SECONDS
            if not self._read_big():  # waits, but not for long
                return False
        return True

    def _let_go(self) -> None:
        self._watch.remove(self._descriptor)
        super()._let_go()
        self.on_closed()


def _nothing() -> None: ...


class _Room:
    """Sockets whose other side has left so much lying that there is no room for more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watch: Watch | None = None

    def wait_for(self, descriptor: int, go_on: Callable[[], None]) -> None:
        """Calls the function when there is room. The lock of the socket is held."""
        with self._lock:
            watch = self._watch = self._watch or Watch("broker-room", 1)
        watch.add(descriptor, WRITABLE, go_on)

    def forget(self, descriptor: int) -> None:
        """Before the descriptor is closed. The lock of the socket is held."""
        if self._watch is not None:
            self._watch.remove(descriptor)


_room = _Room()


def _without(pieces: Sequence[bytes | memoryview], count: int) -> Sequence[bytes | memoryview]:
    """What is left of a message after so many bytes."""
    for number, piece in enumerate(pieces):
        if count < len(piece):
            return (memoryview(piece)[count:], *pieces[number + 1 :])
        count -= len(piece)
    return ()


def _after_fork() -> None:
    _room.__init__()  # type: ignore[misc]
    for end in list(_sockets):
        end.forget_after_fork()
    _sockets.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
