"""Signatures as plain data and back."""

from __future__ import annotations

import collections.abc
import datetime
import decimal
import enum
import inspect
import json
import pathlib
import types
import typing
import uuid
import warnings
from typing import Any, Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.hints import FieldNumber, classes_in
from broker.signatures import Default, Hint, describe_signature, rebuild_signature, signature_text

T = TypeVar("T")


class Warehouse:
    """Is known to the other side, or is not."""


class Box(Generic[T]):
    """A generic class of the user."""


class Asking:
    """Would run code when it is subscripted."""

    def __class_getitem__(cls, item: object) -> Any:
        raise AssertionError("user code ran")


class Color(enum.Enum):
    RED = 1


KNOWN: dict[str, type] = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in (Warehouse, Box, Asking)}


def nobody(name: str) -> None:
    """Knows no class."""


def there_and_back(signature: inspect.Signature, known: Any = KNOWN.get) -> inspect.Signature:
    return rebuild_signature(json.loads(json.dumps(describe_signature(signature))), known)


def with_hint(hint: Any) -> inspect.Signature:
    return inspect.Signature(return_annotation=hint)


# ---- there and back


def test_every_kind_of_parameter_comes_back() -> None:
    def function(a, b=1, /, c=None, *args, d, e="x", **kwargs): ...  # type: ignore[no-untyped-def]

    signature = inspect.signature(function)
    assert there_and_back(signature) == signature
    assert str(there_and_back(signature)) == "(a, b=1, /, c=None, *args, d, e='x', **kwargs)"


def test_hints_that_are_strings_stay_strings() -> None:
    def function(a: int, b: list[NotThere] | None = None) -> Warehouse:  # type: ignore[name-defined]  # noqa: F821
        raise NotImplementedError

    signature = inspect.signature(function)
    assert there_and_back(signature, nobody) == signature


@pytest.mark.parametrize(
    "hint",
    [
        int, bytes, None, types.NoneType, ValueError, types.FunctionType,
        list[int], dict[str, list[tuple[int, ...]]], tuple[()], type[int], frozenset[bytes], list[None],
        int | None, int | str | list[bytes], list[int | None],
        typing.Any, typing.Self, typing.NoReturn, typing.List, typing.List[int], typing.Dict[str, typing.Any],  # noqa: UP006
        typing.Optional[int], typing.Optional[typing.List[int]], typing.Union[int, str, None],  # noqa: UP006, UP007, UP045
        typing.Tuple[int, ...], typing.Type[Warehouse], typing.Callable[[int, str], None], typing.Callable[..., int],  # noqa: UP006
        typing.Literal["a", "it's \"x\"\n", 1, -2, True, None, b"\x00'"], typing.Annotated[int, "note", 3],
        typing.Iterator[int], typing.AsyncIterator[bytes],
        collections.abc.Iterator[int], collections.abc.AsyncGenerator[int, None],
        collections.abc.Callable[[int], str], collections.abc.Callable[..., str], collections.abc.Mapping[str, int],
        collections.deque[int], collections.OrderedDict[str, int],
        datetime.datetime, datetime.timedelta | None, decimal.Decimal, uuid.UUID, pathlib.Path, pathlib.PurePosixPath,
        Warehouse, list[Warehouse], Warehouse | None, dict[str, Warehouse], Box[int], Box[Box[Warehouse]], Box,
        list["Warehouse"], typing.List["Warehouse"], 3, ...,  # noqa: UP006
    ],
    ids=repr,
)  # fmt: skip
def test_a_hint_comes_back_as_the_same_object(hint: Any) -> None:
    signature = with_hint(hint)
    rebuilt = there_and_back(signature)
    assert rebuilt == signature
    assert str(rebuilt) == str(signature)
    assert type(rebuilt.return_annotation) is type(hint)


@pytest.mark.parametrize(
    "hint",
    [typing.Literal[Color.RED], T, {"a": 1}, "x".join, lambda: None],
    ids=lambda hint: repr(hint).partition(" at 0x")[0],
)
def test_a_hint_without_a_form_is_shown_by_its_text(hint: Any) -> None:
    rebuilt = there_and_back(with_hint(hint)).return_annotation
    assert isinstance(rebuilt, Hint)
    assert repr(rebuilt) in (repr(hint), repr(hint).replace("typing.", ""), f"typing.Literal[{Color.RED!r}]")


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (Warehouse, "test_signatures.Warehouse"),
        (list[Warehouse], "list[test_signatures.Warehouse]"),
        (Warehouse | None, "test_signatures.Warehouse | None"),
        (Box[int], "test_signatures.Box[int]"),
        (typing.Optional[Warehouse], "Optional[test_signatures.Warehouse]"),  # noqa: UP045
        (dict[str, Warehouse | int], "dict[str, test_signatures.Warehouse | int]"),
    ],
    ids=repr,
)
def test_an_unknown_class_is_shown_by_its_name(hint: Any, text: str) -> None:
    rebuilt = there_and_back(with_hint(hint), nobody)
    assert str(rebuilt).replace("tests.", "") == f"() -> {text}"


def test_what_was_rebuilt_can_be_described_again() -> None:
    once = there_and_back(with_hint(Warehouse | None), nobody)
    assert there_and_back(once).return_annotation == Warehouse | None


def test_a_class_can_go_by_another_name() -> None:
    described = describe_signature(with_hint(list[Warehouse]), type_name=lambda cls: f"shop.{cls.__name__}")
    assert described[1] == ["hint", "shop.list[shop.Warehouse]"]


def test_a_class_getitem_of_user_code_is_not_run() -> None:
    data = [[], ["hint", f"{Asking.__module__}.Asking[int]"], {}, {}]
    assert isinstance(rebuild_signature(data, KNOWN.get).return_annotation, Hint)


# ---- defaults


def test_defaults_are_kept_as_they_are() -> None:
    value = {"a": [1, 2]}

    def function(a=value): ...  # type: ignore[no-untyped-def]

    assert describe_signature(inspect.signature(function))[2]["a"] is value


def test_a_default_that_does_not_cross_is_shown_by_its_repr() -> None:
    def function(a=1, b=Warehouse): ...  # type: ignore[no-untyped-def]

    described = describe_signature(inspect.signature(function), encodable=lambda value: isinstance(value, int))
    rebuilt = rebuild_signature(json.loads(json.dumps(described)), nobody)
    assert str(rebuilt) == f"(a=1, b={Warehouse!r})"
    assert rebuilt.parameters["b"].default == Default(repr(Warehouse))
    assert describe_signature(rebuilt) == described


def test_a_repr_that_fails_or_is_endless_does_not_spoil_the_description() -> None:
    class Grumpy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    def function(a=Grumpy(), b="x" * 5000): ...  # type: ignore[no-untyped-def]  # noqa: B008

    signature = inspect.signature(function)
    shown = describe_signature(signature, encodable=lambda value: False)[3]
    assert shown["a"] == "<Grumpy whose repr raised RuntimeError>"
    assert len(shown["b"]) < 1100
    assert signature_text(signature).startswith("(a=<Grumpy whose repr raised RuntimeError>, b='xxx")


def test_no_signature_is_shown_as_dots() -> None:
    assert signature_text(None) == "(...)"


def test_classes_of_the_main_program_are_shown_without_its_module() -> None:
    cls = type("Colour", (), {"__module__": "__main__"})
    signature = inspect.signature(lambda c: c).replace(return_annotation=list[cls])  # type: ignore[valid-type]
    assert signature_text(signature) == "(c) -> list[Colour]"


# ---- data from strangers


@pytest.mark.parametrize(
    "data",
    [
        None, 3, "abcd", [], [[]], [[], None, {}], [[], None, {}, {}, {}], [{}, None, {}, {}], [[], None, [], []],
        [[], 3, {}, {}], [[], ["hint"], {}, {}], [[], ["eval", "int"], {}, {}], [[], ["hint", 3], {}, {}],
        [[], [["hint"], "int"], {}, {}],
        [["a"], None, {}, {}], [[["a", 1]], None, {}, {}], [[["a", 5, None]], None, {}, {}],
        [[["a", -1, None]], None, {}, {}], [[["a", True, None]], None, {}, {}], [[["a", "1", None]], None, {}, {}],
        [[[3, 1, None]], None, {}, {}], [[["a b", 1, None]], None, {}, {}], [[["class", 1, None]], None, {}, {}],
        [[["a", 1, None], ["a", 1, None]], None, {}, {}], [[["k", 3, None], ["a", 1, None]], None, {}, {}],
        [[["a", 2, None]], None, {"a": 1}, {}], [[["a", 1, None], ["b", 1, None]], None, {"a": 1}, {}],
        [[[f"a{n}", 1, None] for n in range(1001)], None, {}, {}],
        [[], ["hint", "[" * 1000], {}, {}], [[], ["hint", "list[" * 33 + "int" + "]" * 33], {}, {}],
        [[], ["hint", "a" * 5000], {}, {}],
    ],
    ids=lambda data: repr(data)[:40],
)  # fmt: skip
def test_data_of_a_wrong_shape_is_a_value_error(data: Any) -> None:
    with pytest.raises(ValueError, match="this is no described signature"):
        rebuild_signature(data, nobody)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "int(", "int]", "int[", "int[]", "int[str]", "list[int", "|", "int |", "int || str", "int str", "a..b",
        "__import__('os')", "int.__class__", "os.system", "builtins.eval", "lambda: 1", "1 + 1", "f'{x}'", "not int",
        "'\\N{BULLET}'", "'\\d'", "'\\U00FFFFFF'", "'unclosed", "None | None", "1.5", "{}",
        "typing.get_type_hints", "-" * 2000, "a." * 1000 + "a", "a|" * 1000 + "a", "9" * 3000, "...[int]",
        "typing.Annotated[int]", "typing.Generic[int]", "typing.Optional[int, str]", "int | 3", "3[int]",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_hint_that_makes_no_sense_is_only_shown(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rebuilt = rebuild_signature([[], ["hint", text], {}, {}], nobody)
    assert rebuilt.return_annotation == Hint(text)


@pytest.mark.parametrize(
    ("text", "hint"), [("int|" * 1000 + "int", int), (" list [ int ] ", list[int]), ("()", ()), ("[int]", [int])]
)
def test_odd_hints_that_make_sense(text: str, hint: Any) -> None:
    assert rebuild_signature([[], ["hint", text], {}, {}], nobody).return_annotation == hint


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["hint", "string", "text", "list[int]"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=30,
)


@given(_JSON | st.tuples(_JSON, _JSON, _JSON, _JSON).map(list))
def test_hostile_data_raises_value_error_and_nothing_else(data: Any) -> None:
    try:
        rebuilt = rebuild_signature(data, nobody)
    except ValueError:
        return
    assert isinstance(rebuilt, inspect.Signature)


@given(st.text(alphabet="int.list[](),|'\"\\ -1bNoetypgUx", max_size=60))
def test_hostile_hints_raise_nothing(text: str) -> None:
    rebuilt = rebuild_signature([[], ["hint", text], {}, {}], nobody) if text.count("[") <= 32 else None
    assert rebuilt is None or isinstance(rebuilt, inspect.Signature)


def test_a_hint_too_deep_to_be_rebuilt_is_described_for_show_only() -> None:
    hint: Any = int
    for _ in range(40):
        hint = list[hint]
    described = describe_signature(with_hint(hint))
    assert described[1][0] == "text"
    assert str(rebuild_signature(described, nobody)) == f"() -> {hint}"


# ---- the classes that a hint names


@pytest.mark.parametrize(
    ("hint", "classes"),
    [
        (int, {int}),
        (None, set()),
        ("int", set()),
        (dict[str, list[Warehouse]], {dict, str, list, Warehouse}),
        (Box[Warehouse] | None, {Box, Warehouse}),
        (typing.Annotated[Warehouse, int], {Warehouse}),
        (typing.Literal[Color.RED, "x"], {Color}),
        (TypeVar("T", Warehouse, int), {Warehouse, int}),
    ],
    ids=lambda part: None if isinstance(part, set) else repr(part),
)
def test_classes_in_a_hint(hint: Any, classes: set[type]) -> None:
    assert set(classes_in(hint)) == classes


def test_pinned_numbers_are_nothing_to_python() -> None:
    def call(
        a: typing.Annotated[int | None, FieldNumber(2)],
        b: list[typing.Annotated[str, FieldNumber(3)]],
        c: typing.Annotated[int, 7],
    ) -> None: ...

    call.__annotations__ = typing.get_type_hints(call, include_extras=True)
    signature = inspect.signature(call)
    rebuilt = rebuild_signature(describe_signature(signature), lambda name: None)
    assert [parameter.annotation for parameter in rebuilt.parameters.values()] == [
        int | None,
        list[str],
        typing.Annotated[int, 7],
    ]
    assert signature_text(signature).startswith("(a: int | None,")
