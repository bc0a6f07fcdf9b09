"""Typed services as programs see them that know nothing of broker: grpcurl, buf, Node, and code that protoc makes."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import broker
from broker import exporting
from tests.services.stranger import ENVIRONMENT, NODE_MODULES, ROOT, run

EXAMPLE = ROOT / "examples" / "typed-service"
PROTOC = ROOT / ".venv-proto" / "bin" / "python"
NAME = "example.orders"


def _load_desk() -> Any:
    spec = importlib.util.spec_from_file_location("desk", EXAMPLE / "desk.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.OrderDesk


OrderDesk = _load_desk()


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        daemon.register(OrderDesk(), NAME)
        yield daemon


@pytest.fixture
def at(daemon: broker.Daemon) -> str:
    return f"127.0.0.1:{daemon.address[1]}"


def json_of(printed: str) -> list[Any]:
    """The JSON values in what a program printed, one after another."""
    decoder, found, rest = json.JSONDecoder(), [], printed.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].strip()
    return found


# ---- grpcurl


def grpcurl(at: str, method: str, request: str = "", *options: str, code: int | None = 0) -> str:
    return run("grpcurl", "-plaintext", *options, "-d", request or "{}", at, method, code=code)


def test_grpcurl_lists_and_describes(at: str) -> None:
    assert NAME in run("grpcurl", "-plaintext", at, "list").split()
    described = run("grpcurl", "-plaintext", at, "describe", NAME)
    assert "// Takes orders, and tells how they fare.\nservice orders {" in described
    assert "// Places an order. Raises OutOfStock.\n  rpc place ( .example.orders_types.place_request )" in described
    assert "optional int64 count = 2;" in run("grpcurl", "-plaintext", at, "describe", "example.orders_types.Item")
    assert "rpc follow" in run("grpcurl", "-plaintext", at, "describe", f"{NAME}.follow")
    whole = run("grpcurl", "-plaintext", at, "describe")
    assert "service orders {" in whole
    assert "service ServerReflection {" in whole


def test_grpcurl_calls(at: str) -> None:
    (placed,) = json_of(grpcurl(at, f"{NAME}/place", '{"customer": "Janet", "items": [{"name": "couch"}]}'))
    assert placed["result"]["items"] == [{"name": "couch", "count": "1"}]
    assert placed["result"]["status"] == "PLACED"
    followed = json_of(grpcurl(at, f"{NAME}/follow", '{"number": 1}'))
    assert [reply["result"] for reply in followed] == ["PLACED", "PACKED", "SHIPPED"]
    deliveries = " ".join(f'{{"deliveries": {{"name": "lamp", "count": {count}}}}}' for count in range(1, 101))
    (stock,) = json_of(grpcurl(at, f"{NAME}/restock", deliveries))
    assert stock["result"]["lamp"] == str(sum(range(1, 101)))
    assert json_of(grpcurl(at, f"{NAME}/get_open_orders")) == [{"result": "0"}]


def test_grpcurl_shows_statuses_with_details(at: str) -> None:
    printed = grpcurl(at, f"{NAME}/place", '{"customer": "Zoë", "items": [{"name": "couch", "count": 9}]}', code=None)
    for words in ("Code: FailedPrecondition", "9 × couch ordered", '"domain":"broker.user"', '"class":"OutOfStock"'):
        assert words in printed
    assert "google.rpc.DebugInfo" in printed
    printed = grpcurl(at, f"{NAME}/count", '{"seconds": 60}', "-max-time", "0.3", code=None)
    assert "DeadlineExceeded" in printed


def test_grpcurl_sees_objects_come_and_go(daemon: broker.Daemon, at: str) -> None:
    daemon.register(OrderDesk(), "second-desk")
    names = run("grpcurl", "-plaintext", at, "list").split()
    (second,) = [name for name in names if name.startswith("second_desk_")]
    assert json_of(grpcurl(at, f"{second}/get_open_orders")) == [{"result": "0"}]
    daemon.unregister("second-desk")
    assert second not in run("grpcurl", "-plaintext", at, "list").split()


def test_grpcurl_where_one_name_begins_the_other(daemon: broker.Daemon, at: str) -> None:
    for name in ("example.orders.old", "example"):
        daemon.register(OrderDesk(), name)
    for name in (NAME, "example.orders.old", "example"):
        assert "rpc place" in run("grpcurl", "-plaintext", at, "describe", name)
        assert json_of(grpcurl(at, f"{name}/get_open_orders")) == [{"result": "0"}]


def test_grpcurl_asks_about_health(daemon: broker.Daemon, at: str) -> None:
    assert json_of(grpcurl(at, "grpc.health.v1.Health/Check", f'{{"service": "{NAME}"}}')) == [{"status": "SERVING"}]
    printed = grpcurl(at, "grpc.health.v1.Health/Check", '{"service": "nobody"}', code=None)
    assert "NotFound" in printed


# ---- buf


def buf(at: str, method: str, request: str, code: int | None = 0) -> str:
    options = ("--protocol", "grpc", "--http2-prior-knowledge", "-d", request)
    return run("buf", "curl", *options, f"http://{at}/{method}", code=code)


def test_buf_calls(at: str) -> None:
    listed = run("buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge", f"http://{at}", "--list-methods")
    assert f"{NAME}/place" in listed.split()
    (placed,) = json_of(buf(at, f"{NAME}/place", '{"customer": "Janet", "items": [{"name": "couch"}]}'))
    assert placed["result"]["items"] == [{"name": "couch", "count": "1"}]
    followed = json_of(buf(at, f"{NAME}/follow", '{"number": 1}'))
    assert [reply["result"] for reply in followed] == ["PLACED", "PACKED", "SHIPPED"]
    (failed,) = json_of(buf(at, f"{NAME}/find", '{"number": 7}', code=None))
    assert failed["code"] == "not_found"
    (info, *_) = failed["details"]
    assert info["type"] == "google.rpc.ErrorInfo"
    assert b"KEY_ERROR" in base64.b64decode(info["value"])


def test_buf_takes_all_services_into_one_program(daemon: broker.Daemon, at: str) -> None:
    for name in ("example.orders.old", "example", "second-desk"):
        daemon.register(OrderDesk(), name)
    listed = run("buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge", f"http://{at}", "--list-methods")
    assert len([line for line in listed.split() if line.endswith("/place")]) == 4
    assert json_of(buf(at, "example.orders.old/get_open_orders", "{}")) == [{"result": "0"}]


# ---- Node


def test_node_calls(daemon: broker.Daemon, at: str, tmp_path: Path) -> None:
    exported = str(tmp_path / "orders.proto")
    assert exporting.main([str(daemon.uri_for(NAME)), "--output", exported]) == 0
    assert NODE_MODULES.is_dir(), "make node installs what the clients in Node need"
    with subprocess.Popen(
        ["node", str(Path(__file__).parent / "stranger.js"), at, NAME, "NOT_SERVING", exported],
        env=ENVIRONMENT, stdout=subprocess.PIPE, text=True,
    ) as node:  # fmt: skip
        try:
            assert node.stdout is not None
            found = json.loads(node.stdout.readline())
            watched = [node.stdout.readline().strip()]
            daemon.shutdown()
            watched.append(node.stdout.readline().strip())
            assert node.wait(20) == 0
        finally:
            node.kill()
    assert {service["name"] if isinstance(service, dict) else service for service in found["services"]} >= {NAME}
    assert found["order"]["customer"] == "Zoë"
    assert found["statuses"] == ["PLACED", "PACKED", "SHIPPED"]
    lamps = sum(range(1, 101))
    # protobufjs takes a map for a list of entries where it has the descriptors from reflection.
    assert {"key": "lamp", "value": lamps} in found["stock"]
    assert found["map"]["lamp"] == 2 * lamps
    raised = found["raised"]
    assert (raised["code"], raised["message"]) == ("FAILED_PRECONDITION", "9 × couch ordered, 1 here")
    assert raised["ErrorInfo"]["domain"] == "broker.user"
    assert raised["ErrorInfo"]["metadata"] == {"class": "OutOfStock", "module": "desk"}
    assert raised["DebugInfo"]["stack_entries"][-1].startswith("desk.OutOfStock")
    assert (found["refused"]["code"], found["refused"]["ErrorInfo"]["domain"]) == ("INVALID_ARGUMENT", "broker")
    assert found["late"]["code"] == "DEADLINE_EXCEEDED"
    assert (found["health"], watched) == ("SERVING", ["SERVING", "NOT_SERVING"])


# ---- code that protoc makes, in an environment without broker


def test_generated_python_calls(daemon: broker.Daemon, at: str, tmp_path: Path) -> None:
    assert PROTOC.exists(), "make .venv-proto/.done installs protoc"
    (tmp_path / "example").mkdir()
    exported = tmp_path / "example" / "orders.proto"
    assert exporting.main([str(daemon.uri_for(NAME)), "--output", str(exported)]) == 0
    generate = ("-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=.", "example/orders.proto")
    assert run(str(PROTOC), *generate, cwd=tmp_path) == ""
    (tmp_path / "customer.py").write_text((EXAMPLE / "customer.py").read_text(encoding="utf-8"), encoding="utf-8")
    assert run(str(PROTOC), "customer.py", at, cwd=tmp_path).splitlines() == [
        "There are 3 lamps.",
        "Order 1 of Janet: lamp, chair.",
        "  it is PLACED",
        "  it is PACKED",
        "  it is SHIPPED",
        "There is no order 7: NOT_FOUND.",
    ]
