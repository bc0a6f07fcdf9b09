"""`register_replacement`: values that travel as others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import broker
from broker.codecs import PlainEdge, codec, register_replacement
from broker.errors import CodecError


class Celsius:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees


class Feeling(Celsius):
    pass


@dataclass
class Point:
    x: int


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    for cls in (Celsius, Feeling, Point, object):
        register_replacement(cls, None)


def through(name: str, value: object) -> object:
    return codec(name).decode(codec(name).encode(value, PlainEdge()), PlainEdge())


@pytest.mark.parametrize("name", ["json", "pickle"])
def test_instances_and_those_of_derived_classes_travel_as_something_else(name: str) -> None:
    register_replacement(Celsius, lambda value, codec: {"degrees": value.degrees})
    assert through(name, [Celsius(20.5), (Feeling(3.0),)]) == [{"degrees": 20.5}, ({"degrees": 3.0},)]


def test_the_nearest_class_counts_and_object_is_that_of_all() -> None:
    register_replacement(object, lambda value, codec: "any")
    register_replacement(Feeling, lambda value, codec: codec)
    assert through("json", [Celsius(1), Feeling(1)]) == ["any", "json"]


def test_one_that_returns_the_value_changes_nothing() -> None:
    broker.register_type(Point)
    register_replacement(object, lambda value, codec: value)
    assert through("json", Point(3)) == Point(3)
    with pytest.raises(CodecError, match=r"value\[0\]: an instance of .*Celsius cannot travel"):
        through("json", [Celsius(1)])


def test_values_that_are_kept_in_any_case_are_not_asked_about() -> None:
    register_replacement(object, lambda value, codec: "replaced")
    kept: list[object] = [1, "text", None, (1, 2), {3}, {"k": b"bytes"}]
    assert through("json", kept) == kept


def test_what_the_function_raises_says_why_the_value_cannot_travel() -> None:
    def failing(value: Celsius, codec: str) -> object:
        raise LookupError("no scale")

    register_replacement(Celsius, failing)
    with pytest.raises(CodecError, match=r"value\['t'\]: the replacement of .*Celsius raised LookupError: no scale"):
        through("json", {"t": Celsius(1)})


def test_a_replacement_that_never_ends_is_too_deep() -> None:
    register_replacement(Celsius, lambda value, codec: Celsius(value.degrees + 1))
    with pytest.raises(CodecError, match="nested more than 128 deep"):
        through("json", Celsius(1))


def test_only_classes_have_replacements() -> None:
    with pytest.raises(TypeError, match="takes a class, not 'Celsius'"):
        register_replacement("Celsius", lambda value, codec: value)  # type: ignore[arg-type]
