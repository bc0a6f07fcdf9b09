"""The table from exceptions to gRPC codes, without a socket."""

from __future__ import annotations

import logging
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import DebugInfo, ErrorInfo  # type: ignore[import-untyped]

from broker import errors
from broker.errors import remote_error
from broker.services.raised import CODES, code_of, status_of


class OutOfStock(ValueError):
    grpc_code = "failed_precondition"


class SoldOut(OutOfStock): ...


class Closed(Exception):
    grpc_code = grpc.StatusCode.UNAVAILABLE


class Mistaken(LookupError):
    grpc_code = "SOLD_OUT"


class Fine(Exception):
    grpc_code = "OK"


@pytest.mark.parametrize(("cls", "code"), CODES.items())
def test_each_class_and_what_derives_from_it(cls: Any, code: grpc.StatusCode) -> None:
    derived: Any = type("Derived", (cls,), {})
    assert code_of(cls.__new__(cls)) == code_of(derived.__new__(derived)) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError(), grpc.StatusCode.UNKNOWN),
        (errors.BrokerError(), grpc.StatusCode.UNKNOWN),
        (ExceptionGroup("two", [ValueError()]), grpc.StatusCode.UNKNOWN),
        (SystemExit(), grpc.StatusCode.UNKNOWN),
        (UnicodeDecodeError("utf-8", b"", 0, 0, ""), grpc.StatusCode.INVALID_ARGUMENT),
        (ConnectionResetError(), grpc.StatusCode.UNAVAILABLE),
        (OutOfStock(), grpc.StatusCode.FAILED_PRECONDITION),
        (SoldOut(), grpc.StatusCode.FAILED_PRECONDITION),
        (Closed(), grpc.StatusCode.UNAVAILABLE),
        (remote_error("shop.Empty", "there is none", LookupError), grpc.StatusCode.NOT_FOUND),
    ],
)
def test_the_nearest_class_with_a_code(error: BaseException, code: grpc.StatusCode) -> None:
    assert code_of(error) == code


@pytest.mark.parametrize(
    ("error", "code"), [(Mistaken(), grpc.StatusCode.NOT_FOUND), (Fine(), grpc.StatusCode.UNKNOWN)]
)
def test_a_code_that_is_none_is_told_once(
    error: BaseException, code: grpc.StatusCode, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert code_of(error) == code_of(error) == code
    assert caplog.text.count("names no gRPC code") == 1


def _info(error: BaseException) -> Any:
    (info,) = status_of(error, "").details
    assert isinstance(info, ErrorInfo)
    return info


@pytest.mark.parametrize(
    ("error", "reason", "module", "name"),
    [
        (OutOfStock("the last one"), "OUT_OF_STOCK", OutOfStock.__module__, "OutOfStock"),
        (KeyError("x"), "KEY_ERROR", "builtins", "KeyError"),
        (OSError("x"), "OS_ERROR", "builtins", "OSError"),
        (remote_error("shop.HTTPFailure", "x", ValueError), "HTTP_FAILURE", "shop", "HTTPFailure"),
        (remote_error("KeyError", "x"), "KEY_ERROR", "builtins", "KeyError"),
    ],
)
def test_the_class_stands_in_the_details(error: BaseException, reason: str, module: str, name: str) -> None:
    info = _info(error)
    assert (info.domain, info.reason) == ("broker.user", reason)
    assert dict(info.metadata) == {"class": name, "module": module}


def test_a_message_is_never_empty() -> None:
    assert status_of(ValueError(), "").message == "ValueError"
    assert status_of(ValueError("no"), "").message == "no"


def test_a_key_alone_says_too_little() -> None:
    assert status_of(KeyError(7), "").message == "KeyError: 7"


def test_a_traceback_where_it_may_go() -> None:
    info, debug = status_of(ValueError("no"), "Traceback\n  line 1\nValueError: no").details
    assert isinstance(info, ErrorInfo)
    assert isinstance(debug, DebugInfo)
    assert list(debug.stack_entries) == ["Traceback", "  line 1", "ValueError: no"]
