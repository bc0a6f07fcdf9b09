"""Phase 2: a viewer in a process of its own: `python viewer.py URI SYMBOL…`, with the URI of the aggregator."""

from __future__ import annotations

import sys

import broker


class Viewer:
    """Shows quotes. The aggregator calls it, so it has a daemon of its own."""

    @broker.oneway
    def quotes(self, market: str, prices: dict[str, float]) -> None:
        for symbol, price in prices.items():
            print(f"{market:10} {symbol:6} {price:10.2f}", flush=True)


if __name__ == "__main__":
    uri, *symbols = sys.argv[1:]
    viewer = Viewer()
    daemon = broker.Daemon()
    daemon.register(viewer)
    aggregator = broker.Proxy(uri)
    aggregator.subscribe(viewer, symbols or ["TULIP", "MAPLE"])
    daemon.request_loop()
