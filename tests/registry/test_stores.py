"""One contract for both stores, and what only the file has to do."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.errors import NamingError
from broker.registry.store import Entry, MemoryStore, Selection, SqliteStore, Store, StoreError, store_from

EVERYTHING = Selection()


def entry(name: str, *tags: str, uri: str = "BROKER:o@h:1", registration: int = 1) -> Entry:
    return Entry(name, uri, frozenset(tags), registration)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = store_from("memory" if request.param == "memory" else f"sqlite:{tmp_path / 'names.db'}")
    yield made
    made.close()


def names(store: Store, selection: Selection) -> list[str]:
    return [each.name for each in store.select(selection)]


class TestContract:
    def test_gives_back_what_was_put(self, store: Store) -> None:
        full = Entry("a", "BROKER:x@[::1]:5", frozenset({"red", "grün"}), 2**62, b"\x00\xff", 1.5, 123.25)
        store.put(full)
        assert store.get("a") == full
        assert store.get("b") is None
        assert store.count() == 1

    def test_put_replaces_the_whole_entry(self, store: Store) -> None:
        store.put(entry("a", "red", "blue"))
        store.put(entry("a", "green", uri="BROKER:p@h:1", registration=2))
        assert store.get("a") == entry("a", "green", uri="BROKER:p@h:1", registration=2)
        assert store.count() == 1

    def test_selects_sorted(self, store: Store) -> None:
        for name in ("b", "Z", "a", "ä", "a.b"):
            store.put(entry(name))
        assert names(store, EVERYTHING) == ["Z", "a", "a.b", "b", "ä"]

    @pytest.mark.parametrize(
        ("prefix", "found"),
        [
            ("test_", ["test_1"]),  # no wildcard
            ("test%", ["test%1"]),  # no wildcard
            ("test", ["test%1", "test_1", "testx1"]),
            ("TEST", ["TEST"]),  # not the lower case ones
            ("te*", []),
            ("", ["TEST", "test%1", "test_1", "testx1"]),
        ],
    )
    def test_a_prefix_is_literal_and_case_sensitive(self, store: Store, prefix: str, found: list[str]) -> None:
        for name in ("test_1", "testx1", "test%1", "TEST"):
            store.put(entry(name))
        assert names(store, Selection.of(prefix=prefix)) == found

    def test_a_regex_matches_from_the_start(self, store: Store) -> None:
        for name in ("abc", "xabc", "Abc"):
            store.put(entry(name))
        assert names(store, Selection.of(regex="ab")) == ["abc"]
        assert names(store, Selection.of(regex=".*bc$")) == ["Abc", "abc", "xabc"]
        assert names(store, Selection.of(regex="(?i)ab")) == ["Abc", "abc"]

    def test_tags_all_any_and_together(self, store: Store) -> None:
        store.put(entry("rb", "red", "blue"))
        store.put(entry("r", "red"))
        store.put(entry("none"))
        assert names(store, Selection.of(tags_all=["red", "blue"])) == ["rb"]
        assert names(store, Selection.of(tags_any=["red", "green"])) == ["r", "rb"]
        assert names(store, Selection.of(tags_any=["RED"])) == []
        assert names(store, Selection.of(prefix="rb", tags_all=["red"], tags_any=["blue"])) == ["rb"]

    def test_delete_takes_what_is_there(self, store: Store) -> None:
        store.put(entry("a", "red"))
        store.put(entry("b"))
        assert store.delete(["a", "missing"]) == [entry("a", "red")]
        assert store.delete([]) == []
        assert names(store, EVERYTHING) == ["b"]

    def test_a_deleted_name_comes_back_without_its_tags(self, store: Store) -> None:
        store.put(entry("a", "red"))
        store.delete(["a"])
        store.put(entry("a"))
        assert store.get("a") == entry("a")


@pytest.mark.parametrize("regex", ["(", "*", "[a", "a{99999999999}", "(?P<x>)(?P<x>)"])
def test_a_bad_regex_is_a_naming_error(regex: str) -> None:
    with pytest.raises(NamingError, match=r"^invalid regex"):
        Selection.of(regex=regex)


@pytest.mark.parametrize("regex", ["(a|a)*$", "((a{1,500}){1,500}){1,500}!$"])
def test_a_regex_that_would_take_for_ever_is_stopped_and_holds_nobody_up(store: Store, regex: str) -> None:
    store.put(entry("a" * 1000 + "?"))
    others, over = [0], threading.Event()

    def count() -> None:
        while not over.is_set():
            others[0] += 1

    counting = threading.Thread(target=count)
    counting.start()
    try:
        with pytest.raises(NamingError, match=r"takes longer than 0\.5 s: write it without a repeat inside"):
            store.select(Selection.of(regex=regex))
    finally:
        over.set()
        counting.join()
    assert others[0] > 10_000, "another thread hardly ran meanwhile"


def test_prefix_and_regex_together_are_refused() -> None:
    with pytest.raises(NamingError, match="not by both"):
        Selection.of(prefix="", regex="a")


class TestFile:
    def test_remembers(self, tmp_path: Path) -> None:
        path = str(tmp_path / "names.db")
        store = SqliteStore(path)
        store.put(entry("a", "red", "blue"))
        store.put(entry("b"))
        store.delete(["b"])
        store.close()
        again = SqliteStore(path)
        assert again.select(EVERYTHING) == [entry("a", "red", "blue")]
        again.close()

    def test_belongs_to_one_process_at_a_time(self, tmp_path: Path) -> None:
        path = str(tmp_path / "names.db")
        first = SqliteStore(path)
        with pytest.raises(StoreError, match="another name server is using it"):
            SqliteStore(path)
        first.close()
        SqliteStore(path).close()

    def test_is_written_synchronously(self, tmp_path: Path) -> None:
        store = SqliteStore(str(tmp_path / "names.db"))
        assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
        store.close()

    def test_a_failed_write_changes_nothing(self, tmp_path: Path) -> None:
        store = SqliteStore(str(tmp_path / "names.db"))
        store.put(entry("a", "red"))
        store._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError, match="cannot write to"):
            store.put(entry("a", "blue"))
        with pytest.raises(StoreError, match="cannot write to"):
            store.delete(["a"])
        store._connection.execute("PRAGMA query_only = OFF")
        assert store.get("a") == entry("a", "red")
        store.put(entry("a", "blue"))
        assert store.get("a") == entry("a", "blue")
        store.close()

    def test_garbage_is_no_store(self, tmp_path: Path) -> None:
        path = tmp_path / "names.db"
        path.write_bytes(b"this is no database at all, and long enough to be looked at as one" * 30)
        with pytest.raises(StoreError, match="not a database"):
            SqliteStore(str(path))

    def test_a_database_of_another_program_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "other.db"
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE names (x)")
        other.close()
        with pytest.raises(StoreError, match="another program"):
            SqliteStore(str(path))

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"there is no folder '.*nowhere'"):
            SqliteStore(str(tmp_path / "nowhere" / "names.db"))


@pytest.mark.parametrize("spec", ["dbm:x", "sql:x", "", "sqlite", "sqlite:", "sqlite::memory:", "memory:x", "Memory"])
def test_a_storage_that_is_none_says_what_can_be_written(spec: str) -> None:
    with pytest.raises(NamingError, match="write memory, or sqlite:FILE"):
        store_from(spec)


def test_memory_is_not_persistent() -> None:
    assert isinstance(store_from("memory"), MemoryStore)
    assert not store_from("memory").persistent
