"""NameServer, the client, against the service on a real gRPC server; and what other clients see of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from broker._pb import registry_pb2 as pb
from broker.connection.channels import open_channel, server_options
from broker.connection.server import DaemonThreads
from broker.errors import NameNotFound, NameTaken, NamingError
from broker.registry import wire
from broker.registry.client import NameServer
from broker.registry.store import MemoryStore, StoreError
from broker.uri import URI, InvalidURI

if TYPE_CHECKING:
    from tests.registry.conftest import Running, StartNames

HERE, THERE = URI("BROKER:o@here:1"), URI("BROKER:o@there:2")


class TestNameServer:
    def test_registers_and_looks_up(self, ns: NameServer) -> None:
        ns.register("a", HERE)
        ns.register("b", "PYRO:o@there:2", tags=["y", "x"])
        assert ns.lookup("a") == HERE
        assert ns.lookup("b", with_tags=True) == (THERE, frozenset({"x", "y"}))

    def test_lists_sorted_by_every_condition(self, ns: NameServer) -> None:
        ns.register("t_1", HERE, tags=["x", "y"])
        ns.register("tx1", THERE, tags=["x"])
        assert list(ns.list()) == ["Broker.NameServer", "t_1", "tx1"]
        assert ns.list("t_") == {"t_1": HERE}
        assert ns.list(regex="t.1") == {"t_1": HERE, "tx1": THERE}
        assert ns.list(tags_all=["x", "y"]) == {"t_1": HERE}
        assert ns.list(tags_any=["y", "z"], with_tags=True) == {"t_1": (HERE, frozenset({"x", "y"}))}
        assert ns.list(tags_any=[]) == {}
        assert list(ns.list(tags_all=[])) == list(ns.list())

    def test_removes_and_counts(self, ns: NameServer) -> None:
        for name in ("a", "b1", "b2", "c"):
            ns.register(name, HERE)
        assert ns.count() == 5
        assert ns.remove("a") == 1
        assert ns.remove("a") == 0
        assert ns.remove(prefix="b") == 2
        assert ns.remove(regex=".*") == 1
        assert ns.remove("Broker.NameServer") == 0
        assert ns.count() == 1

    def test_sets_tags(self, ns: NameServer) -> None:
        ns.register("a", HERE, tags=["x"])
        ns.set_tags("a", {"y"})
        assert ns.lookup("a", with_tags=True)[1] == {"y"}
        ns.set_tags("a", [])
        assert ns.lookup("a", with_tags=True)[1] == frozenset()
        with pytest.raises(NameNotFound):
            ns.set_tags("missing", [])

    def test_knows_itself(self, ns: NameServer, running: Running) -> None:
        ns.ping()
        assert str(ns.uri) == f"BROKER:Broker.NameServer@127.0.0.1:{running.port}"
        assert ns.lookup("Broker.NameServer") == ns.uri
        assert repr(ns) == f"<NameServer 127.0.0.1:{running.port}>"

    def test_refusals_say_who_refused_what(self, ns: NameServer, running: Running) -> None:
        ns.register("example.one", HERE)
        at = rf"\(name server at 127\.0\.0\.1:{running.port}\)"
        with pytest.raises(NameNotFound, match=rf"unknown name 'example.two': did you mean 'example.one'\? .* {at}"):
            ns.lookup("example.two")
        with pytest.raises(NameTaken, match=rf"'example.one' is taken by BROKER:o@here:1.* {at}"):
            ns.register("example.one", THERE, replace=False)
        with pytest.raises(NamingError, match=rf"invalid regex '\('.* {at}"):
            ns.list(regex="(")
        with pytest.raises(InvalidURI):
            ns.register("a", "nonsense")
        with pytest.raises(NamingError, match="which no URI can say"):
            ns.register("a b", HERE)

    def test_misuse_is_found_before_anything_is_sent(self, ns: NameServer) -> None:
        with pytest.raises(ValueError, match="not by none"):
            ns.remove()
        with pytest.raises(ValueError, match="not by name and prefix"):
            ns.remove("a", prefix="b")
        with pytest.raises(ValueError, match="not by both"):
            ns.list("a", regex="b")
        with pytest.raises(TypeError, match="not one str"):
            ns.register("a", HERE, tags="red")
        with pytest.raises(TypeError, match=r"register\(obj\) first"):
            ns.register("a", object())
        with pytest.raises(TypeError, match="a name is a str, not int"):
            ns.lookup(1)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="a prefix is a str, not int"):
            ns.list(3)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="a regex is a str, not int"):
            ns.remove(regex=3)  # type: ignore[arg-type]
        for ttl in (0, -1.0, float("nan")):
            with pytest.raises(ValueError, match="ttl is a number"):
                ns.register("a", HERE, ttl=ttl)

    def test_a_ttl_ends_a_name(self, ns: NameServer) -> None:
        ns.register("a", HERE, ttl=0.05)
        while "a" in ns.list():
            time.sleep(0.01)
        assert ns.count() == 1

    def test_is_shared_by_threads(self, ns: NameServer) -> None:
        def work(number: int) -> None:
            for each in range(20):
                ns.register(f"n{number}.{each}", HERE)
                assert ns.lookup(f"n{number}.{each}") == HERE

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(8)))
        assert ns.count() == 161

    def test_a_closed_one_says_so(self, ns: NameServer) -> None:
        with ns:
            ns.ping()
        with pytest.raises(NamingError, match="is closed"):
            ns.ping()
        assert repr(ns).endswith(", closed>")
        ns.close()


class TestRestart:
    def test_is_waited_for(self, start_names: StartNames) -> None:
        first = start_names()
        with first.client() as ns:
            ns.ping()
            first.stop()
            later = threading.Timer(0.7, lambda: start_names(port=first.port, may_return=False))
            later.start()
            assert ns.count() == 1
            later.join()

    def test_that_does_not_come_gives_up(self, start_names: StartNames) -> None:
        first = start_names()
        with NameServer("127.0.0.1", first.port, patience=0.4) as ns:
            ns.ping()
            first.stop()
            began = time.monotonic()
            with pytest.raises(NamingError, match="nothing listens there"):
                ns.ping()
            assert 0.3 < time.monotonic() - began < 5  # the default

    def test_a_name_that_may_come_back_is_asked_for_again(self, start_names: StartNames) -> None:
        restarted = start_names(may_return=True)
        with restarted.client() as ns:
            later = threading.Timer(0.3, lambda: restarted.names.register("a", str(HERE), registration=5, lease=b"x"))
            later.start()
            assert ns.lookup("a") == HERE
            later.join()

    def test_but_only_as_long_as_it_may(self, start_names: StartNames) -> None:
        restarted = start_names(may_return=True, lease_ttl=0.3)  # for 0.3 / 4 + 1 seconds
        with restarted.client() as ns:
            began = time.monotonic()
            with pytest.raises(NameNotFound):
                ns.lookup("a")
            assert 0.5 < time.monotonic() - began < 5  # the patience of a client


class TestStrangers:
    """Something else listens where the name server should be."""

    def test_nobody(self) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            assert "nothing listens there (connection refused)" in complaint_about("127.0.0.1", closed.getsockname()[1])

    def test_another_grpc_server(self) -> None:
        server = grpc.server(DaemonThreads("other"), options=server_options())  # type: ignore[arg-type]  # any executor will do
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        assert "speaks gRPC but is no name server" in complaint_about("127.0.0.1", port)
        server.stop(None).wait()

    def test_a_web_server(self) -> None:
        with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web:
            thread = threading.Thread(target=web.serve_forever)
            thread.start()
            try:
                assert "what listens there answers" in complaint_about("127.0.0.1", web.server_port)
            finally:
                web.shutdown()
                thread.join()

    def test_something_that_talks_first(self) -> None:
        with _says(b"SSH-2.0-OpenSSH_9.6\r\n") as port:
            assert "what listens there answers as SSH" in complaint_about("127.0.0.1", port)

    def test_an_unknown_host(self) -> None:
        assert "the host 'no-such-host.invalid' is not known" in complaint_about("no-such-host.invalid", 9090)


def complaint_about(host: str, port: int) -> str:
    with NameServer(host, port) as ns, pytest.raises(NamingError) as caught:
        ns.lookup("a")
    assert str(caught.value).startswith(f"no name server answers at {host}:{port}: ")
    return str(caught.value)


class _says:  # noqa: N801
    """A TCP server that sends each who connects the same bytes, and hangs up."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            peer, _ = self._listening.accept()
            with peer:
                if self._text == b"":
                    return
                peer.sendall(self._text)

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._listening.getsockname()[1])

    def __exit__(self, *exc_info: object) -> None:
        self._text = b""
        socket.create_connection(self._listening.getsockname()).close()
        self._thread.join()
        self._listening.close()


@pytest.fixture
def channel(running: Running) -> Iterator[grpc.Channel]:
    with open_channel("127.0.0.1", running.port) as opened:
        yield opened


class TestWire:
    """What a client in another language sees."""

    @pytest.mark.parametrize(
        ("method", "request_", "code", "reason"),
        [
            (wire.LOOKUP, pb.LookupNameRequest(name="x"), grpc.StatusCode.NOT_FOUND, "NameNotFound"),
            (
                wire.REGISTER,
                pb.RegisterRequest(name="Broker.NameServer", uri=str(HERE), replace=True),
                grpc.StatusCode.ALREADY_EXISTS,
                "NameTaken",
            ),
            (wire.REGISTER, pb.RegisterRequest(name="x", uri="y"), grpc.StatusCode.INVALID_ARGUMENT, "InvalidURI"),
            (wire.LIST, pb.ListRequest(regex="("), grpc.StatusCode.INVALID_ARGUMENT, "NamingError"),
            (wire.LIST, pb.ListRequest(regex="a", prefix="b"), grpc.StatusCode.INVALID_ARGUMENT, "NamingError"),
            (wire.REMOVE, pb.RemoveRequest(), grpc.StatusCode.INVALID_ARGUMENT, "NamingError"),
            (wire.REMOVE, pb.RemoveRequest(lease=b""), grpc.StatusCode.INVALID_ARGUMENT, "NamingError"),
            (wire.KEEP_ALIVE, pb.KeepAliveRequest(), grpc.StatusCode.INVALID_ARGUMENT, "NamingError"),
        ],
    )
    def test_refusals_are_statuses_with_details(
        self,
        channel: grpc.Channel,
        method: wire.Method[wire.Request, wire.Response],
        request_: wire.Request,
        code: grpc.StatusCode,
        reason: str,
    ) -> None:
        call = channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
        with pytest.raises(grpc.RpcError) as caught:
            call(request_)
        error = wire.call_of(caught.value)
        assert error is not None
        assert error.code() is code
        status = rpc_status.from_call(error)
        assert status.code == code.value[0]
        assert status.message == error.details()
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert (info.domain, info.reason) == ("broker", reason)

    def test_a_failing_file_is_the_name_servers_fault(self, start_names: StartNames) -> None:
        class Full(MemoryStore):
            def put(self, entry: object) -> None:
                raise StoreError("cannot write to 'x': the disk is full")

        broken = start_names(Full())
        with broken.client() as ns:
            with pytest.raises(NamingError, match="the disk is full"):
                ns.register("a", HERE)
            assert ns.count() == 1
        with open_channel("127.0.0.1", broken.port) as opened:
            call = opened.unary_unary(
                wire.REGISTER.path, pb.RegisterRequest.SerializeToString, pb.RegisterResponse.FromString
            )
            with pytest.raises(grpc.RpcError) as caught:
                call(pb.RegisterRequest(name="a", uri=str(HERE)))
            error = wire.call_of(caught.value)
            assert error is not None
            assert error.code() is grpc.StatusCode.INTERNAL

    def test_changes_can_be_watched_by_many(self, channel: grpc.Channel, ns: NameServer) -> None:
        call = channel.unary_stream(wire.WATCH.path, pb.WatchRequest.SerializeToString, pb.WatchEvent.FromString)
        streams = [call(pb.WatchRequest(prefix="a")) for _ in range(40)]
        for stream in streams:
            stream.initial_metadata()
        ns.register("b", HERE)
        ns.register("a", HERE, tags=["x"])
        ns.remove("a")
        for stream in streams:
            one, two = next(stream), next(stream)
            assert one == pb.WatchEvent(
                kind=pb.WatchEvent.REGISTERED, entry=pb.Entry(name="a", uri=str(HERE), tags=["x"])
            )
            assert (two.kind, two.entry.name) == (pb.WatchEvent.REMOVED, "a")
            stream.cancel()

    def test_a_watcher_that_goes_leaves_nothing(self, channel: grpc.Channel, ns: NameServer, running: Running) -> None:
        call = channel.unary_stream(wire.WATCH.path, pb.WatchRequest.SerializeToString, pb.WatchEvent.FromString)
        stream = call(pb.WatchRequest())
        stream.initial_metadata()
        (watcher,) = running.names._watchers._watchers
        stream.cancel()
        assert watcher.next() is None
