"""Defaults at the edges: what a public constructor uses for an argument that was not given.

An argument is stronger than `broker.config.<item> = value`, that than BROKER_<ITEM> in the environment, and that than
the default. The environment is read when an item is, never at import, so that a wrong value is an error only of who
needs the item. Nothing below the public constructors reads an item; those write

    def __init__(self, uri: str, *, timeout: float | None = Config.timeout.unset) -> None:
        timeout = Config.timeout.pick(timeout)
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, overload

from broker.config import kinds
from broker.errors import BrokerError

__all__ = ["Config", "InvalidSetting", "Item", "config"]

_PREFIX = "BROKER_"

T = TypeVar("T")


class InvalidSetting(BrokerError, ValueError):
    """An item of the configuration, or an argument with an item behind it, has a value that it cannot have."""


class _Unset:
    """Stands in a signature for an argument that was not given, and looks like the item's default there."""

    __slots__ = ("_default",)

    def __init__(self, default: object) -> None:
        self._default = default

    def __repr__(self) -> str:
        return repr(self._default)


class Item(Generic[T]):
    """One item of `Config`, read and assigned as its attribute."""

    name: str
    variable: str
    unset: T
    """The default value of a parameter: `pick` tells it from any value that a caller can give."""

    def __init__(self, default: T, kind: kinds.Kind[T], doc: str) -> None:
        self.default = default
        self.doc = doc
        self._kind = kind
        self.unset = cast("T", _Unset(default))

    def __set_name__(self, owner: type[Config], name: str) -> None:
        self.name = name
        self.variable = _PREFIX + name.upper()
        owner.items[name] = self

    @property
    def accepts(self) -> str:
        """What the item accepts, in words."""
        return self._kind.says

    @overload
    def __get__(self, instance: None, owner: type[Config]) -> Item[T]: ...
    @overload
    def __get__(self, instance: Config, owner: type[Config]) -> T: ...
    def __get__(self, instance: Config | None, owner: type[Config]) -> Item[T] | T:
        return self if instance is None else self._value(instance)

    def __set__(self, instance: Config, value: T) -> None:
        instance._assigned[self.name] = self._checked(value, f"config.{self.name}")

    def pick(self, argument: object) -> T:
        """The argument if it was given, else the value of the item.

        None counts as not given, unless None is a value of the item (`timeout=None` is a call without a limit). An
        explicit 0, False or empty text is given. Raises InvalidSetting for what the item does not accept.
        """
        if isinstance(argument, _Unset) or (argument is None and self.default is not None):
            return self._value(config)
        return self._checked(argument, self.name)

    def source(self, instance: Config) -> str:
        """Where the value comes from: `assigned`, the name of the variable, or `default`."""
        if self.name in instance._assigned:
            return "assigned"
        return self.variable if os.environ.get(self.variable) else "default"

    def _value(self, instance: Config) -> T:
        if self.name in instance._assigned:
            return cast("T", instance._assigned[self.name])
        text = os.environ.get(self.variable)
        return self._parsed(text) if text else self.default

    def _parsed(self, text: str) -> T:
        try:
            return self._kind.check(self._kind.parse(text.strip()))
        except ValueError:
            raise InvalidSetting(
                f"{self.variable} in the environment must be {self.accepts}, not {text!r}: "
                f"correct it, or unset it for the default {self.default!r}"
            ) from None

    def _checked(self, value: object, what: str) -> T:
        try:
            return self._kind.check(value)
        except ValueError:
            raise InvalidSetting(f"{what} must be {self.accepts}, not {value!r}") from None


class Config:
    """What the public constructors use for arguments that were not given. One object, `broker.config`.

    Items are attributes. Assigning one checks the value (InvalidSetting), is seen by what is constructed from then on,
    and holds for the whole process. An empty variable in the environment counts as not set.
    """

    __slots__ = ("_assigned",)
    _assigned: dict[str, Any]
    items: ClassVar[dict[str, Item[Any]]] = {}

    # ---- daemons
    host = Item("localhost", kinds.host("a host name or address"), "The host that a daemon listens on.")
    port = Item(0, kinds.whole(0, 65535), "The port that a daemon listens on; 0 takes any free one.")
    unix_socket = Item(
        None, kinds.optional(kinds.text("the path of a Unix socket")), "A Unix socket to listen on instead of a port."
    )
    advertise = Item(
        None, kinds.optional(kinds.text("host or host:port")), "The address in published URIs, if it is another one."
    )
    codecs = Item(("json",), kinds.words("the names of codecs"), "The codecs that a daemon accepts; commas between.")
    require_expose = Item(False, kinds.flag(), "Whether only members marked with @expose are remote.")
    max_workers = Item(256, kinds.whole(1), "How many methods of a daemon run at the same time.")
    max_calls = Item(65_536, kinds.whole(1), "How many calls a daemon has under way before it refuses further ones.")
    max_calls_per_connection = Item(16_384, kinds.whole(1), "The same for the calls of one connection.")
    max_unary_calls = Item(1_024, kinds.whole(1), "The same for the calls of gRPC clients that are no proxies.")
    max_call_rate = Item(
        None,
        kinds.optional(kinds.whole(1)),
        "How many calls a second a daemon takes from one identity; None: any number.",
    )
    max_streams_per_connection = Item(
        4_096, kinds.whole(1), "How many streams of items one connection may have open at the same time."
    )
    max_exports_per_connection = Item(
        65_536, kinds.whole(1), "How many exported objects of either side may be held over one connection."
    )
    max_names_per_identity = Item(
        100_000, kinds.whole(1), "How many names a name server keeps for one identity, and for all who have none."
    )
    max_nesting = Item(128, kinds.whole(1, 128), "How deep the values that a daemon takes may lie inside one another.")
    max_buffers = Item(
        65_536, kinds.whole(0, 65_536), "How many arrays and bytes one value may have that a daemon takes."
    )
    max_decoded_size = Item(
        4 << 30, kinds.whole(1 << 20), "The most memory, by estimate, that one value in json may take, in bytes."
    )
    max_message_size = Item(1 << 30, kinds.whole(1), "The largest value that is accepted or sent, in bytes.")
    max_connections = Item(16_384, kinds.whole(1), "How many connections a daemon has before it refuses further ones.")
    max_connections_per_identity = Item(
        4_096, kinds.whole(1), "The same for those of one identity, or of one address where no identity is known."
    )
    handshake_timeout = Item(10, kinds.seconds(), "Seconds within which who connects has to say who he is.")
    request_timeout = Item(
        60, kinds.seconds(), "Seconds within which the request of any other gRPC client has to come."
    )
    idle_timeout = Item(
        600, kinds.optional(kinds.seconds()), "Seconds until a daemon closes a connection that nothing is done on."
    )
    max_wrong_tokens = Item(
        20,
        kinds.whole(1),
        "How many wrong tokens a minute may come from one address before all from there are refused.",
    )
    tracebacks = Item(True, kinds.flag(), "Whether exceptions travel with the daemon's traceback.")
    insecure = Item(False, kinds.flag(), "Whether a daemon may serve other machines without TLS.")

    # ---- proxies
    timeout = Item(None, kinds.optional(kinds.seconds()), "Seconds until a call gives up; None: never.")
    connect_timeout = Item(10, kinds.seconds(), "Seconds until connecting gives up.")
    codec = Item("json", kinds.text("the name of a codec"), "The codec of a proxy's calls.")
    retries = Item(0, kinds.whole(0), "How often a call is repeated after its connection was lost.")
    local = Item(True, kinds.flag(), "Whether calls take short cuts within a process and within a host.")

    # ---- who one is
    tls_cert = Item(None, kinds.optional(kinds.text("the path of a file")), "The certificate that this side shows.")
    tls_key = Item(None, kinds.optional(kinds.text("the path of a file")), "Its private key.")
    tls_ca = Item(
        None, kinds.optional(kinds.text("the path of a file")), "The authorities whose certificates are believed."
    )
    token_file = Item(
        None, kinds.optional(kinds.text("the path of a file")), "A file with the token that proxies and tools show."
    )

    tokens = Item(None, kinds.optional(kinds.text("the path of a file")), "A file with the tokens that daemons accept.")
    same_user = Item(False, kinds.flag(), "Whether daemons take callers of their own user, who prove it.")
    policy = Item(None, kinds.optional(kinds.text("the path of a file")), "A file that says who may call what.")

    # ---- names
    ns_host = Item("localhost", kinds.host("a host name or address"), "The host of the name server.")
    ns_port = Item(9090, kinds.whole(0, 65535), "The port of the name server.")
    ns_broadcast = Item(
        False, kinds.flag(), "Whether a name server is asked for by broadcast where none is found, and answers that."
    )
    ns_broadcast_port = Item(9091, kinds.whole(0, 65535), "The UDP port of that.")
    wait = Item(0, kinds.seconds(), "Seconds to keep trying for a name, or a name server, that is not there yet.")

    # ---- programs
    log_level = Item("WARNING", kinds.log_level(), "From which level on the command line programs log.")
    log_json = Item(False, kinds.flag(), "Whether they log in JSON, one object a line.")

    def __init__(self) -> None:
        object.__setattr__(self, "_assigned", {})

    if not TYPE_CHECKING:  # a type checker that saw this would take any name for an item

        def __setattr__(self, name: str, value: object) -> None:
            if name not in self.items:
                near = difflib.get_close_matches(name, self.items, n=1)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                raise AttributeError(
                    f"{name!r} is no item of broker.config{meant} (it has: {', '.join(sorted(self.items))})"
                )
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<broker.config, {len(self._assigned)} of {len(self.items)} items assigned>"

    def as_dict(self) -> dict[str, Any]:
        """Every item's value, by name. Raises InvalidSetting if the environment holds a wrong one."""
        return {name: getattr(self, name) for name in sorted(self.items)}

    def reset(self) -> None:
        """Forgets what was assigned: environment and defaults hold again."""
        self._assigned.clear()

    @contextmanager
    def override(self, **items: object) -> Iterator[None]:
        """Assigns items for the length of a `with` block, for every thread of the process: meant for tests."""
        before = dict(self._assigned)
        try:
            for name, value in items.items():
                setattr(self, name, value)
            yield
        finally:
            self._assigned.clear()
            self._assigned.update(before)

    def foreign(self) -> list[str]:
        """The BROKER_* variables in the environment that are no item of ours; they are left alone."""
        ours = {item.variable for item in self.items.values()}
        return sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in ours)


config = Config()
