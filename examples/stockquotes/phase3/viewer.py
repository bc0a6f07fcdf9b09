"""Phase 3: a viewer in a process of its own: `python viewer.py SYMBOL…`."""

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
    viewer = Viewer()
    daemon = broker.Daemon()
    daemon.register(viewer)
    aggregator = broker.Proxy("BROKERNAME:example.aggregator", wait=30)
    aggregator.subscribe(viewer, sys.argv[1:] or ["TULIP", "MAPLE"])
    daemon.request_loop()
