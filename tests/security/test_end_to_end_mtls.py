"""A name server, a daemon and clients on mutual TLS, over real connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import broker
from broker import certs, errors
from broker.connection import completion
from tests.security.conftest import Made, of


class Warehouse:
    def list_contents(self) -> list[str]:
        return ["chair"]

    def take(self, item: str) -> str:
        client = broker.current_context.client
        assert client is not None
        return f"{client.identity} took the {item}"

    def ask(self, other: Any) -> str:
        """Calls what it was given, as itself."""
        result: str = other.take("lamp")
        return result

    def hand(self, visitor: Any, other: Any) -> str:
        """Has the caller call what he gave."""
        result: str = visitor(other)
        return result


def only_janet_takes(client: Any, object_id: str, member: str) -> bool:
    return member != "take" or client.identity in ("janet", "warehouse")


@pytest.fixture
def names(made: Made, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with broker.start_ns(port=0, credentials=made["warehouse"]) as server:
        monkeypatch.setenv("BROKER_NS_PORT", str(server.address[1]))
        yield server


@pytest.fixture
def daemon(made: Made) -> Iterator[broker.Daemon]:
    with broker.Daemon(credentials=made["warehouse"], authorize=only_janet_takes) as daemon:
        daemon.register(Warehouse(), "warehouse")
        yield daemon


def call(daemon: broker.Daemon, credentials: broker.Credentials | None) -> Any:
    return broker.Proxy(daemon.uri_for("warehouse"), credentials=credentials)


def test_a_name_leads_to_an_object_that_knows_who_calls(made: Made, names: Any) -> None:
    with broker.Daemon(credentials=made["warehouse"], authorize=only_janet_takes) as daemon:
        daemon.publish(Warehouse(), "example.warehouse")
        janet: Any = broker.Proxy("BROKERNAME:example.warehouse", credentials=made["janet"])
        henry: Any = broker.Proxy("BROKERNAME:example.warehouse", credentials=made["henry"])
        assert janet.take("chair") == "janet took the chair"
        assert henry.list_contents() == ["chair"]
        with pytest.raises(errors.AccessDenied, match="has no remote member 'take' that this caller may"):
            henry.take("chair")
        assert not hasattr(henry, "take")
        # Who asks for it all the same, knowing its name, is refused by the daemon.
        with pytest.raises(errors.AccessDenied, match=r"'henry' \(ipv.:.* may not call 'take' of 'example.warehouse'"):
            henry._broker._remote.invoke("take", ("chair",))


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_who_has_no_certificate_of_the_authority_is_not_let_in(
    made: Made, daemon: broker.Daemon, names: Any, who: str
) -> None:
    what = "asks for a certificate" if who == "nobody" else "does not believe the certificate in .*stranger.pem"
    with pytest.raises(errors.CannotConnect, match=what):
        call(daemon, made[who]).list_contents()
    with pytest.raises(errors.NamingError, match=what):
        broker.locate_ns(credentials=made[who])


def test_a_client_without_credentials_is_told_that_it_needs_them(daemon: broker.Daemon) -> None:
    with pytest.raises(errors.CannotConnect, match="answers as TLS: give credentials"):
        call(daemon, None).list_contents()


def test_a_daemon_of_another_host_is_not_believed(made: Made) -> None:
    with broker.Daemon(credentials=made["elsewhere"]) as daemon:
        daemon.register(Warehouse(), "warehouse")
        with pytest.raises(errors.CannotConnect, match="not believed here: Hostname mismatch"):
            call(daemon, made["janet"]).list_contents()
        janet = made["janet"]
        by_name = broker.Credentials(janet.cert, janet.key, janet.ca, server_name="shop.example")
        assert call(daemon, by_name).take("chair") == "janet took the chair"


def test_a_daemon_without_tls_is_not_called_by_who_expects_it(made: Made) -> None:
    with broker.Daemon() as daemon:
        daemon.register(Warehouse(), "warehouse")
        with pytest.raises(errors.CannotConnect, match="speaks no TLS"):
            call(daemon, made["janet"]).list_contents()


def test_the_daemon_calls_others_as_itself(made: Made, daemon: broker.Daemon) -> None:
    """What is passed by reference is called by who gets it, with his own certificate."""
    with broker.Daemon(credentials=made["warehouse"], authorize=only_janet_takes) as second:
        second.register(Warehouse(), "warehouse")
        assert call(daemon, made["henry"]).ask(call(second, made["henry"])) == "warehouse took the lamp"


def test_what_an_exported_function_gets_is_called_as_the_connection_was_opened(
    made: Made, daemon: broker.Daemon
) -> None:
    with broker.Daemon(credentials=made["warehouse"], authorize=only_janet_takes) as second:
        second.register(Warehouse(), "warehouse")
        for name, other in (("janet", "henry"), ("henry", "janet")):
            visitor = broker.export(lambda place: place.take("lamp"))
            given = call(second, made[other])
            if name == "janet":
                assert call(daemon, made[name]).hand(visitor, given) == "janet took the lamp"
            else:
                with pytest.raises(errors.BrokerError, match="no remote member 'take' that this caller"):
                    call(daemon, made[name]).hand(visitor, given)


def test_on_a_unix_socket_too(made: Made, tmp_path: Path) -> None:
    with broker.Daemon(unix_socket=str(tmp_path / "s"), credentials=made["warehouse"]) as daemon:
        daemon.register(Warehouse(), "warehouse")
        assert call(daemon, made["janet"]).take("chair") == "janet took the chair"
        with pytest.raises(errors.CannotConnect):
            call(daemon, made["stranger"]).list_contents()


def test_by_public_grpc_as_well(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "is_available", False)
    with broker.Daemon(credentials=made["warehouse"]) as daemon:
        daemon.register(Warehouse(), "warehouse")
        assert call(daemon, made["janet"]).take("chair") == "janet took the chair"


def test_certificates_are_replaced_while_daemon_and_name_server_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certs.make_authority(tmp_path)
    certs.make_server(tmp_path, "shop", ["localhost"])
    certs.make_client(tmp_path, "janet")
    with (
        broker.Daemon(credentials=of(tmp_path, "shop")) as daemon,
        broker.start_ns(port=0, credentials=of(tmp_path, "shop")) as server,
    ):
        daemon.register(Warehouse(), "warehouse")
        janet = of(tmp_path, "janet")
        before = call(daemon, janet)
        ns = broker.locate_ns(*server.address, credentials=janet)
        assert before.take("a") == "janet took the a"
        shown = serial_number_at(daemon.address[1], janet)
        certs.make_server(tmp_path, "shop", ["localhost"], replace=True)
        assert serial_number_at(daemon.address[1], janet) != shown
        certs.make_client(tmp_path, "janet", replace=True)
        assert before.take("b") == "janet took the b"  # connections that are open go on
        ns.ping()  # on a new channel, with the new certificate
        # Half of a replacement: the certificate of the pair before is shown until it is whole.
        (tmp_path / "shop.key").write_bytes((tmp_path / "janet.key").read_bytes())
        shown = serial_number_at(daemon.address[1], janet)
        assert call(daemon, of(tmp_path, "janet")).take("c") == "janet took the c"
        assert "the certificate of before is still used" in caplog.text
        certs.make_server(tmp_path, "shop", ["localhost"], replace=True)
        assert serial_number_at(daemon.address[1], janet) != shown


def serial_number_at(port: int, credentials: broker.Credentials) -> object:
    """That of the certificate which a new connection is met with."""
    context = credentials.for_probe()
    plain = socket.create_connection(("localhost", port), timeout=5)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as peer:
        about = peer.getpeercert()
    assert about is not None
    return about["serialNumber"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cert": "janet.pem"}, "a certificate and its key go together"),
        ({"cert": "janet.pem", "key": "henry.key"}, "are no certificate and its private key"),
        ({"cert": "nowhere.pem", "key": "janet.key"}, r"nowhere\.pem cannot be read: No such file"),
        ({"ca": "janet.key"}, "holds no certificate of an authority"),
        ({"token": "a", "token_file": "b"}, "token or token_file, not both"),
        ({"token": "a b"}, "is no token"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(authority: Path, arguments: dict[str, str], message: str) -> None:
    given: dict[str, Any] = {name: text if name == "token" else authority / text for name, text in arguments.items()}
    with pytest.raises(broker.errors.BrokerError, match=message):
        broker.Credentials(**given)


def test_a_daemon_needs_a_certificate_of_its_own(authority: Path) -> None:
    with pytest.raises(errors.BrokerError, match="a daemon needs a certificate of its own"):
        broker.Daemon(credentials=broker.Credentials(ca=authority / "ca.pem"))
