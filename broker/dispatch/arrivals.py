"""What the connections of a daemon, or of a process that exports objects, bring."""

from __future__ import annotations

from broker._pb.broker_pb2 import Call
from broker.connection import chains
from broker.connection.calls import IncomingCall
from broker.connection.engine import Connection
from broker.connection.groups import CallGroup
from broker.connection.refusals import Refused
from broker.context import Client
from broker.dispatch.dispatcher import Dispatcher
from broker.dispatch.express import CODEC
from broker.dispatch.groups import take_group
from broker.dispatch.rates import Rates


class Arrivals:
    """What connections bring, on its way to the dispatcher."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def incoming(self, call: IncomingCall) -> None:
        client = call.connection.known.get(call.codec) or self._client(call.connection, call.codec)
        if not self._dispatcher.express.takes(call, client):
            self._dispatcher.dispatch(call, client, call.connection)

    def incoming_group(self, group: CallGroup) -> None:
        client = group.connection.known.get(CODEC) or self._client(group.connection, CODEC)
        if not take_group(self._dispatcher.express, group, client):
            for call in group.singles():
                self.incoming(call)

    def turned_away(self, refused: Refused) -> None:
        self._dispatcher.turned_away(refused)

    def session_closed(self, connection: Connection, session: int) -> None:
        self._dispatcher.session_closed(connection, session)

    def connection_ended(self, connection: Connection) -> None:
        self._dispatcher.connection_ended(connection)

    def _client(self, connection: Connection, codec: str) -> Client:
        client: Client | None = connection.known.get(codec)
        if client is None:
            peer = connection.peer
            client = connection.known[codec] = Client(
                connection.peer_name, peer.process_id if peer is not None else b"", codec, connection.identity
            )
        return client


class LimitedArrivals(Arrivals):
    """The same where each caller may make so many calls a second."""

    def __init__(self, dispatcher: Dispatcher, rates: Rates) -> None:
        super().__init__(dispatcher)
        self._rates = rates

    def incoming(self, call: IncomingCall) -> None:
        client = self._client(call.connection, call.codec)
        refused = self._refusal(call, client)
        if refused is not None:
            self._dispatcher.refuse(call, client, call.connection, refused)
        elif not self._dispatcher.express.takes(call, client):
            self._dispatcher.dispatch(call, client, call.connection)

    def incoming_group(self, group: CallGroup) -> None:
        for call in group.singles():
            self.incoming(call)

    def _refusal(self, call: IncomingCall, client: Client) -> Refused | None:
        wire = call.wire
        if call.is_nested and chains.is_waiting(call.chain):
            return None  # what waits for it was counted
        count = max(1, len(wire.batch.calls)) if wire.kind == Call.BATCH else 1
        return self._dispatcher.over_rate(self._rates, client, count)


def arrivals_at(dispatcher: Dispatcher) -> Arrivals:
    """What brings calls to a dispatcher, within the limits that it has."""
    return Arrivals(dispatcher) if dispatcher.rates is None else LimitedArrivals(dispatcher, dispatcher.rates)
