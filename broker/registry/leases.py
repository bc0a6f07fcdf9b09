"""What daemons of this process have entered in name servers, and the renewal of it.

Each daemon has a `LeaseHolder` with a secret token; all its names in one name server hang on one lease, which one
thread renews. A name is lost when the name server says so: it was removed, or another daemon has it. Then it is not
renewed, not entered again and not removed by us. A lease that the name server does not know, because it started anew or
because this process stood still, takes back only names that are free or that an older registration has.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from broker._pb import registry_pb2 as pb
from broker.errors import AccessDenied, BrokerError, NameTaken, NamingError
from broker.registry import LEASE_TTL, RENEWALS_PER_TTL, wire
from broker.registry.link import PATIENCE, Link
from broker.uri import URI

__all__ = ["LeaseHolder", "announce", "forget", "holder_of", "object_resolvers"]

_LOG = logging.getLogger("broker")
_RETRY_SECONDS = 0.5
_WITHDRAW_SECONDS = 2.0

object_resolvers: list[Callable[[object], URI | None]] = []
"""Each returns the URI of an object that a daemon of this process serves, or None. Daemons and proxies add theirs."""

_holders: dict[str, LeaseHolder] = {}


def announce(location: str, holder: LeaseHolder) -> None:
    """From now on URIs with this location (`host:port` or `./u:path`) are entered under the holder's lease."""
    _holders[location] = holder


def forget(location: str) -> None:
    """The daemon at this location is gone."""
    _holders.pop(location, None)


def holder_of(uri: URI) -> LeaseHolder | None:
    """The holder of the daemon that a URI leads to, if that daemon serves in this very process."""
    holder = _holders.get(uri.location or "")
    return holder if holder is not None and holder.is_of_this_process else None


def note_removed(address: tuple[str, int], names: Iterable[str]) -> None:
    """This process has removed names itself: no daemon in it wonders where they went."""
    names = list(names)
    for holder in set(_holders.values()):
        if holder.is_of_this_process:
            holder.drop(address, names)


class LeaseHolder:
    """The lease of one daemon. Safe to use from any thread; in a forked child it does nothing."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.token = secrets.token_bytes(16)
        self.on_change: Callable[[], None] = lambda: None
        """Called after a name has come or gone; must not wait."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._renewals: dict[tuple[str, int], _Renewal] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<LeaseHolder of {self.location}: {', '.join(sorted(self.names())) or 'no names'}>"

    @property
    def is_of_this_process(self) -> bool:
        return self._process == os.getpid()

    def register(self, link: Link, name: str, uri: URI, *, tags: Iterable[str], replace: bool) -> None:
        """Enters a name under the lease and keeps it renewed. Raises as `NameServer.register` does."""
        with self._lock:
            if self._closed:
                raise NamingError(f"cannot register {name!r}: the daemon at {self.location} has shut down")
            address = (link.host, link.port)
            renewal = self._renewals.get(address)
            if renewal is None:
                renewal = self._renewals[address] = _Renewal(self, Link(link.host, link.port, link.credentials))
        renewal.enter(link, name, uri, frozenset(tags), replace)

    def names(self) -> dict[str, URI]:
        """The names that it holds, with what they lead to."""
        return {name: held.uri for renewal in self._all() for name, held in renewal.held().items()}

    def uri_of(self, name: str) -> URI | None:
        """What a name leads to, if this daemon holds it."""
        return next((uri for renewal in self._all() if (uri := renewal.uri_of(name)) is not None), None)

    def name_of(self, object_id: str) -> str | None:
        """The name under which it entered that object first, of those that it holds."""
        for renewal in self._all():
            name = renewal.name_of(object_id)
            if name is not None:
                return name
        return None

    def withdraw(self, uri: URI) -> None:
        """Removes the names that lead to this URI and are still ours.

        Never raises: where the name server does not answer within two seconds, they are removed later, or expire.
        """
        for renewal in self._all():
            renewal.withdraw(uri)

    def withdraw_all(self, timeout: float = _WITHDRAW_SECONDS) -> None:
        """Ends the lease: removes what is still ours, and nothing else. The holder takes no name after it.

        Never raises: where a name server does not answer in time, the lease runs out there by itself.
        """
        if not self.is_of_this_process:
            return
        with self._lock:
            self._closed = True
        deadline = time.monotonic() + timeout
        for renewal in self._all():
            renewal.end(max(deadline - time.monotonic(), 0.1))

    def drop(self, address: tuple[str, int], names: Iterable[str]) -> None:
        """Forgets names that are known to be removed there."""
        renewal = self._renewals.get(address)
        if renewal is not None:
            renewal.drop(names)

    def _all(self) -> list[_Renewal]:
        return list(self._renewals.values()) if self.is_of_this_process else []


@dataclass(frozen=True, slots=True)
class _Held:
    """One name of ours. `entered` is False while it has to be entered again."""

    uri: URI
    tags: frozenset[str]
    registration: int
    entered: bool = True


class _Renewal:
    """The lease of one daemon in one name server, and the thread that renews it while there are names."""

    def __init__(self, holder: LeaseHolder, link: Link) -> None:
        self._holder = holder
        self._link = link
        self._daemon = f"the daemon at {holder.location}"
        self._changed = threading.Condition()
        self._held: dict[str, _Held] = {}  # under _changed, as all below
        self._withdrawn: dict[str, int] = {}  # registrations to remove
        self._thread: threading.Thread | None = None
        self._lease_ttl = LEASE_TTL
        self._ended = False
        self._unreachable = False

    def held(self) -> dict[str, _Held]:
        with self._changed:
            return dict(self._held)

    def uri_of(self, name: str) -> URI | None:
        held = self._held.get(name)
        return held.uri if held is not None else None

    def name_of(self, object_id: str) -> str | None:
        held = list(self._held.items())  # one step of the interpreter: it is asked for with every call
        return next((name for name, each in held if each.uri.object == object_id), None)

    def enter(self, link: Link, name: str, uri: URI, tags: frozenset[str], replace: bool) -> None:
        request = pb.RegisterRequest(
            name=name, uri=str(uri), tags=sorted(tags), replace=replace, lease=self._holder.token
        )
        answer = link.call(wire.REGISTER, request, repeat=_repeated(request))
        with self._changed:
            self._held[name] = _Held(uri, tags, answer.registration)
            self._lease_ttl = answer.lease_ttl
            if self._thread is None and not self._ended:
                label = f"broker-lease-{self._holder.location}"
                self._thread = threading.Thread(target=self._run, name=label, daemon=True)
                self._thread.start()
        self._holder.on_change()

    def withdraw(self, uri: URI) -> None:
        with self._changed:
            mine = {name: held.registration for name, held in self._held.items() if held.uri == uri}
            for name in mine:
                del self._held[name]
            self._withdrawn |= mine
            self._changed.notify_all()
        self._holder.on_change()
        try:
            self._remove_withdrawn(mine, _WITHDRAW_SECONDS)
        except BrokerError as error:
            _LOG.info("%s withdraws %s later: %s", self._daemon, ", ".join(mine), error)

    def drop(self, names: Iterable[str]) -> None:
        with self._changed:
            for name in names:
                self._held.pop(name, None)
            self._changed.notify_all()
        self._holder.on_change()

    def end(self, timeout: float) -> None:
        with self._changed:
            had_names, thread = bool(self._held), self._thread
            self._held.clear()
            self._ended = True
            self._changed.notify_all()
        self._holder.on_change()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout / 2)  # a name that it enters at this moment shall be removed too
        if had_names:
            try:
                self._link.call(wire.REMOVE, pb.RemoveRequest(lease=self._holder.token), patience=timeout / 2)
            except BrokerError as error:
                _LOG.info("the names of %s expire by themselves: %s", self._daemon, error)
        self._link.close()

    # ---- the thread

    def _run(self) -> None:
        pause = self._period()
        while self._wait(pause):
            pause = self._renew()

    def _period(self) -> float:
        return self._lease_ttl / RENEWALS_PER_TTL

    def _wait(self, seconds: float) -> bool:
        """Waits for the next round; False if there is nothing to renew any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held, timeout=seconds)
            if not self._held:
                self._thread = None
            return self._thread is not None

    def _renew(self) -> float:
        """One round. Returns the seconds until the next one."""
        before = self.held()
        patience = min(self._period(), PATIENCE)
        try:
            answer = self._link.call(wire.KEEP_ALIVE, pb.KeepAliveRequest(lease=self._holder.token), patience=patience)
            self._compare(before, answer)
            self._enter_again(patience)
            self._remove_withdrawn(dict(self._withdrawn), patience)
        except BrokerError as error:
            if not self._unreachable and not self._link.closed:
                _LOG.warning("cannot renew the names of %s, and go on trying: %s", self._daemon, error)
            self._unreachable = True
            return min(_RETRY_SECONDS, self._period())
        if self._unreachable:
            _LOG.warning("the names of %s are renewed again by the name server at %s", self._daemon, self._link)
        self._unreachable = False
        return self._period()

    def _compare(self, before: dict[str, _Held], answer: pb.KeepAliveResponse) -> None:
        """Takes over what the name server says of those registrations that we had when we asked."""
        there = {held.name: held for held in answer.held}
        lost = []
        with self._changed:
            self._lease_ttl = answer.lease_ttl
            for name, held in before.items():
                if self._held.get(name) is not held:
                    continue
                found = there.get(name)
                if found is not None and found.registration == held.registration:
                    self._held[name] = _Held(held.uri, frozenset(found.tags), held.registration)
                elif not answer.known or not held.entered:
                    self._held[name] = _Held(held.uri, held.tags, held.registration, entered=False)
                else:
                    del self._held[name]
                    lost.append(name)
        if lost:
            self._holder.on_change()
        for name in lost:
            _LOG.warning("%s has lost the name %r: it was removed, or another took it over", self._daemon, name)

    def _enter_again(self, patience: float) -> None:
        for name, held in self.held().items():
            if held.entered:
                continue
            request = pb.RegisterRequest(
                name=name,
                uri=str(held.uri),
                tags=sorted(held.tags),
                lease=self._holder.token,
                registration=held.registration,
            )
            try:
                self._link.call(wire.REGISTER, request, patience=patience)
            except (NameTaken, AccessDenied) as error:
                _LOG.warning("%s has lost the name %r: %s", self._daemon, name, error)
                self._settle(name, held, None)
            else:
                _LOG.info("%s has entered the name %r again", self._daemon, name)
                self._settle(name, held, _Held(held.uri, held.tags, held.registration))

    def _settle(self, name: str, before: _Held, after: _Held | None) -> None:
        """Takes over the outcome for a name, unless it was registered anew or withdrawn meanwhile."""
        with self._changed:
            present = self._held.get(name)
            if present is before and after is not None:
                self._held[name] = after
            elif present is before:
                del self._held[name]
            elif present is None and after is not None:
                self._withdrawn[name] = after.registration
        self._holder.on_change()

    def _remove_withdrawn(self, registrations: dict[str, int], patience: float) -> None:
        for name, registration in registrations.items():
            request = pb.RemoveRequest(name=name, registration=registration)
            self._link.call(wire.REMOVE, request, patience=patience)
            with self._changed:
                if self._withdrawn.get(name) == registration:
                    del self._withdrawn[name]


def _repeated(request: pb.RegisterRequest) -> pb.RegisterRequest:
    repeated = pb.RegisterRequest(again=True)
    repeated.MergeFrom(request)
    return repeated
