"""How values travel in a field: the kinds that protobuf has as scalars, and the classes of all others.

A `Kind` is one for each hint. A scalar kind turns a value into what protobuf's Python takes for a field, and back; a
composite kind fills a message, and reads it. What does not fit raises Fault, which collects the path on its way out.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from broker.codecs import Edge
from broker.codecs.interface import Fault
from broker.codecs.kept import BY_TAG
from broker.hints import safe_repr
from broker.uri import URI

__all__ = ["INT", "SCALARS", "TEXT", "Composite", "Kind", "Null", "Scalar", "checked_text", "promised"]

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def promised(value: object, what: str) -> Fault:
    """The fault of a value that is not what its hint says."""
    return Fault(f"{safe_repr(value)[:100]} is {type(value).__name__}, and the hint says {what}")


class Kind:
    """How the values of one hint travel.

    `word` names it in the names of messages and of the arms of unions; `python` are the classes whose values are
    surely of this kind; `type_name` is that of its message or enum: with a dot at its beginning one of google's,
    else one of the schema's own. `note` says in the comment of a field what the type of protobuf does not.
    """

    proto_type: FieldDescriptorProto.Type.ValueType
    type_name: str = ""
    word: str
    note: str = ""
    python: tuple[type, ...] = ()

    def __str__(self) -> str:
        return self.word


class Scalar(Kind):
    """One that protobuf's Python takes as a plain value."""

    def to_wire(self, value: Any, edge: Edge) -> Any:
        raise NotImplementedError

    def from_wire(self, raw: Any, edge: Edge) -> Any:
        return raw

    @property
    def is_plain(self) -> bool:
        """Whether what arrives is the value."""
        return type(self).from_wire is Scalar.from_wire


class Composite(Kind):
    """One that is a message."""

    proto_type = FieldDescriptorProto.TYPE_MESSAGE

    def fill(self, message: Any, value: Any, edge: Edge) -> None:
        """Puts the value into the message, which is empty."""
        raise NotImplementedError

    def read(self, message: Any, edge: Edge) -> Any:
        raise NotImplementedError


# ---- what protobuf has itself


class _Bool(Scalar):
    proto_type, word, python = FieldDescriptorProto.TYPE_BOOL, "bool", (bool,)

    def to_wire(self, value: Any, edge: Edge) -> bool:
        if type(value) is bool:
            return value
        plain = _plain(value)
        if type(plain) is not bool:
            raise promised(value, "bool")
        return plain


class _Int(Scalar):
    proto_type, word, python = FieldDescriptorProto.TYPE_INT64, "int", (int,)

    def to_wire(self, value: Any, edge: Edge) -> int:
        if not isinstance(value, int):
            value = _plain(value)
            if not isinstance(value, int):
                raise promised(value, "int")
        if not _LOWEST <= value <= _HIGHEST:
            raise Fault(f"an int of {value.bit_length()} bits does not fit into 64 bits: hint it as str, or as Any")
        return int(value)


class _Float(Scalar):
    proto_type, word, python = FieldDescriptorProto.TYPE_DOUBLE, "float", (float,)

    def to_wire(self, value: Any, edge: Edge) -> float:
        if type(value) is float:
            return value
        plain = _plain(value)
        if not isinstance(plain, (int, float)) or isinstance(plain, bool):
            raise promised(value, "float")
        try:
            return float(plain)
        except OverflowError:
            raise Fault(f"an int of {int(plain).bit_length()} bits is too large for a float") from None


def _plain(value: Any) -> Any:
    """The number of Python in a scalar of numpy; any other value as it is."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () else value


class _Str(Scalar):
    proto_type, word, python = FieldDescriptorProto.TYPE_STRING, "str", (str,)

    def to_wire(self, value: Any, edge: Edge) -> str:
        if not isinstance(value, str):
            raise promised(value, "str")
        return checked_text(value)


def checked_text(value: str) -> str:
    """The text, if UTF-8 can hold it. That of a subclass is what it holds, whatever it shows."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Fault("this text has lone surrogates, which UTF-8 cannot hold: hint it as bytes") from None
    return value if type(value) is str else str.__str__(value)


class _Bytes(Scalar):
    proto_type = FieldDescriptorProto.TYPE_BYTES

    def __init__(self, cls: type) -> None:
        self.word, self.python = cls.__name__, (cls,)
        self._cls = cls

    def to_wire(self, value: Any, edge: Edge) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise promised(value, self.word)
        return bytes(value)

    def from_wire(self, raw: Any, edge: Edge) -> Any:
        return self._cls(raw)


class _NullKind(Scalar):
    """None by itself. A field of this kind says nothing but that it is there."""

    proto_type, type_name = FieldDescriptorProto.TYPE_ENUM, ".google.protobuf.NullValue"
    word, python = "none", (type(None),)

    def to_wire(self, value: Any, edge: Edge) -> int:
        if value is not None:
            raise promised(value, "None")
        return 0

    def from_wire(self, raw: Any, edge: Edge) -> None:
        return None


Null = _NullKind()


# ---- what travels as a text


class _Text(Scalar):
    """A class whose values have one text each."""

    proto_type = FieldDescriptorProto.TYPE_STRING

    def __init__(self, cls: type, write: Callable[[Any], str], read: Callable[[str], object], example: str) -> None:
        self.word, self.python = cls.__name__.lower(), (cls,)
        self.note = "" if cls is URI else f"A {cls.__name__}, like {example}"
        self._cls, self._write, self._read, self._example = cls, write, read, example

    def to_wire(self, value: Any, edge: Edge) -> str:
        if not isinstance(value, self._cls) or (self._cls is datetime.date and isinstance(value, datetime.datetime)):
            raise promised(value, self._cls.__name__)
        try:
            return checked_text(self._write(value))
        except ValueError as error:
            raise Fault(f"this {self._cls.__name__} has no text: {error}") from error

    def from_wire(self, raw: Any, edge: Edge) -> Any:
        try:
            return self._read(raw)
        except (ValueError, ArithmeticError) as error:
            example = f"it is written like {self._example}"
            raise Fault(f"{safe_repr(raw)[:100]} is no {self._cls.__name__}: {example}") from error


_FRACTION = re.compile(r"[-+]?\d{1,4300}(/\d{1,4300})?", re.ASCII)


def _read_fraction(text: str) -> Fraction:
    if not _FRACTION.fullmatch(text):  # Fraction takes 1e999999999, too
        raise ValueError("it is no fraction")
    return Fraction(text)


def _write_time(value: datetime.time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise ValueError(f"the zone {value.tzinfo} has no offset without a date")
    return value.isoformat()


def _read_decimal(text: str) -> object:
    return BY_TAG["decimal"].read(text)


def _write_decimal(value: Decimal) -> str:
    return str(BY_TAG["decimal"].write(value)["value"])


# ---- moments and durations


class _Moment(Composite):
    """A datetime. Without a time zone it counts as UTC, and all arrive in UTC, to the microsecond."""

    type_name, word, python = ".google.protobuf.Timestamp", "datetime", (datetime.datetime,)
    _EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

    def fill(self, message: Any, value: Any, edge: Edge) -> None:
        if not isinstance(value, datetime.datetime):
            raise promised(value, "datetime")
        moment = value.replace(tzinfo=datetime.UTC) if value.utcoffset() is None else value
        since = moment - self._EPOCH
        seconds = since.days * 86_400 + since.seconds
        if not -62_135_596_800 <= seconds < 253_402_300_800:
            raise Fault(f"{value.isoformat()} is outside the years 1 to 9999 in UTC")
        message.seconds, message.nanos = seconds, since.microseconds * 1000
        message.SetInParent()

    def read(self, message: Any, edge: Edge) -> datetime.datetime:
        if not 0 <= message.nanos < 1_000_000_000:
            raise Fault(f"a Timestamp has 0 to 999999999 nanos, not {message.nanos}")
        try:
            return self._EPOCH + datetime.timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
        except OverflowError:
            raise Fault(f"a Timestamp lies in the years 1 to 9999; {message.seconds} seconds do not") from None


class _Duration(Composite):
    """A timedelta, to the microsecond."""

    type_name, word, python = ".google.protobuf.Duration", "timedelta", (datetime.timedelta,)
    _MOST = 315_576_000_000

    def fill(self, message: Any, value: Any, edge: Edge) -> None:
        if not isinstance(value, datetime.timedelta):
            raise promised(value, "timedelta")
        sign = -1 if value.days < 0 else 1  # both parts of a Duration have the same sign
        size = abs(value)
        seconds = size.days * 86_400 + size.seconds
        if seconds > self._MOST:
            raise Fault(f"a Duration has up to {self._MOST} seconds, and this timedelta has {seconds}")
        message.seconds, message.nanos = sign * seconds, sign * size.microseconds * 1000
        message.SetInParent()

    def read(self, message: Any, edge: Edge) -> datetime.timedelta:
        seconds, nanos = message.seconds, message.nanos
        if abs(seconds) > self._MOST or abs(nanos) > 999_999_999 or seconds * nanos < 0:
            raise Fault(
                f"a Duration has up to {self._MOST} seconds and up to 999999999 nanos of the same sign, "
                f"not {seconds} and {nanos}"
            )
        micros = abs(nanos) // 1000
        return datetime.timedelta(seconds=seconds, microseconds=micros if nanos > 0 else -micros)


INT: Scalar = _Int()
TEXT: Scalar = _Str()
SCALARS: dict[type, Kind] = {
    bool: _Bool(),
    int: INT,
    float: _Float(),
    str: TEXT,
    bytes: _Bytes(bytes),
    bytearray: _Bytes(bytearray),
    memoryview: _Bytes(memoryview),
    type(None): Null,
    datetime.datetime: _Moment(),
    datetime.timedelta: _Duration(),
    datetime.date: _Text(datetime.date, datetime.date.isoformat, datetime.date.fromisoformat, "2026-11-22"),
    datetime.time: _Text(datetime.time, _write_time, datetime.time.fromisoformat, "13:05:59.5"),
    Decimal: _Text(Decimal, _write_decimal, _read_decimal, "19.90"),
    Fraction: _Text(Fraction, str, _read_fraction, "1/3"),
    uuid.UUID: _Text(uuid.UUID, str, uuid.UUID, "12345678-1234-5678-1234-567812345678"),
    PurePath: _Text(PurePath, str, PurePath, "/etc/hosts"),
    Path: _Text(Path, str, Path, "/etc/hosts"),
    URI: _Text(URI, str, URI, "BROKER:example.warehouse@localhost:7766"),
}
"""The kinds of classes that have one by themselves."""
