"""An observatory: each look at the sky takes its time, and several telescopes look at once."""

from __future__ import annotations

import threading

import broker

STARS = {"Sirius": -1.46, "Vega": 0.03, "Arcturus": -0.05, "Rigel": 0.13, "Deneb": 1.25, "Polaris": 1.98}


class Observatory:
    """Methods run at the same time: there is a telescope for each call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._broken_off = 0

    def magnitude(self, star: str) -> float:
        """How bright a star is; half a second of patience."""
        if star not in STARS:
            raise LookupError(f"there is no {star} tonight")
        broker.current_context.wait_cancelled(0.5)
        return STARS[star]

    def look_for_comet(self, quarter: str) -> str:
        """Looks until there is a comet, or until nobody wants to know any more."""
        if quarter == "south":
            return "a comet in the south"
        if broker.current_context.wait_cancelled(60):
            with self._lock:
                self._broken_off += 1
        return f"nothing in the {quarter}"

    def broken_off(self) -> int:
        """How many looks were broken off because their caller gave up."""
        with self._lock:
            return self._broken_off


if __name__ == "__main__":
    broker.serve({Observatory(): "example.observatory"}, use_ns=False)
