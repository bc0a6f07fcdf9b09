"""What breaks clients that were made with an older description of a service."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any

import pytest

from broker.hints import FieldNumber
from broker.schema.changes import breaking_changes
from broker.schema.parsing import parse_proto
from broker.schema.text import proto_text
from tests.schema.strangers import schema_of_class


def changes(old: Callable[..., Any], new: Callable[..., Any]) -> list[str]:
    """Those of an object whose method `take` was the one function and is the other."""
    files = [schema_of_class(type("Desk", (), {"take": function})).named("desk").file for function in (old, new)]
    return breaking_changes(parse_proto(proto_text(files[0])), files[1])


class Old(enum.Enum):
    NEW = "new"
    SENT = "sent"


class More(enum.Enum):
    NEW = "new"
    SENT = "sent"
    BACK = "back"


class Fewer(enum.Enum):
    NEW = "new"


class Moved(enum.Enum):
    BACK = "back"
    NEW = "new"
    SENT = "sent"


@dataclass
class Tree:
    name: str
    branches: list[Tree]


@dataclass
class Bush:
    name: str
    branches: list[Bush]
    leaves: int = 0


def record(**fields: Any) -> type:
    return make_dataclass("Order", fields.items())


def old_take(self: Any, name: str, item: str = "couch") -> int: ...  # type: ignore[empty-body]


def new_parameter(self: Any, name: str, item: str = "couch", count: int = 1) -> int: ...  # type: ignore[empty-body]


def optional_now(self: Any, name: str = "me", item: str = "chair") -> int: ...  # type: ignore[empty-body]


def pinned_and_moved(  # type: ignore[empty-body]
    self: Any, *, item: Annotated[str, FieldNumber(2)] = "couch", name: Annotated[str, FieldNumber(1)]
) -> int: ...


@pytest.mark.parametrize("new", [old_take, new_parameter, optional_now, pinned_and_moved])
def test_what_breaks_nobody(new: Callable[..., Any]) -> None:
    assert changes(old_take, new) == []


def removed(self: Any, item: str = "couch") -> int: ...  # type: ignore[empty-body]


def renamed(self: Any, who: str, item: str = "couch") -> int: ...  # type: ignore[empty-body]


def swapped(self: Any, item: str, name: str) -> int: ...  # type: ignore[empty-body]


def gone(self: Any, name: str) -> int: ...  # type: ignore[empty-body]


def demanded(self: Any, name: str, item: str) -> int: ...  # type: ignore[empty-body]


def new_demand(self: Any, name: str, item: str = "couch", *, count: int) -> int: ...  # type: ignore[empty-body]


def retyped(self: Any, name: str, item: list[str] = []) -> int: ...  # type: ignore[empty-body]  # noqa: B006


def other_result(self: Any, name: str, item: str = "couch") -> str: ...  # type: ignore[empty-body]


def streaming(self: Any, name: str, item: str = "couch") -> Iterator[int]: ...  # type: ignore[empty-body]


def inexpressible(self: Any, name: str, item: Callable[[], None]) -> int: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (
            removed,
            [
                "take request.name: field 1 is gone, and what clients send in it is lost",
                "take request.item: its number was 2 and is 1 now",
            ],
        ),
        (renamed, ["take request.name: field 1 is called 'who' now"]),
        (
            swapped,
            [
                "take request.name: its number was 1 and is 2 now",
                "take request.item: its number was 2 and is 1 now",
            ],
        ),
        (gone, ["take request.item: field 2 is gone, and what clients send in it is lost"]),
        (demanded, ["take request.item: it is required now, and clients may not send it"]),
        (new_demand, ["take request.count: it is new and required, and clients do not send it"]),
        (retyped, ["take request.item: it was string and is repeated string now"]),
        (other_result, ["take reply.result: it was int64 and is string now"]),
        (streaming, ["take: its replies were one message and are a stream now"]),
        (inexpressible, ["take: the method is gone (parameter 'item': {})"]),
    ],
)
def test_what_breaks_clients_is_named(new: Callable[..., Any], said: list[str]) -> None:
    why = "collections.abc.Callable[[], None] is called back over the connection of a Python client"
    assert changes(old_take, new) == [change.format(why) for change in said]


def taking(hint: Any, *, returned: bool = False) -> Callable[..., Any]:
    def take(self: Any, x: Any) -> Any: ...

    take.__annotations__ = {"return": hint} if returned else {"x": hint}
    return take


@pytest.mark.parametrize(
    ("old", "new", "asked", "answered"),
    [
        (Old, More, [], []),
        (Old, Fewer, ["take request.x: the member SENT is gone, and clients may send it"], []),
        (
            Old,
            Moved,
            [
                "take request.x: the number of NEW was 1 and is 2 now",
                "take request.x: the number of SENT was 2 and is 3 now",
            ],
            [
                "take reply.result: the number of NEW was 1 and is 2 now",
                "take reply.result: the number of SENT was 2 and is 3 now",
            ],
        ),
        (Tree, Bush, [], []),
        (
            Bush,
            Tree,
            ["take request.x.leaves: field 3 is gone, and what clients send in it is lost"],
            ["take reply.result.leaves: field 3 is gone, and clients look for it"],
        ),
        (
            record(id=int, state=Old),
            record(id=str, state=Old),
            ["take request.x.id: it was int64 and is string now"],
            ["take reply.result.id: it was int64 and is string now"],
        ),
        (
            record(id=int),
            record(id=int, more=int),
            ["take request.x.more: it is new and required, and clients do not send it"],
            [],
        ),
        (int | str, int | str | bytes, [], []),
        (
            int | str,
            int | bytes,
            ["take request.x.str: field 2 is called 'bytes' now"],
            ["take reply.result.str: field 2 is called 'bytes' now"],
        ),
        (
            dict[str, int],
            dict[str, str],
            ["take request.x: it was a map from string to int64 and is a map from string to string now"],
            ["take reply.result: it was a map from string to int64 and is a map from string to string now"],
        ),
        (None, int, ["take request.x: it was NullValue and is int64 now"], []),
        (list[Old], list[Fewer], ["take request.x: the member SENT is gone, and clients may send it"], []),
    ],
)
def test_types_in_requests_and_in_replies(old: Any, new: Any, asked: list[str], answered: list[str]) -> None:
    assert changes(taking(old), taking(new)) == asked
    assert changes(taking(old, returned=True), taking(new, returned=True)) == answered


def test_another_name_of_the_service_is_a_change() -> None:
    schema = schema_of_class(type("Desk", (), {"take": old_take}))
    assert breaking_changes(schema.named("desk").file, schema.named("shop.desk").file) == [
        "the service desk is called shop.desk now"
    ]
