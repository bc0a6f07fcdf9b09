"""Metadata as headers and back, without a socket."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import CodecError, MessageTooLargeError
from broker.services.headers import headers_of, metadata_of


def test_what_is_grpcs_own_stays_out() -> None:
    headers: list[tuple[str, str | bytes]] = [
        ("user-agent", "grpc-python"), ("grpc-trace-bin", b"1"), ("authorization", "Bearer x"), (":path", "/"),
        ("content-type", "application/grpc"), ("request-id", "7"), ("raw-bin", b"\x00"),
    ]  # fmt: skip
    assert metadata_of(headers) == {"request-id": "7", "raw-bin": b"\x00"}


def test_several_headers_of_one_name() -> None:
    assert metadata_of([("a", "1"), ("a", "2"), ("b-bin", b"1"), ("b-bin", b"2")]) == {"a": "1, 2", "b-bin": b"2"}


@pytest.mark.parametrize(
    ("name", "value", "header"),
    [
        ("Server-Timing", "a;dur=1", ("server-timing", "a;dur=1")),
        ("raw", b"\xff", ("raw-bin", b"\xff")),
        ("raw-bin", b"\xff", ("raw-bin", b"\xff")),
        ("text-bin", "a", ("text-bin", b"a")),
        ("city", "Köln", ("city-bin", "Köln".encode())),
        ("padded", " a ", ("padded-bin", b" a ")),
        ("lines", "a\r\nset-cookie: b", ("lines-bin", b"a\r\nset-cookie: b")),
        ("empty", "", ("empty", "")),
        ("surrogate", "\udc80", ("surrogate-bin", b"\\udc80")),
    ],
)
def test_a_header_for_each_value(name: str, value: Any, header: tuple[str, Any]) -> None:
    assert headers_of({name: value}) == (header,)


@pytest.mark.parametrize("name", ["", "größe", "a b", "a:b", "grpc-status", "Grpc-Message", "a\n"])
def test_names_that_no_header_may_have(name: str) -> None:
    with pytest.raises(CodecError, match="no name for a header"):
        headers_of({name: "x"})


def test_values_that_are_neither_text_nor_bytes() -> None:
    wrong: Any = {"number": 7}
    with pytest.raises(CodecError, match="'number' is a int"):
        headers_of(wrong)


def test_too_much_for_what_clients_take() -> None:
    with pytest.raises(MessageTooLargeError, match="hold 6144"):
        headers_of({"a": "x" * 7_000})


@given(st.dictionaries(st.text("abcxyz019.", min_size=1, max_size=9), st.text(max_size=50), max_size=5))
def test_text_arrives(metadata: dict[str, str]) -> None:
    back = metadata_of(headers_of(metadata))
    for name, value in metadata.items():
        found = back[name] if name in back else back[f"{name}-bin"]
        assert found in (value, value.encode("utf-8", "backslashreplace"))
