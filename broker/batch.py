"""Batch: many calls of one object in one payload and one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, Literal, NoReturn, TypeVar, overload

from broker._pb.broker_pb2 import Call
from broker.asynchronous import AsyncProxy
from broker.calling import Remote, invoke_async
from broker.calling.gathered import Gathered
from broker.calling.results import BatchResults
from broker.calling.tasks import TaskCall
from broker.proxy import Proxy
from broker.proxy_base import ProxyBase

Results = TypeVar("Results")
Sent = TypeVar("Sent")
_NO_PLACE = "have no place in a batch"


class Batch(Generic[Results, Sent]):
    """Gathers calls of a remote object; calling the batch makes them, one after the other, in one round trip::

        batch = broker.Batch(warehouse)
        batch.take("Janet", "couch")
        batch.list_contents()
        for result in batch():
            ...

    `batch()` gives an iterator over the results, in order. Where a call failed it raises what that call would have
    raised; by default nothing behind it was carried out, and the iterator ends there. With `stop_on_error=False` the
    rest is carried out all the same, and its results follow. To time, order and limits a batch is one call.

    Arguments are encoded when the batch is called. Calling it empties it, whatever comes of it: it can be filled again.
    One thread at a time fills it. A batch of an AsyncProxy is awaited: `for result in await batch()`.
    """

    @overload
    def __init__(self: Batch[BatchResults, None], proxy: Proxy, *, stop_on_error: bool = True) -> None: ...
    @overload
    def __init__(
        self: Batch[Coroutine[Any, Any, BatchResults], Coroutine[Any, Any, None]],
        proxy: AsyncProxy,
        *,
        stop_on_error: bool = True,
    ) -> None: ...
    @overload
    def __init__(self: Batch[BatchResults, None], proxy: object, *, stop_on_error: bool = True) -> None: ...

    def __init__(self, proxy: object, *, stop_on_error: bool = True) -> None:
        """`proxy` is any proxy. Raises TypeError for anything else."""
        if not isinstance(proxy, ProxyBase):
            raise TypeError(f"a batch is made of a proxy, broker.Batch(proxy), and not of {type(proxy).__name__}")
        vars(self).update(
            _proxy=proxy,
            _remote=proxy._broker._remote,
            _gathered=Gathered(stop_on_error=stop_on_error),
        )

    _proxy: ProxyBase
    _remote: Remote
    _gathered: Gathered

    # ---- gathering

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: such names are never remote"
            )
        self._check_method(name)
        recorder = vars(self)[name] = self._gathered.recorder(name)  # next time Python finds it by itself
        return recorder

    def _check_method(self, name: str) -> None:
        """Whether there is such a method the daemon says, at the place of the call; but nobody calls a property."""
        description = self._remote.known_description()
        if description is None and not isinstance(self._proxy, AsyncProxy):
            description = self._remote.description()
        member = description.members.get(name) if description is not None else None
        if member is not None and not member.is_method:
            raise AttributeError(
                f"the property {name!r} of {self._remote.where()} has no place in a batch: use the proxy"
            )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name!r} cannot be set: attributes {_NO_PLACE}; set them on the proxy")

    def __getitem__(self, key: object) -> NoReturn:
        raise TypeError(f"items {_NO_PLACE}: use the proxy")

    def __setitem__(self, key: object, value: object) -> NoReturn:
        raise TypeError(f"items {_NO_PLACE}: use the proxy")

    def __iter__(self) -> NoReturn:
        raise TypeError("a batch is called to get its results: for result in batch()")

    def __len__(self) -> int:
        """How many calls are gathered."""
        return len(self._gathered)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a batch is neither copied nor pickled: make another of the proxy")

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} calls of {self._remote.where()}>"

    # ---- calling

    @overload
    def __call__(self) -> Results: ...
    @overload
    def __call__(self, *, oneway: Literal[True]) -> Sent: ...
    @overload
    def __call__(self, *, future: Literal[True]) -> Future[BatchResults]: ...

    def __call__(self, *, oneway: bool = False, future: bool = False) -> Any:
        """Makes the calls, and gives their results. With `oneway` it does not wait for them, and gives None; with
        `future` it gives a future for them, which cancels the batch if it is cancelled.

        Raises CodecError, naming the call and the argument, if something cannot be encoded, and what any call raises
        that cannot be made: CommunicationError, and CallTimeout for the whole batch.
        """
        if oneway and future:
            raise TypeError("a batch is called either oneway or with a future, and not both")
        remote, gathered = self._remote, self._gathered.take()
        if isinstance(self._proxy, AsyncProxy):
            if future and remote.options.around:  # functions that need a loop
                return asyncio.run_coroutine_threadsafe(_call_async(remote, gathered), asyncio.get_running_loop())
            if not future:
                return _call_async(remote, gathered, oneway=oneway)
        if future:
            return remote.batch_future(gathered) if gathered else _done()
        return remote.batch(gathered, oneway=oneway) if gathered else _nothing(oneway)


def _nothing(oneway: bool) -> BatchResults | None:
    """What comes of no calls."""
    return None if oneway else BatchResults.none()


async def _nothing_async(oneway: bool) -> BatchResults | None:
    return _nothing(oneway)


def _done() -> Future[BatchResults]:
    done: Future[BatchResults] = Future()
    done.set_result(BatchResults.none())
    return done


def _call_async(remote: Remote, gathered: Gathered, *, oneway: bool = False) -> Coroutine[Any, Any, Any]:
    """The call of a batch as a coroutine; the arguments are encoded now, unless functions may change them."""
    if not gathered:
        return _nothing_async(oneway)
    if remote.options.around:
        options = {"stop_on_error": gathered.stop_on_error}
        return invoke_async(remote, "", gathered.as_calls(), options, Call.BATCH, oneway=oneway)
    arguments, batch = gathered.pack(remote.options.codec, remote.edge, snapshot=True)

    async def call() -> Any:
        return await TaskCall(remote, "", arguments, Call.BATCH, oneway=oneway, batch=batch).result()

    return call()
