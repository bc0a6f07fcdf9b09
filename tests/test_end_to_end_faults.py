"""Bad input, and peers that vanish: the documented error at the side that knows, and nothing else is lost."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import broker
from broker import errors
from broker._pb.broker_pb2 import Frame, Frames
from broker.connection.opening import CONNECT_METHOD
from broker.uri import join_host_port

pytestmark = pytest.mark.usefixtures("on_the_wire")


class OutOfStock(ValueError):
    pass


class Workshop:
    """Does what it is told, also what is wrong."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self) -> int:
        self.calls += 1
        return self.calls

    def echo(self, value: Any) -> Any:
        return value

    def give_lock(self) -> Any:
        return {"a": [threading.Lock()]}

    def raise_it(self, kind: str) -> None:
        raise {
            "exit": SystemExit(3),
            "interrupt": KeyboardInterrupt(),
            "stop": StopIteration(1),
            "generator": GeneratorExit(),
            "stock": OutOfStock("couch"),
            "timeout": errors.CallTimeout("of a nested call"),
            "name": errors.NameNotFound("nobody"),
        }[kind]

    def blob(self, size: int) -> bytes:
        return bytes(size)


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


@pytest.fixture
def proxy(daemon: broker.Daemon) -> Any:
    """A proxy with a session instance: its counter shows whether the session survived."""
    proxy: Any = broker.Proxy(daemon.register(Workshop, "workshop"))
    assert proxy.count() == 1
    return proxy


def test_unknown_object(daemon: broker.Daemon) -> None:
    proxy: Any = broker.Proxy(f"BROKER:nobody@localhost:{daemon.address[1]}")
    with pytest.raises(errors.ObjectNotFound, match="no object 'nobody' at localhost"):
        proxy.count()


def test_an_argument_that_cannot_be_encoded_is_refused_before_it_is_sent(proxy: Any) -> None:
    with pytest.raises(errors.CodecError, match=r"args\[0\]\['x'\]\[1\]"):
        proxy.echo({"x": [1, threading.Lock()]})
    with pytest.raises(errors.CodecError, match=r"make it a method of an object"):
        proxy.echo(print)
    assert proxy.count() == 2


def test_a_result_that_cannot_be_encoded_is_the_servers_fault(proxy: Any) -> None:
    with pytest.raises(
        errors.CodecError, match=r"workshop\.give_lock ran, and its result cannot be encoded by the server"
    ) as caught:
        proxy.give_lock()
    assert caught.value.may_have_run
    assert "result['a'][0]" in str(caught.value)
    assert proxy.count() == 2


@pytest.mark.parametrize(
    ("kind", "name"), [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt"), ("generator", "GeneratorExit")]
)
def test_exceptions_that_end_a_program_end_only_the_call(
    proxy: Any, daemon: broker.Daemon, kind: str, name: str
) -> None:
    for _ in range(3):
        with pytest.raises(errors.RemoteError) as caught:
            proxy.raise_it(kind)
        assert caught.value.type == name
    assert proxy.count() == 2
    assert daemon._workers.threads <= 4


def test_stop_iteration_does_not_end_the_callers_loop(proxy: Any) -> None:
    with pytest.raises(Exception, match="StopIteration") as caught:
        proxy.raise_it("stop")
    assert not isinstance(caught.value, StopIteration)


def test_errors_of_nested_calls_are_not_errors_of_this_call(proxy: Any) -> None:
    with pytest.raises(errors.RemoteError) as caught:
        proxy.raise_it("timeout")
    assert caught.value.type.endswith("CallTimeout")
    assert not isinstance(caught.value, errors.CallTimeout)
    with pytest.raises(errors.NameNotFound):
        proxy.raise_it("name")


def test_a_message_over_the_limit_is_refused_at_the_side_that_knows() -> None:
    with broker.Daemon(max_message_size=1 << 20) as daemon:
        proxy: Any = broker.Proxy(daemon.register(Workshop))
        assert proxy.count() == 1
        with pytest.raises(errors.MessageTooLargeError, match="accepts at most 1048576") as caught:
            proxy.echo(bytes(2 << 20))
        assert not caught.value.may_have_run
        assert proxy.count() == 2


def test_values_far_beyond_the_size_of_a_grpc_message(proxy: Any) -> None:
    value = bytes(range(256)) * (20 << 12)
    assert proxy.echo(value) == value
    assert len(proxy.blob(9 << 20)) == 9 << 20
    text = "x" * (6 << 20)
    assert proxy.echo([text, 1]) == [text, 1]


def test_a_port_in_use(daemon: broker.Daemon) -> None:
    with pytest.raises(errors.DaemonError, match=f"localhost:{daemon.address[1]}: something else listens") as caught:
        broker.Daemon(port=daemon.address[1])
    assert isinstance(caught.value, OSError)


def test_localhost_is_refused_if_one_of_its_addresses_is_taken() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(errors.DaemonError, match="something else listens"),
    ):
        broker.Daemon(port=other.getsockname()[1])


def test_a_bind_that_others_can_reach_needs_consent() -> None:
    with pytest.raises(errors.DaemonError, match="insecure=True"):
        broker.Daemon("0.0.0.0")
    with broker.Daemon("0.0.0.0", insecure=True) as daemon:
        assert daemon.address[0] not in ("0.0.0.0", "127.0.1.1", "")
    with broker.Daemon("0.0.0.0", insecure=True, advertise="example.org:99") as daemon:
        assert str(daemon.register(Workshop(), "w")) == "BROKER:w@example.org:99"


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    proxy: Any = broker.Proxy(f"BROKER:x@127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(errors.CannotConnect, match=f"cannot connect to 127.0.0.1:{port}.*refused") as caught:
        proxy.count()
    assert time.monotonic() - started < 9  # and not the time that connecting may take
    assert not caught.value.may_have_run


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"PYRO\x01\xf6", "Pyro"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1"),
        (b"SSH-2.0-x\r\n", "SSH"),
        (b"\x00\x01\x02", "answers with"),
    ],
)
def test_what_is_no_broker_is_named_by_its_first_bytes(answer: bytes, says: str) -> None:
    with _stranger(answer) as port:
        proxy: Any = broker.Proxy(f"BROKER:x@127.0.0.1:{port}", connect_timeout=40)
        with pytest.raises(errors.CannotConnect, match=says):
            proxy.count()


def test_what_answers_nothing_is_given_up_after_the_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy: Any = broker.Proxy(f"BROKER:x@127.0.0.1:{silent.getsockname()[1]}", connect_timeout=0.3)
        with pytest.raises(errors.CannotConnect):
            proxy.count()


def test_garbage_on_the_port_harms_nobody(daemon: broker.Daemon, proxy: Any) -> None:
    for garbage in (b"\x00" * 100, b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 40):
        with socket.create_connection(("127.0.0.1", daemon.address[1])) as peer:
            peer.settimeout(10)
            try:
                peer.sendall(garbage)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass
            except ConnectionError:
                pass  # gRPC closed it before all was sent
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    raise
    assert proxy.count() == 2


@pytest.mark.parametrize(
    "message",
    [b"\xff" * 50, Frames(frames=[Frame(id=1)]).SerializeToString(), b"\x0a\x02\x08"],
    ids=["noise", "no introduction", "cut short"],
)
def test_a_broken_protocol_ends_that_connection_and_no_other(daemon: broker.Daemon, proxy: Any, message: bytes) -> None:
    with grpc.insecure_channel(join_host_port("127.0.0.1", daemon.address[1])) as channel:
        hold = threading.Event()

        def requests() -> Iterator[bytes]:
            yield message
            hold.wait(10)

        connect: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(CONNECT_METHOD)
        answers = [Frames.FromString(answer) for answer in connect(requests())]
        hold.set()
    assert answers[-1].frames[-1].goaway.protocol_error
    assert answers[-1].frames[-1].goaway.reason
    assert proxy.count() == 2


def test_a_client_that_vanishes_in_the_middle_of_a_call(daemon: broker.Daemon, run_program: Callable[..., Any]) -> None:
    told, closed = threading.Event(), threading.Event()

    class Resource:
        def close(self) -> None:
            closed.set()

    class Waiting:
        def wait(self) -> None:
            broker.current_context.track(Resource())
            arrived.set()
            if broker.current_context.wait_cancelled(20):
                told.set()

        def alive(self) -> bool:
            return True

    arrived = threading.Event()
    uri = daemon.register(Waiting())
    client = run_program(f"import broker; broker.Proxy({str(uri)!r}).wait()")
    assert arrived.wait(20)
    client.process.kill()
    assert told.wait(20)
    assert closed.wait(20)
    assert broker.Proxy(uri).alive()


def test_a_daemon_that_vanishes_in_the_middle_of_a_call(run_program: Callable[..., Any]) -> None:
    code = """
        import broker, os, time
        class Server:
            calls = 0
            def die(self): os._exit(1)
            def count(self): self.calls += 1; return self.calls
        daemon = broker.Daemon(port={port})
        print("port", daemon.address[1])
        daemon.register(Server, "server")
        daemon.request_loop()
    """
    server = run_program(code.format(port=0))
    port = server.line("port")
    proxy: Any = broker.Proxy(f"BROKER:server@localhost:{port}", wait=10)
    assert (proxy.count(), proxy.count()) == (1, 2)
    with pytest.raises(errors.ConnectionClosedError, match="may have been executed") as caught:
        proxy.die()
    assert caught.value.may_have_run
    server.wait()
    run_program(code.format(port=port)).line("port")
    with pytest.raises(errors.ConnectionClosedError, match=r"state .* was lost") as caught:
        proxy.count()
    assert not caught.value.may_have_run
    assert proxy.count() == 1


def test_a_restarted_daemon_is_found_again_unseen(run_program: Callable[..., Any]) -> None:
    code = """
        import broker
        class Server:
            def ok(self): return True
        daemon = broker.Daemon(port={port})
        print("port", daemon.address[1])
        daemon.register(Server(), "server")
        daemon.request_loop()
    """
    server = run_program(code.format(port=0))
    port = server.line("port")
    proxy: Any = broker.Proxy(f"BROKER:server@localhost:{port}", wait=10)
    for _ in range(3):
        assert proxy.ok()
        server.process.terminate()
        assert server.wait() == 0
        server = run_program(code.format(port=port))
        server.line("port")
    assert proxy.ok()


def test_a_draining_daemon_refuses_and_answers_what_is_under_way() -> None:
    class Slow:
        def slow(self) -> str:
            inside.set()
            go_on.wait(10)
            return "done"

        def quick(self) -> int:
            return 1

    inside, go_on = threading.Event(), threading.Event()
    daemon = broker.Daemon()
    proxy: Any = broker.Proxy(daemon.register(Slow()))
    daemon.start()
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(proxy.slow()))
    caller.start()
    assert inside.wait(10)
    ending = threading.Thread(target=daemon.shutdown)
    ending.start()
    connection = proxy._broker._remote.session.connection.engine
    while connection.draining_because is None:
        time.sleep(0.005)
    with pytest.raises(errors.CommunicationError) as caught:
        proxy.quick()
    assert not caught.value.may_have_run
    go_on.set()
    caller.join(10)
    ending.join(10)
    assert answers == ["done"]


def test_retries_repeat_what_may_have_run(run_program: Callable[..., Any]) -> None:
    code = """
        import broker, os, sys
        class Server:
            def once(self):
                if sys.argv[1] == "die": os._exit(1)
                return "alive"
        daemon = broker.Daemon(port=int(sys.argv[2]))
        print("port", daemon.address[1])
        daemon.register(Server(), "server")
        daemon.request_loop()
    """
    server = run_program(code, "die", "0")
    port = server.line("port")
    proxy: Any = broker.Proxy(f"BROKER:server@localhost:{port}", wait=20, retries=1)

    def restart() -> None:
        server.wait()
        run_program(code, "live", port)

    restarting = threading.Thread(target=restart)
    restarting.start()
    assert proxy.once() == "alive"
    restarting.join()


class _Stranger:
    """A server that answers every connection with the same bytes, and is not held up by one that says nothing: gRPC may
    have begun another attempt, which it leaves as it is once nobody wants it."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        port: int = self._listener.getsockname()[1]
        return port

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_one, args=(peer,), daemon=True).start()

    def _serve_one(self, peer: socket.socket) -> None:
        with peer:
            try:
                peer.recv(64)
                peer.sendall(self._answer)
            except OSError:
                pass  # the peer went away first


def _stranger(answer: bytes) -> _Stranger:
    return _Stranger(answer)


def test_a_silent_listener_costs_the_time_of_the_call_and_little_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(broker.errors.CannotConnect, match="answers nothing"):
            broker.Proxy(f"BROKER:x@127.0.0.1:{silent.getsockname()[1]}", timeout=0.3).x()
        assert time.monotonic() - began < 9  # and not the ten seconds that connecting may take
