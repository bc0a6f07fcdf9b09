"""The types that may be rebuilt from what arrived, and `Record` for data of a type that is not known here."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, Literal, TypeVar, overload

from broker.codecs import kept
from broker.uri import URI

__all__ = ["GLOBAL_TYPES", "Kind", "Record", "TypeEntry", "TypeRegistry", "kind_of", "register_type", "type_name"]

Kind = Literal["object", "enum", "namedtuple", "exception"]
ToDict = Callable[[Any], Mapping[str, object]]
FromDict = Callable[[dict[str, Any]], object]
C = TypeVar("C", bound=type)

_MAIN_MODULES = ("__main__", "__mp_main__")
_FLATTENED = (dict, list, str, bytes, bytearray, int, float, *kept.BY_CLASS)
"""A dataclass that derives from one of these has contents that its fields do not show."""


# Where a version of Python keeps a class of a public module in a private one.
_PUBLIC_MODULES = {"pathlib._local": "pathlib"}


def type_name(cls: type) -> str:
    """The name that a class has on the wire: `module.qualname`.

    A class of `__main__` goes by the module that its file would be, so that a script and those who import it agree. A
    builtin has its bare name.
    """
    module = _PUBLIC_MODULES.get(cls.__module__, cls.__module__)
    if module == "builtins":
        return cls.__qualname__
    return f"{_main_name(module) if module in _MAIN_MODULES else module}.{cls.__qualname__}"


def _main_name(module: str) -> str:
    main = sys.modules.get(module)
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name not in _MAIN_MODULES:
        return str(spec.name)
    path = getattr(main, "__file__", None)
    return PurePath(path).stem if path else module


def kind_of(cls: type) -> Kind | None:
    """How instances of a class are taken apart without being told; None if there is no obvious way."""
    if issubclass(cls, BaseException):
        return "exception"
    if issubclass(cls, enum.Enum):
        return "enum"
    if issubclass(cls, tuple):
        return "namedtuple" if isinstance(getattr(cls, "_fields", None), tuple) else None
    if dataclasses.is_dataclass(cls) and not issubclass(cls, _FLATTENED):
        return "object"
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class TypeEntry:
    """A type that may be rebuilt."""

    name: str
    cls: type
    kind: Kind
    to_dict: ToDict | None = None
    from_dict: FromDict | None = None
    learnt: bool = False


class TypeRegistry:
    """Types by name and by class; what is not found here is asked of the parent. Any thread may use it."""

    def __init__(self, parent: TypeRegistry | None = None) -> None:
        self._parent = parent
        self._names: dict[str, TypeEntry] = {}
        self._classes: dict[type, TypeEntry] = {}

    def by_name(self, name: str) -> TypeEntry | None:
        entry = self._names.get(name)
        return entry if entry is not None or self._parent is None else self._parent.by_name(name)

    def by_class(self, cls: type) -> TypeEntry | None:
        entry = self._classes.get(cls)
        return entry if entry is not None or self._parent is None else self._parent.by_class(cls)

    def register(
        self, cls: type, *, name: str | None = None, to_dict: ToDict | None = None, from_dict: FromDict | None = None
    ) -> None:
        """Registers a class under its own or another name; a later registration replaces an earlier one.

        Raises TypeError if the class is no dataclass, Enum, namedtuple or exception and the functions are missing, and
        ValueError if another class has the name.
        """
        if not isinstance(cls, type):
            raise TypeError(f"register_type registers a class, not {cls!r}")
        if (to_dict is None) != (from_dict is None):
            raise TypeError(f"{type_name(cls)}: to_dict and from_dict are given together or not at all")
        kind = kind_of(cls)
        if kind is None and to_dict is None:
            raise TypeError(
                f"{type_name(cls)} is no dataclass, Enum, namedtuple or exception: "
                "give register_type its to_dict and from_dict"
            )
        if to_dict is not None and kind != "exception":
            kind = "object"
        assert kind is not None
        self._enter(TypeEntry(name or type_name(cls), cls, kind, to_dict, from_dict))
        if to_dict is None:
            self._learn(_field_hints(cls, kind), {cls})

    def learn(self, hint: object) -> None:
        """Registers the classes that a type hint names, and those in the hints of their fields.

        Classes that cannot be rebuilt without being told how are passed over, and so are names that are taken.
        """
        self._learn([hint], set())

    def _learn(self, hints: Iterable[object], seen: set[type]) -> None:
        for cls in itertools.chain.from_iterable(map(_classes_in, hints)):
            kind = kind_of(cls)
            if kind is None or cls in seen or cls.__module__ == "builtins":
                continue
            seen.add(cls)
            if self.by_class(cls) is None and self.by_name(type_name(cls)) is None:
                self._enter(TypeEntry(type_name(cls), cls, kind, learnt=True))
            self._learn(_field_hints(cls, kind), seen)

    def _enter(self, entry: TypeEntry) -> None:
        present = self._names.get(entry.name)
        if present is not None and present.cls is not entry.cls:
            if not present.learnt and type_name(present.cls) != type_name(entry.cls):
                raise ValueError(f"the type name {entry.name!r} belongs to {present.cls!r}: give another name=")
            self._classes.pop(present.cls, None)
        earlier = self._classes.get(entry.cls)
        if earlier is not None:
            self._names.pop(earlier.name, None)
        self._names[entry.name] = entry
        self._classes[entry.cls] = entry


def _classes_in(hint: object) -> Iterator[type]:
    """The classes that a hint is made of: `dict[str, Item | None]` holds dict, str, Item and NoneType."""
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        yield hint
    elif isinstance(hint, typing.TypeVar):
        for part in (hint.__bound__, *hint.__constraints__):
            yield from _classes_in(part)
    elif isinstance(hint, typing.NewType):
        yield from _classes_in(hint.__supertype__)
    elif isinstance(hint, list | tuple):
        for part in hint:
            yield from _classes_in(part)
    else:
        yield from _classes_in(typing.get_args(hint))
        origin = typing.get_origin(hint)
        if isinstance(origin, type):
            yield origin


def _field_hints(cls: type, kind: Kind) -> Iterator[object]:
    """The hints of the fields of a dataclass or namedtuple; one that cannot be resolved is passed over."""
    if kind == "object":
        names = [field.name for field in dataclasses.fields(cls)]
    elif kind == "namedtuple":
        names = list(getattr(cls, "_fields"))  # noqa: B009 - the attribute is not in the type
    else:
        return
    hints = _resolved_hints(cls)
    for name in names:
        if name in hints:
            yield hints[name]


def _resolved_hints(cls: type) -> dict[str, object]:
    try:
        return typing.get_type_hints(cls)
    except Exception:  # a hint is any expression: one may name what exists for type checkers only
        return _hints_one_by_one(cls)


def _hints_one_by_one(cls: type) -> dict[str, object]:
    hints: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        for name, hint in vars(base).get("__annotations__", {}).items():
            holder = type("holder", (), {"__annotations__": {name: hint}, "__module__": base.__module__})
            try:
                hints |= typing.get_type_hints(holder)
            except Exception:
                hints.pop(name, None)
    return hints


class Record:
    """Data of a type that is not known here: an object whose attributes are the fields.

    It compares equal to a record of the same type with equal fields, is not hashable, and turns back into the type when
    it is sent on to who knows it. `_type` is the type's name, `_kind` what it is (an object, an enum, a namedtuple),
    and `_fields` the fields by name.
    """

    __slots__ = ("_fields", "_kind", "_type")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, type_name: str, fields: Mapping[str, object], kind: Kind = "object") -> None:
        for slot, value in (("_type", type_name), ("_kind", kind), ("_fields", dict(fields))):
            object.__setattr__(self, slot, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in Record.__slots__:
            raise AttributeError(name)
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(
                f"this record of type {self._type} has no {name!r} (it has: {', '.join(map(str, self._fields))}); "
                f"{self._advice()}"
            ) from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"this record of type {self._type} cannot be changed ({name!r}): {self._advice()}")

    def _advice(self) -> str:
        return f"the class is not known here: import it and call broker.register_type, and a {self._type} arrives"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return (self._type, self._kind, self._fields) == (other._type, other._kind, other._fields)

    def __repr__(self) -> str:
        return f"<Record {self._type}({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})>"

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *filter(lambda name: isinstance(name, str), self._fields)]

    def __reduce__(self) -> tuple[object, ...]:
        return Record, (self._type, self._fields, self._kind)


GLOBAL_TYPES = TypeRegistry()
"""The types that `register_type` registered, for the whole process."""

GLOBAL_TYPES.register(URI, name="broker.URI", to_dict=lambda uri: {"uri": str(uri)}, from_dict=lambda d: URI(d["uri"]))


@overload
def register_type(
    cls: C, *, name: str | None = None, to_dict: ToDict | None = None, from_dict: FromDict | None = None
) -> C: ...


@overload
def register_type(
    cls: None = None, *, name: str | None = None, to_dict: ToDict | None = None, from_dict: FromDict | None = None
) -> Callable[[C], C]: ...


def register_type(
    cls: C | None = None, *, name: str | None = None, to_dict: ToDict | None = None, from_dict: FromDict | None = None
) -> C | Callable[[C], C]:
    """Lets instances of a class arrive as what they are, in this whole process. Also a decorator.

    A dataclass, Enum, namedtuple or exception needs no functions. Of any other class `to_dict` makes a dict with str
    keys, and `from_dict` an instance again; both are needed. `name` is the name on the wire, `module.qualname` if it is
    not given. Raises TypeError and ValueError as `TypeRegistry.register` does.
    """

    def register(cls: C) -> C:
        GLOBAL_TYPES.register(cls, name=name, to_dict=to_dict, from_dict=from_dict)
        return cls

    return register if cls is None else register(cls)
