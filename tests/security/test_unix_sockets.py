"""A Unix socket is its user's alone: nobody plants one, takes its place, or gets at it."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

import broker
from broker import errors
from broker.connection import opening


class Diary:
    def read(self) -> str:
        return "dear diary"


def test_only_its_user_gets_at_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with broker.Daemon(unix_socket=str(path)) as daemon:
        about = path.lstat()
        assert stat.S_ISSOCK(about.st_mode)
        assert stat.S_IMODE(about.st_mode) == 0o600
        assert os.listdir(tmp_path) == ["s"]  # noqa: PTH208
        proxy: Any = broker.Proxy(daemon.register(Diary()), local=False)
        assert proxy.read() == "dear diary"
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_the_process_keeps_its_umask(tmp_path: Path) -> None:
    """It is one for all threads: a file that another makes at that moment would have other rights."""
    before = os.umask(0o022)
    stop, made = threading.Event(), set()

    def make_files() -> None:
        while not stop.is_set():
            file = tmp_path / "other"
            file.touch()
            made.add(stat.S_IMODE(file.stat().st_mode))
            file.unlink()

    other = threading.Thread(target=make_files)
    other.start()
    try:
        for number in range(20):
            broker.Daemon(unix_socket=str(tmp_path / f"s{number}")).shutdown(0)
    finally:
        stop.set()
        other.join()
        os.umask(before)
    assert made == {0o644}


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_not_where_others_could_take_its_place(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(errors.DaemonError, match="others could put a socket of theirs in its place"):
        broker.Daemon(unix_socket=str(directory / "s"))
    directory.chmod(mode | stat.S_ISVTX)  # as /tmp has it: what is there is its owner's
    broker.Daemon(unix_socket=str(directory / "s")).shutdown(0)


def test_of_two_daemons_one_gets_the_path(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    begin = threading.Barrier(4)
    outcomes: list[broker.Daemon | errors.DaemonError] = []

    def listen() -> None:
        begin.wait()
        try:
            outcomes.append(broker.Daemon(unix_socket=path))
        except errors.DaemonError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=listen) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    daemons = [each for each in outcomes if isinstance(each, broker.Daemon)]
    assert len(daemons) == 1, outcomes
    assert all("another daemon listens there" in str(each) for each in outcomes if isinstance(each, Exception))
    daemons[0].start()
    proxy: Any = broker.Proxy(daemons[0].register(Diary()), local=False)
    assert proxy.read() == "dear diary"
    daemons[0].shutdown()


def test_the_socket_of_a_daemon_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with broker.Daemon(unix_socket=str(path)) as daemon:
        proxy: Any = broker.Proxy(daemon.register(Diary()), local=False)
        assert proxy.read() == "dear diary"


def test_a_socket_that_another_user_has_put_there_is_not_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    with broker.Daemon(unix_socket=str(path)) as daemon:
        uri = daemon.register(Diary())
        owner = path.stat().st_uid
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
        monkeypatch.setattr(opening, "ROOT", owner + 2)
        proxy: Any = broker.Proxy(uri, local=False)
        with pytest.raises(errors.AccessDenied, match=rf"{path} is of another user \(uid {owner}\)"):
            proxy.read()
