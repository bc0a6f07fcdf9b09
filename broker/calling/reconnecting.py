"""What happens when the connection of a proxy was lost that somebody wants to repair: `proxy._broker.on_reconnect`."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from broker.connection.client import Route
from broker.connection.timers import timers
from broker.connection.workers import connecting, run_aside
from broker.errors import BrokerError, Overloaded

if TYPE_CHECKING:
    from broker.calling.remote import Remote

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts
_log = logging.getLogger("broker")
_random = Random()  # the one of the module is the program's: drawing from it would change what a seed gives


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
        self._try(_FIRST_PAUSE)

    def _try(self, pause: float) -> None:
        try:
            connecting.submit(lambda: self._connect(pause))
        except Overloaded:
            self._try_later(pause)

    def _try_later(self, pause: float) -> None:
        # Weakly: what the functions refer to, the proxy itself most often, is not held by the attempts to connect.
        again = _try_again(weakref.ref(self), min(2 * pause, _LONGEST_PAUSE))
        timers.call_later(pause * _random.uniform(0.5, 1.0), again)

    def _connect(self, pause: float) -> None:
        remote = self._remote()
        if remote is None or not remote.session.is_open:
            return
        try:
            remote.open_session()  # which tells, as it finds another connection
        except BrokerError as error:
            _log.debug("%s is tried again: %s", remote.where(), error)
            self._try_later(pause)

    def _tell(self) -> None:
        for function in list(self._functions):
            try:
                function()
            except Exception:
                _log.warning("a function given to on_reconnect failed", exc_info=True)


def _try_again(reconnecting: weakref.ref[Reconnecting], pause: float) -> Callable[[], None]:
    def again() -> None:
        found = reconnecting()
        if found is not None:
            found._try(pause)

    return again
