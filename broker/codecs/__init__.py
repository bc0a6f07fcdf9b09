"""Values to bytes and back: `json`, lossless and safe, and `pickle`, for those who ask for it.

A codec knows no gRPC, no proxy and no daemon: what travels as a reference is decided by the `Edge` that it is given.
"""

from __future__ import annotations

from broker.codecs.interface import (
    LEAST_DECODED_SIZE,
    MAX_BUFFERS,
    MAX_DECODED_SIZE,
    MAX_DEPTH,
    MAX_REFERENCES,
    SCALARS,
    BatchCalls,
    BatchResults,
    Buffer,
    Codec,
    Edge,
    Encoded,
    OverLimit,
    PlainEdge,
    Reference,
    ResultWriter,
    bytes_of,
    view_of,
)
from broker.codecs.json import JsonCodec, plain_arguments, plain_calls, plain_value, plain_values
from broker.codecs.types import GLOBAL_TYPES, Record, TypeRegistry, register_type, type_name
from broker.errors import CodecError

__all__ = [
    "CODECS",
    "GLOBAL_TYPES",
    "LEAST_DECODED_SIZE",
    "MAX_BUFFERS",
    "MAX_DECODED_SIZE",
    "MAX_DEPTH",
    "MAX_REFERENCES",
    "SCALARS",
    "BatchCalls",
    "BatchResults",
    "Buffer",
    "Codec",
    "Edge",
    "Encoded",
    "JsonCodec",
    "OverLimit",
    "PlainEdge",
    "Record",
    "Reference",
    "ResultWriter",
    "TypeRegistry",
    "bytes_of",
    "codec",
    "plain_arguments",
    "plain_calls",
    "plain_value",
    "plain_values",
    "register_type",
    "type_name",
    "view_of",
]

CODECS = ("json", "pickle")
"""The names of the codecs that exist. Which of them are accepted is up to whoever decodes."""

_loaded: dict[str, Codec] = {"json": JsonCodec()}


def codec(name: str) -> Codec:
    """The codec of that name. Raises CodecError if there is none."""
    found = _loaded.get(name)
    if found is not None:
        return found
    if name not in CODECS:
        raise CodecError(f"there is no codec {name!r}: the codecs are {', '.join(CODECS)}")
    from broker.codecs.pickle import PickleCodec  # only for those who ask for it

    return _loaded.setdefault(name, PickleCodec())
