"""Metadata of calls as gRPC's headers, in both directions.

A header has a name in lower case and a value in printable ASCII; one whose name ends in `-bin` holds bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from broker.connection.calls import NO_METADATA, Metadata
from broker.errors import CodecError, MessageTooLargeError

Headers = tuple[tuple[str, str | bytes], ...]

MAX_SIZE = 6_144
"""Bytes of all headers of a response: clients take 8 KiB."""

_NAME = re.compile(r"[a-z0-9_.-]+")
_TEXT = re.compile(r"(?=\S)[\x20-\x7e]*(?<=\S)|")
_OURS = frozenset({"authorization", "user-agent", "content-type", "te"})
_ENTRY = 32  # what HTTP/2 counts for each header, beside its text


def metadata_of(headers: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """What a caller sent beside the arguments: without what is gRPC's own, and without what proves who he is."""
    found: dict[str, str | bytes] = {}
    for name, value in headers:
        if name in _OURS or name.startswith(("grpc-", ":")):
            continue
        before = found.get(name)
        found[name] = f"{before}, {value}" if isinstance(before, str) and isinstance(value, str) else value
    return found or NO_METADATA


def headers_of(metadata: Metadata) -> Headers:
    """What goes back beside the result. Text that no header may hold goes as UTF-8, in a header of bytes.

    Raises CodecError for a name that no header may have, and MessageTooLargeError.
    """
    headers = tuple(_header(name, value) for name, value in metadata.items())
    size = sum(len(name) + len(value) + _ENTRY for name, value in headers)
    if size > MAX_SIZE:
        raise MessageTooLargeError(f"the response metadata take {size} bytes and headers of gRPC hold {MAX_SIZE}")
    return headers


def _header(name: object, value: object) -> tuple[str, str | bytes]:
    lower = name.lower() if isinstance(name, str) else ""
    if not _NAME.fullmatch(lower) or lower.startswith("grpc-"):
        raise CodecError(
            f"the response metadata cannot be written: {name!r} is no name for a header of gRPC, which has letters, "
            "digits, '_', '.' and '-'"
        )
    if isinstance(value, str) and _TEXT.fullmatch(value) and not lower.endswith("-bin"):
        return lower, value
    if isinstance(value, str):
        value = value.encode("utf-8", "backslashreplace")
    if not isinstance(value, bytes):
        raise CodecError(
            f"the response metadata cannot be written: {name!r} is a {type(value).__name__}, not str or bytes"
        )
    return lower if lower.endswith("-bin") else f"{lower}-bin", value
