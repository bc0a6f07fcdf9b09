"""Sets and dicts of values that were made to have one hash: refused before they take their quadratic time."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from broker.codecs import Encoded, PlainEdge, codec
from broker.codecs.hashes import check_hashes
from broker.errors import CodecError
from broker.exposure import members_of
from broker.schema import schema_of

MANY = 12_000
MODULUS = sys.hash_info.modulus
ALIKE = [MODULUS * number for number in range(1, MANY + 1)]

FORMS: dict[str, Callable[[list[Any]], object]] = {
    "set": lambda keys: {"$type": "set", "items": keys},
    "frozenset": lambda keys: {"$type": "frozenset", "items": keys},
    "dict": lambda keys: {"$type": "dict", "items": [[key, None] for key in keys]},
    "tuples": lambda keys: {"$type": "set", "items": [{"$type": "tuple", "items": [key]} for key in keys]},
    "decimals": lambda keys: {"$type": "set", "items": [{"$type": "decimal", "value": str(key)} for key in keys]},
}


def seconds(step: Callable[[], object]) -> float:
    began = time.process_time()
    step()
    return time.process_time() - began


@pytest.mark.parametrize("form", FORMS)
def test_values_that_were_made_alike_are_refused_in_no_time(form: str) -> None:
    text = json.dumps(FORMS[form](ALIKE)).encode()

    def decode() -> None:
        with pytest.raises(CodecError, match="100 of 12000 values have the same hash: send them as a list"):
            codec("json").decode(Encoded("json", text), PlainEdge())

    assert seconds(decode) < 3


class Statistics:
    def mean(self, values: set[Decimal]) -> int:
        return len(values)


def test_nor_does_a_typed_service_take_them() -> None:
    method = schema_of(members_of(Statistics)).methods["mean"]
    data = method.request_class(values=[str(number) for number in ALIKE]).SerializeToString()
    with pytest.raises(CodecError, match="have the same hash"):
        method.decode_request(data, PlainEdge())


@pytest.mark.parametrize(
    "values",
    [
        range(MANY),
        [-number for number in range(MANY)],
        [number * 2**40 for number in range(MANY)],
        [str(number) for number in range(MANY)],
        [Fraction(number, 7) for number in range(MANY)],
        [(number, -number) for number in range(MANY)],
        [number / 3 for number in range(MANY)],
        [1] * MANY + [1.0] * MANY,  # the same again and again is no matter
        ALIKE[:1000],
    ],
)
def test_values_that_come_up_pass(values: Any) -> None:
    check_hashes(list(values))


def test_what_cannot_be_hashed() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        check_hashes([[]] * MANY)  # type: ignore[list-item]
