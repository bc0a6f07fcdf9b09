"""Each limit refuses at its border, says what to do, is counted, and takes nothing else with it."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import broker
from broker import errors
from broker._pb import broker_pb2
from broker.connection.client import ClientConnection
from broker.connection.engine import Settings
from broker.connection.local import entrances
from broker.connection.opening import Place

INVOKE = "/broker.v1.ObjectBroker/Invoke"
TOKEN = "a-token-that-is-long-enough"
SOON = 40.0


class Desk:
    """Answers at once, or when it is opened."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def echo(self, value: object = None) -> object:
        return value

    def take(self, *values: object) -> int:
        return len(values)

    def keep(self, *visitors: Any) -> int:
        self.kept += visitors
        return len(self.kept)

    def use(self) -> list[int]:
        return [visitor.echo(7) for visitor in self.kept]

    def give(self) -> object:
        return broker.export(Desk())

    def wait(self) -> str:
        self.entered.release()
        assert self.open.wait(20)
        return "served"

    def visit(self, visitor: Any, times: int) -> list[int]:
        return [visitor(number) for number in range(times)]

    def add_up(self, start: int, numbers: Iterator[int]) -> int:
        return start + sum(numbers)

    def count(self, end: int) -> Iterator[int]:
        yield from range(end)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def serve(desk: Desk, credentials: broker.Credentials | None = None, **limits: object) -> broker.Daemon:
    """A started daemon with the desk and these limits."""
    with broker.config.override(**limits):
        daemon = broker.Daemon(credentials=credentials)
    daemon.register(desk, "desk")
    daemon.start()
    return daemon


def connect(daemon: broker.Daemon, credentials: Any = None, *, local: bool = False) -> ClientConnection:
    """A connection of its own, as another process would have."""
    connection = ClientConnection(Place("localhost", daemon.address[1], None, credentials, local), Settings())
    connection.open(10)
    return connection


def invoke(daemon: broker.Daemon, method: str = "echo", *, token: str | None = None, timeout: float = 10) -> Any:
    """What an object answers to a gRPC client that is no proxy."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    request = broker_pb2.InvokeRequest(object="desk", method=method)
    with grpc.insecure_channel(f"localhost:{daemon.address[1]}") as channel:
        call: Any = channel.unary_unary(INVOKE, broker_pb2.InvokeRequest.SerializeToString)
        return call(request, timeout=timeout, metadata=metadata)


# ---- connections


def test_connections_of_one_caller(desk: Desk) -> None:
    daemon = serve(desk, max_connections_per_identity=2)
    first, second = connect(daemon), connect(daemon)
    with pytest.raises(
        errors.Overloaded, match=r"does not let this process in: .* has 2 connections .*max_conn.*share"
    ):
        connect(daemon)
    assert daemon.stats().limits == {"max_connections_per_identity": 1}
    assert daemon.stats().refused == {"OVERLOADED": 1}
    assert first.engine.ping(5)
    second.engine.close("the test wants its place back")
    wait_for(lambda: daemon.stats().connections == 1)
    connect(daemon)
    daemon.shutdown()


def test_each_identity_has_its_own_share(desk: Desk) -> None:
    tokens = {"janet": TOKEN, "henry": TOKEN + "-of-henry"}
    daemon = serve(desk, broker.Credentials(accept=[broker.Tokens(tokens)]), max_connections_per_identity=1)
    shown = {name: broker.Credentials(token=token) for name, token in tokens.items()}
    connect(daemon, shown["janet"])
    with pytest.raises(errors.Overloaded, match="'janet' has 1 connection"):
        connect(daemon, shown["janet"])
    connect(daemon, shown["henry"])
    daemon.shutdown()


def test_connections_in_all(desk: Desk) -> None:
    daemon = serve(desk, max_connections=2)
    kept = [connect(daemon), connect(daemon)]
    with pytest.raises(errors.Overloaded, match=r"has 2 connections, and takes no more \(max_connections\)"):
        connect(daemon)
    assert daemon.stats().limits == {"max_connections": 1}
    assert all(connection.engine.ping(5) for connection in kept)
    daemon.shutdown()


def test_a_connection_that_moves_to_the_unix_socket_counts_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrances, "find", lambda host, port, socket_path: None)
    daemon = serve(desk, max_connections_per_identity=2)
    for _ in range(5):
        one, other = connect(daemon, local=True), connect(daemon, local=True)
        assert {one.engine.transport, other.engine.transport} == {"unix"}
        wait_for(lambda: daemon.stats().connections == 2)
        with pytest.raises(errors.Overloaded):
            connect(daemon, local=True)
        for connection in (one, other):
            connection.engine.close("the next round begins")
        wait_for(lambda: daemon.stats().connections == 0)
    daemon.shutdown()


# ---- time


def test_who_never_says_who_he_is(desk: Desk) -> None:
    """Nothing at all, half of what HTTP/2 begins with, or a stream without an introduction."""
    daemon = serve(desk, handshake_timeout=0.5)
    honest = connect(daemon)
    began = time.monotonic()
    silent = socket.create_connection(("127.0.0.1", daemon.address[1]))
    half = socket.create_connection(("127.0.0.1", daemon.address[1]))
    half.sendall(b"PRI * HTTP/2.0\r\n\r\n")
    with grpc.insecure_channel(f"localhost:{daemon.address[1]}") as channel:
        forever = threading.Event()
        call: Any = channel.stream_stream("/broker.v1.ObjectBroker/Connect")
        frames = b"".join(call(iter(forever.wait, True)))
        assert b"no introduction came within 0.5 s (handshake_timeout)" in frames
        forever.set()
    for each in (silent, half):
        each.settimeout(SOON)
        while each.recv(4096):
            pass
        each.close()
    assert time.monotonic() - began < 9  # and not the ten seconds of the default
    assert daemon.stats().limits == {"handshake_timeout": 1}  # gRPC itself ends the other two
    assert honest.engine.ping(SOON)
    wait_for(lambda: daemon.stats().connections == 1)
    daemon.shutdown()


def test_who_does_nothing_is_let_go_and_comes_back_unseen(desk: Desk) -> None:
    daemon = serve(desk, idle_timeout=0.4)
    proxy: Any = broker.Proxy(daemon.uri_for("desk"), local=False)
    assert proxy.echo(1) == 1
    wait_for(lambda: daemon.stats().connections == 0)
    assert daemon.stats().limits == {"idle_timeout": 1}
    assert proxy.echo(2) == 2
    daemon.shutdown()


def test_who_waits_is_not_idle(desk: Desk) -> None:
    daemon = serve(desk, idle_timeout=0.2)
    proxy: Any = broker.Proxy(daemon.uri_for("desk"), local=False)
    waiting = proxy.wait.future()
    assert desk.entered.acquire(timeout=SOON)
    assert not threading.Event().wait(0.8)
    desk.open.set()
    assert waiting.result(SOON) == "served"
    assert daemon.stats().limits == {}
    daemon.shutdown()


# ---- the rate of calls


def test_the_rate_of_calls(desk: Desk, every_way: None) -> None:
    daemon = serve(desk, max_call_rate=5)
    proxy: Any = broker.Proxy(daemon.uri_for("desk"))
    kinds = [proxy.echo, proxy.echo.oneway, lambda: proxy.echo.future().result(SOON)]
    with pytest.raises(errors.Overloaded, match=r"more than 5 calls a second .*\(max_call_rate\): wait 0\.[0-9]+ s"):
        [kinds[number % 3]() for number in range(20)]
    limits = daemon.stats().limits
    assert limits["max_call_rate"] >= 1
    wait_for(lambda: proxy_answers(proxy))
    daemon.shutdown()


def proxy_answers(proxy: Any) -> bool:
    try:
        return bool(proxy.echo(7) == 7)
    except errors.Overloaded:
        return False


def test_the_rate_counts_each_call_of_a_batch_and_calls_of_other_clients(desk: Desk) -> None:
    daemon = serve(desk, max_call_rate=50)
    proxy: Any = broker.Proxy(daemon.uri_for("desk"), local=False)
    batch = broker.Batch(proxy)
    for number in range(45):
        batch.echo(number)
    assert list(batch()) == list(range(45))
    with pytest.raises(errors.Overloaded, match="max_call_rate"):
        [proxy.echo() for _ in range(20)]
    with pytest.raises(grpc.RpcError) as caught:
        [invoke(daemon) for _ in range(1_000)]  # one more is let in every 20 ms
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    daemon.shutdown()


def test_what_a_call_leads_to_is_not_counted_again(desk: Desk) -> None:
    daemon = serve(desk, max_call_rate=3)
    proxy: Any = broker.Proxy(daemon.uri_for("desk"), local=False)

    def visitor(number: int) -> int:
        return number

    assert proxy.visit(broker.export(visitor), 30) == list(range(30))
    daemon.shutdown()


# ---- wrong tokens


def test_who_guesses_tokens_is_not_heard_any_more(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    known = broker.Credentials(accept=[broker.Tokens({"janet": TOKEN})])
    daemon = serve(desk, known, max_wrong_tokens=3)
    honest = connect(daemon, broker.Credentials(token=TOKEN))
    with caplog.at_level(logging.WARNING, "broker.audit"):
        for number in range(3):
            with pytest.raises(errors.AccessDenied, match="is not one that"):
                connect(daemon, broker.Credentials(token=f"{number}" * 20))
        for _ in range(4):
            with pytest.raises(errors.AccessDenied, match=r"looks at none from there for \d+ s \(max_wrong_tokens\)"):
                connect(daemon, broker.Credentials(token=TOKEN))
            with pytest.raises(grpc.RpcError, match="max_wrong_tokens"):
                invoke(daemon, token=TOKEN)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4
    assert lines[-1].startswith(("refused UNAUTHENTICATED", "3 wrong tokens from"))
    assert sum("none from there is looked at for" in line for line in lines) == 1
    assert daemon.stats().limits == {"max_wrong_tokens": 8}
    assert honest.engine.ping(SOON)
    daemon.shutdown()


def _silent(over: threading.Event) -> Iterator[bytes]:
    """The messages of a client who sends none."""
    over.wait(20)
    yield from ()


@pytest.mark.parametrize("known", [False, True])
def test_requests_that_do_not_come(desk: Desk, known: bool) -> None:
    """Of the generic calls, of typed services (also of one that nobody has asked for yet), and what is streamed."""
    daemon = serve(desk, request_timeout=0.5)
    over = threading.Event()
    with grpc.insecure_channel(daemon.location) as channel:
        use: Any = channel.unary_unary("/desk/use")
        if known:
            use(b"", timeout=5)
        paths = [INVOKE, "/broker.v1.ObjectBroker/Lookup", "/grpc.health.v1.Health/Check", "/desk/use", "/desk/add_up"]
        begin: Any = channel.stream_stream
        calls = [begin(path)(_silent(over)) for path in paths]
        assert [_code(call) for call in calls] == [grpc.StatusCode.CANCELLED] * 5
        assert daemon.stats().limits == {"request_timeout": 5}
        assert _code(begin(INVOKE)(iter(()))) is grpc.StatusCode.UNIMPLEMENTED
        use(b"", timeout=5)
    over.set()
    assert daemon.stats().under_way == 0
    daemon.shutdown()


def _code(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    return caught.value.code()


# ---- calls under way


def test_unary_calls(desk: Desk) -> None:
    daemon = serve(desk, max_unary_calls=1)
    waiting = threading.Thread(target=invoke, args=(daemon, "wait"))
    waiting.start()
    assert desk.entered.acquire(timeout=SOON)
    with pytest.raises(grpc.RpcError) as caught:
        invoke(daemon)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "max_unary_calls" in str(caught.value.details())
    assert daemon.stats().limits == {"max_unary_calls": 1}
    desk.open.set()
    waiting.join()
    invoke(daemon)
    daemon.shutdown()


# ---- what values are made of


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("tagged", [False, True])
def test_values_inside_values(desk: Desk, every_way: None, tagged: bool) -> None:
    daemon = serve(desk, max_nesting=10)
    proxy: Any = broker.Proxy(daemon.uri_for("desk"))
    beside = (b"",) if tagged else ()  # which the text speaks of with a tag
    assert proxy.take(nested(10), *beside) == 1 + len(beside)
    with pytest.raises(errors.CodecError, match=r"nested more than 10 deep \(max_nesting\): send it flatter"):
        proxy.take(nested(11), *beside)
    assert daemon.stats().limits == {"max_nesting": 1}
    with pytest.raises(errors.CodecError, match="max_nesting"):
        gathered(proxy, nested(11))
    assert proxy.echo(1) == 1
    daemon.shutdown()


def gathered(proxy: Any, value: object) -> list[Any]:
    batch = broker.Batch(proxy)
    batch.take(value)
    return list(batch())


@pytest.mark.parametrize("codec", ["json", "pickle"])
def test_buffers_of_one_value(desk: Desk, codec: str) -> None:
    daemon = serve(desk, max_buffers=3, codecs=("json", "pickle"))
    proxy: Any = broker.Proxy(daemon.uri_for("desk"), local=False, codec=codec)
    value = [bytearray(b"x") for _ in range(4)] if codec == "json" else [pickle_buffer(b"x") for _ in range(4)]
    assert proxy.take(*value[:3]) == 3
    with pytest.raises(errors.CodecError, match=r"4 buffers arrived, and 3 is the most \(max_buffers\): put small"):
        proxy.take(*value)
    assert daemon.stats().limits == {"max_buffers": 1}
    assert proxy.take() == 0
    daemon.shutdown()


def pickle_buffer(data: bytes) -> Any:
    import numpy

    return numpy.frombuffer(data, dtype=numpy.uint8)


def test_memory_of_one_value(desk: Desk, every_way: None) -> None:
    daemon = serve(desk, max_decoded_size=1 << 20)
    proxy: Any = broker.Proxy(daemon.uri_for("desk"))
    small: list[object] = [[]] * 3_000
    big: list[object] = [[]] * 30_000  # 90,000 bytes of text
    assert proxy.take(small) == 1
    for send in (proxy.take, lambda value: gathered(proxy, value), lambda value: proxy.take.future(value).result(SOON)):
        with pytest.raises(
            errors.CodecError, match=r"bytes of text .* at most 1048576 \(max_decoded_size\): send less"
        ):
            send(big)
    assert proxy.take("[" * 500_000) == 1  # a text is what it is
    assert daemon.stats().limits == {"max_decoded_size": 3}
    daemon.shutdown()


# ---- what is open, and what is held


def test_streams_of_one_connection(desk: Desk, every_way: None) -> None:
    daemon = serve(desk, max_streams_per_connection=2)
    proxy: Any = broker.Proxy(daemon.uri_for("desk"))
    first, second = proxy.count(1000), proxy.count(1000)
    with pytest.raises(errors.Overloaded, match=r"2 streams open, .* \(max_streams_per_connection\): take one to its"):
        proxy.count(3)
    assert daemon.stats().limits == {"max_streams_per_connection": 1}
    assert [next(first), next(second)] == [0, 0]
    first.close()
    wait_for(lambda: daemon.stats().streams == 1)
    assert list(proxy.count(3)) == [0, 1, 2]
    wait_for(lambda: daemon.stats().streams == 1)
    assert list(second) == list(range(1, 1000))
    daemon.shutdown()


def test_exported_objects_of_a_caller(desk: Desk, every_way: None) -> None:
    daemon = serve(desk, max_exports_per_connection=3)
    proxy: Any = broker.Proxy(daemon.uri_for("desk"))
    things = [broker.export(Desk()) for _ in range(4)]
    assert proxy.keep(*things[:3]) == 3
    with pytest.raises(errors.Overloaded, match=r"which are 3 \(max_exports_per_connection\): pass one object"):
        proxy.keep(things[3])
    assert daemon.stats().limits == {"max_exports_per_connection": 1}
    assert proxy.keep(things[0]) == 4  # it is there already
    assert proxy.use() == [7, 7, 7, 7]
    daemon.shutdown()


def test_exported_objects_that_callers_hold(desk: Desk, every_way: None) -> None:
    daemon = serve(desk, max_exports_per_connection=3)
    proxy: Any = broker.Proxy(daemon.uri_for("desk"))
    held = [proxy.give() for _ in range(3)]
    with pytest.raises(errors.Overloaded, match=r"3 exported objects .* \(max_exports_per_connection\): it has to let"):
        proxy.give()
    assert daemon.stats().limits == {"max_exports_per_connection": 1}
    assert held.pop().echo(2) == 2
    wait_for(lambda: daemon.stats().exports == 2)
    assert proxy.give().echo(3) == 3
    daemon.shutdown()


def test_names_of_one_identity() -> None:
    tokens = {"janet": TOKEN, "henry": TOKEN + "-of-henry"}
    with broker.config.override(max_names_per_identity=2):
        server = broker.start_ns(port=0, credentials=broker.Credentials(accept=[broker.Tokens(tokens)]))
    host, port = server.address
    janet, henry = (broker.locate_ns(host, port, credentials=broker.Credentials(token=t)) for t in tokens.values())
    for name in ("one", "two", "two"):
        janet.register(name, "BROKER:a@localhost:1")
    with pytest.raises(errors.Overloaded, match=r"'janet' has 2 names here, .*\(max_names_per_identity\): remove some"):
        janet.register("three", "BROKER:a@localhost:1")
    henry.register("three", "BROKER:a@localhost:1")
    assert server.daemon.stats().limits == {"max_names_per_identity": 1}
    janet.remove("one")
    janet.register("four", "BROKER:a@localhost:1")
    server.close()


def wait_for(holds: Any, seconds: float = SOON) -> None:
    """Waits until something is so that nobody announces."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come to be so"
        time.sleep(0.01)
