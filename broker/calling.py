"""A call's way out of a client: where the object is, what connection, what came back.

`Remote` is what every proxy holds: URI, options, session. It is shared by all threads that use the proxy.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import grpc

from broker._pb.broker_pb2 import Call
from broker.codecs import CODECS, GLOBAL_TYPES, Encoded, TypeRegistry, codec
from broker.connection import chains
from broker.connection.calls import CallRequest, Outcome, PendingCall
from broker.connection.client import ClientConnection, Place, Session, pool
from broker.connection.refusals import Reason
from broker.context import CallContext, received_metadata
from broker.descriptions import RemoteDescription, RemoteMember
from broker.errors import (
    BrokerError,
    CallTimeout,
    CannotConnect,
    CodecError,
    CommunicationError,
    ConnectionClosedError,
    NamingError,
    ProtocolError,
)
from broker.references import served
from broker.registry.link import PATIENCE
from broker.registry.locate import candidates
from broker.uri import URI

_lanes = itertools.count(1)
_RETRY_PAUSE = 0.1  # seconds between attempts while `wait` lasts


@dataclass(frozen=True, slots=True)
class Options:
    """How a proxy calls. Times are in seconds."""

    timeout: float | None = None
    connect_timeout: float = 10
    wait: float = 0
    codec: str = "json"
    metadata: Mapping[str, str | bytes] = field(default_factory=dict)
    retries: int = 0
    credentials: grpc.ChannelCredentials | None = None
    local: bool = True

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise CodecError(f"there is no codec {self.codec!r}: the codecs are {', '.join(CODECS)}")
        given: list[tuple[object, object]] = [*self.metadata.items()]
        for key, value in given:
            if not isinstance(key, str) or not isinstance(value, (str, bytes)):
                raise TypeError(f"metadata is text, and text or bytes; not {key!r}: {value!r}")
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    def with_(self, **changes: Any) -> Options:
        return replace(self, **changes)


class Edge:
    """References at the edge of a process: what is served here, and proxies, travel as URIs and arrive as proxies."""

    make_proxy: Any = None  # set by broker.proxy: the class Proxy

    def __init__(self, types: TypeRegistry = GLOBAL_TYPES, credentials: grpc.ChannelCredentials | None = None) -> None:
        self.types = types
        self._credentials = credentials

    def reference(self, value: object) -> str | None:
        if isinstance(value, self.make_proxy):
            return str(value._broker.uri)
        uri = served.uri_of(value)
        return str(uri) if uri is not None else None

    def resolve(self, reference: str) -> object:
        return self.make_proxy(reference, credentials=self._credentials)

    def traceback(self, error: BaseException) -> str:
        return ""


class Remote:
    """One remote object, as a proxy sees it. Every method may be called from any thread."""

    def __init__(self, uri: URI, options: Options, session: Session | None = None) -> None:
        self.uri = uri
        self.options = options
        self.edge = Edge(credentials=options.credentials)
        self.session = session or Session()
        self._place: tuple[URI, Place] | None = None  # where the name led to last
        self._lanes: dict[int, int] = {}  # by thread, once that thread has made a oneway call

    # ---- descriptions

    def description(self) -> RemoteDescription:
        """What the daemon says about the object; asked once for each connection."""
        _, connection = self._connect(self._deadline())
        return self._cached_description(connection) or self.refresh()

    def known_description(self) -> RemoteDescription | None:
        """The description if it is here already; no I/O."""
        connection = self.session.connection
        return self._cached_description(connection) if connection is not None else None

    def _cached_description(self, connection: ClientConnection) -> RemoteDescription | None:
        return connection.descriptions.get(self._place[0].object) if self._place is not None else None

    def refresh(self) -> RemoteDescription:
        """Asks the daemon for the description again."""
        outcome, connection = self._call("", Encoded(self.options.codec, b""), Call.DESCRIBE, self._deadline())
        if outcome.value is None:
            raise _error_of(outcome)
        description = RemoteDescription.from_wire(bytes(outcome.value.payload))
        if self._place is not None:
            connection.descriptions[self._place[0].object] = description
        return description

    def find_member(self, name: str) -> RemoteMember | None:
        """The member of that name. A copy of the description that does not have it is refreshed first."""
        description = self.known_description()
        member = description.members.get(name) if description is not None else None
        return member or self._find_fresh(name)

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
        deadline = self._deadline()
        arguments = codec(self.options.codec).encode_call(args, dict(kwargs), self.edge)
        if oneway and arguments.buffers:  # their owner goes on, and may change them, before they are sent
            arguments = arguments._replace(buffers=tuple(bytes(buffer) for buffer in arguments.buffers))
        outcome, _ = self._call(member, arguments, kind, deadline, oneway=oneway)
        return None if oneway and outcome.refused is None else self._result(outcome)

    def _result(self, outcome: Outcome) -> Any:
        value = outcome.value
        if value is None:
            raise _error_of(outcome)
        if value.codec != self.options.codec:
            asked = self.options.codec
            raise ProtocolError(f"the answer came in codec {value.codec!r} to a call in {asked!r}; it was not read")
        received_metadata(outcome.metadata)
        result = codec(value.codec).decode(value, self.edge, "result")
        if not outcome.raised:
            return result
        if not isinstance(result, BaseException):
            raise ProtocolError(f"{self.where()} raised something that is no exception: {type(result).__name__}")
        raise result

    def _call(
        self, member: str, arguments: Encoded, kind: Call.Kind, deadline: float | None, *, oneway: bool = False
    ) -> tuple[Outcome, ClientConnection]:
        """One call, repeated once if it was surely not executed, and `retries` times if it may have been."""
        again, retries = 1, self.options.retries
        while True:
            uri, connection = self._connect(deadline)
            outcome = self._attempt(uri, connection, member, arguments, kind, deadline, oneway)
            if outcome.lost is not None and outcome.may_have_run and retries:
                retries -= 1
            elif again and self._surely_not_executed(outcome):
                again -= 1
            elif outcome.lost is not None:
                raise _lost(outcome)
            else:
                return outcome, connection

    def _surely_not_executed(self, outcome: Outcome) -> bool:
        if outcome.lost is not None:
            return not outcome.may_have_run
        moved = outcome.refused is not None and outcome.refused.reason == Reason.OBJECT_NOT_FOUND
        if moved and self.uri.protocol != "BROKER":
            self._place = None  # the name may lead elsewhere by now
            return True
        return False

    def _attempt(
        self,
        uri: URI,
        connection: ClientConnection,
        member: str,
        arguments: Encoded,
        kind: Call.Kind,
        deadline: float | None,
        oneway: bool,
    ) -> Outcome:
        request = self._request(uri, connection, member, arguments, kind, deadline, oneway)
        pending = connection.engine.call(request)
        outcome = self._wait(pending, deadline, member)
        if outcome.kept:
            self.session.kept()
        return outcome

    def _request(
        self,
        uri: URI,
        connection: ClientConnection,
        member: str,
        arguments: Encoded,
        kind: Call.Kind,
        deadline: float | None,
        oneway: bool,
    ) -> CallRequest:
        context = CallContext.active()
        chain, depth = (context.chain, context.depth + 1) if context is not None else (chains.new_chain(), 1)
        if depth > chains.MAX_DEPTH:
            raise BrokerError(chains.too_deep(uri.object, member, chain))
        metadata = self.options.metadata
        if context is not None and context.metadata:
            metadata = {**context.metadata, **metadata}
        return CallRequest(
            object=uri.object,
            member=member,
            kind=kind,
            arguments=arguments,
            chain=chain,
            depth=depth,
            deadline=deadline,
            session=self.session.on(connection),
            oneway=oneway,
            lane=self._lane(oneway),
            metadata=metadata,
            correlation_id=_correlation(context),
            on_kept=self.session.kept,
        )

    def _lane(self, oneway: bool) -> int:
        """Calls of one thread need an order only once it has made a call that it does not wait for."""
        thread = threading.get_ident()
        lane = self._lanes.get(thread, 0)
        if not lane and oneway:
            lane = self._lanes[thread] = next(_lanes)
        return lane

    def _wait(self, pending: PendingCall, deadline: float | None, member: str) -> Outcome:
        try:
            outcome = pending.wait(deadline)
        except BaseException:  # Ctrl-C above all: the call ends here and there
            pending.cancel("the caller was interrupted")
            raise
        if outcome is not None:
            return outcome
        pending.cancel("the time of the call is over")
        error = CallTimeout(
            f"{repr(member) if member else 'the description'} of {self.where()} took longer than its time"
            + (f" of {self.options.timeout:g} s" if self.options.timeout is not None else "")
            + ("; the method may still be running" if pending.taken else "; it was not sent")
        )
        error.may_have_run = pending.taken
        raise error

    def _deadline(self) -> float | None:
        """The time at which a call made now is over: its own, or that of the call that it is nested in."""
        context = CallContext.active()
        outer = context.deadline if context is not None else None
        if self.options.timeout is None:
            return outer
        own = time.monotonic() + self.options.timeout
        return own if outer is None else min(own, outer)

    # ---- connecting

    def bind(self) -> bool:
        """Connects, and replaces a name by the URI that it leads to now. True if the proxy was not connected."""
        before = self.session.connection
        self.uri = self.open_session()
        return before is not self.session.connection

    def open_session(self) -> URI:
        """Connects if need be, and has a session there."""
        uri, connection = self._connect(self._deadline())
        self.session.on(connection)
        return uri

    def _connect(self, deadline: float | None) -> tuple[URI, ClientConnection]:
        place = self._place
        if place is not None:
            connection = pool.find(place[1])
            if connection is not None:
                return place[0], connection
        patience = time.monotonic() + self.options.wait
        while True:
            try:
                return self._connect_once(deadline)
            except (CannotConnect, NamingError):
                now = time.monotonic()
                if now >= patience or (deadline is not None and now >= deadline):
                    raise
            time.sleep(_RETRY_PAUSE)

    def _connect_once(self, deadline: float | None) -> tuple[URI, ClientConnection]:
        """Resolves the URI afresh and connects; with several candidates, to the first that can be reached."""
        found = candidates(self.uri, wait=0, patience=min(PATIENCE, self._connect_timeout(deadline)))
        for number, uri in enumerate(found, 1):
            place = Place.of(uri, self.options.credentials)
            try:
                connection = pool.get(place, self._connect_timeout(deadline))
            except CannotConnect:
                if number == len(found):
                    raise
            else:
                self._place = (uri, place)
                return uri, connection
        raise NamingError(f"{self.uri} leads to no object")

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
        _, connection = self._connect(deadline)
        timeout = self._connect_timeout(deadline)
        if not connection.engine.ping(timeout):
            raise CommunicationError(f"{connection.place} did not answer a ping within {timeout:g} s")


def _correlation(context: CallContext | None) -> bytes:
    """All calls that a call makes carry its correlation id."""
    correlation = context.correlation_id if context is not None else None
    return correlation.bytes if correlation is not None else b""


def _error_of(outcome: Outcome) -> Exception:
    if outcome.refused is not None:
        return outcome.refused.to_error(may_have_run=outcome.may_have_run)
    return ProtocolError("an answer arrived that is neither a result nor a refusal")


def _lost(outcome: Outcome) -> CommunicationError:
    if outcome.may_have_run:
        return ConnectionClosedError(f"{outcome.lost}; the call was under way and may have been executed")
    return CommunicationError(f"{outcome.lost}; the call was not executed")
