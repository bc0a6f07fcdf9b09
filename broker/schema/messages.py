"""Messages of a schema while it is made, and how a value lies in one of their fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from broker.codecs import Edge
from broker.codecs.hashes import check_hashes
from broker.codecs.interface import Fault
from broker.hints import safe_repr
from broker.schema.kinds import Composite, Kind, Scalar, promised
from broker.schema.names import FieldNames, json_name

__all__ = ["ABSENT", "Absent", "Field", "Mapping", "MessageType", "Plural", "Repeated", "add_presence", "field_of"]

_Proto = FieldDescriptorProto


class Absent:
    """The one value that stands for a field that did not arrive."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()


# ---- what a field can hold more than one of


@dataclass(frozen=True)
class Repeated:
    """Many values of one kind, and the class that holds them in Python. `items` takes a value apart."""

    item: Kind
    cls: type
    build: Callable[[Iterable[Any]], Any]
    items: Callable[[Any], Iterable[Any]] | None = None

    @property
    def word(self) -> str:
        return f"{self.cls.__name__}_of_{self.item.word}"


@dataclass(frozen=True)
class Mapping:
    """A dict from scalars that can be keys in protobuf."""

    key: Scalar
    value: Kind
    cls: type = dict

    @property
    def word(self) -> str:
        return f"dict_of_{self.key.word}_to_{self.value.word}"


Plural = Repeated | Mapping


# ---- messages


@dataclass
class MessageType:
    """A message of the schema, nested in the one message that holds all of them."""

    name: str
    comment: str = ""
    proto: DescriptorProto = field(default_factory=DescriptorProto)
    comments: dict[int, str] = field(default_factory=dict)
    """Of fields, by their place."""
    enum_comment: str = ""
    _names: FieldNames = field(default_factory=FieldNames)
    _optional: list[_Proto] = field(default_factory=list)
    _numbers: set[int] = field(default_factory=set)
    _kept: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.proto.name = self.name

    def keep(self, numbers: Iterable[int | None]) -> None:
        """Keeps these numbers for fields that pin them."""
        self._kept.update(number for number in numbers if number is not None)

    def _next_number(self) -> int:
        """One above the highest that was given, and no number that is kept."""
        number = max(self._numbers, default=0) + 1
        while number in self._kept or number in _RESERVED:
            number += 1
        return number

    def choose(self, name: str) -> str:
        """A legal name for a field, which no other has."""
        return self._names.name(name)

    def add(self, name: str, legal: str, kind: Kind, number: int | None, comment: str = "") -> _Proto:
        """Adds a field whose name in JSON is `name`; without a number it gets the next one.

        Raises ValueError for a number that cannot be.
        """
        number = self._checked(number) if number is not None else self._next_number()
        self._numbers.add(number)
        proto = self.proto.field.add(
            name=legal,
            number=number,
            type=kind.proto_type,
            label=_Proto.LABEL_OPTIONAL,
            json_name=name,
            type_name=kind.type_name or None,
        )
        if comment:
            self.comments[len(self.proto.field) - 1] = comment
        return proto

    def _checked(self, number: int) -> int:
        if not 1 <= number < 2**29 or number in _RESERVED:
            raise ValueError(f"the number {number} cannot be: they go from 1 to {2**29 - 1}, but for 19000 to 19999")
        if number in self._numbers:
            raise ValueError(f"the number {number} is that of another field already")
        return number

    def make_optional(self, proto: _Proto) -> None:
        """Gives a scalar field presence."""
        proto.proto3_optional = True
        self._optional.append(proto)

    def finish(self) -> None:
        add_presence(self.proto, self._optional)
        self._optional.clear()


_RESERVED = range(19_000, 20_000)


def add_presence(message: DescriptorProto, optional: Iterable[_Proto]) -> None:
    """Adds the oneofs that stand for the presence of fields, with the names that protoc gives them; they come last."""
    names = {proto.name for proto in message.field} | {oneof.name for oneof in message.oneof_decl}
    for proto in optional:
        name = proto.name if proto.name.startswith("_") else f"_{proto.name}"
        while name in names:
            name = f"X{name}"
        names.add(name)
        proto.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=name)


# ---- fields


class Field:
    """A field of a message: puts one value into it, and takes it out.

    `absent` makes the value of a field that did not arrive; it may raise Fault.
    """

    def __init__(self, name: str, proto_name: str, kind: Kind | Repeated | Mapping) -> None:
        self.name = name
        self.kind = kind
        self._proto_name = proto_name
        self.absent: Callable[[], Any] = lambda: ABSENT
        self.none_is_absent = False

    def put(self, message: Any, value: Any, edge: Edge) -> None:
        """Raises Fault, with the name of this field in its path."""
        if value is None and self.none_is_absent:
            return
        try:
            self._put(message, value, edge)
        except Fault as fault:
            raise fault.at(f".{self.name}")  # noqa: B904 - the same fault, on its way out

    def take(self, message: Any, edge: Edge) -> Any:
        """The value, or what `absent` makes. Raises Fault, with the name of this field in its path."""
        try:
            value = self._take(message, edge)
            return self.absent() if value is ABSENT else value
        except Fault as fault:
            raise fault.at(f".{self.name}")  # noqa: B904

    def _put(self, message: Any, value: Any, edge: Edge) -> None:
        raise NotImplementedError

    def _take(self, message: Any, edge: Edge) -> Any:
        raise NotImplementedError


class _ScalarField(Field):
    kind: Scalar

    def _put(self, message: Any, value: Any, edge: Edge) -> None:
        setattr(message, self._proto_name, self.kind.to_wire(value, edge))

    def _take(self, message: Any, edge: Edge) -> Any:
        name = self._proto_name
        return self.kind.from_wire(getattr(message, name), edge) if message.HasField(name) else ABSENT


class _PlainField(_ScalarField):
    """One whose values are the same in Python and in protobuf: by far the most frequent, and the quickest."""

    def take(self, message: Any, edge: Edge) -> Any:
        name = self._proto_name
        return getattr(message, name) if message.HasField(name) else super().take(message, edge)


class _MessageField(Field):
    kind: Composite

    def _put(self, message: Any, value: Any, edge: Edge) -> None:
        inner = getattr(message, self._proto_name)
        inner.SetInParent()
        self.kind.fill(inner, value, edge)

    def _take(self, message: Any, edge: Edge) -> Any:
        name = self._proto_name
        return self.kind.read(getattr(message, name), edge) if message.HasField(name) else ABSENT


class _RepeatedField(Field):
    kind: Repeated

    def _put(self, message: Any, value: Any, edge: Edge) -> None:
        _put_items(getattr(message, self._proto_name), self.kind, value, edge)

    def _take(self, message: Any, edge: Edge) -> Any:
        raw = getattr(message, self._proto_name)
        return _take_items(raw, self.kind, edge) if raw else ABSENT


class _MapField(Field):
    kind: Mapping

    def _put(self, message: Any, value: Any, edge: Edge) -> None:
        _put_entries(getattr(message, self._proto_name), self.kind, value, edge)

    def _take(self, message: Any, edge: Edge) -> Any:
        raw = getattr(message, self._proto_name)
        return _take_entries(raw, self.kind, edge) if raw else ABSENT


def _put_items(container: Any, kind: Repeated, value: Any, edge: Edge) -> None:
    item_kind, place = kind.item, 0
    items = (kind.items or _items_of_sequence(kind.cls))(value)
    try:
        for item in items:
            if isinstance(item_kind, Composite):
                item_kind.fill(container.add(), item, edge)
            else:
                assert isinstance(item_kind, Scalar)
                container.append(item_kind.to_wire(item, edge))
            place += 1
    except Fault as fault:
        raise fault.at(f"[{place}]")  # noqa: B904


def _items_of_sequence(cls: type) -> Callable[[Any], Iterable[Any]]:
    def items(value: Any) -> Iterable[Any]:
        # Where a list is returned although the hint says tuple, or an array of numpy, any items in order will do.
        kind = type(value)
        text = isinstance(value, (str, bytes, bytearray, memoryview))
        if text or hasattr(kind, "keys") or not hasattr(kind, "__iter__") or not hasattr(kind, "__len__"):
            raise promised(value, cls.__name__)
        return list(value)  # other threads may go on changing it

    return items


def entries_of(value: Any) -> Iterable[Any]:
    """The keys of a dict with their values."""
    if not hasattr(type(value), "keys"):
        raise promised(value, "dict")
    return list(value.items())


_HASHED = (set, frozenset)


def _take_items(raw: Any, kind: Repeated, edge: Edge) -> Any:
    items: list[Any] = []
    item_kind: Any = kind.item
    take = item_kind.read if isinstance(item_kind, Composite) else item_kind.from_wire
    try:
        for item in raw:
            items.append(take(item, edge))  # noqa: PERF401 - a fault asks how far it came
    except Fault as fault:
        raise fault.at(f"[{len(items)}]")  # noqa: B904
    try:
        if kind.cls in _HASHED:
            check_hashes(items)
        return kind.build(items)
    except (TypeError, ValueError) as error:  # what cannot be hashed, or was made to be hashed alike
        raise Fault(f"this is no {kind.cls.__name__}: {error}") from error


def _put_entries(container: Any, kind: Mapping, value: Any, edge: Edge) -> None:
    value_kind: Any = kind.value
    for key, item in entries_of(value):
        try:
            raw = kind.key.to_wire(key, edge)
            if isinstance(value_kind, Composite):
                inner = container[raw]
                inner.Clear()
                value_kind.fill(inner, item, edge)
            else:
                container[raw] = value_kind.to_wire(item, edge)
        except Fault as fault:
            raise fault.at(f"[{safe_repr(key)[:60]}]")  # noqa: B904


def _take_entries(raw: Any, kind: Mapping, edge: Edge) -> dict[Any, Any]:
    taken = {}
    value_kind: Any = kind.value
    take = value_kind.read if isinstance(value_kind, Composite) else value_kind.from_wire
    for key, item in raw.items():
        try:
            taken[kind.key.from_wire(key, edge)] = take(item, edge)
        except Fault as fault:
            raise fault.at(f"[{safe_repr(key)[:60]}]")  # noqa: B904
    return taken


# ---- making them


def field_of(
    message: MessageType, name: str, kind: Kind | Repeated | Mapping, number: int | None = None, comment: str = ""
) -> Field:
    """Adds a field of that kind to the message. Raises ValueError for a number that cannot be."""
    legal = message.choose(name)
    if isinstance(kind, Repeated):
        message.add(name, legal, kind.item, number, comment).label = _Proto.LABEL_REPEATED
        return _RepeatedField(name, legal, kind)
    if isinstance(kind, Mapping):
        message.add(name, legal, _entry(message, legal, kind), number, comment).label = _Proto.LABEL_REPEATED
        return _MapField(name, legal, kind)
    proto = message.add(name, legal, kind, number, comment)
    if isinstance(kind, Composite):
        return _MessageField(name, legal, kind)
    message.make_optional(proto)
    assert isinstance(kind, Scalar)
    return (_PlainField if kind.is_plain else _ScalarField)(name, legal, kind)


class _Entry(Kind):
    proto_type = _Proto.TYPE_MESSAGE

    def __init__(self, type_name: str) -> None:
        self.type_name = self.word = type_name


def _entry(message: MessageType, legal: str, kind: Mapping) -> Kind:
    """The message of the entries of a map, which protobuf nests beside the field."""
    entry = message.proto.nested_type.add(name=f"{json_name(f'_{legal}')}Entry")
    entry.options.map_entry = True
    for number, (part, of) in enumerate((("key", kind.key), ("value", kind.value)), start=1):
        proto = entry.field.add(name=part, number=number, type=of.proto_type, json_name=part)
        proto.label = _Proto.LABEL_OPTIONAL
        if of.type_name:
            proto.type_name = of.type_name
    return _Entry(f"{message.name}.{entry.name}")


def fields_of(proto: DescriptorProto) -> Iterator[_Proto]:
    """The fields of a message and of all that are nested in it."""
    yield from proto.field
    for nested in proto.nested_type:
        yield from fields_of(nested)
