"""The name server as Pyro has it: its proxy is a client of the broker's, in which metadata are tags."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Callable, Iterable
from typing import Any

import broker
from broker.compat.configuration import config, credentials
from broker.compat.daemon import Daemon
from broker.compat.errors import NamingError, PyroError, refuse, translated, unsupported
from broker.compat.exposure import expose, get_exposed_members
from broker.compat.proxy import NAMESERVER_NAME, Metadata, Proxy, refuse_hmac
from broker.compat.uri import URI

_OURS = "Broker.NameServer"
_UNKNOWN = {"PYRONAME": "unknown name:", "PYROMETA": "no registrations available with desired metadata properties"}
_OPTIONS = {  # of the command
    "-n --host": "hostname to bind server on", "-p --port": "port to bind server on (0=random)",
    "-u --unixsocket": "Unix domain socket (not supported)", "-s --storage": "storage to use: memory, or sql:FILE",
    "--bchost": "hostname to answer broadcasts on", "--bcport": "port to answer broadcasts on (0=random)",
    "--nathost": "external hostname in case of NAT", "--natport": "external port in case of NAT",
}  # fmt: skip


class MemoryStorage(dict[str, tuple[str, Iterable[str]]]):
    """URIs and metadata by name, for name servers that serve nobody; any mapping will do."""

    def close(self) -> None:
        """Does nothing: there is no file."""


class SqlStorage(broker.LocalNames):
    """The same in an sqlite file, which is open for one question at a time."""

    def __init__(self, dbfile: str) -> None:
        if dbfile == ":memory:":
            raise ValueError("We don't support the sqlite :memory: database type. Just use MemoryStorage instead.")
        _answer(super().__init__, f"sqlite:{dbfile}")

    def clear(self) -> None:
        self.remove(prefix="")


def _tags(metadata: Any) -> list[str] | None:
    if metadata is not None and (isinstance(metadata, str) or not isinstance(metadata, Iterable)):
        raise TypeError("metadata should not be a str, but another iterable (set, list, etc)")
    return None if metadata is None else list(metadata)


@expose
class NameServer:
    """What a name server can do, on names of the broker's: those of a name server of its own, or in a storage."""

    def __init__(self, storageProvider: Any = None) -> None:
        self.storage: Any = MemoryStorage() if storageProvider is None else storageProvider
        there_already = isinstance(self.storage, broker.LocalNames | broker.NameServer)
        self._names: Any = self.storage if there_already else broker.LocalNames(self.storage)

    def register(self, name: str, uri: str | URI, safe: bool = False, metadata: Any = None) -> None:
        refuse(not isinstance(uri, str | URI), TypeError, "only URIs or strings can be registered")
        refuse(not isinstance(name, str), TypeError, "name must be a str")
        self._ask(self._names.register, name, str(URI(uri)), replace=not safe, tags=_tags(metadata or ()))

    def lookup(self, name: str, return_metadata: bool = False) -> Any:
        uri, metadata = self._ask(self._names.lookup, name, with_tags=True)
        return (_pyros(uri), set(metadata)) if return_metadata else _pyros(uri)

    def remove(self, name: str | None = None, prefix: str | None = None, regex: str | None = None) -> int:
        if name is None and prefix is None and regex is None:
            return 0
        found = [name] if name is not None else self.list(prefix, regex)
        return sum(self._ask(self._names.remove, each) for each in found if each != NAMESERVER_NAME)

    def list(
        self, prefix: str | None = None, regex: str | None = None, return_metadata: bool = False,
        metadata_all: Any = None, metadata_any: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        by: dict[str, Any] = {"tags_all": _tags(metadata_all), "tags_any": _tags(metadata_any)}
        refuse([prefix, regex, *by.values()].count(None) < 3, ValueError, "you can only filter on one thing at a time")
        found: dict[str, Any] = {}
        for names in (self._names, broker.LocalNames(self._own())):
            found |= _answer(names.list, prefix, regex=regex, with_tags=True, **by)
        found.pop(_OURS, None)
        shown = {name: (str(_pyros(uri)), set(metadata)) for name, (uri, metadata) in sorted(found.items())}
        return shown if return_metadata else {name: uri for name, (uri, _) in shown.items()}

    def yplookup(self, meta_all: Any = None, meta_any: Any = None, return_metadata: bool = True) -> dict[str, Any]:
        refuse(None not in (meta_all, meta_any), ValueError, "you can't use meta_all or meta_any at the same time")
        if meta_all is None and meta_any is None:
            return {}
        return self.list(return_metadata=return_metadata, metadata_all=meta_all, metadata_any=meta_any)

    def set_metadata(self, name: str, metadata: Any) -> None:
        self._ask(self._names.set_tags, name, _tags(metadata or ()))

    def count(self) -> int:
        return len(self.list())

    def ping(self) -> None:
        _answer(self._names.ping)

    def _own(self) -> dict[str, Any]:
        """What is listed of a name server that runs: it has another name at the broker."""
        if not isinstance(self._names, broker.NameServer):
            return {}
        return {NAMESERVER_NAME: (str(self._names.uri), type_meta(NameServer))}

    def _ask(self, question: Callable[..., Any], name: str, *args: Any, **kwargs: Any) -> Any:
        """Asks the names of the broker about one of them."""
        return _answer(question, _OURS if name == NAMESERVER_NAME and self._own() else name, *args, **kwargs)


class NameServerProxy(Proxy, NameServer):
    """A proxy for a name server: what it has for a connection is a client of the broker's.

    Names of daemons of this process live as long as these do.
    """

    @property
    def _names(self) -> Any:
        self._pyro_connect()
        return self._pyroConnection.control

    def _pyro_greet(self, uri: URI) -> Metadata:
        place = str(uri.host), int(uri.port or config.NS_PORT)
        self._pyroConnection.control = names = broker.NameServer(*place, credentials=credentials("CLIENT"))
        _answer(names.ping)
        return get_exposed_members(NameServer)


def _pyros(uri: object) -> URI:
    return URI(str(uri).replace(_OURS, NAMESERVER_NAME))


def _answer(question: Callable[..., Any], *args: Any, unknown: str = "", **kwargs: Any) -> Any:
    """The answer of names of the broker, the first argument being a name if any. Raises NamingError and PyroError."""
    try:
        return question(*args, **kwargs)
    except broker.errors.NameNotFound:
        raise NamingError(unknown or f"unknown name: {args[0]}") from None
    except broker.errors.NameTaken:
        raise NamingError(f"name already registered: {args[0]}") from None
    except broker.errors.BrokerError as error:
        raise translated(error) from None


# ---- finding things


class BroadcastServer(broker.Beacon):
    """Answers who asks for the name server: in a thread, or where the program's own loop selects on it."""

    def __init__(self, nsUri: URI, bchost: str | None = None, bcport: int | None = None, ipv6: bool = False) -> None:
        self.nsUri, port = nsUri, config.NS_BCPORT if bcport is None else bcport
        super().__init__(str(nsUri), str(bchost or config.NS_BCHOST or ""), port)
        self.locationStr = "{}:{}".format(*self.address)

    def getPort(self) -> int:
        return self.address[1]

    runInThread, requestLoop, processRequest = broker.Beacon.start, broker.Beacon.serve, broker.Beacon.answer


def locate_ns(host: Any = "", port: int | None = None, broadcast: bool = True, hmac_key: object = None) -> Any:
    """A bound proxy for the name server: at a host, else at NS_HOST and NS_PORT, or where a broadcast finds it."""
    refuse_hmac(hmac_key)
    for number in dict.fromkeys([port or config.NS_PORT, *([] if host else [config.NS_PORT])]):
        with contextlib.suppress(PyroError):  # not there: said below
            return _bound(broker.URI.direct(_OURS, str(host or config.NS_HOST), number))
    wanted = broadcast and not host
    found = broker.discover_ns(port or config.NS_BCPORT, addresses=config.BROADCAST_ADDRS) if wanted else None
    refuse(found is None, NamingError, "Failed to locate the nameserver")
    return _bound(found)


def _bound(uri: object) -> NameServerProxy:
    proxy = NameServerProxy(_pyros(uri))
    proxy._pyroBind()
    return proxy


def resolve(uri: str | URI, delay_time: float = 0.0, hmac_key: object = None) -> URI:
    """The PYRO URI that a URI leads to; waits so many seconds for a name that is not there yet. Raises NamingError."""
    refuse_hmac(hmac_key)
    refuse(not isinstance(uri, str | URI), TypeError, "can only resolve Pyro URIs")
    asked = URI(uri)
    if asked.protocol == "PYRO":
        return asked
    with locate_ns(asked.host, asked.port) as names:
        asked.host, asked.port = names._pyroUri.host, names._pyroUri.port
    place, wait = str(asked).replace(NAMESERVER_NAME, _OURS), delay_time or config.NS_LOOKUP_DELAY
    unknown = f"{_UNKNOWN[asked.protocol]} {asked.object}"
    return _pyros(_answer(broker.resolve, place, unknown=unknown, wait=wait, credentials=credentials("CLIENT")))


Proxy._resolve, Proxy._name_server = staticmethod(resolve), NameServerProxy


def type_meta(class_or_object: object, prefix: str = "class:") -> set[str]:
    """Metadata that say of which classes an object is."""
    cls = class_or_object if isinstance(class_or_object, type) else type(class_or_object)
    return {f"{prefix}{each.__module__}.{each.__name__}" for each in cls.__mro__ if each is not object}


# ---- the server


class NameServerDaemon(Daemon):
    """A name server in this process; `nameserver` is what asks it."""

    def __init__(
        self, host: Any = None, port: int | None = None, unixsocket: str | None = None, nathost: str | None = None,
        natport: int | None = None, storage: str | None = None,
    ) -> None:  # fmt: skip
        storage = storage or "memory"
        refuse(not re.fullmatch("memory|sql:(?!:memory:$).+", storage), ValueError, f"invalid storage type '{storage}'")
        unsupported(unixsocket, "a name server on a Unix socket: it listens on a port; give host and port")
        place = config.NS_HOST if host is None else host, config.NS_PORT if port is None else port
        super().__init__(*place, None, nathost, natport)
        try:
            storage, tags = re.sub("^sql", "sqlite", storage), type_meta(NameServer)
            self.server = _answer(broker.start_ns, daemon=self._daemon, storage=storage, tags=tags)
        except BaseException:
            super().shutdown()
            raise
        self.nameserver: Any = NameServer(broker.NameServer(*self._daemon.address, credentials=credentials("CLIENT")))
        self._put(self.nameserver, NAMESERVER_NAME)

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
    if enableBroadcast and not daemon.server.is_local and ":" not in str(internal.host):
        daemon.server.beacon = BroadcastServer(internal, bchost, bcport)  # which ends with it
    return daemon.uriFor(NAMESERVER_NAME), daemon, daemon.server.beacon


def start_ns_loop(*args: Any, loopCondition: Callable[[], object] = lambda: True, **kwargs: Any) -> None:
    """Runs a name server, with the arguments of `start_ns`, and prints where it is, until Ctrl-C."""
    uri, daemon, broadcasts = start_ns(*args, **kwargs)
    with contextlib.suppress(KeyboardInterrupt), daemon:  # before the loop, which ends cleanly by itself
        if broadcasts is not None:
            broadcasts.runInThread()
        *lines, last = daemon.server.announcement
        if daemon.natLocationStr:
            lines, last = [*lines, f"internal {last}"], f"external URI = {uri}"
        print(*(re.sub("BROKER:(.*)Broker", r"PYRO:\1Pyro", line) for line in [*lines, last]), sep="\n", flush=True)
        daemon.requestLoop(loopCondition)
    print("NS shut down.")


def main(args: Any = None) -> None:
    """The name server as a command."""
    parser = argparse.ArgumentParser(description="Pyro name server command line launcher.")
    for names, text in _OPTIONS.items():
        parser.add_argument(*names.split(), help=text, type=int if names.endswith("port") else str)
    parser.add_argument("-x", "--nobc", dest="enableBroadcast", action="store_false", help="no broadcast server")
    start_ns_loop(**vars(parser.parse_args(args)))
