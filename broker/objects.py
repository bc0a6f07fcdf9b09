"""What a daemon holds: registered objects and classes, the instances it makes of classes, and sessions."""

from __future__ import annotations

import asyncio
import inspect
import logging
import queue
import threading
import uuid
import weakref
from collections.abc import Callable, Container, Hashable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from broker.codecs.types import TypeRegistry
from broker.errors import DaemonError, ObjectNotFound
from broker.exposure import Behavior, MemberTable, behavior_of, chosen_members, members_of, types_in_hints
from broker.turns import Gate
from broker.uri import URI

_log = logging.getLogger("broker")
_NOTHING = object()  # an instance may be falsy, and None


GENERATED = "obj_"
"""Begins the ids that nobody has chosen."""
Members = Iterable[str] | Mapping[str, str]
"""Which members are remote: their names, or their remote names with those in the class."""
PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None)})


class Maker:
    """Makes one thing once, however many threads ask at the same time."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._made: object = _NOTHING

    def get(self, create: Callable[[], object], what: str) -> object:
        """The thing; raises what `create` raises, and then the next who asks tries again."""
        if self._made is not _NOTHING:
            return self._made
        with self._lock:
            if self._made is _NOTHING:
                if self._busy:  # this very thread, in a nested call: to wait would be to wait for itself
                    raise RuntimeError(f"{what} is called while its instance is being made")
                self._busy = True
                try:
                    self._made = create()
                finally:
                    self._busy = False
            return self._made


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
    loop: asyncio.AbstractEventLoop | None = None
    """Where its `async def` methods run; None: on the loop of who serves it."""
    handing_over: Gate = field(default_factory=lambda: Gate(1), repr=False)
    """Keeps the order in which calls go to the executor."""
    paces: dict[str, float] = field(default_factory=dict, repr=False)
    """How many seconds the calls of each member hold their thread, on average."""
    targets: dict[str, Any] = field(default_factory=dict, repr=False)
    """What `dispatch.express` knows of each member."""
    _single: Maker = field(default_factory=Maker, repr=False)
    is_weak = False

    def __post_init__(self) -> None:
        self.target_id = id(self.target)

    @property
    def is_class(self) -> bool:
        return isinstance(self.target, type)

    @cached_property
    def where(self) -> str:
        """The object as messages name it."""
        return f"{self.object_id!r} at {self.location}"

    def instance(self, session: SessionState | None) -> object:
        """The object that answers a call of this session; makes it if need be. May run user code.

        None if it is gone, which a weak registration does not prevent.
        """
        if not isinstance(self.target, type):
            return self.target
        maker: Maker | None = None
        if self.behavior.instance_mode == "single":
            maker = self._single
        elif self.behavior.instance_mode == "session" and session is not None:
            maker = session.maker(self)
        cls = self.target
        return self._create(cls) if maker is None else maker.get(lambda: self._create(cls), self.where)

    @property
    def keeps_instances(self) -> bool:
        """Whether a session holds an instance of its own."""
        return self.is_class and self.behavior.instance_mode == "session"

    @property
    def makes_each_an_instance(self) -> bool:
        """Whether each call has an instance of its own."""
        return self.is_class and self.behavior.instance_mode == "percall"

    def _create(self, cls: type) -> object:
        creator = self.behavior.instance_creator
        if creator is None:
            return cls()
        made = creator(cls)
        if not isinstance(made, cls):
            raise TypeError(
                f"instance creator returned object of different type: {type(made).__name__}, not {cls.__name__}"
            )
        return made


class WeakRegistration(Registration):
    """One of an object that it does not keep alive; its target is None from then on."""

    is_weak = True
    on_gone: Callable[[Registration], object] | None = None
    """Called where the last reference goes: in any thread, at any moment, so that it may take no lock."""

    @property
    def target(self) -> object:
        return self._reference()

    @target.setter
    def target(self, target: object) -> None:
        self._reference = weakref.ref(target, self._gone)

    def _gone(self, reference: object) -> None:
        if self.on_gone is not None:
            self.on_gone(self)


class SessionState:
    """What a daemon keeps for one session: instances, tracked resources, functions to call at its end."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        """What methods keep in it."""
        self._lock = threading.Lock()
        self._makers: dict[str, tuple[Registration, Maker]] = {}
        self._resources: dict[int, object] = {}
        self._on_close: list[Callable[[], object]] = []
        self._closed = False

    def maker(self, registration: Registration) -> Maker:
        """Makes and holds the session's instance of a class."""
        with self._lock:
            found = self._makers.get(registration.object_id)
            if found is None or found[0] is not registration:
                found = self._makers[registration.object_id] = (registration, Maker())
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
            self._makers.clear()
        for resource in reversed(resources):
            _close(resource)
        for function in functions:
            _call(function)


def _close(resource: Any) -> None:
    _call(lambda: resource.close())  # noqa: PLW0108 - looking `close` up may fail as well


def _call(function: Callable[[], object]) -> None:
    try:
        function()
    except BaseException:  # one that ends its thread must not keep the others open
        _log.warning("what was to happen at the end of a session failed", exc_info=True)


class Sessions:
    """The sessions that have something to keep. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[Hashable, dict[int, SessionState]] = {}
        self.of_connections: Container[Hashable] = self._states
        """The connections that have any."""

    def find(self, connection: Hashable, number: int) -> SessionState | None:
        sessions = self._states.get(connection) if self._states else None
        return sessions.get(number) if sessions is not None else None

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
        self,
        location: str,
        *,
        require_expose: bool,
        types: TypeRegistry,
        published: Callable[[str], URI | None] = lambda name: None,
        name_of: Callable[[str], str | None] = lambda object_id: None,
    ) -> None:
        """`published` says what a name of this daemon leads to, and `name_of` by which name an object is known."""
        self.location = location
        self._published = published
        self._name_of = name_of
        self._require_expose = require_expose
        self._types = types
        self._lock = threading.Lock()
        self._by_id: dict[str, Registration] = {}
        self._by_target: dict[int, list[Registration]] = {}  # by identity; all but the first are for chosen members
        self.gone: queue.SimpleQueue[Registration | None] = queue.SimpleQueue()
        """The weak registrations whose objects went, to be removed by somebody who may take locks."""

    def add(
        self,
        target: object,
        object_id: str | None,
        *,
        replace: bool = False,
        max_concurrency: int | None = None,
        executor: Executor | None = None,
        members: Members | None = None,
        weak: bool = False,
    ) -> tuple[Registration, Registration | None]:
        """Registers an object or class; returns it with the registration that it replaced."""
        object_id = _checked_id(object_id)
        cls = target if isinstance(target, type) else type(target)
        behavior = behavior_of(cls)
        _check_target(target, behavior)
        table = self._table(cls, members)
        make = _weak_registration if weak else Registration
        gate = gate_of(max_concurrency, behavior)
        registration = make(object_id, target, table, behavior, gate, checked_executor(executor), self.location)
        with self._lock:
            before = self._by_id.get(object_id)
            if before is not None and not replace:
                raise DaemonError(
                    f"{object_id!r} is taken at {self.location} by {_short(before.target)}: register {_short(target)} "
                    "under another id, or pass replace=True"
                )
            known = self.of_target(target)
            if known is not None and known is not before and members is None:
                raise DaemonError(
                    f"{_short(target)} is registered already, as {known.where}: use uri_for, or unregister"
                )
            if before is not None:
                self._forget(before)
            self._by_id[object_id] = registration
            self._by_target.setdefault(id(target), []).append(registration)
        if isinstance(registration, WeakRegistration):
            registration.on_gone = self.gone.put
        for cls_in_hint in types_in_hints(table):
            self._types.learn(cls_in_hint)
        _log_members(registration)
        return registration, before

    def remove(self, target_or_id: object) -> Registration:
        """Forgets an object, given itself or its id. Raises ObjectNotFound."""
        while True:
            registration = self.get(target_or_id)
            with self._lock:
                if self._by_id.get(registration.object_id) is registration:  # else it was just replaced or removed
                    self._forget(registration)
                    return registration

    def remove_gone(self, registration: Registration) -> bool:
        """Forgets an object that went; False if it was removed or replaced before."""
        with self._lock:
            is_there = self._by_id.get(registration.object_id) is registration
            if is_there:
                self._forget(registration)
        return is_there

    def _forget(self, registration: Registration) -> None:
        del self._by_id[registration.object_id]
        left = [each for each in self._by_target[registration.target_id] if each is not registration]
        if left:
            self._by_target[registration.target_id] = left
        else:
            del self._by_target[registration.target_id]

    def of_target(self, target: object) -> Registration | None:
        """The registration of this very object or class, the first if there are several."""
        found = self._by_target.get(id(target), ())
        # Of another target: that went, and its place in memory is this one's now.
        return next((registration for registration in found if registration.target is target), None)

    def get(self, target_or_id: object) -> Registration:
        """The registration of an object, given itself or its id or name. Raises ObjectNotFound."""
        found = self.of_target(target_or_id)
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
        return None if found is not None and found.is_weak and found.target is None else found

    def known_as(self, object_id: str) -> str:
        """By what an object is spoken of, whatever it was called by: its id, or its name if the id was generated."""
        found = self.find(object_id)
        if found is None:
            return object_id
        name = self._name_of(found.object_id) if found.object_id.startswith(GENERATED) else None
        return name or found.object_id

    @property
    def registrations(self) -> dict[str, Registration]:
        """By id, but for those of objects that went."""
        with self._lock:
            present = list(self._by_id.items())
        return {key: found for key, found in present if not found.is_weak or found.target is not None}

    def _table(self, cls: type, members: Members | None) -> MemberTable:
        if members is not None:  # none at all, too: others can hold such an object, and hand it back
            return chosen_members(cls, members)
        table = members_of(cls, require_expose=self._require_expose)
        if not table.members:
            raise DaemonError(nothing_remote(table, require_expose=self._require_expose))
        return table


def _weak_registration(object_id: str, target: object, *rest: Any) -> Registration:
    """Raises TypeError for what has no weak references."""
    if isinstance(target, type):
        raise TypeError(f"weak=True is for objects: the instances of {_short(target)} are the daemon's own")
    try:
        return WeakRegistration(object_id, target, *rest)
    except TypeError:
        raise TypeError(f"weak=True: there are no weak references to {_short(target)}; register it as it is") from None


def _checked_id(object_id: object) -> str:
    if object_id is None:
        return f"{GENERATED}{uuid.uuid4().hex}"
    if not isinstance(object_id, str):
        raise TypeError(f"an object id is a str, not {type(object_id).__name__}")
    if not object_id or any(c.isspace() for c in object_id) or "@" in object_id:
        raise DaemonError(f"{object_id!r} is no object id: it must not be empty, nor hold white space or '@'")
    return object_id


def _check_target(target: object, behavior: Behavior) -> None:
    """Refuses what would be of no use to callers."""
    if type(target) in PLAIN:
        raise TypeError(f"{target!r} is not registered: such values travel as copies; register an object that holds it")
    if not isinstance(target, type) or behavior.instance_creator is not None:
        return
    try:
        inspect.signature(target).bind()
    except ValueError:  # no signature is known: it will show
        return
    except TypeError as error:
        raise DaemonError(
            f"{_short(target)} cannot be registered: the daemon makes its instances without arguments ({error}); "
            "register an instance, or say how they are made with @broker.behavior(instance_creator=...)"
        ) from None


def gate_of(max_concurrency: object, behavior: Behavior) -> Gate:
    """The gate of an object, given what was said of it and of its class. Raises ValueError."""
    if max_concurrency is not None and (not isinstance(max_concurrency, int) or max_concurrency < 1):
        raise ValueError(f"max_concurrency is a number from 1 on, or None for no limit; not {max_concurrency!r}")
    return Gate(max_concurrency or behavior.max_concurrency)


def checked_executor(executor: Executor | None) -> Executor | None:
    """The executor of an object. Raises TypeError for what is none."""
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor is a concurrent.futures.Executor or None, not {executor!r}")
    return executor


def _short(target: object) -> str:
    if isinstance(target, type):
        return f"class {target.__name__}"
    return repr(target) if isinstance(target, str) else f"the {type(target).__name__} object"


def nothing_remote(table: MemberTable, *, require_expose: bool = False) -> str:
    """Why nothing of a class is remote."""
    name = table.cls.__name__
    if require_expose:
        return f"nothing of {name} is remote: mark members with @broker.expose (require_expose is set)"
    if not table.hidden:
        return f"nothing of {name} is remote: it has no public method or property"
    return f"nothing of {name} is remote: its public members are not marked with @broker.expose"


def _log_members(registration: Registration) -> None:
    hidden = ", ".join(registration.table.hidden)
    _log.info(
        "%s: %d remote members%s",
        registration.where,
        len(registration.table.members),
        f"; hidden by @expose marks: {hidden}" if hidden else "",
    )
