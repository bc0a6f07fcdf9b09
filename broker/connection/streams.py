"""The streams that answer calls of this side: which items go to whom."""

from __future__ import annotations

import weakref
from functools import partial

from broker._pb.broker_pb2 import Cancel, Credit, Frame
from broker.codecs import Encoded
from broker.connection.assemblies import Assemblies, inline_value
from broker.connection.calls import CallRequest, Outcome
from broker.connection.exports import Exports
from broker.connection.item_receiver import ItemReceiver, abandoned
from broker.connection.line import Line
from broker.connection.refusals import Refused
from broker.errors import ProtocolError


class Streams:
    """The open streams of one connection. Its state is guarded by the lock of the line.

    A stream is held by its consumer alone, so that collecting it cancels it. `on_…` are called by the thread that
    reads, and raise ProtocolError for what the other side must not send.
    """

    def __init__(self, line: Line, assemblies: Assemblies, exports: Exports) -> None:
        self._line = line
        self._assemblies = assemblies
        self._exports = exports
        self._open: dict[int, weakref.ref[ItemReceiver] | None] = {}  # None: nobody takes it, and its End is to come

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._open)

    def begin_locked(self, call_id: int, request: CallRequest | None) -> ItemReceiver | None:
        """A call is answered by a stream; without its request nobody takes that."""
        stream = ItemReceiver(self, self._line, call_id, request) if request is not None else None
        self._open[call_id] = weakref.ref(stream) if stream is not None else None
        abandoned.watch(self)
        return stream

    # ---- what arrives

    def on_item(self, frame: Frame) -> None:
        item = frame.item
        stream = self._of(frame)
        value = inline_value(item.value, self._exports)  # what it refers to is counted, whoever takes it
        if stream is None:
            return
        stream.count(item.count or 1)
        if self._assemblies.refusal(item.value, "an item takes") is not None:
            raise ProtocolError(f"an item of call {frame.id} arrived that is larger than this side takes")
        if item.value.sizes:
            done = partial(stream.on_items, count=item.count)
            self._assemblies.begin((frame.id, True), item.value, value.references, done)
        else:
            stream.on_items(value, item.count)

    def on_end(self, frame: Frame) -> None:
        end = frame.end
        stream = self._of(frame)
        value = inline_value(end.value, self._exports) if end.HasField("value") else None
        if end.HasField("failed"):
            self._end(frame.id, stream, Outcome(refused=Refused.from_wire(end.failed), may_have_run=True))
        elif stream is None or value is None or not end.value.sizes:
            self._end(frame.id, stream, Outcome(value, end.raised))
        elif self._assemblies.refusal(end.value, "the end of a stream takes") is not None:
            raise ProtocolError(f"the end of call {frame.id} arrived, larger than this side takes")
        else:

            def done(value: Encoded) -> None:
                self._end(frame.id, stream, Outcome(value, end.raised))

            self._assemblies.begin((frame.id, True), end.value, value.references, done)

    def _of(self, frame: Frame) -> ItemReceiver | None:
        """The stream that a frame is about; None if nobody takes it any more."""
        abandoned.drain()
        if frame.id not in self._open or not frame.reply or self._assemblies.has((frame.id, True)):
            raise ProtocolError(f"a part of a stream arrived for call {frame.id}, which is no open stream")
        held = self._open[frame.id]
        return held() if held is not None else None

    def _end(self, call_id: int, stream: ItemReceiver | None, outcome: Outcome) -> None:
        with self._line:
            self._open.pop(call_id, None)
        if stream is not None:
            stream.on_end(outcome)

    # ---- what its consumers want

    def grant(self, call_id: int, credit: Credit) -> None:
        """Tells the producer of a stream how far it may go on."""
        with self._line:
            if call_id in self._open:
                self._line.put_locked(Frame(id=call_id, credit=credit))

    def cancel(self, call_id: int, reason: str) -> None:
        """Tells the producer of a stream that nobody wants its items; its End is still to come."""
        with self._line:
            if self._open.get(call_id) is None:
                return
            self._open[call_id] = None
            self._assemblies.drop_locked((call_id, True))  # chunks that are on their way are passed over
            self._line.put_locked(Frame(id=call_id, cancel=Cancel(reason=reason)))

    # ---- the end

    def end_locked(self) -> list[ItemReceiver]:
        """Forgets all streams, and returns them to be ended."""
        held = [reference() for reference in self._open.values() if reference is not None]
        self._open.clear()
        return [stream for stream in held if stream is not None]
