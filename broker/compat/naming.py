"""The name server as Pyro has it: its proxy is a client of the broker's, in which metadata are tags."""

from __future__ import annotations

import argparse
import contextlib
import functools
import random
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import broker
from broker.compat.configuration import config
from broker.compat.context import SocketConnection
from broker.compat.daemon import Daemon, is_consent
from broker.compat.errors import NamingError
from broker.compat.exposure import expose, get_exposed_members
from broker.compat.proxy import NAMESERVER_NAME, Metadata, Proxy, refuse_hmac
from broker.compat.storage import MemoryStorage, StoredNames
from broker.compat.uri import URI

_OURS = "Broker.NameServer"
_chance = random.Random()  # that of the module is the program's: drawing from it would change what a seed gives


def _class_tag() -> set[str]:
    return {f"class:{NameServer.__module__}.NameServer"}


def _ours(name: str) -> str:
    return _OURS if name == NAMESERVER_NAME else name


def _shown(name: str, uri: object) -> tuple[str, str]:
    """A name and its URI as Pyro programs see them."""
    if name == _OURS:
        name, uri = NAMESERVER_NAME, str(uri).replace(_OURS, NAMESERVER_NAME)
    return name, re.sub("^BROKER", "PYRO", str(uri))


def _tags(metadata: Any) -> list[str]:
    if isinstance(metadata, str) or not isinstance(metadata, Iterable):
        raise TypeError("metadata should not be a str, but another iterable (set, list, etc)")
    return list(metadata)


@expose
class NameServer:
    """What a name server can do; this one is on its own. Names go to a storage with the methods of `MemoryStorage`."""

    def __init__(self, storageProvider: Any = None) -> None:
        self.storage = MemoryStorage() if storageProvider is None else storageProvider

    def _names(self) -> Any:
        """What has the methods of the broker's client."""
        return StoredNames(self.storage)

    def _ask(self, question: Callable[[], Any]) -> Any:
        return question()

    def register(self, name: str, uri: str | URI, safe: bool = False, metadata: Any = None) -> None:
        if not isinstance(uri, str | URI):
            raise TypeError("only URIs or strings can be registered")
        if not isinstance(name, str):
            raise TypeError("name must be a str")
        tags, target = _tags(metadata or ()), str(URI(uri))
        try:
            self._names().register(_ours(name), target, replace=not safe, tags=tags)
        except broker.errors.NameTaken:
            raise NamingError(f"name already registered: {name}") from None

    def _named(self, name: str, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except broker.errors.NameNotFound:
            raise NamingError(f"unknown name: {name}") from None

    def lookup(self, name: str, return_metadata: bool = False) -> Any:
        uri, tags = self._ask(lambda: self._named(name, lambda: self._names().lookup(_ours(name), with_tags=True)))
        found = URI(_shown(_ours(name), uri)[1])
        return (found, set(tags)) if return_metadata else found

    def remove(self, name: str | None = None, prefix: str | None = None, regex: str | None = None) -> int:
        if name is None and prefix is None and regex is None:
            return 0
        found = [name] if name is not None else self.list(prefix, regex)
        return sum(
            self._ask(functools.partial(self._names().remove, each)) for each in found if each != NAMESERVER_NAME
        )

    def list(
        self, prefix: str | None = None, regex: str | None = None, return_metadata: bool = False,
        metadata_all: Any = None, metadata_any: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        if sum(each is not None for each in (prefix, regex, metadata_all, metadata_any)) > 1:
            raise ValueError("you can only filter on one thing at a time")
        tags: Any = {"tags_all": metadata_all, "tags_any": metadata_any}
        tags = {key: _tags(metadata) for key, metadata in tags.items() if metadata is not None}
        try:
            matches = re.compile(regex or "").match
        except re.error as error:
            raise NamingError(f"invalid regex: {error}") from None
        found: dict[str, Any] = {}
        for name, (uri, metadata) in self._ask(lambda: self._names().list(with_tags=True, **tags)).items():
            name, uri = _shown(name, uri)
            if name.startswith(prefix or "") and matches(name):
                own = _class_tag() if name == NAMESERVER_NAME else set()
                found[name] = (uri, set(metadata) | own) if return_metadata else uri
        return dict(sorted(found.items()))

    def yplookup(self, meta_all: Any = None, meta_any: Any = None, return_metadata: bool = True) -> dict[str, Any]:
        if meta_all is not None and meta_any is not None:
            raise ValueError("you can't use meta_all or meta_any at the same time")
        if meta_all is None and meta_any is None:
            return {}
        return self.list(return_metadata=return_metadata, metadata_all=meta_all, metadata_any=meta_any)

    def set_metadata(self, name: str, metadata: Any) -> None:
        tags = _tags(metadata)
        self._ask(lambda: self._named(name, lambda: self._names().set_tags(_ours(name), tags)))

    def count(self) -> int:
        count: int = self._ask(lambda: self._names().count())
        return count

    def ping(self) -> None:
        self._ask(lambda: self._names().ping())


class NameServerProxy(NameServer, Proxy):
    """A proxy for a name server, which asks as a client of the broker's.

    Names of daemons of this process live as long as these do.
    """

    def __init__(self, uri: str | URI, *args: Any, **options: Any) -> None:
        Proxy.__init__(self, uri, *args, **options)

    def _names(self) -> broker.NameServer:
        names: broker.NameServer | None = vars(self).get("_pyro_client")
        if names is None:
            uri = self._pyro_resolved()
            names = vars(self)["_pyro_client"] = broker.NameServer(str(uri.host), int(uri.port or config.NS_PORT))
        return names

    def _ask(self, question: Callable[[], Any]) -> Any:
        return self._pyro_call(question)

    def _pyro_greet(self, uri: URI) -> tuple[SocketConnection, Metadata, str]:
        self._ask(self._names().ping)
        return SocketConnection(objectId=uri.object), get_exposed_members(NameServer), ""

    def _pyroRelease(self) -> None:
        names = vars(self).pop("_pyro_client", None)
        if names is not None:
            names.close()
        super()._pyroRelease()


def locate_ns(host: Any = "", port: int | None = None, broadcast: bool = True, hmac_key: object = None) -> Any:
    """A bound proxy for the name server: at a host, else at NS_HOST and NS_PORT. Raises NamingError."""
    refuse_hmac(hmac_key)
    deadline = time.monotonic() + config.NS_LOOKUP_DELAY
    while True:
        for number in dict.fromkeys([port or config.NS_PORT, *([] if host else [config.NS_PORT])]):
            try:
                with broker.locate_ns(str(host or config.NS_HOST), number) as names:
                    proxy = NameServerProxy(_shown(_OURS, names.uri)[1])
                    proxy._pyroBind()
                    return proxy
            except broker.errors.BrokerError:
                pass  # not there: said below
        if time.monotonic() >= deadline:
            raise NamingError("Failed to locate the nameserver")
        time.sleep(0.2)


def resolve(uri: str | URI, delay_time: float = 0.0, hmac_key: object = None) -> URI:
    """The PYRO URI that a URI leads to; waits so many seconds for a name that is not there yet. Raises NamingError."""
    refuse_hmac(hmac_key)
    if not isinstance(uri, str | URI):
        raise TypeError("can only resolve Pyro URIs")
    uri = URI(uri)
    if uri.protocol == "PYRO":
        return uri
    deadline = time.monotonic() + (delay_time or config.NS_LOOKUP_DELAY)
    while True:
        try:
            return resolve(_looked_up(uri))  # a name may lead to a name
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
        if not candidates and uri.object == _class_tag():
            return URI(names._pyroUri)
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
) -> tuple[URI, NameServerDaemon, None]:  # fmt: skip
    """Starts a name server: gives its URI, its daemon, and None in place of a broadcast server."""
    refuse_hmac(hmac)
    daemon = NameServerDaemon(host, port, unixsocket, nathost, natport, storage)
    return daemon.uriFor(NAMESERVER_NAME), daemon, None


def start_ns_loop(*args: Any, loopCondition: Callable[[], object] = lambda: True, **kwargs: Any) -> None:
    """Runs a name server, with the arguments of `start_ns`, and prints where it is, until Ctrl-C."""
    uri, daemon, _ = start_ns(*args, **kwargs)
    print(f"Not starting broadcast server for {daemon.server.address[0]}.")
    if daemon._storage != "memory":
        print(f"Persistent store contains {daemon.server.stored} existing registrations.")
    print(f"NS running on {daemon.locationStr} ({daemon.server.numeric_address})")
    if daemon.natLocationStr:
        print(f"internal URI = {daemon.uriFor(NAMESERVER_NAME, nat=False)}")
    with contextlib.suppress(KeyboardInterrupt), daemon:  # before the loop, which ends cleanly by itself
        print(f"{'external ' if daemon.natLocationStr else ''}URI = {uri}", flush=True)
        daemon.requestLoop(loopCondition)
    print("NS shut down.")


def main(args: Any = None) -> None:
    """The name server as a command."""
    parser = argparse.ArgumentParser(description="Pyro name server command line launcher.")
    parser.add_argument("-n", "--host", help="hostname to bind server on")
    parser.add_argument("-p", "--port", type=int, help="port to bind server on (0=random)")
    parser.add_argument("-u", "--unixsocket", help="Unix domain socket name to bind server on")
    parser.add_argument("-s", "--storage", help="storage to use: memory, or sql:FILE", default="memory")
    parser.add_argument("--bchost", help="hostname to bind broadcast server on")
    parser.add_argument("--bcport", type=int, help="port to bind broadcast server on (0=random)")
    parser.add_argument("--nathost", help="external hostname in case of NAT")
    parser.add_argument("--natport", type=int, help="external port in case of NAT")
    parser.add_argument("-x", "--nobc", dest="enableBroadcast", action="store_false", help="no broadcast server")
    start_ns_loop(**vars(parser.parse_args(args)))
