"""The kinds of members, the refusals of those that are missing, and the check of arguments."""

from __future__ import annotations

import functools
import inspect
import operator
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from broker.exposure import (
    bind_arguments,
    expose,
    members_of,
    missing_member,
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


# ---- the kinds of members


class Kinds:
    @staticmethod
    def static(a: int) -> int:
        return a

    @classmethod
    def of_class(cls, a: int) -> str:
        return f"{cls.__name__} {a}"

    @functools.cached_property
    def cached(self) -> list[int]:
        """Made once."""
        return []

    def switch(self, on: bool, /) -> bool:
        return on

    switch_on = functools.partialmethod(switch, True)

    @functools.lru_cache  # noqa: B019
    def remembered(self, a: int) -> int:
        return a

    @functools.singledispatchmethod
    def dispatched(self, value: object) -> str:
        """By type."""
        return "object"

    @dispatched.register
    def _(self, value: int) -> str:
        return "int"


def test_every_kind_of_method_is_bound_as_python_binds_it() -> None:
    kinds, table = Kinds(), members_of(Kinds)
    assert names(Kinds) == ["cached", "dispatched", "of_class", "remembered", "static", "switch", "switch_on"]
    assert table.method("static", WHERE).bind(kinds)(3) == 3
    assert table.method("of_class", WHERE).bind(kinds)(3) == "Kinds 3"
    assert table.method("switch_on", WHERE).bind(kinds)() is True
    assert table.method("remembered", WHERE).bind(kinds)(4) == 4
    assert table.method("dispatched", WHERE).bind(kinds)(4) == "int"
    cached = table.readable("cached", WHERE)
    assert cached.get(kinds) is cached.get(kinds)
    assert not cached.writable


@pytest.mark.parametrize("name", ["static", "of_class", "switch", "switch_on", "remembered"])
def test_the_signature_is_the_one_of_the_bound_method(name: str) -> None:
    assert members_of(Kinds).members[name].signature == inspect.signature(getattr(Kinds(), name))


@pytest.mark.parametrize("name", ["list_contents", "store", "take"])
def test_the_signature_and_doc_are_those_of_the_class(name: str) -> None:
    member = members_of(Warehouse).members[name]
    assert member.signature == inspect.signature(getattr(Warehouse(), name))
    assert member.doc == getattr(Warehouse, name).__doc__


def test_docs_are_those_of_the_function_and_never_of_a_descriptor_class() -> None:
    members = members_of(Kinds).members
    assert members["switch_on"].doc is None
    assert members["dispatched"].doc == "By type."
    assert members["cached"].doc == "Made once."
    assert members_of(Warehouse).members["size"].doc == "How many."


def test_an_override_without_a_doc_has_that_of_its_base() -> None:
    class Sub(Warehouse):
        def list_contents(self) -> list[str]:
            return []

    assert members_of(Sub).members["list_contents"].doc == "What is in stock."


def test_a_decorated_method_shows_the_signature_it_wraps_and_takes_what_the_wrapper_takes() -> None:
    def with_session(function: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(function)
        def wrapper(self: object, item: str) -> str:
            return function(self, item, session="given")

        return wrapper

    class Service:
        @with_session
        def buy(self, item: str, session: str) -> str:
            """Buys."""
            return item + session

    member = members_of(Service).method("buy", WHERE)
    assert str(member) == "buy(item: str, session: str) -> str"
    assert member.doc == "Buys."
    bind_arguments(member, ("chair",), {}, WHERE)
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        bind_arguments(member, ("chair", "mine"), {}, WHERE)


def test_a_mark_survives_functools_wraps() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    class Service:
        @logged
        @expose
        def shown(self) -> None:
            """Is marked."""

        def hidden(self) -> None:
            """Is not."""

    assert names(Service) == ["shown"]


def test_a_builtin_method_without_a_signature_is_shown_as_dots_and_takes_anything() -> None:
    class Stock(dict[str, int]):
        """Adds nothing."""

    member = members_of(Stock).members["pop"]
    update = members_of(Stock).members["update"]
    assert update.signature is None
    assert str(update) == "update(...)"
    bind_arguments(update, (1, 2, 3), {"a": 1}, WHERE)
    assert str(member) == "pop(...)"


def test_a_method_that_forgot_self_has_no_signature() -> None:
    class Forgetful:
        def method() -> None:  # type: ignore[misc]
            """Has no self."""

    assert members_of(Forgetful).members["method"].signature is None


def test_static_and_class_methods_of_partial_methods() -> None:
    class Service:
        @staticmethod
        def raw(a: int, b: int) -> int:
            return a - b

        less_one = functools.partialmethod(raw, 1)

    member = members_of(Service).method("less_one", WHERE)
    assert member.bind(Service())(3) == -2
    assert str(member.signature) == "(b: 'int') -> 'int'"


def test_oneway_async_and_streams_are_seen() -> None:
    class Service:
        @oneway
        def fire(self) -> None: ...
        async def fetch(self) -> int:
            return 1

        def counted(self):  # type: ignore[no-untyped-def]
            yield 1

        async def ticked(self):  # type: ignore[no-untyped-def]
            yield 1

        def promised(self) -> Iterator[int]:
            return iter([1])

        def promised_in_text(self) -> typing.Generator[int, None, None]:
            return (n for n in [1])

        async def promised_later(self) -> AsyncIterator[int]:
            return self.ticked()  # type: ignore[no-any-return, no-untyped-call]

        def listed(self) -> list[int]:
            return []

    table = members_of(Service)
    assert [member.name for member in table if member.oneway] == ["fire"]
    assert [member.name for member in table if member.is_async] == ["fetch", "promised_later", "ticked"]
    assert [member.name for member in table if member.stream] == [
        "counted",
        "promised",
        "promised_in_text",
        "promised_later",
        "ticked",
    ]


def test_a_hint_that_is_no_string_promises_a_stream_too() -> None:
    def real_hints(self: object) -> None: ...

    for hint, streams in [
        (Iterator[int], True),
        (typing.Iterator[int], True),
        (typing.Iterator, True),
        (AsyncIterator[int], True),
        (typing.Iterable[int], False),
        (list[int], False),
        (None, False),
    ]:
        real_hints.__annotations__["return"] = hint
        cls = type("Service", (), {"real_hints": real_hints})
        assert members_of(cls).members["real_hints"].stream is streams, hint


def test_oneway_stands_above_or_below_other_decorators_and_is_inherited() -> None:
    class Base:
        @oneway
        @staticmethod
        def above() -> None: ...
        @classmethod
        @oneway
        def below(cls) -> None: ...
        @expose
        @oneway
        def both(self) -> None: ...

    class Sub(Base):
        def both(self) -> None: ...

    class All(Base):
        exposed_too = expose(lambda self: None)

    expose(Base)
    assert [member.name for member in members_of(Base) if member.oneway] == ["above", "below", "both"]
    assert members_of(Sub).members["both"].oneway
    assert not members_of(All).members["exposed_too"].oneway


@pytest.mark.parametrize("wrong", [Warehouse, property(lambda self: 1), 3, "take"])
def test_oneway_is_for_methods(wrong: object) -> None:
    with pytest.raises(TypeError, match="@oneway"):
        oneway(wrong)


# ---- refusals


def test_a_missing_member_is_told_as_the_contract_says() -> None:
    with pytest.raises(AttributeError) as caught:
        members_of(Warehouse).method("contents", WHERE)
    assert str(caught.value) == (
        "'example.warehouse' at localhost:51294 has no remote member 'contents' "
        "(it has: list_contents, size, store, take). "
        "Attributes of an instance are never remote: make it a property."
    )


def test_a_hidden_member_and_a_missing_one_answer_alike() -> None:
    def refusal(name: str) -> str:
        with pytest.raises(AttributeError) as caught:
            members_of(Marked).method(name, WHERE)
        return str(caught.value).replace(name, "NAME")

    assert refusal("unmarked") == refusal("missing") == refusal("_private") == refusal("__init__")


class Proxy:
    """Bare, so that Python refuses everything."""


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("__len__", len),
        ("__getitem__", lambda bare: bare[0]),
        ("__contains__", lambda bare: 0 in bare),
        ("__iter__", iter),
        ("__call__", lambda bare: bare()),
        ("__setitem__", lambda bare: operator.setitem(bare, 0, 1)),
        ("__delitem__", lambda bare: operator.delitem(bare, 0)),
    ],
)
def test_a_missing_special_method_is_a_type_error_in_pythons_own_words(
    name: str, operation: Callable[[Any], object]
) -> None:
    with pytest.raises(TypeError) as pythons:
        operation(Proxy())
    error = missing_member(name, WHERE, ["take", "store"])
    assert type(error) is TypeError
    assert str(error) == f"{pythons.value}: {WHERE} has no remote member {name!r} (it has: store, take)."


def test_a_long_list_of_members_is_cut() -> None:
    text = str(missing_member("x", WHERE, [f"m{number:03}" for number in range(100)]))
    assert "m039, … 100 in all)" in text
    assert "m040" not in text


def test_an_object_without_members_says_so() -> None:
    assert "(it has: nothing)" in str(missing_member("x", WHERE, []))


# ---- arguments


class Calls:
    def plain(self, name: str, item: str) -> None: ...
    def default(self, a: int, b: int = 1, /, c: int = 2) -> None: ...
    def only(self, a: int, b: int = 1, *, c: int, d: int, e: int) -> None: ...
    def nothing(self) -> None: ...
    def anything(self, *args: int, **kwargs: int) -> None: ...
    def rest(self, a: int, *args: int, k: int = 1) -> None: ...
    def words(self, a: int, /, **kwargs: int) -> None: ...
    @staticmethod
    def static(a: int) -> None: ...
    @classmethod
    def of_class(cls, a: int) -> None: ...


_ARGUMENTS: list[tuple[tuple[int, ...], dict[str, int]]] = [
    ((), {}),
    ((1,), {}),
    ((1, 2), {}),
    ((1, 2, 3), {}),
    ((1, 2, 3, 4), {}),
    ((), {"name": 1}),
    ((), {"name": 1, "item": 2}),
    ((1,), {"item": 2}),
    ((1,), {"name": 2}),
    ((1,), {"other": 2}),
    ((1,), {"a": 2}),
    ((1,), {"b": 2}),
    ((), {"a": 1, "b": 2}),
    ((1,), {"c": 2}),
    ((1, 2, 3), {"c": 2}),
    ((1, 2, 3), {"c": 2, "d": 2, "e": 2}),
    ((1,), {"c": 1, "d": 1}),
    ((1,), {"c": 1, "d": 1, "e": 1}),
    ((1, 2, 3), {"k": 1}),
    ((), {"k": 1}),
]


@pytest.mark.parametrize("arguments", _ARGUMENTS, ids=repr)
@pytest.mark.parametrize("name", names(Calls))
def test_arguments_are_refused_exactly_when_and_as_python_refuses_them(
    name: str, arguments: tuple[tuple[int, ...], dict[str, int]]
) -> None:
    args, kwargs = arguments
    member = members_of(Calls).members[name]
    assert member.signature is not None
    # Python counts `self`, which no caller passes: it is asked about a function of the same signature without it.
    function = getattr(Calls(), name)
    without_self: Any = staticmethod(function).__func__ if name == "static" else _free_function(member.signature, name)
    pythons: str | None = None
    try:
        without_self(*args, **kwargs)
    except TypeError as error:
        pythons = str(error).replace("Calls.", "")
    if pythons is None:
        bind_arguments(member, args, kwargs, WHERE)
    else:
        with pytest.raises(TypeError) as caught:
            bind_arguments(member, args, kwargs, WHERE)
        assert str(caught.value) == f"{pythons} ({WHERE}: {member})"


def _free_function(signature: inspect.Signature, name: str) -> Any:
    parameters = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    plain = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    namespace: dict[str, Any] = {}
    exec(f"def {name}{plain}: pass", namespace)  # noqa: S102
    return namespace[name]


def test_wrong_arguments_list_what_the_method_takes() -> None:
    with pytest.raises(TypeError) as caught:
        bind_arguments(members_of(Warehouse).method("take", WHERE), ("Janet",), {}, WHERE)
    assert str(caught.value) == (
        "take() missing 1 required positional argument: 'item' "
        "('example.warehouse' at localhost:51294: take(name: str, item: str) -> None)"
    )


def test_checking_arguments_runs_no_user_code() -> None:
    class Hostile:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        __hash__ = None  # type: ignore[assignment]

        def act(self, a: object, b: object = None) -> None:
            raise AssertionError("called")

    member = members_of(Hostile).method("act", WHERE)
    bind_arguments(member, (Hostile(),), {"b": Hostile()}, WHERE)
    with pytest.raises(TypeError, match="multiple values for argument 'a'"):
        bind_arguments(member, (Hostile(),), {"a": Hostile()}, WHERE)


def test_a_default_whose_repr_fails_does_not_spoil_the_refusal() -> None:
    class Grumpy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    class Service:
        def act(self, a: int, b: object = Grumpy()) -> None: ...

    member = members_of(Service).method("act", WHERE)
    with pytest.raises(TypeError, match=r"b=<Grumpy whose repr raised RuntimeError>"):
        bind_arguments(member, (), {}, WHERE)
