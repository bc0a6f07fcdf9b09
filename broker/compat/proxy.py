"""`Proxy` as Pyro has it, before a proxy of the broker, and the streams that its calls may give.

What begins with `_pyro` is Pyro's, and its manual says what it means; what begins with `_pyro_` is ours.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Set
from typing import Any, Self

import broker
from broker.compat import context, errors, exposure, futures, serializers
from broker.compat.configuration import config, credentials
from broker.compat.uri import URI

DAEMON_NAME, NAMESERVER_NAME = "Pyro.Daemon", "Pyro.NameServer"
_RECONNECT_PAUSE = 2.0  # so that programs' numbers of tries mean what they meant
_COPIED = ("_pyroTimeout", "_pyroMaxRetries", "_pyroRawWireResponse", "_pyro_asynchronous")
_METADATA = {"_pyroMethods": "methods", "_pyroAttrs": "attrs", "_pyroOneway": "oneway"}
_NOTHING_EXPOSED = "doesn't expose any methods or attributes. Did you forget setting @expose on them?"
Metadata = Mapping[str, Set[str]]
# For operators that the object does not have: Pyro says AttributeError, and Python goes on after a TypeError.
_MissingSpecial: Any = type("AttributeError", (AttributeError, TypeError), {"__module__": "builtins"})


class Proxy(broker.Proxy):
    """Stands for a remote object. It is connected by its first use; any thread may use it.

    What the broker has of it is made anew for each connection, with what is set by then. One that is made for the name
    server is a `NameServerProxy`.
    """

    _name_server: Any = None  # set by naming, like the one below: the class of proxies for a name server
    _resolve: Any = None  # what a URI leads to
    _pyroUri: Any
    _pyroConnection: Any = None
    _pyroLocalSocket, _pyroSeq = None, 0
    _pyroRawWireResponse = _pyro_asynchronous = False
    _pyroHmacKey = property(lambda self: None, lambda self, key: refuse_hmac(key))
    _arrives_as = staticmethod(serializers.arrives_as)

    def __new__(cls, uri: object = "", *args: object, **options: object) -> Self:
        name = uri.object if isinstance(uri, URI) else str(uri).partition(":")[2].partition("@")[0]
        special = cls is Proxy and name in (NAMESERVER_NAME, "Broker.NameServer")
        made: Self = super().__new__(cls._name_server if special else cls)
        return made

    def __init__(self, uri: str | URI, connected_socket: object = None, **options: object) -> None:
        """`options` are for the broker, which makes proxies too. Raises TypeError and PyroError for what is no URI."""
        errors.unsupported(connected_socket, "connected_socket: the broker connects by itself, to a URI")
        errors.refuse(not isinstance(uri, str | URI), TypeError, "expected Pyro URI")
        serializers.codec_of(None)
        self.__setstate__((URI(uri), (), (), (), "hello", None))
        if broker.current_context.client is None:
            context.current_context.response_annotations = {}

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        uri, oneway, methods, attrs, handshake, serializer = state
        vars(self).update(
            _pyroUri=URI(uri), _pyroOneway=set(oneway), _pyroMethods=set(methods), _pyroAttrs=set(attrs),
            _pyroHandshake=handshake, _pyroSerializer=serializer, _pyroMaxRetries=config.MAX_RETRIES,
            _pyroTimeout=config.COMMTIMEOUT, _pyro_owner=threading.get_ident(), _pyro_connecting=threading.RLock(),
            _pyro_streams=weakref.WeakSet(),
        )  # fmt: skip

    def __getstate__(self) -> tuple[Any, ...]:
        known = tuple(self._pyroOneway), tuple(self._pyroMethods or ()), tuple(self._pyroAttrs or ())
        return str(self._pyroUri), *known, self._pyroHandshake, self._pyroSerializer

    __reduce__ = object.__reduce__  # type: ignore[assignment]  # by what __getstate__ gives

    def __copy__(self) -> Self:
        twin: Self = _made_again(type(self), self.__getstate__())
        vars(twin).update({name: getattr(self, name) for name in _COPIED})
        return twin

    @staticmethod
    def _travels_as(value: Any, codec: str) -> object:
        """For the broker: what travels in place of a value."""
        value = serializers.proxied(value)
        return broker.Proxy(str(value._pyroUri)) if isinstance(value, Proxy) else serializers.travels_as(value, codec)

    # ---- attributes and operators

    def __getattr__(self, name: str) -> Any:
        if name == "_broker":
            return self._pyro_begin(self._pyroUri)
        is_probed = name.startswith("_") and name not in (vars(self).get("_pyroMethods") or ())  # by copy, numpy, …
        if is_probed or not (self._has(name) or name in self._pyroAttrs):
            raise self._missing(name)
        if name not in self._pyroMethods:
            return self._pyroInvoke("__getattr__", (name,), None)
        if self._pyro_asynchronous:
            return futures.AsyncRemoteMethod(self, name)
        return _RemoteMethod(self._pyroInvoke, name, self._pyroMaxRetries)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_pyro"):
            object.__setattr__(self, name, value)
            if name == "_pyroTimeout" and self._pyroConnection is not None:
                self._pyroConnection.timeout = value
                self._broker.set("patience", value or None)
        elif self._has(name) or name not in self._pyroAttrs:
            raise AttributeError(f"remote object '{self._pyroUri}' has no exposed attribute '{name}'")
        elif not self._broker.description.members[name].writable:
            raise AttributeError(f"attempt to access unexposed or unknown remote attribute '{name}'")
        else:
            self._pyroInvoke("__setattr__", (name, value), None)

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *vars(self), *(self._pyroMethods or ()), *(self._pyroAttrs or ())})

    def _has(self, name: str) -> bool:
        """Whether there is such a method; afterwards it is known what there is."""
        if not self._pyroMethods and not self._pyroAttrs:
            self._pyroGetMetadata()
        return name in self._pyroMethods

    def _special(self, name: str, *args: object, **kwargs: object) -> Any:
        if not self._has(name):
            raise self._missing(name)
        return self._pyroInvoke(name, args, kwargs)

    def _missing(self, name: str) -> AttributeError:
        text = f"remote object '{vars(self).get('_pyroUri')}' has no exposed attribute or method '{name}'"
        return _MissingSpecial(text) if name in exposure.FORWARDED else AttributeError(text)

    def __exit__(self, *exc_info: object) -> None:
        self._pyroRelease()

    def __eq__(self, other: object) -> bool:
        return other is self or (isinstance(other, Proxy) and other._pyroUri == self._pyroUri)

    def __hash__(self) -> int:
        return hash(self._pyroUri)

    def __repr__(self) -> str:
        connection = self._pyroConnection
        state = f"connected {context.family_str(connection.sock)}" if connection else "not connected"
        owner = "" if Proxy.__module__.startswith("Pyro4") else f"; owner {self._pyro_owner}"
        return f"<{type(self).__module__}.{type(self).__name__} at 0x{id(self):x}; {state}; for {self._pyroUri}{owner}>"

    # ---- connecting

    def _pyroBind(self) -> bool:
        return self._pyro_connect(replace_uri=True)

    def _pyroRelease(self) -> None:
        with self._pyro_connecting:
            connection, self._pyroConnection = self._pyroConnection, None
            if connection is not None and not [stream for stream in self._pyro_streams if stream.linger()]:
                connection.close()  # else streams hold the session
            vars(self).pop("_broker", None)

    def _pyroReconnect(self, tries: int = 100000000) -> None:
        self._pyroRelease()
        for attempt in range(tries):
            time.sleep(_RECONNECT_PAUSE if attempt else 0)
            with contextlib.suppress(errors.CommunicationError):
                self._pyro_connect()
                return
        raise errors.ConnectionClosedError("failed to reconnect")

    def _pyroClaimOwnership(self) -> None:
        """Any thread may use a proxy; this says in the repr which one does."""
        self._pyro_owner = threading.get_ident()

    def _pyroValidateHandshake(self, response: Any) -> None:
        """To be overridden, like the two below."""

    def _pyroAnnotations(self) -> dict[str, Any]:
        return {}

    def _pyroResponseAnnotations(self, annotations: dict[str, Any], msgtype: int) -> None:
        """What came back with a call."""

    def _pyroGetMetadata(self, objectId: str | None = None, known_metadata: Any = None) -> None:
        if known_metadata is None and not self._pyro_connect():
            with self.__copy__() as other:  # what was known when this one was connected may be out of date
                other._pyro_connect()
                known_metadata = {key: getattr(other, name) for name, key in _METADATA.items()}
        for name, key in _METADATA.items() if known_metadata is not None else ():
            setattr(self, name, set(known_metadata[key]))

    def _pyro_connect(self, replace_uri: bool = False) -> bool:
        """Connects if need be; False if it was connected. Raises NamingError, CommunicationError and PyroError."""
        with self._pyro_connecting:
            if self._pyroConnection is not None:
                return False
            uri = Proxy._resolve(self._pyroUri)
            self._pyroConnection = context.SocketConnection(context.Socket(uri.address), uri.object)
            try:
                self._pyroConnection.control = self._pyro_begin(uri)
                self._pyroGetMetadata(known_metadata=self._pyro_greet(uri))
                if not self._pyroMethods and not self._pyroAttrs:
                    raise errors.PyroError(f"remote object '{uri}' {_NOTHING_EXPOSED}")
            except BaseException:
                self._pyroRelease()
                raise
            self._pyroUri = uri if replace_uri else self._pyroUri
            return True

    def _pyro_begin(self, uri: URI) -> Any:
        """What the broker has of a proxy for that URI, to begin with a handshake."""
        handshake = {"object": uri.object, "handshake": self._pyroHandshake, "annotations": self._pyroAnnotations()}
        with errors.translating():
            broker.Proxy.__init__(
                self, str(uri), codec=serializers.codec_of(self._pyroSerializer), patience=self._pyroTimeout or None,
                greeting=handshake, credentials=credentials("CLIENT"), proxy_class=Proxy,
            )  # fmt: skip
        return self._broker

    def _pyro_greet(self, uri: URI) -> Metadata:
        """The handshake: gives what the object has."""
        try:
            with errors.translating(uri.address):
                answer = self._broker.welcome
                known = self._broker.description if answer is None else None  # then its daemon is not of this layer
        except (errors.DaemonError, errors.SecurityError) as reason:
            raise errors.CommunicationError(f"connection to {uri.address} rejected: {reason}") from None
        if known is not None:
            oneway = {name for name, member in known.members.items() if member.oneway}
            return {"methods": known.methods, "attrs": known.attributes, "oneway": oneway}
        self._pyroValidateHandshake(answer["handshake"])
        return answer["meta"]  # type: ignore[no-any-return]

    # ---- calling

    def _pyroInvoke(self, methodname: str, vargs: Any, kwargs: Any, flags: int = 0, objectId: str | None = None) -> Any:
        """Makes a call, oneway if the metadata or the flags say so; to be overridden for what is to happen around."""
        if vargs and isinstance(vargs[0], serializers.SerializedBlob) and (len(vargs) > 1 or kwargs):
            raise errors.SerializeError("if SerializedBlob is used, it must be the only argument")
        self._pyro_connect()
        if objectId not in (None, getattr(self._pyroConnection, "objectId", None)):
            other = URI(Proxy._resolve(self._pyroUri))
            other.object = objectId
            return type(self)(other)._pyroInvoke(methodname, vargs, kwargs, flags)
        oneway = methodname in self._pyroOneway or bool(flags & context.FLAGS_ONEWAY)
        vars(self)["_pyroSeq"] = (self._pyroSeq + 1) & 0xFFFF
        with self._pyro_calling(oneway):
            remote, name = self._pyro_ready(oneway), exposure.wire_name(methodname)
            if methodname in ("__getattr__", "__setattr__"):
                result = getattr(broker.Proxy, methodname)(remote, *vargs)
            elif oneway:
                result = broker.Proxy.__getattr__(remote, name).oneway(*vargs, **(kwargs or {}))
            else:
                result = broker.Proxy._special(remote, name, *vargs, **(kwargs or {}))
        return _StreamResultIterator(result, self) if isinstance(result, Iterator) else result

    @contextlib.contextmanager
    def _pyro_calling(self, oneway: bool) -> Iterator[None]:
        """Around a call: its annotations, correlation id and errors are as Pyro has them."""
        is_outside = broker.current_context.client is None
        given = context.current_context.correlation_id if is_outside else None
        correlated = broker.current_context.correlate(given) if given else contextlib.nullcontext()
        try:
            with errors.translating(self._pyroUri.address), correlated:
                yield
        except errors.ConnectionClosedError:
            self._pyroRelease()
            raise
        finally:
            if is_outside:  # a method's own are not touched by calls that it makes
                answer = {} if oneway else broker.current_context.response_metadata
                received = context.current_context.response_annotations = context.from_metadata(answer)
                self._pyroResponseAnnotations(received, 0)

    def _pyro_ready(self, oneway: bool) -> broker.Proxy:
        """The proxy for one call: a oneway call is not to hold up those that follow it."""
        codec = serializers.codec_of(self._pyroSerializer)
        annotations = {**context.current_context.annotations, **self._pyroAnnotations()}
        if not annotations and not oneway and codec == self._broker.codec:
            return self
        return broker.options(self, codec=codec, metadata=context.to_metadata(annotations))

    def _pyroInvokeBatch(self, calls: Any, oneway: bool = False) -> Any:
        self._pyro_connect()
        with self._pyro_calling(oneway):
            batch = broker.Batch(self._pyro_ready(oneway))
            for name, args, kwargs in calls:
                getattr(batch, exposure.wire_name(name))(*args, **kwargs)
            return batch(oneway=True) if oneway else batch()

    def _pyroBatch(self) -> Any:
        return futures.BatchProxy(self)

    def _pyroAsync(self, asynchronous: bool = True, **kwargs: bool) -> None:
        self._pyro_asynchronous = kwargs.get("async", asynchronous)


class _RemoteMethod:
    """A method of a remote object; repeats calls whose connection was lost, or that took too long, if it is to."""

    def __init__(self, send: Any, name: str, max_retries: int) -> None:
        self.__send, self.__name, self.__max_retries = send, name, max_retries

    def __getattr__(self, name: str) -> _RemoteMethod:
        errors.refuse(name.startswith("__"), AttributeError, name)
        return _RemoteMethod(self.__send, f"{self.__name}.{name}", self.__max_retries)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        for attempt in range(self.__max_retries):
            try:
                return self.__send(self.__name, args, kwargs)
            except errors.CommunicationError as error:
                if str(error).startswith("cannot connect"):
                    time.sleep(min(0.1 * 2**attempt, 2.0))
                elif not isinstance(error, errors.ConnectionClosedError | errors.TimeoutError):
                    raise
        return self.__send(self.__name, args, kwargs)


class _StreamResultIterator(Iterator[Any]):
    """The items of a remote iterator."""

    def __init__(self, items: Any, proxy: Proxy) -> None:
        self._items = items
        self.proxy: Proxy | None = proxy
        self._ends = time.monotonic() + (config.ITER_STREAM_LIFETIME or math.inf)
        self._lingers = math.inf
        proxy._pyro_streams.add(self)

    def linger(self) -> bool:
        """The proxy is released: bound again soon enough, it can go on. Whether there is anything to go on with."""
        self._lingers = time.monotonic() + config.ITER_STREAM_LINGER
        return self.proxy is not None and config.ITER_STREAM_LINGER > 0

    def __next__(self) -> Any:
        if self.proxy is None:
            raise StopIteration
        if self.proxy._pyroConnection is None:
            raise errors.ConnectionClosedError("the proxy for this stream result has been closed")
        if time.monotonic() >= min(self._ends, self._lingers):
            self.close()
            raise errors.PyroError("item stream terminated")
        self._lingers = math.inf
        try:
            with errors.translating(self.proxy._pyroUri.address):
                return next(self._items)
        except BaseException:
            self.proxy = None
            raise

    next = __next__

    def close(self) -> None:
        self.proxy = None
        self._items.close()


def refuse_hmac(key: object) -> None:
    errors.unsupported(key, "HMAC keys are not supported: use TLS (config.SSL) with client certificates")


def _made_again(cls: type, state: tuple[Any, ...]) -> Any:
    proxy: Any = object.__new__(cls)
    proxy.__setstate__(state)
    return proxy


serializers.register_class_to_dict(Proxy, lambda proxy: {"__class__": "Pyro.Proxy", "state": proxy.__getstate__()})
serializers.register_dict_to_class("Pyro.Proxy", lambda name, fields: _made_again(Proxy, fields["state"]))
