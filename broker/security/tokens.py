"""Who shows a token: known from a file, from a JWT, or as the same user of this machine."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
import secrets
import stat
import struct
import threading
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from broker.security.credentials import FilePath, InvalidCredentials
from broker.security.files import Watched

__all__ = ["JWTs", "SameUser", "Tokens", "hashed"]

_SHORTEST = 20
"""Characters of a token that is written down in clear: what is shorter can be guessed."""
_HASHED = "sha256:"
_log = logging.getLogger("broker")


def hashed(token: str) -> str:
    """How a token stands in a file that may be read by those who must not use it."""
    return _HASHED + hashlib.sha256(token.encode()).hexdigest()


# ---- tokens that are known


class Tokens:
    """Tokens that stand in a file, or are given: `Tokens("tokens.toml")`, `Tokens({"janet": "…"})`.

    The file is TOML: in the table `tokens`, each identity has its token, or a list of tokens; as the token itself, or
    as `sha256:` and the hash of it in hexadecimal, which is of no use to who reads it (`python -m broker.certs token`
    makes both). It is read again when it has changed. Raises InvalidCredentials.
    """

    def __init__(self, known: FilePath | Mapping[str, str | Sequence[str]]) -> None:
        if isinstance(known, Mapping):
            given = _digests(known, "the tokens")
            self._watched = Watched((), lambda: given, _kept)
        else:
            file = Path(known).absolute()
            self._watched = Watched((file,), lambda: _read_tokens(file), _kept)

    def identify(self, token: str, place: str) -> str | None:
        """Takes as long for a token that is known as for any other."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, identity in self._watched.get():
            if hmac.compare_digest(known, digest):
                found = identity
        return found


def _kept(error: Exception) -> None:
    _log.warning("the tokens of before are still accepted: %s", error)


def _read_tokens(file: Path) -> list[tuple[bytes, str]]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidCredentials(f"the tokens in {file} cannot be read: {error.strerror}") from None
    except ValueError:  # the error itself might show a token
        raise InvalidCredentials(f"the tokens in {file}: the file is no TOML") from None
    tokens = found.get("tokens")
    if not isinstance(tokens, dict) or len(found) > 1:
        raise InvalidCredentials(f"the tokens in {file}: it has one table, [tokens], with a token for each identity")
    return _digests(tokens, f"the tokens in {file}")


def _digests(known: Mapping[str, Any], where: str) -> list[tuple[bytes, str]]:
    found = []
    for identity, tokens in known.items():
        given: Iterable[Any] = [tokens] if isinstance(tokens, str) else tokens
        if not identity or not isinstance(given, (list, tuple)) or not all(isinstance(token, str) for token in given):
            raise InvalidCredentials(f"{where}: {identity!r} has a token, or a list of tokens, as text")
        found += [(_digest(token, f"{where}: the one of {identity!r}"), identity) for token in given]
    return found


def _digest(token: str, what: str) -> bytes:
    """Messages never hold the token."""
    if token.startswith(_HASHED):
        try:
            digest = bytes.fromhex(token.removeprefix(_HASHED))
        except ValueError:
            digest = b""
        if len(digest) != hashlib.sha256().digest_size:
            raise InvalidCredentials(f"{what} begins with {_HASHED} and is no such hash: 64 hexadecimal digits")
        return digest
    if len(token) < _SHORTEST:
        raise InvalidCredentials(f"{what} is too short to withstand guessing: take {_SHORTEST} characters, by chance")
    return hashlib.sha256(token.encode()).digest()


# ---- JSON Web Tokens


class JWTs:
    """JSON Web Tokens (RFC 7519) that somebody has signed: `JWTs("issuer.pem", issuer="…", audience="…")`.

    `key_file` holds the public key of who signs, in PEM, and is read again when it has changed. A token counts as long
    as it says (it has to have `exp`), with that issuer and audience, and its claim `identity` is who calls. Needs PyJWT
    (the extra `jwt`). Raises InvalidCredentials.
    """

    def __init__(
        self,
        key_file: FilePath,
        *,
        issuer: str,
        audience: str,
        identity: str = "sub",
        algorithms: Sequence[str] = ("RS256", "ES256", "EdDSA"),
    ) -> None:
        try:
            import jwt
        except ModuleNotFoundError:
            raise InvalidCredentials("JWTs need PyJWT: pip install 'objectbroker[jwt]'") from None
        wrong = [name for name in algorithms if name.lower() == "none" or name.upper().startswith("HS")]
        if wrong or not algorithms:
            raise InvalidCredentials(f"algorithms={algorithms!r}: those with a public key, such as RS256, ES256, EdDSA")
        self._jwt = jwt
        self._issuer, self._audience, self._claim = issuer, audience, identity
        self._algorithms = list(algorithms)
        file = Path(key_file).absolute()
        self._key: Watched[Any] = Watched((file,), lambda: _public_key(file), _kept)

    def identify(self, token: str, place: str) -> str | None:
        try:
            claims = self._jwt.decode(
                token,
                self._key.get(),
                algorithms=self._algorithms,
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "iss", "aud", self._claim]},
            )
        except Exception as error:  # for a key of another kind than the token says PyJWT raises this and that
            _log.debug("a token is no JWT that counts here: %s", type(error).__name__)
            return None
        identity = claims[self._claim]
        return identity if isinstance(identity, str) else None


def _public_key(file: Path) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return load_pem_public_key(file.read_bytes())
    except OSError as error:
        raise InvalidCredentials(f"the key in {file} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise InvalidCredentials(f"{file} holds no public key in PEM: {error}") from None


# ---- the same user of this machine

_PROOF = struct.Struct(">d16s32s")
_PREFIX = "same-user."
_LABEL = b"objectbroker same user"
_AGE_SECONDS = 60.0
_SECRET_BYTES = 32


class SameUser:
    """Callers who can read a file that only one user of this machine can: both ends have `SameUser()`.

    The file (by default `objectbroker/secret` in the user's configuration directory) is made, for its owner alone, by
    who needs it first. What is shown is no secret but a proof that one knows it: for one port or socket, for a minute,
    once; so whoever else listens at a port can do nothing with it. The identity is the name of the user. Raises
    InvalidCredentials where others than its owner can read the file.
    """

    def __init__(self, file: FilePath | None = None) -> None:
        if not hasattr(os, "geteuid"):
            raise InvalidCredentials("SameUser needs a system whose files belong to users: show a token or certificate")
        self._file = Path(file).absolute() if file is not None else _default_file()
        self._lock = threading.Lock()
        self._seen: dict[bytes, float] = {}  # proofs that were shown, and until when they would count
        self._made, self._made_at = time.monotonic(), time.time()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameUser) and self._file == other._file

    def __hash__(self) -> int:
        return hash(self._file)

    def __repr__(self) -> str:
        return f"SameUser({str(self._file)!r})"

    def show(self, audience: str) -> str:
        """A proof for the server there."""
        now, nonce = time.time(), secrets.token_bytes(16)
        proof = _PROOF.pack(now, nonce, _mac(self._secret(), audience, now, nonce))
        return _PREFIX + base64.urlsafe_b64encode(proof).decode()

    def identify(self, token: str, audience: str) -> str | None:
        if not token.startswith(_PREFIX):
            return None
        try:
            when, nonce, mac = _PROOF.unpack(base64.urlsafe_b64decode(token.removeprefix(_PREFIX)))
        except (binascii.Error, ValueError, struct.error):
            return None
        if not hmac.compare_digest(mac, _mac(self._secret(), audience, when, nonce)):
            return None
        now = time.time()
        if not abs(now - when) <= _AGE_SECONDS or self._is_from_before(when) or not self._is_first(nonce, now):
            return None
        return _user_name()

    def _is_from_before(self, when: float) -> bool:
        """Whether a proof is older than this: then it was shown to who listened in its place, who may know it now."""
        return when < self._made_at and time.monotonic() - self._made <= 2 * _AGE_SECONDS  # later it is too old anyway

    def _is_first(self, nonce: bytes, now: float) -> bool:
        with self._lock:
            for old in [each for each, until in self._seen.items() if until < now]:
                del self._seen[old]
            if nonce in self._seen:
                return False
            self._seen[nonce] = now + 2 * _AGE_SECONDS
            return True

    def _secret(self) -> bytes:
        try:
            return _read_secret(self._file)
        except FileNotFoundError:
            pass
        try:
            _make_secret(self._file)
            return _read_secret(self._file)
        except OSError as error:
            raise InvalidCredentials(f"{self._file} cannot be made: {error.strerror or error}") from None


def _mac(secret: bytes, audience: str, when: float, nonce: bytes) -> bytes:
    text = b"\0".join((_LABEL, audience.encode("utf-8", "surrogateescape"), struct.pack(">d", when), nonce))
    return hmac.digest(secret, text, "sha256")


def _default_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    directory = Path(base) if base.startswith("/") else Path.home() / ".config"
    return directory / "objectbroker" / "secret"


def _read_secret(file: Path) -> bytes:
    """Raises FileNotFoundError, and InvalidCredentials for a file that others might know, or have put there."""
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InvalidCredentials(f"{file} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as opened:
        about = os.fstat(opened.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
            raise InvalidCredentials(
                f"{file} has to be a file of its user that nobody else can read: `chmod 600` it, or remove it if "
                "others may have seen it, and a new one is made"
            )
        secret = opened.read(_SECRET_BYTES + 1)
    if len(secret) != _SECRET_BYTES:
        raise InvalidCredentials(f"{file} holds no secret of {_SECRET_BYTES} bytes: remove it, and a new one is made")
    return secret


def _make_secret(file: Path) -> None:
    """Of several processes that begin at once one makes it, and it is there as a whole."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(secrets.token_bytes(_SECRET_BYTES))
    try:
        os.link(written, file)
    except FileExistsError:
        pass
    finally:
        written.unlink()


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user that has no name
        return f"uid:{os.geteuid()}"
