"""Names without a name server: what `NameServer(storageProvider)` keeps them in."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from broker.compat.errors import NamingError
from broker.errors import NameNotFound, NameTaken


class MemoryStorage(dict[str, tuple[str, frozenset[str]]]):
    """URIs and metadata by name."""

    def close(self) -> None:
        pass


class SqlStorage(MemoryStorage):
    """The same, in an sqlite file too, which is opened for each change."""

    def __init__(self, dbfile: str) -> None:
        if dbfile == ":memory:":
            raise ValueError("We don't support the sqlite :memory: database type. Just use MemoryStorage instead.")
        self._dbfile = dbfile
        self._do("CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY, uri TEXT, metadata TEXT)")
        rows = self._do("SELECT name, uri, metadata FROM names")
        super().__init__((name, (uri, frozenset(json.loads(metadata)))) for name, uri, metadata in rows)

    def _do(self, statement: str, *values: str) -> list[Any]:
        try:
            with contextlib.closing(sqlite3.connect(self._dbfile, isolation_level=None)) as file:
                return file.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise NamingError(f"sqlite error: {error}") from error

    def __setitem__(self, name: str, value: tuple[str, frozenset[str]]) -> None:
        self._do("REPLACE INTO names VALUES (?, ?, ?)", name, value[0], json.dumps(sorted(value[1])))
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._do("DELETE FROM names WHERE name = ?", name)

    def clear(self) -> None:
        super().clear()
        self._do("DELETE FROM names")


class StoredNames:
    """The methods of the broker's client, over a storage."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def register(self, name: str, uri: str, *, replace: bool, tags: Iterable[str]) -> None:
        if name in self._storage and not replace:
            raise NameTaken(name)
        self._storage[name] = uri, frozenset(tags)

    def lookup(self, name: str, *, with_tags: bool) -> tuple[str, frozenset[str]]:
        if name not in self._storage:
            raise NameNotFound(name)
        found: tuple[str, frozenset[str]] = self._storage[name]
        return found

    def set_tags(self, name: str, tags: Iterable[str]) -> None:
        self._storage[name] = self.lookup(name, with_tags=True)[0], frozenset(tags)

    def list(self, *, with_tags: bool, tags_all: Any = None, tags_any: Any = None) -> dict[str, Any]:
        all_of, any_of = frozenset(tags_all or ()), None if tags_any is None else frozenset(tags_any)
        return {
            name: entry
            for name, entry in list(self._storage.items())
            if all_of <= frozenset(entry[1]) and (any_of is None or any_of & frozenset(entry[1]))
        }

    def remove(self, name: str) -> int:
        try:
            del self._storage[name]
        except KeyError:  # another thread was quicker
            return 0
        return 1

    def count(self) -> int:
        return len(self._storage)

    def ping(self) -> None:
        pass
