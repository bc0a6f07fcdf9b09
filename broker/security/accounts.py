"""To whose account a caller's connections, calls and guesses go, where there is a limit to how many they may be."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import unquote

__all__ = ["account_of", "address_of"]

_NETWORK = 64
"""Bits of an IPv6 address; what is behind them a single machine chooses for itself."""


def account_of(address: str, identity: str | None) -> str:
    """In words of a message: the identity in quotes, or where it is not known the address, without the port."""
    return repr(identity) if identity is not None else address_of(address)


@lru_cache(maxsize=1024)
def address_of(address: str) -> str:
    """The address behind the name of a peer as the transport gives it; of IPv6 the network."""
    kind, _, rest = address.partition(":")
    if kind == "unix":
        return "this machine's Unix sockets"
    if kind == "inproc":
        return "this process"
    host = unquote(rest.rpartition(":")[0]).strip("[]").partition("%")[0]
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        if not found.is_loopback:
            return str(ipaddress.ip_network((found, _NETWORK), strict=False))
    return str(found)
