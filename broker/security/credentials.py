"""What one end of a connection shows of itself, and what it believes of the other."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import grpc

from broker.errors import BrokerError
from broker.security.files import Stamp, Watched, stamp_of

if TYPE_CHECKING:
    import ssl

__all__ = ["Acceptor", "Credentials", "InvalidCredentials", "Prover", "audience_of"]

FilePath = str | os.PathLike[str]
_log = logging.getLogger("broker")


class InvalidCredentials(BrokerError, ValueError):
    """Certificates, keys or tokens that cannot be used, or not together, or not here."""


class Acceptor(Protocol):
    """Who knows tokens."""

    def identify(self, token: str, audience: str) -> str | None:
        """Whose token it is; None if it is none that this server, which is called so, accepts.

        Runs on gRPC's threads: must not wait.
        """


class Prover(Protocol):
    """Who shows another token each time."""

    def show(self, audience: str) -> str:
        """A token for the server that is called so. Raises InvalidCredentials."""


def audience_of(port: int, unix_socket: str | None = None) -> str:
    """What a server of this machine is called in tokens that are for it alone."""
    return f"port {port}" if unix_socket is None else f"socket {unix_socket}"


@dataclass(frozen=True)
class Credentials:
    """What one end shows of itself, and what it believes of the other: the same for daemons, proxies, name servers.

    `cert` and `key` are PEM files: the certificate (with those between it and the authority, if any) and its private
    key, without a password. `ca` is a PEM file of the authorities whose certificates are believed. Files are read again
    when they have changed: new connections use what they say then.

    On a daemon `cert` and `key` are what it shows; with `ca` it takes only clients that show a certificate of that
    authority (mutual TLS), whose common name is their identity. `accept` are who knows the tokens that clients show:
    who has no certificate has to show one.

    On a proxy `ca` is what the daemon's certificate has to come from (without it: the authorities that the system
    trusts, if there is a `cert`), `cert` and `key` are what it shows, and `token` is sent with every connection, or
    what the file `token_file` holds; `token` may also be `SameUser()`. `server_name` is the name in the daemon's
    certificate where that is not the host of the URI.

    Without `cert` and `ca` nothing is encrypted, and a token goes to the same machine only. Raises InvalidCredentials.
    """

    cert: FilePath | None = None
    key: FilePath | None = field(default=None, repr=False)
    ca: FilePath | None = None
    token: str | Prover | None = field(default=None, repr=False, kw_only=True)
    token_file: FilePath | None = field(default=None, kw_only=True)
    accept: Iterable[Acceptor] = field(default=(), kw_only=True)
    server_name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("cert", "key", "ca", "token_file"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value).absolute())
        object.__setattr__(self, "accept", tuple(self.accept))
        if (self.cert is None) != (self.key is None):
            raise InvalidCredentials(f"{self!r}: a certificate and its key go together, give cert and key")
        if self.token is not None and self.token_file is not None:
            raise InvalidCredentials(f"{self!r}: give token or token_file, not both")
        _loaded(self)  # so that what is wrong with the files is said here, and not when somebody connects
        if isinstance(self.token, str) or self.token_file is not None:
            self.shown_token("")

    def __repr__(self) -> str:
        shown = {"cert": self.cert, "ca": self.ca, "token_file": self.token_file, "server_name": self.server_name}
        given = [f"{name}={str(value)!r}" for name, value in shown.items() if value is not None]
        given += [f"accept={list(self.accept)!r}"] if self.accept else []
        return f"Credentials({', '.join(given)})"

    @property
    def encrypts(self) -> bool:
        """Whether connections are TLS."""
        return self.cert is not None or self.ca is not None

    @property
    def identifies_clients(self) -> bool:
        """Whether a daemon with these knows who calls, and takes nobody else."""
        return (self.cert is not None and self.ca is not None) or bool(self.accept)

    @property
    def stamp(self) -> Stamp:
        """What changes when one of the files does."""
        return stamp_of(self._files())

    def _files(self) -> tuple[Path, ...]:
        return tuple(Path(path) for path in (self.cert, self.key, self.ca) if path is not None)

    # ---- for who connects

    def for_channel(self) -> grpc.ChannelCredentials | None:
        """What a channel is opened with, as the files are now; None for one that is not encrypted."""
        if not self.encrypts:
            return None
        found = _loaded(self)
        return grpc.ssl_channel_credentials(found.ca, found.key, found.cert)

    def shown_token(self, audience: str) -> str | None:
        """The token to show to a server, as the file is now. Raises InvalidCredentials."""
        if self.token is not None:
            shown = self.token if isinstance(self.token, str) else self.token.show(audience)
            return _checked_token(shown, "the token")
        if self.token_file is None:
            return None
        try:
            text = Path(self.token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidCredentials(f"the token in {self.token_file} cannot be read: {_why(error)}") from None
        return _checked_token(text, f"what {self.token_file} holds")

    def for_probe(self) -> ssl.SSLContext:
        """The same for Python's own TLS, which says what it does not like."""
        import ssl

        context = ssl.create_default_context(cafile=self.ca)
        context.set_alpn_protocols(["h2"])
        if self.cert is not None and self.key is not None:
            context.load_cert_chain(self.cert, self.key, password=_no_password)
        return context

    # ---- for who is connected to

    def for_server(self) -> grpc.ServerCredentials | None:
        """What a server listens with; None without TLS. Each new connection is met with what the files say then."""
        if not self.encrypts:
            return None
        if self.cert is None:
            raise InvalidCredentials(f"{self!r}: a daemon needs a certificate of its own, give it cert and key")
        watched = Watched(self._files(), lambda: _loaded(self), self._kept)
        shown = [watched.get()]

        def changed() -> grpc.ServerCertificateConfiguration | None:
            found = watched.get()
            if found is shown[0]:
                return None
            shown[0] = found
            _log.info("new connections are met with the certificate that %s holds now", self.cert)
            return found.for_server()

        first = shown[0].for_server()
        return grpc.dynamic_ssl_server_credentials(first, changed, self.ca is not None)  # type: ignore[arg-type]  # None: as before

    def _kept(self, error: Exception) -> None:
        _log.warning("the certificate of before is still used: %s", error)


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """What the files hold: PEM."""

    cert: bytes | None
    key: bytes | None = field(repr=False)
    ca: bytes | None

    def for_server(self) -> grpc.ServerCertificateConfiguration:
        assert self.key is not None and self.cert is not None
        return grpc.ssl_server_certificate_configuration([(self.key, self.cert)], self.ca)


def _loaded(credentials: Credentials) -> _Loaded:
    """Reads the files, and sees to it that they are what they should be. Raises InvalidCredentials."""
    import ssl

    cert, key, ca = credentials.cert, credentials.key, credentials.ca
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found = _Loaded(_read(cert), _read(key), _read(ca))
    if ca is not None:
        try:
            context.load_verify_locations(cadata=(found.ca or b"").decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise InvalidCredentials(f"{ca} holds no certificate of an authority in PEM: {_why(error)}") from None
    if cert is not None and key is not None:
        try:
            context.load_cert_chain(cert, key, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise InvalidCredentials(
                f"{cert} and {key} are no certificate and its private key in PEM, without a password: {_why(error)}"
            ) from None
    return found


def _no_password() -> str:
    raise ValueError("the key has a password, which nobody is there to type")


def _read(path: FilePath | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidCredentials(f"{path} cannot be read: {_why(error)}") from None


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _checked_token(token: str, what: str) -> str:
    """A token as an HTTP header can hold it (RFC 6750). The message never holds the token."""
    if not (token.isascii() and token.isprintable() and token and " " not in token):
        raise InvalidCredentials(f"{what} is no token: one word of ASCII characters")
    return token
