"""Writes the seeds of the corpus, made of real messages: `python -m tests.fuzz.seeds`.

What fuzzing has found lies beside them under other names, and stays.
"""

from __future__ import annotations

import array
import json
from collections import deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import ListValue, Struct

import broker
from broker._pb import broker_pb2 as pb
from broker._pb import registry_pb2 as names
from broker.codecs import bytes_of
from broker.connection import local
from broker.connection.engine import Connection
from broker.connection.local import Entrance, entrances
from broker.schema import Method
from tests.fuzz import calling, serving, values
from tests.fuzz.guard import CORPUS
from tests.fuzz.parts import put_together

VALUES: list[object] = [
    None, [1, 2.5, "text", True, None], {"a": {"b": [1]}, "$type": "plain"}, (1, (2, ())), {1, 2}, frozenset("ab"),
    b"bytes", bytearray(b"array"), memoryview(b"view"), array.array("q", [1, 2, 3]), 2**80, -(2**64), float("nan"),
    float("-inf"), "\ud800", 1 + 2j, Decimal("1.50"), Fraction(1, 3), UUID(int=7), PurePosixPath("/a/b"),
    datetime(2026, 1, 2, 3, 4, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=ZoneInfo("Europe/Vienna")), date(2026, 1, 2),
    timedelta(days=1, microseconds=3), range(3, 30, 3), slice(1, None, 2), deque([1, 2], maxlen=3), ...,
    {(1, 2): "pair", None: 0}, values.Item("tea", 2.0), values.Colour.BLUE, values.Access.READ | values.Access.WRITE,
    values.Place(1), values.Bare("one"), values.Opened({"a": 1}), ValueError("wrong", 7), values.Refusal(2, "no", "f"),
    ExceptionGroup("several", [KeyError("a"), OSError(5, "io")]), numpy.arange(6).reshape(2, 3), numpy.float32(1.5),
    numpy.array([("a", 1)], dtype=[("name", "U4"), ("count", "i4")]), numpy.datetime64("2026-01-01"),
]  # fmt: skip

HOSTILE: list[Any] = [
    {"$type": "numpy.ndarray", "dtype": "V0", "shape": [1 << 40], "order": "C", "base64": ""},
    {"$type": "numpy.ndarray", "dtype": [["a", "f8", [1 << 20, 1 << 20]]], "shape": [0], "order": "C", "base64": ""},
    {"$type": "numpy.scalar", "dtype": "U999999999", "value": "a"},
    {"$type": "memoryview", "format": "B", "shape": [0, 1 << 60], "base64": ""},
    {"$type": "decimal", "value": "1e999999999999"},
    {"$type": "fraction", "numerator": 1, "denominator": 0},
    {"$type": "range", "start": 0, "stop": 1 << 62, "step": 1},
    {"$type": "timedelta", "days": 1 << 62, "seconds": 0, "microseconds": 0},
    {"$type": "zoneinfo", "key": "../../../etc/passwd"},
    {"$type": "int", "value": "0x" + "f" * 3000},
    {"$type": "exception", "class": "os.system", "base": "SystemExit", "message": "", "args": ["true"]},
    {"$type": "exception", "class": "builtins.UnicodeDecodeError", "base": "ValueError", "message": "", "args": [1]},
    {"$type": "object", "class": "subprocess.Popen", "fields": {"args": "true", "shell": True}},
    {"$type": "object", "class": "Item", "fields": {"name": 1, "__class__": 2, "no": 3}},
    {"$type": "enum", "class": "Access", "name": None, "value": 1 << 70},
    {"$type": "namedtuple", "class": "Place", "fields": {"x": [], "_make": 1}},
    {"$type": "dict", "items": [[{"$type": "float", "value": "nan"}, 1], [[], 2]]},
    {"$type": "set", "items": [{"a": 1}]},
    {"$type": "reference", "uri": "BROKER:x@host:1"},
]


def json_seeds() -> Iterator[bytes]:
    for value in VALUES:
        encoded = values.CODEC.encode(value, values.EDGE)
        yield put_together((0, 0, 0), [bytes(encoded.payload), *map(bytes_of, encoded.buffers)])
    call = values.CODEC.encode_call((1, values.Item("a")), {"b": {2}}, values.EDGE)
    yield put_together((1, 0, 0), [bytes(call.payload)])
    batch = values.CODEC.encode_batch([(1,), ({2},)], {0: {"a": b"b"}}, values.EDGE, lambda place: f"{place}")
    yield put_together((2, 0, 0), [bytes(batch.payload), *map(bytes_of, batch.buffers)])
    yield put_together((3, 0, 0), [b'[[1,{"$type":"tuple","items":[]}],{"raised":[0]}]'])
    yield put_together((4, 3, 0), [b'[1,2,{"$type":"bytes","buffer":0}]', b"abc"])
    yield put_together((0, 0, 2), [b'{"$type":"export","reference":1}'])
    for value in HOSTILE:
        yield put_together((0, 0, 0), [json.dumps(value).encode()])
    yield put_together((0, 0, 0), [b"[" * 3000])
    yield put_together((0, 0, 0), [b'[{"$type":"tuple","items":' * 140 + b"1"])


def uri_seeds() -> Iterator[bytes]:
    texts = [
        "BROKER:obj@localhost:9090", "PYRO:obj@./u:/tmp/socket", "BROKERNAME:example.name", "broker:a@[::1]:1",
        "BROKERMETA:b,a,a@host:1", "BROKER:@12@./c:0af3", "BROKER:a@./u:\0abstract", "BROKERNAME:a@[::ffff:1.2.3.4%1]",
        "BROKER:a@host:99999", "BROKER::@:", "BROKER:ä@höst:٣",
    ]  # fmt: skip
    yield from (text.encode() for text in texts)
    yield b"BROKER:\xff@host:1"


def inbox_seeds() -> Iterator[bytes]:
    small, big = (3).to_bytes(4, "big") + b"abc", (33_000).to_bytes(4, "big") + bytes(33_000)
    yield bytes((2,)) + small * 3
    yield bytes((200,)) + small + big + small
    yield bytes((9,)) + b"\xff\xff\xff\xff" + small
    yield bytes((0,)) + (0).to_bytes(4, "big") * 5


class _Overheard:
    """What a proxy and a daemon say to each other, behind an address of its own."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answered: list[bytes] = []
        self._entrance = Entrance(self._accept, ("192.0.2.7", 7))
        entrances.add(self._entrance)

    def _accept(self, client: Connection) -> None:
        connects = serving.served().daemon._connects
        server = connects._new_connection("a client", None)
        server.on_end = connects._forget
        for end, heard in ((client, self.answered), (server, self.asked)):
            setattr(end, "receive", _recording(end, heard))  # noqa: B010 - an attribute in place of a method
        local.join(client, server, serving.served().daemon._dispatcher.leading)

    def close(self) -> None:
        entrances.remove(self._entrance)


def _recording(end: Connection, heard: list[bytes]) -> Any:
    receive = end.receive

    def record(message: bytes | memoryview) -> None:
        heard.append(bytes(message))
        receive(message)

    return record


def dialogues() -> Iterator[tuple[int, list[bytes], list[bytes]]]:
    """The number of each use of a proxy, what was asked and what was answered, without introductions."""
    for number, use in enumerate(calling.USES):
        overheard = _Overheard()
        proxy: Any = broker.Proxy("BROKER:shop@192.0.2.7:7", timeout=5)
        use(proxy)
        proxy._broker.close()
        for connection in serving.served().daemon._connects.connections:
            connection.lost("that was it")
        overheard.close()
        yield number, overheard.asked[1:], overheard.answered[1:]


def connection_seeds() -> Iterator[bytes]:
    for _, asked, _ in dialogues():
        yield put_together((1, 1), asked)
    yield put_together((0, 1), [serving.introduction()])
    call = pb.Call(object="visits", member="visit", kind=pb.Call.METHOD, chain=bytes(16), depth=1, session=3)
    close = pb.Frame(id=3)
    close.close.SetInParent()
    call.arguments.CopyFrom(pb.Encoded(codec="json", payload=b"[[],{}]"))
    yield put_together((1, 1), [_frames(pb.Frame(id=1, call=call), close)])
    call.arguments.CopyFrom(pb.Encoded(codec="pickle", payload=b"cos\nsystem\n(S'true'\ntR."))
    yield put_together((1, 1), [_frames(pb.Frame(id=1, call=call))])
    call.arguments.CopyFrom(pb.Encoded(codec="json", sizes=[10, 5]))
    call.object, call.member = "shop", "echo"
    chunks = [pb.Frame(id=1, chunk=pb.Chunk(data=data)) for data in (b'[[{"$type"', b"12345")]
    yield put_together((1, 1), [_frames(pb.Frame(id=1, call=call), *chunks, pb.Frame(id=1, cancel=pb.Cancel()))])


def answers_seeds() -> Iterator[bytes]:
    for _, _, answered in dialogues():
        yield bytes((1,)) + put_together((), answered)
    yield bytes((0,)) + put_together((), [calling.welcome()])
    value = pb.Encoded(codec="json", payload=b"1")
    refusal = pb.Refusal(reason="OVERLOADED", message="no", code=8)
    yield bytes((1,)) + put_together(
        (),
        [
            _frames(pb.Frame(id=1, reply=True, refused=refusal)),
            _frames(
                pb.Frame(id=2, reply=True, result=pb.Result(stream=True)),
                pb.Frame(id=2, reply=True, item=pb.Item(value=value)),
                pb.Frame(id=2, reply=True, end=pb.End(value=value, raised=True)),
            ),
            _frames(pb.Frame(goaway=pb.GoAway(last_call=2, reason="so it is"))),
        ],
    )


def proxy_seeds() -> Iterator[bytes]:
    for number, _, answered in dialogues():
        yield put_together((number,), answered)


def frames_seeds() -> Iterator[bytes]:
    for _, asked, answered in dialogues():
        yield from asked + answered


def _frames(*frames: pb.Frame) -> bytes:
    return pb.Frames(frames=frames).SerializeToString()


def invoke_seeds() -> Iterator[bytes]:
    args, kwargs = ListValue(), Struct()
    ParseDict(cast("Any", [1, "two", {"$type": "decimal", "value": "3"}, [None]]), args)
    kwargs.update({"second": 2.5})
    requests = [
        pb.InvokeRequest(object="shop", method="echo", args=args),
        pb.InvokeRequest(object="shop", method="add", kwargs=kwargs, plain=True),
        pb.InvokeRequest(object="shop", method="level", access=pb.InvokeRequest.SET, args=args),
        pb.InvokeRequest(object="shop", method="echo", encoded=pb.Encoded(codec="json", payload=b"[[1],{}]")),
        pb.InvokeRequest(object="shop", method="echo", encoded=pb.Encoded(codec="pickle", payload=b"cos\nsystem\n.")),
        pb.InvokeRequest(object="shop", method="items", args=args),
        pb.InvokeRequest(object="shop", method="__class__"),
        pb.InvokeRequest(object="shop", method="echo.__globals__"),
    ]
    for request in requests:
        yield put_together((0,), [b"header", request.SerializeToString()])
        yield put_together((1,), [b"header", request.SerializeToString()])
    yield put_together((2,), [b"", pb.LookupRequest(object="shop").SerializeToString()])
    yield put_together((3,), [b"", b"\n\x04shop"])
    yield put_together((4,), [b"", b"\x22\x04shop", b"\x1a\x0abroker.prot", b"\x3a\x00"])


def typed_seeds() -> Iterator[bytes]:
    fields: dict[str, list[dict[str, Any]]] = {
        "echo": [{}], "add": [{"first": 1, "second": 2.0}], "items": [{"count": 3}], "fail": [{"text": "no"}],
        "later": [{"value": b"v"}], "set_level": [{}],
        "total": [{}, {}],
    }  # fmt: skip
    for number, path in enumerate(serving.TYPED):
        service, _, name = path[1:].rpartition("/")
        method: Method | None = serving.target_of(service).schema.methods.get(name) if service != "nothing" else None
        messages = [method.request_class(**given) for given in fields.get(name, [{}])] if method is not None else []
        yield put_together((number,), [b"header", *(message.SerializeToString() for message in messages)])


def registry_seeds() -> Iterator[bytes]:
    requests: list[Any] = [
        names.RegisterRequest(name="a.b", uri="BROKER:o@h:1", tags=["t"], replace=True, lease=b"k" * 16),
        names.RemoveRequest(prefix="example"),
        names.LookupNameRequest(name="example.1"),
        names.ListRequest(regex="exam.*[0-9]$", tags_any=["tag1"]),
        names.SetTagsRequest(name="example.2", tags=["a", "b"]),
        names.CountRequest(),
        names.PingRequest(),
        names.KeepAliveRequest(lease=b"l" * 16),
    ]
    pieces = [put_together((number,), [request.SerializeToString()]) for number, request in enumerate(requests)]
    yield from pieces
    yield b"".join(pieces)
    for regex in ("(a|a)*$", "((e|x)+.?)+!$", "(?P<n>a)(?P=n)" * 9, "[" * 50):
        yield put_together((3,), [names.ListRequest(regex=regex).SerializeToString()])


SEEDS = {
    "json": json_seeds,
    "uri": uri_seeds,
    "frames": frames_seeds,
    "inbox": inbox_seeds,
    "connection": connection_seeds,
    "answers": answers_seeds,
    "proxy": proxy_seeds,
    "invoke": invoke_seeds,
    "typed": typed_seeds,
    "registry": registry_seeds,
}


def main() -> None:
    for target, seeds in SEEDS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(dict.fromkeys(seeds())):
            (folder / f"seed-{number:02}").write_bytes(seed)


if __name__ == "__main__":
    main()
