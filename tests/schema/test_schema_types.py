"""The table of types of docs/typed-services.md, each row both ways, and what does not fit into one."""

from __future__ import annotations

import array
import collections
import datetime
import enum
import re
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import pytest

import broker
from broker.codecs import PlainEdge, Reference
from broker.errors import CodecError
from tests.schema.strangers import arrives, method_of_hint, request, returned, schema_of_class, schema_of_hint

UTC = datetime.UTC
T = TypeVar("T")
Number = TypeVar("Number", int, str)
Weight = NewType("Weight", float)


class State(enum.Enum):
    """How far an order is."""

    NEW = "new"
    SENT = "sent"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 9


class Prefix(enum.Enum):
    m = "milli"
    M = "mega"


class Rights(enum.IntFlag):
    READ = 4
    WRITE = 2


@dataclass
class Line:
    item: str
    count: int = 1


@dataclass(frozen=True)
class Order:
    id: int
    lines: list[Line]
    state: State = State.NEW
    parent: Order | None = None
    note: str | None = "none"
    tags: tuple[str, ...] = ("a",)


@dataclass
class Counted:
    start: int
    seen: int = field(init=False, default=0)


@dataclass
class Box(Generic[T]):
    content: T
    others: list[T] = field(default_factory=list)


class Place(NamedTuple):
    """Where it is."""

    shelf: int
    row: str = "A"


class Options(TypedDict, total=False):
    depth: typing.Required[int]
    names: list[str]


class Search(TypedDict):
    text: str
    limit: NotRequired[int | None]


def named(part: object) -> str:
    """The name of a value in the name of its test: the same in every process."""
    return re.sub(r"\W+", "_", re.sub(r" at 0x[0-9a-f]+", "", str(part)))[:40]


ROWS: list[tuple[Any, Any, Any]] = [
    (bool, True, True),
    (int, -(2**63), "-9223372036854775808"),
    (float, 0.5, 0.5),
    (float, float("inf"), "Infinity"),
    (str, "Größe 😀", "Größe 😀"),
    (datetime.time, datetime.time(13, 5), "13:05:00"),
    (bytes, b"\0\xff", "AP8="),
    (bytearray, bytearray(b"a"), "YQ=="),
    (memoryview, memoryview(b"a"), "YQ=="),
    (None, None, None),
    (Any, {"a": [1, 2.5, None, "x"]}, {"a": [1.0, 2.5, None, "x"]}),
    (Any, (1,), {"$type": "tuple", "items": [1.0]}),
    (datetime.datetime, datetime.datetime(2026, 11, 22, 13, 5, 0, 250, UTC), "2026-11-22T13:05:00.000250Z"),
    (datetime.timedelta, datetime.timedelta(seconds=-90.5), "-90.500s"),
    (datetime.date, datetime.date(2026, 11, 22), "2026-11-22"),
    (datetime.time, datetime.time(13, 5, 0, 1, UTC), "13:05:00.000001+00:00"),
    (Decimal, Decimal("19.90"), "19.90"),
    (Fraction, Fraction(1, 3), "1/3"),
    (uuid.UUID, uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Path, Path("/etc/hosts"), "/etc/hosts"),
    (broker.URI, broker.URI("BROKERNAME:printer"), "BROKERNAME:printer"),
    (State, State.SENT, "SENT"),
    (Level, Level.HIGH, "HIGH"),
    (Prefix, Prefix.M, "M"),
    (Rights, Rights.READ | Rights.WRITE, "6"),
    (Literal["a", "b"], "b", "b"),
    (Literal[1, True, "x"], True, {"bool": True}),
    (Literal[State.NEW, None], State.NEW, "NEW"),
    (list[int], [1, 2], ["1", "2"]),
    (Sequence[str], ["a"], ["a"]),
    (Iterable[str], ["a"], ["a"]),
    (tuple[int, ...], (1, 2), ["1", "2"]),
    (tuple[int, str], (1, "a"), {"item_1": "1", "item_2": "a"}),
    (set[State], {State.NEW}, ["NEW"]),
    (frozenset[str], frozenset("a"), ["a"]),
    (collections.deque[int], collections.deque([1, 2]), ["1", "2"]),
    (list[list[int]], [[1], []], [{"items": ["1"]}, {}]),
    (list[int | None], [1, None], [{"value": "1"}, {}]),
    (dict[str, float], {"a": 1.5}, {"a": 1.5}),
    (Mapping[int, Line], {3: Line("x")}, {"3": {"item": "x", "count": "1"}}),
    (dict[Decimal, bool], {Decimal("1.0"): True}, {"1.0": True}),
    (dict[State, int], {State.NEW: 1}, {"NEW": "1"}),
    (dict[Place, int], {Place(1): 1}, [{"key": {"shelf": "1", "row": "A"}, "value": "1"}]),
    (dict[str, list[int]], {"a": [1]}, {"a": {"items": ["1"]}}),
    (dict, {"a": [1.5]}, {"a": [1.5]}),
    (list, [1.5, "a"], [1.5, "a"]),
    (int | str, "a", {"str": "a"}),
    (str | Literal["a", "b"], "a", {"str": "a"}),
    (list[str | Literal["a"]], ["x", "a"], [{"str": "x"}, {"str": "a"}]),
    (typing.NewType("Name", str) | int, "a", {"str": "a"}),
    (typing.NewType("Name", str) | str, "a", "a"),
    (int | float | None, 2.0, {"float": 2.0}),
    (list[int] | Line, [1], {"list_of_int": {"items": ["1"]}}),
    (Optional[str], "a", "a"),  # noqa: UP045 - as many have it
    (Line, Line("couch", 2), {"item": "couch", "count": "2"}),
    (
        Order,
        Order(1, [Line("a")], State.SENT, Order(2, [], note=None), None, ()),
        {
            "id": "1",
            "lines": [{"item": "a", "count": "1"}],
            "state": "SENT",
            "parent": {"id": "2", "state": "NEW", "note": {}, "tags": {"items": ["a"]}},
            "note": {},
            "tags": {},
        },
    ),
    (Box[int], Box(1, [2]), {"content": "1", "others": ["2"]}),
    (Place, Place(3), {"shelf": "3", "row": "A"}),
    (Options, {"depth": 1}, {"depth": "1"}),
    (Options, {"depth": 1, "names": []}, {"depth": "1", "names": {}}),
    (Search, {"text": "a", "limit": None}, {"text": "a", "limit": {}}),
    (Weight, 0.5, 0.5),
    (Annotated[int, "kilos"], 3, "3"),
    (Number, "a", {"str": "a"}),
]


@pytest.mark.parametrize(("hint", "value", "written"), ROWS, ids=named)
def test_each_type_both_ways(hint: Any, value: Any, written: Any) -> None:
    method = method_of_hint(hint)
    read = returned(method, value)
    assert read == written
    arrived = arrives(method, read)
    assert arrived == value
    assert type(arrived) is type(value)


def test_fields_that_do_not_come_have_their_defaults() -> None:
    assert arrives(method_of_hint(Order), {"id": 3}) == Order(3, [])


def test_a_field_that_the_class_sets_by_itself_arrives_too() -> None:
    counted = arrives(method_of_hint(Counted), {"start": 1, "seen": 5})
    assert (counted.start, counted.seen) == (1, 5)


def test_a_datetime_without_a_zone_counts_as_utc() -> None:
    method = method_of_hint(datetime.datetime)
    assert returned(method, datetime.datetime(2026, 1, 1)) == "2026-01-01T00:00:00Z"  # noqa: DTZ001


def test_texts_and_numbers_that_are_members_of_enums() -> None:
    class Word(str, enum.Enum):  # noqa: UP042 - as many have it
        YES = "yes"

    assert returned(method_of_hint(str), Word.YES) == "yes"
    assert returned(method_of_hint(int), Level.HIGH) == "9"


def test_a_datetime_of_another_zone_arrives_in_utc() -> None:
    method = method_of_hint(datetime.datetime)
    assert arrives(method, "2026-01-01T02:00:00+02:00") == datetime.datetime(2026, 1, 1, tzinfo=UTC)


# ---- what does not fit


WRONG_RESULTS: list[tuple[Any, Any, str]] = [
    (int, 2**63, "result: an int of 64 bits does not fit into 64 bits"),
    (int, "3", "result: '3' is str, and the hint says int"),
    (int, 1.0, "result: 1.0 is float, and the hint says int"),
    (str, State.NEW, "result: <State.NEW: 'new'> is State"),
    (str, "\ud800", "result: this text has lone surrogates"),
    (datetime.time, datetime.time(1, tzinfo=ZoneInfo("Europe/Berlin")), "has no offset without a date"),
    (list[int], [1, None], r"result\[1\]: None is NoneType, and the hint says int"),
    (list[str], "abc", "result: 'abc' is str, and the hint says list"),
    (dict[str, list[int]], {"a": [1, "x"]}, r"result\['a'\]\[1\]: 'x' is str"),
    (Order, Order(1, [Line(3)]), r"result\.lines\[0\]\.item: 3 is int"),  # type: ignore[arg-type]
    (Line, Order(1, []), "and the hint says Line"),
    (tuple[int, str], (1,), "it has 1 items, and the hint says 2"),
    (Literal["a"], "b", "result: 'b' is none of 'a'"),
    (int | str, 1.5, "1.5 is float, and the hint says int or str"),
    (datetime.timedelta, datetime.timedelta.max, "a Duration has up to 315576000000 seconds"),
    (Search, {"text": "a", "other": 1}, "has no key 'other'"),
    (Search, {}, "has the key 'text', and there is none"),
    (None, 3, "3 is int, and the hint says None"),
    (Any, object(), "result: "),
]


@pytest.mark.parametrize(("hint", "value", "said"), WRONG_RESULTS, ids=named)
def test_a_result_that_is_not_what_its_hint_says(hint: Any, value: Any, said: str) -> None:
    with pytest.raises(CodecError, match=said):
        method_of_hint(hint).encode_reply(value)


WRONG_REQUESTS: list[tuple[Any, Any, str]] = [
    (Decimal, "much", "value: 'much' is no Decimal: it is written like 19.90"),
    (Fraction, "1e999999999", "value: '1e999999999' is no Fraction"),
    (uuid.UUID, "x", "value: 'x' is no UUID"),
    (datetime.date, "22.11.2026", "value: '22.11.2026' is no date: it is written like 2026-11-22"),
    (State, 7, r"value: 7 is no member of State \(it has: NEW = 1, SENT = 2\)"),
    (State, 0, "value: 0 is no member of State"),
    (Prefix, "k", r"value: 'k' is no member of Prefix \(it has: m, M\)"),
    (Literal["a"], "c", "value: 'c' is none of 'a'"),
    (Order, {"lines": []}, r"value\.id: a value is required, and none came"),
    (Order, {"id": 1, "lines": [{"item": "a"}, {}]}, r"value\.lines\[1\]\.item: a value is required"),
    (int | str, {}, "value: one of int, str is required, and none came"),
    (tuple[int, str], {"item_1": 3}, r"value\.item_2: a value is required"),
    (dict[str, Line], {"a": {}}, r"value\['a'\]\.item: a value is required"),
    (Any, 2.0**60, "a whole number as large as"),
    (broker.URI, "nonsense", "value: 'nonsense' is no URI"),
]


@pytest.mark.parametrize(("hint", "written", "said"), WRONG_REQUESTS, ids=named)
def test_a_request_with_what_cannot_be(hint: Any, written: Any, said: str) -> None:
    with pytest.raises(CodecError, match=said):
        arrives(method_of_hint(hint), written)


@pytest.mark.parametrize(
    ("hint", "seconds", "nanos", "said"),
    [
        (datetime.datetime, 0, -1, "a Timestamp has 0 to 999999999 nanos, not -1"),
        (datetime.datetime, 2**40, 0, "a Timestamp lies in the years 1 to 9999"),
        (datetime.timedelta, 1, -1, "of the same sign"),
        (datetime.timedelta, 2**50, 0, "a Duration has up to 315576000000 seconds"),
    ],
)
def test_times_out_of_their_range(hint: Any, seconds: int, nanos: int, said: str) -> None:
    method = method_of_hint(hint)
    message = method.request_class()
    message.value.seconds, message.value.nanos = seconds, nanos
    with pytest.raises(CodecError, match=said):
        method.decode_request(message.SerializeToString())


def test_bytes_that_are_no_message() -> None:
    with pytest.raises(CodecError, match="the request of echo is no message of its type"):
        method_of_hint(int).decode_request(b"\x0a\xff")


def test_a_dataclass_that_refuses_its_fields_says_why() -> None:
    @dataclass
    class Age:
        years: int

        def __post_init__(self) -> None:
            if self.years < 0:
                raise ValueError("nobody is that young")

    with pytest.raises(CodecError, match="value: Age cannot be made of what arrived: ValueError: nobody is that young"):
        arrives(method_of_hint(Age), {"years": -1})


def test_a_value_that_holds_itself() -> None:
    @dataclass
    class Node:
        next: Any = None

    node = Node()
    node.next = [node]
    with pytest.raises(CodecError, match="nested more than"):
        method_of_hint(Node).encode_reply(node)


def test_a_value_that_is_too_deep_for_protobuf() -> None:
    order = Order(0, [])
    for number in range(300):
        order = Order(number, [], parent=order)
    with pytest.raises(CodecError, match="nested more than"):
        method_of_hint(Order).encode_reply(order)


def test_numbers_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    assert returned(method_of_hint(int), numpy.int32(3)) == "3"
    assert returned(method_of_hint(float), numpy.float32(0.5)) == 0.5
    assert returned(method_of_hint(list[float]), numpy.array([0.5, 1.0])) == [0.5, 1.0]


# ---- references


class Account:
    def balance(self) -> int:
        return 3


class Edge(PlainEdge):
    def reference(self, value: object) -> str | Reference | None:
        return "BROKER:a@localhost:1" if isinstance(value, Account) else None

    def resolve(self, reference: str | Reference) -> object:
        return ("proxy for", reference)


def test_objects_travel_as_references() -> None:
    method = method_of_hint(Account)
    written = returned(method, Account(), Edge())
    assert written == {"uri": "BROKER:a@localhost:1", "type": f"{Account.__module__}.Account"}
    assert arrives(method, {"uri": written["uri"]}, Edge()) == ("proxy for", "BROKER:a@localhost:1")


def test_an_object_that_is_not_registered_is_refused() -> None:
    with pytest.raises(CodecError, match="this one is not registered: register it with a daemon"):
        method_of_hint(Account).encode_reply(Account())


def test_a_reference_without_a_uri_is_refused() -> None:
    with pytest.raises(CodecError, match="value: a reference has the URI of an object"):
        arrives(method_of_hint(Account), {})


# ---- what cannot be expressed


@dataclass
class NeedsMore:
    shown: int
    secret: InitVar[int]


INEXPRESSIBLE: list[tuple[Any, str]] = [
    (Callable[[int], int], "called back over the connection of a Python client"),
    (list[Iterator[int]], "streams only as a whole parameter or as a whole result"),
    (type[Line], "has no form in protobuf"),
    (array.array, "array has no form in protobuf"),
    (re.Pattern, "Pattern has no form in protobuf"),
    ("Nowhere", "the hint Nowhere cannot be resolved"),
    (NeedsMore, "its InitVar 'secret' is no field"),
    (tuple[int, *tuple[str, ...]], "its length is not known"),
]


@pytest.mark.parametrize(("hint", "said"), INEXPRESSIBLE, ids=named)
def test_what_cannot_be_expressed_is_named(hint: Any, said: str) -> None:
    (problem,) = schema_of_hint(hint).problems
    assert problem.member == "echo"
    assert problem.reason.startswith("parameter 'value': ")
    assert said in problem.reason


class TypeAliasType:
    """What `type Endless = list[Endless]` makes in Python 3.12, here where it cannot be written."""

    @property
    def __value__(self) -> Any:
        return list[self]  # type: ignore[valid-type]


def test_an_alias_of_itself_is_a_problem() -> None:
    def echo(self: Any, value: Any) -> None: ...

    echo.__annotations__ = {"value": list[TypeAliasType()]}  # type: ignore[misc]
    (problem,) = schema_of_class(type("Echo", (), {"echo": echo})).problems
    assert str(problem) == "echo: a hint is an alias of itself, which wants a dataclass in between"


class Explodes(type):
    def __subclasscheck__(cls, subclass: type) -> bool:
        raise RuntimeError("no questions")

    @property
    def __dataclass_fields__(cls) -> object:
        raise RuntimeError("no questions")


class Mine(metaclass=Explodes):
    pass


def test_a_class_that_cannot_be_looked_at_is_the_problem_of_its_member_alone() -> None:
    class Mixed:
        def bad(self, mine: Mine) -> None: ...

        def good(self, number: int) -> None: ...

    schema = schema_of_class(Mixed)
    assert list(schema.methods) == ["good"]
    assert str(schema.problems[0]) == "bad: its hints cannot be read (RuntimeError: no questions)"


def test_a_problem_leaves_nothing_behind() -> None:
    class Mixed:
        def bad(self, order: Order, callback: Callable[[], None]) -> None: ...

        def good(self, order: Order) -> None: ...

    schema = schema_of_class(Mixed)
    names = [message.name for message in schema.messages]
    assert names.count("Order") == 1
    assert "bad_request" not in names
    assert schema.methods["good"].decode_request(request(schema.methods["good"], {"order": {"id": 1}}))
