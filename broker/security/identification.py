"""Who calls. Every gRPC method of a server, of a daemon and of a name server alike, asks here and nowhere else."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

import grpc

from broker.context import Client
from broker.errors import AccessDenied
from broker.security.accounts import address_of
from broker.security.audit import log_refusal
from broker.security.credentials import Acceptor, Credentials
from broker.security.guesses import Guesses

__all__ = ["Identification", "Unidentified", "bearer_metadata"]

MAX_WRONG_TOKENS = 20
_log = logging.getLogger("broker")
_HEADER = "authorization"
_SCHEME = "Bearer "
_COMMON_NAME = "x509_common_name"
_ALTERNATIVE_NAMES = "x509_subject_alternative_name"


def bearer_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """The gRPC metadata that shows a token: what any HTTP client sends, `grpcurl -H` say."""
    return () if token is None else ((_HEADER, _SCHEME + token),)


class Unidentified(AccessDenied):
    """It is not known who calls."""

    limit = ""
    """The setting that was met, if that is why."""


class Barred(Unidentified):
    """Too many wrong tokens came from there: this one was not looked at."""

    limit = "max_wrong_tokens"


class Identification:
    """How one server knows its callers. Every method may be called from any thread; none waits."""

    def __init__(
        self,
        credentials: Credentials | None = None,
        place: str = "",
        audience: str = "",
        max_wrong_tokens: int = MAX_WRONG_TOKENS,
    ) -> None:
        """`place` is what messages call the server, `audience` what tokens do that are for it alone."""
        self._guesses = Guesses(max_wrong_tokens)
        self._acceptors: tuple[Acceptor, ...] = tuple(credentials.accept) if credentials is not None else ()
        self._place = place
        self._audience = audience
        self.is_required = credentials is not None and credentials.identifies_clients
        """Whether nobody is let in whose name is not known."""

    def of(self, context: grpc.ServicerContext) -> str | None:
        """The identity of who calls; None for a caller who needs none. Raises Unidentified, and logs that."""
        try:
            return self._find(context)
        except Barred:  # that was said when it began: what comes now is to cost nothing
            raise
        except Unidentified:
            log_refusal(Client(context.peer()), "", "", "UNAUTHENTICATED")
            raise

    def _find(self, context: grpc.ServicerContext) -> str | None:
        identity = self._by_token(context) or _by_certificate(context)
        if identity is None and self.is_required:
            raise Unidentified(
                f"{self._place} has to know who calls: give the proxy credentials=broker.Credentials(...) with "
                + ("a token" if self._acceptors else "a certificate that has a common name")
            )
        return identity

    def _by_token(self, context: grpc.ServicerContext) -> str | None:
        """Who shows a token. A token that is not known is refused, whatever else the caller has."""
        if not self._acceptors:
            return None
        token = _token(context.invocation_metadata() or ())
        if token is None:
            return None
        rest = self._guesses.barred_for(context.peer())
        if rest:
            what = (
                f"too many wrong tokens came from {address_of(context.peer())}, and {self._place} looks at none from "
            )
            raise Barred(what + f"there for {math.ceil(rest)} s (max_wrong_tokens): try again then, with the right one")
        for acceptor in self._acceptors:
            identity = self._whose(token, acceptor)
            if identity:
                return identity
        self._guesses.wrong(context.peer())
        raise Unidentified(f"the token of {context.peer()} is not one that {self._place} accepts, or not any more")

    def _whose(self, token: str, acceptor: Acceptor) -> str | None:
        try:
            return acceptor.identify(token, self._audience)
        except Exception:  # whatever goes wrong in it, it knows nobody
            _log.exception("%r could not say whose token it is", acceptor)
            return None


def _token(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    for name, value in metadata:
        if name == _HEADER and isinstance(value, str) and value[: len(_SCHEME)].lower() == _SCHEME.lower():
            return value[len(_SCHEME) :].strip()
    return None


def _by_certificate(context: grpc.ServicerContext) -> str | None:
    """The common name of the certificate, which TLS has checked; else its first alternative name."""
    about = context.auth_context()
    for key in (_COMMON_NAME, _ALTERNATIVE_NAMES):
        names = about.get(key)
        for name in names or ():
            if name:
                return bytes(name).decode("utf-8", "replace")
    return None
