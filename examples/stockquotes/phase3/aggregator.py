"""Phase 3: the aggregator in a process of its own. Markets and viewers find it as `example.aggregator`."""

from __future__ import annotations

import threading

import broker


class Aggregator:
    """Passes quotes on to the viewers that want them. Viewers come and go while it does."""

    def __init__(self) -> None:
        self._viewers: dict[broker.Proxy, frozenset[str]] = {}
        self._lock = threading.Lock()

    def subscribe(self, viewer: broker.Proxy, symbols: list[str]) -> None:
        """Sends a viewer the quotes of these symbols from now on, for as long as its process lives."""
        with self._lock:
            self._viewers[viewer] = frozenset(symbols)
        broker.current_context.on_close(lambda: self._forget(viewer))

    def quotes(self, market: str, prices: dict[str, float]) -> None:
        """Takes new prices from a market."""
        with self._lock:
            viewers = list(self._viewers.items())  # nobody is called with the lock held
        for viewer, symbols in viewers:
            wanted = {symbol: price for symbol, price in prices.items() if symbol in symbols}
            if wanted:
                self._send(viewer, market, wanted)

    def _send(self, viewer: broker.Proxy, market: str, prices: dict[str, float]) -> None:
        try:
            viewer.quotes(market, prices)
        except broker.errors.BrokerError as error:  # it is gone; the other viewers must not notice
            print(f"A viewer does not answer: {error}", flush=True)
            self._forget(viewer)

    def _forget(self, viewer: broker.Proxy) -> None:
        with self._lock:
            self._viewers.pop(viewer, None)


if __name__ == "__main__":
    broker.serve({Aggregator(): "example.aggregator"})
