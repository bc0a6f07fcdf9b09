"""Looks at several stars at once: `python client.py URI`."""

from __future__ import annotations

import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from typing import Protocol

import broker


class Observatory(Protocol):
    """What this program uses of the observatory, for `connect` and for a type checker."""

    def magnitude(self, star: str) -> float: ...

    def look_for_comet(self, quarter: str) -> str: ...

    def broken_off(self) -> int: ...


observatory = broker.Proxy(sys.argv[1])

# The calls are on their way at the same time: six looks take as long as one.
began = time.monotonic()
stars = ["Sirius", "Vega", "Arcturus", "Rigel", "Deneb", "Polaris"]
looks = {observatory.magnitude.future(star): star for star in stars}
brightest = min(looks, key=lambda look: look.result())
print(f"the brightest: {looks[brightest]} with {brightest.result()}")
print("six looks took less than two:", time.monotonic() - began < 1)

# They are futures of concurrent.futures, with all that goes with them. An exception is that of its own call.
looks = {observatory.magnitude.future(star): star for star in ["Vega", "Nemesis"]}
for look in as_completed(looks):
    error = look.exception()
    print(f"{looks[look]}:", error if error is not None else look.result())

# cancel() reaches a method that runs. `connect` and `submit` are the same with types: a checker knows what comes.
typed = broker.connect(sys.argv[1], Observatory)
quarters: list[Future[str]] = [
    broker.submit(typed.look_for_comet, quarter) for quarter in ("north", "east", "south", "west")
]
found, still_looking = wait(quarters, return_when=FIRST_COMPLETED)
print("found:", *(look.result() for look in found))
print("cancelled:", [look.cancel() for look in still_looking])
while typed.broken_off() < 3:
    time.sleep(0.01)
print("broken off at the observatory:", typed.broken_off())
