"""Hints: annotations as plain data for the wire and back, and the classes that they name.

A hint crosses as text and is rebuilt by the small grammar of `_HintParser` against a closed table, so that nothing is
ever evaluated or imported by a name that came from the wire. What is not known there becomes a `Hint` that prints as
the text did.

A described hint is null (no annotation), ["hint", text], ["string", text] (the annotation was a string) or
["text", text] (only for show).
"""

from __future__ import annotations

import ast
import builtins
import collections
import collections.abc
import datetime
import decimal
import enum
import fractions
import functools
import operator
import pathlib
import re
import types
import typing
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

__all__ = [
    "FieldNumber",
    "Hint",
    "classes_in",
    "describe_hint",
    "qualified_name",
    "rebuild_hint",
    "safe_repr",
    "without_numbers",
]

_LONGEST_HINT = 4096
_DEEPEST_HINT = 32
_LONGEST_REPR = 1000


@dataclass(frozen=True, slots=True)
class Hint:
    """Stands in for an annotation that this process does not know; prints as the annotation did."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class FieldNumber:
    """Pins the number that a parameter, or a field of a record, has in the typed service of its object.

    `item: Annotated[str, FieldNumber(2)]` keeps the number 2 wherever the parameter stands. What follows without a
    number gets the next one. Python's own callers do not see it.
    """

    number: int


def without_numbers(hint: Any) -> Any:
    """The hint without `FieldNumber`, which says nothing about values."""
    if typing.get_origin(hint) is not typing.Annotated:
        return hint
    meant, *others = typing.get_args(hint)
    kept = [part for part in others if not isinstance(part, FieldNumber)]
    return typing.Annotated[meant, *kept] if kept else meant


# ---- the closed table of names


def _public_hints(module: types.ModuleType) -> dict[str, Any]:
    """The classes and typing forms of a module. Looked up in `vars`: a module's `__getattr__` may warn."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    prefix = "" if module is builtins else f"{module.__name__}."
    found = {f"{prefix}{name}": vars(module).get(name) for name in names}
    return {name: value for name, value in found.items() if _is_class_or_form(value)}


def _is_class_or_form(value: object) -> bool:
    return isinstance(value, type) or (type(value).__module__ == "typing" and not isinstance(value, typing.TypeVar))


def _closed_table() -> dict[str, Any]:
    modules = (builtins, collections, collections.abc, datetime, decimal, fractions, pathlib, types, typing)
    table = {"uuid.UUID": uuid.UUID}
    for module in modules:
        table |= _public_hints(module)
    return table


_KNOWN_HINTS = _closed_table()
_NAMES_OF_HINTS = {id(value): name for name, value in reversed(_KNOWN_HINTS.items())}


def qualified_name(cls: type) -> str:
    """The name of a class as `module.name`; the bare name of a builtin."""
    return _NAMES_OF_HINTS.get(id(cls)) or f"{cls.__module__}.{cls.__qualname__}"


# ---- describing


def describe_hint(hint: Any, type_name: Callable[[type], str]) -> list[str] | None:
    if hint is Parameter.empty:
        return None
    if isinstance(hint, str):
        return ["string", hint]
    text = _hint_text(hint, type_name)
    return ["text" if _is_too_deep(text) else "hint", text]


def _hint_text(hint: Any, type_name: Callable[[type], str]) -> str:
    """The hint in the grammar of `_HintParser`, classes by their full names; its repr where it has no such form."""
    text = functools.partial(_hint_text, type_name=type_name)
    hint = without_numbers(hint)
    if hint is Ellipsis:
        return "..."
    if isinstance(hint, typing.ForwardRef):
        return repr(hint.__forward_arg__)
    if isinstance(hint, types.UnionType):
        return " | ".join(text(None if part is types.NoneType else part) for part in hint.__args__)
    if isinstance(hint, list):
        return f"[{', '.join(map(text, hint))}]"
    arguments: Sequence[Any] = typing.get_args(hint)
    if (arguments or isinstance(hint, types.GenericAlias)) and not getattr(hint, "__unpacked__", False):
        head = _generic_head(hint, type_name)
        if head == "typing.Optional":
            arguments = [part for part in arguments if part is not types.NoneType]
        return f"{head}[{', '.join(map(text, arguments)) or '()'}]"
    return type_name(hint) if isinstance(hint, type) else _NAMES_OF_HINTS.get(id(hint)) or safe_repr(hint)


def _generic_head(hint: Any, type_name: Callable[[type], str]) -> str:
    """`typing.List` for `typing.List[int]`, although its origin is `list`."""
    head = repr(hint).partition("[")[0]
    origin = typing.get_origin(hint)
    return type_name(origin) if isinstance(origin, type) and not head.startswith("typing.") else head


def safe_repr(value: object) -> str:
    """The repr on one line and of a sane length; never raises."""
    try:
        text = repr(value)
    except Exception as error:  # a repr is user code, and a description must not fail for it
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= _LONGEST_REPR else f"{text[:_LONGEST_REPR]}…"


# ---- rebuilding


def rebuild_hint(data: Any, known: Callable[[str], type | None]) -> Any:
    if data is None:
        return Parameter.empty
    form, text = data
    if not isinstance(text, str) or form not in ("hint", "string", "text"):
        raise ValueError(f"a hint is [form, text], not {safe_repr(data)}")
    if form != "hint":
        return text if form == "string" else Hint(text)
    if _is_too_deep(text):
        raise ValueError(f"a hint is too long or too deep: {text[:60]}…")
    return _HintParser(text, known).parse()


def _is_too_deep(text: str) -> bool:
    if len(text) > _LONGEST_HINT:
        return True
    depth = 0
    for character in text:
        depth += (character in "[(") - (character in ")]")
        if depth > _DEEPEST_HINT:
            return True
    return False


_ESCAPE = r"\\(?:[\\'\"abfnrtv0]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})"  # no others: Python warns of some
_TOKEN = re.compile(
    r"\s*(?:"
    r"(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*(?![\w'\"]))"
    rf"|(?P<constant>-?\d{{1,1000}}|b?'(?:[^'\\\n]|{_ESCAPE})*'|b?\"(?:[^\"\\\n]|{_ESCAPE})*\")"
    r"|(?P<mark>\.\.\.|[\[\](),|]))"
)
_CONSTANTS = {"None": None, "True": True, "False": False}


class _NotInGrammar(Exception):
    """The text is no hint of this grammar: it is only for show."""


class _HintParser:
    """Reads one hint. The grammar:

    union     = primary ("|" primary)*
    primary   = constant | "..." | list | "(" ")" | name [list]
    list      = "[" union ("," union)* "]"
    """

    def __init__(self, text: str, known: Callable[[str], type | None]) -> None:
        self._text = text
        self._known = known
        self._at = 0
        self._next: re.Match[str] | None = None

    def parse(self) -> Any:
        try:
            self._advance()
            hint = self._union()
            return hint if self._next is None else Hint(self._text)
        except _NotInGrammar:
            return Hint(self._text)

    def _advance(self) -> None:
        if self._next is not None:
            self._at = self._next.end()
        if not self._text[self._at :].strip():
            self._next = None
            return
        self._next = _TOKEN.match(self._text, self._at)
        if self._next is None:
            raise _NotInGrammar

    def _take(self, mark: str) -> bool:
        if self._next is None or self._next["mark"] != mark:
            return False
        self._advance()
        return True

    def _need(self, mark: str) -> None:
        if not self._take(mark):
            raise _NotInGrammar

    def _union(self) -> Any:
        start = self._at
        parts = [self._primary()]
        while self._take("|"):
            parts.append(self._primary())
        if len(parts) == 1:
            return parts[0]
        return self._or_stand_in(start, parts, lambda: functools.reduce(operator.or_, parts))

    def _primary(self) -> Any:
        token, start = self._next, self._at
        if token is None:
            raise _NotInGrammar
        if token["mark"] == "[":
            return self._list()
        self._advance()
        if token["constant"]:
            return self._constant(token["constant"])
        if token["mark"] == "...":
            return Ellipsis
        if token["mark"] == "(":
            self._need(")")
            return ()
        if not token["name"]:
            raise _NotInGrammar
        return self._named(token["name"], start)

    def _constant(self, text: str) -> Any:
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError) as error:  # such as a character beyond Unicode
            raise _NotInGrammar from error

    def _named(self, name: str, start: int) -> Any:
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        own = name in _KNOWN_HINTS
        hint: Any = _KNOWN_HINTS[name] if own else self._known(name)
        if self._next is None or self._next["mark"] != "[":
            return Hint(name) if hint is None else hint
        arguments = self._list()
        # The `__class_getitem__` of a class that is not Python's is user code: only that of typing.Generic is asked.
        if not own and not (isinstance(hint, type) and hasattr(hint, "__parameters__")):
            return Hint(self._text[start : self._at].strip())
        argument = arguments[0] if len(arguments) == 1 else tuple(arguments)
        return self._or_stand_in(start, [], lambda: hint[argument])

    def _list(self) -> list[Any]:
        self._need("[")
        items: list[Any] = []
        if self._take("]"):
            return items
        items.append(self._union())
        while self._take(","):
            items.append(self._union())
        self._need("]")
        return items

    def _or_stand_in(self, start: int, parts: Sequence[Any], build: Callable[[], Any]) -> Any:
        text = self._text[start : self._at].strip()
        if any(isinstance(part, Hint) for part in parts):
            return Hint(text)
        try:
            return build()
        except Exception:  # int[str] and the like: typing and generic classes refuse with errors of many kinds
            return Hint(text)


# ---- the classes that a hint names


def classes_in(hint: Any) -> Iterator[type]:
    """Every class that the hint names, through generics, unions, Annotated, NewType and bounds of type variables."""
    if isinstance(hint, typing.TypeVar):
        for part in (hint.__bound__, *hint.__constraints__):
            yield from classes_in(part)
    elif isinstance(hint, typing.NewType):
        yield from classes_in(hint.__supertype__)
    elif isinstance(hint, list):  # the parameters of a Callable
        for part in hint:
            yield from classes_in(part)
    elif isinstance(hint, enum.Enum):  # in a Literal
        yield type(hint)
    elif typing.get_origin(hint) is not None:
        yield from _classes_in_generic(hint)
    elif isinstance(hint, type):
        if hint is not types.NoneType:
            yield hint
    elif type(hint).__name__ == "TypeAliasType":
        yield from classes_in(hint.__value__)


def _classes_in_generic(hint: Any) -> Iterator[type]:
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        arguments = arguments[:1]
    elif isinstance(origin, type) and origin is not types.UnionType:
        yield origin
    for part in arguments:
        yield from classes_in(part)
