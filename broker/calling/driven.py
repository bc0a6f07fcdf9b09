"""Calls that no thread waits for: sent by the thread that makes them, or aside where that would have to wait.

Whatever ends such a call (its answer, its time, whoever gave it up) ends it once.
"""

from __future__ import annotations

import os
import threading
from typing import TypeVar

from broker.calling.departures import made_calls
from broker.calling.invocation import Invocation
from broker.codecs import Encoded
from broker.connection import chains
from broker.connection.calls import Outcome, PendingCall
from broker.connection.client import Route
from broker.connection.timers import Timer, timers
from broker.context import CallContext
from broker.errors import CodecError, MessageTooLargeError
from broker.uri import URI

T = TypeVar("T")

# Guards what is set once in a call, for moments: one for all calls. Reentrant, because what a signal or the garbage
# collector runs in between may end calls too. `__dict__.setdefault` needs no lock and was here before, but CPython 3.11
# crashes where two threads ask for the `__dict__` of one object, and the garbage is collected in between.
settling = threading.RLock()  # a child process gets another one
_LARGE = 4096  # bytes of arguments; fewer are let go of with the call itself


class DrivenCall(Invocation):
    """A call that is driven by what happens to it. Any thread may do that to it.

    `completed` is called once when it is over, often by the thread that reads: it must neither wait nor run code of
    users.
    """

    needs_description = False
    """Whether it cannot be sent before the description of the object is there."""
    made = 0
    ending: Outcome | BaseException | None = None
    """What ended the call; None while it is under way."""

    _pending: PendingCall | None = None
    _connection: Route | None = None
    _timer: Timer | None = None
    _belongs_to: CallContext | None = None
    _expected = False

    def completed(self) -> None:
        """The call is over."""
        raise NotImplementedError

    def start(self, place: tuple[URI, Route] | None) -> None:
        """Sends the call: at once if there is a connection (what `open_place` gave just now), else aside.

        Raises CodecError and MessageTooLargeError.
        """
        request = self.request
        request.on_outcome = self._answered
        self.made = next(made_calls)
        chains.expect(request.chain, alone=request.depth == 1)
        self._expected = True
        if request.deadline is not None:
            self._timer = timers.call_at(request.deadline, self._expired)
        if request.depth > 1:
            self._belongs_to = CallContext.active()
            if self._belongs_to is not None:
                self._belongs_to.watch(self._caller_gave_up)
                if self.ending is not None:
                    return
        if place is None or self.needs_description or self.remote.departures:
            self.remote.put_aside(self)
            return
        try:
            self._send(*place)
        except (CodecError, MessageTooLargeError) as error:
            self._end(error)
            raise
        except Exception as error:
            self._end(error)

    def give_up(self, reason: str, ending: Outcome | BaseException) -> bool:
        """Ends the call, here and there. False if it is over."""
        if not self._end(ending):
            return False
        self._withdraw(reason)
        if self._connection is not None:
            self._connection.room.answered()
        return True

    def _withdraw(self, reason: str) -> None:
        """Tells the other side that the call is given up, if it was sent."""
        if self._pending is not None:
            self._pending.cancel(reason)

    # ---- what happens to it

    @property
    def latest(self) -> float | None:
        return self.request.deadline

    def describe(self) -> None:
        context = self._belongs_to
        if context is not None:
            context.run(self.remote.describe)

    def depart(self, uri: URI, connection: Route) -> None:
        if self.ending is not None:
            return
        try:
            self._send(uri, connection)
        except Exception as error:
            self._end(self.in_full(error))

    def stay(self, error: Exception) -> None:
        if self.ending is None and self.is_to_be_tried_again(error):
            self._repeat()
        else:
            self._end(self.in_full(error))

    def _send(self, uri: URI, connection: Route) -> None:
        self._connection = connection
        pending = self._pending = self.send(uri, connection)
        if self.ending is not None and pending.outcome is None:
            pending.cancel("the call was given up")  # while it was being sent

    def _answered(self, outcome: Outcome) -> None:
        if outcome.value is None and self.ending is None and self.is_to_be_repeated(outcome):
            self._repeat()
        else:
            self._end(outcome)
        if self._connection is not None:
            self._connection.room.answered()

    def _repeat(self) -> None:
        pause = self.pause()
        if pause:
            timers.call_later(pause, lambda: self.remote.put_aside(self))
        else:
            self.remote.put_aside(self)

    def _expired(self) -> None:
        self.give_up("the time of the call is over", self.too_late(self._pending))

    def _caller_gave_up(self) -> None:
        if self._belongs_to is not None:
            self._belongs_to.knows = True
        if not self.is_too_late():
            self.give_up("the call that it belongs to was cancelled", self.given_up(self._pending))

    def _settle(self, ending: Outcome | BaseException) -> bool:
        """Says what ended the call; False if something else did."""
        with settling:
            if self.ending is not None:
                return False
            self.ending = ending
            return True

    def _set_once(self, name: str, value: T) -> T:
        """Sets an attribute if it is None; returns what it is then."""
        with settling:
            known: T | None = getattr(self, name)
            if known is None:
                setattr(self, name, value)
                return value
            return known

    def _end(self, ending: Outcome | BaseException) -> bool:
        """False if something else ended the call."""
        if not self._settle(ending):
            return False
        request = self.request
        if self._expected:
            chains.no_longer_expect(request.chain, alone=request.depth == 1)
        if self._timer is not None:
            self._timer.cancel()
        if self._belongs_to is not None:
            self._belongs_to.unwatch(self._caller_gave_up)
        if isinstance(ending, Outcome):
            request.on_outcome = None  # no cycle: what holds a stream is to go with its last holder
            arguments = request.arguments
            if arguments.buffers or len(arguments.payload) > _LARGE:
                request.arguments = Encoded(arguments.codec, b"")
        self.completed()
        return True


def _after_fork() -> None:
    global settling
    settling = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
