"""Hints to kinds: what a field of each hint is, and which messages it needs."""

from __future__ import annotations

import collections
import collections.abc as abc
import dataclasses
import enum
import inspect
import sys
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from broker.codecs import GLOBAL_TYPES, Record
from broker.hints import safe_repr
from broker.schema import kinds
from broker.schema.absence import (
    ABSENT_FOR_NONE,
    EMPTY,
    REQUIRED,
    STREAMED,
    is_empty,
    missing,
    notes_of,
    part_of,
    parts_of,
    shown_default,
    when_absent,
)  # fmt: skip
from broker.schema.composites import (
    EntriesKind,
    OptionalKind,
    RecordKind,
    ReferenceKind,
    TupleKind,
    UnionKind,
    WrappedKind,
)
from broker.schema.enums import EnumKind, FlagKind, LiteralKind, NamesKind, enum_type
from broker.schema.json_values import JSON_LIST, JSON_OBJECT, JSON_VALUE
from broker.schema.kinds import Kind, Scalar
from broker.schema.meaning import ITERATORS, Inexpressible, bare, hashable, own_doc, pinned, replaced, shown
from broker.schema.messages import ABSENT, Field, MessageType, Plural, Repeated, entries_of, field_of
from broker.schema.messages import Mapping as MapOf
from broker.schema.names import identifier, json_name, unique
from broker.schema.records import RecordField, fields_of_record, form_of, is_record

__all__ = ["Hinted", "Reader"]

T = TypeVar("T")
_LONGEST_NAME = 60


@dataclasses.dataclass(frozen=True)
class Hinted:
    """What a hint says: the kind, and whether None is allowed beside its values."""

    kind: Kind | Plural
    nullable: bool = False


_SEQUENCES: dict[object, tuple[type, Callable[[Iterable[Any]], Any]]] = {
    list: (list, list),
    abc.Sequence: (list, list),
    abc.MutableSequence: (list, list),
    abc.Collection: (list, list),
    abc.Iterable: (list, list),
    abc.Reversible: (list, list),
    tuple: (tuple, tuple),
    set: (set, set),
    abc.Set: (set, set),
    abc.MutableSet: (set, set),
    frozenset: (frozenset, frozenset),
    collections.deque: (collections.deque, collections.deque),
}
_DICTS = frozenset({dict, abc.Mapping, abc.MutableMapping})
_AWAITABLES = frozenset({abc.Awaitable, abc.Coroutine})
_ANYTHING = (Any, object, inspect.Parameter.empty, Record)
_NOTHING = (None, typing.NoReturn, typing.Never)
_KEYS = (FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_INT64, FieldDescriptorProto.TYPE_BOOL)


class Reader:
    """Reads the hints of one class, which is their `Self`, and gathers the messages that they need."""

    def __init__(self, cls: type) -> None:
        self._cls = cls
        self.messages: list[MessageType] = []
        self._names: set[str] = set()
        self._read: dict[int, tuple[Any, Hinted]] = {}  # by identity: equal hints may have their parts in other orders
        self._kinds: dict[Hashable, Any] = {}

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Forgets the messages that were begun, if a hint cannot be read."""
        messages, known = len(self.messages), dict(self._kinds)
        try:
            yield
        except Exception:
            self._names.difference_update(message.name for message in self.messages[messages:])
            del self.messages[messages:]
            self._kinds = known
            self._read.clear()
            raise

    def message(self, name: str, comment: str = "") -> MessageType:
        """A new message, named so or nearly so."""
        legal = unique(identifier(name[:_LONGEST_NAME]), self._names)
        self._names.add(legal)
        message = MessageType(legal, comment=comment)
        self.messages.append(message)
        return message

    def place(
        self,
        message: MessageType,
        name: str,
        hinted: Hinted,
        number: int | None = None,
        default: Any = ABSENT,
        *,
        noted: bool = True,
        streamed: bool = False,
    ) -> Field:
        """Adds the field of a parameter, or of a field of a record; `default` is ABSENT where a value is required.

        `noted` says in its comment what happens without it, `streamed` that it is an iterator's item.
        Raises Inexpressible for a number that cannot be.
        """
        kind, none_is_absent = hinted.kind, False
        required = default is ABSENT
        if streamed:
            kind = self._single_of(hinted)
        elif hinted.nullable:
            kind = self.single(kind)
            none_is_absent = required or default is None
            if not none_is_absent:
                kind = self._optional(kind)
        elif kind is kinds.Null:
            none_is_absent = True
        elif isinstance(kind, Plural) and not required and not is_empty(default):
            kind = self.single(kind)  # so that it shows whether it is empty, or has not come
        absent = when_absent(kind, hinted.nullable) if required else None
        lines = [ABSENT_FOR_NONE] if none_is_absent and kind is not kinds.Null else []
        if streamed:
            lines = [STREAMED]
        elif noted:
            lines += [REQUIRED] if absent is missing else shown_default(default)
        try:
            field = field_of(message, name, kind, number, "\n".join([*lines, *notes_of(kind)]))
        except ValueError as error:
            raise Inexpressible(str(error)) from None
        field.none_is_absent = none_is_absent
        field.absent = absent or field.absent
        return field

    # ---- hints

    def read(self, hint: Any, names: Mapping[Any, Any] = types.MappingProxyType({})) -> Hinted:
        """What the hint says; `names` are the type variables that are known. Raises Inexpressible."""
        known = self._read.get(id(hint)) if not names else None
        if known is None:
            known = hint, self._read_anew(hint, names)
            if not names:
                self._read[id(hint)] = known
        return known[1]

    def _read_anew(self, hint: Any, names: Mapping[Any, Any]) -> Hinted:
        hint = bare(hint, names)
        if hint is typing.Self:
            hint = self._cls
        if any(hint is anything for anything in _ANYTHING) or isinstance(hint, typing.TypeVar):
            return Hinted(JSON_VALUE)
        if any(hint is nothing for nothing in _NOTHING):
            return Hinted(kinds.Null)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            return self._union(arguments, names)
        if origin is typing.Literal:
            return self._literal(arguments)
        if origin in _AWAITABLES:
            return self.read(arguments[-1], names)
        if isinstance(hint, (str, typing.ForwardRef)):
            raise Inexpressible(f"the hint {safe_repr(hint)} cannot be resolved")
        return Hinted(self._container(hint, origin or hint, arguments, names))

    def single(self, kind: Kind | Plural) -> Kind:
        """The kind, in a message of its own if it is a list or a dict."""
        if not isinstance(kind, Plural):
            return kind
        plural = kind
        key = ("wrapped", plural.cls, *(id(part) for part in parts_of(plural)))

        def make() -> Kind:
            message = self.message(_camel(plural.word))
            wrapped = WrappedKind(message.name, plural.word, plural.cls)
            wrapped.field = part_of(message, "items", plural)
            return wrapped

        return self._once(key, make)

    def rest(self, hint: Any) -> Kind | Plural:
        """What `*args` with this hint holds."""
        item = self._single(hint, {})
        return JSON_LIST if item is JSON_VALUE else Repeated(item, list, list)

    def others(self, hint: Any) -> Kind | Plural:
        """What `**kwargs` with this hint holds."""
        value = self._single(hint, {})
        return JSON_OBJECT if value is JSON_VALUE else MapOf(kinds.TEXT, value)

    def _single(self, hint: Any, names: Mapping[Any, Any]) -> Kind:
        return self._single_of(self.read(hint, names))

    def _single_of(self, hinted: Hinted) -> Kind:
        kind = self.single(hinted.kind)
        return self._optional(kind) if hinted.nullable else kind

    def _optional(self, kind: Kind) -> Kind:
        def make() -> Kind:
            message = self.message(_camel(f"optional_{kind.word}"))
            optional = OptionalKind(message.name, f"optional_{kind.word}", kind)
            optional.field = part_of(message, "value", kind, ABSENT_FOR_NONE)
            optional.field.none_is_absent = True
            optional.field.absent = lambda: None
            return optional

        return self._once(("optional", id(kind)), make)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        found: T | None = self._kinds.get(key)
        if found is None:
            found = self._kinds[key] = make()
        return found

    # ---- unions and literals

    def _union(self, hints: Sequence[Any], names: Mapping[Any, Any]) -> Hinted:
        read = [self.read(hint, names) for hint in hints]
        nullable = any(hinted.nullable or hinted.kind is kinds.Null for hinted in read)
        kinds_of_arms = {id(hinted.kind): hinted.kind for hinted in read if hinted.kind is not kinds.Null}
        rest = list(kinds_of_arms.values())  # a NewType is what it is of, and may stand beside it
        if JSON_VALUE in rest:
            return Hinted(JSON_VALUE)
        if len(rest) == 1:
            return Hinted(rest[0], nullable)
        return Hinted(self._one_of([self.single(kind) for kind in rest]), nullable)

    def _one_of(self, arms: Sequence[Kind]) -> Kind:
        def make() -> Kind:
            word = "_or_".join(arm.word for arm in arms)
            message = self.message(_camel(word))
            union = UnionKind(message.name, word)
            message.proto.oneof_decl.add(name="value")
            named: dict[str, tuple[str, Kind]] = {}
            for arm in arms:
                name = unique(arm.word, named)
                legal = message.choose(name)
                message.add(name, legal, arm, None, "\n".join(notes_of(arm))).oneof_index = 0
                named[name] = legal, arm
            union.arms = list(named.values())
            return union

        return self._once(("union", *map(id, arms)), make)

    def _literal(self, values: Sequence[Any]) -> Hinted:
        of_type: dict[type, list[Any]] = {}
        for value in values:
            of_type.setdefault(type(value), []).append(value)
        nullable = of_type.pop(type(None), None) is not None
        arms = [self._literals(cls, tuple(same)) for cls, same in of_type.items()]
        if not arms:
            return Hinted(kinds.Null)
        return Hinted(arms[0] if len(arms) == 1 else self._one_of(arms), nullable)

    def _literals(self, cls: type, values: tuple[Any, ...]) -> Kind:
        kind = self._class(cls, {})
        assert isinstance(kind, Scalar)
        return self._once(("literal", id(kind), values), lambda: LiteralKind(kind, values))

    # ---- containers

    def _container(self, hint: Any, origin: Any, arguments: Sequence[Any], names: Mapping[Any, Any]) -> Kind | Plural:
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            return self._tuple(hint, arguments, names)
        if origin is tuple and hint is not tuple and not arguments:  # tuple[()]
            return self._tuple(hint, (), names)
        if origin in _SEQUENCES:
            cls, build = _SEQUENCES[origin]
            return Repeated(self._single(arguments[0] if arguments else Any, names), cls, build)
        if origin in _DICTS:
            return self._dict(arguments, names)
        if origin in ITERATORS:
            raise Inexpressible(f"{shown(hint)} streams only as a whole parameter or as a whole result")
        if origin is abc.Callable:
            raise Inexpressible(f"{shown(hint)} is called back over the connection of a Python client")
        if isinstance(origin, type) and origin is not type:
            parameters = getattr(origin, "__parameters__", ())
            known = dict(zip(parameters, (bare(part, names) for part in arguments), strict=False))
            return self._class(origin, known)
        raise Inexpressible(f"{shown(hint)} has no form in protobuf")

    def _tuple(self, hint: Any, hints: Sequence[Any], names: Mapping[Any, Any]) -> Kind:
        read = [self._item(hint, part, names) for part in hints]
        words = "_".join(kind.word for kind in read)

        def make() -> Kind:
            message = self.message(_camel(f"tuple_of_{words or 'nothing'}"))
            kind = TupleKind(message.name, f"tuple_of_{words or 'nothing'}")
            kind.fields = [part_of(message, f"item_{n}", part) for n, part in enumerate(read, start=1)]
            return kind

        return self._once(("tuple", *map(id, read)), make)

    def _item(self, hint: Any, part: Any, names: Mapping[Any, Any]) -> Kind:
        if typing.get_origin(part) is typing.Unpack or getattr(part, "__unpacked__", False):
            raise Inexpressible(f"{shown(hint)} has no form in protobuf: its length is not known")
        return self._single(part, names)

    def _dict(self, arguments: Sequence[Any], names: Mapping[Any, Any]) -> Kind | Plural:
        if not arguments or (arguments[0] is Any and arguments[1] is Any):
            return JSON_OBJECT
        key, value = self._single(arguments[0], names), self._single(arguments[1], names)
        if isinstance(key, EnumKind):
            key = self._names_of(key.cls)
        if isinstance(key, Scalar) and key.proto_type in _KEYS:
            return MapOf(key, value)

        def make() -> Repeated:
            word = f"entry_of_{key.word}_to_{value.word}"
            message = self.message(_camel(word))
            entry = EntriesKind(message.name, word)
            entry.key, entry.value = part_of(message, "key", key), part_of(message, "value", value)
            return Repeated(entry, dict, dict, entries_of)

        return self._once(("entries", id(key), id(value)), make)

    # ---- classes

    def _class(self, cls: type, names: Mapping[Any, Any]) -> Kind:
        if cls in kinds.SCALARS:
            return kinds.SCALARS[cls]
        if issubclass(cls, enum.Enum):
            return self._enum(cls)
        if is_record(cls):
            return self._record(cls, names)
        entry = GLOBAL_TYPES.by_class(cls)
        if issubclass(cls, BaseException) or (entry is not None and entry.to_dict is not None):
            return JSON_VALUE
        module = cls.__module__.partition(".")[0]
        if module in sys.stdlib_module_names or module == "numpy" or issubclass(cls, tuple(kinds.SCALARS) + EMPTY):
            raise Inexpressible(f"{shown(cls)} has no form in protobuf")
        return self._reference(cls)

    def _enum(self, cls: type[enum.Enum]) -> Kind:
        if issubclass(cls, enum.Flag):
            return self._once(cls, lambda: FlagKind(cls))
        if not cls.__members__:
            raise Inexpressible(f"{shown(cls)} has no members")

        def make() -> Kind:
            found = enum_type(cls)
            if found is None:
                return self._names_of(cls)
            message = self.message(cls.__name__)
            message.proto.enum_type.append(found)
            message.enum_comment = own_doc(cls)
            return EnumKind(cls, f"{message.name}.{found.name}")

        return self._once(cls, make)

    def _names_of(self, cls: type[enum.Enum]) -> Kind:
        return self._once(("names", cls), lambda: NamesKind(cls))

    def _record(self, cls: type, names: Mapping[Any, Any]) -> Kind:
        arguments = tuple(names.values())
        key = (cls, *map(hashable, arguments))
        found = self._kinds.get(key)
        if found is not None:
            return found  # type: ignore[no-any-return]
        try:
            fields, take_apart, build = fields_of_record(cls)
        except ValueError as error:
            raise Inexpressible(f"{shown(cls)}: {error}") from None
        words = "_and_".join(getattr(part, "__name__", "any") for part in arguments)
        word = f"{cls.__name__}_of_{words}" if arguments else cls.__name__
        comment = "\n\n".join(filter(None, [own_doc(cls), form_of(cls)]))
        message = self.message(_camel(word) if arguments else word, comment)
        kind = self._kinds[key] = RecordKind(cls, message.name, word, take_apart, build)
        message.keep(pinned(field.hint) for field in fields)
        kind.fields = [self._record_field(cls, message, field, names) for field in fields]
        return kind

    def _record_field(self, cls: type, message: MessageType, field: RecordField, names: Mapping[Any, Any]) -> Field:
        hint = replaced(field.hint, names)
        try:
            return self.place(message, field.name, self.read(hint), pinned(hint), field.default)
        except Inexpressible as error:
            raise Inexpressible(f"{cls.__name__}.{field.name}: {error}") from None

    def _reference(self, cls: type) -> Kind:
        def make() -> str:
            message = self.message("Reference", "An object that is called where it lives.")
            uri = "Like BROKER:example.warehouse@localhost:7766"
            message.add("uri", message.choose("uri"), kinds.TEXT, None, uri)
            message.add("type", message.choose("type"), kinds.TEXT, None, "Its class, for people.")
            return message.name

        name = self._once("Reference", make)
        return self._once(("reference", cls), lambda: ReferenceKind(name, cls))


def _camel(word: str) -> str:
    return json_name(f"_{word}")
