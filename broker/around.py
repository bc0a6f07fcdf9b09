"""`around=[f]`: functions that run around every call, on the side that makes it and on the side that carries it out.

    def f(call, next):
        ...                      # before
        result = next(call)      # the next function, and at last the call itself
        ...                      # after; what f returns or raises is the result of the call
        return result

The first of several is the outermost. What the two sides make of it is in broker.calling and broker.dispatch.
"""

from __future__ import annotations

import dataclasses
import inspect
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from broker.context import Client

__all__ = ["NO_FUNCTIONS", "Around", "AroundFunctions", "Call", "Kind", "Next", "same_target"]

Kind: TypeAlias = Literal["method", "get", "set", "batch"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """A call as the functions of `around` see it. `dataclasses.replace` makes one with other arguments or metadata.

    What else is in it says what is called: `next` raises TypeError where that was changed.
    """

    object: str
    """The id of the object. On the client what the URI of the proxy names: an id, or a name."""
    member: str
    """The method or property; empty for a batch."""
    kind: Kind
    """Of a method (special methods included), of reading or setting a property, or, on the client, a batch."""
    args: tuple[Any, ...]
    """Of "set" the value alone; of "batch" its calls, each as (member, args, kwargs)."""
    kwargs: dict[str, Any]
    """Of "batch" how it goes on: {"stop_on_error": True}."""
    metadata: dict[str, str | bytes]
    """What travels beside the arguments. It belongs to this call: what is put into it before `next` goes to the daemon,
    and on the daemon to `current_context.metadata`."""
    oneway: bool = False
    """Whether nobody waits for the result."""
    location: str = ""
    """The daemon's "host:port"; empty on a client whose URI is a name."""
    client: Client | None = None
    """Who calls; None on the client itself."""
    correlation_id: uuid.UUID | None = None
    """The same for a call and for all calls that it leads to."""

    def __str__(self) -> str:
        return f"{self.object}.{self.member}" if self.member else self.object


Next: TypeAlias = Callable[[Call], Any]
Around: TypeAlias = Callable[[Call, Next], Any]


class AroundFunctions:
    """The functions of one `around=`. Immutable; false where there are none."""

    __slots__ = ("_functions",)

    def __init__(self, around: Iterable[Around]) -> None:
        """Raises TypeError for what is no list of functions."""
        if not isinstance(around, Iterable):
            raise TypeError(f"around takes a list of functions f(call, next), not {around!r}: write around=[f]")
        functions = tuple(around)
        for function in functions:
            if not callable(function):
                raise TypeError(f"around takes functions f(call, next), and {function!r} cannot be called")
        self._functions = tuple((function, _is_async(function)) for function in reversed(functions))

    def __bool__(self) -> bool:
        return bool(self._functions)

    def __iter__(self) -> Iterator[Around]:
        return (function for function, _ in reversed(self._functions))

    def __repr__(self) -> str:
        return repr([*self])

    def check_plain(self) -> None:
        """Raises TypeError if one of them is `async def`."""
        for function, is_async in self._functions:
            if is_async:
                raise TypeError(f"around of a proxy that blocks takes plain functions: {function!r} is `async def`")

    def check_async(self) -> None:
        """Raises TypeError if one of them is not `async def`."""
        for function, is_async in self._functions:
            if not is_async:
                raise TypeError(f"around of an AsyncProxy takes `async def` functions, and {function!r} is none")

    def nested(self, innermost: Next, awaited: Callable[[Next], Next]) -> Next:
        """All of them around what comes innermost, as one function.

        An `async def` function awaits its `next`: `awaited` makes that of a plain function, or of the innermost.
        """
        rest, rest_is_async = innermost, False
        for function, is_async in self._functions:
            rest = _step(function, awaited(rest) if is_async and not rest_is_async else rest)
            rest_is_async = is_async
        return rest


NO_FUNCTIONS = AroundFunctions(())


def _is_async(function: Around) -> bool:
    """Whether it is an `async def`, or an object whose `__call__` is one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _step(function: Around, rest: Next) -> Next:
    return lambda call: function(call, rest)


_FIXED = [field.name for field in dataclasses.fields(Call) if field.name not in ("args", "kwargs", "metadata")]


def same_target(asked: Call, passed_on: object) -> Call:
    """What was given to `next`. Raises TypeError if that is another call than the one that was asked for."""
    if not isinstance(passed_on, Call):
        raise TypeError(f"next takes the call, as it came or changed by dataclasses.replace, not {passed_on!r}")
    for name in _FIXED:
        if getattr(passed_on, name) != getattr(asked, name):
            raise TypeError(f"next was given a call with another {name}: only args, kwargs and metadata can be changed")
    if asked.kind in ("get", "set") and len(passed_on.args) != len(asked.args):
        needed, given = len(asked.args), len(passed_on.args)
        raise TypeError(f"to {asked.kind} a property takes {needed} arguments, and next was given {given}")
    return passed_on
