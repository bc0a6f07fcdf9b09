"""Values of any type: what has no hint travels as a JSON value, with the tags of the json codec where JSON ends."""

from __future__ import annotations

from typing import Any

from broker.codecs import Edge
from broker.codecs.json import from_json, to_json
from broker.schema.kinds import Composite, checked_text, promised

__all__ = ["JSON_LIST", "JSON_OBJECT", "JSON_VALUE"]


class _JsonValue(Composite):
    type_name, word = ".google.protobuf.Value", "value"

    def fill(self, message: Any, value: Any, edge: Edge) -> None:
        _put(message, to_json(value, edge))

    def read(self, message: Any, edge: Edge) -> Any:
        return from_json(_structure(message), edge)


class _JsonObject(Composite):
    """A dict with keys and values of any type."""

    type_name, word, python = ".google.protobuf.Struct", "dict", (dict,)

    def fill(self, message: Any, value: Any, edge: Edge) -> None:
        if not isinstance(value, dict):
            raise promised(value, "dict")
        _put_fields(message, to_json(value, edge))

    def read(self, message: Any, edge: Edge) -> Any:
        value = from_json(_fields(message), edge)
        if not isinstance(value, dict):  # it was a tagged value
            raise promised(value, "dict")
        return value


class _JsonList(Composite):
    type_name, word, python = ".google.protobuf.ListValue", "list", (list,)

    def fill(self, message: Any, value: Any, edge: Edge) -> None:
        if not isinstance(value, (list, tuple)):
            raise promised(value, "list")
        _put_items(message, to_json(list(value), edge))

    def read(self, message: Any, edge: Edge) -> Any:
        return from_json(_items(message), edge)


JSON_VALUE = _JsonValue()
JSON_OBJECT = _JsonObject()
JSON_LIST = _JsonList()


def _put(message: Any, structure: Any) -> None:
    if structure is None:
        message.null_value = 0
    elif structure is True or structure is False:
        message.bool_value = structure
    elif isinstance(structure, str):
        message.string_value = checked_text(structure)
    elif isinstance(structure, (int, float)):
        message.number_value = structure
    elif isinstance(structure, dict):
        _put_fields(message.struct_value, structure)
    else:
        _put_items(message.list_value, structure)


def _put_fields(message: Any, structure: dict[str, Any]) -> None:
    message.SetInParent()
    for name, item in structure.items():
        _put(message.fields[checked_text(name)], item)


def _put_items(message: Any, structure: Any) -> None:
    message.SetInParent()
    for item in structure:
        _put(message.values.add(), item)


def _structure(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind == "struct_value":
        return _fields(message.struct_value)
    if kind == "list_value":
        return _items(message.list_value)
    return None if kind in (None, "null_value") else getattr(message, kind)


def _fields(message: Any) -> dict[str, Any]:
    return {name: _structure(item) for name, item in message.fields.items()}


def _items(message: Any) -> list[Any]:
    return [_structure(item) for item in message.values]
