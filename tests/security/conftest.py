"""What an authority has made, once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

import broker
from broker import certs

Made = dict[str, broker.Credentials]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an authority, with certificates of a server and of clients."""
    directory = tmp_path_factory.mktemp("authority")
    certs.make_authority(directory)
    certs.make_server(directory, "warehouse", ["localhost", "127.0.0.1", "::1"])
    for name in ("janet", "henry"):
        certs.make_client(directory, name)
    return directory


@pytest.fixture(scope="session")
def made(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Credentials by name. `stranger` comes from another authority, `nobody` has no certificate, `elsewhere` is a
    server of another host."""
    there = tmp_path_factory.mktemp("elsewhere")
    certs.make_authority(there)
    certs.make_client(there, "stranger")
    certs.make_server(authority, "elsewhere", ["shop.example"])
    ca = authority / "ca.pem"
    found = {name: of(authority, name) for name in ("warehouse", "janet", "henry", "elsewhere")}
    stranger = broker.Credentials(there / "stranger.pem", there / "stranger.key", ca)
    return {**found, "stranger": stranger, "nobody": broker.Credentials(ca=ca)}


def of(directory: Path, name: str) -> broker.Credentials:
    return broker.Credentials(directory / f"{name}.pem", directory / f"{name}.key", directory / "ca.pem")
