"""How long to wait before something is tried again, and whom not to try first."""

from __future__ import annotations

import time
from collections.abc import Iterable
from random import Random

from broker.connection.opening import Place
from broker.uri import URI

__all__ = ["RETRY_PAUSE", "out_of_reach", "pause_before"]

RETRY_PAUSE = 0.1
"""Seconds between attempts to connect while `wait` lasts."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_AVOIDED_SECONDS = 10.0
_random = Random()  # the one of the module is the program's


def pause_before(attempt: int) -> float:
    """Seconds to wait before the attempt of that number (from 1): twice as long each time, and never all at once."""
    return min(_FIRST_PAUSE * 2.0 ** (attempt - 1), _LONGEST_PAUSE) * _random.uniform(0.5, 1.0)


class OutOfReach:
    """Places that could not be reached, or whose connection was lost, a moment ago. For any thread."""

    def __init__(self) -> None:
        self._until: dict[Place, float] = {}

    def add(self, place: Place) -> None:
        now = time.monotonic()
        for known, until in list(self._until.items()):
            if until <= now:
                self._until.pop(known, None)
        self._until[place] = now + _AVOIDED_SECONDS

    def remove(self, place: Place) -> None:
        if self._until:
            self._until.pop(place, None)

    def last(self, candidates: Iterable[tuple[URI, Place]]) -> list[tuple[URI, Place]]:
        """The candidates, with those behind the others that are out of reach."""
        now = time.monotonic()
        return sorted(candidates, key=lambda candidate: self._until.get(candidate[1], now) > now)


out_of_reach = OutOfReach()
