"""What a method raised as a gRPC status: the table from Python's exceptions to gRPC's codes.

The nearest base class with a code wins. A class has one of its own by an attribute `grpc_code`: the name of a
`grpc.StatusCode`, or such a member, so that what raises it need not import grpc.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import re

import grpc

from broker import errors
from broker.codecs.exceptions import message_of
from broker.codecs.types import type_name
from broker.connection.statuses import USER_DOMAIN, RpcStatus, debug_info, error_info

ATTRIBUTE = "grpc_code"

CODES: dict[type[BaseException], grpc.StatusCode] = {
    ValueError: grpc.StatusCode.INVALID_ARGUMENT,
    TypeError: grpc.StatusCode.INVALID_ARGUMENT,
    LookupError: grpc.StatusCode.NOT_FOUND,
    IndexError: grpc.StatusCode.OUT_OF_RANGE,
    OverflowError: grpc.StatusCode.OUT_OF_RANGE,
    FileNotFoundError: grpc.StatusCode.NOT_FOUND,
    FileExistsError: grpc.StatusCode.ALREADY_EXISTS,
    PermissionError: grpc.StatusCode.PERMISSION_DENIED,
    TimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
    ConnectionError: grpc.StatusCode.UNAVAILABLE,
    MemoryError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    NotImplementedError: grpc.StatusCode.UNIMPLEMENTED,
    AssertionError: grpc.StatusCode.INTERNAL,
    asyncio.CancelledError: grpc.StatusCode.CANCELLED,
    concurrent.futures.CancelledError: grpc.StatusCode.CANCELLED,
    errors.ObjectNotFound: grpc.StatusCode.NOT_FOUND,
    errors.NameNotFound: grpc.StatusCode.NOT_FOUND,
    errors.NameTaken: grpc.StatusCode.ALREADY_EXISTS,
    errors.AccessDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.CommunicationError: grpc.StatusCode.UNAVAILABLE,
    errors.CallTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ProtocolError: grpc.StatusCode.INTERNAL,
    errors.CodecError: grpc.StatusCode.INTERNAL,
}
"""Every other exception is UNKNOWN."""

_log = logging.getLogger("broker")
_told: set[type] = set()  # classes whose own code is none, once each
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def status_of(error: BaseException, traceback: str) -> RpcStatus:
    """The status of a call whose method raised this; an empty traceback stays at home."""
    module, name = class_of(error)
    info = error_info(_reason(name), USER_DOMAIN, {"class": name, "module": module})
    details = (info, debug_info(traceback, (info,))) if traceback else (info,)
    code: int = code_of(error).value[0]
    message = message_of(error)
    if not message or isinstance(error, KeyError):  # which says no more than its key
        message = f"{name}: {message}" if message else name
    return RpcStatus(code, message, details)


def code_of(error: BaseException) -> grpc.StatusCode:
    """The code of an exception by its class."""
    for cls in type(error).__mro__:
        if ATTRIBUTE in vars(cls):
            code = _own_code(cls, vars(cls)[ATTRIBUTE])
            if code is not None:
                return code
        if cls in CODES:
            return CODES[cls]
    return grpc.StatusCode.UNKNOWN


def class_of(error: BaseException) -> tuple[str, str]:
    """The module and the name of its class; of an error that came from elsewhere, those that it had there."""
    if isinstance(error, errors.RemoteError) and error.type:
        module, _, name = error.type.rpartition(".")
        return module or "builtins", name
    module, _, _ = type_name(type(error)).rpartition(type(error).__qualname__)
    return module.rstrip(".") or type(error).__module__, type(error).__qualname__


def _own_code(cls: type, given: object) -> grpc.StatusCode | None:
    code = getattr(grpc.StatusCode, given.upper(), None) if isinstance(given, str) else given
    if isinstance(code, grpc.StatusCode) and code is not grpc.StatusCode.OK:
        return code
    if cls not in _told:
        _told.add(cls)
        _log.warning(
            "%s.%s = %r names no gRPC code, and is passed over: write the name of one, such as 'NOT_FOUND'",
            cls.__qualname__, ATTRIBUTE, given,
        )  # fmt: skip
    return None


def _reason(name: str) -> str:
    """`OutOfStock` as error details have such words: `OUT_OF_STOCK`."""
    return _WORD.sub("_", name.rpartition(".")[2]).upper()[:63]
