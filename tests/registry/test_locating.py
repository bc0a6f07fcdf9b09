"""Where name servers are looked for, and what names and tags lead to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from broker.config import config
from broker.errors import NameNotFound, NamingError
from broker.registry import locate
from broker.registry.locate import candidates, locate_ns, resolve
from broker.uri import URI, InvalidURI

if TYPE_CHECKING:
    from tests.registry.conftest import Running, StartNames


@pytest.fixture(autouse=True)
def no_shared_connections() -> Iterator[None]:
    yield
    for server in locate._shared.values():
        server.close()
    locate._shared.clear()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return int(closed.getsockname()[1])


class TestLocating:
    def test_at_an_explicit_place(self, running: Running) -> None:
        with locate_ns("127.0.0.1", running.port) as ns:
            assert ns.uri.port == running.port

    def test_by_configuration(self, running: Running) -> None:
        config.ns_port = running.port
        with locate_ns() as ns:
            assert ns.uri.location == f"localhost:{running.port}"

    def test_by_environment(self, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BROKER_NS_HOST", "127.0.0.1")
        monkeypatch.setenv("BROKER_NS_PORT", str(running.port))
        with locate_ns() as ns:
            assert ns.uri.location == f"127.0.0.1:{running.port}"

    def test_an_explicit_host_is_the_only_place(self, running: Running, closed_port: int) -> None:
        config.ns_port = running.port
        with pytest.raises(NamingError) as caught:
            locate_ns("127.0.0.1", closed_port)
        assert "localhost" not in str(caught.value)
        with locate_ns("127.0.0.1") as ns:  # its port is the configured one
            assert ns.uri.port == running.port

    def test_not_found_lists_the_places_in_order(self, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locate, "DEFAULT_PORT", closed_port)
        config.ns_host = "127.0.0.1"
        config.ns_port = closed_port
        with pytest.raises(NamingError) as caught:
            locate_ns()
        nothing = "nothing listens there (connection refused)"
        assert str(caught.value) == (
            f"no name server found at any of these places: 127.0.0.1:{closed_port}: {nothing}; "
            f"localhost:{closed_port}: {nothing}. Start one with `python -m broker.naming`, "
            "or say where it is: by host and port, or by BROKER_NS_HOST and BROKER_NS_PORT"
        )

    def test_localhost_comes_after_the_configured_place(
        self, running: Running, closed_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locate, "DEFAULT_PORT", running.port)
        config.ns_port = closed_port
        with locate_ns() as ns:
            assert ns.uri.location == f"localhost:{running.port}"

    def test_fails_at_once_unless_told_to_wait(self, start_names: StartNames, closed_port: int) -> None:
        began = time.monotonic()
        with pytest.raises(NamingError):
            locate_ns("127.0.0.1", closed_port)
        assert time.monotonic() - began < 5
        later = threading.Timer(0.4, lambda: start_names(port=closed_port))
        later.start()
        with locate_ns("127.0.0.1", closed_port, wait=40) as ns:
            ns.ping()
        later.join()

    def test_a_port_that_cannot_be(self) -> None:
        with pytest.raises(InvalidURI):
            locate_ns("localhost", 99999)


class TestResolving:
    @pytest.fixture(autouse=True)
    def here(self, running: Running) -> None:
        config.ns_host = "127.0.0.1"
        config.ns_port = running.port

    def test_a_direct_uri_stays(self) -> None:
        assert resolve("PYRO:o@nowhere:1") == URI("BROKER:o@nowhere:1")

    def test_a_name_is_looked_up(self, running: Running) -> None:
        running.names.register("a", "BROKER:o@h:1")
        assert resolve("BROKERNAME:a") == URI("BROKER:o@h:1")
        assert resolve(URI(f"PYRONAME:a@127.0.0.1:{running.port}")) == URI("BROKER:o@h:1")
        assert resolve("BROKERNAME:a@127.0.0.1") == URI("BROKER:o@h:1")

    def test_a_name_of_a_name_is_followed_but_not_round_in_circles(self, running: Running) -> None:
        running.names.register("a", "BROKERNAME:b")
        running.names.register("b", "BROKER:o@h:1")
        running.names.register("circle", "BROKERNAME:circle")
        assert resolve("BROKERNAME:a") == URI("BROKER:o@h:1")
        with pytest.raises(NamingError, match="from name to name"):
            resolve("BROKERNAME:circle")

    def test_a_name_of_a_name_is_looked_up_where_it_was_found(self, running: Running) -> None:
        running.names.register("a", "BROKERNAME:b", tags=["alias"])
        running.names.register("b", "BROKER:o@h:1")
        config.ns_port = 1
        for uri in ("BROKERNAME:a", "BROKERMETA:alias"):
            assert resolve(f"{uri}@127.0.0.1:{running.port}") == URI("BROKER:o@h:1")

    def test_tags_give_one_at_random_of_those_that_have_them_all(self, running: Running) -> None:
        for number in range(4):
            running.names.register(f"n{number}", f"BROKER:o{number}@h:1", tags=["red", "round"])
        running.names.register("other", "BROKER:other@h:1", tags=["red"])
        expected = {URI(f"BROKER:o{number}@h:1") for number in range(4)}
        assert {resolve("BROKERMETA:red,round") for _ in range(200)} == expected
        assert set(candidates("BROKERMETA:round,red")) == expected
        assert len({tuple(candidates("BROKERMETA:red,round")) for _ in range(100)}) > 1

    def test_nothing_found(self, running: Running) -> None:
        with pytest.raises(NameNotFound, match="unknown name 'a'"):
            resolve("BROKERNAME:a")
        with pytest.raises(NameNotFound, match=rf"with the tags 'blue' and 'red' .*127.0.0.1:{running.port}"):
            resolve("BROKERMETA:red,blue")

    @pytest.mark.parametrize("uri", ["BROKERNAME:late", "BROKERMETA:late"])
    def test_waits_for_what_comes_later(self, running: Running, uri: str) -> None:
        later = threading.Timer(0.3, lambda: running.names.register("late", "BROKER:o@h:1", tags=["late"]))
        later.start()
        assert resolve(uri, wait=40) == URI("BROKER:o@h:1")
        later.join()

    def test_waits_no_longer_than_told(self) -> None:
        began = time.monotonic()
        with pytest.raises(NameNotFound):
            resolve("BROKERNAME:a", wait=0.3)
        assert 0.3 <= time.monotonic() - began < 10

    def test_what_is_no_uri(self) -> None:
        with pytest.raises(TypeError):
            resolve(5)  # type: ignore[arg-type]
        with pytest.raises(InvalidURI):
            resolve("a")

    def test_survives_a_restart_of_the_name_server(self, running: Running, start_names: StartNames) -> None:
        running.names.register("a", "BROKER:o@h:1")
        resolve("BROKERNAME:a")
        running.stop()

        def restart() -> None:
            start_names(port=running.port).names.register("a", "BROKER:p@h:1")

        later = threading.Timer(0.4, restart)
        later.start()
        assert resolve("BROKERNAME:a") == URI("BROKER:p@h:1")
        later.join()

    def test_a_name_server_that_moved_is_found_again(self, running: Running, start_names: StartNames) -> None:
        running.names.register("a", "BROKER:o@h:1")
        resolve("BROKERNAME:a")
        (shared,) = locate._shared.values()
        shared._link.patience = 0.2
        running.stop()
        with pytest.raises(NamingError):
            resolve("BROKERNAME:a")
        moved = start_names()
        moved.names.register("a", "BROKER:p@h:1")
        config.ns_port = moved.port
        assert resolve("BROKERNAME:a") == URI("BROKER:p@h:1")
