"""Measures msgspec and orjson on the work that the json codec gives them, and the codec itself.

Run it with nothing else running: `.venv/bin/python benchmarks/json_libraries.py`. docs/decisions.md has the figures.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import orjson

from broker.codecs import JsonCodec, PlainEdge

CALL: tuple[tuple[object, ...], dict[str, object]] = (("Janet", "couch"), {})
MIXED_CALL: tuple[tuple[object, ...], dict[str, object]] = ((17, 2.5, "couch"), {"rush": True})
RECORDS = [{"id": i, "name": f"item {i}", "price": i * 1.5, "tags": ["a", "b"]} for i in range(10_000)]
INTS = list(range(100_000))
FLOATS = [i * 1.1 for i in range(100_000)]
TUPLES = [(i, "a") for i in range(10_000)]


def microseconds(work: Callable[[], object]) -> float:
    """The best of seven runs of about 50 ms each."""
    once = timeit.timeit(work, number=1)
    number = max(1, min(200_000, int(0.05 / max(once, 1e-7))))
    return min(timeit.repeat(work, number=number, repeat=7)) / number * 1e6


def libraries() -> None:
    writers: dict[str, Callable[[Any], bytes]] = {"msgspec": msgspec.json.Encoder().encode, "orjson": orjson.dumps}
    readers: dict[str, Callable[[bytes], Any]] = {"msgspec": msgspec.json.Decoder().decode, "orjson": orjson.loads}
    print(f"{'µs':24}" + "".join(f"{name + ' ' + way:>16}" for way in ("write", "read") for name in writers))
    for what, value in (
        ("call, two strings", CALL),
        ("10,000 records", RECORDS),
        ("100,000 ints", INTS),
        ("100,000 floats", FLOATS),
    ):
        text = orjson.dumps(value)
        times = [microseconds(partial(write, value)) for write in writers.values()]
        times += [microseconds(partial(read, text)) for read in readers.values()]
        print(f"{what:24}" + "".join(f"{time:16.2f}" for time in times))


def losses() -> None:
    print("\nwhat each does with")
    for what, value in (
        ("2**64", 2**64),
        ("NaN", float("nan")),
        ("lone surrogate", "\ud800"),
        ("(1,)", (1,)),
        ("{1: 2}", {1: 2}),
    ):
        shown = []
        for write in (msgspec.json.encode, orjson.dumps):
            try:
                shown.append(write(value).decode())
            except (TypeError, ValueError) as error:
                shown.append(type(error).__name__)
        print(f"  {what:20} msgspec writes {shown[0]:24} orjson writes {shown[1]}")
    text = b"18446744073709551616"
    print(
        f"  {'2**64 in a text':20} msgspec reads  {msgspec.json.decode(text)!r:24} orjson reads  {orjson.loads(text)!r}"
    )


def codec() -> None:
    json, edge = JsonCodec(), PlainEdge()
    print(f"\n{'the codec, µs':24}{'encode':>16}{'decode':>16}")
    for what, (args, kwargs) in (("call, two strings", CALL), ("call, mixed", MIXED_CALL)):
        encoded = json.encode_call(args, kwargs, edge)
        out = microseconds(partial(json.encode_call, args, kwargs, edge))
        back = microseconds(partial(json.decode_call, encoded, edge))
        print(f"{what:24}{out:16.2f}{back:16.2f}")
    for what, value in (
        ("None", None),
        ("10,000 records", RECORDS),
        ("100,000 ints", INTS),
        ("100,000 floats", FLOATS),
        ("10,000 tuples", TUPLES),
    ):
        result = json.encode(value, edge)
        out = microseconds(partial(json.encode, value, edge))
        back = microseconds(partial(json.decode, result, edge))
        print(f"{what:24}{out:16.2f}{back:16.2f}")


if __name__ == "__main__":
    print(f"msgspec {msgspec.__version__}, orjson {orjson.__version__}\n")
    libraries()
    losses()
    codec()
