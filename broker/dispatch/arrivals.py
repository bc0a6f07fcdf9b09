"""What the connections of a daemon, or of a process that exports objects, bring."""

from __future__ import annotations

from broker.connection.calls import IncomingCall
from broker.connection.engine import Connection
from broker.connection.groups import CallGroup
from broker.connection.refusals import Refused
from broker.context import Client
from broker.dispatch.dispatcher import Dispatcher
from broker.dispatch.groups import take_group


class Arrivals:
    """What connections bring, on its way to the dispatcher."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def incoming(self, call: IncomingCall) -> None:
        client = self._client(call)
        if not self._dispatcher.express.takes(call, client):
            self._dispatcher.dispatch(call, client, call.connection)

    def incoming_group(self, group: CallGroup) -> None:
        if not take_group(self._dispatcher.express, group, self._client(group.representative())):
            for call in group.singles():
                self.incoming(call)

    def turned_away(self, refused: Refused) -> None:
        self._dispatcher.turned_away(refused)

    def session_closed(self, connection: Connection, session: int) -> None:
        self._dispatcher.session_closed(connection, session)

    def connection_ended(self, connection: Connection) -> None:
        self._dispatcher.connection_ended(connection)

    def _client(self, call: IncomingCall) -> Client:
        codec, connection = call.codec, call.connection
        client: Client | None = connection.known.get(codec)
        if client is None:
            peer = connection.peer
            client = connection.known[codec] = Client(
                call.peer, peer.process_id if peer is not None else b"", codec, connection.identity
            )
        return client
