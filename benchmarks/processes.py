"""One server and one client, each pinned to a core, and what they tell the runner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from benchmarks.contestants import Contestant
from benchmarks.profiling import MODE
from benchmarks.works import Work

ROOT = Path(__file__).parent.parent
READY = "ready "
FOUND = "found "
START_SECONDS = 30.0
_UNPINNED = "-"


PROFILE = "profile"


class Failed(Exception):
    """A process ended, or said nothing in time; the message has the end of what it wrote."""


def pin(core: str) -> None:
    """Keeps this process, and all threads that it starts, on one core."""
    if core != _UNPINNED:
        os.sched_setaffinity(0, {int(core)})


def cores() -> tuple[str, str]:
    """The cores of the server and of a client across from it. Unpinned where the system cannot pin, or has one core."""
    if not hasattr(os, "sched_getaffinity"):
        return _UNPINNED, _UNPINNED
    mine = sorted(os.sched_getaffinity(0))
    return (str(mine[0]), str(mine[1])) if len(mine) > 1 else (_UNPINNED, _UNPINNED)


class Process:
    """A Python process of a contestant, whose stdout is read and whose stderr is kept for the one who asks."""

    def __init__(self, contestant: Contestant, *arguments: str, profile: str = "") -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**_defaults(), **contestant.environment, "PYTHONPATH": str(ROOT), MODE: profile},
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def line(self, beginning: str, seconds: float) -> str:
        """The rest of the line that begins so. Raises Failed if none comes in time: the process is ended then."""
        found: list[str] = []
        reader = threading.Thread(target=_read, args=(self.process.stdout, beginning, found), daemon=True)
        reader.start()
        reader.join(seconds)
        if found:
            return found[0]
        why = "said nothing more" if reader.is_alive() else "ended"
        self.process.kill()
        reader.join()
        raise Failed(f"{why} within {seconds:g} s; stderr ends with: {self.errors()[-1000:]}")

    def profile(self) -> dict[str, Any]:
        """What a server that runs under a profile has found so far: `names` of its threads, `functions`."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{PROFILE}\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.line(PROFILE, START_SECONDS))
        return found

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                stream.close()


def _defaults() -> dict[str, str]:
    """The environment without what would change how somebody runs."""
    settings = ("BROKER_", "GRPC_", "PYRO_")
    return {name: value for name, value in os.environ.items() if not name.startswith(settings)}


def _read(stream: IO[str], beginning: str, found: list[str]) -> None:
    for line in stream:
        if line.startswith(beginning):
            found.append(line.removeprefix(beginning).strip())
            return


class Server(Process):
    """A server that is ready: `address` is what its clients need."""

    def __init__(self, contestant: Contestant, core: str, variant: str, profile: str = "") -> None:
        super().__init__(contestant, "benchmarks.server", contestant.name, core, variant, profile=profile)
        try:
            self.address = self.line(READY, START_SECONDS)
        except Failed:
            self.end()
            raise


def run_client(
    contestant: Contestant, work: Work, core: str, seconds: float, server: Server | None, profile: str = ""
) -> dict[str, Any]:
    """What a client found: `values`, `cannot` or `error`; under a profile what it saw besides."""
    address, pid = (server.address, server.pid) if server is not None else ("", 0)
    arguments = (contestant.name, work.name, core, str(seconds), address, str(pid))
    client = Process(contestant, "benchmarks.client", *arguments, profile=profile)
    try:
        found: dict[str, Any] = json.loads(client.line(FOUND, seconds + work.patience))
    except Failed as failed:
        return {"error": str(failed)}
    finally:
        client.end()
    return found
