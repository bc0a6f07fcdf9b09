"""Inputs for the targets that are nearly right, as hypothesis draws them: frames, requests and tagged values whose
fields hold anything of their types, and often what is awkward."""

from __future__ import annotations

import json
from collections.abc import Callable, MutableSequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from broker._pb import broker_pb2 as pb
from broker.codecs import kept
from broker.codecs.decoder import _TAGS
from tests.fuzz import serving
from tests.fuzz.parts import put_together
from tests.fuzz.seeds import HOSTILE

_DEPTH = 3
_WORDS = [
    "shop", "visits", "echo", "add", "items", "level", "call", "visit", "tell", "json", "pickle", "typed", "__class__",
    "__globals__", "echo.__func__", "os.system", "this", "subprocess.Popen", "a" * 300, "", "\0", "Item", "Colour",
]  # fmt: skip
_BYTES = [
    b"[[],{}]", b"[[1],{}]", b'[["a"],{"b":1}]', b"[1,2]", b"null", b"\x80\x05}.", b"cos\nsystem\n.", bytes(16), b"",
    *(json.dumps([[value], {}]).encode() for value in HOSTILE[:10]),
]  # fmt: skip
_NUMBERS = [0, 1, 2, 3, 4, 5, 7, 100, 2**31 - 1]
_TOP = {FieldDescriptor.CPPTYPE_UINT32: 2**32 - 1, FieldDescriptor.CPPTYPE_UINT64: 2**64 - 1}

texts = st.sampled_from(_WORDS) | st.text(max_size=12)
blobs = st.sampled_from(_BYTES) | st.binary(max_size=24)


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        assert field.message_type is not None
        return messages(field.message_type, depth + 1)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return blobs if field.type == FieldDescriptor.TYPE_BYTES else texts
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return st.floats(width=32)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    return st.sampled_from([*_NUMBERS, _TOP.get(kind, 2**31 - 1)])


def messages(descriptor: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Messages of a type with some of their fields."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Message:
        message: Message = GetMessageClass(descriptor)()
        fields = [field for field in descriptor.fields if depth < _DEPTH or field.message_type is None]
        if not fields:
            return message
        for field in draw(st.lists(st.sampled_from(fields), max_size=5, unique_by=lambda field: field.name)):
            _put(draw, message, field, depth)
        return message

    return drawn()


def _put(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if is_map:
        assert field.message_type is not None
        entry: Any = draw(messages(field.message_type, depth))
        target = getattr(message, field.name)
        if isinstance(entry.value, Message):
            target[entry.key].CopyFrom(entry.value)
        else:
            target[entry.key] = entry.value
        return
    present = getattr(message, field.name)
    # How a descriptor says that a field is repeated changed with protobuf 6. A ListValue counts as a sequence, too.
    if isinstance(present, MutableSequence) and not isinstance(present, Message):
        present.extend(draw(st.lists(_values(field, depth), max_size=3)))
        return
    value = draw(_values(field, depth))
    if isinstance(value, Message):
        present.CopyFrom(value)
    else:
        setattr(message, field.name, value)


# ---- values in json

_FIELDS = sorted(
    {name for layout in kept.BY_TAG.values() for name in (*layout.fields, *layout.optional)}
    | {"base64", "buffer", "format", "shape", "dtype", "order", "typecode", "itemsize", "class", "fields", "name",
       "value", "args", "base", "message", "attributes", "notes", "cause", "exceptions", "reference", "uri"}
)  # fmt: skip
_TAG = st.sampled_from([*kept.BY_TAG, *_TAGS, "unknown"])
_scalars = (
    st.none() | st.booleans() | st.sampled_from([0, 1, -1, 3, 255, 2**53, 2**64, 10**18]) | st.floats(allow_nan=False)
    | st.sampled_from(["nan", "1e400", "0xff", "-5", "YWJj", "i4", "<f8", "U3", "c", "C", "2026-01-01", "PosixPath"])
    | texts
)  # fmt: skip
structures = st.recursive(
    _scalars | st.sampled_from(HOSTILE),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=3)
        | st.builds(
            lambda tag, fields: {"$type": tag, **fields},
            _TAG,
            st.dictionaries(st.sampled_from(_FIELDS), inner | st.lists(inner, max_size=3), max_size=4),
        )
    ),
    max_leaves=12,
)


def _json_text(structure: object) -> bytes:
    return json.dumps(structure).encode("utf-8", "replace")


json_inputs = st.builds(
    lambda form, structure, buffers: put_together((form, 2, 2), [_json_text(structure), *buffers]),
    st.integers(0, 5),
    structures | st.builds(lambda args: [args, {}], st.lists(structures, max_size=2)),
    st.lists(st.binary(max_size=20), max_size=3),
)

# ---- what lies in the messages of a connection

_frames = messages(pb.Frame.DESCRIPTOR)
_calls = st.builds(
    lambda number, structure, **fields: pb.Frame(
        id=number,
        call=pb.Call(
            chain=bytes(16), depth=1, arguments=pb.Encoded(codec="json", payload=_json_text([structure, {}])), **fields
        ),
    ),
    st.integers(0, 6),
    st.lists(structures, max_size=2),
    object=st.sampled_from(["shop", "visits", "none"]),
    member=st.sampled_from(["echo", "add", "items", "later", "fail", "call", "visit", "level", "__len__", "none"]),
    kind=st.sampled_from(pb.Call.Kind.values()),
    session=st.integers(0, 2),
    lane=st.integers(0, 2),
    oneway=st.booleans(),
)
_results = st.builds(
    lambda number, structure, **fields: pb.Frame(
        id=number,
        reply=True,
        result=pb.Result(value=pb.Encoded(codec="json", payload=_json_text(structure)), **fields),
    ),
    st.integers(0, 4),
    structures,
    raised=st.booleans(),
    kept=st.booleans(),
    stream=st.booleans(),
)


def _serialized(frames: list[pb.Frame]) -> bytes:
    return pb.Frames(frames=frames).SerializeToString()


def _dialogue(frames: st.SearchStrategy[Any]) -> st.SearchStrategy[list[bytes]]:
    return st.lists(st.lists(frames, max_size=4).map(_serialized) | st.binary(max_size=30), max_size=4)


def _requests(*types: Any) -> st.SearchStrategy[list[bytes]]:
    one = st.one_of([messages(kind.DESCRIPTOR) for kind in types]).map(lambda message: message.SerializeToString())
    return st.lists(one | st.binary(max_size=20), min_size=1, max_size=3)


def _headed(most: int, pieces: st.SearchStrategy[list[bytes]], headers: int = 1) -> st.SearchStrategy[bytes]:
    numbers = st.lists(st.integers(0, most), min_size=headers, max_size=headers)
    return st.builds(put_together, numbers, pieces)


def _beginning(number: int, pieces: st.SearchStrategy[list[bytes]]) -> st.SearchStrategy[bytes]:
    return st.builds(put_together, st.just((number,)), pieces)


def _typed_requests() -> st.SearchStrategy[bytes]:
    methods = serving.target_of("shop").schema.methods
    numbered = [(number, methods[name]) for number, name in enumerate(serving.MEMBERS) if name in methods]
    return st.one_of([_beginning(number, _requests(method.request_class)) for number, method in numbered])


def _registry_requests() -> st.SearchStrategy[bytes]:
    numbered = enumerate(serving.REGISTRY)
    one = [
        _beginning(number, messages(method.request.DESCRIPTOR).map(lambda message: [message.SerializeToString()]))
        for number, method in numbered
    ]
    return st.lists(st.one_of(one), max_size=5).map(b"".join)


_INPUTS: dict[str, Callable[[], st.SearchStrategy[bytes]]] = {
    "json": lambda: json_inputs,
    "uri": lambda: st.binary(max_size=40) | st.text(max_size=40).map(lambda text: f"BROKER:{text}@h:1".encode()),
    "frames": lambda: st.lists(_calls | _results | _frames, max_size=5).map(_serialized) | st.binary(max_size=80),
    "inbox": lambda: st.binary(max_size=80),
    "connection": lambda: _headed(3, _dialogue(_calls | _frames), 2),
    "answers": lambda: _headed(3, _dialogue(_results | _frames)),
    "proxy": lambda: _headed(9, _dialogue(_results | _frames)),
    "invoke": lambda: _headed(2, _requests(pb.InvokeRequest, pb.LookupRequest)),
    "typed": _typed_requests,
    "registry": _registry_requests,
}


def inputs(target: str) -> st.SearchStrategy[bytes]:
    """Inputs for a target."""
    return _INPUTS[target]()
