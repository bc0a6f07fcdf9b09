"""What of an object is remote: the decorators, and the table of a class's remote members. The trust boundary.

Everything here looks at classes, never at instances, and runs no user code but what it takes to read a class.

Which members are remote:

- methods and properties whose names are public: no leading underscore, or one of `SPECIAL`;
- if any member of the class or of its bases is marked `@expose`, or marks are required, only the marked ones;
- where who registers an object names its members, these and no others, whatever the marks say.

A mark belongs to a name: it is inherited, and an override of a marked member stays marked. `@expose` on a class marks
the members that this class itself defines. `@oneway` follows the same rules.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
import hashlib
import inspect
import json
import operator
import re
import sys
import types
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any, Literal

from broker.decorators import (
    EXPOSED,
    ONEWAY,
    SPECIAL,
    Behavior,
    behavior,
    behavior_of,
    class_attributes,
    expose,
    function_of,
    is_method,
    is_property,
    is_public,
    marked_names,
    oneway,
)
from broker.errors import DaemonError
from broker.hints import classes_in, safe_repr
from broker.signatures import Arity, describe_signature, mismatch, signature_text

__all__ = [
    "SPECIAL",
    "Behavior",
    "Member",
    "MemberTable",
    "behavior",
    "behavior_of",
    "bind_arguments",
    "chosen_members",
    "expose",
    "members_of",
    "members_of_function",
    "missing_member",
    "oneway",
    "types_in_hints",
]

# ---- members


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One remote member of a class.

    `target` is the object in the class body: a function, a staticmethod, a property. `signature` is without `self`,
    that of a property the one of its getter, and None where Python knows none. `stream` says that it is a generator
    or that its hint promises an iterator, `is_async` that it is an `async def` (or an async generator): a decorated
    function may return an iterator or an awaitable without either being known beforehand.
    """

    name: str
    kind: Literal["method", "property"]
    target: Any
    signature: Signature | None = None
    doc: str | None = None
    oneway: bool = False
    readable: bool = True
    writable: bool = False
    stream: bool = False
    is_async: bool = False
    # What the outermost function accepts: a decorator that supplies an argument shows the signature that it wraps.
    accepts: Signature | None = None
    arity: Arity | None = None

    def bind(self, instance: object) -> Callable[..., Any]:
        """The method of that instance, also for static and class methods; nothing of the instance is looked up."""
        method: Callable[..., Any] = self.target.__get__(instance, type(instance))
        return method

    def get(self, instance: object) -> Any:
        """Reads the property of that instance."""
        return self.target.__get__(instance, type(instance))

    def set(self, instance: object, value: object) -> None:
        """Sets the property of that instance."""
        self.target.__set__(instance, value)

    def __str__(self) -> str:
        return self.name if self.kind == "property" else f"{self.name}{signature_text(self.signature)}"


class MemberTable:
    """The remote members of a class, sorted by name. Immutable, shared by all threads.

    `hidden` names the public members that are not remote because of a mark, or because marks are required.
    `fingerprint` is equal in all processes for equal members. `doc` is the docstring of the whole.
    """

    __slots__ = ("__weakref__", "cls", "doc", "fingerprint", "hidden", "members")

    cls: type
    doc: str | None
    members: Mapping[str, Member]
    hidden: tuple[str, ...]
    fingerprint: str

    def __init__(self, cls: type, members: Iterable[Member], hidden: Iterable[str], doc: str | None) -> None:
        self.cls = cls
        self.doc = doc
        self.members = types.MappingProxyType({member.name: member for member in members})
        self.hidden = tuple(hidden)
        self.fingerprint = _fingerprint(self.members.values())

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members.values())

    def __contains__(self, name: object) -> bool:
        return name in self.members

    def __repr__(self) -> str:
        return f"<MemberTable of {self.cls.__qualname__}: {', '.join(self.members) or 'nothing'}>"

    def of(self, function: Callable[..., Any]) -> MemberTable:
        """The same table, of a function, for another one that is like it in all that the table says."""
        (member,) = self.members.values()
        table = MemberTable.__new__(MemberTable)
        table.cls, table.hidden, table.fingerprint, table.doc = self.cls, self.hidden, self.fingerprint, self.doc
        target = dataclasses.replace(member, target=staticmethod(function))
        table.members = types.MappingProxyType({member.name: target})
        return table

    def method(self, name: str, where: str) -> Member:
        """The method of that name. `where` is the object as messages name it: `'example.warehouse' at localhost:9`.

        Raises what `missing_member` makes, and TypeError for a property.
        """
        member = self._member(name, where)
        if member.kind != "method":
            raise TypeError(f"{where}: {name!r} is a property and cannot be called: read it, without parentheses")
        return member

    def readable(self, name: str, where: str) -> Member:
        """The property of that name, for reading. Raises AttributeError, as `missing_member` does."""
        member = self._member(name, where)
        if member.kind != "property":
            raise AttributeError(f"{where}: {name!r} is a method and has no value: call it, as {member}")
        if not member.readable:
            raise AttributeError(f"{where}: the property {name!r} can only be set: it has no getter")
        return member

    def writable(self, name: str, where: str) -> Member:
        """The property of that name, for setting. Raises AttributeError, as `missing_member` does."""
        member = self._member(name, where)
        if member.kind != "property":
            raise AttributeError(f"{where}: {name!r} is a method and cannot be set")
        if not member.writable:
            raise AttributeError(f"{where}: the property {name!r} cannot be set: it has no setter")
        return member

    def _member(self, name: str, where: str) -> Member:
        member = self.members.get(name)
        if member is None:
            raise missing_member(name, where, self.members)
        return member


# A table keeps its class alive, so that an id in here is that of one class as long as the entry is there.
_TABLES: weakref.WeakValueDictionary[tuple[int, bool], MemberTable] = weakref.WeakValueDictionary()


def members_of(cls: type, *, require_expose: bool = False) -> MemberTable:
    """The table of the class; the same one as long as anybody holds it. Raises TypeError for what is no class.

    What changes in the class while its table is held is not seen.
    """
    table = _TABLES.get((id(cls), require_expose))
    if table is None:
        if not isinstance(cls, type):
            raise TypeError(f"members are looked up on a class, and {safe_repr(cls)} is none")
        table = _TABLES[id(cls), require_expose] = _read_class(cls, require_expose)
    return table


def chosen_members(cls: type, chosen: Iterable[str] | Mapping[str, str]) -> MemberTable:
    """The table of the members that are named, whatever their marks: a new one each time, of the class as it is now.

    Of {remote name: name in the class} only the first has to be public. Raises TypeError for what is no collection of
    names, and DaemonError for a remote name that is not public and for what is neither a method nor a property.
    """
    if isinstance(chosen, str) or not isinstance(chosen, Iterable):
        raise TypeError(f"members is a collection of names, or {{remote name: name in the class}}, not {chosen!r}")
    names = dict(chosen) if isinstance(chosen, Mapping) else {name: name for name in chosen}
    there = {name: value for _, name, value in class_attributes(cls) if is_property(value) or is_method(value)}
    public = sorted(filter(is_public, there))
    without_waiting, _ = marked_names(cls, ONEWAY)
    members = []
    for remote, own in sorted(names.items()):
        if not is_public(remote):
            raise DaemonError(f"{remote!r} is private and never remote: say {{'a_public_name': {own!r}}} in members")
        if own not in there:
            has = ", ".join(public) or "nothing"
            raise DaemonError(f"{cls.__name__} has no method or property {own!r} that could be remote (it has: {has})")
        member = _make_member(cls, own, there[own], own in without_waiting)
        members.append(member if own == remote else dataclasses.replace(member, name=remote))
    return MemberTable(cls, members, [name for name in public if name not in names.values()], cls.__doc__)


def members_of_function(function: Callable[..., Any]) -> MemberTable:
    """The table of a function, or a bound method: it can be called, and nothing else of it is remote."""
    cls, doc, oneway = type(function), getattr(function, "__doc__", None), getattr(function, ONEWAY, False)
    return MemberTable(cls, [_make_method(cls, "__call__", staticmethod(function), doc, oneway)], (), doc)


# ---- reading a class


def _read_class(cls: type, require_expose: bool) -> MemberTable:
    found = _public_members(cls)
    marked, any_mark = marked_names(cls, EXPOSED)
    remote = sorted(found.keys() & marked if any_mark or require_expose else found)
    without_waiting, _ = marked_names(cls, ONEWAY)
    members = (_make_member(cls, name, found[name], name in without_waiting) for name in remote)
    return MemberTable(cls, members, sorted(found.keys() - remote), cls.__doc__)


def _public_members(cls: type) -> dict[str, Any]:
    resolved = {name: value for _, name, value in class_attributes(cls) if is_public(name)}
    return {name: value for name, value in resolved.items() if is_property(value) or is_method(value)}


def _make_member(cls: type, name: str, target: Any, without_waiting: bool) -> Member:
    doc = _doc_of(cls, name)
    if is_property(target):
        setter = isinstance(target, property) and target.fset is not None
        getter = not isinstance(target, property) or target.fget is not None
        shown = _signature(function_of(target), has_self=True) if getter else None
        stream = getter and (_is_generator(function_of(target)) or _promises_iterator(shown))
        return Member(name, "property", target, shown, doc, readable=getter, writable=setter, stream=stream)
    return _make_method(cls, name, target, doc, without_waiting)


def _make_method(cls: type, name: str, target: Any, doc: str | None, without_waiting: bool) -> Member:
    function = function_of(target)
    shown = _method_signature(cls, target, follow_wrapped=True)
    accepts = shown if not hasattr(function, "__wrapped__") else _method_signature(cls, target, follow_wrapped=False)
    return Member(
        name,
        "method",
        target,
        shown,
        doc,
        oneway=without_waiting,
        stream=_is_generator(function) or _promises_iterator(shown),
        is_async=inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
        accepts=accepts,
        arity=Arity.of(accepts) if accepts is not None else None,
    )


def _doc_of(cls: type, name: str) -> str | None:
    """The docstring; an override without one has that of what it overrides, as in `help()`."""
    for base in cls.__mro__:
        if name in vars(base):
            doc = getattr(function_of(vars(base)[name]), "__doc__", None)
            if isinstance(doc, str):
                return doc
    return None


def _method_signature(cls: type, target: Any, *, follow_wrapped: bool) -> Signature | None:
    has_self = False
    if isinstance(target, staticmethod):
        target = target.__func__
    elif isinstance(target, (classmethod, types.ClassMethodDescriptorType)):
        target = target.__get__(None, cls)
    elif isinstance(target, functools.partialmethod):
        target = target.__get__(None, cls)
        has_self = not isinstance(target, functools.partial)  # of a static or a class method
    else:
        target = target.func if isinstance(target, functools.singledispatchmethod) else target
        has_self = True
    return _signature(target, has_self=has_self, follow_wrapped=follow_wrapped)


def _signature(function: Any, *, has_self: bool, follow_wrapped: bool = True) -> Signature | None:
    """The signature without `self`; None if Python knows none, or if there is no parameter for `self`."""
    try:
        signature = _plain_signature(function, follow_wrapped)
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())
    if not has_self or (parameters and parameters[0].kind is Parameter.VAR_POSITIONAL):
        return signature
    if not parameters or parameters[0].kind > Parameter.POSITIONAL_OR_KEYWORD:
        return None
    return signature.replace(parameters=parameters[1:])


def _plain_signature(function: Any, follow_wrapped: bool) -> Signature:
    if sys.version_info >= (3, 14):  # where annotations are evaluated only now, and may fail
        import annotationlib

        form = annotationlib.Format.FORWARDREF
        return inspect.signature(function, follow_wrapped=follow_wrapped, annotation_format=form)
    return inspect.signature(function, follow_wrapped=follow_wrapped)


_ITERATOR_TEXT = re.compile(r"(?:\w+\.)*(?:Async)?(?:Iterator|Generator)(?:\[.*)?", re.DOTALL)
_ITERATORS = frozenset({"Iterator", "Generator", "AsyncIterator", "AsyncGenerator"})


def _is_generator(function: Any) -> bool:
    unwrapped = inspect.unwrap(function)
    return inspect.isgeneratorfunction(unwrapped) or inspect.isasyncgenfunction(unwrapped)


def _promises_iterator(signature: Signature | None) -> bool:
    hint: Any = signature.return_annotation if signature else None
    if isinstance(hint, str):
        return _ITERATOR_TEXT.fullmatch(hint.strip()) is not None
    origin: Any = typing.get_origin(hint) or hint
    return getattr(origin, "__module__", None) == "collections.abc" and origin.__name__ in _ITERATORS


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def _fingerprint(members: Iterable[Member]) -> str:
    described = [
        (m.name, m.kind, _stable(m.signature), m.doc, m.oneway, m.readable, m.writable, m.stream) for m in members
    ]
    text = _ADDRESS.sub("", json.dumps(described))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _stable(signature: Signature | None) -> list[Any] | None:
    """The described signature, its defaults as text that is the same in every process but for addresses."""
    if signature is None:
        return None
    parameters, returns, defaults, _ = describe_signature(signature)
    return [parameters, returns, {name: _stable_repr(value) for name, value in defaults.items()}]


def _stable_repr(value: object) -> str:
    if isinstance(value, (set, frozenset)):  # whose order changes with the process
        return f"{type(value).__name__} {sorted(map(safe_repr, value))}"
    return safe_repr(value)


# ---- refusals

_PYTHONS_REFUSALS: Mapping[str, Callable[[Any], object]] = {
    "__len__": len,
    "__getitem__": lambda bare: operator.getitem(bare, 0),
    "__setitem__": lambda bare: operator.setitem(bare, 0, None),
    "__delitem__": lambda bare: operator.delitem(bare, 0),
    "__contains__": lambda bare: operator.contains(bare, 0),
    "__iter__": iter,
    "__call__": lambda bare: bare(),
}
_MOST_NAMES = 40


def missing_member(name: str, where: str, available: Iterable[str], *, type_name: str = "Proxy") -> Exception:
    """The error for a member that is missing or hidden, which is the same.

    It is an AttributeError; for one of `SPECIAL` a TypeError in the words that this Python has for it, of an object
    whose type is called `type_name`.
    """
    names = sorted(available)
    has = ", ".join(names[:_MOST_NAMES]) or "nothing"
    if len(names) > _MOST_NAMES:
        has += f", … {len(names)} in all"
    text = f"{where} has no remote member {name!r} (it has: {has})."
    if name in SPECIAL:
        return TypeError(f"{_pythons_words(name, type_name)}: {text}")
    return AttributeError(f"{text} Attributes of an instance are never remote: make it a property.")


@functools.lru_cache
def _pythons_words(name: str, type_name: str) -> str:
    bare = type(type_name, (), {})()
    try:
        _PYTHONS_REFUSALS[name](bare)
    except TypeError as error:
        return str(error)
    raise AssertionError(f"Python has {name} for an object that defines nothing")


def bind_arguments(member: Member, args: Sequence[object], kwargs: Mapping[str, object], where: str) -> None:
    """Checks the arguments of a call before any user code runs.

    Raises TypeError as Python would (without counting `self`), with what the method takes.
    """
    arity, signature = member.arity, member.accepts
    if arity is None or signature is None or arity.surely_accepts(args, kwargs):
        return
    problem = mismatch(member.name, signature, args, kwargs)
    if problem is not None:
        raise TypeError(f"{problem} ({where}: {member})")


# ---- the classes in the hints


def types_in_hints(table: MemberTable) -> set[type]:
    """Every class that the hints of the remote members name, and those in the fields of these where they are records.

    Records are dataclasses, named tuples and typed dicts. Hints that are strings are resolved in the module of their
    function; one that cannot be is passed over.
    """
    found: set[type] = set()
    waiting = [hint for member in table for hint in _hints_of_member(table.cls, member)]
    while waiting:
        for cls in classes_in(waiting.pop()):
            if cls not in found:
                found.add(cls)
                waiting.extend(_hints_of_fields(cls))
    return found


def _hints_of_member(cls: type, member: Member) -> Iterator[Any]:
    target = member.target
    functions = [target.fget, target.fset] if isinstance(target, property) else [function_of(target)]
    for function in functions:
        yield from _resolved_annotations(inspect.unwrap(function), cls) if function is not None else ()


def _hints_of_fields(cls: type) -> Iterator[Any]:
    is_record = dataclasses.is_dataclass(cls) or typing.is_typeddict(cls)
    if is_record or (issubclass(cls, tuple) and hasattr(cls, "_fields")):
        for base in cls.__mro__:
            yield from _resolved_annotations(base, base)


def _resolved_annotations(annotated: Any, cls: type) -> Iterator[Any]:
    """The annotations of a function or class as objects, one by one: one that cannot be resolved loses no other."""
    names = getattr(annotated, "__globals__", None) or vars(sys.modules.get(cls.__module__, builtins))
    for hint in _annotations(annotated).values():
        yield from _resolved(hint, names, {cls.__name__: cls})


def _resolved(hint: Any, names: dict[str, Any], local_names: dict[str, Any]) -> Iterable[Any]:
    annotated = types.SimpleNamespace(__annotations__={"hint": hint})
    try:
        return typing.get_type_hints(annotated, names, local_names, include_extras=True).values()
    except Exception:  # a name that is there for type checkers only, or in the body of a function
        return ()


def _annotations(annotated: Any) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(annotated, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(annotated)
