"""Calls to a daemon of the same process: past the socket, and as on the wire all the same."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import broker
from broker import errors
from broker.connection.client import pool
from broker.connection.local import entrances
from tests.conftest import self_signed


class Shelf:
    def __init__(self) -> None:
        self.books = ["a", "b"]

    def all(self) -> list[str]:
        return self.books

    def put(self, books: list[str]) -> None:
        books.append("put")
        self.books = books

    def caller(self) -> Any:
        client = broker.current_context.client
        assert client is not None
        return client.address, client.process_id

    def nested(self, other: Any, depth: int) -> int:
        return 0 if depth == 0 else 1 + int(other.nested(self, depth - 1))

    def wait(self, entered: str, go_on: str) -> None:
        _events[entered].set()
        _events[go_on].wait(10)

    def _hidden(self) -> None: ...


_events: dict[str, threading.Event] = {}


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


def _transport(proxy: Any) -> str | None:
    transport: str | None = proxy._broker.transport
    return transport


def test_a_daemon_of_the_same_process_is_called_past_the_socket(daemon: broker.Daemon) -> None:
    proxy: Any = broker.Proxy(daemon.register(Shelf(), "shelf"))
    assert _transport(proxy) is None
    assert proxy.all() == ["a", "b"]
    assert _transport(proxy) == "process"
    assert proxy.caller() == (f"inproc:{os.getpid()}", pool.settings.process_id)


def test_all_spellings_of_the_address_lead_there(daemon: broker.Daemon) -> None:
    daemon.register(Shelf(), "shelf")
    port = daemon.address[1]
    for host in ("localhost", "127.0.0.1"):
        proxy: Any = broker.Proxy(f"BROKER:shelf@{host}:{port}")
        assert proxy.all() == ["a", "b"]
        assert _transport(proxy) == "process"


def test_local_false_takes_the_socket(daemon: broker.Daemon) -> None:
    uri = daemon.register(Shelf(), "shelf")
    proxy: Any = broker.Proxy(uri, local=False)
    address, _ = proxy.caller()
    assert _transport(proxy) == "tcp"
    assert address.startswith(("ipv4:127.0.0.1:", "ipv6:"))
    both: Any = broker.Proxy(uri)
    assert both.caller()[0].startswith("inproc:")


def test_the_option_can_be_changed(daemon: broker.Daemon) -> None:
    proxy: Any = broker.Proxy(daemon.register(Shelf(), "shelf"))
    assert proxy.caller()[0].startswith("inproc:")
    proxy._broker.set("local", False)
    assert not proxy.caller()[0].startswith("inproc:")
    assert _transport(proxy) == "tcp"


def test_a_daemon_on_a_unix_socket_too(tmp_path: Path) -> None:
    with broker.Daemon(unix_socket=str(tmp_path / "s")) as daemon:
        uri = daemon.register(Shelf())
        proxy: Any = broker.Proxy(uri)
        assert proxy.all() == ["a", "b"]
        assert _transport(proxy) == "process"
        plain: Any = broker.Proxy(uri, local=False)
        assert plain.all() == ["a", "b"]
        assert _transport(plain) == "unix"


def test_values_are_copied(daemon: broker.Daemon) -> None:
    shelf = Shelf()
    proxy: Any = broker.Proxy(daemon.register(shelf))
    proxy.all().append("c")
    assert shelf.books == ["a", "b"]
    mine = ["x"]
    proxy.put(mine)
    assert mine == ["x"]
    assert shelf.books == ["x", "put"]
    assert shelf.books is not mine


def test_what_is_hidden_stays_hidden_and_what_cannot_be_encoded_is_refused(daemon: broker.Daemon) -> None:
    proxy: Any = broker.Proxy(daemon.register(Shelf()))
    with pytest.raises(AttributeError, match="no remote member 'books'"):
        _ = proxy.books
    with pytest.raises(errors.CodecError, match="object"):
        proxy.put([object()])


def test_authorize_is_asked(tmp_path: Path) -> None:
    asked: list[tuple[str, str, str]] = []

    def authorize(client: Any, object_id: str, member: str) -> bool:
        asked.append((client.address, object_id, member))
        return member != "put"

    with broker.Daemon(authorize=authorize) as daemon:
        proxy: Any = broker.Proxy(daemon.register(Shelf(), "shelf"))
        proxy.all()
        with pytest.raises(errors.AccessDenied, match="no remote member 'put' that this caller may call"):
            proxy.put([])
    assert (f"inproc:{os.getpid()}", "shelf", "all") in asked


def test_the_limit_of_a_value_holds() -> None:
    with broker.Daemon(max_message_size=1000) as daemon:
        proxy: Any = broker.Proxy(daemon.register(Shelf()))
        with pytest.raises(errors.MessageTooLargeError, match="1000"):
            proxy.put(["x" * 2000])


def test_methods_call_each_other_to_any_depth() -> None:
    with broker.Daemon(max_workers=1) as daemon:
        one, other = Shelf(), Shelf()
        proxy: Any = broker.Proxy(daemon.register(one))
        daemon.register(other)
        assert proxy.nested(other, 40) == 40


def test_a_callback_does_not_wait_for_the_method_that_sent_it(daemon: broker.Daemon) -> None:
    """The thread of the method takes it in at the other side, and may lead there for others."""
    arrived = threading.Event()

    class Teller:
        def tell(self, function: Any) -> bool:
            broker.send(function, "hello")
            return arrived.wait(10)

    proxy: Any = broker.Proxy(daemon.register(Teller()))
    assert proxy.tell(broker.export(lambda text: arrived.set()))
    assert _transport(proxy) == "process"


def test_sessions_end_with_close(daemon: broker.Daemon) -> None:
    ended = threading.Event()

    @broker.behavior(instance_mode="session")
    class Counter:
        def __init__(self) -> None:
            self._count = 0

        def count(self) -> int:
            if not self._count:
                broker.current_context.on_close(ended.set)
            self._count += 1
            return self._count

    uri = daemon.register(Counter)
    first: Any = broker.Proxy(uri)
    second: Any = broker.Proxy(uri)
    assert [first.count(), first.count(), second.count()] == [1, 2, 1]
    first._broker.close()
    assert ended.wait(10)
    assert first.count() == 1


@pytest.mark.usefixtures("every_way")
def test_shutdown_ends_what_is_under_way_with_the_same_errors() -> None:
    daemon = broker.Daemon()
    daemon.start()
    entered = _events["entered"] = threading.Event()
    go_on = _events["go on"] = threading.Event()
    uri = daemon.register(Shelf())
    proxy: Any = broker.Proxy(uri, connect_timeout=5)
    raised: list[BaseException] = []

    def call() -> None:
        try:
            proxy.wait("entered", "go on")
        except errors.BrokerError as error:
            raised.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert entered.wait(10)
    daemon.shutdown(grace=0.05)
    caller.join(10)
    assert [type(error) for error in raised] == [errors.ConnectionClosedError]
    assert "shutting down" in str(raised[0])
    with pytest.raises(errors.CannotConnect, match="nothing listens"):
        proxy.all()
    go_on.set()


def test_a_daemon_leaves_the_table_when_it_shuts_down(daemon: broker.Daemon) -> None:
    uri = daemon.register(Shelf())
    assert entrances.find(uri.host or "", uri.port or 0, None) is not None
    daemon.shutdown()
    assert entrances.find(uri.host or "", uri.port or 0, None) is None


def test_another_daemon_on_the_same_port_is_found_again() -> None:
    with broker.Daemon() as daemon:
        uri = daemon.register(Shelf(), "shelf")
        proxy: Any = broker.Proxy(uri)
        proxy.put(["first"])
    with broker.Daemon(port=uri.port or 0) as daemon:
        daemon.register(Shelf(), "shelf")
        assert proxy.all() == ["a", "b"]
        assert _transport(proxy) == "process"


def test_nobody_gets_past_tls_by_being_in_the_same_process(tmp_path: Path) -> None:
    key, certificate = self_signed(tmp_path)
    with broker.Daemon(credentials=grpc.ssl_server_credentials([(key, certificate)])) as daemon:
        uri = daemon.register(Shelf())
        stranger: Any = broker.Proxy(uri, connect_timeout=2)
        with pytest.raises(errors.CannotConnect):
            stranger.all()
        proxy: Any = broker.Proxy(uri, credentials=grpc.ssl_channel_credentials(certificate))
        assert proxy.caller()[0].startswith(("ipv4:127.0.0.1:", "ipv6:"))


def test_credentials_are_not_given_up_for_the_short_cut(daemon: broker.Daemon) -> None:
    """A proxy that asks for TLS never talks to who has none."""
    uri = daemon.register(Shelf())
    proxy: Any = broker.Proxy(uri, credentials=grpc.ssl_channel_credentials(), connect_timeout=1)
    with pytest.raises(errors.CannotConnect):
        proxy.all()


def test_a_forked_child_is_not_in_its_parents_process(run_program: Any) -> None:
    program = run_program(
        """
        import os, sys
        import broker
        from broker.connection.client import pool
        from broker.connection.local import entrances

        ended = []

        @broker.behavior(instance_mode="session")
        class Counter:
            def count(self):
                broker.current_context.on_close(lambda: ended.append(os.getpid()))
                return 1

        with broker.Daemon() as daemon:
            uri = daemon.register(Counter)
            proxy = broker.Proxy(uri)
            assert proxy.count() == 1 and proxy._broker.transport == "process"
            child = os.fork()
            if not child:
                found = entrances.find(uri.host, uri.port, None)
                connected = proxy._broker.transport
                proxy._broker.close()
                os._exit(0 if found is None and connected is None and not ended else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert proxy.count() == 1 and not ended
        print("parent done")
        """
    )
    program.line("parent done")
    assert program.wait() == 0
