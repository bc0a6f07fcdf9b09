"""Classes whose instances are fields with names: dataclasses, named tuples and TypedDicts, taken apart and built."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from typing import Any, NamedTuple

from broker.codecs.interface import Fault
from broker.codecs.types import kind_of
from broker.hints import safe_repr
from broker.schema.kinds import promised
from broker.schema.messages import ABSENT

__all__ = [
    "DATACLASS",
    "NAMED_TUPLE",
    "TYPED_DICT",
    "UNTOLD",
    "RecordField",
    "fields_of_record",
    "form_of",
    "is_record",
]


class RecordField(NamedTuple):
    """A field of a record: its hint, and its default, or ABSENT where a value is required."""

    name: str
    hint: Any
    default: Any = ABSENT


DATACLASS, NAMED_TUPLE, TYPED_DICT = "", "A named tuple in Python.", "A dict in Python."
"""What the comment of a record's message says of its form; nothing of the most frequent one."""


def form_of(cls: type) -> str:
    if typing.is_typeddict(cls):
        return TYPED_DICT
    return NAMED_TUPLE if issubclass(cls, tuple) else DATACLASS


Parts = tuple[Sequence[RecordField], Callable[[Any], Mapping[str, Any]], Callable[[dict[str, Any]], Any]]


def is_record(cls: type) -> bool:
    return kind_of(cls) in ("object", "namedtuple") or typing.is_typeddict(cls)


def fields_of_record(cls: type) -> Parts:
    """The fields of the class, and two functions: what takes an instance apart and what makes one of its fields.

    The first raises Fault for what is no instance, the second whatever the class raises. Raises ValueError where the
    fields are not known.
    """
    hints = _hints(cls)
    if typing.is_typeddict(cls):
        return _typed_dict(cls, hints)
    return _named_tuple(cls, hints) if issubclass(cls, tuple) else _dataclass(cls, hints)


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    except Exception as error:  # a hint is any expression: one may name what exists for type checkers only
        raise ValueError(f"its hints cannot be resolved ({error})") from None


# ---- dataclasses

UNTOLD = object()
"""A default that is not empty, and not known: whatever a function makes."""


def _dataclass(cls: Any, hints: dict[str, Any]) -> Parts:
    for name, field in cls.__dataclass_fields__.items():
        if field._field_type is dataclasses._FIELD_INITVAR and field.default is MISSING:  # type: ignore[attr-defined]
            raise ValueError(f"its InitVar {name!r} is no field, and no instance can be made without it")
    fields = dataclasses.fields(cls)
    initial = {field.name for field in fields if field.init}
    later = len(initial) < len(fields)

    def take_apart(value: Any) -> dict[str, Any]:
        if type(value) is not cls and (not isinstance(value, cls) or len(dataclasses.fields(value)) > len(fields)):
            raise promised(value, cls.__name__)
        try:
            return {field.name: getattr(value, field.name) for field in fields}
        except Exception as error:  # a field that was never set, or one that is a descriptor
            raise Fault(f"this {cls.__name__} has a field that cannot be read: {error}") from error

    def build(values: dict[str, Any]) -> Any:
        if not later:
            return cls(**values)
        made = cls(**{name: value for name, value in values.items() if name in initial})
        for name, value in values.items():
            if name not in initial:
                object.__setattr__(made, name, value)
        return made

    described = [RecordField(field.name, hints.get(field.name, Any), _default(field)) for field in fields]
    return described, take_apart, build


def _default(field: dataclasses.Field[Any]) -> Any:
    if not field.init:
        return UNTOLD
    if field.default_factory is MISSING:
        return ABSENT if field.default is MISSING else field.default
    known = field.default_factory in (list, dict, set, frozenset, tuple)  # no others are called before their time
    return field.default_factory() if known else UNTOLD


# ---- named tuples


def _named_tuple(cls: Any, hints: dict[str, Any]) -> Parts:
    names, defaults = cls._fields, cls._field_defaults

    def take_apart(value: Any) -> dict[str, Any]:
        if type(value) is not cls:
            raise promised(value, cls.__name__)
        return dict(zip(names, value, strict=True))

    def build(values: dict[str, Any]) -> Any:
        complete = {**defaults, **values}
        return tuple.__new__(cls, [complete[name] for name in names])

    fields = [RecordField(name, hints.get(name, Any), defaults.get(name, ABSENT)) for name in names]
    return fields, take_apart, build


# ---- typed dicts


def _typed_dict(cls: Any, hints: dict[str, Any]) -> Parts:
    def take_apart(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise promised(value, cls.__name__)
        others = value.keys() - hints.keys()
        if others:
            has = ", ".join(hints)
            raise Fault(f"a {cls.__name__} has no key {safe_repr(min(others, key=str))} (it has: {has})")
        lacking = [name for name in required if name not in value]
        if lacking:
            raise Fault(f"a {cls.__name__} has the key {lacking[0]!r}, and there is none")
        return value

    required = [name for name, hint in hints.items() if _is_required(cls, name, hint)]
    fields = [RecordField(name, hint, ABSENT if name in required else UNTOLD) for name, hint in hints.items()]
    return fields, take_apart, dict


def _is_required(cls: Any, name: str, hint: Any) -> bool:
    said = typing.get_origin(hint)  # the class itself does not know, where hints are strings
    return said is typing.Required or (said is not typing.NotRequired and name in cls.__required_keys__)
