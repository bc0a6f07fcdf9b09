"""Values to the structure that a JSON library writes: what JSON has stays as it is, the rest becomes tagged objects.

No Python statement runs per element of a container of plain scalars: the set of the types of the elements says whether
the library may write it whole. Types are exact here; a class derived from a kept type is never taken for it.
"""

from __future__ import annotations

import dataclasses
import inspect
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, MappingView, Sequence
from enum import Enum
from itertools import chain, compress, repeat
from math import isfinite
from operator import is_
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from broker.codecs import arrays, exceptions, kept
from broker.codecs.interface import (
    MAX_BUFFERS,
    MAX_DEPTH,
    MAX_REFERENCES,
    Buffer,
    Edge,
    Fault,
    Reference,
    bytes_of,
    is_iterator,
    replaced,
)
from broker.codecs.types import Record, TypeEntry, kind_of, type_name
from broker.errors import CodecError

__all__ = ["NO_WAY_BACK", "PLAIN", "TAG", "TOO_DEEP", "Encoder", "is_plain", "is_plain_dict", "mend"]

TAG = "$type"
PLAIN = frozenset({str, int, bool, type(None)})
_NUMBERS = PLAIN | {float}
_WRITABLE = _NUMBERS | {list, dict}
_TEXT = frozenset({str})
_FLOAT = {float}
_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType)

TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep, or contains itself"


MAX_NESTING = "max_nesting"
"""The setting of who reads."""


def too_deep(levels: int) -> str:
    """The same for a value that arrived, where so many levels may."""
    return TOO_DEEP if levels == MAX_DEPTH else f"it is nested more than {levels} deep (max_nesting): send it flatter"


NO_WAY_BACK = (
    "an exported object is called back over the connection of who gets it, and a unary caller has none: "
    "register the object with a daemon"
)


def is_plain(values: Iterable[object]) -> bool:
    """Whether a JSON library keeps these values and all that lies in them, as far as types can tell.

    A Python statement runs per level here, none per value.
    """
    if PLAIN.issuperset(map(type, values)):
        return True
    for _ in range(MAX_DEPTH):
        kinds = set(map(type, values))
        if not kinds <= _WRITABLE or (float in kinds and not _all_finite(values, kinds)):
            return False
        if kinds <= _NUMBERS:
            return True
        lists = _of_type(list, values) if list in kinds else ()
        dicts = _of_type(dict, values) if dict in kinds else ()
        names = set(map(type, chain.from_iterable(dicts)))
        if not names <= _TEXT or (names and TAG in set(chain.from_iterable(dicts))):
            return False
        values = [*chain.from_iterable(lists), *chain.from_iterable(map(dict.values, dicts))]
    return False


def is_plain_dict(value: dict[Any, Any]) -> bool:
    """The same for the values of a dict, and its keys."""
    return _TEXT.issuperset(map(type, value)) and TAG not in value and is_plain(value.values())


def _of_type(kind: type, values: Iterable[Any]) -> list[Any]:
    """The values of a type, each once: a cycle must not grow."""
    found = list(compress(values, map(is_, map(type, values), repeat(kind))))
    return list(dict(zip(map(id, found), found, strict=True)).values())


def _is_flat(values: Iterable[object]) -> bool:
    """The same for values that must hold no others."""
    kinds = set(map(type, values))
    return kinds <= PLAIN or (kinds <= _NUMBERS and _all_finite(values, kinds))


def _all_finite(values: Iterable[Any], kinds: set[type]) -> bool:
    if kinds == _FLOAT:
        return all(map(isfinite, values))
    return all(map(isfinite, compress(values, map(is_, map(type, values), repeat(float)))))


class Encoder:
    """Lowers one value, or the arguments of one call, and gathers what goes beside the text.

    With `inline` the buffers go into the text as base64, for readers who get nothing but JSON.
    """

    __slots__ = ("_edge", "_inline", "buffers", "references")

    def __init__(self, edge: Edge, *, inline: bool = False) -> None:
        self._edge = edge
        self._inline = inline
        self.buffers: list[Buffer] = []
        self.references: list[Reference] = []

    def lower(self, value: Any, depth: int = 0) -> object:
        """The JSON structure of a value that lies in `depth` others. Raises Fault."""
        kind = type(value)
        if kind in PLAIN:
            return value
        if kind is float:
            return value if isfinite(value) else kept.write_float(value)
        if depth >= MAX_DEPTH:
            raise Fault(TOO_DEEP)
        lower = _LOWER.get(kind)
        if lower is not None:
            return lower(self, value, depth + 1)
        replacement = replaced(value, "json", self._edge)
        if replacement is not value:
            return self.lower(replacement, depth + 1)
        reference = self.reference(value)
        if reference is not None:
            return {TAG: "reference", "uri": reference} if isinstance(reference, str) else self._beside(reference)
        return self._instance(value, kind, depth + 1)

    # ---- containers that JSON has

    def items(self, values: Sequence[Any], depth: int) -> object:
        if _is_flat(values):
            return values
        lowered: list[object] = []
        try:
            for value in values:
                lowered.append(self.lower(value, depth))  # noqa: PERF401 - a fault asks how far it came
        except Fault as fault:
            raise fault.at(f"[{len(lowered)}]")  # noqa: B904 - the same fault, on its way out
        return lowered

    def mapping(self, value: dict[Any, Any], depth: int) -> object:
        if not _TEXT.issuperset(map(type, value)) or TAG in value:
            return {TAG: "dict", "items": self._pairs(list(value.items()), depth)}
        if _is_flat(value.values()):
            return value
        return self._named(list(value.items()), depth, "[{!r}]")

    def _named(self, pairs: list[tuple[str, Any]], depth: int, part: str) -> dict[str, object]:
        lowered = {}
        for name, value in pairs:
            try:
                lowered[name] = self.lower(value, depth)
            except Fault as fault:
                raise fault.at(part.format(name))  # noqa: B904
        return lowered

    def _pairs(self, pairs: list[tuple[Any, Any]], depth: int) -> list[list[object]]:
        lowered: list[list[object]] = []
        for key, value in pairs:
            part = f".keys()[{len(lowered)}]"
            try:
                lowered_key = self.lower(key, depth)
                part = f"[{key!r}]" if type(key) in PLAIN else f".values()[{len(lowered)}]"
                lowered.append([lowered_key, self.lower(value, depth)])
            except Fault as fault:
                raise fault.at(part)  # noqa: B904
        return lowered

    # ---- kept types

    def laid_out(self, layout: kept.Layout, value: Any, depth: int) -> dict[str, object]:
        try:
            fields = layout.write(value)
        except Exception as refused:  # what cannot be written, and whatever a user's tzinfo raises
            raise Fault(f"this {layout.tag} cannot travel: {refused}") from refused
        return self._fields(layout.tag, fields, depth)

    def _fields(self, tag: str, fields: dict[str, Any], depth: int) -> dict[str, object]:
        tagged: dict[str, object] = {TAG: tag}
        for name, field in fields.items():
            if type(field) is list:
                tagged[name] = self.items(field, depth)
                continue
            try:
                tagged[name] = self.lower(field, depth)
            except Fault as fault:
                raise fault.at(f".{name}")  # noqa: B904
        return tagged

    def put(self, data: Buffer) -> dict[str, object]:
        """Puts bytes beside the text, and says where."""
        if self._inline or len(self.buffers) >= MAX_BUFFERS:
            return {"base64": b64encode(bytes_of(data)).decode()}
        self.buffers.append(data)
        return {"buffer": len(self.buffers) - 1}

    # ---- instances of other classes

    def reference(self, value: object) -> str | Reference | None:
        try:
            return self._edge.reference(value)
        except CodecError as refused:
            raise Fault(str(refused)) from refused

    def _beside(self, reference: Reference) -> dict[str, object]:
        """Puts a reference beside the text, and says where."""
        if self._inline:
            raise Fault(NO_WAY_BACK)
        if len(self.references) >= MAX_REFERENCES:
            raise Fault(f"more than {MAX_REFERENCES} exported objects are in one value: pass them in several calls")
        self.references.append(reference)
        return {TAG: "export", "reference": len(self.references) - 1}

    def _instance(self, value: Any, kind: type, depth: int) -> object:
        write = arrays.numpy_writer(value)
        if write is not None:
            return self._fields_of_numpy(write(value, self.put), depth)
        if kind is Record:
            return self._record(value, depth)
        entry = self._edge.types.by_class(kind)
        sort = kind_of(kind)
        if sort == "exception":
            return self.exception(value, depth, entry)
        if entry is not None and entry.to_dict is not None:
            return self._registered(value, entry, depth)
        name = entry.name if entry is not None else type_name(kind)
        if sort == "enum":
            return self._enum(value, name, depth)
        if sort is not None:
            return self._object(sort, name, _attributes(value, sort), depth)
        if isinstance(value, MappingView):
            return _as_list(self, value, depth)  # type: ignore[arg-type]
        stream = self._edge.stream(value) if is_iterator(value) else None
        if stream is not None:
            return self._beside(stream)
        raise Fault(_refusal(value))

    def _fields_of_numpy(self, tagged: dict[str, object], depth: int) -> dict[str, object]:
        if "value" in tagged:
            tagged["value"] = self.lower(tagged["value"], depth)
        return tagged

    def _record(self, value: Record, depth: int) -> dict[str, object]:
        if value._kind == "enum":
            return {TAG: "enum", "class": value._type, **self._named(list(value._fields.items()), depth, ".{}")}
        return self._object(value._kind, value._type, value._fields, depth)

    def _registered(self, value: object, entry: TypeEntry, depth: int) -> dict[str, object]:
        assert entry.to_dict is not None
        try:
            fields = entry.to_dict(value)
        except Exception as error:  # a user's function: whatever it raises is why the value cannot travel
            raise Fault(f"to_dict of {entry.name} raised {type(error).__name__}: {error}") from error
        if not isinstance(fields, dict):
            raise Fault(f"to_dict of {entry.name} gave {type(fields).__name__}, and it must give a dict")
        return self._object("object", entry.name, fields, depth)

    def _object(self, tag: str, name: str, fields: dict[Any, Any], depth: int) -> dict[str, object]:
        if not _TEXT.issuperset(map(type, fields)):
            raise Fault(f"the fields of a {name} are named by texts, and one of {list(fields)!r} is none")
        return {TAG: tag, "class": name, "fields": self._field_object(fields, depth)}

    def _field_object(self, fields: dict[str, Any], depth: int) -> object:
        """The fields by name, which are part of their tagged object and no level of their own."""
        if TAG in fields:
            return self.mapping(fields, depth)
        return fields if _is_flat(fields.values()) else self._named(list(fields.items()), depth, ".{}")

    def _enum(self, value: Enum, name: str, depth: int) -> dict[str, object]:
        return {TAG: "enum", "class": name, "name": value.name, "value": self._best(value.value, depth)}

    # ---- exceptions

    def exception(self, error: BaseException, depth: int, entry: TypeEntry | None = None, level: int = 0) -> object:
        """An exception can always be encoded: what cannot travel of it is replaced by its repr."""
        traceback = self._edge.traceback(error) if level == 0 and error.__traceback__ is not None else ""
        parts = exceptions.take_apart(error, traceback, entry.to_dict if entry is not None else None)
        if entry is not None:
            parts["class"] = entry.name
        lowered: dict[str, object] = {TAG: "exception", **parts}
        lowered["args"] = [self._best(value, depth) for value in parts["args"]]
        if "attributes" in parts:
            attributes = {str(name): self._best(value, depth) for name, value in parts["attributes"].items()}
            lowered["attributes"] = _escaped(attributes)
        for name in ("cause", "context"):
            if name in parts:
                lowered[name] = self._nested(parts[name], depth, level + 1)
        if "exceptions" in parts:
            lowered["exceptions"] = [self._nested(member, depth, level + 1) for member in parts["exceptions"]]
        return lowered

    def _nested(self, error: BaseException, depth: int, level: int) -> object:
        if level < exceptions.MAX_LEVELS and depth < MAX_DEPTH:
            return self.exception(error, depth + 1, self._edge.types.by_class(type(error)), level)
        name, message = type_name(type(error)), exceptions.message_of(error)
        return {TAG: "exception", "class": name, "base": "Exception", "message": message, "args": [message]}

    def _best(self, value: object, depth: int) -> object:
        """The value, or its repr if it cannot travel."""
        buffers, references = len(self.buffers), len(self.references)
        try:
            return self.lower(value, depth)
        except Fault:
            del self.buffers[buffers:]
            del self.references[references:]
            return exceptions.repr_of(value)


def _escaped(lowered: dict[str, object]) -> dict[str, object]:
    return {TAG: "dict", "items": [list(pair) for pair in lowered.items()]} if TAG in lowered else lowered


def _attributes(value: Any, kind: str) -> dict[str, Any]:
    """The fields of a dataclass or namedtuple by name."""
    names = [field.name for field in dataclasses.fields(value)] if kind == "object" else value._fields
    cls = type(value)
    derived = "__dataclass_fields__" not in vars(cls) if kind == "object" else "_fields" not in vars(cls)
    others = getattr(value, "__dict__", {}).keys() - set(names) if derived else ()
    if others:
        raise Fault(
            f"{type_name(cls)} has attributes that are no fields ({', '.join(sorted(others))}): make it a dataclass"
            " itself, or register it with broker.register_type(cls, to_dict=, from_dict=)"
        )
    try:
        return {name: getattr(value, name) for name in names}
    except AttributeError as missing:
        raise Fault(f"{type_name(cls)} has a field without a value: {missing}") from missing


def _refusal(value: object) -> str:
    """Why a value cannot travel, and what to do."""
    if isinstance(value, _FUNCTIONS):
        name = getattr(value, "__qualname__", repr(value))
        return (
            f"the function {name} cannot travel as a value: "
            "make it a method of an object that a daemon serves and pass that object, or wrap it in broker.export"
        )
    if inspect.iscoroutine(value):
        return "a coroutine cannot travel as a value: await it first"
    if isinstance(value, Iterator):
        return f"an iterator ({type_name(type(value))}) cannot travel as a value: make it a list"
    if isinstance(value, type):
        return f"the class {type_name(value)} cannot travel as a value: send its name, or an instance"
    if isinstance(value, ModuleType):
        return f"the module {value.__name__} cannot travel as a value"
    name = type_name(type(value))
    base = next((cls for cls in type(value).__mro__[1:] if cls in _LOWER or cls in PLAIN or cls is float), None)
    if base is not None:
        return (
            f"{name} derives from {base.__name__} and would arrive as less than it is: convert it"
            f" ({base.__name__}(value)), or register it with broker.register_type(cls, to_dict=, from_dict=)"
        )
    if any(type_name(cls) == "numpy.ndarray" for cls in type(value).__mro__):
        return f"{name} derives from numpy's array and would arrive as less than it is: send numpy.asarray(value)"
    return (
        f"an instance of {name} cannot travel as a value: make the class a dataclass, register it with"
        " broker.register_type(cls, to_dict=, from_dict=), or register the object with a daemon so that it travels"
        " as a reference"
    )


def _laid_out(layout: kept.Layout) -> Callable[[Encoder, Any, int], object]:
    return lambda encoder, value, depth: encoder.laid_out(layout, value, depth)


def _buffered(write: Callable[[Any, arrays.Put], dict[str, object]]) -> Callable[[Encoder, Any, int], object]:
    return lambda encoder, value, depth: write(value, encoder.put)


def _as_list(encoder: Encoder, value: Iterable[object], depth: int) -> object:
    return encoder.items(list(value), depth)


_LOWER: dict[type, Callable[[Encoder, Any, int], object]] = {
    list: Encoder.items,
    dict: Encoder.mapping,
    MappingProxyType: lambda encoder, value, depth: encoder.mapping(dict(value), depth),
    type({}.keys()): _as_list,
    type({}.values()): _as_list,
    type({}.items()): _as_list,
    **{cls: _laid_out(layout) for cls, layout in kept.BY_CLASS.items()},
    tuple: lambda encoder, value, depth: {TAG: "tuple", "items": encoder.items(value, depth)},
    **{cls: _buffered(write) for cls, write in arrays.WRITERS.items()},
}


def mend(lowered: object, largest: int = 2**64 - 1, smallest: int = -(2**63)) -> object:
    """The structure with the ints and texts tagged that a JSON writer refuses, or a reader would not keep."""
    kind = type(lowered)
    if kind is int:
        return lowered if smallest <= lowered <= largest else kept.write_int(lowered)  # type: ignore[operator,arg-type]
    if kind is str:
        return lowered if _is_unicode(lowered) else kept.write_str(lowered)  # type: ignore[arg-type]
    if isinstance(lowered, list | tuple):
        return [mend(value, largest, smallest) for value in lowered]
    if isinstance(lowered, dict):
        if not all(map(_is_unicode, lowered)):
            pairs = [[name, value] for name, value in lowered.items()]
            return {TAG: "dict", "items": mend(pairs, largest, smallest)}
        return {name: mend(value, largest, smallest) for name, value in lowered.items()}
    return lowered


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
