"""One remote object, as a proxy sees it: where it is, what connection leads there, what its daemon says about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from types import MappingProxyType
from typing import Any

from broker._pb.broker_pb2 import Batch, Call
from broker.calling.around import invoke_around
from broker.calling.around_futures import AroundFuture
from broker.calling.backoff import RETRY_PAUSE, out_of_reach
from broker.calling.departures import NO_DEPARTURES, Departing, departures_of
from broker.calling.edge import Edge
from broker.calling.futures import CallFuture
from broker.calling.gathered import Gathered
from broker.calling.greeting import greet
from broker.calling.invocation import Invocation, Lanes, earlier, error_of
from broker.calling.options import Options
from broker.calling.plain import PlainCall, PlainFuture, Site
from broker.calling.reconnecting import Reconnecting
from broker.calling.results import BatchResults
from broker.codecs import Encoded, Reference, bytes_of, codec, plain_arguments
from broker.connection.client import Route, Session, pool
from broker.connection.opening import Place
from broker.context import CallContext
from broker.descriptions import RemoteDescription, RemoteMember
from broker.errors import AccessDenied, CallTimeout, CannotConnect, CommunicationError, NamingError
from broker.registry.link import PATIENCE
from broker.registry.locate import candidates
from broker.uri import URI


class Remote:
    """One remote object, as a proxy sees it. Every method may be called from any thread."""

    def __init__(self, uri: URI, options: Options, session: Session | None = None) -> None:
        self.uri = uri
        self.options = options
        self.edge = Edge(credentials=options.credentials, proxy_class=options.proxy_class)
        self.session = session or Session()
        self.lanes = Lanes()
        self.departures = NO_DEPARTURES
        self.sites: dict[tuple[str, int], Site] = {}
        """Those of plain calls, by member and lane."""
        self._place: tuple[URI, Place] | None = None  # where the name led to last
        self._open: tuple[URI, Route] | None = None  # the connection that was found there last

    def twin(self, options: Options, session: Session | None = None) -> Remote:
        """The same object for another proxy; with a session of its own unless one is given."""
        return Remote(self.uri, options, session)

    def reference(self) -> str | Reference:
        """How the object travels as a value."""
        return str(self.uri)

    def use(self, options: Options) -> None:
        """Calls with other options from now on; where these lead to another connection, over that."""
        before, self.options = self.options, options
        if (before.local, before.credentials) != (options.local, options.credentials):
            self._place = self._open = None

    @property
    def retries(self) -> int:
        """How often a call that may have run is repeated."""
        return self.options.retries

    @property
    def connected(self) -> bool:
        """Whether the object was called over a connection that is still open."""
        connection = self.session.connection
        return connection is not None and connection.usable

    @property
    def transport(self) -> str | None:
        """What carries the calls; None while there is no connection."""
        connection = self.session.connection
        return connection.engine.transport if connection is not None and self.connected else None

    # ---- descriptions

    def description(self) -> RemoteDescription:
        """What the daemon says about the object; asked once for each connection."""
        _, connection = self.connect(self._deadline(), nested=CallContext.active() is not None)
        return self._cached_description(connection) or self.refresh()

    def known_description(self) -> RemoteDescription | None:
        """The description if it is here already; no I/O."""
        connection = self.session.connection
        return self._cached_description(connection) if connection is not None else None

    def _cached_description(self, connection: Route) -> RemoteDescription | None:
        return connection.descriptions.get(self.object_id)

    @property
    def object_id(self) -> str:
        """The id of the object, where a name leads to it as that was found last."""
        return self._place[0].object if self._place is not None else self.uri.object

    def refresh(self) -> RemoteDescription:
        """Asks the daemon for the description again."""
        outcome, connection = Invocation(self, "", Encoded(self.options.codec, b""), Call.DESCRIBE).wait()
        if outcome.value is None:
            raise error_of(outcome)
        description = RemoteDescription.from_wire(bytes(outcome.value.payload))
        connection.descriptions[self.object_id] = description
        return description

    def describe(self) -> None:
        """Sees to it that the description is here."""
        self.open_session()
        if self.known_description() is None:
            self.refresh()

    def find_member(self, name: str) -> RemoteMember | None:
        """The member of that name. A copy of the description that does not have it is refreshed first."""
        route, place = self.session.connection, self._place
        if route is not None:
            description = route.descriptions.get(self.uri.object if place is None else place[0].object)
            if description is not None and (member := description.members.get(name)) is not None:
                return member  # type: ignore[no-any-return]
        return self._find_fresh(name)

    def _find_fresh(self, name: str) -> RemoteMember | None:
        description = self.description()
        return description.members.get(name) or self.refresh().members.get(name)

    def where(self) -> str:
        """The object as messages name it."""
        uri = self._place[0] if self._place is not None else self.uri
        name = self.uri.object if self.uri.protocol == "BROKERNAME" else uri.object
        return f"{name!r} at {uri.location}" if uri.location is not None else f"'{uri}'"

    # ---- calls

    def invoke(
        self,
        member: str,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] = MappingProxyType({}),
        kind: Call.Kind = Call.METHOD,
        *,
        oneway: bool = False,
    ) -> Any:
        """Calls a member and waits for its result, unless `oneway`. Raises what the method raised, and BrokerErrors."""
        options = self.options
        payload = None
        if options.is_plain and not oneway and kind == Call.METHOD:
            payload = plain_arguments(args, kwargs)
            plain = PlainCall.make(self, member, payload) if payload is not None else None
            if plain is not None:
                return plain.result()
        elif options.around:
            return invoke_around(self, member, args, kwargs, kind, oneway=oneway)
        arguments = Encoded("json", payload) if payload is not None else self.encode(args, kwargs, snapshot=oneway)
        call = Invocation(self, member, arguments, kind, oneway=oneway)
        outcome, _ = call.wait()
        return call.result_of(outcome)

    def future(self, member: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Future[Any]:
        """Calls a method, and does not wait for its result. Raises CodecError and MessageTooLargeError at once."""
        options = self.options
        payload = None
        if options.is_plain:
            payload = plain_arguments(args, kwargs)
            plain = PlainFuture.make(self, member, payload) if payload is not None else None
            if plain is not None:
                return plain
        elif options.around:
            surrounded = AroundFuture(self, member, args, kwargs)
            surrounded.submit()
            return surrounded
        arguments = Encoded("json", payload) if payload is not None else self.encode(args, kwargs, snapshot=True)
        call = CallFuture(self, member, arguments)
        call.submit()
        return call

    def batch(self, gathered: Gathered, *, oneway: bool) -> BatchResults | None:
        """Makes the calls of a batch, and waits for their results, unless `oneway`. Raises BrokerErrors."""
        results: BatchResults | None
        if self.options.around:
            results = invoke_around(self, "", *_as_arguments(gathered), Call.BATCH, oneway=oneway)
        else:
            arguments, batch = gathered.pack(self.options.codec, self.edge, snapshot=oneway)
            call = Invocation(self, "", arguments, Call.BATCH, oneway=oneway, batch=batch)
            outcome, _ = call.wait()
            results = call.result_of(outcome)
        return results

    def batch_future(self, gathered: Gathered) -> Future[BatchResults]:
        """Makes the calls of a batch, and does not wait for their results. Raises CodecError at once."""
        call: AroundFuture | CallFuture
        if self.options.around:
            call = AroundFuture(self, "", *_as_arguments(gathered), Call.BATCH)
        else:
            call = CallFuture(self, "", *gathered.pack(self.options.codec, self.edge, snapshot=True))
        call.submit()
        return call

    def pack(
        self, kind: Call.Kind, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, snapshot: bool
    ) -> tuple[Encoded, Batch | None]:
        """What a call sends as the functions of `around` passed it on. Raises TypeError for calls that are none."""
        if kind == Call.BATCH:
            return Gathered.of(args, kwargs).pack(self.options.codec, self.edge, snapshot=snapshot)
        return self.encode(args, kwargs, snapshot=snapshot), None

    def encode(self, args: tuple[object, ...], kwargs: Mapping[str, object], *, snapshot: bool) -> Encoded:
        """The arguments of a call; a snapshot for a caller who goes on, and may change them, before they are sent."""
        arguments = codec(self.options.codec).encode_call(
            args, kwargs if type(kwargs) is dict else dict(kwargs), self.edge
        )
        if snapshot and arguments.buffers:
            return arguments._replace(buffers=tuple(map(bytes_of, arguments.buffers)))
        return arguments

    def _deadline(self) -> float | None:
        """The time at which what is begun now is over: its own, or that of the call that it is nested in."""
        context = CallContext.active()
        outer = context.deadline if context is not None else None
        timeout = self.options.timeout
        return earlier(outer, None if timeout is None else time.monotonic() + timeout)

    # ---- connecting

    def bind(self) -> bool:
        """Connects, and replaces a name by the URI that it leads to now. True if the proxy was not connected."""
        before = self.session.connection
        uri = self.open_session()
        self.welcome()
        self.uri = uri
        return before is not self.session.connection

    def open_session(self) -> URI:
        """Connects if need be, and has a session there."""
        uri, connection = self.connect(self._deadline(), nested=CallContext.active() is not None)
        self.session_on(connection)
        return uri

    def session_on(self, connection: Route) -> int:
        """The number of the session on a connection, greeted if it is to be. Raises what `Session.on` does."""
        if self.options.greeting is None:
            return self.session.on(connection)
        reception = self.session.reception
        if reception is not None and reception.was_turned_away:  # nobody has looked at it: the next session greets anew
            self.session.close()
        return self.session.on(connection, partial(greet, self))

    def welcome(self) -> Any:
        """What the daemon answered to the greeting of this session; connects if need be. Raises AccessDenied."""
        patience = self.options.patience
        deadline = earlier(self._deadline(), None if patience is None else time.monotonic() + patience)
        _, connection = self.connect(deadline, nested=CallContext.active() is not None)
        self.session_on(connection)
        reception = self.session.reception
        return None if reception is None else reception.answer(self, deadline)

    def on_reconnect(self, function: Callable[[], object]) -> None:
        """Calls the function, aside, when the connection was lost and another was made; that is done at once then."""
        watcher = self.session.watch(Reconnecting)
        assert isinstance(watcher, Reconnecting)
        watcher.add(function, self)

    def forget_place(self) -> bool:
        """The object is not where the name led to. False if it is no name: then there is nowhere else to look."""
        if self.uri.protocol == "BROKER" and self.options.resolve is None:
            return False
        self._place = self._open = None
        return True

    def put_aside(self, call: Departing) -> None:
        """Lets a call wait for a connection, on a thread aside."""
        departures_of(self).put(call)

    def open_place(self, *, nested: bool = False) -> tuple[URI, Route] | None:
        """Where the object is, and the connection to it, if there is one that takes calls; no I/O.

        `nested` asks for a connection that takes nested calls: also one whose other side drains.
        """
        known = self._open
        if known is None or not known[1].engine.usable:
            known = self._settle(nested=nested)
        if known is not None:
            return known if self.options.codec != "pickle" or self._may_unpickle(known[1]) else None
        place = self._place
        connection = pool.find(place[1], nested=nested) if place is not None else None
        if place is None or connection is None or not self._may_unpickle(connection):
            return None
        self._open = known = (place[0], connection)
        return known

    def settle(self) -> None:
        """Waits, for moments, until the calls that a connection has just lost have been put aside."""
        self._settle(nested=False)

    def _settle(self, *, nested: bool) -> tuple[URI, Route] | None:
        """The open place, if its connection takes calls. Else the calls that it has lost are put aside now."""
        known = self._open
        if known is None:
            return None
        engine = known[1].engine
        if engine.usable or (nested and engine.takes_nested):
            return known
        engine.settle()
        return None

    def connect(self, deadline: float | None, *, wait: float | None = None, nested: bool = False) -> tuple[URI, Route]:
        """Where the object is, and the connection to it; connects if need be, until the deadline at the latest.

        `wait` is for how many seconds to keep trying, where not as the options say; `nested` as for `open_place`.
        """
        place = self.open_place(nested=nested)
        if place is not None:
            return place
        if self._place is not None and self._open is not None:
            out_of_reach.add(self._place[1])  # until a moment ago it was there
        patience = time.monotonic() + (self.options.wait if wait is None else wait)
        while True:
            try:
                return self._connect_once(deadline, nested=nested)
            except (CannotConnect, NamingError):
                now = time.monotonic()
                if now >= patience or (deadline is not None and now >= deadline):
                    raise
            time.sleep(RETRY_PAUSE)

    def _connect_once(self, deadline: float | None, *, nested: bool) -> tuple[URI, Route]:
        """Resolves the URI afresh and connects; with several candidates, to the first that can be reached."""
        options = self.options
        named = self.uri if options.resolve is None else URI(options.resolve(self.uri))
        uris = candidates(
            named, wait=0, patience=min(PATIENCE, self._connect_timeout(deadline)), credentials=options.credentials
        )
        found = [(uri, Place.of(uri, options.credentials, local=options.local)) for uri in uris]
        for number, (uri, place) in enumerate(out_of_reach.last(found), 1):
            try:
                connection = pool.get(place, self._connect_timeout(deadline), nested=nested)
            except CannotConnect:
                out_of_reach.add(place)
                if number == len(found):
                    raise
            else:
                out_of_reach.remove(place)
                if not self._may_unpickle(connection):
                    raise AccessDenied(not_to_be_unpickled(place))
                self._place = (uri, place)
                return uri, connection
        raise NamingError(f"{self.uri} leads to no object")

    def _may_unpickle(self, connection: Route) -> bool:
        """Whether answers may come in the codec that this proxy asks for. Pickle can run anything."""
        return self.options.codec != "pickle" or connection.engine.is_trusted

    def _connect_timeout(self, deadline: float | None) -> float:
        if deadline is None:
            return self.options.connect_timeout
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            error = CallTimeout(f"the time of the call of {self.where()} was over before it was sent")
            error.may_have_run = False
            raise error
        return min(self.options.connect_timeout, remaining)

    def ping(self) -> None:
        """Asks the daemon for a sign of life. Raises CommunicationError if there is none in time."""
        deadline = self._deadline()
        _, connection = self.connect(deadline)
        timeout = self._connect_timeout(deadline)
        if not connection.engine.ping(timeout):
            raise CommunicationError(f"{connection.place} did not answer a ping within {timeout:g} s")


def not_to_be_unpickled(place: object) -> str:
    """Why no call in pickle goes there."""
    return (
        f"answers of {place} in pickle are not loaded here: they can run anything, and who answers there is not of "
        "this machine and has not proved by TLS who it is. Use the codec json, or connect with "
        "broker.Credentials(ca=...)"
    )


def _as_arguments(gathered: Gathered) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch as the functions of `around` see it."""
    return gathered.as_calls(), {"stop_on_error": gathered.stop_on_error}
