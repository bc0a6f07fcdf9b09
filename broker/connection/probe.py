"""What listens on a port that is no broker: named by the first bytes that it answers."""

from __future__ import annotations

import socket

_TIMEOUT = 1.0  # seconds for connecting and for each answer
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

_KNOWN = (
    (b"PYRO", "Pyro"),
    (b"HTTP/1", "an HTTP/1 server"),
    (b"SSH-", "SSH"),
    (b"220", "a mail or FTP server"),
    (b"-ERR", "Redis"),
    (b"+OK", "a POP3 server"),
    (b"\x15\x03", "TLS: give the proxy credentials"),
    (b"IceP", "ZeroC Ice"),
)


def describe_peer(host: str, port: int, patience: float = _TIMEOUT) -> str | None:
    """What answers at an address ("answers as Pyro"); None if nothing can be said.

    Takes at most twice the patience, in seconds.
    """
    try:
        with socket.create_connection((host, port), timeout=patience) as peer:
            peer.sendall(_PREFACE)
            first = peer.recv(64)
    except TimeoutError:
        return "accepts connections and answers nothing"
    except OSError:
        return None
    if not first:
        return "closes the connection without an answer"
    for prefix, name in _KNOWN:
        if first.startswith(prefix):
            return f"answers as {name}"
    if len(first) >= 9 and first[3] == 4:  # an HTTP/2 SETTINGS frame: gRPC, perhaps of another kind
        return None
    return f"answers with {first[:16]!r}"
