"""Bugs that other object brokers had, each tried on this one over real connections.

What belongs to one part is tested beside it: names in tests/registry/, values in tests/codecs/, exposure and
configuration in their own files.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import broker
from broker import errors
from broker._pb.broker_pb2 import Call, Cancel, Frame, InvokeRequest, InvokeResponse
from broker.calling.invocation import Invocation
from broker.codecs import Encoded
from broker.connection.calls import CallRequest, Outcome
from broker.connection.chains import new_chain
from broker.connection.client import ClientConnection
from broker.connection.engine import Settings
from broker.connection.opening import Place

pytestmark = pytest.mark.usefixtures("on_the_wire")


class Account:
    secret = "s3cret"  # what must not be reached

    def __init__(self) -> None:
        self.balance = 10
        self._pin = 1234

    def show(self) -> int:
        return self.balance

    def _hidden(self) -> int:
        return self._pin


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        daemon.register(Account(), "account")
        yield daemon


@pytest.fixture
def forger(daemon: broker.Daemon) -> Iterator[ClientConnection]:
    """A connection on which a test writes whatever it likes."""
    connection = ClientConnection(Place("localhost", daemon.address[1], None, None), Settings())
    connection.open(10)
    yield connection
    connection.engine.close("the test is over")


def _forge(forger: ClientConnection, member: str, kind: Call.Kind, arguments: Encoded) -> Any:
    request = CallRequest("account", member, kind, arguments, chain=new_chain())
    return forger.engine.call(request).wait(None)


TRAVERSALS = [
    "__class__", "__init__", "__dict__", "__reduce__", "__getattribute__", "__subclasses__", "__globals__",
    "_hidden", "_pin", "balance", "secret", "show.__func__", "show.__globals__", "",
]  # fmt: skip


@pytest.mark.parametrize("kind", [Call.METHOD, Call.GET, Call.SET])
@pytest.mark.parametrize("member", TRAVERSALS)
def test_forged_access_to_what_is_not_remote(forger: ClientConnection, member: str, kind: Call.Kind) -> None:
    """RPyC CVE-2019-16328: attribute and dunder access by the peer was remote code execution."""
    outcome = _forge(forger, member, kind, Encoded("json", b'[["x"]]'))
    assert outcome.refused is not None
    assert outcome.refused.reason in ("MEMBER_NOT_FOUND", "UNSUPPORTED_OPERATION")
    assert "s3cret" not in outcome.refused.message


class _Bomb:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def test_pickle_is_not_read_where_it_was_not_opted_in(
    forger: ClientConnection, daemon: broker.Daemon, tmp_path: Path
) -> None:
    """LeRobot CVE-2026-25874: pickle.loads of unauthenticated payloads."""
    exploded = tmp_path / "exploded"
    payload = pickle.dumps(([_Bomb(exploded)], {}))
    outcome = _forge(forger, "show", Call.METHOD, Encoded("pickle", payload))
    assert outcome.refused is not None
    assert outcome.refused.reason == "CODEC_NOT_ACCEPTED"
    with grpc.insecure_channel(f"localhost:{daemon.address[1]}") as channel:
        invoke = channel.unary_unary(
            "/broker.v1.ObjectBroker/Invoke", InvokeRequest.SerializeToString, InvokeResponse.FromString
        )
        request = InvokeRequest(object="account", method="show")
        request.encoded.codec, request.encoded.payload = "pickle", payload
        with pytest.raises(grpc.RpcError) as caught:
            invoke(request, timeout=10)
        assert "not accepted" in str(caught.value)
    assert not exploded.exists()


def test_a_client_reads_no_codec_that_it_did_not_ask_for(tmp_path: Path) -> None:
    """The same from the other side: a hostile server answers a json call with pickle."""
    exploded = tmp_path / "exploded"
    answer = Encoded("pickle", pickle.dumps(_Bomb(exploded)), ())
    proxy: Any = broker.Proxy("BROKER:x@localhost:1")
    asked = Invocation(proxy._broker._remote, "show", Encoded("json", b"[[],{}]"), Call.METHOD)
    with pytest.raises(errors.ProtocolError, match="not read"):
        asked.result_of(Outcome(value=answer))
    assert not exploded.exists()


def test_a_proxy_given_to_numpy_is_not_taken_apart(daemon: broker.Daemon) -> None:
    """RPyC CVE-2024-27758: np.array(netref) reached pickle through __array__."""
    with pytest.raises(TypeError):
        len(broker.Proxy(daemon.uri_for("account")))
    array = np.array(broker.Proxy(daemon.uri_for("account")), dtype=object)
    assert array.shape == ()


def test_a_hundred_clients_that_are_idle_keep_nobody_out(daemon: broker.Daemon) -> None:
    """Pyro5: the 81st idle proxy was refused."""
    place = Place("localhost", daemon.address[1], None, None)
    connections = [ClientConnection(place, Settings()) for _ in range(100)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda connection: connection.open(30), connections))
    for connection in connections:
        request = CallRequest("account", "show", Call.METHOD, Encoded("json", b"[[],{}]"), chain=new_chain())
        outcome = connection.engine.call(request).wait(None)
        assert outcome is not None
        assert outcome.value is not None
    for connection in connections:
        connection.engine.close("the test is over")


def test_nothing_is_served_after_shutdown(daemon: broker.Daemon) -> None:
    """Pyro5: the threaded daemon served on after shutdown()."""
    proxy: Any = broker.Proxy(daemon.uri_for("account"))
    assert proxy.show() == 10
    daemon.shutdown()
    with pytest.raises(errors.CommunicationError):
        proxy.show()


def test_a_nested_call_leaves_the_response_metadata_alone(daemon: broker.Daemon) -> None:
    """Pyro5: a nested call wiped the response annotations."""

    class Outer:
        def call(self) -> int:
            broker.current_context.response_metadata["outer"] = "kept"
            balance: int = broker.Proxy(daemon.uri_for("account")).show()
            return balance

    proxy: Any = broker.Proxy(daemon.register(Outer()))
    assert proxy.call() == 10
    assert dict(broker.current_context.response_metadata) == {"outer": "kept"}


def test_an_unknown_exception_class_keeps_its_message(daemon: broker.Daemon) -> None:
    """Pyro5: an exception class unknown to the client hid the original message."""

    class Overdrawn(ArithmeticError):
        def __init__(self, by: int, why: str) -> None:
            super().__init__(f"overdrawn by {by}: {why}")
            self.by = by

    class Bank:
        def draw(self) -> None:
            raise Overdrawn(5, "shopping")

    proxy: Any = broker.Proxy(daemon.register(Bank()))
    with pytest.raises(ArithmeticError, match="overdrawn by 5: shopping") as caught:
        proxy.draw()
    assert isinstance(caught.value, errors.RemoteError)
    assert caught.value.type.endswith("Overdrawn")


def test_a_name_that_is_not_there_yet_is_waited_for() -> None:
    """Pyro5: resolve(PYRONAME, delay_time) neither waited nor returned a URI."""
    daemon = broker.Daemon()
    port = daemon.address[1]
    daemon.shutdown()
    proxy: Any = broker.Proxy(f"BROKER:account@localhost:{port}", wait=20)
    later: list[broker.Daemon] = []

    def start() -> None:
        later.append(broker.Daemon(port=port))
        later[0].register(Account(), "account")
        later[0].start()

    timer = threading.Timer(0.3, start)
    timer.start()
    assert proxy.show() == 10
    timer.join()
    later[0].shutdown()


def test_a_hundred_failing_methods_cost_no_worker() -> None:
    """Pyro5: SystemExit in a method leaked a worker of the pool for good."""

    class Quits:
        def quit(self) -> None:
            raise SystemExit

    with broker.Daemon(max_workers=2) as daemon:
        proxy: Any = broker.Proxy(daemon.register(Quits()), timeout=20)
        for _ in range(100):
            with pytest.raises(errors.RemoteError):
                proxy.quit()
        assert daemon._workers.threads <= 2


def test_frames_of_a_stranger_are_no_call(forger: ClientConnection, daemon: broker.Daemon) -> None:
    """A frame that answers a call nobody made ends that connection, and no other."""
    proxy: Any = broker.Proxy(daemon.uri_for("account"))
    assert proxy.show() == 10
    forger.engine._line.put(Frame(id=99, reply=True, cancel=Cancel()))
    assert not forger.engine.ping(10)
    assert "was cancelled and was never made" in str(forger.engine.ended_because)
    assert proxy.show() == 10
