"""What was done to other brokers, and what this one lets nobody do. docs/security.md names these tests."""

from __future__ import annotations

import logging
import logging.handlers
import pickle
import queue
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import broker
from broker import errors
from broker._pb import broker_pb2, registry_pb2
from broker._pb.broker_pb2 import Batch, Call
from broker.codecs import Encoded, PlainEdge
from broker.codecs.json import JsonCodec
from broker.connection import opening
from broker.connection.calls import CallRequest
from broker.connection.chains import new_chain
from broker.connection.client import ClientConnection, pool
from broker.connection.engine import Settings
from broker.connection.opening import Place
from broker.context import Client
from tests.security.conftest import Made

POLICY = """
[roles]
trusted = ["janet"]
others = ["*"]

[[allow]]
roles = ["others"]
objects = ["*"]

[[allow]]
roles = ["trusted"]
objects = ["*"]
pickle = true
"""


class Account:
    def __init__(self) -> None:
        self._balance = 10

    @property
    def balance(self) -> int:
        return self._balance

    @balance.setter
    def balance(self, value: int) -> None:
        self._balance = value

    def show(self, *args: object) -> int:
        return self._balance

    def each(self, *args: object) -> Iterator[int]:
        yield self._balance

    def teller(self) -> Any:
        return broker.export(self.show)

    def codec_of(self, function: Any) -> str:
        """The codec in which a function of the caller would be called."""
        codec: str = function._broker.codec
        return codec


class Bomb:
    """Leaves a trace where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def policy(tmp_path: Path) -> broker.Policy:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY, encoding="utf-8")
    return broker.Policy(file)


@pytest.fixture
def daemon(made: Made, policy: broker.Policy) -> Iterator[broker.Daemon]:
    with broker.Daemon(credentials=made["warehouse"], authorize=policy, codecs=["json", "pickle"]) as daemon:
        daemon.register(Account(), "account")
        yield daemon


# ---- pickle

PATHS = ["call", "oneway", "nested", "set", "stream", "batch"]


def forged(path: str, arguments: Encoded) -> CallRequest:
    """A call of that kind, as no proxy would make it."""
    kind = {"set": Call.SET, "batch": Call.BATCH}.get(path, Call.METHOD)
    member = {"set": "balance", "stream": "each", "batch": ""}.get(path, "show")
    batch = Batch(calls=[0], members=["show"]) if path == "batch" else None
    depth = 2 if path == "nested" else 1
    return CallRequest("account", member, kind, arguments, new_chain(), depth, oneway=path == "oneway", batch=batch)


@pytest.mark.parametrize("path", PATHS)
def test_pickle_of_a_stranger_is_loaded_on_no_path(
    daemon: broker.Daemon, made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """LeRobot CVE-2026-25874. Henry has an identity, and the policy does not trust him with pickle."""
    exploded = tmp_path / "exploded"
    connection = ClientConnection(Place("localhost", daemon.address[1], None, made["henry"]), Settings())
    connection.open(10)
    refused_before = sum(daemon.stats().refused.values())
    call = connection.engine.call(forged(path, Encoded("pickle", pickle.dumps(([Bomb(exploded)], {})))))
    if path == "oneway":
        assert connection.engine.ping(10)  # what came before it was looked at
        assert sum(daemon.stats().refused.values()) == refused_before + 1
    else:
        outcome = call.wait(None)
        assert outcome is not None
        if path == "batch":  # each of its calls is refused by itself
            assert sum(daemon.stats().refused.values()) == refused_before + 1
        else:
            assert outcome.refused is not None
            assert outcome.refused.reason == "ACCESS_DENIED"
    assert not exploded.exists()
    connection.engine.close("the test is over")


@pytest.mark.parametrize("kind", [Call.METHOD, Call.BATCH])
def test_nor_for_an_object_that_was_passed_to_him(
    daemon: broker.Daemon, made: Made, tmp_path: Path, kind: Call.Kind
) -> None:
    exploded = tmp_path / "exploded"
    connection = ClientConnection(Place("localhost", daemon.address[1], None, made["henry"]), Settings())
    connection.open(10)
    asked = connection.engine.call(
        CallRequest("account", "teller", Call.METHOD, Encoded("json", b"[[],{}]"), new_chain())
    ).wait(None)
    assert asked is not None
    assert asked.value is not None
    held: Any = asked.value.references[0]
    batch = Batch(calls=[0], members=["__call__"]) if kind == Call.BATCH else None
    member = "" if kind == Call.BATCH else "__call__"
    arguments = Encoded("pickle", pickle.dumps(([Bomb(exploded)], {})))
    request = CallRequest(f"@{held.number}", member, kind, arguments, new_chain(), batch=batch)
    connection.engine.call(request).wait(None)
    assert daemon.stats().refused == {"ACCESS_DENIED": 1}
    assert not exploded.exists()
    connection.engine.close("the test is over")


@pytest.mark.parametrize("codecs", [["json"], ["json", "pickle"]])
@pytest.mark.parametrize("asks", [True, False])
def test_a_greeting_is_never_pickle(tmp_path: Path, codecs: list[str], asks: bool) -> None:
    """It comes before anything else is asked about a caller."""
    exploded = tmp_path / "exploded"
    admitted: list[object] = []
    admit: Any = (lambda client, greeting: admitted.append(greeting)) if asks else None
    with broker.Daemon(codecs=codecs, admit=admit) as daemon:
        daemon.register(Account(), "account")
        connection = ClientConnection(Place("localhost", daemon.address[1], None, None), Settings())
        connection.open(10)
        greeting = Encoded("pickle", pickle.dumps(((Bomb(exploded),), {})))
        shown = Encoded("json", b"[[],{}]")
        calls = [
            CallRequest("", "", Call.GREET, greeting, new_chain(), session=1),
            CallRequest("account", "show", Call.METHOD, shown, new_chain(), session=1),
        ]
        outcomes = [call.wait(None) for call in map(connection.engine.call, calls)]
        reasons = [outcome and outcome.refused and outcome.refused.reason for outcome in outcomes]
        assert reasons == ["CODEC_NOT_ACCEPTED", "CODEC_NOT_ACCEPTED" if asks else None]
        assert not exploded.exists()
        assert not admitted
        connection.engine.close("the test is over")


@pytest.mark.parametrize("method", ["Invoke", "InvokeStream"])
def test_nor_from_other_grpc_clients(daemon: broker.Daemon, made: Made, tmp_path: Path, method: str) -> None:
    exploded = tmp_path / "exploded"
    request = broker_pb2.InvokeRequest(object="account", method="show")
    request.encoded.codec, request.encoded.payload = "pickle", pickle.dumps(([Bomb(exploded)], {}))
    credentials = made["henry"].for_channel()
    assert credentials is not None
    with grpc.secure_channel(f"localhost:{daemon.address[1]}", credentials) as channel:
        call: Any = channel.unary_unary if method == "Invoke" else channel.unary_stream
        invoke = call(
            f"/broker.v1.ObjectBroker/{method}",
            broker_pb2.InvokeRequest.SerializeToString,
            broker_pb2.InvokeResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as caught:
            list(invoke(request, timeout=10))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert not exploded.exists()


def test_pickle_of_who_is_trusted(daemon: broker.Daemon, made: Made) -> None:
    proxy: Any = broker.Proxy(daemon.uri_for("account"), credentials=made["janet"], codec="pickle")
    assert proxy.show(object) == 10


@pytest.mark.parametrize("credentials", [None, "tls"])
def test_pickle_needs_more_than_that_the_daemon_takes_it(made: Made, tmp_path: Path, credentials: str | None) -> None:
    """On the same machine it is enough where nobody is asked who he is, and not where everybody is."""
    given = made["warehouse"] if credentials is not None else None
    with broker.Daemon(credentials=given, codecs=["json", "pickle"]) as daemon:
        uri = daemon.register(Account(), "account")
        proxy: Any = broker.Proxy(uri, credentials=given and made["janet"], codec="pickle")
        if given is None:
            assert proxy.show() == 10
        else:
            with pytest.raises(errors.CodecError, match=r"pickle from 'janet' .* is not loaded"):
                proxy.show()


@pytest.mark.parametrize(
    ("address", "here"),
    [("ipv4:127.0.0.1:5000", True), ("ipv6:%5B::1%5D:5000", True), ("ipv6:[::ffff:127.0.0.1]:5000", True),
     ("unix:", True), ("unix:/tmp/s", True), ("inproc:17", True), ("ipv4:192.0.2.1:5000", False),
     ("ipv6:%5B2001:db8::1%5D:5000", False), ("ipv6:[fe80::1%25eth0]:1", False), ("ipv4:localhost:1", False),
     ("", False), ("127.0.0.1", False), ("vsock:1:2", False)],
)  # fmt: skip
def test_what_is_the_same_machine(address: str, here: bool) -> None:
    assert Client(address).is_on_this_machine is here


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("ipv4:127.0.0.1:5000", "127.0.0.1", 5000), ("ipv6:%5B::1%5D:1", "::1", 1), ("ipv6:[::1]:65535", "::1", 65535),
     ("ipv6:%5Bfe80::1%25eth0%5D:7", "fe80::1%eth0", 7), ("unix:/tmp/s", None, None), ("inproc:17", None, None),
     ("", None, None)],
)  # fmt: skip
def test_where_a_caller_is(address: str, host: str | None, port: int | None) -> None:
    client = Client(address)
    assert (client.host, client.port) == (host, port)


def test_a_proxy_loads_no_pickle_of_who_has_not_proved_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """LeRobot CVE-2026-25874, the other side: no call in pickle goes to where an answer could not be believed."""
    monkeypatch.setattr(opening, "is_loopback", lambda host: False)
    with broker.Daemon(codecs=["json", "pickle"]) as daemon:
        uri = daemon.register(Account(), "account")
        proxy: Any = broker.Proxy(uri, local=False)
        assert proxy.show() == 10
        show = proxy.show
        proxy._broker.set("codec", "pickle")
        calls: list[Any] = [show, show.oneway, lambda: show.future().result(10), lambda: proxy.balance]
        calls += [lambda: broker.Proxy(uri, local=False, codec="pickle").show(), lambda: gathered(proxy)]
        for call in calls:
            with pytest.raises(errors.AccessDenied, match="in pickle are not loaded here"):
                call()


def gathered(proxy: Any) -> list[object]:
    batch = broker.Batch(proxy)
    batch.show()
    return list(batch())


def test_a_daemon_calls_no_function_of_its_callers_in_pickle(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a caller says that he takes: the answer would be his pickle."""
    monkeypatch.setattr(pool, "settings", Settings(codecs=("json", "pickle")))
    broker.config.codec = "pickle"
    with broker.Daemon(credentials=made["warehouse"]) as daemon:
        uri = daemon.register(Account(), "account")
        proxy: Any = broker.Proxy(uri, credentials=made["janet"], codec="json")
        assert proxy.codec_of(broker.export(len)) == "json"


def test_nor_what_a_caller_has_a_uri_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The place is of his choice, and may be a program of his on this very machine."""
    monkeypatch.setattr(broker.config, "codec", "pickle")
    with broker.Daemon() as daemon:
        uri = daemon.register(Account(), "account")
        proxy: Any = broker.Proxy(uri, codec="json")
        for passed in (proxy, broker.Proxy("BROKER:evil@localhost:1", codec="pickle")):
            assert proxy.codec_of(passed) == "json"


# ---- who is let in


def all_methods() -> list[str]:
    """Every gRPC method that asks who calls; health does not."""
    services = [broker_pb2.DESCRIPTOR.services_by_name["ObjectBroker"]]
    services.append(registry_pb2.DESCRIPTOR.services_by_name["NameRegistry"])
    named = [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]
    reflection = [f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")]
    return [*named, *reflection, "/account/Show"]


@pytest.mark.parametrize("method", all_methods())
def test_nothing_is_open_to_who_has_no_identity(method: str) -> None:
    """Ray CVE-2023-48022."""
    known = broker.Credentials(accept=[broker.Tokens({"janet": "a-token-that-is-long-enough"})])
    with broker.start_ns(port=0, credentials=known) as server:
        server.daemon.register(Account(), "account")
        with grpc.insecure_channel(f"localhost:{server.address[1]}") as channel:
            call: Any = channel.stream_stream(method)
            for metadata in ((), (("authorization", "Bearer guessed"),)):
                with pytest.raises(grpc.RpcError) as caught:
                    list(call(iter([b""]), timeout=10, metadata=metadata))
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_health_is_open_to_probes() -> None:
    known = broker.Credentials(accept=[broker.Tokens({"janet": "a-token-that-is-long-enough"})])
    with broker.Daemon(credentials=known) as daemon, grpc.insecure_channel(f"localhost:{daemon.address[1]}") as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=10) == b"\x08\x01"  # SERVING


def test_a_caller_whose_identity_got_lost_is_refused_where_calls_are_decided_about(made: Made) -> None:
    """Behind every door there is another: a service that forgets to ask lets nobody call."""
    with broker.Daemon(credentials=made["warehouse"]) as daemon:
        daemon.register(Account(), "account")
        connection = ClientConnection(Place("localhost", daemon.address[1], None, made["janet"]), Settings())
        connection.open(10)
        for each in daemon._connects.connections:
            each.identity = None
        request = CallRequest("account", "show", Call.METHOD, Encoded("json", b"[[],{}]"), new_chain())
        outcome = connection.engine.call(request).wait(None)
        assert outcome is not None
        assert outcome.refused is not None
        assert outcome.refused.reason == "UNAUTHENTICATED"
        connection.engine.close("the test is over")


def test_nothing_listens_for_other_machines_unasked() -> None:
    """Dask CVE-2021-42343. Who listens at all addresses leaves none of them to others."""
    with broker.Daemon() as daemon, broker.start_ns(port=0) as server:
        for port in (daemon.address[1], server.address[1]):
            with socket.socket() as other:
                other.bind(("127.0.0.2", port))
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.2", port), timeout=5)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize("lacks", ["encryption", "identities", "both"])
def test_other_machines_are_served_with_tls_and_identities_or_not_at_all(
    authority: Path, caplog: pytest.LogCaptureFixture, host: str, lacks: str
) -> None:
    accept = [broker.Tokens({"janet": "a-token-that-is-long-enough"})]
    credentials, what = {
        "encryption": (broker.Credentials(accept=accept), "nothing is encrypted"),
        "identities": (
            broker.Credentials(authority / "warehouse.pem", authority / "warehouse.key"),
            "anyone there may call your objects",
        ),
        "both": (None, "nothing is encrypted, and anyone there may call your objects"),
    }[lacks]
    with pytest.raises(errors.DaemonError, match=f"and {what}: give the daemon credentials="):
        broker.Daemon(host, credentials=credentials)
    assert not caplog.records
    with broker.Daemon(host, credentials=credentials, insecure=True):
        assert [record.levelno for record in caplog.records if what in record.getMessage()] == [logging.WARNING]


def test_with_both_nothing_is_warned_of(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    with broker.Daemon("0.0.0.0", credentials=made["warehouse"]):
        assert not caplog.records


# ---- exceptions, and the log


def test_an_exception_that_names_a_class_imports_and_calls_nothing(tmp_path: Path) -> None:
    """Celery CVE-2021-23727: an exception was rebuilt by importing what its name said, and calling that."""
    (tmp_path / "never_imported.py").write_text("raise SystemExit", encoding="utf-8")
    sys.path.insert(0, str(tmp_path))
    try:
        for name in ("never_imported.Error", "os.system", "subprocess.Popen", "builtins.exec", "exec"):
            text = '{"$type":"exception","class":"%s","base":"ValueError","message":"m","args":["touch x"]}' % name  # noqa: UP031
            found = JsonCodec().decode(Encoded("json", text.encode()), PlainEdge(), "result")
            assert type(found).__mro__[1:3] == (errors.RemoteError, errors.BrokerError) or isinstance(found, ValueError)
            assert getattr(found, "type", "") == name
        assert "never_imported" not in sys.modules
    finally:
        sys.path.remove(str(tmp_path))


@pytest.fixture
def audited() -> Iterator[queue.SimpleQueue[logging.LogRecord]]:
    """What is logged of refusals, by threads of the library."""
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    log = logging.getLogger("broker.audit")
    log.addHandler(handler)
    yield records
    log.removeHandler(handler)


def test_what_callers_wrote_is_quoted_in_the_log(audited: queue.SimpleQueue[logging.LogRecord]) -> None:
    """Dask CVE-2026-23528: what others wrote was shown to an operator as it was. Here the line stays one."""
    with broker.Daemon(authorize=lambda client, name, member: False) as daemon:
        request = broker_pb2.InvokeRequest(object="a\nroot logged in\x1b[2J", method="<script>\r\n")
        with grpc.insecure_channel(f"localhost:{daemon.address[1]}") as channel:
            invoke: Any = channel.unary_unary("/broker.v1.ObjectBroker/Invoke")
            with pytest.raises(grpc.RpcError):
                invoke(request.SerializeToString(), timeout=10)
    line, _, who = audited.get(timeout=10).getMessage().rpartition(",")
    assert line == r"refused ACCESS_DENIED: 'a\nroot logged in\x1b[2J', member '<script>\r\n'"
    assert who.startswith(" to ipv")


@pytest.mark.parametrize("path", ["call", "batch", "oneway"])
def test_each_refusal_is_one_line_with_its_parts(
    audited: queue.SimpleQueue[logging.LogRecord], made: Made, path: str
) -> None:
    allowed = {"account": ("", "each")}
    with broker.Daemon(
        credentials=made["warehouse"], authorize=lambda client, name, member: member in allowed.get(name, ())
    ) as daemon:
        daemon.register(Account(), "account")
        connection = ClientConnection(Place("localhost", daemon.address[1], None, made["henry"]), Settings())
        connection.open(10)
        connection.engine.call(forged(path, Encoded("json", b'[["s3cret"],{}]')))
        record = audited.get(timeout=10)
        connection.engine.close("the test is over")
    parts = {name: getattr(record, name) for name in ("identity", "object", "member", "reason")}
    assert parts == {"identity": "henry", "object": "account", "member": "show", "reason": "ACCESS_DENIED"}
    assert record.levelno == logging.WARNING
    assert "s3cret" not in record.getMessage()
    assert audited.empty()
