"""The rules, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from broker.errors import NameNotFound, NameTaken, NamingError, Overloaded
from broker.registry import OWN_NAME, watching
from broker.registry.names import Names
from broker.registry.store import MemoryStore, Selection, SqliteStore, Store
from broker.uri import URI, InvalidURI

ONE, TWO = b"1" * 16, b"2" * 16
HERE, THERE = "BROKER:o@here:1", "BROKER:o@there:2"
Make = Callable[..., Names]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Make:
    def names(store: Store | None = None, *, may_return: bool = False) -> Names:
        return Names(store or MemoryStore(), clock=clock, wall_clock=lambda: 10**9 + clock.now, may_return=may_return)

    return names


@pytest.fixture
def names(make: Make) -> Names:
    return make()


def run(clock: Clock, names: Names, seconds: float) -> None:
    """Lets time pass as a running name server sees it: without gaps."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now = min(end, clock.now + 1)
        names.count()


def listed(names: Names) -> dict[str, str]:
    return {entry.name: entry.uri for entry in names.select(Selection())}


class TestRegistering:
    def test_replaces_unless_told_otherwise(self, names: Names) -> None:
        first = names.register("a", HERE)
        assert names.register("a", THERE) > first
        with pytest.raises(NameTaken, match=r"'a' is taken by BROKER:o@there:2"):
            names.register("a", HERE, replace=False)
        assert names.lookup("a").uri == THERE

    def test_the_same_again_is_taken_too(self, names: Names) -> None:
        names.register("a", HERE, replace=False)
        with pytest.raises(NameTaken):
            names.register("a", HERE, replace=False)

    def test_a_repeated_request_meets_its_own_doing(self, names: Names) -> None:
        again = partial(names.register, "a", HERE, replace=False, again=True)
        number = again(tags=["x"], lease=ONE)
        assert again(tags=["x"], lease=ONE) == number
        for other in (partial(again, tags=["y"], lease=ONE), partial(again, lease=TWO), partial(again, ttl=5.0)):
            with pytest.raises(NameTaken):
                other()

    def test_a_new_registration_drops_the_old_tags(self, names: Names) -> None:
        names.register("a", HERE, tags=["x"])
        names.register("a", HERE)
        assert names.lookup("a").tags == frozenset()

    @pytest.mark.parametrize("name", ["", "a b", "a@b", "a\nb", "\x00", "x" * 1025, "a\u2028"])
    def test_refuses_names_that_no_uri_can_say(self, names: Names, name: str) -> None:
        with pytest.raises(NamingError):
            names.register(name, HERE)

    @pytest.mark.parametrize("tag", ["", "a,b", "a b", "a@b"])
    def test_refuses_tags_that_no_uri_can_say(self, names: Names, tag: str) -> None:
        with pytest.raises(NamingError):
            names.register("a", HERE, tags=[tag])
        names.register("a", HERE)
        with pytest.raises(NamingError):
            names.set_tags("a", [tag])

    @pytest.mark.parametrize("ttl", [-1.0, float("nan"), float("inf")])
    def test_refuses_times_that_are_none(self, names: Names, ttl: float) -> None:
        with pytest.raises(NamingError, match="ttl"):
            names.register("a", HERE, ttl=ttl)

    def test_refuses_what_is_no_uri(self, names: Names) -> None:
        with pytest.raises(InvalidURI):
            names.register("a", "nonsense")

    def test_stores_the_canonical_uri(self, names: Names) -> None:
        names.register("a", "pyro:o@here:1")
        assert names.lookup("a").uri == HERE

    def test_an_unknown_name_lists_the_near_ones(self, names: Names) -> None:
        names.register("example.warehouse", HERE)
        names.register("other", HERE)
        with pytest.raises(NameNotFound, match=r"did you mean 'example.warehouse'\? 2 names are registered"):
            names.lookup("example.warehous")
        with pytest.raises(NameNotFound, match=r"unknown name 'zzz': 2 names are registered"):
            names.lookup("zzz")


class TestItself:
    def test_is_listed_and_cannot_be_touched(self, names: Names) -> None:
        names.own(URI("BROKER:Broker.NameServer@localhost:9090"))
        names.register("a", HERE)
        assert list(listed(names)) == [OWN_NAME, "a"]
        assert names.count() == 2
        for replace in (True, False):
            with pytest.raises(NameTaken, match="the name server itself"):
                names.register(OWN_NAME, HERE, replace=replace)
        with pytest.raises(NameTaken):
            names.register(OWN_NAME, HERE, registration=2)
        with pytest.raises(NamingError):
            names.set_tags(OWN_NAME, ["x"])
        assert names.remove(name=OWN_NAME) == []
        assert names.remove(selection=Selection.of(prefix="")) == ["a"]
        assert names.lookup(OWN_NAME).uri == "BROKER:Broker.NameServer@localhost:9090"


class TestRemoving:
    def test_only_the_registration_that_is_meant(self, names: Names) -> None:
        old = names.register("a", HERE)
        new = names.register("a", THERE)
        assert names.remove(name="a", registration=old) == []
        assert names.remove(name="a", registration=new) == ["a"]
        assert names.remove(name="a") == []

    def test_by_prefix_and_regex(self, names: Names) -> None:
        for name in ("t_1", "tx1", "u"):
            names.register(name, HERE)
        assert names.remove(selection=Selection.of(prefix="t_")) == ["t_1"]
        assert names.remove(selection=Selection.of(regex=".")) == ["tx1", "u"]

    def test_a_lease_removes_what_is_still_its_own(self, names: Names) -> None:
        names.register("a", HERE, lease=ONE)
        names.register("b", HERE, lease=ONE)
        names.register("b", THERE, lease=TWO)
        assert names.remove(lease=ONE) == ["a"]
        assert listed(names) == {"b": THERE}
        assert names.keep_alive(ONE).known is False
        assert names.remove(lease=ONE) == []


class TestLeases:
    def test_end_without_renewal_and_take_their_names_along(self, names: Names, clock: Clock) -> None:
        names.register("a", HERE, lease=ONE)
        names.register("b", HERE, lease=ONE)
        names.register("foreign", HERE)
        run(clock, names, 14.9)
        assert names.count() == 3
        run(clock, names, 0.2)
        assert listed(names) == {"foreign": HERE}
        assert names.keep_alive(ONE).known is False

    def test_live_as_long_as_they_are_renewed(self, names: Names, clock: Clock) -> None:
        number = names.register("a", HERE, tags=["x"], lease=ONE)
        for _ in range(10):
            run(clock, names, 5)
            kept = names.keep_alive(ONE)
            assert kept.known
            assert [(e.name, e.registration, e.tags) for e in kept.held] == [("a", number, frozenset("x"))]

    def test_say_what_was_lost(self, names: Names) -> None:
        names.register("a", HERE, lease=ONE)
        names.register("b", HERE, lease=ONE)
        names.register("c", HERE, lease=ONE)
        names.register("a", THERE, lease=TWO)
        names.remove(name="b")
        kept = names.keep_alive(ONE)
        assert kept.known
        assert [entry.name for entry in kept.held] == ["c"]

    def test_of_a_name_that_moved_do_not_end_it(self, names: Names, clock: Clock) -> None:
        names.register("a", HERE, lease=ONE)
        names.register("a", THERE)
        run(clock, names, 20)
        assert listed(names) == {"a": THERE}

    def test_a_gap_in_our_own_clock_grants_a_full_ttl(self, names: Names, clock: Clock) -> None:
        names.register("a", HERE, lease=ONE)
        names.register("t", HERE, ttl=3)
        clock.now += 1000  # we were stopped, so nobody could renew
        assert names.count() == 2
        run(clock, names, 2.9)
        assert names.count() == 2
        run(clock, names, 12)
        assert names.count() == 1
        run(clock, names, 0.2)
        assert names.count() == 0

    def test_a_short_gap_grants_nothing(self, names: Names, clock: Clock) -> None:
        names.register("a", HERE, lease=ONE)
        run(clock, names, 8)
        clock.now += 7.1
        assert names.count() == 0

    def test_nobody_renews_by_the_stored_hash(self, names: Names) -> None:
        names.register("a", HERE, lease=ONE)
        stored = names.lookup("a").lease
        assert ONE not in stored
        assert names.keep_alive(stored).known is False

    def test_an_empty_lease_is_none(self, names: Names) -> None:
        with pytest.raises(NamingError):
            names.keep_alive(b"")


class TestTimeToLive:
    def test_ends_a_foreign_name(self, names: Names, clock: Clock) -> None:
        names.register("a", HERE, ttl=0.5)
        clock.now += 0.4
        names.lookup("a")
        clock.now += 0.2
        with pytest.raises(NameNotFound):
            names.lookup("a")

    def test_starts_anew_with_each_registration_and_ends_with_one(self, names: Names, clock: Clock) -> None:
        names.register("a", HERE, ttl=3)
        run(clock, names, 2)
        names.register("a", HERE, ttl=3)
        run(clock, names, 2)
        names.register("a", HERE)
        run(clock, names, 60)
        assert names.count() == 1

    def test_and_a_lease_exclude_each_other(self, names: Names) -> None:
        with pytest.raises(NamingError, match="not by both"):
            names.register("a", HERE, ttl=3, lease=ONE)


class TestRestart:
    def test_stored_leases_go_on_for_a_full_ttl(self, make: Make, clock: Clock, tmp_path: Path) -> None:
        path = str(tmp_path / "names.db")
        before = make(SqliteStore(path))
        number = before.register("a", HERE, tags=["x"], lease=ONE)
        before.close()
        clock.now += 500
        after = make(SqliteStore(path))
        assert after.epoch != before.epoch
        run(clock, after, 14)
        kept = after.keep_alive(ONE)
        assert kept.known
        assert [(e.name, e.registration) for e in kept.held] == [("a", number)]
        run(clock, after, 14)
        assert after.count() == 1
        run(clock, after, 2)
        assert after.count() == 0
        after.close()

    def test_foreign_names_stay_and_a_ttl_ran_on(self, make: Make, clock: Clock, tmp_path: Path) -> None:
        path = str(tmp_path / "names.db")
        before = make(SqliteStore(path))
        before.register("stays", HERE)
        before.register("long", HERE, ttl=100)
        before.register("short", HERE, ttl=5)
        before.close()
        clock.now += 60
        after = make(SqliteStore(path))
        run(clock, after, 4)
        assert list(listed(after)) == ["long", "short", "stays"]
        run(clock, after, 2)
        assert list(listed(after)) == ["long", "stays"]
        run(clock, after, 35)
        assert list(listed(after)) == ["stays"]
        after.close()

    def test_numbers_go_on_rising(self, make: Make, clock: Clock, tmp_path: Path) -> None:
        path = str(tmp_path / "names.db")
        before = make(SqliteStore(path))
        old = before.register("a", HERE)
        before.close()
        clock.now -= 3600  # somebody set the clock back
        after = make(SqliteStore(path))
        assert after.register("b", HERE) > old
        after.close()

    @pytest.mark.parametrize("first", ["old", "new"])
    def test_of_two_that_return_the_last_owner_gets_the_name(self, make: Make, clock: Clock, first: str) -> None:
        before = make()
        old = before.register("a", HERE, lease=ONE)
        new = before.register("a", THERE, lease=TWO)
        clock.now += 1
        after = make()
        assert after.keep_alive(ONE).known is False
        if first == "old":
            after.register("a", HERE, lease=ONE, registration=old)
        after.register("a", THERE, lease=TWO, registration=new)
        with pytest.raises(NameTaken, match="registered anew and leads to BROKER:o@there:2"):
            after.register("a", HERE, lease=ONE, registration=old)
        assert listed(after) == {"a": THERE}
        assert after.keep_alive(ONE).held == ()

    def test_who_returns_never_takes_a_new_registration(self, make: Make, clock: Clock) -> None:
        before = make()
        old = before.register("a", HERE, lease=ONE)
        clock.now += 1
        after = make()
        after.register("a", THERE, replace=False)
        with pytest.raises(NameTaken):
            after.register("a", HERE, lease=ONE, registration=old)

    def test_returning_twice_is_returning_once(self, make: Make) -> None:
        names = make()
        number = names.register("a", HERE, lease=ONE)
        assert names.register("a", HERE, lease=ONE, registration=number) == number
        with pytest.raises(NameTaken):
            names.register("a", HERE, lease=TWO, registration=number)


class TestReturning:
    def test_names_may_come_back_for_a_renewal_after_a_start(self, make: Make, clock: Clock) -> None:
        names = make(may_return=True)
        assert names.returning() == 4.75
        run(clock, names, 4.75)
        assert names.returning() == 0

    def test_and_for_a_whole_ttl_once_one_has(self, make: Make, clock: Clock) -> None:
        names = make(may_return=True)
        run(clock, names, 4)
        names.register("a", HERE, lease=ONE, registration=5)
        assert names.returning() == 11

    def test_not_where_nobody_can_know_us_or_the_file_remembers(self, make: Make, tmp_path: Path) -> None:
        assert make(may_return=False).returning() == 0
        stored = make(SqliteStore(str(tmp_path / "names.db")), may_return=True)
        assert stored.returning() == 0
        stored.close()


class TestWatching:
    def test_sees_changes_of_its_prefix_in_order(self, names: Names, clock: Clock) -> None:
        names.register("a.before", HERE)
        watcher = names.watch("a.")
        names.register("a.1", HERE, lease=ONE)
        names.register("b", HERE)
        names.set_tags("a.1", ["x"])
        names.remove(name="a.before")
        run(clock, names, 16)
        seen = [watcher.next() for _ in range(4)]
        assert [(c.kind, c.entry.name, sorted(c.entry.tags)) for c in seen if c] == [
            (watching.REGISTERED, "a.1", []),
            (watching.REGISTERED, "a.1", ["x"]),
            (watching.REMOVED, "a.before", []),
            (watching.REMOVED, "a.1", ["x"]),
        ]
        watcher.close()
        assert watcher.next() is None

    def test_who_does_not_keep_up_is_told_and_dropped(self, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watching, "_LONGEST_QUEUE", 3)
        watcher = names.watch()
        for number in range(5):
            names.register(f"n{number}", HERE)
        with pytest.raises(Overloaded, match="3 changes behind"):
            watcher.next()

    def test_watchers_have_a_limit_and_ended_ones_make_room(
        self, names: Names, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watching, "_MOST_WATCHERS", 1)
        first = names.watch()
        with pytest.raises(Overloaded):
            names.watch()
        first.close()
        names.watch()

    def test_ends_with_the_name_server(self, names: Names) -> None:
        watcher = names.watch()
        names.close()
        assert watcher.next() is None
