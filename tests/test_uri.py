"""URIs: what is one, what is none, and that every one is a value."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BrokerError
from broker.uri import URI, InvalidURI, join_host_port, split_host_port

# text, canonical text, protocol, object, host, port, socket path
VALID = [
    ("BROKER:obj@localhost:9999", None, "BROKER", "obj", "localhost", 9999, None),
    ("broker:obj@localhost:9999", "BROKER:obj@localhost:9999", "BROKER", "obj", "localhost", 9999, None),
    ("PYRO:obj@localhost:9999", "BROKER:obj@localhost:9999", "BROKER", "obj", "localhost", 9999, None),
    ("pYrO:obj@localhost:00080", "BROKER:obj@localhost:80", "BROKER", "obj", "localhost", 80, None),
    ("BROKER:obj@127.0.0.1:1", None, "BROKER", "obj", "127.0.0.1", 1, None),
    ("BROKER:obj@my_host-2.example.:65535", None, "BROKER", "obj", "my_host-2.example.", 65535, None),
    ("BROKER:obj@münchen.example:80", None, "BROKER", "obj", "münchen.example", 80, None),
    ("BROKER:obj@[::1]:9999", None, "BROKER", "obj", "::1", 9999, None),
    ("BROKER:obj@[fe80::1%eth0]:9999", None, "BROKER", "obj", "fe80::1%eth0", 9999, None),
    ("BROKER:a:b/c.d,e@localhost:9999", None, "BROKER", "a:b/c.d,e", "localhost", 9999, None),
    ("BROKER:Ünïcödé😊@localhost:9999", None, "BROKER", "Ünïcödé😊", "localhost", 9999, None),
    ("BROKER:obj@./u:/tmp/my socket@home", None, "BROKER", "obj", None, None, "/tmp/my socket@home"),
    ("BROKER:obj@./u:\0abstract", None, "BROKER", "obj", None, None, "\0abstract"),
    ("BROKERNAME:example.warehouse", None, "BROKERNAME", "example.warehouse", None, None, None),
    ("PYRONAME:some.name", "BROKERNAME:some.name", "BROKERNAME", "some.name", None, None, None),
    ("BROKERNAME:some.name@localhost", None, "BROKERNAME", "some.name", "localhost", None, None),
    ("BROKERNAME:some.name@localhost:9090", None, "BROKERNAME", "some.name", "localhost", 9090, None),
    ("BROKERNAME:some.name@[::1]", None, "BROKERNAME", "some.name", "::1", None, None),
    ("BROKERNAME:some.name@./u:ns.sock", None, "BROKERNAME", "some.name", None, None, "ns.sock"),
    ("BROKERMETA:one", None, "BROKERMETA", "one", None, None, None),
    ("BROKERMETA:b,a,b", "BROKERMETA:a,b", "BROKERMETA", "a,b", None, None, None),
    ("PYROMETA:b,a@localhost:9090", "BROKERMETA:a,b@localhost:9090", "BROKERMETA", "a,b", "localhost", 9090, None),
]

EXPORTED = "BROKER:@7@./c:0123456789abcdef"


def test_the_uri_of_an_exported_object() -> None:
    uri = URI.exported(7, "0123456789abcdef")
    assert str(uri) == EXPORTED
    assert uri == URI(EXPORTED) == pickle.loads(pickle.dumps(uri)) == URI(uri)
    assert (uri.protocol, uri.object, uri.connection, uri.location) == (
        "BROKER", "@7", "0123456789abcdef", "./c:0123456789abcdef"
    )  # fmt: skip
    assert (uri.host, uri.port, uri.socket_path) == (None, None, None)
    assert uri != URI.exported(8, "0123456789abcdef")
    assert uri != URI.exported(7, "0123456789abcdee")
    with pytest.raises(InvalidURI):
        uri.with_object("warehouse")


@pytest.mark.parametrize(
    "text",
    ["BROKER:@@./c:0f", "BROKER:@7@./c:", "BROKER:@7@./c:xyz", "BROKER:@7@localhost:1", "BROKER:@7", "BROKER:a@./c:0f",
     "BROKERNAME:@7@./c:0f", f"BROKER:@{'9' * 21}@./c:0f", "BROKER:@-7@./c:0f", "BROKER:@7@./c:0f\n",
     "BROKER:@٣@./c:0f"],
)  # fmt: skip
def test_what_is_no_uri_of_an_exported_object(text: str) -> None:
    with pytest.raises(InvalidURI):
        URI(text)


FORMS = "write BROKER:<object id>@<host>:<port>, BROKERNAME:"

INVALID = [
    ("", FORMS),
    ("   ", FORMS),
    ("a", FORMS),
    ("BROKER", FORMS),
    ("BROKER:", FORMS),
    ("BROKER::", "says no place"),
    (":obj@localhost:9999", FORMS),
    ("BROKER:@", FORMS),
    ("BROKER:@localhost:9999", FORMS),
    (" BROKER:obj@localhost:9999", FORMS),
    ("BROKER:ob j@localhost:9999", FORMS),
    ("BROKER:ob\x07j@localhost:9999", FORMS),
    ("BROKER:ob\ud800j@localhost:9999", FORMS),
    ("BROKER:obj", "says no place"),
    ("BROKER:obj@", "the host is missing"),
    ("BROKER:obj@localhost", "has no port"),
    ("BROKER:obj@[::1]", "has no port"),
    ("BROKER:obj@:9999", "the host is missing"),
    ("BROKER:obj@localhost:", "the port is a number from 1 to 65535, not ''"),
    ("BROKER:obj@localhost:http", "not 'http'"),
    ("BROKER:obj@localhost:0", "not '0'"),
    ("BROKER:obj@localhost:-1", "not '-1'"),
    ("BROKER:obj@localhost:99999", "not '99999'"),
    ("BROKER:obj@localhost:" + "9" * 5000, "the port is a number"),
    ("BROKER:obj@localhost:٣", "the port is a number"),
    ("BROKER:obj@localhost:9999\n", "the port is a number"),
    ("BROKER:obj@local host:9999", "'local host' is no host"),
    ("BROKER:obj@a@b:9999", "'a@b' is no host"),
    ("BROKER:obj@@localhost:9999", "'@localhost' is no host"),
    ("BROKER:obj@host/path:9999", "'host/path' is no host"),
    ("BROKER:obj@localhost:9999:1", "in brackets"),
    ("BROKER:obj@::1:9999", "in brackets"),
    ("BROKER:obj@[::1:9999", "one pair of brackets"),
    ("BROKER:obj@[[::1]]:9999", "one pair of brackets"),
    ("BROKER:obj@[::1]]:9999", "one pair of brackets"),
    ("BROKER:obj@[::1]9999", "'9999' follows the IPv6 address"),
    ("BROKER:obj@[localhost]:9999", "is no IPv6 address"),
    ("BROKER:obj@[]:9999", "is no IPv6 address"),
    ("BROKER:obj@./u:", "the path of a Unix socket"),
    ("BROKER:obj@./u:/tmp/sock:9999", "without a colon"),
    ("BROKER:obj@./u:/tmp/a\nb", "the path of a Unix socket"),
    ("BROKER:obj@./x:/tmp/sock", "'./x' is no host"),
    ("BROKERLOC:obj@localhost:9999", "begins with 'BROKERLOC'"),
    ("http://localhost:9999", "begins with 'http'"),
    ("BROKERNAME:", FORMS),
    ("BROKERNAME:name@", "the host is missing"),
    ("BROKERNAME:name@localhost:", "the port is a number"),
    ("BROKERMETA:", FORMS),
    ("BROKERMETA:,", "empty tag"),
    ("BROKERMETA:a,,b", "empty tag"),
    ("BROKERMETA:a, b", FORMS),
]


@pytest.mark.parametrize(("text", "canonical", "protocol", "name", "host", "port", "socket_path"), VALID)
def test_what_a_uri_says(
    text: str,
    canonical: str | None,
    protocol: str,
    name: str,
    host: str | None,
    port: int | None,
    socket_path: str | None,
) -> None:
    uri = URI(text)
    assert (uri.protocol, uri.object, uri.host, uri.port, uri.socket_path) == (protocol, name, host, port, socket_path)
    assert str(uri) == (canonical or text)


@pytest.mark.parametrize("text", [row[0] for row in VALID])
def test_every_kind_is_a_value(text: str) -> None:
    uri = URI(text)
    for same in (
        URI(str(uri)),
        URI(uri),
        copy.copy(uri),
        copy.deepcopy(uri),
        *(pickle.loads(pickle.dumps(uri, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)),
        eval(repr(uri), {"URI": URI}),  # noqa: S307 -- the repr is an expression, as promised by its form
    ):
        assert same == uri
        assert hash(same) == hash(uri)
        assert str(same) == str(uri)
    assert uri != object()
    assert uri != URI("BROKER:another@elsewhere:1")


@pytest.mark.parametrize(("text", "reason"), INVALID)
def test_what_is_no_uri(text: str, reason: str) -> None:
    with pytest.raises(InvalidURI) as caught:
        URI(text)
    assert reason in str(caught.value)
    assert repr(text) in str(caught.value)
    assert isinstance(caught.value, BrokerError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [None, 42, b"BROKER:obj@localhost:9999", ["BROKER:obj@localhost:9999"]])
def test_only_text_is_parsed(value: object) -> None:
    with pytest.raises(TypeError, match=f"not from {type(value).__name__}"):
        URI(value)  # type: ignore[arg-type]


def test_a_uri_cannot_be_changed() -> None:
    uri = URI("BROKER:obj@localhost:9999")
    with pytest.raises(AttributeError):
        uri.port = 1  # type: ignore[misc]


def test_the_order_of_tags_makes_no_difference() -> None:
    assert URI("BROKERMETA:a,b") == URI("BROKERMETA:b,a")
    assert len({URI("BROKERMETA:a,b"), URI("BROKERMETA:b,a")}) == 1
    assert URI("BROKERMETA:b,a").tags == ("a", "b")
    assert URI("BROKERNAME:a,b").tags == ()


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("BROKER:obj@localhost:9999", "localhost:9999"),
        ("BROKER:obj@[::1]:9999", "[::1]:9999"),
        ("BROKER:obj@./u:/tmp/s", "./u:/tmp/s"),
        ("BROKERNAME:name@[::1]", "[::1]"),
        ("BROKERNAME:name@host", "host"),
        ("BROKERNAME:name", None),
    ],
)
def test_the_location_and_another_object_there(text: str, location: str | None) -> None:
    uri = URI(text)
    assert uri.location == location
    other = uri.with_object("other")
    assert other.object == "other"
    assert other.location == location


def test_uris_from_parts() -> None:
    assert str(URI.direct("obj", "::1", 80)) == "BROKER:obj@[::1]:80"
    assert str(URI.unix("obj", "/tmp/my socket")) == "BROKER:obj@./u:/tmp/my socket"
    with pytest.raises(InvalidURI, match="the port is a number"):
        URI.direct("obj", "localhost", 0)
    with pytest.raises(InvalidURI, match="without a colon"):
        URI.unix("obj", "/tmp/a:b")


@pytest.mark.parametrize("object_id", ["", "a b", "a@b", "a\n", "\ud800"])
def test_what_cannot_be_an_object_id_is_refused_wherever_a_uri_is_made_of_parts(object_id: str) -> None:
    makers: list[Callable[[], URI]] = [
        lambda: URI.direct(object_id, "localhost", 80),
        lambda: URI.unix(object_id, "/tmp/s"),
        lambda: URI("BROKERNAME:name").with_object(object_id),
    ]
    for make in makers:
        with pytest.raises(InvalidURI, match="is no object id"):
            make()


@given(st.text(max_size=40), st.integers(1, 65535))
def test_any_object_id_is_refused_or_comes_back(object_id: str, port: int) -> None:
    try:
        uri = URI.direct(object_id, "localhost", port)
    except InvalidURI:
        return
    assert (uri.object, uri.host, uri.port) == (object_id, "localhost", port)
    assert URI(str(uri)) == uri


@given(st.text(alphabet=st.sampled_from("BROKER:obj@[]1.,/u\0 \n٣"), max_size=40))
def test_any_text_is_refused_or_is_its_own_canonical_form_afterwards(text: str) -> None:
    try:
        uri = URI(text)
    except InvalidURI:
        return
    assert str(URI(str(uri))) == str(uri)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_host_and_port_joined_and_split(address: object, port: int) -> None:
    assert split_host_port(join_host_port(str(address), port)) == (str(address), port)


def test_a_uri_hashes_alike_in_every_process_that_reads_it() -> None:
    """A URI travels by pickle as its text alone, whatever its fields are in the version that reads it."""
    uri = URI("BROKERMETA:b,a@localhost:9090")
    program = "import pickle, sys; print(pickle.load(sys.stdin.buffer).tags)"
    done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(uri), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "('a', 'b')"
    assert b"BROKERMETA:a,b@localhost:9090" in pickle.dumps(uri)
