"""What a policy says, and how a wrong one is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker import Policy
from broker.context import Client
from broker.security import InvalidPolicy

SHOP = """
[roles]
clerks = ["janet", "henry"]
services = ["*.service"]
everybody = ["*"]

[[allow]]
roles = ["everybody"]
objects = ["example.*"]
members = ["list_*"]

[[allow]]
roles = ["clerks"]
objects = ["example.warehouse"]
members = ["take", "store"]

[[allow]]
roles = ["services"]
objects = ["*"]
pickle = true

[names]
administrators = ["clerks"]

[names.reserved]
"payroll." = ["services"]
"payroll.public." = ["everybody"]
"""


def caller(identity: str | None, codec: str = "json") -> Client:
    return Client("ipv4:192.0.2.1:5000", b"", codec, identity)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(SHOP, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("identity", "object_name", "member", "allowed"),
    [
        ("janet", "example.warehouse", "take", True),
        ("janet", "example.warehouse", "burn", False),
        ("janet", "example.warehouse", "list_contents", True),
        ("janet", "example.stock", "take", False),
        ("janet", "office", "list_contents", False),
        ("Janet", "example.warehouse", "take", False),
        ("mallory", "example.warehouse", "take", False),
        ("mallory", "example.warehouse", "list_contents", True),
        ("mallory", "example.warehouse", "", True),  # its description: there is something that she may call
        ("mallory", "office", "", False),
        ("mallory\n", "example.warehouse", "take", False),
        ("pay.service", "office", "anything", True),
        (None, "example.warehouse", "list_contents", False),
        (None, "@5", "__call__", False),
        ("mallory", "@5", "__call__", True),  # what was passed to her, over her own connection
    ],
)
def test_who_may_what(file: Path, identity: str | None, object_name: str, member: str, allowed: bool) -> None:
    policy = Policy(file)
    for _ in range(2):  # the second time it remembers
        assert policy(caller(identity), object_name, member) is allowed


def test_pickle_is_for_those_roles_whose_rule_says_so(file: Path) -> None:
    policy = Policy(file)
    assert policy(caller("pay.service", "pickle"), "office", "anything")
    assert not policy(caller("janet", "pickle"), "example.warehouse", "take")


def test_also_where_an_object_was_passed_to_the_caller(file: Path) -> None:
    policy = Policy(file)
    assert policy(caller("pay.service", "pickle"), "@5", "__call__")
    assert policy(caller("janet", "pickle"), "@5", "")  # nothing is loaded for a description
    assert not policy(caller("janet", "pickle"), "@5", "__call__")


def test_reserved_names_by_the_longest_prefix(file: Path) -> None:
    names = Policy(file).names
    assert names.reserved_prefix("payroll.main", "mallory") == "payroll."
    assert names.reserved_prefix("payroll.main", None) == "payroll."
    assert names.reserved_prefix("payroll.main", "pay.service") is None
    assert names.reserved_prefix("payroll.public.list", "mallory") is None
    assert names.reserved_prefix("other", "mallory") is None
    assert names.is_administrator("janet")
    assert not names.is_administrator("mallory")
    assert not names.is_administrator(None)


def test_a_changed_file_counts_from_the_next_call(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy = Policy(file)
    assert policy(caller("janet"), "example.warehouse", "take")
    replaced(file, SHOP.replace('"janet", ', ""))
    assert not policy(caller("janet"), "example.warehouse", "take")
    assert policy(caller("henry"), "example.warehouse", "take")
    replaced(file, "[roles")
    assert policy(caller("henry"), "example.warehouse", "take")
    assert not policy(caller("janet"), "example.warehouse", "take")
    assert [record.getMessage()[:34] for record in caplog.records] == ["the policy of before still holds: "]
    file.unlink()
    assert policy(caller("henry"), "example.warehouse", "take")


def replaced(file: Path, text: str) -> None:
    """Writes a file as editors and deployments do: a new one in its place."""
    written = file.with_suffix(".new")
    written.write_text(text, encoding="utf-8")
    os.replace(written, file)  # noqa: PTH105


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[roles", "is no TOML"),
        ('[rolls]\na = ["b"]', "the file has 'rolls', which means nothing there"),
        ('[roles]\nclerks = "janet"', r"roles.clerks: a list of texts, such as \[\"a\", \"b\*\"\], and not 'janet'"),
        ("[roles]\nclerks = [1]", "roles.clerks: a list of texts"),
        ('[allow]\nroles = ["a"]', r"write \[\[allow\]\]"),
        ('[[allow]]\nroles = ["a"]\nobjects = ["*"]', "names the role 'a', which .* does not have .none."),
        ('[roles]\na = ["b"]\n[[allow]]\nroles = ["a"]', "number 1 has to say `roles` and `objects`"),
        ('[roles]\na=["b"]\n[[allow]]\nroles=["a"]\nobjects=["x"]\nmember=["y"]', "has 'member', which means nothing"),
        ('[roles]\na=["b"]\n[[allow]]\nroles=["a"]\nobjects=["x"]\npickle="yes"', "`pickle` is true or false"),
        ("[names]\nreserved = 3", r"write \[reserved\]"),
    ],
)
def test_what_is_no_policy_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidPolicy, match=message):
        Policy(path)


def test_a_policy_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy, match=r"nowhere\.toml cannot be read: No such file"):
        Policy(tmp_path / "nowhere.toml")
