"""What a daemon holds: registered objects and classes, the instances it makes of classes, and sessions."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from broker.codecs.types import TypeRegistry
from broker.errors import DaemonError, ObjectNotFound
from broker.exposure import Behavior, MemberTable, behavior_of, members_of, types_in_hints
from broker.uri import URI

_log = logging.getLogger("broker")
_NOTHING = object()  # an instance may be falsy, and None


class Gate:
    """Lets at most `limit` jobs run at a time, in order of arrival."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._running = 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()

    def enter(self, start: Callable[[], None]) -> None:
        """Calls `start` when there is a place; each is followed by one `leave`."""
        if self._limit is None:
            start()
            return
        with self._lock:
            if self._running >= self._limit:
                self._waiting.append(start)
                return
            self._running += 1
        start()

    def leave(self) -> None:
        if self._limit is None:
            return
        with self._lock:
            if not self._waiting:
                self._running -= 1
                return
            start = self._waiting.popleft()
        start()


@dataclass(eq=False)
class Registration:
    """A registered object or class."""

    object_id: str
    target: object
    table: MemberTable
    behavior: Behavior
    gate: Gate
    executor: Executor | None
    location: str
    _single: object = field(default=_NOTHING, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def is_class(self) -> bool:
        return isinstance(self.target, type)

    @property
    def where(self) -> str:
        """The object as messages name it."""
        return f"{self.object_id!r} at {self.location}"

    def instance(self, session: SessionState | None) -> object:
        """The object that answers a call of this session; makes it if need be. May run user code."""
        if not isinstance(self.target, type):
            return self.target
        if self.behavior.instance_mode == "single":
            with self._lock:
                if self._single is _NOTHING:
                    self._single = self._create(self.target)
                return self._single
        if self.behavior.instance_mode == "session" and session is not None:
            return session.instance(self, lambda cls=self.target: self._create(cls))  # type: ignore[misc]
        return self._create(self.target)

    @property
    def keeps_instances(self) -> bool:
        """Whether a session holds an instance of its own."""
        return self.is_class and self.behavior.instance_mode == "session"

    def _create(self, cls: type) -> object:
        creator = self.behavior.instance_creator
        if creator is None:
            return cls()
        made = creator(cls)
        if not isinstance(made, cls):
            raise TypeError(
                f"the instance creator of {cls.__name__} returned {type(made).__name__}: return {cls.__name__}"
            )
        return made


class SessionState:
    """What a daemon keeps for one session: instances, tracked resources, functions to call at its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._instances: dict[str, tuple[Registration, object]] = {}
        self._resources: dict[int, object] = {}
        self._on_close: list[Callable[[], object]] = []
        self._closed = False

    def instance(self, registration: Registration, create: Callable[[], object]) -> object:
        """The session's instance of a class. Made once, however many calls ask at the same time."""
        key = registration.object_id
        found = self._instances.get(key)
        if found is not None and found[0] is registration:
            return found[1]
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            found = self._instances.get(key)
            if found is None or found[0] is not registration:
                found = self._instances[key] = (registration, create())
            return found[1]

    def track(self, resource: object) -> None:
        """Closes the resource when the session ends; at once if it has."""
        with self._lock:
            if not self._closed:
                self._resources[id(resource)] = resource
                return
        _close(resource)

    def untrack(self, resource: object) -> None:
        with self._lock:
            self._resources.pop(id(resource), None)

    def on_close(self, function: Callable[[], object]) -> None:
        """Calls the function when the session ends; at once if it has."""
        with self._lock:
            if not self._closed:
                self._on_close.append(function)
                return
        _call(function)

    def close(self) -> None:
        """Ends the session. Runs user code: close() of resources, in the reverse order of tracking, then functions."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            resources, functions = list(self._resources.values()), list(self._on_close)
            self._resources.clear()
            self._instances.clear()
        for resource in reversed(resources):
            _close(resource)
        for function in functions:
            _call(function)


def _close(resource: object) -> None:
    close = getattr(resource, "close", None)
    if callable(close):
        _call(close)


def _call(function: Callable[[], object]) -> None:
    try:
        function()
    except Exception:
        _log.warning("what was to happen at the end of a session failed", exc_info=True)


class Sessions:
    """The sessions that have something to keep. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[Hashable, dict[int, SessionState]] = {}

    def find(self, connection: Hashable, number: int) -> SessionState | None:
        return self._states.get(connection, {}).get(number)

    def open(self, connection: Hashable, number: int) -> SessionState:
        """The state of a session, made if there is none."""
        with self._lock:
            return self._states.setdefault(connection, {}).setdefault(number, SessionState())

    def take(self, connection: Hashable, number: int) -> list[SessionState]:
        """Removes one session, to be closed by the caller."""
        with self._lock:
            sessions = self._states.get(connection, {})
            state = sessions.pop(number, None)
            if not sessions:
                self._states.pop(connection, None)
        return [state] if state is not None else []

    def take_all(self, connection: Hashable) -> list[SessionState]:
        """Removes all sessions of a connection, to be closed by the caller."""
        with self._lock:
            return list(self._states.pop(connection, {}).values())

    def __len__(self) -> int:
        return sum(map(len, list(self._states.values())))


class ObjectTable:
    """The objects of one daemon by id, and by the names that it has published. Identity tells them apart."""

    def __init__(
        self, location: str, *, require_expose: bool, types: TypeRegistry, published: Callable[[str], URI | None]
    ) -> None:
        self.location = location
        self._published = published
        self._require_expose = require_expose
        self._types = types
        self._lock = threading.Lock()
        self._by_id: dict[str, Registration] = {}

    def add(
        self,
        target: object,
        object_id: str | None,
        *,
        replace: bool = False,
        max_concurrency: int | None = None,
        executor: Executor | None = None,
    ) -> tuple[Registration, Registration | None]:
        """Registers an object or class; returns it with the registration that it replaced."""
        object_id = _checked_id(object_id)
        cls = target if isinstance(target, type) else type(target)
        table = members_of(cls, require_expose=self._require_expose)
        if not table.members:
            raise DaemonError(_nothing_remote(cls, table, self._require_expose))
        behavior = behavior_of(cls)
        limit = _checked_limit(max_concurrency) or behavior.max_concurrency
        registration = Registration(object_id, target, table, behavior, Gate(limit), executor, self.location)
        with self._lock:
            before = self._by_id.get(object_id)
            if before is not None and not replace:
                raise DaemonError(
                    f"{object_id!r} is taken at {self.location} by {_short(before.target)}: register {_short(target)} "
                    "under another id, or pass replace=True"
                )
            known = self._find_target(target)
            if known is not None and known is not before:
                raise DaemonError(
                    f"{_short(target)} is registered already, as {known.where}: use uri_for, or unregister"
                )
            self._by_id[object_id] = registration
        for cls_in_hint in types_in_hints(table):
            self._types.learn(cls_in_hint)
        _log_members(registration)
        return registration, before

    def remove(self, target_or_id: object) -> Registration:
        """Forgets an object, given itself or its id. Raises ObjectNotFound."""
        registration = self.get(target_or_id)
        with self._lock:
            self._by_id.pop(registration.object_id, None)
        return registration

    def get(self, target_or_id: object) -> Registration:
        """The registration of an object, given itself or its id or name. Raises ObjectNotFound."""
        with self._lock:
            found = self._find_target(target_or_id)
        if found is None and isinstance(target_or_id, str):
            found = self.find(target_or_id)
        if found is None:
            raise ObjectNotFound(f"{_short(target_or_id)} is not registered with the daemon at {self.location}")
        return found

    def find(self, object_id: str) -> Registration | None:
        """What answers to an id or a published name; an id wins."""
        found = self._by_id.get(object_id)
        if found is None:
            uri = self._published(object_id)
            found = self._by_id.get(uri.object) if uri is not None else None
        return found

    @property
    def registrations(self) -> dict[str, Registration]:
        with self._lock:
            return dict(self._by_id)

    def _find_target(self, target: object) -> Registration | None:
        return next((r for r in self._by_id.values() if r.target is target), None)


def _checked_id(object_id: object) -> str:
    if object_id is None:
        return f"obj_{uuid.uuid4().hex}"
    if not isinstance(object_id, str):
        raise TypeError(f"an object id is a str, not {type(object_id).__name__}")
    if not object_id or any(c.isspace() for c in object_id) or "@" in object_id:
        raise DaemonError(f"{object_id!r} is no object id: it must not be empty, nor hold white space or '@'")
    return object_id


def _checked_limit(limit: object) -> int | None:
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError(f"max_concurrency is a number from 1 on, or None for no limit; not {limit!r}")
    return limit


def _short(target: object) -> str:
    if isinstance(target, type):
        return f"class {target.__name__}"
    return repr(target) if isinstance(target, str) else f"the {type(target).__name__} object"


def _nothing_remote(cls: type, table: MemberTable, require_expose: bool) -> str:
    if require_expose:
        return f"nothing of {cls.__name__} is remote: mark members with @broker.expose (require_expose is set)"
    if not table.hidden:
        return f"nothing of {cls.__name__} is remote: it has no public method or property"
    return f"nothing of {cls.__name__} is remote: its public members are not marked with @broker.expose"


def _log_members(registration: Registration) -> None:
    hidden = ", ".join(registration.table.hidden)
    _log.info(
        "%s: %d remote members%s",
        registration.where,
        len(registration.table.members),
        f"; hidden by @expose marks: {hidden}" if hidden else "",
    )
