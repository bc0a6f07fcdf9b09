"""The short cut within a process: a client's end and a daemon's end of a connection, joined in memory.

The engines are the ones that gRPC would join, so everything is as on the wire: values are encoded and decoded, limits
and credit hold, sessions end, and the same errors come out. Only the socket is left out.

What a client sends is taken in by a thread of ours, a courier, which then runs what it brought as the threads do that
read from sockets. What a daemon sends is taken in by whoever puts it into the idle line, mostly the thread that ran the
method: `receive` never waits and runs no code of users. But never by the main thread, for Ctrl-C in the middle of it
would leave an engine broken that all threads share.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.connection.channels import addresses_of
from broker.connection.engine import Connection
from broker.connection.leading import Leading, apart
from broker.connection.workers import Job, Workers
from broker.errors import Overloaded

__all__ = ["Entrance", "entrances", "join", "peer_name"]

_UNLIMITED = 1 << 30
_MESSAGES_IN_A_ROW = 8  # that a thread which has other things to do delivers, before it leaves the rest to a courier
_couriers = Workers(_UNLIMITED, "broker-local")


def peer_name() -> str:
    """What stands in place of the address of a caller of the same process."""
    return f"inproc:{os.getpid()}"


def join(client: Connection, server: Connection, leading: Leading) -> None:
    """Joins two ends: from now on each receives what the other has to send, and ends when the other does."""
    server.hand_to(_ToClient(server, client), _aside)
    client.hand_to(_ToServer(client, server, leading))


def _aside(job: Job) -> None:
    """Who makes the items of a stream goes on while a courier takes them in: what is made meanwhile goes together."""
    try:
        _couriers.submit(job)
    except Overloaded:  # no thread but this one can be had
        job()


class _Way:
    """One direction between two ends: the transport of the one that sends.

    The line hands over one message and waits for `sent`, so there is never more than one. What delivering leads to,
    answers of the other end and their answers, comes back here on the same thread, and is left to the loop that runs.
    """

    def __init__(self, sender: Connection, receiver: Connection) -> None:
        self._sender = sender
        self._receiver = receiver
        self._messages: deque[bytes] = deque()
        self._delivering = threading.Lock()  # only ever tried

    def _deliver(self) -> None:
        # Who comes while another thread delivers leaves its message to that one, which looks again after letting go.
        while self._messages and self._delivering.acquire(blocking=False):
            try:
                done = self._deliver_some()
            finally:
                self._delivering.release()
            if not done:
                self._deliver_elsewhere()
                return

    def _deliver_some(self) -> bool:
        """False if there is still something to deliver."""
        for _ in range(_MESSAGES_IN_A_ROW):
            try:
                message = self._messages.popleft()
            except IndexError:
                return True
            self._receiver.receive(message)
            self._sender.sent()
        return not self._messages

    def _deliver_elsewhere(self) -> None:
        try:
            _couriers.submit(self._deliver)
        except Overloaded:  # no thread but this one can be had
            self._deliver()


class _ToClient(_Way):
    def send(self, pieces: Sequence[bytes | memoryview]) -> bool:
        self._messages.append(b"".join(pieces))
        if threading.current_thread() is threading.main_thread():
            self._deliver_elsewhere()
        else:
            with apart():
                self._deliver()
        return False

    def finish(self) -> None:
        client = self._receiver
        client.lost(client.draining_because or f"the connection to {client.peer_name} was lost")


class _ToServer(_Way):
    def __init__(self, sender: Connection, receiver: Connection, leading: Leading) -> None:
        super().__init__(sender, receiver)
        self._leading = leading

    def send(self, pieces: Sequence[bytes | memoryview]) -> bool:
        self._messages.append(b"".join(pieces))
        self._deliver_elsewhere()
        return False

    def finish(self) -> None:
        self._receiver.transport_ended(f"{self._receiver.peer_name} closed the connection")

    def _deliver(self) -> None:
        self._leading.collect()
        super()._deliver()
        self._leading.lead()


@dataclass(frozen=True, eq=False, slots=True)
class Entrance:
    """Where a daemon of this process is reached, and how it takes a client in."""

    accept: Callable[[Connection], None]
    """Joins the client's end to one of the daemon's."""
    published: tuple[str, int] = ("", 0)
    """The address in URIs."""
    addresses: frozenset[str] = frozenset()
    port: int = 0
    """What it listens on: numeric addresses with one port."""
    socket_path: str | None = None

    def leads_here(self, host: str, port: int, socket_path: str | None) -> bool:
        """Whether the place is certainly this daemon's. No name server of the network is asked about the host."""
        if socket_path is not None or self.socket_path is not None:
            return _absolute(socket_path) == self.socket_path
        if (host, port) == self.published:
            return True
        return port == self.port and all(map(self._listens_on, _numeric(host) or [""]))

    def _listens_on(self, address: str) -> bool:
        if address in self.addresses:
            return True
        if not address or not ipaddress.ip_address(address).is_loopback:
            return False
        return "::" in self.addresses or ("0.0.0.0" in self.addresses and "." in address)


def _absolute(socket_path: str | None) -> str | None:
    return None if socket_path is None else str(Path(socket_path).absolute())


def _numeric(host: str) -> list[str]:
    """The addresses of a host, as far as this machine itself says what they are."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    if host not in ("localhost", socket.gethostname()):
        return []
    try:
        return [str(ipaddress.ip_address(address.partition("%")[0])) for address, _ in addresses_of(host, 0)]
    except OSError:
        return []


class Entrances:
    """The daemons of this process that clients may enter past the socket. For any thread."""

    def __init__(self) -> None:
        self._entrances: tuple[Entrance, ...] = ()
        self._lock = threading.Lock()

    def add(self, entrance: Entrance) -> None:
        with self._lock:
            self._entrances = (*self._entrances, entrance)

    def remove(self, entrance: Entrance) -> None:
        with self._lock:
            self._entrances = tuple(known for known in self._entrances if known is not entrance)

    def find(self, host: str, port: int, socket_path: str | None) -> Entrance | None:
        """The daemon of this process that is certainly meant by a place."""
        found = [entrance for entrance in self._entrances if entrance.leads_here(host, port, socket_path)]
        return found[0] if len(found) == 1 else None


entrances = Entrances()


def _after_fork() -> None:
    """A daemon does not serve in the child."""
    entrances.__init__()  # type: ignore[misc]
    _couriers.__init__(_UNLIMITED, "broker-local")  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
