"""The authority for trying things out: what it makes, for whom that counts, and what it refuses."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

import broker
from broker import certs


def run(directory: Path, *arguments: str) -> int:
    command, *rest = arguments
    return certs.main([command, "-d", str(directory), *rest])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    assert run(tmp_path / "certs", "authority") == 0
    return tmp_path / "certs"


def verified(directory: Path, name: str, purpose: str) -> bool:
    """What OpenSSL says of a certificate."""
    command = ["openssl", "verify", "-CAfile", str(directory / "ca.pem"), "-purpose", purpose]
    return subprocess.run([*command, str(directory / f"{name}.pem")], capture_output=True, check=False).returncode == 0


def test_what_it_makes_counts_for_what_it_is_for(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(directory, "server", "shop", "shop.example", "192.0.2.7", "::1") == 0
    assert run(directory, "client", "janet@shop.example") == 0
    assert verified(directory, "shop", "sslserver")
    assert verified(directory, "shop", "sslclient")  # a daemon calls its name server
    assert verified(directory, "janet@shop.example", "sslclient")
    assert not verified(directory, "janet@shop.example", "sslserver")  # a caller cannot pass for a daemon
    text = subprocess.run(
        ["openssl", "x509", "-in", str(directory / "shop.pem"), "-noout", "-text"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "DNS:shop.example, IP Address:192.0.2.7, IP Address:0:0:0:0:0:0:0:1" in text
    assert "CA:FALSE" in text
    shown = [Path(line).name for line in capsys.readouterr().out.split()]
    assert shown == ["shop.pem", "shop.key", "janet@shop.example.pem", "janet@shop.example.key"]
    broker.Credentials(directory / "shop.pem", directory / "shop.key", directory / "ca.pem")


def test_keys_and_tokens_are_their_owners_alone(directory: Path) -> None:
    before = os.umask(0)
    try:
        assert run(directory, "client", "janet") == 0
        assert run(directory, "token", "henry") == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert {name for name, mode in modes.items() if mode != 0o600} == {"ca.pem", "janet.pem"}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_token_and_its_line(directory: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    capsys.readouterr()
    assert run(directory, "token", "henry") == 0
    file, line = capsys.readouterr().out.splitlines()
    (tmp_path / "tokens.toml").write_text(f"[tokens]\n{line}\n", encoding="utf-8")
    token = Path(file).read_text(encoding="ascii").strip()
    assert broker.Tokens(tmp_path / "tokens.toml").identify(token, "") == "henry"
    assert len(token) > 40
    assert token not in line


def test_files_that_are_there_are_replaced_only_if_asked(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(directory, "client", "janet") == 0
    before = (directory / "janet.pem").read_bytes()
    assert run(directory, "client", "janet") == 1
    assert "are there already: --replace makes new ones" in capsys.readouterr().err
    assert (directory / "janet.pem").read_bytes() == before
    assert run(directory, "client", "janet", "--replace") == 0
    assert (directory / "janet.pem").read_bytes() != before
    assert run(directory, "authority") == 1
    assert sorted(path.name for path in directory.iterdir()) == ["ca.key", "ca.pem", "janet.key", "janet.pem"]


@pytest.mark.parametrize("name", ["", "ca", ".", "..", "../evil", "a/b", "a b", "a\nb", "ä", "-d", "x" * 65, "\x00"])
def test_what_is_no_name(directory: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for make in (certs.make_client, certs.make_token):
        with pytest.raises(certs.CertsError, match="is no name here"):
            make(directory, name)
    assert sorted(path.name for path in directory.iterdir()) == ["ca.key", "ca.pem"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["client", "-d", "nowhere", "janet"], 1, "there is no authority in nowhere"),
        (["server", "shop", "shop.example"], 1, "there is no authority in certs"),
        (["client", "--days", "0", "janet"], 2, "days are a whole number from 1 to 36500"),
        (["server", "shop"], 2, "HOST"),
        ([], 2, "COMMAND"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], code: int, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    try:
        found = certs.main(arguments)
    except SystemExit as error:
        found = int(error.code or 0)
    printed = capsys.readouterr().err
    assert found == code
    assert message in printed
    assert "Traceback" not in printed


def test_a_host_that_is_none(directory: Path) -> None:
    with pytest.raises(certs.CertsError, match="neither the name of a host in ASCII nor an address"):
        certs.make_server(directory, "shop", ["ä.example"])


def test_without_cryptography_it_says_what_to_install(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*arguments: object, **options: object) -> Path:
        raise ModuleNotFoundError("No module named 'cryptography'", name="cryptography")

    monkeypatch.setattr(certs, "make_client", missing)
    assert run(directory, "client", "janet") == 1
    assert "pip install 'objectbroker[certs]'" in capsys.readouterr().err
