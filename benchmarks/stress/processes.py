"""Programs in processes of their own, with which lines are exchanged, and what they use."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
from dataclasses import astuple, dataclass
from pathlib import Path

from benchmarks.clocks import resident_kib

ROOT = Path(__file__).parent.parent.parent
END_SECONDS = 150.0
IDLE_SECONDS = 1.0
"""How long the threads of these programs stay without work: at rest they are soon gone, and what is left is counted."""
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""Has glibc keep one heap for all threads of a process, so that its memory is what it uses. With a heap for each, what
lies free in them grows with every burst of threads, and comes to 30 to 80 MiB more, of which nothing is in use."""


class Failed(Exception):
    """Something that must hold does not."""


class Process:
    """A Python module that runs, and with which lines are exchanged. stderr is that of this process."""

    def __init__(self, module: str, *arguments: object) -> None:
        self.name = module.rpartition(".")[2]
        command = [sys.executable, "-u", "-m", module, *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**ONE_ARENA, **os.environ},
        )

    def tell(self, line: str) -> str:
        """And waits until it has been understood; what it answers."""
        self.say(line)
        return self.line(line)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def line(self, beginning: str) -> str:
        """The rest of the next line that begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(beginning):
                return line.removeprefix(beginning).strip()
        raise Failed(f"the {self.name} ended with {self.process.wait()}; it says above why")

    def kill(self) -> None:
        """SIGKILL, also of one that is stopped."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGSTOP, and waits until it has stopped: it may run on for a moment after the signal was sent."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """SIGTERM; raises Failed if it does not end in order."""
        self.process.send_signal(signal.SIGTERM)
        self.check_ended()

    def check_ended(self, seconds: float = END_SECONDS) -> None:
        """Waits for its end. Raises Failed if it does not end in order."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"the {self.name} has not ended after {seconds:g} s") from None
        if code != 0:
            raise Failed(f"the {self.name} ended with {code}")

    def usage(self) -> Usage:
        return Usage.of(self.process.pid)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def trim() -> None:
    """Gives memory that is free back to the system: what a process has after that is what it keeps.

    The allocator of glibc keeps what threads have freed for them, and how much depends on what came together when.
    """
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


@dataclass(frozen=True)
class Usage:
    """What a process uses. Read from /proc, on Linux."""

    memory: int
    """KiB that are resident."""
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        folder = Path(f"/proc/{pid}")
        threads, descriptors = (sum(1 for _ in (folder / part).iterdir()) for part in ("task", "fd"))
        return cls(int(resident_kib(pid)), threads, descriptors)

    def grown_beyond(self, before: Usage, most: Usage) -> bool:
        """Whether it uses more of anything than before, and that by more than is allowed."""
        return any(now - then > more for now, then, more in zip(*map(astuple, (self, before, most)), strict=True))

    def short(self) -> str:
        return f"{self.memory / 1024:.0f} / {self.threads} / {self.descriptors}"

    def __str__(self) -> str:
        return f"{self.memory / 1024:.0f} MiB, {self.threads} threads, {self.descriptors} descriptors"
