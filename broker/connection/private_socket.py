"""Where a Unix socket lies that is its daemon's own: at a random path, in a directory that only its user can enter.

The directory goes with the daemon. What a killed process left behind is removed by the next one of the same user.
"""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import stat
import tempfile
import time
from pathlib import Path

from broker.connection.near import DIRECTORY_PREFIX, IS_POSSIBLE, is_plain

_YOUNG_SECONDS = 10.0  # a directory of that age may be one that is just being made
_here: set[PrivateSocket] = set()  # those of this process


class PrivateSocket:
    """A path for a Unix socket. Nothing is bound yet: `protect` follows when it is.

    Raises OSError where there is no place for one.
    """

    def __init__(self) -> None:
        if not IS_POSSIBLE:
            raise OSError("this system has no Unix sockets")
        prefix = f"{DIRECTORY_PREFIX}{os.getpid()}-"
        self._directory = Path(tempfile.mkdtemp(prefix=prefix, dir=runtime_directory()))
        self._file = self._directory / f"{secrets.token_hex(8)}.sock"
        _here.add(self)
        if not is_plain(self.path):
            self.remove()
            raise OSError(f"{self.path} is too long, or too unusual, for the path of a socket")

    @property
    def path(self) -> str:
        return str(self._file)

    def protect(self) -> None:
        """Lets only the owner use the socket. Raises OSError."""
        self._file.chmod(0o600)

    def remove(self) -> None:
        """Removes socket and directory, as far as they are still there."""
        _here.discard(self)
        _remove(self._directory, self._file)


def runtime_directory() -> Path:
    """Where the directories lie: what the session of the user has for that, else where temporary files go."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if given.startswith("/"):
        try:
            found = Path(given).lstat()
        except OSError:
            return Path(tempfile.gettempdir())
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o700:
            return Path(given)
    return Path(tempfile.gettempdir())


def remove_leftovers() -> None:
    """Removes the sockets of this user's processes that are gone: those where nobody listens."""
    try:
        found = [*runtime_directory().glob(f"{DIRECTORY_PREFIX}*")]
    except OSError:
        return
    for directory in found:
        try:
            if _is_left_over(directory):
                _remove(directory, *directory.iterdir())
        except OSError:  # somebody else removes it at this moment
            continue


def _is_left_over(directory: Path) -> bool:
    about = directory.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) != 0o700:
        return False
    process = directory.name.removeprefix(DIRECTORY_PREFIX).partition("-")[0]
    if not process.isdigit() or _runs(int(process)) or time.time() - about.st_mtime < _YOUNG_SECONDS:
        return False
    # The process may run where its number is another: in a container that shares this directory.
    return all(stat.S_ISSOCK(entry.lstat().st_mode) and not _listens(entry) for entry in directory.iterdir())


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True


def _remove(directory: Path, *files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)
    try:
        directory.rmdir()
    except FileNotFoundError:
        pass


def _remove_all() -> None:
    for private in [*_here]:
        try:
            private.remove()
        except OSError:  # somebody put something into it; nobody is left to be told
            continue


atexit.register(_remove_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_here.clear)  # they are the parent's
