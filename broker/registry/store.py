"""Where the entries of a name server are kept: in memory, or in a sqlite file as well.

Both stores answer from one dictionary, so that a prefix or a tag means the same in both; sqlite only remembers. A
change is in the file, synchronously, before it is in memory and before anybody is told of it.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from broker.errors import NamingError

__all__ = [
    "Entry",
    "MappingStore",
    "MemoryStore",
    "Selection",
    "SqliteStore",
    "Store",
    "StoreError",
    "check_storage",
    "store_from",
]

_SPECS = "write memory, or sqlite:FILE"
_APPLICATION_ID = 0x62726B72
_SCHEMA_VERSION = 2
_REGEX_SECONDS = 0.5
_SCHEMA = """
CREATE TABLE names (
    name TEXT PRIMARY KEY, uri TEXT NOT NULL, registration INTEGER NOT NULL,
    lease BLOB NOT NULL, ttl REAL NOT NULL, expires_at REAL NOT NULL, owner TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE tags (
    name TEXT NOT NULL REFERENCES names (name) ON DELETE CASCADE, tag TEXT NOT NULL, PRIMARY KEY (name, tag)
) WITHOUT ROWID;
"""


class StoreError(NamingError):
    """The file of a name server cannot be opened, read or written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name: where it leads, and on what its life hangs."""

    name: str
    uri: str
    tags: frozenset[str] = frozenset()
    registration: int = 0
    lease: bytes = b""
    """The hash of the lease's token; empty: no lease."""
    ttl: float = 0.0
    """Seconds that a name without a lease lives; 0: until it is removed."""
    expires_at: float = 0.0
    """When the ttl ends, as Unix time: for the time that the name server is away. 0 without a ttl."""
    owner: str = ""
    """The identity that registered it; empty: nobody was asked who he is, and anybody may change it."""


class Regex:
    """A regular expression of somebody else's, in Python's syntax, for one question.

    `re` holds up the whole process for as long as it takes, and some take for ever; `regex` can be told when to stop.
    """

    def __init__(self, text: str) -> None:
        """Raises NamingError for what is no regular expression."""
        import regex

        try:
            re.compile(text)  # what `regex` knows beyond that is not for the wire
            self._pattern = regex.compile(text)
        except (re.error, regex.error, RecursionError, OverflowError, FutureWarning) as error:
            raise NamingError(f"invalid regex {text!r}: {error}") from None
        self._text = text
        self._give_up = time.monotonic() + _REGEX_SECONDS

    def matches(self, name: str) -> bool:
        """From the start of the name. Raises NamingError once it has taken too long, for all names together."""
        try:
            left = max(0.001, self._give_up - time.monotonic())
            return self._pattern.match(name, timeout=left, concurrent=True) is not None
        except TimeoutError:
            raise NamingError(
                f"the regex {self._text!r} takes longer than {_REGEX_SECONDS:g} s: write it without a repeat inside a "
                "repeat, or ask by a prefix"
            ) from None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries are meant: all conditions that are given must hold."""

    prefix: str = ""
    regex: Regex | None = None
    tags_all: frozenset[str] = frozenset()
    tags_any: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        prefix: str | None = None,
        regex: str | None = None,
        tags_all: Iterable[str] = (),
        tags_any: Iterable[str] = (),
    ) -> Selection:
        """Raises NamingError for a bad regular expression, and for a prefix and a regular expression together."""
        if prefix is not None and regex is not None:
            raise NamingError("ask by a prefix or by a regular expression, not by both")
        pattern = None if regex is None else Regex(regex)
        return cls(prefix or "", pattern, frozenset(tags_all), frozenset(tags_any))

    def matches(self, entry: Entry) -> bool:
        """A prefix is literal and case-sensitive; a regular expression matches from the start of the name.

        Raises NamingError where the regular expression has taken too long.
        """
        return (
            entry.name.startswith(self.prefix)
            and (self.regex is None or self.regex.matches(entry.name))
            and self.tags_all <= entry.tags
            and (not self.tags_any or not self.tags_any.isdisjoint(entry.tags))
        )


class Store(Protocol):
    """Keeps entries by name. Reading is safe from any thread at any time; changes are made one at a time."""

    persistent: bool

    def get(self, name: str) -> Entry | None: ...

    def select(self, selection: Selection) -> list[Entry]:
        """The entries that match, sorted by name."""
        ...

    def count(self) -> int: ...

    def put(self, entry: Entry) -> None:
        """Enters or replaces a name. Raises StoreError, and then nothing has changed."""
        ...

    def delete(self, names: Iterable[str]) -> list[Entry]:
        """Deletes all of the names that are there, or none, and returns what they were. Raises StoreError."""
        ...

    def close(self) -> None: ...


class MemoryStore:
    """Entries that end with the process."""

    persistent = False

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def get(self, name: str) -> Entry | None:
        return self._entries.get(name)

    def select(self, selection: Selection) -> list[Entry]:
        present = list(self._entries.values())  # one step of the interpreter: safe beside a writer
        return sorted(filter(selection.matches, present), key=lambda entry: entry.name)

    def count(self) -> int:
        return len(self._entries)

    def put(self, entry: Entry) -> None:
        self._entries[entry.name] = entry

    def delete(self, names: Iterable[str]) -> list[Entry]:
        return [entry for name in names if (entry := self._entries.pop(name, None)) is not None]

    def close(self) -> None:
        """Nothing is left to close; a closed memory store can still be read."""

    def __repr__(self) -> str:
        return "memory"


class MappingStore:
    """Entries in a mapping of the program's own, as {name: (URI, tags)}: a shelf, say. What hangs on a lease does not.

    Whatever the mapping raises is raised.
    """

    persistent = True

    def __init__(self, mapping: MutableMapping[str, tuple[str, Iterable[str]]]) -> None:
        self._mapping = mapping

    def get(self, name: str) -> Entry | None:
        try:
            uri, tags = self._mapping[name]
        except KeyError:
            return None
        return Entry(name, uri, frozenset(tags))

    def select(self, selection: Selection) -> list[Entry]:
        present = [self.get(name) for name in sorted(self._mapping)]
        return [entry for entry in present if entry is not None and selection.matches(entry)]

    def count(self) -> int:
        return len(self._mapping)

    def put(self, entry: Entry) -> None:
        self._mapping[entry.name] = entry.uri, entry.tags

    def delete(self, names: Iterable[str]) -> list[Entry]:
        present = [entry for name in names if (entry := self.get(name)) is not None]
        for entry in present:
            del self._mapping[entry.name]
        return present

    def close(self) -> None:
        """The mapping is the program's."""


class SqliteStore(MemoryStore):
    """Entries that a sqlite file remembers: what was acknowledged survives a crash of process or machine.

    The file belongs to one process at a time. Raises StoreError if it cannot be opened, is in use, or is not ours.
    """

    persistent = True

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._writing = threading.Lock()
        with self._reporting("open"):
            self._connection = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
        try:
            with self._reporting("open"):
                self._prepare()
                self._entries = {entry.name: entry for entry in self._read()}
        except BaseException:
            self._connection.close()
            raise

    def put(self, entry: Entry) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM names WHERE name = ?", (entry.name,))
            connection.execute(
                "INSERT INTO names VALUES (?, ?, ?, ?, ?, ?, ?)",
                (entry.name, entry.uri, entry.registration, entry.lease, entry.ttl, entry.expires_at, entry.owner),
            )
            connection.executemany("INSERT INTO tags VALUES (?, ?)", [(entry.name, tag) for tag in entry.tags])
        super().put(entry)

    def delete(self, names: Iterable[str]) -> list[Entry]:
        present = [name for name in names if name in self._entries]
        if present:
            with self._transaction() as connection:
                connection.executemany("DELETE FROM names WHERE name = ?", [(name,) for name in present])
        return super().delete(present)

    def close(self) -> None:
        with self._writing, self._reporting("close"):
            self._connection.close()

    def __repr__(self) -> str:
        return f"sqlite:{self._path}"

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")  # taken with the first access, kept until the end
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA foreign_keys = ON")
        execute("BEGIN IMMEDIATE")
        (tables,) = execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables == 0:
            for statement in _SCHEMA.split(";\n"):
                execute(statement)
            execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        execute("COMMIT")
        if execute("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
            raise StoreError(f"{self._path!r} is a database of another program: name another file for the name server")
        (version,) = execute("PRAGMA user_version").fetchone()
        if version == 1:  # what it knew nothing of: whose a name is
            execute("BEGIN IMMEDIATE")
            execute("ALTER TABLE names ADD COLUMN owner TEXT NOT NULL DEFAULT ''")
            execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            execute("COMMIT")
        elif version != _SCHEMA_VERSION:
            raise StoreError(f"{self._path!r} was written by another version of the name server (format {version})")

    def _read(self) -> Iterator[Entry]:
        tags: dict[str, set[str]] = {}
        for name, tag in self._connection.execute("SELECT name, tag FROM tags"):
            tags.setdefault(name, set()).add(tag)
        for name, uri, *rest in self._connection.execute("SELECT * FROM names"):
            yield Entry(name, uri, frozenset(tags.get(name, ())), *rest)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block's changes, on the disk when it ends; or none, and StoreError."""
        with self._writing, self._reporting("write to"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _reporting(self, action: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"cannot {action} {self._path!r}: {self._reason(error)}") from error

    def _reason(self, error: sqlite3.Error) -> str:
        if "locked" in str(error):
            return "another name server is using it"
        folder = Path(self._path).absolute().parent
        if not folder.is_dir():
            return f"there is no folder {str(folder)!r}"
        return str(error)


def check_storage(spec: str) -> str:
    """Returns the specification of a store if it is one, and raises NamingError that says what can be written."""
    kind, _, path = spec.partition(":")
    if spec == "memory" or (kind == "sqlite" and path and path != ":memory:"):
        return spec
    if kind == "sqlite":
        why = "names no file" if not path else "keeps nothing, which is what memory is for"
        raise NamingError(f"the storage {spec!r} {why}: {_SPECS}")
    raise NamingError(f"unknown storage {spec!r}: {_SPECS}")


def store_from(spec: str) -> Store:
    """Opens the store that `memory` or `sqlite:FILE` means. Raises NamingError for another text, and StoreError."""
    path = check_storage(spec).removeprefix("sqlite:")
    return MemoryStore() if spec == "memory" else SqliteStore(path)
