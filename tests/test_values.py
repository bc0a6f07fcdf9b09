"""Values as text, by the rules by which they travel."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import broker
from broker.errors import CodecError


@broker.register_type
@dataclass
class Quote:
    symbol: str
    price: Decimal


@pytest.mark.parametrize(
    "value",
    [
        None, 3, 3.0, 2**80, "text \u20ac", "\udc80", b"bytes", (1, (2,)), {1, 2}, {1: "a", (2, 3): "b"},
        {"$type": "int"}, datetime(2026, 1, 2, tzinfo=UTC), Decimal("1.50"), Quote("IBM", Decimal(7)),
        [Quote("A", Decimal(1))],
    ],
)  # fmt: skip
def test_a_text_gives_the_same_value_again(value: Any) -> None:
    text = broker.dumps(value)
    json.loads(text)
    for form in (text, bytearray(text), memoryview(text), text.decode()):
        again = broker.loads(form)
        assert (again, type(again)) == (value, type(value))


def test_it_is_plain_json_where_json_can_say_it() -> None:
    assert broker.dumps({"a": [1, None, "\u20ac"]}) == '{"a":[1,null,"\u20ac"]}'.encode()
    assert broker.loads('{"a": [1, 2.5, true]}') == {"a": [1, 2.5, True]}


def test_exceptions_and_unknown_classes(tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    file.write_bytes(broker.dumps(KeyError("missing", 3)))
    assert broker.loads(file.read_bytes()).args == ("missing", 3)
    unknown = broker.loads(broker.dumps(Quote("IBM", Decimal(7))).replace(b"Quote", b"Gone"))
    assert isinstance(unknown, broker.Record)
    assert unknown.symbol == "IBM"


def test_what_is_served_is_written_as_its_uri() -> None:
    class Served:
        def ping(self) -> str:
            return "pong"

    with broker.Daemon() as daemon:
        target = Served()
        uri = daemon.register(target)
        again = broker.loads(broker.dumps([target, broker.Proxy(uri)]))
        assert [type(each) for each in again] == [broker.Proxy] * 2
        assert again[0].ping() == "pong"


def test_a_class_of_proxies_of_the_programs_own() -> None:
    class Own(broker.Proxy):
        __slots__ = ()

        @staticmethod
        def _travels_as(value: Any, codec: str) -> Any:
            return type(value).__name__

    assert broker.loads(broker.dumps([object()], proxy_class=Own)) == ["object"]
    assert type(broker.loads(broker.dumps(broker.Proxy("BROKER:o@h:1")), proxy_class=Own)) is Own


@pytest.mark.parametrize("value", [object(), lambda: 1, iter([1]), [broker.export(print)]])
def test_what_is_no_value_is_refused(value: Any) -> None:
    with pytest.raises(CodecError, match=r"^value"):
        broker.dumps(value)


@pytest.mark.parametrize("text", [b"", b"{", "no json", b'{"$type":"nothing"}', b"\xff", b"[" * 100_000, "\udc80"])
def test_what_is_no_such_text_is_refused(text: Any) -> None:
    with pytest.raises(CodecError, match=r"^value"):
        broker.loads(text)
