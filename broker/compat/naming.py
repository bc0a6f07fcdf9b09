"""The name server as Pyro has it: its proxy is a client of the broker's, in which metadata are tags."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import broker
from broker.compat import exposure
from broker.compat.configuration import config
from broker.compat.daemon import Daemon, consents
from broker.compat.errors import NamingError
from broker.compat.proxy import NAMESERVER_NAME, Connection, Proxy
from broker.compat.uri import URI

T = TypeVar("T")
_OURS = "Broker.NameServer"
_CLASS_TAG = "class:Pyro5.nameserver.NameServer"


def _ours(name: str) -> str:
    return _OURS if name == NAMESERVER_NAME else name


def _shown(name: str, uri: object) -> tuple[str, str]:
    """A name and its URI as Pyro programs see them."""
    if name == _OURS:
        name, uri = NAMESERVER_NAME, str(uri).replace(_OURS, NAMESERVER_NAME)
    return name, re.sub("^BROKER", "PYRO", str(uri))


def _tags(metadata: Any, what: str = "metadata") -> list[str]:
    if isinstance(metadata, str) or not isinstance(metadata, Iterable):
        raise TypeError(f"{what} should not be a str, but another iterable (set, list, etc)")
    return list(metadata)


@exposure.expose
class NameServer:
    """What a name server can do. Names of daemons of this process live as long as these do."""

    def _names(self) -> Any:
        """A client of the broker's name server."""
        raise NotImplementedError

    def _ask(self, question: Callable[[], T]) -> T:
        raise NotImplementedError

    def register(self, name: str, uri: str | URI, safe: bool = False, metadata: Any = None) -> None:
        """Enters a name for a URI. With `safe` a name that is there is NamingError."""
        if not isinstance(uri, str | URI):
            raise TypeError("only URIs or strings can be registered")
        if not isinstance(name, str):
            raise TypeError("name must be a str")
        tags, target = _tags(metadata or ()), str(URI(uri))
        try:
            self._names().register(_ours(name), target, replace=not safe, tags=tags)
        except broker.errors.NameTaken:
            raise NamingError(f"name already registered: {name}") from None

    def lookup(self, name: str, return_metadata: bool = False) -> Any:
        """The URI of a name, or that and its metadata."""
        try:
            uri, tags = self._ask(lambda: self._names().lookup(_ours(name), with_tags=True))
        except NamingError:
            raise NamingError(f"unknown name: {name}") from None
        found = URI(_shown(_ours(name), uri)[1])
        return (found, set(tags)) if return_metadata else found

    def remove(self, name: str | None = None, prefix: str | None = None, regex: str | None = None) -> int:
        """Removes a name, or all that match; gives how many they were."""
        if name is None and prefix is None and regex is None:
            return 0
        given = {"name": _ours(name)} if name is not None else {"prefix": prefix} if prefix else {"regex": regex}
        removed: int = self._ask(lambda: self._names().remove(**given))
        return removed

    def list(
        self, prefix: str | None = None, regex: str | None = None, return_metadata: bool = False,
        metadata_all: Any = None, metadata_any: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        """The names with their URIs as texts, or with these and their metadata."""
        if sum(each is not None for each in (prefix, regex, metadata_all, metadata_any)) > 1:
            raise ValueError("you can only filter on one thing at a time")
        tags_all = None if metadata_all is None else _tags(metadata_all)
        tags_any = None if metadata_any is None else _tags(metadata_any)
        if regex is not None:
            try:
                re.compile(regex)
            except re.error as error:
                raise NamingError(f"invalid regex: {error}") from None
        if prefix is not None and NAMESERVER_NAME.startswith(prefix) and prefix:
            regex, prefix = f"{re.escape(prefix)}|{_OURS}", None  # it goes by another name there
        found: Mapping[str, Any] = self._ask(
            lambda: self._names().list(prefix, regex=regex, tags_all=tags_all, tags_any=tags_any, with_tags=True)
        )
        entries = {_shown(name, uri)[0]: (_shown(name, uri)[1], tags) for name, (uri, tags) in found.items()}
        if NAMESERVER_NAME in entries:
            entries[NAMESERVER_NAME] = entries[NAMESERVER_NAME][0], entries[NAMESERVER_NAME][1] | {_CLASS_TAG}
        return {name: (uri, set(tags)) if return_metadata else uri for name, (uri, tags) in sorted(entries.items())}

    def yplookup(self, meta_all: Any = None, meta_any: Any = None, return_metadata: bool = True) -> dict[str, Any]:
        """The names that have all, or any, of the metadata."""
        if meta_all is not None and meta_any is not None:
            raise ValueError("you can't use meta_all or meta_any at the same time")
        if meta_all is None and meta_any is None:
            return {}
        return self.list(return_metadata=return_metadata, metadata_all=meta_all, metadata_any=meta_any)

    def set_metadata(self, name: str, metadata: Any) -> None:
        """Gives a name these metadata instead of those that it had."""
        tags = _tags(metadata)
        try:
            self._ask(lambda: self._names().set_tags(_ours(name), tags))
        except NamingError:
            raise NamingError(f"unknown name: {name}") from None

    def count(self) -> int:
        count: int = self._ask(self._names().count)
        return count

    def ping(self) -> None:
        self._ask(self._names().ping)


class NameServerProxy(NameServer, Proxy):
    """A proxy for a name server, which is a client of the broker's."""

    def _names(self) -> broker.NameServer:
        names: broker.NameServer | None = vars(self).get("_pyro_client")
        if names is None:
            uri = self._pyro_resolved()
            names = vars(self)["_pyro_client"] = broker.NameServer(str(uri.host), int(uri.port or config.NS_PORT))
        return names

    def _ask(self, question: Callable[[], T]) -> T:
        answer: T = self._pyro_call(question)
        return answer

    def _pyro_without_door(self, uri: URI) -> tuple[Connection, dict[str, set[str]]]:
        self._ask(self._names().ping)  # a name server of the broker's own
        return Connection(uri, None, ""), exposure.get_exposed_members(NameServer)

    def _pyroRelease(self) -> None:
        names = vars(self).pop("_pyro_client", None)
        if names is not None:
            names.close()
        super()._pyroRelease()


def locate_ns(host: Any = "", port: int | None = None, broadcast: bool = True, hmac_key: object = None) -> Any:
    """A bound proxy for the name server: at a host, else at NS_HOST and NS_PORT. Raises NamingError."""
    if hmac_key is not None:
        raise NotImplementedError("HMAC keys are not supported: use TLS (config.SSL) with client certificates")
    places = (
        [(str(host), port or config.NS_PORT)] if host else [(config.NS_HOST, port), (config.NS_HOST, config.NS_PORT)]
    )
    deadline = time.monotonic() + config.NS_LOOKUP_DELAY
    while True:
        for place, number in places:
            if number is None:
                continue
            try:
                with broker.locate_ns(place, number) as names:
                    proxy = NameServerProxy(_shown(_OURS, names.uri)[1])
                    proxy._pyroBind()
                    return proxy
            except broker.errors.BrokerError:
                pass
        if time.monotonic() >= deadline:
            raise NamingError("Failed to locate the nameserver")
        time.sleep(0.2)


def resolve(uri: str | URI, delay_time: float = 0.0, hmac_key: object = None) -> URI:
    """The PYRO URI that a URI leads to; waits so many seconds for a name that is not there yet. Raises NamingError."""
    if not isinstance(uri, str | URI):
        raise TypeError("can only resolve Pyro URIs")
    uri = URI(uri)
    if uri.protocol == "PYRO":
        return uri
    deadline = time.monotonic() + (delay_time or config.NS_LOOKUP_DELAY)
    while True:
        try:
            return _looked_up(uri)
        except NamingError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.2)


def _looked_up(uri: URI) -> URI:
    host, port = uri.host or config.NS_HOST, uri.port or config.NS_PORT
    place = f"@[{host}]:{port}" if ":" in host else f"@{host}:{port}"
    wanted = uri.asString().partition("@")[0].replace(NAMESERVER_NAME, _OURS)
    try:
        found = broker.resolve(wanted + place)
    except broker.errors.NameNotFound:
        if uri.protocol == "PYROMETA":
            text = f"no registrations available with desired metadata properties {uri.object}"
            raise NamingError(text) from None
        raise NamingError(f"unknown name: {uri.object}") from None
    except broker.errors.NamingError as error:
        raise NamingError(f"Failed to locate the nameserver ({error})") from None
    return URI(_shown(_OURS if uri.object == NAMESERVER_NAME else "", found)[1])


Proxy._resolve = staticmethod(resolve)
Proxy._name_server = NameServerProxy


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
        if kind not in ("memory", "sql") or (kind == "sql" and file in ("", ":memory:")):
            raise ValueError(f"invalid storage type '{storage}'")
        self._storage = f"sqlite:{file}" if file else "memory"
        host = config.NS_HOST if host is None else host or "0.0.0.0"
        super().__init__(host, config.NS_PORT if port is None else port, unixsocket, nathost, natport)
        self.nameserver: Any = NameServerProxy(self.uriFor(NAMESERVER_NAME, nat=False))
        self._put(self.nameserver, NAMESERVER_NAME)

    def _open(self, host: str, port: int, unixsocket: str | None) -> broker.Daemon:
        if unixsocket is not None:
            raise NotImplementedError("a name server on a Unix socket: it listens on a port; give host and port")
        self.server = broker.start_ns(host, port, storage=self._storage, insecure=consents(host))
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
    daemon = NameServerDaemon(host, port, unixsocket, nathost, natport, storage)
    return daemon.uriFor(NAMESERVER_NAME), daemon, None


def start_ns_loop(
    host: Any = None, port: int | None = None, enableBroadcast: bool = True, bchost: Any = None,
    bcport: int | None = None, unixsocket: str | None = None, nathost: str | None = None, natport: int | None = None,
    storage: str | None = None, hmac: object = None, loopCondition: Callable[[], object] = lambda: True,
) -> None:  # fmt: skip
    """Runs a name server, and prints where it is, until Ctrl-C."""
    uri, daemon, _ = start_ns(host, port, enableBroadcast, bchost, bcport, unixsocket, nathost, natport, storage)
    print(f"Not starting broadcast server for {daemon.server.address[0]}.")
    if daemon._storage != "memory":
        print(f"Persistent store contains {daemon.server.stored} existing registrations.")
    print(f"NS running on {daemon.locationStr} ({daemon.server.numeric_address})")
    if daemon.natLocationStr:
        print(f"internal URI = {daemon.uriFor(NAMESERVER_NAME, nat=False)}\nexternal URI = {uri}", flush=True)
    else:
        print(f"URI = {uri}", flush=True)
    with daemon:
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
    parser.add_argument("-x", "--nobc", action="store_true", help="don't start a broadcast server")
    given = vars(parser.parse_args(args))
    start_ns_loop(enableBroadcast=not given.pop("nobc"), **given)
