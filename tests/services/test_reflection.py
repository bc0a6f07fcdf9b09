"""Reflection as tools ask for it, in both versions, while services come and go."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2 as messages  # type: ignore[import-untyped]

import broker
from broker.services import reflection

Ask = Callable[..., Any]


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


@pytest.fixture(params=[reflection.V1, reflection.V1ALPHA])
def ask(daemon: broker.Daemon, request: pytest.FixtureRequest) -> Iterator[Ask]:
    with grpc.insecure_channel(f"127.0.0.1:{daemon.address[1]}") as channel:
        method = channel.stream_stream(
            f"/{request.param}/ServerReflectionInfo",
            messages.ServerReflectionRequest.SerializeToString,
            messages.ServerReflectionResponse.FromString,
        )

        def ask(**what: Any) -> Any:
            (response,) = method(iter([messages.ServerReflectionRequest(**what)]), timeout=20)
            return response

        yield ask


def _pool(response: Any) -> DescriptorPool:
    """What a client makes of an answer: all that a file imports has to be there."""
    pool = DescriptorPool()
    files = list(response.file_descriptor_response.file_descriptor_proto)
    assert files, response
    for data in reversed(files):
        pool.Add(FileDescriptorProto.FromString(data))
    return pool


def test_the_services_of_every_daemon(ask: Ask) -> None:
    names = [service.name for service in ask(list_services="*").list_services_response.service]
    assert names == sorted(names)
    assert {
        "broker.v1.ObjectBroker", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    } == set(names)  # fmt: skip


@pytest.mark.parametrize(
    "service",
    ["broker.v1.ObjectBroker", "grpc.health.v1.Health", reflection.V1, reflection.V1ALPHA],
)
def test_a_service_with_all_that_its_file_imports(ask: Ask, service: str) -> None:
    described = _pool(ask(file_containing_symbol=service)).FindServiceByName(service)
    method = described.methods[0]
    for what in (
        {"file_containing_symbol": method.full_name},
        {"file_containing_symbol": method.input_type.full_name},
        {"file_by_filename": described.file.name},
    ):
        assert _pool(ask(**what)).FindServiceByName(service).full_name == service


def test_the_details_of_statuses_can_be_read(ask: Ask) -> None:
    found = _pool(ask(file_containing_symbol="google.rpc.ErrorInfo")).FindMessageTypeByName("google.rpc.ErrorInfo")
    assert "metadata" in found.fields_by_name


def test_what_is_not_there(ask: Ask) -> None:
    for what in ({"file_containing_symbol": "no.such.thing"}, {"file_by_filename": "no/such.proto"}):
        error = ask(**what).error_response
        assert error.error_code == grpc.StatusCode.NOT_FOUND.value[0]
        assert "no" in error.error_message
    assert ask().error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_a_symbol_without_end(ask: Ask) -> None:
    error = ask(file_containing_symbol="a." * 1_000_000).error_response
    assert error.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert len(error.error_message) < 300


def test_extensions(ask: Ask) -> None:
    numbers = ask(all_extension_numbers_of_type="broker.v1.InvokeRequest").all_extension_numbers_response
    assert (numbers.base_type_name, list(numbers.extension_number)) == ("broker.v1.InvokeRequest", [])


def test_a_limit_of_streams(daemon: broker.Daemon, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflection, "MAX_STREAMS", 0)
    with pytest.raises(grpc.RpcError) as caught:
        ask(list_services="*")
    call: Any = caught.value
    assert call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_open_stream_does_not_hold_up_the_end(daemon: broker.Daemon) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{daemon.address[1]}") as channel:
        method = channel.stream_stream(
            f"/{reflection.V1}/ServerReflectionInfo",
            messages.ServerReflectionRequest.SerializeToString,
            messages.ServerReflectionResponse.FromString,
        )
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        requests.put(messages.ServerReflectionRequest(list_services="*"))
        answers = method(iter(requests.get, None), timeout=20)
        next(answers)
        daemon.shutdown()
        with pytest.raises(grpc.RpcError):
            next(answers)
        requests.put(None)
