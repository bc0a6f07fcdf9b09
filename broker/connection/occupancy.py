"""How many connections a daemon has: in all, and of each caller. Beyond a limit the next one is not let in."""

from __future__ import annotations

import threading

from broker.connection.refusals import Reason, Refused
from broker.security import account_of


class Occupancy:
    """The connections that were let in, by the account of their callers. For any thread."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self.most = most
        self._most_of_one = most_of_one
        self._lock = threading.Lock()
        self._all = 0
        self._of: dict[str, int] = {}

    def enter(self, place: str, peer: str, identity: str | None) -> str | Refused:
        """Counts one more connection and returns its account, or says why it is not let in. `place` is the daemon."""
        account = account_of(peer, identity)
        with self._lock:
            count = self._of.get(account, 0)
            if count >= self._most_of_one:
                what = f"{account} has {count} connections to {place}, which takes no more of one caller "
                what += "(max_connections_per_identity): share a connection, as the proxies of one process do"
                return Refused(Reason.OVERLOADED, what, "max_connections_per_identity")
            if self._all >= self.most:
                what = f"{place} has {self._all} connections, and takes no more (max_connections): try again later"
                return Refused(Reason.OVERLOADED, what, "max_connections")
            self._of[account] = count + 1
            self._all += 1
        return account

    def leave(self, account: str) -> None:
        """A connection that was let in has ended."""
        with self._lock:
            self._all -= 1
            self._of[account] -= 1
            if not self._of[account]:
                del self._of[account]
