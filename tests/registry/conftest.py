"""Name servers on real gRPC servers, on ports of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import grpc
import pytest

from broker.connection.channels import server_options
from broker.connection.server import DaemonThreads
from broker.registry import OWN_NAME
from broker.registry.client import NameServer
from broker.registry.names import Names
from broker.registry.service import Door, generic_handler
from broker.registry.store import MemoryStore, Store
from broker.security import Identification
from broker.uri import URI


@dataclass
class Running:
    """A name service that runs: its names, and where it is."""

    names: Names
    server: grpc.Server
    port: int

    def client(self) -> NameServer:
        return NameServer("127.0.0.1", self.port)

    def stop(self) -> None:
        self.names.close()
        self.server.stop(None).wait()


class StartNames(Protocol):
    """Starts a name service; one at the same port is a restart of it."""

    def __call__(
        self, store: Store | None = None, *, port: int = 0, lease_ttl: float = 15.0, may_return: bool | None = None
    ) -> Running: ...


def _start(store: Store | None, port: int, lease_ttl: float, may_return: bool) -> Running:
    names = Names(store or MemoryStore(), lease_ttl=lease_ttl, may_return=may_return)
    server = grpc.server(DaemonThreads("names"), options=server_options())  # type: ignore[arg-type]  # any executor will do
    server.add_generic_rpc_handlers((generic_handler(names, Door(Identification())),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    names.own(URI.direct(OWN_NAME, "127.0.0.1", bound))
    names.start()
    server.start()
    return Running(names, server, bound)


@pytest.fixture
def start_names() -> Iterator[StartNames]:
    running: list[Running] = []

    def start(
        store: Store | None = None, *, port: int = 0, lease_ttl: float = 15.0, may_return: bool | None = None
    ) -> Running:
        running.append(_start(store, port, lease_ttl, bool(port) if may_return is None else may_return))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@pytest.fixture
def running(start_names: StartNames) -> Running:
    return start_names()


@pytest.fixture
def ns(running: Running) -> Iterator[NameServer]:
    with running.client() as client:
        yield client
