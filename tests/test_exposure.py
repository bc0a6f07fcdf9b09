"""What of a class is remote: marks and member tables."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import textwrap
from collections import UserDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from broker.exposure import (
    SPECIAL,
    MemberTable,
    expose,
    members_of,
    oneway,
)

WHERE = "'example.warehouse' at localhost:51294"


def names(cls: type, *, require_expose: bool = False) -> list[str]:
    return list(members_of(cls, require_expose=require_expose).members)


class Warehouse:
    """The class of the tutorial, which does not change at all."""

    limit = 100

    def __init__(self) -> None:
        self.contents = ["chair"]

    def list_contents(self) -> list[str]:
        """What is in stock."""
        return self.contents

    def take(self, name: str, item: str) -> None:
        self.contents.remove(item)

    def store(self, name: str, item: str = "couch", *, note: str | None = None) -> None:
        self.contents.append(item)

    def _count(self) -> int:
        return len(self.contents)

    def __secret(self) -> None:
        """Is private to the class."""

    @property
    def size(self) -> int:
        """How many."""
        return len(self.contents)


class Marked:
    @expose
    def shown(self) -> str:
        return "shown"

    def unmarked(self) -> str:
        return "unmarked"


# ---- which members are remote


def test_without_a_mark_all_public_methods_and_properties_are_remote() -> None:
    table = members_of(Warehouse)
    assert list(table.members) == ["list_contents", "size", "store", "take"]
    assert table.hidden == ()
    assert len(table) == 4
    assert "take" in table
    assert [member.kind for member in table] == ["method", "property", "method", "method"]


def test_once_a_member_is_marked_only_marked_ones_are_remote_and_the_others_are_named_as_hidden() -> None:
    table = members_of(Marked)
    assert list(table.members) == ["shown"]
    assert table.hidden == ("unmarked",)


def test_require_expose_turns_the_implicit_rule_off() -> None:
    table = members_of(Warehouse, require_expose=True)
    assert len(table) == 0
    assert table.hidden == ("list_contents", "size", "store", "take")
    assert names(Marked, require_expose=True) == ["shown"]


def test_a_class_of_private_members_has_none() -> None:
    class Private:
        def _hidden(self) -> None:
            """Is private."""

    assert len(members_of(Private)) == 0


def test_a_mark_is_inherited() -> None:
    class Sub(Marked):
        def another(self) -> None:
            """Is not marked."""

    assert names(Sub) == ["shown"]
    assert members_of(Sub).hidden == ("another", "unmarked")


def test_an_override_of_a_marked_member_stays_marked() -> None:
    class Sub(Marked):
        def shown(self) -> str:
            return "overridden"

    assert members_of(Sub).method("shown", WHERE).bind(Sub())() == "overridden"


def test_a_mark_in_a_subclass_hides_what_its_unmarked_base_has() -> None:
    class Sub(Warehouse):
        @expose
        def count(self) -> int:
            return 1

    assert names(Sub) == ["count"]
    assert names(Warehouse) == ["list_contents", "size", "store", "take"]


def test_a_mark_on_a_class_marks_its_own_members_only() -> None:
    @expose
    class Sub(Warehouse):
        def count(self) -> int:
            return 1

        def _private(self) -> None:
            """Is private."""

    assert names(Sub) == ["count"]
    assert members_of(Sub).hidden == ("list_contents", "size", "store", "take")


def test_a_mark_on_a_class_does_not_reach_into_its_subclasses() -> None:
    @expose
    class Base:
        def shown(self) -> None:
            """Is marked."""

    class Sub(Base):
        def another(self) -> None:
            """Is not."""

    assert names(Sub) == ["shown"]


def test_a_mark_on_a_class_without_members_of_its_own_exposes_nothing_by_accident() -> None:
    @expose
    class Sub(Warehouse):
        """Marks nothing."""

    assert names(Sub) == []


def test_a_mark_on_a_class_does_not_leak_through_a_function_that_two_classes_share() -> None:
    @expose
    class Sub:
        take = Warehouse.take

    assert names(Sub) == ["take"]
    assert names(Warehouse) == ["list_contents", "size", "store", "take"]


def test_expose_returns_what_it_marks() -> None:
    class Thing:
        def act(self) -> None: ...

    function, static = Thing.act, staticmethod(Thing.act)
    assert expose(Thing) is Thing
    assert expose(function) is function
    assert expose(static) is static


def test_attributes_that_are_no_methods_are_never_remote() -> None:
    class Plain:
        __slots__ = ("slot",)
        constant = 3
        function = len
        method = "".join

        class Nested:
            def member(self) -> None:
                """Belongs to the nested class."""

        def real(self) -> None:
            """Is a method."""

    assert names(Plain) == ["real"]
    assert members_of(Plain).hidden == ()


def test_members_are_looked_up_on_the_class_never_on_the_instance() -> None:
    warehouse = Warehouse()
    warehouse.take = lambda name, item: "of the instance"  # type: ignore[method-assign, assignment]
    member = members_of(Warehouse).method("take", WHERE)
    assert member.bind(warehouse)("Janet", "chair") is None
    assert warehouse.contents == []


def test_a_getattr_of_the_instance_is_not_asked() -> None:
    class Open:
        def real(self) -> str:
            return "real"

        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

    assert members_of(Open).method("real", WHERE).bind(object.__new__(Open))() == "real"


def test_attributes_of_the_metaclass_are_not_remote() -> None:
    class Meta(type):
        def of_the_metaclass(cls) -> None:
            """Is a method of the class object."""

    class Thing(metaclass=Meta):
        def real(self) -> None:
            """Is a method."""

    assert names(Thing) == ["real"]


def test_only_seven_names_with_underscores_can_be_remote() -> None:
    assert {"__len__", "__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__call__"} == SPECIAL

    class Everything(list[int]):
        def __call__(self) -> None: ...
        def __enter__(self) -> None: ...
        def __add__(self, other: Any) -> Any: ...
        def __reduce__(self) -> Any: ...

    special = {name for name in names(Everything) if name.startswith("_")}
    assert special == SPECIAL


def test_members_of_builtin_bases_count_and_those_of_object_do_not() -> None:
    class Stock(dict[str, int]):
        """Adds nothing."""

    assert {"__len__", "__getitem__", "get", "items", "fromkeys"} <= set(names(Stock))
    assert names(object) == []


def test_a_builtin_class_itself_can_be_registered() -> None:
    table = members_of(list)
    numbers = [1]
    table.method("append", WHERE).bind(numbers)(2)
    assert numbers == [1, 2]
    assert table.method("__len__", WHERE).bind(numbers)() == 2


def test_mixin_methods_of_abstract_collections_count() -> None:
    assert {"__contains__", "__iter__", "__len__", "get", "pop"} <= set(names(UserDict))


def test_a_special_method_that_is_set_to_none_is_not_there() -> None:
    class NoLength(list[int]):
        __len__ = None  # type: ignore[assignment]
        append = None  # type: ignore[assignment]

    assert "__len__" not in names(NoLength)
    assert "append" not in names(NoLength)


def test_a_name_that_is_no_identifier_is_never_remote() -> None:
    class Odd:
        def real(self) -> None:
            """Is a method."""

    setattr(Odd, "a.b", lambda self: None)
    setattr(Odd, "", lambda self: None)
    assert names(Odd) == ["real"]


def test_methods_that_dataclass_generates_are_not_remote() -> None:
    @dataclass
    class Order:
        item: str
        count: int = 1

        def total(self) -> int:
            return self.count

    assert names(Order) == ["total"]


def test_the_fields_of_a_named_tuple_are_not_remote() -> None:
    class Point(NamedTuple):
        x: int

        def length(self) -> int:
            return self.x

    assert [name for name in names(Point) if not name.startswith("__")] == ["count", "index", "length"]


def test_members_of_wants_a_class() -> None:
    with pytest.raises(TypeError, match="members are looked up on a class"):
        members_of(Warehouse())  # type: ignore[arg-type]


# ---- properties


class Priced:
    def __init__(self) -> None:
        self._price = 1.0

    @property
    def price(self) -> float:
        return self._price

    @price.setter
    def price(self, value: float) -> None:
        self._price = value

    @price.deleter
    def price(self) -> None:
        del self._price

    @property
    def fixed(self) -> int:
        return 1

    def _only_set(self, value: int) -> None:
        self._price = value

    drop = property(None, _only_set)

    def act(self) -> None: ...


def test_a_property_is_read_and_set_on_the_instance() -> None:
    table, priced = members_of(Priced), Priced()
    table.writable("price", WHERE).set(priced, 5.0)
    assert table.readable("price", WHERE).get(priced) == 5.0
    assert str(table.members["price"].signature) == "() -> 'float'"
    table.writable("drop", WHERE).set(priced, 2)
    assert priced.price == 2
    assert not table.members["drop"].readable
    assert table.members["drop"].signature is None


@pytest.mark.parametrize(
    ("verb", "name", "error", "text"),
    [
        ("writable", "fixed", AttributeError, f"{WHERE}: the property 'fixed' cannot be set: it has no setter"),
        ("readable", "drop", AttributeError, f"{WHERE}: the property 'drop' can only be set: it has no getter"),
        ("readable", "act", AttributeError, f"{WHERE}: 'act' is a method and has no value: call it, as act()"),
        ("writable", "act", AttributeError, f"{WHERE}: 'act' is a method and cannot be set"),
        ("method", "price", TypeError, f"{WHERE}: 'price' is a property and cannot be called: read it"),
        ("readable", "nope", AttributeError, f"{WHERE} has no remote member 'nope'"),
        ("writable", "nope", AttributeError, f"{WHERE} has no remote member 'nope'"),
    ],
)
def test_a_property_that_is_used_wrongly_says_what_it_is(
    verb: str, name: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        getattr(members_of(Priced), verb)(name, WHERE)
    assert str(caught.value).startswith(text)


def test_a_mark_on_any_function_of_a_property_marks_the_property() -> None:
    class Service:
        @property
        def through_getter(self) -> int:
            return 1

        @through_getter.setter
        def through_getter(self, value: int) -> None: ...

        @property
        def through_setter(self) -> int:
            return 1

        @through_setter.setter
        @expose
        def through_setter(self, value: int) -> None: ...

        @property
        def unmarked(self) -> int:
            return 1

    expose(Service.__dict__["through_getter"])
    assert names(Service) == ["through_getter", "through_setter"]
    assert all(member.writable for member in members_of(Service))


def test_an_override_of_a_marked_property_stays_marked() -> None:
    class Base:
        @expose  # type: ignore[prop-decorator]
        @property
        def price(self) -> int:
            return 1

    class Sub(Base):
        @property
        def price(self) -> int:
            return 2

    assert members_of(Sub).readable("price", WHERE).get(Sub()) == 2


# ---- the table


def test_a_table_is_shared_as_long_as_it_is_held_and_keeps_no_class_alive() -> None:
    class Local:
        def act(self) -> None: ...

    table = members_of(Local)
    assert members_of(Local) is table
    assert members_of(Local, require_expose=True) is not table
    import weakref

    gone = weakref.ref(Local)
    del table, Local
    gc.collect()
    assert gone() is None


def test_a_class_that_cannot_be_hashed_has_a_table() -> None:
    class Meta(type):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(cls, other: object) -> bool:
            return True

    class Thing(metaclass=Meta):
        def act(self) -> None: ...

    @expose
    class Other(metaclass=Meta):
        def do(self) -> None: ...

    tables = members_of(Thing), members_of(Other)
    assert [list(table.members) for table in tables] == [["act"], ["do"]]


def test_the_members_of_a_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        members_of(Warehouse).members["contents"] = members_of(Warehouse).members["take"]  # type: ignore[index]


FINGERPRINT = """
    import json, sys
    from broker.exposure import expose, members_of, oneway

    class Service:
        def act(self, default: object = frozenset({"a", "b", "c", "d"}), other: object = object()) -> "str":
            '''Doc.'''
        @property
        def price(self): return 1

    print(json.dumps(members_of(Service).fingerprint))
"""


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    def fingerprint(seed: str) -> Any:
        program = [sys.executable, "-c", textwrap.dedent(FINGERPRINT)]
        root = Path(__file__).parent.parent
        out = subprocess.run(
            program, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=root, check=True, stdout=subprocess.PIPE
        )
        return json.loads(out.stdout)

    assert fingerprint("1") == fingerprint("2")


def test_the_fingerprint_changes_with_the_members() -> None:
    def table(**members: Any) -> MemberTable:
        return members_of(type("Service", (), members))

    def act(self: object, a: int = 1) -> None: ...
    def act_with_other_default(self: object, a: int = 2) -> None: ...
    def act_with_other_hint(self: object, a: str = 1) -> None: ...  # type: ignore[assignment]
    def act_with_doc(self: object, a: int = 1) -> None:
        """Doc."""

    tables = [
        table(act=act),
        table(other=act),
        table(act=act, other=act),
        table(act=act_with_other_default),
        table(act=act_with_other_hint),
        table(act=act_with_doc),
        table(act=oneway(staticmethod(act))),
        table(act=property(act)),
        table(act=property(act, act)),
    ]
    assert len({one.fingerprint for one in tables}) == len(tables)
    assert table(act=act).fingerprint == tables[0].fingerprint


def test_the_table_names_its_members() -> None:
    assert repr(members_of(Marked)) == "<MemberTable of Marked: shown>"
