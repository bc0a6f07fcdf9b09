"""The kinds of values that items of the configuration have: how each is written as text, and what it accepts."""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Kind", "flag", "host", "log_level", "optional", "seconds", "text", "whole", "words"]

T = TypeVar("T")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """`says` completes "the item is …"; `parse` reads text, `check` accepts a value: both raise ValueError."""

    says: str
    parse: Callable[[str], object]
    check: Callable[[object], T]


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError


def text(says: str) -> Kind[str]:
    """A text that is neither empty nor has white space at its ends."""

    def check(value: object) -> str:
        _require(isinstance(value, str) and value != "" and value == value.strip())
        return str(value)

    return Kind(says, str, check)


def host(says: str) -> Kind[str]:
    """A host name or address as text, or an address object of `ipaddress`."""
    plain = text(says)

    def check(value: object) -> str:
        if isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
            return str(value)
        return plain.check(value)

    return Kind(says, str, check)


def whole(low: int, high: int | None = None) -> Kind[int]:
    """A whole number of at least `low` and at most `high`. True and False are none."""
    says = f"a whole number from {low}" + (" up" if high is None else f" to {high}")

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError
        _require(low <= value and (high is None or value <= high))
        return value

    return Kind(says, int, check)


def seconds() -> Kind[float]:
    """A time from 0 up to what Python can wait."""

    def check(value: object) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ValueError
        _require(math.isfinite(value) and 0 <= value <= threading.TIMEOUT_MAX)
        return value

    return Kind("a number of seconds from 0 up", float, check)


def flag() -> Kind[bool]:
    """True or False; as text also 1 and 0, yes and no, on and off."""

    def parse(value: str) -> bool:
        word = value.lower()
        _require(word in _TRUE or word in _FALSE)
        return word in _TRUE

    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    return Kind("True or False (in the environment also 1, 0, yes, no, on, off)", parse, check)


def words(says: str) -> Kind[tuple[str, ...]]:
    """Words without white space, at least one; a str is taken as words with commas between."""

    def parse(value: str) -> list[str]:
        return [word.strip() for word in value.split(",")]

    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, Iterable):
            raise ValueError
        found = tuple(parse(value) if isinstance(value, str) else value)
        _require(len(found) > 0 and all(isinstance(word, str) and word.split() == [word] for word in found))
        return found

    return Kind(says, parse, check)


def log_level() -> Kind[str]:
    """The name of a level of `logging`, in any case."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value.upper() not in logging.getLevelNamesMapping():
            raise ValueError
        return value.upper()

    return Kind("the name of a level of logging, such as DEBUG or WARNING", str, check)


def optional(kind: Kind[T]) -> Kind[T | None]:
    """The same, or None; `none` as text."""

    def parse(value: str) -> object:
        return None if value.lower() == "none" else kind.parse(value)

    def check(value: object) -> T | None:
        return None if value is None else kind.check(value)

    return Kind(f"{kind.says}, or None", parse, check)
