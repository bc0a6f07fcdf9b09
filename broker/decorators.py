"""The decorators that say what is remote, and the reading of their marks.

A mark belongs to a name: it is inherited, and an override of a marked member stays marked. `@expose` on a class marks
the members that this class itself defines.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from broker.hints import safe_repr

__all__ = ["SPECIAL", "Behavior", "behavior", "behavior_of", "expose", "is_public", "marked_names", "oneway"]

SPECIAL = frozenset({"__len__", "__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__call__"})
"""The names with an underscore that count as public."""

T = TypeVar("T")
InstanceMode = Literal["session", "single", "percall"]
_MODES = typing.get_args(InstanceMode)

# typing passes over names that begin with `_abc_` when it collects what a Protocol asks for.
EXPOSED = "_abc_broker_exposed"
ONEWAY = "_abc_broker_oneway"
_BEHAVIOR = "_abc_broker_behavior"


def is_public(name: str) -> bool:
    """Whether a member of this name may be remote at all."""
    return name in SPECIAL or (not name.startswith("_") and name.isidentifier())


# ---- decorators


def expose(target: T) -> T:
    """Marks a method, a property or a class as remote; returns it as it is.

    It stands above or below `@property`, `@staticmethod` and `@classmethod`. A mark on any function of a property
    marks the property. On a class it marks the public members which that class itself defines. Raises AttributeError
    for a private name and TypeError for what is neither of these.
    """
    if isinstance(target, type):
        _set_mark(target, EXPOSED)
        return target
    function = _function_to_mark(target, "expose")
    name = getattr(function, "__name__", "")
    if not is_public(name) and not isinstance(target, functools.partialmethod) and name != "<lambda>":
        raise AttributeError(
            f"@expose: {name!r} is private and never remote: give it a name without the underscore at its beginning "
            f"(of those with underscores only {', '.join(sorted(SPECIAL))} can be remote)"
        )
    _set_mark(_markable(target), EXPOSED)
    return target


def oneway(function: T) -> T:
    """Marks a method whose callers do not wait for it: they get None at once, and its exceptions go to the log.

    It stands above or below `@staticmethod`, `@classmethod` and `@expose`. Raises TypeError for anything but a method.
    """
    if isinstance(function, (type, property, functools.cached_property)):
        raise TypeError(f"@oneway: {safe_repr(function)} cannot be oneway: write it above a method")
    _function_to_mark(function, "oneway")
    _set_mark(function, ONEWAY)
    return function


def _function_to_mark(target: Any, decorator: str) -> Any:
    function = function_of(target)
    if function is None or not hasattr(function, "__name__"):
        raise TypeError(
            f"@{decorator}: {safe_repr(target)} is neither a method nor a property nor a class: "
            f"an attribute of an instance is never remote, make it a property"
        )
    return function


def _markable(target: Any) -> Any:
    """What of a member can hold a mark: a property object cannot, its functions can."""
    return _property_function(target) if isinstance(target, property) else target


def _set_mark(holder: Any, mark: str) -> None:
    try:
        setattr(holder, mark, True)
    except (AttributeError, TypeError) as error:
        raise TypeError(
            f"{safe_repr(holder)} is written in C and cannot be marked: define a method of your own that calls it"
        ) from error


@dataclass(frozen=True, slots=True)
class Behavior:
    """How a daemon makes and calls the instances of a registered class."""

    instance_mode: InstanceMode = "session"
    instance_creator: Callable[[Any], Any] | None = None
    max_concurrency: int | None = None


_DEFAULT_BEHAVIOR = Behavior()


def behavior(
    instance_mode: InstanceMode = "session",
    instance_creator: Callable[[Any], Any] | None = None,
    max_concurrency: int | None = None,
) -> Callable[[type[T]], type[T]]:
    """Says how a daemon makes the instances of a class: one per `session`, a `single` one, or one `percall`.

    `instance_creator(cls)` makes an instance in place of `cls()`. `max_concurrency` bounds how many calls run at the
    same time, of all instances of a registered class together. Subclasses inherit all three. Raises SyntaxError when
    the parentheses are missing, ValueError for an unknown mode or a bound below 1, TypeError for a creator that cannot
    be called or a target that is no class.
    """
    if isinstance(instance_mode, type):
        raise SyntaxError('@behavior needs its arguments: write @behavior(instance_mode="session") above the class')
    if instance_mode not in _MODES:
        raise ValueError(f"@behavior: invalid instance mode: {instance_mode} (there are: {', '.join(_MODES)})")
    if instance_creator is not None and not callable(instance_creator):
        raise TypeError(
            f"@behavior: instance_creator must be a callable: a function that takes the class and returns an instance, "
            f"and not {safe_repr(instance_creator)}"
        )
    if max_concurrency is not None and (type(max_concurrency) is not int or max_concurrency < 1):
        raise ValueError(f"@behavior: max_concurrency is a whole number from 1 on, or None, not {max_concurrency!r}")
    settings = Behavior(instance_mode, instance_creator, max_concurrency)

    def decorate(cls: type[T]) -> type[T]:
        if not isinstance(cls, type):
            raise TypeError(f"@behavior is for classes, and {safe_repr(cls)} is none")
        setattr(cls, _BEHAVIOR, settings)
        return cls

    return decorate


def behavior_of(cls: type) -> Behavior:
    """What `@behavior` said of the class or the nearest of its bases; otherwise the defaults."""
    for base in cls.__mro__:
        found = vars(base).get(_BEHAVIOR)
        if isinstance(found, Behavior):
            return found
    return _DEFAULT_BEHAVIOR


# ---- reading the marks


def class_attributes(cls: type) -> Iterator[tuple[type, str, Any]]:
    """What the class and its bases define, the most basic first; `object` itself defines nothing remote."""
    for base in reversed(cls.__mro__):
        if base is not object:
            for name, value in tuple(vars(base).items()):
                yield base, name, value


def marked_names(cls: type, mark: str) -> tuple[set[str], bool]:
    """The names that a mark makes remote, and whether there is any mark at all, be it on a class of no members."""
    names = {
        name
        for base, name, value in class_attributes(cls)
        if _has_mark(value, mark) or (_own_class_mark(base, mark) and is_public(name))
    }
    return names, bool(names) or any(_own_class_mark(base, mark) for base in cls.__mro__)


def _own_class_mark(cls: type, mark: str) -> bool:
    return vars(cls).get(mark) is True


def _has_mark(value: Any, mark: str) -> bool:
    if isinstance(value, property):
        return any(_own_mark(function, mark) for function in (value.fget, value.fset, value.fdel))
    if isinstance(value, (staticmethod, classmethod, functools.singledispatchmethod, functools.cached_property)):
        return _own_mark(value, mark) or _own_mark(function_of(value), mark)
    return is_method(value) and _own_mark(value, mark)


def _own_mark(holder: object, mark: str) -> bool:
    return getattr(holder, mark, False) is True


# ---- the shapes of members in a class body


def is_property(value: object) -> bool:
    return isinstance(value, (property, functools.cached_property))


def is_method(value: Any) -> bool:
    """Whether it becomes a method when it is looked up: a class attribute that just can be called is none."""
    if isinstance(value, _WRAPPERS):
        return callable(function_of(value))
    if isinstance(value, (type, types.MethodType)):
        return False
    kind = type(value)
    return callable(value) and hasattr(kind, "__get__") and not hasattr(kind, "__set__")


# The descriptors of the standard library that make a method of a function without being callable in every Python.
_WRAPPERS = (staticmethod, classmethod, functools.partialmethod, functools.singledispatchmethod)


def _property_function(value: property) -> Callable[..., Any] | None:
    return value.fget or value.fset or value.fdel


def function_of(value: Any) -> Any:
    """The function that a member of a class was made of, with its decorators; None if there is none."""
    if isinstance(value, property):
        return _property_function(value)
    while isinstance(value, (*_WRAPPERS, functools.cached_property)):
        value = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value.func
    return value if callable(value) and not isinstance(value, type) else None
