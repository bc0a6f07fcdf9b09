"""Kills and stops a daemon, a name server and clients at random moments under load; they must keep their promises.

It fails if a registration that was acknowledged is lost; if a call is executed twice without `retries`, or was answered
and not executed; if a caller gets neither a result nor a documented error within the time of the call; or if those that
live use more memory, threads or descriptors at the end than before, or keep references, futures, sessions or streams.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos.faults import Faults
from benchmarks.chaos.setting import Setting, at_rest
from benchmarks.stress.ledger import compare, executed_calls, verdict
from benchmarks.stress.processes import Failed, Usage

PATIENCE = 6.0
"""Seconds that a call may take."""
MOST = Usage(memory=12 << 10, threads=8, descriptors=6)
"""What those that live may use more at the end."""
WARM_UP = 0.1
"""This part of the rounds comes before anything is measured."""
SERVERS_LIVE = 0.2
"""In this part of the rounds, the last ones, servers are stopped but not killed, to be measured as well."""


@dataclass(frozen=True)
class Extent:
    """How much is to be done."""

    rounds: int
    threads: int
    tasks: int
    pause: float
    seed: int


@dataclass
class Found:
    """What one run saw."""

    faults: Counter[str]
    calls: int
    report: dict[str, Any]
    acknowledged: int
    usage: dict[str, tuple[Usage, Usage]]
    wrong: list[str]
    seconds: float


class Chaos:
    """One run."""

    def __init__(self, extent: Extent, folder: Path, processes: ExitStack) -> None:
        self._rounds = extent.rounds
        self._draw = random.Random(extent.seed)
        self._setting = Setting(folder, processes, seed=extent.seed, patience=PATIENCE, pause=extent.pause)
        self._client = self._setting.start_client(extent.threads, extent.tasks)
        self._registrar = self._setting.start_registrar("watched")
        victim = (max(1, extent.threads // 3), max(1, extent.tasks // 3))
        self._faults = Faults(self._setting, self._draw, [self._client], victim)

    def run(self) -> Found:
        began = time.monotonic()
        alive = max(1, round(self._rounds * SERVERS_LIVE))
        warm = max(1, round(self._rounds * WARM_UP))
        wrong: list[str] = []
        self._do(warm)
        client_before = self._rest(wrong)["client"]
        self._do(self._rounds - warm - alive)
        before = self._rest(wrong)
        self._do(alive, killing=False)
        after = self._rest(wrong)
        self._faults.end()
        usage = {name: (before[name], after[name]) for name in ("daemon", "name server")}
        usage["client"] = client_before, after["client"]
        wrong += [
            f"the {name} has grown: {then}, and now {now}"
            for name, (then, now) in usage.items()
            if now.grown_beyond(then, MOST)
        ]
        acknowledged = int(self._registrar.tell("check"))
        report = self._end()
        wrong += compare(self._setting.folder, self._setting.journal)
        calls, seconds = executed_calls(self._setting.journal), time.monotonic() - began
        return Found(self._faults.done, calls, report, acknowledged, usage, wrong, seconds)

    def _do(self, rounds: int, *, killing: bool = True) -> None:
        for _ in range(rounds):
            self._faults.round(killing=killing)
            self._registrar.tell("check")

    def _rest(self, wrong: list[str]) -> dict[str, Usage]:
        servers = {"daemon": self._setting.daemon, "name server": self._setting.ns}
        usage, left = at_rest({"client": self._client, "victim": self._faults.victim}, servers)
        wrong += left
        return usage

    def _end(self) -> dict[str, Any]:
        self._client.say("end")
        report: dict[str, Any] = json.loads(self._client.line("report"))
        self._client.check_ended()
        for process in (self._setting.daemon, self._setting.ns):
            process.end()
        return report


def run(extent: Extent) -> list[str]:
    """What is wrong; prints what was done."""
    print(f"{extent.rounds} rounds of faults, drawn by SEED={extent.seed}.", flush=True)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        try:
            found = Chaos(extent, Path(folder), processes).run()
        except Failed as failed:
            return [*_complaints(Path(folder)), str(failed)]
    _print(found)
    return found.wrong


def _complaints(folder: Path) -> Iterator[str]:
    journal = folder / "journal"
    journal.touch()
    return compare(folder, journal)


def _print(found: Found) -> None:
    print(
        f"{sum(found.faults.values())} faults: {', '.join(f'{kind} {n}' for kind, n in sorted(found.faults.items()))}."
    )
    print(
        f"In {found.seconds:.0f} s {found.calls} calls were executed, and of one client {found.report['answered']} "
        f"answered and these ended with an error: {found.report['excused'] or 'none'}."
    )
    print(f"One client of the name server had {found.acknowledged} changes acknowledged.")
    for name, (before, after) in found.usage.items():
        print(f"{name:<12} {before}  →  {after}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--threads", type=int, default=8, help="of the client that lives (default: 8)")
    parser.add_argument("--tasks", type=int, default=20, help="of the client that lives (default: 20)")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of each of them, at most, between two things")
    parser.add_argument("--seed", type=int, default=random.randrange(1000), help="what was drawn before is drawn again")
    given = parser.parse_args()
    if given.rounds < 3:
        parser.error("three rounds are the fewest: one before anything is measured, one, and one without kills")
    wrong = run(Extent(**vars(given)))
    return verdict(
        wrong, "No registration was lost, no call executed twice, nobody waited too long, and nothing is left."
    )


if __name__ == "__main__":
    sys.exit(main())
