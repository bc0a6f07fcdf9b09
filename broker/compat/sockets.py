"""What programs use of Pyro's socketutil: addresses and ports."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def get_ip_address(hostname: str, workaround127: bool = False, version: int | None = None) -> Address:
    """The address of a host, "" being this one. `workaround127` looks for one that is not loopback."""
    family = {4: socket.AF_INET, 6: socket.AF_INET6}.get(version or 0, socket.AF_UNSPEC)
    if not hostname and workaround127:
        hostname = str(get_interface("198.51.100.1").ip)
    found = socket.getaddrinfo(hostname or "localhost", 0, family, socket.SOCK_STREAM)
    address = ipaddress.ip_address(str(found[0][4][0]).partition("%")[0])
    if address.is_loopback and workaround127:
        return ipaddress.ip_address(get_interface("198.51.100.1").ip)
    return address


def get_interface(ip_address: str) -> Any:
    """The interface of this host over which an address is reached."""
    family = socket.AF_INET6 if ":" in str(ip_address) else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(ip_address) if str(ip_address) != "255.255.255.255" else "127.0.0.1", 53))
        return ipaddress.ip_interface(probe.getsockname()[0])


def get_ip_version(hostname_or_address: str) -> int:
    """4 or 6."""
    return get_ip_address(hostname_or_address).version


def get_ip_address_text(hostname: str, workaround127: bool = False, ipVersion: int | None = None) -> str:
    """`get_ip_address` of Pyro4."""
    return str(get_ip_address(hostname, workaround127, ipVersion))


def get_interface_address(ip_address: str) -> str:
    """`get_interface` of Pyro4."""
    return str(get_interface(ip_address).ip)


def find_probably_unused_port(family: int = socket.AF_INET, socktype: int = socket.SOCK_STREAM) -> int:
    """A port that was free a moment ago."""
    with socket.socket(family, socktype) as probe:
        return bind_unused_port(probe)


def bind_unused_port(sock: socket.socket, host: str | Address = "localhost") -> int:
    """Binds a socket to a free port, and gives the port."""
    sock.bind((str(host), 0))
    port: int = sock.getsockname()[1]
    return port
