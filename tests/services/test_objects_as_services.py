"""Which services stand for which objects, without a socket."""

from __future__ import annotations

import time

import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import given
from hypothesis import strategies as st

from broker.codecs import TypeRegistry
from broker.exposure import MemberTable, members_of
from broker.objects import ObjectTable
from broker.schema import Schema, flat_name, schema_of
from broker.services.objects import TypedObjects, side_by_side


class Lamp:
    def shine(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["example.lamp", "example.desk"], ["example.desk", "example.lamp"]),
        (["a.b.c", "a.b"], ["a.b", flat_name("a.b.c")]),
        (["a.b.c", "a.b.d", "a"], ["a", flat_name("a.b.c"), flat_name("a.b.d")]),
        (["a.bc", "a.b"], ["a.b", "a.bc"]),
        (["x_types", "x"], ["x", flat_name("x_types")]),
        (["x.types", "x_types.y", "x"], ["x", flat_name("x.types"), flat_name("x_types.y")]),
        (["my-desk", "grpc.desk"], [flat_name("grpc.desk"), flat_name("my-desk")]),
        ([], []),
    ],
)
def test_shorter_names_keep_theirs(names: list[str], shown: list[str]) -> None:
    assert side_by_side(names) == shown


def test_nothing_is_found_out_where_nobody_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []

    def reading(table: MemberTable) -> Schema:
        read.append(table)
        return schema_of(table)

    monkeypatch.setattr("broker.services.objects.schema_of", reading)
    table = ObjectTable("here", require_expose=False, types=TypeRegistry())
    objects = TypedObjects(table, dict, None, set())
    for name in ("lamp", "my-lamp"):
        table.add(Lamp(), name)
        objects.changed()
        service = side_by_side([name])[0]
        assert objects.known(service) is None
        assert read == []
        found = objects.find(service)
        assert found is not None
        assert found.name == name
        assert objects.known(service) == found
        assert objects.find("desk") is None
        read.clear()
        objects = TypedObjects(table, dict, None, set())


def test_many_names_take_little_time() -> None:
    names = [f"part{number % 100}.object{number}" for number in range(10_000)]
    started = time.perf_counter()
    assert len(side_by_side(names)) == 10_000
    assert time.perf_counter() - started < 5


_names = st.lists(st.sampled_from(["a", "b", "a_types", "b_types", "c"]), min_size=1, max_size=4).map(".".join)


@given(st.lists(_names, unique=True, max_size=12))
def test_one_program_can_have_all(names: list[str]) -> None:
    shown = side_by_side(names)
    assert len(set(shown)) == len(names)
    schema, pool = schema_of(members_of(Lamp)), DescriptorPool()
    for service in shown:
        pool.AddSerializedFile(schema.under(service).file.SerializeToString())
    for service in shown:
        assert pool.FindServiceByName(service).full_name == service
