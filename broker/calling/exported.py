"""The way to an exported object of the other side: the connection over which it came, and no other."""

from __future__ import annotations

from collections.abc import Callable

from broker.calling.options import Options
from broker.calling.remote import Remote, not_to_be_unpickled
from broker.codecs import Reference
from broker.connection.client import Route, Session
from broker.connection.exports import Held
from broker.errors import AccessDenied, BrokerError, ConnectionClosedError
from broker.uri import URI


class ExportedRemote(Remote):
    """An exported object, as a proxy sees it. It is gone with its connection, and nothing is sent again."""

    def __init__(self, held: Held, options: Options, session: Session | None = None) -> None:
        super().__init__(URI.exported(held.number, held.connection.exports.token), options, session)
        self._held = held

    def twin(self, options: Options, session: Session | None = None) -> ExportedRemote:
        return ExportedRemote(self._held, options, session)

    def reference(self) -> Reference:
        return self._held

    @property
    def retries(self) -> int:
        return 0

    def on_reconnect(self, function: Callable[[], object]) -> None:
        raise BrokerError(
            f"{self.where()} is gone with its connection, and no other leads there: "
            "it is the process that exports it which connects again, and passes it on anew"
        )

    def where(self) -> str:
        return f"export {self._held.number} of {self._held.connection.peer_name}"

    @property
    def connected(self) -> bool:
        return self._held.connection.usable

    @property
    def transport(self) -> str | None:
        return self._held.connection.transport if self.connected else None

    def open_place(self, *, nested: bool = False) -> tuple[URI, Route] | None:
        route = _route(self._held)
        return (self.uri, route) if route.takes(nested=nested) and self._may_unpickle(route) else None

    def connect(self, deadline: float | None, *, wait: float | None = None, nested: bool = False) -> tuple[URI, Route]:
        engine = self._held.connection
        if not _route(self._held).takes(nested=nested):
            why = engine.ended_because or engine.draining_because or "it is closed"
            error = ConnectionClosedError(
                f"{self.where()} is out of reach, for the connection over which it came is gone ({why})"
            )
            error.may_have_run = False
            raise error
        route = _route(self._held)
        if not self._may_unpickle(route):
            raise AccessDenied(not_to_be_unpickled(engine.peer_name))
        return self.uri, route


def _route(held: Held) -> Route:
    if held.route is None:
        held.route = Route(held.connection, held.connection.peer_name, held.connection.exports.descriptions)
    return held.route
