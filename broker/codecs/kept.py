"""The types of the standard library that the json codec keeps, each with its tag and its layout.

A layout takes an instance apart into fields and puts it together again. Both halves stand side by side here, and
docs/wire.md freezes what they make: a tag may be added, never changed. Types whose bytes travel as buffers are in
`arrays`, containers that JSON has and references in the encoder and the decoder.
"""

from __future__ import annotations

import base64
import re
import zoneinfo
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from types import EllipsisType
from typing import Any
from uuid import UUID

from broker.codecs.hashes import check_hashes

__all__ = ["BY_CLASS", "BY_TAG", "SCALARS", "Layout", "write_float", "write_int", "write_str"]

# A decimal text of this many bits stays under the lowest limit that Python lets a process set for int texts (640
# digits), and larger numbers are written in hexadecimal, which is read in linear time.
_DECIMAL_BITS = 2048
_DECIMAL_DIGITS = 4300
_FRACTION_BITS = 100_000  # reducing a fraction takes quadratic time: 8 ms at this size
_DECIMAL_LENGTH = 100_000
_FLOAT = re.compile(r"nan|-?inf|-?\d{1,400}(\.\d{1,400})?([eE][+-]?\d{1,4})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Layout:
    """How instances of `classes` are written under `tag`, and read: `read` gets the fields in the order given here.

    `optional` fields follow, by name; no types for a field means any.
    """

    tag: str
    classes: tuple[type, ...]
    fields: dict[str, tuple[type, ...]]
    write: Callable[[Any], dict[str, object]]
    read: Callable[..., object]
    optional: dict[str, tuple[type, ...]] = field(default_factory=dict)


ANY: tuple[type, ...] = ()
"""A field of any type."""

_STR, _INT, _LIST = (str,), (int,), (list,)


# ---- numbers and text


def write_int(value: int) -> dict[str, object]:
    """The form of an int that not every JSON reader would keep."""
    return {"$type": "int", "value": str(value) if value.bit_length() <= _DECIMAL_BITS else hex(value)}


def _read_int(value: str) -> int:
    digits = value.removeprefix("-")
    if digits.startswith("0x"):
        return int(value, 16)
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _DECIMAL_DIGITS:
        raise ValueError(f"an int is up to {_DECIMAL_DIGITS} decimal digits, or 0x and hexadecimal ones")
    return int(value)


def write_float(value: float) -> dict[str, object]:
    """The form of a float that JSON has no word for."""
    return {"$type": "float", "value": repr(value)}


def _read_float(value: str) -> float:
    if not _FLOAT.fullmatch(value):
        raise ValueError("a float is written as nan, inf, -inf or a decimal number")
    return float(value)


def write_str(value: str) -> dict[str, object]:
    """The form of a text with lone surrogates, which UTF-8 cannot hold."""
    return {"$type": "str", "base64": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()}


def _read_str(base64: str) -> str:
    return _from_base64(base64).decode("utf-8", "surrogatepass")


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _write_decimal(value: Decimal) -> dict[str, object]:
    text = str(value)
    if len(text) > _DECIMAL_LENGTH:
        raise ValueError(f"a Decimal has up to {_DECIMAL_LENGTH} digits")
    return {"value": text}


def _read_decimal(value: str) -> Decimal:
    if len(value) > _DECIMAL_LENGTH:
        raise ValueError(f"a Decimal has up to {_DECIMAL_LENGTH} digits")
    number = Decimal(value)
    if number.is_nan() and "nan" not in value.lower():  # what a context without traps makes of nonsense
        raise ValueError("it is no decimal number")
    return number


def _check_fraction(*parts: int) -> None:
    if any(part.bit_length() > _FRACTION_BITS for part in parts):
        raise ValueError(f"the numerator and the denominator have up to {_FRACTION_BITS} bits")


def _write_fraction(value: Fraction) -> dict[str, object]:
    _check_fraction(value.numerator, value.denominator)
    return {"numerator": int(value.numerator), "denominator": int(value.denominator)}


def _read_fraction(numerator: int, denominator: int) -> Fraction:
    _check_fraction(numerator, denominator)
    return Fraction(numerator, denominator)


# ---- dates and times


def _write_zoned(value: datetime | time) -> dict[str, object]:
    fields: dict[str, object] = {"value": value.isoformat()}
    if value.fold:
        fields["fold"] = 1
    if value.tzinfo is not None and not _is_nameless(value.tzinfo):
        fields["tz"] = value.tzinfo
    return fields


def _is_nameless(tz: tzinfo) -> bool:
    """Whether the offset in the ISO text is all there is to know."""
    return type(tz) is timezone and len(tz.__getinitargs__()) == 1  # type: ignore[attr-defined]


def _read_zoned(kind: type[datetime] | type[time]) -> Callable[..., object]:
    def read(value: str, tz: object = None, fold: int = 0) -> object:
        moment = kind.fromisoformat(value)
        if tz is not None and not isinstance(tz, tzinfo):
            raise TypeError(f"tz is a time zone, not {type(tz).__name__}")
        return moment.replace(tzinfo=tz if tz is not None else moment.tzinfo, fold=fold)

    return read


def _write_timezone(value: timezone) -> dict[str, object]:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]
    return {"offset": offset, "name": name[0] if name else None}


def _read_timezone(offset: timedelta, name: str | None) -> timezone:
    return timezone(offset) if name is None else timezone(offset, name)


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _write_zone(value: zoneinfo.ZoneInfo) -> dict[str, object]:
    if value.key is None:
        raise ValueError("a ZoneInfo without a key cannot be found again on the other side")
    return {"key": value.key}


def _read_zone(key: str) -> zoneinfo.ZoneInfo:
    if (
        key.removeprefix("posix/").removeprefix("right/") not in _zones()
    ):  # asked first: ZoneInfo looks for modules and files by the name
        raise ValueError(f"the time zone {key!r} is not known here: install the package tzdata")
    return zoneinfo.ZoneInfo(key)


# ---- the others


def _write_path(value: PurePath) -> dict[str, object]:
    return {"class": type(value).__name__, "value": str(value)}


def _read_path(name: str, value: str) -> PurePath:
    """A path of the other system family arrives as the pure path of that family."""
    pure = {"PosixPath": PurePosixPath, "WindowsPath": PureWindowsPath}.get(name.removeprefix("Pure"))
    if pure is None:
        raise ValueError(f"there is no class of paths named {name}")
    return Path(value) if name == type(Path()).__name__ else pure(value)


def _read_deque(items: list[object], maxlen: int | None) -> deque[object]:
    if maxlen is not None and len(items) > maxlen:
        raise ValueError(f"{len(items)} items do not fit a maxlen of {maxlen}")
    return deque(items, maxlen)


def _read_set(items: list[Any]) -> set[Any]:
    check_hashes(items)
    return set(items)


def _read_frozenset(items: list[Any]) -> frozenset[Any]:
    return frozenset(_read_set(items))


def _items(value: Any) -> dict[str, object]:
    return {"items": list(value)}


def _never(value: object) -> dict[str, object]:
    raise AssertionError("written by its own function")


_SCALAR_LAYOUTS = (
    Layout("int", (), {"value": _STR}, _never, _read_int),
    Layout("float", (), {"value": _STR}, _never, _read_float),
    Layout("str", (), {"base64": _STR}, _never, _read_str),
)

_LAYOUTS = (
    *_SCALAR_LAYOUTS,
    Layout("tuple", (tuple,), {"items": _LIST}, _items, tuple),
    Layout("set", (set,), {"items": _LIST}, _items, _read_set),
    Layout("frozenset", (frozenset,), {"items": _LIST}, _items, _read_frozenset),
    Layout(
        "deque",
        (deque,),
        {"items": _LIST, "maxlen": (int, type(None))},
        lambda value: {"items": list(value), "maxlen": value.maxlen},
        _read_deque,
    ),
    Layout(
        "complex",
        (complex,),
        {"real": (float, int), "imag": (float, int)},
        lambda value: {"real": value.real, "imag": value.imag},
        complex,
    ),
    Layout("decimal", (Decimal,), {"value": _STR}, _write_decimal, _read_decimal),
    Layout("fraction", (Fraction,), {"numerator": _INT, "denominator": _INT}, _write_fraction, _read_fraction),
    Layout("uuid", (UUID,), {"value": _STR}, lambda value: {"value": str(value)}, UUID),
    Layout(
        "path",
        (type(Path()), PurePosixPath, PureWindowsPath),
        {"class": _STR, "value": _STR},
        _write_path,
        _read_path,
    ),
    Layout(
        "datetime",
        (datetime,),
        {"value": _STR},
        _write_zoned,
        _read_zoned(datetime),
        optional={"tz": ANY, "fold": _INT},
    ),
    Layout(
        "date",
        (date,),
        {"value": _STR},
        lambda value: {"value": value.isoformat()},
        date.fromisoformat,
    ),
    Layout("time", (time,), {"value": _STR}, _write_zoned, _read_zoned(time), optional={"tz": ANY, "fold": _INT}),
    Layout(
        "timedelta",
        (timedelta,),
        {"days": _INT, "seconds": _INT, "microseconds": _INT},
        lambda value: {"days": value.days, "seconds": value.seconds, "microseconds": value.microseconds},
        timedelta,
    ),
    Layout(
        "timezone",
        (timezone,),
        {"offset": (timedelta,), "name": (str, type(None))},
        _write_timezone,
        _read_timezone,
    ),
    Layout("zoneinfo", (zoneinfo.ZoneInfo,), {"key": _STR}, _write_zone, _read_zone),
    Layout(
        "range",
        (range,),
        {"start": _INT, "stop": _INT, "step": _INT},
        lambda value: {"start": int(value.start), "stop": int(value.stop), "step": int(value.step)},
        range,
    ),
    Layout(
        "slice",
        (slice,),
        {"start": ANY, "stop": ANY, "step": ANY},
        lambda value: {"start": value.start, "stop": value.stop, "step": value.step},
        slice,
    ),
    Layout("ellipsis", (EllipsisType,), {}, lambda value: {}, lambda: ...),
)

BY_TAG = {layout.tag: layout for layout in _LAYOUTS}
BY_CLASS = {cls: layout for layout in _LAYOUTS for cls in layout.classes}
SCALARS = frozenset(layout.tag for layout in _SCALAR_LAYOUTS)
"""Tags of what is a plain scalar to Python, and counts as no level of nesting."""
