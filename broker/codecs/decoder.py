"""The structure that a JSON library read to values: the other half of `encoder`.

What arrives is not trusted: every layout is checked, nothing is imported by a name that arrived, each buffer is taken
once, and whatever is wrong is a `Fault` with the path to it.
"""

from __future__ import annotations

import dataclasses
from base64 import b64decode
from collections.abc import Callable
from enum import Enum, Flag
from typing import Any

from broker.codecs import arrays, exceptions, kept
from broker.codecs.encoder import MAX_NESTING, TAG, too_deep
from broker.codecs.hashes import check_hashes
from broker.codecs.interface import Buffer, Edge, Fault, Reference, arrived, bytes_of, view_of
from broker.codecs.types import Kind, Record, TypeEntry
from broker.errors import CodecError

__all__ = ["Decoder"]

_CONTAINERS = frozenset({list, dict})
_WRONG = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError)
"""What the constructors of the standard library and of numpy raise for what they cannot take."""

_STR, _LIST, _DICT, _INT, _BOOL = (str,), (list,), (dict,), (int,), (bool,)
Types = tuple[type, ...]


class Decoder:
    """Rebuilds one value, or the arguments of one call."""

    __slots__ = ("_buffers", "_edge", "_levels", "_references")

    def __init__(self, edge: Edge, buffers: tuple[Buffer, ...] = (), references: tuple[Reference, ...] = ()) -> None:
        self._edge = edge
        self._levels = edge.max_nesting
        self._buffers: list[Buffer | None] = list(buffers)
        self._references = references

    def rebuild(self, value: Any, depth: int = 0) -> Any:
        """The value of a JSON structure that lies in `depth` others. Raises Fault."""
        kind = type(value)
        if kind not in _CONTAINERS:
            return value
        if kind is dict and TAG in value:
            return self._tagged(value, depth)
        if depth >= self._levels:
            raise Fault(too_deep(self._levels), MAX_NESTING)
        return self._items(value, depth + 1) if kind is list else self._named(value, depth + 1, "[{!r}]")

    def _items(self, values: list[Any], depth: int) -> list[Any]:
        if _CONTAINERS.isdisjoint(map(type, values)):
            return values
        rebuilt: list[Any] = []
        try:
            for value in values:
                rebuilt.append(self.rebuild(value, depth))  # noqa: PERF401 - a fault asks how far it came
        except Fault as fault:
            raise fault.at(f"[{len(rebuilt)}]")  # noqa: B904 - the same fault, on its way out
        return rebuilt

    def _named(self, values: dict[str, Any], depth: int, part: str) -> dict[str, Any]:
        if _CONTAINERS.isdisjoint(map(type, values.values())):
            return values
        rebuilt = {}
        for name, value in values.items():
            try:
                rebuilt[name] = self.rebuild(value, depth)
            except Fault as fault:
                raise fault.at(part.format(name))  # noqa: B904
        return rebuilt

    # ---- tagged objects

    def _tagged(self, value: dict[str, Any], depth: int) -> Any:
        tag = value[TAG]
        if not isinstance(tag, str):
            raise Fault(f"the {TAG} of a tagged object is a text, not {type(tag).__name__}")
        if depth >= self._levels and tag not in _LEAVES:
            raise Fault(too_deep(self._levels), MAX_NESTING)
        if tag == "tuple" and len(value) == 2 and type(value.get("items")) is list:  # by far the most frequent
            return tuple(self._items(value["items"], depth + 1))
        fields = {name: field for name, field in value.items() if name != TAG}
        read = _TAGS.get(tag)
        try:
            if read is not None:
                return read(self, fields, depth + 1)
            layout = kept.BY_TAG.get(tag)
            if layout is None:
                raise Fault(f"the tag {tag!r} is not known here")
            rebuilt = self._fields(fields, depth + 1)
            _check(tag, rebuilt, layout.fields, layout.optional)
            required = [rebuilt.pop(name) for name in layout.fields]
            return layout.read(*required, **rebuilt)
        except _WRONG as wrong:
            raise Fault(f"this is no {tag}: {wrong}") from wrong

    def _fields(self, fields: dict[str, Any], depth: int) -> dict[str, Any]:
        """The fields of a tagged object; a list in them is part of the tagged object and no level of its own."""
        rebuilt = {}
        for name, field in fields.items():
            if type(field) is list:
                rebuilt[name] = self._items(field, depth)
                continue
            try:
                rebuilt[name] = self.rebuild(field, depth)
            except Fault as fault:
                raise fault.at(f".{name}")  # noqa: B904
        return rebuilt

    def _mapping(self, fields: dict[str, Any], depth: int) -> dict[Any, Any]:
        _check("dict", fields, {"items": _LIST})
        rebuilt = []
        for index, pair in enumerate(fields["items"]):
            if type(pair) is not list or len(pair) != 2:
                raise Fault("an item of a dict is [key, value]").at(f".items()[{index}]")
            rebuilt.append(self._items(pair, depth))
        check_hashes([key for key, _ in rebuilt])
        return dict(rebuilt)

    def _reference(self, fields: dict[str, Any], depth: int) -> object:
        _check("reference", fields, {"uri": _STR})
        return self._resolved(fields["uri"])

    def _export(self, fields: dict[str, Any], depth: int) -> object:
        _check("export", fields, {"reference": _INT})
        index: int = fields["reference"]
        if not 0 <= index < len(self._references):
            raise Fault(f"there is no reference {index}: {len(self._references)} arrived")
        return self._resolved(self._references[index])

    def _resolved(self, reference: str | Reference) -> object:
        try:
            return self._edge.resolve(reference)
        except CodecError as refused:
            raise Fault(str(refused)) from refused

    # ---- what has its bytes beside the text

    def _take(self, tag: str, fields: dict[str, Any]) -> Buffer:
        """Takes the bytes of a tagged object: from its buffer, or from the text."""
        if "base64" in fields:
            _check(tag, fields, {"base64": _STR}, others=True)
            text: str = fields.pop("base64")
            return b64decode(text, validate=True)
        _check(tag, fields, {"buffer": _INT}, others=True)
        index: int = fields.pop("buffer")
        if not 0 <= index < len(self._buffers):
            raise Fault(f"there is no buffer {index}: {len(self._buffers)} arrived")
        data = self._buffers[index]
        self._buffers[index] = None
        if data is None:
            raise Fault(f"buffer {index} is used twice")
        return data

    def _bytes(self, fields: dict[str, Any], depth: int) -> bytes:
        data = self._take("bytes", fields)
        _check("bytes", fields, {})
        return bytes_of(data)

    def _bytearray(self, fields: dict[str, Any], depth: int) -> bytearray:
        data = self._take("bytearray", fields)
        _check("bytearray", fields, {})
        return bytearray(view_of(data))

    def _memoryview(self, fields: dict[str, Any], depth: int) -> memoryview:
        data = self._take("memoryview", fields)
        _check("memoryview", fields, {"format": _STR, "shape": _LIST})
        return arrays.read_memoryview(data, fields["format"], fields["shape"])

    def _array(self, fields: dict[str, Any], depth: int) -> object:
        data = self._take("array", fields)
        _check("array", fields, {"typecode": _STR, "itemsize": _INT})
        return arrays.read_array(data, **fields)

    def _ndarray(self, fields: dict[str, Any], depth: int) -> object:
        data = self._take("numpy.ndarray", fields)
        _check("numpy.ndarray", fields, {"dtype": (str, list), "shape": _LIST, "order": _STR})
        return arrays.read_ndarray(data, **fields)

    def _scalar(self, fields: dict[str, Any], depth: int) -> object:
        value = self.rebuild(fields["value"], depth) if "value" in fields else None
        if ("value" in fields) == ("base64" in fields):
            raise Fault("a numpy.scalar has either value or base64")
        _check("numpy.scalar", fields, {"dtype": (str, list)}, {"value": kept.ANY, "base64": _STR})
        return arrays.read_scalar(fields["dtype"], value, fields.get("base64"))

    # ---- instances of classes

    def _entry(self, name: str, kind: Kind) -> TypeEntry | None:
        entry = self._edge.types.by_name(name)
        if entry is not None and entry.kind != kind:
            raise Fault(f"{name} arrived as {kind}, and here it is {entry.kind}")
        return entry

    def _object(self, fields: dict[str, Any], depth: int) -> object:
        return self._built("object", fields, depth, _build_object)

    def _namedtuple(self, fields: dict[str, Any], depth: int) -> object:
        return self._built("namedtuple", fields, depth, _build_namedtuple)

    def _built(
        self, kind: Kind, fields: dict[str, Any], depth: int, build: Callable[[TypeEntry, dict[str, Any]], object]
    ) -> object:
        _check(kind, fields, {"class": _STR, "fields": _DICT})
        name = fields["class"]
        values = self._field_object(fields["fields"], depth)
        entry = self._entry(name, kind)
        if entry is None:
            return arrived(Record(name, values, kind), self._edge)
        try:
            return build(entry, values)
        except Exception as error:  # a user's function or dataclass: whatever it raises is why
            raise Fault(f"{name} cannot be made of what arrived: {type(error).__name__}: {error}") from error

    def _field_object(self, fields: dict[str, Any], depth: int) -> dict[str, Any]:
        """The fields by name, which are part of their tagged object and no level of their own."""
        if TAG not in fields:
            return self._named(fields, depth, ".{}")
        if fields[TAG] != "dict":
            raise Fault("fields are an object or a tagged dict")
        values = self._mapping({name: field for name, field in fields.items() if name != TAG}, depth)
        if not all(type(name) is str for name in values):
            raise Fault("fields are named by texts")
        return values

    def _enum(self, fields: dict[str, Any], depth: int) -> object:
        _check("enum", fields, {"class": _STR, "name": (str, type(None)), "value": kept.ANY})
        name, value = fields["name"], self.rebuild(fields["value"], depth)
        entry = self._entry(fields["class"], "enum")
        if entry is None:
            return arrived(Record(fields["class"], {"name": name, "value": value}, "enum"), self._edge)
        return _enum_member(entry.cls, name, value)

    def _exception(self, fields: dict[str, Any], depth: int) -> BaseException:
        _check("exception", fields, *_EXCEPTION)
        parts = dict(fields)
        parts["args"] = self._items(fields["args"], depth)
        parts["attributes"] = self._field_object(fields.get("attributes", {}), depth)
        for name in ("cause", "context"):
            if name in fields:
                parts[name] = self._nested(fields[name], depth)
        parts["exceptions"] = [self._nested(member, depth) for member in fields.get("exceptions", ())]
        if not all(type(note) is str for note in fields.get("notes", ())):
            raise Fault("a note is a text")
        found = exceptions.find_class(fields["class"], self._edge.types)
        return exceptions.put_together(parts, found)

    def _nested(self, member: object, depth: int) -> BaseException:
        error = self.rebuild(member, depth)
        if not isinstance(error, BaseException):
            raise Fault(f"an exception is caused by an exception, not by {type(error).__name__}")
        return error


_EXCEPTION: tuple[dict[str, Types], dict[str, Types]] = (
    {"class": _STR, "base": _STR, "message": _STR, "args": _LIST},
    {
        "attributes": _DICT,
        "notes": _LIST,
        "cause": _DICT,
        "context": _DICT,
        "suppress_context": _BOOL,
        "exceptions": _LIST,
        "traceback": _STR,
    },
)

_TAGS: dict[str, Callable[[Decoder, dict[str, Any], int], object]] = {
    "dict": Decoder._mapping,
    "reference": Decoder._reference,
    "export": Decoder._export,
    "bytes": Decoder._bytes,
    "bytearray": Decoder._bytearray,
    "memoryview": Decoder._memoryview,
    "array": Decoder._array,
    "numpy.ndarray": Decoder._ndarray,
    "numpy.scalar": Decoder._scalar,
    "object": Decoder._object,
    "namedtuple": Decoder._namedtuple,
    "enum": Decoder._enum,
    "exception": Decoder._exception,
}

_LEAVES = kept.SCALARS | {"exception"}
"""Tags that may lie deeper than any other; what lies in them is counted by itself."""

_NOTHING: dict[str, Types] = {}


def _check(
    tag: str,
    fields: dict[str, Any],
    required: dict[str, Types],
    optional: dict[str, Types] = _NOTHING,
    *,
    others: bool = False,
) -> None:
    """Checks that the fields are there and have exactly one of the types that they may have."""
    for name, types in required.items():
        if name not in fields:
            raise Fault(f"a tagged {tag} has the field {name!r}, which is missing")
        if types and type(fields[name]) not in types:
            raise Fault(f"the field {name!r} of a tagged {tag} is {type(fields[name]).__name__}")
    if others or len(fields) == len(required):
        return
    for name, value in fields.items():
        if name in required:
            continue
        if name not in optional:
            raise Fault(f"a tagged {tag} has no field {name!r}")
        if optional[name] and type(value) not in optional[name]:
            raise Fault(f"the field {name!r} of a tagged {tag} is {type(value).__name__}")


def _build_object(entry: TypeEntry, values: dict[str, Any]) -> object:
    """An instance by its registered function, or a dataclass by its own `__init__`."""
    if entry.from_dict is not None:
        return entry.from_dict(values)
    fields = {field.name: field for field in dataclasses.fields(entry.cls)}
    unknown = values.keys() - fields.keys()
    if unknown:
        raise TypeError(f"there is no field {', '.join(sorted(unknown))} (it has: {', '.join(fields)})")
    instance: object = entry.cls(**{name: value for name, value in values.items() if fields[name].init})
    for name, value in values.items():
        if not fields[name].init:
            object.__setattr__(instance, name, value)
    return instance


def _build_namedtuple(entry: TypeEntry, values: dict[str, Any]) -> object:
    cls: Any = entry.cls
    complete = {**cls._field_defaults, **values}
    if complete.keys() != set(cls._fields):
        raise TypeError(f"the fields are {', '.join(cls._fields)}, and {', '.join(values)} arrived")
    return tuple.__new__(cls, [complete[name] for name in cls._fields])


def _enum_member(cls: type[Enum], name: str | None, value: object) -> Enum:
    if name is not None and name in cls.__members__:
        return cls.__members__[name]
    if issubclass(cls, Flag):
        return cls(value)
    raise Fault(f"{cls.__qualname__} has no member {name!r} here (it has: {', '.join(cls.__members__)})")
