"""Names in protobuf: which names of Python and of objects stand as they are, and what stands for the others.

What is no identifier of protobuf becomes one by putting `_` for each character that must not be there, with eight
digits of a hash of the whole name behind it: the same in every process, and another one for every name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Iterator

from google.protobuf.message import Message

from broker.decorators import SPECIAL

__all__ = ["FieldNames", "RpcNames", "flat_name", "identifier", "json_name", "service_name", "service_names"]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_IDENTIFIER = re.compile(r"[^A-Za-z0-9_]")
_PACKAGES = ("broker.v1", "google", "grpc")
"""Packages of others that a client is likely to have: an object's name must be no symbol in them, nor one of them."""


def identifier(name: str) -> str:
    """The name if it is an identifier of protobuf, else the one that stands for it."""
    return name if _IDENTIFIER.fullmatch(name) else _marked(name)


def _marked(name: str) -> str:
    legal = _NO_IDENTIFIER.sub("_", name)
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{'' if _IDENTIFIER.fullmatch(legal) else '_'}{legal}_{digest}"


def service_name(name: str) -> str:
    """The full name of the service of an object with this id or name: the name itself if protobuf allows it.

    `example.warehouse` is the service `warehouse` in the package `example`; `my-object` is `my_object_<hash>`.
    """
    legal = all(map(_IDENTIFIER.fullmatch, name.split(".")))
    return name if legal and not _is_taken(name) else flat_name(name)


def flat_name(name: str) -> str:
    """A name without a package under which the service of an object can be had as well.

    protobuf does not let one program have a service `a.b` and a package `a.b`: where an object `a.b` stands beside
    `a.b.c`, the latter can be exported under its flat name.
    """
    return _marked(name)


def service_names(name: str) -> tuple[str, ...]:
    """All names of services that an object with this id or name answers to, the one to show first."""
    first, flat = service_name(name), flat_name(name)
    return (first,) if first == flat else (first, flat)


def _is_taken(name: str) -> bool:
    return any(f"{package}.".startswith(f"{name}.") or f"{name}.".startswith(f"{package}.") for package in _PACKAGES)


def json_name(name: str) -> str:
    """The name that protoc gives a field in JSON unless it is told another."""
    head, *words = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in words)


_OF_MESSAGES = frozenset(dir(Message))  # a field of such a name could not be reached in generated Python


class FieldNames:
    """Gives the fields of one message their names, so that each is legal and no two are the same to protoc."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, name: str) -> str:
        found = identifier(name)
        form = self._form(found)
        if found in _OF_MESSAGES or form in self._taken:
            found = _marked(name)
            while (form := self._form(found)) in self._taken:
                found += "x"
        self._taken.add(form)
        return found

    @staticmethod
    def _form(name: str) -> str:
        return name.replace("_", "").lower()  # what protoc of any version compares


class RpcNames:
    """The names of the rpcs of one class: methods keep theirs, and whatever would be called the same gives way."""

    def __init__(self, methods: Iterable[str]) -> None:
        """`methods` are the names of all its methods."""
        self._taken = {identifier(name) for name in methods if name not in SPECIAL}

    def method(self, name: str) -> str:
        """`take` is `take`, and `__len__` is `len`."""
        return self._free(name.strip("_")) if name in SPECIAL else identifier(name)

    def property(self, name: str, access: str) -> str:
        """`price` is `get_price` and `set_price`; `access` says which."""
        return self._free(f"{access}_{identifier(name)}")

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        return name


def unique(name: str, taken: Container[str]) -> str:
    """The name, with a number behind it if it is taken."""
    return next(candidate for candidate in _numbered(name) if candidate not in taken)


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
