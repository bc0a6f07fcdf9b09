"""Random signatures and random values: JSON, typed call, Python, typed reply, and nothing has changed."""

from __future__ import annotations

import datetime
import enum
import operator
import uuid
from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from inspect import Parameter, Signature
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.codecs import PlainEdge
from broker.exposure import members_of
from broker.hints import FieldNumber
from broker.schema import Method, schema_of

# ---- hints, each with the values that it says


class Colour(enum.Enum):
    RED = "r"
    GREEN = "g"
    ROUGE = "r"  # noqa: PIE796 - an alias


class Level(enum.IntEnum):
    LOW = -1
    NONE = 0
    HIGH = 7


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: float
    y: float = 0.5
    label: str | None = "origin"
    marks: list[int] = field(default_factory=lambda: [1])
    colours: frozenset[Colour] = frozenset()


@dataclass(frozen=True)
class Tree:
    name: str
    branches: tuple[Tree, ...] = ()
    best: Tree | None = None


class Pair(NamedTuple):
    first: int
    second: str | bytes = b""


class Options(TypedDict):
    depth: int
    names: NotRequired[list[str]]
    until: NotRequired[datetime.date | None]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
whole = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False)
dates = st.dates()
trees = st.recursive(
    st.builds(Tree, texts),
    lambda inner: st.builds(Tree, texts, st.lists(inner, max_size=2).map(tuple), st.none() | inner),
    max_leaves=4,
)
points = st.builds(
    Point, floats, floats, st.none() | texts, st.lists(whole, max_size=2), st.frozensets(st.sampled_from(Colour))
)
options = st.fixed_dictionaries(
    {"depth": whole}, optional={"names": st.lists(texts, max_size=2), "until": st.none() | dates}
)
# Beyond 2^53 a whole number that arrives in JSON may have been rounded: it is refused.
small = floats.filter(lambda number: not number.is_integer() or abs(number) < 2**53)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | small | texts | st.binary(max_size=3) | dates,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2) | st.lists(inner, max_size=2).map(tuple)
    ),
    max_leaves=4,
)
Typed = tuple[Any, st.SearchStrategy[Any]]
HASHABLE: list[Typed] = [
    (bool, st.booleans()),
    (int, whole),
    (float, floats),
    (str, texts),
    (bytes, st.binary(max_size=5)),
    (datetime.datetime, st.datetimes(timezones=st.just(datetime.UTC))),
    (datetime.timedelta, st.timedeltas(datetime.timedelta(days=-3_652_500), datetime.timedelta(days=3_652_500))),
    (datetime.date, dates),
    (datetime.time, st.times()),
    (Decimal, st.decimals(allow_nan=False)),
    (Fraction, st.fractions()),
    (uuid.UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Rights, st.sampled_from([Rights(n) for n in range(4)])),
    (Literal["a", 3, True, Colour.RED], st.sampled_from(["a", 3, True, Colour.RED])),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (Tree, trees),
    (Pair, st.builds(Pair, whole, texts | st.binary(max_size=3))),
]
OTHERS: list[Typed] = [
    (Any, values),
    (bytearray, st.binary(max_size=3).map(bytearray)),
    (Point, points),
    (Options, options),
]
hashable = st.sampled_from(HASHABLE)


def of(generic: Any, *hints: Any) -> Any:
    """The generic of those hints, which are known only now."""
    return generic[hints[0] if len(hints) == 1 else hints]


def containers(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    concrete = inner.filter(lambda t: t[0] is not Any)
    return st.one_of(
        inner.map(lambda t: (of(list, t[0]), st.lists(t[1], max_size=3))),
        inner.map(lambda t: (of(deque, t[0]), st.lists(t[1], max_size=3).map(deque))),
        inner.map(lambda t: (of(tuple, t[0], ...), st.lists(t[1], max_size=3).map(tuple))),
        hashable.map(lambda t: (of(set, t[0]), st.sets(t[1], max_size=3))),
        hashable.map(lambda t: (of(frozenset, t[0]), st.frozensets(t[1], max_size=3))),
        st.tuples(hashable, inner).map(
            lambda t: (of(dict, t[0][0], t[1][0]), st.dictionaries(t[0][1], t[1][1], max_size=3))
        ),
        st.lists(inner, max_size=3).map(
            lambda ts: (tuple.__class_getitem__(tuple(t[0] for t in ts)), st.tuples(*(t[1] for t in ts)))
        ),
        concrete.map(lambda t: (t[0] | None, st.none() | t[1])),
        st.tuples(hashable, concrete).map(lambda t: (t[0][0] | t[1][0], t[0][1] | t[1][1])),
    )


typed = st.recursive(hashable | st.sampled_from(OTHERS), containers, max_leaves=4)

# ---- calls


def method_of(signature: Signature) -> Method:
    def call(self: Any, *args: Any, **kwargs: Any) -> None: ...

    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[Parameter("self", Parameter.POSITIONAL_ONLY), *signature.parameters.values()]
    )
    schema = schema_of(members_of(type("Served", (), {"call": call})))
    assert not schema.problems
    return schema.methods["call"]


def json_of(hint: Any, value: Any) -> Any:
    """The value as JSON, the way that a stranger gets it in a reply."""
    method = method_of(Signature(return_annotation=hint))
    reply = method.reply_class.FromString(method.encode_reply(value))
    return json_format.MessageToDict(reply).get("result", _ABSENT)


def request_of(method: Method, given: dict[str, Any]) -> bytes:
    return bytes(json_format.ParseDict(given, method.request_class()).SerializeToString())


_ABSENT = object()
_EMPTY = Parameter.empty


def same(one: Any, other: Any) -> bool:
    return one == other and (type(one) is type(other) or {type(one), type(other)} == {int, float})


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=100)
@given(typed, st.data())
def test_a_value_there_and_back(hinted: Typed, data: st.DataObject) -> None:
    hint, strategy = hinted
    value = data.draw(strategy)
    written = json_of(hint, value)
    echo = method_of(Signature([Parameter("x", Parameter.POSITIONAL_ONLY, annotation=hint)], return_annotation=hint))
    (arrived,), _ = echo.decode_request(request_of(echo, {} if written is _ABSENT else {"x": written}))
    assert same(arrived, value)
    again = json_of(hint, arrived)  # the items of a set may have another order
    (arrived,), _ = echo.decode_request(request_of(echo, {} if again is _ABSENT else {"x": again}))
    assert same(arrived, value)


KINDS = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


@st.composite
def signatures(draw: st.DrawFn) -> tuple[Signature, dict[str, st.SearchStrategy[Any]]]:
    """A signature, and for each parameter the values that it takes."""
    parameters: list[Parameter] = []
    drawn: dict[str, st.SearchStrategy[Any]] = {}
    has_default = False
    for place, kind in enumerate(sorted(draw(st.lists(st.sampled_from(KINDS), max_size=4)))):
        name = f"p{place}"
        hint, drawn[name] = draw(typed)
        has_default = (has_default and kind is not Parameter.KEYWORD_ONLY) or draw(st.booleans())
        default = draw(drawn[name]) if has_default else _EMPTY
        if draw(st.booleans()):
            hint = Annotated[hint, FieldNumber(10 * place + 10)]
        parameters.append(Parameter(name, kind, annotation=hint, default=default))
    if draw(st.booleans()):
        hint, drawn["rest"] = draw(typed)
        parameters.append(Parameter("rest", Parameter.VAR_POSITIONAL, annotation=hint))
    if draw(st.booleans()):
        hint, drawn["others"] = draw(typed)
        parameters.append(Parameter("others", Parameter.VAR_KEYWORD, annotation=hint))
    return Signature(sorted(parameters, key=operator.attrgetter("kind"))), drawn


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None, max_examples=60)
@given(signatures(), st.data())
def test_a_call_there(drawn: tuple[Signature, dict[str, st.SearchStrategy[Any]]], data: st.DataObject) -> None:
    signature, strategies = drawn
    method = method_of(signature)
    expected: dict[str, Any] = {}
    written: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is Parameter.VAR_POSITIONAL:
            expected[name] = tuple(data.draw(st.lists(strategies[name], max_size=3)))
            written[name] = json_of(of(list, parameter.annotation), list(expected[name]))
        elif parameter.kind is Parameter.VAR_KEYWORD:
            expected[name] = data.draw(st.dictionaries(st.sampled_from(["a", "b", "c d"]), strategies[name]))
            written[name] = json_of(of(dict, str, parameter.annotation), expected[name])
        elif parameter.default is _EMPTY or data.draw(st.booleans()):
            expected[name] = data.draw(strategies[name])
            written[name] = json_of_argument(parameter, expected[name])
        else:
            expected[name] = parameter.default
    present = {name: value for name, value in written.items() if value is not _ABSENT}
    args, kwargs = method.decode_request(request_of(method, present))
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    assert bound.arguments.keys() == expected.keys()
    assert all(same(bound.arguments[name], expected[name]) for name in expected)


def json_of_argument(parameter: Parameter, value: Any) -> Any:
    """What a stranger writes for an argument: what it would be as a field of a record with the same default."""
    method = method_of(Signature([parameter.replace(kind=Parameter.KEYWORD_ONLY)]))
    message = method.request_class()
    ((_, place),) = method.rpc.request.fields
    place.put(message, value, PlainEdge())
    return json_format.MessageToDict(message).get(parameter.name, _ABSENT)
