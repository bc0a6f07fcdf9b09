"""The json codec: lossless and safe, and the default.

A value is written as itself where JSON has it, and as a tagged object, `{"$type": …}`, where it has not; bytes and
arrays travel beside the text. docs/wire.md freezes every tag. `encoder` and `decoder` do the work on structures; here
they meet the JSON libraries: orjson writes, because it is the fastest and raises for ints over 64 bits and for lone
surrogates; msgspec reads, because it keeps ints over 64 bits, and writes what orjson refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, groupby
from math import isfinite
from types import TracebackType
from typing import Any, Self

import msgspec
import orjson

from broker.codecs.decoder import Decoder
from broker.codecs.encoder import MAX_NESTING, PLAIN, TAG, TOO_DEEP, Encoder, is_plain, is_plain_dict, mend, too_deep
from broker.codecs.interface import (
    LEAST_DECODED_SIZE,
    MAX_DEPTH,
    Edge,
    Encoded,
    Fault,
    OverLimit,
    PlainEdge,
    bytes_of,
    check_buffers,
)
from broker.codecs.untagged import untagged
from broker.errors import CodecError

__all__ = ["JsonCodec", "from_json", "plain_arguments", "plain_calls", "plain_value", "plain_values", "to_json"]

_MARK = b'"$type"'
_TEXT = frozenset({str})
_LIST = frozenset({list})
_EXACT = 2**53 - 1
"""The largest whole number that every JSON reader keeps."""

_MOST_LEVELS = 3 * MAX_DEPTH + 8
"""JSON levels of the deepest value: a dict with keys that are no texts takes three."""

_read = msgspec.json.Decoder().decode
_write_all = msgspec.json.Encoder().encode


class JsonCodec:
    """Stateless; any thread may use it. Raises CodecError, with the path to the value at fault, and nothing else."""

    name = "json"

    def encode(self, value: object, edge: Edge, where: str = "value") -> Encoded:
        plain = plain_value(value)
        if plain is not None:
            return Encoded("json", plain)
        with _paths_from(where):
            encoder = Encoder(edge)
            text = _write(encoder.lower(value))
            return Encoded("json", text, tuple(encoder.buffers), tuple(encoder.references))

    def decode(self, encoded: Encoded, edge: Edge, where: str = "value") -> Any:
        structure, tagged = _structure(encoded, where, edge, 0)
        if not tagged:
            return structure
        with _paths_from(where):
            return Decoder(edge, encoded.buffers, encoded.references).rebuild(structure)

    def encode_call(self, args: tuple[object, ...], kwargs: dict[str, object], edge: Edge) -> Encoded:
        """The payload is `[args, kwargs]`. Paths begin with `args[0]` and `kwargs['name']`."""
        plain = plain_arguments(args, kwargs)
        if plain is not None:
            return Encoded("json", plain)
        encoder = Encoder(edge)
        with _paths_from("args") as path:
            lowered_args = encoder.items(args, 0)
            path.begin = "kwargs"
            lowered_kwargs = encoder.mapping(kwargs, 0) if kwargs else kwargs
            path.begin = "arguments"
            text = _write((lowered_args, lowered_kwargs))
        return Encoded("json", text, tuple(encoder.buffers), tuple(encoder.references))

    def decode_call(self, encoded: Encoded, edge: Edge) -> tuple[tuple[Any, ...], dict[str, Any]]:
        structure, tagged = _structure(encoded, "arguments", edge, 2)
        args, kwargs = structure if type(structure) is list and len(structure) == 2 else (None, None)
        if type(args) is not list or type(kwargs) is not dict:
            raise CodecError("arguments: a call is written as [args, kwargs]")
        if tagged:
            args, kwargs = _arguments(Decoder(edge, encoded.buffers, encoded.references), args, kwargs)
        return tuple(args), kwargs

    def encode_batch(
        self,
        args: Sequence[tuple[object, ...]],
        kwargs: Mapping[int, dict[str, object]],
        edge: Edge,
        where: Callable[[int], str],
    ) -> Encoded:
        """The payload is `[[args, …], [[place, kwargs], …]]`."""
        named = list(kwargs.items())
        plain = PLAIN.issuperset(map(type, chain.from_iterable(args))) or is_plain(list(chain.from_iterable(args)))
        if plain and all(map(is_plain_dict, kwargs.values())):
            return Encoded("json", _write((args, named)))
        encoder = Encoder(edge)
        lowered_args: list[object] = []
        for place, values in enumerate(args):
            with _paths_from(f"{where(place)}args"):
                lowered_args.append(encoder.items(values, 0))
        lowered_kwargs: list[object] = []
        for place, values_by_name in named:
            with _paths_from(f"{where(place)}kwargs"):
                lowered_kwargs.append((place, encoder.mapping(values_by_name, 0)))
        text = _write((lowered_args, lowered_kwargs))
        return Encoded("json", text, tuple(encoder.buffers), tuple(encoder.references))

    def decode_batch(self, encoded: Encoded, edge: Edge) -> JsonCalls:
        structure, tagged = _structure(encoded, "the batch", edge, 3)
        return JsonCalls(structure, Decoder(edge, encoded.buffers, encoded.references) if tagged else None)

    def results(self, edge: Edge) -> JsonResultWriter:
        return JsonResultWriter(edge)

    def decode_results(self, encoded: Encoded, edge: Edge) -> JsonResults:
        """The payload is `[[result, …], beside]`."""
        structure, tagged = _structure(encoded, "the results", edge, 2)
        return JsonResults(structure, Decoder(edge, encoded.buffers, encoded.references) if tagged else None)

    joins_texts = True

    def join(self, items: Sequence[object]) -> Encoded:
        """The payload is the array of the items, each as `encode` writes it."""
        kinds = set(map(type, items))
        encoder = Encoder(PlainEdge())
        if Encoded not in kinds:
            return Encoded("json", self._joined(encoder, items, kinds), tuple(encoder.buffers))
        texts: list[bytes] = []
        for encoded, run in groupby(items, _is_encoded):
            if encoded:
                texts += [item.payload for item in run]  # type: ignore[attr-defined]
            else:
                scalars = list(run)
                texts.append(self._joined(encoder, scalars, set(map(type, scalars)))[1:-1])
        return Encoded("json", b"[" + b",".join(texts) + b"]", tuple(encoder.buffers))

    def _joined(self, encoder: Encoder, items: Sequence[object], kinds: set[type]) -> bytes:
        if kinds <= PLAIN or (bytes not in kinds and is_plain(items)):
            return _write(items)
        return _write(encoder.items(items, 0))

    def split(self, encoded: Encoded, count: int, edge: Edge) -> list[Any]:
        items, tagged = _structure(encoded, "items", edge, 1)
        if type(items) is not list or len(items) != count:
            raise CodecError(f"items: {count} were announced, and something else arrived")
        if not tagged:
            return items
        with _paths_from("items"):
            rebuilt: list[Any] = Decoder(edge, encoded.buffers, encoded.references).rebuild(items, -1)
        return rebuilt

    def from_plain(self, value: object, edge: Edge, where: str = "value") -> Any:
        """The value of JSON as a stranger writes it, where every number is a float.

        Whole numbers become int; those beyond 2^53-1 are refused, for they may have been rounded on their way.
        """
        with _paths_from(where):
            return from_json(value, edge)

    def to_plain(self, value: object, edge: Edge, where: str = "value", *, plain: bool = False) -> Any:
        """The JSON structure of a value for readers who get nothing but JSON.

        What JSON cannot hold is tagged, whole numbers beyond 2^53-1 too. With `plain` nothing is tagged, and what JSON
        cannot hold becomes what comes closest.
        """
        with _paths_from(where):
            if plain:
                return untagged(value, edge)
            return to_json(value, edge)


def to_json(value: object, edge: Edge) -> Any:
    """What `JsonCodec.to_plain` makes of a value that is part of another. Raises Fault."""
    return mend(Encoder(edge, inline=True).lower(value), _EXACT, -_EXACT)


def from_json(structure: object, edge: Edge) -> Any:
    """What `JsonCodec.from_plain` makes of a structure that is part of another. Raises Fault."""
    return Decoder(edge).rebuild(_with_ints(structure, 0))


class JsonCalls:
    """The calls of a batch that arrived."""

    __slots__ = ("_args", "_decoder", "args", "kwargs")

    def __init__(self, structure: Any, decoder: Decoder | None) -> None:
        args, named = structure if type(structure) is list and len(structure) == 2 else (None, None)
        if type(args) is not list or type(named) is not list or not _LIST.issuperset(map(type, args)):
            raise CodecError("the batch: it is written as [[args, …], [[place, kwargs], …]]")
        self._args = args
        self._decoder = decoder
        self.args = args if decoder is None else None
        self.kwargs = dict(self._named(pair) for pair in named)
        if len(self.kwargs) != len(named):
            raise CodecError("the batch: a call has its arguments by name twice")

    def _named(self, pair: Any) -> tuple[int, dict[str, Any]]:
        place, kwargs = pair if type(pair) is list and len(pair) == 2 else (None, None)
        if type(place) is not int or not 0 <= place < len(self._args) or type(kwargs) is not dict:
            raise CodecError(f"the batch: arguments by name are [place, kwargs], with a place below {len(self._args)}")
        return place, kwargs

    def __len__(self) -> int:
        return len(self._args)

    def arguments(self, place: int) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = self._args[place], self.kwargs.get(place, {})
        return (args, kwargs) if self._decoder is None else _arguments(self._decoder, args, kwargs)


class JsonResultWriter:
    """Writes each result at once, but for those that cannot change."""

    __slots__ = ("_encoder", "_texts", "values")

    def __init__(self, edge: Edge) -> None:
        self.values: list[object] = []
        self._encoder = Encoder(edge)
        self._texts: dict[int, bytes] = {}  # what is not written yet stands in `values` itself

    def add(self, value: object, where: str) -> None:
        text = _write(value) if is_plain((value,)) else self._lowered(value, where)
        self._texts[len(self.values)] = text
        self.values.append(orjson.Fragment(text))

    def _lowered(self, value: object, where: str) -> bytes:
        buffers, references = self._encoder.buffers, self._encoder.references
        mark, references_before = len(buffers), len(references)
        try:
            with _paths_from(where):
                text = _write(self._encoder.lower(value))
        except BaseException:
            del buffers[mark:]
            del references[references_before:]
            raise
        buffers[mark:] = map(bytes_of, buffers[mark:])  # the next call may change the memory that they show
        return text

    def finish(self, beside: object) -> Encoded:
        values = self.values
        if not is_plain([value for value in values if type(value) is float]):
            values = [self._encoder.lower(value) if type(value) is float else value for value in values]
        try:
            payload = orjson.dumps((values, beside))
        except TypeError:  # an int or a text that wants a tag
            texts = [self._texts.get(place) or _write(value) for place, value in enumerate(values)]
            payload = b"[[" + b",".join(texts) + b"]," + _write(beside) + b"]"
        return Encoded("json", payload, tuple(self._encoder.buffers), tuple(self._encoder.references))


class JsonResults:
    """The results of a batch that arrived."""

    __slots__ = ("_decoder", "_values", "beside", "values")

    def __init__(self, structure: Any, decoder: Decoder | None) -> None:
        if type(structure) is not list or len(structure) != 2 or type(structure[0]) is not list:
            raise CodecError("the results: they are written as [[result, …], beside]")
        self._values, self.beside = structure
        self._decoder = decoder
        self.values = self._values if decoder is None else None

    def __len__(self) -> int:
        return len(self._values)

    def result(self, place: int) -> Any:
        if self._decoder is None:
            return self._values[place]
        with _paths_from("result"):
            return self._decoder.rebuild(self._values[place])


def _arguments(decoder: Decoder, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Rebuilds the arguments of one call."""
    with _paths_from("args") as path:
        args = decoder.rebuild(args, -1)
        path.begin = "kwargs"
        kwargs = decoder.rebuild(kwargs, -1) if kwargs else kwargs
    if type(kwargs) is not dict or not all(type(name) is str for name in kwargs):
        raise CodecError("kwargs: arguments are named by texts")
    return args, kwargs


def _is_encoded(item: object) -> bool:
    return type(item) is Encoded


def _flat(value: Any) -> object:
    """What is written for a container that holds no others, which is what most are; None: look closer."""
    kind = type(value)
    if kind is dict:
        named = _TEXT.issuperset(map(type, value)) and TAG not in value
        return value if named and PLAIN.issuperset(map(type, value.values())) else None
    if kind is list:
        return value if PLAIN.issuperset(map(type, value)) else None
    if kind is tuple and PLAIN.issuperset(map(type, value)):
        return {TAG: "tuple", "items": value}
    return None


def plain_arguments(args: tuple[object, ...], kwargs: Mapping[str, object]) -> bytes | None:
    """The payload of a call whose arguments are plain; None where there is more to them."""
    if type(kwargs) is not dict:
        kwargs = dict(kwargs)
    if not (PLAIN.issuperset(map(type, args)) or is_plain(args)) or (kwargs and not is_plain_dict(kwargs)):
        return None
    try:
        return orjson.dumps((args, kwargs))
    except TypeError:
        return None


def plain_value(value: object) -> bytes | None:
    """The payload of a plain value; None where there is more to it."""
    if type(value) not in PLAIN:
        flat = _flat(value)
        if flat is not None:
            value = flat
        elif not is_plain((value,)):
            return None
    try:
        return orjson.dumps(value)
    except TypeError:
        return None


def plain_values(payloads: Sequence[bytes]) -> list[Any] | None:
    """What these texts say, read in one go; None if one has a tag, or is none that can be read so."""
    return _read_together(payloads, 0, MAX_DEPTH)


def plain_calls(payloads: Sequence[bytes], edge: Edge) -> list[tuple[tuple[Any, ...], dict[str, Any]]] | None:
    """The arguments in these payloads, read in one go; None if one has a tag, or is none that can be read so."""
    if max(map(len, payloads)) > _SURELY_SMALL:
        return None
    calls = []
    for call in _read_together(payloads, 3, edge.max_nesting + 2) or ():
        args, kwargs = call if type(call) is list and len(call) == 2 else (None, None)
        if type(args) is not list or type(kwargs) is not dict:
            return None
        calls.append((tuple(args), kwargs))
    return calls or None


def _read_together(payloads: Sequence[bytes], brackets: int, levels: int) -> list[Any] | None:
    """What texts say that have at least so many brackets each, and at most so many levels."""
    text = b"[" + b",".join(payloads) + b"]"
    if _MARK in text:
        return None
    most = max(levels, brackets * len(payloads) + 1)  # if all are as they should be, none lies deep
    if text.count(b"[") + text.count(b"{") > most and not _is_flat(text, levels + 1):
        return None
    try:
        values = _read(text)
    except (ValueError, RecursionError):
        return None
    return values if len(values) == len(payloads) else None


class _paths_from:  # noqa: N801 - reads as a statement
    """Turns a Fault into the CodecError whose path begins with `begin`."""

    __slots__ = ("begin",)

    def __init__(self, begin: str) -> None:
        self.begin = begin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is None:
            return
        if isinstance(error, Fault):
            raise error.error(self.begin) from error.__cause__
        if isinstance(error, RecursionError):
            raise Fault(TOO_DEEP).error(self.begin) from None


def _write(lowered: object) -> bytes:
    try:
        return orjson.dumps(lowered)
    except TypeError:  # an int or a text that wants a tag, or more levels than orjson writes
        return _write_all(mend(lowered))


def _structure(encoded: Encoded, where: str, edge: Edge, outside: int) -> tuple[Any, bool]:
    """What the text says, and whether there are tags in it. Sizes and depth are checked before anything is read.

    The values of users lie in `outside` levels of ours.
    """
    payload = encoded.payload
    text = payload if type(payload) is bytes else bytes(payload)
    tagged = _MARK in text
    if encoded.buffers:
        check_buffers(encoded, edge, where)
    levels = edge.max_nesting + outside if not tagged else _MOST_LEVELS
    if len(text) > levels and text.count(b"[") + text.count(b"{") > levels and not _is_flat(text, levels):
        raise Fault(too_deep(edge.max_nesting), MAX_NESTING).error(where)
    if len(text) > _SURELY_SMALL:
        _check_decoded_size(text, edge.max_decoded_size, where)
    try:
        return _read(text), tagged
    except (ValueError, RecursionError) as error:
        raise CodecError(f"{where}: this is no JSON: {error}") from None


def _check_decoded_size(text: bytes, limit: int, where: str) -> None:
    """Raises CodecError for a text that becomes very much more than it is: `[[],[],[],…` takes 25 times its length."""
    if len(text) + _cost(text) <= limit:
        return  # also with the signs that stand in its strings
    size = len(text) + _cost(_outside_strings(text, b"".join(sign for sign, _ in _COSTS)))
    if size > limit:
        raise OverLimit(
            f"{where}: {len(text)} bytes of text arrived whose values take up to {size} bytes of memory, and this side "
            f"gives one value at most {limit} (max_decoded_size): send less at a time, numbers as an array",
            "max_decoded_size",
        )


def _cost(signs: bytes) -> int:
    return sum(cost * signs.count(sign) for sign, cost in _COSTS)


_COSTS = ((b",", 64), (b"[", 80), (b"{", 192), (b":", 64))
"""Bytes that are taken by what stands behind each sign; measured on CPython 3.11, and rounded up."""
_SURELY_SMALL = LEAST_DECODED_SIZE // (2 * max(cost for _, cost in _COSTS))
"""Bytes of text that no limit keeps out."""

_BRACKETS = bytes.maketrans(b"{}", b"[]")
_BLOCK = 1 << 20  # bytes that are split at a time, which takes several times as much memory


def _outside_strings(text: bytes, signs: bytes) -> bytes:
    """Those signs of a JSON text that stand in none of its strings."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    found = text.translate(None, _all_but(signs + b'"')).replace(b'""', b"")
    if b'"' not in found:
        return found
    blocks, inside = [], 0
    for start in range(0, len(found), _BLOCK):
        parts = found[start : start + _BLOCK].split(b'"')
        blocks.append(b"".join(parts[inside::2]))
        inside ^= (len(parts) - 1) & 1  # those outside have an even number of quotes before them
    return b"".join(blocks)


@lru_cache
def _all_but(signs: bytes) -> bytes:
    return bytes(set(range(256)) - set(signs))


def _is_flat(text: bytes, levels: int) -> bool:
    """Whether no value of a JSON text lies deeper than that. Texts that are no JSON may pass: reading finds out."""
    brackets = _outside_strings(text, b"[]{}").translate(_BRACKETS)
    too_deep = b"[" * (levels + 1)
    for _ in range(levels):
        inner = brackets.replace(b"[]", b"")  # takes one level off everywhere
        if not inner or len(inner) == len(brackets):
            return True
        if too_deep in inner:
            return False
        brackets = inner
    return False


def _with_ints(value: Any, depth: int) -> Any:
    kind = type(value)
    if depth > _MOST_LEVELS:
        raise Fault(TOO_DEEP)
    if kind is float and isfinite(value) and value.is_integer():
        if abs(value) > _EXACT:
            raise Fault(
                f"a whole number as large as {value:.0f} may have been rounded on its way here:"
                f' write {{"{TAG}":"int","value":"…"}} with its digits, or "float" for a float'
            )
        return int(value)
    if kind is list:
        numbers: list[Any] = []
        try:
            for item in value:
                numbers.append(_with_ints(item, depth + 1))  # noqa: PERF401 - a fault asks how far it came
        except Fault as fault:
            raise fault.at(f"[{len(numbers)}]")  # noqa: B904 - the same fault, on its way out
        return numbers
    if kind is dict:
        named = {}
        for name, item in value.items():
            try:
                named[name] = _with_ints(item, depth + 1)
            except Fault as fault:
                raise fault.at(f"[{name!r}]")  # noqa: B904
        return named
    return value
