"""Finding a name server on a network without being told where it is: one asks all by UDP, and it answers.

Whoever answers first is believed: it is no more than a hint where to connect, and credentials say who is there.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Self

from broker.config import Config
from broker.errors import DaemonError
from broker.uri import DIRECT, URI, InvalidURI

__all__ = ["Beacon", "address_towards", "discover_ns"]

_QUESTION, _ANSWER = b"objectbroker/1 name server?", b"objectbroker/1 name server at "
_NONCE = 16
_QUESTION_SIZE = 512
"""Bytes, with zeros at the end: no answer is longer, so that who forges the address of another multiplies nothing."""
_TRIES = 3  # packets get lost
_log = logging.getLogger("broker")


class Beacon:
    """Answers who asks by broadcast where a name server is: after `start()`, or in a loop of the program's own.

    `select` takes it as a file, and `answer()` what has come. It listens on `host`, "" being all interfaces, and on
    `port`; 0 takes any free one. `where` is the URI of the name server, or a function that gives it for the address of
    who asks. Raises DaemonError for an address that cannot be had.
    """

    def __init__(
        self, where: str | URI | Callable[[str], URI], host: str = "", port: int = Config.ns_broadcast_port.unset
    ) -> None:
        self._where = where if callable(where) else _always(URI(where))
        self._closed = False
        self.sock = _udp()
        port = Config.ns_broadcast_port.pick(port)
        try:
            self.sock.bind((host, port))
        except OSError as error:
            self.sock.close()
            raise DaemonError(f"cannot answer broadcasts on {host or '0.0.0.0'}:{port}: {error.strerror}") from error
        self.sock.setblocking(False)
        self._woken, self._waker = socket.socketpair()

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) on which it listens."""
        host, port = self.sock.getsockname()
        return host, port

    def fileno(self) -> int:
        """Of the socket; -1 once it is closed."""
        return self.sock.fileno()

    def start(self) -> threading.Thread:
        """Answers in a thread, until `close()`."""
        thread = threading.Thread(target=self.serve, name="broker-beacon", daemon=True)
        thread.start()
        return thread

    def serve(self) -> None:
        """Answers until `close()`."""
        try:
            while not self._closed:
                select.select([self.sock, self._woken], [], [])
                self.answer()
        except (OSError, ValueError):  # it was closed meanwhile
            if not self._closed:
                raise

    def answer(self) -> None:
        """Answers what has come, and returns at once."""
        while not self._closed:
            try:
                asked, asker = self.sock.recvfrom(_QUESTION_SIZE)
                if len(asked) == _QUESTION_SIZE and asked.startswith(_QUESTION):
                    nonce = asked[len(_QUESTION) : len(_QUESTION) + _NONCE]
                    said = _ANSWER + nonce + str(self._where(asker[0])).encode()
                    self.sock.sendto(said[:_QUESTION_SIZE], asker)
            except BlockingIOError:
                return
            except OSError as error:  # who asked is gone, or cannot be reached
                if not self._closed:
                    _log.debug("an answer to a broadcast was not sent: %s", error)

    def close(self) -> None:
        """Ends the answers. Calling it again does nothing."""
        if not self._closed:
            self._closed = True
            for end in (self._waker, self.sock, self._woken):  # the first of them wakes the thread
                end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _always(uri: URI) -> Callable[[str], URI]:
    return lambda asker: uri


def discover_ns(
    port: int = Config.ns_broadcast_port.unset,
    *,
    addresses: Iterable[str] = ("<broadcast>",),
    timeout: float = 0.7,
) -> URI | None:
    """Asks all machines of the network for a name server; the URI that the first to answer gives, None if nobody does.

    `addresses` are asked on `port`: broadcast addresses, or single ones. It waits `timeout` seconds.
    """
    nonce = os.urandom(_NONCE)
    question = (_QUESTION + nonce).ljust(_QUESTION_SIZE, b"\0")
    places = [(address, Config.ns_broadcast_port.pick(port)) for address in addresses]
    with _udp() as sock:
        for left in range(_TRIES, 0, -1):
            reached = [_sent(sock, question, place) for place in places]
            if not any(reached):
                return None
            found = _first_answer(sock, _ANSWER + nonce, time.monotonic() + timeout / _TRIES)
            if found is not None or left == 1:
                return found
    return None


def _sent(sock: socket.socket, question: bytes, place: tuple[str, int]) -> bool:
    try:
        sock.sendto(question, place)
    except OSError as error:  # there is no network, or no such address
        _log.debug("no name server is asked for at %s:%d: %s", *place, error)
        return False
    return True


def _first_answer(sock: socket.socket, beginning: bytes, deadline: float) -> URI | None:
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            said = sock.recv(_QUESTION_SIZE)
            uri = URI(said.removeprefix(beginning).decode()) if said.startswith(beginning) else None
        except TimeoutError:
            return None
        except (OSError, InvalidURI, UnicodeDecodeError):  # nobody listens there; something else answers
            continue
        if uri is not None and uri.protocol == DIRECT:
            return uri
    return None


def address_towards(other: str) -> str:
    """The IP address of this machine by which another one reaches it, whose IP address is given: for `advertise=`.

    Nothing is sent. Raises OSError where there is no way there.
    """
    with socket.socket(socket.AF_INET6 if ":" in other else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((other, 9))
        host: str = probe.getsockname()[0]
        return host


def _udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # beside another one on the same machine
    return sock
