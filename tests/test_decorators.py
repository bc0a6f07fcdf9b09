"""`@expose`, `@oneway` and `@behavior` on every kind of member."""

from __future__ import annotations

import abc
import functools
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from unittest import mock

import pytest

from broker.exposure import (
    Behavior,
    behavior,
    behavior_of,
    expose,
    members_of,
)


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


# ---- marks on every kind of member


def test_expose_stands_above_or_below_other_decorators() -> None:
    class Service:
        @expose
        @staticmethod
        def static_above() -> None: ...
        @staticmethod
        @expose
        def static_below() -> None: ...
        @expose
        @classmethod
        def class_above(cls) -> None: ...
        @classmethod
        @expose
        def class_below(cls) -> None: ...
        @expose  # type: ignore[prop-decorator]
        @property
        def property_above(self) -> int:
            return 1

        @property
        @expose
        def property_below(self) -> int:
            return 1

        @expose  # type: ignore[prop-decorator]
        @functools.cached_property
        def cached_above(self) -> int:
            return 1

        @functools.cached_property
        @expose
        def cached_below(self) -> int:
            return 1

        def _set(self, value: int) -> None: ...

        partial = expose(functools.partialmethod(_set, 1))

        @staticmethod
        def unmarked() -> None: ...

    assert members_of(Service).hidden == ("unmarked",)
    assert len(members_of(Service)) == 9


def test_a_partial_of_a_marked_method_is_not_marked_itself() -> None:
    class Service:
        @expose
        def switch(self, on: bool) -> None: ...

        switch_on = functools.partialmethod(switch, True)

    assert names(Service) == ["switch"]


@pytest.mark.parametrize("name", ["_private", "__mangled", "__init__", "__reduce__", "__class_getitem__"])
def test_a_private_name_cannot_be_exposed(name: str) -> None:
    def function(self: object) -> None: ...

    function.__name__ = name
    with pytest.raises(AttributeError, match=f"@expose: '{name}' is private and never remote.*__len__"):
        expose(function)
    with pytest.raises(AttributeError, match="private"):
        expose(property(function))
    with pytest.raises(AttributeError, match="private"):
        expose(staticmethod(function))


def test_a_class_with_a_private_name_can_be_exposed() -> None:
    @expose
    class _Internal:
        def shown(self) -> None: ...

    assert names(_Internal) == ["shown"]


@pytest.mark.parametrize("wrong", [3, None, "take", [1], property()])
def test_expose_refuses_what_is_no_member(wrong: object) -> None:
    with pytest.raises(TypeError, match="make it a property"):
        expose(wrong)


@pytest.mark.parametrize("wrong", [list, list.append])
def test_expose_refuses_what_is_written_in_c(wrong: object) -> None:
    with pytest.raises(TypeError, match="cannot be marked"):
        expose(wrong)


def test_a_special_method_can_be_exposed() -> None:
    class Stock:
        @expose
        def __len__(self) -> int:
            return 3

        def hidden(self) -> None: ...

    assert names(Stock) == ["__len__"]


def test_a_protocol_that_is_marked_asks_for_nothing_more() -> None:
    @expose
    @runtime_checkable
    class Taking(Protocol):
        def take(self, name: str, item: str) -> None: ...

    assert isinstance(Warehouse(), Taking)

    class Shop(Taking):
        def take(self, name: str, item: str) -> None: ...
        def close(self) -> None: ...

    assert names(Shop) == ["take"]


def test_a_mark_and_behavior_survive_a_dataclass_with_slots() -> None:
    @dataclass(slots=True)
    @behavior(instance_mode="single")
    @expose
    class Order:
        item: str

        def shown(self) -> None: ...

    assert names(Order) == ["shown"]
    assert behavior_of(Order).instance_mode == "single"


def test_a_mock_in_a_class_body_is_not_taken_for_a_marked_member() -> None:
    class Service:
        double = mock.MagicMock()

        def real(self) -> None: ...

    assert names(Service) == ["real"]


def test_abstract_members_count() -> None:
    class Interface(abc.ABC):
        @abc.abstractmethod
        def act(self) -> None: ...
        @property
        @abc.abstractmethod
        def state(self) -> int: ...

    assert names(Interface) == ["act", "state"]


# ---- behavior


def test_behavior_has_defaults_and_is_inherited() -> None:
    def creator(cls: type) -> object:
        return cls()

    @behavior(instance_mode="single", instance_creator=creator, max_concurrency=1)
    class Base:
        """Has a behavior."""

    class Sub(Base):
        """Inherits it."""

    @behavior()
    class Other(Base):
        """Has its own."""

    assert behavior_of(Warehouse) == Behavior("session", None, None)
    assert behavior_of(Base) == behavior_of(Sub) == Behavior("single", creator, 1)
    assert behavior_of(Other) == Behavior("session", None, None)
    assert names(Base) == []


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (SyntaxError, "needs its arguments", {"instance_mode": Warehouse}),
        (
            ValueError,
            r"invalid instance mode: sesion \(there are: session, single, percall\)",
            {"instance_mode": "sesion"},
        ),
        (ValueError, "invalid instance mode: None", {"instance_mode": None}),
        (TypeError, "instance_creator must be a callable: .* and not 3", {"instance_creator": 3}),
        (ValueError, "from 1 on, or None, not 0", {"max_concurrency": 0}),
        (ValueError, "from 1 on, or None, not True", {"max_concurrency": True}),
        (ValueError, "from 1 on, or None, not 'x'", {"max_concurrency": "x"}),
    ],
)
def test_behavior_refuses_wrong_arguments(error: type[Exception], text: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=text):
        behavior(**arguments)


def test_behavior_is_for_classes() -> None:
    with pytest.raises(TypeError, match="@behavior is for classes"):
        behavior()(len)  # type: ignore[arg-type]
