"""The name server as a whole: the names, the gRPC service, and an ordinary object, on one daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

import grpc

from broker.config import Config, config
from broker.connection.channels import addresses_of
from broker.context import current_context
from broker.daemon import Daemon
from broker.registry import LEASE_TTL, OWN_NAME, wire
from broker.registry.names import Names
from broker.registry.service import Door, generic_handler
from broker.registry.store import Selection, Store, store_from
from broker.security import Authorize, Credentials, NameRules, Policy, default_policy
from broker.signals import sigterm_as_ctrl_c
from broker.uri import URI

__all__ = ["NameServerDaemon", "start_ns", "start_ns_loop"]


class NameServerObject:
    """The name server as an object: what `BROKERNAME:Broker.NameServer` leads to."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def register(
        self, name: str, uri: str | URI, *, replace: bool = True, tags: Iterable[str] = (), ttl: float | None = None
    ) -> None:
        """Enters a name for a URI. It stays until it is removed, or for `ttl` seconds."""
        self._names.register(
            name, str(URI(uri)), tags=_collection(tags), replace=replace, ttl=ttl or 0.0, identity=_identity()
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
        return len(self._names.remove(name=name, selection=selection, identity=_identity()))

    def set_tags(self, name: str, tags: Iterable[str]) -> None:
        """Gives a name these tags instead of those that it had. Raises NameNotFound."""
        self._names.set_tags(name, _collection(tags), identity=_identity())

    def count(self) -> int:
        """How many names there are, that of the name server itself included."""
        return self._names.count()

    def ping(self) -> None:
        """Returns if the name server answers."""


def _identity() -> str | None:
    """Of who calls."""
    client = current_context.client
    return client.identity if client is not None else None


def _rules_in(authorize: Authorize | None) -> Callable[[], NameRules] | None:
    return (lambda: authorize.names) if isinstance(authorize, Policy) else None


def _collection(tags: Iterable[str]) -> Iterable[str]:
    if isinstance(tags, str):
        raise TypeError(f"tags is a collection of str, not one str: write [{tags!r}]")
    return tags


class NameServerDaemon:
    """A running name server. `uri` and `address` say where it is; it ends with `close()` or its `with` block."""

    def __init__(
        self, host: str, port: int, *, store: Store, lease_ttl: float, authorize: Authorize | None, **options: Any
    ) -> None:
        """Owns the store from now on. `options` are those of `Daemon`, which raises if the address cannot be had."""
        authorize = authorize if authorize is not None else default_policy()
        self.stored = store.count()
        """How many names the store had at the start."""
        self._names = Names(
            store,
            lease_ttl=lease_ttl,
            may_return=port != 0,
            rules=_rules_in(authorize),
            max_names_per_identity=Config.max_names_per_identity.pick(None),
        )
        try:
            self.daemon = Daemon(host, port, authorize=authorize, **options)
        except BaseException:
            self._names.close()
            raise
        self._names.on_limit = self.daemon._limit_met
        self.uri: URI = self.daemon.register(NameServerObject(self._names), OWN_NAME)
        self._names.own(self.uri)
        self.daemon._serve_also(generic_handler(self._names, Door(self.daemon.identification, authorize)), wire.SERVICE)
        self._names.start()
        self.daemon.start()

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) as published."""
        return self.daemon.address

    @property
    def numeric_address(self) -> str:
        """The IP address behind the host."""
        return addresses_of(*self.daemon.address)[0][0]

    def loop(self) -> None:
        """Serves until `close()`, Ctrl-C or SIGTERM, and closes."""
        try:
            self.daemon.request_loop()
        finally:
            self.close()

    def close(self) -> None:
        """Ends the name server; its store is on the disk. Calling it again does nothing, as in a forked child."""
        if self.daemon.is_of_parent:
            return
        self._names.close()
        self.daemon.shutdown(grace=1.0)

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
) -> NameServerDaemon:
    """Starts a name server in this process and returns it, serving.

    Without arguments it listens where `locate_ns()` looks first, normally localhost:9090; port 0 takes any free one.
    `storage` is `memory` or `sqlite:FILE`. Names of running daemons live `lease_ttl` seconds without being renewed.
    Raises NamingError for the storage, and DaemonError if the port is in use or the bind needs `insecure`.
    """
    store = store_from(storage)
    return NameServerDaemon(
        config.ns_host if host is None else host,
        config.ns_port if port is None else port,
        store=store,
        lease_ttl=lease_ttl,
        insecure=insecure,
        credentials=credentials,
        authorize=authorize,
    )


def start_ns_loop(
    host: str | None = None,
    port: int | None = None,
    *,
    storage: str = "memory",
    lease_ttl: float = LEASE_TTL,
    insecure: bool = Config.insecure.unset,
    credentials: Credentials | grpc.ServerCredentials | None = None,
    authorize: Authorize | None = None,
) -> None:
    """Runs a name server until Ctrl-C or SIGTERM, and prints where it is. Raises as `start_ns`."""
    with sigterm_as_ctrl_c():
        try:
            with start_ns(
                host,
                port,
                storage=storage,
                lease_ttl=lease_ttl,
                insecure=insecure,
                credentials=credentials,
                authorize=authorize,
            ) as server:
                _announce(server, storage)
                server.loop()
        except KeyboardInterrupt:  # before or after the loop, which ends cleanly by itself
            pass
        print("NS shut down.", flush=True)


def _announce(server: NameServerDaemon, storage: str) -> None:
    host = server.address[0]
    if host == "localhost" or host.startswith("127.") or host == "::1":
        print(f"Not starting broadcast server for {host}.")
    if storage != "memory":
        many = f"{server.stored} existing registration{'' if server.stored == 1 else 's'}"
        print(f"Persistent store contains {many}.")
    print(f"NS running on {server.uri.location} ({server.numeric_address})")
    print(f"URI = {server.uri}", flush=True)
