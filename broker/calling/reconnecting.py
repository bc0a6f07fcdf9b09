"""What happens when the connection of a proxy was lost that somebody wants to repair: `proxy._broker.on_reconnect`."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.calling.backoff import pause_before
from broker.connection.client import Route
from broker.connection.timers import timers
from broker.connection.workers import connecting, run_aside
from broker.errors import BrokerError, Overloaded

if TYPE_CHECKING:
    from broker.calling.remote import Remote

_log = logging.getLogger("broker")


class Reconnecting:
    """Makes a lost connection anew, and calls the functions that were given. Any thread may use it; none waits here.

    It belongs to a session, and knows the proxy that asked last weakly: nobody connects for one that is gone.
    """

    def __init__(self) -> None:
        self._remote: Callable[[], Remote | None] = lambda: None
        self._functions: list[Callable[[], object]] = []

    def add(self, function: Callable[[], object], remote: Remote) -> None:
        """Calls the function whenever the connection of that proxy was made anew."""
        self._remote = weakref.ref(remote)
        self._functions.append(function)

    def connected(self, route: Route, *, anew: bool) -> None:
        """The session is on this connection now; `anew`: in place of one that was lost."""
        route.watch(self)
        if anew:
            run_aside(self._tell)

    def lost(self) -> None:
        """The connection is gone."""
        self._try(1)

    def _try(self, attempt: int) -> None:
        try:
            connecting.submit(lambda: self._connect(attempt))
        except Overloaded:
            self._try_later(attempt)

    def _try_later(self, attempt: int) -> None:
        # Weakly: what the functions refer to, the proxy itself most often, is not held by the attempts to connect.
        timers.call_later(pause_before(attempt), _try_again(weakref.ref(self), attempt + 1))

    def _connect(self, attempt: int) -> None:
        remote = self._remote()
        if remote is None or not remote.session.is_open:
            return
        try:
            remote.open_session()  # which tells, as it finds another connection
        except BrokerError as error:
            _log.debug("%s is tried again: %s", remote.where(), error)
            self._try_later(attempt)

    def _tell(self) -> None:
        for function in list(self._functions):
            try:
                function()
            except Exception:
                _log.warning("a function given to on_reconnect failed", exc_info=True)


def _try_again(reconnecting: weakref.ref[Reconnecting], attempt: int) -> Callable[[], None]:
    def again() -> None:
        found = reconnecting()
        if found is not None:
            found._try(attempt)

    return again
