"""A name server that keeps its names in a file, a daemon, and clients of both, each in a process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.stress.processes import IDLE_SECONDS, Process, Usage

NAME = "chaos"


class NameServerProcess(Process):
    """A name server; `port` 0 takes any that is free."""

    def __init__(self, port: int, storage: Path) -> None:
        super().__init__("broker.naming", "-p", port, "-s", f"sqlite:{storage}")
        self.port = int(self.line("URI = ").rpartition(":")[2])


class Setting:
    """All processes. Whoever is killed is started again in its place, on the same port."""

    def __init__(self, folder: Path, processes: ExitStack, *, seed: int, patience: float, pause: float) -> None:
        self.folder = folder
        self.journal = folder / "journal"
        self._processes = processes
        self._seed = seed
        self._times = patience, pause
        self._clients = 0
        server = NameServerProcess(0, folder / "names.db")
        self.ns = processes.enter_context(server)
        self._ns_port = server.port
        os.environ |= {"BROKER_NS_HOST": "127.0.0.1", "BROKER_NS_PORT": str(self._ns_port)}  # of those started here
        self._port = 0
        self.daemon = self.start_daemon()

    def start_ns(self) -> None:
        self.ns = self._processes.enter_context(NameServerProcess(self._ns_port, self.folder / "names.db"))

    def start_daemon(self, port: int | None = None, name: str = NAME) -> Process:
        port = self._port if port is None else port
        daemon = self._processes.enter_context(Process("benchmarks.stress.server", port, self.journal, name))
        found = int(daemon.line("ready"))
        self._port = found if name == NAME else self._port
        return daemon

    def start_client(
        self, threads: int, tasks: int, name: str = NAME, module: str = "benchmarks.stress.client"
    ) -> Process:
        self._clients += 1
        number = self._seed % 1000 * 10_000 + self._clients
        uri = f"BROKERNAME:{name}.target@127.0.0.1:{self._ns_port}"
        client = Process(module, uri, number, threads, tasks, self.folder, *self._times)
        self._processes.enter_context(client).line("started")
        return client

    def start_registrar(self, prefix: str) -> Process:
        registrar = Process("benchmarks.chaos.registrar", self._ns_port, prefix, self.folder)
        self._processes.enter_context(registrar).line("started")
        return registrar


def at_rest(clients: Mapping[str, Process], others: Mapping[str, Process]) -> tuple[dict[str, Usage], list[str]]:
    """What processes use while the clients rest, and what is left then; afterwards these go on."""
    for client in clients.values():
        client.tell("rest")
    found = {name: json.loads(client.tell("left")) for name, client in clients.items()}
    time.sleep(1.5 * IDLE_SECONDS)
    left = [f"the {name} has left {what}" for name, what in found.items() if what]
    usage = {name: process.usage() for name, process in {**clients, **others}.items()}
    for client in clients.values():
        client.tell("work")
    return usage, left
