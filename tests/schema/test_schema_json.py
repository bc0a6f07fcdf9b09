"""JSON Schema: what it says of the JSON that requests and replies are made of."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from broker.schema.json_schema import json_schema
from tests.schema.strangers import method_of_hint, returned, schema_of_class, schema_of_hint
from tests.schema.test_schema_types import ROWS, Order


def validator(document: dict[str, Any], method: str, part: str) -> jsonschema.Draft202012Validator:
    schema = {**document["methods"][method][part], "$defs": document.get("$defs", {})}
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_what_travels_fits(row: int) -> None:
    hint, value, _ = ROWS[row]
    document = json_schema(schema_of_hint(hint).named("echo").file)
    written = returned(method_of_hint(hint), value)
    if value is not None:
        validator(document, "echo", "reply").validate({"result": written})
        validator(document, "echo", "request").validate({"value": written})


@pytest.mark.parametrize(
    ("request_", "where"),
    [
        ({}, []),
        ({"value": {"lines": []}}, ["value"]),
        ({"value": {"id": "much", "lines": []}}, ["value", "id"]),
        ({"value": {"id": 1, "state": "LOST"}}, ["value", "state"]),
        ({"value": {"id": 1, "other": 3}}, ["value"]),
        ({"value": {"id": 1, "parent": {"id": 2, "lines": [{"count": 1}]}}}, ["value", "parent", "lines", 0]),
    ],
)
def test_what_does_not_fit(request_: dict[str, Any], where: list[Any]) -> None:
    document = json_schema(schema_of_hint(Order).named("echo").file)
    found = [list(error.absolute_path) for error in validator(document, "echo", "request").iter_errors(request_)]
    assert where in found


def test_it_says_what_the_class_says() -> None:
    class Desk:
        """Takes orders."""

        def place(self, item: str, count: int = 1) -> None:
            """Places one."""

    document = json_schema(schema_of_class(Desk).named("shop.desk").file)
    assert (document["title"], document["description"]) == ("shop.desk", "Takes orders.")
    assert document["methods"]["place"]["description"] == "Places one."
    request = document["methods"]["place"]["request"]
    assert request["required"] == ["item"]
    assert request["properties"]["count"]["description"] == "Default: 1"
