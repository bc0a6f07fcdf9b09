"""`URI` as Pyro has it: with attributes that can be changed, and printed as PYRO."""

from __future__ import annotations

import re
from typing import Any

from broker import register_type
from broker.compat.configuration import config
from broker.compat.errors import PyroError, refuse

# kind, object, location; and of the location: socket, IPv6 address, host, port
_FORM = re.compile(r"(?:PYRO|BROKER)(|NAME|META):(\S+?)(?:@(.+))?", re.IGNORECASE)
_PLACE = re.compile(r"(?:\./u:([^:]+)|(?:\[([0-9a-fA-F:%]+)\]|([^\[:]+))(?::(.*))?)?", re.IGNORECASE)
_NO_PLACE = {
    "[[": "invalid ipv6 address: enclosed in too many brackets",
    "[": "invalid ipv6 address: the part between brackets must be a numeric ipv6 address",
    "": "invalid uri (location)",
}


class URI:
    """Where an object is, or which name or metadata lead to it. Raises PyroError for what is no URI."""

    def __init__(self, uri: str | URI) -> None:
        if isinstance(uri, URI):
            self.__setstate__(uri.__getstate__())
            return
        refuse(not isinstance(uri, str), TypeError, "uri parameter object is of wrong type")
        match = _FORM.fullmatch(uri)
        self.object: Any
        kind, self.object, location = match.groups() if match is not None else ("", None, "")
        refuse(not kind and not location, PyroError, "invalid uri")
        self.protocol = f"PYRO{kind.upper()}"
        if self.protocol == "PYROMETA":
            self.object = {tag.strip() for tag in self.object.split(",")}
        place = _PLACE.fullmatch(location or "")
        if place is None:
            raise PyroError(next(text for start, text in _NO_PLACE.items() if location.startswith(start)))
        self.sockname, ipv6, name, port = place.groups()
        self.host = ipv6 or name
        try:
            self.port = int(port or ("" if self.protocol == "PYRO" else config.NS_PORT)) if self.host else None
        except ValueError:
            raise PyroError(f"invalid port in uri, port={port or ''}") from None

    isUnixsockLocation = staticmethod(lambda location: location.startswith("./u:"))

    @property
    def location(self) -> str | None:
        """`host:port` or `./u:name`; None if there is none."""
        if self.host:
            return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return f"./u:{self.sockname}" if self.sockname else None

    @property
    def address(self) -> Any:
        """The location as sockets have it, and as messages show it."""
        return self.sockname or (self.host, self.port)

    def asString(self) -> str:
        shown = ",".join(sorted(self.object)) if isinstance(self.object, set) else self.object
        return f"{self.protocol}:{shown}" + (f"@{self.location}" if self.location else "")

    __str__ = asString

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} at 0x{id(self):x}; {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URI) and self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        return hash(str(self))

    def __getstate__(self) -> tuple[Any, ...]:
        return self.protocol, self.object, self.sockname, self.host, self.port

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.protocol, self.object, self.sockname, self.host, self.port = state


register_type(URI, name="Pyro.URI", to_dict=lambda uri: {"uri": str(uri)}, from_dict=lambda fields: URI(fields["uri"]))
