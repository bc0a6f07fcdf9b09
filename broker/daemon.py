"""Daemon: holds objects and answers calls."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Self

import grpc

from broker.around import Around, AroundFunctions
from broker.calling import ServingEdge
from broker.codecs import CODECS, TypeRegistry
from broker.config import Config
from broker.connection.channels import server_options
from broker.connection.engine import Settings
from broker.connection.forks import forks
from broker.connection.frames import MESSAGE_LIMIT
from broker.connection.local import Entrance, entrances
from broker.connection.opening import CONNECT_METHOD
from broker.connection.server import ConnectionLimits, ConnectService, DaemonThreads
from broker.connection.workers import Workers, start_thread
from broker.context import CallContext
from broker.dispatch import Admit, Dispatcher, Stats, arrivals_at
from broker.errors import DaemonError
from broker.exports import EXPORTED_TYPES
from broker.listening import check_bind, listen, listen_unix, published_address, resolve_host, server_side
from broker.loop import LoopThread
from broker.loop_executor import LoopExecutor
from broker.objects import Members, ObjectTable, Registration, Sessions
from broker.proxy import Proxy
from broker.proxy_base import ProxyBase
from broker.references import served
from broker.registry import leases
from broker.registry.leases import LeaseHolder
from broker.registry.locate import locate_ns
from broker.security import (
    Authorize,
    Credentials,
    Identification,
    audience_of,
    default_credentials,
    default_policy,
)
from broker.services import MAX_REQUEST_SIZE, Services
from broker.signals import SIGNAL_SECONDS, sigterm_as_ctrl_c
from broker.uri import URI

SERVICE = CONNECT_METHOD.split("/")[1]
_UNCOUNTED = 100
"""Connections of gRPC beyond those that may be there: those who are refused with a reason, and other clients."""
_LOOP_SECONDS = 0.1  # between two looks at what ends a loop
_SETTLE_SECONDS = 1.0  # for the last messages of connections that end

_log = logging.getLogger("broker")


class Daemon:
    """A server of objects. It listens from construction; calls wait until `start()` or `request_loop()`.

    `host` and `port` (0: any free one) say where; other machines reach it only with `credentials`, by which it knows
    who calls, or `insecure=True`. `unix_socket` is a path to listen on instead. `advertise` is the host or host:port in
    URIs where it differs. `codecs` are accepted; `require_expose` makes only members marked @expose remote;
    `max_workers` methods run at the same time; `max_message_size` bounds one value, in bytes; `tracebacks=False` keeps
    tracebacks at home. `authorize(client, object_id, member)` decides about every call: it runs on a worker thread.
    `admit(client, greeting)` is asked about each session before its first call, with what the proxy has as `greeting`
    (None without one), on a worker thread and in `current_context`: it answers the greeting, or raises to refuse all
    calls of the session. A caller without sessions (`Invoke`, typed services) is asked about in each call.
    `around` are functions `f(call, next)` that run around every call, the first outermost, where the method runs; see
    `broker.Call`. `proxy_class(uri, credentials=...)` makes the proxies that methods get as arguments.

    Every method may be called from any thread. As a context manager it starts, and shuts down at the end.
    Raises PortInUse (a DaemonError and OSError) and DaemonError.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int = Config.port.unset,
        *,
        unix_socket: str | None = Config.unix_socket.unset,
        advertise: str | None = Config.advertise.unset,
        codecs: Iterable[str] = Config.codecs.unset,
        require_expose: bool = Config.require_expose.unset,
        max_workers: int | None = None,
        max_message_size: int | None = None,
        tracebacks: bool = Config.tracebacks.unset,
        insecure: bool = Config.insecure.unset,
        credentials: Credentials | grpc.ServerCredentials | None = None,
        authorize: Authorize | None = None,
        admit: Admit | None = None,
        around: Iterable[Around] = (),
        proxy_class: type[Proxy] | None = None,
    ) -> None:
        forks.check()
        self._generation = forks.generation
        self._credentials = credentials if credentials is not None else default_credentials()
        self._insecure = Config.insecure.pick(insecure)
        accepted = _checked_codecs(Config.codecs.pick(codecs))
        around_functions = AroundFunctions(around)
        self._settings = Settings(
            codecs=accepted,
            max_message_size=Config.max_message_size.pick(max_message_size),
            max_exports=Config.max_exports_per_connection.pick(None),
        )
        self._types = TypeRegistry(EXPORTED_TYPES)
        self._threads = DaemonThreads("broker-rpc")
        self._state = threading.Condition()
        self._started = False
        self._stopping = False
        self._stopped = False
        self._forgetting = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = LoopThread()
        self._unix_path = Config.unix_socket.pick(unix_socket)
        self._asked_port = Config.port.pick(port)
        self._server = self._listen(Config.host.pick(host), self._asked_port, Config.advertise.pick(advertise))
        self.authorize = authorize if authorize is not None else default_policy()
        """Who may call what: for services that are added to this daemon."""
        self._identification = Identification(
            self._own_credentials, self.location, self._audience, Config.max_wrong_tokens.pick(None)
        )
        self._leases = LeaseHolder(self.location)
        self._sessions = Sessions()
        self._workers = Workers(Config.max_workers.pick(max_workers), "broker-worker")
        self._objects = ObjectTable(
            self.location,
            require_expose=Config.require_expose.pick(require_expose),
            types=self._types,
            published=self._leases.uri_of,
            name_of=self._leases.name_of,
        )
        self._dispatcher = Dispatcher(
            self._objects,
            self._sessions,
            self._workers,
            self._edge(Config.tracebacks.pick(tracebacks), proxy_class),
            codecs=accepted,
            authorize=self.authorize,
            admit=admit,
            knows_callers=self._identification.is_required,
            around=around_functions,
            max_calls=Config.max_calls.pick(None),
            max_calls_per_connection=Config.max_calls_per_connection.pick(None),
            max_call_rate=Config.max_call_rate.pick(Config.max_call_rate.unset),
            max_streams_per_connection=Config.max_streams_per_connection.pick(None),
            loop=lambda: self._loop or self._loop_thread.get(),
        )
        self._connects = ConnectService(
            self._settings,
            arrivals_at(self._dispatcher),
            self._dispatcher.leading,
            self._identification,
            self._connection_limits(),
            self._bound[1] if self._unix_path is None else None,
        )
        self._services = Services(
            self._objects,
            self._dispatcher,
            self._identification,
            names=self._leases.names,
            max_message_size=self._settings.max_message_size,
            max_unary_calls=Config.max_unary_calls.pick(None),
            request_timeout=Config.request_timeout.pick(None),
        )
        self._services.add_object_broker(SERVICE, self._connects.method())
        self._leases.on_change = self._services.objects_changed
        self._server.add_generic_rpc_handlers((self._services,))
        self._connects.start(self._server)
        leases.announce(self.location, self._leases)
        self._entrance = self._open_entrance()

    # ---- where it is

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) as published in URIs; ("./u:<path>", 0) on a Unix socket."""
        return self._address

    @property
    def location(self) -> str:
        """The address as it stands in URIs."""
        return URI(f"BROKER:x@{self._place}").location or ""

    @property
    def bound_addresses(self) -> frozenset[str]:
        """The numeric addresses that it listens on; none on a Unix socket."""
        return self._bound[0] if self._unix_path is None else frozenset()

    @property
    def has_fixed_port(self) -> bool:
        """Whether it was told where to listen, so that it may have been there before."""
        return self._asked_port != 0 or self._unix_path is not None

    def _listen(self, host: str, port: int, advertise: str | None) -> grpc.Server:
        if self._unix_path is not None:
            self._unix_path = str(Path(self._unix_path).absolute())
            self._place = f"./u:{self._unix_path}"
            self._address = (self._place, 0)
            return listen_unix(self._make_server, self._unix_path, server_side(self._credentials))
        check_bind(host, resolve_host(host, port), self._credentials, insecure=self._insecure)
        server, addresses, bound = listen(self._make_server, host, port, server_side(self._credentials))
        self._bound = (frozenset(addresses), bound)
        self._address = published_address(host, bound, advertise)
        self._place = URI.direct("x", *self._address).location or ""
        return server

    @property
    def _own_credentials(self) -> Credentials | None:
        """What this daemon shows where it calls others, the name server say: what it shows those who call it."""
        return self._credentials if isinstance(self._credentials, Credentials) else None

    @property
    def _audience(self) -> str:
        return audience_of(0 if self._unix_path is not None else self._bound[1], self._unix_path)

    def _open_entrance(self) -> Entrance | None:
        """Lets clients of this process in past the socket; not past TLS, where the socket tells who calls."""
        if self._credentials is not None:
            return None
        if self._unix_path is not None:
            entrance = Entrance(self._connects.accept, socket_path=self._unix_path)
        else:
            entrance = Entrance(self._connects.accept, self._address, *self._bound)
        entrances.add(entrance)
        return entrance

    def _make_server(self) -> grpc.Server:
        size = max(MAX_REQUEST_SIZE, MESSAGE_LIMIT) + (1 << 20)
        most = Config.max_connections.pick(None)
        options = server_options(
            size,
            handshake_timeout=Config.handshake_timeout.pick(None),
            idle_timeout=Config.idle_timeout.pick(Config.idle_timeout.unset),
            max_connections=most + max(_UNCOUNTED, most // 8),
        )
        return grpc.server(self._threads, options=options)  # type: ignore[arg-type]  # any executor will do

    def _edge(self, tracebacks: bool, proxy_class: type[Proxy] | None) -> ServingEdge:
        edge = ServingEdge(self._types, tracebacks, self._own_credentials, proxy_class)
        edge.max_nesting = Config.max_nesting.pick(None)
        edge.max_buffers = Config.max_buffers.pick(None)
        edge.max_decoded_size = Config.max_decoded_size.pick(None)
        return edge

    def _connection_limits(self) -> ConnectionLimits:
        return ConnectionLimits(
            place=self.location,
            max_connections=Config.max_connections.pick(None),
            max_connections_per_identity=Config.max_connections_per_identity.pick(None),
            handshake_timeout=Config.handshake_timeout.pick(None),
            idle_timeout=Config.idle_timeout.pick(Config.idle_timeout.unset),
            in_use=self._sessions.of_connections.__contains__,
            on_limit=self._dispatcher.limit_met,
        )

    @property
    def identification(self) -> Identification:
        """How this daemon knows who calls: for services that are added to it."""
        return self._identification

    def _serve_also(self, handler: grpc.GenericRpcHandler, service_name: str) -> None:
        """Adds a gRPC service to the server, and to what reflection and health show."""
        self._services.add_handler(service_name, handler)

    def _serve_no_more(self, handler: grpc.GenericRpcHandler, service_name: str) -> None:
        """The opposite."""
        self._services.remove_handler(service_name, handler)

    # ---- objects

    def register(
        self,
        obj_or_class: object,
        object_id: str | None = None,
        *,
        replace: bool = False,
        max_concurrency: int | None = None,
        executor: Executor | None = None,
        members: Members | None = None,
        weak: bool = False,
    ) -> URI:
        """Makes an object, or the instances of a class, callable from elsewhere; returns its URI.

        Without an id it gets a generated one. `max_concurrency=1` runs its calls one after another in order of arrival;
        `executor` says on which threads they run. `members` names what is remote, in place of the marks in the class:
        a collection of names, or {remote name: name in the class}; so one object can be registered several times, each
        time with what others are to see of it. With `weak` the daemon does not keep the object alive, and forgets it
        once nobody does. Raises DaemonError if the id is taken (unless `replace`), if the object is registered already,
        if nothing of it is remote, or after `shutdown()`; TypeError for what cannot be registered (weakly).
        """
        self._check_registrable(obj_or_class)
        registration, replaced = self._objects.add(
            obj_or_class, object_id, replace=replace, max_concurrency=max_concurrency, executor=executor,
            members=members, weak=weak,
        )  # fmt: skip
        uri = self._uri(registration.object_id)
        if replaced is not None:
            served.remove(replaced.target_id, uri)
        served.add(obj_or_class, uri, weak=weak)
        if weak:
            self._forget_what_goes()
        self._services.objects_changed()
        return uri

    def _check_registrable(self, target: object) -> None:
        if isinstance(target, ProxyBase):
            raise TypeError(
                f"{target!r} stands for an object that is served elsewhere: pass it on as it is, or give it another "
                "name with NameServer.register(name, proxy._broker.uri)"
            )
        self._check_serves()

    def unregister(self, obj_or_id: object) -> None:
        """Forgets an object: calls under way go on, later ones raise ObjectNotFound. Its names are withdrawn."""
        self._withdraw(self._objects.remove(obj_or_id))

    def _withdraw(self, registration: Registration) -> None:
        uri = self._uri(registration.object_id)
        served.remove(registration.target_id, uri)
        self._leases.withdraw(uri)
        self._services.objects_changed()

    def _forget_what_goes(self) -> None:
        """Has a thread withdraw the objects that were registered weakly, as they go: what tells of it may not wait."""
        with self._state:
            if self._forgetting:
                return
            self._forgetting = True

        def forget() -> None:
            while (gone := self._objects.gone.get()) is not None:
                if self._objects.remove_gone(gone):
                    self._withdraw(gone)

        start_thread(forget, "broker-forgetting")

    def uri_for(self, obj_or_id: object) -> URI:
        """The URI of a registered object. Raises ObjectNotFound."""
        return self._uri(self._objects.get(obj_or_id).object_id)

    def proxy_for(self, obj_or_id: object) -> Proxy:
        """A proxy for a registered object. Raises ObjectNotFound."""
        return Proxy(self.uri_for(obj_or_id), credentials=self._own_credentials)

    @property
    def objects(self) -> dict[str, object]:
        """The registered objects and classes by id."""
        return {object_id: registration.target for object_id, registration in self._objects.registrations.items()}

    def stats(self) -> Stats:
        """What this daemon has done since it was made, and what it is doing now."""
        connections = self._connects.connections
        exports = sum(connection.exports.given + connection.exports.held for connection in connections)
        return self._dispatcher.stats(connections=len(connections), sessions=len(self._sessions), exports=exports)

    def _limit_met(self, setting: str) -> None:
        """Counts that a service which was added to the daemon refused something because of a setting."""
        self._dispatcher.limit_met(setting)

    def publish(self, obj: object, name: str, *, tags: Iterable[str] = ()) -> URI:
        """Registers the object if need be, and enters it in the name server for as long as this daemon lives.

        Raises NamingError if no name server is found.
        """
        uri = self._uri_of(obj) or self.register(obj)
        with locate_ns(credentials=self._own_credentials) as names:
            names.register(name, uri, tags=tags)
        return uri

    def _uri_of(self, target: object) -> URI | None:
        """The URI of an object or class; None if it is not registered here."""
        registration = self._objects.of_target(target)
        return self._uri(registration.object_id) if registration is not None else None

    def _uri(self, object_id: str) -> URI:
        return URI(f"BROKER:{object_id}@{self._place}")

    # ---- life

    @property
    def is_of_parent(self) -> bool:
        """Whether this is a child process, and the daemon that of its parent."""
        return self._generation != forks.generation

    def _check_serves(self) -> None:
        if self.is_of_parent:
            raise DaemonError(f"the daemon at {self.location} is that of the process that this one was forked from")
        if self._stopping:
            raise DaemonError(f"the daemon at {self.location} has been shut down: make a new one")

    def start(self) -> None:
        """Lets calls through, in the background."""
        self._check_serves()
        with self._state:
            if self._started:
                return
            self._started = True
        self._dispatcher.start()
        self._services.serving(True)

    def request_loop(self, until: Callable[[], object] | None = None, *, executor: LoopExecutor | None = None) -> None:
        """Serves until `shutdown()`, Ctrl-C or SIGTERM; then shuts down and returns.

        `until` is asked ten times a second: once it returns something true this returns too, and the daemon goes on in
        the background. `executor` is one of objects of this daemon: their methods run on this thread meanwhile. In the
        main thread SIGTERM is handled for as long as this runs, and put back.
        """
        self._serve_until_told(lambda: None, until, executor)

    def _serve_until_told(
        self,
        announce: Callable[[], None],
        until: Callable[[], object] | None = None,
        executor: LoopExecutor | None = None,
    ) -> None:
        """`request_loop`, which announces that it serves once a signal would end it cleanly."""
        try:
            with sigterm_as_ctrl_c():
                self.start()  # whose call is answered may send a signal, which finds its handler
                announce()
                while not self._stopping:  # between two waits a signal is looked at
                    if until is not None and until():
                        return
                    if executor is not None:
                        executor.run(_LOOP_SECONDS)
                    else:
                        with self._state:
                            self._state.wait_for(lambda: self._stopping, _LOOP_SECONDS if until else SIGNAL_SECONDS)
        except KeyboardInterrupt:
            _log.info("the daemon at %s was told to end", self.location)
        if executor is not None:  # what was accepted still runs, on this thread
            start_thread(self.shutdown, "broker-shutdown")
            while not self._stopped:
                executor.run(_LOOP_SECONDS)
        self.shutdown()
        with self._state:
            self._state.wait_for(lambda: self._stopped)

    def shutdown(self, grace: float = 5.0) -> None:
        """Ends the daemon: names are withdrawn, no further call is taken, calls under way get `grace` seconds.

        Called from inside one of its methods it does not wait for that method. Idempotent. In a child process that was
        forked it does nothing: the daemon is that of the parent.
        """
        if self.is_of_parent:
            return
        with self._state:
            first, self._stopping = not self._stopping, True
            self._state.notify_all()
        if not first:
            if CallContext.active() is None:
                with self._state:
                    self._state.wait_for(lambda: self._stopped)
            return
        if CallContext.active() is None:
            self._shut_down(grace)
        else:
            start_thread(lambda: self._shut_down(grace), "broker-shutdown")

    def _shut_down(self, grace: float) -> None:
        try:
            reason = f"the daemon at {self.location} is shutting down"
            leases.forget(self.location)
            if self._entrance is not None:
                entrances.remove(self._entrance)
            self._services.serving(False)
            self._leases.withdraw_all()
            self._connects.go_away(reason)
            self._dispatcher.drain(time.monotonic() + grace)
            self._connects.close(reason)
            self._services.close()
            ended = [self._server.stop(_SETTLE_SECONDS), self._connects.stop_near(_SETTLE_SECONDS)]
            in_time = [server_ended.wait(_SETTLE_SECONDS) for server_ended in ended]
            if all(in_time):
                self._connects.stopped()
            self._threads.shutdown()
            self._workers.close()
            self._loop_thread.stop()
            self._objects.gone.put(None)
            for object_id, registration in self._objects.registrations.items():
                served.remove(registration.target_id, self._uri(object_id))
            if self._unix_path is not None:
                Path(self._unix_path).unlink(missing_ok=True)
        finally:
            with self._state:
                self._stopped = True
                self._state.notify_all()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.to_thread(self.shutdown)

    def __repr__(self) -> str:
        state = "shut down" if self._stopping else "serving" if self._started else "not started"
        count = len(self._objects.registrations)
        return f"<Daemon at {self.location}; {count} object{'s' * (count != 1)}; {state}>"


def _checked_codecs(codecs: Iterable[str]) -> tuple[str, ...]:
    accepted = tuple(codecs)
    unknown = [name for name in accepted if name not in CODECS]
    if unknown or not accepted:
        raise DaemonError(f"codecs={accepted!r}: name one or more of {', '.join(CODECS)}")
    return accepted


leases.object_resolvers.append(served.uri_of)
