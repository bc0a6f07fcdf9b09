"""The Unix socket beside a TCP port, between processes of one host: taken by itself, or not noticed at all."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import broker
from broker import errors
from broker._pb.broker_pb2 import Frame, Frames, SocketOffer
from broker.connection import completion
from broker.connection.client import pool
from broker.connection.engine import Settings
from broker.connection.inbox import Inbox
from broker.connection.local import entrances
from broker.connection.near import Claim
from broker.connection.opening import CONNECT_METHOD
from broker.connection.reading import decode_frames
from broker.uri import URI
from tests.conftest import self_signed

Run = Callable[..., Any]


class Shelf:
    def all(self) -> list[str]:
        return ["a", "b"]

    def caller(self) -> str:
        client = broker.current_context.client
        assert client is not None
        return client.address

    def call_back(self, function: Any) -> object:
        return function("hello")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where daemons have their sockets."""
    directory = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory
    subprocess.run(["rm", "-r", str(directory)], check=True)


@pytest.fixture
def daemon(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[broker.Daemon]:
    """A daemon that the proxies of this process take for one of another process."""
    monkeypatch.setattr(entrances, "find", lambda host, port, socket_path: None)
    with broker.Daemon() as daemon:
        yield daemon


@pytest.fixture
def uri(daemon: broker.Daemon) -> URI:
    return daemon.register(Shelf(), "shelf")


def _transport(proxy: Any) -> str | None:
    transport: str | None = proxy._broker.transport
    return transport


def _sockets(runtime: Path) -> list[Path]:
    return [*runtime.glob("*/*")]


def _anew(uri: URI | str, **options: Any) -> Any:
    """A proxy that does not use the connection of others."""
    for connection in [*pool._connections.values()]:
        pool.forget(connection)
    return broker.Proxy(uri, **options)


def test_a_connection_moves_to_the_socket_and_keeps_its_identity(uri: URI, runtime: Path) -> None:
    assert _sockets(runtime) == [], "there is none before somebody would use it"
    proxy = _anew(uri)
    address = proxy.caller()
    assert address.startswith(("ipv4:127.0.0.1:", "ipv6:"))
    assert _transport(proxy) == "unix"
    (path,) = _sockets(runtime)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.lstat().st_mode) == 0o700
    other = _anew(uri)
    assert other.caller() != address
    assert _sockets(runtime) == [path]


def test_the_connection_over_tcp_ends(daemon: broker.Daemon, uri: URI) -> None:
    proxy = _anew(uri)
    proxy.all()
    (moved,) = [connection for connection in daemon._connects.connections if connection.transport == "unix"]
    for connection in daemon._connects.connections:
        if connection is not moved:
            ended = threading.Event()
            connection.on_end = lambda connection, ended=ended: ended.set()
            assert connection.ended_because is not None or ended.wait(10)
    assert moved.usable


def test_callbacks_and_shutdown_work_there(daemon: broker.Daemon, uri: URI) -> None:
    proxy = _anew(uri)
    assert proxy.call_back(broker.export(lambda text: f"{text}!")) == "hello!"
    assert _transport(proxy) == "unix"
    daemon.shutdown()
    with pytest.raises(errors.CannotConnect, match="nothing listens"):
        proxy.all()


def test_local_false_stays_on_tcp(uri: URI, runtime: Path) -> None:
    proxy = _anew(uri, local=False)
    proxy.all()
    assert _transport(proxy) == "tcp"
    assert _sockets(runtime) == []


def test_a_daemon_on_a_unix_socket_has_no_second_one(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrances, "find", lambda host, port, socket_path: None)
    with broker.Daemon(unix_socket=str(tmp_path / "s")) as daemon:
        proxy = _anew(daemon.register(Shelf()))
        assert proxy.caller().startswith("unix:")
        assert _transport(proxy) == "unix"
        assert _sockets(runtime) == []


@pytest.mark.parametrize("side", ["client", "server"])
def test_on_the_public_api_of_grpcio(runtime: Path, monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    monkeypatch.setattr(entrances, "find", lambda host, port, socket_path: None)
    monkeypatch.setattr(completion, "is_available", side == "client")
    with broker.Daemon() as daemon:
        uri = daemon.register(Shelf(), "shelf")
        daemon._connects._near.path()  # type: ignore[union-attr]
        monkeypatch.setattr(completion, "is_available", side == "server")
        proxy = _anew(uri)
        assert proxy.caller().startswith(("ipv4:127.0.0.1:", "ipv6:"))
        assert _transport(proxy) == "unix"


def test_behind_tls_the_caller_stays_who_it_was(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrances, "find", lambda host, port, socket_path: None)
    key, certificate = self_signed(tmp_path)
    asked: list[str] = []

    def authorize(client: Any, object_id: str, member: str) -> bool:
        asked.append(client.address)
        return member != "all"

    credentials = grpc.ssl_server_credentials([(key, certificate)])
    with broker.Daemon(credentials=credentials, authorize=authorize) as daemon:
        proxy = _anew(daemon.register(Shelf()), credentials=grpc.ssl_channel_credentials(certificate))
        address = proxy.caller()
        assert _transport(proxy) == "unix"
        assert address.startswith(("ipv4:127.0.0.1:", "ipv6:"))
        with pytest.raises(errors.AccessDenied, match="no remote member 'all' that this caller may call"):
            proxy.all()
        assert set(asked) == {address}


def test_what_lies_between_client_and_daemon_is_not_passed_by(uri: URI, runtime: Path) -> None:
    """A relay, a tunnel, a mesh: whoever put it there wants the calls to go through it."""
    passed: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as relay:
        threading.Thread(target=_relay, args=(relay, uri.port, passed), daemon=True).start()
        proxy = _anew(f"BROKER:shelf@127.0.0.1:{relay.getsockname()[1]}")
        assert proxy.all() == ["a", "b"]
        assert _transport(proxy) == "tcp"
    assert passed
    assert _sockets(runtime) == []


def _relay(listener: socket.socket, port: int, passed: list[bytes]) -> None:
    here, _ = listener.accept()
    there = socket.create_connection(("127.0.0.1", port))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with source, sink:
            while data := source.recv(65536):
                passed.append(data)
                sink.sendall(data)

    threading.Thread(target=pump, args=(here, there.dup()), daemon=True).start()
    pump(there, here.dup())


# ---- whom the client trusts


@pytest.mark.parametrize("spoil", ["deleted", "open", "replaced"])
def test_a_socket_that_is_not_as_it_should_be_is_passed_over_in_silence(
    uri: URI, runtime: Path, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    _anew(uri).all()
    (path,) = _sockets(runtime)
    if spoil == "open":
        path.chmod(0o666)
    else:
        path.unlink()
    impostor = socket.socket(socket.AF_UNIX)
    if spoil == "replaced":  # by somebody who takes connections, and cannot know the secret
        impostor.bind(str(path))
        impostor.listen()
        path.chmod(0o600)
    with impostor:
        proxy = _anew(uri, connect_timeout=5)
        assert proxy.all() == ["a", "b"]
        assert _transport(proxy) == "tcp"
    assert not caplog.records


def test_a_daemon_that_knows_nothing_of_the_secret_is_not_talked_to(
    uri: URI, runtime: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another broker at the path: gRPC lets a second server take a path over without a word."""
    _anew(uri).all()
    (path,) = _sockets(runtime)
    path.unlink()
    with broker.Daemon(unix_socket=str(path)) as impostor, caplog.at_level(logging.DEBUG, "broker"):
        called: list[str] = []

        class Fake(Shelf):
            def all(self) -> list[str]:
                called.append("all")
                return []

        impostor.register(Fake(), "shelf")
        proxy = _anew(uri)
        assert proxy.all() == ["a", "b"]
        assert _transport(proxy) == "tcp"
        assert not called
    assert any("stays on TCP" in record.getMessage() for record in caplog.records)


def test_the_socket_of_another_user_is_not_used(run_program: Run, runtime: Path) -> None:
    """Run by root, the daemon gives its rights up; else there is no other user to be had, and the socket is our own."""
    runtime.chmod(0o755)
    program = run_program(
        """
        import os, sys, tempfile
        import broker

        class Shelf:
            def all(self):
                return ["a", "b"]

        warm_up = broker.Daemon()  # imports all that it needs while it may read them
        warm_up.shutdown()
        if os.geteuid() == 0:
            os.setuid(65534)
        daemon = broker.Daemon()
        print("uri", daemon.register(Shelf()), flush=True)
        daemon.request_loop()
        """,
        environment={"XDG_RUNTIME_DIR": ""},
    )
    proxy: Any = broker.Proxy(program.line("uri"))
    assert proxy.all() == ["a", "b"]
    assert _transport(proxy) == ("tcp" if os.geteuid() == 0 else "unix")


# ---- whom the daemon lets in


@pytest.fixture
def near(uri: URI, runtime: Path) -> Iterator[socket.socket]:
    """The connection of a stranger to the socket beside the port."""
    _anew(uri).all()
    (path,) = _sockets(runtime)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(10)
        stranger.connect(str(path))
        yield stranger


def _message(hello: Any) -> bytes:
    return Frames(frames=[Frame(hello=hello)]).SerializeToString()


def _introduce_over_grpc(channel: grpc.Channel, hello: Any) -> list[Any]:
    """What the daemon answers to a Hello, until it has nothing more to say."""
    connect: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(CONNECT_METHOD)
    answers: list[Any] = []
    for message in connect(iter([_message(hello)]), timeout=10):
        answers += decode_frames(message)
    return answers


def _introduce(near: socket.socket, hello: Any) -> list[Any]:
    """What the daemon answers to a Hello on the socket, until it has closed the connection."""
    message = _message(hello)
    near.sendall(struct.pack(">I", len(message)) + message)
    return _all_answers(near)


def _all_answers(near: socket.socket) -> list[Any]:
    inbox = Inbox()
    answers: list[Any] = []
    while data := near.recv(65536):
        answers += decode_frames(inbox.put(data))
    return answers


def test_who_has_no_offer_is_not_let_in(near: socket.socket) -> None:
    (answer,) = _introduce(near, Settings().to_wire())
    assert answer.goaway.protocol_error
    assert "had no offer" in answer.goaway.reason


def test_who_guesses_the_secret_is_not_let_in(near: socket.socket, uri: URI, runtime: Path) -> None:
    hello = Settings().to_wire()
    hello.port = uri.port or 0
    with grpc.insecure_channel(f"127.0.0.1:{uri.port}") as over_tcp:
        connect: grpc.StreamStreamMultiCallable[bytes, bytes] = over_tcp.stream_stream(CONNECT_METHOD)
        done = threading.Event()

        def requests() -> Iterator[bytes]:
            yield _message(hello)
            done.wait(10)

        stream = connect(requests(), timeout=20)
        (welcome,) = decode_frames(next(stream))
        assert isinstance(welcome, Frame)
        offer = welcome.welcome.offer
        assert Path(offer.path) in _sockets(runtime)
        guessed = SocketOffer(path=offer.path, ticket=offer.ticket, secret=bytes(32))
        hello.proof.CopyFrom(Claim(guessed).proof)
        (answer,) = _introduce(near, hello)
        assert "does not know the secret" in answer.goaway.reason
        done.set()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(struct.pack(">I", 5 << 20), id="a message that is too big"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="gRPC"),
        pytest.param(struct.pack(">I", 4) + b"\xff" * 4, id="no frames"),
        pytest.param(struct.pack(">I", 100_000) + bytes(100_000), id="many bytes of nothing"),
    ],
)
def test_what_is_no_message_of_ours_ends_that_connection_alone(near: socket.socket, uri: URI, sent: bytes) -> None:
    neighbour = broker.Proxy(uri)
    assert neighbour.all() == ["a", "b"]
    near.sendall(sent)
    (answer,) = _all_answers(near)
    assert answer.goaway.protocol_error
    assert neighbour.all() == ["a", "b"]
    assert _transport(neighbour) == "unix"


def test_who_says_nothing_holds_nobody_up(near: socket.socket, uri: URI) -> None:
    near.sendall(b"\0\0")  # half of a length
    assert _anew(uri).all() == ["a", "b"]


def test_a_client_that_does_not_ask_gets_no_offer(uri: URI, runtime: Path) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{uri.port}") as channel:
        (welcome,) = _introduce_over_grpc(channel, Settings().to_wire())[:1]
    assert not welcome.welcome.HasField("offer")
    assert _sockets(runtime) == []


# ---- what becomes of the socket

_SERVER = """
import sys
import broker

class Shelf:
    def all(self):
        return ["a", "b"]

daemon = broker.Daemon()
print("uri", daemon.register(Shelf(), "shelf"), flush=True)
daemon.{run}()
if "{run}" == "start":
    input()
print("ended", flush=True)
"""


def test_between_processes(run_program: Run, runtime: Path) -> None:
    program = run_program(_SERVER.format(run="request_loop"))
    proxy: Any = broker.Proxy(program.line("uri"))
    assert proxy.all() == ["a", "b"]
    assert _transport(proxy) == "unix"
    assert len(_sockets(runtime)) == 1
    program.send_signal(signal.SIGTERM)
    program.line("ended")
    assert not [*runtime.iterdir()], "SIGTERM ends it cleanly"


def test_a_daemon_that_is_killed_is_a_lost_connection_and_the_next_one_cleans_up(
    run_program: Run, runtime: Path
) -> None:
    program = run_program(_SERVER.format(run="request_loop"))
    proxy: Any = broker.Proxy(program.line("uri"), connect_timeout=5)
    assert proxy.all() == ["a", "b"]
    (left,) = _sockets(runtime)
    program.send_signal(signal.SIGKILL)
    program.wait()
    with pytest.raises(errors.CommunicationError):
        proxy.all()
    os.utime(left.parent, (1, 1))
    next_one = run_program(_SERVER.format(run="request_loop"))
    other: Any = broker.Proxy(next_one.line("uri"))
    assert other.all() == ["a", "b"]
    give_up = threading.Event()
    for _ in range(1000):
        if not left.parent.exists():
            break
        give_up.wait(0.01)
    assert not left.parent.exists()
    assert len(_sockets(runtime)) == 1


def test_a_forgotten_daemon_leaves_nothing_behind(run_program: Run, runtime: Path) -> None:
    program = run_program(
        """
        import os
        import broker
        from broker.connection.local import entrances

        class Shelf:
            def all(self):
                return ["a", "b"]

        daemon = broker.Daemon()
        uri = daemon.register(Shelf())
        daemon.start()
        entrances.remove(daemon._entrance)
        proxy = broker.Proxy(uri)
        assert proxy.all() == ["a", "b"]
        print("transport", proxy._broker.transport)
        """
    )
    assert program.line("transport") == "unix"
    assert program.wait() == 0
    assert program.errors == ""
    assert not [*runtime.iterdir()]


def test_a_forked_child_that_ends_leaves_the_socket_to_its_parent(run_program: Run, runtime: Path) -> None:
    program = run_program(
        """
        import os, sys
        import broker
        from broker.connection.local import entrances

        class Shelf:
            def all(self):
                return ["a", "b"]

        daemon = broker.Daemon()
        uri = daemon.register(Shelf())
        daemon.start()
        path = daemon._connects._near.path()
        child = os.fork()
        if not child:
            sys.exit(0)
        os.waitpid(child, 0)
        print("there", os.path.exists(path))
        daemon.shutdown()
        print("after", os.path.exists(path))
        """
    )
    assert program.line("there") == "True"
    assert program.line("after") == "False"
    assert program.wait() == 0
