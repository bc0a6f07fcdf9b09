"""The name server as a whole: the names, the gRPC service, and an ordinary object, on one daemon."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any, Self

import grpc

from broker.config import Config, config
from broker.connection.channels import addresses_of
from broker.context import Client, current_context
from broker.daemon import Daemon
from broker.errors import DaemonError
from broker.registry import LEASE_TTL, OWN_NAME, wire
from broker.registry.client import checked_tags
from broker.registry.discovery import Beacon, address_towards
from broker.registry.names import Names
from broker.registry.service import Door, audited, generic_handler
from broker.registry.store import Selection, Store, store_from
from broker.security import Authorize, Credentials, NameRules, Policy
from broker.signals import sigterm_as_ctrl_c
from broker.uri import URI, join_host_port

__all__ = ["NameServerDaemon", "start_ns", "start_ns_loop"]


class NameServerObject:
    """The name server as an object: what `BROKERNAME:Broker.NameServer` leads to."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def register(
        self, name: str, uri: str | URI, *, replace: bool = True, tags: Iterable[str] = (), ttl: float | None = None
    ) -> None:
        """Enters a name for a URI. It stays until it is removed, or for `ttl` seconds."""
        client = _client()
        with audited(self._names, client, "register", name):
            self._names.register(
                name, str(URI(uri)), tags=_collection(tags), replace=replace, ttl=ttl or 0.0, identity=client.identity
            )

    def lookup(self, name: str) -> URI:
        """The URI of a name. Raises NameNotFound."""
        return URI(self._names.lookup(name).uri)

    def list(
        self,
        prefix: str | None = None,
        *,
        regex: str | None = None,
        tags_all: Iterable[str] | None = None,
        tags_any: Iterable[str] | None = None,
    ) -> dict[str, URI]:
        """The names that meet all conditions given, sorted, with their URIs."""
        any_of = None if tags_any is None else frozenset(_collection(tags_any))
        selection = Selection.of(prefix, regex, _collection(tags_all or ()), any_of or ())
        if any_of is not None and not any_of:
            return {}
        return {entry.name: URI(entry.uri) for entry in self._names.select(selection)}

    def remove(self, name: str | None = None, *, prefix: str | None = None, regex: str | None = None) -> int:
        """Removes a name, or all that match, and returns how many there were."""
        given = [text for text in (name, prefix, regex) if text is not None]
        if len(given) != 1:
            raise ValueError("remove by one of name, prefix and regex")
        selection = None if name is not None else Selection.of(prefix, regex)
        client = _client()
        with audited(self._names, client, "remove"):
            return len(self._names.remove(name=name, selection=selection, identity=client.identity))

    def set_tags(self, name: str, tags: Iterable[str]) -> None:
        """Gives a name these tags instead of those that it had. Raises NameNotFound."""
        client = _client()
        with audited(self._names, client, "set_tags"):
            self._names.set_tags(name, _collection(tags), identity=client.identity)

    def count(self) -> int:
        """How many names there are, that of the name server itself included."""
        return self._names.count()

    def ping(self) -> None:
        """Returns if the name server answers."""


def _client() -> Client:
    """Who calls."""
    return current_context.client or Client("")


def _rules_in(authorize: Authorize | None) -> Callable[[], NameRules] | None:
    return (lambda: authorize.names) if isinstance(authorize, Policy) else None


def _collection(tags: Iterable[str]) -> Iterable[str]:
    if isinstance(tags, str):
        raise TypeError(f"tags is a collection of str, not one str: write [{tags!r}]")
    return tags


class NameServerDaemon:
    """A running name server. `uri` and `address` say where it is; it ends with `close()` or its `with` block."""

    def __init__(
        self, daemon: Daemon, *, store: Store, lease_ttl: float, owns_daemon: bool, tags: Iterable[str] = ()
    ) -> None:
        """Owns the store from now on, and the daemon if it was made for it."""
        self.daemon = daemon
        self.beacon: Beacon | None = None
        """What answers broadcasts, if anything does."""
        self.stored = store.count()
        """How many names the store had at the start."""
        self._owns_daemon = owns_daemon
        self._closed = False
        self._store = store
        self._names = Names(
            store,
            lease_ttl=lease_ttl,
            may_return=daemon.has_fixed_port,
            rules=_rules_in(daemon.authorize),
            max_names_per_identity=Config.max_names_per_identity.pick(None),
        )
        self._names.on_limit = daemon._limit_met
        self._object = NameServerObject(self._names)
        self.uri: URI = daemon.register(self._object, OWN_NAME)
        self._names.own(self.uri, checked_tags(tags))
        self._handler = generic_handler(self._names, Door(daemon.identification, daemon.authorize))
        daemon._serve_also(self._handler, wire.SERVICE)
        self._names.start()
        daemon.start()

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) as published."""
        return self.daemon.address

    @property
    def numeric_address(self) -> str:
        """The IP address behind the host."""
        return addresses_of(*self.daemon.address)[0][0]

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine reach it."""
        addresses = [address.partition("%")[0] for address in self.daemon.bound_addresses]
        return all(ipaddress.ip_address(address).is_loopback for address in addresses)

    @property
    def announcement(self) -> list[str]:
        """What a program says that runs it: where it is, and what it found in its store."""
        host = self.address[0]
        lines = [f"Not starting broadcast server for {host}."] if self.is_local else []
        if self.beacon is not None:
            lines.append(f"Broadcast server running on {join_host_port(*self.beacon.address)}")
        if self._store.persistent:
            plural = "" if self.stored == 1 else "s"
            lines.append(f"Persistent store contains {self.stored} existing registration{plural}.")
        return [*lines, f"NS running on {self.uri.location} ({self.numeric_address})", f"URI = {self.uri}"]

    def answer_broadcasts(self, host: str = "", port: int = Config.ns_broadcast_port.unset) -> Beacon | None:
        """Answers who asks the network where the name server is, on a UDP port of the interface `host` ("": all).

        Does nothing if other machines do not reach it, or over IPv6 alone. Raises DaemonError if the port is in use.
        """
        by_ipv4 = [address for address in self.daemon.bound_addresses if ":" not in address]
        if self.beacon is None and by_ipv4 and not self.is_local:
            self.beacon = Beacon(self._uri_towards if "0.0.0.0" in by_ipv4 else self.uri, host, port)
            self.beacon.start()
        return self.beacon

    def _uri_towards(self, asker: str) -> URI:
        return URI.direct(OWN_NAME, address_towards(asker), self.address[1])

    def loop(self) -> None:
        """Serves until `close()`, Ctrl-C or SIGTERM, and closes."""
        try:
            self.daemon.request_loop()
        finally:
            self.close()

    def close(self) -> None:
        """Ends the name server; its store is on the disk. Calling it again does nothing, as in a forked child.

        A daemon that it was given goes on.
        """
        if self.daemon.is_of_parent:
            return
        if self.beacon is not None:
            self.beacon.close()
        self._names.close()
        if self._owns_daemon:
            self.daemon.shutdown(grace=1.0)
        elif not self._closed:
            self.daemon._serve_no_more(self._handler, wire.SERVICE)
            self.daemon.unregister(self._object)
        self._closed = True

    shutdown = close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<NameServerDaemon {self.uri}>"


def start_ns(
    host: str | None = None,
    port: int | None = None,
    *,
    storage: str = "memory",
    lease_ttl: float = LEASE_TTL,
    insecure: bool = Config.insecure.unset,
    credentials: Credentials | grpc.ServerCredentials | None = None,
    authorize: Authorize | None = None,
    broadcast: bool = Config.ns_broadcast.unset,
    daemon: Daemon | None = None,
    tags: Iterable[str] = (),
) -> NameServerDaemon:
    """Starts a name server in this process and returns it, serving.

    Without arguments it listens where `locate_ns()` looks first, normally localhost:9090; port 0 takes any free one.
    `storage` is `memory` or `sqlite:FILE`. Names of running daemons live `lease_ttl` seconds without being renewed.
    With `broadcast` it answers who asks the network for it, if other machines reach it at all. A `daemon` that is given
    serves it, beside its objects: then that says where it listens, to whom and how. `tags` are those with which it
    lists itself. Raises NamingError for the storage, and DaemonError if the port is in use, or needs `insecure`.
    """
    if daemon is not None and not daemon.bound_addresses:
        raise DaemonError(f"a name server is found by host and port, and {daemon!r} has none: give it one of its own")
    store = store_from(storage)
    try:
        own = daemon or Daemon(
            config.ns_host if host is None else host,
            config.ns_port if port is None else port,
            insecure=insecure,
            credentials=credentials,
            authorize=authorize,
        )
        server = NameServerDaemon(own, store=store, lease_ttl=lease_ttl, owns_daemon=daemon is None, tags=tags)
    except BaseException:
        store.close()
        raise
    try:
        if Config.ns_broadcast.pick(broadcast):
            server.answer_broadcasts()
    except BaseException:
        server.close()
        raise
    return server


def start_ns_loop(host: str | None = None, port: int | None = None, **options: Any) -> None:
    """Runs a name server until Ctrl-C or SIGTERM, and prints where it is. Takes and raises what `start_ns` does."""
    with sigterm_as_ctrl_c():
        try:
            with start_ns(host, port, **options) as server:
                print(*server.announcement, sep="\n", flush=True)
                server.loop()
        except KeyboardInterrupt:  # before or after the loop, which ends cleanly by itself
            pass
        print("NS shut down.", flush=True)
