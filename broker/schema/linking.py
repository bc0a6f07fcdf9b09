"""Names of types in a file, as protoc looks them up: from the inside to the outside."""

from __future__ import annotations

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

__all__ = ["link"]

_Proto = FieldDescriptorProto


def link(file: FileDescriptorProto) -> None:
    """Writes the types of fields and methods by their full names, as protoc looks them up."""
    root = f".{file.package}" if file.package else ""
    types: dict[str, int] = {}
    for enum in file.enum_type:
        types[f"{root}.{enum.name}"] = _Proto.TYPE_ENUM
    for message in file.message_type:
        _collect(root, message, types)
    for message in file.message_type:
        _link(root, message, types)
    for service in file.service:
        for method in service.method:
            method.input_type = _found(method.input_type, root, types)
            method.output_type = _found(method.output_type, root, types)


def _collect(scope: str, message: DescriptorProto, types: dict[str, int]) -> None:
    name = f"{scope}.{message.name}"
    types[name] = _Proto.TYPE_MESSAGE
    for enum in message.enum_type:
        types[f"{name}.{enum.name}"] = _Proto.TYPE_ENUM
    for nested in message.nested_type:
        _collect(name, nested, types)


def _link(scope: str, message: DescriptorProto, types: dict[str, int]) -> None:
    name = f"{scope}.{message.name}"
    for field in message.field:
        if field.type_name:
            field.type_name = _found(field.type_name, name, types)
            null = field.type_name == ".google.protobuf.NullValue"
            field.type = _Proto.TYPE_ENUM if null else types.get(field.type_name, _Proto.TYPE_MESSAGE)  # type: ignore[assignment]
    for nested in message.nested_type:
        _link(name, nested, types)


def _found(name: str, scope: str, types: dict[str, int]) -> str:
    if name.startswith("."):
        return name
    while True:
        if f"{scope}.{name}" in types:
            return f"{scope}.{name}"
        if not scope:
            return f".{name}"
        scope = scope.rpartition(".")[0]
