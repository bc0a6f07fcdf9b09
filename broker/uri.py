"""The URI value: where an object is, or which name or tags lead to it.

One of these, in which PYRO, PYRONAME and PYROMETA are synonyms and any case is accepted:

    BROKER:<object id>@<host>:<port>          an object of a daemon
    BROKER:<object id>@./u:<socket path>      the same, on a Unix socket
    BROKERNAME:<name>[@<host>[:<port>]]       a name in a name server
    BROKERMETA:<tag>,<tag>[@<host>[:<port>]]  any object that has all the tags

and, for an object that the other side of a connection exports, which is reached over that connection alone:

    BROKER:@<number>@./c:<connection>
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import NamedTuple

from broker.errors import BrokerError

__all__ = ["DIRECT", "NAME", "TAGS", "URI", "InvalidURI", "join_host_port", "split_host_port"]

DIRECT, NAME, TAGS = "BROKER", "BROKERNAME", "BROKERMETA"
_SYNONYMS = {"PYRO": DIRECT, "PYRONAME": NAME, "PYROMETA": TAGS}
# No white space, and nothing that a terminal or a protobuf string cannot take: control characters, lone surrogates.
_OBJECT = r"[^\s@\x00-\x1f\x7f-\x9f\ud800-\udfff]+"
_SYNTAX = re.compile(rf"(?P<protocol>[A-Za-z]+):(?P<object>{_OBJECT})(?:@(?P<location>.*))?", re.DOTALL)
_HOST = re.compile(r"[\w.-]+")
# A leading NUL is Linux's abstract namespace.
_SOCKET_PATH = re.compile(r"\0?[^:\x00-\x1f\x7f]+")
_UNIX = "./u:"
_CONNECTION = "./c:"
_EXPORTED = re.compile(r"BROKER:(?P<object>@[0-9]{1,20})@\./c:(?P<connection>[0-9a-f]+)")
_META_FORM = "BROKERMETA:<tag>,<tag>[@<host>[:<port>]]"
_FORMS = f"BROKER:<object id>@<host>:<port>, BROKERNAME:<name>[@<host>[:<port>]] or {_META_FORM}"


class InvalidURI(BrokerError, ValueError):
    """A text that is no URI."""


class _Parts(NamedTuple):
    protocol: str
    object: str
    host: str | None = None
    port: int | None = None
    socket_path: str | None = None
    connection: str | None = None


@dataclass(frozen=True, slots=True, init=False)
class URI:
    """An immutable, hashable URI. `URI(text)` parses; `str(uri)` is its canonical form.

    `protocol` is BROKER, BROKERNAME or BROKERMETA; `object` the object id, the name, or the sorted tags with commas
    between; `host` and `port`, or `socket_path`, the location as far as one was given; `connection` that of an exported
    object, a name that this process gave. Raises `InvalidURI` (a BrokerError and ValueError), and TypeError for
    anything but a str or a URI.
    """

    protocol: str
    object: str
    host: str | None
    port: int | None
    socket_path: str | None
    connection: str | None

    def __init__(self, uri: str | URI) -> None:
        if isinstance(uri, URI):
            parts = _Parts(uri.protocol, uri.object, uri.host, uri.port, uri.socket_path, uri.connection)
        elif isinstance(uri, str):
            parts = _parse(uri)
        else:
            raise TypeError(f"a URI is made from a str or a URI, not from {type(uri).__name__}")
        self._set(parts)

    def _set(self, parts: _Parts) -> None:
        for name, value in zip(_Parts._fields, parts, strict=True):
            object.__setattr__(self, name, value)

    @classmethod
    def direct(cls, object_id: str, host: str, port: int) -> URI:
        """The URI of an object on a TCP address. Raises InvalidURI for what cannot be an object id or an address."""
        return cls(f"{DIRECT}:{_object(object_id)}@{join_host_port(host, port)}")

    @classmethod
    def unix(cls, object_id: str, socket_path: str) -> URI:
        """The URI of an object on a Unix socket. Raises InvalidURI for what cannot be an object id or a path."""
        return cls(f"{DIRECT}:{_object(object_id)}@{_UNIX}{socket_path}")

    @classmethod
    def exported(cls, number: int, connection: str) -> URI:
        """The URI of an object that the other side of a connection exports."""
        uri = cls.__new__(cls)
        uri._set(_Parts(DIRECT, f"@{number}", connection=connection))
        return uri

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of a BROKERMETA URI, sorted; empty for the others."""
        return tuple(self.object.split(",")) if self.protocol == TAGS else ()

    @property
    def location(self) -> str | None:
        """`host:port`, `host`, `./u:path` or `./c:connection`; None if none was given."""
        if self.socket_path is not None:
            return _UNIX + self.socket_path
        if self.connection is not None:
            return _CONNECTION + self.connection
        if self.host is None:
            return None
        return join_host_port(self.host, self.port) if self.port is not None else _bracketed(self.host)

    def with_object(self, object_id: str) -> URI:
        """The same place, another object. Raises InvalidURI for what cannot be an object id."""
        return URI(f"{self.protocol}:{_object(object_id)}" + (f"@{self.location}" if self.location else ""))

    def __str__(self) -> str:
        return f"{self.protocol}:{self.object}" + (f"@{self.location}" if self.location else "")

    def __repr__(self) -> str:
        return f"URI({str(self)!r})"

    def __reduce__(self) -> tuple[type[URI], tuple[str]]:
        # The text is what all versions agree on, and what is checked again when it is read.
        return URI, (str(self),)


def join_host_port(host: str, port: int) -> str:
    """`host:port`, with the brackets that an IPv6 address needs."""
    return f"{_bracketed(host)}:{port}"


def split_host_port(text: str) -> tuple[str, int | None]:
    """Splits `host[:port]`. Raises ValueError with the reason."""
    if text.startswith("["):
        host, rest = _split_bracketed(text)
    else:
        host, colon, after = text.partition(":")
        if ":" in after:
            raise ValueError("an IPv6 address is written in brackets, as in [::1]:9090")
        if not host:
            raise ValueError("the host is missing")
        if _HOST.fullmatch(host) is None:
            raise ValueError(f"{host!r} is no host name or address")
        rest = colon + after
    return host, _port(rest[1:]) if rest else None


def _split_bracketed(text: str) -> tuple[str, str]:
    host, bracket, rest = text[1:].partition("]")
    if not bracket or host.startswith("[") or rest.startswith("]"):
        raise ValueError("an IPv6 address is written in one pair of brackets, as in [::1]:9090")
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError(f"[{host}] is no IPv6 address, and brackets are for those alone") from None
    if rest and not rest.startswith(":"):
        raise ValueError(f"{rest!r} follows the IPv6 address")
    return host, rest


def _port(text: str) -> int:
    # The length first: Python refuses to read a number of 5,000 digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or not 0 < int(text) < 65536:
        raise ValueError(f"the port is a number from 1 to 65535, not {text!r}")
    return int(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _object(object_id: str) -> str:
    if re.fullmatch(_OBJECT, object_id) is None:
        raise InvalidURI(f"{object_id!r} is no object id: it is empty, or holds white space, @ or control characters")
    return object_id


def _parse(text: str) -> _Parts:
    match = _EXPORTED.fullmatch(text)
    if match is not None:
        return _Parts(DIRECT, match["object"], connection=match["connection"])
    match = _SYNTAX.fullmatch(text)
    if match is None:
        raise InvalidURI(f"{text!r} is no URI: write {_FORMS}")
    protocol = match["protocol"].upper()
    protocol = _SYNONYMS.get(protocol, protocol)
    if protocol not in (DIRECT, NAME, TAGS):
        raise InvalidURI(f"{text!r} begins with {match['protocol']!r}: write {_FORMS}")
    found = _sorted_tags(text, match["object"]) if protocol == TAGS else match["object"]
    location = match["location"]
    if location is not None:
        return _located(text, protocol, found, location)
    if protocol == DIRECT:
        raise InvalidURI(f"{text!r} says no place: write BROKER:<object id>@<host>:<port>, or BROKERNAME: for a name")
    return _Parts(protocol, found)


def _located(text: str, protocol: str, found: str, location: str) -> _Parts:
    if location.startswith(_UNIX):
        path = location.removeprefix(_UNIX)
        if _SOCKET_PATH.fullmatch(path) is None:
            raise InvalidURI(
                f"{text!r} has a wrong location: after ./u: comes the path of a Unix socket, without a colon"
            )
        return _Parts(protocol, found, socket_path=path)
    try:
        host, port = split_host_port(location)
    except ValueError as error:
        raise InvalidURI(f"{text!r} has a wrong location: {error}") from None
    if protocol == DIRECT and port is None:
        raise InvalidURI(f"{text!r} has no port: write BROKER:<object id>@<host>:<port>")
    return _Parts(protocol, found, host, port)


def _sorted_tags(text: str, tags: str) -> str:
    found = set(tags.split(","))
    if "" in found:
        raise InvalidURI(f"{text!r} has an empty tag: write {_META_FORM}")
    return ",".join(sorted(found))
