"""What must hold while hostile input is taken in: nothing is imported, opened, started or run, and time and memory end.

Python tells an audit hook of whatever reaches out of the process, and of code that is made to run. A hook cannot be
taken away again, so there is one in a process, which looks on while a guard watches.
"""

from __future__ import annotations

import gc
import resource
import sys
import threading
import time
import tracemalloc
import zoneinfo
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_SECONDS = 3.0
"""Of the processor, for one input; what is asked for never takes a hundredth of it."""
MOST_BYTES = 48 << 20
"""What one input may take at a time, whatever it is ..."""
BYTES_EACH = 64
"""... and for each of its bytes."""

_REACHES_OUT = (
    "import", "exec", "compile", "open", "os.", "subprocess.", "socket.", "pickle.", "marshal.", "ctypes.", "shutil.",
    "tempfile.", "sqlite3.", "urllib.", "webbrowser.", "code.", "function.__new__", "glob.", "mmap.", "signal.",
    "sys.addaudithook", "sys.settrace", "builtins.input", "ftplib.", "http.", "smtplib.", "fcntl.", "pty.",
)  # fmt: skip
_LINE_OF_TRACEBACK = "<unknown>"
_TIME_ZONES = tuple(zoneinfo.TZPATH)


class Harm(AssertionError):
    """An input did what no input may do."""


class _Hook:
    """Hears of every event; keeps those that must not be while somebody watches."""

    def __init__(self) -> None:
        self.watching = False
        self.seen: list[str] = []
        self._others = {thread.ident for thread in threading.enumerate()} - {threading.main_thread().ident}
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if not self.watching or not event.startswith(_REACHES_OUT):
            return
        if threading.get_ident() in self._others or _is_harmless(event, args):
            return
        self.seen.append(f"{event}{args!r}"[:500])
        raise Harm(self.seen[-1])  # it is not to be done, either


def _is_harmless(event: str, args: tuple[object, ...]) -> bool:
    """Lines of our own code are read and parsed for tracebacks, and a time zone of the system is in a file.

    From Python 3.13 a line that is no whole statement is looked for in the file of that name, of which there is none.
    """
    if event == "compile":
        return args[1] == _LINE_OF_TRACEBACK
    path = args[0] if event == "open" and args[1] in ("r", "rb", None) else None
    return isinstance(path, str) and (
        path.endswith(".py") or path.startswith(_TIME_ZONES) or path == _LINE_OF_TRACEBACK
    )


_hook: _Hook | None = None


class Guard:
    """Watches while inputs are taken in."""

    def __init__(self, *, traces_memory: bool = False) -> None:
        """With `traces_memory` Python's own memory is counted for each input, which takes its time. Else the process
        must not grow."""
        global _hook
        if _hook is None:
            _hook = _Hook()
        self._hook = _hook
        self._traces_memory = traces_memory

    @contextmanager
    def watching(self, size: int) -> Iterator[None]:
        """While an input of so many bytes is taken in. Raises Harm."""
        self._hook.seen.clear()
        most = MOST_BYTES + BYTES_EACH * size
        before, began = self._memory(), time.process_time()
        self._hook.watching = True
        try:
            yield
        finally:
            self._hook.watching = False
        seconds, grown = time.process_time() - began, self._memory(peak=True) - before
        if self._hook.seen:
            raise Harm(f"reached out: {self._hook.seen}")
        if seconds > MOST_SECONDS:
            raise Harm(f"{seconds:.1f} seconds of the processor for {size} bytes")
        if grown > most:
            raise Harm(f"{grown >> 20} MiB for {size} bytes")

    def _memory(self, *, peak: bool = False) -> int:
        if not self._traces_memory:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        if not peak:
            tracemalloc.reset_peak()
        return tracemalloc.get_traced_memory()[peak]

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Around all inputs, where memory is traced."""
        gc.collect()
        if self._traces_memory:
            tracemalloc.start()
        try:
            yield
        finally:
            tracemalloc.stop()


CORPUS = Path(__file__).parent / "corpus"
