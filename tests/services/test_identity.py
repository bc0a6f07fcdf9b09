"""Typed services, health and reflection of a daemon that has to know who calls, with TLS and tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import broker
from broker import certs
from tests.services.stranger import run

TOKENS = {"janet": "janets-token-which-is-long", "henry": "henrys-token-which-is-long"}
Grpcurl = Callable[..., str]


class Desk:
    def who(self) -> str:
        context = broker.current_context
        assert context.client is not None
        return f"{context.client.identity} {sorted(context.metadata)}"

    def secret(self) -> str:
        return "for janet alone"


def only_janet(client: broker.Client, object_id: str, member: str) -> bool:
    return client.identity == "janet" or member in ("", "who")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    certs.make_authority(folder)
    certs.make_server(folder, "desk", ["localhost", "127.0.0.1"])
    (folder / "tokens.toml").write_text(
        "[tokens]\n" + "".join(f'{name} = "{token}"\n' for name, token in TOKENS.items()), encoding="utf-8"
    )
    return folder


@pytest.fixture
def grpcurl(folder: Path) -> Iterator[Grpcurl]:
    """Runs grpcurl as somebody, or as nobody."""
    accepted = broker.Tokens(folder / "tokens.toml")
    credentials = broker.Credentials(folder / "desk.pem", folder / "desk.key", accept=[accepted])
    with broker.Daemon(credentials=credentials, authorize=only_janet) as daemon:
        daemon.register(Desk(), "desk")

        def grpcurl(who: str | None, *verb: str, options: tuple[str, ...] = (), code: int | None = 0) -> str:
            shown = ("-H", f"authorization: Bearer {TOKENS[who]}") if who is not None else ()
            ca = ("-cacert", str(folder / "ca.pem"))
            return run("grpcurl", *ca, *shown, *options, f"localhost:{daemon.address[1]}", *verb, code=code)

        yield grpcurl


def test_who_is_known_calls(grpcurl: Grpcurl) -> None:
    assert json.loads(grpcurl("janet", "desk/who"))["result"] == "janet []"
    assert json.loads(grpcurl("janet", "desk/secret"))["result"] == "for janet alone"
    assert json.loads(grpcurl("henry", "desk/who"))["result"] == "henry []"


def test_everybody_sees_what_he_may_call(grpcurl: Grpcurl) -> None:
    assert "secret" in grpcurl("janet", "describe", "desk")
    described = grpcurl("henry", "describe", "desk")
    assert "rpc who" in described
    assert "secret" not in described


@pytest.mark.parametrize("arguments", [("list",), ("describe", "desk"), ("desk/who",)])
def test_nobody_sees_nothing(grpcurl: Grpcurl, arguments: tuple[str, ...]) -> None:
    printed = grpcurl(None, *arguments, code=None)
    assert "Unauthenticated" in printed
    assert "secret" not in printed


@pytest.mark.parametrize(
    ("service", "status"),
    [("", "SERVING"), ("broker.v1.ObjectBroker", "SERVING"), ("desk", None), ("nobody", None)],
)
def test_probes_need_no_identity_to_ask_about_the_daemon(
    grpcurl: Grpcurl, folder: Path, service: str, status: str | None
) -> None:
    (folder / "health.proto").write_text(HEALTH, encoding="utf-8")  # a probe has no reflection, either
    for method, field in (("Check", "status"), ("Watch", None)):
        if status is not None and field is None:
            continue  # it would go on
        options = ("-import-path", str(folder), "-proto", "health.proto", "-d", json.dumps({"service": service}))
        code = 0 if status is not None else None
        printed = grpcurl(None, f"grpc.health.v1.Health/{method}", options=options, code=code)
        assert json.loads(printed) == {"status": status} if status is not None else "Unauthenticated" in printed


HEALTH = """
syntax = "proto3";
package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; }
  ServingStatus status = 1;
}
service Health {
  rpc Check(HealthCheckRequest) returns (HealthCheckResponse);
  rpc Watch(HealthCheckRequest) returns (stream HealthCheckResponse);
}
"""
