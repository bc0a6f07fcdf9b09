"""Who takes part. A contestant is a module with a function `serve(variant, ready)` and a class CLIENT, of which a
client is made with `CLIENT(variant, address)`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

POLLING_SWITCH = "-event_engine_client,-event_engine_listener,-event_engine_callback_cq"
"""The value of GRPC_EXPERIMENTS that puts polling back into the calling thread, for all gRPC code of a process."""


@dataclass(frozen=True)
class Contestant:
    """`package` is what it imports, `distribution` what that is called on PyPI (None: it comes with Python).

    `variant` is what its two ends are told; `special` has what a server is told instead for some works, by their name.
    """

    name: str
    title: str
    module: str
    package: str
    distribution: str | None = None
    variant: str = ""
    special: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package.partition(".")[0]) is not None

    @property
    def version(self) -> str:
        """As its distribution says; empty for what comes with Python, and where that cannot be told."""
        if self.distribution is None:
            return ""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return ""

    @property
    def ours(self) -> bool:
        return self.module == "ours"

    def load(self) -> Any:
        return importlib.import_module(f"benchmarks.contestants.{self.module}")


_WIDE = {"idle": "wide"}

_ALL = (
    Contestant("broker", "broker", "ours", "broker", "objectbroker", special=_WIDE),
    Contestant(
        "broker-switch",
        "broker, polling switch",
        "ours",
        "broker",
        "objectbroker",
        special=_WIDE,
        environment={"GRPC_EXPERIMENTS": POLLING_SWITCH},
    ),
    Contestant("pyro-serpent", "Pyro5 serpent", "pyro", "Pyro5.api", "Pyro5", "serpent"),
    Contestant("pyro-msgpack", "Pyro5 msgpack", "pyro", "Pyro5.api", "Pyro5", "msgpack"),
    Contestant("rpyc", "RPyC", "rpyc", "rpyc", "rpyc"),
    Contestant("ice", "ZeroC Ice", "ice", "Ice", "zeroc-ice", special={"callback": "two threads"}),
    Contestant("managers", "managers", "managers", "multiprocessing.managers"),
    Contestant("grpc-unary", "grpcio unary", "grpcio", "grpc", "grpcio", "unary"),
    Contestant("grpc-stream", "grpcio stream", "grpcio", "grpc", "grpcio", "stream"),
    Contestant("socket", "bare socket", "sockets", "socket"),
)
CONTESTANTS = {contestant.name: contestant for contestant in _ALL}
