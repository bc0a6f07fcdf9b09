"""JSON Schema of a service: what the JSON of each request and reply looks like, for tools that know no protobuf."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from broker.schema.described import DescribedService
from broker.schema.text import SCALAR_NAMES

__all__ = ["json_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_WHOLE = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^-?[0-9]+$"}], "format": "int64"}
_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
_SCALARS: dict[str, dict[str, Any]] = {
    "bool": {"type": "boolean"},
    "string": {"type": "string"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "double": _NUMBER,
    "float": _NUMBER,
}
_GOOGLES: dict[str, dict[str, Any]] = {
    ".google.protobuf.Duration": {"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?s$"},
    ".google.protobuf.ListValue": {"type": "array"},
    ".google.protobuf.NullValue": {"type": "null"},
    ".google.protobuf.Struct": {"type": "object"},
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Value": {},
}


def json_schema(file: FileDescriptorProto) -> dict[str, Any]:
    """A document with the `methods` of the service: each has its `request` and `reply`, types in `$defs`.

    Raises ValueError where the file has no service.
    """
    return _Writer(DescribedService(file)).document()


class _Writer:
    def __init__(self, service: DescribedService) -> None:
        self._service = service
        self._prefix = f".{service.name}_types."
        self._definitions: dict[str, Any] = {}

    def document(self) -> dict[str, Any]:
        service = self._service
        methods = {}
        for name, method in service.methods.items():
            methods[name] = {
                **_described(service.doc_of_method(method)),
                "clientStreaming": method.client_streaming,
                "serverStreaming": method.server_streaming,
                "request": self._message(method.input_type),
                "reply": self._message(method.output_type),
            }
        document = {"$schema": _DIALECT, "title": service.name, **_described(service.doc), "methods": methods}
        return {**document, "$defs": self._definitions} if self._definitions else document

    def _message(self, name: str) -> dict[str, Any]:
        message = self._service.messages[name]
        schema: dict[str, Any] = {"type": "object", **_described(self._service.doc_of_type(name))}
        schema["properties"] = {field.json_name: self._field(name, field) for field in message.field}
        required = [field.json_name for field in message.field if self._service.is_required(name, field)]
        if required:
            schema["required"] = required
        if any(_is_arm(field) for field in message.field):
            schema["minProperties"] = schema["maxProperties"] = 1
        return {**schema, "additionalProperties": False}

    def _field(self, message: str, field: FieldDescriptorProto) -> dict[str, Any]:
        notes = _described("\n".join(self._service.notes(message, field)))
        entry = self._service.entry(field)
        if entry is not None:
            return {"type": "object", "additionalProperties": self._type(entry.field[1]), **notes}
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return {"type": "array", "items": self._type(field), **notes}
        return {**self._type(field), **notes}

    def _type(self, field: FieldDescriptorProto) -> dict[str, Any]:
        if not field.type_name:
            return _SCALARS.get(SCALAR_NAMES[field.type], _WHOLE)
        if field.type_name in _GOOGLES:
            return _GOOGLES[field.type_name]
        name = field.type_name.removeprefix(self._prefix)
        if name not in self._definitions:
            self._definitions[name] = {}  # it may hold itself
            self._definitions[name] = self._definition(field.type_name)
        return {"$ref": f"#/$defs/{name}"}

    def _definition(self, name: str) -> dict[str, Any]:
        enum = self._service.enums.get(name)
        if enum is None:
            return self._message(name)
        return {"enum": [value.name for value in enum.value], **_described(self._service.doc_of_type(name))}


def _described(text: str) -> dict[str, str]:
    return {"description": text} if text else {}


def _is_arm(field: FieldDescriptorProto) -> bool:
    return field.HasField("oneof_index") and not field.proto3_optional
