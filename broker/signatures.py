"""Signatures: as plain data for the wire and back, and which arguments they accept.

A hint crosses as text and is rebuilt by the small grammar of `_HintParser` against a closed table, so that nothing is
ever evaluated or imported by a name that came from the wire. What is not known there becomes a `Hint` that prints as
the text did.

A described signature is `[parameters, returns, defaults, shown]`:

    parameters   [[name, kind, hint], …], the kind as in `inspect.Parameter.kind` (0 to 4)
    returns      a hint
    defaults     {name: value}, Python values as they are
    shown        {name: text}, for defaults that do not cross
    a hint       null, ["hint", text], ["string", text] (the annotation was a string) or ["text", text] (only for show)
"""

from __future__ import annotations

import ast
import builtins
import collections
import collections.abc
import datetime
import decimal
import fractions
import functools
import operator
import pathlib
import re
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any

__all__ = ["Default", "Hint", "describe_signature", "mismatch", "qualified_name", "rebuild_signature", "signature_text"]

_LONGEST_HINT = 4096
_DEEPEST_HINT = 32
_LONGEST_REPR = 1000
_MOST_PARAMETERS = 1000
_KINDS = (
    Parameter.POSITIONAL_ONLY,
    Parameter.POSITIONAL_OR_KEYWORD,
    Parameter.VAR_POSITIONAL,
    Parameter.KEYWORD_ONLY,
    Parameter.VAR_KEYWORD,
)


@dataclass(frozen=True, slots=True)
class Hint:
    """Stands in for an annotation that this process does not know; prints as the annotation did."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Default:
    """Stands in for a default value that does not cross the wire; prints as the value did."""

    text: str

    def __repr__(self) -> str:
        return self.text


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


def describe_signature(
    signature: Signature,
    *,
    encodable: Callable[[object], bool] | None = None,
    type_name: Callable[[type], str] = qualified_name,
) -> list[Any]:
    """The signature as lists, dicts and strings, with the default values as they are.

    A default for which `encodable` is false is shown by its repr; without `encodable` all are kept. `type_name` names
    the classes in the hints, for `rebuild_signature`'s `known`.
    """
    parameters, defaults, shown = [], {}, {}
    for name, parameter in signature.parameters.items():
        parameters.append([name, int(parameter.kind), _describe_hint(parameter.annotation, type_name)])
        value = parameter.default
        if value is Parameter.empty:
            continue
        if isinstance(value, Default) or (encodable is not None and not encodable(value)):
            shown[name] = safe_repr(value)
        else:
            defaults[name] = value
    return [parameters, _describe_hint(signature.return_annotation, type_name), defaults, shown]


def _describe_hint(hint: Any, type_name: Callable[[type], str]) -> list[str] | None:
    if hint is Parameter.empty:
        return None
    if isinstance(hint, str):
        return ["string", hint]
    text = _hint_text(hint, type_name)
    return ["text" if _is_too_deep(text) else "hint", text]


def _hint_text(hint: Any, type_name: Callable[[type], str]) -> str:
    """The hint in the grammar of `_HintParser`, classes by their full names; its repr where it has no such form."""
    text = functools.partial(_hint_text, type_name=type_name)
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


def signature_text(signature: Signature | None) -> str:
    """The signature as Python prints it, `(...)` where there is none to be had; never raises."""
    if signature is None:
        return "(...)"
    try:
        return str(signature)
    except Exception:  # the repr of a default or an annotation is user code
        shown = [
            parameter
            if parameter.default is Parameter.empty
            else parameter.replace(default=Default(safe_repr(parameter.default)))
            for parameter in signature.parameters.values()
        ]
        return str(Signature([parameter.replace(annotation=Parameter.empty) for parameter in shown]))


# ---- rebuilding


def rebuild_signature(data: Any, known: Callable[[str], type | None]) -> Signature:
    """The signature that `describe_signature` described, with real classes in its hints where they are known.

    `known` is asked for the classes that are not Python's own. Raises ValueError, and nothing else, for data of any
    other shape.
    """
    try:
        parameters, returns, defaults, shown = data
        if not (isinstance(parameters, list) and isinstance(defaults, dict) and isinstance(shown, dict)):
            raise ValueError("a list of parameters and two dicts of defaults are expected")
        if len(parameters) > _MOST_PARAMETERS:
            raise ValueError(f"it has {len(parameters)} parameters; at most {_MOST_PARAMETERS} are accepted")
        rebuilt = [_rebuild_parameter(item, defaults, shown, known) for item in parameters]
        return Signature(rebuilt, return_annotation=_rebuild_hint(returns, known))
    except (TypeError, ValueError) as error:
        raise ValueError(f"this is no described signature: {error}") from error


def _rebuild_parameter(
    item: Any, defaults: Mapping[str, Any], shown: Mapping[str, Any], known: Callable[[str], type | None]
) -> Parameter:
    name, kind, hint = item
    if type(name) is not str or type(kind) is not int or kind not in range(len(_KINDS)):
        raise ValueError(f"a parameter is [name, kind, hint], not {safe_repr(item)}")
    default = Default(str(shown[name])) if name in shown else defaults.get(name, Parameter.empty)
    return Parameter(name, _KINDS[kind], default=default, annotation=_rebuild_hint(hint, known))


def _rebuild_hint(data: Any, known: Callable[[str], type | None]) -> Any:
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


# ---- which arguments a signature accepts


def mismatch(name: str, signature: Signature, args: Sequence[object], kwargs: Mapping[str, object]) -> str | None:
    """What Python would say of a call of `name` with these arguments; None if it would accept them.

    No user code runs. The order of the checks is CPython's, so that of several mistakes the same one is named.
    """
    parameters = list(signature.parameters.values())
    positional = [p for p in parameters if p.kind <= Parameter.POSITIONAL_OR_KEYWORD]
    kinds = {p.kind for p in parameters}
    problem = None
    if kwargs:
        problem = _keyword_mismatch(signature, positional[: len(args)], kwargs, Parameter.VAR_KEYWORD in kinds)
    if problem is None and len(args) > len(positional) and Parameter.VAR_POSITIONAL not in kinds:
        problem = _too_many(positional, len(args), sum(_is_keyword_only(signature, word) for word in kwargs))
    if problem is None:
        problem = _missing(positional[len(args) :], kwargs, "positional")
    if problem is None:
        problem = _missing([p for p in parameters if p.kind is Parameter.KEYWORD_ONLY], kwargs, "keyword-only")
    return problem and f"{name}() {problem}"


def _keyword_mismatch(
    signature: Signature, filled: Sequence[Parameter], kwargs: Mapping[str, object], takes_any: bool
) -> str | None:
    by_keyword = {
        name
        for name, p in signature.parameters.items()
        if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    }
    twice = {p.name for p in filled} & by_keyword
    for word in kwargs:
        if word in twice:
            return f"got multiple values for argument {word!r}"
        if word not in by_keyword and not takes_any:
            wrong = [name for name in kwargs if name in signature.parameters and name not in by_keyword]
            wrong = [name for name in wrong if signature.parameters[name].kind is Parameter.POSITIONAL_ONLY]
            if wrong:
                return f"got some positional-only arguments passed as keyword arguments: {', '.join(wrong)!r}"
            return f"got an unexpected keyword argument {word!r}"
    return None


def _too_many(positional: Sequence[Parameter], given: int, given_by_keyword: int) -> str:
    most = len(positional)
    fewest = sum(p.default is Parameter.empty for p in positional)
    takes = str(most) if fewest == most else f"from {fewest} to {most}"
    verb = "was" if given == 1 else "were"
    if given_by_keyword:
        words = f"{given_by_keyword} keyword-only argument{'s' * (given_by_keyword != 1)}"
        verb = f"positional argument{'s' * (given != 1)} (and {words}) were"
    return f"takes {takes} positional argument{'s' * (takes != '1')} but {given} {verb} given"


def _is_keyword_only(signature: Signature, word: str) -> bool:
    parameter = signature.parameters.get(word)
    return parameter is not None and parameter.kind is Parameter.KEYWORD_ONLY


def _missing(candidates: Sequence[Parameter], kwargs: Mapping[str, object], kind: str) -> str | None:
    names = [
        repr(p.name)
        for p in candidates
        if p.default is Parameter.empty and (p.kind is Parameter.POSITIONAL_ONLY or p.name not in kwargs)
    ]
    if not names:
        return None
    *others, last = names
    listed = f"{', '.join(others)}{',' * (len(others) > 1)} and {last}" if others else last
    return f"missing {len(names)} required {kind} argument{'s' * bool(others)}: {listed}"
