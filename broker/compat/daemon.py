"""`Daemon` as Pyro has it, over a daemon of the broker."""

from __future__ import annotations

import contextlib
import inspect
import ipaddress
import logging
import queue
import socket
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, Self

import broker
from broker.compat import context, exposure, tls
from broker.compat.configuration import config
from broker.compat.context import SocketConnection
from broker.compat.errors import DaemonError, NotGreeted, ProtocolError, PyroError
from broker.compat.proxy import DAEMON_NAME, DOOR, NAMESERVER_NAME, Proxy
from broker.compat.serializers import accepted_codecs
from broker.compat.uri import URI

_log = logging.getLogger("broker")


class EventLoop(Executor):
    """Runs calls on the thread that loops: that is the multiplex server, with one call at a time."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.sock, self._waker = socket.socketpair()
        self.sock.setblocking(False)

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def job() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)

        self._jobs.put(job)
        self._waker.send(b"!")
        return future

    def run(self, timeout: float | None) -> None:
        """Runs the calls that wait; waits for the first as long as that."""
        try:
            while True:
                self._jobs.get(timeout=timeout)()
                timeout = 0
                self.sock.recv(1)
        except (queue.Empty, BlockingIOError):
            pass


class DaemonObject:
    """What a daemon says about itself, under the id Pyro.Daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    @exposure.expose
    def registered(self) -> list[str]:
        """The ids of all objects."""
        return list(self.daemon.objectsById)

    @exposure.expose
    def ping(self) -> None:
        """Answers."""

    @exposure.expose
    def info(self) -> str:
        """The daemon in words."""
        return f"Pyro on broker {broker.__version__}: {self.daemon!r}, {config.SERVERTYPE} server"

    @exposure.expose
    def get_metadata(self, objectId: str, as_lists: bool = False) -> dict[str, Any]:
        """What of an object is remote."""
        target = self.daemon._target(objectId)
        members = exposure.get_exposed_members(target, config.REQUIRE_EXPOSE)
        return {kind: list(names) for kind, names in members.items()} if as_lists else dict(members)

    @exposure.expose
    def get_next_stream_item(self, streamId: str) -> None:
        raise PyroError("item stream terminated")

    @exposure.expose
    def close_stream(self, streamId: str) -> None:
        """Streams are closed by their iterators."""


class _Door:
    """Where proxies are greeted: each gets a connection, which ends with its session."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def greet(self, handshake: Any, object_id: str, annotations: Any) -> dict[str, Any]:
        daemon, connection = self._daemon, SocketConnection(context.peer(), object_id)
        state = context.begin_call(connection)
        state.annotations = annotations
        answer = daemon.validateHandshake(connection, handshake)
        meta = daemon.objectsById[DAEMON_NAME].get_metadata(object_id)
        token = uuid.uuid4().hex
        daemon._connections[token] = connection
        broker.current_context.on_close(lambda: daemon._ended(token))
        broker.current_context.response_metadata.update(context.to_metadata(daemon.annotations()))
        return {"handshake": answer, "meta": meta, "token": token}


def _default_methodcall_error_handler(
    daemon: Daemon, client_sock_addr: Any, method: Any, vargs: Any, kwargs: Any, exception: BaseException
) -> None:
    _log.debug("exception in a call of %r from %s: %r", method, client_sock_addr, exception)


class Daemon:
    """Serves objects while it loops. Raises PyroError, and OSError for a port in use."""

    def __init__(
        self, host: Any = None, port: int = 0, unixsocket: str | None = None, nathost: str | None = None,
        natport: int | None = None, interface: Any = DaemonObject, connected_socket: object = None,
    ) -> None:  # fmt: skip
        if connected_socket is not None:
            raise NotImplementedError(
                "connected_socket: the broker listens by itself; use unixsocket=PATH, for example"
            )
        if config.SERVERTYPE not in ("thread", "multiplex"):
            raise PyroError(f"invalid server type '{config.SERVERTYPE}'")
        host = (config.HOST if host is None else str(host)) or "0.0.0.0"
        nathost = nathost or (None if unixsocket else config.NATHOST)
        natport = natport if natport is not None else (config.NATPORT or None) if nathost == config.NATHOST else 0
        if nathost and unixsocket:
            raise ValueError("cannot use nathost together with unixsocket")
        if natport and not nathost:
            raise ValueError("must provide natport with nathost")
        self._loop = EventLoop() if config.SERVERTYPE == "multiplex" else None
        self._condition = threading.Condition()
        self._must_shutdown = False
        self._connections: dict[str, SocketConnection] = {}
        self.objectsById: dict[str, Any] = {}
        self.methodcall_error_handler: Any = _default_methodcall_error_handler
        self._daemon = self._open(host, port, unixsocket)
        self.locationStr = f"./u:{unixsocket}" if unixsocket else self._daemon.location
        self.natLocationStr = f"{nathost}:{natport or self._daemon.address[1]}" if nathost else None
        self.sock = self._loop.sock if self._loop else socket.socketpair()[0]
        self._put(interface(self), DAEMON_NAME)
        self._daemon.register(_Door(self), DOOR)

    def _open(self, host: str, port: int, unixsocket: str | None) -> broker.Daemon:
        limit = config.MAX_MESSAGE_SIZE or None
        return broker.Daemon(
            host, port, unix_socket=unixsocket, codecs=accepted_codecs(), max_workers=max(1, config.THREADPOOL_SIZE),
            max_message_size=limit, insecure=consents(host), credentials=tls.server(), proxy_class=Proxy,
        )  # fmt: skip

    # ---- objects

    def register(self, obj_or_class: Any, objectId: str | None = None, force: bool = False, weak: bool = False) -> URI:
        """Makes an object, or the instances of a class, callable. `weak` lets go of it when nobody else holds it."""
        if objectId and not isinstance(objectId, str):
            raise TypeError("objectId must be a string or None")
        object_id = objectId or f"obj_{uuid.uuid4().hex}"
        if inspect.isclass(obj_or_class):
            if weak:
                raise TypeError("Classes cannot be registered with weak=True.")
            if not hasattr(obj_or_class, "_pyroInstancing"):
                setattr(obj_or_class, "_pyroInstancing", ("session", None))  # noqa: B010
        if not force:
            known = getattr(obj_or_class, "_pyroId", "")
            if known and self._held(known) is obj_or_class:
                raise DaemonError("object or class already has a Pyro id")
            if object_id in self.objectsById:
                raise DaemonError("an object or class is already registered with that id")
        obj_or_class._pyroId = object_id
        obj_or_class._pyroDaemon = weakref.proxy(self)
        self._put(obj_or_class, object_id, weak)
        return self.uriFor(object_id)

    def _put(self, target: Any, object_id: str, weak: bool = False) -> None:
        self.objectsById[object_id] = weakref.ref(target) if weak else target
        if weak:
            weakref.finalize(target, self.objectsById.pop, object_id, None).atexit = False
        served = exposure.stand_in(target, self._run, config.REQUIRE_EXPOSE)
        if inspect.isclass(target):
            _make_instances(target, served)
        else:
            served = served(lambda: self._target(object_id))
        self._daemon.register(served, object_id, replace=True, executor=self._loop)

    def _held(self, object_id: str) -> Any:
        held = self.objectsById.get(object_id)
        return held() if isinstance(held, weakref.ref) else held

    def _target(self, object_id: str) -> Any:
        target = self._held(object_id)
        if target is None:
            raise DaemonError("unknown object")
        return target

    def serves(self, target: Any) -> bool:
        """Whether an object is registered here, or an instance of a class that is."""
        held = self._held(getattr(target, "_pyroId", ""))
        return held is target or (inspect.isclass(held) and isinstance(target, held))

    def unregister(self, objectOrId: Any) -> None:
        """Forgets an object."""
        if objectOrId is None:
            raise ValueError("object or objectid argument expected")
        object_id = objectOrId if isinstance(objectOrId, str) else getattr(objectOrId, "_pyroId", None)
        if object_id is None:
            raise DaemonError("object isn't registered")
        if object_id in (DAEMON_NAME, NAMESERVER_NAME) or object_id not in self.objectsById:
            return
        del self.objectsById[object_id]
        self._daemon.unregister(object_id)
        if not isinstance(objectOrId, str):
            del objectOrId._pyroId, objectOrId._pyroDaemon

    def uriFor(self, objectOrId: Any, nat: bool = True) -> URI:
        """The URI of an object, or of an id whether it is registered or not."""
        object_id = objectOrId if isinstance(objectOrId, str) else getattr(objectOrId, "_pyroId", None)
        if object_id is None or (object_id is not objectOrId and object_id not in self.objectsById):
            raise DaemonError("object isn't registered in this daemon")
        return URI(f"PYRO:{object_id}@{(nat and self.natLocationStr) or self.locationStr}")

    def proxyFor(self, objectOrId: Any, nat: bool = True) -> Proxy:
        """A proxy for a registered object, which knows what the object has."""
        uri = self.uriFor(objectOrId, nat)
        if uri.object not in self.objectsById:
            raise DaemonError("object isn't registered in this daemon")
        proxy = Proxy(uri)
        proxy._pyroGetMetadata(known_metadata=self.objectsById[DAEMON_NAME].get_metadata(uri.object))
        return proxy

    def resetMetadataCache(self, objectOrId: Any, nat: bool = True) -> None:
        """Looks at a class again, whose members have changed."""
        object_id = self.uriFor(objectOrId).object
        if object_id in self.objectsById:
            self._put(self._target(object_id), object_id, isinstance(self.objectsById[object_id], weakref.ref))

    # ---- calls

    def _run(self, name: str, function: Any, args: Any, kwargs: Any) -> object:
        token = broker.current_context.metadata.get(context.CONNECTION)
        connection = self._connections.get(str(token))
        if connection is None:
            if type(self).validateHandshake is not Daemon.validateHandshake:
                raise NotGreeted("connection rejected: there was no handshake with this daemon")
            connection = SocketConnection(context.peer(), broker.current_context.object_id)
        state = context.begin_call(connection)
        if state.msg_flags and self._loop is not None:  # it is not to hold up the loop
            copied = broker.current_context.copy()
            threading.Thread(target=copied.run, args=(self._call, state, function, args, kwargs), daemon=True).start()
            return None
        try:
            result = self._call(state, function, args, kwargs)
        finally:
            annotations = {**self.annotations(), **state.response_annotations}
            if annotations:
                broker.current_context.response_metadata.update(context.to_metadata(annotations))
        if isinstance(result, Iterator) and not config.ITER_STREAMING:
            raise ProtocolError("result of call is an iterator, but the server is not configured to allow streaming")
        return result

    def _call(self, state: Any, function: Any, args: Any, kwargs: Any) -> object:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            self.methodcall_error_handler(self, state.client_sock_addr, function, args, kwargs, error)
            if getattr(function, "_pyroCallback", False):
                _log.warning("exception in the callback %r", function, exc_info=True)
            raise

    def _ended(self, token: str) -> None:
        connection = self._connections.pop(token, None)
        if connection is None:
            return
        for resource in list(connection.tracked_resources):
            with contextlib.suppress(Exception):
                resource.close()
        self.clientDisconnect(connection)

    def validateHandshake(self, conn: SocketConnection, data: Any) -> Any:
        """To be overridden: gives what to answer, or raises to refuse the connection and every call over it."""
        return "hello"

    def clientDisconnect(self, conn: SocketConnection) -> None:
        """To be overridden: a client has gone."""

    def annotations(self) -> dict[str, Any]:
        """To be overridden: annotations that go with every answer."""
        return {}

    def housekeeping(self) -> None:
        """To be overridden: is called every few seconds."""

    # ---- life

    @property
    def sockets(self) -> list[socket.socket]:
        """What a program's own loop selects on; then it calls `events`."""
        return [self.sock]

    @property
    def selector(self) -> None:
        """The broker has none: select on `sockets`. Raises TypeError on the thread server."""
        if self._loop is None:
            raise TypeError("threadpool server doesn't have multiplexing selector")

    def events(self, eventsockets: Any) -> None:
        """Runs the calls that wait, on this thread: for loops of programs, with the multiplex server."""
        self._daemon.start()
        if self._loop is not None:
            self._loop.run(0)

    def combine(self, daemon: Any) -> None:
        """Lets this one's loop run the calls of another daemon too."""
        if self._loop is None:
            raise TypeError("You can't use the loop combiner on the threadpool server type")
        if isinstance(daemon, Daemon):
            daemon._join(self._loop)

    def _join(self, loop: EventLoop) -> None:
        self._loop, self.sock = loop, loop.sock
        for object_id in self.objectsById:
            self._put(self._target(object_id), object_id, isinstance(self.objectsById[object_id], weakref.ref))
        self._daemon.start()

    def requestLoop(self, loopCondition: Callable[[], object] = lambda: True) -> None:
        """Serves until `shutdown()`, Ctrl-C, or until the condition is false."""
        self._daemon.start()
        poll = min(config.POLLTIMEOUT or 2.0, config.COMMTIMEOUT or 2.0, 0.25)
        try:
            while not self._must_shutdown and loopCondition():
                if self._loop is not None:
                    self._loop.run(poll)
                else:
                    with self._condition:
                        self._condition.wait_for(lambda: self._must_shutdown, poll)
                self.housekeeping()
        except KeyboardInterrupt:
            _log.info("the daemon at %s was told to end", self.locationStr)

    def shutdown(self) -> None:
        """Ends the loop, and the daemon; from any thread, also from a method."""
        with self._condition:
            self._must_shutdown = True
            self._condition.notify_all()
        self._daemon.shutdown(grace=1.0)

    close = shutdown

    def __enter__(self) -> Self:
        if self._must_shutdown:
            raise PyroError("cannot reuse this object")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _unusable, (type(self),)

    def __repr__(self) -> str:
        family = "Unix" if self.locationStr.startswith("./u:") else "IPv6" if "[" in self.locationStr else "IPv4"
        where = f"{self.locationStr} - {family}; {len(self.objectsById)} objects"
        return f"<{type(self).__module__}.{type(self).__name__} at 0x{id(self):x}; {where}>"

    @staticmethod
    def serveSimple(
        objects: Any, host: Any = None, port: int = 0, daemon: Any = None, ns: bool = True, verbose: bool = True
    ) -> None:
        """`serve` as Pyro4 calls it."""
        serve(objects, host, port, daemon, ns, verbose)


def _unusable(cls: type[Daemon]) -> Daemon:
    return object.__new__(cls)


def _make_instances(cls: Any, served: Any) -> None:
    """Has the stand-in make an instance of a class in the mode of that: a stand-in for one of it."""
    mode, creator = cls._pyroInstancing

    def create(served: Any) -> Any:
        made = creator(cls) if creator else cls()
        if not isinstance(made, cls):
            raise TypeError("instance creator returned object of different type")
        return served(lambda: made)

    broker.behavior(instance_mode=mode, instance_creator=create)(served)


def consents(host: str) -> bool:
    """Whether a host has to be served without TLS because the program names it; says so, once for each daemon."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host or "0.0.0.0", 0)}
    except OSError:
        return False  # the broker says what is wrong with it
    if all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in addresses):
        return False
    if not config.SSL:
        _log.warning("%s can be reached from other machines, without encryption: config.SSL turns it on", host or "*")
    return True


def serve(
    objects: Any, host: Any = None, port: int = 0, daemon: Any = None, use_ns: bool = True, verbose: bool = True
) -> None:
    """Registers objects, {object: name or None}, and serves them until Ctrl-C."""
    from broker.compat.naming import locate_ns

    daemon = daemon or Daemon(host, port)
    with daemon:
        names = locate_ns() if use_ns else None
        for target, name in objects.items():
            uri = daemon.register(target, None if use_ns else name)
            if verbose:
                print(f"Object {target!r}:\n    uri = {uri}")
            if name and names is not None:
                names.register(name, uri)
                if verbose:
                    print(f"    name = {name}")
        if verbose:
            print("Pyro daemon running.", flush=True)
        daemon.requestLoop()
