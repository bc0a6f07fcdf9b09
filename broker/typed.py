"""Typed use: a proxy that a type checker takes for the interface that its object has.

`connect` promises the checker more than Python can: what it returns is a proxy, not an instance of the interface. So it
looks at once whether the object has all members of the interface, and calls go out as the interface says: a method that
is `async def` there returns an awaitable, any other blocks.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, ParamSpec, Self, TypedDict, TypeVar, Unpack, overload

from broker.around import Around
from broker.asynchronous import AsyncItems, AsyncMember, AsyncProxy
from broker.calling import Options, Remote
from broker.codecs import GLOBAL_TYPES, TypeRegistry
from broker.connection.channels import ChannelSecurity
from broker.connection.client import Session
from broker.decorators import function_of, is_public
from broker.descriptions import RemoteDescription
from broker.exposure import Member, members_of, types_in_hints
from broker.proxy import Proxy, RemoteMethod
from broker.proxy_base import ProxyBase
from broker.uri import URI

__all__ = ["ProxyOptions", "close", "connect", "connect_async", "options", "send", "submit"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class ProxyOptions(TypedDict, total=False):
    """The options of a proxy; see `Proxy`."""

    timeout: float | None
    connect_timeout: float
    wait: float
    codec: str
    metadata: Mapping[str, str | bytes] | None
    retries: int
    credentials: ChannelSecurity | None
    local: bool
    around: Iterable[Around]
    patience: float | None
    greeting: object
    resolve: Callable[[URI], URI | str] | None


# ---- connecting


def connect(uri: str | URI, interface: Callable[..., T], **options: Unpack[ProxyOptions]) -> T:
    """A proxy that has the type of the interface: a class, an abstract class or a Protocol. Connects now.

    Methods that are `async def` in the interface return awaitables, all others block. Types that the hints of the
    interface name are rebuilt when they arrive. `options` are those of `Proxy`.

    Raises TypeError if the object does not have all public members of the interface, and what connecting raises.
    """
    promised = _Interface.of(interface)
    proxy = TypedProxy(uri, **options)
    proxy._take_form(promised)
    promised.check(proxy._broker.description, proxy._broker._remote)
    return typing.cast(T, proxy)


async def connect_async(uri: str | URI, interface: Callable[..., T], **options: Unpack[ProxyOptions]) -> T:
    """The same for coroutines: every method of what it returns is awaited, as in an AsyncProxy.

    For a checker it has the type of the interface, so that the methods of that are best `async def`; one that is not
    has to be awaited all the same. Raises what `connect` raises.
    """
    promised = _Interface.of(interface)
    proxy = TypedAsyncProxy(uri, **options)
    proxy._take_form(promised)
    promised.check(await proxy._broker.description, proxy._broker._remote)
    return typing.cast(T, proxy)


class _Interface:
    """What a class promises of the objects behind its proxies."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.table = members_of(cls)
        self.fields = _protocol_fields(cls)
        """Attributes that a Protocol only annotates, with their hints."""
        self.types = TypeRegistry(GLOBAL_TYPES)
        for hint in (*types_in_hints(self.table), *self.fields.values()):
            self.types.learn(hint)
        self.awaited = frozenset(member.name for member in self.table if _is_coroutine(member))
        self.streams = frozenset(member.name for member in self.table if _is_async_iterator(member))

    @classmethod
    def of(cls, interface: object) -> _Interface:
        if not isinstance(interface, type):
            raise TypeError(f"an interface is a class, an abstract class or a Protocol, and {interface!r} is none")
        return cls(interface)

    def check(self, description: RemoteDescription, remote: Remote) -> None:
        """Raises TypeError, with a list, if the object lacks members of the interface."""
        members = [member for member in self.table if member.name in description.members or not description.is_partial]
        lacking = [*filter(None, (self._lack(member, description) for member in members))]
        if not description.is_partial:  # else they may be there, for others
            lacking += [f"{name} (a property)" for name in self.fields if name not in description.members]
        if lacking:
            raise TypeError(
                f"{remote.where()} is a {description.type_name}, which lacks members of {self.cls.__name__}: "
                f"{', '.join(lacking)}. It has: {', '.join(description.members) or 'nothing'}"
            )

    def _lack(self, member: Member, description: RemoteDescription) -> str | None:
        found = description.members.get(member.name)
        is_method = member.kind == "method"
        if found is None:
            return str(member) if is_method else f"{member.name} (a property)"
        if found.is_method != is_method:
            return f"{member.name} as a {member.kind} (it is a {'method' if found.is_method else 'property'} there)"
        if member.writable and not found.writable:
            return f"{member.name} with a setter"
        return None


def _protocol_fields(cls: type) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for base in cls.__mro__:
        if getattr(base, "_is_protocol", False):
            fields |= {name: hint for name, hint in typing.get_type_hints(base).items() if is_public(name)}
    return fields


def _is_coroutine(member: Member) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(function_of(member.target)))


def _is_async_iterator(member: Member) -> bool:
    """Whether the call itself, without `await`, is to be looped over with `async for`."""
    if inspect.isasyncgenfunction(inspect.unwrap(function_of(member.target))):
        return True
    promised = str(member.signature.return_annotation) if member.signature is not None else ""
    return member.stream and not _is_coroutine(member) and "Async" in promised


# ---- the proxies


class AsyncGeneratorMember(AsyncMember):
    """A method whose call is looped over with `async for` and never awaited: `anext` and `aclose` work on it."""

    __slots__ = ()

    def __call__(self, *args: object, **kwargs: object) -> AsyncItems:  # type: ignore[override]
        return self.items(*args, **kwargs)


class _Typed(ProxyBase):
    """A proxy for an interface."""

    __slots__ = ()

    _interface: _Interface

    def _take_form(self, interface: _Interface) -> None:
        object.__setattr__(self, "_interface", interface)
        self._broker._remote.edge.types = interface.types

    def _with(self, options: Options, session: Session | None = None) -> Self:
        twin = super()._with(options, session)
        twin._take_form(self._interface)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        _, (cls, uri, options) = super().__reduce__()
        return _unpickle, (cls, self._interface.cls, uri, options)


def _unpickle(cls: type[_Typed], interface: type, uri: str, options: dict[str, Any]) -> _Typed:
    proxy = cls(uri, **options)
    proxy._take_form(_Interface.of(interface))
    return proxy


class TypedProxy(_Typed, Proxy):
    """What `connect` returns."""

    __slots__ = ("_interface",)

    def __getattr__(self, name: str) -> Any:
        interface = self._interface
        if name in interface.streams:
            return AsyncGeneratorMember(self._broker._remote, name)
        if name not in interface.awaited:
            return super().__getattr__(name)
        member = AsyncMember(self._broker._remote, name)
        return member if interface.table.members[name].kind == "method" else member.get()

    def _special(self, name: str, *args: object, **kwargs: object) -> Any:
        if name in self._interface.awaited:
            return AsyncMember(self._broker._remote, name)(*args, **kwargs)
        return super()._special(name, *args, **kwargs)


class TypedAsyncProxy(_Typed, AsyncProxy):
    """What `connect_async` returns."""

    __slots__ = ("_interface",)

    def __getattr__(self, name: str) -> Any:
        if name in self._interface.streams:
            return AsyncGeneratorMember(self._broker._remote, name)
        return super().__getattr__(name)


# ---- what is done with a method, or a proxy


@overload
def submit(  # an awaitable result is awaited over there
    method: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
) -> Future[R]: ...
@overload
def submit(method: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
def submit(method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    """Calls a method of a proxy and does not wait: `submit(w.take, "Janet", "couch")` is `w.take.future(…)`, typed.

    Raises TypeError for what is no method of a proxy, and CodecError.
    """
    return _callable(method, "submit").future(*args, **kwargs)


def send(method: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """Calls a method of a proxy, or an exported function, without waiting for the result, the end, or an error.

    Raises TypeError for what is no method of a proxy, and CodecError. Of an asynchronous proxy, on a running loop, it
    does not wait until the call is sent either: what then goes wrong is logged by the loop.
    """
    target = _callable(method, "send")
    if isinstance(target, AsyncMember):
        target.send(*args, **kwargs)
    else:
        target.oneway(*args, **kwargs)


def options(proxy: T, **changes: Unpack[ProxyOptions]) -> T:
    """The same proxy with some options changed: of the same type, and with the same session.

    Raises TypeError for what is no proxy, for credentials, which are those of the connection, and for a greeting, which
    is that of the session.
    """
    known = _proxy(proxy, "options")
    if "greeting" in changes:
        raise TypeError("a greeting is that of a session, which options share: make another proxy")
    if "credentials" in changes:
        raise TypeError("credentials are those of a connection, and a session has one: connect anew with others")
    control = known._broker
    return typing.cast(T, known._with(control.changed(**changes), control._remote.session))


def close(proxy: object) -> None:
    """Ends the session of a proxy: its instances and resources go. The proxy stays usable, with a new session.

    Raises TypeError for what is no proxy.
    """
    _proxy(proxy, "close")._broker._remote.session.close()


def _callable(method: object, user: str) -> RemoteMethod | AsyncMember:
    """What can be called in every way: the method, or that of a proxy which is called itself."""
    if isinstance(method, (RemoteMethod, AsyncMember)):
        return method
    if isinstance(method, AsyncProxy):
        return AsyncMember(method._broker._remote, "__call__")
    if isinstance(method, Proxy):
        return RemoteMethod.special(method._broker._remote, "__call__")
    raise TypeError(f"{user} takes a method of a proxy, as in {user}(proxy.method, ...), and {method!r} is none")


def _proxy(proxy: object, user: str) -> ProxyBase:
    if isinstance(proxy, ProxyBase):
        return proxy
    raise TypeError(f"{user} takes a proxy, and {proxy!r} is none")
