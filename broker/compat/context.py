"""`current_context`: what travels beside the arguments, for the caller and for the method.

Annotations are metadata of the broker under names of their own. A call has a state of its own, and so has each thread.
"""

from __future__ import annotations

import contextvars
import socket
import uuid
import weakref
from collections.abc import Mapping
from typing import Any

import broker
from broker.compat.errors import ProtocolError, PyroError

_PREFIX = "pyro."
CONNECTION, ONEWAY = "pyro-connection", "pyro-oneway"
"""Metadata that say to which connection of a daemon a call belongs, and that nobody waits for it."""
FLAGS_ONEWAY = 4


class SocketConnection:
    """A proxy's connection, as the daemon's hooks and `current_context.client` see it."""

    def __init__(self, sock: Any = None, objectId: str | None = None, keep_open: bool = False) -> None:
        self.sock = sock if sock is not None else Peer()
        self.objectId = objectId
        self.keep_open = keep_open
        self.timeout: float | None = None
        self.pyroInstances: dict[type, object] = {}
        self.tracked_resources: weakref.WeakSet[Any] = weakref.WeakSet()

    def getpeercert(self) -> None:
        """None: whom a certificate names is `broker.current_context.client.identity`."""

    def family(self) -> str:
        return family_str(self.sock)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        """A daemon's connections end with their proxies."""

    def __enter__(self) -> SocketConnection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Peer:
    """Stands for the socket of a connection: it knows who is at the other end."""

    def __init__(self, address: Any = ("", 0), family: socket.AddressFamily = socket.AF_INET) -> None:
        self._address = address
        self.family = family

    def getpeername(self) -> Any:
        return self._address

    getsockname = getpeername

    def fileno(self) -> int:
        return -1


def family_str(sock: Any) -> str:
    """`IPv4`, `IPv6` or `Unix`, as reprs show it."""
    families: dict[Any, str] = {
        socket.AF_INET: "IPv4",
        socket.AF_INET6: "IPv6",
        getattr(socket, "AF_UNIX", None): "Unix",
    }
    return families.get(getattr(sock, "family", None), "???")


def peer() -> Peer:
    """Who makes the call that is carried out."""
    client = broker.current_context.client
    kind, _, address = (client.address if client is not None else "").partition(":")
    host, _, port = address.replace("%5B", "[").replace("%5D", "]").rpartition(":")
    if kind == "unix":
        return Peer(address, getattr(socket, "AF_UNIX", socket.AF_INET))
    if kind not in ("ipv4", "ipv6"):
        return Peer(("127.0.0.1", 0))  # of this very process
    family = socket.AF_INET6 if kind == "ipv6" else socket.AF_INET
    return Peer((host.strip("[]"), int(port or 0)), family)


class _State:
    """What `current_context` shows: of a thread that calls, or of a call."""

    def __init__(self) -> None:
        self.client: SocketConnection | None = None
        self.client_sock_addr: Any = None
        self.seq = self.msg_flags = self.serializer_id = 0
        self.annotations: dict[str, Any] = {}
        self.response_annotations: dict[str, Any] = {}
        self.correlation_id: uuid.UUID | None = None
        self.in_call = False


_state: contextvars.ContextVar[_State] = contextvars.ContextVar("pyro_context")


def state() -> _State:
    """That of the running thread or call."""
    found = _state.get(None)
    if found is None:
        found = _State()
        _state.set(found)
    return found


def begin_call(client: SocketConnection) -> _State:
    """The state of the call that is carried out from here on."""
    begun = _State()
    begun.client, begun.client_sock_addr, begun.in_call = client, client.sock.getpeername(), True
    begun.annotations = from_metadata(broker.current_context.metadata)
    begun.msg_flags = FLAGS_ONEWAY if ONEWAY in broker.current_context.metadata else 0
    begun.correlation_id = broker.current_context.correlation_id
    _state.set(begun)
    return begun


def from_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations among the metadata."""
    return {key.removeprefix(_PREFIX): value for key, value in metadata.items() if key.startswith(_PREFIX)}


def to_metadata(annotations: Mapping[Any, Any]) -> dict[str, str | bytes]:
    """Annotations as metadata. Raises ProtocolError for what is none."""
    metadata: dict[str, str | bytes] = {}
    for key, value in annotations.items():
        if not isinstance(key, str) or len(key) != 4 or not key.isascii():
            raise ProtocolError("annotation identifier must be 4 ascii characters")
        if not isinstance(value, bytes | bytearray | memoryview):
            raise ProtocolError("annotation data must be bytes, bytearray, or memoryview")
        metadata[_PREFIX + key] = bytes(value)
    return metadata


class CallContext:
    """A view on the state of the running thread or call; there is one, `current_context`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(state(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(state(), name, value)

    def to_global(self) -> dict[str, Any]:
        """The state as a dict, for another thread's `from_global`."""
        return {name: value for name, value in vars(state()).items() if name != "in_call"}

    def from_global(self, values: Mapping[str, Any]) -> None:
        """Takes on a state."""
        vars(state()).update({name: value for name, value in values.items() if name != "in_call"})

    def track_resource(self, resource: Any) -> None:
        """Closes the resource when the connection of the caller ends. Raises PyroError outside a call."""
        self._client("track").tracked_resources.add(resource)

    def untrack_resource(self, resource: Any) -> None:
        """Forgets a tracked resource. Raises PyroError outside a call."""
        self._client("untrack").tracked_resources.discard(resource)

    def _client(self, what: str) -> SocketConnection:
        client = state().client
        if client is None or broker.current_context.object_id is None:
            raise PyroError(f"cannot {what} resource on a connectionless call")
        return client


current_context = CallContext()
