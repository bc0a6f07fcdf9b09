"""The URI value: where an object is, or which name or tags lead to it.

    BROKER:<object id>@<host>:<port>          an object of a daemon
    BROKER:<object id>@./u:<socket path>      the same, on a Unix socket
    BROKERNAME:<name>[@<host>[:<port>]]       a name in a name server
    BROKERMETA:<tag>,<tag>[@<host>[:<port>]]  any object that has all the tags
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from broker.errors import BrokerError

__all__ = ["URI", "InvalidURI"]

DIRECT, NAME, TAGS = "BROKER", "BROKERNAME", "BROKERMETA"
_SYNONYMS = {"PYRO": DIRECT, "PYRONAME": NAME, "PYROMETA": TAGS}
_SYNTAX = re.compile(r"(?P<protocol>[A-Za-z]+):(?P<object>\S+?)(?:@(?P<location>.+))?", re.DOTALL)
_UNIX = "./u:"
_FORMS = "BROKER:<object id>@<host>:<port>, BROKERNAME:<name>[@<host>[:<port>]] or BROKERMETA:<tag>,<tag>[@<host>[:<port>]]"


class InvalidURI(BrokerError, ValueError):
    """A text that is no URI."""


@dataclass(frozen=True, slots=True, init=False)
class URI:
    """An immutable, hashable URI. `URI(text)` parses; `str(uri)` is its canonical form.

    `protocol` is BROKER, BROKERNAME or BROKERMETA; `object` the object id, name or comma-separated tags; `host` and
    `port`, or `socket_path`, the location as far as one was given. Raises `InvalidURI` (a BrokerError and ValueError),
    and TypeError for anything but a str or a URI.
    """

    protocol: str
    object: str
    host: str | None
    port: int | None
    socket_path: str | None

    def __init__(self, uri: str | URI) -> None:
        if isinstance(uri, URI):
            fields = (uri.protocol, uri.object, uri.host, uri.port, uri.socket_path)
        elif isinstance(uri, str):
            fields = _parse(uri)
        else:
            raise TypeError(f"a URI is made from a str or a URI, not from {type(uri).__name__}")
        for name, value in zip(("protocol", "object", "host", "port", "socket_path"), fields, strict=True):
            object.__setattr__(self, name, value)

    @classmethod
    def direct(cls, object_id: str, host: str, port: int) -> URI:
        """The URI of an object on a TCP address. Raises InvalidURI if the id holds white space or `@`."""
        return cls(f"{DIRECT}:{object_id}@{join_host_port(host, port)}")

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of a BROKERMETA URI, sorted; empty for the others."""
        return tuple(sorted(filter(None, self.object.split(",")))) if self.protocol == TAGS else ()

    @property
    def location(self) -> str | None:
        """`host:port`, `host` or `./u:path`; None if none was given."""
        if self.socket_path is not None:
            return _UNIX + self.socket_path
        if self.host is None:
            return None
        return join_host_port(self.host, self.port) if self.port is not None else _bracketed(self.host)

    def with_object(self, object_id: str) -> URI:
        """The same place, another object."""
        return URI(f"{self.protocol}:{object_id}" + (f"@{self.location}" if self.location else ""))

    def __str__(self) -> str:
        return f"{self.protocol}:{self.object}" + (f"@{self.location}" if self.location else "")

    def __repr__(self) -> str:
        return f"URI({str(self)!r})"


def join_host_port(host: str, port: int) -> str:
    """`host:port`, with the brackets that an IPv6 address needs."""
    return f"{_bracketed(host)}:{port}"


def split_host_port(text: str) -> tuple[str, int | None]:
    """Splits `host[:port]`. Raises ValueError with the reason."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or host.startswith("["):
            raise ValueError("an IPv6 address is written in one pair of brackets, as in [::1]:9090")
        if rest and not rest.startswith(":"):
            raise ValueError(f"{rest!r} follows the IPv6 address")
        host, colon, port = host, rest[:1], rest[1:]
    else:
        host, colon, port = text.partition(":")
        if ":" in port:
            raise ValueError("an IPv6 address is written in brackets, as in [::1]:9090")
    if not host or any(c.isspace() for c in host):
        raise ValueError("the host is missing" if not host else "the host holds white space")
    if not colon:
        return host, None
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f"the port is a number from 1 to 65535, not {port!r}")
    return host, int(port)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _parse(text: str) -> tuple[str, str, str | None, int | None, str | None]:
    match = _SYNTAX.fullmatch(text)
    if match is None:
        raise InvalidURI(f"{text!r} is no URI: write {_FORMS}")
    protocol = match["protocol"].upper()
    protocol = _SYNONYMS.get(protocol, protocol)
    if protocol not in (DIRECT, NAME, TAGS):
        raise InvalidURI(f"{text!r} begins with {match['protocol']!r}: write {_FORMS}")
    location = match["location"]
    if location is None:
        if protocol == DIRECT:
            raise InvalidURI(f"{text!r} says no place: write BROKER:<object id>@<host>:<port>, or BROKERNAME: for a name")
        return protocol, match["object"], None, None, None
    if location.startswith(_UNIX):
        return protocol, match["object"], None, None, _socket_path(text, location)
    try:
        host, port = split_host_port(location)
    except ValueError as error:
        raise InvalidURI(f"{text!r} has a wrong location: {error}") from None
    if protocol == DIRECT and port is None:
        raise InvalidURI(f"{text!r} has no port: write BROKER:<object id>@<host>:<port>")
    return protocol, match["object"], host, port, None


def _socket_path(text: str, location: str) -> str:
    path = location[len(_UNIX) :]
    if not path or ":" in path:
        raise InvalidURI(f"{text!r} has a wrong location: ./u: is followed by the path of a Unix socket, without a colon")
    return path
