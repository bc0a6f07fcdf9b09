"""How programs find a name server without being told where it is: one asks all by UDP, and it answers with its URI."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from typing import Any

from broker.compat.configuration import config
from broker.compat.context import get_interface
from broker.compat.uri import URI

_QUESTION = b"GET_NSURI"
_SECONDS = 0.7


class BroadcastServer:
    """Answers who asks for the name server: in a thread, or where the program's own loop selects on it."""

    def __init__(self, nsUri: URI, bchost: str | None = None, bcport: int | None = None, ipv6: bool = False) -> None:
        self.nsUri = nsUri
        self.sock = _udp()
        self.sock.bind((str(bchost or config.NS_BCHOST or ""), config.NS_BCPORT if bcport is None else bcport))
        self.locationStr = "{}:{}".format(*self.sock.getsockname())

    def getPort(self) -> Any:
        return self.sock.getsockname()[1]

    def fileno(self) -> int:
        return self.sock.fileno()

    def runInThread(self) -> threading.Thread:
        thread = threading.Thread(target=self.requestLoop, daemon=True)
        thread.start()
        return thread

    def requestLoop(self) -> None:
        while self.fileno() >= 0:
            self.processRequest()

    def processRequest(self) -> None:
        """Answers one question; waits for it. Returns too when the server is closed."""
        with contextlib.suppress(OSError):
            asked, asker = self.sock.recvfrom(100)
            if asked == _QUESTION:
                uri = URI(self.nsUri)
                if uri.host == "0.0.0.0":
                    uri.host = str(get_interface(asker[0]).ip)
                self.sock.sendto(str(uri).encode(), asker)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self.sock.close()

    def __enter__(self) -> BroadcastServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def started_for(uri: URI, bchost: str | None, bcport: int | None) -> BroadcastServer | None:
    """The server for a name server that other machines reach."""
    with contextlib.suppress(OSError):
        address = ipaddress.ip_address(socket.gethostbyname(str(uri.host)))
        if address.version == 4 and not address.is_loopback:
            return BroadcastServer(uri, bchost, bcport)
    return None


def asked_for(port: int) -> URI | None:
    """The URI that the first to answer gives; None if nobody does."""
    with _udp() as sock:
        for address in config.BROADCAST_ADDRS:
            with contextlib.suppress(OSError):
                sock.sendto(_QUESTION, (address, port))
        ends = time.monotonic() + _SECONDS
        while config.BROADCAST_ADDRS and (left := ends - time.monotonic()) > 0:
            sock.settimeout(left)
            with contextlib.suppress(OSError, ValueError):
                return URI(sock.recvfrom(1000)[0].decode())
    return None


def _udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock
