"""Listens to the harbour, and brings it crates: `python client.py URI`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import islice

import broker

harbour = broker.Proxy(sys.argv[1], timeout=5)  # for the call, and for each wait for an item

# A generator of the server is an iterator here. This one has no end, and is left after three ships.
for ship in islice(harbour.ships(), 3):
    print("sighted:", ship)

# To leave it was to stop the generator; `with` says so in the program.
with harbour.ships() as ships:
    next(ships)
    print("counting while we listen:", harbour.observers() >= 1)
deadline = time.monotonic() + 5
while harbour.observers() and time.monotonic() < deadline:
    time.sleep(0.01)
print("counting afterwards:", harbour.observers())

# The generator runs a little ahead of who reads it, and then waits: a slow reader is not flooded.
before = harbour.seen()
with harbour.ships() as ships:
    next(ships)
    time.sleep(0.2)
    print("ahead of a slow reader:", harbour.seen() - before < 100)

levels = dict(harbour.tide(13))
print("high tide at hour", max(levels, key=levels.__getitem__), "with", max(levels.values()), "m")


def crates() -> Iterator[tuple[str, int]]:
    """A generator of the client, which is an iterator over there: it runs here, while the call is under way."""
    for what, weight in [("tea", 40), ("silk", 25), ("a bell", 2000), ("ginger", 30)]:
        print("    on the hook:", what)
        yield what, weight


# Both ways at once. What the method raises comes at its place, behind the reports before it.
try:
    for report in harbour.unload(crates()):
        print(report)
except ValueError as error:
    print("stopped:", error)

# Speed comes from many items in one message: whatever is ready when the line is free goes out together.
COUNT = 100_000
start = time.perf_counter()
for _ in islice(harbour.ships(), COUNT):
    pass
print(f"{COUNT / (time.perf_counter() - start):,.0f} ships a second")
