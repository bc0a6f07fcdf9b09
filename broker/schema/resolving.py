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
from broker.schema.reading import Inexpressible

__all__ = ["hint_of_value", "resolve"]


def resolve(hint: Any, member: Member, cls: type) -> Any:
    """The hint without texts in it. Raises Inexpressible where a name in it is not known."""
    if hint is inspect.Parameter.empty or (isinstance(hint, type) and typing.get_origin(hint) is None):
        return hint
    function = inspect.unwrap(function_of(member.target) or member.target)
    names = getattr(function, "__globals__", None) or vars(sys.modules.get(cls.__module__, builtins))
    holder = types.SimpleNamespace(__annotations__={"hint": hint})
    try:
        return typing.get_type_hints(holder, names, {cls.__name__: cls}, include_extras=True)["hint"]
    except Exception as error:  # a hint is any expression: one may name what exists for type checkers only
        text = hint if isinstance(hint, str) else repr(hint)
        raise Inexpressible(f"the hint {text} cannot be resolved ({type(error).__name__}: {error})") from None


def hint_of_value(member: Member) -> Any:
    """The hint of what a property is set to: that of its setter, or else that of its getter."""
    setter = getattr(member.target, "fset", None)
    parameters = list(inspect.signature(setter).parameters.values()) if setter is not None else []
    if len(parameters) > 1 and parameters[1].annotation is not inspect.Parameter.empty:
        return parameters[1].annotation
    return member.signature.return_annotation if member.signature is not None else inspect.Parameter.empty
