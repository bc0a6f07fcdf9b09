"""A name belongs to the identity that registered it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import broker
from broker import errors
from broker.registry.names import Names
from broker.registry.store import MemoryStore, Selection, SqliteStore
from tests.security.conftest import Made, authority, made

__all__ = ["authority", "made"]  # fixtures

POLICY = """
[roles]
payroll = ["payroll"]
operators = ["operator"]
[names]
administrators = ["operators"]
[names.reserved]
"payroll." = ["payroll"]
"""
HERE = "BROKER:a@host.example:1"
THERE = "BROKER:b@evil.example:1"


@pytest.fixture
def policy(tmp_path: Path) -> broker.Policy:
    (tmp_path / "policy.toml").write_text(POLICY, encoding="utf-8")
    return broker.Policy(tmp_path / "policy.toml")


@pytest.fixture
def names(policy: broker.Policy) -> Iterator[Names]:
    names = Names(MemoryStore(), rules=lambda: policy.names)
    names.register("shop", HERE, identity="janet")
    yield names
    names.close()


@pytest.mark.parametrize("identity", ["henry", "", None])
def test_nobody_else_takes_changes_or_removes_it(names: Names, identity: str | None) -> None:
    with pytest.raises(errors.NameTaken, match=r"'shop' belongs to 'janet', and .* cannot take it over"):
        names.register("shop", THERE, identity=identity)
    later = names.register("other", HERE, identity=identity)
    with pytest.raises(errors.NameTaken, match="belongs to 'janet'"):  # as if it came back after a restart
        names.register("shop", THERE, registration=later + 1, identity=identity)
    with pytest.raises(errors.NamingError, match="is no number that a registration has had"):
        names.register("free", THERE, registration=2**62, identity=identity)
    with pytest.raises(errors.AccessDenied, match=r"'shop' belongs to 'janet', and .* cannot change it"):
        names.remove(name="shop", identity=identity)
    with pytest.raises(errors.AccessDenied):
        names.set_tags("shop", ["x"], identity=identity)
    assert names.remove(selection=Selection.of(prefix="s"), identity=identity) == []
    assert names.lookup("shop").uri == HERE


def test_its_owner_does_what_he_likes(names: Names) -> None:
    names.register("shop", THERE, identity="janet")
    names.set_tags("shop", ["x"], identity="janet")
    names.register("open", HERE)  # whose nobody was asked: it is everybody's
    names.register("open", THERE, identity="henry")
    assert names.remove(selection=Selection.of(prefix=""), identity="janet") == ["shop"]
    assert names.remove(name="open", identity="henry") == ["open"]
    names.register("shop", THERE, identity="henry")  # it was free


def test_an_administrator_may(names: Names) -> None:
    names.set_tags("shop", ["x"], identity="operator")
    names.register("payroll.main", HERE, identity="operator")
    assert names.remove(name="shop", identity="operator") == ["shop"]


@pytest.mark.parametrize("identity", ["janet", "", None])
def test_a_reserved_name_is_not_to_be_had(names: Names, identity: str | None) -> None:
    with pytest.raises(errors.AccessDenied, match=r"names that begin with 'payroll\.' are reserved, and not for"):
        names.register("payroll.main", THERE, identity=identity)
    names.register("payroll.main", HERE, identity="payroll")
    names.register("payrolls", HERE, identity=identity)


def test_a_name_of_before_is_kept_for_those_it_is_reserved_for(policy: broker.Policy) -> None:
    """A store may be older than the rules, or than the certificates."""
    store = MemoryStore()
    Names(store).register("payroll.main", HERE)
    names = Names(store, rules=lambda: policy.names)
    for identity in ("henry", None):
        with pytest.raises(errors.AccessDenied, match=r"'payroll.main' is reserved, and .* cannot change it"):
            names.remove(name="payroll.main", identity=identity)
        with pytest.raises(errors.AccessDenied):
            names.set_tags("payroll.main", ["x"], identity=identity)
        assert names.remove(selection=Selection.of(prefix=""), identity=identity) == []
    assert names.remove(name="payroll.main", identity="payroll") == ["payroll.main"]
    names.close()


def test_whose_it_is_survives_a_restart(tmp_path: Path) -> None:
    file = str(tmp_path / "names.db")
    names = Names(SqliteStore(file))
    names.register("shop", HERE, identity="janet")
    names.close()
    names = Names(SqliteStore(file))
    with pytest.raises(errors.NameTaken, match="belongs to 'janet'"):
        names.register("shop", THERE, identity="henry")
    names.close()


def test_a_file_of_before_is_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "names.db"
    names = Names(SqliteStore(str(file)))
    names.register("shop", HERE, tags=["x"])
    names.close()
    with sqlite3.connect(file) as connection:
        connection.execute("ALTER TABLE names DROP COLUMN owner")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    names = Names(SqliteStore(str(file)))
    entry = names.lookup("shop")
    assert (entry.uri, entry.tags, entry.owner) == (HERE, frozenset({"x"}), "")
    names.register("shop", THERE, identity="henry")
    names.close()


# ---- over real connections


@pytest.fixture
def server(made: Made, policy: broker.Policy) -> Iterator[Any]:
    file = policy._file
    file.write_text(
        POLICY.replace('["payroll"]\noperators', '["henry"]\noperators', 1)
        + '[[allow]]\nroles = ["everybody"]\nobjects = ["Broker.NameServer"]\n',
        encoding="utf-8",
    )
    text = file.read_text(encoding="utf-8").replace("[roles]\n", '[roles]\neverybody = ["*"]\n')
    file.write_text(text, encoding="utf-8")
    with broker.start_ns(port=0, credentials=made["warehouse"], authorize=broker.Policy(file)) as server:
        yield server


def test_by_every_way_that_leads_to_the_names(server: Any, made: Made, caplog: pytest.LogCaptureFixture) -> None:
    janet, henry = (broker.locate_ns(*server.address, credentials=made[name]) for name in ("janet", "henry"))
    by_proxy: Any = broker.Proxy(server.uri, credentials=made["henry"])
    janet.register("shop", HERE)
    attempts: list[Callable[[], object]] = [
        lambda: henry.register("shop", THERE),
        lambda: henry.remove("shop"),
        lambda: henry.set_tags("shop", ["x"]),
        lambda: by_proxy.register("shop", THERE),
        lambda: by_proxy.remove("shop"),
        lambda: by_proxy.set_tags("shop", ["x"]),
    ]
    for attempt in attempts:
        with pytest.raises((errors.NameTaken, errors.AccessDenied, errors.RemoteError), match="belongs to 'janet'"):
            attempt()
    refused = [(record.levelname, record.identity, record.member, record.reason) for record in audited(caplog)]
    assert refused == [
        ("WARNING", "henry", member, "ACCESS_DENIED") for member in 2 * ["register", "remove", "set_tags"]
    ]
    caplog.clear()
    assert henry.remove(prefix="") == 0
    assert str(henry.lookup("shop")) == HERE
    by_proxy.register("payroll.main", HERE)
    with pytest.raises(errors.AccessDenied, match="are reserved"):
        janet.register("payroll.other", HERE)
    assert [(record.identity, record.member) for record in audited(caplog)] == [("janet", "register")]
    with pytest.raises(errors.NameTaken):  # this is daily business
        janet.register("shop", THERE, replace=False)
    assert len(audited(caplog)) == 1


def audited(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if record.name == "broker.audit"]


def test_names_are_withdrawn_by_who_they_belong_to(server: Any, made: Made) -> None:
    class Shop:
        def open(self) -> bool:
            return True

    with broker.Daemon(credentials=made["janet"]) as daemon:
        with broker.locate_ns(*server.address, credentials=made["janet"]) as ns:
            ns.register("shop", daemon.register(Shop()))
        proxy: Any = broker.Proxy(f"BROKERNAME:shop@localhost:{server.address[1]}", credentials=made["henry"])
        with pytest.raises(errors.CannotConnect, match="is not believed here"):  # janet's certificate is for no host
            proxy.open()
    with broker.locate_ns(*server.address, credentials=made["henry"]) as ns:
        assert ns.list("shop") == {}  # withdrawn under its own identity
