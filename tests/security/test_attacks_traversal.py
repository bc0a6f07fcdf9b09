"""Names that lead where nobody is to get, by every kind of call; and frames that no client of ours would write."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import broker
from broker import errors
from broker._pb import broker_pb2
from broker._pb.broker_pb2 import Batch, Call, Cancel, Credit, Frame, Release
from broker.codecs import Encoded
from broker.connection.calls import CallRequest
from broker.connection.chains import new_chain
from broker.connection.client import ClientConnection
from broker.connection.engine import Connection, Settings
from broker.connection.opening import Place

HIDDEN = [
    "__class__", "__init__", "__dict__", "__globals__", "__getattribute__", "__reduce__", "__reduce_ex__", "__array__",
    "__subclasses__", "__del__", "__setattr__", "_secret", "secret", "_Safe__code", "contents.append",
    "show.__globals__", "show.__func__", "mro", "", ".", "show\0", "\u017fhow", " show", "show()", "__len__.__self__",
]  # fmt: skip
"""Of Python, of the instance, private, dotted, empty, and nearly right."""


class Safe:
    """One method is remote, and one property."""

    def __init__(self) -> None:
        self._secret = "s3cret"
        self.secret = "s3cret"
        self.__code = "s3cret"
        self.contents: list[str] = []
        self.visitors: list[Any] = []
        self.closed = threading.Event()

    def show(self, *args: object) -> str:
        return "shown"

    @property
    def open(self) -> bool:
        return True

    def meet(self, visitor: Any) -> None:
        self.visitors.append(visitor)

    def stay(self) -> None:
        broker.current_context.on_close(self.closed.set)


@pytest.fixture
def safe() -> Safe:
    return Safe()


@pytest.fixture
def daemon(safe: Safe) -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        daemon.register(safe, "safe")
        yield daemon
    assert safe.contents == []
    assert safe._secret == safe.secret == "s3cret"


@pytest.fixture(params=["tcp", "unix"])
def forger(
    daemon: broker.Daemon, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Connection]:
    """A connection on which anything may be called."""
    if request.param == "unix":
        monkeypatch.setattr("broker.connection.local.entrances.find", lambda host, port, socket_path: None)
    place = Place("localhost", daemon.address[1], None, None, request.param == "unix")
    connection = ClientConnection(place, Settings())
    connection.open(10)
    assert connection.engine.transport == request.param
    yield connection.engine
    connection.engine.close("the test is over")


def answer(connection: Connection, member: str, kind: Call.Kind, **more: Any) -> Any:
    """What comes of a call that no proxy would make."""
    arguments = more.pop("arguments", Encoded("json", b'[["s3cret"],{}]' if kind == Call.SET else b"[[],{}]"))
    call = connection.call(CallRequest(more.pop("object", "safe"), member, kind, arguments, new_chain(), **more))
    return call.wait(None)


@pytest.mark.parametrize("kind", [Call.METHOD, Call.GET, Call.SET])
def test_over_a_connection(forger: Connection, kind: Call.Kind) -> None:
    """RPyC CVE-2019-16328, CVE-2024-27758: the names that lead from an object to everything."""
    for member in HIDDEN:
        outcome = answer(forger, member, kind)
        assert outcome.refused is not None, member
        assert outcome.refused.reason in ("MEMBER_NOT_FOUND", "UNSUPPORTED_OPERATION"), member
        assert "s3cret" not in outcome.refused.message
    assert answer(forger, "show", Call.METHOD).refused is None


def test_in_a_batch(forger: Connection) -> None:
    """Each is refused by itself; those beside them are made."""
    for member in HIDDEN:
        batch = Batch(calls=[0, 1, 0], members=["show", member], go_on=True)
        outcome = answer(forger, "", Call.BATCH, batch=batch, arguments=Encoded("json", b"[[[],[],[]],[]]"))
        assert outcome.refused is None, member
        assert outcome.value.payload.count(b"shown") == 2, member
        assert b"s3cret" not in outcome.value.payload


def test_oneway_and_nested(daemon: broker.Daemon, forger: Connection) -> None:
    for member in HIDDEN:
        answer(forger, member, Call.METHOD, oneway=True)
    assert forger.ping(5)
    for member in HIDDEN:
        assert answer(forger, member, Call.METHOD, depth=2).refused is not None
    refused = daemon.stats().refused
    assert refused["MEMBER_NOT_FOUND"] + refused.get("UNSUPPORTED_OPERATION", 0) == 2 * len(HIDDEN)


@pytest.mark.parametrize("method", ["Invoke", "InvokeStream"])
@pytest.mark.parametrize("access", [0, broker_pb2.InvokeRequest.SET])
def test_by_other_grpc_clients(daemon: broker.Daemon, method: str, access: Any) -> None:
    with grpc.insecure_channel(f"localhost:{daemon.address[1]}") as channel:
        call: Any = channel.unary_stream(f"/broker.v1.ObjectBroker/{method}")
        for member in HIDDEN:
            request = broker_pb2.InvokeRequest(object="safe", method=member, access=access)
            with pytest.raises(grpc.RpcError) as caught:
                list(call(request.SerializeToString(), timeout=10))
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED, member
            assert "s3cret" not in str(caught.value)


def test_by_typed_services(daemon: broker.Daemon) -> None:
    with grpc.insecure_channel(f"localhost:{daemon.address[1]}") as channel:
        for member in (
            "__init__",
            "_secret",
            "secret",
            "Secret",
            "GetSecret",
            "SetSecret",
            "Contents",
            "Show.__globals__",
        ):
            for service in ("safe", "safe.__class__", "safe.contents", "safe_types", "broker.v1.ObjectBroker"):
                call: Any = channel.unary_stream(f"/{service}/{member}")
                with pytest.raises(grpc.RpcError) as caught:
                    list(call(b"", timeout=10))
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED, (service, member)


def test_a_daemon_that_calls_back(daemon: broker.Daemon, safe: Safe) -> None:
    """The other way round: a hostile daemon, and what a client has exported."""
    visitor = Safe()
    proxy: Any = broker.Proxy(daemon.uri_for("safe"), local=False)
    proxy.meet(broker.export(visitor))
    held = safe.visitors[0]._broker._remote.reference()
    for member in HIDDEN:
        for kind in (Call.METHOD, Call.GET, Call.SET):
            outcome = answer(held.connection, member, kind, object=f"@{held.number}")
            assert outcome.refused is not None, member
            assert "s3cret" not in outcome.refused.message
    for number in (0, held.number + 1, 1 << 60):
        assert answer(held.connection, "show", Call.METHOD, object=f"@{number}").refused.reason == "OBJECT_NOT_FOUND"
    assert visitor.secret == "s3cret"
    assert safe.visitors[0].show() == "shown"


@pytest.mark.parametrize(
    "name", ["__class__", "Broker.NameServer.__class__", "../etc/passwd", "a\nb", "*", "%", "", "\0"]
)
def test_names_of_a_name_server_are_names_and_nothing_else(name: str) -> None:
    with broker.start_ns(port=0) as server:
        ns = broker.locate_ns(*server.address)
        ns.register("other", "BROKER:a@localhost:1")
        with pytest.raises(errors.BrokerError):
            ns.lookup(name)
        remove = answer_of(lambda: ns.remove(name))
        assert remove == 0 or isinstance(remove, errors.BrokerError)
        assert list(ns.list()) == ["Broker.NameServer", "other"]


def answer_of(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        return error


# ---- frames of others


def test_sessions_and_calls_of_another_connection_are_out_of_reach(daemon: broker.Daemon, safe: Safe) -> None:
    """Numbers are those of a connection: closing, cancelling or granting them elsewhere is about nothing."""
    honest: Any = broker.Proxy(daemon.uri_for("safe"), local=False)
    honest.stay()
    place = Place("localhost", daemon.address[1], None, None)
    attacker = ClientConnection(place, Settings())
    attacker.open(10)
    assert answer(attacker.engine, "show", Call.METHOD).refused is None
    for number in range(1, 50):
        frame = Frame(id=number)
        frame.close.SetInParent()
        attacker.engine._line.put(frame)
    assert attacker.engine.ping(5)
    assert not safe.closed.is_set()
    assert honest.show() == "shown"
    for frame in (
        Frame(id=2, cancel=Cancel(reason="mine now")),
        Frame(id=2, credit=Credit(items=1000)),
        Frame(id=2, reply=True, refused=broker_pb2.Refusal(reason="INTERNAL")),
        Frame(id=1, release=Release(count=1)),
    ):
        forged = ClientConnection(place, Settings())
        forged.open(10)
        forged.engine._line.put(frame)
        assert forged.engine.flushed.wait(10)  # the daemon has ended it
        assert "ended the connection" in (forged.engine.ended_because or "")
        assert honest.show() == "shown"
    assert not safe.closed.is_set()
    attacker.engine.close("the test is over")


# ---- names that are taken over


def test_a_name_is_not_taken_over(made: Any) -> None:
    """By registering it anew, for a while, by removing it, by its tags, and through the name server's object."""
    mine = made["warehouse"]
    with broker.start_ns(port=0, credentials=mine) as server, broker.Daemon(credentials=mine) as daemon:
        with broker.config.override(ns_port=server.address[1]):
            daemon.publish(Safe(), "example.safe")
        before = broker.locate_ns(*server.address, credentials=made["janet"]).lookup("example.safe")
        henry = broker.locate_ns(*server.address, credentials=made["henry"])
        as_object: Any = broker.Proxy(server.uri, credentials=made["henry"])
        evil = "BROKER:evil@evil.example:1"
        for attempt in (
            lambda: henry.register("example.safe", evil),
            lambda: henry.register("example.safe", evil, ttl=1),
            lambda: henry.remove("example.safe"),
            lambda: henry.set_tags("example.safe", ["mine"]),
            lambda: as_object.register("example.safe", evil),
            lambda: as_object.remove("example.safe"),
        ):
            assert isinstance(answer_of(attempt), errors.BrokerError)
        assert henry.remove(prefix="example") == henry.remove(regex=".*") == 0
        assert henry.lookup("example.safe") == before


def test_the_statistics_have_all_of_it(daemon: broker.Daemon, forger: Connection) -> None:
    answer(forger, "__class__", Call.METHOD)
    assert dataclasses.asdict(daemon.stats())["refused"] == {"MEMBER_NOT_FOUND": 1}


@pytest.mark.parametrize("method", ["Invoke", "InvokeStream"])
def test_no_request_is_read_of_who_is_not_known(method: str) -> None:
    """Garbage of a stranger is not even found to be garbage; of somebody known it is, and ends one call."""
    known = broker.Credentials(accept=[broker.Tokens({"janet": "a-token-that-is-long-enough"})])
    with broker.Daemon(credentials=known) as daemon:
        daemon.register(Safe(), "safe")
        with grpc.insecure_channel(f"localhost:{daemon.address[1]}") as channel:
            call: Any = channel.unary_stream(f"/broker.v1.ObjectBroker/{method}")
            shown = (("authorization", "Bearer a-token-that-is-long-enough"),)
            for metadata, code in (
                ((), grpc.StatusCode.UNAUTHENTICATED),
                (shown, grpc.StatusCode.INVALID_ARGUMENT),
            ):
                with pytest.raises(grpc.RpcError) as caught:
                    list(call(b"\xff" * 1000, timeout=10, metadata=metadata))
                assert caught.value.code() is code
