"""Classes as typed services: the rpcs, what a request brings, what a reply holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf import json_format

from broker.errors import CodecError
from broker.exposure import members_of
from broker.schema import Schema, schema_of


class Warehouse:
    """A store room that everyone can visit."""

    def take(self, name: str, item: str = "couch") -> str:
        """Hands an item over."""
        return f"{name} {item}"

    def contents(self) -> Iterator[str]:
        yield "couch"

    def weigh(self, weights: Iterator[float], unit: str = "kg") -> float:
        return sum(weights)

    def watch(self, callback: Callable[[str], None]) -> None: ...

    @property
    def size(self) -> int:
        return 3

    @size.setter
    def size(self, size: int) -> None: ...


@pytest.fixture
def schema() -> Schema:
    return schema_of(members_of(Warehouse))


def request(schema: Schema, method: str, data: dict[str, Any]) -> bytes:
    message = json_format.ParseDict(data, schema.methods[method].request_class())
    return bytes(message.SerializeToString())


def test_rpcs_follow_the_members(schema: Schema) -> None:
    found = {name: (m.member, m.access, m.client_streaming, m.server_streaming) for name, m in schema.methods.items()}
    assert found == {
        "contents": ("contents", "call", False, True),
        "get_size": ("size", "get", False, False),
        "set_size": ("size", "set", False, False),
        "take": ("take", "call", False, False),
        "weigh": ("weigh", "call", True, False),
    }


def test_what_does_not_come_is_left_to_its_default(schema: Schema) -> None:
    assert schema.methods["take"].decode_request(request(schema, "take", {"name": "Janet"})) == (("Janet",), {})


def test_what_is_required_is_named(schema: Schema) -> None:
    with pytest.raises(CodecError, match=r"^name: a value is required, and none came$"):
        schema.methods["take"].decode_request(b"")


def test_a_member_that_cannot_be_expressed_is_a_problem(schema: Schema) -> None:
    (problem,) = schema.problems
    assert problem.member == "watch"
    assert "parameter 'callback'" in problem.reason
    assert "called back" in problem.reason


def test_one_schema_for_all_objects_of_a_class() -> None:
    table = members_of(Warehouse)
    assert schema_of(table) is schema_of(members_of(Warehouse))
