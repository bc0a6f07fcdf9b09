"""Values as JSON without tags, for readers who know none: the closest that JSON has, which cannot be turned back."""

from __future__ import annotations

import dataclasses
from array import array
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, MappingView
from datetime import date, datetime, time, timedelta
from enum import Enum
from math import isfinite
from types import MappingProxyType
from typing import Any

from broker.codecs import arrays, exceptions, kept
from broker.codecs.encoder import NO_WAY_BACK, TOO_DEEP, Encoder
from broker.codecs.interface import MAX_DEPTH, Edge, Fault, Reference
from broker.codecs.types import Record, type_name

__all__ = ["untagged"]

_EXACT = 2**53 - 1
_LONGEST_RANGE = 1_000_000


def untagged(value: Any, edge: Edge, depth: int = 0) -> Any:
    """The plain JSON structure that comes closest to a value. Raises Fault for what cannot travel at all."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return value.encode("utf-8", "replace").decode()
    if kind is int:
        return value if -_EXACT <= value <= _EXACT else str(kept.write_int(value)["value"])
    if kind is float:
        return value if isfinite(value) else repr(value)
    if depth >= MAX_DEPTH:
        raise Fault(TOO_DEEP)
    for classes, write in _WRITERS:
        if kind in classes:
            return write(value, edge, depth + 1)
    return _instance(value, edge, depth + 1)


def _array(value: Iterable[Any], edge: Edge, depth: int) -> list[Any]:
    items: list[Any] = []
    try:
        for item in list(value):
            items.append(untagged(item, edge, depth))  # noqa: PERF401 - a fault asks how far it came
    except Fault as fault:
        raise fault.at(f"[{len(items)}]")  # noqa: B904 - the same fault, on its way out
    return items


def _range(value: range, edge: Edge, depth: int) -> list[Any]:
    if len(value) > _LONGEST_RANGE:
        raise Fault(f"a range of {len(value)} numbers is too long for an array")
    return _array(value, edge, depth)


def _object(value: dict[Any, Any], edge: Edge, depth: int) -> dict[str, Any]:
    fields = {}
    for name, item in list(value.items()):
        key = name if type(name) is str else untagged(name, edge, depth)
        try:
            fields[key if type(key) is str else str(name)] = untagged(item, edge, depth)
        except Fault as fault:
            raise fault.at(f"[{name!r}]")  # noqa: B904
    return fields


def _text(value: object, edge: Edge, depth: int) -> str:
    return str(value)


def _iso(value: date | time, edge: Edge, depth: int) -> str:
    return value.isoformat()


def _seconds(value: timedelta, edge: Edge, depth: int) -> float:
    return value.total_seconds()


def _base64(value: bytes, edge: Edge, depth: int) -> str:
    return b64encode(value).decode()


_WRITERS: tuple[tuple[tuple[type, ...], Callable[[Any, Edge, int], Any]], ...] = (
    (
        (list, tuple, set, frozenset, deque, type({}.keys()), type({}.values()), type({}.items())),
        _array,
    ),
    ((dict, MappingProxyType), _object),
    ((datetime, date, time), _iso),
    ((timedelta,), _seconds),
    ((bytes, bytearray, memoryview), _base64),
    ((range,), _range),
    (tuple(kept.BY_CLASS), _text),  # the kept types that are left: Decimal, UUID, Path, complex, …
)


def _instance(value: Any, edge: Edge, depth: int) -> Any:
    reference = Encoder(edge).reference(value)
    if isinstance(reference, Reference):
        raise Fault(NO_WAY_BACK)
    if reference is not None:
        return reference
    if isinstance(value, BaseException):
        return {"type": type_name(type(value)), "message": exceptions.message_of(value)}
    if isinstance(value, Enum):
        return untagged(value.value, edge, depth)
    if isinstance(value, array) or arrays.numpy_writer(value) is not None:
        listed = value.tolist()
        return str(value) if type(listed) is type(value) else untagged(listed, edge, depth - 1)
    if isinstance(value, Record):
        return _object(value._fields, edge, depth)
    entry = edge.types.by_class(type(value))
    if entry is not None and entry.to_dict is not None:
        return _object(dict(entry.to_dict(value)), edge, depth)
    if dataclasses.is_dataclass(value):
        return _object({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, edge, depth)
    if hasattr(value, "_asdict"):
        return _object(value._asdict(), edge, depth)
    if isinstance(value, MappingView) and isinstance(value, Iterable):
        return _array(value, edge, depth)
    Encoder(edge).lower(value, depth - 1)  # says why it cannot travel
    raise Fault(f"an instance of {type_name(type(value))} has no form without tags")
