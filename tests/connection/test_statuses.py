"""Statuses reach a client whatever is in them: what is too long for its metadata is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import DebugInfo, ErrorInfo  # type: ignore[import-untyped]
from grpc_status import rpc_status

from broker.connection.refusals import Reason, Refused
from broker.connection.server import DaemonThreads
from broker.connection.statuses import RpcStatus, debug_info, error_info

Failure = Callable[[RpcStatus], Any]


@pytest.fixture
def failure() -> Iterator[Failure]:
    """Sends a status from a server to a client, and gives what the client gets."""
    sent: list[RpcStatus] = []
    method: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: sent[-1].abort(context))
    server = grpc.server(DaemonThreads("test"))  # type: ignore[arg-type]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"Fail": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    request: Any = b""

    def failure(status: RpcStatus) -> Any:
        sent.append(status)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/test/Fail")(request, timeout=20)
        return caught.value

    yield failure
    server.stop(0).wait(20)


def test_a_refusal(failure: Failure) -> None:
    error = failure(RpcStatus.of_refusal(Refused(Reason.OBJECT_NOT_FOUND, "no such thing")))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")
    (detail,) = rpc_status.from_call(error).details
    info = ErrorInfo()
    assert detail.Unpack(info)
    assert (info.domain, info.reason) == ("broker", "OBJECT_NOT_FOUND")


@pytest.mark.parametrize("character", ["x", "é", "€", "%", "\n", "\udc80", "😀"])
def test_the_longest_status_arrives(failure: Failure, character: str) -> None:
    text = character * 10_000
    info = error_info("REASON", "domain", {"class": text, "module": text})
    traceback = "\n".join(["the beginning", *(character * 90 for _ in range(200)), "the end"])
    error = failure(RpcStatus(5, text, (info, debug_info(traceback, (info,)))))
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert error.details().endswith("…")
    assert len(error.details()) > 100
    status = rpc_status.from_call(error)  # checks that both messages are equal
    debug = DebugInfo()
    assert status.details[1].Unpack(debug)
    assert debug.stack_entries[-1] == "the end"


def test_a_traceback_keeps_its_end() -> None:
    lines = ["Traceback:", *(f"  line {number} of a very long traceback that nobody reads" for number in range(500))]
    debug: Any = debug_info("\n".join([*lines, "ValueError: the point"]))
    assert debug.stack_entries[0] == "Traceback:"
    assert debug.stack_entries[-1] == "ValueError: the point"
    assert any("lines are left out" in line for line in debug.stack_entries)


def test_a_line_that_fits_nowhere() -> None:
    debug: Any = debug_info("x" * 10_000)
    assert [*debug.stack_entries] == ["  … 1 lines are left out …"]
