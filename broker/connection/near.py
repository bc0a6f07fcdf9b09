"""The Unix socket beside a TCP port: what a daemon offers, and how both ends prove that it is the one of the offer.

The daemon offers a path and a secret in its Welcome. The client looks at the path, connects there, and proves in its
Hello that it knows the secret; the daemon proves the same in its Welcome. Neither tells the secret, so that nobody else
who listens or connects there learns it. An offer is good for one connection, which has the identity of the one that it
was made to.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import socket
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from broker._pb.broker_pb2 import SocketOffer, SocketProof
from broker.errors import ProtocolError

if TYPE_CHECKING:
    from broker.connection.engine import Connection

DIRECTORY_PREFIX = "objectbroker-"
_PATH = re.compile(rf"(/[A-Za-z0-9_.-]+)*/{DIRECTORY_PREFIX}[A-Za-z0-9_-]+/[A-Za-z0-9_-]+\.sock", re.ASCII)
LONGEST_PATH = 100
"""Bytes; what every system has room for in a socket address."""
IS_POSSIBLE = hasattr(socket, "AF_UNIX") and hasattr(os, "geteuid")
"""Whether this system has Unix sockets that belong to users."""
_SECRET_SIZE = 32
_TICKET_SIZE = _NONCE_SIZE = 16
_CLIENT = b"objectbroker near client\0"
_SERVER = b"objectbroker near server\0"


def is_plain(path: str) -> bool:
    """Whether a path is one that a daemon may offer: of its own kind, and of characters that gRPC leaves alone."""
    return len(path) <= LONGEST_PATH and _PATH.fullmatch(path) is not None


def distrust(path: str) -> str | None:
    """Why this process should not connect to an offered path; None if all is as it should be.

    Directory and socket have to be its own user's and nobody else's. Anything else of the user that listens somewhere,
    an agent for keys say, is no business of who made the offer.
    """
    if not is_plain(path):
        return "it is no path that a daemon would offer"
    try:
        directory, entry = Path(path).parent.lstat(), Path(path).lstat()
    except OSError as error:
        return f"it is not to be seen from here ({error.strerror})"
    if not stat.S_ISDIR(directory.st_mode) or not stat.S_ISSOCK(entry.st_mode):
        return "it is no socket in a directory"
    if {directory.st_uid, entry.st_uid} != {os.geteuid()}:
        return "it belongs to another user"
    if stat.S_IMODE(directory.st_mode) != 0o700 or stat.S_IMODE(entry.st_mode) != 0o600:
        return "others than its owner may get there"
    return None


class Claim:
    """The client's side of one offer."""

    def __init__(self, offer: SocketOffer) -> None:
        self._offer = offer
        self._nonce = secrets.token_bytes(_NONCE_SIZE)
        self.proof = _proof(offer, _CLIENT, self._nonce)
        """What goes into Hello."""

    def is_met_by(self, answer: SocketProof) -> bool:
        """Whether the proof in a Welcome comes from who made the offer."""
        expected = _proof(self._offer, _SERVER, self._nonce)
        return hmac.compare_digest(expected.mac, answer.mac)


class Offers:
    """The offers of a daemon that were not taken up. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[bytes, tuple[SocketOffer, Connection]] = {}
        self._tickets: dict[Connection, bytes] = {}

    def __len__(self) -> int:
        return len(self._open)

    def make(self, path: str, connection: Connection) -> SocketOffer:
        """An offer to who is at the other end of a connection."""
        ticket, secret = secrets.token_bytes(_TICKET_SIZE), secrets.token_bytes(_SECRET_SIZE)
        offer = SocketOffer(path=path, ticket=ticket, secret=secret)
        with self._lock:
            self._open[ticket] = (offer, connection)
            self._tickets[connection] = ticket
        return offer

    def withdraw(self, connection: Connection) -> None:
        """The connection has ended: what was offered there is void."""
        with self._lock:
            self._open.pop(self._tickets.pop(connection, b""), None)

    def take_up(self, proof: SocketProof) -> tuple[Connection, SocketProof]:
        """The connection to which the offer was made, and the answer. Raises ProtocolError for a proof that is none."""
        with self._lock:
            offer, connection = self._open.pop(proof.ticket, (None, None))
            if connection is not None:
                del self._tickets[connection]
        if offer is None or connection is None:
            raise ProtocolError("who connected here had no offer to do so, or has used it already")
        if not hmac.compare_digest(_proof(offer, _CLIENT, proof.nonce).mac, proof.mac):
            raise ProtocolError("who connected here does not know the secret of the offer")
        return connection, _proof(offer, _SERVER, proof.nonce)


def _proof(offer: SocketOffer, who: bytes, nonce: bytes) -> SocketProof:
    mac = hmac.digest(offer.secret, who + offer.ticket + nonce, "sha256")
    return SocketProof(ticket=offer.ticket, nonce=nonce, mac=mac)
