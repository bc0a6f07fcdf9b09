"""Every tag of the json codec as the bytes that docs/wire.md freezes: a tag may be added, never changed."""

from __future__ import annotations

import array
import dataclasses
import enum
import subprocess
import sys
from collections import deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from broker.codecs import (
    MAX_REFERENCES,
    Encoded,
    JsonCodec,
    PlainEdge,
    Reference,
    TypeRegistry,
    bytes_of,
    codec,
    type_name,
)
from broker.codecs.decoder import _TAGS
from broker.codecs.kept import BY_TAG
from broker.errors import CodecError, get_remote_traceback


@dataclasses.dataclass
class Item:
    name: str
    tags: tuple[str, ...] = ()


class Color(enum.Enum):
    RED = 1
    MIXED = (1, 2)


Point = namedtuple("Point", "x y")


class OutOfStock(ValueError):
    pass


class Edge(PlainEdge):
    def __init__(self) -> None:
        super().__init__(TypeRegistry())
        for cls in (Item, Color, Point, OutOfStock):
            self.types.register(cls, name=f"shop.{cls.__name__}")

    def reference(self, value: object) -> str | Reference | None:
        if isinstance(value, Exported):
            return value.beside
        return "BROKER:obj_1@localhost:9000" if isinstance(value, Edge) else None

    def resolve(self, reference: str | Reference) -> object:
        if isinstance(reference, Reference):
            return ("exported", reference)
        assert reference == "BROKER:obj_1@localhost:9000"
        return self

    def traceback(self, error: BaseException) -> str:
        return "Traceback: …"


class Exported:
    """What travels as a reference beside the text."""

    def __init__(self) -> None:
        self.beside = Reference()


EDGE = Edge()
JSON = codec("json")


def t(tag: str, fields: str = "") -> str:
    return f'{{"$type":"{tag}"{"," if fields else ""}{fields}}}'


PLAIN: list[tuple[object, str]] = [
    (None, "null"),
    (True, "true"),
    (42, "42"),
    (-(2**63), "-9223372036854775808"),
    (2**64 - 1, "18446744073709551615"),
    (1.5, "1.5"),
    (-0.0, "-0.0"),
    ("Grüße\n", '"Grüße\\n"'),
    ([1, "a", None, 2.5], '[1,"a",null,2.5]'),
    ({"a": [1], "b": {}}, '{"a":[1],"b":{}}'),
]

TAGGED: list[tuple[str, object, str]] = [
    ("int", 2**64, '"value":"18446744073709551616"'),
    ("int", -(2**63) - 1, '"value":"-9223372036854775809"'),
    ("int", 2**2048, f'"value":"0x1{"0" * 512}"'),
    ("int", -(2**2048), f'"value":"-0x1{"0" * 512}"'),
    ("float", float("nan"), '"value":"nan"'),
    ("float", float("inf"), '"value":"inf"'),
    ("float", float("-inf"), '"value":"-inf"'),
    ("str", "a\ud800", '"base64":"Ye2ggA=="'),
    ("dict", {1: "a", (2, 3): None}, '"items":[[1,"a"],[{"$type":"tuple","items":[2,3]},null]]'),
    ("dict", {"$type": "dict", "items": []}, '"items":[["$type","dict"],["items",[]]]'),
    ("tuple", (1, (2,)), '"items":[1,{"$type":"tuple","items":[2]}]'),
    ("set", {"a"}, '"items":["a"]'),
    ("frozenset", frozenset({"a"}), '"items":["a"]'),
    ("deque", deque([1, 2]), '"items":[1,2],"maxlen":null'),
    ("deque", deque([1, 2], maxlen=5), '"items":[1,2],"maxlen":5'),
    ("complex", 1 - 2j, '"real":1.0,"imag":-2.0'),
    ("decimal", Decimal("1.10"), '"value":"1.10"'),
    ("fraction", Fraction(-1, 3), '"numerator":-1,"denominator":3'),
    ("uuid", UUID(int=1), '"value":"00000000-0000-0000-0000-000000000001"'),
    ("path", Path("/tmp/a"), f'"class":"{type(Path()).__name__}","value":"/tmp/a"'),
    ("path", PurePosixPath("a/b"), '"class":"PurePosixPath","value":"a/b"'),
    ("path", PureWindowsPath("c:/a"), '"class":"PureWindowsPath","value":"c:\\\\a"'),
    ("datetime", datetime(2026, 11, 22, 7, 5), '"value":"2026-11-22T07:05:00"'),  # noqa: DTZ001
    ("datetime", datetime(2026, 11, 22, 7, 5, 1, 5, tzinfo=UTC), '"value":"2026-11-22T07:05:01.000005+00:00"'),
    (
        "datetime",
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Amsterdam")),
        '"value":"2026-10-25T02:30:00+01:00","fold":1,"tz":{"$type":"zoneinfo","key":"Europe/Amsterdam"}',
    ),
    ("date", date(2026, 11, 22), '"value":"2026-11-22"'),
    ("time", time(7, 5, tzinfo=UTC), '"value":"07:05:00+00:00"'),
    ("timedelta", timedelta(days=-1, microseconds=5), '"days":-1,"seconds":0,"microseconds":5'),
    (
        "timezone",
        timezone(timedelta(hours=1), "X"),
        '"offset":{"$type":"timedelta","days":0,"seconds":3600,"microseconds":0},"name":"X"',
    ),
    ("zoneinfo", ZoneInfo("Europe/Amsterdam"), '"key":"Europe/Amsterdam"'),
    ("range", range(0, 10, 3), '"start":0,"stop":10,"step":3'),
    ("slice", slice(1, None, 2), '"start":1,"stop":null,"step":2'),
    ("ellipsis", ..., ""),
    (
        "object",
        Item("couch", ("a",)),
        '"class":"shop.Item","fields":{"name":"couch","tags":' + t("tuple", '"items":["a"]') + "}",
    ),
    ("namedtuple", Point(1, None), '"class":"shop.Point","fields":{"x":1,"y":null}'),
    ("enum", Color.RED, '"class":"shop.Color","name":"RED","value":1'),
    ("enum", Color.MIXED, '"class":"shop.Color","name":"MIXED","value":{"$type":"tuple","items":[1,2]}'),
    ("reference", EDGE, '"uri":"BROKER:obj_1@localhost:9000"'),
    ("numpy.scalar", np.float32(1.5), '"dtype":"<f4","value":1.5'),
    ("numpy.scalar", np.str_("a"), '"dtype":"<U1","value":"a"'),
    ("numpy.scalar", np.datetime64("1970-01-02"), '"dtype":"<M8[D]","base64":"AQAAAAAAAAA="'),
]

BUFFERED: list[tuple[str, object, str, bytes]] = [
    ("bytes", b"abc", "", b"abc"),
    ("bytearray", bytearray(b"abc"), "", b"abc"),
    ("memoryview", memoryview(b"abcd").cast("H", [2, 1]), '"format":"H","shape":[2,1],', b"abcd"),
    ("array", array.array("i", [1, 2]), '"typecode":"i","itemsize":4,', b"\1\0\0\0\2\0\0\0"),
    ("numpy.ndarray", np.array([[1, 2]], "<i2"), '"dtype":"<i2","shape":[1,2],"order":"C",', b"\1\0\2\0"),
    (
        "numpy.ndarray",
        np.array([(1, [2, 3])], [("a", "u1"), ("b", "u1", (2,))]),
        '"dtype":[["a","|u1"],["b","|u1",[2]]],"shape":[1],"order":"C",',
        b"\1\2\3",
    ),
    (
        "numpy.ndarray",
        np.array([[1, 2], [3, 4]], "u1", order="F"),
        '"dtype":"|u1","shape":[2,2],"order":"F",',
        b"\1\3\2\4",
    ),
]


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    return a == b or (a != a and b != b)


@pytest.mark.parametrize(("value", "text"), PLAIN, ids=repr)
def test_what_json_has_is_written_as_itself(value: object, text: str) -> None:
    assert JSON.encode(value, EDGE) == Encoded("json", text.encode())
    read = JSON.decode(Encoded("json", text.encode()), EDGE)
    assert type(read) is type(value)
    assert repr(read) == repr(value)


@pytest.mark.parametrize(("tag", "value", "fields"), TAGGED, ids=lambda part: repr(part)[:40])
def test_tags(tag: str, value: object, fields: str) -> None:
    encoded = JSON.encode(value, EDGE)
    assert bytes(encoded.payload).decode() == t(tag, fields)
    assert encoded.buffers == ()
    read = JSON.decode(encoded, EDGE)
    assert type(read) is type(value)
    assert same(read, value)


@pytest.mark.parametrize(
    ("tag", "value", "fields", "data"), BUFFERED, ids=lambda part: repr(part).partition(" at 0x")[0][:40]
)
def test_tags_with_buffers(tag: str, value: object, fields: str, data: bytes) -> None:
    encoded = JSON.encode(["x", value], EDGE)
    assert bytes(encoded.payload).decode() == f'["x",{t(tag, fields + chr(34) + "buffer" + chr(34) + ":0")}]'
    assert [bytes_of(buffer) for buffer in encoded.buffers] == [data]
    assert encoded.size == len(encoded.payload) + len(data)
    read = JSON.decode(encoded, EDGE)[1]  # type: ignore[index]
    assert type(read) is type(value)
    assert same(read, value)


def test_exception() -> None:
    error = OutOfStock("no couch", 3)
    error.shelf = "B"  # type: ignore[attr-defined]
    error.add_note("look again")
    error.__cause__ = KeyError("couch")
    try:
        raise error
    except OutOfStock:
        encoded = JSON.encode(error, EDGE)
    assert bytes(encoded.payload).decode() == t(
        "exception",
        '"class":"shop.OutOfStock","base":"ValueError","message":"(\'no couch\', 3)","args":["no couch",3],'
        '"attributes":{"shelf":"B"},"notes":["look again"],'
        '"cause":{"$type":"exception","class":"KeyError","base":"KeyError","message":"\'couch\'","args":["couch"]},'
        '"suppress_context":true,"traceback":"Traceback: …"',
    )
    read = JSON.decode(encoded, EDGE)
    assert type(read) is OutOfStock
    assert read.args == ("no couch", 3)
    assert vars(read)["shelf"] == "B"
    assert read.__notes__[0] == "look again"
    assert get_remote_traceback(read) == "Traceback: …"
    assert repr(read.__cause__) == "KeyError('couch')"


def test_exception_group_and_context() -> None:
    group = ExceptionGroup("two", [ValueError(1), TypeError("x")])
    group.__context__ = KeyError("k")
    encoded = JSON.encode(group, EDGE)
    value_error = t("exception", '"class":"ValueError","base":"ValueError","message":"1","args":[1]')
    type_error = t("exception", '"class":"TypeError","base":"TypeError","message":"x","args":["x"]')
    key_error = t("exception", '"class":"KeyError","base":"KeyError","message":"\'k\'","args":["k"]')
    assert bytes(encoded.payload).decode() == t(
        "exception",
        '"class":"ExceptionGroup","base":"ExceptionGroup","message":"two","args":["two"],'
        f'"context":{key_error},"exceptions":[{value_error},{type_error}]',
    )
    read = JSON.decode(encoded, EDGE)
    assert repr(read) == repr(group)
    assert repr(read.__context__) == "KeyError('k')"  # type: ignore[attr-defined]


def test_calls() -> None:
    encoded = JSON.encode_call(("Janet", "couch"), {}, EDGE)
    assert encoded == Encoded("json", b'[["Janet","couch"],{}]')
    assert JSON.decode_call(encoded, EDGE) == (("Janet", "couch"), {})
    encoded = JSON.encode_call((b"x",), {"a": (1,), "$type": 2}, EDGE)
    tagged = b'{"$type":"dict","items":[["a",{"$type":"tuple","items":[1]}],["$type",2]]}'
    assert encoded == Encoded("json", b'[[{"$type":"bytes","buffer":0}],' + tagged + b"]", (b"x",))
    assert JSON.decode_call(encoded, EDGE) == ((b"x",), {"a": (1,), "$type": 2})


def test_references_beside_the_text() -> None:
    one, other = Exported(), Exported()
    encoded = JSON.encode_call((one, [{"deep": other}], one), {}, EDGE)
    first, second, third = (t("export", f'"reference":{n}') for n in range(3))
    assert bytes(encoded.payload).decode() == f'[[{first},[{{"deep":{second}}}],{third}],{{}}]'
    assert encoded.references == (one.beside, other.beside, one.beside)
    args, _ = JSON.decode_call(encoded, EDGE)
    assert args == (("exported", one.beside), [{"deep": ("exported", other.beside)}], ("exported", one.beside))


@pytest.mark.parametrize("index", ["1", "-1", '"0"', "true", "null"])
def test_a_reference_that_is_not_there(index: str) -> None:
    payload = t("export", f'"reference":{index}').encode()
    with pytest.raises(CodecError, match="reference"):
        JSON.decode(Encoded("json", payload, (), (Reference(),)), EDGE)


def test_what_cannot_be_written_takes_its_references_along() -> None:
    error = ValueError([Exported(), object()], Exported())
    encoded = JSON.encode(error, EDGE)
    assert len(encoded.references) == 1


def test_too_many_references() -> None:
    with pytest.raises(CodecError, match=f"more than {MAX_REFERENCES} exported objects"):
        JSON.encode([Exported()] * (MAX_REFERENCES + 1), EDGE)


@pytest.mark.parametrize("plain", [False, True])
def test_a_unary_caller_cannot_be_given_what_is_called_back(plain: bool) -> None:
    with pytest.raises(CodecError, match=r"result\[0\].*register the object with a daemon"):
        JsonCodec().to_plain([Exported()], EDGE, "result", plain=plain)


def test_bytes_of_plain_callers() -> None:
    for tag, value in (("bytes", b"abc"), ("bytearray", bytearray(b"abc"))):
        assert JSON.decode(Encoded("json", t(tag, '"base64":"YWJj"').encode()), EDGE) == value


def test_every_tag_is_held_here() -> None:
    held = {tag for tag, *_ in (*TAGGED, *BUFFERED)} | {"exception", "export"}
    assert held == _TAGS.keys() | BY_TAG.keys()


def test_every_tag_is_in_the_manual_of_the_wire() -> None:
    docs = Path(__file__).parents[2] / "docs"
    text = "".join(page.read_text() for page in (docs / "wire.md", docs / "_wire_tags.md") if page.exists())
    for tag in _TAGS.keys() | BY_TAG.keys():
        assert f'"$type":"{tag}"' in text, tag


def test_names_of_codecs() -> None:
    assert codec("json").name == "json"
    assert codec("pickle").name == "pickle"
    with pytest.raises(CodecError, match=r"no codec 'yaml': the codecs are json, pickle"):
        codec("yaml")


def test_importing_the_codecs_imports_neither_numpy_nor_pickle_codec() -> None:
    code = (
        "import sys, broker.codecs as c; j = c.codec('json'); e = c.PlainEdge();"
        "j.decode(j.encode([b'x', (1,)], e), e);"
        "print([m for m in ('numpy', 'broker.codecs.pickle') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_array_where_numpy_is_missing() -> None:
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "import broker.codecs as c; from broker.errors import CodecError\n"
        'payload = b\'{"$type":"numpy.ndarray","dtype":"<i2","shape":[1],"order":"C","buffer":0}\'\n'
        "try: c.codec('json').decode(c.Encoded('json', payload, (b'ab',)), c.PlainEdge())\n"
        "except CodecError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "value: a value of numpy arrived, and numpy is not installed here\n"


def test_a_class_of_main_goes_by_its_file(tmp_path: Path) -> None:
    script = tmp_path / "pricing.py"
    script.write_text(
        "import broker.codecs\nclass Quote:\n    class Part: pass\nprint(broker.codecs.type_name(Quote.Part))\n"
    )
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    (tmp_path / "pkg" / "run.py").write_text(script.read_text())
    root = str(Path(__file__).parents[2])
    for arguments, name in (([str(script)], "pricing.Quote.Part"), (["-m", "pkg.run"], "pkg.run.Quote.Part")):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{name}\n"
    assert type_name(ValueError) == "ValueError"
    assert type_name(Path) == "pathlib.Path"
