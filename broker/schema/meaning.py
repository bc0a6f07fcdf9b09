"""What hints mean: what is left of them when everything is taken off that says nothing about values."""

from __future__ import annotations

import collections.abc as abc
import inspect
import typing
from collections.abc import Hashable, Mapping
from typing import Any

from broker.hints import FieldNumber, safe_repr
from broker.schema.kinds import SCALARS

__all__ = ["ITERATORS", "Inexpressible", "bare", "hashable", "item_of", "own_doc", "pinned", "replaced", "shown"]

ITERATORS = frozenset({abc.Iterator, abc.AsyncIterator, abc.AsyncIterable, abc.Generator, abc.AsyncGenerator})


class Inexpressible(Exception):
    """A hint that has no form in protobuf, and why."""


def pinned(hint: Any) -> int | None:
    """The number that the hint pins, if it does."""
    for part in getattr(hint, "__metadata__", ()):
        if isinstance(part, FieldNumber):
            return part.number
    return None


def item_of(hint: Any, *, iterators_alone: bool = False) -> Any:
    """The hint of the items of an iterator: Any if it does not say, None with `iterators_alone` if it is none."""
    if isinstance(hint, type) and hint in SCALARS:
        return None if iterators_alone else Any
    meant = bare(hint, {})
    origin = typing.get_origin(meant) or meant
    if origin in ITERATORS or (origin is abc.Iterable and not iterators_alone):
        return (*typing.get_args(meant), Any)[0]
    return None if iterators_alone else Any


def bare(hint: Any, names: Mapping[Any, Any]) -> Any:
    """The hint without what says nothing about values, type variables replaced."""
    while True:
        origin = typing.get_origin(hint)
        if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        elif type(origin).__name__ == "TypeAliasType":
            hint = origin.__value__[typing.get_args(hint)]
        elif isinstance(hint, typing.TypeVar) and hint in names:
            hint = names[hint]
        elif isinstance(hint, typing.TypeVar) and hint.__constraints__:
            return typing.Union[hint.__constraints__]  # noqa: UP007 - of a tuple
        elif isinstance(hint, typing.TypeVar) and hint.__bound__ is not None:
            hint = hint.__bound__
        else:
            return hint


def replaced(hint: Any, names: Mapping[Any, Any]) -> Any:
    """The hint with type variables replaced at any depth."""
    if not names:
        return hint
    if isinstance(hint, typing.TypeVar):
        return names.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    return hint[tuple(names.get(name, name) for name in parameters)] if parameters else hint


def hashable(hint: Any) -> Hashable:
    try:
        hash(hint)
    except TypeError:
        return safe_repr(hint)
    return hint  # type: ignore[no-any-return]


def shown(hint: Any) -> str:
    """The hint for people."""
    return hint.__qualname__ if isinstance(hint, type) and not typing.get_args(hint) else safe_repr(hint)


def own_doc(cls: type) -> str:
    """The docstring that somebody wrote for this very class."""
    doc = vars(cls).get("__doc__")
    if not isinstance(doc, str) or doc.startswith(f"{cls.__name__}(") or doc == "An enumeration.":
        return ""
    return inspect.cleandoc(doc)
