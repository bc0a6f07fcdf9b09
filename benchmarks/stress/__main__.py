"""Puts real processes under stress and holds what was executed against what was answered.

The server is killed (SIGKILL) and started again now and then, and so are clients beside the one that is watched. It
fails if an answer is not that of its call, if a call was executed twice, or was answered and not executed, if something
hangs, or if anything is left when all is over: threads, futures, streams, references, sockets.
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

from benchmarks.stress.ledger import compare, verdict
from benchmarks.stress.processes import Failed, Process

PATIENCE = 30.0
"""Seconds that a call may take."""
VICTIM_SECONDS = 4.0
"""How long a client that is killed has lived."""
UP_SECONDS = 10.0
"""How long a server lives; less where the whole run is short."""
CROWD_SECONDS = 240.0
MEMORY_KIB = 64 << 10
"""What the watched client may have grown by in the second half of the run."""


@dataclass(frozen=True)
class Extent:
    """How much is to be done."""

    seconds: float
    threads: int
    tasks: int
    connections: int
    proxies: int
    seed: int


class Stress:
    """One run."""

    def __init__(self, extent: Extent, folder: Path, processes: ExitStack) -> None:
        self._extent = extent
        self._folder = folder
        self._journal = folder / "journal"
        self._processes = processes
        self._draw = random.Random(extent.seed)
        self._port = 0
        self._clients = 0
        self.kills: Counter[str] = Counter()
        self._server = self._start_server()

    @property
    def _uri(self) -> str:
        return f"BROKER:target@127.0.0.1:{self._port}"

    def _start_server(self) -> Process:
        server = self._processes.enter_context(Process("benchmarks.stress.server", self._port, self._journal))
        self._port = int(server.line("ready"))
        return server

    def _start_client(self, threads: int, tasks: int) -> Process:
        self._clients += 1
        number = (self._extent.seed % 1000) * 1000 + self._clients
        return self._processes.enter_context(
            Process("benchmarks.stress.client", self._uri, number, threads, tasks, self._folder, PATIENCE, 0)
        )

    def run(self) -> dict[str, Any]:
        """What the watched client reports."""
        extent = self._extent
        client = self._start_client(extent.threads, extent.tasks)
        victim = self._start_client(3, 10)
        up_seconds = min(UP_SECONDS, extent.seconds / 3)
        client.line("started")
        began = time.monotonic()
        next_server, next_victim = began + up_seconds, began + min(VICTIM_SECONDS, up_seconds * 0.7)
        measured = 0
        while (now := time.monotonic()) < began + extent.seconds:
            if now > began + extent.seconds * (measured + 1) / 3:
                client.tell("memory")
                measured += 1
            if now > next_victim:
                victim.kill()
                self.kills["clients"] += 1
                victim = self._start_client(3, 10)
                next_victim = time.monotonic() + VICTIM_SECONDS * (0.5 + self._draw.random())
            if now > next_server:
                self._restart_server(client, victim)
                next_server = time.monotonic() + up_seconds * (0.5 + self._draw.random())
            time.sleep(0.05)
        client.tell("memory")
        victim.kill()
        client.say("end")
        report: dict[str, Any] = json.loads(client.line("report"))
        client.check_ended()
        return report

    def _restart_server(self, *clients: Process) -> None:
        for client in clients:
            client.tell("down")
        self._server.kill()
        self.kills["servers"] += 1
        self._server = self._start_server()
        for client in clients:
            client.tell("up")

    def crowd(self) -> tuple[int, int]:
        """Connections at the server, and sockets that many proxies took besides that of the first."""
        with Process("benchmarks.stress.crowd", self._uri, self._extent.connections, self._extent.proxies) as crowd:
            more, connected = int(crowd.line("more")), int(crowd.line("connected"))
            crowd.check_ended(CROWD_SECONDS)
        return connected, more

    def end(self) -> None:
        """The server ends in order."""
        self._server.end()

    def wrong(self) -> Iterator[str]:
        """What does not hold of the calls so far."""
        return compare(self._folder, self._journal)


def run(extent: Extent) -> list[str]:
    """What is wrong; prints what was done."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        stress = Stress(extent, Path(folder), processes)
        try:
            report = stress.run()
        except Failed as failed:
            return [*stress.wrong(), str(failed)]
        _print(extent, report, stress.kills)
        wrong = list(stress.wrong())
        connected, more = stress.crowd()
        stress.end()
    print(f"{connected} connections at once, all served; {extent.proxies} proxies took {more} sockets more than one.")
    if more:
        wrong.append(f"{extent.proxies} proxies took {more} sockets more")
    if connected < extent.connections:
        wrong.append(f"the server saw {connected} connections, and not {extent.connections}")
    first, *_, last = report["memory"]
    if last - first > MEMORY_KIB:
        wrong.append(f"the client has grown from {first:.0f} to {last:.0f} KiB")
    return wrong


def _print(extent: Extent, report: dict[str, Any], kills: Counter[str]) -> None:
    actions: dict[str, int] = report["actions"]
    print(
        f"{extent.threads} threads and {extent.tasks} tasks on one connection for {extent.seconds:g} s "
        f"(--seed {extent.seed})."
    )
    print(f"{sum(actions.values())} actions of {len(actions)} kinds; {report['answered']} calls were answered.")
    print(", ".join(f"{name} {count}" for name, count in sorted(actions.items())))
    print(
        f"Killed: {kills['servers']} servers, {kills['clients']} clients. "
        f"Lost meanwhile: {report['excused'] or 'nothing'}."
    )
    print("Memory of the client: " + " → ".join(f"{kib / 1024:.0f}" for kib in report["memory"]) + " MiB.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stress", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--proxies", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1000), help="what was drawn before is drawn again")
    try:
        wrong = run(Extent(**vars(parser.parse_args())))
    except Failed as failed:
        wrong = [str(failed)]
    return verdict(wrong, "No answer was lost or doubled, nothing hung, and nothing was left over.")


if __name__ == "__main__":
    sys.exit(main())
