"""Too much of everything, from real sockets, at a daemon in a process of its own.

In each attack the daemon goes on serving an honest client in bounded time, takes a bounded amount of memory, and gives
all descriptors back afterwards. `make attacks` runs them in their long form, with 10,000 half-open connections.
"""

from __future__ import annotations

import os
import resource
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import broker
from broker._pb import broker_pb2
from broker._pb.broker_pb2 import Call, Encoded, Frame, Frames
from broker.connection.engine import Settings
from broker.connection.opening import CONNECT_METHOD

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")

HALF_OPEN = int(os.environ.get("ATTACK_CONNECTIONS", "300"))
"""Connections that never become one."""
BOUNDED_SECONDS = 15.0
"""How long an honest call may take meanwhile, on a machine that runs other tests as well."""
MIB = 1 << 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
INVOKE = "/broker.v1.ObjectBroker/Invoke"

SERVER = """
    import dataclasses, json, os, resource, sys
    import broker

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    class Account:
        def show(self, *args):
            return len(args)
        def text(self, size):
            return "x" * size
        def take(self, items):
            return sum(1 for item in items)
        def limits(self):
            return dict(daemon.stats().limits)
        def connections(self):
            return daemon.stats().connections

    credentials = broker.Credentials(sys.argv[1], sys.argv[2]) if len(sys.argv) > 1 else None
    daemon = broker.Daemon(credentials=credentials)
    print("uri", daemon.register(Account(), "account"))
    daemon.request_loop()
"""


class Target:
    """The daemon that is attacked, seen from outside, and an honest client of it."""

    def __init__(self, program: Any, uri: str, credentials: broker.Credentials | None = None) -> None:
        self.pid: int = program.pid
        self.uri = broker.URI(uri)
        self.port = self.uri.port or 0
        self.honest: Any = broker.Proxy(uri, credentials=credentials, local=False)
        assert self.honest.show() == 0
        self.slowest = 0.0  # honest call, in seconds
        self.memory_before, self.descriptors_before = self.memory(), self.descriptors()

    def memory(self) -> int:
        """Bytes that the process has in memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 - names are all that is wanted

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def serves(self, *, memory: int) -> None:
        """An honest call is answered in time, and no more than so much memory was taken."""
        began = time.monotonic()
        assert self.honest.show(1, 2) == 2
        self.slowest = max(self.slowest, time.monotonic() - began)
        assert self.slowest < BOUNDED_SECONDS
        assert self.memory() - self.memory_before < memory, f"{(self.memory() - self.memory_before) // MIB} MiB"

    def has_recovered(self, seconds: float = 60.0, *, slack: int = 4) -> None:
        """All descriptors are back."""
        until = time.monotonic() + seconds
        while self.descriptors() > self.descriptors_before + slack:
            assert time.monotonic() < until, f"{self.descriptors()} descriptors, {self.descriptors_before} before"
            time.sleep(0.05)


@pytest.fixture
def start(run_program: Callable[..., Any]) -> Callable[..., Target]:
    def start(*arguments: str, credentials: broker.Credentials | None = None, **limits: object) -> Target:
        environment = {f"BROKER_{name.upper()}": str(value) for name, value in limits.items()}
        program = run_program(SERVER, *arguments, environment=environment)
        return Target(program, program.line("uri", timeout=60), credentials)

    return start


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """To be closed in the end."""
    opened: list[socket.socket] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < HALF_OPEN + 1_000:
        assert hard >= HALF_OPEN + 1_000, f"`ulimit -n` is {hard}: {HALF_OPEN} connections need more"
        resource.setrlimit(resource.RLIMIT_NOFILE, (HALF_OPEN + 1_000, hard))
    yield opened
    for each in opened:
        each.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- connections that never become one


@pytest.mark.timeout(300)
@pytest.mark.parametrize("said", ["nothing", "half of the preface", "nothing behind the preface"])
def test_half_open_connections(start: Callable[..., Target], sockets: list[socket.socket], said: str) -> None:
    target = start(handshake_timeout=2)
    words = {"nothing": b"", "half of the preface": PREFACE[:9], "nothing behind the preface": PREFACE}[said]
    for number in range(HALF_OPEN):
        sockets.append(target.connect())
        sockets[-1].sendall(words)
        if number % 100 == 0:
            target.serves(memory=(64 + HALF_OPEN // 10) * MIB)
    target.serves(memory=(64 + HALF_OPEN // 10) * MIB)
    most = target.memory() - target.memory_before
    target.has_recovered()
    print(
        f"{HALF_OPEN} that said {said}: honest calls within {target.slowest:.2f} s, {most / MIB:.0f} MiB"
    )  # make attacks
    target.serves(memory=(64 + HALF_OPEN // 10) * MIB)


def test_tls_that_is_never_finished(
    start: Callable[..., Target], sockets: list[socket.socket], authority: Path, made: dict[str, broker.Credentials]
) -> None:
    files = [str(authority / name) for name in ("warehouse.pem", "warehouse.key")]
    target = start(*files, credentials=made["nobody"], handshake_timeout=2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for number in range(100):
        sockets.append(target.connect())
        if number % 2:  # its first message, and no second one
            outgoing = ssl.MemoryBIO()
            with pytest.raises(ssl.SSLWantReadError):
                context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
            sockets[-1].sendall(outgoing.read())
    target.serves(memory=64 * MIB)
    target.has_recovered()
    target.serves(memory=64 * MIB)


def test_connections_without_a_call(start: Callable[..., Target], sockets: list[socket.socket]) -> None:
    """HTTP/2 has come about, and nothing follows: that is an idle connection."""
    target = start(idle_timeout=3)
    for _ in range(100):
        sockets.append(target.connect())
        sockets[-1].sendall(PREFACE + SETTINGS)
    target.serves(memory=64 * MIB)
    target.has_recovered(slack=5)  # the honest one may have been closed, too
    target.serves(memory=64 * MIB)


def test_streams_without_an_introduction(start: Callable[..., Target]) -> None:
    target = start(handshake_timeout=1)
    forever = threading.Event()
    with grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        connect: Any = channel.stream_stream(CONNECT_METHOD)
        calls = [connect(iter(forever.wait, True)) for _ in range(200)]
        target.serves(memory=64 * MIB)
        assert all(b"handshake_timeout" in b"".join(call) for call in calls)
        forever.set()
    assert target.honest.limits() == {"handshake_timeout": 200}
    assert target.honest.connections() == 1
    target.has_recovered()


def test_more_connections_than_there_may_be(start: Callable[..., Target], sockets: list[socket.socket]) -> None:
    """Also those that gRPC alone knows of, so that the descriptors of the process are never used up."""
    target = start(max_connections=20, handshake_timeout=2)
    sockets += [target.connect() for _ in range(200)]
    target.serves(memory=64 * MIB)
    assert target.descriptors() < target.descriptors_before + 130
    target.has_recovered()
    target.serves(memory=64 * MIB)


# ---- slow ones


def test_one_byte_at_a_time(start: Callable[..., Target], sockets: list[socket.socket]) -> None:
    """The handshake is over after its time, however much is still coming."""
    target = start(handshake_timeout=1)
    sockets += [target.connect() for _ in range(50)]
    left = dict.fromkeys(sockets, 0)
    until = time.monotonic() + 60
    while left:
        assert time.monotonic() < until
        for each in list(left):
            try:
                each.send(PREFACE[left[each] : left[each] + 1])
                left[each] += 1
            except OSError:
                del left[each]
            else:
                if left[each] == len(PREFACE):
                    raise AssertionError("it was let through to the end")
        target.serves(memory=64 * MIB)
        time.sleep(0.2)
    target.has_recovered()


def test_a_client_that_reads_nothing(start: Callable[..., Target]) -> None:
    """It asks for a gibibyte, a mebibyte a call, and takes none of it."""
    target = start()
    done = threading.Event()

    def requests() -> Iterator[bytes]:
        yield Frames(frames=[Frame(hello=Settings().to_wire())]).SerializeToString()
        for number in range(1, 1_001):
            arguments = Encoded(codec="json", payload=b"[[1048576],{}]")
            call = Call(object="account", member="text", kind=Call.METHOD, arguments=arguments)
            yield Frames(frames=[Frame(id=number, call=call)]).SerializeToString()
        done.wait(30)

    with grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        connect: Any = channel.stream_stream(CONNECT_METHOD)
        call = connect(requests())
        until = time.monotonic() + 3
        while time.monotonic() < until:
            target.serves(memory=256 * MIB)
            time.sleep(0.1)
        done.set()
        call.cancel()
    target.has_recovered()
    target.serves(memory=256 * MIB)


# ---- small, until they are opened


def test_what_is_small_while_it_is_compressed(start: Callable[..., Target]) -> None:
    """gRPC ends it at the size that it would have unpacked."""
    target = start()
    request = broker_pb2.InvokeRequest(object="account", method="show")
    request.encoded.codec, request.encoded.payload = "json", bytes(100 * MIB)
    options = [("grpc.max_send_message_length", -1)]
    address, gzip = f"127.0.0.1:{target.port}", grpc.Compression.Gzip
    with grpc.insecure_channel(address, options, gzip) as channel:
        invoke: Any = channel.unary_unary(INVOKE)
        with pytest.raises(grpc.RpcError) as caught:
            invoke(request.SerializeToString(), timeout=60)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        target.serves(memory=128 * MIB)
    peak = Path(f"/proc/{target.pid}/status").read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]
    assert int(peak) * 1024 - target.memory_before < 200 * MIB


def test_a_text_that_becomes_thirty_times_as_much(start: Callable[..., Target]) -> None:
    target = start(max_decoded_size=100 * MIB)
    request = broker_pb2.InvokeRequest(object="account", method="show")
    request.encoded.codec, request.encoded.payload = "json", b"[[[" + b"[]," * (2 * MIB) + b"[]]],{}]"
    with grpc.insecure_channel(f"127.0.0.1:{target.port}", [("grpc.max_send_message_length", -1)]) as channel:
        invoke: Any = channel.unary_unary(INVOKE)
        with pytest.raises(grpc.RpcError, match="max_decoded_size"):
            invoke(request.SerializeToString(), timeout=60)
    target.serves(memory=100 * MIB)


@pytest.mark.parametrize("what", ["sizes", "buffers", "nesting", "pickle"])
def test_what_is_claimed_and_what_is_too_much(start: Callable[..., Target], what: str) -> None:
    target = start()
    arguments = {
        "sizes": Encoded(codec="json", sizes=[1 << 60] * 10),
        "buffers": Encoded(codec="json", payload=b"[[],{}]", buffers=[b""] * 200_000),
        "nesting": Encoded(codec="json", payload=b"[[" + b"[" * 100_000 + b"]" * 100_000 + b"],{}]"),
        "pickle": Encoded(codec="pickle", payload=b"cposix\nsystem\n(S'touch /tmp/exploded'\ntR." * 1_000),
    }[what]
    call = Call(object="account", member="show", kind=Call.METHOD, arguments=arguments)
    frames = [Frame(hello=Settings().to_wire()), *(Frame(id=number, call=call) for number in range(1, 6))]
    reasons = {
        "sizes": b"MESSAGE_TOO_LARGE", "buffers": b"max_buffers",
        "nesting": b"nested more than", "pickle": b"CODEC_NOT",
    }  # fmt: skip
    answered = threading.Event()

    def requests() -> Iterator[bytes]:
        for frame in frames:
            yield Frames(frames=[frame]).SerializeToString()
        answered.wait(60)

    with grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        connect: Any = channel.stream_stream(CONNECT_METHOD)
        answers = b""
        for message in connect(requests(), timeout=60):
            answers += message
            if answers.count(reasons[what]) == 5:
                break
        answered.set()
    assert answers.count(reasons[what]) == 5
    target.serves(memory=128 * MIB)
    target.has_recovered()


def test_a_message_that_is_announced_and_does_not_come(
    start: Callable[..., Target], sockets: list[socket.socket]
) -> None:
    """A gRPC message of 60 MiB, of which one byte comes: nothing is taken for what is merely announced."""
    target = start()
    header = bytes([0]) + struct.pack(">I", 60 * MIB) + b"x"
    block = b"\x83\x86" + b"\x44" + bytes([len(INVOKE)]) + INVOKE.encode() + b"\x41\x01x"
    block += b"\x5f" + bytes([len("application/grpc")]) + b"application/grpc" + b"\x40\x02te\x08trailers"
    for _ in range(20):
        sockets.append(target.connect())
        frames = PREFACE + SETTINGS + _frame(1, 4, block) + _frame(0, 0, header)
        sockets[-1].sendall(frames)
    target.serves(memory=128 * MIB)
    for each in sockets:
        each.close()
    target.has_recovered()


def test_requests_that_never_come(start: Callable[..., Target]) -> None:
    """Calls that begin and send nothing: neither threads nor memory for all of them, and room for who is honest."""
    target = start(max_unary_calls=20)
    over = threading.Event()

    def silent() -> Iterator[bytes]:
        over.wait(60)
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        call: Any = channel.stream_unary(INVOKE)
        calls = [call.future(silent()) for _ in range(200)]
        until = time.monotonic() + 20
        while sum(each.done() for each in calls) < 180:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert {each.code() for each in calls if each.done()} == {grpc.StatusCode.CANCELLED}
        request = broker_pb2.InvokeRequest(object="account", method="show").SerializeToString()
        honest: Any = channel.unary_unary(INVOKE)
        honest(request, timeout=BOUNDED_SECONDS)
        target.serves(memory=64 * MIB)
        assert target.honest.limits() == {"max_unary_calls": 180}
        over.set()


def _frame(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", 1) + payload
