"""Members as rpcs: what a request brings, field by field, and what of a class is in its service."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Self

import pytest

import broker
from broker.errors import CodecError
from broker.exposure import members_of
from broker.hints import FieldNumber
from broker.schema import Method, schema_of
from broker.schema.text import proto_text
from tests.schema.strangers import reply, request, schema_of_class

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers


def decoded(method: Method, **written: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return method.decode_request(request(method, written))


def numbers(method: Method) -> dict[str, int]:
    return {field.json_name: field.number for field in method.rpc.request.message.proto.field}


class Calls:
    def places(self, a: int, b: int = 2, /, c: int = 3, *rest: int, d: int = 4, **others: int) -> None: ...

    def anything(self, *args: Any, **kwargs: Any) -> None: ...

    def untyped(self, a, b=None, *rest, **others):  # type: ignore[no-untyped-def]
        ...

    def empties(self, a: list[int], b: list[int] = [], c: list[int] | None = None, d: list[int] = [7]) -> None:  # noqa: B006
        ...

    def nones(self, a: int | None, b: int | None = None, c: int | None = 7) -> None: ...


CALLS = schema_of_class(Calls).methods


@pytest.mark.parametrize(
    ("written", "args", "kwargs"),
    [
        ({"a": 1}, (1,), {}),
        ({"a": 1, "c": 9}, (1,), {"c": 9}),
        ({"a": 1, "b": 5, "c": 9, "d": 0}, (1, 5, 9), {"d": 0}),
        # What lies between has its default, so that the rest gets to its place.
        ({"a": 1, "rest": [7, 8]}, (1, 2, 3, 7, 8), {}),
        ({"a": 1, "others": {"x": 1}}, (1,), {"x": 1}),
        ({"a": 1, "others": {"a": 5}}, (1,), {"a": 5}),  # Python allows that, too: `a` goes by its place alone
    ],
)
def test_arguments_get_to_their_places(written: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert decoded(CALLS["places"], **written) == (args, kwargs)


def test_a_further_argument_cannot_have_the_name_of_a_field() -> None:
    with pytest.raises(CodecError, match="'d' is no name for a further argument: it has a field of its own"):
        decoded(CALLS["places"], a=1, others={"d": 3})


def test_arguments_without_hints_are_json() -> None:
    assert decoded(CALLS["anything"], args=[1, "a", None, [2.5]], kwargs={"x": {"y": 1}}) == (
        (1, "a", None, [2.5]),
        {"x": {"y": 1}},
    )
    assert decoded(CALLS["untyped"], a=None, rest=[1]) == ((None, None, 1), {})


def test_what_is_empty_and_what_does_not_come() -> None:
    empties = CALLS["empties"]
    assert decoded(empties) == (([],), {})
    assert decoded(empties, b=[1], c={}, d={}) == (([], [1], [], []), {})
    assert decoded(empties, d={"items": [1]}) == (([],), {"d": [1]})


def test_none_and_what_does_not_come() -> None:
    nones = CALLS["nones"]
    assert decoded(nones) == ((None,), {})
    assert decoded(nones, a=1, b=2, c={"value": 3}) == ((1, 2, 3), {})
    assert decoded(nones, c={}) == ((None,), {"c": None})


class Streams:
    def quotes(self, symbols: list[str]) -> Iterator[float]:
        yield 1.0

    def listed(self) -> Iterable[int]:
        yield 1

    async def ticks(self) -> AsyncIterator[int]:
        yield 1

    def total(self, unit: str, prices: Iterator[float | None]) -> float:
        return 0.0

    def both(self, words: Iterator[str]) -> Iterator[str]:
        return words

    def two(self, a: Iterator[int], b: Iterator[int]) -> None: ...

    def __iter__(self) -> Iterator[str]:
        return iter(())


def test_streams_go_either_way() -> None:
    schema = schema_of_class(Streams)
    found = {name: (method.client_streaming, method.server_streaming) for name, method in schema.methods.items()}
    assert found == {
        "both": (True, True),
        "iter": (False, True),
        "listed": (False, True),
        "quotes": (False, True),
        "ticks": (False, True),
        "total": (True, False),
    }
    (problem,) = schema.problems
    assert str(problem) == "two: parameter 'b': 'a' streams already, and a call has one stream each way"


def test_the_messages_of_a_stream() -> None:
    total = schema_of_class(Streams).methods["total"]
    items = object()
    first = request(total, {"unit": "EUR", "prices": {"value": 0.5}})
    assert total.streamed == "prices"
    assert total.decode_request(first, items=items) == (("EUR", items), {})
    assert total.decode_item(first) == [0.5]
    assert total.decode_item(request(total, {"prices": {}})) == [None]
    assert total.decode_item(b"") == []
    assert schema_of_class(Streams).methods["both"].decode_request(items=items) == ((items,), {})
    with pytest.raises(CodecError, match="unit: a value is required, and none came"):
        total.decode_request()


class Shapes:
    """Members of every shape."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, key: str) -> int:
        return 1

    @property
    def price(self) -> float:
        """What it costs."""
        return 1.0

    @price.setter
    def price(self, value: int | str) -> None: ...

    @functools.cached_property
    def size(self) -> int:
        return 1

    def get_price(self) -> int:
        return 1

    @staticmethod
    def still(x: int) -> int:
        return x

    @classmethod
    def made(cls, x: int) -> int:
        return x

    @broker.oneway
    def told(self, x: int) -> int:
        return x

    async def later(self) -> int:
        return 1

    def soon(self) -> Awaitable[int]:
        return self.later()

    def nothing(self) -> None: ...

    def itself(self) -> Self:
        return self

    def checked(self, x: OnlyForCheckers) -> None: ...


def test_members_of_every_shape() -> None:
    schema = schema_of_class(Shapes)
    assert {name: (method.member, method.access) for name, method in schema.methods.items()} == {
        "get_price": ("get_price", "call"),
        "get_price_": ("price", "get"),
        "get_size": ("size", "get"),
        "getitem": ("__getitem__", "call"),
        "itself": ("itself", "call"),
        "later": ("later", "call"),
        "len": ("__len__", "call"),
        "made": ("made", "call"),
        "nothing": ("nothing", "call"),
        "set_price": ("price", "set"),
        "soon": ("soon", "call"),
        "still": ("still", "call"),
        "told": ("told", "call"),
    }
    assert [problem.member for problem in schema.problems] == ["checked"]
    assert "cannot be resolved (NameError: name 'OnlyForCheckers' is not defined)" in schema.problems[0].reason


def test_a_property_is_got_and_set() -> None:
    methods = schema_of_class(Shapes).methods
    assert methods["get_price_"].decode_request() == ((), {})
    assert reply(methods["get_price_"], methods["get_price_"].encode_reply(1.5)) == {"result": 1.5}
    assert methods["set_price"].decode_request(request(methods["set_price"], {"value": {"str": "free"}})) == (
        ("free",),
        {},
    )
    assert methods["set_price"].encode_reply(None) == b""


def test_results_of_every_kind_of_method() -> None:
    methods = schema_of_class(Shapes).methods
    for name in ("len", "made", "later", "soon", "still"):
        assert reply(methods[name], methods[name].encode_reply(3)) == {"result": "3"}
    for name in ("nothing", "told"):
        assert methods[name].encode_reply(None) == b""


# ---- numbers


class Pinned:
    def moved(self, c: Annotated[int, FieldNumber(3)], a: Annotated[int, FieldNumber(1)], d: int) -> None: ...

    def removed(self, a: int, c: Annotated[int, FieldNumber(3)] = 0, d: int = 0) -> None: ...

    def twice(self, a: Annotated[int, FieldNumber(2)], b: Annotated[int, FieldNumber(2)]) -> None: ...

    def reserved(self, a: Annotated[int, FieldNumber(19_500)]) -> None: ...

    def nothing(self, a: Annotated[int, FieldNumber(0)]) -> None: ...


def test_numbers_follow_the_parameters_and_can_be_pinned() -> None:
    schema = schema_of_class(Pinned)
    assert numbers(CALLS["places"]) == {"a": 1, "b": 2, "c": 3, "rest": 4, "d": 5, "others": 6}
    assert numbers(schema.methods["moved"]) == {"c": 3, "a": 1, "d": 4}
    assert numbers(schema.methods["removed"]) == {"a": 1, "c": 3, "d": 4}
    reasons = {problem.member: problem.reason for problem in schema.problems}
    assert "the number 2 is that of another field already" in reasons["twice"]
    assert "the number 19500 cannot be" in reasons["reserved"]
    assert "the number 0 cannot be" in reasons["nothing"]


def test_a_pinned_number_behind_an_open_one_that_has_it() -> None:
    class Late:
        def call(self, a: int, b: Annotated[int, FieldNumber(1)]) -> None: ...

    assert numbers(schema_of_class(Late).methods["call"]) == {"a": 2, "b": 1}


# ---- speed


def test_fifty_methods_take_less_than_twenty_milliseconds() -> None:
    def order(
        self: Any, name: str, item: str = "couch", count: int = 1, tags: list[str] | None = None
    ) -> dict[str, int]:
        """Orders."""
        return {}

    def taken() -> float:
        cls = type("Big", (), {f"order_{n}": order for n in range(50)})
        table = members_of(cls)
        begin = time.thread_time()
        schema = schema_of(table)
        schema.methods["order_0"].decode_request(b"\n\x01a")
        return time.thread_time() - begin

    assert min(taken() for _ in range(10)) < 0.020


def test_ten_thousand_objects_of_a_class_have_one_schema() -> None:
    table = members_of(Calls)
    schema = schema_of(table)
    services = [schema_of(table).named(f"obj_{n}") for n in range(10_000)]
    assert all(service.schema is schema for service in services)
    assert "service obj_77 " in proto_text(services[77].file)


def test_a_docstring_that_is_no_text_harms_nobody() -> None:
    class Odd:
        def call(self) -> None: ...

    Odd.__doc__ = "lone \ud800 surrogate"
    assert "// lone ? surrogate" in proto_text(schema_of_class(Odd).named("odd").file)


def test_a_caller_sees_what_is_his() -> None:
    service = schema_of_class(Calls).named("calls", members=["nones"])
    assert list(service.methods) == ["nones"]
    text = proto_text(service.file)
    assert "nones_request" in text
    assert "places" not in text
