"""Callers with tokens: over TLS, on one machine, and for the same user alone."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import broker
from broker import certs, errors
from broker._pb import broker_pb2
from broker.security import InvalidCredentials

Run = Callable[..., Any]


class Who:
    def am_i(self) -> str | None:
        client = broker.current_context.client
        assert client is not None
        return client.identity


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A directory with the tokens of janet and henry, and the file that knows them."""
    lines = [f'{name} = "{certs.make_token(tmp_path, name)[1]}"' for name in ("janet", "henry")]
    (tmp_path / "tokens.toml").write_text("[tokens]\n" + "\n".join(lines), encoding="utf-8")
    return tmp_path


@pytest.fixture
def daemon(authority: Path, tokens: Path) -> Iterator[broker.Daemon]:
    credentials = broker.Credentials(
        authority / "warehouse.pem", authority / "warehouse.key", accept=[broker.Tokens(tokens / "tokens.toml")]
    )
    with broker.Daemon("0.0.0.0", credentials=credentials, advertise="localhost") as daemon:
        daemon.register(Who(), "who")
        yield daemon


def test_a_token_over_tls_says_who_calls(daemon: broker.Daemon, authority: Path, tokens: Path) -> None:
    uri = daemon.uri_for("who")
    for name in ("janet", "henry"):
        shown = broker.Credentials(ca=authority / "ca.pem", token_file=tokens / f"{name}.token")
        proxy: Any = broker.Proxy(uri, credentials=shown)
        assert proxy.am_i() == name


@pytest.mark.parametrize("token", [None, "a-token-that-is-none"])
def test_without_a_token_nobody_is_let_in(
    daemon: broker.Daemon, authority: Path, token: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    shown = broker.Credentials(ca=authority / "ca.pem", token=token)
    proxy: Any = broker.Proxy(daemon.uri_for("who"), credentials=shown)
    what = "has to know who calls" if token is None else "the token of .* is not one that .* accepts"
    with pytest.raises(errors.AccessDenied, match=f"localhost:.* does not let this process in: .*{what}") as caught:
        proxy.am_i()
    assert "a-token" not in f"{caught.value}{caplog.text}"
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "refused UNAUTHENTICATED: the connection"
    ]


def test_other_grpc_clients_show_it_as_a_bearer(daemon: broker.Daemon, authority: Path, tokens: Path) -> None:
    token = (tokens / "janet.token").read_text(encoding="ascii").strip()
    trusted = broker.Credentials(ca=authority / "ca.pem").for_channel()
    assert trusted is not None
    request = broker_pb2.InvokeRequest(object="who", method="am_i")
    with grpc.secure_channel(f"localhost:{daemon.address[1]}", trusted) as channel:
        answer = channel.unary_unary(
            "/broker.v1.ObjectBroker/Invoke",
            broker_pb2.InvokeRequest.SerializeToString,
            broker_pb2.InvokeResponse.FromString,
        )(request, timeout=10, metadata=(("authorization", f"bearer {token}"),))
    assert answer.result.string_value == "janet"


def test_a_token_can_be_replaced_and_taken_away(daemon: broker.Daemon, authority: Path, tokens: Path) -> None:
    shown = broker.Credentials(ca=authority / "ca.pem", token_file=tokens / "janet.token")
    known = (tokens / "tokens.toml").read_text(encoding="utf-8")
    _, line = certs.make_token(tokens, "janet", replace=True)
    first: Any = broker.Proxy(daemon.uri_for("who"), credentials=shown)
    with pytest.raises(errors.AccessDenied):
        first.am_i()
    (tokens / "tokens.toml").write_text(f'[tokens]\njanet = "{line}"', encoding="utf-8")
    assert first.am_i() == "janet"
    (tokens / "tokens.toml").write_text(known, encoding="utf-8")
    assert first.am_i() == "janet"  # the connection is open


def test_a_token_does_not_travel_in_the_clear_to_another_machine() -> None:
    proxy: Any = broker.Proxy("BROKER:who@192.0.2.1:4000", credentials=broker.Credentials(token="a-secret-token"))
    with pytest.raises(InvalidCredentials, match=r"a token would travel to 192\.0\.2\.1:4000 for everybody") as caught:
        proxy.am_i()
    assert "a-secret-token" not in str(caught.value)
    with pytest.raises(InvalidCredentials, match="for everybody to read"):
        broker.locate_ns("192.0.2.1", 9090, credentials=broker.Credentials(token="a-secret-token"))


def test_what_an_acceptor_raises_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def identify(self, token: str, audience: str) -> str | None:
            raise ZeroDivisionError

    with broker.Daemon(credentials=broker.Credentials(accept=[Broken()])) as daemon:
        proxy: Any = broker.Proxy(daemon.register(Who()), credentials=broker.Credentials(token="whatever-it-is"))
        with pytest.raises(errors.AccessDenied):
            proxy.am_i()
    assert "could not say whose token it is" in caplog.text
    assert "whatever-it-is" not in caplog.text


# ---- the same user, and the tools

SERVER = """
import broker

class Who:
    def am_i(self):
        return broker.current_context.client.identity is not None

daemon = broker.Daemon()
print("uri", daemon.register(Who(), "who"))
daemon.request_loop()
"""
CLIENT = """
import sys
import broker

try:
    print("known", broker.Proxy(sys.argv[1]).am_i())
except broker.errors.AccessDenied as error:
    print("denied", error)
"""


def test_programs_of_the_same_user_know_each_other(run_program: Run, tmp_path: Path) -> None:
    mine = {"BROKER_SAME_USER": "1", "XDG_CONFIG_HOME": str(tmp_path / "mine")}
    server = run_program(SERVER, environment=mine)
    uri = server.line("uri ")
    assert run_program(CLIENT, uri, environment=mine).line("known ") == "True"
    theirs = {"BROKER_SAME_USER": "1", "XDG_CONFIG_HOME": str(tmp_path / "theirs")}
    assert "is not one that" in run_program(CLIENT, uri, environment=theirs).line("denied ")
    assert "has to know who calls" in run_program(CLIENT, uri).line("denied ")
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0, server.errors


def test_tools_log_refusals_as_json(run_program: Run, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[roles]\nall = ["*"]\n[[allow]]\nroles = ["all"]\nobjects = ["*"]\nmembers = ["ping"]', "utf-8")
    mine = {"XDG_CONFIG_HOME": str(tmp_path), "BROKER_LOG_JSON": "1", "BROKER_SAME_USER": "1"}
    server = run_program(None, "-m", "broker.naming", "-p", "0", "--policy", str(policy), environment=mine)
    port = server.line("URI = ").rpartition(":")[2]
    asked = run_program(None, "-m", "broker.nsc", "-p", port, "--same-user", "list", environment=mine)
    assert asked.wait() == 1
    assert "may not call 'list' of 'Broker.NameServer'" in asked.errors
    stranger = run_program(None, "-m", "broker.nsc", "-p", port, "ping", environment={"XDG_CONFIG_HOME": str(tmp_path)})
    assert stranger.wait() == 1
    assert "has to know who calls" in stranger.errors
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0, server.errors
    logged = [json.loads(line) for line in server.errors.splitlines() if line.startswith("{")]
    assert [(line["level"], line["logger"], line["reason"], line["member"]) for line in logged] == [
        ("WARNING", "broker.audit", "ACCESS_DENIED", "list"),
        ("WARNING", "broker.audit", "UNAUTHENTICATED", ""),
    ]
    assert logged[0]["identity"]
    assert logged[1]["identity"] is None


def test_a_library_sets_up_no_log() -> None:
    assert logging.getLogger("broker").handlers == []
    assert logging.getLogger("broker.audit").handlers == []
