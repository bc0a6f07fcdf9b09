"""What a codec is, what it makes, and what it asks of the one who uses it."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple, Protocol

from broker.codecs.types import GLOBAL_TYPES, Record, TypeRegistry
from broker.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
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
    "Fault",
    "OverLimit",
    "PlainEdge",
    "Reference",
    "ResultWriter",
    "bytes_of",
    "view_of",
]

Buffer = bytes | bytearray | memoryview | BytesIO
"""A BytesIO is what arrived in pieces: it becomes bytes, or memory that can be written to, without a copy."""


def view_of(buffer: Buffer) -> memoryview:
    """Its memory."""
    return buffer.getbuffer() if isinstance(buffer, BytesIO) else memoryview(buffer)


def bytes_of(buffer: Buffer) -> bytes:
    """Its bytes; a copy only where somebody may change them."""
    if isinstance(buffer, BytesIO):
        return buffer.getvalue()
    return buffer if type(buffer) is bytes else bytes(buffer)


MAX_DEPTH = 128
"""How many values may lie inside one another; the same for whoever writes and whoever reads."""

MAX_BUFFERS = 65_536
"""How many buffers one value may have beside it."""

MAX_DECODED_SIZE = 4 << 30
"""Bytes of memory that one value may take once it is decoded, going by an estimate from above."""

LEAST_DECODED_SIZE = 1 << 20
"""The least that a side may set in place of that."""

MAX_REFERENCES = 16_384
"""How many references one value may have beside it."""


class Reference:
    """Stands beside the text, as a buffer does, for something that only a connection can name.

    What it is lies between the edge, which makes it, and the connection, which writes it.
    """

    __slots__ = ("__weakref__",)

    number: int
    """Given by the process that exports the object."""
    returned: bool
    """Whether it is the receiver of the value that exports the object."""
    stream: bool
    """Whether the object is an iterator."""


SCALARS = frozenset({str, int, bool, type(None), float})
"""The types whose values hold no others and never change."""


class Encoded(NamedTuple):
    """A value in a codec: its text, and the raw buffers and the references beside it.

    The buffers may be read-only views of the memory of the value itself (an array, a bytearray), and the value may
    change when its owner goes on: put their bytes into a message before that.
    """

    codec: str
    payload: bytes | bytearray | memoryview
    buffers: tuple[Buffer, ...] = ()
    references: tuple[Reference, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of the payload and of all buffers."""
        size = len(self.payload)
        for buffer in self.buffers:
            size += len(buffer) if type(buffer) is bytes else view_of(buffer).nbytes
        return size


class Edge(Protocol):
    """What a codec asks of the one who uses it. The codec itself knows no proxy, daemon or connection.

    `reference` and `resolve` may raise CodecError; its text gets the path to the value.
    """

    @property
    def types(self) -> TypeRegistry:
        """The types that may be rebuilt."""

    max_nesting: int
    """How many values may lie inside one another in what is decoded; at most MAX_DEPTH."""
    max_buffers: int
    """How many buffers it may have; at most MAX_BUFFERS."""
    max_decoded_size: int
    """How much memory it may take; see MAX_DECODED_SIZE."""

    def reference(self, value: object) -> str | Reference | None:
        """The URI text, or what goes beside the text, if this value travels as a reference.

        Asked only for values of no plain kind.
        """

    def stream(self, iterator: object) -> Reference | None:
        """What goes beside the text for an iterator, of whatever type, that is in no other way to travel."""

    def resolve(self, reference: str | Reference) -> object:
        """The value for a reference that arrived."""

    def traceback(self, error: BaseException) -> str:
        """The text to send with an exception that was raised; empty keeps it at home."""


def check_buffers(encoded: Encoded, edge: Edge, where: str) -> None:
    """Raises CodecError for a value with too many buffers."""
    if len(encoded.buffers) > edge.max_buffers:
        text = f"{where}: {len(encoded.buffers)} buffers arrived, and {edge.max_buffers} is the most (max_buffers)"
        raise OverLimit(text + ": put small arrays and bytes together", "max_buffers")


class Codec(Protocol):
    """Turns values into bytes and back.

    Every method raises CodecError, with the path to the value at fault, and nothing else; `where` begins that path.
    Codecs hold no state: any thread may use one at any time.
    """

    @property
    def name(self) -> str: ...

    def encode(self, value: object, edge: Edge, where: str = "value") -> Encoded: ...

    def decode(self, encoded: Encoded, edge: Edge, where: str = "value") -> object: ...

    def encode_call(self, args: tuple[object, ...], kwargs: dict[str, object], edge: Edge) -> Encoded: ...

    def decode_call(self, encoded: Encoded, edge: Edge) -> tuple[tuple[object, ...], dict[str, object]]: ...

    def encode_batch(
        self,
        args: Sequence[tuple[object, ...]],
        kwargs: Mapping[int, dict[str, object]],
        edge: Edge,
        where: Callable[[int], str],
    ) -> Encoded:
        """The arguments of many calls as one value: `args` of each, and `kwargs` of those that have any.

        `where` says of a call by its place what begins the path to a value in it.
        """

    def decode_batch(self, encoded: Encoded, edge: Edge) -> BatchCalls: ...

    def results(self, edge: Edge) -> ResultWriter:
        """Writes the results of a batch as one value."""

    def decode_results(self, encoded: Encoded, edge: Edge) -> BatchResults: ...

    @property
    def joins_texts(self) -> bool:
        """Whether `join` also takes what `encode` has written."""

    def join(self, items: Sequence[object]) -> Encoded:
        """Items of a stream, written together: exact None, bools, ints, floats, texts and bytes, at most MAX_BUFFERS.

        Where the codec `joins_texts`, an item may also be what `encode` made of it, with nothing beside its payload.
        """

    def split(self, encoded: Encoded, count: int, edge: Edge) -> list[object]:
        """The items, of which there must be so many."""


class BatchCalls(Protocol):
    """The arguments of the calls of a batch that arrived. Those of each are decoded when they are asked for, once."""

    @property
    def args(self) -> Sequence[Sequence[object]] | None:
        """The positional arguments of each call where nothing is left to be decoded; else ask `arguments`."""

    @property
    def kwargs(self) -> Mapping[int, dict[str, object]]:
        """Beside `args`, those of the calls that have any."""

    def __len__(self) -> int: ...

    def arguments(self, place: int) -> tuple[Sequence[object], Mapping[str, object]]: ...


class ResultWriter(Protocol):
    """Gathers the results of a batch, each as it is at that moment: the next call may change what this one returned."""

    @property
    def values(self) -> list[object]:
        """A result whose exact type is one of SCALARS may be appended here; anything else goes through `add`."""

    def add(self, value: object, where: str) -> None:
        """Adds a result. Raises CodecError, and then has added nothing."""

    def finish(self, beside: object) -> Encoded:
        """All results, and what is to be known about them: lists, texts, numbers."""


class BatchResults(Protocol):
    """The results of a batch that arrived. Each is decoded when it is asked for, once."""

    @property
    def values(self) -> Sequence[object] | None:
        """The results where nothing is left to be decoded; else ask `result`."""

    @property
    def beside(self) -> object: ...

    def __len__(self) -> int: ...

    def result(self, place: int) -> object: ...


def is_iterator(value: object) -> bool:
    """Whether a value gives its items one by one, blocking or not."""
    kind = type(value)
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__")


class PlainEdge:
    """An edge without references, which keeps tracebacks at home unless it is given a formatter."""

    max_nesting = MAX_DEPTH
    max_buffers = MAX_BUFFERS
    max_decoded_size = MAX_DECODED_SIZE

    def __init__(
        self, types: TypeRegistry = GLOBAL_TYPES, traceback: Callable[[BaseException], str] | None = None
    ) -> None:
        self.types = types
        self._traceback = traceback

    def reference(self, value: object) -> str | Reference | None:
        return None

    def stream(self, iterator: object) -> Reference | None:
        return None

    def resolve(self, reference: str | Reference) -> object:
        raise CodecError(f"a reference to {reference} is not accepted here")

    def traceback(self, error: BaseException) -> str:
        return self._traceback(error) if self._traceback is not None else ""


class OverLimit(CodecError):
    """A value that arrived, and is more than this side decodes: it was not read."""

    def __init__(self, text: str, limit: str) -> None:
        """`limit` is the setting that was met."""
        super().__init__(text)
        self.limit = limit


class Fault(Exception):
    """A value that cannot travel. It collects the path to the value on its way out, innermost part first."""

    _SHOWN = 10

    def __init__(self, reason: str, limit: str = "") -> None:
        """`limit` is the setting that was met, if that is what is wrong."""
        super().__init__(reason)
        self.limit = limit
        self.path: list[str] = []

    def at(self, part: str) -> Fault:
        """Adds the part of the path that leads to where the fault came from."""
        self.path.append(part)
        return self

    def error(self, where: str) -> CodecError:
        """The error for the user; `where` begins the path."""
        parts = self.path[::-1]
        if len(parts) > self._SHOWN:
            parts[self._SHOWN :] = ["…"]
        text = f"{where}{''.join(parts)}: {self}"
        return OverLimit(text, self.limit) if self.limit else CodecError(text)


def replaced(value: object, codec: str, edge: Edge) -> object:
    """What travels in place of a value, as the edge may say; mostly the value itself. Raises Fault."""
    replace = getattr(edge, "replace", None)
    if replace is None:
        return value
    try:
        return replace(value, codec)
    except Exception as error:  # a user's function: whatever it raises is why the value cannot travel
        raise Fault(f"_travels_as of the proxy_class raised {type(error).__name__}: {error}") from error


def arrived(record: Record, edge: Edge) -> object:
    """What arrives in place of a record, as the edge may say; mostly the record itself. Raises Fault."""
    accept = getattr(edge, "accept", None)
    if accept is None:
        return record
    try:
        return accept(record)
    except Exception as error:  # a user's function: whatever it raises is why the value cannot be had
        raise Fault(f"{record._type} cannot be made of what arrived: {type(error).__name__}: {error}") from error
