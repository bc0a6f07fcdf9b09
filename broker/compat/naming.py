"""The name server as Pyro has it: its proxy is a client of the broker's, in which metadata are tags."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterable
from typing import Any

import broker
from broker.compat.broadcast import BroadcastServer, asked_for, started_for
from broker.compat.configuration import config
from broker.compat.daemon import Daemon, is_consent
from broker.compat.errors import NamingError
from broker.compat.exposure import expose, get_exposed_members
from broker.compat.proxy import NAMESERVER_NAME, Metadata, Proxy, refuse_hmac
from broker.compat.uri import URI

_OURS = "Broker.NameServer"
_chance = random.Random()  # that of the module is the program's: drawing from it would change what a seed gives
_OPTIONS = (  # of the command
    ("-n", "--host", "hostname to bind server on"), ("-p", "--port", "port to bind server on (0=random)"),
    ("-u", "--unixsocket", "Unix domain socket name to bind server on"),
    ("-s", "--storage", "storage to use: memory, or sql:FILE"),
    ("--bchost", "hostname to bind broadcast server on"), ("--bcport", "port to bind broadcast server on (0=random)"),
    ("--nathost", "external hostname in case of NAT"), ("--natport", "external port in case of NAT"),
)  # fmt: skip


class MemoryStorage(dict[str, tuple[str, frozenset[str]]]):
    """URIs and metadata by name, for name servers that serve nobody."""

    def close(self) -> None:
        pass


class SqlStorage(MemoryStorage):
    """The same, in an sqlite file too, which is opened for each change."""

    def __init__(self, dbfile: str) -> None:
        if dbfile == ":memory:":
            raise ValueError("We don't support the sqlite :memory: database type. Just use MemoryStorage instead.")
        self._dbfile = dbfile
        self._do("CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY, uri TEXT, metadata TEXT)")
        rows = self._do("SELECT name, uri, metadata FROM names")
        super().__init__((name, (uri, frozenset(json.loads(metadata)))) for name, uri, metadata in rows)

    def _do(self, statement: str, *values: str) -> list[Any]:
        try:
            with contextlib.closing(sqlite3.connect(self._dbfile, isolation_level=None)) as file:
                return file.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise NamingError(f"sqlite error: {error}") from error

    def __setitem__(self, name: str, value: tuple[str, frozenset[str]]) -> None:
        self._do("REPLACE INTO names VALUES (?, ?, ?)", name, value[0], json.dumps(sorted(value[1])))
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._do("DELETE FROM names WHERE name = ?", name)

    def clear(self) -> None:
        super().clear()
        self._do("DELETE FROM names")


def _tags(metadata: Any) -> list[str]:
    if isinstance(metadata, str) or not isinstance(metadata, Iterable):
        raise TypeError("metadata should not be a str, but another iterable (set, list, etc)")
    return list(metadata)


@expose
class NameServer:
    """What a name server can do; this one is on its own, and keeps the names in a mapping."""

    def __init__(self, storageProvider: Any = None) -> None:
        self.storage = MemoryStorage() if storageProvider is None else storageProvider

    def register(self, name: str, uri: str | URI, safe: bool = False, metadata: Any = None) -> None:
        if not isinstance(uri, str | URI):
            raise TypeError("only URIs or strings can be registered")
        if not isinstance(name, str):
            raise TypeError("name must be a str")
        self._enter(name, str(URI(uri)), safe, _tags(metadata or ()))

    def lookup(self, name: str, return_metadata: bool = False) -> Any:
        uri, metadata = self._find(name)
        return (URI(uri), set(metadata)) if return_metadata else URI(uri)

    def remove(self, name: str | None = None, prefix: str | None = None, regex: str | None = None) -> int:
        if name is None and prefix is None and regex is None:
            return 0
        found = [name] if name is not None else self.list(prefix, regex)
        return sum(self._drop(each) for each in found if each != NAMESERVER_NAME)

    def list(
        self, prefix: str | None = None, regex: str | None = None, return_metadata: bool = False,
        metadata_all: Any = None, metadata_any: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        if sum(each is not None for each in (prefix, regex, metadata_all, metadata_any)) > 1:
            raise ValueError("you can only filter on one thing at a time")
        all_of = frozenset(_tags(metadata_all or ()))
        any_of = None if metadata_any is None else frozenset(_tags(metadata_any))
        try:
            re.compile(regex or "")
        except re.error as error:
            raise NamingError(f"invalid regex: {error}") from None
        found = sorted(self._entries(prefix, regex, all_of, any_of).items())
        return {name: (str(uri), set(metadata)) if return_metadata else str(uri) for name, (uri, metadata) in found}

    def yplookup(self, meta_all: Any = None, meta_any: Any = None, return_metadata: bool = True) -> dict[str, Any]:
        if meta_all is not None and meta_any is not None:
            raise ValueError("you can't use meta_all or meta_any at the same time")
        if meta_all is None and meta_any is None:
            return {}
        return self.list(return_metadata=return_metadata, metadata_all=meta_all, metadata_any=meta_any)

    def set_metadata(self, name: str, metadata: Any) -> None:
        tags = _tags(metadata)
        self._enter(name, str(self._find(name)[0]), False, tags)

    def count(self) -> int:
        return len(self.list())

    def ping(self) -> None:
        pass

    # What a proxy asks of the broker's name server instead.

    def _enter(self, name: str, uri: str, safe: bool, metadata: Iterable[str]) -> None:
        if safe and name in self.storage:
            raise NamingError(f"name already registered: {name}")
        self.storage[name] = uri, frozenset(metadata)

    def _find(self, name: str) -> Any:
        if name not in self.storage:
            raise NamingError(f"unknown name: {name}")
        return self.storage[name]

    def _drop(self, name: str) -> bool:
        with contextlib.suppress(KeyError):
            del self.storage[name]
            return True
        return False

    def _entries(self, *conditions: Any) -> dict[str, Any]:
        return _selected(dict(self.storage), *conditions)


class NameServerProxy(NameServer, Proxy):
    """A proxy for a name server, which asks as a client of the broker's.

    Names of daemons of this process live as long as these do.
    """

    _pyro_names: broker.NameServer | None = None

    def __init__(self, uri: str | URI, *args: Any, **options: Any) -> None:
        Proxy.__init__(self, uri, *args, **options)

    def _pyro_ask(self, question: Callable[[broker.NameServer], Any], name: str = "") -> Any:
        """Asks the name server, for instance about a name."""
        if self._pyro_names is None:
            uri = resolve(self._pyroUri)
            self._pyro_names = broker.NameServer(str(uri.host), int(uri.port or config.NS_PORT))
        names = self._pyro_names

        def ask() -> Any:
            try:
                return question(names)
            except broker.errors.NameNotFound:
                raise NamingError(f"unknown name: {name}") from None
            except broker.errors.NameTaken:
                raise NamingError(f"name already registered: {name}") from None

        return self._pyro_call(ask)

    def _enter(self, name: str, uri: str, safe: bool, metadata: Iterable[str]) -> None:
        self._pyro_ask(lambda names: names.register(_ours(name), uri, replace=not safe, tags=metadata), name)

    def _find(self, name: str) -> Any:
        uri, metadata = self._pyro_ask(lambda names: names.lookup(_ours(name), with_tags=True), name)
        return _shown(_ours(name), uri)[1], metadata

    def _drop(self, name: str) -> bool:
        return bool(self._pyro_ask(lambda names: names.remove(name)))

    def _entries(self, prefix: str | None, regex: str | None, all_of: Any, any_of: Any) -> dict[str, Any]:
        found = self._pyro_ask(
            lambda names: names.list(prefix, regex=regex, tags_all=all_of, tags_any=any_of, with_tags=True)
        )
        own = {NAMESERVER_NAME: (_shown(_OURS, self._pyro_ask(lambda names: names.uri))[1], _class_tag())}
        others = {name: (_shown(name, uri)[1], tags) for name, (uri, tags) in found.items() if name != _OURS}
        return others | _selected(own, prefix, regex, all_of, any_of)

    def set_metadata(self, name: str, metadata: Any) -> None:
        tags = _tags(metadata)
        self._pyro_ask(lambda names: names.set_tags(_ours(name), tags), name)

    def ping(self) -> None:
        self._pyro_ask(lambda names: names.ping())

    def _pyro_greet(self, uri: URI) -> Metadata:
        self.ping()
        return get_exposed_members(NameServer)

    def _pyroRelease(self) -> None:
        names, self._pyro_names = self._pyro_names, None
        if names is not None:
            names.close()
        super()._pyroRelease()


def _selected(entries: dict[str, Any], prefix: Any, regex: Any, all_of: Any, any_of: Any) -> dict[str, Any]:
    return {
        name: (uri, metadata)
        for name, (uri, metadata) in entries.items()
        if name.startswith(prefix or "") and re.match(regex or "", name)
        if all_of.issubset(metadata) and (any_of is None or not any_of.isdisjoint(metadata))
    }


def _class_tag() -> set[str]:
    return {f"class:{NameServer.__module__}.NameServer"}


def _ours(name: str) -> str:
    return _OURS if name == NAMESERVER_NAME else name


def _shown(name: str, uri: object) -> tuple[str, str]:
    """A name and its URI as Pyro programs see them."""
    text = re.sub("^BROKER", "PYRO", str(uri))
    return (NAMESERVER_NAME, text.replace(_OURS, NAMESERVER_NAME)) if name == _OURS else (name, text)


# ---- finding things


def locate_ns(host: Any = "", port: int | None = None, broadcast: bool = True, hmac_key: object = None) -> Any:
    """A bound proxy for the name server: at a host, else at NS_HOST and NS_PORT, or where a broadcast finds it."""
    refuse_hmac(hmac_key)

    def locate() -> Any:
        for number in dict.fromkeys([port or config.NS_PORT, *([] if host else [config.NS_PORT])]):
            with contextlib.suppress(broker.errors.BrokerError):  # not there: said below
                with broker.locate_ns(str(host or config.NS_HOST), number) as names:
                    proxy = NameServerProxy(_shown(_OURS, names.uri)[1])
                proxy._pyroBind()
                return proxy
        answer = asked_for(port or config.NS_BCPORT) if broadcast and not host else None
        if answer is None:
            raise NamingError("Failed to locate the nameserver")
        proxy = NameServerProxy(answer)
        proxy._pyroBind()
        return proxy

    return _patiently(locate, config.NS_LOOKUP_DELAY)


def resolve(uri: str | URI, delay_time: float = 0.0, hmac_key: object = None) -> URI:
    """The PYRO URI that a URI leads to; waits so many seconds for a name that is not there yet. Raises NamingError."""
    refuse_hmac(hmac_key)
    if not isinstance(uri, str | URI):
        raise TypeError("can only resolve Pyro URIs")
    found = URI(uri)
    while found.protocol != "PYRO":  # a name may lead to a name
        found = _patiently(functools.partial(_looked_up, found), delay_time or config.NS_LOOKUP_DELAY)
    return found


def _patiently(look: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return look()
        except NamingError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.2)


def _looked_up(uri: URI) -> URI:
    with locate_ns(uri.host, uri.port) as names:
        if uri.protocol == "PYRONAME":
            found: URI = names.lookup(uri.object)
            return found
        candidates = list(names.yplookup(meta_all=uri.object, return_metadata=False).values())
        if not candidates:
            raise NamingError(f"no registrations available with desired metadata properties {uri.object}")
        return URI(_chance.choice(candidates))


Proxy._resolve, Proxy._name_server = staticmethod(resolve), NameServerProxy


def type_meta(class_or_object: object, prefix: str = "class:") -> set[str]:
    """Metadata that say of which classes an object is."""
    cls = class_or_object if isinstance(class_or_object, type) else type(class_or_object)
    return {f"{prefix}{each.__module__}.{each.__name__}" for each in cls.__mro__ if each is not object}


# ---- the server


class NameServerDaemon(Daemon):
    """A name server in this process; `nameserver` is a proxy for it."""

    def __init__(
        self, host: Any = None, port: int | None = None, unixsocket: str | None = None, nathost: str | None = None,
        natport: int | None = None, storage: str | None = None,
    ) -> None:  # fmt: skip
        kind, _, file = (storage or "memory").partition(":")
        if (kind, bool(file)) not in (("memory", False), ("sql", True)) or file == ":memory:":
            raise ValueError(f"invalid storage type '{storage}'")
        self._storage = f"sqlite:{file}" if file else "memory"
        host, port = config.NS_HOST if host is None else host, config.NS_PORT if port is None else port
        super().__init__(host, port, unixsocket, nathost, natport)
        self.nameserver: Any = NameServerProxy(self.uriFor(NAMESERVER_NAME, nat=False))
        self._put(self.nameserver, NAMESERVER_NAME)

    def _open(self, host: str, port: int, unixsocket: str | None) -> broker.Daemon:
        if unixsocket is not None:
            raise NotImplementedError("a name server on a Unix socket: it listens on a port; give host and port")
        self.server = broker.start_ns(host, port, storage=self._storage, insecure=is_consent(host))
        return self.server.daemon

    def shutdown(self) -> None:
        self.nameserver = None
        super().shutdown()
        self.server.close()

    close = shutdown


def start_ns(
    host: Any = None, port: int | None = None, enableBroadcast: bool = True, bchost: Any = None,
    bcport: int | None = None, unixsocket: str | None = None, nathost: str | None = None, natport: int | None = None,
    storage: str | None = None, hmac: object = None,
) -> tuple[URI, NameServerDaemon, BroadcastServer | None]:  # fmt: skip
    """Starts a name server: gives its URI, its daemon, and what answers broadcasts, if other machines reach it."""
    refuse_hmac(hmac)
    daemon = NameServerDaemon(host, port, unixsocket, nathost, natport, storage)
    internal = daemon.uriFor(NAMESERVER_NAME, nat=False)
    return daemon.uriFor(NAMESERVER_NAME), daemon, started_for(internal, bchost, bcport) if enableBroadcast else None


def start_ns_loop(*args: Any, loopCondition: Callable[[], object] = lambda: True, **kwargs: Any) -> None:
    """Runs a name server, with the arguments of `start_ns`, and prints where it is, until Ctrl-C."""
    uri, daemon, broadcasts = start_ns(*args, **kwargs)
    if broadcasts is not None:
        broadcasts.runInThread()
        print(f"Broadcast server running on {broadcasts.locationStr}")
    elif kwargs.get("enableBroadcast", True):
        print(f"Not starting broadcast server for {daemon.server.address[0]}.")
    if daemon._storage != "memory":
        print(f"Persistent store contains {daemon.server.stored} existing registrations.")
    print(f"NS running on {daemon.locationStr} ({daemon.server.numeric_address})")
    if daemon.natLocationStr:
        print(f"internal URI = {daemon.uriFor(NAMESERVER_NAME, nat=False)}")
    with contextlib.suppress(KeyboardInterrupt), daemon:  # before the loop, which ends cleanly by itself
        print(f"{'external ' if daemon.natLocationStr else ''}URI = {uri}", flush=True)
        daemon.requestLoop(loopCondition)
    if broadcasts is not None:
        broadcasts.close()
    print("NS shut down.")


def main(args: Any = None) -> None:
    """The name server as a command."""
    parser = argparse.ArgumentParser(description="Pyro name server command line launcher.")
    for *names, text in _OPTIONS:
        parser.add_argument(*names, help=text, type=int if names[-1].endswith("port") else str)
    parser.add_argument("-x", "--nobc", dest="enableBroadcast", action="store_false", help="no broadcast server")
    start_ns_loop(**vars(parser.parse_args(args)))
