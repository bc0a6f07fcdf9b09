"""AsyncProxy: the stand-in for a remote object in programs that run on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator, Iterable
from concurrent.futures import Future
from inspect import Signature
from typing import Any, Self

from broker._pb.broker_pb2 import Call
from broker.around import Around, AroundFunctions
from broker.calling import Edge, Options, Remote, in_thread, invoke_async
from broker.decorators import SPECIAL
from broker.descriptions import NO_SIGNATURE, RemoteDescription
from broker.proxy_base import ControlBase, ProxyBase

_sending: set[asyncio.Task[Any]] = set()  # a loop forgets a task that nobody holds


class AsyncProxy(ProxyBase):
    """Stands for a remote object, for coroutines: `await proxy.method(...)` calls, `await proxy.name` reads,
    `async for item in proxy.method(...)` takes what a generator gives.

    It has the arguments of `Proxy`, may be made without a running loop, and may be used on several loops and in any
    number of tasks at once: no call needs a thread. Cancelling a task cancels its call. `around` functions are
    `async def`, and await what `next` returns. What arrives as a reference is an AsyncProxy.

    Since Python's statements cannot be awaited: `await proxy.name.set(value)` sets a property,
    `await proxy[key]` gets an item, `await proxy[key].set(value)` sets and `await proxy[key].delete()` deletes it;
    `await proxy.__len__()` and `await proxy.__contains__(item)` are what `len` and `in` are for Proxy; `async for` over
    the proxy is the loop over the object. A missing member is an AttributeError of the call.

    Everything of the proxy itself is under the one reserved name `_broker`.
    """

    __slots__ = ()

    _broker: AsyncControl

    def _begin(self, remote: Remote) -> None:
        _check_patience(remote.options.patience)
        remote.edge = AsyncEdge(credentials=remote.options.credentials, proxy_class=remote.options.proxy_class)
        super()._begin(remote)

    def __getattr__(self, name: str) -> AsyncMember:
        if name.startswith("_") and name not in SPECIAL:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: such names are never remote"
            )
        return AsyncMember(self._broker._remote, name)

    def __setattr__(self, name: str, value: object) -> None:
        private = name.startswith("_")
        instead = "set options with _broker.set(name, value)" if private else f"await proxy.{name}.set(value)"
        raise AttributeError(f"{name!r} cannot be assigned to on an AsyncProxy: nobody could await that. Use {instead}")

    def __dir__(self) -> list[str]:
        local = [name for name in object.__dir__(self) if name.startswith("__")]
        description = self._broker._remote.known_description()
        return sorted({*local, "_broker", *(description.members if description is not None else ())})

    def __getitem__(self, key: object) -> AsyncItem:
        return AsyncItem(self._broker._remote, key)

    def __call__(self, *args: object, **kwargs: object) -> AsyncCall:
        return AsyncMember(self._broker._remote, "__call__")(*args, **kwargs)

    def __aiter__(self) -> AsyncIterator[Any]:
        return AsyncMember(self._broker._remote, "__iter__").items()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._broker.close()


def _check_patience(patience: object) -> None:
    if patience is not None:
        raise TypeError("patience is for callers that block: asyncio.wait leaves a task be")


class AsyncEdge(Edge):
    """The edge of an AsyncProxy."""

    proxy = AsyncProxy


class AsyncControl(ControlBase):
    """What belongs to a proxy itself, not to its object: `proxy._broker`. The options are read-only; see `set`."""

    __slots__ = ()

    @staticmethod
    def functions(around: Iterable[Around]) -> AroundFunctions:
        functions = AroundFunctions(around)
        functions.check_async()
        return functions

    def changed(self, **options: Any) -> Options:
        _check_patience(options.get("patience"))
        return super().changed(**options)

    @property
    def description(self) -> Awaitable[RemoteDescription]:
        """What the daemon says about the object: `await proxy._broker.description`. Connects if need be."""
        return in_thread(lambda: self._remote.known_description() or self._remote.description())

    async def bind(self) -> bool:
        """Connects now, and replaces a name by the URI that it leads to. True if the proxy was not connected."""
        return await in_thread(self._remote.bind)

    @property
    def welcome(self) -> Awaitable[Any]:
        """What the daemon answered to the greeting of this session: `await proxy._broker.welcome`. Connects if need be.

        Raises AccessDenied if it was refused, with what `admit` raised as its cause.
        """
        return in_thread(self._remote.welcome)

    async def ping(self) -> None:
        """Asks the daemon for a sign of life. Raises CommunicationError if there is none."""
        await in_thread(self._remote.ping)

    async def close(self) -> None:
        """Ends the session: its instances and resources go. The proxy stays usable, with a new session."""
        self._remote.session.close()

    async def reconnect(self) -> None:
        """Ends the session and connects anew. Raises CommunicationError if that fails, and AccessDenied."""
        self._remote.session.close()
        await in_thread(self._remote.welcome)


AsyncProxy._kind = AsyncControl


class AsyncCall(Coroutine[Any, Any, Any]):
    """A call that is made when it is awaited, or looped over with `async for` if its result is a stream."""

    __slots__ = ("__weakref__", "_coroutine", "_what")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], what: str) -> None:
        self._coroutine = coroutine
        self._what = what

    def __await__(self) -> Generator[Any, None, Any]:
        return self._coroutine.__await__()

    def __aiter__(self) -> AsyncItems:
        return AsyncItems(self._coroutine, self._what)

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __repr__(self) -> str:
        return f"<call of {self._what}>"


class AsyncItems(AsyncIterator[Any]):
    """The items of a call's result. The call is made with the first of them."""

    __slots__ = ("__weakref__", "_call", "_items", "_what")

    def __init__(self, call: Coroutine[Any, Any, Any], what: str) -> None:
        self._call = call
        self._items: AsyncIterator[Any] | None = None
        self._what = what

    async def aclose(self) -> None:
        """Wants no further item."""
        if self._items is None:
            self._call.close()
        elif (close := getattr(self._items, "aclose", None)) is not None:
            await close()

    async def __anext__(self) -> Any:
        items = self._items
        if items is None:
            result = await self._call
            if not isinstance(result, AsyncIterator):
                raise TypeError(
                    f"{self._what} returned a {type(result).__name__} and no stream: `await` it, and loop over that"
                )
            items = self._items = result
        return await anext(items)


class AsyncMember:
    """A member of a remote object: `await member(...)` calls a method, `await member` reads a property."""

    __slots__ = ("__weakref__", "_name", "_remote")

    def __init__(self, remote: Remote, name: str) -> None:
        self._remote = remote
        self._name = name

    def __call__(self, *args: object, **kwargs: object) -> AsyncCall:
        return self._invoke(args, kwargs)

    def items(self, *args: object, **kwargs: object) -> AsyncItems:
        """Calls a generator: `async for item in member.items(...)`."""
        return aiter(self._invoke(args, kwargs))

    def future(self, *args: object, **kwargs: object) -> Future[Any]:
        """Calls a method, and returns a `concurrent.futures.Future`, for other threads."""
        if not self._remote.options.around:
            return self._remote.future(self._name, args, kwargs)
        call = invoke_async(self._remote, self._name, args, kwargs)  # with functions that need a loop
        return asyncio.run_coroutine_threadsafe(call, asyncio.get_running_loop())

    def send(self, *args: object, **kwargs: object) -> None:
        """Calls a method without waiting even until it is sent. Without a running loop it does wait for that."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(invoke_async(self._remote, self._name, args, kwargs, oneway=True))
            return
        sending = loop.create_task(invoke_async(self._remote, self._name, args, kwargs, oneway=True))
        _sending.add(sending)
        sending.add_done_callback(_sending.discard)

    def oneway(self, *args: object, **kwargs: object) -> AsyncCall:
        """Calls a method, without waiting for the result, for the end, or for an error: only until it is sent."""
        return self._invoke(args, kwargs, oneway=True)

    def set(self, value: object) -> AsyncCall:
        """Sets a property: `await proxy.name.set(value)`."""
        return self._invoke((value,), kind=Call.SET)

    def get(self) -> AsyncCall:
        """Reads a property: `await proxy.name`."""
        return self._invoke(kind=Call.GET)

    def __await__(self) -> Generator[Any, None, Any]:
        return self.get().__await__()

    def _invoke(
        self,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
        kind: Call.Kind = Call.METHOD,
        *,
        oneway: bool = False,
    ) -> AsyncCall:
        coroutine: Any = invoke_async(self._remote, self._name, args, kwargs or {}, kind, oneway=oneway)
        coroutine.__name__ = coroutine.__qualname__ = self._name  # for the warning that it was never awaited
        return AsyncCall(coroutine, f"{self._name!r} of {self._remote.where()}")

    @property
    def __name__(self) -> str:
        return self._name

    @property
    def __signature__(self) -> Signature:
        description = self._remote.known_description()
        member = description.members.get(self._name) if description is not None else None
        return (member.signature(self._remote.edge.types) if member is not None else None) or NO_SIGNATURE

    def __repr__(self) -> str:
        return f"<remote member {self._name!r} of {self._remote.where()}>"


class AsyncItem:
    """An item of a remote object: `await proxy[key]` gets it."""

    __slots__ = ("_key", "_remote")

    def __init__(self, remote: Remote, key: object) -> None:
        self._remote = remote
        self._key = key

    def __await__(self) -> Generator[Any, None, Any]:
        return AsyncMember(self._remote, "__getitem__")._invoke((self._key,)).__await__()

    def set(self, value: object) -> AsyncCall:
        """Sets it: `await proxy[key].set(value)`."""
        return AsyncMember(self._remote, "__setitem__")._invoke((self._key, value))

    def delete(self) -> AsyncCall:
        """Deletes it: `await proxy[key].delete()`."""
        return AsyncMember(self._remote, "__delitem__")._invoke((self._key,))
