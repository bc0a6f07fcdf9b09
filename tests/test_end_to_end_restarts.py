"""Daemons that are restarted while they are called: what is lost, what is sent again, and that nothing runs twice."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import broker
from broker import errors

Run = Callable[..., Any]

SERVER = """
import broker, os, sys, time

class Ledger:
    def __init__(self):
        self.file = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    def enter(self, key):
        os.write(self.file, f"{key} ".encode())
        time.sleep(0.005)
        return key
    def die_once(self, key):
        self.enter(key)
        if not os.path.exists(sys.argv[2] + ".died"):
            open(sys.argv[2] + ".died", "w").close()
            os._exit(1)
        return key
    def pid(self):
        return os.getpid()

daemon = broker.Daemon(port=int(sys.argv[1]))
print("ledger", daemon.register(Ledger(), "ledger"))
daemon.request_loop()
"""


class Callers:
    """Threads, futures and tasks that make calls without a pause, and what came of each."""

    def __init__(self, uri: str) -> None:
        self.proxy: Any = broker.Proxy(uri, wait=60)
        self.uri = uri
        self.entered: list[str] = []
        self.lost: list[str] = []
        self.failures: list[BaseException] = []
        self.over = threading.Event()
        kinds = [self._block] * 3 + [self._pipeline, lambda name: asyncio.run(self._tasks(name))]
        self.threads = [
            threading.Thread(target=self._run, args=(kind, f"{number}"), daemon=True)
            for number, kind in enumerate(kinds)
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, kind: Callable[[str], object], name: str) -> None:
        try:
            kind(name)
        except BaseException as error:
            self.failures.append(error)

    def _note(self, key: str, call: Callable[[], str]) -> None:
        try:
            assert call() == key
            self.entered.append(key)
        except errors.ConnectionClosedError as error:
            self._note_loss(key, error)

    def _note_loss(self, key: str, error: errors.ConnectionClosedError) -> None:
        if not error.may_have_run:  # then it should have been sent again
            raise error
        self.lost.append(key)

    def _block(self, name: str) -> None:
        for number in itertools.count():
            if self.over.is_set():
                return
            key = f"{name}-{number}"
            self._note(key, lambda key=key: self.proxy.enter(key))  # type: ignore[misc]

    def _pipeline(self, name: str) -> None:
        for number in itertools.count():
            if self.over.is_set():
                return
            keys = [f"{name}-{number}-{each}" for each in range(20)]
            futures = [self.proxy.enter.future(key) for key in keys]
            for key, future in zip(keys, futures, strict=True):
                self._note(key, lambda future=future: future.result(60))  # type: ignore[misc]

    async def _tasks(self, name: str) -> None:
        proxy: Any = broker.AsyncProxy(self.uri, wait=60)

        async def call(key: str) -> None:
            try:
                assert await proxy.enter(key) == key
                self.entered.append(key)
            except errors.ConnectionClosedError as error:
                self._note_loss(key, error)

        for number in itertools.count():
            if self.over.is_set():
                return
            await asyncio.gather(*(call(f"{name}-{number}-{each}") for each in range(20)))

    def go_on(self, calls: int = 200) -> None:
        """Waits until so many further calls were answered."""
        enough = len(self.entered) + calls
        give_up = time.monotonic() + 60
        while len(self.entered) < enough and not self.failures:
            assert time.monotonic() < give_up, (len(self.entered), len(self.lost))
            self.over.wait(0.01)

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads)
        assert not self.failures, self.failures


def _port(uri: str) -> str:
    return uri.rpartition(":")[2]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_under_load_loses_only_what_was_under_way(run_program: Run, tmp_path: Path, number: int) -> None:
    file = str(tmp_path / "ledger")
    server = run_program(SERVER, "0", file)
    uri = server.line("ledger")
    callers = Callers(uri)
    for _ in range(2):
        callers.go_on()
        server.send_signal(number)
        server.wait()
        server = run_program(SERVER, _port(uri), file)
        server.line("ledger")
    callers.go_on()
    callers.end()
    written = Path(file).read_text().split()
    assert len(written) == len(set(written))  # nothing ran twice
    assert set(callers.entered) <= set(written) <= set(callers.entered) | set(callers.lost)
    if number == signal.SIGTERM:
        assert not callers.lost  # what was under way was finished, and the rest went to the next daemon
    else:
        assert 0 < len(callers.lost) <= 2 * (3 + 20 + 20)


def _restart_later(run_program: Run, server: Any, uri: str, file: str) -> threading.Thread:
    """Starts the daemon again when it has died."""

    def restart() -> None:
        server.process.wait(60)
        run_program(SERVER, _port(uri), file)

    thread = threading.Thread(target=restart, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["blocking", "future", "task"])
def test_retries_repeat_what_may_have_run(run_program: Run, tmp_path: Path, kind: str) -> None:
    file = str(tmp_path / "ledger")
    server = run_program(SERVER, "0", file)
    uri = server.line("ledger")
    proxy: Any = broker.Proxy(uri, retries=2, wait=60)
    assert proxy.enter("first") == "first"
    restarting = _restart_later(run_program, server, uri, file)
    if kind == "blocking":
        assert proxy.die_once("again") == "again"
    elif kind == "future":
        assert proxy.die_once.future("again").result(60) == "again"
    else:

        async def call() -> None:
            assert await broker.AsyncProxy(uri, retries=2, wait=60).die_once("again") == "again"

        asyncio.run(call())
    restarting.join(60)
    assert Path(file).read_text().split() == ["first", "again", "again"]


@pytest.mark.parametrize("kind", ["blocking", "future"])
def test_a_repetition_that_finds_nobody_says_that_the_call_may_have_run(
    run_program: Run, tmp_path: Path, kind: str
) -> None:
    server = run_program(SERVER, "0", str(tmp_path / "ledger"))
    proxy: Any = broker.Proxy(server.line("ledger"), retries=3)
    assert proxy.enter("first") == "first"
    began = time.monotonic()
    call = proxy.die_once if kind == "blocking" else lambda key: proxy.die_once.future(key).result(60)
    with pytest.raises(errors.ConnectionClosedError, match=r"could not be repeated.*nothing listens") as caught:
        call("again")
    assert caught.value.may_have_run
    assert time.monotonic() - began > 0.3  # with pauses that grow
    with pytest.raises(errors.CannotConnect):
        proxy.enter("later")


def test_the_deadline_bounds_repetitions(run_program: Run, tmp_path: Path) -> None:
    server = run_program(SERVER, "0", str(tmp_path / "ledger"))
    proxy: Any = broker.Proxy(server.line("ledger"), retries=1000, wait=1000, timeout=2)
    assert proxy.enter("first") == "first"
    began = time.monotonic()
    with pytest.raises(errors.CommunicationError) as caught:
        proxy.die_once("again")
    assert caught.value.may_have_run
    assert time.monotonic() - began < 40


def test_ctrl_c_ends_the_waiting_between_attempts(run_program: Run) -> None:
    program = run_program(
        """
        import broker, socket
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        proxy = broker.Proxy(f"BROKER:ledger@127.0.0.1:{port}", wait=1000)
        try:
            print("waits", flush=True)
            proxy.enter("x")
        except KeyboardInterrupt:
            print("ended", flush=True)
        """
    )
    program.line("waits")
    program.send_signal(signal.SIGINT)
    program.line("ended", 40)
    assert program.wait() == 0


def test_the_next_object_with_the_tag_takes_over(run_program: Run, tmp_path: Path) -> None:
    """Also where the one before is frozen: then it is not asked again and again."""
    with broker.start_ns("localhost", 0) as names:
        servers = [run_program(SERVER, "0", str(tmp_path / f"{number}")) for number in range(3)]
        with broker.locate_ns(*names.address) as ns:
            for number, server in enumerate(servers):
                ns.register(f"ledger.{number}", server.line("ledger"), tags=["ledger"])
        host, port = names.address
        proxy: Any = broker.Proxy(f"BROKERMETA:ledger@{host}:{port}", connect_timeout=2)
        first = proxy.pid()
        next(server for server in servers if server.pid == first).send_signal(signal.SIGKILL)
        seen = set()
        for _ in range(20):
            try:
                seen.add(proxy.pid())
            except errors.ConnectionClosedError:
                continue  # it was under way
        assert first not in seen
        assert len(seen) == 1
        second = seen.pop()
        frozen = next(server for server in servers if server.pid == second)
        proxy._broker.close()
        frozen.freeze()
        others: list[Any] = [broker.Proxy(f"BROKERMETA:ledger@{host}:{port}", local=False) for _ in range(4)]
        for other in others:
            other._broker.set("connect_timeout", 4)
        began = time.monotonic()
        assert {other.pid() for other in others} == {
            pid for server in servers if (pid := server.pid) not in (first, second)
        }
        assert time.monotonic() - began < 8  # it was tried once at the most
        frozen.send_signal(signal.SIGCONT)
