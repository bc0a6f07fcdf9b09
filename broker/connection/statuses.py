"""A refusal as a gRPC status with details, so that interceptors, metrics and every client see it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

DOMAIN = "broker"
"""The domain of our `google.rpc.ErrorInfo`."""
DETAILS = "grpc-status-details-bin"

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def packed_status(
    code: int, message: str, reason: str, extra: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, bytes]:
    """The trailing metadata that carries a refusal: a google.rpc.Status with an ErrorInfo of our domain."""
    details = AnyMessage()
    details.Pack(ErrorInfo(reason=reason, domain=DOMAIN, metadata=extra))
    return DETAILS, Status(code=code, message=message, details=[details]).SerializeToString()


def abort(
    context: grpc.ServicerContext, code: int, reason: str, message: str, extra: Mapping[str, str] = MappingProxyType({})
) -> NoReturn:
    """Ends a unary call with a google.rpc.Code and its details."""
    context.set_trailing_metadata((packed_status(code, message, reason, extra),))
    context.abort(_CODES[code], message)
    raise AssertionError("abort raises")
