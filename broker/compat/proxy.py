"""`Proxy` as Pyro has it, over a proxy of the broker, and the streams that its calls may give."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any, Self

import broker
from broker.compat import context, tls
from broker.compat.configuration import config
from broker.compat.context import current_context
from broker.compat.errors import CommunicationError, ConnectionClosedError, NotGreeted, PyroError, translated
from broker.compat.errors import TimeoutError as PyroTimeout
from broker.compat.exposure import FORWARDED, wire_name
from broker.compat.serializers import SerializedBlob, codec_of
from broker.compat.uri import URI

DAEMON_NAME, NAMESERVER_NAME = "Pyro.Daemon", "Pyro.NameServer"
DOOR = "Pyro.Connections"
"""The object of our daemons that proxies greet."""
_RECONNECT_PAUSE = 2.0  # so that programs' numbers of tries mean what they meant
_methods = broker.Proxy


class Connection(context.SocketConnection):
    """What a proxy has while it is connected. Its end is what the daemon takes for the end of the connection."""

    def __init__(self, uri: URI, door: broker.Proxy | None, token: str) -> None:
        super().__init__(context.Peer(uri.address), uri.object, keep_open=False)
        self.door = door
        self.token = token
        self._family = "Unix" if uri.sockname else "IPv6" if ":" in (uri.host or "") else "IPv4"

    def family(self) -> str:
        return self._family

    def close(self) -> None:
        if self.door is not None:
            self.door._broker.close()


class Proxy(broker.Proxy):
    """Stands for a remote object. It is connected by its first use; any thread may use it.

    One that is made for the name server is a `NameServerProxy`.
    """

    _pyroUri: URI
    _pyroConnection: Any
    _resolve: Any = None  # set by naming: what a URI leads to
    _name_server: Any = None  # set by naming: the class of proxies for a name server

    def __new__(cls, uri: object = "", *args: object, **options: object) -> Self:
        name = uri.object if isinstance(uri, URI) else str(uri).partition(":")[2].partition("@")[0]
        special = cls is Proxy and name in (NAMESERVER_NAME, "Broker.NameServer")
        made: Self = super().__new__(cls._name_server if special else cls)
        return made

    def __init__(self, uri: str | URI, connected_socket: object = None, **options: Any) -> None:
        """`options` are those of `broker.Proxy`. Raises TypeError and PyroError for what is no URI."""
        if connected_socket is not None:
            raise NotImplementedError("connected_socket: the broker connects by itself, to a URI")
        if not isinstance(uri, str | URI):
            raise TypeError("expected Pyro URI")
        codec_of(config.SERIALIZER)
        vars(self)["_pyro_options"] = options
        self.__setstate__((str(URI(uri)), (), (), (), "hello", None))
        if not context.state().in_call:
            current_context.response_annotations = {}

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        uri, oneway, methods, attrs, handshake, serializer = state
        own = vars(self)
        own.setdefault("_pyro_options", {})
        own.update(
            _pyroUri=URI(uri), _pyroOneway=set(oneway), _pyroMethods=set(methods), _pyroAttrs=set(attrs),
            _pyroHandshake=handshake, _pyroSerializer=serializer, _pyroConnection=None, _pyroLocalSocket=None,
            _pyroSeq=0, _pyroRawWireResponse=False, _pyroMaxRetries=config.MAX_RETRIES, _pyro_asynchronous=False,
            _pyro_timeout=config.COMMTIMEOUT, _pyro_owner=threading.get_ident(), _pyro_connecting=threading.RLock(),
            _pyro_streams=weakref.WeakSet(),
        )  # fmt: skip
        self._lead_to(self._pyroUri)

    def __getstate__(self) -> tuple[Any, ...]:
        known = tuple(self._pyroOneway), tuple(self._pyroMethods or ()), tuple(self._pyroAttrs or ())
        return str(self._pyroUri), *known, self._pyroHandshake, self._pyroSerializer

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self.__getstate__())

    def __copy__(self) -> Self:
        twin: Self = _made_again(type(self), self.__getstate__())
        for name in ("_pyro_options", "_pyro_timeout", "_pyroMaxRetries", "_pyroRawWireResponse", "_pyro_asynchronous"):
            vars(twin)[name] = vars(self)[name]
        twin._lead_to(twin._pyroUri)
        return twin

    # ---- attributes

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and not (name.startswith("__") and name in (vars(self).get("_pyroMethods") or ())):
            if name.startswith(("__", "_pyro")):  # asked for by copy, pickle, numpy and others
                raise AttributeError(name)
            raise self._missing_member(name)
        self._pyro_know()
        if name in self._pyroAttrs:
            return self._pyroInvoke("__getattr__", (name,), None)
        if name not in self._pyroMethods:
            raise self._missing_member(name)
        if self._pyro_asynchronous:
            from broker.compat.futures import AsyncRemoteMethod

            return AsyncRemoteMethod(self, name, self._pyroMaxRetries)
        return _RemoteMethod(self._pyroInvoke, name, self._pyroMaxRetries)

    def _missing_member(self, name: str) -> AttributeError:
        text = f"remote object '{self._pyroUri}' has no exposed attribute or method '{name}'"
        return MissingSpecial(text) if name in FORWARDED else AttributeError(text)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_pyro") or name == "_broker":
            object.__setattr__(self, name, value)
            return
        self._pyro_know()
        if name not in self._pyroAttrs:
            raise AttributeError(f"remote object '{self._pyroUri}' has no exposed attribute '{name}'")
        self._pyroInvoke("__setattr__", (name, value), None)

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *vars(self), *(self._pyroMethods or ()), *(self._pyroAttrs or ())})

    def _pyro_know(self) -> None:
        if not self._pyroMethods and not self._pyroAttrs:
            self._pyroGetMetadata()

    @property
    def _pyroTimeout(self) -> float | None:
        """Seconds that a call may take; 0 or None: any time."""
        timeout: float | None = vars(self)["_pyro_timeout"]
        return timeout

    @_pyroTimeout.setter
    def _pyroTimeout(self, timeout: float | None) -> None:
        vars(self)["_pyro_timeout"] = timeout
        self._broker.set("timeout", timeout or None)
        if self._pyroConnection is not None:
            self._pyroConnection.timeout = timeout

    @property
    def _pyroHmacKey(self) -> None:
        return None

    @_pyroHmacKey.setter
    def _pyroHmacKey(self, key: object) -> None:
        if key is not None:
            raise NotImplementedError("HMAC keys are not supported: use TLS (config.SSL) with client certificates")

    # ---- operators

    def _special_call(self, name: str, *args: object, **kwargs: object) -> Any:
        self._pyro_know()
        if name not in self._pyroMethods:
            raise self._missing_member(name)
        return self._pyroInvoke(name, args, kwargs)

    def __len__(self) -> int:
        length: int = self._special_call("__len__")
        return length

    def __getitem__(self, key: object) -> Any:
        return self._special_call("__getitem__", key)

    def __setitem__(self, key: object, value: object) -> None:
        self._special_call("__setitem__", key, value)

    def __delitem__(self, key: object) -> None:
        self._special_call("__delitem__", key)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self._special_call("__call__", *args, **kwargs)

    def __contains__(self, item: object) -> bool:
        self._pyro_know()
        if "__contains__" in self._pyroMethods:
            return bool(self._special_call("__contains__", item))
        return any(item is each or item == each for each in self)

    def __iter__(self) -> Iterator[Any]:
        self._pyro_know()
        return iter(self._special_call("__iter__")) if "__iter__" in self._pyroMethods else self._by_index()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._pyroRelease()

    def __eq__(self, other: object) -> bool:
        return other is self or (isinstance(other, Proxy) and other._pyroUri == self._pyroUri)

    def __hash__(self) -> int:
        return hash(self._pyroUri)

    def __repr__(self) -> str:
        state = f"connected {self._pyroConnection.family()}" if self._pyroConnection else "not connected"
        owner = "" if Proxy.__module__.startswith("Pyro4") else f"; owner {self._pyro_owner}"
        return f"<{type(self).__module__}.{type(self).__name__} at 0x{id(self):x}; {state}; for {self._pyroUri}{owner}>"

    # ---- connecting

    def _pyroBind(self) -> bool:
        """Connects, and replaces the URI by the one that it leads to. False if it was connected."""
        return self._pyro_connect(replace_uri=True)

    def _pyroRelease(self) -> None:
        """Ends the connection, and with it the session; the next use connects again."""
        connection, vars(self)["_pyroConnection"] = self._pyroConnection, None
        if connection is not None:
            connection.close()
            if not [stream for stream in self._pyro_streams if stream.linger()]:  # these keep the session
                self._broker.close()
            self._lead_to(self._pyroUri)

    def _pyroReconnect(self, tries: int = 100000000) -> None:
        """Releases, and connects anew. Raises ConnectionClosedError when it has tried so often."""
        self._pyroRelease()
        for left in range(tries - 1, -1, -1):
            try:
                self._pyro_connect()
            except CommunicationError:
                if left:
                    time.sleep(_RECONNECT_PAUSE)
            else:
                return
        raise ConnectionClosedError("failed to reconnect")

    def _pyroClaimOwnership(self) -> None:
        """Any thread may use a proxy; this says in the repr which one does."""
        vars(self)["_pyro_owner"] = threading.get_ident()

    def _pyroValidateHandshake(self, response: Any) -> None:
        """To be overridden: raises to refuse what the daemon answered to the handshake."""

    def _pyroAnnotations(self) -> dict[str, Any]:
        """To be overridden: annotations that go with every call."""
        return {}

    def _pyroResponseAnnotations(self, annotations: dict[str, Any], msgtype: int) -> None:
        """To be overridden: gets those that came with the answer."""

    def _pyroGetMetadata(self, objectId: str | None = None, known_metadata: Any = None) -> None:
        """Learns what the object has."""
        if known_metadata is None and not self._pyro_connect():
            known_metadata = self._pyro_greet(self._pyro_resolved())[1]
        if known_metadata is not None:
            self._pyro_learn(known_metadata)

    def _pyro_learn(self, metadata: Any) -> None:
        for name, key in (("_pyroMethods", "methods"), ("_pyroAttrs", "attrs"), ("_pyroOneway", "oneway")):
            vars(self)[name] = set(metadata[key])

    def _lead_to(self, uri: URI, **options: Any) -> None:
        """Has the broker's proxy underneath lead to a URI."""
        timeout = self._pyroTimeout or None
        options |= {"timeout": timeout} | ({"connect_timeout": timeout} if timeout else {})
        options |= {"codec": codec_of(self._pyroSerializer or config.SERIALIZER), "proxy_class": Proxy}
        options |= {"credentials": tls.client()} | {
            name: value for name, value in vars(self)["_pyro_options"].items() if value is not None
        }
        try:
            _methods.__init__(self, str(uri), **options)
        except (broker.errors.BrokerError, ValueError) as error:
            raise translated(error) from None

    def _pyro_resolved(self) -> URI:
        uri: URI = Proxy._resolve(self._pyroUri)
        return uri

    def _pyro_connect(self, replace_uri: bool = False) -> bool:
        with vars(self)["_pyro_connecting"]:
            if self._pyroConnection is not None:
                return False
            uri = self._pyro_resolved()
            connection, metadata = self._pyro_greet(uri)
            if not any(metadata[kind] for kind in ("methods", "attrs")):
                raise PyroError(
                    f"remote object '{uri}' doesn't expose any methods or attributes. "
                    "Did you forget setting @expose on them?"
                )
            self._pyro_learn(metadata)
            self._lead_to(uri, metadata={context.CONNECTION: connection.token} if connection.token else None)
            if replace_uri:
                vars(self)["_pyroUri"] = uri
            vars(self)["_pyroConnection"] = connection
            return True

    def _pyro_greet(self, uri: URI) -> tuple[Connection, dict[str, set[str]]]:
        """The handshake: gives the connection, and what the object has. Raises CommunicationError."""
        self._lead_to(uri)
        door = broker.Proxy(f"BROKER:{DOOR}@{uri.location}", **self._pyro_greeting())
        try:
            answer = door.greet(self._pyroHandshake, uri.object, self._pyroAnnotations())
        except broker.errors.ObjectNotFound:
            return self._pyro_without_door(uri)
        except broker.errors.CommunicationError as error:
            raise translated(error, uri.address) from None
        except Exception as error:
            raise CommunicationError(f"connection to {uri.address} rejected: {translated(error)}") from None
        connection = Connection(uri, door, answer["token"])
        try:
            self._pyroValidateHandshake(answer["handshake"])
        except BaseException:
            connection.close()
            raise
        return connection, answer["meta"]

    def _pyro_greeting(self) -> dict[str, Any]:
        shared = ("timeout", "connect_timeout", "codec", "credentials", "local")
        return {name: getattr(self._broker, name) for name in shared} | {"proxy_class": Proxy}

    def _pyro_without_door(self, uri: URI) -> tuple[Connection, dict[str, set[str]]]:
        """Of a daemon that is not of this layer: there is no handshake."""
        try:
            members = self._broker.description.members.values()
        except broker.errors.BrokerError as error:
            reason = "unknown object" if isinstance(error, broker.errors.ObjectNotFound) else translated(error)
            raise CommunicationError(f"connection to {uri.address} rejected: {reason}") from None
        metadata = {
            "methods": {member.name for member in members if member.is_method},
            "attrs": {member.name for member in members if not member.is_method},
            "oneway": {member.name for member in members if member.oneway},
        }
        return Connection(uri, None, ""), metadata

    # ---- calling

    def _pyroInvoke(
        self,
        methodname: str,
        vargs: Any,
        kwargs: Any,
        flags: int = 0,
        objectId: str | None = None,
    ) -> Any:
        """Makes a call, oneway if the metadata or the flags say so; to be overridden for what is to happen around."""
        if vargs and isinstance(vargs[0], SerializedBlob) and (len(vargs) > 1 or kwargs):
            from broker.compat.errors import SerializeError

            raise SerializeError("if SerializedBlob is used, it must be the only argument")
        codec = codec_of(self._pyroSerializer or config.SERIALIZER)
        self._pyro_connect()
        if codec != self._broker.codec:
            self._broker.set("codec", codec)
        if objectId not in (None, self._pyroConnection.objectId):
            other = URI(self._pyro_resolved())
            other.object = objectId
            return type(self)(other)._pyroInvoke(methodname, vargs, kwargs, flags)
        oneway = methodname in self._pyroOneway or bool(flags & context.FLAGS_ONEWAY)
        vars(self)["_pyroSeq"] = (self._pyroSeq + 1) & 0xFFFF
        return self._pyro_call(lambda: _invoke(self._pyro_engine(oneway), methodname, vargs, kwargs or {}, oneway))

    def _pyro_call(self, call: Any) -> Any:
        """Makes a call, with its annotations and errors as Pyro has them."""
        for again in (False, True):
            try:
                with _correlated():
                    result = call()
                return _StreamResultIterator(result, self) if isinstance(result, Iterator) else result
            except NotGreeted:
                self._pyroRelease()  # the daemon was started anew
                if again:
                    raise
                self._pyro_connect()
            except BaseException as error:
                changed = translated(error, self._pyroUri.address)
                if isinstance(changed, ConnectionClosedError):
                    self._pyroRelease()
                if changed is error:
                    raise
                raise changed from None
            finally:
                self._pyro_answered()
        raise AssertionError("the second time decides")

    def _pyro_answered(self) -> None:
        if not context.state().in_call:  # a method's own are not touched by calls that it makes
            received = context.from_metadata(broker.current_context.response_metadata)
            current_context.response_annotations = received
            self._pyroResponseAnnotations(received, 0)

    def _pyro_engine(self, oneway: bool) -> broker.Proxy:
        """The broker's proxy for one call: a oneway call is not to hold up those that follow it."""
        annotations = {**current_context.annotations, **self._pyroAnnotations()}
        if not annotations and not oneway:
            return self
        metadata = context.to_metadata(annotations) | ({context.ONEWAY: "1"} if oneway else {})
        if self._pyroConnection is not None and self._pyroConnection.token:
            metadata[context.CONNECTION] = self._pyroConnection.token
        return broker.options(self, metadata=metadata)

    def _pyroInvokeBatch(self, calls: Any, oneway: bool = False) -> Any:
        """Makes many calls, given as (method, args, kwargs); gives their results one by one."""
        self._pyro_connect()
        batch = broker.Batch(self._pyro_engine(oneway))
        for name, args, kwargs in calls:
            getattr(batch, wire_name(name))(*args, **kwargs)
        if oneway:
            return self._pyro_call(lambda: batch(oneway=True))
        return self._pyro_call(lambda: list(_caught(batch())))

    def _pyroBatch(self) -> Any:
        """Gathers calls."""
        from broker.compat.futures import BatchProxy

        return BatchProxy(self)

    def _pyroAsync(self, asynchronous: bool = True, **kwargs: bool) -> None:
        """From now on methods return futures, or results again."""
        vars(self)["_pyro_asynchronous"] = kwargs.get("async", asynchronous)


def _made_again(cls: type[Any], state: tuple[Any, ...]) -> Any:
    proxy = object.__new__(cls)
    proxy.__setstate__(state)
    return proxy


class MissingSpecial(AttributeError, TypeError):
    """For operators that the object does not have: Pyro says AttributeError, and Python goes on after a TypeError."""


def _invoke(engine: broker.Proxy, name: str, args: Any, kwargs: Any, oneway: bool) -> Any:
    if name == "__getattr__":
        return _methods.__getattr__(engine, *args)
    if name == "__setattr__":
        return _methods.__setattr__(engine, *args)
    if name in FORWARDED:
        return getattr(_methods, name)(engine, *args, **kwargs)
    method = _methods.__getattr__(engine, wire_name(name))
    if oneway:
        return method.oneway(*args, **kwargs)
    # Where the class says oneway and the program has decided otherwise, it waits for the result.
    return method.future(*args, **kwargs).result() if _is_oneway(engine, name) else method(*args, **kwargs)


def _is_oneway(engine: broker.Proxy, name: str) -> bool:
    member = engine._broker.description.members.get(wire_name(name))
    return member is not None and member.oneway


class ExceptionWrapper:
    """An exception among the results of a batch: it is raised at its place."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception

    def raiseIt(self) -> None:
        raise self.exception


def _caught(results: Iterator[Any]) -> Iterator[Any]:
    while True:
        try:
            yield next(results)
        except StopIteration:
            return
        except Exception as error:
            yield ExceptionWrapper(translated(error))


@contextlib.contextmanager
def _correlated() -> Iterator[None]:
    correlation_id = current_context.correlation_id
    if correlation_id is None or broker.current_context.object_id is not None:
        yield
    else:
        with broker.current_context.correlate(correlation_id):
            yield


class _RemoteMethod:
    """A method of a remote object; repeats calls whose connection was lost, or that took too long, if it is to."""

    def __init__(self, send: Any, name: str, max_retries: int) -> None:
        self.__send, self.__name, self.__max_retries = send, name, max_retries

    def __getattr__(self, name: str) -> _RemoteMethod:
        if name.startswith("__"):
            raise AttributeError(name)
        return _RemoteMethod(self.__send, f"{self.__name}.{name}", self.__max_retries)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        for attempt in range(self.__max_retries + 1):
            try:
                return self.__send(self.__name, args, kwargs)
            except (ConnectionClosedError, PyroTimeout):
                if attempt >= self.__max_retries:
                    raise
        raise AssertionError("the last attempt decides")


class _StreamResultIterator(Iterator[Any]):
    """The items of a remote iterator."""

    def __init__(self, items: Any, proxy: Proxy) -> None:
        self._items = items
        self.proxy: Proxy | None = proxy
        self._ends = time.monotonic() + config.ITER_STREAM_LIFETIME if config.ITER_STREAM_LIFETIME else math.inf
        self._lingers = math.inf
        proxy._pyro_streams.add(self)

    def linger(self) -> bool:
        """The proxy is released: bound again soon enough, it can go on. Whether there is anything to go on with."""
        if self.proxy is not None:
            self._lingers = time.monotonic() + config.ITER_STREAM_LINGER
        return self.proxy is not None and config.ITER_STREAM_LINGER > 0

    def __next__(self) -> Any:
        if self.proxy is None:
            raise StopIteration
        if self.proxy._pyroConnection is None:
            raise ConnectionClosedError("the proxy for this stream result has been closed")
        if time.monotonic() >= min(self._ends, self._lingers):
            self.close()
            raise PyroError("item stream terminated")
        self._lingers = math.inf
        try:
            return next(self._items)
        except StopIteration:
            self.proxy = None
            raise
        except BaseException as error:
            address, self.proxy = self.proxy._pyroUri.address, None
            changed = translated(error, address)
            raise changed from None if changed is not error else error.__cause__

    next = __next__

    def close(self) -> None:
        """Stops it."""
        self.proxy = None
        self._items.close()
