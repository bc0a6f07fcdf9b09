"""The pickle codec: buffers out of band, references by persistent id, and errors that are CodecErrors."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest

from broker.codecs import MAX_REFERENCES, Encoded, PlainEdge, Reference, TypeRegistry, codec, view_of
from broker.errors import CodecError, RemoteError

PICKLE = codec("pickle")
EDGE = PlainEdge(TypeRegistry())


class Served:
    pass


class Bad:
    def __setstate__(self, state: object) -> None:
        raise KeyError("bad")

    def __getstate__(self) -> object:
        return 1


class References(PlainEdge):
    def __init__(self) -> None:
        super().__init__(TypeRegistry())
        self.asked: list[object] = []

    def reference(self, value: object) -> str | Reference | None:
        self.asked.append(value)
        if isinstance(value, Exported):
            return value.beside
        return "BROKER:obj_1@localhost:1" if isinstance(value, Served) else None

    def resolve(self, reference: str | Reference) -> object:
        return f"a proxy for {reference}" if isinstance(reference, str) else ("exported", reference)


class Exported:
    """What travels as a reference beside the text."""

    def __init__(self) -> None:
        self.beside = Reference()


def test_values_keep_their_types_and_identity() -> None:
    shared: list[object] = [1, (2, {3}), b"x", Served]
    read: Any = PICKLE.decode(PICKLE.encode([shared, shared], EDGE), EDGE)
    assert read == [shared, shared]
    assert read[0] is read[1]


def test_arrays_travel_out_of_band_and_arrive_writable() -> None:
    numbers = np.arange(1000.0)
    encoded = PICKLE.encode({"a": numbers, "b": numbers.reshape(2, 500).T, "c": np.frombuffer(b"abcd", "u1")}, EDGE)
    assert len(bytes(encoded.payload)) < 1000
    assert np.shares_memory(np.frombuffer(view_of(encoded.buffers[0])), numbers)
    read: Any = PICKLE.decode(encoded, EDGE)
    assert (read["a"] == numbers).all()
    assert (read["b"] == numbers.reshape(2, 500).T).all()
    assert read["a"].flags.writeable
    assert not np.shares_memory(read["a"], numbers)


def test_references_beside_the_text() -> None:
    one, other, edge = Exported(), Exported(), References()
    encoded = PICKLE.encode([one, {"deep": other}, one], edge)
    assert encoded.references == (one.beside, other.beside, one.beside)
    first, second = ("exported", one.beside), ("exported", other.beside)
    assert PICKLE.decode(encoded, edge) == [first, {"deep": second}, first]
    with pytest.raises(CodecError, match="cannot be unpickled"):
        PICKLE.decode(encoded._replace(references=()), edge)
    with pytest.raises(CodecError, match=f"{MAX_REFERENCES} is the most"):
        PICKLE.encode([one] * (MAX_REFERENCES + 1), edge)


def test_references() -> None:
    edge = References()
    value = {"a": [Served()], "plain": [1, "x", 2.5, None, b""]}
    read = PICKLE.decode(PICKLE.encode(value, edge), edge)
    assert read == {"a": ["a proxy for BROKER:obj_1@localhost:1"], "plain": value["plain"]}
    assert [type(asked) for asked in edge.asked] == [Served]


def test_calls() -> None:
    args, kwargs = ("Janet", [1]), {"item": {2}}
    assert PICKLE.decode_call(PICKLE.encode_call(args, dict(kwargs), EDGE), EDGE) == (args, kwargs)
    wrongs: list[object] = [1, ([], {}), ((), {1: 2}), ((), {}, 3)]
    for wrong in wrongs:
        with pytest.raises(CodecError, match=r"arguments: a call is pickled as \(args, kwargs\)"):
            PICKLE.decode_call(Encoded("pickle", pickle.dumps(wrong)), EDGE)


def test_what_cannot_be_pickled() -> None:
    with pytest.raises(CodecError, match=r"result: this cannot be pickled: TypeError: cannot pickle '_thread.lock'"):
        PICKLE.encode([threading.Lock()], EDGE, "result")
    with pytest.raises(CodecError, match=r"arguments: the function .*<lambda> cannot travel as a value: make it a"):
        PICKLE.encode_call((lambda: 1,), {}, EDGE)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CodecError, match=r"value: this cannot be pickled: it is nested too deep"):
        PICKLE.encode(deep, EDGE)


def test_what_cannot_be_unpickled() -> None:
    for payload in (
        b"",
        b"garbage",
        b"\x80\x05N",
        pickle.dumps(Bad()),
        b"cno.such.module\nX\n.",
        b"\x80\x05\x95" + b"\xff" * 8,
    ):
        with pytest.raises(CodecError, match=r"^value: this cannot be unpickled: "):
            PICKLE.decode(Encoded("pickle", payload), EDGE)
    with pytest.raises(CodecError, match="a reference to x is not accepted here"):
        PICKLE.decode(Encoded("pickle", b"\x80\x05\x8c\x01xQ."), EDGE)


def test_a_class_that_cannot_be_imported_is_a_remote_error() -> None:
    class Local(ValueError):
        pass

    read = PICKLE.decode(PICKLE.encode(Local("x"), EDGE), EDGE)
    assert isinstance(read, RemoteError)
    assert read.type.endswith("Local")
    assert isinstance(read, ValueError)
    assert str(read) == "x"
