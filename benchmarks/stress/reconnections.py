"""Whether a connection that was lost leaves anything behind: `python -m benchmarks.stress.reconnections --count 2000`.

One proxy makes a call, its connection is cut, and so on. What this process has in memory is looked at ten times; in the
second half, when all has warmed up, it must not grow by more than `MOST_BYTES` for each connection. `--public` does the
same with a stream of grpcio's public API, to compare.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

import broker
from benchmarks.stress.ledger import verdict
from benchmarks.stress.processes import Process, Usage, trim
from broker._pb.broker_pb2 import Frame, Frames
from broker.connection.client import pool
from broker.connection.engine import Settings
from broker.connection.opening import CONNECT_METHOD
from broker.errors import ConnectionClosedError

LOOKS = 10
MOST_BYTES = 2048


def over_ours(port: int) -> Callable[[], None]:
    """A call of a proxy, and the end of its connection."""
    proxy: Any = broker.Proxy(f"BROKER:target@127.0.0.1:{port}", timeout=20, local=False)

    def connect() -> None:
        try:
            proxy.incarnation()
        except ConnectionClosedError:  # it was just cut
            proxy.incarnation()
        for connection in list(pool._connections.values()):
            connection.engine.lost("it was cut")

    return connect


def over_grpc(port: int) -> Callable[[], None]:
    """A channel, a stream, an introduction and the end."""
    hello = Frames(frames=[Frame(hello=Settings().to_wire())]).SerializeToString()

    def connect() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            begin: Any = channel.stream_stream(CONNECT_METHOD)
            next(begin(iter([hello])))

    return connect


def run(count: int, *, public: bool) -> list[str]:
    """What is wrong; prints what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        server = Process("benchmarks.stress.server", 0, Path(folder) / "journal")
        with server:
            port = int(server.line("ready"))
            connect = over_grpc(port) if public else over_ours(port)
            seen: list[Usage] = []
            for _ in range(LOOKS):
                for _ in range(count // LOOKS):
                    connect()
                trim()
                seen.append(Usage.of(os.getpid()))
                print(f"{len(seen) * (count // LOOKS):6} connections: {seen[-1].memory} KiB, {seen[-1]}", flush=True)
    each = (seen[-1].memory - seen[LOOKS // 2 - 1].memory) * 1024 / (count / 2)
    print(f"{each:.0f} bytes for each of the second half.")
    return [f"each connection leaves {each:.0f} bytes"] if each > MOST_BYTES else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stress.reconnections", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="how many connections (default: 2000)")
    parser.add_argument("--public", action="store_true", help="of the public API of grpcio alone")
    given = parser.parse_args()
    if given.count < LOOKS:
        parser.error(f"{LOOKS} are the fewest")
    return verdict(run(given.count, public=given.public), "Nothing was left behind.")


if __name__ == "__main__":
    sys.exit(main())
