"""URIs and the configuration as Pyro programs have them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("PYRO:obj@host:5555", ("PYRO", "obj", None, "host", 5555)),
        ("pyro:obj@host:5555", ("PYRO", "obj", None, "host", 5555)),
        ("BROKER:obj@host:5555", ("PYRO", "obj", None, "host", 5555)),
        ("PYRO:obj@[::1]:4444", ("PYRO", "obj", None, "::1", 4444)),
        ("PYRO:o@./u:/tmp/a sock", ("PYRO", "o", "/tmp/a sock", None, None)),
        ("PYRO:o@host:99999", ("PYRO", "o", None, "host", 99999)),
        ("PYRONAME:some.name", ("PYRONAME", "some.name", None, None, None)),
        ("PyroName:n@host", ("PYRONAME", "n", None, "host", 9090)),
        ("PYRONAME:n@host:8", ("PYRONAME", "n", None, "host", 8)),
        ("PYROMETA:a,b,b", ("PYROMETA", {"a", "b"}, None, None, None)),
    ],
)
def test_parts(pyro: Any, text: str, parts: tuple[Any, ...]) -> None:
    uri = pyro.URI(text)
    assert (uri.protocol, uri.object, uri.sockname, uri.host, uri.port) == parts
    for twin in (pyro.URI(uri), pyro.URI(str(uri)), copy.copy(uri), pickle.loads(pickle.dumps(uri))):
        assert twin == uri
        assert hash(twin) == hash(uri)
    assert repr(uri).endswith(f"URI at 0x{id(uri):x}; {uri}>")


def test_printed_forms(pyro: Any) -> None:
    assert str(pyro.URI("PYRO:o@[::1]:4444")) == "PYRO:o@[::1]:4444"
    assert pyro.URI("PYRO:o@[::1]:4444").location == "[::1]:4444"
    assert pyro.URI("PYRONAME:n@host").asString() == "PYRONAME:n@host:9090"
    assert pyro.URI("PYRONAME:n").location is None
    assert str(pyro.URI("PYROMETA:b,a")) == "PYROMETA:a,b"
    assert pyro.URI.isUnixsockLocation("./u:name")
    assert not pyro.URI.isUnixsockLocation("name")


def test_they_can_be_changed(pyro: Any) -> None:
    one, other = pyro.URI("PYRO:a@host:1"), pyro.URI("PYRO:b@host:2")
    assert one != other
    one.object, one.port = "b", 2
    assert one == other
    assert hash(one) == hash(other)
    assert one != 42


@pytest.mark.parametrize(
    "text",
    ["", " ", "a", "PYRO", "PYRO:", "PYRO::", "PYRO:a", "PYRO:x@", "PYRO:x@host", "PYRO:@host:port", "PYRO:@host:7",
     "PYRO:o@host:7:b", "PYRO:o o@host:7", "PYROLOC:o@h:4", "PYRONAME:", "PYRONAME:n@h:bogus", "PYROMETA:",
     "PYROMETA:a, b@h", "FOO:o@h:1", "PYRO:o@./u:sock:9"],
)  # fmt: skip
def test_what_is_none(pyro: Any, text: str) -> None:
    with pytest.raises(pyro.errors.PyroError, match="invalid"):
        pyro.URI(text)


def test_messages_and_types(pyro: Any) -> None:
    for text, message in (
        ("PYRO:o@h:x", "invalid port in uri, port=x"),
        ("PYRO:o@[[::1]]:4", "invalid ipv6 address: enclosed in too many brackets"),
        ("PYRO:o@[name]:4", "invalid ipv6 address: the part between brackets must be a numeric ipv6 address"),
    ):
        with pytest.raises(pyro.errors.PyroError) as raised:
            pyro.URI(text)
        assert str(raised.value) == message
    for value in (None, 9999):
        with pytest.raises(TypeError, match="uri parameter object is of wrong type"):
            pyro.URI(value)
        with pytest.raises(TypeError, match="can only resolve Pyro URIs"):
            pyro.resolve(value)
        with pytest.raises(TypeError, match="expected Pyro URI"):
            pyro.Proxy(value)


# ---- configuration


def test_items_and_their_defaults(pyro: Any) -> None:
    config = pyro.config
    config.reset(False)
    assert (config.HOST, config.NS_PORT, config.SERIALIZER, config.SERVERTYPE) == (
        "localhost",
        9090,
        "serpent",
        "thread",
    )
    assert (config.COMMTIMEOUT, config.MAX_RETRIES, config.ITER_STREAM_LINGER) == (0.0, 0, 30.0)
    assert config.as_dict()["NS_BCPORT"] == 9091
    assert config.asDict() == config.as_dict()
    with pytest.raises(AttributeError):
        config.NO_SUCH_ITEM = 1
    other = config.copy()
    other.NS_PORT = 1
    assert config.NS_PORT == 9090


def test_items_from_the_environment(pyro: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("COMPRESSION", "yes"), ("NS_PORT", "1234"), ("BROADCAST_ADDRS", "a, b"), ("NATHOST", "nat")):
        monkeypatch.setenv(f"PYRO_{name}", value)
    pyro.config.reset()
    assert (pyro.config.COMPRESSION, pyro.config.NS_PORT) == (True, 1234)
    assert (pyro.config.BROADCAST_ADDRS, pyro.config.NATHOST) == (["a", "b"], "nat")
    pyro.config.reset(False)
    assert pyro.config.NS_PORT == 9090
    monkeypatch.setenv("PYRO_COMPRESSION", "perhaps")
    with pytest.raises(ValueError, match="invalid boolean value: perhaps"):
        pyro.config.reset()


def test_a_dump_has_every_item_sorted(pyro: Any) -> None:
    lines = pyro.config.dump().splitlines()
    start = lines.index("Currently active global configuration settings:") + 1
    assert lines[start:] == sorted(lines[start:])
    assert "SERIALIZER = serpent" in lines
