"""What listens at a place where no connection comes about: named by what it answers, in plain text or in TLS."""

from __future__ import annotations

import socket
import ssl

from broker.connection.channels import ChannelSecurity
from broker.security import Credentials

_TIMEOUT = 1.0  # seconds for connecting and for each answer
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

_NEEDS_TLS = "answers as TLS: give credentials to who connects"
_KNOWN = (
    (b"PYRO", "Pyro"),
    (b"HTTP/1", "an HTTP/1 server"),
    (b"SSH-", "SSH"),
    (b"220", "a mail or FTP server"),
    (b"-ERR", "Redis"),
    (b"+OK", "a POP3 server"),
    (b"\x15\x03", "TLS: give credentials to who connects"),
    (b"IceP", "ZeroC Ice"),
)


def describe_peer(
    host: str, port: int, patience: float = _TIMEOUT, credentials: ChannelSecurity | None = None
) -> str | None:
    """What answers at an address ("answers as Pyro"); None if nothing can be said.

    `credentials` are those with which no connection came about. Takes at most three times the patience, in seconds.
    """
    if isinstance(credentials, Credentials) and credentials.encrypts:
        return _describe_tls(host, port, patience, credentials)
    return _describe_plain(host, port, patience)


def _describe_plain(host: str, port: int, patience: float) -> str | None:
    try:
        with socket.create_connection((host, port), timeout=patience) as peer:
            peer.sendall(_PREFACE)
            first = peer.recv(64)
    except TimeoutError:
        return "accepts connections and answers nothing"
    except OSError:
        return None
    if not first:
        return _NEEDS_TLS if _speaks_tls(host, port, patience) else "closes the connection without an answer"
    for prefix, name in _KNOWN:
        if first.startswith(prefix):
            return f"answers as {name}"
    if len(first) >= 9 and first[3] == 4:  # an HTTP/2 SETTINGS frame: gRPC, perhaps of another kind
        return None
    return f"answers with {first[:16]!r}"


def _speaks_tls(host: str, port: int, patience: float) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is said or believed, but that TLS is spoken
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host, port), timeout=patience) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


def _describe_tls(host: str, port: int, patience: float, credentials: Credentials) -> str | None:
    """What is wrong with one side's certificate in the eyes of the other."""
    try:
        plain = socket.create_connection((host, port), timeout=patience)
    except OSError:
        return None
    name = credentials.server_name or host
    try:
        with plain, credentials.for_probe().wrap_socket(plain, server_hostname=name) as peer:
            peer.sendall(_PREFACE)
            if peer.recv(64):
                return None
    except ssl.SSLCertVerificationError as error:
        hint = (
            " Name it there, or say which name to expect: Credentials(server_name=...)" if _is_of_another(error) else ""
        )
        return f"shows a certificate that is not believed here: {error.verify_message}{hint}"
    except ssl.SSLError as error:
        if error.reason == "WRONG_VERSION_NUMBER":
            return "speaks no TLS: connect without certificates, or give it some"
        if "ALERT" not in (error.reason or ""):
            return f"fails in TLS: {error.reason or error}"
    except TimeoutError:
        return "accepts connections and answers nothing"
    except OSError:  # as an end of the connection, which says no more than this
        pass
    if credentials.cert is None:
        return "asks for a certificate: connect with Credentials that have cert and key"
    return f"does not believe the certificate in {credentials.cert}: is it of the authority there, and still valid?"


def _is_of_another(error: ssl.SSLCertVerificationError) -> bool:
    return "mismatch" in error.verify_message
