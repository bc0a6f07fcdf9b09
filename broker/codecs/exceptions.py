"""Exceptions taken apart and put together again, without running any `__init__` of a user's.

Both codecs use this. `take_apart` gives the parts as values, which a codec encodes; `put_together` makes the exception
of parts that arrived, or a `RemoteError` where the class is not known or must not be raised.
"""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
from collections.abc import Callable
from typing import Any, TypeGuard

from broker.codecs.types import TypeEntry, TypeRegistry, type_name
from broker.errors import (
    BrokerError,
    NameNotFound,
    NameTaken,
    NamingError,
    RemoteError,
    attach_remote_traceback,
    own_notes,
    remote_error,
)

__all__ = ["MAX_LEVELS", "find_class", "may_raise", "message_of", "put_together", "repr_of", "take_apart"]

MAX_LEVELS = 8
"""How deep causes, contexts and groups are followed."""

_BUILTINS = {
    name: cls for name, cls in vars(builtins).items() if isinstance(cls, type) and issubclass(cls, BaseException)
}
_NAMING = {type_name(cls): cls for cls in (NamingError, NameNotFound, NameTaken)}
_NEVER_RAISED = (StopIteration, asyncio.CancelledError, concurrent.futures.CancelledError)

_NATIVE: tuple[tuple[type[BaseException], tuple[str, ...]], ...] = (
    (OSError, ("errno", "strerror", "filename", "filename2", "characters_written")),
    (ImportError, ("msg", "name", "path")),
    (AttributeError, ("name",)),
    (NameError, ("name",)),
    (SyntaxError, ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset", "print_file_and_line")),
    (UnicodeError, ("encoding", "object", "start", "end", "reason")),
)
"""What builtin exceptions hold outside `args` and `__dict__`."""


def message_of(error: BaseException) -> str:
    """`str(error)`, whatever its `__str__` does."""
    try:
        return str(error)
    except Exception as fault:  # the user's __str__ is at fault, and the exception must still travel
        return f"<{type_name(type(error))}, whose __str__ raised {type(fault).__name__}>"


def repr_of(value: object) -> str:
    """`repr(value)`, whatever its `__repr__` does."""
    try:
        return repr(value)
    except Exception as fault:  # the user's __repr__ is at fault, and the exception must still travel
        return f"<{type_name(type(value))}, whose __repr__ raised {type(fault).__name__}>"


def take_apart(error: BaseException, traceback: str, to_dict: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """The parts of an exception by the names that they have on the wire; those that are empty are left out.

    `cause`, `context` and `exceptions` are exceptions, the other parts plain values.
    """
    kind = type(error)
    parts: dict[str, Any] = {
        "class": error.type if isinstance(error, RemoteError) and error.type else type_name(kind),
        "base": next(cls.__name__ for cls in kind.__mro__ if cls.__module__ == "builtins"),
        "message": error.message if isinstance(error, BaseExceptionGroup) else message_of(error),
        "args": _args(error),
        "attributes": _attributes(error, to_dict),
        "notes": own_notes(error),
        "cause": error.__cause__,
        "context": error.__context__ if error.__context__ is not error.__cause__ else None,
        "suppress_context": error.__suppress_context__,
        "exceptions": list(error.exceptions) if isinstance(error, BaseExceptionGroup) else [],
        "traceback": traceback,
    }
    return {name: part for name, part in parts.items() if name in _ALWAYS or not _is_empty(part)}


_ALWAYS = ("class", "base", "message", "args")


def _is_empty(part: object) -> bool:
    """Asks no exception: its class may have a `__bool__` of its own."""
    return part is None or (isinstance(part, list | dict | str | bool) and not part)


def _args(error: BaseException) -> list[object]:
    if isinstance(error, BaseExceptionGroup):
        return [error.message]
    if isinstance(error, RemoteError):
        return list(error.__dict__.get("_remote_args", error.args))
    return list(error.args)


def _attributes(error: BaseException, to_dict: Callable[[Any], Any] | None) -> dict[str, object]:
    if to_dict is not None:
        try:
            return dict(to_dict(error))
        except Exception:  # a user's function at fault must not hide the message of the exception
            return {}
    hidden = ("__notes__", "type", "_remote_args") if isinstance(error, RemoteError) else ("__notes__",)
    attributes = {name: value for name, value in vars(error).items() if name not in hidden}
    for cls, names in _NATIVE:
        if isinstance(error, cls):
            for name in names:
                value = getattr(error, name, None)
                if value is not None:
                    attributes.setdefault(name, value)
    return attributes


def find_class(name: str, types: TypeRegistry) -> type[Exception] | TypeEntry | None:
    """The class that an exception of that name may be rebuilt as; its entry if it was registered."""
    found = _BUILTINS.get(name) or _NAMING.get(name)
    if found is not None:
        return found if may_raise(found) else None
    entry = types.by_name(name)
    return entry if entry is not None and may_raise(entry.cls) else None


def may_raise(cls: type) -> TypeGuard[type[Exception]]:
    """Whether an exception of that class may be raised in the caller as what it is."""
    if not issubclass(cls, Exception) or issubclass(cls, _NEVER_RAISED):
        return False
    return not issubclass(cls, BrokerError) or issubclass(cls, NamingError)


def put_together(parts: dict[str, Any], found: type[Exception] | TypeEntry | None) -> BaseException:
    """The exception of those parts, with its remote traceback attached.

    `found` is what `find_class` gave. A class that cannot be rebuilt becomes a RemoteError.
    """
    error: BaseException | None = None
    if found is not None:
        try:
            error = _rebuilt(parts, found)
        except Exception:  # whatever a class does in __new__ or from_dict: the original message goes on
            error = None
    if error is None:
        error = _unknown(parts)
    for note in parts.get("notes", ()):
        error.add_note(note)
    error.__cause__ = parts.get("cause")
    error.__context__ = parts.get("context") or error.__cause__
    error.__suppress_context__ = parts.get("suppress_context", False)
    attach_remote_traceback(error, parts.get("traceback", ""))
    return error


def _rebuilt(parts: dict[str, Any], found: type[Exception] | TypeEntry) -> BaseException:
    if isinstance(found, TypeEntry):
        if found.from_dict is not None:
            error = found.from_dict(parts.get("attributes", {}))
            if not isinstance(error, found.cls) or not isinstance(error, BaseException):
                raise TypeError(f"from_dict of {found.name} made {type(error).__name__}")
            return error
        cls = found.cls
    else:
        cls = found
    native = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    args = tuple(parts["args"])
    if issubclass(cls, BaseExceptionGroup):
        args = (*args[:1], parts.get("exceptions", []))
    rebuilt: BaseException = native.__new__(cls, *args)
    if type(rebuilt) is not cls:
        raise TypeError(f"{native.__name__} made {type(rebuilt).__name__} of a {cls.__name__}")
    if "__init__" in native.__dict__ and not issubclass(cls, BaseExceptionGroup):
        _initialize(rebuilt, native, args)
    if not isinstance(rebuilt, BaseExceptionGroup):
        rebuilt.args = args
    _restore(rebuilt, parts.get("attributes", {}))
    return rebuilt


def _initialize(error: BaseException, native: Any, args: tuple[object, ...]) -> None:
    """Lets a builtin read its own arguments. Those of a derived class may be meant for its own `__init__`."""
    try:
        native.__init__(error, *args)
    except (TypeError, ValueError):
        error.args = args


def _restore(error: BaseException, attributes: dict[str, object]) -> None:
    """Sets attributes past any property or `__setattr__` of the class; those of builtins by their own names only."""
    native = {name for cls, names in _NATIVE if isinstance(error, cls) for name in names}
    for name, value in attributes.items():
        if name in native:
            setattr(error, name, value)
        elif not name.startswith("__"):
            error.__dict__[name] = value


def _unknown(parts: dict[str, Any]) -> RemoteError:
    base = _BUILTINS.get(parts["base"], Exception)
    members = [error for error in parts.get("exceptions", ()) if isinstance(error, Exception)]
    error = remote_error(parts["class"], parts["message"], base, members)
    error.__dict__["_remote_args"] = tuple(parts["args"])
    for name, value in parts.get("attributes", {}).items():
        if not name.startswith("__") and not hasattr(error, name):
            error.__dict__[name] = value
    return error
