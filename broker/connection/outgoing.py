"""The calls that this side makes: parked until there is credit, sent, cancelled, answered or lost.

- Call credit: a call spends one as it is sent, and gets it back when it starts at the other side. Without credit it is
  parked here. Nested calls that somebody waits for spend none: they never queue.
- What was never taken by the transport, or numbered above GoAway.last_call, or refused as draining, was surely not
  executed. Anything else that is lost may have been.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import partial

from broker._pb.broker_pb2 import Cancel, Frame, Result
from broker.codecs import Encoded, plain_values
from broker.connection.assemblies import Assemblies, inline_value
from broker.connection.calls import NO_METADATA, CallRequest, MadeCall, Outcome, PendingCall, metadata_from_wire
from broker.connection.chains import Job
from broker.connection.exports import Exports
from broker.connection.line import Line
from broker.connection.outbox import is_inline
from broker.connection.reading import ResultFrame
from broker.connection.refusals import Reason, Refused
from broker.connection.streams import Streams
from broker.connection.workers import run_all, run_nested_late
from broker.errors import ProtocolError

_TOGETHER = 64
"""Frames that go out at the latest together, while the other side could already work."""
_LONGEST = 4096  # bytes of a result that is read with others
_BURST = 0.0002
"""Seconds between two calls of one burst: calls that nobody waits for go out together where they follow closely."""


class Outgoing:
    """The calls of this side on one connection. Its state is guarded by the lock of the line.

    `on_…` are called by the thread that reads, and raise ProtocolError for what the other side must not send.
    """

    def __init__(self, line: Line, assemblies: Assemblies, exports: Exports) -> None:
        self.draining_because: str | None = None
        self.losing = threading.RLock()
        """Held from when calls are lost until all of them know; taken before the lock of the line. Nothing is sent
        under it: the other side may take that in on this thread, and lose its own."""
        self.exports = exports
        self._line = line
        self._assemblies = assemblies
        self._parked: deque[MadeCall] = deque()
        self._pending: dict[int, MadeCall] = {}  # those that have a number and no answer yet
        self.streams = Streams(line, assemblies, exports)
        self._last_id = 0
        self._last_unawaited = 0.0  # when the last call was made that nobody waits for
        self.company = 0
        """Threads that were woken together and have not called again: the next calls of all of them go out together."""
        self._granted = 0  # what the other side gave at first
        self._credit = 0  # what is left of it
        self._longest = min(line.settings.max_message_size, _LONGEST)
        line.admit_locked = self._admit_locked

    @property
    def busy(self) -> bool:
        """Whether calls are under way."""
        return bool(self._pending or self._parked or self.streams)

    def unanswered(self) -> int:
        """How many calls were made and have no outcome yet; without the lock, so it may just have changed."""
        return len(self._pending) + len(self._parked)

    @property
    def made(self) -> int:
        """How many calls were made so far."""
        return self._last_id

    def _closed_because(self, call: MadeCall) -> str | None:
        """Why a call can be made no more, if so."""
        if call.is_nested and self._line.takes_nested:
            return None
        reason = self._line.ended_because or self.draining_because
        if reason is None and self._line.closing:
            reason = f"the connection to {self._line.peer_name} is closed"
        return reason

    def has_made(self, call_id: int) -> bool:
        """Whether the number was ever given to a call."""
        return 0 < call_id <= self._last_id

    # ---- out

    def call(self, request: CallRequest) -> PendingCall:
        """See `Connection.call`."""
        self._line.check_size(request.arguments, "the arguments take")
        if request.arguments.references:
            self.exports.check(request.arguments.references)
        pending = PendingCall(self, request)
        if pending.waiter is not None and not request.oneway:
            pending.waiter.register()
        self.send(pending)
        return pending

    def send(self, pending: MadeCall) -> None:
        """Sends a call, or queues it; its outcome may already be there."""
        if not (pending.is_small and self._send_small(pending)):
            self._queue(pending)
            self._sent_unawaited(pending)

    def _send_small(self, pending: MadeCall) -> bool:
        """Sends a call that need not be parked: at once, or with what comes next where that is sure to."""
        line = self._line
        with line.lock:
            if pending.is_nested:
                credit = 0
                free = line.takes_nested and line.peer is not None
            else:
                credit = 1
                free = line.takes_calls and self._credit > 0 and not self._parked
            if not free:
                return False
            if pending.waiter is None:  # to send a call takes longer than to make the next
                before, self._last_unawaited = self._last_unawaited, time.perf_counter()
                in_burst = self._last_unawaited - before < _BURST
            else:  # the last of the company sends, or the thread that reads if they do not all call again soon
                in_burst = self.company > 1
                self.company = self.company - 1 if in_burst else 0
            in_burst = in_burst and len(line.outbox.frames) < _TOGETHER
            transport = line.seize_locked(pending.cost) if not in_burst else None
            self._credit -= credit
            call_id = self._last_id = pending.id = self._last_id + 1
            self._pending[call_id] = pending
            message = pending.to_bytes() if transport is not None else None
            if transport is None:
                line.send_locked(pending, None)
        if transport is None:
            if not in_burst:
                line.push()
                self._sent_unawaited(pending)
            elif not line.pushes_soon and (pending.waiter is None or not line.reader_pushes):
                line.push_soon()
        elif message is not None:
            line.send_small(transport, message)
        return True

    def _sent_unawaited(self, pending: MadeCall) -> None:
        """If nobody waits for it: to send has taken its time, and the burst goes on behind it."""
        if pending.waiter is None:
            self._last_unawaited = time.perf_counter()

    def dismiss_company(self) -> None:
        """The calls that are there go out without those of the others."""
        with self._line:
            self.company = 0

    def _queue(self, pending: MadeCall) -> None:
        with self._line:
            reason = self._closed_because(pending)
            if reason is None:
                if pending.is_nested and self._line.peer is not None:
                    self._send_locked(pending)
                else:
                    self._parked.append(pending)
                    self._admit_locked()
        if reason is not None:
            pending.finish(Outcome(lost=reason))

    def _send_locked(self, pending: MadeCall) -> None:
        self._last_id += 1
        pending.id = self._last_id
        if not pending.oneway:
            self._pending[pending.id] = pending
        self._line.send_locked(pending, self._line.outbox.transfer(pending.id, False, pending.arguments))
        if pending.oneway:
            pending.finish(Outcome())

    def _admit_locked(self) -> None:
        """Moves parked calls to the line as far as credit and room allow.

        Who waits for a call holds its arguments anyway, and small calls are not to wait for big ones; but big values
        that nobody waits for must not pile up.
        """
        while self._parked and self._line.peer is not None:
            call = self._parked[0]
            if not call.is_nested and self._credit <= 0:
                return
            if call.oneway and self._line.congested and not is_inline(call.arguments):
                return
            self._credit -= not call.is_nested
            self._send_locked(self._parked.popleft())

    def introduced_locked(self, credit: int) -> None:
        """The other side has said how many calls it takes: those that were parked may go, nested ones first."""
        self._credit = self._granted = credit
        self._parked = deque(sorted(self._parked, key=lambda call: not call.is_nested))
        self._admit_locked()

    def grant_locked(self, calls: int) -> None:
        """Call credit came back."""
        self._credit += calls
        if self._credit > self._granted:
            raise ProtocolError("more call credit came back than was spent")
        self._admit_locked()

    # ---- given up

    def cancel(self, pending: MadeCall, reason: str) -> None:
        """Gives a call up: it is not sent if it was not, else the other side is told. Its answer is dropped."""
        with self._line:
            if pending.outcome is None and not pending.abandoned:
                self._cancel_locked(pending, reason)
            runnable = self._line.use_room_locked()
        if pending.waiter is not None:
            pending.waiter.leave(run_nested_late)
        run_all(runnable)

    def _cancel_locked(self, pending: MadeCall, reason: str) -> None:
        pending.abandoned = True
        if not pending.id:
            if pending in self._parked:  # else it was just lost
                self._parked.remove(pending)
        elif self._pending.get(pending.id) is not pending:
            return  # it was just answered or lost
        elif not pending.taken:
            del self._pending[pending.id]
            self._credit += not pending.is_nested
        else:
            self._line.outbox.drop(pending.id, False)
            if self._assemblies.drop_locked((pending.id, True)):
                del self._pending[pending.id]  # it is answered, and the rest of its result is not wanted
            self._line.put_locked(Frame(id=pending.id, cancel=Cancel(reason=reason)))

    # ---- answered

    def on_result(self, frame: Frame) -> None:
        result = frame.result
        wire = result.value
        value = Encoded(wire.codec, wire.payload)
        rare = wire.sizes or wire.buffers or wire.references or result.stream or result.HasField("failed")
        if rare or self._assemblies.is_too_large(value):
            self._on_rare_result(frame, result)
            return
        with self._line.lock:
            pending = self._answered_locked(frame)
            runnable = self._close_locked(pending)
        self._deliver(pending, result, value)
        if runnable:
            run_all(runnable)

    def on_plain_result(self, frame: ResultFrame) -> None:
        """Takes in a result that is nothing but its value."""
        call_id, payload = frame
        line = self._line
        if len(payload) > line.settings.max_message_size:
            self.on_result(frame.to_frame())
            return
        with line.lock:
            pending = self._pending.get(call_id)
            if pending is None or not pending.taken or self._assemblies.has((call_id, True)):
                raise _not_open(call_id)
            del self._pending[call_id]
            runnable = line.use_room_locked() if line.outbox.drop(call_id, False) else None
        if not pending.abandoned:  # else whoever gave it up says how it ended
            late = _too_late(pending) if pending.deadline is not None else None
            pending.finish(late or Outcome(Encoded("json", payload)))
        if runnable:
            run_all(runnable)

    def on_plain_results(self, frames: list[ResultFrame]) -> None:
        """Takes in results that arrived together and are nothing but their values."""
        if len(frames) == 1:
            self.on_plain_result(frames[0])
            return
        numbers, payloads = zip(*frames, strict=True)
        if self._assemblies.arriving or max(map(len, payloads)) > self._longest:
            for frame in frames:
                self.on_plain_result(frame)
            return
        answered: list[MadeCall] = []
        company, all_take_values = 0, True
        runnable: list[Job] = []
        outbox = self._line.outbox
        with self._line.lock:
            for call_id in numbers:
                pending = self._pending.pop(call_id, None)
                if pending is None or not pending.taken:
                    break
                answered.append(pending)
                company += pending.waiter is not None
                all_take_values = all_take_values and pending.takes_value
            if outbox.transfers:  # they may be answered before their arguments are there
                for call in answered:
                    outbox.drop(call.id, False)
                runnable = self._line.use_room_locked()
            self.company = company if company > 1 else 0
        _finish_all(answered, payloads, all_take_values)
        if runnable:
            run_all(runnable)
        if len(answered) < len(frames):
            raise _not_open(numbers[len(answered)])

    def _on_rare_result(self, frame: Frame, result: Result) -> None:
        if result.stream and not result.HasField("failed"):
            self._begin_stream(frame)
            return
        with self._line:
            pending = self._answered_locked(frame)
            refused = self._unwanted_locked(pending, result)
        if refused is not None:
            result.failed.CopyFrom(refused.to_wire())
        value = inline_value(result.value, self.exports)
        if result.value.sizes and not result.HasField("failed"):
            key = (frame.id, True)
            done = partial(self._finished, pending, result)
            self._assemblies.begin(key, result.value, value.references, done)
        else:
            self._finished(pending, result, value)

    def _answered_locked(self, frame: Frame) -> MadeCall:
        if not frame.reply:
            raise _not_open(frame.id)
        return self._open_locked(frame.id)

    def _open_locked(self, call_id: int) -> MadeCall:
        """The call that is answered."""
        pending = self._pending.get(call_id)
        if pending is None or not pending.taken or self._assemblies.has((call_id, True)):
            raise _not_open(call_id)
        return pending

    def _unwanted_locked(self, pending: MadeCall, result: Result) -> Refused | None:
        """Why the value of an answer is not taken in; tells the other side if its chunks are still to come."""
        if result.HasField("failed"):
            return None
        refused = self._assemblies.refusal(result.value, "the result takes")
        if result.value.sizes and pending.abandoned:  # the other side knows that it need not send the value
            return refused or Refused(Reason.CANCELLED, "the caller gave up")
        if result.value.sizes and refused is not None:
            self._line.put_locked(Frame(id=pending.id, cancel=Cancel(reason=refused.message)))
        return refused

    def _finished(self, pending: MadeCall, result: Result, value: Encoded) -> None:
        with self._line:
            runnable = self._close_locked(pending)
        self._deliver(pending, result, value)
        run_all(runnable)

    def _close_locked(self, pending: MadeCall) -> list[Job]:
        """The call is over. It may be answered before its arguments are there: then there is room now."""
        self._pending.pop(pending.id, None)
        return self._line.use_room_locked() if self._line.outbox.drop(pending.id, False) else []

    def _deliver(self, pending: MadeCall, result: Result, value: Encoded) -> None:
        kept = result.kept
        if kept and pending.request.on_kept is not None:
            pending.request.on_kept()
        if pending.abandoned:
            return  # whoever gave it up says how it ended
        late = _too_late(pending) if pending.deadline is not None else None
        if late is not None:
            pending.finish(late._replace(kept=kept))
        elif result.HasField("failed"):
            pending.finish(Outcome(refused=Refused.from_wire(result.failed), may_have_run=True, kept=kept))
        else:
            metadata = metadata_from_wire(result.metadata) if result.metadata else NO_METADATA
            pending.finish(Outcome(value, result.raised, kept=kept, metadata=metadata))

    def _begin_stream(self, frame: Frame) -> None:
        """From now on the call is a stream."""
        result = frame.result
        with self._line:
            pending = self._answered_locked(frame)
            runnable = self._close_locked(pending)
            stream = self.streams.begin_locked(frame.id, None if pending.abandoned else pending.request)
        if result.kept and pending.request.on_kept is not None:
            pending.request.on_kept()
        metadata = metadata_from_wire(result.metadata) if result.metadata else NO_METADATA
        pending.finish(Outcome(stream=stream, kept=result.kept, metadata=metadata))
        run_all(runnable)

    def on_refused(self, frame: Frame) -> None:
        with self._line:
            pending = self._answered_locked(frame)
            del self._pending[frame.id]
            self._line.outbox.drop(frame.id, False)
            runnable = self._line.use_room_locked()
        refused = Refused.from_wire(frame.refused)
        if refused.reason == Reason.DRAINING:
            pending.finish(Outcome(lost=refused.message))
        else:
            pending.finish(Outcome(refused=refused))
        run_all(runnable)

    # ---- lost

    def drain(self, reason: str, last_call: int, *, takes_nested: bool) -> None:
        """The other side takes no further call, and executes none above `last_call`; nested ones, it may be, still."""
        with self.losing:
            with self._line.lock:
                self.draining_because = reason
                self._line.takes_calls = False
                self._line.takes_nested = takes_nested = self._line.takes_nested and takes_nested
                beyond = [call for number, call in self._pending.items() if number > last_call]
                barred = {
                    id(call): call
                    for call in (*self._parked, *self._unsent_locked(), *beyond)
                    if not (takes_nested and call.is_nested)
                }
                self._parked = deque(call for call in self._parked if id(call) not in barred)
                for call in barred.values():
                    call.abandoned = call.abandoned or not call.taken
                    self._pending.pop(call.id, None)
                    self._assemblies.drop_locked((call.id, True))
                    self._line.outbox.drop(call.id, False)
                runnable = self._line.use_room_locked()
            for call in barred.values():
                call.finish(Outcome(lost=reason))
        self._line.push()
        run_all(runnable)

    def _unsent_locked(self) -> list[MadeCall]:
        return [item for item in self._line.outbox.unsent() if isinstance(item, MadeCall)]

    def end_locked(self) -> list[MadeCall]:
        """Forgets all calls, and returns them to be finished. Before the line ends, which drops what it holds."""
        calls = [*self._parked, *self._unsent_locked(), *self._pending.values()]
        self._parked.clear()
        self._pending.clear()
        return calls


def _finish_all(answered: list[MadeCall], payloads: Sequence[bytes], take_values: bool) -> None:
    """Gives calls their results, which come first, read in one go where that can be done. Whoever gave a call up says
    how it ended."""
    values = plain_values(payloads) if take_values else None
    if values is not None:
        for call, value in zip(answered, values):  # noqa: B905 - an answer to no call ends the connection afterwards
            if not call.abandoned:
                call.finish_with(value)
        return
    for call, payload in zip(answered, payloads):  # noqa: B905
        if not call.abandoned:
            late = _too_late(call) if call.deadline is not None else None
            call.finish(late or Outcome(Encoded("json", payload)))


def _too_late(call: MadeCall) -> Outcome | None:
    """The outcome of a call that is answered after its deadline.

    Its caller has just given up, or is about to; and a method that was told so may have returned what it had.
    """
    if call.deadline is None or time.monotonic() < call.deadline:
        return None
    refused = Refused(
        Reason.DEADLINE_EXCEEDED, f"{call.request.member!r} of {call.request.object!r} took longer than its time"
    )
    return Outcome(refused=refused, may_have_run=True)


def _not_open(call_id: int) -> ProtocolError:
    return ProtocolError(f"an answer to call {call_id} arrived, which is not open")
