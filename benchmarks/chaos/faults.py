"""What is done to the processes: SIGKILL, and SIGSTOP with SIGCONT some time later."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from benchmarks.chaos.setting import Setting
from benchmarks.stress.processes import Process

LOAD_SECONDS = 0.6
"""Before each fault, at most."""
STOP_SECONDS = 1.5
LONG_STOP_SECONDS = 8.0
"""Longer than a call may take."""
ONE_IN_LONG = 40
AWAY_SECONDS = 0.5


class Faults:
    """Draws them, and carries them out."""

    def __init__(
        self, setting: Setting, draw: random.Random, watched: Sequence[Process], victim: tuple[int, int]
    ) -> None:
        """`watched` are clients that live, and are told when a server is not there; `victim` are the threads and tasks
        of one that is killed."""
        self._setting = setting
        self._draw = draw
        self._watched = watched
        self._extent = victim
        self.victim = setting.start_client(*victim)
        self._registrar = setting.start_registrar("victim")
        self.done: Counter[str] = Counter()
        self._kinds: dict[str, Callable[[], None]] = {
            "kill daemon": self._kill_daemon,
            "kill name server": self._kill_ns,
            "kill client": self._kill_client,
            "stop daemon": lambda: self._stop(self._setting.daemon),
            "stop name server": lambda: self._stop(self._setting.ns),
            "stop client": lambda: self._stop(self._draw.choice([self.victim, self._registrar])),
        }

    def round(self, *, killing: bool = True) -> None:
        """One or two faults at random moments; returns when all serve again. Servers are killed only if `killing`."""
        kinds = [kind for kind in self._kinds if killing or kind not in ("kill daemon", "kill name server")]
        chosen = self._draw.sample(kinds, self._draw.choice([1, 1, 2]))
        time.sleep(self._draw.random() * LOAD_SECONDS)
        for client in [*self._watched, self.victim]:
            client.tell("down")
        for kind in chosen:
            self._kinds[kind]()
            self.done[kind] += 1
            time.sleep(self._draw.random() * AWAY_SECONDS / 2)
        for client in [*self._watched, self.victim]:
            client.tell("up")

    def _stop(self, process: Process) -> None:
        process.stop()
        time.sleep(LONG_STOP_SECONDS if self._draw.randrange(ONE_IN_LONG) == 0 else self._draw.random() * STOP_SECONDS)
        if self._draw.random() < 0.1 and process is self._setting.daemon:
            self.done["of these killed while stopped"] += 1
            self._kill_daemon()
        else:
            process.go_on()

    def _kill_daemon(self) -> None:
        self._setting.daemon.kill()
        time.sleep(self._draw.random() * AWAY_SECONDS)
        self._setting.daemon = self._setting.start_daemon()

    def _kill_ns(self) -> None:
        self._setting.ns.kill()
        time.sleep(self._draw.random() * AWAY_SECONDS)
        self._setting.start_ns()

    def _kill_client(self) -> None:
        if self._draw.random() < 0.5:
            self.victim.kill()
            self.victim = self._setting.start_client(*self._extent)
            self.victim.tell("down")  # another fault of this round may follow
        else:
            self._registrar.kill()
            self._registrar = self._setting.start_registrar("victim")

    def end(self) -> None:
        """Nobody is done anything to any more, and who was is gone."""
        self.victim.kill()
        self._registrar.tell("check")
        self._registrar.kill()
