"""`Daemon` as Pyro has it, over a daemon of the broker. What its manual explains is not explained here."""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Self

import broker
from broker.compat import context, exposure
from broker.compat.configuration import config, credentials
from broker.compat.errors import DaemonError, ProtocolError, PyroError, refuse, translated, unsupported
from broker.compat.proxy import DAEMON_NAME, NAMESERVER_NAME, Metadata, Proxy
from broker.compat.serializers import accepted_codecs, register_class_to_dict, register_dict_to_class
from broker.compat.uri import URI

_log = logging.getLogger("broker")
_CONNECTION = "Pyro"  # in sessions of the broker


@exposure.expose
class DaemonObject:
    """What a daemon says about itself, under the id Pyro.Daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    def registered(self) -> list[str]:
        return list(self.daemon.objectsById)

    def ping(self) -> None:
        """Answers nothing, and so that it is there."""

    def info(self) -> str:
        return f"Pyro on broker {broker.__version__}: {self.daemon!r}, {config.SERVERTYPE} server"

    def get_metadata(self, objectId: str, as_lists: bool = False) -> dict[str, Any]:
        members = self.daemon._members(objectId)
        return {kind: list(names) if as_lists else names for kind, names in members.items()}

    def get_next_stream_item(self, streamId: str) -> None:
        raise PyroError("item stream terminated")

    def close_stream(self, streamId: str) -> None:
        """Does nothing: streams are closed by their iterators."""


def _log_error(daemon: Daemon, client_sock_addr: Any, method: Any, vargs: Any, kwargs: Any, exception: Any) -> None:
    _log.debug("exception in a call of %r from %s: %r", method, client_sock_addr, exception)


def serve(
    objects: Any, host: Any = None, port: int = 0, daemon: Any = None, use_ns: bool = True, verbose: bool = True,
    ns: bool = True,
) -> None:  # fmt: skip
    """Registers objects, {object: name or None}, and serves them until Ctrl-C."""
    from broker.compat.naming import locate_ns

    say: Any = print if verbose else lambda *words, **options: None
    with daemon or Daemon(host, port) as daemon:
        names = locate_ns() if use_ns and ns else None
        for target, name in objects.items():
            uri = daemon.register(target, None if names else name)
            say(f"Object {target!r}:\n    uri = {uri}")
            if name and names:
                names.register(name, uri)
                say(f"    name = {name}")
        with contextlib.suppress(KeyboardInterrupt):  # before the loop, which ends cleanly by itself
            say("Pyro daemon running.", flush=True)
            daemon.requestLoop()


class Daemon:
    """Serves objects while it loops. Raises PyroError, and OSError for a port in use."""

    serveSimple = staticmethod(serve)

    def __init__(
        self, host: Any = None, port: int = 0, unixsocket: str | None = None, nathost: str | None = None,
        natport: int | None = None, interface: Any = DaemonObject, connected_socket: object = None,
    ) -> None:  # fmt: skip
        unsupported(connected_socket, "connected_socket: the broker listens by itself, on a port or at unixsocket=PATH")
        if config.SERVERTYPE not in ("thread", "multiplex"):
            raise PyroError(f"invalid server type '{config.SERVERTYPE}'")
        refuse(nathost and unixsocket, ValueError, "cannot use nathost together with unixsocket")
        refuse(natport and not nathost, ValueError, "must provide natport with nathost")
        if nathost is None and not unixsocket:
            nathost, natport = config.NATHOST, natport or config.NATPORT
        self._waiting = broker.LoopExecutor()
        self._loop = self._waiting if config.SERVERTYPE == "multiplex" else None
        self._must_shutdown = False
        self._put_there: dict[str, tuple[Metadata, bool]] = {}  # what is exposed, and whether the object is kept weakly
        self.methodcall_error_handler: Any = _log_error
        try:
            self._daemon = broker.Daemon(
                (config.HOST if host is None else str(host)) or "0.0.0.0", port, unix_socket=unixsocket,
                codecs=accepted_codecs(), max_workers=max(1, config.THREADPOOL_SIZE),
                max_message_size=config.MAX_MESSAGE_SIZE or None, credentials=credentials("SERVER"), admit=self._admit,
                around=[self._around], proxy_class=Proxy, insecure=True,  # a program that names a host consents
            )  # fmt: skip
        except broker.errors.BrokerError as error:
            raise (error if isinstance(error, OSError) else translated(error)) from None  # OSError: the port is in use
        self.transportServer: Any = self._daemon
        place, number = self._daemon.address
        self.locationStr = f"./u:{unixsocket}" if unixsocket else self._daemon.location
        self.natLocationStr = f"{nathost}:{natport or number}" if nathost else None
        self.sock = context.Socket(unixsocket or (place, number), self._waiting.fileno)
        self._put(interface(self), DAEMON_NAME)

    # ---- objects

    @property
    def objectsById(self) -> dict[str, Any]:
        return {key: target for key, target in self._daemon.objects.items() if key != "Broker.NameServer"}

    def register(self, obj_or_class: Any, objectId: str | None = None, force: bool = False, weak: bool = False) -> URI:
        refuse(objectId and not isinstance(objectId, str), TypeError, "objectId must be a string or None")
        refuse(isinstance(obj_or_class, type) and weak, TypeError, "Classes cannot be registered with weak=True.")
        known, there = getattr(obj_or_class, "_pyroId", ""), self.objectsById
        is_there = known and there.get(known) is obj_or_class
        refuse(is_there and not force, DaemonError, "object or class already has a Pyro id")
        refuse(objectId in there and not force, DaemonError, "an object or class is already registered with that id")
        obj_or_class._pyroId = objectId = objectId or f"obj_{uuid.uuid4().hex}"
        obj_or_class._pyroDaemon = weakref.proxy(self)
        self._put(obj_or_class, objectId, weak)
        return self.uriFor(objectId)

    def _put(self, target: Any, object_id: str, weak: bool = False) -> None:
        if isinstance(target, type):
            exposure.behavior(*getattr(target, "_pyroInstancing", ()))(target)
        members = exposure.get_exposed_members(target, config.REQUIRE_EXPOSE)
        self._put_there[object_id] = members, weak
        names = {exposure.wire_name(name): name for name in members["methods"] | members["attrs"]}
        self._daemon.register(target, object_id, replace=True, executor=self._loop, members=names, weak=weak)

    def _members(self, object_id: str) -> Metadata:
        refuse(object_id not in self.objectsById, DaemonError, "unknown object")
        return self._put_there[object_id][0]

    def _serves(self, target: Any) -> bool:
        """Whether an object is registered here, or an instance of a class that is."""
        held = self.objectsById.get(getattr(target, "_pyroId", ""))
        return held is target or (isinstance(held, type) and isinstance(target, held))

    def unregister(self, objectOrId: Any) -> None:
        refuse(objectOrId is None, ValueError, "object or objectid argument expected")
        object_id = objectOrId if isinstance(objectOrId, str) else getattr(objectOrId, "_pyroId", None)
        refuse(object_id is None, DaemonError, "object isn't registered")
        if object_id in (DAEMON_NAME, NAMESERVER_NAME) or object_id not in self.objectsById:
            return
        self._daemon.unregister(object_id)
        if not isinstance(objectOrId, str):
            del objectOrId._pyroId, objectOrId._pyroDaemon

    def uriFor(self, objectOrId: Any, nat: bool = True) -> URI:
        object_id = objectOrId if isinstance(objectOrId, str) else getattr(objectOrId, "_pyroId", None)
        if object_id is None or (object_id is not objectOrId and object_id not in self.objectsById):
            raise DaemonError("object isn't registered in this daemon")
        return URI(f"PYRO:{object_id}@{(nat and self.natLocationStr) or self.locationStr}")

    def proxyFor(self, objectOrId: Any, nat: bool = True) -> Proxy:
        proxy = Proxy(self.uriFor(objectOrId, nat))
        proxy._pyroGetMetadata(known_metadata=self._members(proxy._pyroUri.object))
        return proxy

    def resetMetadataCache(self, objectOrId: Any, nat: bool = True) -> None:
        object_id = self.uriFor(objectOrId).object
        if object_id in self.objectsById:
            self._put(self.objectsById[object_id], object_id, self._put_there[object_id][1])

    # ---- calls

    def _around(self, call: broker.Call, go_on: Callable[[broker.Call], object]) -> object:
        """What Pyro does around every call."""
        try:
            connection = broker.current_context.session[_CONNECTION]
        except (broker.errors.BrokerError, KeyError):  # the caller has no session, or is no Pyro program
            connection = context.SocketConnection(objectId=call.object)
        state = context.begin_call(connection)
        if state.msg_flags and self._loop is not None:  # it is not to hold up the loop
            copied = broker.current_context.copy()
            threading.Thread(target=copied.run, args=(self._call, state, call, go_on), daemon=True).start()
            return None
        try:
            result = self._call(state, call, go_on)
        finally:
            annotations = {**self.annotations(), **state.response_annotations}
            broker.current_context.response_metadata.update(context.to_metadata(annotations))
        if isinstance(result, Iterator) and not config.ITER_STREAMING:
            raise ProtocolError("result of call is an iterator, but the server is not configured to allow streaming")
        return result

    def _call(self, state: Any, call: broker.Call, go_on: Callable[[broker.Call], object]) -> object:
        try:
            return go_on(call)
        except Exception as error:
            target, name = self.objectsById.get(call.object), exposure.own_name(call.member)
            method = getattr(target if call.kind == "method" else type(target), name, None)
            self.methodcall_error_handler(self, state.client_sock_addr, method, call.args, call.kwargs, error)
            if getattr(method, "_pyroCallback", False):
                _log.warning("exception in the callback %r", method, exc_info=True)
            raise

    def _admit(self, client: object, greeting: Any) -> Any:
        """Answers the handshake of a proxy: it has a connection, which ends with its session."""
        if greeting is None:  # no Pyro program
            if type(self).validateHandshake is not Daemon.validateHandshake:
                raise PyroError("there was no handshake with this daemon")
            return None
        connection = context.SocketConnection(objectId=greeting["object"])
        context.begin_call(connection).annotations = greeting["annotations"]
        answer = self.validateHandshake(connection, greeting["handshake"])
        metadata = self.objectsById[DAEMON_NAME].get_metadata(greeting["object"])
        broker.current_context.session[_CONNECTION] = connection
        broker.current_context.on_close(lambda: self._clientDisconnect(connection))
        return {"handshake": answer, "meta": metadata}

    def _clientDisconnect(self, connection: context.SocketConnection) -> None:
        for resource in list(connection.tracked_resources):
            with contextlib.suppress(Exception):
                resource.close()
        self.clientDisconnect(connection)

    def validateHandshake(self, conn: context.SocketConnection, data: Any) -> Any:
        """To be overridden, like those below: raises to refuse the connection and every call over it."""
        return "hello"

    def clientDisconnect(self, conn: context.SocketConnection) -> None:
        """Called when a connection has ended."""

    def annotations(self) -> dict[str, Any]:
        return {}

    def housekeeping(self) -> None:
        """Called ten times a second while the daemon loops."""

    # ---- life

    @property
    def sockets(self) -> list[Any]:
        """What a program's own loop selects on; then it calls `events`."""
        self._daemon.start()
        return [self.sock]

    @property
    def selector(self) -> None:
        refuse(self._loop is None, TypeError, "threadpool server doesn't have multiplexing selector")

    def events(self, eventsockets: Any) -> None:
        """Runs the calls that wait, on this thread: for loops of programs, with the multiplex server."""
        (self._loop or self._waiting).run(0)

    def combine(self, daemon: Any) -> None:
        refuse(self._loop is None, TypeError, "You can't use the loop combiner on the threadpool server type")
        if not isinstance(daemon, Daemon):  # one that answers broadcasts
            daemon.runInThread()
            return
        daemon._loop, daemon.sock = self._loop, self.sock
        for object_id in daemon.objectsById:
            daemon.resetMetadataCache(object_id)
        daemon._daemon.start()

    def requestLoop(self, loopCondition: Callable[[], object] = lambda: True) -> None:
        def is_over() -> bool:
            self.housekeeping()
            return self._must_shutdown or not loopCondition()

        self._daemon.request_loop(is_over, executor=self._loop)

    def shutdown(self) -> None:
        self._must_shutdown = True
        self._daemon.shutdown(grace=1.0)
        self.transportServer = None

    close = shutdown

    def __enter__(self) -> Self:
        refuse(self._must_shutdown, PyroError, "cannot reuse this object")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return object.__new__, (type(self),)  # a shell that serves nothing

    def __repr__(self) -> str:
        where = "unusable"  # what a serializer has made
        if vars(self):
            where = f"{self.locationStr} - {context.family_str(self.sock)}; {len(self.objectsById)} objects"
        return f"<{type(self).__module__}.{type(self).__name__} at 0x{id(self):x}; {where}>"


register_class_to_dict(Daemon, lambda daemon: {"__class__": "Pyro.Daemon"})
register_dict_to_class("Pyro.Daemon", lambda name, fields: object.__new__(Daemon))
