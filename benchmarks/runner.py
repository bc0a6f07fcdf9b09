"""Rounds, rows and contestants, in turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.contestants import Contestant
from benchmarks.processes import Failed, Server, cores, run_client
from benchmarks.results import Cell
from benchmarks.works import Row

Tell = Callable[[Row, int, list[Cell]], None]


@dataclass
class Runner:
    """Measures each row with each contestant, `rounds` times, `seconds` long; `tell` gets a row of a round.

    Servers live for a round: one that waits costs the others nothing. What failed, or cannot be done, is not tried
    again.
    """

    rows: Sequence[Row]
    contestants: Sequence[Contestant]
    rounds: int
    seconds: float
    tell: Tell
    _given_up: set[tuple[str, str]] = field(default_factory=set)

    def run(self) -> list[Cell]:
        cells: list[Cell] = []
        for number in range(self.rounds):
            # Whoever comes first in one round comes last in the next.
            contestants = list(self.contestants)[:: -1 if number % 2 else 1]
            servers = _Servers()
            try:
                for row in self.rows:
                    if row.fresh and number:
                        continue
                    measured = [self._measure(row, contestant, number, servers) for contestant in contestants]
                    found = [cell for cell in measured if cell is not None]
                    cells += found
                    self.tell(row, number, found)
            finally:
                servers.end()
        return cells

    def _measure(self, row: Row, contestant: Contestant, number: int, servers: _Servers) -> Cell | None:
        if not contestant.installed or (row.name, contestant.name) in self._given_up:
            return None
        core = cores()[1 if row.cores == "cross" else 0]
        try:
            with ExitStack() as stack:
                server = None if row.bare else self._server(row, contestant, servers, stack)
                clients = [run_client(contestant, row, core, self.seconds, server) for _ in range(row.processes)]
        except Failed as failed:
            clients = [{"error": f"its server {failed}"}]
        cell = Cell(row.name, contestant.name, number, load=os.getloadavg()[0], **_together(clients))
        if cell.value is None:
            self._given_up.add((row.name, contestant.name))
            servers.drop(contestant)
        return cell

    def _server(self, row: Row, contestant: Contestant, servers: _Servers, stack: ExitStack) -> Server:
        """That of the round, or one for this row alone, which ends with the stack."""
        if not row.fresh and row.name not in contestant.special:
            return servers.get(contestant)
        server = Server(contestant, cores()[0], contestant.special.get(row.name, contestant.variant))
        stack.callback(server.end)
        return server


def _together(clients: list[dict[str, Any]]) -> dict[str, Any]:
    """One figure of several clients; the first that has none decides."""
    for found in clients:
        if "value" not in found:
            return found
    return {"value": median(found["value"] for found in clients)}


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
