"""What reflection shows to one caller: the services of every daemon, and those of the objects that he may call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broker.context import Client
from broker.schema import Service
from broker.services.catalog import Files, symbols_of
from broker.services.objects import TYPES, TypedObjects

_LONGEST = 4_096
"""Characters of a symbol; of a longer one each part would have to be looked at."""


class Visible:
    """The services and files that one caller sees."""

    def __init__(self, own: Iterable[str], files: Files, objects: TypedObjects, client: Client) -> None:
        """`own` are the services of the daemon itself, and `files` has their files and those that others import."""
        self._own = own
        self._files = files
        self._objects = objects
        self._client = client

    def services(self) -> list[str]:
        return sorted({*self._own, *self._objects.services_for(self._client)})

    def with_symbol(self, symbol: str) -> list[bytes]:
        if self._files.has_symbol(symbol):
            return self._files.with_symbol(symbol)
        for name in _services_around(symbol) if len(symbol) <= _LONGEST else ():
            service = self._objects.service_for(name, self._client)
            if service is not None and symbol in symbols_of(service.file):
                return self._closure(service)
        raise KeyError(f"symbol {symbol[:100]!r}")

    def with_name(self, name: str) -> list[bytes]:
        if name in self._files:
            return self._files.with_name(name)
        service = self._objects.service_for(name.removesuffix(".proto").replace("/", "."), self._client)
        if service is None or service.file.name != name:
            raise KeyError(f"file {name[:100]!r}")
        return self._closure(service)

    def _closure(self, service: Service) -> list[bytes]:
        return [service.file.SerializeToString(), *self._files.closure(service.file.dependency)]


def _services_around(symbol: str) -> Iterator[str]:
    """The services that may define a symbol, the longest name first."""
    parts = symbol.split(".")
    for count in range(len(parts), 0, -1):
        name = ".".join(parts[:count])
        yield name
        if name.endswith(TYPES):
            yield name.removesuffix(TYPES)
