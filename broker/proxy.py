"""Proxy: the client's stand-in for a remote object. Calls on it are calls on the object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from inspect import Signature
from typing import Any

from broker._pb.broker_pb2 import Call
from broker.around import Around, AroundFunctions
from broker.calling import Edge, Remote
from broker.codecs import Record
from broker.descriptions import NO_SIGNATURE, RemoteDescription, RemoteMember
from broker.exposure import missing_member
from broker.proxy_base import ControlBase, ProxyBase


class Proxy(ProxyBase):
    """Stands for a remote object: `proxy.method(...)` calls, `proxy.name` reads, and `proxy.name = value` sets.

    Making one needs no network; the first use connects. Threads share a proxy freely, and all proxies to one daemon
    share one connection. Proxies compare and hash by URI, can be copied, pickled and passed as arguments.

    `uri` is a URI or its text: BROKER:, BROKERNAME: or BROKERMETA:. `timeout` (seconds, None: none) bounds every call,
    `connect_timeout` connecting; `wait` keeps trying that long for a name or daemon that is not there yet; `codec` is
    `json` or, where the daemon accepts it, `pickle`; `metadata` travels with every call; `retries` repeats calls that
    may have been executed when their connection was lost: for methods that are idempotent. `around` are functions
    `f(call, next)` that run around every call, the first outermost, on the thread that calls; see `broker.Call`.
    `patience` (seconds) is how long the caller of a method waits: then it gets a CallTimeout, and the call goes on.
    `greeting` is what every session begins with, for daemons that `admit` whom they know. `resolve` is a
    function for objects that are found by other means than a name server: given the URI, it returns the one that it
    leads to, each time that the proxy connects, and raises NamingError if there is none.
    `proxy_class` is the class of the proxies that arrive in results, made as `proxy_class(uri, credentials=...)`; its
    `_travels_as(value, codec)` may have something else travel in place of values, and its `_arrives_as(record)`
    something else arrive in place of records. It, `around`, `resolve` and `credentials` are no part of a pickle.

    Everything of the proxy itself is under the one reserved name `_broker`.
    """

    __slots__ = ()

    _broker: ProxyControl

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

    def __getitem__(self, key: object) -> Any:
        return self._special("__getitem__", key)

    def __setitem__(self, key: object, value: object) -> None:
        self._special("__setitem__", key, value)

    def __delitem__(self, key: object) -> None:
        self._special("__delitem__", key)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self._special("__call__", *args, **kwargs)

    def __contains__(self, item: object) -> bool:
        if self._has("__contains__"):
            return bool(self._special("__contains__", item))
        return any(item is x or item == x for x in self)

    def __iter__(self) -> Iterator[Any]:
        if self._has("__iter__"):
            return iter(self._special("__iter__"))
        if self._has("__getitem__"):
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

    def _has(self, name: str) -> bool:
        return self._broker._remote.find_member(name) is not None

    def _special(self, name: str, *args: object, **kwargs: object) -> Any:
        return self._broker._remote.invoke(name, args, kwargs)

    def _missing(self, name: str) -> Exception:
        remote = self._broker._remote
        description = remote.description()
        return description.not_for_this_caller(name, remote.where()) or missing_member(
            name, remote.where(), description.members
        )

    @staticmethod
    def _travels_as(value: Any, codec: str) -> Any:
        """What travels in place of a value where a class derived from this one is the `proxy_class`: to be overridden.

        It is asked for values that are neither JSON's nor of a type that is kept in any case (`tuple`, `datetime` and
        so on), objects that a daemon serves and proxies included; `codec` is the name of the codec.
        """
        return value

    @staticmethod
    def _arrives_as(record: Record) -> Any:
        """What arrives in place of the data of a class that is not known here: to be overridden, as `_travels_as`.

        What it raises becomes a CodecError. Values in pickle are what the pickle says, and it is not asked for those.
        """
        return record

    # ---- the life of the proxy

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._broker.close()


Edge.proxy = Proxy


class ProxyControl(ControlBase):
    """What belongs to a proxy itself, not to its object: `proxy._broker`. The options are read-only; see `set`."""

    __slots__ = ()

    @staticmethod
    def functions(around: Iterable[Around]) -> AroundFunctions:
        functions = AroundFunctions(around)
        functions.check_plain()
        return functions

    @property
    def description(self) -> RemoteDescription:
        """What the daemon says about the object. Connects if need be."""
        return self._remote.known_description() or self._remote.description()

    def bind(self) -> bool:
        """Connects now, and replaces a name by the URI that it leads to. True if the proxy was not connected."""
        return self._remote.bind()

    @property
    def welcome(self) -> Any:
        """What the daemon answered to the greeting of this session; None without one. Connects if need be.

        Raises AccessDenied if it was refused, with what `admit` raised as its cause.
        """
        return self._remote.welcome()

    def ping(self) -> None:
        """Asks the daemon for a sign of life. Raises CommunicationError if there is none."""
        self._remote.ping()

    def close(self) -> None:
        """Ends the session: its instances and resources go. The proxy stays usable, with a new session."""
        self._remote.session.close()

    def reconnect(self) -> None:
        """Ends the session and connects anew. Raises CommunicationError if that fails, and AccessDenied."""
        self.close()
        self._remote.welcome()


Proxy._kind = ProxyControl


class RemoteMethod:
    """A method of a remote object: call it. It has the name, docstring and signature of the method in the class."""

    def __init__(self, remote: Remote, member: RemoteMember) -> None:
        self._remote = remote
        self._member = member
        self.__name__ = self.__qualname__ = member.name
        self.__doc__ = member.doc

    @classmethod
    def special(cls, remote: Remote, name: str) -> RemoteMethod:
        """A special method; no I/O. Whether the object has it is found out by the call."""
        member = RemoteMember(name, True, "(...)", None, oneway=False, writable=False, stream=False, _parameters=b"")
        return cls(remote, member)

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
