"""Names without a name server."""

from __future__ import annotations

import shelve
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

import broker
from broker.errors import NameNotFound, NameTaken, NamingError
from broker.registry.store import StoreError
from broker.uri import InvalidURI

Storage = str | MutableMapping[str, Any]


@pytest.fixture(params=["memory", "sqlite", "mapping"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    made: dict[str, Callable[[], Storage]] = {
        "memory": lambda: "memory", "sqlite": lambda: f"sqlite:{tmp_path / 'names.db'}", "mapping": dict,
    }  # fmt: skip
    return made[request.param]()


def test_they_come_and_go_as_in_a_name_server(storage: Storage) -> None:
    with broker.LocalNames(storage) as names:
        names.ping()
        names.register("b", "BROKER:2@h:1", tags=["x", "y"])
        names.register("a", broker.URI("BROKER:1@h:1"), tags=["x"])
        assert names.lookup("b") == broker.URI("BROKER:2@h:1")
        assert names.lookup("b", with_tags=True) == (broker.URI("BROKER:2@h:1"), frozenset({"x", "y"}))
        assert list(names.list()) == ["a", "b"]
        assert list(names.list("b")) == list(names.list(regex="b$")) == list(names.list(tags_all=["x", "y"])) == ["b"]
        assert list(names.list(tags_any=["x", "z"])) == ["a", "b"]
        assert names.list(tags_any=[]) == {}
        assert names.list("a", with_tags=True) == {"a": (broker.URI("BROKER:1@h:1"), frozenset({"x"}))}
        names.set_tags("a", [])
        assert names.lookup("a", with_tags=True)[1] == frozenset()
        with pytest.raises(NameTaken, match="'a' is taken by BROKER:1@h:1"):
            names.register("a", "BROKER:3@h:1", replace=False)
        with pytest.raises(NameNotFound, match="unknown name 'c'"):
            names.lookup("c")
        assert (names.remove("c"), names.remove("a"), names.count()) == (0, 1, 1)
        assert names.remove(prefix="") == 1
        assert names.list() == {}


def test_what_cannot_be_is_refused(storage: Storage) -> None:
    names: Any = broker.LocalNames(storage)
    with pytest.raises(InvalidURI):
        names.register("a", "nowhere")
    with pytest.raises(NamingError, match="invalid regex"):
        names.list(regex="(")
    with pytest.raises(NameTaken, match=r"Broker\.NameServer is every name server itself"):
        names.register("Broker.NameServer", "BROKER:o@h:1")
    wrong: Any
    for wrong in (
        lambda: names.register(3, "BROKER:o@h:1"),
        lambda: names.register("a", "BROKER:o@h:1", tags="tag"),
        lambda: names.set_tags("a", [3]),
    ):
        with pytest.raises(TypeError):
            wrong()
    for wrong in (names.remove, lambda: names.remove("a", prefix="b"), lambda: names.list("a", regex="b")):
        with pytest.raises(ValueError, match="by"):
            wrong()
    assert names.count() == 0


def test_a_file_is_that_of_a_name_server_and_free_between_questions(tmp_path: Path) -> None:
    file = f"sqlite:{tmp_path / 'names.db'}"
    names = broker.LocalNames(file)
    names.register("mended", "BROKER:o@h:1", tags=["t"])
    with broker.start_ns("localhost", 0, storage=file) as server, broker.locate_ns(*server.address) as asked:
        assert asked.lookup("mended", with_tags=True) == (broker.URI("BROKER:o@h:1"), frozenset({"t"}))
        asked.register("another", "BROKER:p@h:1")
        with pytest.raises(StoreError, match="another name server is using it"):
            names.list()
    assert sorted(names.list()) == ["another", "mended"]
    assert broker.LocalNames(file).count() == 2
    with pytest.raises(NamingError, match="write memory, or sqlite:FILE"):
        broker.LocalNames("dbm:file")
    with pytest.raises(StoreError, match="there is no folder"):
        broker.LocalNames(f"sqlite:{tmp_path / 'nothing' / 'names.db'}")


def test_a_mapping_of_the_programs_own_keeps_uris_and_tags(tmp_path: Path) -> None:
    with shelve.open(str(tmp_path / "shelf")) as shelf:
        broker.LocalNames(shelf).register("kept", "BROKER:o@h:1", tags=["t"])
    with shelve.open(str(tmp_path / "shelf")) as shelf:
        assert dict(shelf) == {"kept": ("BROKER:o@h:1", frozenset({"t"}))}
        assert broker.LocalNames(shelf).lookup("kept") == broker.URI("BROKER:o@h:1")


# ---- a name server on a daemon that serves other objects, too


class Lamp:
    def on(self) -> bool:
        return True


def test_a_daemon_serves_the_names_beside_its_objects() -> None:
    with broker.Daemon() as daemon:
        daemon.register(Lamp(), "lamp")
        with broker.start_ns(daemon=daemon) as server, broker.locate_ns(*daemon.address) as names:
            assert server.daemon is daemon
            names.register("the.lamp", daemon.uri_for("lamp"))
            host, port = daemon.address
            assert broker.Proxy(f"BROKERNAME:the.lamp@{host}:{port}").on()
            assert broker.Proxy(server.uri).count() == 2
            with pytest.raises(broker.errors.DaemonError, match=r"'Broker\.NameServer' is taken"):
                broker.start_ns(daemon=daemon)
            assert names.count() == 2
        assert broker.Proxy(daemon.uri_for("lamp")).on()  # which goes on
        with pytest.raises(NamingError):
            broker.locate_ns(*daemon.address)
        assert list(daemon.objects) == ["lamp"]
        broker.start_ns(daemon=daemon).close()


def test_a_name_server_has_tags_of_its_own() -> None:
    with broker.start_ns(port=0, tags=["site:north"]) as server, broker.locate_ns(*server.address) as names:
        assert names.list(tags_all=["site:north"]) == {"Broker.NameServer": server.uri}
        assert broker.resolve(f"BROKERMETA:site:north@{server.uri.location}") == server.uri
    with pytest.raises(TypeError, match="not one str"):
        broker.start_ns(port=0, tags="site:north")


def test_a_daemon_without_a_port_serves_no_names(tmp_path: Path) -> None:
    with (
        broker.Daemon(unix_socket=str(tmp_path / "socket")) as daemon,
        pytest.raises(broker.errors.DaemonError, match="found by host and port"),
    ):
        broker.start_ns(daemon=daemon)
