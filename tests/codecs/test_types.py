"""Which types are rebuilt: registered ones, learnt ones, and `Record` for all others."""

from __future__ import annotations

import copy
import dataclasses
import enum
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NewType, Optional, TypeVar

import pytest

import broker.codecs
from broker.codecs import GLOBAL_TYPES, PlainEdge, Record, TypeRegistry, codec, register_type
from broker.errors import CodecError
from broker.uri import URI

if TYPE_CHECKING:
    from decimal import Decimal as Missing  # a name that exists for type checkers only

JSON = codec("json")


@dataclasses.dataclass
class Part:
    name: str


class Size(enum.Enum):
    SMALL = "s"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Place(NamedTuple):
    part: Part
    shelf: int = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    parts: list[Part]
    size: Size | None = None
    place: Optional[Place] = None  # noqa: UP045 - the older way to write it is a hint too
    total: int = dataclasses.field(default=0, init=False)
    missing: Missing | None = None
    following: Order | None = None


class Failure(Exception):
    pass


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass
class Node:
    value: int
    nodes: list[Node] = dataclasses.field(default_factory=list)


def send(value: object, sender: TypeRegistry, receiver: TypeRegistry) -> Any:
    return JSON.decode(JSON.encode(value, PlainEdge(sender)), PlainEdge(receiver))


def learnt(hint: object) -> TypeRegistry:
    types = TypeRegistry()
    types.learn(hint)
    return types


def order() -> Order:
    made = Order(parts=[Part("leg")], size=Size.SMALL, place=Place(Part("top")))
    object.__setattr__(made, "total", 5)
    return made


def test_a_class_of_a_hint_is_learnt_with_the_classes_of_its_fields() -> None:
    types = learnt(Order)
    assert send(order(), TypeRegistry(), types) == order()
    assert all(types.by_class(cls) for cls in (Order, Part, Size, Place))


Alias = NewType("Alias", Part)
Bound = TypeVar("Bound", bound=Part)


@pytest.mark.parametrize(
    "hint",
    [
        list[Part],
        dict[str, tuple[Part, ...]],
        Part | None,
        Optional[Part],  # noqa: UP045
        Annotated[Part, "spare"],
        Callable[[Part], None],
        Callable[..., Part],
        Alias,
        Bound,
        Place,
    ],
    ids=str,
)
def test_hints_of_every_form(hint: object) -> None:
    assert learnt(hint).by_class(Part) is not None


@pytest.mark.parametrize("hint", [int, None, "Part", Any, Money, ValueError, 5, list, Callable, object, type, ...])
def test_hints_that_teach_nothing(hint: object) -> None:
    types = learnt(hint)
    assert types._names == {}


def test_a_parent_is_asked_and_not_changed() -> None:
    parent, other = TypeRegistry(), TypeRegistry()
    child = TypeRegistry(parent)
    parent.register(Part)
    child.learn(Place)
    assert child.by_class(Part) is parent.by_class(Part)
    assert parent.by_class(Place) is None
    assert other.by_class(Part) is None


def test_data_of_an_unknown_type_is_a_record() -> None:
    nothing = TypeRegistry()
    record = send(order(), nothing, nothing)
    assert isinstance(record, Record)
    assert record.parts[0].name == "leg"
    assert record.size.name == "SMALL"
    assert record.size.value == "s"
    assert record.place.shelf == 1
    assert repr(record.parts) == f"[<Record {__name__}.Part(name='leg')>]"
    assert {"parts", "size", "place"} <= set(dir(record))
    assert record == send(order(), nothing, nothing)
    assert record != send(Part("leg"), nothing, nothing)
    assert record.parts != 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(record)
    with pytest.raises(AttributeError, match=r"this record of type .*Order has no 'price' \(it has: parts, size"):
        record.price  # noqa: B018
    with pytest.raises(
        AttributeError, match=r"Order cannot be changed \('size'\): .*import it and call broker.register_type"
    ):
        record.size = 3
    assert not hasattr(record, "__array__")
    assert copy.deepcopy(record) == record == pickle.loads(pickle.dumps(record))


def test_a_record_turns_back_where_the_type_is_known() -> None:
    nothing, types = TypeRegistry(), learnt(Order)
    for value in (order(), Part("a"), Size.SMALL, Place(Part("a")), [Part("a")]):
        assert send(send(value, nothing, nothing), nothing, types) == value


def test_registered_functions() -> None:
    types = TypeRegistry()
    types.register(Money, name="money", to_dict=lambda money: {"cents": money.cents}, from_dict=lambda d: Money(**d))
    assert send({"price": Money(5)}, types, types) == {"price": Money(5)}
    record = send(Money(5), types, TypeRegistry())
    assert repr(record) == "<Record money(cents=5)>"
    assert send(record, TypeRegistry(), types) == Money(5)


def test_functions_that_fail() -> None:
    types = TypeRegistry()
    types.register(Money, name="money", to_dict=lambda money: {"cents": money.cents}, from_dict=lambda d: Money(d["x"]))
    with pytest.raises(CodecError, match=r"value\[0\]: money cannot be made of what arrived: KeyError: 'x'"):
        send([Money(1)], types, types)
    types.register(Money, name="money", to_dict=lambda money: money.nothing, from_dict=dict)
    with pytest.raises(CodecError, match=r"value: to_dict of money raised AttributeError: "):
        send(Money(1), types, types)
    types.register(Money, name="money", to_dict=lambda money: [1], from_dict=dict)  # type: ignore[arg-type,return-value]
    with pytest.raises(CodecError, match="to_dict of money gave list, and it must give a dict"):
        send(Money(1), types, types)
    types.register(Money, name="money", to_dict=lambda money: {1: 2}, from_dict=dict)  # type: ignore[dict-item]
    with pytest.raises(CodecError, match="the fields of a money are named by texts"):
        send(Money(1), types, types)


def test_fields_with_odd_names() -> None:
    types = TypeRegistry()
    fields = {"$type": "tuple", "items": [1], "\ud800": (1,)}
    types.register(Money, name="money", to_dict=lambda money: fields, from_dict=dict)
    assert send(Money(1), types, types) == fields


def test_the_decorator() -> None:
    @register_type
    class Bare(enum.Enum):
        A = 1

    @register_type(name="test.Named")
    @dataclasses.dataclass
    class Named:
        bare: Bare

    assert register_type(Failure, name="test.Failure") is Failure
    assert send([Named(Bare.A)], GLOBAL_TYPES, TypeRegistry(GLOBAL_TYPES)) == [Named(Bare.A)]
    entry = GLOBAL_TYPES.by_name("test.Named")
    assert entry is not None
    assert entry.cls is Named


def test_what_cannot_be_registered() -> None:
    types = TypeRegistry()
    with pytest.raises(TypeError, match=r"Money is no dataclass, Enum, namedtuple or exception: give register_type"):
        types.register(Money)
    with pytest.raises(TypeError, match="to_dict and from_dict are given together or not at all"):
        types.register(Money, to_dict=vars)
    with pytest.raises(TypeError, match="registers a class, not 5"):
        types.register(5)  # type: ignore[arg-type]
    types.register(Part, name="part")
    with pytest.raises(ValueError, match=r"the type name 'part' belongs to .*Part'>: give another name="):
        types.register(Order, name="part")
    types.register(Part, name="other")
    assert types.by_name("part") is None
    types.register(Order, name="part")


def test_a_module_may_be_loaded_again() -> None:
    types = TypeRegistry()
    for _ in range(2):
        cls = dataclasses.make_dataclass("Again", ["x"])
        types.register(cls)
        assert send(cls(1), types, types) == cls(1)


def test_fields_that_do_not_fit() -> None:
    types = TypeRegistry()
    new, old = dataclasses.make_dataclass("New", ["x", "y"]), dataclasses.make_dataclass("Old", ["x"])
    sender = TypeRegistry()
    sender.register(new, name="T")
    types.register(old, name="T")
    with pytest.raises(
        CodecError, match=r"value: T cannot be made of what arrived: TypeError: there is no field y \(it has: x\)"
    ):
        send(new(1, 2), sender, types)
    with pytest.raises(CodecError, match=r"value: T cannot be made of what arrived: TypeError: .*missing .* 'y'"):
        send(old(1), types, sender)
    types.register(Size, name="S")
    sender.register(Part, name="S")
    with pytest.raises(CodecError, match="S arrived as enum, and here it is object"):
        send(Size.SMALL, types, sender)


def test_enums() -> None:
    types = learnt(Right | Size)
    for value in (Right.READ, Right.READ | Right.WRITE, Right(0), Size.SMALL):
        assert send(value, types, types) is value
    Renamed = enum.Enum("Renamed", {"BIG": "s"})  # noqa: N806 - a class
    receiver = TypeRegistry()
    receiver.register(Renamed, name="Size")
    types.register(Size, name="Size")
    with pytest.raises(CodecError, match=r"Renamed has no member 'SMALL' here \(it has: BIG\)"):
        send(Size.SMALL, types, receiver)


def test_an_enum_whose_value_cannot_travel_still_does() -> None:
    odd = enum.Enum("odd", {"LOCK": object()})
    types = TypeRegistry()
    types.register(odd, name="odd")
    assert send(odd.LOCK, types, types) is odd.LOCK
    assert send(odd.LOCK, types, TypeRegistry()).value.startswith("<object object")


def test_a_long_chain_of_dataclasses() -> None:
    node = Node(0)
    for i in range(60):
        node = Node(i, [node])
    assert send(node, TypeRegistry(), learnt(Node)).nodes[0].value == 58
    with pytest.raises(CodecError, match=r"value\.nodes\[0\]\.nodes\[0\]"):
        send(Node(1, [Node(2, [object()])]), TypeRegistry(), TypeRegistry())  # type: ignore[list-item]


def test_a_dataclass_runs_its_own_init() -> None:
    @dataclasses.dataclass
    class Checked:
        amount: int

        def __post_init__(self) -> None:
            if self.amount < 0:
                raise ValueError("below zero")

    types = TypeRegistry()
    types.register(Checked)
    assert send(Checked(1), types, types) == Checked(1)
    forged = Record(broker.codecs.type_name(Checked), {"amount": -1})
    with pytest.raises(CodecError, match="cannot be made of what arrived: ValueError: below zero"):
        send(forged, types, types)


def test_uris_travel() -> None:
    uri = URI("BROKERNAME:example.warehouse@localhost:9090")
    assert send([uri], GLOBAL_TYPES, GLOBAL_TYPES) == [uri]
