"""Values that travel as others: `register_replacement`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from broker.codecs.interface import Fault
from broker.codecs.types import type_name

__all__ = ["register_replacement", "replaced"]

T = TypeVar("T")

_functions: dict[type, Callable[[Any, str], object]] = {}


def register_replacement(cls: type[T], function: Callable[[T, str], object] | None) -> None:
    """Lets values of a class, and of those derived from it, travel as what the function makes of them.

    `function(value, codec)` gets the name of the codec too, and may return the value as it is. It is asked for values
    that are neither JSON's nor of a type that is kept in any case (`tuple`, `datetime` and so on), nor travel as
    references. Of several classes the nearest one counts, and `object` is that of all. None takes a function away. It
    holds for the process. Raises TypeError for what is no class.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_replacement takes a class, not {cls!r}")
    if function is None:
        _functions.pop(cls, None)
    else:
        _functions[cls] = function


def replaced(value: Any, codec: str) -> Any:
    """What travels in place of a value; mostly the value itself. Raises Fault."""
    if not _functions:
        return value
    kind = type(value)
    for cls in kind.__mro__:
        function = _functions.get(cls)
        if function is not None:
            try:
                return function(value, codec)
            except Exception as error:  # a user's function: whatever it raises is why the value cannot travel
                raise Fault(f"the replacement of {type_name(kind)} raised {type(error).__name__}: {error}") from error
    return value
