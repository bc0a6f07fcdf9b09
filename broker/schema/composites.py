"""Kinds that are messages of the schema's own: records, tuples, unions, references, and what wraps a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from broker.codecs import Edge, type_name
from broker.codecs.encoder import NO_WAY_BACK
from broker.codecs.interface import Fault, Reference
from broker.errors import CodecError
from broker.schema.kinds import Composite, Kind, Scalar, checked_text, promised
from broker.schema.messages import ABSENT, Field

__all__ = ["OptionalKind", "RecordKind", "ReferenceKind", "TupleKind", "UnionKind", "WrappedKind"]


class RecordKind(Composite):
    """A class whose instances are fields with names: a dataclass, a named tuple, a TypedDict.

    `fields` are set when those of the class are known: a record may hold itself.
    """

    fields: Sequence[Field] = ()

    def __init__(
        self,
        cls: type,
        type_name: str,
        word: str,
        take_apart: Callable[[Any], Mapping[str, Any]],
        build: Callable[[dict[str, Any]], Any],
    ) -> None:
        self.cls, self.type_name, self.word = cls, type_name, word
        self.python = (cls,)
        self._take_apart, self._build = take_apart, build

    def fill(self, message: Any, value: Any, edge: Edge) -> None:
        values = self._take_apart(value)
        for field in self.fields:
            found = values.get(field.name, ABSENT)
            if found is not ABSENT:
                field.put(message, found, edge)

    def read(self, message: Any, edge: Edge) -> Any:
        values = {}
        for field in self.fields:
            value = field.take(message, edge)
            if value is not ABSENT:
                values[field.name] = value
        try:
            return self._build(values)
        except Exception as error:  # a dataclass runs code of its own: whatever it raises is why
            reason = f"{self.cls.__name__} cannot be made of what arrived: {type(error).__name__}: {error}"
            raise Fault(reason) from error


class TupleKind(Composite):
    """A tuple of so many values, each of a kind of its own."""

    fields: Sequence[Field] = ()

    def __init__(self, type_name: str, word: str) -> None:
        self.type_name, self.word, self.python = type_name, word, (tuple,)

    def fill(self, message: Any, value: Any, edge: Edge) -> None:
        if not isinstance(value, tuple):
            raise promised(value, "tuple")
        if len(value) != len(self.fields):
            raise Fault(f"it has {len(value)} items, and the hint says {len(self.fields)}")
        for field, item in zip(self.fields, value, strict=True):
            field.put(message, item, edge)

    def read(self, message: Any, edge: Edge) -> Any:
        return tuple(field.take(message, edge) for field in self.fields)


class WrappedKind(Composite):
    """A list or dict where protobuf allows only one value: a message with one field."""

    field: Field

    def __init__(self, type_name: str, word: str, cls: type) -> None:
        self.type_name, self.word, self.python = type_name, word, (cls,)

    def fill(self, message: Any, value: Any, edge: Edge) -> None:
        try:
            self.field.put(message, value, edge)
        except Fault as fault:
            raise _without_name(fault)  # noqa: B904 - the same fault, on its way out

    def read(self, message: Any, edge: Edge) -> Any:
        try:
            return self.field.take(message, edge)
        except Fault as fault:
            raise _without_name(fault)  # noqa: B904


class OptionalKind(WrappedKind):
    """A value or None, where a field alone cannot say which: a message whose one field is absent for None."""

    def __init__(self, type_name: str, word: str, inner: Kind) -> None:
        super().__init__(type_name, word, type(None))
        self.python = (*inner.python, type(None))


def _without_name(fault: Fault) -> Fault:
    """Takes the name of a field off the path that is nothing to a user of Python."""
    fault.path.pop()
    return fault


class EntriesKind(Composite):
    """An entry of a dict whose keys cannot be keys in protobuf: the key and the value."""

    key: Field
    value: Field

    def __init__(self, type_name: str, word: str) -> None:
        self.type_name, self.word = type_name, word

    def fill(self, message: Any, value: Any, edge: Edge) -> None:
        self.key.put(message, value[0], edge)
        self.value.put(message, value[1], edge)

    def read(self, message: Any, edge: Edge) -> Any:
        return self.key.take(message, edge), self.value.take(message, edge)


class UnionKind(Composite):
    """One of several kinds: a oneof."""

    arms: Sequence[tuple[str, Kind]] = ()

    def __init__(self, type_name: str, word: str) -> None:
        self.type_name, self.word = type_name, word

    def fill(self, message: Any, value: Any, edge: Edge) -> None:
        exact = [arm for arm in self.arms if type(value) in arm[1].python]
        if len(exact) == 1:
            _put_arm(message, *exact[0], value, edge)
            return
        for name, kind in [*exact, *(arm for arm in self.arms if arm not in exact)]:
            try:
                _put_arm(message, name, kind, value, edge)
            except Fault:
                message.ClearField(name)
            else:
                return
        raise promised(value, " or ".join(str(kind) for _, kind in self.arms))

    def read(self, message: Any, edge: Edge) -> Any:
        name = message.WhichOneof("value")
        kind: Any = dict(self.arms).get(name)
        if kind is None:
            raise Fault(f"one of {', '.join(name for name, _ in self.arms)} is required, and none came")
        raw = getattr(message, name)
        return kind.read(raw, edge) if isinstance(kind, Composite) else kind.from_wire(raw, edge)


def _put_arm(message: Any, name: str, kind: Kind, value: Any, edge: Edge) -> None:
    if isinstance(kind, Composite):
        inner = getattr(message, name)
        inner.SetInParent()
        kind.fill(inner, value, edge)
    else:
        assert isinstance(kind, Scalar)
        setattr(message, name, kind.to_wire(value, edge))


class ReferenceKind(Composite):
    """An object that is called where it lives: its URI, and for people its class."""

    word = "reference"

    def __init__(self, type_name: str, cls: type) -> None:
        self.type_name = type_name
        self._cls = cls

    def fill(self, message: Any, value: Any, edge: Edge) -> None:
        reference = edge.reference(value)
        if isinstance(reference, Reference):
            raise Fault(NO_WAY_BACK)
        if reference is None:
            raise Fault(
                f"an instance of {type_name(type(value))} travels as the URI of a registered object, and this one is "
                f"not registered: register it with a daemon, or make a dataclass of {self._cls.__name__}"
            )
        message.uri = checked_text(reference)
        ours = type(value).__module__.partition(".")[0] == "broker"  # a proxy, whose class says nothing
        message.type = type_name(self._cls if ours else type(value))

    def read(self, message: Any, edge: Edge) -> Any:
        if not message.uri:
            raise Fault("a reference has the URI of an object, like BROKER:example.warehouse@localhost:7766")
        try:
            return edge.resolve(message.uri)
        except (CodecError, ValueError) as refused:
            raise Fault(str(refused)) from refused
