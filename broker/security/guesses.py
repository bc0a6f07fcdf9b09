"""Who shows wrong tokens is not heard any more for a while: nobody finds a token by trying."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from broker.security.accounts import address_of

__all__ = ["Guesses"]

WINDOW_SECONDS = 60.0
_MOST_ADDRESSES = 10_000  # of which is known when they began; beyond it those that began first are forgotten
_log = logging.getLogger("broker.audit")


class Guesses:
    """Counts wrong tokens by address, for a minute from the first one. Every method may be called from any thread."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._began: dict[str, tuple[float, int]] = {}  # when the minute of an address began, and how many there were

    def barred_for(self, peer: str) -> float:
        """For how many seconds no token from there is looked at; mostly 0."""
        if not self._began:
            return 0.0
        with self._lock:
            began, count = self._began.get(address_of(peer), (0.0, 0))
        return max(0.0, began + WINDOW_SECONDS - self._clock()) if count >= self._most else 0.0

    def wrong(self, peer: str) -> None:
        """A wrong token came from there. Logs the one that was the last to be looked at."""
        address, now = address_of(peer), self._clock()
        with self._lock:
            began, count = self._began.get(address, (now, 0))
            if now - began >= WINDOW_SECONDS:
                began, count = now, 0
            self._began.pop(address, None)  # to the end, so that the oldest are in front
            self._began[address] = (began, count + 1)
            if len(self._began) > _MOST_ADDRESSES:
                del self._began[next(iter(self._began))]
        if count + 1 == self._most:
            rest = began + WINDOW_SECONDS - now
            _log.warning("%d wrong tokens from %s within a minute: none from there is looked at for %.0f s",
                         self._most, address, rest)  # fmt: skip
