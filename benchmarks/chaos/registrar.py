"""A client of the name server: `python -m benchmarks.chaos.registrar PORT PREFIX FOLDER`.

It registers, tags and removes names that begin with PREFIX. What it is about to ask, and what was acknowledged, goes
into a file with one write each, so that after SIGKILL the next one with that prefix knows what has to be there: every
name is as acknowledged last, or as was asked for when the process ended. It runs until a line on stdin says `end`; with
`check` it looks.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.stress.books import Clock
from broker.registry.client import NameServer
from broker.registry.link import PATIENCE, NoNameServer

NAMES = 12
PAUSE_SECONDS = 0.005
LATE_SECONDS = 3.0
Entry = tuple[str, list[str]] | None
"""URI and tags; None: the name is not there."""


class Ledger:
    """What is known of the names of one prefix."""

    def __init__(self, path: Path) -> None:
        """Goes on where an earlier process with that file ended."""
        self.allowed: dict[str, list[Entry]] = {}
        """What each name may be: one thing, or two while an answer is awaited."""
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    self._take(*json.loads(line))
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def asks(self, name: str, entry: Entry) -> None:
        self._write("asks", name, entry)

    def acknowledged(self, name: str, entry: Entry) -> None:
        self._write("knows", name, entry)

    def _write(self, what: str, name: str, entry: Entry) -> None:
        os.write(self._file, f"{json.dumps([what, name, entry])}\n".encode())
        self._take(what, name, entry)

    def _take(self, what: str, name: str, entry: Any) -> None:
        entry = (entry[0], entry[1]) if entry is not None else None
        self.allowed[name] = [*self.allowed.get(name, [None]), entry] if what == "asks" else [entry]


class Registrar:
    """One thread asks all the time."""

    def __init__(self, port: int, prefix: str, folder: Path) -> None:
        self._ns = NameServer("127.0.0.1", port)
        self._prefix = prefix
        self._wrong = folder / f"wrong-names-{prefix}"
        self._ledger = Ledger(folder / f"names-{prefix}")
        self._draw = random.Random(f"{prefix} {os.getpid()}")
        self._one_at_a_time = threading.Lock()
        self._step = 0
        self._clock = Clock()
        self.acknowledged = 0

    def run(self) -> None:
        while True:
            with self._one_at_a_time:
                self._change()
            time.sleep(PAUSE_SECONDS)

    def _change(self) -> None:
        self._step += 1
        name = f"{self._prefix}.{self._draw.randrange(NAMES)}"
        uri, tags = f"BROKER:s{self._step}.{os.getpid()}@h:1", [f"t{self._step}"]
        entry: Entry = (uri, tags)
        ask: Callable[[], object] = lambda: self._ns.register(name, uri, tags=tags)  # noqa: E731
        present = self._ledger.allowed.get(name, [None])[-1]
        if present is not None and self._draw.random() < 0.2:
            entry, ask = (present[0], tags), lambda: self._ns.set_tags(name, tags)
        elif present is not None and self._draw.random() < 0.4:
            entry, ask = None, lambda: self._ns.remove(name)
        self._ledger.asks(name, entry)
        while not self._asked(ask):
            pass
        self._ledger.acknowledged(name, entry)
        self.acknowledged += 1

    def _asked(self, ask: Callable[[], object]) -> bool:
        """Whether there was an answer; there has to be one, or an error, within the time that a question has."""
        began = self._clock.now()
        try:
            ask()
        except NoNameServer:
            return False
        except Exception as error:
            self._complain(f"{type(error).__name__}: {error}")
        finally:
            seconds = self._clock.now() - began
            if seconds > PATIENCE + LATE_SECONDS:
                self._complain(f"a question took {seconds:.1f} s")
        return True

    def check(self) -> None:
        """Whether all that was acknowledged is there, and nothing else."""
        with self._one_at_a_time:
            listed = self._listed()
            for name, allowed in self._ledger.allowed.items():
                found = listed.pop(name, None)
                if found not in allowed:
                    self._complain(f"{name} is {found}, and was acknowledged as {allowed}")
            if listed:
                self._complain(f"nobody registered {listed}")

    def _listed(self) -> dict[str, Entry]:
        give_up = time.monotonic() + 60
        while True:
            try:
                listed = self._ns.list(f"{self._prefix}.", with_tags=True)
            except NoNameServer:
                if time.monotonic() > give_up:
                    raise
            else:
                return {name: (str(uri), sorted(tags)) for name, (uri, tags) in listed.items()}

    def _complain(self, what: str) -> None:
        with self._wrong.open("a", encoding="utf-8") as file:
            file.write(f"names of {self._prefix}: {what}\n")


def main() -> None:
    port, prefix, folder = sys.argv[1:]
    registrar = Registrar(int(port), prefix, Path(folder))
    registrar.check()
    threading.Thread(target=registrar.run, name="registrar", daemon=True).start()
    print("started", flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "end":
            break
        registrar.check()
        print(command, registrar.acknowledged, flush=True)
    registrar.check()
    os._exit(0)  # the thread may be in the middle of a question


if __name__ == "__main__":
    main()
