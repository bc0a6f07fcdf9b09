"""Plain calls of one member that arrived together: what they have in common is looked at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from broker._pb.broker_pb2 import Call
from broker.codecs import Encoded
from broker.connection.calls import IncomingCall
from broker.connection.reading import CallFrame

if TYPE_CHECKING:
    from broker.connection.engine import Connection
    from broker.connection.incoming import Incoming


class CallGroup:
    """Calls that arrived together, of one member, session and lane. Any thread may use it.

    Whoever carries them out takes one after the other, and answers many at once. A call that needs more than that (it
    is given up, or what it returns is not plain) becomes a call of its own, as it would have been had it come alone.
    What was given up is guarded by the lock of the line.
    """

    is_nested = oneway = False
    items = None

    def __init__(self, incoming: Incoming, frames: list[CallFrame]) -> None:
        self.head: Call = frames[0].head
        self.size = len(frames)
        self.connection: Connection = incoming.connection
        self.numbers, _, _, self.payloads = zip(*frames, strict=True)
        """The numbers, and the arguments, of all of them, in order."""
        self.on_cancel: Callable[[str], None] = lambda reason: None
        """Called when some of the calls are given up: by any thread, without the lock; it must not wait."""
        self._incoming = incoming
        self.frames = deque(frames)
        """Those that were not taken. Each is taken once, by who pops it."""
        self._first = frames[0]
        self.some_are_given_up = False
        self._given_up: dict[int, str] = {}
        self._all_given_up: str | None = None

    def representative(self) -> IncomingCall:
        """A call like all of them, to look at."""
        frame = self._first
        return IncomingCall(self._incoming, frame.id, frame.head, Encoded("json", frame.payload), frame.chain)

    def _take(self) -> CallFrame | None:
        try:
            return self.frames.popleft()
        except IndexError:
            return None

    def single(self, frame: CallFrame) -> IncomingCall:
        """The call by itself; given up if it was."""
        call = IncomingCall(self._incoming, frame.id, frame.head, Encoded("json", frame.payload), frame.chain)
        reason = self._incoming.replace(self, call)
        if reason is not None:
            call.cancel(reason)
        return call

    def split(self) -> CallGroup | None:
        """A group of those that were not taken; None if there are none."""
        frames: list[CallFrame] = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        if not frames:
            return None
        group = CallGroup(self._incoming, frames)
        self._incoming.regroup(self, group, [frame.id for frame in frames])
        return group

    def take_over_locked(self, other: CallGroup) -> None:
        """What was given up of another group, of which this is a part."""
        self._given_up, self._all_given_up = other._given_up, other._all_given_up
        self.some_are_given_up = other.some_are_given_up

    def singles(self) -> Iterator[IncomingCall]:
        """All that were not taken, each by itself."""
        while (frame := self._take()) is not None:
            yield self.single(frame)

    def answer(self, results: list[tuple[int, bytes]]) -> None:
        """Answers calls that were taken, by number, with values in json."""
        self._incoming.reply_plain(results)

    # ---- given up

    def why_given_up(self, call_id: int) -> str | None:
        """Why a call was given up, if so."""
        return self._given_up.get(call_id, self._all_given_up)

    def give_up_locked(self, call_id: int, reason: str) -> Callable[[str], None]:
        """The caller gave a call up; the function is to be called without the lock."""
        self._given_up.setdefault(call_id, reason)
        self.some_are_given_up = True
        return self.on_cancel

    def cancel(self, reason: str) -> None:
        """The caller is lost, or has left: all calls are given up."""
        if self._all_given_up is None:
            self._all_given_up = reason
            self.some_are_given_up = True
            self.on_cancel(reason)
