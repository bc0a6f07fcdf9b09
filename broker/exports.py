"""`broker.export`: objects and functions that are called back over the connection on which they were passed."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import os
import re
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any, NoReturn, TypeVar, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

from broker.codecs import GLOBAL_TYPES, TypeRegistry
from broker.connection.exports import Exported
from broker.errors import CodecError
from broker.exposure import Behavior, MemberTable, behavior_of, members_of, members_of_function, types_in_hints
from broker.objects import PLAIN, Registration, checked_executor, gate_of, nothing_remote

__all__ = ["EXPORTED_TYPES", "Export", "ExportedIterator", "ExportedObject", "export", "number_of", "pass_on"]

T = TypeVar("T")

EXPORTED_TYPES = TypeRegistry(GLOBAL_TYPES)
"""The types that may be rebuilt where exported objects are called: those of the process, and those in their hints."""

_PREFIX = "@"
"""Begins the id of an exported object in a call. No id of a registered object holds it."""
_ID = re.compile(rf"{_PREFIX}([0-9]{{1,20}})")


class ExportedObject(Exported):
    """An exported object, under a number that no other object of the process ever gets.

    It lives as long as a connection has given it away, or an `Export` of it is held.
    """

    __slots__ = ("number", "registration")

    def __init__(
        self,
        target: object,
        table: MemberTable,
        *,
        max_concurrency: int | None = None,
        executor: Executor | None = None,
        behavior: Behavior | None = None,
    ) -> None:
        """An object of which the members of that table are remote. Raises ValueError and TypeError."""
        behavior = behavior or Behavior()
        gate, executor = gate_of(max_concurrency, behavior), checked_executor(executor)
        self.number = next(_numbers)
        object_id, place = f"{_PREFIX}{self.number}", f"process {os.getpid()}"
        loop = asyncio._get_running_loop()
        self.registration = _Registration(object_id, target, table, behavior, gate, executor, place, loop)

    @property
    def target(self) -> object:
        """What was exported."""
        return self.registration.target

    def __repr__(self) -> str:
        return f"<export {self.number} of {_name_of(self.target)}>"


class _Passed:
    """An iterator that was passed, as the other side sees it."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def __iter__(self) -> Any:
        return self._iterator


class ExportedIterator(ExportedObject):
    """An iterator that was passed: the other side takes its items as a stream."""

    __slots__ = ()

    stream = True

    def __init__(self, iterator: Any) -> None:
        super().__init__(_Passed(iterator), members_of(_Passed))

    @property
    def target(self) -> object:
        passed: Any = self.registration.target
        return passed._iterator

    def __repr__(self) -> str:
        return f"<iterator {self.number}, {_name_of(self.target)}>"


class Export:
    """What `export` returns. Passed as an argument, or returned by a method, it arrives as a proxy.

    Used where it was made it is the object itself: what is called, read or set on it is so there.
    """

    __slots__ = ("_exported",)

    _exported: ExportedObject

    def __init__(self, exported: ExportedObject) -> None:
        object.__setattr__(self, "_exported", exported)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        target: Any = self._exported.target
        return target(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"an export has no attribute {name!r}")
        return getattr(self._exported.target, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._exported.target, name, value)

    def __eq__(self, other: object) -> bool:
        return self._exported is other._exported if isinstance(other, Export) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._exported)

    def __copy__(self) -> Export:
        return self

    def __deepcopy__(self, memo: object) -> Export:
        return self

    def __reduce__(self) -> NoReturn:
        raise CodecError(f"{self!r} cannot be pickled: it is passed in remote calls, by the codec of their proxy")

    def __repr__(self) -> str:
        return repr(self._exported)


class _Registration(Registration):
    """How an exported object is called."""

    @property
    def where(self) -> str:
        return f"export {self.object_id.removeprefix(_PREFIX)} ({_name_of(self.target)}) of {self.location}"


def number_of(object_id: str) -> int | None:
    """The number in the id of an exported object; None if it is the id of anything else."""
    found = _ID.fullmatch(object_id)
    return int(found[1]) if found is not None else None


_numbers = itertools.count(1)
_lock = threading.Lock()
# By what is the same for equal objects; what a key is made of is held by the value.
_exported: WeakValueDictionary[Hashable, ExportedObject] = WeakValueDictionary()
_tables: WeakKeyDictionary[object, MemberTable] = WeakKeyDictionary()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def export(obj_or_function: T, *, max_concurrency: int | None = None, executor: Executor | None = None) -> T:
    """Lets the other side of a call call this object back, over the same connection: pass what this returns.

    It may be an argument of a call, or lie anywhere in one, and a method of a daemon may return it. It arrives as a
    proxy: of a function, one that can be called; of an object, one with the object's remote members. The proxy can be
    kept, and called at any time from any thread, as long as the connection lasts; with it the object stays alive.

    `async def` functions and methods run on the event loop in which they are exported, if one is running, else on one
    of the library. The same object, or equal bound methods, arrive as equal proxies. `max_concurrency=1` runs its calls
    one after another in order of arrival; `executor` says on which threads they run. Raises TypeError for what cannot
    be exported, and ValueError if it is exported already, with other limits.
    """
    if isinstance(obj_or_function, Export):
        return obj_or_function
    key = _key(obj_or_function)
    with _lock:
        found = _exported.get(key)
    if found is None:
        found = _make(obj_or_function, max_concurrency, executor)
        with _lock:
            found = _exported.setdefault(key, found)
    registration = found.registration
    if max_concurrency not in (None, registration.gate.limit) or executor not in (None, registration.executor):
        raise ValueError(f"{found!r} exists, with another max_concurrency or executor: say them where it is made first")
    return cast("T", Export(found))


def pass_on(iterator: object) -> ExportedIterator:
    """Exports an iterator: the same one however often it is passed."""
    key = ("iterator", id(iterator))
    with _lock:
        found = _exported.get(key)
    if found is None:
        made = ExportedIterator(iterator)
        with _lock:
            found = _exported.setdefault(key, made)
    assert isinstance(found, ExportedIterator)
    return found


def _make(target: object, max_concurrency: int | None, executor: Executor | None) -> ExportedObject:
    _check(target)
    if _is_function(target):
        table, behavior = _table_of(cast("Callable[..., object]", target)), None
    else:
        table, behavior = _learnt(members_of(type(target))), behavior_of(type(target))
        if not table.members:
            raise TypeError(f"{_name_of(target)} cannot be exported: {nothing_remote(table)}")
    return ExportedObject(target, table, max_concurrency=max_concurrency, executor=executor, behavior=behavior)


def _table_of(function: Callable[..., object]) -> MemberTable:
    """The table of a function; reading one takes longer than calling it, and the like of it may come often."""
    template = _template(function)
    if template is None:
        return _learnt(members_of_function(function))
    known = _tables.get(template)
    if known is not None:
        return known.of(function)
    table = _learnt(members_of_function(function))
    _tables[template] = table.of(_nothing)
    return table


def _template(function: object) -> object:
    """Equal for functions that differ in what they close over, or are bound to, alone; None where that is not known."""
    if isinstance(function, MethodType):
        return function.__func__ if isinstance(function.__func__, FunctionType) else None
    if not isinstance(function, FunctionType) or function.__defaults__ or function.__kwdefaults__:
        return None
    bare = not function.__annotations__ and not vars(function)
    return function.__code__ if bare else None


def _nothing() -> None:
    """Stands for the function in a table that is kept."""


def _learnt(table: MemberTable) -> MemberTable:
    """The types that its hints name may be rebuilt from now on."""
    for cls in types_in_hints(table):
        EXPORTED_TYPES.learn(cls)
    return table


def _check(target: object) -> None:
    if isinstance(target, type):
        name = target.__name__
        raise TypeError(f"the class {name} cannot be exported: export an instance, or a function that makes one")
    if type(target) in PLAIN:
        raise TypeError(f"{target!r} is not exported: such values travel as copies; export an object that holds it")
    if hasattr(type(target), "_broker"):
        raise TypeError(f"{target!r} stands for an object elsewhere: pass it on as it is")


def _is_function(target: object) -> bool:
    return inspect.isroutine(target) or isinstance(target, functools.partial)


def _key(target: object) -> Hashable:
    """The same for what is the same: a bound method is made anew each time that it is looked up."""
    if isinstance(target, MethodType):
        return id(target.__self__), id(target.__func__)
    if isinstance(target, BuiltinMethodType) and not inspect.ismodule(target.__self__):
        return id(target.__self__), target.__name__
    return id(target)


def _name_of(target: object) -> str:
    name = getattr(target, "__qualname__", None)
    return name if isinstance(name, str) else f"the {type(target).__name__} object"
