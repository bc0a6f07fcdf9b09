"""What a client without Python does with a schema: it writes requests as JSON, and reads replies as JSON."""

from __future__ import annotations

from inspect import Signature
from typing import Any

from google.protobuf import json_format

from broker.codecs import Edge, PlainEdge
from broker.exposure import members_of
from broker.schema import Method, Schema, schema_of


def schema_of_class(cls: type) -> Schema:
    return schema_of(members_of(cls))


def schema_of_hint(hint: Any) -> Schema:
    """That of an object with one method, `echo`, whose parameter `value` and whose result have the hint."""

    def echo(self: Any, value: Any) -> Any:
        return value

    echo.__annotations__ = {"value": hint, "return": hint}
    return schema_of_class(type("Echo", (), {"echo": echo}))


def method_of_hint(hint: Any) -> Method:
    schema = schema_of_hint(hint)
    assert schema.problems == []
    return schema.methods["echo"]


def method_with(signature: Signature) -> Method:
    def call(self: Any, *args: Any, **kwargs: Any) -> None: ...

    parameters = [*Signature.from_callable(_with_self).parameters.values(), *signature.parameters.values()]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    schema = schema_of_class(type("Served", (), {"call": call}))
    assert schema.problems == []
    return schema.methods["call"]


def _with_self(self: Any, /) -> None: ...


def request(method: Method, written: dict[str, Any]) -> bytes:
    """The bytes of a request that was written as JSON."""
    return bytes(json_format.ParseDict(written, method.request_class()).SerializeToString())


def reply(method: Method, data: bytes) -> dict[str, Any]:
    """A reply as JSON."""
    return json_format.MessageToDict(method.reply_class.FromString(data))


def arrives(method: Method, written: Any, edge: Edge | None = None) -> Any:
    """What the parameter `value` becomes."""
    args, kwargs = method.decode_request(request(method, {"value": written}), edge or PlainEdge())
    return args[0] if args else kwargs["value"]


def returned(method: Method, value: Any, edge: Edge | None = None) -> Any:
    """What a client reads where the method returned that."""
    return reply(method, method.encode_reply(value, edge or PlainEdge())).get("result")
