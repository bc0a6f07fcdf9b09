"""Many connections, and many proxies on one: `python -m benchmarks.stress.crowd URI CONNECTIONS PROXIES`."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import broker
from benchmarks.clocks import sockets

THREADS = 16
PATIENCE = 60.0


def connect(uri: str, count: int) -> list[Any]:
    """Proxies that have a connection each: all of 127.0.0.0/8 is the same host, and is another place."""
    object_id, port = uri.partition("@")[0], uri.rpartition(":")[2]
    places = [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count)]
    return [broker.Proxy(f"{object_id}@{place}:{port}", timeout=PATIENCE, connect_timeout=PATIENCE) for place in places]


def call_all(proxies: list[Any], numbers: list[int]) -> None:
    """From several threads. Raises AssertionError if an answer is not that of its call."""

    def call(proxy: Any, number: int) -> object:
        return proxy.echo(number, number)

    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(call, proxies, numbers))
    assert found == [[number, number] for number in numbers]


def main() -> None:
    uri, connections, proxies = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    first: Any = broker.Proxy(uri, timeout=PATIENCE)
    assert first.echo(0, 0) == [0, 0]
    before = sockets()
    many = [broker.Proxy(uri, timeout=PATIENCE) for _ in range(proxies)]
    call_all(many, list(range(1, proxies + 1)))
    print("more", max(0, sockets() - before), flush=True)  # those of gRPC's start may have gone
    apart = connect(uri, connections)
    for turn in (1, 2):  # the second time all are connected
        call_all(apart, [turn * 1_000_000 + number for number in range(connections)])
    administration: Any = broker.Proxy(f"BROKER:administration@{uri.partition('@')[2]}")
    print("connected", administration.stats()["connections"], flush=True)


if __name__ == "__main__":
    main()
