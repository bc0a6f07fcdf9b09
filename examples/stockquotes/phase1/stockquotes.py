"""Phase 1: markets, an aggregator and a viewer in one process. Quotes are pulled through generators."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterable, Iterator

Quote = tuple[str, str, float]  # market, symbol, price


class Market:
    """Where shares are traded: each trade moves a price a little."""

    def __init__(self, name: str, prices: dict[str, float]) -> None:
        self.name = name
        self.prices = dict(prices)

    def quotes(self) -> Iterator[Quote]:
        """The trades, one after another, without end."""
        while True:
            symbol = random.choice(list(self.prices))
            self.prices[symbol] = round(self.prices[symbol] * random.uniform(0.98, 1.02), 2)
            yield self.name, symbol, self.prices[symbol]


class Aggregator:
    """Makes one stream of quotes from those of all its markets."""

    def __init__(self, markets: Iterable[Market]) -> None:
        self.markets = list(markets)

    def quotes(self, symbols: set[str]) -> Iterator[Quote]:
        """The quotes of these symbols from whichever market trades them."""
        for quotes in zip(*(market.quotes() for market in self.markets), strict=True):
            yield from (quote for quote in quotes if quote[1] in symbols)


class Viewer:
    """Shows the quotes that somebody is interested in."""

    def show(self, quotes: Iterable[Quote]) -> None:
        for market, symbol, price in quotes:
            print(f"{market:10} {symbol:6} {price:10.2f}")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    aggregator = Aggregator(
        [
            Market("Amsterdam", {"TULIP": 112.20, "CANAL": 82.50}),
            Market("Kyoto", {"MAPLE": 945.00, "KOTO": 64.75}),
        ]
    )
    Viewer().show(itertools.islice(aggregator.quotes({"TULIP", "MAPLE"}), count))
