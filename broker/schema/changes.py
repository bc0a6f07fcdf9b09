"""What changed between two descriptions of a service, as far as it breaks clients that were made with the older one."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

from broker.schema.described import DescribedService
from broker.schema.text import SCALAR_NAMES

__all__ = ["breaking_changes"]

_Proto = FieldDescriptorProto
_NULL = ".google.protobuf.NullValue"


class _Way(Enum):
    """Who writes a message."""

    REQUEST = "request"
    REPLY = "reply"


def breaking_changes(old: FileDescriptorProto, new: FileDescriptorProto) -> list[str]:
    """One line for each change of the first service that breaks a client of the old one; none if there is none.

    What matters is what goes over the wire and what JSON says: fields by number, name and type, rpcs by name. Names of
    messages do not. Raises ValueError where a file has no service.
    """
    return list(_Comparison(DescribedService(old), DescribedService(new)).services())


class _Comparison:
    def __init__(self, old: DescribedService, new: DescribedService) -> None:
        self._old, self._new = old, new
        self._seen: set[tuple[str, str, _Way]] = set()

    def services(self) -> Iterator[str]:
        if self._old.name != self._new.name:
            yield f"the service {self._old.name} is called {self._new.name} now"
        for method in self._old.methods.values():
            found = self._new.methods.get(method.name)
            if found is None:
                why = self._new.lacking.get(method.name)
                yield f"{method.name}: the method is gone{f' ({why})' if why else ''}"
            else:
                yield from self._methods(method, found)

    def _methods(self, old: MethodDescriptorProto, new: MethodDescriptorProto) -> Iterator[str]:
        for what, before, now in (
            ("requests", old.client_streaming, new.client_streaming),
            ("replies", old.server_streaming, new.server_streaming),
        ):
            if before != now:
                yield f"{old.name}: its {what} were {_number(before)} and are {_number(now)} now"
        yield from self._messages(f"{old.name} request", old.input_type, new.input_type, _Way.REQUEST)
        yield from self._messages(f"{old.name} reply", old.output_type, new.output_type, _Way.REPLY)

    # ---- messages

    def _messages(self, where: str, old: str, new: str, way: _Way) -> Iterator[str]:
        if (old, new, way) in self._seen or old not in self._old.messages or new not in self._new.messages:
            return
        self._seen.add((old, new, way))
        before, now = self._old.messages[old], self._new.messages[new]
        for field in before.field:
            at = f"{where}.{field.json_name}"
            found = _same_field(field, before, now)
            if isinstance(found, str):
                yield f"{at}: {found}"
            elif found is None:
                lost = "what clients send in it is lost" if way is _Way.REQUEST else "clients look for it"
                yield f"{at}: field {field.number} is gone, and {lost}"
            else:
                demanded = self._new.is_required(new, found) and not self._old.is_required(old, field)
                changes = list(self._fields(at, field, found, way))
                yield from changes
                if demanded and not changes and way is _Way.REQUEST:
                    yield f"{at}: it is required now, and clients may not send it"
        yield from self._new_demands(where, before, new, way)

    def _new_demands(self, where: str, before: DescriptorProto, new: str, way: _Way) -> Iterator[str]:
        now = self._new.messages[new]
        for field in now.field:
            if way is _Way.REQUEST and self._new.is_required(new, field) and _is_new(field, before, now):
                yield f"{where}.{field.json_name}: it is new and required, and clients do not send it"

    def _fields(self, where: str, old: _Proto, new: _Proto, way: _Way) -> Iterator[str]:
        before, now = self._kind(old, self._old), self._kind(new, self._new)
        if before != now:
            if way is _Way.REQUEST or old.type_name != _NULL:  # nobody reads what is always nothing
                yield f"{where}: it was {before} and is {now} now"
        elif old.type_name in self._old.enums and new.type_name in self._new.enums:
            yield from _enums(where, self._old.enums[old.type_name], self._new.enums[new.type_name], way)
        else:
            yield from self._messages(where, old.type_name, new.type_name, way)

    def _kind(self, field: _Proto, file: DescribedService) -> str:
        """The type of a field for people, without the names of messages."""
        entry = file.entry(field)
        if entry is not None:
            return f"a map from {self._kind(entry.field[0], file)} to {self._kind(entry.field[1], file)}"
        if field.type_name.startswith(".google.protobuf."):
            kind = field.type_name.rpartition(".")[2]
        elif field.type_name:
            kind = "an enum" if field.type_name in file.enums else "a message"
        else:
            kind = SCALAR_NAMES[field.type]
        return f"repeated {kind.removeprefix('a ')}" if field.label == _Proto.LABEL_REPEATED else kind


def _same_field(field: _Proto, before: DescriptorProto, now: DescriptorProto) -> _Proto | str | None:
    """The field as it is now; what became of it if that is another one; None if it is gone."""
    named = next((other for other in now.field if other.json_name == field.json_name), None)
    if named is not None:
        return named if named.number == field.number else f"its number was {field.number} and is {named.number} now"
    found = next((other for other in now.field if other.number == field.number), None)
    if found is None or any(other.json_name == found.json_name for other in before.field):
        return None
    return f"field {field.number} is called {found.json_name!r} now"


def _is_new(field: _Proto, before: DescriptorProto, now: DescriptorProto) -> bool:
    """Whether there was no such field; one of another name that had the number may have been renamed."""
    if any(other.json_name == field.json_name for other in before.field):
        return False
    earlier = next((other for other in before.field if other.number == field.number), None)
    return earlier is None or any(other.json_name == earlier.json_name for other in now.field)


def _enums(where: str, old: EnumDescriptorProto, new: EnumDescriptorProto, way: _Way) -> Iterator[str]:
    numbers = {value.name: value.number for value in new.value}
    for value in old.value:
        now = numbers.get(value.name)
        if now is None:
            if way is _Way.REQUEST and value.number != 0:
                yield f"{where}: the member {value.name} is gone, and clients may send it"
        elif now != value.number:
            yield f"{where}: the number of {value.name} was {value.number} and is {now} now"


def _number(streams: bool) -> str:
    return "a stream" if streams else "one message"
