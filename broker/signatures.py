"""Signatures: as plain data for the wire and back, and which arguments they accept.

A described signature is `[parameters, returns, defaults, shown]`:

    parameters   [[name, kind, hint], …], the kind as in `inspect.Parameter.kind` (0 to 4)
    returns      a hint, as `broker.hints` describes it
    defaults     {name: value}, Python values as they are
    shown        {name: text}, for defaults that do not cross
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any

from broker.hints import Hint, describe_hint, qualified_name, rebuild_hint, safe_repr, without_numbers

__all__ = [
    "Arity",
    "Default",
    "Hint",
    "describe_signature",
    "mismatch",
    "qualified_name",
    "rebuild_signature",
    "signature_text",
]

_MOST_PARAMETERS = 1000
_KINDS = (
    Parameter.POSITIONAL_ONLY,
    Parameter.POSITIONAL_OR_KEYWORD,
    Parameter.VAR_POSITIONAL,
    Parameter.KEYWORD_ONLY,
    Parameter.VAR_KEYWORD,
)


@dataclass(frozen=True, slots=True)
class Default:
    """Stands in for a default value that does not cross the wire; prints as the value did."""

    text: str

    def __repr__(self) -> str:
        return self.text


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
        parameters.append([name, int(parameter.kind), describe_hint(parameter.annotation, type_name)])
        value = parameter.default
        if value is Parameter.empty:
            continue
        if isinstance(value, Default) or (encodable is not None and not encodable(value)):
            shown[name] = safe_repr(value)
        else:
            defaults[name] = value
    return [parameters, describe_hint(signature.return_annotation, type_name), defaults, shown]


def signature_text(signature: Signature | None) -> str:
    """The signature for people: as Python prints it, but without the quotes of postponed annotations.

    `(...)` where there is none to be had; never raises.
    """
    if signature is None:
        return "(...)"
    try:
        return str(_with_bare_hints(signature)).replace("__main__.", "")
    except Exception:  # the repr of a default or an annotation is user code
        shown = [
            parameter
            if parameter.default is Parameter.empty
            else parameter.replace(default=Default(safe_repr(parameter.default)))
            for parameter in signature.parameters.values()
        ]
        return str(Signature([parameter.replace(annotation=Parameter.empty) for parameter in shown]))


def _with_bare_hints(signature: Signature) -> Signature:
    bare = [p.replace(annotation=_bare(p.annotation)) for p in signature.parameters.values()]
    return signature.replace(parameters=bare, return_annotation=_bare(signature.return_annotation))


def _bare(annotation: Any) -> Any:
    return Hint(annotation) if isinstance(annotation, str) else without_numbers(annotation)


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
        return Signature(rebuilt, return_annotation=rebuild_hint(returns, known))
    except (TypeError, ValueError) as error:
        raise ValueError(f"this is no described signature: {error}") from error


def _rebuild_parameter(
    item: Any, defaults: Mapping[str, Any], shown: Mapping[str, Any], known: Callable[[str], type | None]
) -> Parameter:
    name, kind, hint = item
    if type(name) is not str or type(kind) is not int or kind not in range(len(_KINDS)):
        raise ValueError(f"a parameter is [name, kind, hint], not {safe_repr(item)}")
    default = Default(str(shown[name])) if name in shown else defaults.get(name, Parameter.empty)
    return Parameter(name, _KINDS[kind], default=default, annotation=rebuild_hint(hint, known))


# ---- which arguments a signature accepts


@dataclass(frozen=True, slots=True)
class Arity:
    """What a signature accepts, in a form that answers for most calls at once."""

    fewest: int
    """Without keywords, so many positional arguments at least are right …"""
    most: int
    """… and so many at most; less than `fewest` where a keyword is required."""
    positional: tuple[str, ...]
    by_keyword: frozenset[str]
    required: frozenset[str]

    @classmethod
    def of(cls, signature: Signature) -> Arity:
        kinds: dict[Any, list[str]] = {kind: [] for kind in _KINDS}
        for name, parameter in signature.parameters.items():
            kinds[parameter.kind].append(name)
        nameless, either, rest, by_keyword, _ = kinds.values()
        required = {name for name in (*nameless, *either, *by_keyword) if _is_required(signature.parameters[name])}
        most = sys.maxsize if rest else len(nameless + either)
        return cls(
            fewest=len(required.difference(by_keyword)),
            most=most if required.isdisjoint(by_keyword) else -1,
            positional=(*nameless, *either),
            by_keyword=frozenset(either + by_keyword),
            required=frozenset(required),
        )

    def surely_accepts(self, args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
        """True if the call is right; False if it is wrong or takes a closer look."""
        given = len(args)
        if not kwargs:
            return self.fewest <= given <= self.most
        words = kwargs.keys()
        filled = self.positional[:given]
        return (
            given <= len(self.positional)
            and words <= self.by_keyword
            and words.isdisjoint(filled)
            and self.required.difference(filled) <= words
        )


def _is_required(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty


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
    fewest = sum(map(_is_required, positional))
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
        if _is_required(p) and (p.kind is Parameter.POSITIONAL_ONLY or p.name not in kwargs)
    ]
    if not names:
        return None
    *others, last = names
    listed = f"{', '.join(others)}{',' * (len(others) > 1)} and {last}" if others else last
    return f"missing {len(names)} required {kind} argument{'s' * bool(others)}: {listed}"
