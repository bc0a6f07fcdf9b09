"""`LocalNames`: names without a name server, in this process alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Literal, Self, overload

from broker.registry.client import checked_tags, checked_text
from broker.registry.names import Names
from broker.registry.store import Entry, MappingStore, MemoryStore, Selection, Store, check_storage, store_from
from broker.uri import URI

__all__ = ["LocalNames"]


class LocalNames:
    """Names as a name server has them, without one: for tests, and to read and mend what one has stored.

    `storage` is "memory", "sqlite:FILE", or a mapping of the program's own, {name: (URI, tags)}. A file is opened for
    each question, so that it is free in between; while a name server uses it each is a NamingError. The methods are
    those of the `NameServer` that `locate_ns` gives, and raise what these raise. Safe to use from any thread.
    """

    def __init__(self, storage: str | MutableMapping[str, tuple[str, Iterable[str]]] = "memory") -> None:
        """Raises NamingError for what is no storage, and for a file that is in use or of another program."""
        self._file = check_storage(storage) if isinstance(storage, str) and storage != "memory" else None
        store: Store = MappingStore(storage) if not isinstance(storage, str) else MemoryStore()
        self._kept = Names(store, may_return=False)
        with self._names():
            pass  # it can be opened

    def register(
        self, name: str, uri: str | URI, *, replace: bool = True, tags: Iterable[str] = (), ttl: float | None = None
    ) -> None:
        """Enters a name for a URI. NameTaken if it is there and `replace` is False."""
        with self._names() as names:
            names.register(
                checked_text(name, "name"), str(URI(uri)), tags=checked_tags(tags), replace=replace, ttl=ttl or 0.0
            )

    def remove(self, name: str | None = None, *, prefix: str | None = None, regex: str | None = None) -> int:
        """Removes a name, or all that match, and returns how many there were."""
        if [name, prefix, regex].count(None) != 2:
            raise ValueError("remove by one of name, prefix and regex")
        with self._names() as names:
            return len(names.remove(name=name, selection=Selection.of(prefix, regex)))

    @overload
    def lookup(self, name: str, *, with_tags: Literal[False] = False) -> URI: ...
    @overload
    def lookup(self, name: str, *, with_tags: Literal[True]) -> tuple[URI, frozenset[str]]: ...
    @overload
    def lookup(self, name: str, *, with_tags: bool) -> URI | tuple[URI, frozenset[str]]: ...
    def lookup(self, name: str, *, with_tags: bool = False) -> URI | tuple[URI, frozenset[str]]:
        """The URI of a name. Raises NameNotFound."""
        with self._names() as names:
            entry = names.lookup(checked_text(name, "name"))
        return (URI(entry.uri), entry.tags) if with_tags else URI(entry.uri)

    def set_tags(self, name: str, tags: Iterable[str]) -> None:
        """Gives a name these tags instead of those that it had. Raises NameNotFound."""
        with self._names() as names:
            names.set_tags(checked_text(name, "name"), checked_tags(tags))

    @overload
    def list(
        self,
        prefix: str | None = None,
        *,
        regex: str | None = None,
        tags_all: Iterable[str] | None = None,
        tags_any: Iterable[str] | None = None,
        with_tags: Literal[False] = False,
    ) -> dict[str, URI]: ...
    @overload
    def list(
        self,
        prefix: str | None = None,
        *,
        regex: str | None = None,
        tags_all: Iterable[str] | None = None,
        tags_any: Iterable[str] | None = None,
        with_tags: Literal[True],
    ) -> dict[str, tuple[URI, frozenset[str]]]: ...
    def list(
        self,
        prefix: str | None = None,
        *,
        regex: str | None = None,
        tags_all: Iterable[str] | None = None,
        tags_any: Iterable[str] | None = None,
        with_tags: bool = False,
    ) -> dict[str, URI] | dict[str, tuple[URI, frozenset[str]]]:
        """The names that meet all conditions given, sorted, each with its URI, or with its URI and tags."""
        if prefix is not None and regex is not None:
            raise ValueError("list by a prefix or by a regular expression, not by both")
        any_of = None if tags_any is None else frozenset(checked_tags(tags_any))
        selection = Selection.of(prefix, regex, checked_tags(tags_all or ()), any_of or ())
        with self._names() as names:
            found: Iterable[Entry] = () if any_of is not None and not any_of else names.select(selection)
        if with_tags:
            return {entry.name: (URI(entry.uri), entry.tags) for entry in found}
        return {entry.name: URI(entry.uri) for entry in found}

    def count(self) -> int:
        """How many names there are."""
        with self._names() as names:
            return names.count()

    def ping(self) -> None:
        """Does nothing: there is nobody who might not answer."""

    def close(self) -> None:
        """Does nothing: a file is closed, and a mapping is the program's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LocalNames in {self._file or 'memory'}>"

    @contextmanager
    def _names(self) -> Iterator[Names]:
        if self._file is None:
            yield self._kept
            return
        names = Names(store_from(self._file), may_return=False)
        try:
            yield names
        finally:
            names.close()
