"""Whose token it is, and what is none."""

from __future__ import annotations

import base64
import hmac
import json
import os
import stat
import struct
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

import broker
from broker.security import InvalidCredentials, hashed, tokens

SECRET = "a-token-that-is-long-enough"
HERE = "port 4000"


def test_a_token_is_known_in_clear_and_by_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(f'[tokens]\njanet = "{SECRET}"\nhenry = ["{hashed("one")}", "{hashed("two")}"]\n', encoding="utf-8")
    known = broker.Tokens(file)
    assert [known.identify(token, HERE) for token in (SECRET, "one", "two")] == ["janet", "henry", "henry"]
    for other in ("", "three", hashed("one"), SECRET[:-1], SECRET.upper(), "\udcff"):
        assert known.identify(other, HERE) is None
    file.write_text(f'[tokens]\nhenry = "{hashed("two")}"\n', encoding="utf-8")
    assert [known.identify(token, HERE) for token in (SECRET, "one", "two")] == [None, None, "henry"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tokens", "no TOML"),
        (f'janet = "{SECRET}"', r"one table, \[tokens\]"),
        ('[tokens]\njanet = "s3cret"', "the one of 'janet' is too short to withstand guessing"),
        ("[tokens]\njanet = 3", "'janet' has a token, or a list of tokens, as text"),
        ('[tokens]\njanet = "sha256:abc"', "begins with sha256: and is no such hash"),
        ('[tokens]\n"" = "sha256:abc"', "has a token"),
    ],
)
def test_a_file_without_tokens_is_refused_and_never_quoted(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidCredentials, match=message) as caught:
        broker.Tokens(file)
    assert "s3cret" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_secrets_are_in_no_repr() -> None:
    shown = broker.Credentials(token=SECRET)
    assert SECRET not in f"{shown!r} {shown}"
    with pytest.raises(InvalidCredentials) as caught:
        broker.Credentials(token=f"{SECRET} {SECRET}")
    assert SECRET not in str(caught.value)


# ---- JWT


@pytest.fixture
def issuer(tmp_path: Path) -> tuple[Any, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    file = tmp_path / "issuer.pem"
    file.write_bytes(public_pem(key))
    return key, file


def public_pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found


def claims(**changes: object) -> dict[str, object]:
    said = {"sub": "janet", "iss": "https://id.example", "aud": "warehouse", "exp": time.time() + 60, **changes}
    return {name: value for name, value in said.items() if value is not None}


def test_a_jwt_says_who_calls(issuer: tuple[Any, Path]) -> None:
    key, file = issuer
    known = broker.JWTs(file, issuer="https://id.example", audience="warehouse")
    assert known.identify(jwt.encode(claims(), key, "ES256"), HERE) == "janet"
    by_mail = broker.JWTs(file, issuer="https://id.example", audience="warehouse", identity="email")
    assert by_mail.identify(jwt.encode(claims(email="j@x.example"), key, "ES256"), HERE) == "j@x.example"


@pytest.mark.parametrize(
    "changes",
    [{"exp": 1.0}, {"exp": None}, {"aud": "office"}, {"aud": None}, {"iss": "https://evil.example"}, {"iss": None},
     {"sub": None}, {"sub": ["janet"]}, {"nbf": 1e11}],
)  # fmt: skip
def test_a_jwt_that_does_not_count(issuer: tuple[Any, Path], changes: dict[str, object]) -> None:
    key, file = issuer
    known = broker.JWTs(file, issuer="https://id.example", audience="warehouse")
    said = claims(**changes)
    token = jwt.PyJWS().encode(json.dumps(said).encode(), key, "ES256")  # PyJWT would not write all of these
    assert known.identify(token, HERE) is None


def test_a_jwt_of_another_key_or_of_none(issuer: tuple[Any, Path]) -> None:
    _, file = issuer
    known = broker.JWTs(file, issuer="https://id.example", audience="warehouse")
    other = ec.generate_private_key(ec.SECP256R1())
    assert known.identify(jwt.encode(claims(), other, "ES256"), HERE) is None
    assert known.identify(jwt.encode(claims(), "", "none"), HERE) is None
    assert known.identify(jwt.encode(claims(), ed25519.Ed25519PrivateKey.generate(), "EdDSA"), HERE) is None
    # The public key, which everybody may know, taken for the secret of an HMAC.
    with pytest.raises(InvalidCredentials, match="those with a public key"):
        broker.JWTs(file, issuer="x", audience="y", algorithms=["HS256"])
    with pytest.raises(InvalidCredentials, match="those with a public key"):
        broker.JWTs(file, issuer="x", audience="y", algorithms=["none"])


# ---- the same user


@pytest.fixture
def mine(tmp_path: Path) -> broker.SameUser:
    return broker.SameUser(tmp_path / "config" / "secret")


def test_who_can_read_the_file_is_the_same_user(tmp_path: Path, mine: broker.SameUser) -> None:
    server = broker.SameUser(tmp_path / "config" / "secret")
    name = server.identify(mine.show(HERE), HERE)
    assert name == tokens._user_name()
    about = (tmp_path / "config" / "secret").stat()
    assert stat.S_IMODE(about.st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "config").stat().st_mode) == 0o700


def test_a_proof_counts_once_here_and_now(
    tmp_path: Path, mine: broker.SameUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = mine.show(HERE)
    assert mine.identify(proof, "port 4001") is None  # shown to another server, which passes it on
    assert mine.identify(proof, HERE) is not None
    assert mine.identify(proof, HERE) is None
    assert broker.SameUser(tmp_path / "other").identify(mine.show(HERE), HERE) is None
    late = mine.show(HERE)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert mine.identify(late, HERE) is None


def test_a_proof_that_was_shown_before_the_daemon_began_is_not_taken(
    tmp_path: Path, mine: broker.SameUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else may have listened at its port, and have kept it."""
    kept, now, begun = mine.show(HERE), time.time(), time.monotonic()
    daemon = broker.SameUser(tmp_path / "config" / "secret")
    assert daemon.identify(kept, HERE) is None
    assert daemon.identify(mine.show(HERE), HERE) is not None
    # A clock that is set back an hour, as at the start of a machine, does not keep everybody out for an hour.
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    monkeypatch.setattr(time, "monotonic", lambda: begun + 121)
    assert daemon.identify(mine.show(HERE), HERE) is not None


def test_a_proof_as_the_wire_has_it(tmp_path: Path, mine: broker.SameUser) -> None:
    """So that programs in other languages can show one: docs/wire.md."""
    mine.show(HERE)
    secret = (tmp_path / "config" / "secret").read_bytes()
    when, nonce = struct.pack(">d", time.time()), b"n" * 16
    mac = hmac.digest(secret, b"\0".join([b"objectbroker same user", HERE.encode(), when, nonce]), "sha256")
    token = "same-user." + base64.urlsafe_b64encode(when + nonce + mac).decode()
    assert mine.identify(token, HERE) == tokens._user_name()


def test_forged_proofs(mine: broker.SameUser) -> None:
    good = base64.urlsafe_b64decode(mine.show(HERE).removeprefix("same-user."))
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:-1], b"", struct.pack(">d", float("nan")) + good[8:]):
        assert mine.identify("same-user." + base64.urlsafe_b64encode(bad).decode(), HERE) is None
    for text in ("same-user.", "same-user.%%%", "same-user.\udcff", SECRET):
        assert mine.identify(text, HERE) is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_secret_that_others_may_know_is_not_used(tmp_path: Path, mine: broker.SameUser, mode: int) -> None:
    proof = mine.show(HERE)
    file = tmp_path / "config" / "secret"
    file.chmod(mode)
    with pytest.raises(InvalidCredentials, match="a file of its user that nobody else can read"):
        mine.show(HERE)
    with pytest.raises(InvalidCredentials, match="a file of its user that nobody else can read"):
        mine.identify(proof, HERE)


def test_what_is_put_in_the_place_of_the_secret_is_not_used(tmp_path: Path) -> None:
    target = tmp_path / "theirs"
    target.write_bytes(b"x" * 32)
    target.chmod(0o600)
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "short").touch(0o600)
    for name in ("link", "fifo", "short"):
        with pytest.raises(InvalidCredentials):
            broker.SameUser(tmp_path / name).show(HERE)
