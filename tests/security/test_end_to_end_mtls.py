"""A name server, a daemon and clients on mutual TLS, in processes of their own and in this one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import broker
from broker import certs, errors

Made = dict[str, broker.Credentials]


class Warehouse:
    def list_contents(self) -> list[str]:
        return ["chair"]

    def take(self, item: str) -> str:
        client = broker.current_context.client
        assert client is not None
        return f"{client.identity} took the {item}"


def only_janet_takes(client: Any, object_id: str, member: str) -> bool:
    return member != "take" or client.identity == "janet"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What an authority has made, by name; `stranger` comes from another one."""
    here, there = tmp_path_factory.mktemp("authority"), tmp_path_factory.mktemp("elsewhere")
    for folder in (here, there):
        certs.make_authority(folder)
    certs.make_server(here, "warehouse", ["localhost", "127.0.0.1", "::1"])
    for name in ("janet", "henry"):
        certs.make_client(here, name)
    certs.make_client(there, "stranger")
    ca = here / "ca.pem"
    found = {
        name: broker.Credentials(folder / f"{name}.pem", folder / f"{name}.key", ca)
        for folder, name in [(here, "warehouse"), (here, "janet"), (here, "henry"), (there, "stranger")]
    }
    return {**found, "nobody": broker.Credentials(ca=ca)}


@pytest.fixture
def names(made: Made, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with broker.start_ns(port=0, credentials=made["warehouse"]) as server:
        monkeypatch.setenv("BROKER_NS_PORT", str(server.address[1]))
        yield server


@pytest.fixture
def daemon(made: Made, names: Any) -> Iterator[broker.Daemon]:
    with broker.Daemon(credentials=made["warehouse"], authorize=only_janet_takes) as daemon:
        daemon.publish(Warehouse(), "example.warehouse")
        yield daemon


def test_the_method_knows_who_calls_and_authorize_decides(made: Made, daemon: broker.Daemon) -> None:
    janet: Any = broker.Proxy("BROKERNAME:example.warehouse", credentials=made["janet"])
    henry: Any = broker.Proxy("BROKERNAME:example.warehouse", credentials=made["henry"])
    assert janet.take("chair") == "janet took the chair"
    assert henry.list_contents() == ["chair"]
    with pytest.raises(errors.AccessDenied, match=r"'henry' \(ipv.:.* may not call 'take' of "):
        henry.take("chair")


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_who_has_no_certificate_of_the_authority_is_not_let_in(made: Made, daemon: broker.Daemon, who: str) -> None:
    proxy: Any = broker.Proxy(daemon.uri_for(next(iter(daemon.objects))), credentials=made[who])
    with pytest.raises(errors.CannotConnect, match="certificate"):
        proxy.list_contents()
    with pytest.raises(errors.NamingError, match="certificate"):
        broker.locate_ns(credentials=made[who])


def test_a_client_without_credentials_is_told_that_it_needs_them(daemon: broker.Daemon) -> None:
    proxy: Any = broker.Proxy(daemon.uri_for(next(iter(daemon.objects))))
    with pytest.raises(errors.CannotConnect, match="answers as TLS: give credentials"):
        proxy.list_contents()
