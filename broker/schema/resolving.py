"""The hints of members as objects: annotations that are texts are looked up where their functions were written."""

from __future__ import annotations

import builtins
import inspect
import sys
import types
import typing
from typing import Any

from broker.decorators import function_of
from broker.exposure import Member
from broker.schema.meaning import Inexpressible

__all__ = ["Resolver", "hint_of_value"]


class Resolver:
    """Resolves the hints of the members of one class. Texts are compiled once, for most come many times."""

    def __init__(self, cls: type) -> None:
        self._cls = cls
        self._texts: dict[tuple[int, str], Any] = {}

    def resolve(self, hint: Any, member: Member) -> Any:
        """The hint without texts in it. Raises Inexpressible where a name in it is not known."""
        if _is_class(hint) or (isinstance(hint, types.GenericAlias) and all(map(_is_class, hint.__args__))):
            return hint
        function = inspect.unwrap(function_of(member.target) or member.target)
        names = getattr(function, "__globals__", None) or vars(sys.modules.get(self._cls.__module__, builtins))
        if not isinstance(hint, str):
            return self._resolved(hint, names)
        key = id(names), hint
        if key not in self._texts:
            self._texts[key] = self._resolved(hint, names)
        return self._texts[key]

    def _resolved(self, hint: Any, names: dict[str, Any]) -> Any:
        holder = types.SimpleNamespace(__annotations__={"hint": hint})
        try:
            return typing.get_type_hints(holder, names, {self._cls.__name__: self._cls}, include_extras=True)["hint"]
        except Exception as error:  # a hint is any expression: one may name what exists for type checkers only
            text = hint if isinstance(hint, str) else repr(hint)
            reason = f"the hint {text} cannot be resolved ({type(error).__name__}: {error})"
            raise Inexpressible(reason) from None


def _is_class(hint: Any) -> bool:
    return isinstance(hint, type) and not isinstance(hint, types.GenericAlias)


def hint_of_value(member: Member) -> Any:
    """The hint of what a property is set to: that of its setter, or else that of its getter."""
    setter = getattr(member.target, "fset", None)
    parameters = list(inspect.signature(setter).parameters.values()) if setter is not None else []
    if len(parameters) > 1 and parameters[1].annotation is not inspect.Parameter.empty:
        return parameters[1].annotation
    return member.signature.return_annotation if member.signature is not None else inspect.Parameter.empty
