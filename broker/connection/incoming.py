"""The calls that the other side makes: taken under credit, handed on, cancelled, answered.

- Call credit goes back as a call starts. Nested calls spend none; they are bounded by their number alone.
- Every two-way call gets exactly one Result or Refused, cancelled or not; a GoAway answers those that came after it,
  but for nested ones where it says that they are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from operator import ge
from typing import TYPE_CHECKING

from broker._pb.broker_pb2 import Call, Credit, Frame, GoAway, Result
from broker.codecs import Encoded
from broker.connection.assemblies import Assemblies, inline_value
from broker.connection.calls import IncomingCall, check_chain
from broker.connection.chains import Job
from broker.connection.exports import Exports
from broker.connection.frames import INLINE_LIMIT, encode_frame
from broker.connection.groups import CallGroup
from broker.connection.introduction import DRAINING
from broker.connection.item_sender import ItemSender
from broker.connection.leading import hold
from broker.connection.line import Line, Transport
from broker.connection.outbox import FRAME_COST, ReadyFrame, is_inline, snapshot
from broker.connection.reading import CallFrame
from broker.connection.refusals import Reason, Refused
from broker.connection.workers import run_all
from broker.connection.writing import write_plain_result, write_result_frame
from broker.errors import ProtocolError

if TYPE_CHECKING:
    from broker.connection.engine import Connection, Handler

_new = tuple.__new__  # takes a third of the time that the class takes
_SMALL = 4096  # bytes of arguments; and the least that a side may take as a value
MAX_NESTED = 4_096
"""Nested calls of one connection under way, which spend no credit; beyond it they are refused."""


class Incoming:
    """The calls of the other side on one connection. Its state is guarded by the lock of the line.

    `on_…` are called by the thread that reads, and raise ProtocolError for what the other side must not send.
    """

    def __init__(
        self,
        connection: Connection,
        line: Line,
        assemblies: Assemblies,
        exports: Exports,
        handler: Handler,
    ) -> None:
        self.connection = connection
        self._line = line
        self._assemblies = assemblies
        self._exports = exports
        self._hand_on = handler.incoming
        self._hand_on_group = handler.incoming_group
        self._turned_away = handler.turned_away
        self._calls: dict[int, IncomingCall | CallGroup] = {}
        self._highest = 0
        self._unstarted = 0  # calls that spent credit and have not started
        self._credit_to_return = 0
        self._credit_step = max(1, line.settings.call_credit // 2)
        self._nested = 0
        self._last_call: int | None = None  # what we said in a GoAway
        self._takes_nested = False  # and whether we said that nested calls are taken all the same
        self._ending_because: str | None = None  # the other side has left in order, and oneway calls of its are left

    @property
    def busy(self) -> bool:
        """Whether calls are under way."""
        return bool(self._calls)

    @property
    def to_answer(self) -> int:
        """How many calls are under way, without nested ones."""
        return len(self._calls) - self._nested

    @property
    def highest(self) -> int:
        """The number of the last call that arrived."""
        return self._highest

    def has_got(self, call_id: int) -> bool:
        """Whether the number was ever given to a call."""
        return 0 < call_id <= self._highest

    # ---- in

    def on_call(self, frame: Frame) -> None:
        if frame.reply:
            raise ProtocolError(f"call {frame.id} is marked as an answer")
        _check_rises(frame.id, self._highest)
        call = frame.call
        check_chain(call)
        arguments = inline_value(call.arguments, self._exports)
        incoming = IncomingCall(self, frame.id, call, arguments)
        with self._line.lock:
            if not self._admit_locked(frame.id, 0 if call.nested else 1):
                return
            self._nested += call.nested
            self._calls[frame.id] = incoming
        refused = self._refusal(call, arguments)
        if refused is not None:
            self._turn_away(incoming, refused)
        elif call.arguments.sizes:
            key = (frame.id, False)
            done = partial(self._arrived, incoming)
            self._assemblies.begin(key, call.arguments, arguments.references, done)
        else:
            self._hand_on(incoming)

    def on_plain_calls(self, frames: list[CallFrame]) -> None:
        """Takes in calls of one head, which are nothing but a member and arguments in json."""
        if len(frames) > 1:
            group = CallGroup(self, frames)
            if max(map(len, group.payloads)) <= _SMALL:
                if self._take_in(group):
                    self._hand_on_group(group)
                return
        for frame in frames:
            self.on_plain_call(frame)

    def on_plain_call(self, frame: CallFrame) -> None:
        """Takes in a call that is nothing but a member and arguments in json."""
        call_id, head, chain, payload = frame
        if len(payload) > self._line.settings.max_message_size:
            self.on_call(frame.to_frame())
            return
        if call_id <= self._highest:
            _check_rises(call_id, self._highest)
        arguments = _new(Encoded, ("json", payload, (), ()))
        call = IncomingCall(self, call_id, head, arguments, chain)
        with self._line.lock:
            if not self._admit_locked(call_id, 1):
                return
            self._calls[call_id] = call
        self._hand_on(call)

    def _take_in(self, group: CallGroup) -> bool:
        """False if the GoAway that we sent is the answer."""
        numbers = group.numbers
        if numbers[0] <= self._highest or any(map(ge, numbers, numbers[1:])):
            for before, number in pairwise((self._highest, *numbers)):
                _check_rises(number, before)
        with self._line.lock:
            if not self._admit_locked(numbers[-1], len(numbers)):
                return False
            self._calls.update(dict.fromkeys(numbers, group))
        return True

    def _admit_locked(self, highest: int, spent: int) -> bool:
        """Counts calls up to that number, which spent so much credit. False if a GoAway that we sent answers them."""
        self._highest = highest
        barred = self._last_call is not None and not (self._takes_nested and not spent)
        if self._line.ended_because is not None or barred:
            return False
        self._unstarted += spent
        if self._unstarted > self._line.settings.call_credit:
            raise ProtocolError(f"call {highest} arrived without credit")
        return True

    def replace(self, group: CallGroup, call: IncomingCall) -> str | None:
        """A call of a group is one by itself from now on; returns why it was given up, if it was."""
        with self._line.lock:
            if self._calls.get(call.id) is group:
                self._calls[call.id] = call
            return group.why_given_up(call.id)

    def _refusal(self, call: Call, arguments: Encoded) -> Refused | None:
        if self._nested > MAX_NESTED:
            return Refused(Reason.OVERLOADED, f"more than {MAX_NESTED} nested calls of one connection are under way")
        if arguments.references and (refused := self._exports.refusal()) is not None:
            return refused
        if call.arguments.sizes or self._assemblies.is_too_large(arguments):
            return self._assemblies.refusal(call.arguments, "the arguments take")
        return None

    def _turn_away(self, incoming: IncomingCall, refused: Refused) -> None:
        incoming.refuse(refused)
        self._turned_away(refused)

    def _arrived(self, incoming: IncomingCall, arguments: Encoded) -> None:
        incoming.arrived(arguments)
        self._hand_on(incoming)

    def on_cancel(self, frame: Frame) -> None:
        if frame.reply or not self.has_got(frame.id):
            raise ProtocolError(f"call {frame.id} was cancelled and was never made")
        reason = frame.cancel.reason or "cancelled"
        function: Callable[[str], None] | None = None
        with self._line:
            incoming = self._calls.get(frame.id)
            unfinished = self._assemblies.drop_locked((frame.id, False))
            if incoming is not None:
                if isinstance(incoming, CallGroup):
                    function = incoming.give_up_locked(frame.id, reason)
                else:
                    function = incoming.give_up(reason)
                if incoming.items is not None:
                    incoming.items.drop_locked()
            else:  # it is answered; what remains of the result is not wanted
                self._line.outbox.drop(frame.id, True)
            runnable = self._line.use_room_locked()
        if function is not None:
            function(reason)
        if isinstance(incoming, IncomingCall) and unfinished:
            what = "the call was cancelled before its arguments had arrived"
            self._turn_away(incoming, Refused(Reason.CANCELLED, what))
        run_all(runnable)

    def grant_items_locked(self, frame: Frame) -> Job | None:
        """Item credit came; returns what may go on now, to be run without the lock."""
        if frame.reply or not self.has_got(frame.id):
            raise ProtocolError(f"credit for items of call {frame.id} arrived, which was never made")
        call = self._calls.get(frame.id)
        if call is None:
            return None  # the stream has just ended
        if call.items is None:
            raise ProtocolError(f"credit for items of call {frame.id} arrived, which is no stream")
        return call.items.grant_locked(frame.credit.items, frame.credit.taken)

    # ---- what its calls report

    def check(self, value: Encoded) -> None:
        """Raises MessageTooLargeError or CodecError if the other side cannot be sent this result."""
        self._line.check_size(value, "the result takes")
        if value.references:
            self._exports.check(value.references)

    def started(self, call: IncomingCall) -> None:
        """Gives the credit of a call back."""
        if call.is_nested:
            return
        with self._line.lock:
            returned = self._give_back_locked(1)
        if returned:
            self._line.push()

    def _give_back_locked(self, count: int) -> bool:
        """So many calls have started; whether there was enough credit to give back by then, which is to be sent."""
        self._unstarted -= count
        self._credit_to_return += count
        if self._credit_to_return < self._credit_step or self._line.ended_because is not None:
            return False
        self._line.put_locked(Frame(credit=Credit(calls=self._credit_to_return)))
        self._credit_to_return = 0
        return True

    def done(self, call: IncomingCall) -> None:
        """Forgets a call that needs no answer."""
        with self._line:
            self._forget_locked(call)
            ended = self._ending_because
            if ended is not None and self._has_oneways_locked():
                ended = None
        if ended is not None:
            self.connection.lost(ended)

    def reply(self, call: IncomingCall, value: Encoded, rest: Result | None, cost: int) -> None:
        """Queues the result of a call. A big value is not sent to a caller who has given up."""
        inline = is_inline(value)
        if not inline:
            value = snapshot(value)
        frame = write_result_frame(call.id, value, rest)
        line = self._line
        if inline and not value.references:
            with line.lock:
                transport = line.seize_locked(cost)
                if transport is not None:
                    self._forget_locked(call)
            if transport is not None:
                line.send_small(transport, frame)
                return
        with line:
            self._forget_locked(call)
            if line.ended_because is not None:
                return
            if not inline and call.is_cancelled:
                refused = Refused(Reason.CANCELLED, "the call was cancelled, and its result is not sent")
                result = Result(failed=refused.to_wire(), kept=rest is not None and rest.kept)
                self._line.put_locked(Frame(id=call.id, reply=True, result=result))
                return
            if value.references:
                self._exports.give_locked(value.references)
            transfer = None if inline else self._line.outbox.transfer(call.id, True, value)
            self._line.send_locked(ReadyFrame(frame, cost), transfer)

    def reply_small(self, call: IncomingCall, value: Encoded) -> bool:
        """Queues, or sends, a result that goes into its frame; False if it does not."""
        line = self._line
        payload, buffers, references = value.payload, value.buffers, value.references
        size, limit = len(payload), line.peer.max_message_size if line.peer is not None else 0
        if buffers or references or size > INLINE_LIMIT or size > limit > 0:
            return False
        if value.codec == "json":
            frame = write_plain_result(call.id, bytes(payload))
        else:
            frame = write_result_frame(call.id, value, None)
        with line.lock:
            if self._calls.pop(call.id, None) is None:
                return True  # the connection has ended
            self._nested -= call.is_nested
            held, transport = self._put_answer_locked(frame, FRAME_COST + size)
        self._send_answer(frame, held, transport)
        return True

    def _put_answer_locked(self, frames: bytes, cost: int) -> tuple[bool, Transport | None]:
        """Whether they wait for further ones, and what they can be sent over at once; else they are queued."""
        held = hold(self._line)
        transport = self._line.seize_locked(len(frames)) if not held else None
        if transport is None:
            self._line.send_locked(ReadyFrame(frames, cost), None)
        return held, transport

    def _send_answer(self, frames: bytes, held: bool, transport: Transport | None) -> None:
        if transport is not None:
            self._line.send_small(transport, frames)
        elif not held:
            self._line.push()

    def regroup(self, group: CallGroup, part: CallGroup, numbers: list[int]) -> None:
        """Calls of a group are a group of their own from now on."""
        with self._line.lock:
            part.take_over_locked(group)
            self._calls.update({number: part for number in numbers if self._calls.get(number) is group})

    def reply_plain(self, results: list[tuple[int, bytes]]) -> None:
        """Answers plain calls, which start with that as far as credit goes, with values in json."""
        frames = b"".join([write_plain_result(call_id, payload) for call_id, payload in results])
        line = self._line
        with line.lock:
            if line.ended_because is not None:
                return
            for call_id, _ in results:
                self._calls.pop(call_id, None)
            self._give_back_locked(len(results))
            held, transport = self._put_answer_locked(frames, len(frames))
        self._send_answer(frames, held, transport)

    def refuse(self, call: IncomingCall, frame: Frame, cost: int) -> None:
        """Queues the answer to a call that has no result."""
        with self._line:
            self._forget_locked(call)
            if self._line.ended_because is None:
                self._line.send_locked(ReadyFrame(encode_frame(frame), cost), None)

    def check_takes_streams(self) -> None:
        """Raises ProtocolError if the other side takes none."""
        if self._line.peer is None or not self._line.peer.item_credit:
            raise ProtocolError(f"{self._line.peer_name} takes no streams of items: its version of the broker is older")

    def begin_stream(self, call: IncomingCall, frame: Frame, cost: int) -> ItemSender:
        """Queues the answer that items follow; the call is over as the end of the stream goes out."""
        credit = self._line.peer.item_credit if self._line.peer is not None else 0
        codec_name = call.codec
        forget = partial(self._forget_locked, call)
        sender = ItemSender(self._line, self._exports, call.id, codec_name, credit, forget)
        with self._line:
            call.items = sender
            if self._line.ended_because is None:
                self._line.send_locked(ReadyFrame(encode_frame(frame), cost), None)
            if call.is_cancelled:
                sender.drop_locked()
        return sender

    def _forget_locked(self, call: IncomingCall) -> None:
        if self._calls.pop(call.id, None) is not None and call.is_nested:
            self._nested -= 1

    # ---- the end

    def go_away(self, reason: str, *, takes_nested: bool) -> None:
        """See `Connection.go_away`."""
        with self._line:
            peer = self._line.peer
            takes_nested = takes_nested and peer is not None and DRAINING in peer.features
            is_news = self._last_call is None or (self._takes_nested and not takes_nested)
            if is_news and self._line.ended_because is None:
                self._last_call, self._takes_nested = self._highest, takes_nested
                words = self.last_words(reason)
                words.goaway.takes_nested = takes_nested
                self._line.put_locked(words)

    def last_words(self, reason: str, *, protocol_error: bool = False) -> Frame:
        """The GoAway that says which calls were taken."""
        return Frame(goaway=GoAway(last_call=self._highest, reason=reason, protocol_error=protocol_error))

    def outlast_locked(self, reason: str) -> list[IncomingCall | CallGroup] | None:
        """The other side has left in order: its oneway calls are carried out, and then the connection ends.

        Returns the other calls, to be cancelled; None if no oneway call is under way.
        """
        if not self._has_oneways_locked():
            return None
        self._ending_because = reason
        return [call for call in self._calls.values() if not call.oneway]

    def _has_oneways_locked(self) -> bool:
        return any(call.oneway for call in self._calls.values())

    def end_locked(self) -> list[IncomingCall | CallGroup]:
        """Forgets all calls, and returns them to be cancelled."""
        calls = list(dict.fromkeys(self._calls.values()))
        self._calls.clear()
        return calls


def _check_rises(call_id: int, highest: int) -> None:
    if call_id <= highest:
        raise ProtocolError(f"call {call_id} arrived after call {highest}: numbers only rise")
