"""`dumps` and `loads`: values as JSON text, for files, caches and queues, by the rules by which they travel."""

from __future__ import annotations

import json
from typing import Any

from broker.calling import Edge
from broker.codecs import Encoded, JsonCodec

__all__ = ["dumps", "loads"]

_JSON = JsonCodec()


def dumps(value: object, *, proxy_class: type[Any] | None = None) -> bytes:
    """A value as JSON text in UTF-8, of which `loads` makes the same value.

    What can be passed to a method can be written so, but for iterators and exported objects, which are no values;
    registered objects and proxies are written as their URI. Raises CodecError, with the path to what cannot be written.
    `proxy_class` is as for `Proxy`: its `_travels_as` may have something else written in place of values.
    """
    structure = _JSON.to_plain(value, Edge(proxy_class=proxy_class))
    return json.dumps(structure, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def loads(data: bytes | bytearray | memoryview | str, *, proxy_class: type[Any] | None = None) -> Any:
    """The value of a text that `dumps` wrote, or of any JSON. Safe with texts of strangers, as a call of theirs is.

    A class that is not registered here is a `Record`, or what `_arrives_as` of `proxy_class` makes of it; what was a
    registered object or a proxy is a proxy, of that class. Raises CodecError for what is no such text.
    """
    text = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
    return _JSON.decode(Encoded("json", text), Edge(proxy_class=proxy_class), "value")
