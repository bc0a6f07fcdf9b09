"""Stubs: an object, and the types of its values, as a `.pyi` for type checkers that do not have its classes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from inspect import Parameter, Signature
from typing import NamedTuple

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

from broker.schema.absence import ABSENT_FOR_NONE, DEFAULT, KEYS, REQUIRED, STREAMED
from broker.schema.described import DescribedService
from broker.schema.names import RpcNames
from broker.schema.records import DATACLASS, NAMED_TUPLE, TYPED_DICT
from broker.schema.text import SCALAR_NAMES

__all__ = ["StubMember", "stub_text"]

_Proto = FieldDescriptorProto


class StubMember(NamedTuple):
    """A member of the object, as its daemon describes it to Python."""

    name: str
    is_method: bool = True
    writable: bool = False
    doc: str = ""
    signature: Signature | None = None


def stub_text(file: FileDescriptorProto, class_name: str, members: Sequence[StubMember]) -> str:
    """The stub of an object of a class of that name. Types are those that values arrive with.

    Raises ValueError where the file has no service.
    """
    return "\n".join(_Stub(DescribedService(file)).lines(class_name, members)) + "\n"


_TEXTS = {
    "date": "datetime.date",
    "time": "datetime.time",
    "Decimal": "decimal.Decimal",
    "Fraction": "fractions.Fraction",
    "UUID": "uuid.UUID",
    "Path": "pathlib.Path",
    "PurePath": "pathlib.PurePath",
}
_SCALARS = {"bool": "bool", "bytes": "bytes", "double": "float", "float": "float", "string": "str"}
_GOOGLES = {
    ".google.protobuf.Duration": "datetime.timedelta",
    ".google.protobuf.ListValue": "list[typing.Any]",
    ".google.protobuf.NullValue": "None",
    ".google.protobuf.Struct": "dict[str, typing.Any]",
    ".google.protobuf.Timestamp": "datetime.datetime",
    ".google.protobuf.Value": "typing.Any",
}
_OF_TEXT = re.compile(r"A (\w+), like ")
_NAMES = re.compile(r"A (\w+): one of (.+)")
_CONTAINER = re.compile(r"A (set|frozenset|tuple|deque)")
_MODULE = re.compile(r"\b(broker|collections(?:\.abc)?|datetime|decimal|enum|fractions|pathlib|typing|uuid)\.(?=\w)")


class _Stub:
    def __init__(self, service: DescribedService) -> None:
        self._service = service
        self._prefix = f".{service.name}_types."
        self._names = RpcNames(())
        self._classes: dict[str, list[str]] = {}
        """The records and enums that are needed."""

    def lines(self, class_name: str, members: Sequence[StubMember]) -> Iterator[str]:
        body: list[str] = []
        self._names = RpcNames(member.name for member in members if member.is_method)
        for member in members:
            body += ["", *(self._method(member) if member.is_method else self._property(member))]
        served = _class(f"class {class_name}:", self._service.doc, body)
        classes = [line for lines in self._classes.values() for line in ("", "", *lines)]
        modules = set(_MODULE.findall("\n".join([*classes, *served])))
        if any(line.startswith("@dataclasses") for line in classes):
            modules.add("dataclasses")
        yield "# Made by `python -m broker.schema --pyi`."
        yield ""
        yield from (f"import {module}" for module in sorted(modules))
        yield from classes
        yield from ("", "", *served)

    # ---- members

    def _method(self, member: StubMember) -> Iterator[str]:
        rpc = self._service.methods.get(self._names.method(member.name))
        signature = member.signature or Signature()
        if rpc is None or member.signature is None:
            shown = "self, *args: typing.Any, **kwargs: typing.Any"
            yield from _block(f"def {member.name}({shown}) -> typing.Any:", member.doc)
            return
        request = self._service.messages[rpc.input_type]
        fields = {field.json_name: field for field in request.field}
        parts = ["self"]
        kinds = [parameter.kind for parameter in signature.parameters.values()]
        for place, parameter in enumerate(signature.parameters.values()):
            if parameter.kind is Parameter.KEYWORD_ONLY and not {
                Parameter.VAR_POSITIONAL,
                Parameter.KEYWORD_ONLY,
            } & set(kinds[:place]):
                parts.append("*")
            parts.append(self._parameter(rpc, parameter, fields.get(parameter.name)))
            if parameter.kind is Parameter.POSITIONAL_ONLY and kinds[place + 1 : place + 2] != [parameter.kind]:
                parts.append("/")
        yield from _block(f"def {member.name}({', '.join(parts)}) -> {self._result(rpc)}:", member.doc)

    def _parameter(self, rpc: MethodDescriptorProto, parameter: Parameter, field: _Proto | None) -> str:
        hint = self._field(rpc.input_type, field) if field is not None else "typing.Any"
        if parameter.kind is Parameter.VAR_POSITIONAL:
            return f"*{parameter.name}: {_inner(hint, 'list[')}"
        if parameter.kind is Parameter.VAR_KEYWORD:
            return f"**{parameter.name}: {_inner(hint, 'dict[str, ')}"
        default = "" if parameter.default is Parameter.empty else " = ..."
        return f"{parameter.name}: {hint}{default}"

    def _property(self, member: StubMember) -> Iterator[str]:
        getter = self._rpc_of_property(member, "get")
        yield "@property"
        yield from _block(f"def {member.name}(self) -> {self._result(getter) if getter else 'typing.Any'}:", member.doc)
        if member.writable:
            setter = self._rpc_of_property(member, "set")
            hint = "typing.Any"
            if setter is not None:
                hint = self._field(setter.input_type, self._service.messages[setter.input_type].field[0])
            yield f"@{member.name}.setter"
            yield f"def {member.name}(self, value: {hint}) -> None: ..."

    def _rpc_of_property(self, member: StubMember, access: str) -> MethodDescriptorProto | None:
        return self._service.methods.get(self._names.property(member.name, access))

    def _result(self, rpc: MethodDescriptorProto) -> str:
        hint = self._field(rpc.output_type, self._service.messages[rpc.output_type].field[0])
        return f"collections.abc.Iterator[{hint}]" if rpc.server_streaming else hint

    # ---- types

    def _field(self, message: str, field: _Proto) -> str:
        """The hint of a field."""
        notes = self._service.notes(message, field)
        entry = self._service.entry(field)
        if entry is not None:
            of_keys = [note.removeprefix(KEYS) for note in notes if note.startswith(KEYS)]
            return f"dict[{self._type(entry.field[0], of_keys)}, {self._type(entry.field[1], notes)}]"
        hint = self._type(field, notes)
        if field.label == _Proto.LABEL_REPEATED:
            hint = self._repeated(field, hint, notes)
        if STREAMED in notes:
            hint = f"collections.abc.Iterator[{hint}]"
        return f"{hint} | None" if ABSENT_FOR_NONE in notes else hint

    def _repeated(self, field: _Proto, hint: str, notes: Sequence[str]) -> str:
        message = self._service.messages.get(field.type_name)
        if message is not None and message.name.startswith("EntryOf"):
            parts = [self._field(field.type_name, part) for part in message.field]
            return f"dict[{', '.join(parts)}]"
        found = next((match[1] for note in notes if (match := _CONTAINER.fullmatch(note))), "list")
        container = "collections.deque" if found == "deque" else found
        return f"{container}[{hint}, ...]" if found == "tuple" else f"{container}[{hint}]"

    def _type(self, field: _Proto, notes: Sequence[str]) -> str:
        literal = next((_literal(note) for note in notes if note.startswith("One of ")), None)
        if literal is not None and field.type != _Proto.TYPE_ENUM:
            return literal
        if field.type_name:
            return _GOOGLES.get(field.type_name) or self._own(field.type_name)
        names = next((match for note in notes if (match := _NAMES.fullmatch(note))), None)
        if names is not None:
            members = [f"{name} = ..." for name in names[2].split(", ")]
            self._classes.setdefault(names[1], _class(f"class {names[1]}(enum.Enum):", "", members))
            return names[1]
        of_text = next((_TEXTS.get(match[1]) for note in notes if (match := _OF_TEXT.match(note))), None)
        return of_text or _SCALARS.get(SCALAR_NAMES[field.type], "int")

    def _own(self, name: str) -> str:
        enum = self._service.enums.get(name)
        if enum is not None:
            holder = name.removeprefix(self._prefix).partition(".")[0]
            if holder not in self._classes:
                self._classes[holder] = _class(
                    f"class {holder}(enum.Enum):", self._service.doc_of_type(name), _members(enum)
                )
            return holder
        message = self._service.messages[name]
        names = [field.name for field in message.field]
        if message.name == "Reference" and names == ["uri", "type"]:
            return "broker.Proxy"
        if message.oneof_decl and not any(field.proto3_optional for field in message.field):
            return " | ".join(dict.fromkeys(self._field(name, field) for field in message.field))
        if names in (["items"], ["value"]) and message.name.startswith(("Optional", "DictOf", *_WRAPPERS)):
            return self._field(name, message.field[0])
        if message.name.startswith("TupleOf") and names == [f"item_{n}" for n in range(1, len(names) + 1)]:
            return f"tuple[{', '.join(self._field(name, field) for field in message.field) or '()'}]"
        return self._record(name, message)

    def _has_default(self, message: str, field: _Proto) -> bool:
        notes = self._service.notes(message, field)
        if field.label == _Proto.LABEL_REPEATED:
            return any(note.startswith(DEFAULT) for note in notes)
        return REQUIRED not in notes

    def _record(self, name: str, message: DescriptorProto) -> str:
        if message.name not in self._classes:
            lines = self._classes[message.name] = []  # it may hold itself
            doc, form = self._service.doc_of_type(name), DATACLASS
            for other in (TYPED_DICT, NAMED_TUPLE):
                if doc.endswith(other):
                    doc, form = doc.removesuffix(other).strip(), other
            fields = [self._record_field(name, field, form) for field in message.field]
            bases = {TYPED_DICT: "(typing.TypedDict)", NAMED_TUPLE: "(typing.NamedTuple)"}.get(form, "")
            lines += ["@dataclasses.dataclass(kw_only=True)"] if form == DATACLASS else []
            lines += _class(f"class {message.name}{bases}:", doc, fields)
        return message.name

    def _record_field(self, message: str, field: _Proto, form: str) -> str:
        hint = self._field(message, field)
        if not self._has_default(message, field):
            return f"{field.json_name}: {hint}"
        if form == TYPED_DICT:
            return f"{field.json_name}: typing.NotRequired[{hint}]"
        return f"{field.json_name}: {hint} = ..."


_WRAPPERS = ("ListOf", "SetOf", "FrozensetOf", "TupleOf", "DequeOf")


def _literal(note: str) -> str | None:
    text = note.removeprefix("One of ")
    try:
        ast.literal_eval(f"({text},)")
    except (SyntaxError, ValueError):  # names of members
        return None
    return f"typing.Literal[{text}]"


def _members(enum: EnumDescriptorProto) -> list[str]:
    ours = [value for value in enum.value if not (value.number == 0 and value.name.startswith("UNSPECIFIED"))]
    return [f"{value.name} = ..." for value in ours]


def _inner(hint: str, head: str) -> str:
    return hint.removeprefix(head).removesuffix("]") if hint.startswith(head) else "typing.Any"


def _class(head: str, doc: str, body: Sequence[str]) -> list[str]:
    body = body[1:] if body and not body[0] else body
    lines = [*_doc(doc), *([""] if doc and body else ()), *body] or ["..."]
    return [head, *(f"    {line}" if line else "" for line in lines)]


def _block(head: str, doc: str) -> Iterator[str]:
    if not doc:
        yield f"{head} ..."
        return
    yield head
    yield from (f"    {line}" if line else "" for line in _doc(doc))


def _doc(doc: str) -> list[str]:
    if not doc:
        return []
    lines = doc.replace("\\", "\\\\").replace('"""', '\\"""').splitlines()
    if len(lines) == 1 and not lines[0].endswith('"'):
        return [f'"""{lines[0]}"""']
    return [f'"""{lines[0]}', *lines[1:], '"""']
