"""`current_context`, connections, and what programs use of Pyro's socketutil.

Annotations are metadata of the broker under names of their own. A call has a state of its own, and so has each thread.
"""

from __future__ import annotations

import contextvars
import ipaddress
import socket
import weakref
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import broker
from broker.compat.errors import ProtocolError, PyroError, refuse

FLAGS_ONEWAY, PROTOCOL_VERSION = 4, 502
_PREFIX = "pyro."


class SocketConnection:
    """A proxy's connection: as the proxy has it, and as the daemon's hooks and `current_context.client` see it."""

    timeout: float | None = None

    def __init__(self, sock: Any = None, objectId: str | None = None, keep_open: bool = False) -> None:
        self.sock, self.objectId, self.keep_open = sock or peer(), objectId, keep_open
        self.pyroInstances: dict[type, object] = {}
        self.tracked_resources: weakref.WeakSet[Any] = weakref.WeakSet()
        self.control: Any = None  # of the proxy

    def getpeercert(self) -> None:
        """None: who a certificate names is `broker.current_context.client.identity`."""

    def close(self) -> None:
        if self.control is not None:
            self.control.close()


class SendingMessage:
    """What there is of messages: calls travel over gRPC."""

    ping = staticmethod(lambda pyroConnection, hmac_key=None: pyroConnection.control.ping())


class Socket:
    """Stands for the socket of a connection or daemon: it knows where that leads to."""

    def __init__(self, address: Any, fileno: Any = lambda: -1) -> None:
        kind = "AF_UNIX" if isinstance(address, str) else "AF_INET6" if ":" in str(address[0]) else "AF_INET"
        self.family, self.fileno = getattr(socket, kind, None), fileno
        self.getpeername = self.getsockname = lambda: address


def peer() -> Any:
    """Who makes the call that is carried out."""
    client = broker.current_context.client
    if client is not None and client.address.startswith("unix:"):
        return Socket(client.address.removeprefix("unix:"))
    return Socket((client.host, client.port) if client is not None and client.host else ("127.0.0.1", 0))


def family_str(sock: Any) -> str:
    return {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}.get(sock.family, "Unix")


# ---- the context


_state: contextvars.ContextVar[SimpleNamespace] = contextvars.ContextVar("pyro_context")


def state() -> SimpleNamespace:
    """What `current_context` shows: of a thread that calls, or of the call that is carried out."""
    return _state.get(None) or begin_call()


def begin_call(client: SocketConnection | None = None) -> SimpleNamespace:
    """The state of what is done from here on."""
    call = broker.current_context
    begun = SimpleNamespace(
        client=client, client_sock_addr=client and client.sock.getpeername(), seq=0, serializer_id=0,
        msg_flags=FLAGS_ONEWAY if call.oneway else 0, annotations=from_metadata(call.metadata),
        response_annotations={}, correlation_id=client and call.correlation_id,
    )  # fmt: skip
    _state.set(begun)
    return begun


def from_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(_PREFIX): value for key, value in metadata.items() if key.startswith(_PREFIX)}


def to_metadata(annotations: Mapping[Any, Any]) -> dict[str, str | bytes]:
    """Annotations as metadata. Raises ProtocolError for what is none."""
    for key, value in annotations.items():
        if not isinstance(key, str) or len(key) != 4 or not key.isascii():
            raise ProtocolError("annotation identifier must be 4 ascii characters")
        if not isinstance(value, bytes | bytearray | memoryview):
            raise ProtocolError("annotation data must be bytes, bytearray, or memoryview")
    return {_PREFIX + key: bytes(value) for key, value in annotations.items()}


class CallContext:
    """A view on the state of the running thread or call; there is one, `current_context`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(state(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(state(), name, value)

    def to_global(self) -> dict[str, Any]:
        return dict(vars(state()))

    def from_global(self, values: Mapping[str, Any]) -> None:
        vars(state()).update(values)

    def track_resource(self, resource: Any) -> None:
        """Closes the resource when the connection of the caller ends. Raises PyroError outside a call."""
        _tracked("track").add(resource)

    def untrack_resource(self, resource: Any) -> None:
        _tracked("untrack").discard(resource)


def _tracked(what: str) -> Any:
    refuse(state().client is None, PyroError, f"cannot {what} resource on a connectionless call")
    return state().client.tracked_resources


current_context = CallContext()


# ---- addresses and ports


def get_interface(ip_address: object) -> Any:
    """The interface of this host over which an address is reached."""
    return ipaddress.ip_interface(broker.address_towards(str(ip_address)))


def get_ip_address(hostname: str, workaround127: bool = False, version: int | None = None) -> Any:
    """The address of a host, "" being this one. `workaround127` looks for one that is not loopback."""
    family = {4: socket.AF_INET, 6: socket.AF_INET6}.get(version or 0, socket.AF_UNSPEC)
    resolved = socket.getaddrinfo(hostname, 0, family)[0][4][0] if hostname else "127.0.0.1"
    found = ipaddress.ip_address(str(resolved).partition("%")[0])
    return get_interface("198.51.100.1").ip if found.is_loopback and workaround127 else found


def bind_unused_port(sock: socket.socket, host: object = "localhost") -> Any:
    sock.bind((str(host), 0))
    return sock.getsockname()[1]


def find_probably_unused_port(family: int = socket.AF_INET, socktype: int = socket.SOCK_STREAM) -> Any:
    with socket.socket(family, socktype) as probe:
        return bind_unused_port(probe)


# As Pyro4 has them, as text.
def getIpAddress(hostname: str, workaround127: bool = False, ipVersion: int | None = None) -> str:
    return str(get_ip_address(hostname, workaround127, ipVersion))


def getInterfaceAddress(ip_address: str) -> str:
    return str(get_interface(ip_address).ip)


def getIpVersion(hostnameOrAddress: str) -> Any:
    return get_ip_address(hostnameOrAddress).version
