"""The classes in the hints of remote members."""

from __future__ import annotations

import enum
import functools
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, NewType, TypedDict, TypeVar

from broker.exposure import (
    expose,
    members_of,
    types_in_hints,
)

# ---- the classes in hints


class Color(enum.Enum):
    RED = 1


class Shade(enum.Enum):
    DARK = 1


@dataclass
class Item:
    name: str
    parts: list[Part]


@dataclass
class Part:
    owner: Item | None


class Position(NamedTuple):
    unit: Unit


class Unit:
    """Is named in a field."""


class Options(TypedDict):
    color: Color


class Ordinary:
    secret: Hidden


class Hidden:
    """Is named in a class that is no record."""


class Bound:
    """Bounds a type variable."""


class Wrapped:
    """Is what a NewType wraps."""


class Reply:
    """Is what a getter returns."""


class Setting:
    """Is what a setter takes."""


Box = TypeVar("Box", bound=Bound)
Ident = NewType("Ident", Wrapped)


class Hinted:
    def containers(self, a: dict[str, list[Item]], b: Position | None) -> typing.Optional[Options]:  # noqa: UP045
        raise NotImplementedError

    def forms(self, a: Annotated[Ordinary, "note"], b: Literal[Shade.DARK], c: Box, d: Ident) -> Box:
        raise NotImplementedError

    def broken(self, a: NotThere, b: Callable[[bytes], bytearray]) -> None: ...  # type: ignore[name-defined] # noqa: F821
    def own(self, other: Hinted) -> None: ...
    @property
    def state(self) -> Reply:
        raise NotImplementedError

    @state.setter
    def state(self, value: Setting) -> None: ...
    def _private(self) -> Path:
        raise NotImplementedError


def test_every_class_in_the_hints_of_remote_members_is_found() -> None:
    assert types_in_hints(members_of(Hinted)) - {str, dict, list, bytes, bytearray} - _OF_CALLABLE == {
        Item, Part, Position, Unit, Options, Color, Ordinary, Shade, Bound, Wrapped, Hinted, Reply, Setting,
    }  # fmt: skip


_OF_CALLABLE = {typing.get_origin(Callable[[int], int])}


def test_hints_of_hidden_members_do_not_count() -> None:
    class Service:
        @expose
        def shown(self) -> Item:
            raise NotImplementedError

        def hidden(self) -> Reply:
            raise NotImplementedError

    found = types_in_hints(members_of(Service))
    assert Item in found
    assert Reply not in found


def test_hints_that_are_no_strings_and_classes_of_a_function_body_are_found() -> None:
    class Local:
        """Belongs to this function."""

    def take(self: object, item: object) -> None: ...

    take.__annotations__ = {"item": Local | None, "return": list["Item"]}
    cls = type("Service", (), {"take": take, "part": functools.partialmethod(take)})
    assert types_in_hints(members_of(cls)) >= {Local, list}


def test_members_without_hints_name_nothing() -> None:
    assert types_in_hints(members_of(list)) == set()
