"""Programs as processes: started anew, or forked from one that has imported what they will import.

An interpreter that imports broker and makes a daemon takes half a second of a core before the program begins, and the
tests start some hundreds. So each process that runs tests has one server beside it, which is this file run as a script:
it imports everything, begins no thread, and forks whenever it is asked. What comes of it is a process as any other,
with a standard output, an environment and a `__main__` of its own, that ends as an interpreter ends.

Between the server and each program stands a keeper, the program's parent, which tells the test how the program fares.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_READ_AT_IMPORT = ("GRPC_", "PYTHON")
"""Variables that begin so are looked at while modules load, or before: who wants others is started anew."""


class Anew(subprocess.Popen[str]):
    """A Python program that is started as every program is."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-u", *arguments]
        super().__init__(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(environment))

    def wait_until_stopped(self) -> None:
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)


class Forked:
    """A Python program that was forked, with what tests use of `subprocess.Popen`."""

    def __init__(self, stdout: int, stderr: int, status: int) -> None:
        self.stdout: IO[str] = os.fdopen(stdout, encoding="utf-8")
        self.stderr: IO[str] = os.fdopen(stderr, encoding="utf-8")
        self.returncode: int | None = None
        self._status = os.fdopen(status, "rb", buffering=0)
        self._told = b""
        self.pid = int(self._next_word())

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or minus the number of the signal that ended it. Raises subprocess.TimeoutExpired."""
        give_up = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            word = self._next_word(None if give_up is None else max(0.0, give_up - time.monotonic()))
            if word is None:
                raise subprocess.TimeoutExpired("a forked program", timeout or 0.0)
            if word != b"stopped":
                self.returncode = int(word)
                self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def wait_until_stopped(self) -> None:
        assert self._next_word() == b"stopped"

    def _next_word(self, timeout: float | None = None) -> Any:
        """What its keeper says next; None if that has said nothing in `timeout` seconds."""
        while b"\n" not in self._told:
            if not select.select([self._status], [], [], timeout)[0]:
                return None
            said = self._status.read(100)
            assert said, "its keeper has gone"
            self._told += said
        word, _, self._told = self._told.partition(b"\n")
        return word


class ForkServer:
    """The server of this process, which starts with the first program."""

    def __init__(self) -> None:
        self._running: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._environment: dict[str, str] = {}

    def can_run(self, arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Options of the interpreter need a new one, and so do variables that it or a module reads as it loads."""
        self._start()
        plain = arguments[0] in ("-c", "-m") or not arguments[0].startswith("-")
        return plain and _read_at_import(environment) == _read_at_import(self._environment)

    def run(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Forked:
        _, control = self._start()
        kept, given = zip(*(os.pipe() for _ in range(3)), strict=True)
        with tempfile.TemporaryFile() as request:
            request.write(json.dumps([list(arguments), dict(environment), str(Path.cwd())]).encode())
            request.seek(0)
            socket.send_fds(control, [b"x"], [request.fileno(), *given])
        for end in given:
            os.close(end)
        return Forked(*kept)

    def close(self) -> None:
        if self._running is not None:
            server, control = self._running
            control.close()
            server.wait(60)

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if self._running is None:
            self._environment = dict(os.environ)
            control, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-u", __file__, str(theirs.fileno())]
                self._running = subprocess.Popen(command, pass_fds=[theirs.fileno()]), control
        return self._running


def _read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_IMPORT)}


# ---- within the server


@dataclass
class Request:
    arguments: list[str]
    environment: dict[str, str]
    directory: str
    stdout: int
    stderr: int
    status: int


def _import_what_programs_import() -> None:
    import broker

    for name in broker.__all__:
        getattr(broker, name)


def _serve(control: socket.socket) -> Request:
    """Forks for each request, and returns in the programs alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: who started this sees to it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are not waited for
    while True:
        received, files, _, _ = socket.recv_fds(control, 1, 4)
        if not received:
            os._exit(0)
        if not os.fork():
            control.close()
            return _keep(*files)
        for file in files:
            os.close(file)


def _keep(request: int, stdout: int, stderr: int, status: int) -> Request:
    """Forks the program, returns in it, and tells of it until it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    program = os.fork()
    if not program:
        with os.fdopen(request, encoding="utf-8") as asked:
            arguments, environment, directory = json.load(asked)
        return Request(arguments, environment, directory, stdout, stderr, status)
    for file in (request, stdout, stderr):
        os.close(file)
    os.write(status, f"{program}\n".encode())
    code: int | None = None
    while code is None:
        _, state = os.waitpid(program, os.WUNTRACED)
        code = None if os.WIFSTOPPED(state) else os.waitstatus_to_exitcode(state)
        os.write(status, b"stopped\n" if code is None else f"{code}\n".encode())
    os._exit(0)


def _become(request: Request) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for file, number in ((request.stdout, 1), (request.stderr, 2)):
        os.dup2(file, number)
        os.close(file)
    os.close(request.status)
    os.chdir(request.directory)
    os.environ.clear()
    os.environ.update(request.environment)


def _run(arguments: list[str]) -> None:
    """What `python` does with these arguments."""
    first, *rest = arguments
    if first == "-m":
        sys.path[0], sys.argv = str(Path.cwd()), rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    main = types.ModuleType("__main__")
    if first == "-c":
        sys.path[0], sys.argv = "", ["-c", *rest[1:]]
        code = compile(rest[0], "<string>", "exec", dont_inherit=True)
    else:
        sys.path[0], sys.argv, main.__file__ = str(Path(first).parent), arguments, first
        code = compile(Path(first).read_bytes(), first, "exec", dont_inherit=True)
    sys.modules["__main__"] = main
    exec(code, vars(main))  # noqa: S102 - a program of the tests


if __name__ == "__main__":
    _import_what_programs_import()
    _request = _serve(socket.socket(fileno=int(sys.argv[1])))
    _become(_request)
    _run(_request.arguments)
