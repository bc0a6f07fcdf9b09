"""NameRegistry on gRPC: its methods, and how a refusal becomes a status and an exception again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from broker._pb import registry_pb2 as pb
from broker.connection.statuses import DETAILS, DOMAIN
from broker.errors import AccessDenied, BrokerError, NameNotFound, NameTaken, NamingError, Overloaded
from broker.uri import InvalidURI

SERVICE: Final = "broker.v1.NameRegistry"
RETURNING: Final = "returning"
"""The key, in the ErrorInfo of a NameNotFound, for the seconds in which the name may still come back."""

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Response]):
    """One method of the service, with the types of its messages."""

    name: str
    request: type[Request]
    response: type[Response]

    @property
    def path(self) -> str:
        return f"/{SERVICE}/{self.name}"


REGISTER = Method("Register", pb.RegisterRequest, pb.RegisterResponse)
REMOVE = Method("Remove", pb.RemoveRequest, pb.RemoveResponse)
LOOKUP = Method("Lookup", pb.LookupNameRequest, pb.Entry)
LIST = Method("List", pb.ListRequest, pb.ListResponse)
SET_TAGS = Method("SetTags", pb.SetTagsRequest, pb.Entry)
COUNT = Method("Count", pb.CountRequest, pb.CountResponse)
PING = Method("Ping", pb.PingRequest, pb.PingResponse)
KEEP_ALIVE = Method("KeepAlive", pb.KeepAliveRequest, pb.KeepAliveResponse)
WATCH = Method("Watch", pb.WatchRequest, pb.WatchEvent)

# What the ErrorInfo calls them; any other reason is a NamingError.
_CLASSES = {kind.__name__: kind for kind in (AccessDenied, NameNotFound, NameTaken, InvalidURI, Overloaded)}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a name server refused: the class and text of the exception, and how long to ask again."""

    kind: type[BrokerError]
    message: str
    returning: float = 0.0


def refusal_of(error: grpc.RpcError) -> Refusal | None:
    """The refusal of a name server, or None where gRPC itself or somebody else failed the call."""
    call = call_of(error)
    for key, value in (call.trailing_metadata() if call is not None else None) or ():
        if key == DETAILS and isinstance(value, bytes):
            return _parsed(value)
    return None


def call_of(error: grpc.RpcError) -> grpc.Call | None:
    """The call that failed: what grpcio raises is both, which its type hints rule out."""
    both: object = error
    return both if isinstance(both, grpc.Call) else None


def _parsed(details: bytes) -> Refusal | None:
    info = ErrorInfo()
    try:
        status = Status.FromString(details)
        if not any(detail.Unpack(info) for detail in status.details) or info.domain != DOMAIN:
            return None
        returning = float(info.metadata.get(RETURNING, "0"))
    except (DecodeError, ValueError):
        return None
    return Refusal(_CLASSES.get(info.reason, NamingError), status.message, returning)
