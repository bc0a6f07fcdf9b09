"""Names that protobuf allows, and what stands for the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.schema import flat_name, service_name, service_names
from broker.schema.names import FieldNames, RpcNames, identifier


@pytest.mark.parametrize("name", ["warehouse", "example.warehouse", "a.b.c", "_x.Y1", "Broker.NameServer", "googles.x"])
def test_a_legal_name_stays(name: str) -> None:
    assert service_name(name) == name
    assert service_names(name) == (name, flat_name(name))


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("my-object", "my_object_b68c709d"),
        ("1st", "_1st_50625d7c"),
        ("größe", "gr__e_a0f6c858"),
        ("a..b", "a__b_80a0fd92"),
        ("a.1", "a_1_523eddff"),
        ("/", "__7073e446"),
        # Symbols in packages that a client has anyway, and these themselves.
        ("google", "google_9c40356b"),
        ("google.mine", "google_mine_40378408"),
        ("grpc.health", "grpc_health_9bbb8604"),
        ("broker", "broker_f4bb9a79"),
        ("broker.v1.ObjectBroker", "broker_v1_ObjectBroker_9ced88bd"),
    ],
)
def test_an_illegal_name_has_one_that_never_changes(name: str, service: str) -> None:
    assert service_names(name) == (service,)


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_names_are_two_services(one: str, other: str) -> None:
    for name in (one, other):
        assert all(part and identifier(part) == part for part in service_name(name).split("."))
        assert identifier(flat_name(name)) == flat_name(name)
    if one != other:
        assert set(service_names(one)).isdisjoint(service_names(other))


def test_fields_that_protoc_would_not_tell_apart() -> None:
    names = FieldNames()
    given = ["foo_bar", "fooBar", "FOOBAR", "Clear", "straße", "foo_bar2"]
    legal = [names.name(name) for name in given]
    assert legal[0] == "foo_bar"
    assert legal[5] == "foo_bar2"
    assert len({name.replace("_", "").lower() for name in legal}) == len(given)
    assert all(identifier(name) == name for name in legal)
    assert "Clear" not in legal


def test_rpcs_give_way_to_methods() -> None:
    names = RpcNames(["len", "get_price", "get_price_", "__len__", "__call__"])
    assert names.method("len") == "len"
    assert names.method("__len__") == "len_"
    assert names.method("__call__") == "call"
    assert names.property("price", "get") == "get_price__"
    assert names.property("price", "set") == "set_price"
