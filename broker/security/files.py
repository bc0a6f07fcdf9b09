"""Files that are read again when they change, so that what they hold can be replaced while programs run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

Stamp = tuple[tuple[int, int, int] | None, ...]


def stamp_of(paths: Sequence[Path]) -> Stamp:
    """What changes when one of the files is replaced or written. Raises nothing: a missing file has a stamp too."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        about = path.stat()  # the file behind a link: Kubernetes replaces the link
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino


class Watched(Generic[T]):
    """What was made of some files, made anew once they have changed. Every method may be called from any thread.

    Files are looked at when somebody asks. What cannot be made of the changed files is reported once, and what was made
    before stays: half of a replacement must not end a service.
    """

    def __init__(self, paths: Sequence[Path], make: Callable[[], T], failed: Callable[[Exception], object]) -> None:
        """`make` reads the files, and raises what says why they cannot be used: at once here, later to `failed`."""
        self._paths = paths
        self._make = make
        self._failed = failed
        self._lock = threading.Lock()
        self._stamp = stamp_of(paths)  # before they are read, so that a change meanwhile is seen by the next look
        self._value = make()

    def get(self) -> T:
        """What the files say now."""
        stamp = stamp_of(self._paths)
        if stamp == self._stamp:
            return self._value
        with self._lock:
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._value = self._make()
                except Exception as error:  # whatever is wrong with the files, those before were right
                    self._failed(error)
        return self._value
