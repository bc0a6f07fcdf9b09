"""What programs use of Pyro's socketutil: addresses and ports."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any


def get_interface(ip_address: object) -> Any:
    """The interface of this host over which an address is reached."""
    family = socket.AF_INET6 if ":" in str(ip_address) else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(ip_address), 53))
        return ipaddress.ip_interface(probe.getsockname()[0])


def get_ip_address(hostname: str, workaround127: bool = False, version: int | None = None) -> Any:
    """The address of a host, "" being this one. `workaround127` looks for one that is not loopback."""
    if not hostname:
        return get_interface("198.51.100.1").ip if workaround127 else ipaddress.ip_address("127.0.0.1")
    family = {4: socket.AF_INET, 6: socket.AF_INET6}.get(version or 0, socket.AF_UNSPEC)
    found = ipaddress.ip_address(str(socket.getaddrinfo(hostname, 0, family)[0][4][0]).partition("%")[0])
    return get_interface("198.51.100.1").ip if found.is_loopback and workaround127 else found


def bind_unused_port(sock: socket.socket, host: object = "localhost") -> int:
    sock.bind((str(host), 0))
    port: int = sock.getsockname()[1]
    return port


def find_probably_unused_port(family: int = socket.AF_INET, socktype: int = socket.SOCK_STREAM) -> int:
    with socket.socket(family, socktype) as probe:
        return bind_unused_port(probe)


# As Pyro4 calls them, and as text.
def getIpAddress(hostname: str, workaround127: bool = False, ipVersion: int | None = None) -> str:
    return str(get_ip_address(hostname, workaround127, ipVersion))


def getInterfaceAddress(ip_address: str) -> str:
    return str(get_interface(ip_address).ip)


def getIpVersion(hostnameOrAddress: str) -> int:
    version: int = get_ip_address(hostnameOrAddress).version
    return version
