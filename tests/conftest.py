"""What every test has around it: a configuration of its own, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import hypothesis
import pytest

from broker.config import config
from broker.connection import chains
from broker.connection.local import entrances
from tests.fork_server import Anew, Forked, ForkServer

# How long an example takes says more about what else the machine does.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# Where it is set, each of the hundreds of processes that tests start would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(autouse=True)
def default_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The defaults, whatever the environment of the person who runs the tests says."""
    for name in [name for name in os.environ if name.startswith("BROKER_")]:
        monkeypatch.delenv(name)
    yield
    config.reset()


@pytest.fixture(autouse=True)
def nobody_is_left_waiting() -> Iterator[None]:
    """Whoever waits for a call ends to wait with it. Else the next tests would find it, and not know whose it is."""
    yield
    patience = time.monotonic() + 10
    while chains._waiting and time.monotonic() < patience:
        time.sleep(0.01)  # a thread that is about to go
    left = dict(chains._waiting)
    chains._waiting.clear()
    assert not left


@pytest.fixture
def on_the_wire() -> None:
    """Calls to a daemon of the same process go over TCP."""
    config.local = False


@pytest.fixture(params=["tcp", "process"])
def either_way(request: pytest.FixtureRequest) -> None:
    """The test runs twice: calls to a daemon of the same process go over TCP, and by the short cut within it."""
    config.local = request.param == "process"


@pytest.fixture(params=["tcp", "process", "unix"])
def every_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `either_way`, and a third time over the Unix socket beside the TCP port, as between two processes."""
    config.local = request.param != "tcp"
    if request.param == "unix":
        monkeypatch.setattr(entrances, "find", lambda host, port, socket_path: None)


def self_signed(folder: Path) -> tuple[bytes, bytes]:
    """A key, and a certificate for localhost, in PEM."""
    key, certificate = folder / "key", folder / "certificate"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return key.read_bytes(), certificate.read_bytes()


class Program:
    """A Python program in a process of its own, whose printed lines a test waits for."""

    def __init__(self, process: Anew | Forked) -> None:
        self.process = process
        self.output: list[str] = []
        self._errors: list[str] = []
        self._arrived = threading.Condition()
        self._ended = False
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.output), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self._errors), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def errors(self) -> str:
        """What it wrote to stderr so far."""
        return "".join(self._errors)

    def line(self, beginning: str, timeout: float = 60.0) -> str:
        """Waits for a line that begins so and returns the rest of it."""

        def found() -> str | None:
            return next((line for line in self.output if line.startswith(beginning)), None)

        with self._arrived:
            self._arrived.wait_for(lambda: found() is not None or self._ended, timeout)
            line = found()
        assert line is not None, f"no line {beginning!r} came; stdout {self.output}, stderr {self.errors}"
        return line.removeprefix(beginning).strip()

    def wait_for_lines(self, count: int, timeout: float = 60.0) -> None:
        """Waits until it has printed so many lines."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.output) >= count, timeout), f"{self.output}, {self.errors}"

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP, and waits until it has stopped: it may run on for a moment after the signal was sent."""
        self.process.send_signal(signal.SIGSTOP)
        self.process.wait_until_stopped()

    def wait(self, timeout: float = 60.0) -> int:
        """Waits for its end; the exit code."""
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            with self._arrived:
                lines.append(line)
                self._arrived.notify_all()
        with self._arrived:
            self._ended = self._ended or lines is self.output
            self._arrived.notify_all()


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def run_program(fork_server: ForkServer) -> Iterator[Callable[..., Program]]:
    """Runs Python code, or with `arguments` a module or script, as a process that ends with the test at the latest.

    It is forked from one that has imported broker, where that can make no difference. `anew` is for those to which the
    beginning of an interpreter matters.
    """
    programs: list[Program] = []

    def run(
        code: str | None = None, *arguments: str, environment: Mapping[str, str] | None = None, anew: bool = False
    ) -> Program:
        given = arguments if code is None else ("-c", textwrap.dedent(code), *arguments)
        around = {**os.environ, **(environment or {})}
        can_fork = not anew and fork_server.can_run(given, around)
        programs.append(Program(fork_server.run(given, around) if can_fork else Anew(given, around)))
        return programs[-1]

    yield run
    for program in programs:
        program.close()
