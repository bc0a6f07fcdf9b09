"""What daemons of this process hold in name servers: renewal, loss, restart, withdrawal."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker.errors import NamingError
from broker.registry import leases
from broker.registry.client import NameServer
from broker.registry.leases import LeaseHolder
from broker.registry.store import Selection, SqliteStore
from broker.uri import URI

if TYPE_CHECKING:
    from tests.registry.conftest import Running, StartNames

TTL = 1.0
MINE, FOREIGN = URI("BROKER:o@daemon:1"), URI("BROKER:o@elsewhere:2")


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def owners(running: Running) -> dict[str, str]:
    return {entry.name: entry.uri for entry in running.names.select(Selection()) if entry.name != "Broker.NameServer"}


@pytest.fixture
def make_holder() -> Iterator[Callable[[str], LeaseHolder]]:
    made: list[LeaseHolder] = []

    def make(location: str) -> LeaseHolder:
        made.append(LeaseHolder(location))
        leases.announce(location, made[-1])
        return made[-1]

    yield make
    for holder in made:
        leases.forget(holder.location)
        holder.withdraw_all()


@pytest.fixture
def holder(make_holder: Callable[[str], LeaseHolder]) -> LeaseHolder:
    return make_holder("daemon:1")


@pytest.fixture
def short(start_names: StartNames) -> Running:
    return start_names(lease_ttl=TTL)


class TestHolding:
    def test_a_name_of_ours_outlives_its_ttl_and_no_dead_one_does(self, short: Running, holder: LeaseHolder) -> None:
        short.names.register("dead", str(FOREIGN), lease=b"a process that was killed")
        with short.client() as ns:
            ns.register("mine", MINE)
        until(lambda: "dead" not in owners(short))
        time.sleep(TTL)
        assert owners(short) == {"mine": str(MINE)}
        assert holder.names() == {"mine": MINE}
        assert holder.uri_of("mine") == MINE
        assert holder.uri_of("other") is None

    def test_a_foreign_name_and_one_with_a_ttl_hang_on_no_lease(self, short: Running, holder: LeaseHolder) -> None:
        with short.client() as ns:
            ns.register("foreign", FOREIGN)
            ns.register("moment", MINE, ttl=0.1)
            assert holder.names() == {}
            until(lambda: "moment" not in owners(short))
        assert owners(short) == {"foreign": str(FOREIGN)}

    def test_objects_are_found_by_those_who_serve_them(
        self, ns: NameServer, holder: LeaseHolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served = object()
        monkeypatch.setattr(leases, "object_resolvers", [lambda obj: None, lambda obj: MINE if obj is served else None])
        ns.register("mine", served)
        assert ns.lookup("mine") == MINE
        assert holder.names() == {"mine": MINE}
        with pytest.raises(TypeError, match="not registered with a daemon of this process"):
            ns.register("other", object())

    def test_one_thread_renews_all_and_ends_with_the_last_name(self, short: Running, holder: LeaseHolder) -> None:
        def threads() -> int:
            return sum(thread.name == "broker-lease-daemon:1" for thread in threading.enumerate())

        with short.client() as ns:
            for number in range(5):
                ns.register(f"n{number}", MINE)
            assert threads() == 1
            assert ns.remove(prefix="n") == 5
        until(lambda: threads() == 0)
        with short.client() as ns:
            ns.register("again", MINE)
        assert threads() == 1

    def test_tags_that_somebody_changed_are_kept(self, start_names: StartNames, holder: LeaseHolder) -> None:
        first = start_names(lease_ttl=TTL)
        with first.client() as ns:
            ns.register("mine", MINE, tags=["old"])
        first.names.set_tags("mine", ["new"])
        time.sleep(TTL)
        first.stop()
        second = start_names(port=first.port, lease_ttl=TTL)
        until(lambda: "mine" in owners(second))
        assert second.names.lookup("mine").tags == {"new"}


class TestLosing:
    def test_a_name_to_another_is_told_once_and_never_taken_back(
        self, short: Running, make_holder: Callable[[str], LeaseHolder], caplog: pytest.LogCaptureFixture
    ) -> None:
        first, second = make_holder("one:1"), make_holder("two:2")
        with short.client() as ns:
            ns.register("a", "BROKER:o@one:1")
            ns.register("kept", "BROKER:p@one:1")
            ns.register("a", "BROKER:o@two:2")
            until(lambda: first.uri_of("a") is None)
            time.sleep(TTL)
            lost = [record.message for record in caplog.records if "has lost the name 'a'" in record.message]
            assert len(lost) == 1
            assert "the daemon at one:1" in lost[0]
            first.withdraw_all()
            assert list(ns.list()) == ["Broker.NameServer", "a"]
            assert ns.lookup("a") == URI("BROKER:o@two:2")
        assert list(second.names()) == ["a"]

    def test_a_name_that_somebody_removed_does_not_come_back(self, short: Running, holder: LeaseHolder) -> None:
        with short.client() as ns:
            ns.register("a", MINE)
            ns.register("b", MINE)
        short.names.remove(name="a")
        until(lambda: holder.uri_of("a") is None)
        time.sleep(TTL)
        assert list(owners(short)) == ["b"]

    def test_removing_it_ourselves_is_no_loss(
        self, short: Running, holder: LeaseHolder, caplog: pytest.LogCaptureFixture
    ) -> None:
        with short.client() as ns:
            ns.register("a", MINE)
            ns.register("b", MINE)
            ns.remove("a")
        assert list(holder.names()) == ["b"]
        time.sleep(TTL)
        assert "lost" not in caplog.text

    def test_a_lease_that_expired_takes_back_what_is_free(
        self, short: Running, holder: LeaseHolder, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "broker")
        with short.client() as ns:
            ns.register("free", MINE)
            ns.register("taken", MINE)
        short.names.remove(lease=holder.token)  # as if it had expired while this process stood still
        short.names.register("taken", str(FOREIGN), replace=False)
        until(lambda: owners(short) == {"free": str(MINE), "taken": str(FOREIGN)})
        until(lambda: holder.names() == {"free": MINE})
        assert caplog.text.count("has lost the name 'taken'") == 1


class TestRestart:
    def test_names_come_back(self, start_names: StartNames, holder: LeaseHolder) -> None:
        first = start_names(lease_ttl=TTL)
        with first.client() as ns:
            ns.register("mine", MINE, tags=["x"])
        first.stop()
        time.sleep(TTL)  # long enough for a renewal to fail
        second = start_names(port=first.port, lease_ttl=TTL)
        with second.client() as ns:
            assert ns.lookup("mine", with_tags=True) == (MINE, frozenset({"x"}))
            time.sleep(2 * TTL)
            assert ns.lookup("mine") == MINE

    def test_the_last_owner_gets_its_name_whoever_comes_first(
        self, start_names: StartNames, make_holder: Callable[[str], LeaseHolder]
    ) -> None:
        """The name server forgets before the first owner has learnt that it lost the name."""
        first, second = make_holder("one:1"), make_holder("two:2")
        before = start_names(lease_ttl=30)
        with before.client() as ns:
            ns.register("a", "BROKER:o@one:1")
            ns.register("a", "BROKER:o@two:2")
        before.stop()
        after = start_names(port=before.port, lease_ttl=TTL)
        (renewal,) = first._renewals.values()
        renewal._renew()
        assert owners(after) == {"a": "BROKER:o@one:1"}
        (renewal,) = second._renewals.values()
        renewal._renew()
        assert owners(after) == {"a": "BROKER:o@two:2"}
        (renewal,) = first._renewals.values()
        renewal._renew()
        first.withdraw_all()
        assert owners(after) == {"a": "BROKER:o@two:2"}


class TestWithdrawing:
    def test_one_object_leaves_the_others(self, short: Running, holder: LeaseHolder) -> None:
        other = URI("BROKER:other@daemon:1")
        with short.client() as ns:
            ns.register("a", MINE)
            ns.register("b", MINE)
            ns.register("c", other)
        holder.withdraw(MINE)
        assert owners(short) == {"c": str(other)}

    def test_is_made_up_for_when_the_name_server_is_back(
        self, start_names: StartNames, holder: LeaseHolder, tmp_path: Path
    ) -> None:
        path = str(tmp_path / "names.db")
        first = start_names(SqliteStore(path), lease_ttl=TTL)
        with first.client() as ns:
            ns.register("gone", MINE)
            ns.register("stays", URI("BROKER:other@daemon:1"))
        first.stop()
        holder.withdraw(MINE)
        second = start_names(SqliteStore(path), port=first.port, lease_ttl=TTL)
        assert "gone" in owners(second)
        until(lambda: list(owners(second)) == ["stays"])

    def test_all_ends_the_holder(self, short: Running, holder: LeaseHolder) -> None:
        with short.client() as ns:
            ns.register("a", MINE)
            holder.withdraw_all()
            assert owners(short) == {}
            holder.withdraw_all()
            with pytest.raises(NamingError, match="the daemon at daemon:1 has shut down"):
                ns.register("a", MINE)

    def test_without_an_answer_does_not_wait_for_ever(self, start_names: StartNames, holder: LeaseHolder) -> None:
        running = start_names()
        with running.client() as ns:
            ns.register("a", MINE)
        running.stop()
        began = time.monotonic()
        holder.withdraw_all(timeout=0.5)
        assert time.monotonic() - began < 10


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


class TestProcesses:
    def test_a_forgotten_lease_holds_up_no_exit_and_prints_nothing(self, running: Running) -> None:
        program = f"""
            from broker.registry import leases
            from broker.registry.client import NameServer
            leases.announce("daemon:1", leases.LeaseHolder("daemon:1"))
            ns = NameServer("127.0.0.1", {running.port})
            ns.register("a", "BROKER:o@daemon:1")
        """
        began = time.monotonic()
        done = run(program)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert time.monotonic() - began < 40
        running.names.lookup("a")

    def test_a_forked_child_renews_nothing_and_removes_nothing(self, start_names: StartNames) -> None:
        running = start_names(lease_ttl=TTL)
        program = f"""
            import os, signal, sys, time
            from broker.registry import leases
            from broker.registry.client import NameServer
            holder = leases.LeaseHolder("daemon:1")
            leases.announce("daemon:1", holder)
            ns = NameServer("127.0.0.1", {running.port})
            ns.register("a", "BROKER:o@daemon:1")
            child = os.fork()
            if child == 0:
                assert leases.holder_of(ns.lookup("a")) is None
                assert holder.names() == {{}}
                holder.withdraw_all()
                ns.register("child", "BROKER:o@daemon:1", ttl=60)
                assert ns.count() == 3
                os._exit(7)
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            time.sleep({2 * TTL})
            print(ns.count(), flush=True)
            holder.withdraw_all()
            print(ns.count(), flush=True)
        """
        done = run(program)
        assert done.stdout.split() == ["7", "3", "2"], done.stderr
