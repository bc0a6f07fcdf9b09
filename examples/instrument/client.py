"""Four threads measure with one instrument: `python client.py URI`."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import broker

thermometer = broker.Proxy(sys.argv[1])

with ThreadPoolExecutor(4) as threads:
    temperatures = list(threads.map(lambda _: thermometer.measure(), range(20)))

print("measured", len(temperatures), "times, from", min(temperatures), "to", max(temperatures), "degrees")
print("each reading is its own:", len(set(temperatures)) == len(temperatures))
print("counted at the instrument:", thermometer.readings)
print("the driver was used by", thermometer.thread())
print("not on that thread:", thermometer.countdown(3))
