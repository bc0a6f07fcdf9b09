"""`current_context`: what a method can learn, and say, about the call that it carries out.

The daemon makes one `CallContext` for each call and runs the method in it; `current_context` is a view on the one of
the running thread or task. Lists are appended to and popped under the GIL without a lock of their own, so that a cancel
can come from any thread, at any moment, also while another thread registers a callback, and after a fork.
"""

from __future__ import annotations

import contextlib
import contextvars
import ipaddress
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ParamSpec, Protocol, TypeVar
from urllib.parse import unquote

from broker.errors import BrokerError

__all__ = ["CallContext", "Client", "ContextCopy", "SessionResources", "correlation_outside", "current_context"]

P = ParamSpec("P")
R = TypeVar("R")
Metadata = Mapping[str, "str | bytes"]

_NO_METADATA: Metadata = MappingProxyType({})
_log = logging.getLogger("broker")
_active: contextvars.ContextVar[CallContext | None] = contextvars.ContextVar("broker_call", default=None)


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls: the address as the transport names it, the process (16 bytes, empty where unknown), the codec."""

    address: str
    process_id: bytes = b""
    codec: str = "json"
    identity: str | None = None
    """The name by which the transport or a token authenticated the caller."""

    @property
    def host(self) -> str | None:
        """The IP address; None where no network lies between: a Unix socket, the same process."""
        return None if (place := self._place) is None else unquote(place[0]).strip("[]")

    @property
    def port(self) -> int | None:
        """The port from which the caller connected; None where there is no `host`."""
        return None if (place := self._place) is None else int(place[1])

    @property
    def _place(self) -> tuple[str, str] | None:
        kind, _, place = self.address.partition(":")
        host, _, port = place.rpartition(":")
        return (host, port) if kind in ("ipv4", "ipv6") else None

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the address is of this machine alone: loopback, a Unix socket, the same process."""
        if self.address.startswith(("unix:", "inproc:")):
            return True
        try:
            address = ipaddress.ip_address((self.host or "").partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback

    def __str__(self) -> str:
        return self.address if self.identity is None else f"{self.identity!r} ({self.address})"


class SessionResources(Protocol):
    """Where a session keeps what is to be closed when it ends. Methods may be called from any thread."""

    @property
    def values(self) -> dict[str, Any]: ...
    def track(self, resource: Any) -> None: ...
    def untrack(self, resource: Any) -> None: ...
    def on_close(self, function: Callable[[], object]) -> None: ...


@dataclass(frozen=True, slots=True)
class _CallOfMethod:
    """Ends a call that the method has made, when its own is cancelled."""

    end: Callable[[], object]

    def __call__(self) -> object:
        return self.end()


class CallContext:
    """One call on its way. Made by the daemon; `cancel` and all else may be called from any thread."""

    # What few calls have is an attribute of the class until it is set.
    oneway = False
    depth = 1
    deadline: float | None = None
    session: SessionResources | None = None
    knows = False
    """Whether the method has been told that it is cancelled, so that the calls it makes now are to tidy up."""
    _metadata: Metadata = _NO_METADATA
    outgoing_metadata: dict[str, str | bytes] | None = None
    """The response metadata, once the method has looked at it. It may be empty."""
    _cancelled = False
    _ends_soon = False

    def __init__(
        self,
        client: Client,
        object_id: str,
        member: str,
        *,
        metadata: Metadata = _NO_METADATA,
        correlation: bytes = b"",
        chain: bytes = b"",
        depth: int = 1,
        deadline: float | None = None,
        session: SessionResources | None = None,
        oneway: bool = False,
    ) -> None:
        """`deadline` is a time of `time.monotonic()`; `session` is None for a caller that has none."""
        self.client = client
        self.object_id = object_id
        self.member = member
        self.correlation = correlation
        self.chain = chain
        self.session = session
        if depth != 1:
            self.depth = depth
        if deadline is not None:
            self.deadline = deadline
        if oneway:
            self.oneway = True
        if metadata:
            self._metadata = metadata
        self._callbacks: list[Callable[[], object]] = []

    # ---- entering

    active: Callable[[], CallContext | None] = staticmethod(_active.get)
    """The context of the call that this thread or task carries out; None outside any call."""

    def enter(self) -> contextvars.Token[CallContext | None]:
        """Makes this the active context until `leave` is called with the token, in the same thread or task."""
        return _active.set(self)

    @staticmethod
    def leave(token: contextvars.Token[CallContext | None]) -> None:
        """Makes the context active again that was so before `enter`."""
        _active.reset(token)

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the function in this context; what it sets in other context variables is gone afterwards."""
        return self.new_context().run(function, *args, **kwargs)

    def new_context(self) -> contextvars.Context:
        """A copy of the thread's context with this one active: a generator keeps it for all its steps."""
        context = contextvars.copy_context()
        context.run(_active.set, self)
        return context

    # ---- what travels with the call

    @property
    def metadata(self) -> Metadata:
        return MappingProxyType(self._metadata)

    def own_metadata(self, metadata: dict[str, str | bytes] | None = None) -> dict[str, str | bytes]:
        """The metadata, or what is to take its place, as a dict of this call that may be changed."""
        if metadata is None:
            metadata = dict(self._metadata)
        self._metadata = metadata
        return metadata

    @property
    def response_metadata(self) -> dict[str, str | bytes]:
        if self.outgoing_metadata is None:
            self.outgoing_metadata = {}
        return self.outgoing_metadata

    @property
    def correlation_id(self) -> uuid.UUID | None:
        return uuid.UUID(bytes=self.correlation) if self.correlation else None

    # ---- the next call of a batch, which has one context for all its calls

    @property
    def callbacks(self) -> list[Callable[[], object]]:
        """What is called when the call is cancelled; always the same list."""
        return self._callbacks

    def forget_changes(self, metadata: Metadata) -> None:
        """Puts back the metadata that came with the call."""
        self._metadata = metadata

    # ---- time and cancelling

    @property
    def remaining(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def cancelled(self) -> bool:
        return self._ends_soon or self._is_given_up

    @property
    def _is_given_up(self) -> bool:
        return self._cancelled or (self.deadline is not None and time.monotonic() >= self.deadline)

    def cancel(self) -> None:
        """Tells the method that nobody waits for it any more, once: `cancelled` is true and the callbacks have run
        when this returns, unless another thread is just running them. A second time does nothing."""
        self._cancelled = True
        self._run_callbacks()

    def mark_cancelled(self) -> bool:
        """Sets `cancelled`, and leaves the callbacks (user code) to a later `cancel`; returns whether there are any."""
        self._cancelled = True
        return bool(self._callbacks)

    def mark_ending(self) -> bool:
        """Sets `cancelled`, though somebody still waits for the call: what it does is to end soon, by itself. Returns
        whether callbacks are left to `tell_of_ending`."""
        self._ends_soon = True
        return bool(self._callbacks)

    def tell_of_ending(self) -> None:
        """Runs the callbacks (user code). The calls that the method has made go on."""
        for function in list(self._callbacks):
            if type(function) is not _CallOfMethod:
                try:
                    self._callbacks.remove(function)
                except ValueError:  # another thread runs it
                    continue
                self._run(function)

    def on_cancel(self, function: Callable[[], object]) -> None:
        self._callbacks.append(function)
        if self._is_given_up:  # perhaps since a moment: whoever pops the callback runs it
            self._run_callbacks()
        elif self._ends_soon:
            self.tell_of_ending()

    def watch(self, end: Callable[[], object]) -> None:
        """Calls the function when the call is cancelled: what was begun on its behalf is to end with it.

        At once if the call was cancelled before and the method does not know that; not at all if it does, or if the
        call is oneway, whose caller does not wait for it anyway. `end` says that the method knows.
        """
        if self.must_be_told:
            end()
        elif not (self._cancelled or self.oneway):
            self._callbacks.insert(0, _CallOfMethod(end))  # before those of users
            self._run_if_cancelled()

    @property
    def must_be_told(self) -> bool:
        """Whether the call was cancelled, and the method does not know that."""
        return self._cancelled and not self.knows and not self.oneway

    def is_known_to_be_cancelled(self) -> bool:
        """`cancelled`, for the method itself: from now on it knows."""
        if not self.cancelled:
            return False
        self.knows = True
        return True

    def _run_if_cancelled(self) -> None:
        if self._cancelled:
            self._run_callbacks()

    def unwatch(self, end: Callable[[], object]) -> None:
        """Forgets a function that was given to `watch`."""
        try:
            self._callbacks.remove(_CallOfMethod(end))
        except ValueError:  # it was popped, or never taken
            pass

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        woken = threading.Event()
        self.on_cancel(woken.set)
        patience = [seconds for seconds in (timeout, self.remaining) if seconds is not None]
        woken.wait(min(patience, default=None))
        try:
            self._callbacks.remove(woken.set)
        except ValueError:  # it was popped, to be run
            pass
        return self.is_known_to_be_cancelled()

    def _run_callbacks(self) -> None:
        while True:
            try:
                function = self._callbacks.pop(0)
            except IndexError:
                return
            self._run(function)

    def _run(self, function: Callable[[], object]) -> None:
        try:
            function()
        except Exception:
            _log.warning(
                "a function given to current_context.on_cancel failed (call of %s on %r)",
                self.member, self.object_id, exc_info=True,
            )  # fmt: skip

    # ---- the session

    def session_for(self, what: str) -> SessionResources:
        """The session of the caller. Raises BrokerError if it has none; `what` says what was asked for."""
        if self.session is None:
            raise BrokerError(
                f"current_context.{what}: the caller of {self.member} on {self.object_id!r} is a unary client "
                f"({self.client.address}), which has no session whose end could be waited for: "
                f"close the resource before the method returns, or call through a broker.Proxy"
            )
        return self.session


correlation_outside: contextvars.ContextVar[bytes] = contextvars.ContextVar("broker_correlation", default=b"")
"""The correlation id of calls that a thread or task makes while it carries out none; empty for none."""
_received: contextvars.ContextVar[Metadata | None] = contextvars.ContextVar("broker_received", default=None)


def received_metadata(metadata: Metadata) -> None:
    """Keeps what came with the reply to a call of this thread or task, for `current_context.response_metadata`.

    Does nothing inside a call, whose own response metadata a nested call must not touch.
    """
    if _active.get() is None and (metadata or _received.get()):
        _received.set(metadata)


activate: Callable[[CallContext], object] = _active.set
"""Makes a context the active one, in a copy of the context variables that ends with the call."""


class ContextCopy:
    """A context that can be carried into other threads, also into several at once."""

    __slots__ = ("_context",)

    def __init__(self) -> None:
        self._context = contextvars.copy_context()

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the function with the deadline, the chain and all else of the call that was copied."""
        return self._context.copy().run(function, *args, **kwargs)


class CurrentContext:
    """A view on the call that the running thread or task carries out; safe to share, there is only one.

    Outside any call the attributes are None, empty or false, and what needs a call raises BrokerError.
    """

    __slots__ = ()

    @property
    def client(self) -> Client | None:
        """Who calls."""
        call = _active.get()
        return None if call is None else call.client

    @property
    def object_id(self) -> str | None:
        """The id of the object that is called."""
        call = _active.get()
        return None if call is None else call.object_id

    @property
    def member(self) -> str | None:
        """The name of the method or property that is called."""
        call = _active.get()
        return None if call is None else call.member

    @property
    def oneway(self) -> bool:
        """Whether nobody waits for the result."""
        call = _active.get()
        return call is not None and call.oneway

    @property
    def metadata(self) -> Metadata:
        """What the caller sent beside the arguments; read-only."""
        call = _active.get()
        return _NO_METADATA if call is None else call.metadata

    @property
    def response_metadata(self) -> dict[str, str | bytes]:
        """What goes back beside the result: fill it in. Outside any call: a copy of what came with the last reply."""
        call = _active.get()
        return dict(_received.get() or {}) if call is None else call.response_metadata

    @property
    def correlation_id(self) -> uuid.UUID | None:
        """The same for a call and all calls that it leads to. Outside any call: what `correlate` has set."""
        call = _active.get()
        if call is not None:
            return call.correlation_id
        correlation = correlation_outside.get()
        return uuid.UUID(bytes=correlation) if correlation else None

    @contextlib.contextmanager
    def correlate(self, correlation_id: uuid.UUID | None = None) -> Iterator[uuid.UUID]:
        """Gives the calls that this thread or task makes in a `with` block one correlation id, by default a new one.

        Outside such a block each call has one of its own. Raises BrokerError inside a call, which has its caller's.
        """
        if _active.get() is not None:
            raise BrokerError(
                "current_context.correlate() is for programs that begin something: what a method calls has the "
                "correlation id of the call that it carries out"
            )
        correlation_id = correlation_id or uuid.uuid4()
        token = correlation_outside.set(correlation_id.bytes)
        try:
            yield correlation_id
        finally:
            correlation_outside.reset(token)

    @property
    def remaining(self) -> float | None:
        """How many seconds the caller still waits, at least 0; None if it waits without end."""
        call = _active.get()
        return None if call is None else call.remaining

    @property
    def cancelled(self) -> bool:
        """Whether the caller has given up, or died, or its time has run out; of a stream, also whether its daemon is
        about to end."""
        call = _active.get()
        return call is not None and call.is_known_to_be_cancelled()

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Waits until the caller gives up, at most `timeout` seconds; returns whether it has."""
        return self._call("wait_cancelled()").wait_cancelled(timeout)

    def on_cancel(self, function: Callable[[], object]) -> None:
        """Calls the function once when the caller gives up, in some thread; at once if it has already."""
        call = self._call("on_cancel()")

        def tell() -> object:
            call.knows = True
            return function()

        call.on_cancel(tell)

    @property
    def session(self) -> dict[str, Any]:
        """What is kept for the session of the caller: a dict of its own, which ends with it. Methods of one session may
        run at the same time. Raises BrokerError where there is no session."""
        return self._session("session").values

    def track(self, resource: Any) -> None:
        """Closes the resource (calls its `close()`) when the session of the caller ends, however it ends.

        Raises TypeError for a resource without `close()` and BrokerError where there is no session.
        """
        if not callable(getattr(resource, "close", None)):
            kind = type(resource).__name__
            raise TypeError(f"current_context.track(): the resource is of type {kind}, which has no close()")
        self._session("track()").track(resource)

    def untrack(self, resource: Any) -> None:
        """Forgets a tracked resource: it is not closed any more."""
        self._session("untrack()").untrack(resource)

    def on_close(self, function: Callable[[], object]) -> None:
        """Calls the function once when the session of the caller ends. Raises BrokerError where there is none."""
        self._session("on_close()").on_close(function)

    def copy(self) -> ContextCopy:
        """The context as it is now: `copy().run(function, *args)` takes it into a thread that the method starts."""
        return ContextCopy()

    def __repr__(self) -> str:
        call = _active.get()
        return "<current_context: no call>" if call is None else f"<current_context: {call.member} of {call.object_id}>"

    def _call(self, what: str) -> CallContext:
        call = _active.get()
        if call is None:
            raise BrokerError(
                f"current_context.{what} is for methods that a daemon runs, and this thread carries out no call: "
                f"to use it in a thread that a method starts, run that by current_context.copy().run(function)"
            )
        return call

    def _session(self, what: str) -> SessionResources:
        return self._call(what).session_for(what)


current_context = CurrentContext()
"""The context of the call that is being carried out."""
