"""A refusal, or what a method raised, as a gRPC status with details: every client and interceptor sees it.

The status and its details travel as metadata, of which most clients take 8 KiB in all; beyond that they drop the status
and report an error of their own. So everything here is cut to what fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import DebugInfo, ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from broker.connection.refusals import Refused

DOMAIN = "broker"
"""The domain of our `google.rpc.ErrorInfo`."""
USER_DOMAIN = "broker.user"
"""The domain where a method raised the error."""
DETAILS = "grpc-status-details-bin"

MAX_MESSAGE = 1_536
"""Bytes of a message, as gRPC writes it: a byte outside of printable ASCII takes three."""
MAX_DETAILS = 2_560
"""Bytes of ErrorInfo and DebugInfo; base64 makes a third more of them, and of the message that stands beside them."""
_NOTE_SIZE = 50  # of the line that says how many are left out
_MAX_WORD = 255
"""Characters of a word in an ErrorInfo: a class name, say."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """The end of a call that has no result: a google.rpc.Code, a message, and what else is to be known."""

    code: int
    message: str
    details: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", _cut(self.message))

    @classmethod
    def of_refusal(cls, refused: Refused, extra: Mapping[str, str] = MappingProxyType({})) -> RpcStatus:
        """What the broker itself says."""
        return cls(refused.code, refused.message, (error_info(refused.reason, DOMAIN, extra),))

    def abort(self, context: grpc.ServicerContext) -> NoReturn:
        """Ends the call with it."""
        details = []
        for detail in self.details:
            details.append(AnyMessage())
            details[-1].Pack(detail)
        # Clients hold the two messages against each other: they have to be equal.
        status = Status(code=self.code, message=self.message, details=details)
        context.set_trailing_metadata(((DETAILS, status.SerializeToString()),))
        context.abort(_CODES[self.code], self.message)
        raise AssertionError("abort raises")


def abort(
    context: grpc.ServicerContext, code: int, reason: str, message: str, extra: Mapping[str, str] = MappingProxyType({})
) -> NoReturn:
    """Ends a call with a google.rpc.Code and an ErrorInfo of our domain."""
    RpcStatus(code, message, (error_info(reason, DOMAIN, extra),)).abort(context)


def refuse(context: grpc.ServicerContext, refused: Refused) -> NoReturn:
    """Ends a call with a refusal."""
    RpcStatus.of_refusal(refused).abort(context)


def break_cycle(gone: grpc.RpcError) -> None:
    """For what an iterator of requests raises where the caller is gone, which is not to be raised again.

    grpcio keeps it in the state of the call, and its traceback leads back to that state: a cycle that held all that the
    call has, with grpcio 1.60 the socket too, until the garbage collector came by.
    """
    gone.__traceback__ = None


def error_info(reason: str, domain: str, words: Mapping[str, str]) -> Message:
    """Says what went wrong in words that programs compare."""
    info: Message = ErrorInfo(
        reason=reason[:_MAX_WORD],
        domain=domain,
        metadata={key: _unicode(value)[:_MAX_WORD] for key, value in words.items()},
    )
    return info


def debug_info(traceback: str, beside: Iterable[Message] = ()) -> Message:
    """The lines of a traceback, without those in the middle where they are too many for the details `beside` it."""
    lines = _unicode(traceback).splitlines()
    room = MAX_DETAILS - sum(detail.ByteSize() for detail in beside)
    if _fitting(lines, room) < len(lines):
        tail = _fitting(reversed(lines), room * 3 // 4)  # what the exception itself says is at the end
        head = _fitting(lines[: len(lines) - tail], room // 4 - _NOTE_SIZE)
        left_out = len(lines) - head - tail
        lines = [*lines[:head], f"  … {left_out} lines are left out …", *lines[head + left_out :]]
    info: Message = DebugInfo(stack_entries=lines)
    return info


def _fitting(lines: Iterable[str], room: int) -> int:
    """How many of the lines, from the first on, there is room for."""
    count = 0
    for line in lines:
        room -= len(line.encode()) + 3
        if room < 0:
            break
        count += 1
    return count


def _unicode(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _cut(message: str) -> str:
    """The message as far as it fits: nothing of a status may be longer than gRPC's clients take."""
    message = _unicode(message)
    size = 0
    for place, character in enumerate(message):
        size += 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode())
        if size > MAX_MESSAGE:
            return f"{message[: max(0, place - 9)]}…"
    return message
