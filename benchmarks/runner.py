"""Rounds, works and contestants, in turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks import profiling
from benchmarks.contestants import Contestant
from benchmarks.processes import Failed, Server, cores, run_client
from benchmarks.results import Cell
from benchmarks.works import Work

Tell = Callable[[Work, int, list[Cell]], None]


@dataclass
class Runner:
    """Does each work with each contestant, `rounds` times, `seconds` long; `tell` gets the cells of a work in a round.

    `hurry` runs one client for a figure, where a work would have the median of several. Servers live for a round: one
    that waits costs the others nothing. What failed, or cannot be done, is not tried again.
    """

    works: Sequence[Work]
    contestants: Sequence[Contestant]
    rounds: int
    seconds: float
    tell: Tell
    hurry: bool = False
    _given_up: set[tuple[str, str]] = field(default_factory=set)

    def run(self) -> list[Cell]:
        cells: list[Cell] = []
        for number in range(self.rounds):
            servers = _Servers()
            try:
                for work in self.works:
                    if number and work.fresh:
                        continue
                    found = self._one_round(work, number, servers)
                    cells += found
                    self.tell(work, number, found)
            finally:
                servers.end()
        return cells

    def _one_round(self, work: Work, number: int, servers: _Servers) -> list[Cell]:
        cells: list[Cell] = []
        # Whoever comes first in one round comes last in the next.
        for contestant in list(self.contestants)[:: -1 if number % 2 else 1]:
            if not contestant.installed or (work.name, contestant.name) in self._given_up:
                continue
            found = self._measure(work, contestant, servers)
            if "values" not in found:
                self._given_up.add((work.name, contestant.name))
                servers.drop(contestant)
            cells += _cells(work, contestant, number, found)
        return cells

    def _measure(self, work: Work, contestant: Contestant, servers: _Servers) -> dict[str, Any]:
        core = cores()[1 if work.cores == "cross" else 0]
        with ExitStack() as stack:
            try:
                server = None if work.bare else self._server(work, contestant, servers, stack)
            except Failed as failed:
                return {"error": f"its server {failed}"}
            clients = 1 if self.hurry else work.processes
            return together(run_client(contestant, work, core, self.seconds, server) for _ in range(clients))

    def _server(self, work: Work, contestant: Contestant, servers: _Servers, stack: ExitStack) -> Server:
        """That of the round, or one for this work alone, which ends with the stack."""
        if not work.fresh and work.name not in contestant.special:
            return servers.get(contestant)
        server = Server(contestant, cores()[0], contestant.special.get(work.name, contestant.variant))
        stack.callback(server.end)
        return server


def profile(work: Work, contestant: Contestant, seconds: float) -> str:
    """Where the time of a work goes: once undisturbed, thread by thread, and once under a profiler.

    Raises Failed if a process does, and ValueError for a work that takes no time.
    """
    lines = []
    for mode in ("threads", "functions"):
        server = Server(contestant, cores()[0], contestant.special.get(work.name, contestant.variant), mode)
        try:
            core = cores()[1 if work.cores == "cross" else 0]
            found = run_client(contestant, work, core, seconds, server, mode)
            if "values" not in found:
                raise Failed(f"{contestant.title} has no figure: {found}")
            of_server = server.profile()
        finally:
            server.end()
        done, unit = found["done"], profiling.unit_name(work.rows[0].unit)
        if not done:
            raise Failed(f"{work.rows[0].title} has no clock: only works that take time have a profile")
        if mode == "threads":
            lines.append(f"{contestant.title}, {work.rows[0].title}: {done / seconds:,.0f} a second; for one {unit}:")
            for side, names in (("client", found["names"]), ("server", of_server["names"])):
                used = {thread: profiling.Usage(*each) for thread, each in found["used"][side].items()}
                lines += profiling.thread_lines(side, used, names, done)
        else:
            for side, each in (("client", found), ("server", of_server)):
                functions = [profiling.Function(*function) for function in each["functions"]]
                lines += profiling.function_lines(side, functions, done)
    return "\n".join(lines)


def together(clients: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The medians of what several clients found; the first that found nothing decides, and is the last."""
    values = []
    for found in clients:
        if "values" not in found:
            return found
        values.append(found["values"])
    return {"values": [median(each) for each in zip(*values, strict=True)]}


def _cells(work: Work, contestant: Contestant, number: int, found: dict[str, Any]) -> list[Cell]:
    """A cell for each row of the work; what went wrong stands in all of them."""
    values = found.get("values", [None] * len(work.rows))
    why = {name: text for name, text in found.items() if name != "values"}
    return [
        Cell(row.name, contestant.name, number, value, load=os.getloadavg()[0], **why)
        for row, value in zip(work.rows, values, strict=True)
    ]


class _Servers:
    """The servers of a round, started when first needed."""

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}

    def get(self, contestant: Contestant) -> Server:
        server = self._servers.get(contestant.name)
        if server is None or not server.alive:
            self.drop(contestant)
            server = self._servers[contestant.name] = Server(contestant, cores()[0], contestant.variant)
        return server

    def drop(self, contestant: Contestant) -> None:
        """The next client finds a new one: what this one was asked may have left something in it."""
        server = self._servers.pop(contestant.name, None)
        if server is not None:
            server.end()

    def end(self) -> None:
        for server in self._servers.values():
            server.end()
        self._servers.clear()
