"""Why the broker did not carry out a call: one table for the wire, for gRPC statuses and for Python exceptions.

An exception that the method raised is a result, never a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto

from broker import errors
from broker._pb.broker_pb2 import Refusal


class _Upper(StrEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:
        return name


class Reason(_Upper):
    """The words that tell refusals apart; frozen in docs/wire.md."""

    OBJECT_NOT_FOUND = auto()
    MEMBER_NOT_FOUND = auto()
    UNSUPPORTED_OPERATION = auto()  # a missing special method
    WRONG_ARGUMENTS = auto()
    CODEC = auto()
    CODEC_NOT_ACCEPTED = auto()
    RESULT_NOT_ENCODABLE = auto()
    MESSAGE_TOO_LARGE = auto()
    OVERLOADED = auto()
    TOO_DEEP = auto()
    ACCESS_DENIED = auto()
    UNAUTHENTICATED = auto()  # it is not known who calls
    DRAINING = auto()
    CANCELLED = auto()
    DEADLINE_EXCEEDED = auto()
    UNIMPLEMENTED = auto()
    INTERNAL = auto()


# Each with its google.rpc.Code and the exception that the caller gets.
_TABLE: dict[str, tuple[int, type[Exception]]] = {
    Reason.OBJECT_NOT_FOUND: (5, errors.ObjectNotFound),
    Reason.MEMBER_NOT_FOUND: (12, AttributeError),
    Reason.UNSUPPORTED_OPERATION: (12, TypeError),
    Reason.WRONG_ARGUMENTS: (3, TypeError),
    Reason.CODEC: (3, errors.CodecError),
    Reason.CODEC_NOT_ACCEPTED: (3, errors.CodecError),
    Reason.RESULT_NOT_ENCODABLE: (13, errors.CodecError),
    Reason.MESSAGE_TOO_LARGE: (8, errors.MessageTooLargeError),
    Reason.OVERLOADED: (8, errors.Overloaded),
    Reason.TOO_DEEP: (9, errors.BrokerError),
    Reason.ACCESS_DENIED: (7, errors.AccessDenied),
    Reason.UNAUTHENTICATED: (16, errors.AccessDenied),
    Reason.DRAINING: (14, errors.CommunicationError),
    Reason.CANCELLED: (1, errors.CommunicationError),
    Reason.DEADLINE_EXCEEDED: (4, errors.CallTimeout),
    Reason.UNIMPLEMENTED: (12, errors.ProtocolError),
    Reason.INTERNAL: (13, errors.BrokerError),
}
_LONGEST = 4_096
"""Characters of a message; a longer one is cut."""
_UNKNOWN: tuple[int, type[Exception]] = (2, errors.BrokerError)


@dataclass(frozen=True, slots=True)
class Refused:
    """One refusal: a reason (a word of `Reason`, or of a later version) and the sentence for the caller."""

    reason: str
    message: str
    limit: str = ""
    """The setting that was met, for the statistics of who refuses: the other side does not get it."""

    def __post_init__(self) -> None:
        # It goes into a frame and into a gRPC status whatever an exception or a name put into it.
        text = self.message if len(self.message) <= _LONGEST else f"{self.message[:_LONGEST]}…"
        object.__setattr__(self, "message", text.encode("utf-8", "backslashreplace").decode())

    @property
    def code(self) -> int:
        """The google.rpc.Code."""
        return _TABLE.get(self.reason, _UNKNOWN)[0]

    def to_wire(self) -> Refusal:
        return Refusal(code=self.code, reason=self.reason, message=self.message)

    @classmethod
    def from_wire(cls, refusal: Refusal) -> Refused:
        return cls(refusal.reason, refusal.message)

    def to_error(self, *, may_have_run: bool = False) -> Exception:
        """The exception that the caller gets."""
        error = _TABLE.get(self.reason, _UNKNOWN)[1](self.message)
        if isinstance(error, errors.BrokerError):
            error.may_have_run = may_have_run
        return error
