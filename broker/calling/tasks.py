"""Calls that a task of an event loop awaits: no thread for each, and one wake-up of the loop for all that has come."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakKeyDictionary

from broker._pb.broker_pb2 import Batch, Call
from broker.around import Call as AroundCall
from broker.around import same_target
from broker.calling.around import KINDS, as_call, mark
from broker.calling.driven import DrivenCall
from broker.calling.streams import NOTHING, RemoteItems
from broker.codecs import Encoded
from broker.connection.client import Route
from broker.connection.workers import connecting
from broker.context import received_metadata
from broker.uri import URI

if TYPE_CHECKING:
    from broker.calling.remote import Remote

R = TypeVar("R")
_LARGE = 1 << 20  # bytes of a result that are not decoded on the loop, which would stand still meanwhile


class Mailbox:
    """What has come for the tasks of one loop. `put` may be called by any thread, readers included; it never waits."""

    def __init__(self) -> None:
        self._arrived: deque[asyncio.Future[None]] = deque()
        self._told = False  # the loop is going to look

    def put(self, waiter: asyncio.Future[None]) -> None:
        """Ends the wait of a task."""
        self._arrived.append(waiter)
        if self._told:
            return
        self._told = True
        try:
            waiter.get_loop().call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop is closed, and nobody waits there
            self._arrived.clear()

    def _deliver(self) -> None:
        self._told = False  # before looking: what is put from now on is told again
        arrived = self._arrived
        while arrived:
            waiter = arrived.popleft()
            if not waiter.done():
                waiter.set_result(None)


_mailboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = WeakKeyDictionary()


def _mailbox() -> tuple[Mailbox, asyncio.Future[None]]:
    """The mailbox of the running loop, and what a task awaits until something is put for it."""
    loop = asyncio.get_running_loop()
    mailbox = _mailboxes.get(loop)
    if mailbox is None:
        mailbox = _mailboxes[loop] = Mailbox()
    return mailbox, loop.create_future()


async def in_thread(function: Callable[[], R]) -> R:
    """Runs a function that waits on a thread of ours, in the context of the task, and awaits its end.

    Raises Overloaded if there is no thread for it.
    """
    mailbox, waiter = _mailbox()
    ended: list[tuple[R | None, BaseException | None]] = []
    context = contextvars.copy_context()

    def job() -> None:
        try:
            ended.append((context.run(function), None))
        except BaseException as error:
            ended.append((None, error))
        mailbox.put(waiter)

    connecting.submit(job)
    await waiter
    result, error = ended[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # it is what the function returned


class AsyncRemoteIterator(AsyncIterator[Any]):
    """The items of a remote iterator, for `async for`: as they are asked for and a little ahead.

    Leaving the loop early stops the generator: close the iterator with `await it.aclose()`, leave its `async with`
    block, or drop it. What the generator raises comes at its place; a lost connection is ConnectionClosedError, and an
    item that takes longer than the `timeout` of the proxy CallTimeout, after which the stream is over. Cancelling a
    task that waits for an item loses none. The tasks of one loop may share it.
    """

    __slots__ = ("__weakref__", "_decoding", "items")

    def __init__(self, items: RemoteItems) -> None:
        self.items = items
        self._decoding: asyncio.Future[None] | None = None

    async def __anext__(self) -> Any:
        items = self.items
        deadline: float | None = None
        while True:
            if items.size_ready >= _LARGE or self._decoding is not None:
                await self._decode()
            try:
                item = items.next_ready()
            except StopIteration:
                raise StopAsyncIteration from None
            if item is not NOTHING:
                return item
            deadline = deadline or items.deadline()
            await self._wait(deadline)

    async def _decode(self) -> None:
        """Decodes the next item on another thread, which goes on if the task is cancelled."""
        if self._decoding is None:
            self._decoding = asyncio.ensure_future(in_thread(self.items.decode_ready))
            self._decoding.add_done_callback(self._decoded)
        await asyncio.shield(self._decoding)

    def _decoded(self, decoding: asyncio.Future[None]) -> None:
        self._decoding = None
        if not decoding.cancelled():
            decoding.exception()  # perhaps nobody awaits it any more

    async def _wait(self, deadline: float | None) -> None:
        mailbox, ready = _mailbox()
        self.items.stream.when_ready(lambda: mailbox.put(ready))
        try:
            async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic())):
                await ready
        except TimeoutError:
            raise self.items.too_late() from None

    @property
    def value(self) -> Any:
        """What the generator returned; None before its end, and for one that returns nothing."""
        return self.items.value

    async def aclose(self) -> None:
        """Stops the generator, unless it is over; does not wait for it."""
        self.items.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.items}>"


class TaskCall(DrivenCall):
    """A call that a task awaits."""

    _iterator = AsyncRemoteIterator

    def __init__(
        self,
        remote: Remote,
        member: str,
        arguments: Encoded,
        kind: Call.Kind,
        *,
        oneway: bool,
        batch: Batch | None = None,
    ) -> None:
        self._task = asyncio.current_task()
        super().__init__(remote, member, arguments, kind, oneway=oneway, batch=batch)
        self._mailbox, self._waiter = _mailbox()

    def _lane(self, *, waits: bool) -> int:
        if self._task is None:  # a callback of the loop
            return self.remote.lanes.of_thread(waits=waits)
        return self.remote.lanes.of_task(self._task, waits=waits)

    async def result(self) -> Any:
        """Sends the call and awaits its result. Cancelling the task cancels the call."""
        try:
            await self._wait_for_room()
            self._begin()
            await self._waiter
        except BaseException as error:  # CancelledError above all
            self.give_up("the task was cancelled", error)
            raise
        ending = self.ending
        assert ending is not None
        if isinstance(ending, BaseException):
            raise ending
        if ending.value is None or ending.value.size < _LARGE:
            return self.result_of(ending)
        received_metadata(ending.metadata)
        return await in_thread(lambda: self.result_of(ending))

    def _begin(self) -> None:
        if self.remote.known_description() is None:
            self.needs_description = True
        else:
            self._take_from_description()
        self.start(self.remote.open_place(nested=self.outlasts_drain))

    async def _wait_for_room(self) -> None:
        place = self.remote.open_place(nested=self.outlasts_drain)
        if place is None or not place[1].room.is_full:
            return
        room, deadline = place[1].room, self.request.deadline
        mailbox, waiter = _mailbox()
        queued = room.queue(lambda: mailbox.put(waiter))
        calls = False
        try:
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                await waiter
            calls = True
        except TimeoutError:
            raise self.too_late(None) from None
        finally:
            room.leave(queued, calls=calls)

    def depart(self, uri: URI, connection: Route) -> None:
        self._take_from_description()
        super().depart(uri, connection)

    def _take_from_description(self) -> None:
        """Whether the method is one that nobody waits for only its class says."""
        request = self.request
        description = self.remote.known_description()
        member = description.members.get(request.member) if description is not None else None
        if member is not None and member.oneway and request.kind == Call.METHOD and not request.oneway:
            request.oneway = True
            request.lane = self._lane(waits=False)

    def completed(self) -> None:
        self._mailbox.put(self._waiter)


async def invoke_async(
    remote: Remote,
    member: str,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    kind: Call.Kind = Call.METHOD,
    *,
    oneway: bool = False,
) -> Any:
    """Calls a member and awaits its result, unless `oneway`. Raises what the method raised, and BrokerErrors."""
    if not remote.options.around:
        arguments = remote.encode(args, kwargs, snapshot=oneway)
        return await TaskCall(remote, member, arguments, kind, oneway=oneway).result()
    asked = as_call(remote, member, args, kwargs, KINDS[kind], oneway=oneway)

    async def innermost(call: AroundCall) -> Any:
        if call is not asked:
            call = same_target(asked, call)
        arguments, batch = remote.pack(kind, call.args, call.kwargs, snapshot=oneway)
        invocation = TaskCall(remote, member, arguments, kind, oneway=oneway, batch=batch)
        mark(invocation, call)
        return await invocation.result()

    return await remote.options.around.nested(innermost, lambda rest: rest)(asked)
