"""The exported objects that passed a connection: those that this side gave away, and those that it holds.

Both sides count. Whoever gives a reference counts each time that it is written into a frame, and whoever gets one
counts each time that it arrives. When nothing holds it any more at the side that got it, a Release says how often it
had arrived, and so much is taken off: what is left has crossed the Release on its way, and keeps the object there. At
zero, or as the connection ends, the entry goes on both sides.

Nothing has to be decoded for this: a value that is never read is counted as it arrives, and released as it is dropped.
"""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from broker._pb.broker_pb2 import Frame, Release
from broker._pb.broker_pb2 import Reference as WireReference
from broker.codecs import MAX_REFERENCES, Reference
from broker.connection.introduction import EXPORTS
from broker.connection.line import Line
from broker.connection.refusals import Reason, Refused
from broker.connection.timers import timers
from broker.connection.workers import run_aside
from broker.errors import CodecError, Overloaded, ProtocolError

if TYPE_CHECKING:
    from broker.connection.client import Route
    from broker.connection.engine import Connection

EXPORTS_LIMIT = "max_exports_per_connection"
_MOST_DESCRIPTIONS = 256
SWEEP_SECONDS = 0.2
"""How long a reference that nobody holds any more may go without a Release while nothing else happens."""


class Latest(dict[str, Any]):
    """The entries that were made last. Any thread may make one."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self:
            for oldest in list(self)[: max(0, len(self) - self._most + 1)]:
                self.pop(oldest, None)
        super().__setitem__(key, value)


class Exported(Reference):
    """An object that this process exports: what a connection knows of it."""

    __slots__ = ()

    returned = False
    stream = False


class Held(Reference):
    """An object that the other side exports. All proxies to it that came over one connection share this one."""

    __slots__ = ("connection", "iterator", "number", "route", "stream")

    returned = True

    def __init__(self, connection: Connection, number: int, stream: bool) -> None:
        self.connection = connection
        self.number = number
        self.stream = stream
        self.iterator: weakref.ref[Any] | None = None
        """What iterates over it, if it is an iterator: one for all values that it arrives in. They put it here."""
        self.route: Route | None = None
        """What its proxies call over, and know of it. They put it here."""

    def __repr__(self) -> str:
        return f"<export {self.number} of {self.connection.peer_name}>"


class Unknown(Reference):
    """What arrived as an object of this process, and was never passed on this connection."""

    __slots__ = ("number",)

    returned = False
    stream = False

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"export {self.number}, which was never passed on this connection"


class _Given:
    """How often an exported object was written into frames, less what was released."""

    __slots__ = ("count", "exported")

    def __init__(self, exported: Exported) -> None:
        self.exported = exported
        self.count = 0


class _Arrived:
    """How often a number arrived, and who holds it."""

    __slots__ = ("count", "held")

    def __init__(self, held: Held, count: int, unheld: deque[int]) -> None:
        self.count = count
        number, note = held.number, unheld.append
        # Objects die anywhere, with any lock held: once nobody holds it the number is noted, and nothing else done.
        self.held = weakref.ref(held, lambda _: note(number))


class Exports:
    """The exported objects of both sides that passed one connection. Its state is guarded by the lock of the line.

    Every method may be called from any thread, those in `_locked` with the lock held.
    """

    def __init__(self, connection: Connection, line: Line) -> None:
        self._connection = connection
        self._line = line
        self._given: dict[int, _Given] = {}
        self._arrived: dict[int, _Arrived] = {}
        self._unheld: deque[int] = deque()  # numbers that lost their last holder; appended to without the lock
        self.descriptions: dict[str, Any] = Latest(_MOST_DESCRIPTIONS)
        """What the other side said about its objects: one that is passed again, as it is with every call of many
        programs, has the number that it had."""
        self.token = uuid.uuid4().hex
        """Names the connection, within this process, in the URIs of what came over it."""

    @property
    def given(self) -> int:
        """How many objects of this side the other side holds."""
        return len(self._given)

    @property
    def held(self) -> int:
        """How many objects of the other side are held here."""
        return len(self._arrived)

    # ---- given

    def check(self, references: Iterable[Reference]) -> None:
        """Raises CodecError if one of them cannot be passed over this connection, and Overloaded for one too many."""
        peer = self._line.peer
        if peer is not None and EXPORTS not in peer.features:
            raise CodecError(f"{self._line.peer_name} has an older version of objectbroker, which takes no exports")
        for reference in references:
            if isinstance(reference, Held) and reference.connection is not self._connection:
                raise CodecError(
                    f"the object {reference.number} that {reference.connection.peer_name} exports can be passed back "
                    f"to it alone, and not on to {self._line.peer_name}: it has no address of its own. "
                    "Where it shall be passed on, register it with a daemon there instead of exporting it"
                )
        most = self._line.settings.max_exports
        if len(self._given) >= most and any(reference.number not in self._given for reference in references):
            raise Overloaded(
                f"{self._line.peer_name} holds {len(self._given)} exported objects of this process, and gets no more "
                f"({EXPORTS_LIMIT}): it has to let go of some"
            )

    def give_locked(self, references: Iterable[Reference]) -> None:
        """They are written into a frame."""
        for reference in references:
            if isinstance(reference, Exported):
                given = self._given.get(reference.number)
                if given is None:
                    given = self._given[reference.number] = _Given(reference)
                given.count += 1

    def find(self, number: int) -> Exported | None:
        """The object of this side that has the number, if the other side holds it."""
        given = self._given.get(number)
        return given.exported if given is not None else None

    def on_release(self, frame: Frame) -> None:
        """The other side gives references up. Raises ProtocolError for what it cannot have."""
        number, count = frame.id, frame.release.count
        with self._line:
            given = self._given.get(number)
            if given is None or not 0 < count <= given.count:
                has = given.count if given is not None else 0
                raise ProtocolError(f"{count} references to export {number} were released, and {has} were given")
            given.count -= count
            dropped = [] if given.count else [self._given.pop(number)]
            del given
        if dropped:
            _drop_aside(dropped)

    # ---- held

    def receive(self, references: Iterable[WireReference]) -> tuple[Reference, ...]:
        """Counts what a value that arrived refers to. Raises ProtocolError for too many."""
        arrived = tuple(references)
        if len(arrived) > MAX_REFERENCES:
            raise ProtocolError(f"a value with {len(arrived)} references arrived; {MAX_REFERENCES} is the limit")
        self.release_unheld()
        with self._line:
            received = tuple(map(self._receive_locked, arrived))
        sweeper.watch(self)
        return received

    def _receive_locked(self, reference: WireReference) -> Reference:
        number = reference.number
        if reference.returned:
            return self.find(number) or Unknown(number)
        arrived = self._arrived.get(number)
        held = arrived.held() if arrived is not None else None
        if arrived is not None and held is not None:
            arrived.count += 1
            return held
        held = Held(self._connection, number, reference.stream)
        count = arrived.count if arrived is not None else 0  # not released yet
        self._arrived[number] = _Arrived(held, count + 1, self._unheld)
        return held

    def refusal(self) -> Refused | None:
        """Why a call that brought references is not carried out: they are given back as it is dropped."""
        most, held = self._line.settings.max_exports, len(self._arrived)
        if held <= most:
            return None
        what = f"the call passes more exported objects than are held here over one connection, which are {most} "
        return Refused(Reason.OVERLOADED, f"{what}({EXPORTS_LIMIT}): pass one object with methods", EXPORTS_LIMIT)

    def release_unheld(self) -> None:
        """Gives back what nobody holds any more."""
        if not self._unheld:
            return
        with self._line:
            while self._unheld:
                number = self._unheld.popleft()
                arrived = self._arrived.get(number)
                if arrived is None or arrived.held() is not None:
                    continue  # it has arrived again meanwhile
                del self._arrived[number]
                if self._line.ended_because is None and not self._line.closing:
                    self._line.put_locked(Frame(id=number, release=Release(count=arrived.count)))

    # ---- the end

    def end_locked(self) -> None:
        """Forgets all: what was given is let go of, what is held leads nowhere."""
        given = list(self._given.values())
        self._given.clear()
        self._arrived.clear()
        self._unheld.clear()
        if given:
            _drop_aside(given)


def _drop_aside(given: list[_Given]) -> None:
    """Lets go of objects where their finalizers may run: neither under a lock nor in a thread that reads."""
    run_aside(given.clear)


class _Sweeper:
    """Gives back what nobody holds any more on connections on which nothing else happens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held for no longer than it takes to look
        self._watched: set[Exports] = set()
        self._sweeping = False

    def watch(self, exports: Exports) -> None:
        """Looks after these as long as something is held there."""
        with self._lock:
            self._watched.add(exports)
            if self._sweeping:
                return
            self._sweeping = True
        timers.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        with self._lock:
            watched = list(self._watched)
        for exports in watched:
            exports.release_unheld()
        with self._lock:
            self._watched = {exports for exports in self._watched if exports.held}
            self._sweeping = bool(self._watched)
            if not self._sweeping:
                return
        timers.call_later(SWEEP_SECONDS, self._sweep)

    def forget_after_fork(self) -> None:
        """In a child process: the connections are not there, nor the timers."""
        self._lock = threading.Lock()
        self._watched = set()
        self._sweeping = False


sweeper = _Sweeper()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=sweeper.forget_after_fork)
