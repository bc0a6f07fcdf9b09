"""Proxy: the client's stand-in for a remote object. Calls on it are calls on the object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from inspect import Signature
from typing import Any

import grpc

from broker._pb.broker_pb2 import Call
from broker.around import Around, AroundFunctions
from broker.calling import Edge, ExportedRemote, Options, Remote
from broker.config import Config
from broker.connection.client import Session
from broker.connection.exports import Held
from broker.descriptions import NO_SIGNATURE, RemoteDescription, RemoteMember
from broker.errors import CodecError
from broker.exposure import missing_member
from broker.registry import leases
from broker.uri import URI

_OPTIONS = ("timeout", "connect_timeout", "wait", "codec", "metadata", "retries", "credentials", "local", "around")


class Proxy:
    """Stands for a remote object: `proxy.method(...)` calls, `proxy.name` reads, and `proxy.name = value` sets.

    Making one needs no network; the first use connects. Threads share a proxy freely, and all proxies to one daemon
    share one connection. Proxies compare and hash by URI, can be copied, pickled and passed as arguments.

    `uri` is a URI or its text: BROKER:, BROKERNAME: or BROKERMETA:. `timeout` (seconds, None: none) bounds every call,
    `connect_timeout` connecting; `wait` keeps trying that long for a name or daemon that is not there yet; `codec` is
    `json` or, where the daemon accepts it, `pickle`; `metadata` travels with every call; `retries` repeats calls that
    may have been executed when their connection was lost: for methods that are idempotent. `around` are functions
    `f(call, next)` that run around every call, the first outermost, on the thread that calls; see `broker.Call`. They
    and `credentials` are no part of a pickle.

    Everything of the proxy itself is under the one reserved name `_broker`.
    """

    __slots__ = ("__weakref__", "_broker")

    _broker: ProxyControl

    def __init__(
        self,
        uri: str | URI,
        *,
        timeout: float | None = Config.timeout.unset,
        connect_timeout: float = Config.connect_timeout.unset,
        wait: float = Config.wait.unset,
        codec: str = Config.codec.unset,
        metadata: Mapping[str, str | bytes] | None = None,
        retries: int = Config.retries.unset,
        credentials: grpc.ChannelCredentials | None = None,
        local: bool = Config.local.unset,
        around: Iterable[Around] = (),
    ) -> None:
        options = Options(
            timeout=Config.timeout.pick(timeout),
            connect_timeout=Config.connect_timeout.pick(connect_timeout),
            wait=Config.wait.pick(wait),
            codec=Config.codec.pick(codec),
            metadata=metadata or {},
            retries=Config.retries.pick(retries),
            credentials=credentials,
            local=Config.local.pick(local),
            around=_plain_functions(around),
        )
        _set_control(self, ProxyControl(Remote(URI(uri), options)))

    # ---- members

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: such names are never remote"
            )
        remote = self._broker._remote
        member = remote.find_member(name)
        if member is None:
            raise self._missing(name)
        if member.is_method:
            return RemoteMethod(remote, member)
        return remote.invoke(name, kind=Call.GET)

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            raise AttributeError(f"{name!r} cannot be set on a proxy: options are set with _broker.set(name, value)")
        self._broker._remote.invoke(name, (value,), kind=Call.SET)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name!r} of {self._broker._remote.where()} cannot be deleted: attributes are not remote")

    def __dir__(self) -> list[str]:
        local = [name for name in object.__dir__(self) if name.startswith("__")]
        return sorted({*local, "_broker", *self._broker.description.members})

    # ---- operators

    def __len__(self) -> int:
        length: int = self._special("__len__")
        return length

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: object) -> Any:
        return self._special("__getitem__", key)

    def __setitem__(self, key: object, value: object) -> None:
        self._special("__setitem__", key, value)

    def __delitem__(self, key: object) -> None:
        self._special("__delitem__", key)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self._special("__call__", *args, **kwargs)

    def __contains__(self, item: object) -> bool:
        if self._broker._remote.find_member("__contains__") is not None:
            return bool(self._special("__contains__", item))
        return any(item is x or item == x for x in self)

    def __iter__(self) -> Iterator[Any]:
        remote = self._broker._remote
        if remote.find_member("__iter__") is not None:
            return iter(self._special("__iter__"))
        if remote.find_member("__getitem__") is not None:
            return self._by_index()
        raise self._missing("__iter__")

    def _by_index(self) -> Iterator[Any]:
        index = 0
        while True:
            try:
                item = self[index]
            except IndexError:
                return
            yield item
            index += 1

    def _special(self, name: str, *args: object, **kwargs: object) -> Any:
        return self._broker._remote.invoke(name, args, kwargs)

    def _missing(self, name: str) -> Exception:
        remote = self._broker._remote
        return missing_member(name, remote.where(), remote.description().members)

    # ---- the proxy as a value

    def __eq__(self, other: object) -> bool:
        return self._broker.uri == other._broker.uri if isinstance(other, Proxy) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._broker.uri)

    def __repr__(self) -> str:
        state = "connected" if self._broker.connected else "not connected"
        return f"<{type(self).__name__} for {self._broker.uri}; {state}>"

    def __copy__(self) -> Proxy:
        return self._with(self._broker._remote.options)

    def __deepcopy__(self, memo: dict[int, object]) -> Proxy:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self._broker._remote.reference(), str):
            raise CodecError(
                f"{self!r} cannot be pickled: it leads over one connection of this process. "
                "Where the object shall be called from elsewhere, register it with a daemon instead of exporting it"
            )
        options = {name: getattr(self._broker, name) for name in _OPTIONS if name not in ("credentials", "around")}
        options["metadata"] = dict(options["metadata"])
        return _unpickle, (type(self), str(self._broker.uri), options)

    def _with(self, options: Options, session: Session | None = None) -> Proxy:
        """Another proxy for the same object; a session of its own unless one is given."""
        twin = type(self).__new__(type(self))
        _set_control(twin, ProxyControl(self._broker._remote.twin(options, session)))
        return twin

    # ---- the life of the proxy

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._broker.close()


def _set_control(proxy: Proxy, control: ProxyControl) -> None:
    object.__setattr__(proxy, "_broker", control)


def _plain_functions(around: Iterable[Around]) -> AroundFunctions:
    functions = AroundFunctions(around)
    functions.check_plain()
    return functions


def _unpickle(cls: type[Proxy], uri: str, options: dict[str, Any]) -> Proxy:
    return cls(uri, **options)


def _proxy_of_held(held: Held, credentials: grpc.ChannelCredentials | None) -> Proxy:
    """The proxy for an exported object that arrived. Its options are those of the configuration."""
    peer, codec = held.connection.peer, Config.codec.pick(Config.codec.unset)
    options = Options(
        timeout=Config.timeout.pick(Config.timeout.unset),
        codec=codec if peer is not None and codec in peer.codecs else "json",
        credentials=credentials,
    )
    proxy = Proxy.__new__(Proxy)
    _set_control(proxy, ProxyControl(ExportedRemote(held, options)))
    return proxy


Edge.make_proxy = Proxy
Edge.make_proxy_of_held = staticmethod(_proxy_of_held)
leases.object_resolvers.append(lambda value: value._broker.uri if isinstance(value, Proxy) else None)


class ProxyControl:
    """What belongs to a proxy itself, not to its object: `proxy._broker`. The options are read-only; see `set`."""

    __slots__ = ("_remote",)

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    @property
    def uri(self) -> URI:
        return self._remote.uri

    @property
    def description(self) -> RemoteDescription:
        """What the daemon says about the object. Connects if need be."""
        return self._remote.known_description() or self._remote.description()

    @property
    def connected(self) -> bool:
        """Whether the proxy has used a connection that is still open."""
        return self._remote.connected

    timeout = property(lambda self: self._remote.options.timeout, doc="Seconds that a call may take; None: no limit.")
    connect_timeout = property(
        lambda self: self._remote.options.connect_timeout, doc="Seconds that connecting may take."
    )
    wait = property(lambda self: self._remote.options.wait, doc="Seconds to keep trying for what is not there yet.")
    codec = property(lambda self: self._remote.options.codec, doc="The codec of the calls.")
    metadata = property(lambda self: self._remote.options.metadata, doc="What travels with every call.")
    retries = property(lambda self: self._remote.options.retries, doc="How often a call that may have run is repeated.")
    credentials = property(lambda self: self._remote.options.credentials, doc="The TLS credentials, if any.")
    local = property(lambda self: self._remote.options.local, doc="Whether the in-process short cut may be taken.")
    around = property(lambda self: [*self._remote.options.around], doc="The functions around every call.")

    def set(self, name: str, value: object) -> None:
        """Sets an option for the calls that are made from now on, by any thread."""
        if name not in _OPTIONS:
            raise AttributeError(f"a proxy has no option {name!r} (it has: {', '.join(_OPTIONS)})")
        if hasattr(Config, name):
            value = getattr(Config, name).pick(value)
        elif name == "around":
            value = _plain_functions(value)  # type: ignore[arg-type]  # it says what is wrong with other values
        self._remote.options = self._remote.options.with_(**{name: value})

    def bind(self) -> bool:
        """Connects now, and replaces a name by the URI that it leads to. True if the proxy was not connected."""
        return self._remote.bind()

    def ping(self) -> None:
        """Asks the daemon for a sign of life. Raises CommunicationError if there is none."""
        self._remote.ping()

    def close(self) -> None:
        """Ends the session: its instances and resources go. The proxy stays usable, with a new session."""
        self._remote.session.close()

    def on_reconnect(self, function: Callable[[], object]) -> None:
        """Calls the function, without arguments, each time that the connection was lost and made anew.

        That is what a program needs whose exported objects the other side holds: they are gone with the connection, and
        the function passes them on again. With such a function the connection is made anew on its own account, for as
        long as the proxy is there, and what the daemon had kept for the session is given up without an error: the
        function is what tells. It runs on a thread of the library; what it raises is logged.
        """
        self._remote.on_reconnect(function)

    def reconnect(self) -> None:
        """Ends the session and connects anew. Raises CommunicationError if that fails."""
        self.close()
        self._remote.open_session()

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in _OPTIONS)
        return f"<control of the proxy for {self.uri}: {options}>"


class RemoteMethod:
    """A method of a remote object: call it. It has the name, docstring and signature of the method in the class."""

    def __init__(self, remote: Remote, member: RemoteMember) -> None:
        self._remote = remote
        self._member = member
        self.__name__ = self.__qualname__ = member.name
        self.__doc__ = member.doc

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self._remote.invoke(self._member.name, args, kwargs, oneway=self._member.oneway)

    def oneway(self, *args: object, **kwargs: object) -> None:
        """Calls without waiting: for the result, for the end, or for an error."""
        self._remote.invoke(self._member.name, args, kwargs, oneway=True)

    def future(self, *args: object, **kwargs: object) -> Future[Any]:
        """Calls, and returns a future for the result: `cancel()` cancels the call also while the method runs.

        Calls that a thread makes in this way are on their way at the same time, and start in the order made. Waits only
        if thousands are unanswered. Raises CodecError for arguments that cannot be encoded.
        """
        return self._remote.future(self._member.name, args, kwargs)

    @property
    def __signature__(self) -> Signature:
        return self._member.signature(self._remote.edge.types) or NO_SIGNATURE

    def __get__(self, instance: object, owner: type | None = None) -> RemoteMethod:
        return self  # what makes inspect and help() take it for a routine

    def __repr__(self) -> str:
        return f"<remote method {self.__name__}{self._member.signature_text} of {self._remote.where()}>"
