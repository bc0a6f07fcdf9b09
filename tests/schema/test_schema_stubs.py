"""Stubs: what a type checker learns of an object whose classes it does not have."""

from __future__ import annotations

import datetime
import inspect
import uuid
from collections import deque
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import mypy.api
import pytest

from broker.exposure import members_of
from broker.schema import schema_of
from broker.schema.stubs import StubMember, stub_text
from tests.schema.strangers import schema_of_hint
from tests.schema.test_schema_members import Calls, Shapes, Streams
from tests.schema.test_schema_text import Everything
from tests.schema.test_schema_types import Account, Box, Order, Place, Prefix, Search, State

CACHE = Path(__file__).parents[2] / ".mypy_cache" / "stubs"


class Desk:
    """Takes orders.

    Many of them, even "quoted".
    """

    def place(self, order: Order, /, *urgent: bool, note: str | None = None, **more: float) -> dict[int, list[Order]]:
        """Places one."""
        return {}

    @property
    def size(self) -> int:
        """How many."""
        return 0

    @size.setter
    def size(self, value: int) -> None: ...


def stub_of(cls: type) -> str:
    table = members_of(cls)
    members = [
        StubMember(
            member.name, member.kind == "method", member.writable, inspect.cleandoc(member.doc or ""), member.signature
        )
        for member in table
    ]
    return stub_text(schema_of(table).named("desk").file, cls.__name__, members)


def test_a_stub_has_the_object_and_the_types_of_its_values() -> None:
    assert (
        stub_of(Desk)
        == '''\
# Made by `python -m broker.schema --pyi`.

import dataclasses
import enum


@dataclasses.dataclass(kw_only=True)
class Order:
    id: int
    lines: list[Line]
    state: State = ...
    parent: Order | None = ...
    note: str | None = ...
    tags: tuple[str, ...] = ...


@dataclasses.dataclass(kw_only=True)
class Line:
    item: str
    count: int = ...


class State(enum.Enum):
    """How far an order is."""

    NEW = ...
    SENT = ...


class Desk:
    """Takes orders.

    Many of them, even "quoted".
    """

    def place(self, order: Order, /, *urgent: bool, note: str | None = ..., **more: float) -> dict[int, list[Order]]:
        """Places one."""

    @property
    def size(self) -> int:
        """How many."""
    @size.setter
    def size(self, value: int) -> None: ...
'''
    )


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        (Search, "class Search(typing.TypedDict):\n    text: str\n    limit: typing.NotRequired[int | None]\n"),
        (Place, 'class Place(typing.NamedTuple):\n    """Where it is."""\n\n    shelf: int\n    row: str = ...\n'),
        (Prefix, "class Prefix(enum.Enum):\n    m = ...\n    M = ...\n"),
    ],
)
def test_records_of_each_form(hint: Any, shown: str) -> None:
    member = StubMember("echo", signature=inspect.Signature())
    assert shown in stub_text(schema_of_hint(hint).named("echo").file, "Echo", [member])


PROGRAM = """\
from desk import Desk, Line, Order, State

def use(desk: Desk) -> None:
    orders = desk.place(Order(id=1, lines=[Line(item="lamp")], state=State.SENT), True, note="soon", weight=0.5)
    reveal_type(orders)
    desk.size = "big"
    desk.place(3)
"""


def test_mypy_reads_every_stub(tmp_path: Path) -> None:
    (tmp_path / "desk.pyi").write_text(stub_of(Desk), encoding="utf-8")
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    for cls in (Calls, Shapes, Streams, Everything):
        (tmp_path / f"stub_{cls.__name__.lower()}.pyi").write_text(stub_of(cls), encoding="utf-8")
    out, err, _ = mypy.api.run(["--strict", "--cache-dir", str(CACHE), *map(str, tmp_path.iterdir())])
    assert err == ""
    told = [line.partition("program.py:")[2] for line in out.splitlines() if ": " in line]
    assert told == [
        '5: note: Revealed type is "dict[int, list[desk.Order]]"',
        '6: error: Incompatible types in assignment (expression has type "str", variable has type "int")  [assignment]',
        '7: error: Argument 1 to "place" of "Desk" has incompatible type "int"; expected "Order"  [arg-type]',
    ]


HINTS: list[tuple[Any, str]] = [
    (None, "None"),
    (Any, "typing.Any"),
    (bytes, "bytes"),
    (datetime.datetime, "datetime.datetime"),
    (datetime.timedelta, "datetime.timedelta"),
    (datetime.date, "datetime.date"),
    (Decimal, "decimal.Decimal"),
    (uuid.UUID, "uuid.UUID"),
    (Path, "pathlib.Path"),
    (State, "State"),
    (Literal["a", "b"], "typing.Literal['a', 'b']"),
    (list[int], "list[int]"),
    (tuple[Decimal, ...], "tuple[decimal.Decimal, ...]"),
    (set[State], "set[State]"),
    (frozenset[uuid.UUID], "frozenset[uuid.UUID]"),
    (deque[bool], "collections.deque[bool]"),
    (tuple[int, str], "tuple[int, str]"),
    (tuple[()], "tuple[()]"),
    (list[set[int]], "list[set[int]]"),
    (list[int | None], "list[int | None]"),
    (dict[str, list[float]], "dict[str, list[float]]"),
    (dict[uuid.UUID, datetime.date], "dict[uuid.UUID, datetime.date]"),
    (dict[State, int], "dict[State, int]"),
    (dict[Place, int], "dict[Place, int]"),
    (Prefix, "Prefix"),
    (int | str | None, "int | str | None"),
    (Order | None, "Order | None"),
    (Box[int], "BoxOfInt"),
    (Search, "Search"),
    (Account, "broker.Proxy"),
]


@pytest.mark.parametrize(("hint", "said"), HINTS, ids=[said for _, said in HINTS])
def test_the_hint_comes_back(hint: Any, said: str) -> None:
    parameter = inspect.Parameter("value", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    member = StubMember("echo", signature=inspect.Signature([parameter]))
    lines = stub_text(schema_of_hint(hint).named("echo").file, "Echo", [member]).splitlines()
    assert f"    def echo(self, value: {said}) -> {said}: ..." in lines
