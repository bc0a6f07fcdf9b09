"""Phase 3: a market in a process of its own: `python market.py NAME SYMBOL=PRICE…`."""

from __future__ import annotations

import random
import signal
import sys
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


def trade(market: Market, aggregator: broker.Proxy, closing: threading.Event) -> None:
    """Trades until it is told to stop. The aggregator may come late, and may be restarted meanwhile."""
    while not closing.wait(random.uniform(0.1, 0.3)):
        prices = market.trade()
        try:
            aggregator.quotes(market.name, prices)
        except (broker.errors.CommunicationError, broker.errors.NamingError) as error:
            print(f"{market.name} trades on without the aggregator: {error}", flush=True)


if __name__ == "__main__":
    name, *symbols = sys.argv[1:] or ["Amsterdam", "TULIP=112.20", "CANAL=82.50"]
    market = Market(name, {symbol: float(price) for symbol, price in (text.split("=") for text in symbols)})
    closing = threading.Event()
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: closing.set())
    print(f"{name} trades {', '.join(market.prices)}.", flush=True)
    trade(market, broker.Proxy("BROKERNAME:example.aggregator", timeout=5), closing)
