"""Enums and literals: values that are some of a few."""

from __future__ import annotations

import enum
from typing import Any

from google.protobuf.descriptor_pb2 import EnumDescriptorProto, FieldDescriptorProto

from broker.codecs import Edge
from broker.codecs.interface import Fault
from broker.hints import safe_repr
from broker.schema.kinds import INT, Scalar, promised
from broker.schema.names import identifier, unique

__all__ = ["EnumKind", "FlagKind", "LiteralKind", "NamesKind", "enum_type"]

_NOT_ALLOWED = frozenset({"option", "reserved"})  # protoc takes them for the beginning of something else


def enum_type(cls: type[enum.Enum]) -> EnumDescriptorProto | None:
    """The enum with the members' names; None where protobuf would not allow them, or not tell them apart."""
    numbers = enum_numbers(cls)
    name = unique("Value", numbers)
    if not all(identifier(member) == member and member not in _NOT_ALLOWED for member in numbers):
        return None
    if 0 not in numbers.values():
        numbers = {unique("UNSPECIFIED", numbers): 0, **numbers}
    by_form: dict[str, int] = {}
    for member, number in numbers.items():
        form = member.replace("_", "").lower()
        form = form.removeprefix(name.lower()) or form
        if by_form.setdefault(form, number) != number:
            return None
    proto = EnumDescriptorProto(name=name)
    for member, number in sorted(numbers.items(), key=lambda item: item[1] != 0):  # the zero is the first
        proto.value.add(name=member, number=number)
    if len(set(numbers.values())) < len(numbers):
        proto.options.allow_alias = True
    return proto


_WHOLE = range(-(2**31), 2**31)


class EnumKind(Scalar):
    """An Enum, as an enum of protobuf whose values have the names of its members.

    The numbers are the members' own where all are ints of 32 bits, else 1 for the first, and so on. protobuf wants a
    zero: where no member has it there is an UNSPECIFIED, which is no member.
    """

    proto_type = FieldDescriptorProto.TYPE_ENUM

    def __init__(self, cls: type[enum.Enum], type_name: str) -> None:
        self.cls, self.type_name = cls, type_name
        self.word, self.python = cls.__name__, (cls,)
        self.numbers = enum_numbers(cls)
        self._by_number = {number: cls.__members__[name] for name, number in reversed(self.numbers.items())}

    def to_wire(self, value: Any, edge: Edge) -> int:
        if type(value) is not self.cls:
            raise promised(value, self.cls.__name__)
        return self.numbers[value.name]

    def from_wire(self, raw: Any, edge: Edge) -> enum.Enum:
        found = self._by_number.get(raw)
        if found is None:
            has = ", ".join(f"{name} = {number}" for name, number in self.numbers.items())
            raise Fault(f"{raw} is no member of {self.cls.__name__} (it has: {has})")
        return found


def enum_numbers(cls: type[enum.Enum]) -> dict[str, int]:
    """The number of each member, aliases included."""
    members = cls.__members__
    if all(type(member.value) is int and member.value in _WHOLE for member in members.values()):
        return {name: member.value for name, member in members.items()}
    places = {member.name: place for place, member in enumerate(cls, start=1)}
    return {name: places[member.name] for name, member in members.items()}


class NamesKind(Scalar):
    """The names of an Enum's members as texts: for keys, and where protobuf would not allow them or tell them apart."""

    proto_type = FieldDescriptorProto.TYPE_STRING

    def __init__(self, cls: type[enum.Enum]) -> None:
        self.cls = cls
        self.word, self.python = cls.__name__, (cls,)
        self.note = f"A {cls.__name__}: one of {', '.join(cls.__members__)}"

    def to_wire(self, value: Any, edge: Edge) -> str:
        if type(value) is not self.cls:
            raise promised(value, self.cls.__name__)
        return str(value.name)

    def from_wire(self, raw: Any, edge: Edge) -> enum.Enum:
        found = self.cls.__members__.get(raw)
        if found is None:
            has = ", ".join(self.cls.__members__)
            raise Fault(f"{safe_repr(raw)[:100]} is no member of {self.cls.__name__} (it has: {has})")
        return found


class FlagKind(Scalar):
    """A Flag, whose values may be several members at once: the number."""

    proto_type = FieldDescriptorProto.TYPE_INT64

    def __init__(self, cls: type[enum.Flag]) -> None:
        self.cls = cls
        self.word, self.python = cls.__name__, (cls,)
        self.note = f"The sum of {', '.join(f'{name} = {m.value}' for name, m in cls.__members__.items())}"

    def to_wire(self, value: Any, edge: Edge) -> int:
        if type(value) is not self.cls:
            raise promised(value, self.cls.__name__)
        return int(INT.to_wire(value.value, edge))

    def from_wire(self, raw: Any, edge: Edge) -> enum.Flag:
        try:
            return self.cls(raw)
        except ValueError:
            has = ", ".join(f"{name} = {member.value}" for name, member in self.cls.__members__.items())
            raise Fault(f"{raw} is no combination of {self.cls.__name__} (it has: {has})") from None


class LiteralKind(Scalar):
    """Some values of another scalar kind."""

    def __init__(self, kind: Scalar, values: tuple[object, ...]) -> None:
        self.proto_type, self.type_name = kind.proto_type, kind.type_name
        self.word, self.python = kind.word, kind.python
        self.note = f"One of {', '.join(map(_literally, values))}"
        self.values = values
        self._kind = kind

    def to_wire(self, value: Any, edge: Edge) -> Any:
        return self._kind.to_wire(self._checked(value), edge)

    def from_wire(self, raw: Any, edge: Edge) -> Any:
        return self._checked(self._kind.from_wire(raw, edge))

    def _checked(self, value: Any) -> Any:
        if type(value) is not self.python[0] or value not in self.values:
            raise Fault(f"{safe_repr(value)[:100]} is none of {', '.join(map(safe_repr, self.values))}")
        return value


def _literally(value: object) -> str:
    return value.name if isinstance(value, enum.Enum) else safe_repr(value)
