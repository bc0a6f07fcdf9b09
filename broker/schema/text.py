"""Files of protobuf as text, in the form that protoc reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

from broker.schema.names import json_name

__all__ = ["SCALAR_NAMES", "proto_text"]

_Proto = FieldDescriptorProto
SCALAR_NAMES = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in _Proto.Type.items()
    if name not in ("TYPE_GROUP", "TYPE_MESSAGE", "TYPE_ENUM")
}
_MESSAGE, _SERVICE, _NESTED, _FIELD, _ENUM_IN_MESSAGE, _VALUE, _METHOD, _ENUM = 4, 6, 3, 2, 4, 2, 2, 5

_WORDS = frozenset(SCALAR_NAMES.values()).union(
    ("enum", "extend", "extensions", "group", "map", "message", "oneof", "option", "optional"),
    ("repeated", "required", "reserved", "returns", "rpc", "stream"),
)
"""What cannot stand at the beginning of the name of a type."""

Path = tuple[int, ...]


def proto_text(file: FileDescriptorProto) -> str:
    """The `.proto` of a file: proto3, with its comments. Options other than those that schemas have are left out."""
    return "\n".join(_Writer(file).lines()) + "\n"


class _Writer:
    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._package = f".{file.package}." if file.package else "."
        info = file.source_code_info
        self._comments = {tuple(location.path): location.leading_comments for location in info.location}

    def lines(self) -> Iterator[str]:
        file = self._file
        yield 'syntax = "proto3";'
        if file.package:
            yield from ("", f"package {file.package};")
        if file.dependency:
            yield ""
            yield from (f'import "{name}";' for name in file.dependency)
        for place, service in enumerate(file.service):
            yield ""
            yield from self._block((_SERVICE, place), f"service {service.name}", self._methods(place, service.method))
        for place, message in enumerate(file.message_type):
            yield ""
            yield from self._message((_MESSAGE, place), message)
        for place, enum in enumerate(file.enum_type):
            yield ""
            yield from self._block((_ENUM, place), f"enum {enum.name}", self._values((_ENUM, place), enum))

    def _comment(self, path: Path) -> Iterator[str]:
        for line in self._comments.get(path, "").splitlines():
            yield f"//{line}".rstrip()

    def _block(self, path: Path, head: str, body: Iterator[str]) -> Iterator[str]:
        yield from self._comment(path)
        lines = [f"  {line}" if line else "" for line in body]
        if not lines:
            yield f"{head} {{}}"
            return
        yield f"{head} {{"
        yield from lines
        yield "}"

    def _methods(self, service: int, methods: Sequence[MethodDescriptorProto]) -> Iterator[str]:
        names = {method.name for method in methods}
        for place, method in enumerate(methods):
            yield from self._comment((_SERVICE, service, _METHOD, place))
            taken = f"{'stream ' * method.client_streaming}{self._short(method.input_type, self._package, names)}"
            given = f"{'stream ' * method.server_streaming}{self._short(method.output_type, self._package, names)}"
            yield f"rpc {method.name}({taken}) returns ({given});"

    def _message(self, path: Path, message: DescriptorProto, scope: str | None = None) -> Iterator[str]:
        inner = self._package if scope is None else scope
        yield from self._block(path, f"message {message.name}", self._parts(path, message, inner))

    def _parts(self, path: Path, message: DescriptorProto, scope: str) -> Iterator[str]:
        entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
        for place, enum in enumerate(message.enum_type):
            inner = (*path, _ENUM_IN_MESSAGE, place)
            yield from self._block(inner, f"enum {enum.name}", self._values(inner, enum))
        for place, nested in enumerate(message.nested_type):
            if nested.name not in entries:
                yield from self._message((*path, _NESTED, place), nested, f"{scope}{message.name}.")
        names = self._names_in(message)
        written: set[int] = set()
        for place, field in enumerate(message.field):
            if field.HasField("oneof_index") and not field.proto3_optional:
                if field.oneof_index not in written:
                    written.add(field.oneof_index)
                    name = message.oneof_decl[field.oneof_index].name
                    yield from self._block((), f"oneof {name}", self._arms(path, message, field.oneof_index, scope))
            else:
                yield from self._field((*path, _FIELD, place), field, entries, scope, names)

    def _arms(self, path: Path, message: DescriptorProto, oneof: int, scope: str) -> Iterator[str]:
        names = self._names_in(message)
        for place, field in enumerate(message.field):
            if field.HasField("oneof_index") and field.oneof_index == oneof:
                yield from self._field((*path, _FIELD, place), field, {}, scope, names)

    def _field(
        self, path: Path, field: _Proto, entries: dict[str, DescriptorProto], scope: str, names: set[str]
    ) -> Iterator[str]:
        yield from self._comment(path)
        entry = entries.get(field.type_name.rpartition(".")[2])
        if entry is not None and field.label == _Proto.LABEL_REPEATED:
            of = f"map<{self._type(entry.field[0], scope, names)}, {self._type(entry.field[1], scope, names)}>"
        else:
            label = "optional " if field.proto3_optional else ""
            of = ("repeated " if field.label == _Proto.LABEL_REPEATED else label) + self._type(field, scope, names)
        named = field.json_name if field.json_name not in ("", json_name(field.name)) else ""
        option = f" [json_name = {_quoted(named)}]" if named else ""
        yield f"{of} {field.name} = {field.number}{option};"

    def _type(self, field: _Proto, scope: str, names: set[str]) -> str:
        return self._short(field.type_name, scope, names) if field.type_name else SCALAR_NAMES[field.type]

    def _short(self, name: str, scope: str, names: set[str]) -> str:
        """A type as one writes it inside that scope, unless `names`, which are found first, mean something else."""
        ours = name.startswith(scope)
        shorter = name.removeprefix(scope if ours else ".")
        first = shorter.partition(".")[0]
        return name if first in names or first in _WORDS or not (ours or first == "google") else shorter

    @staticmethod
    def _names_in(message: DescriptorProto) -> set[str]:
        """What is found by its name from inside a message before anything that is further out."""
        parts = (message.field, message.nested_type, message.oneof_decl, message.enum_type)
        values = [value.name for enum in message.enum_type for value in enum.value]
        return {part.name for group in parts for part in group} | set(values)

    def _values(self, path: Path, enum: EnumDescriptorProto) -> Iterator[str]:
        if enum.options.allow_alias:
            yield "option allow_alias = true;"
        for place, value in enumerate(enum.value):
            yield from self._comment((*path, _VALUE, place))
            yield f"{value.name} = {value.number};"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else "".join(f"\\{b:03o}" for b in c.encode()) for c in escaped) + '"'
