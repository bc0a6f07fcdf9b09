"""What blocking and asynchronous proxies have in common: URI, options, what they are as values, and `_broker`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

from broker.around import Around, AroundFunctions
from broker.calling import Edge, ExportedRemote, Options, Remote
from broker.config import Config
from broker.connection.channels import ChannelSecurity
from broker.connection.client import Session
from broker.connection.exports import Held
from broker.errors import CodecError
from broker.registry import leases
from broker.security import default_credentials
from broker.uri import URI

_OPTIONS = (
    "timeout", "connect_timeout", "wait", "codec", "metadata", "retries", "credentials", "local", "around",
    "patience", "greeting", "resolve",
)  # fmt: skip


_NOT_PICKLED = ("credentials", "around", "resolve")


class ProxyBase:
    """Stands for a remote object. Proxies of all kinds compare and hash by URI, can be copied and pickled."""

    __slots__ = ("__weakref__", "_broker")

    _kind: ClassVar[type[ControlBase]]
    _broker: ControlBase

    def __init__(
        self,
        uri: str | URI,
        *,
        timeout: float | None = Config.timeout.unset,
        connect_timeout: float = Config.connect_timeout.unset,
        wait: float = Config.wait.unset,
        codec: str = Config.codec.unset,
        metadata: Mapping[str, str | bytes] | None = None,
        retries: int = Config.retries.unset,
        credentials: ChannelSecurity | None = None,
        local: bool = Config.local.unset,
        around: Iterable[Around] = (),
        patience: float | None = None,
        greeting: object = None,
        resolve: Callable[[URI], URI | str] | None = None,
        proxy_class: type[Any] | None = None,
    ) -> None:
        options = Options(
            timeout=Config.timeout.pick(timeout),
            connect_timeout=Config.connect_timeout.pick(connect_timeout),
            wait=Config.wait.pick(wait),
            codec=Config.codec.pick(codec),
            metadata=metadata or {},
            retries=Config.retries.pick(retries),
            credentials=credentials if credentials is not None else default_credentials(),
            local=Config.local.pick(local),
            around=self._kind.functions(around),
            patience=patience,
            greeting=greeting,
            resolve=resolve,
            proxy_class=proxy_class,
        )
        self._begin(Remote(URI(uri), options))

    def _begin(self, remote: Remote) -> None:
        object.__setattr__(self, "_broker", self._kind(remote))

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self._broker.uri == other._broker.uri if isinstance(other, ProxyBase) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._broker.uri)

    def __repr__(self) -> str:
        state = "connected" if self._broker.connected else "not connected"
        return f"<{type(self).__name__} for {self._broker.uri}; {state}>"

    def __copy__(self) -> Self:
        return self._with(self._broker._remote.options)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self._broker._remote.reference(), str):
            raise CodecError(
                f"{self!r} cannot be pickled: it leads over one connection of this process. "
                "Where the object shall be called from elsewhere, register it with a daemon instead of exporting it"
            )
        options = {name: getattr(self._broker, name) for name in _OPTIONS if name not in _NOT_PICKLED}
        options["metadata"] = dict(options["metadata"])
        return _unpickle, (type(self), str(self._broker.uri), options)

    def _with(self, options: Options, session: Session | None = None) -> Self:
        """Another proxy for the same object; a session of its own unless one is given."""
        twin = type(self).__new__(type(self))
        if type(self).__dictoffset__:  # of a class that keeps something of its own
            vars(twin).update(vars(self))
        twin._begin(self._broker._remote.twin(options, session))
        return twin

    @classmethod
    def _of_held(cls, held: Held, credentials: ChannelSecurity | None) -> Self:
        """The proxy for an exported object that arrived. Its options are those of the configuration."""
        peer, codec = held.connection.peer, Config.codec.pick(Config.codec.unset)
        options = Options(
            timeout=Config.timeout.pick(Config.timeout.unset),
            codec=codec if peer is not None and codec in peer.codecs and held.connection.is_trusted else "json",
            credentials=credentials,
        )
        proxy = cls.__new__(cls)
        proxy._begin(ExportedRemote(held, options))
        return proxy


def _unpickle(cls: type[ProxyBase], uri: str, options: dict[str, Any]) -> ProxyBase:
    return cls(uri, **options)


Edge.proxies = ProxyBase
leases.object_resolvers.append(lambda value: value._broker.uri if isinstance(value, ProxyBase) else None)


class ControlBase:
    """What belongs to a proxy itself, not to its object. The options are read-only; see `set`."""

    __slots__ = ("_remote",)

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    @staticmethod
    def functions(around: Iterable[Around]) -> AroundFunctions:
        """The functions for around the calls of this kind of proxy. Raises TypeError."""
        return AroundFunctions(around)

    @property
    def uri(self) -> URI:
        return self._remote.uri

    @property
    def connected(self) -> bool:
        """Whether the proxy has used a connection that is still open."""
        return self._remote.connected

    @property
    def transport(self) -> str | None:
        """What carries the calls: `tcp`, `unix` (a Unix socket) or `process` (no socket); None while not connected."""
        return self._remote.transport

    timeout = property(lambda self: self._remote.options.timeout, doc="Seconds that a call may take; None: no limit.")
    connect_timeout = property(
        lambda self: self._remote.options.connect_timeout, doc="Seconds that connecting may take."
    )
    wait = property(lambda self: self._remote.options.wait, doc="Seconds to keep trying for what is not there yet.")
    codec = property(lambda self: self._remote.options.codec, doc="The codec of the calls.")
    metadata = property(lambda self: self._remote.options.metadata, doc="What travels with every call.")
    retries = property(lambda self: self._remote.options.retries, doc="How often a call that may have run is repeated.")
    credentials = property(lambda self: self._remote.options.credentials, doc="The TLS credentials, if any.")
    local = property(lambda self: self._remote.options.local, doc="Whether short cuts may be taken.")
    around = property(lambda self: [*self._remote.options.around], doc="The functions around every call.")
    patience = property(
        lambda self: self._remote.options.patience, doc="Seconds that the caller waits; None: no limit."
    )
    greeting = property(lambda self: self._remote.options.greeting, doc="What each session begins with; None: nothing.")
    resolve = property(lambda self: self._remote.options.resolve, doc="What says where the URI leads, if given.")
    proxy_class = property(lambda self: self._remote.options.proxy_class, doc="The class of proxies that arrive.")

    def set(self, name: str, value: object) -> None:
        """Sets an option for the calls that are made from now on, by any thread."""
        self._remote.use(self.changed(**{name: value}))

    def changed(self, **options: Any) -> Options:
        """The options with some of them changed. Raises AttributeError for what is none, and TypeError."""
        for name, value in options.items():
            if name not in _OPTIONS:
                raise AttributeError(f"a proxy has no option {name!r} (it has: {', '.join(_OPTIONS)})")
            if hasattr(Config, name):
                options[name] = getattr(Config, name).pick(value)
            elif name == "around":
                options[name] = self.functions(value)
        return self._remote.options.with_(**options)

    def on_reconnect(self, function: Callable[[], object]) -> None:
        """Calls the function, without arguments, each time that the connection was lost and made anew.

        That is what a program needs whose exported objects the other side holds: they are gone with the connection, and
        the function passes them on again. With such a function the connection is made anew on its own account, for as
        long as the proxy is there, and what the daemon had kept for the session is given up without an error: the
        function is what tells. It runs on a thread of the library; what it raises is logged.
        """
        self._remote.on_reconnect(function)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in _OPTIONS)
        return f"<control of the proxy for {self.uri}: {options}>"
