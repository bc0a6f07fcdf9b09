"""The name server as Pyro programs have it."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import broker
from broker.compat.naming import type_meta
from broker.compat.nsc import handle_command

Server = Callable[..., Any]


@pytest.fixture
def plain_name_server() -> Iterator[int]:
    """The port of a name server of the broker's."""
    with broker.start_ns("localhost", 0) as started:
        yield started.address[1]


@pytest.fixture(params=["server", "memory", "sql", "broker"])
def server(request: pytest.FixtureRequest, pyro: Any, looping: Any, tmp_path: Path) -> Any:
    """A name server: one that runs, two that are on their own, and one of the broker's without anything of Pyro."""
    if request.param == "server":
        uri, daemon, broadcast = pyro.start_ns("localhost", 0)
        assert broadcast is None
        looping(daemon)
        return pyro.locate_ns(uri.host, uri.port)
    if request.param == "broker":
        return pyro.locate_ns("localhost", request.getfixturevalue("plain_name_server"))
    storage = pyro.naming.MemoryStorage() if request.param == "memory" else pyro.naming.SqlStorage(str(tmp_path / "db"))
    alone = pyro.naming.NameServer(storageProvider=storage)
    alone.register("Pyro.NameServer", "PYRO:Pyro.NameServer@localhost:9090")
    return alone


def test_names_come_and_go(pyro: Any, server: Any) -> None:
    errors = pyro.errors
    server.ping()
    server.register("test.one", "PYRO:1@host:4444")
    server.register("test.two", pyro.URI("PYRO:2@host:4444"))
    assert server.lookup("test.one") == pyro.URI("PYRO:1@host:4444")
    assert type(server.lookup("test.one")) is pyro.URI
    server.register("test.one", "PYRO:11@host:4444")
    assert str(server.lookup("test.one")) == "PYRO:11@host:4444"
    with pytest.raises(errors.NamingError) as raised:
        server.register("test.one", "PYRO:x@host:5", safe=True)
    assert str(raised.value) == "name already registered: test.one"
    with pytest.raises(errors.NamingError) as raised:
        server.lookup("unknown")
    assert str(raised.value) == "unknown name: unknown"
    with pytest.raises(errors.PyroError, match="invalid uri"):
        server.register("bad", "THIS IS NO URI")
    for name, uri in (("wrong", 4444), (None, None), (4444, "PYRO:x@y:5")):
        with pytest.raises(TypeError):
            server.register(name, uri)
    assert server.count() == 3
    assert server.remove("unknown") == 0
    assert server.remove() == 0
    assert server.remove("test.one") == 1
    server.register("test.2", "PYRO:2@host:1")
    assert server.remove(prefix="test.t") == 1
    assert server.remove(regex=r"test\.\d$") == 1
    assert server.count() == 1


def test_the_name_server_keeps_its_own_name(server: Any) -> None:
    assert server.remove("Pyro.NameServer") == 0
    assert server.remove(prefix="Pyro") == 0
    assert server.remove(regex="Pyro.*") == 0
    assert list(server.list()) == ["Pyro.NameServer"]
    assert server.lookup("Pyro.NameServer").object == "Pyro.NameServer"


def test_lists(pyro: Any, server: Any) -> None:
    for name in ("test.objects.1", "test.other.a", "test_else", "Test.upper"):
        server.register(name, "PYRO:x@host:1")
    assert server.list("test.") == dict.fromkeys(("test.objects.1", "test.other.a"), "PYRO:x@host:1")
    assert list(server.list(prefix="test_")) == ["test_else"]
    assert list(server.list(regex=".+other..$")) == ["test.other.a"]
    assert list(server.list(regex="other")) == []
    assert server.list(prefix="nothing") == {}
    assert list(server.list()) == sorted(server.list())
    assert server.list(prefix="Test", return_metadata=True) == {"Test.upper": ("PYRO:x@host:1", set())}
    with pytest.raises(pyro.errors.NamingError, match="invalid regex"):
        server.list(regex="((((((broken")
    with pytest.raises(ValueError, match="one thing"):
        server.list(prefix="a", regex="a")


def test_metadata(pyro: Any, server: Any) -> None:
    server.register("one", "PYRO:1@host:1", metadata={"a", "b", "c"})
    server.register("two", "PYRO:2@host:1", metadata=["x", "c", "c"])
    uri, metadata = server.lookup("one", return_metadata=True)
    assert (uri.object, metadata) == ("1", {"a", "b", "c"})
    assert server.yplookup(meta_all={"a", "c"}) == {"one": ("PYRO:1@host:1", {"a", "b", "c"})}
    assert server.yplookup(meta_all={"a", "x"}) == {}
    assert server.yplookup(meta_any={"a", "x"}, return_metadata=False) == {
        "one": "PYRO:1@host:1",
        "two": "PYRO:2@host:1",
    }
    assert list(server.list(metadata_all={"c", "x"})) == ["two"]
    assert list(server.list(metadata_any=["x"])) == ["two"]
    assert server.yplookup() == {}
    server.set_metadata("one", ["new", "new"])
    assert server.lookup("one", return_metadata=True)[1] == {"new"}
    server.set_metadata("one", set())
    assert server.lookup("one", return_metadata=True)[1] == set()
    with pytest.raises(pyro.errors.NamingError, match="unknown name: nothing"):
        server.set_metadata("nothing", set())
    for wrong in (12345, "string"):
        with pytest.raises(TypeError, match="metadata should not be a str"):
            server.register("meta", "PYRO:m@host:1", metadata=wrong)
        for question in ("meta_all", "meta_any"):
            with pytest.raises(TypeError):
                server.yplookup(**{question: wrong})
    with pytest.raises(ValueError, match="meta_all or meta_any"):
        server.yplookup(meta_all={"a"}, meta_any={"a"})


def test_names_in_a_file_are_there_again(pyro: Any, tmp_path: Path, looping: Any) -> None:
    alone = pyro.naming.NameServer(pyro.naming.SqlStorage(str(tmp_path / "alone")))
    alone.register("kept", "PYRO:k@host:1", metadata={"m"})
    again = pyro.naming.NameServer(pyro.naming.SqlStorage(str(tmp_path / "alone")))
    assert again.lookup("kept", return_metadata=True)[1] == {"m"}
    for _ in range(2):
        uri, daemon, _ = pyro.start_ns("localhost", 0, storage=f"sql:{tmp_path / 'names'}")
        looping(daemon)
        daemon.nameserver.register("kept", "PYRO:k@host:1", metadata={"m"}, safe=daemon.nameserver.count() == 1)
        assert pyro.locate_ns(uri.host, uri.port).yplookup(meta_all=["m"]) == {"kept": ("PYRO:k@host:1", {"m"})}
        daemon.shutdown()
        assert daemon.nameserver is None
    for storage in ("dbm:x", "sql:", "sql::memory:"):
        with pytest.raises(ValueError, match="invalid storage type"):
            pyro.start_ns(storage=storage)


# ---- finding things


class Thing:
    def __init__(self, word: str = "word") -> None:
        self._word = word

    def word(self) -> str:
        return self._word


def test_names_and_metadata_in_uris(pyro: Any, names: Any, looping: Any) -> None:
    daemon = looping(pyro.Daemon())
    cls = pyro.expose(type("Exposed", (Thing,), {"word": lambda self: self._word}))
    for word in ("one", "other"):
        names.register(f"thing.{word}", daemon.register(cls(word)), metadata={"thing", f"kind:{word}"})
    assert pyro.Proxy("PYRONAME:thing.one").word() == "one"
    assert pyro.Proxy(f"PYRONAME:thing.one@localhost:{names._pyroUri.port}").word() == "one"
    assert pyro.Proxy("PYROMETA:thing,kind:other").word() == "other"
    assert pyro.Proxy("PYROMETA:thing").word() in ("one", "other")
    proxy = pyro.Proxy("PYRONAME:thing.one")
    proxy.word()
    assert str(proxy._pyroUri) == "PYRONAME:thing.one"
    proxy._pyroBind()
    proxy._pyroRelease()
    proxy._pyroBind()
    assert proxy._pyroUri == names.lookup("thing.one")
    assert pyro.resolve("PYRONAME:thing.one") == names.lookup("thing.one")
    assert pyro.resolve("PYRO:o@host:1") == pyro.URI("PYRO:o@host:1")
    with pytest.raises(pyro.errors.NamingError, match="unknown name: nothing"):
        pyro.resolve("PYRONAME:nothing")
    with pytest.raises(pyro.errors.NamingError, match="no registrations available with desired metadata properties"):
        pyro.Proxy("PYROMETA:nothing").word()


def test_the_name_server_is_found_in_every_way(pyro: Any, names: Any) -> None:
    assert isinstance(names, pyro.Proxy)
    for uri in ("PYRONAME:Pyro.NameServer", str(names._pyroUri), f"PYROMETA:{_class_of(pyro)}"):
        with pyro.Proxy(uri) as proxy:
            assert proxy.count() == 1
            proxy._pyroBind()
            assert "lookup" in proxy._pyroMethods
    with pytest.raises(AttributeError):
        names.namespace  # noqa: B018
    with pyro.locate_ns() as again:
        assert again._pyroConnection is not None
    assert again._pyroConnection is None


def _class_of(pyro: Any) -> str:
    return f"class:{pyro.naming.NameServer.__module__}.NameServer"


def test_nobody_there(pyro: Any) -> None:
    pyro.config.NS_PORT = 1
    for look in (pyro.locate_ns, lambda: pyro.locate_ns("localhost", 1), lambda: pyro.resolve("PYRONAME:x")):
        with pytest.raises(pyro.errors.NamingError, match="Failed to locate the nameserver"):
            look()


def test_a_broadcast_finds_the_name_server(pyro: Any, looping: Any) -> None:
    uri, daemon, none = pyro.start_ns("localhost", 0)
    assert none is None  # other machines could not reach it
    looping(daemon)
    with pyro.naming.BroadcastServer(uri, "127.0.0.1", 0) as answering:
        thread = answering.runInThread()
        pyro.config.NS_PORT, pyro.config.NS_BCPORT, pyro.config.BROADCAST_ADDRS = 1, answering.getPort(), ["127.0.0.1"]
        assert pyro.locate_ns()._pyroUri == uri
        assert answering.fileno() == answering.sock.fileno()
        with pytest.raises(pyro.errors.NamingError, match="Failed to locate the nameserver"):
            pyro.locate_ns(broadcast=False)
    thread.join(10)
    assert not thread.is_alive()
    with pytest.raises(pyro.errors.NamingError, match="Failed to locate the nameserver"):
        pyro.locate_ns()


def test_a_name_server_for_other_machines_answers_broadcasts(pyro: Any) -> None:
    uri, daemon, answering = pyro.start_ns("0.0.0.0", 0, bchost="127.0.0.1", bcport=0)
    with daemon, answering:
        assert answering.nsUri == uri
    uri, daemon, answering = pyro.start_ns("0.0.0.0", 0, enableBroadcast=False)
    with daemon:
        assert answering is None


@pytest.mark.parametrize("servertype", ["thread", "multiplex"])
def test_one_loop_of_the_programs_own_for_all_servers(pyro: Any, servertype: str) -> None:
    pyro.config.SERVERTYPE = servertype
    uri, names, answering = pyro.start_ns("0.0.0.0", 0, bchost="127.0.0.1", bcport=0)
    daemon = pyro.Daemon()
    cls = pyro.expose(type("Exposed", (Thing,), {"word": lambda self: self._word}))
    names.nameserver.register("embedded", daemon.register(cls("embedded")))
    words: list[str] = []
    client = threading.Thread(target=lambda: words.append(pyro.Proxy(f"PYRONAME:embedded@{uri.location}").word()))
    client.start()
    ends = time.monotonic() + 20
    while not words and time.monotonic() < ends:
        of_names, of_daemon = set(names.sockets), set(daemon.sockets)
        ready = select.select([answering, *of_names, *of_daemon], [], [], 0.1)[0]
        for server, sockets in ((names, of_names), (daemon, of_daemon)):
            waiting = [sock for sock in ready if sock in sockets]
            if waiting:
                server.events(waiting)
    client.join(10)
    assert words == ["embedded"]
    for server in (names, answering, daemon):
        server.close()


def test_waiting_for_a_name(pyro: Any, names: Any) -> None:
    def later() -> None:
        time.sleep(0.3)
        names.register("late", "PYRO:o@host:1")

    threading.Thread(target=later).start()
    assert pyro.resolve("PYRONAME:late", 10) == pyro.URI("PYRO:o@host:1")
    pyro.config.NS_LOOKUP_DELAY = 0.3
    began = time.monotonic()
    with pytest.raises(pyro.errors.NamingError):
        pyro.resolve("PYRONAME:never")
    assert time.monotonic() - began > 0.25


def test_names_end_with_their_daemon(pyro: Any, names: Any) -> None:
    with pyro.Daemon() as daemon:
        names.register("short", daemon.register(pyro.expose(type("E", (Thing,), {"m": lambda self: 1}))()))
        names.register("foreign", "PYRO:o@host:1")
        assert names.count() == 3
    assert sorted(names.list()) == ["Pyro.NameServer", "foreign"]


def test_metadata_of_classes() -> None:
    module = Thing.__module__
    assert type_meta(Thing("x")) == type_meta(Thing) == {f"class:{module}.Thing"}
    assert type_meta(type("Sub", (Thing,), {}), "is:") == {f"is:{module}.Thing", f"is:{module}.Sub"}


# ---- the control tool


def test_the_control_tool(
    pyro: Any, names: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*command: str) -> str:
        handle_command(names, command[0], list(command[1:]))
        return capsys.readouterr().out

    assert said("ping") == "Name server ping ok.\n"
    assert said("register", "name1", "PYRO:o@host:9999") == "Registered name1\n"
    assert said("setmeta", "name1", "a") == "Metadata updated\n"
    assert said("list", "name") == (
        "--------START LIST - prefix 'name'\nname1 --> PYRO:o@host:9999\n    metadata: {'a'}\n"
        "--------END LIST - prefix 'name'\n"
    )
    assert said("listmatching", "x.$") == "--------START LIST - regex 'x.$'\n--------END LIST - regex 'x.$'\n"
    assert said("lookup", "name1") == "PYRO:o@host:9999\nmetadata: {'a'}\n"
    assert "name1 --> " in said("yplookup_all", "a")
    assert "name1 --> " in said("yplookup_any", "a", "b")
    assert said("setmeta", "name1") == "Metadata cleared\n"
    assert said("remove", "name2") == "Nothing removed\n"
    monkeypatch.setattr("builtins.input", lambda prompt: "y")
    assert said("removematching", "name.?") == "1 items removed.\n"
    with pytest.raises(pyro.errors.NamingError):
        handle_command(names, "lookup", ["Weird"])
    assert capsys.readouterr().out == "Error: NamingError - unknown name: Weird\n"
    with pytest.raises(SystemExit, match="requires one argument: name"):
        handle_command(names, "lookup", [])
    with pytest.raises(KeyError):
        handle_command(names, "foo", [])
