"""Phase 2: the markets and the aggregator in one process. It prints the URI of the aggregator, which viewers need."""

from __future__ import annotations

import random
import threading

import broker


class Market:
    """Where shares are traded: each trade moves a price a little."""

    def __init__(self, name: str, prices: dict[str, float]) -> None:
        self.name = name
        self.prices = dict(prices)

    def trade(self) -> dict[str, float]:
        """One round of trading: the new prices of some of the symbols."""
        traded = random.sample(list(self.prices), k=random.randint(1, len(self.prices)))
        for symbol in traded:
            self.prices[symbol] = round(self.prices[symbol] * random.uniform(0.98, 1.02), 2)
        return {symbol: self.prices[symbol] for symbol in traded}


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


def trade(market: Market, aggregator: Aggregator, closing: threading.Event) -> None:
    """Trades until it is told to stop."""
    while not closing.wait(random.uniform(0.1, 0.3)):
        aggregator.quotes(market.name, market.trade())


if __name__ == "__main__":
    aggregator = Aggregator()
    closing = threading.Event()
    for market in (
        Market("Amsterdam", {"TULIP": 112.20, "CANAL": 82.50}),
        Market("Kyoto", {"MAPLE": 945.00, "KOTO": 64.75}),
    ):
        threading.Thread(target=trade, args=(market, aggregator, closing), daemon=True).start()
    broker.serve({aggregator: "example.aggregator"}, use_ns=False)
    closing.set()
