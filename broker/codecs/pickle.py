"""The pickle codec: protocol 5 with out-of-band buffers, for those on both sides who ask for it.

Decoding a pickle runs whatever the sender wrote into it. A daemon decodes one only if its `codecs` name it, and a proxy
only if it asked for it; this module is imported by nobody else.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from types import FunctionType, MethodType
from typing import Any

from broker.codecs import exceptions
from broker.codecs.arrays import owned
from broker.codecs.interface import (
    MAX_BUFFERS,
    MAX_REFERENCES,
    SCALARS,
    Buffer,
    Edge,
    Encoded,
    Fault,
    PlainEdge,
    Reference,
    bytes_of,
    check_buffers,
    is_iterator,
    replaced,
)
from broker.codecs.types import GLOBAL_TYPES, TypeRegistry
from broker.errors import CodecError

__all__ = ["PickleCodec"]

_NEVER_REFERENCES = frozenset(
    {str, int, float, bool, type(None), bytes, bytearray, list, dict, tuple, set, frozenset, complex}
)


class PickleCodec:
    """Stateless; any thread may use it. Raises CodecError and nothing else; pickle itself knows no paths."""

    name = "pickle"

    def encode(self, value: object, edge: Edge, where: str = "value") -> Encoded:
        try:
            return _encode(value, edge, sure=True)
        except Fault as fault:
            raise fault.error(where) from fault.__cause__
        except Exception:  # perhaps an exception holds what cannot be pickled: its message must travel all the same
            return self._encode_unsure(value, edge, where)

    def _encode_unsure(self, value: object, edge: Edge, where: str) -> Encoded:
        try:
            return _encode(value, edge, sure=False)
        except Exception as error:  # whatever a class does when it is pickled
            raise CodecError(f"{where}: this cannot be pickled: {_reason(error)}") from error

    def decode(self, encoded: Encoded, edge: Edge, where: str = "value") -> Any:
        if encoded.buffers:
            check_buffers(encoded, edge, where)
        try:
            file = io.BytesIO(encoded.payload)
            buffers = [owned(data) for data in encoded.buffers]
            return _Unpickler(file, edge, buffers, encoded.references).load()
        except Exception as error:  # whatever the sender's classes do when they are rebuilt
            raise CodecError(f"{where}: this cannot be unpickled: {_reason(error)}") from error

    def encode_call(self, args: tuple[object, ...], kwargs: dict[str, object], edge: Edge) -> Encoded:
        return self.encode((args, kwargs), edge, "arguments")

    def decode_call(self, encoded: Encoded, edge: Edge) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return _checked_call(self.decode(encoded, edge, "arguments"))

    def encode_batch(
        self,
        args: Sequence[tuple[object, ...]],
        kwargs: Mapping[int, dict[str, object]],
        edge: Edge,
        where: Callable[[int], str],
    ) -> Encoded:
        """Each call is pickled by itself: what two of them share arrives twice, as it does in two calls."""
        calls = _Pickles()
        for place, values in enumerate(args):
            calls.add(self.encode((values, kwargs.get(place, {})), edge, f"{where(place)}arguments"))
        return calls.finish(None)

    def decode_batch(self, encoded: Encoded, edge: Edge) -> PickledCalls:
        return PickledCalls(self, encoded, edge)

    def results(self, edge: Edge) -> PickleResultWriter:
        return PickleResultWriter(self, edge)

    def decode_results(self, encoded: Encoded, edge: Edge) -> PickledResults:
        return PickledResults(self, encoded, edge)

    joins_texts = False

    def join(self, items: Sequence[object]) -> Encoded:
        return self.encode(list(items), PlainEdge())

    def split(self, encoded: Encoded, count: int, edge: Edge) -> list[Any]:
        items = self.decode(encoded, edge, "items")
        if type(items) is list and len(items) == count:
            return items
        raise CodecError(f"items: {count} were announced, and something else arrived")


class _Pickles:
    """Many values as one: a list of them, where all but those of SCALARS are pickles, each with what is beside it."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._buffers: list[Buffer] = []
        self._references: list[Reference] = []

    def add(self, value: Encoded) -> None:
        self.values.append((bytes(value.payload), len(value.buffers), len(value.references)))
        self._references += value.references
        self._buffers += map(bytes_of, value.buffers)  # whoever adds the next one may change the memory that they show

    def finish(self, beside: object) -> Encoded:
        if len(self._buffers) > MAX_BUFFERS:
            raise CodecError(f"the batch has {len(self._buffers)} buffers, and {MAX_BUFFERS} is the most")
        if len(self._references) > MAX_REFERENCES:
            raise CodecError(
                f"the batch has {len(self._references)} exported objects, and {MAX_REFERENCES} is the most"
            )
        payload = pickle.dumps((self.values, beside), 5)
        return Encoded("pickle", payload, tuple(self._buffers), tuple(self._references))


class PickleResultWriter:
    """Pickles each result at once, but for those that cannot change."""

    def __init__(self, codec: PickleCodec, edge: Edge) -> None:
        self._codec = codec
        self._edge = edge
        self._pickles = _Pickles()
        self.values = self._pickles.values

    def add(self, value: object, where: str) -> None:
        self._pickles.add(self._codec.encode(value, self._edge, where))

    def finish(self, beside: object) -> Encoded:
        return self._pickles.finish(beside)


class _Unpickles:
    """Many values that arrived as one; each is unpickled when it is asked for."""

    def __init__(self, codec: PickleCodec, encoded: Encoded, edge: Edge, where: str) -> None:
        self._codec = codec
        self._edge = edge
        self._beside = encoded.buffers, encoded.references
        decoded = codec.decode(Encoded("pickle", encoded.payload), edge, where)
        values, beside = decoded if type(decoded) is tuple and len(decoded) == 2 else (None, None)
        if type(values) is not list or not all(map(_is_pickled, values)):
            raise CodecError(f"{where}: this is pickled as ([(pickle, numbers of buffers and references), …], beside)")
        self.beside: object = beside
        self._values: list[Any] = values
        pickles = [value if type(value) is tuple else (b"", 0, 0) for value in values]
        self._ends = [list(accumulate((pickled[part] for pickled in pickles), initial=0)) for part in (1, 2)]
        for ends, arrived, what in zip(self._ends, self._beside, ("buffers", "references"), strict=True):
            if ends[-1] != len(arrived):
                raise CodecError(f"{where}: {len(arrived)} {what} arrived, and {ends[-1]} are named")

    def __len__(self) -> int:
        return len(self._values)

    def value(self, place: int, where: str) -> Any:
        value = self._values[place]
        if type(value) is not tuple:
            return value
        (buffers, references), (buffer_ends, reference_ends) = self._beside, self._ends
        own_buffers = buffers[buffer_ends[place] : buffer_ends[place + 1]]
        own_references = references[reference_ends[place] : reference_ends[place + 1]]
        return self._codec.decode(Encoded("pickle", value[0], own_buffers, own_references), self._edge, where)


def _is_pickled(value: Any) -> bool:
    if type(value) is tuple:
        return list(map(type, value)) == [bytes, int, int] and min(value[1:]) >= 0
    return type(value) in SCALARS


class PickledCalls(_Unpickles):
    args: list[list[object]] | None = None

    def __init__(self, codec: PickleCodec, encoded: Encoded, edge: Edge) -> None:
        super().__init__(codec, encoded, edge, "the batch")
        self.kwargs: dict[int, dict[str, object]] = {}

    def arguments(self, place: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return _checked_call(self.value(place, "arguments"))


class PickledResults(_Unpickles):
    values: list[object] | None = None

    def __init__(self, codec: PickleCodec, encoded: Encoded, edge: Edge) -> None:
        super().__init__(codec, encoded, edge, "the results")

    def result(self, place: int) -> object:
        result: object = self.value(place, "result")
        return result


def _checked_call(call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if type(call) is tuple and list(map(type, call)) == [tuple, dict] and all(type(n) is str for n in call[1]):
        return call
    raise CodecError("arguments: a call is pickled as (args, kwargs)")


def _encode(value: object, edge: Edge, *, sure: bool) -> Encoded:
    file = io.BytesIO()
    pickler = _Pickler(file, edge, sure=sure)
    pickler.dump(value)
    buffers = tuple(buffer.raw().toreadonly() for buffer in pickler.buffers)
    if len(buffers) > MAX_BUFFERS:
        raise Fault(f"it has {len(buffers)} buffers, and {MAX_BUFFERS} is the most")
    if len(pickler.references) > MAX_REFERENCES:
        raise Fault(f"it has {len(pickler.references)} exported objects, and {MAX_REFERENCES} is the most")
    # getvalue shares the bytes: a copy is made only if the file goes on
    return Encoded("pickle", file.getvalue(), buffers, tuple(pickler.references))


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return str(error) if isinstance(error, CodecError | Fault) else f"{type(error).__name__}: {error}"


class _Pickler(pickle.Pickler):
    """Writes references as persistent ids and exceptions by their parts.

    If not `sure`, what cannot be pickled of an exception is replaced by its repr; that takes a trial of each part.
    """

    def __init__(self, file: io.BytesIO, edge: Edge, *, sure: bool) -> None:
        self.buffers: list[pickle.PickleBuffer] = []
        self.references: list[Reference] = []
        super().__init__(file, 5, buffer_callback=self.buffers.append)
        self._edge = edge
        self._sure = sure
        self._levels: dict[int, int] = {}

    def _reference(self, value: object) -> str | Reference | None:
        replacement = replaced(value, "pickle", self._edge)
        reference = self._edge.reference(replacement)
        return self._edge.stream(replacement) if reference is None and is_iterator(replacement) else reference

    def persistent_id(self, value: object) -> str | int | None:
        reference = None if type(value) in _NEVER_REFERENCES else self._reference(value)
        if not isinstance(reference, Reference):
            return reference
        self.references.append(reference)
        return len(self.references) - 1

    def reducer_override(self, value: Any) -> Any:
        replacement = replaced(value, "pickle", self._edge)
        if replacement is not value:
            return _as_it_is, (replacement,)
        if isinstance(value, BaseException):
            return _exception, self._exception(value)
        if isinstance(value, FunctionType | MethodType) and "<" in value.__qualname__:
            raise Fault(
                f"the function {value.__qualname__} cannot travel as a value: "
                "make it a method of an object that a daemon serves and pass that object, or wrap it in broker.export"
            )
        return NotImplemented

    def _exception(self, error: BaseException) -> tuple[dict[str, Any], bytes]:
        level = self._levels.get(id(error), 0)
        traceback = self._edge.traceback(error) if level == 0 and error.__traceback__ is not None else ""
        parts = exceptions.take_apart(error, traceback)
        inner = [*parts.get("exceptions", ()), *(parts[name] for name in ("cause", "context") if name in parts)]
        if level >= exceptions.MAX_LEVELS:
            for name in ("exceptions", "cause", "context"):
                parts.pop(name, None)
        self._levels.update((id(member), level + 1) for member in inner)
        if not self._sure:
            parts["args"] = [self._best(value) for value in parts["args"]]
            attributes = parts.get("attributes", {})
            parts["attributes"] = {name: self._best(value) for name, value in attributes.items()}
        return parts, _class_bytes(type(error))

    def _best(self, value: object) -> object:
        try:
            _encode(value, self._edge, sure=True)
        except Exception:  # whatever a class does when it is pickled
            return exceptions.repr_of(value)
        return value


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, file: io.BytesIO, edge: Edge, buffers: list[memoryview], references: tuple[Reference, ...]
    ) -> None:
        super().__init__(file, buffers=buffers)
        self._edge = edge
        self._references = references

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (__name__, _exception.__name__):
            return partial(_exception, types=self._edge.types)
        return super().find_class(module, name)

    def persistent_load(self, reference: Any) -> object:
        return self._edge.resolve(self._references[reference] if type(reference) is int else reference)


def _as_it_is(value: object) -> object:
    """Called by a pickle that is read."""
    return value


def _class_bytes(cls: type) -> bytes:
    """The class in a pickle of its own, so that a reader who cannot import it still reads the rest."""
    try:
        return pickle.dumps(cls)
    except Exception:  # a local class: its exceptions arrive as RemoteError
        return b""


def _exception(parts: dict[str, Any], cls: bytes, types: TypeRegistry = GLOBAL_TYPES) -> BaseException:
    """Called by a pickle that is read."""
    found: Any = exceptions.find_class(parts["class"], types)
    if found is None and cls:
        try:
            found = pickle.loads(cls)  # noqa: S301 - whoever reads pickles asked for it
        except Exception:  # it cannot be imported here
            found = None
        if not isinstance(found, type) or not exceptions.may_raise(found):
            found = None
    return exceptions.put_together(parts, found)
