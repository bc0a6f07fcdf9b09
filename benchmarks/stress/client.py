"""One process that calls: `python -m benchmarks.stress.client URI NUMBER THREADS TASKS FOLDER PATIENCE PAUSE`.

PAUSE is how long each thread and task waits at most before it draws again, in seconds. It runs until a line on stdin
says `end`; `down` and `up` tell of the server, `rest` has it pause, `left` say what is left then, and `work` go on.
What it made and found goes into FOLDER.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import broker
from benchmarks.clocks import resident_kib, sockets
from benchmarks.stress.books import Books, Watchdog
from benchmarks.stress.calls import Calls, all_members
from benchmarks.stress.processes import IDLE_SECONDS, trim
from benchmarks.stress.tasks import Tasks
from broker.connection import workers
from broker.connection.client import pool
from broker.connection.engine import Connection

SETTLE_SECONDS = 20.0
KEPT_THREADS = ("MainThread", "stress-", "broker-timers", "broker-loop")
"""What begins so may be there when all is over; all other threads must have ended."""


T = TypeVar("T")
C = TypeVar("C", bound="Client")


class Client:
    """The threads and tasks of this process, and what they share."""

    def __init__(
        self, uri: str, number: int, threads: int, tasks: int, folder: Path, patience: float, pause: float
    ) -> None:
        self.books = Books(number, folder, patience)
        self._seed = number
        self._proxy: Any = broker.Proxy(uri, timeout=patience, wait=patience, local=False)
        self._awaited: Any = broker.AsyncProxy(uri, timeout=patience, wait=patience, local=False)
        beside = uri.replace("target@", "administration@")
        self._administration: Any = broker.Proxy(beside, timeout=patience, wait=patience, local=False)
        self._pause = pause
        self._over = False
        self._working = threading.Event()
        self._working.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.watchdog = Watchdog(self.books, self._where_tasks_are)
        self._threads = [
            threading.Thread(target=self._run_thread, args=(f"thread {index}",), name=f"worker-{index}")
            for index in range(threads)
        ]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._run_tasks(tasks)), name="worker-loop"))
        self._listen_to_complaints()

    def _listen_to_complaints(self) -> None:
        """What is only logged or printed is wrong, too."""
        books = self.books

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if not books.was_down_since(time.monotonic()):
                    books.complain(f"logged: {self.format(record)}")

        logging.getLogger().addHandler(Handler(logging.WARNING))
        threading.excepthook = lambda args: books.complain(f"a thread ended: {args.exc_value!r} in {args.thread}")
        sys.unraisablehook = lambda args: books.complain(f"unraisable: {args.exc_value!r} in {args.object!r}")

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def calls(self, draw: random.Random) -> Calls:
        """What a thread draws from."""
        return Calls(self._proxy, self.books, draw)

    def _run_thread(self, name: str) -> None:
        draw = random.Random(f"{self._seed} {name}")
        members = all_members(self.calls(draw))
        while not self._over:
            kind, act = draw.choice(members)
            with self.books.action(name, kind):
                act()
            time.sleep(draw.random() * self._pause)
            self._working.wait()

    async def _run_tasks(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        await asyncio.gather(*(self._run_task(f"task {index}") for index in range(count)))

    async def _run_task(self, name: str) -> None:
        draw = random.Random(f"{self._seed} {name}")
        members = all_members(Tasks(self._awaited, self.books, draw))
        while not self._over:
            kind, act = draw.choice(members)
            with self.books.action(name, kind):
                await act()
            await asyncio.sleep(draw.random() * (0.05 + self._pause))
            while not self._working.is_set():  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0.05)

    def _where_tasks_are(self) -> str:
        tasks = asyncio.all_tasks(self._loop) if self._loop is not None else set()
        return "\n".join(f"{task!r} {task.get_stack()}" for task in tasks)

    def rest(self) -> None:
        """Pauses, and returns when all that was begun has ended."""
        self._working.clear()
        _settled(lambda: bool(self.books.under_way))
        self.books.write()
        trim()

    def left(self) -> dict[str, Any]:
        """What is left here and there while all rest, once there was time for it to go."""
        return _settled(self._left) or {}

    def _left(self) -> dict[str, Any]:
        gc.collect()
        engines = [connection.engine for connection in pool._connections.values()]
        here = {
            "under way": list(self.books.under_way),
            "futures": _pending_futures(),
            "references": sum(engine.exports.given + engine.exports.held for engine in engines),
            "more connections": len(engines) - 1,
        }
        return {**{name: count for name, count in here.items() if count}, **self._left_at_server()}

    def work(self) -> None:
        self._working.set()

    def end(self) -> None:
        self._over = True
        self.work()
        for thread in self._threads:
            thread.join()

    # ---- what is left

    def look_for_leaks(self) -> None:
        self._expect("connections", lambda: len(pool._connections), 1)
        for connection in list(pool._connections.values()):
            self._look_at(connection.engine)
        self._expect("futures without a result", _pending_futures, 0)
        self._expect("at the server", self._left_at_server, {})
        for proxy in (self._proxy, self._administration):
            proxy._broker.close()
        asyncio.run(self._awaited._broker.close())
        for connection in list(pool._connections.values()):
            connection.engine.close("the test is over")
        self._expect("threads", _other_threads, [])

    def _look_at(self, engine: Connection) -> None:
        exports = engine.exports
        self._expect("calls of the connection", lambda: engine.busy, False)
        self._expect("exports given and held", lambda: (exports.given, exports.held), (0, 0))
        for part in (engine._outgoing, engine._incoming, engine._assemblies):
            for name, table in _tables(part):
                self._expect(f"{type(part).__name__}.{name}", table, 0)

    def _left_at_server(self) -> dict[str, Any]:
        stats = self._administration.stats()
        left = {name: stats[name] for name in ("waiting", "streams", "exports", "sessions", "generators", "resources")}
        left["under_way"] = stats["under_way"] - 1
        return {name: count for name, count in left.items() if count}

    def _expect(self, what: str, look: Callable[[], Any], expected: object) -> None:
        found = _settled(lambda: None if (now := look()) == expected else (now,))
        if found is not None:
            self.books.complain(f"left over, {what}: {found[0]}")


def _settled(look: Callable[[], T]) -> T:
    """What is still seen when there was time for it to go; nothing as soon as nothing is."""
    give_up = time.monotonic() + SETTLE_SECONDS
    pause = 0.05
    while (found := look()) and time.monotonic() < give_up:
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)  # to look takes its time, too
        gc.collect()
    return found


def _tables(part: object) -> list[tuple[str, Callable[[], int]]]:
    """What a part of a connection keeps in containers."""
    kept = [(name, value) for name, value in vars(part).items() if hasattr(value, "__len__")]
    return [(name, value.__len__) for name, value in kept]


def _pending_futures() -> int:
    return sum(isinstance(thing, Future) and not thing.done() for thing in gc.get_objects())


def _other_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if not thread.name.startswith(KEPT_THREADS)]


def run(client: Client) -> None:
    """Until it is told to end; then says what it found."""
    books = client.books
    memory: list[float] = []
    client.start()
    print("started", flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "down":
            books.server_goes_down()
        elif command == "up":
            books.server_is_up()
        elif command == "memory":
            memory.append(resident_kib(os.getpid()))
        elif command == "rest":
            client.rest()
        elif command == "left":
            command = f"left {json.dumps(client.left())}"
        elif command == "work":
            client.work()
        elif command == "end":
            break
        print(command, flush=True)
    client.end()
    at_once = sockets()
    client.look_for_leaks()
    client.watchdog.close()
    books.write()
    report = {
        "actions": books.actions,
        "excused": books.excused,
        "answered": books.written["answered"],
        "memory": memory,
        "sockets": at_once,
    }
    print("report", json.dumps(report), flush=True)


def made(kind: type[C]) -> C:
    """A client of that class, as the command line says."""
    uri, number, threads, tasks, folder, *times = sys.argv[1:]
    workers.IDLE_SECONDS = IDLE_SECONDS
    return kind(uri, int(number), int(threads), int(tasks), Path(folder), *map(float, times))


if __name__ == "__main__":
    run(made(Client))
