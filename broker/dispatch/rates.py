"""How many calls a second each caller may make: a bucket of tokens for each, filled at that rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Rates"]

_MOST_IDLE = 4_096  # buckets; beyond it those that are full are forgotten, for a new one is full too


class Rates:
    """The buckets of all callers. A bucket holds the calls of one second, so that a burst of as many passes.

    Every method may be called from any thread.
    """

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}  # what was in the bucket of a caller, and when
        self._sweep_at = _MOST_IDLE

    def take(self, caller: str, count: int = 1) -> float:
        """Takes so many calls; returns 0.0, or for how many seconds the caller has to wait, and then takes none.

        What holds more calls than a bucket, a batch, is let through by a full one, and is paid for afterwards.
        """
        with self._lock:
            now = self._clock()
            left, since = self._buckets.get(caller, (float(self.per_second), now))
            left = min(self.per_second, left + (now - since) * self.per_second)
            missing = min(count, self.per_second) - left
            if missing > 1e-9:
                self._buckets[caller] = (left, now)
                return missing / self.per_second
            self._buckets[caller] = (left - count, now)
            if len(self._buckets) > self._sweep_at:
                self._sweep_locked(now)
        return 0.0

    def _sweep_locked(self, now: float) -> None:
        rate = self.per_second
        kept = {
            who: (left, since) for who, (left, since) in self._buckets.items() if left + (now - since) * rate < rate
        }
        self._buckets = kept
        self._sweep_at = max(_MOST_IDLE, 2 * len(kept))

    def __len__(self) -> int:
        return len(self._buckets)
