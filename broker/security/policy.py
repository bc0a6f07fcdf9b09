"""Who may call what, by a file: roles, and what each of them may call. docs/security.md describes it."""

from __future__ import annotations

import fnmatch
import logging
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.context import Client
from broker.errors import BrokerError
from broker.security.files import Watched

__all__ = ["InvalidPolicy", "NameRules", "Policy"]

_EXPORTED = "@"
"""Begins the id of an object that was passed to the caller over this very connection, and to nobody else."""
_MOST_REMEMBERED = 4_096
_ALL = ("*",)
_log = logging.getLogger("broker")


class InvalidPolicy(BrokerError, ValueError):
    """A file that is no policy."""


class _Patterns:
    """Texts with * and ?, of which one has to fit the whole. Case counts."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._match = re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)").match

    def fit(self, text: str) -> bool:
        return self._match(text) is not None


@dataclass(frozen=True, slots=True)
class _Rule:
    who: _Patterns
    objects: _Patterns
    members: _Patterns
    pickle: bool

    def covers(self, identity: str, object_name: str, member: str) -> bool:
        """A description (the member "") is for everybody who may call some member of the object."""
        return self.who.fit(identity) and self.objects.fit(object_name) and (not member or self.members.fit(member))


@dataclass(frozen=True, slots=True)
class NameRules:
    """What a name server asks about names, beside whose they are."""

    administrators: _Patterns
    reserved: tuple[tuple[str, _Patterns], ...] = ()

    def is_administrator(self, identity: str | None) -> bool:
        """Whether somebody may change names of others, and reserved ones."""
        return identity is not None and self.administrators.fit(identity)

    def reserved_prefix(self, name: str, identity: str | None) -> str | None:
        """The prefix that keeps somebody from a name; None if none does. Of several the longest counts."""
        for prefix, who in self.reserved:
            if name.startswith(prefix):
                return None if identity is not None and who.fit(identity) else prefix
        return None


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a file says."""

    rules: tuple[_Rule, ...]
    names: NameRules
    known: dict[tuple[str, str, str, bool], bool] = field(default_factory=dict)
    """Answers that were given."""

    def allows(self, identity: str, object_name: str, member: str, *, pickle: bool) -> bool:
        question = (identity, object_name, member, pickle)
        answer = self.known.get(question)
        if answer is None:
            answer = any(
                rule.covers(identity, object_name, member) and (rule.pickle or not pickle) for rule in self.rules
            )
            if len(self.known) >= _MOST_REMEMBERED:
                self.known.clear()
            self.known[question] = answer
        return answer

    def trusts(self, identity: str) -> bool:
        """Whether something that he pickled may be loaded: who may run anything in one call may in any."""
        return any(rule.pickle and rule.who.fit(identity) for rule in self.rules)


class Policy:
    """`Daemon(authorize=broker.Policy("policy.toml"))`: whom the file names may call what it says, and nobody else
    anything.

    The file is read again when it has changed; one that is wrong then is reported, and the rules before stay. May be
    shared by daemons and threads. Raises InvalidPolicy.
    """

    decides_at_once = True
    """It never waits, and is asked by the thread that reads."""

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self._file = Path(file).absolute()
        self._watched = Watched((self._file,), lambda: _read(self._file), self._kept)

    def __call__(self, client: Client, object_name: str, member: str) -> bool:
        if client.identity is None:
            return False
        rules, pickle = self._watched.get(), client.codec == "pickle" and bool(member)
        if object_name.startswith(_EXPORTED):
            return not pickle or rules.trusts(client.identity)
        return rules.allows(client.identity, object_name, member, pickle=pickle)

    @property
    def names(self) -> NameRules:
        """What a name server asks about names."""
        return self._watched.get().names

    def _kept(self, error: Exception) -> None:
        _log.warning("the policy of before still holds: %s", error)

    def __repr__(self) -> str:
        return f"<Policy of {self._file}>"


# ---- the file


def _read(file: Path) -> _Rules:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidPolicy(f"the policy {file} cannot be read: {error.strerror}") from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise InvalidPolicy(f"the policy {file} is no TOML: {error}") from None
    try:
        return _rules(found)
    except InvalidPolicy as error:
        raise InvalidPolicy(f"the policy {file}: {error}") from None


def _rules(found: Mapping[str, Any]) -> _Rules:
    _check_keys(found, "the file", "roles", "allow", "names")
    roles = {name: _texts(who, f"roles.{name}") for name, who in _table(found, "roles").items()}
    allow = found.get("allow", [])
    if not isinstance(allow, list) or not all(isinstance(entry, dict) for entry in allow):
        raise InvalidPolicy("`allow` is a list of tables: write [[allow]]")
    rules = tuple(_rule(entry, f"[[allow]] number {number}", roles) for number, entry in enumerate(allow, 1))
    return _Rules(rules, _name_rules(_table(found, "names"), roles))


def _rule(entry: Mapping[str, Any], where: str, roles: Mapping[str, tuple[str, ...]]) -> _Rule:
    _check_keys(entry, where, "roles", "objects", "members", "pickle")
    if "roles" not in entry or "objects" not in entry:
        raise InvalidPolicy(f"{where} has to say `roles` and `objects`: whom it is for, and what they may call")
    pickle = entry.get("pickle", False)
    if not isinstance(pickle, bool):
        raise InvalidPolicy(f"{where}: `pickle` is true or false, not {pickle!r}")
    objects, members = (_texts(entry.get(key, _ALL), f"{where}: `{key}`") for key in ("objects", "members"))
    return _Rule(_who(entry["roles"], where, roles), _Patterns(objects), _Patterns(members), pickle)


def _name_rules(table: Mapping[str, Any], roles: Mapping[str, tuple[str, ...]]) -> NameRules:
    _check_keys(table, "[names]", "administrators", "reserved")
    reserved = _table(table, "reserved")
    prefixes = sorted(reserved, key=len, reverse=True)
    return NameRules(
        _who(table.get("administrators", []), "[names]", roles),
        tuple((prefix, _who(reserved[prefix], f"[names.reserved] {prefix!r}", roles)) for prefix in prefixes),
    )


def _who(names: object, where: str, roles: Mapping[str, tuple[str, ...]]) -> _Patterns:
    wanted = _texts(names, f"{where}: roles")
    unknown = [name for name in wanted if name not in roles]
    if unknown:
        raise InvalidPolicy(f"{where} names the role {unknown[0]!r}, which [roles] does not have ({_listed(roles)})")
    return _Patterns(identity for name in wanted for identity in roles[name])


def _table(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = found.get(name, {})
    if not isinstance(table, dict):
        raise InvalidPolicy(f"`{name}` is a table: write [{name}]")
    return table


def _texts(value: object, what: str) -> tuple[str, ...]:
    if isinstance(value, (list, tuple)) and all(isinstance(text, str) and text for text in value):
        return tuple(value)
    raise InvalidPolicy(f'{what}: a list of texts, such as ["a", "b*"], and not {value!r}')


def _check_keys(table: Mapping[str, Any], where: str, *known: str) -> None:
    """A misspelt key must not leave a rule out in silence."""
    unknown = [key for key in table if key not in known]
    if unknown:
        raise InvalidPolicy(f"{where} has {unknown[0]!r}, which means nothing there (it can have: {_listed(known)})")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
