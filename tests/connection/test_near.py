"""The Unix socket beside a TCP port: offers and proofs, whom a client trusts, and what is left behind."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker._pb.broker_pb2 import SocketOffer, SocketProof
from broker.connection.engine import Connection, Settings
from broker.connection.near import Claim, Offers, distrust, is_plain
from broker.connection.private_socket import PrivateSocket, remove_leftovers, runtime_directory
from broker.errors import ProtocolError
from tests.connection.conftest import Recorder

PATH = "/run/user/1000/objectbroker-17-abc/0123.sock"


@pytest.fixture
def connection() -> Connection:
    return Connection(Settings(), Recorder(), accepts=True, peer_name="client")


# ---- proofs


def test_both_ends_prove_that_they_know_the_secret(connection: Connection) -> None:
    offers = Offers()
    offer = offers.make(PATH, connection)
    assert (offer.path, len(offer.secret), len(offer.ticket)) == (PATH, 32, 16)
    claim = Claim(offer)
    found, answer = offers.take_up(claim.proof)
    assert found is connection
    assert claim.is_met_by(answer)


def test_neither_proof_gives_the_secret_away_or_serves_for_the_other(connection: Connection) -> None:
    offers = Offers()
    offer = offers.make(PATH, connection)
    claim = Claim(offer)
    assert offer.secret not in claim.proof.SerializeToString()
    assert not claim.is_met_by(claim.proof), "the daemon's proof cannot be had by sending the client's back"
    _, answer = offers.take_up(claim.proof)
    assert offer.secret not in answer.SerializeToString()
    assert not Claim(offer).is_met_by(answer), "nor that of one client by having seen another's"


def test_an_offer_is_good_for_one_connection(connection: Connection) -> None:
    offers = Offers()
    claim = Claim(offers.make(PATH, connection))
    offers.take_up(claim.proof)
    with pytest.raises(ProtocolError, match="used it already"):
        offers.take_up(claim.proof)
    assert len(offers) == 0


def test_a_wrong_secret_is_refused_and_the_offer_is_void(connection: Connection) -> None:
    offers = Offers()
    offer = offers.make(PATH, connection)
    guessed = SocketOffer(path=offer.path, ticket=offer.ticket, secret=bytes(32))
    with pytest.raises(ProtocolError, match="secret"):
        offers.take_up(Claim(guessed).proof)
    with pytest.raises(ProtocolError, match="no offer"):
        offers.take_up(Claim(offer).proof)


@pytest.mark.parametrize("proof", [SocketProof(), SocketProof(ticket=bytes(16), nonce=bytes(16), mac=bytes(32))])
def test_who_has_no_offer_is_refused(connection: Connection, proof: SocketProof) -> None:
    offers = Offers()
    offers.make(PATH, connection)
    with pytest.raises(ProtocolError, match="no offer"):
        offers.take_up(proof)


def test_an_empty_answer_proves_nothing(connection: Connection) -> None:
    assert not Claim(Offers().make(PATH, connection)).is_met_by(SocketProof())


def test_what_was_offered_on_a_connection_ends_with_it(connection: Connection) -> None:
    offers = Offers()
    claim = Claim(offers.make(PATH, connection))
    offers.withdraw(connection)
    offers.withdraw(connection)
    assert len(offers) == 0
    with pytest.raises(ProtocolError, match="no offer"):
        offers.take_up(claim.proof)


# ---- which paths


@pytest.mark.parametrize(
    "path",
    [
        "relative/objectbroker-1-a/b.sock",
        "/run/user/1000/keyring/ssh",
        "/run/user/1000/objectbroker-1-a/b.socket",
        "/run/user/1000/objectbroker-1-a/../bus/b.sock",
        "/tmp/with space/objectbroker-1-a/b.sock",
        "/tmp/per%20cent/objectbroker-1-a/b.sock",
        "/tmp/objectbroker-1-a/b.sock\0",
        "/tmp/objectbroker-1-ä/b.sock",
        "/" + "x" * 100 + "/objectbroker-1-a/b.sock",
        "",
    ],
)
def test_paths_that_no_daemon_offers(path: str) -> None:
    assert not is_plain(path)
    assert distrust(path) == "it is no path that a daemon would offer"


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateSocket]:
    """A private socket, bound."""
    short = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    private = PrivateSocket()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(private.path)
        listener.listen()
        private.protect()
        yield private
    private.remove()
    short.rmdir()


def test_a_private_socket_is_trusted(private: PrivateSocket) -> None:
    directory = Path(private.path).parent
    assert directory.parent == runtime_directory()
    assert stat.S_IMODE(directory.lstat().st_mode) == 0o700
    assert stat.S_IMODE(Path(private.path).lstat().st_mode) == 0o600
    assert distrust(private.path) is None


def _open_directory(path: Path) -> None:
    path.parent.chmod(0o755)


def _open_socket(path: Path) -> None:
    path.chmod(0o666)


def _link_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to(path.parent.with_name("elsewhere"))


def _link_socket(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _plain_file(path: Path) -> None:
    path.unlink()
    path.touch(0o600)


def _gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_open_directory, "others than its owner may get there"),
        (_open_socket, "others than its owner may get there"),
        (_link_directory, "it is no socket in a directory"),
        (_link_socket, "it is no socket in a directory"),
        (_plain_file, "it is no socket in a directory"),
        (_gone, "it is not to be seen from here"),
    ],
)
def test_what_is_not_as_it_should_be_is_not_trusted(
    private: PrivateSocket, change: Callable[[Path], None], why: str
) -> None:
    path = Path(private.path)
    change(path)
    found = distrust(private.path)
    assert found is not None
    assert found.startswith(why)
    for entry in (*path.parent.iterdir(),):
        entry.unlink()
    if path.parent.is_symlink():
        path.parent.unlink()
        path.parent.with_name("elsewhere").rmdir()


def test_what_belongs_to_another_user_is_not_trusted(private: PrivateSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    someone_else = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: someone_else)
    assert distrust(private.path) == "it belongs to another user"


# ---- where they lie, and what is left behind


def test_a_runtime_directory_that_others_may_enter_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    assert runtime_directory() == tmp_path
    tmp_path.chmod(0o755)
    assert runtime_directory() != tmp_path
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert runtime_directory() != tmp_path / "missing"


def test_a_path_that_is_too_long_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(OSError, match="too long"):
        PrivateSocket()
    assert not [*deep.iterdir()]


_DIES = """
import os, socket
from broker.connection.private_socket import PrivateSocket
private = PrivateSocket()
listener = socket.socket(socket.AF_UNIX)
listener.bind(private.path)
listener.listen()
print(private.path, flush=True)
if {ends}:
    os._exit(0)
input()
"""


def _run(directory: Path, *, ends: bool) -> tuple[subprocess.Popen[str], Path]:
    """A process with a private socket; one that `ends` does so without cleaning up."""
    process = subprocess.Popen(
        [sys.executable, "-c", _DIES.format(ends=ends)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(directory)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    if ends:
        process.communicate(timeout=20)
    return process, left


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory
    subprocess.run(["rm", "-r", str(directory)], check=True)


def _age(directory: Path) -> None:
    long_ago = time.time() - 60
    os.utime(directory, (long_ago, long_ago))


def test_what_a_killed_process_left_is_removed(runtime: Path) -> None:
    _, left = _run(runtime, ends=True)
    assert left.exists()
    remove_leftovers()
    assert left.exists(), "it is young: perhaps it is just being made"
    _age(left.parent)
    remove_leftovers()
    assert not left.parent.exists()


def test_what_is_in_use_or_somebody_elses_is_left_alone(runtime: Path) -> None:
    process, used = _run(runtime, ends=False)
    open_to_all = runtime / "objectbroker-999999-open"
    open_to_all.mkdir()
    open_to_all.chmod(0o755)
    with_file = runtime / "objectbroker-999999-file"
    with_file.mkdir(0o700)
    (with_file / "notes").touch()
    of_no_process = runtime / "objectbroker-notes"
    of_no_process.mkdir(0o700)
    everything = [used.parent, open_to_all, with_file, of_no_process]
    for directory in everything:
        _age(directory)
    remove_leftovers()
    assert all(directory.exists() for directory in everything)
    process.communicate("\n", timeout=20)
    assert not used.parent.exists(), "a process that ends removes its own"


def test_where_somebody_listens_stays_whatever_its_number_says(runtime: Path) -> None:
    """A container that shares the directory has process numbers of its own."""
    process, used = _run(runtime, ends=False)
    elsewhere = used.parent.with_name("objectbroker-4194305-abc")  # above what any system gives a process
    used.parent.rename(elsewhere)
    _age(elsewhere)
    remove_leftovers()
    assert (elsewhere / used.name).exists()
    process.communicate("\n", timeout=20)
    _age(elsewhere)
    remove_leftovers()
    assert not elsewhere.exists()
