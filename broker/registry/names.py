"""The rules of the name server: who has a name, for how long, and who is told.

A registration has a number; a later one has a higher number, also across restarts, so that of two daemons that enter a
name again after a restart the one that had it last gets it. A name of a running daemon hangs on the daemon's lease,
which is renewed; a foreign one stays, or lives its ttl. Everything that moves these rules lives in this file: it knows
neither gRPC nor files, and its clocks are given.
"""

from __future__ import annotations

import difflib
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from broker.errors import AccessDenied, NameNotFound, NameTaken, NamingError, Overloaded
from broker.registry import LEASE_TTL, OWN_NAME, RENEWALS_PER_TTL
from broker.registry.store import Entry, Selection, Store
from broker.registry.watching import REGISTERED, REMOVED, Watcher, Watchers
from broker.security import NameRules
from broker.uri import URI

__all__ = ["KeptLease", "Names"]

MAX_NAMES_PER_IDENTITY = 100_000
_LONGEST_TEXT = 1024
_HIGHEST_REGISTRATION = 2**63 - 1
_CLOCKS_DIFFER = 86_400 * 1_000_000  # microseconds: numbers begin at the time of a name server's start


@dataclass(slots=True)
class _Lease:
    deadline: float
    names: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class KeptLease:
    """What a lease holds. `known` is False if it is not there: its names can be entered again."""

    known: bool
    held: tuple[Entry, ...]


class Names:
    """The names of one name server, over a store. Safe to use from any thread.

    `start()` runs the clock that lets leases expire; without it they expire when somebody asks. `may_return` is False
    where no daemon can know this name server from before, so that an unknown name is unknown from the first moment.
    """

    def __init__(
        self,
        store: Store,
        *,
        lease_ttl: float = LEASE_TTL,
        may_return: bool = True,
        rules: Callable[[], NameRules] | None = None,
        max_names_per_identity: int = MAX_NAMES_PER_IDENTITY,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`rules` say which names are reserved, and who may change those of others; None: none are, and nobody may."""
        self.lease_ttl = lease_ttl
        self.on_limit: Callable[[str], None] = lambda setting: None
        """Called when something is refused because of the setting of that name."""
        self._most_names = max_names_per_identity
        self._rules = rules
        self._store = store
        self._clock = clock
        self._wall_clock = wall_clock
        self._watchers = Watchers()
        self._own: Entry | None = None
        self._lock = threading.RLock()
        self._leases: dict[bytes, _Lease] = {}  # under the lock, as all below
        self._deadlines: dict[str, float] = {}  # of names with a ttl
        self._owned: Counter[str] = Counter()  # how many names each identity has
        self._last_tick = self._started = clock()
        self._next_tick = self._started
        self._may_return = may_return and not store.persistent
        self._seen_returning = False
        self._stopping = threading.Event()
        self._adopt_stored()
        self.epoch = self._last_registration

    def _adopt_stored(self) -> None:
        """Stored leases go on for one full ttl, and foreign names for what is left of theirs, but at least as long."""
        self._last_registration = int(self._wall_clock() * 1_000_000)
        for entry in self._store.select(Selection()):
            self._last_registration = max(self._last_registration, entry.registration + 1)
            self._owned[entry.owner] += 1
            if entry.lease:
                self._hang_locked(entry)
            elif entry.ttl:
                left = max(entry.expires_at - self._wall_clock(), self.lease_ttl)
                self._deadlines[entry.name] = self._started + min(entry.ttl, left)

    def own(self, uri: URI, tags: Iterable[str] = ()) -> None:
        """Lists the name server itself under `Broker.NameServer`, which nobody can take, change or remove."""
        self._own = Entry(OWN_NAME, str(uri), frozenset(tags))

    # ---- asking

    def lookup(self, name: str) -> Entry:
        """Raises NameNotFound, with the names that are near."""
        self._tick()
        entry = self._own if name == OWN_NAME else self._store.get(name)
        if entry is None:
            raise NameNotFound(self._unknown(name))
        return entry

    def select(self, selection: Selection) -> list[Entry]:
        """The entries that match, sorted by name."""
        self._tick()
        found = self._store.select(selection)
        if self._own is not None and selection.matches(self._own):
            found = sorted([*found, self._own], key=lambda entry: entry.name)
        return found

    def count(self) -> int:
        self._tick()
        return self._store.count() + (self._own is not None)

    def returning(self) -> float:
        """For how many seconds names of running daemons may still come back after a start; 0: all are back.

        Each daemon renews within a quarter of a ttl. Once one came back it was a restart: slow ones get a whole ttl.
        """
        if not self._may_return:
            return 0.0
        patience = self.lease_ttl if self._seen_returning else self.lease_ttl / RENEWALS_PER_TTL + 1
        return max(0.0, self._started + patience - self._clock())

    def watch(self, prefix: str = "") -> Watcher:
        """The changes of names with that prefix, from now on. Raises Overloaded if there are too many watchers."""
        return self._watchers.add(prefix)

    # ---- changing

    def register(
        self,
        name: str,
        uri: str,
        *,
        tags: Iterable[str] = (),
        replace: bool = True,
        lease: bytes = b"",
        ttl: float = 0.0,
        registration: int = 0,
        again: bool = False,
        identity: str | None = None,
    ) -> int:
        """Enters a name and returns the number of the registration.

        `registration` enters again what was forgotten or has expired; `again` marks a request that may have arrived
        before; `identity` is whose the name is from now on. Raises NameTaken, AccessDenied for a name that is reserved
        for others, Overloaded for a name too many, NamingError for a name, tag or ttl that cannot be, InvalidURI, and
        StoreError.
        """
        entry = self._checked(name, uri, tags, lease, ttl, identity)
        if not 0 <= registration <= _HIGHEST_REGISTRATION:
            raise NamingError(f"{registration} is no number of a registration")
        with self._lock:
            self._check_number_locked(registration)
            self._tick_locked()
            if name == OWN_NAME and self._own is None:
                raise NameTaken(f"{OWN_NAME} is every name server itself and cannot be taken")
            present = self._own if name == OWN_NAME else self._store.get(name)
            self._check_reserved(name, identity)
            if present is not None:
                if again and _equal(present, entry):
                    return present.registration
                self._may_replace_locked(present, entry, replace, registration)
                if not self._may_change(present, identity):
                    raise NameTaken(f"{name!r} belongs to {present.owner!r}, and {_who(identity)} cannot take it over")
            self._check_number_of_names_locked(present, entry)
            entry = self._numbered_locked(entry, registration)
            self._store.put(entry)
            self._owned[entry.owner] += 1
            if present is not None:
                self._owned[present.owner] -= 1
            self._unhang_locked(present)
            self._hang_locked(entry)
            self._watchers.tell(REGISTERED, entry)
        return entry.registration

    def remove(
        self,
        *,
        name: str | None = None,
        selection: Selection | None = None,
        lease: bytes = b"",
        registration: int = 0,
        identity: str | None = None,
    ) -> list[str]:
        """Removes one name, all that match, or all of a lease, and returns which were there.

        With `registration` the name is removed only if it is still that registration. Of those that match, names of
        others stay. Raises StoreError, and AccessDenied for one name of somebody else.
        """
        with self._lock:
            self._tick_locked()
            if lease:
                ended = self._leases.get(_hashed(lease))
                names = sorted(ended.names) if ended is not None else []
            elif name is not None:
                present = self._store.get(name)
                mine = present is not None and registration in (0, present.registration)
                names = [name] if mine else []
                if present is not None and mine:
                    self._check_change(present, identity)
            else:
                found = self._store.select(selection or Selection())
                names = [entry.name for entry in found if self._may_change(entry, identity)]
            self._delete_locked(names)
            if lease:
                self._leases.pop(_hashed(lease), None)
        return names

    def set_tags(self, name: str, tags: Iterable[str], *, identity: str | None = None) -> Entry:
        """Replaces the tags of a name. Raises NameNotFound, AccessDenied, NamingError and StoreError."""
        checked = frozenset(_checked_tag(tag) for tag in tags)
        with self._lock:
            self._tick_locked()
            if name == OWN_NAME:
                raise NamingError(f"{OWN_NAME} is the name server itself: its tags cannot be changed")
            present = self._store.get(name)
            if present is None:
                raise NameNotFound(self._unknown(name))
            self._check_change(present, identity)
            entry = replace(present, tags=checked)
            self._store.put(entry)
            self._watchers.tell(REGISTERED, entry)
        return entry

    def keep_alive(self, lease: bytes) -> KeptLease:
        """Renews a lease, and says which registrations hang on it."""
        if not lease:
            raise NamingError("a lease is a secret of 16 bytes, not an empty one")
        with self._lock:
            self._tick_locked()
            kept = self._leases.get(_hashed(lease))
            if kept is None:
                return KeptLease(False, ())
            kept.deadline = self._clock() + self.lease_ttl
            entries = (self._store.get(name) for name in sorted(kept.names))
            return KeptLease(True, tuple(entry for entry in entries if entry is not None))

    # ---- time

    def start(self) -> None:
        """Runs the clock in a daemon thread until `close`."""
        threading.Thread(target=self._run_clock, name="broker-names-clock", daemon=True).start()

    def close(self) -> None:
        """Stops the clock, ends every watcher and closes the store. Calling it again does nothing."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._watchers.close()
            with self._lock:
                self._store.close()

    def _run_clock(self) -> None:
        while not self._stopping.wait(self.lease_ttl / 8):
            with self._lock:
                if not self._stopping.is_set():
                    self._tick_locked()

    def _tick(self) -> None:
        if self._clock() >= self._next_tick:
            with self._lock:
                self._tick_locked()

    def _tick_locked(self) -> None:
        """Lets what is due expire, unless our own clock stood still: then nobody could renew anything."""
        now = self._clock()
        if now - self._last_tick > self.lease_ttl / 2:
            self._grant_again_locked(now)
        self._last_tick = now
        if now < self._next_tick:
            return
        due = [name for name, deadline in self._deadlines.items() if deadline <= now]
        ended = {key: lease for key, lease in self._leases.items() if lease.deadline <= now}
        due += sorted(name for lease in ended.values() for name in lease.names)
        self._delete_locked(due)
        for key in ended:
            del self._leases[key]
        deadlines = [*self._deadlines.values(), *(lease.deadline for lease in self._leases.values())]
        self._next_tick = min([now + self.lease_ttl / 8, *deadlines])

    def _grant_again_locked(self, now: float) -> None:
        for lease in self._leases.values():
            lease.deadline = max(lease.deadline, now + self.lease_ttl)
        for name, deadline in self._deadlines.items():
            entry = self._store.get(name)
            ttl = min(entry.ttl, self.lease_ttl) if entry is not None else 0.0
            self._deadlines[name] = max(deadline, now + ttl)

    # ---- whose a name is

    def is_of_another(self, name: str, identity: str | None) -> bool:
        """Whether a name is there, and somebody must not change it."""
        present = self._store.get(name)
        return present is not None and not self._may_change(present, identity)

    def _may_change(self, entry: Entry, identity: str | None) -> bool:
        """A name belongs to the identity that registered it; one that nobody owns to everybody who may register it."""
        if self._administers(identity):
            return True
        return entry.owner == identity if entry.owner else self._reserved_prefix(entry.name, identity) is None

    def _administers(self, identity: str | None) -> bool:
        return self._rules is not None and self._rules().is_administrator(identity)

    def _check_change(self, entry: Entry, identity: str | None) -> None:
        if not self._may_change(entry, identity):
            whose = f"belongs to {entry.owner!r}" if entry.owner else "is reserved"
            raise AccessDenied(f"{entry.name!r} {whose}, and {_who(identity)} cannot change it")

    def _check_reserved(self, name: str, identity: str | None) -> None:
        prefix = self._reserved_prefix(name, identity)
        if prefix is not None and not self._administers(identity):
            raise AccessDenied(f"names that begin with {prefix!r} are reserved, and not for {_who(identity)}")

    def _reserved_prefix(self, name: str, identity: str | None) -> str | None:
        """The prefix that keeps somebody from a name, if one does."""
        return self._rules().reserved_prefix(name, identity) if self._rules is not None else None

    def _check_number_of_names_locked(self, present: Entry | None, entry: Entry) -> None:
        if present is not None and present.owner == entry.owner:
            return
        count = self._owned[entry.owner]
        if count >= self._most_names:
            self.on_limit("max_names_per_identity")
            raise Overloaded(
                f"{_who(entry.owner or None)} has {count} names here, and gets no more (max_names_per_identity): "
                "remove some"
            )

    # ---- the parts of a change

    def _may_replace_locked(self, present: Entry, entry: Entry, replace: bool, registration: int) -> None:
        if present is self._own:
            raise NameTaken(f"{OWN_NAME} is the name server itself and cannot be taken")
        if registration:
            returns = present.registration == registration and present.lease == entry.lease
            if present.registration < registration or returns:
                return
            raise NameTaken(f"{present.name!r} was registered anew and leads to {present.uri} now")
        if not replace:
            raise NameTaken(f"{present.name!r} is taken by {present.uri}: remove it first, or register with replace")

    def _check_number_locked(self, registration: int) -> None:
        """Refuses a number from the future: it would take any name, and use up the numbers of all others."""
        latest = max(self._last_registration, int(self._wall_clock() * 1_000_000) + _CLOCKS_DIFFER)
        if registration > latest:
            raise NamingError(f"{registration} is no number that a registration has had")

    def _numbered_locked(self, entry: Entry, registration: int) -> Entry:
        number = registration or self._last_registration + 1
        self._last_registration = max(self._last_registration, number)
        self._seen_returning |= registration != 0
        expires_at = self._wall_clock() + entry.ttl if entry.ttl else 0.0
        return replace(entry, registration=number, expires_at=expires_at)

    def _hang_locked(self, entry: Entry) -> None:
        if entry.lease:
            deadline = self._clock() + self.lease_ttl
            lease = self._leases.setdefault(entry.lease, _Lease(deadline))
            lease.deadline = deadline
            lease.names.add(entry.name)
        elif entry.ttl:
            self._deadlines[entry.name] = self._clock() + entry.ttl
            self._next_tick = min(self._next_tick, self._deadlines[entry.name])

    def _unhang_locked(self, entry: Entry | None) -> None:
        if entry is not None:
            self._deadlines.pop(entry.name, None)
            if (lease := self._leases.get(entry.lease)) is not None:
                lease.names.discard(entry.name)

    def _delete_locked(self, names: Iterable[str]) -> None:
        for entry in self._store.delete(names):
            self._owned[entry.owner] -= 1
            self._unhang_locked(entry)
            self._watchers.tell(REMOVED, entry)

    def _checked(
        self, name: str, uri: str, tags: Iterable[str], lease: bytes, ttl: float, identity: str | None
    ) -> Entry:
        if ttl < 0 or ttl != ttl or ttl == float("inf"):
            raise NamingError(f"a ttl is a number of seconds above 0, not {ttl:g}")
        if ttl and lease:
            raise NamingError("a name lives by a lease or by a ttl, not by both")
        checked_tags = frozenset(_checked_tag(tag) for tag in tags)
        checked_uri = URI(uri)
        if checked_uri.connection is not None:
            raise NamingError(f"{uri} is an exported object, which one connection leads to: register it with a daemon")
        owner = identity or ""
        return Entry(_checked_name(name), str(checked_uri), checked_tags, lease=_hashed(lease), ttl=ttl, owner=owner)

    def _unknown(self, name: str) -> str:
        names = [entry.name for entry in self.select(Selection())]
        near = difflib.get_close_matches(name, names, n=3) if len(names) <= 10_000 else []
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        return f"unknown name {name!r}: {hint}{len(names)} {'name is' if len(names) == 1 else 'names are'} registered"


def _hashed(token: bytes) -> bytes:
    """Leases are kept and compared by hash: who reads the file cannot renew them."""
    return hashlib.sha256(token).digest() if token else b""


def _equal(present: Entry, entry: Entry) -> bool:
    return _told(present) == _told(entry)


def _told(entry: Entry) -> tuple[object, ...]:
    return entry.uri, entry.tags, entry.lease, entry.ttl, entry.owner


def _who(identity: str | None) -> str:
    return "somebody unknown" if identity is None else repr(identity)


def _checked_name(name: str) -> str:
    _check_text(name, "name", "@")
    return name


def _checked_tag(tag: str) -> str:
    _check_text(tag, "tag", ",@")
    return tag


def _check_text(text: str, what: str, forbidden: str) -> None:
    """Only what a BROKERNAME or BROKERMETA URI can say."""
    if not text:
        raise NamingError(f"a {what} cannot be empty")
    if len(text) > _LONGEST_TEXT:
        raise NamingError(f"a {what} has at most {_LONGEST_TEXT} characters, not {len(text)}")
    for character in text:
        if character in forbidden or character.isspace() or not character.isprintable():
            raise NamingError(f"the {what} {text!r} holds {character!r}, which no URI can say")
